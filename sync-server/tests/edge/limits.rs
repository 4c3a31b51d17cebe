//! What is too much, and what whoever wants it is told.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::{TestServer, eventually};
use crate::socket::Socket;

/// A socket at project `p`, as soon as a place for it is free.
async fn served(server: &TestServer, token: &str) -> Socket<TcpStream> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let mut socket = Socket::ws(server.running.address(), "p", token).await;
        if socket.is_served().await {
            return socket;
        }
        assert!(Instant::now() < deadline, "no place gets free");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_over_the_limit_are_told_so_and_those_that_watch_are_served() {
    let server = TestServer::start_with(|config| config.limits.max_connections = 2).await;
    server.project("p").await;
    let address = server.running.address();
    let first = served(&server, &server.admin).await;
    let second = served(&server, &server.admin).await;
    let before = (server.refused(503).await, server.refused(1013).await);

    let refused = server.admin().get("/api/projects").send().await;
    assert!(refused.problem(503).contains("connections"), "{refused:?}");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(refused.header("connection"), Some("close"));
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(
            server.without_token().get(path).send().await.status,
            200,
            "{path}"
        );
    }
    for path in ["/ws/p?token=x", "/collab"] {
        let mut third = Socket::connect(address, path).await;
        let (code, reason) = third.closed().await;
        assert_eq!(code, 1013, "{reason}");
        assert!(reason.contains("connections"), "{reason}");
    }
    let after = (server.refused(503).await, server.refused(1013).await);
    assert_eq!(after, (before.0 + 1, before.1 + 2));

    // A place that was a socket's is free when the socket has ended.
    drop(first);
    eventually("a place is free", || async {
        server.admin().get("/api/projects").send().await.status == 200
    })
    .await;
    drop(second);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_far_over_the_limit_are_let_go() {
    let server = TestServer::start_with(|config| config.limits.max_connections = 1).await;
    let mut open = Vec::new();
    // One is served, 256 more would be told.
    for _ in 0..257 {
        open.push(TcpStream::connect(server.running.address()).await.unwrap());
    }
    let dropped = AtomicI64::new(0);
    let is_served = || async {
        let mut last = TcpStream::connect(server.running.address()).await.unwrap();
        // It may not even take this.
        let _ = last
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
            .await;
        let mut answer = Vec::new();
        let _ = last.read_to_end(&mut answer).await;
        dropped.fetch_add(i64::from(answer.is_empty()), Ordering::SeqCst);
        !answer.is_empty()
    };
    assert!(!is_served().await);
    drop(open);
    // Places are free one after another.
    eventually("connections are served again", is_served).await;
    server.metric_is("uspark_connections", 1).await;
    let counted = server.metric("uspark_connections_dropped_total").await;
    assert_eq!(counted, dropped.into_inner());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_has_so_many_sockets_on_either_address() {
    let server = TestServer::start_with(|config| config.limits.max_token_sockets = 2).await;
    server.project("p").await;
    let address = server.running.address();
    let (token, other) = (
        server.token("p", "write").await,
        server.token("p", "read").await,
    );
    let mut first = Socket::ws(address, "p", &token).await;
    first.frame().await;
    let mut second = Socket::connect(address, "/collab").await;
    // However many documents it has there, or however often it shows the token.
    for address in ["p", "p\0a", "p", "p\0b"] {
        second.auth(address, &token).await;
        second.frame().await;
    }

    let mut third = Socket::ws(address, "p", &token).await;
    let (code, reason) = third.closed().await;
    assert_eq!(code, 1013, "{reason}");
    assert!(reason.contains("sockets"), "{reason}");
    let mut third = Socket::connect(address, "/collab").await;
    third.auth("p", &token).await;
    let (code, reason) = third.closed().await;
    assert_eq!(code, 1013, "{reason}");
    // Another token is another's business.
    Socket::ws(address, "p", &other).await.ask().await;

    drop(first);
    let _first = served(&server, &token).await;
    drop(second);
    served(&server, &token).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_shows_a_newer_token_gives_the_place_of_the_old_one_back() {
    let server = TestServer::start_with(|config| config.limits.max_token_sockets = 1).await;
    server.project("p").await;
    let address = server.running.address();
    let (old, new) = (
        server.token("p", "read").await,
        server.token("p", "read").await,
    );
    let mut socket = Socket::connect(address, "/collab").await;
    socket.auth("p", &old).await;
    socket.frame().await;
    assert!(!Socket::ws(address, "p", &old).await.is_served().await);
    socket.auth("p", &new).await;
    socket.frame().await;
    served(&server, &old).await;
    assert!(!Socket::ws(address, "p", &new).await.is_served().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_asks_so_often() {
    let server = TestServer::start_with(|config| config.limits.max_token_requests = 1).await;
    let (token, other) = ("first", "second");
    for id in [token, other] {
        server.project(id).await;
    }
    let (token, other) = (
        server.token(token, "read").await,
        server.token(other, "read").await,
    );
    let ask = |token: &str| server.with(token).get("/api/tokens/self").send();
    let mut asked = 0;
    let refused = loop {
        let answer = ask(&token).await;
        match answer.status {
            200 => asked += 1,
            _ => break answer,
        }
        assert!(asked < 60, "it has no end");
    };
    assert!(asked >= 10, "only {asked} at once");
    assert!(refused.problem(429).contains("too often"), "{refused:?}");
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=2).contains(&wait), "{wait}");
    assert!(
        refused.value()["hint"]
            .as_str()
            .unwrap()
            .contains("Retry-After")
    );
    assert_eq!(
        ask(&other).await.status,
        200,
        "another token is another's business"
    );
    assert!(server.refused(429).await >= 1);
    eventually("it may ask again", || async {
        ask(&token).await.status == 200
    })
    .await;
}
