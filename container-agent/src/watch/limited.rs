//! A source of events that watches only so many directories, as the kernel does at its limit.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;

use super::{InotifyNotifier, Notifier, RawEvent, Waker, WatchId};

/// Refuses every directory that is one too many.
pub struct Limited {
    inner: InotifyNotifier,
    watched: HashMap<PathBuf, WatchId>,
    limit: usize,
}

impl Limited {
    /// On a fresh instance of inotify; the directory of the cookies counts as well.
    pub fn new(limit: usize) -> Self {
        Self {
            inner: InotifyNotifier::new().unwrap(),
            watched: HashMap::new(),
            limit,
        }
    }
}

impl Notifier for Limited {
    fn add(&mut self, directory: &Path) -> io::Result<WatchId> {
        if !self.watched.contains_key(directory) && self.watched.len() >= self.limit {
            return Err(Errno::NOSPC.into());
        }
        let watch = self.inner.add(directory)?;
        self.watched.insert(directory.to_owned(), watch);
        Ok(watch)
    }

    fn remove(&mut self, watch: WatchId) {
        self.watched.retain(|_, watched| *watched != watch);
        self.inner.remove(watch);
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Vec<RawEvent>> {
        self.inner.wait(timeout)
    }

    fn waker(&self) -> Waker {
        self.inner.waker()
    }
}
