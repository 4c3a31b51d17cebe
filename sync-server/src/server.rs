//! temporary
use std::sync::Arc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
#[derive(Clone)]
pub struct AppState {
    pub(crate) projects: crate::project::Projects,
    pub(crate) tokens: crate::access::Tokens,
    pub(crate) limits: Limits,
    pub(crate) clock: fn() -> u64,
    pub(crate) tasks: TaskTracker,
    pub(crate) stopping: CancellationToken,
    pub(crate) store: Arc<dyn crate::store::Store>,
}
#[derive(Clone, Copy)]
pub struct Limits {
    pub max_update_bytes: u64,
    pub outbox_bytes: usize,
}
