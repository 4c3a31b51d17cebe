//! What `/metrics` says of a server, up and down again.

use std::time::Duration;

use serde_json::json;
use uspark_shared::diff::diff;
use uspark_shared::id::BlobHash;
use uspark_shared::replica::{ClientId, TextReplica};

use crate::client::{TestServer, eventually};
use crate::socket::Socket;

impl TestServer {
    /// The value of a metric with its labels, as an integer.
    pub async fn metric(&self, name: &str) -> i64 {
        let text = self.metrics().await;
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = value.unwrap_or_else(|| panic!("no {name} in {text}"));
        value.parse().unwrap_or_else(|_| panic!("{name}: {value}"))
    }

    /// How often something with this code was refused.
    pub async fn refused(&self, code: u16) -> i64 {
        let start = format!("uspark_refusals_total{{code=\"{code}\"}} ");
        let text = self.metrics().await;
        let value = text.lines().find_map(|line| line.strip_prefix(&start));
        value.map_or(0, |value| value.parse().unwrap())
    }

    /// Waits until a metric has this value.
    pub async fn metric_is(&self, name: &str, value: i64) {
        eventually(&format!("{name} is {value}"), || async {
            self.metric(name).await == value
        })
        .await;
    }

    async fn metrics(&self) -> String {
        let answer = self.without_token().get("/metrics").send().await;
        assert_eq!(answer.status, 200, "{answer:?}");
        String::from_utf8(answer.body.to_vec()).unwrap()
    }
}

/// A server that forgets at once what nobody uses.
async fn forgetful() -> TestServer {
    TestServer::start_with(|config| {
        config.timing.settle_idle = Duration::from_millis(10);
        config.timing.unload_text = Duration::from_millis(10);
        config.timing.unload_project = Duration::from_millis(50);
        config.limits.outbox_bytes = 64 << 10;
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_use_is_counted_up_and_down_again() {
    let server = forgetful().await;
    let address = server.running.address();
    for name in [
        "uspark_projects",
        "uspark_documents",
        "uspark_pending_bytes",
    ] {
        assert_eq!(server.metric(name).await, 0, "{name}");
    }
    server.project("secret-project").await;
    let document = server
        .text("secret-project", "secret-file.txt", "some text\n")
        .await;
    let mut ws = Socket::ws(address, &document, &server.admin).await;
    ws.ask().await;
    ws.frame().await;
    let mut collab = Socket::connect(address, "/collab").await;
    collab.auth(&document, &server.admin).await;
    collab.frame().await;

    server.metric_is("uspark_sockets{kind=\"ws\"}", 1).await;
    server.metric_is("uspark_sockets{kind=\"collab\"}", 1).await;
    // Theirs and that of whoever asks.
    server.metric_is("uspark_connections", 3).await;
    assert_eq!(server.metric("uspark_projects").await, 1);
    assert_eq!(server.metric("uspark_documents").await, 2);

    // An update before the one that it builds on.
    let author = TextReplica::new(ClientId::from_random([7; 4]));
    let typed = |new: &str| author.edit(&diff(&author.text(), new)).unwrap();
    let (first, second) = (typed("a"), typed("ab"));
    ws.update(&second).await;
    server
        .metric_is("uspark_pending_bytes", second.len() as i64)
        .await;
    ws.update(&first).await;
    server.metric_is("uspark_pending_bytes", 0).await;
    assert_eq!(server.metric("uspark_updates_received_total").await, 2);
    assert_eq!(server.metric("uspark_updates_refused_total").await, 0);
    // And once more, to be let go of with the document.
    let (_, third) = (typed("abc"), typed("abcd"));
    ws.update(&third).await;
    server
        .metric_is("uspark_pending_bytes", third.len() as i64)
        .await;

    drop((ws, collab));
    for name in [
        "uspark_sockets{kind=\"ws\"}",
        "uspark_sockets{kind=\"collab\"}",
        "uspark_projects",
        "uspark_documents",
        "uspark_pending_bytes",
        "uspark_queued_bytes",
    ] {
        server.metric_is(name, 0).await;
    }
    server.metric_is("uspark_connections", 1).await;
    assert!(
        server
            .metric("uspark_evictions_total{kind=\"project\"}")
            .await
            >= 1
    );
    assert!(server.metric("uspark_commit_seconds_count").await >= 4);
    assert_eq!(server.metric("uspark_commit_failures_total").await, 0);
    assert!(server.metric("process_resident_memory_bytes").await > 1 << 20);
    assert!(server.metric("process_open_fds").await > 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_slow_reader_is_counted_until_it_is_gone() {
    let server = forgetful().await;
    server.project("p").await;
    let document = server
        .text("p", "secret-file.txt", "x".repeat(1 << 20))
        .await;
    let address = server.running.address();
    let mut slow = Socket::ws(address, &document, &server.admin).await;
    // More answers than the system holds back for a socket that is not read.
    for _ in 0..64 {
        slow.ask().await;
    }
    eventually("answers wait", || async {
        server.metric("uspark_queued_bytes").await > 1 << 20
    })
    .await;
    drop(slow);
    server.metric_is("uspark_queued_bytes", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_and_moved_is_counted() {
    let server = forgetful().await;
    server.project("p").await;
    let document = server.text("p", "secret-file.txt", "text").await;
    let address = server.running.address();
    for _ in 0..3 {
        server
            .without_token()
            .get("/api/projects")
            .send()
            .await
            .problem(401);
    }
    assert_eq!(server.refused(401).await, 3);

    let mut wrong = Socket::ws(address, &document, "nothing").await;
    assert_eq!(wrong.closed().await.0, 4401);
    assert_eq!(server.refused(4401).await, 1);
    let mut odd = Socket::ws(address, &document, &server.admin).await;
    odd.update(b"no update").await;
    assert_eq!(odd.closed().await.0, 4400);
    assert_eq!(server.refused(4400).await, 1);
    let mut cut = Socket::ws(address, &document, &server.admin).await;
    cut.send(vec![0, 2, 100, 1]).await;
    assert_eq!(cut.closed().await.0, 4400);
    assert_eq!(server.refused(4400).await, 2);
    let patched = server
        .admin()
        .call("PATCH", "/api/projects/p")
        .bytes("no update");
    patched.await.problem(400);
    assert_eq!(server.metric("uspark_updates_refused_total").await, 2);

    let before = server.metric("uspark_blobs_received_bytes_total").await;
    let hash = server.admin().upload("p", vec![7; 100_000]).await;
    let received = server.metric("uspark_blobs_received_bytes_total").await;
    assert_eq!(received - before, 100_000);
    let blob = format!("/api/blobs/{hash}?project=p");
    for range in ["bytes=0-", "bytes=0-9"] {
        server
            .admin()
            .get(&blob)
            .header("range", range)
            .send()
            .await;
    }
    server
        .metric_is("uspark_blobs_sent_bytes_total", 100_010)
        .await;
    server.admin().call("HEAD", &blob).send().await;
    assert_eq!(
        server.metric("uspark_blobs_sent_bytes_total").await,
        100_010
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn anybody_may_read_them_and_learns_no_name() {
    let server = forgetful().await;
    server.project("secret-project").await;
    let document = server
        .text("secret-project", "secret-file.txt", "secret text")
        .await;
    let wanted = json!({ "project": "secret-project", "access": "read", "name": "secret-name" });
    let minted = server
        .admin()
        .post("/api/tokens")
        .json(wanted)
        .await
        .value();
    let mut odd = Socket::ws(server.running.address(), &document, &server.admin).await;
    odd.update(b"no update").await;
    odd.closed().await;
    let answer = server.without_token().get("/metrics").send().await;
    let kind = answer.header("content-type").unwrap();
    assert!(
        kind.starts_with("application/openmetrics-text; version=1.0.0"),
        "{kind}"
    );
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let document = document.split_once('/').unwrap().1;
    let hash = BlobHash::of(b"secret text").to_string();
    let token = minted["id"].as_str().unwrap();
    for secret in ["secret", document, &hash, token, &server.admin[5..17]] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    // Of each metric what it is, and that it ends: the parser of Prometheus wants both.
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    for name in samples.map(|line| line.split(['{', ' ']).next().unwrap()) {
        let family = ["_total", "_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| name.strip_suffix(end))
            .unwrap_or(name);
        let has = |what: &str| text.contains(&format!("# {what} {family} "));
        assert!(has("TYPE") && has("HELP"), "{name}: {text}");
    }
    assert!(text.ends_with("# EOF\n"));
}
