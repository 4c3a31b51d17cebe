//! Who may say what on a socket: every kind of message by everybody, on both addresses, about a project and about a text.

use serde_json::json;
use tokio::net::TcpStream;
use uspark_shared::codec::collab::{
    Address, ClientAuth, ClientFrame, CollabFrame, CollabMessage, ServerAuth, ServerFrame,
};
use uspark_shared::codec::message::{Message, SyncMessage, decode_frame};
use uspark_shared::diff::diff;
use uspark_shared::replica::{ClientId, ProjectEdit, ProjectReplica, TextReplica};
use uspark_shared::schema::Entry;

use crate::client::TestServer;
use crate::socket::{Socket, auth};

/// Nobody's awareness, and what asks for all of a document.
const AWARENESS: &[u8] = &[1, 7, 1, 2, b'{', b'}'];
const NOTHING: &[u8] = &[0];

/// What a holder's token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    /// No token, or one that does not count: 4401.
    Nobody,
    /// Another project's: 4404.
    Stranger,
    Reader,
    Writer,
}

/// A kind of message, and what comes back for it: to a reader, and to a writer.
struct Kind<M> {
    message: M,
    reader: &'static [&'static str],
    writer: &'static [&'static str],
    /// Whether it changes the document.
    writes: bool,
}

fn kind<M>(
    message: M,
    reader: &'static [&'static str],
    writer: &'static [&'static str],
) -> Kind<M> {
    Kind {
        message,
        reader,
        writer,
        writes: reader != writer,
    }
}

/// What `/ws` takes.
fn of_y_websocket(update: &[u8]) -> Vec<Kind<Message<'_>>> {
    let sync = Message::Sync;
    vec![
        kind(sync(SyncMessage::Step1(NOTHING)), &["step2"], &["step2"]),
        kind(sync(SyncMessage::Step2(update)), &["denied"], &["update"]),
        kind(sync(SyncMessage::Update(update)), &["denied"], &["update"]),
        kind(
            Message::Awareness(AWARENESS),
            &["awareness"],
            &["awareness"],
        ),
        // Of those who are here: nobody is.
        kind(Message::QueryAwareness, &[], &[]),
        kind(Message::AuthDenied("no"), &[], &[]),
        kind(Message::Unknown(102), &[], &[]),
    ]
}

type Said<'a> = CollabMessage<'a, ClientAuth<'a>>;

/// What `/collab` takes, but the token itself.
fn of_hocuspocus<'a>(update: &'a [u8], is_project: bool) -> Vec<Kind<Said<'a>>> {
    let following: &[&str] = if is_project { &["stateless"] } else { &[] };
    let sync = CollabMessage::Sync;
    let reply = CollabMessage::SyncReply;
    vec![
        kind(sync(SyncMessage::Step1(NOTHING)), &["step2"], &["step2"]),
        kind(sync(SyncMessage::Step2(update)), &["refused"], &["saved"]),
        kind(sync(SyncMessage::Update(update)), &["refused"], &["saved"]),
        kind(reply(SyncMessage::Step1(NOTHING)), &["step2"], &["step2"]),
        kind(reply(SyncMessage::Update(update)), &["refused"], &["saved"]),
        kind(
            CollabMessage::Awareness(AWARENESS),
            &["awareness"],
            &["awareness"],
        ),
        kind(CollabMessage::QueryAwareness, &[], &[]),
        kind(
            CollabMessage::Stateless(r#"{"follow":"texts"}"#),
            following,
            following,
        ),
        kind(CollabMessage::Stateless(r#"{"by":{"run":"r"}}"#), &[], &[]),
        kind(CollabMessage::Stateless("anything"), &[], &[]),
        kind(
            CollabMessage::BroadcastStateless(r#"{"follow":"texts"}"#),
            &[],
            &[],
        ),
        kind(CollabMessage::SyncStatus(true), &[], &[]),
        kind(CollabMessage::Unknown(42), &[], &[]),
    ]
}

/// A server with project `p`, and everybody's tokens.
struct Stage {
    server: TestServer,
    holders: Vec<(&'static str, Holder, Option<String>)>,
}

/// A document that nobody has touched: its name, an update of it, and how to see whether that is in.
struct Untouched {
    document: String,
    update: Vec<u8>,
    path: String,
}

impl Stage {
    async fn set() -> Self {
        let server = TestServer::start().await;
        server.project("p").await;
        server.project("other").await;
        let revoked = server.token("p", "admin").await;
        let path = format!("/api/tokens/{}", &revoked[5..17]);
        assert_eq!(server.admin().delete(&path).send().await.status, 204);
        let holders = vec![
            ("none", Holder::Nobody, None),
            ("garbage", Holder::Nobody, Some("uspk_garbage".to_owned())),
            ("expired", Holder::Nobody, Some(server.expired("p").await)),
            ("revoked", Holder::Nobody, Some(revoked)),
            (
                "other's",
                Holder::Stranger,
                Some(server.token("other", "admin").await),
            ),
            (
                "read",
                Holder::Reader,
                Some(server.token("p", "read").await),
            ),
            (
                "write",
                Holder::Writer,
                Some(server.token("p", "write").await),
            ),
            (
                "admin",
                Holder::Writer,
                Some(server.token("p", "admin").await),
            ),
            ("server's", Holder::Writer, Some(server.admin.clone())),
        ];
        Self { server, holders }
    }

    /// The project's own document, or a text.
    async fn untouched(&self, is_project: bool, number: usize) -> Untouched {
        let client = ClientId::from_random([number as u8, (number >> 8) as u8, 1, 1]);
        let path = format!("{number}.txt");
        if is_project {
            let edit = ProjectEdit::SetFile(path.parse().unwrap(), Entry::Dir);
            let update = ProjectReplica::new(client).edit(&[edit]).unwrap();
            return Untouched {
                document: "p".to_owned(),
                update,
                path,
            };
        }
        Untouched {
            document: self.server.text("p", &path, "one").await,
            update: TextReplica::new(client).edit(&diff("", "two")).unwrap(),
            path,
        }
    }

    async fn is_changed(&self, untouched: &Untouched) -> bool {
        let manifest = self.server.admin().get("/api/projects/p");
        let manifest = manifest.header("accept", "application/json").send().await;
        let entry = &manifest.value()["files"][&untouched.path];
        match untouched.document.as_str() {
            "p" => entry == &json!({"kind": "dir"}),
            _ => entry["size"] == 6,
        }
    }

    async fn ws(&self, document: &str, token: &Option<String>) -> Socket<TcpStream> {
        let query = token.as_ref().map(|token| format!("?token={token}"));
        let path = format!("/ws/{document}{}", query.unwrap_or_default());
        Socket::connect(self.server.running.address(), &path).await
    }
}

/// What comes next. Others who have been here may still be told to have left.
async fn next_told(
    socket: &mut Socket<TcpStream>,
    told: fn(&[u8]) -> &'static str,
    expected: &str,
) -> &'static str {
    loop {
        let told = told(&socket.frame().await);
        if told != "awareness" || expected == told {
            return told;
        }
    }
}

fn told_by_ws(frame: &[u8]) -> &'static str {
    match decode_frame(frame).unwrap()[..] {
        [Message::Sync(SyncMessage::Step1(_))] => "step1",
        [Message::Sync(SyncMessage::Step2(_))] => "step2",
        [Message::Sync(SyncMessage::Update(_))] => "update",
        [Message::Awareness(_)] => "awareness",
        [Message::AuthDenied(_)] => "denied",
        ref other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_message_on_ws_by_everybody() {
    let stage = Stage::set().await;
    let kinds = of_y_websocket(&[]).len();
    for number in 0..kinds * 2 {
        let (is_project, kind) = (number % 2 == 0, number / 2);
        for (place, (name, holder, token)) in stage.holders.iter().enumerate() {
            let untouched = stage.untouched(is_project, number * 100 + place).await;
            let kind = of_y_websocket(&untouched.update).swap_remove(kind);
            let case = format!("{name}: {:?} of {}", kind.message, untouched.document);
            let mut socket = stage.ws(&untouched.document, token).await;
            let frame = kind.message.encode();
            let expected = match holder {
                Holder::Nobody | Holder::Stranger => {
                    // It may be closed before that is sent.
                    socket.try_send(frame).await;
                    let (frames, code, _) = socket.until_closed().await;
                    let told: Vec<_> = frames.iter().map(|frame| told_by_ws(frame)).collect();
                    assert_eq!(told, ["denied"], "{case}");
                    let expected = if *holder == Holder::Nobody {
                        4401
                    } else {
                        4404
                    };
                    assert_eq!(code, expected, "{case}");
                    assert!(!stage.is_changed(&untouched).await, "{case}");
                    continue;
                }
                Holder::Reader => kind.reader,
                Holder::Writer => kind.writer,
            };
            if *holder == Holder::Writer {
                let told = next_told(&mut socket, told_by_ws, "step1").await;
                assert_eq!(told, "step1", "{case}");
            }
            socket.send(frame).await;
            for expected in expected {
                let told = next_told(&mut socket, told_by_ws, expected).await;
                assert_eq!(told, *expected, "{case}");
            }
            // And nothing after it.
            socket.ask().await;
            let told = next_told(&mut socket, told_by_ws, "step2").await;
            assert_eq!(told, "step2", "{case}");
            let is_written = kind.writes && *holder == Holder::Writer;
            assert_eq!(stage.is_changed(&untouched).await, is_written, "{case}");
        }
    }
}

fn told_by_collab(frame: &[u8]) -> &'static str {
    let CollabFrame::Document { message, .. } = ServerFrame::decode(frame).unwrap() else {
        return "pong";
    };
    match message {
        CollabMessage::Sync(SyncMessage::Step1(_)) => "step1",
        CollabMessage::Sync(SyncMessage::Step2(_)) => "step2",
        CollabMessage::Sync(SyncMessage::Update(_)) => "update",
        CollabMessage::Awareness(_) => "awareness",
        CollabMessage::Auth(ServerAuth::PermissionDenied { .. }) => "denied",
        CollabMessage::Auth(ServerAuth::Authenticated { read_only: true }) => "reader",
        CollabMessage::Auth(ServerAuth::Authenticated { read_only: false }) => "writer",
        CollabMessage::Close { .. } => "closed",
        CollabMessage::SyncStatus(true) => "saved",
        CollabMessage::SyncStatus(false) => "refused",
        CollabMessage::Stateless(_) => "stateless",
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_message_on_collab_by_everybody() {
    let stage = Stage::set().await;
    let kinds = of_hocuspocus(&[], true).len();
    for number in 0..kinds * 2 {
        let (is_project, kind) = (number % 2 == 0, number / 2);
        for (place, (name, holder, token)) in stage.holders.iter().enumerate() {
            let untouched = stage.untouched(is_project, number * 100 + place).await;
            let kind = of_hocuspocus(&untouched.update, is_project).swap_remove(kind);
            let case = format!("{name}: {:?} of {}", kind.message, untouched.document);
            let document = untouched.document.as_str();
            let mut socket = Socket::connect(stage.server.running.address(), "/collab").await;
            if let Some(token) = token {
                socket.send(auth(document, token)).await;
            }
            let granted: &[&str] = match holder {
                Holder::Nobody if token.is_none() => &[],
                Holder::Nobody | Holder::Stranger => &["denied", "closed"],
                Holder::Reader => &["reader"],
                Holder::Writer => &["writer", "step1"],
            };
            for expected in granted {
                let told = next_told(&mut socket, told_by_collab, expected).await;
                assert_eq!(told, *expected, "{case}");
            }
            let frame = ClientFrame::new(Address::new(document), kind.message);
            socket.send(frame.encode()).await;
            let expected = match holder {
                Holder::Nobody | Holder::Stranger => &[][..],
                Holder::Reader => kind.reader,
                Holder::Writer => kind.writer,
            };
            for expected in expected {
                let told = next_told(&mut socket, told_by_collab, expected).await;
                assert_eq!(told, *expected, "{case}");
            }
            // And nothing after it.
            socket.send(ClientFrame::Ping.encode()).await;
            let told = next_told(&mut socket, told_by_collab, "pong").await;
            assert_eq!(told, "pong", "{case}");
            let is_written = kind.writes && *holder == Holder::Writer;
            assert_eq!(stage.is_changed(&untouched).await, is_written, "{case}");
        }
    }
}
