//! `/healthz` and `/readyz`: for whoever watches the process. They need no token and tell nothing.

use axum::extract::State;

use crate::refusal::Refusal;
use crate::server::AppState;
use crate::store::read;

/// It answers, so it is alive.
pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// It can read and write what is durable, and is not about to go.
pub(super) async fn ready(State(state): State<AppState>) -> Result<&'static str, Refusal> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        tracing::error!("not ready: {what}: {error}");
        Refusal::Unavailable(format!("not ready: {what}; the server's log says more"))
    };
    if state.stopping.is_cancelled() {
        return Err(Refusal::Unavailable(
            "not ready: the server is stopping".into(),
        ));
    }
    let written = state.committer.check().await;
    written.map_err(|error| failed("the storage cannot be written", &error))?;
    let read = read(&state.store, |store| store.projects(None, 1)).await;
    read.map_err(|error| failed("the storage cannot be read", &error))?;
    Ok("ready\n")
}
