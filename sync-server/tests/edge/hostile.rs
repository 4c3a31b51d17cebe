//! Mutated frames of real clients, thrown at a server that others go on working with.

use std::net::SocketAddr;
use std::time::Instant;

use tokio::net::TcpStream;
use uspark_shared::codec::collab::ClientFrame;
use uspark_shared::codec::message::{Message, SyncMessage};
use uspark_shared::diff::diff;
use uspark_shared::replica::{ClientId, TextReplica};
use uspark_tests::Row;

use crate::client::TestServer;
use crate::socket::{Socket, auth};

#[path = "../../../shared/tests/frames/mod.rs"]
mod frames;

use frames::{Framing, Recorded, messages};

/// Frames that one document gets.
const FRAMES_OF_A_DOCUMENT: usize = 1_000;
/// Frames that a socket of `/collab` brings: they may be for documents whose token never comes.
const FRAMES_OF_A_SOCKET: usize = 50;
const SENDERS: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn mutated_frames_at_a_live_server() {
    let mut row = Row::begin("mutated frames at a live server");
    let total = row.count(400_000, 4_000);
    let server = TestServer::start_with(|config| config.limits.max_token_requests = u32::MAX).await;
    server.project("p").await;
    let mut bystander = Bystander::join(&server).await;
    let began = Instant::now();
    let mut closed = 0;
    for number in 0..total / FRAMES_OF_A_DOCUMENT {
        // A text, or a project's own document.
        let document = match number % 2 {
            0 => server.text("p", &format!("{number}.txt"), "").await,
            _ => {
                let id = format!("p{number}");
                server.project(&id).await;
                id
            }
        };
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let framing = [Framing::YWebsocket, Framing::Hocuspocus][sender % 2];
                let sender = Sender {
                    address: server.running.address(),
                    token: server.admin.clone(),
                    document: document.clone(),
                    framing,
                    random: row.random.fork(),
                };
                tokio::spawn(sender.send(FRAMES_OF_A_DOCUMENT / SENDERS))
            })
            .collect();
        for sender in senders {
            closed += sender.await.unwrap();
        }
        bystander.types(number).await;
        // Whatever is in it now, it is served.
        let mut reader = Socket::ws(bystander.address, &document, &server.admin).await;
        assert!(reader.is_served().await, "{document}");
    }
    assert!(closed > total / 4, "only {closed} were closed");
    row.held(format_args!(
        "{total} frames, {:.0} a second; {closed} closed their sender with 4400",
        total as f64 / began.elapsed().as_secs_f64()
    ));
}

/// Somebody who types into a document over one socket.
struct Bystander {
    address: SocketAddr,
    socket: Socket<TcpStream>,
    replica: TextReplica,
}

impl Bystander {
    async fn join(server: &TestServer) -> Self {
        let document = server.text("p", "bystander.txt", "").await;
        let address = server.running.address();
        let socket = Socket::ws(address, &document, &server.admin).await;
        let replica = TextReplica::new(ClientId::from_random([9; 4]));
        Self {
            address,
            socket,
            replica,
        }
    }

    /// A word, which comes back when it is on the disk.
    async fn types(&mut self, number: usize) {
        let before = self.replica.text();
        let after = format!("{before}{number} ");
        let update = self.replica.edit(&diff(&before, &after)).unwrap();
        self.socket.update(&update).await;
        let echo = Message::Sync(SyncMessage::Update(&update)).encode();
        while self.socket.frame().await != echo {}
    }
}

struct Sender {
    address: SocketAddr,
    token: String,
    document: String,
    framing: Framing,
    random: fastrand::Rng,
}

impl Sender {
    /// Sends frames; one that cannot be read closes the socket with 4400. Gives how many did.
    async fn send(mut self, frames: usize) -> usize {
        let recorded = Recorded::all();
        let (mut closed, mut socket) = (0, None);
        for number in 0..frames {
            let frame = recorded.mutated(self.framing, &self.document, &mut self.random);
            let mut at = match socket.take() {
                Some(socket) if number % FRAMES_OF_A_SOCKET > 0 => socket,
                _ => self.connect().await,
            };
            let is_last = match self.framing {
                Framing::YWebsocket => messages(self.framing, &frame).is_none(),
                // What is wrong inside a frame is its document's business.
                Framing::Hocuspocus => ClientFrame::decode(&frame).is_err(),
            };
            if self.framing == Framing::Hocuspocus {
                // The frame before may have lost the document.
                at.try_send(auth(&self.document, &self.token)).await;
            }
            if !at.try_send(frame.clone()).await || is_last {
                let (code, reason) = at.closed().await;
                assert!(
                    code == 4400 || (code == 1013 && !is_last),
                    "{frame:02x?}: {code} {reason}"
                );
                closed += 1;
            } else {
                socket = Some(at);
            }
        }
        closed
    }

    async fn connect(&self) -> Socket<TcpStream> {
        match self.framing {
            Framing::YWebsocket => Socket::ws(self.address, &self.document, &self.token).await,
            Framing::Hocuspocus => Socket::connect(self.address, "/collab").await,
        }
    }
}
