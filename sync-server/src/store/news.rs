//! Who waits for a project's events. They are woken, and look for themselves: nothing is queued.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use uspark_shared::id::ProjectId;

/// Wakes whoever follows a project. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct News(Arc<Mutex<HashMap<ProjectId, watch::Sender<()>>>>);

impl News {
    /// A receiver that changes with each commit of events of the project, also of one that does
    /// not exist.
    pub fn follow(&self, project: &ProjectId) -> watch::Receiver<()> {
        let mut followed = self.followed();
        followed.retain(|_, sender| sender.receiver_count() > 0);
        followed
            .entry(project.clone())
            .or_insert_with(|| watch::Sender::new(()))
            .subscribe()
    }

    /// Wakes those who follow the project.
    pub(super) fn tell(&self, project: &ProjectId) {
        if let Some(sender) = self.followed().get(project) {
            sender.send_replace(());
        }
    }

    fn followed(&self) -> MutexGuard<'_, HashMap<ProjectId, watch::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
