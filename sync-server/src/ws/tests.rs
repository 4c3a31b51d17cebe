//! What is on the wire of `/ws`, byte for byte where a client could tell.

mod access;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use tower::ServiceExt as _;
use uspark_shared::codec::awareness::{AwarenessEntry, encode_awareness};
use uspark_shared::diff::diff;
use uspark_shared::replica::TextReplica;

use super::*;
use crate::socket::testing::{Client, MAX_UPDATE, TestServer, replica};

const STEP1: [u8; 2] = [0, 0];
const STEP2: [u8; 2] = [0, 1];
const UPDATE: [u8; 2] = [0, 2];
const AWARENESS: u8 = 1;
/// The server's first words about an empty document, and what a client with nothing asks.
const STEP1_OF_NOTHING: &[u8] = &[0, 0, 1, 0];
const STEP2_OF_NOTHING: &[u8] = &[0, 1, 2, 0, 0];

impl TestServer {
    async fn ws(&self, document: &str, access: Access) -> Client {
        let token = self.token(access).await;
        self.connect(&format!("/ws/{document}?token={}", token.reveal()))
            .await
    }

    /// Somebody at a text, up to date.
    async fn person(&self, document: &str, id: u32) -> (Client, TextReplica) {
        let mut client = self.ws(document, Access::Write).await;
        let text = replica(id);
        client
            .send(Message::Sync(SyncMessage::Step1(&[0])).encode())
            .await;
        assert!(client.frame().await.starts_with(&STEP1));
        let step2 = client.frame().await;
        text.apply(sync(&step2)).unwrap();
        (client, text)
    }
}

/// The update or state vector in a frame of one sync message.
fn sync(frame: &[u8]) -> &[u8] {
    match decode_frame(frame).unwrap()[..] {
        [Message::Sync(sync)] => sync.payload(),
        ref other => panic!("{other:?}"),
    }
}

fn typed(text: &TextReplica, new: &str) -> Vec<u8> {
    let update = text.edit(&diff(&text.text(), new)).unwrap();
    Message::Sync(SyncMessage::Update(&update)).encode()
}

fn here(client: u64, clock: u32) -> Vec<u8> {
    let state = Some("{}".to_owned());
    let body = encode_awareness(&[AwarenessEntry {
        client,
        clock,
        state,
    }]);
    Message::Awareness(&body).encode()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_asks_first_and_answers_even_with_nothing() {
    let server = TestServer::start().await;
    let mut client = server.ws("p", Access::Write).await;
    assert_eq!(client.frame().await, STEP1_OF_NOTHING);
    client.send(STEP1_OF_NOTHING).await;
    assert_eq!(client.frame().await, STEP2_OF_NOTHING);
    // What the client lacks nothing of is not stored, and yet acknowledged by its echo.
    client.send(STEP2_OF_NOTHING).await;
    assert_eq!(client.frame().await, &[0, 2, 2, 0, 0][..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_messages_are_accepted_in_a_frame_and_one_is_sent() {
    let server = TestServer::start().await;
    let mut client = server.ws("p", Access::Write).await;
    client.frame().await;
    let frame = [here(7, 1), STEP1_OF_NOTHING.to_vec(), vec![3]].concat();
    client.send(frame).await;
    // Awareness comes back to its sender, and after the answer everybody's.
    let told = here(7, 1);
    for expected in [&told, &STEP2_OF_NOTHING.to_vec(), &told, &told] {
        assert_eq!(client.frame().await, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn others_get_an_update_at_once_and_its_author_when_it_is_durable() {
    let server = TestServer::start().await;
    let doc = server.text("a.txt", "one\n").await;
    let name = format!("p/{doc}");
    let (mut ann, text) = server.person(&name, 1).await;
    let (mut bob, _) = server.person(&name, 2).await;
    server.store.hold();
    let update = typed(&text, "one\ntwo\n");
    ann.send(update.clone()).await;
    assert_eq!(bob.frame().await, update);
    // The next that ann hears is no echo: nothing is on disk yet.
    ann.send(here(1, 1)).await;
    assert_eq!(ann.frame().await, here(1, 1));
    server.store.release();
    assert_eq!(ann.frame().await, update);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_may_be_ahead_of_its_entry() {
    let server = TestServer::with_timing(crate::project::Timing::default()).await;
    let mut early = server.ws("p/later", Access::Write).await;
    early.send(STEP1_OF_NOTHING).await;
    server.text_of("a.txt", "later", "one\n").await;
    assert!(early.frame().await.starts_with(&STEP1));
    let text = replica(1);
    text.apply(sync(&early.frame().await)).unwrap();
    assert_eq!(text.text(), "one\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_frame_closes_its_socket_and_no_other() {
    let server = TestServer::start().await;
    let doc = server.text("a.txt", "one\n").await;
    let name = format!("p/{doc}");
    let (mut bystander, text) = server.person(&name, 1).await;
    let garbage: [&[u8]; 7] = [
        &[],
        &[0],
        &[0, 0, 9, 0],
        &[0, 9, 0],
        &[1, 1, 9],
        &[0xff; 12],
        // A good message before it changes nothing, and an update that is none.
        &[0, 0, 1, 0, 0, 2, 3, 1, 1, 1],
    ];
    for frame in garbage {
        let mut client = server.ws(&name, Access::Write).await;
        client.send(frame.to_vec()).await;
        let (_, code, reason) = client.closed().await;
        assert_eq!(code, 4400, "{frame:?}: {reason}");
    }
    let mut client = server.ws(&name, Access::Write).await;
    client.send_text("hello").await;
    assert_eq!(client.closed().await.1, 4400);
    let update = typed(&text, "two\n");
    bystander.send(update.clone()).await;
    assert_eq!(bystander.frame().await, update);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_over_the_limit_is_told() {
    let server = TestServer::start().await;
    let doc = server.text("a.txt", "").await;
    let (mut ann, text) = server.person(&format!("p/{doc}"), 1).await;
    let fits = typed(&text, &"x".repeat(MAX_UPDATE - 100));
    ann.send(fits.clone()).await;
    assert_eq!(ann.frame().await, fits);
    ann.send(typed(&text, &"y".repeat(MAX_UPDATE + 2000))).await;
    let (_, code, reason) = ann.closed().await;
    assert_eq!(code, 4413);
    assert!(reason.contains(&MAX_UPDATE.to_string()), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_is_far_too_large_is_not_read() {
    let server = TestServer::start().await;
    let tasks = server.state.tasks.len();
    let mut client = server.ws("p", Access::Write).await;
    client.frame().await;
    // Announced, and never sent.
    let header = [0x82, 0xff, 0, 0, 0, 0x40, 0, 0, 0, 0, 1, 2, 3, 4];
    client.send_raw(&header).await;
    assert_eq!(client.closed().await.1, 4413);
    // The project's own tasks stay.
    server.tasks_left(tasks + 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_gets_one_difference_instead_of_every_update() {
    let server = TestServer::start().await;
    let doc = server.text("a.txt", "").await;
    let name = format!("p/{doc}");
    let (mut author, text) = server.person(&name, 1).await;
    let (mut slow, copy) = server.person(&name, 2).await;
    let mut sent = 0;
    // More than the kernel and the queue hold for one connection.
    for round in 0..80 {
        let update = typed(&text, &format!("{round} ").repeat(40_000));
        sent += update.len();
        author.send(update.clone()).await;
        assert_eq!(author.frame().await, update);
    }
    let mut got = 0;
    while copy.text() != text.text() {
        let frame = slow.frame().await;
        got += frame.len();
        let applied = copy.apply(sync(&frame)).unwrap();
        assert!(!applied.missing, "no gap is seen");
    }
    assert!(got < sent, "{got} of {sent} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_store_closes_sockets_so_that_they_come_back() {
    let server = TestServer::start().await;
    let doc = server.text("a.txt", "one\n").await;
    let name = format!("p/{doc}");
    let (mut ann, text) = server.person(&name, 1).await;
    let (mut bob, _) = server.person(&name, 2).await;
    server.store.fail_after(
        0,
        crate::store::StoreError::Full {
            place: "disk".into(),
        },
    );
    let update = typed(&text, "two\n");
    ann.send(update.clone()).await;
    let (frames, code, _) = ann.closed().await;
    assert_eq!((frames.len(), code), (0, 1013), "{frames:?}");
    let (frames, code, _) = bob.closed().await;
    assert_eq!((frames, code), (vec![update.into()], 1013));
    server.store.heal();
    let (mut ann, again) = server.person(&name, 1).await;
    assert_eq!(again.text(), "one\n");
    let missing = Message::Sync(SyncMessage::Step2(&text.state())).encode();
    ann.send(missing).await;
    assert!(ann.frame().await.starts_with(&UPDATE));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_tells_its_sockets_to_come_back() {
    let server = TestServer::start().await;
    let mut client = server.ws("p", Access::Write).await;
    client.frame().await;
    server.state.stopping.cancel();
    assert_eq!(client.closed().await.1, 1013);
    let mut late = server.ws("p", Access::Write).await;
    assert_eq!(late.closed().await.1, 1013);
}

#[tokio::test(flavor = "multi_thread")]
async fn projects_that_close_do_not_wait_for_each_other() {
    let server = TestServer::start().await;
    let doc = server.text("a.txt", "one\n").await;
    let (mut busy, text) = server.person(&format!("p/{doc}"), 1).await;
    let mut idle = Vec::new();
    for id in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        server.project(id).await;
        let token = server.token_until(id, Access::Write, None).await;
        let path = format!("/ws/{id}?token={}", token.reveal());
        let mut client = server.connect(&path).await;
        client.frame().await;
        idle.push(client);
    }
    server.store.hold();
    busy.send(typed(&text, "two\n")).await;
    busy.send(here(1, 1)).await;
    busy.frame().await;
    let projects = server.state.projects.clone();
    let closing = tokio::spawn(async move { projects.close().await });
    assert_eq!(busy.closed().await.1, 1013);
    for mut client in idle {
        assert_eq!(client.closed().await.1, 1013);
    }
    assert!(!closing.is_finished(), "an edit is not on disk yet");
    server.store.release();
    closing.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_is_noticed_and_tells_the_others() {
    let server = TestServer::start().await;
    let mut ann = server.ws("p", Access::Write).await;
    let mut bob = server.ws("p", Access::Read).await;
    ann.frame().await;
    bob.send(STEP1_OF_NOTHING).await;
    bob.frame().await;
    ann.send(here(7, 1)).await;
    assert_eq!(bob.frame().await, here(7, 1));
    // A state of somebody else's is dropped: clients relay them by accident.
    bob.send(here(7, 9)).await;
    bob.send(here(8, 1)).await;
    assert_eq!(bob.frame().await, here(8, 1));
    ann.close().await;
    let gone = bob.frame().await;
    assert_eq!(gone[0], AWARENESS);
    assert!(String::from_utf8_lossy(&gone).contains("null"), "{gone:?}");
    // The server answers a close frame with one.
    ann.closed().await;
}

#[tokio::test]
async fn what_is_no_websocket_is_refused_as_http() {
    let server = TestServer::start().await;
    let router = crate::http::router(server.state.clone());
    let request = Request::get("/ws/p?token=x").body(Body::empty()).unwrap();
    let response = router.oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json"
    );
}
