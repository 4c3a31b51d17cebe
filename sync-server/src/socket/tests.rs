//! A socket's life, with a clock that jumps: no project is loaded.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::any;

use super::testing::{Got, TestServer, brief};
use super::*;
use crate::subscriber::{Next, Outgoing};

const QUIET: &[u8] = b"quiet";

/// Writes texts as they are.
struct Plain;

impl Writing for Plain {
    fn keep_alive(&self) -> Bytes {
        Bytes::from_static(QUIET)
    }

    async fn frames(&mut self, next: Next) -> Frames {
        match next {
            Next::Send(_, Outgoing::Stateless(text)) => Frames::one(text),
            Next::Send(_, Outgoing::End(reason)) => Frames {
                frames: Vec::new(),
                end: Some(reason),
            },
            other => panic!("{other:?}"),
        }
    }
}

/// Serves sockets that read until their peer is gone, and write what is in `outbox`.
async fn server(outbox: Outbox) -> TestServer {
    let serve =
        async move |State(state): State<AppState>,
                    headers: HeaderMap,
                    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>| {
            let of_socket = state.clone();
            accept(
                &state,
                &headers,
                upgrade,
                Held::default(),
                async move |socket| {
                    let mut served = Served::start(&of_socket, socket, &outbox, Plain);
                    loop {
                        tokio::select! {
                            incoming = served.reading.next() => match incoming {
                                Incoming::Frame(_) => {}
                                Incoming::Refused(refusal) => outbox.end([], refusal),
                                Incoming::Gone => break,
                            },
                            () = outbox.closed() => break,
                        }
                    }
                    served.finish().await;
                },
            )
        };
    let routes = |state: &AppState| {
        Router::new()
            .route("/plain", any(serve))
            .with_state(state.clone())
    };
    TestServer::with_routes(brief(), routes).await
}

async fn ends(server: &TestServer) -> Duration {
    let start = Instant::now();
    while !server.state.tasks.is_empty() {
        assert!(start.elapsed() < Duration::from_secs(120), "it never ends");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_socket_says_something_every_twenty_seconds() {
    let outbox = Outbox::new(1000);
    let server = server(outbox.clone()).await;
    let mut client = server.connect("/plain").await;
    for _ in 0..3 {
        let start = Instant::now();
        assert_eq!(client.frame().await, QUIET);
        assert!(start.elapsed() <= Duration::from_secs(20));
    }
    // Not where something else was said.
    for _ in 0..10 {
        outbox.push(&"".into(), Outgoing::Stateless("news".into()));
        assert_eq!(client.frame().await, "news");
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_no_ping_is_let_go() {
    let server = server(Outbox::new(1000)).await;
    let mut client = server.connect("/plain").await;
    client.send("hello").await;
    // It reads nothing any more, so it answers nothing.
    let ended = ends(&server).await;
    let expected = Duration::from_secs(59)..Duration::from_secs(65);
    assert!(expected.contains(&ended), "{ended:?}");
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_nothing_is_let_go_whatever_waits_for_it() {
    let outbox = Outbox::new(1000);
    let server = server(outbox.clone()).await;
    let client = server.connect("/plain").await;
    // More than the kernel takes for it, and more than lets the reader go on.
    for _ in 0..64 {
        outbox.push(&"".into(), Outgoing::Stateless("x".repeat(1 << 20)));
    }
    assert!(ends(&server).await < Duration::from_secs(65));
    assert!(!outbox.is_idle(), "something waited");
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn an_ended_socket_closes_with_its_reason_cut_to_what_fits() {
    let outbox = Outbox::new(1000);
    let server = server(outbox.clone()).await;
    let mut client = server.connect("/plain").await;
    client.send("hello").await;
    let reason = format!("a{}", "é".repeat(80));
    outbox.end([], Refusal::Malformed(reason));
    let expected = format!("a{}", "é".repeat(61));
    assert_eq!(client.next().await, Got::Closed(4400, expected));
    drop(client);
    assert!(ends(&server).await < Duration::from_secs(1));
}
