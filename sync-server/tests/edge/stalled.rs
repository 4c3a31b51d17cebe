//! Who takes nothing of what was asked for is let go.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use uspark_shared::id::BlobHash;

use crate::client::TestServer;

/// How long one may take nothing here.
const STALLED: Duration = Duration::from_millis(1500);

/// More than what the kernel keeps for a connection.
const BYTES: usize = 24 << 20;

async fn server() -> TestServer {
    let server = TestServer::start_with(|config| config.timing.stalled = STALLED).await;
    server.project("p").await;
    server
}

/// Asks, over a connection that holds little, and reads nothing.
async fn ask(address: SocketAddr, path: &str, token: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {token}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

async fn store(server: &TestServer) -> String {
    let bytes: Bytes = vec![7; BYTES].into();
    let stored = server
        .admin()
        .post("/api/blobs?project=p")
        .bytes(bytes.clone())
        .await;
    assert_eq!(stored.status, 201);
    format!("/api/blobs/{}", BlobHash::of(&bytes))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_nobody_takes_ends_and_gives_its_place_back() {
    let server = server().await;
    let path = store(&server).await;
    let began = Instant::now();
    let _stream = ask(server.running.address(), &path, &server.admin).await;
    server.metric_is("uspark_connections", 2).await;
    // The one that is left is the one that asks.
    server.metric_is("uspark_connections", 1).await;
    assert!(began.elapsed() >= STALLED, "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_nobody_takes_end_too() {
    let server = server().await;
    let lines = format!("{}\n", "x".repeat(200 << 10)).repeat(20);
    for call in 0..6 {
        let path = format!("/api/projects/p/events?run=r&from={}", call * 20 + 1);
        let said = server.admin().post(&path).bytes(lines.clone()).await;
        assert_eq!(said.status, 200, "{said:?}");
    }
    let address = server.running.address();
    let _stream = ask(address, "/api/projects/p/events", &server.admin).await;
    server.metric_is("uspark_connections", 2).await;
    server.metric_is("uspark_connections", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_is_taken_slowly_is_whole() {
    let server = server().await;
    let path = store(&server).await;
    let began = Instant::now();
    let mut stream = ask(server.running.address(), &path, &server.admin).await;
    let (mut taken, mut part) = (0, vec![0; 256 << 10]);
    // Much longer in all than one may take nothing.
    let mut pace = tokio::time::interval(STALLED / 45);
    while taken < BYTES {
        pace.tick().await;
        let read = stream
            .read_exact(&mut part[..(256 << 10).min(BYTES - taken)])
            .await;
        taken += read.unwrap_or_else(|error| panic!("after {taken} bytes: {error}"));
    }
    assert!(began.elapsed() > 2 * STALLED, "{:?}", began.elapsed());
}
