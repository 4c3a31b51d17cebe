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
    let kept = state.blobs.check().await;
    kept.map_err(|error| failed("files and blobs cannot be kept", &error))?;
    let read = read(&state.store, |store| store.projects(None, 1)).await;
    read.map_err(|error| failed("the storage cannot be read", &error))?;
    Ok("ready\n")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::Config;
    use crate::store::testing::TestStore;
    use crate::store::{BlobFiles, DataDirectory, MemoryStore, StoreError};

    #[tokio::test]
    async fn a_server_without_its_storage_is_not_ready_and_gets_ready_again() {
        let temp = tempfile::tempdir().unwrap();
        let directory = DataDirectory::open(temp.path()).unwrap();
        let large = Arc::new(BlobFiles::open(&directory).unwrap());
        let store = TestStore::new(Arc::new(MemoryStore::new("epoch")));
        let config = Config::local(temp.path());
        let state = AppState::new(&config, Arc::new(store.clone()), large);
        let ask = || ready(State(state.clone()));
        assert_eq!(ask().await, Ok("ready\n"));

        let full = StoreError::Full {
            place: "a secret place".into(),
        };
        store.fail_after(0, full.clone());
        state.committer.commit(Vec::new()).await.unwrap_err();
        let refusal = ask().await.unwrap_err();
        assert!(matches!(&refusal, Refusal::Unavailable(why) if !why.contains("secret")));
        store.heal();
        assert_eq!(ask().await, Ok("ready\n"));

        // Large files alone may be in trouble.
        let incoming = temp.path().join("blobs/incoming");
        std::fs::remove_dir(&incoming).unwrap();
        let (project, large) = ("p".parse().unwrap(), vec![7; 100_000]);
        state.blobs.put(&project, large.into()).await.unwrap_err();
        assert!(matches!(ask().await, Err(Refusal::Unavailable(_))));
        std::fs::create_dir(&incoming).unwrap();
        assert_eq!(ask().await, Ok("ready\n"));

        store.fail_reads(full);
        assert!(matches!(ask().await, Err(Refusal::Unavailable(_))));
        store.heal();
        assert_eq!(ask().await, Ok("ready\n"));
        state.stopping.cancel();
        assert!(matches!(ask().await, Err(Refusal::Unavailable(_))));
    }
}
