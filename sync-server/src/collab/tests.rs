//! What is on the wire of `/collab`: a socket with many documents, each with its own rights.

mod documents;
mod tokens;

use std::time::Duration;

use bytes::Bytes;
use uspark_shared::codec::awareness::{AwarenessEntry, EMPTY_AWARENESS, encode_awareness};
use uspark_shared::codec::collab::{
    Address, ClientAuth, ClientFrame, CollabFrame, CollabMessage, ServerAuth, ServerFrame,
};
use uspark_shared::codec::message::SyncMessage;
use uspark_shared::diff::diff;
use uspark_shared::id::DocumentName;
use uspark_shared::replica::TextReplica;

use crate::access::{Access, Token};
use crate::project::Timing;
use crate::socket::testing::{Client, Got, TestServer, brief, eventually, replica};
use crate::store::Store as _;

/// What a client with nothing asks.
const NOTHING: &[u8] = &[0];
const FOLLOW: &str = r#"{"follow":"texts"}"#;

/// What came, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    Granted(&'static str),
    Denied,
    Closed,
    Step1(Bytes),
    Step2(Bytes),
    Update(Bytes),
    Awareness(Bytes),
    Status(bool),
    Stateless(String),
}
use Told::{Closed, Denied, Granted, Status};

impl Client {
    async fn say(&mut self, address: &str, message: CollabMessage<'_, ClientAuth<'_>>) {
        let frame = ClientFrame::new(Address::new(address), message);
        self.send(frame.encode()).await;
    }

    async fn auth(&mut self, address: &str, token: &Token) {
        let token = token.reveal();
        let version = Some("4.8.0");
        self.say(
            address,
            CollabMessage::Auth(ClientAuth::Token {
                token: &token,
                version,
            }),
        )
        .await;
    }

    async fn ask(&mut self, address: &str) {
        self.say(address, CollabMessage::Sync(SyncMessage::Step1(NOTHING)))
            .await;
    }

    async fn update(&mut self, address: &str, update: &[u8]) {
        self.say(address, CollabMessage::Sync(SyncMessage::Update(update)))
            .await;
    }

    /// What comes next, for whom.
    async fn told(&mut self) -> (String, Told) {
        let frame = self.frame().await;
        let CollabFrame::Document { address, message } = ServerFrame::decode(&frame).unwrap()
        else {
            panic!("{frame:?}");
        };
        let told = match message {
            CollabMessage::Auth(ServerAuth::Authenticated { read_only: true }) => Granted("read"),
            CollabMessage::Auth(ServerAuth::Authenticated { read_only: false }) => Granted("write"),
            CollabMessage::Auth(ServerAuth::PermissionDenied { .. }) => Denied,
            CollabMessage::Close { .. } => Closed,
            CollabMessage::Sync(SyncMessage::Step1(body)) => Told::Step1(frame.slice_ref(body)),
            CollabMessage::Sync(SyncMessage::Step2(body)) => Told::Step2(frame.slice_ref(body)),
            CollabMessage::Sync(SyncMessage::Update(body)) => Told::Update(frame.slice_ref(body)),
            CollabMessage::Awareness(body) => Told::Awareness(frame.slice_ref(body)),
            CollabMessage::SyncStatus(taken) => Status(taken),
            CollabMessage::Stateless(text) => Told::Stateless(text.to_owned()),
            other => panic!("{other:?}"),
        };
        (address.as_str().to_owned(), told)
    }

    /// What comes next for the only document of this socket.
    async fn heard(&mut self) -> Told {
        self.told().await.1
    }

    /// Opens a document: its content.
    async fn open(&mut self, address: &str, token: &Token) -> TextReplica {
        self.auth(address, token).await;
        self.ask(address).await;
        let text = replica(fresh());
        loop {
            match self.told().await {
                (to, Told::Step2(update)) if to == address => {
                    text.apply(&update).unwrap();
                    return text;
                }
                (to, Granted(_) | Told::Step1(_)) if to == address => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

/// A client id nobody has.
fn fresh() -> u32 {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

fn typed(text: &TextReplica, new: &str) -> Bytes {
    text.edit(&diff(&text.text(), new)).unwrap().into()
}

async fn collab(server: &TestServer) -> Client {
    server.connect("/collab").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_is_granted_asked_for_answered_and_acknowledged() {
    let server = TestServer::start().await;
    let doc = server.text("a.txt", "one\n").await;
    let (name, token) = (format!("p/{doc}"), server.token(Access::Write).await);
    let mut client = collab(&server).await;
    // As the provider does: what follows the token does not wait for the answer.
    client.auth(&name, &token).await;
    client.ask(&name).await;
    assert_eq!(client.heard().await, Granted("write"));
    let Told::Step1(_) = client.heard().await else {
        panic!("the server asks first")
    };
    let Told::Step2(update) = client.heard().await else {
        panic!("and then answers")
    };
    let text = replica(fresh());
    text.apply(&update).unwrap();
    assert_eq!(text.text(), "one\n");
    // The answer to its question is acknowledged too, though it has nothing new.
    client
        .say(&name, CollabMessage::Sync(SyncMessage::Step2(&[0, 0])))
        .await;
    assert_eq!(client.heard().await, Status(true));
    server.store.hold();
    client.update(&name, &typed(&text, "two\n")).await;
    client.send(ClientFrame::Ping.encode()).await;
    // Alive, and not acknowledged: nothing is on disk yet.
    assert_eq!(client.frame().await, ServerFrame::Pong.encode());
    server.store.release();
    assert_eq!(client.told().await, (name, Status(true)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_is_granted_less_and_told_when_it_writes() {
    let server = TestServer::start().await;
    let doc = server.text("a.txt", "one\n").await;
    let (name, token) = (format!("p/{doc}"), server.token(Access::Read).await);
    let mut client = collab(&server).await;
    client.auth(&name, &token).await;
    client.ask(&name).await;
    assert_eq!(client.heard().await, Granted("read"));
    let Told::Step2(update) = client.heard().await else {
        panic!("an answer")
    };
    let text = replica(fresh());
    text.apply(&update).unwrap();
    client.update(&name, &typed(&text, "two\n")).await;
    assert_eq!(client.heard().await, Status(false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_of_one_document_and_may_be_undone_by_a_good_token() {
    let server = TestServer::start().await;
    server.project("other").await;
    let doc = server.text("a.txt", "one\n").await;
    let (name, token) = (format!("p/{doc}"), server.token(Access::Write).await);
    let foreign = server.token_until("other", Access::Admin, None).await;
    let mut client = collab(&server).await;
    let text = client.open(&name, &token).await;
    for (address, token) in [
        ("p", &foreign),
        ("other", &token),
        ("none", &token),
        ("p/none", &token),
        ("p/a/b", &token),
        ("../p", &token),
        ("", &token),
    ] {
        client.auth(address, token).await;
        client.update(address, &[0, 0]).await;
        assert_eq!(client.told().await, (address.into(), Denied));
        assert_eq!(client.told().await, (address.into(), Closed));
        // What it still sends is for nobody.
        client.update(address, &[0, 0]).await;
    }
    client.auth("p", &token).await;
    assert_eq!(client.told().await, ("p".into(), Granted("write")));
    assert!(matches!(client.heard().await, Told::Step1(_)));
    client.update(&name, &typed(&text, "two\n")).await;
    assert_eq!(client.told().await, (name, Status(true)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_before_the_token_waits_for_it_within_bounds() {
    let server = TestServer::start().await;
    let doc = server.text("a.txt", "one\n").await;
    let (name, token) = (format!("p/{doc}"), server.token(Access::Write).await);
    let mut client = collab(&server).await;
    let text = replica(fresh());
    let update = typed(&text, "early ");
    client.ask(&name).await;
    client.update(&name, &update).await;
    client.auth(&name, &token).await;
    assert_eq!(client.heard().await, Granted("write"));
    assert!(matches!(client.heard().await, Told::Step1(_)));
    assert!(matches!(client.heard().await, Told::Step2(_)));
    assert_eq!(client.heard().await, Status(true));
    let text = collab(&server).await.open(&name, &token).await;
    assert!(text.text().contains("early"));

    let (small, large) = (vec![0; 10], vec![0; 200 << 10]);
    for (documents, messages, body) in [(101, 1, &small), (1, 1001, &small), (1, 30, &large)] {
        let mut client = collab(&server).await;
        for document in 0..documents {
            for _ in 0..messages {
                let awareness = CollabMessage::Awareness(body);
                client.say(&format!("p/{document}"), awareness).await;
            }
        }
        let (frames, code, reason) = client.closed().await;
        assert_eq!(
            (frames.len(), code),
            (0, 4400),
            "{documents} {messages}: {reason}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_ends_the_socket() {
    let server = TestServer::start().await;
    let token = server.token(Access::Write).await;
    let long = "x".repeat(300);
    let address_too_long = ClientFrame::new(Address::new(&long), CollabMessage::QueryAwareness);
    let of_a_server = ServerFrame::new(
        Address::new("p"),
        CollabMessage::Auth(ServerAuth::TokenRequest),
    );
    for frame in [
        vec![],
        vec![1, b'p'],
        vec![1, b'p', 0, 2, 9],
        vec![1, b'p', 3, 0],
        vec![1, 0xff, 3],
        address_too_long.encode(),
        of_a_server.encode(),
    ] {
        let mut client = collab(&server).await;
        client.auth("p", &token).await;
        client.send(frame.clone()).await;
        assert_eq!(client.closed().await.1, 4400, "{frame:?}");
    }
    let mut client = collab(&server).await;
    client.send_text("hello").await;
    assert_eq!(client.closed().await.1, 4400);
    // A well-formed frame with an update that is none: of that document.
    let mut client = collab(&server).await;
    client.open("p", &token).await;
    client.update("p", &[1, 1, 1]).await;
    assert_eq!(client.heard().await, Denied);
    assert_eq!(client.heard().await, Closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_store_closes_the_socket_so_that_it_comes_back() {
    let server = TestServer::start().await;
    let name = format!("p/{}", server.text("a.txt", "one\n").await);
    let token = server.token(Access::Write).await;
    let mut client = collab(&server).await;
    let text = client.open(&name, &token).await;
    let full = crate::store::StoreError::Full {
        place: "disk".into(),
    };
    server.store.fail_after(0, full);
    client.update(&name, &typed(&text, "two\n")).await;
    let (frames, code, _) = client.closed().await;
    assert_eq!((frames.len(), code), (0, 1013));
}
