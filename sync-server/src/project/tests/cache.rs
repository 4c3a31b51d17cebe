//! Memory is short: what nobody has open leaves it, and nothing is lost by that.

use uspark_shared::id::DocumentName;

use super::*;

const EVICTED: &str = "uspark_evictions_total{kind=\"text\"}";

impl Server {
    fn name_of(&self, doc: &str) -> DocumentName {
        DocumentName::of_text(self.project.clone(), doc.parse().unwrap())
    }

    /// Lets the owner do all that it has begun: it answers this when everything before is durable.
    async fn is_done(&self) {
        self.manifest().await;
    }

    async fn is_evicted(&self, times: usize) {
        let done = async {
            while self.measured(EVICTED) < times {
                self.is_done().await;
            }
        };
        let done = tokio::time::timeout(Duration::from_secs(10), done).await;
        done.unwrap_or_else(|_| panic!("{} were evicted", self.measured(EVICTED)));
    }
}

impl Person {
    async fn goes(self) {
        self.handle.leave(self.id).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_texts_that_nobody_has_open_the_least_recently_used_goes() {
    // Room for the project and two texts.
    let content = "x".repeat(100_000);
    let server = Server::with_cache(250_000).await;
    for id in ["a", "b", "c"] {
        server.text_file(id, id, &content).await;
    }
    let open = server.person(Some("a")).await;
    for id in ["b", "c"] {
        server.person(Some(id)).await.goes().await;
    }
    // `a` is the oldest, but somebody has it open.
    server.is_evicted(1).await;
    assert!(server.measured("uspark_cached_bytes") < 250_000);
    server.person(Some("c")).await.goes().await;
    server.person(Some("a")).await.goes().await;
    let loads = |id| server.store.loads(&server.name_of(id));
    assert_eq!([loads("a"), loads("b"), loads("c")], [1, 1, 1]);
    server.person(Some("b")).await;
    assert_eq!(loads("b"), 2);
    drop(open);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_leaves_memory_when_all_of_it_is_durable_and_is_settled_then() {
    let server = Server::with_cache(1).await;
    server.text_file("a", "a", "").await;
    server.text_file("b", "b", "").await;
    let mut ann = server.person(Some("a")).await;
    server.store.hold();
    ann.write("not stored yet").await;
    ann.goes().await;
    // Somebody else's text needs the room. Until `a` is stored it does not go.
    let bert = server.sit(Some("b"), true).await.unwrap();
    let mut again = server.sit(Some("a"), true).await.unwrap();
    again.ask().await;
    again.sees("not stored yet").await;
    assert_eq!(server.store.loads(&server.name_of("a")), 1);
    again.goes().await;
    bert.goes().await;
    server.store.release();
    server.sit(Some("b"), true).await.unwrap().goes().await;
    server.is_evicted(1).await;
    assert_eq!(server.files().await["a"], "not stored yet");
    server.person(Some("a")).await.sees("not stored yet").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_that_nobody_has_open_goes_with_all_that_is_not_settled() {
    let server = Server::new().await;
    server.text_file("a", "a", "").await;
    let mut ann = server.person(Some("a")).await;
    ann.write("typed").await;
    ann.is_saved(1).await;
    server.evict().await;
    // It stays while somebody is there.
    ann.write("typed more").await;
    ann.is_saved(2).await;
    ann.goes().await;
    server.is_cold().await;
    assert_eq!(server.files().await["a"], "typed more");
    assert_eq!(
        server
            .store
            .loads(&DocumentName::of_project(server.project.clone())),
        2
    );
}
