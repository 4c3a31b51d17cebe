//! A hash that another project has and one that nobody has: told apart by no answer, and by no time.

use std::time::{Duration, Instant};

use uspark_shared::codec::collab::{Address, ClientFrame, CollabMessage};
use uspark_shared::id::BlobHash;
use uspark_shared::replica::{ClientId, ProjectEdit, ProjectReplica};
use uspark_shared::schema::Entry;
use uspark_tests::Row;

use crate::client::{Answer, Call, Client, TestServer};
use crate::socket::{Socket, auth};

/// A blob in the database, and one in a file of its own.
const SIZES: [usize; 2] = [1_000, 200_000];

/// A project, and a hash that it has no right to.
struct Asking {
    project: String,
    client: Client,
    token: String,
    hash: BlobHash,
}

impl Asking {
    async fn new(server: &TestServer, project: &str, hash: BlobHash) -> Self {
        server.project(project).await;
        let token = server.token(project, "admin").await;
        Self {
            project: project.to_owned(),
            client: server.with(&token),
            token,
            hash,
        }
    }

    /// What was told, with the names of this one in no word of it.
    fn plain(&self, text: &str) -> String {
        let text = text.replace(&self.hash.to_string(), "HASH");
        text.replace(&self.project, "PROJECT")
    }

    fn blind(&self, answer: &Answer) -> String {
        let headers = [
            "content-type",
            "content-length",
            "etag",
            "content-range",
            "accept-ranges",
        ]
        .map(|name| (name, answer.header(name)));
        let body = String::from_utf8_lossy(&answer.body);
        self.plain(&format!("{} {headers:?} {body}", answer.status))
    }

    fn blob(&self) -> Entry {
        Entry::Blob {
            hash: self.hash,
            size: 6,
            mode: 0o644,
            mtime: 1,
        }
    }

    fn text(&self) -> Entry {
        Entry::Text {
            doc: "d1".parse().unwrap(),
            seed: self.hash,
            mode: 0o644,
            mtime: 1,
        }
    }

    /// Everything that is told to whoever names the hash wherever one can be named.
    async fn tries_everything(&self, server: &TestServer) -> Vec<String> {
        let address = server.running.address();
        let mut follower = Socket::connect(address, "/collab").await;
        follower.send(auth(&self.project, &self.token)).await;
        let follow = CollabMessage::Stateless(r#"{"follow":"texts"}"#);
        let follow = ClientFrame::new(Address::new(&self.project), follow);
        follower.send(follow.encode()).await;

        let mut told = Vec::new();
        let edits = [("a.bin", self.blob()), ("t.txt", self.text())];
        let edits = edits.map(|(path, entry)| ProjectEdit::SetFile(path.parse().unwrap(), entry));
        let replica = ProjectReplica::new(ClientId::from_random([7; 4]));
        let project = format!("/api/projects/{}", self.project);
        for edit in edits {
            let update = replica.edit(&[edit]).unwrap();
            told.push(self.blind(&self.client.patch(&project).bytes(update).await));
        }
        let blob = format!("/api/blobs/{}", self.hash);
        let etag = format!("\"{}\"", self.hash);
        let (of_blob, of_text) = (
            format!("{project}/files/a.bin"),
            format!("{project}/files/t.txt"),
        );
        let get = |path: &str| self.client.get(path);
        let head = |path: &str| self.client.call("HEAD", path);
        let calls = [
            get(&blob),
            head(&blob),
            get(&blob).header("range", "bytes=0-0"),
            get(&blob).header("range", "bytes=999999-"),
            get(&blob).header("if-none-match", &etag),
            get(&of_blob),
            head(&of_blob),
            get(&of_text),
            get(&of_text).header("if-none-match", &etag),
            get(&project).header("accept", "application/json"),
            get(&format!("{project}/archive")),
            self.client.delete(&of_blob).header("if-match", &etag),
            self.client
                .put(&of_text)
                .header("if-match", &etag)
                .with("new"),
            self.client
                .put(&format!("{project}/files/new.txt"))
                .header("if-match", &etag)
                .with("new"),
        ];
        for call in calls {
            told.push(self.blind(&call.send().await));
        }
        // What the server asks its followers for, up to the answer to a ping.
        follower.send(ClientFrame::Ping.encode()).await;
        loop {
            let frame = follower.frame().await;
            if frame == ClientFrame::Pong.encode() {
                break;
            }
            let text = String::from_utf8_lossy(&frame).into_owned();
            if text.contains("lacks") {
                told.push(self.plain(&text));
            }
        }
        let mut text = Socket::ws(address, &format!("{}/d1", self.project), &self.token).await;
        text.ask().await;
        told.push(self.plain(&format!("{:?}", text.until_closed().await)));
        told
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_hash_is_answered_like_one_that_nobody_has() {
    let server = TestServer::start().await;
    server.project("owner").await;
    for (number, size) in SIZES.into_iter().enumerate() {
        let secret = vec![b's'; size];
        server.admin().upload("owner", secret.clone()).await;
        let unknown = BlobHash::of(format!("nobody has {size}").as_bytes());
        let foreign = Asking::new(&server, &format!("thief{number}"), BlobHash::of(&secret)).await;
        let unknown = Asking::new(&server, &format!("guess{number}"), unknown).await;
        let told = tokio::join!(
            foreign.tries_everything(&server),
            unknown.tries_everything(&server)
        );
        assert_eq!(told.0, told.1);
        assert!(
            told.0.iter().any(|told| told.contains("lacks")),
            "{:?}",
            told.0
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_hash_takes_as_long_as_one_that_nobody_has() {
    let mut row = Row::begin("foreign and unknown hashes, by time");
    let pairs = row.count(20_000, 400);
    let server =
        TestServer::start_with(|config| config.limits.max_token_requests = 1_000_000).await;
    server.project("owner").await;
    let mut figures = Vec::new();
    for size in SIZES {
        let secret = vec![b's'; size];
        let foreign = server.admin().upload("owner", secret).await;
        server.project(&format!("thief{size}")).await;
        let client = server.with(&server.token(&format!("thief{size}"), "read").await);
        let path = |hash: &str| format!("/api/blobs/{hash}");
        let (mut slower, mut total) = (0, [Duration::ZERO; 2]);
        for pair in 0..pairs {
            let unknown = BlobHash::of(format!("nobody has {size} {pair}").as_bytes()).to_string();
            let calls = [client.get(&path(&foreign)), client.get(&path(&unknown))];
            // In either order, so that neither is always the one after the other.
            let swapped = row.random.bool();
            let [a, b] = calls;
            let (first, second) = if swapped { (b, a) } else { (a, b) };
            let (first, second) = (timed(first).await, timed(second).await);
            let (of_foreign, of_unknown) = if swapped {
                (second, first)
            } else {
                (first, second)
            };
            slower += usize::from(of_foreign > of_unknown);
            total[0] += of_foreign;
            total[1] += of_unknown;
        }
        // A coin that is tossed so often shows its heads within four deviations of a half.
        let share = slower as f64 / pairs as f64;
        let deviations = (share - 0.5).abs() / (0.5 / (pairs as f64).sqrt());
        let mean = total.map(|total| total.as_micros() / pairs as u128);
        assert!(
            deviations < 4.0,
            "{size} bytes: the foreign one was slower {share}, {mean:?} us"
        );
        figures.push(format!(
            "{size} bytes: {:.1} % slower, {mean:?} us",
            share * 100.0
        ));
    }
    row.held(format_args!("{pairs} pairs; {}", figures.join("; ")));
}

/// How long a refusal takes.
async fn timed(call: Call) -> Duration {
    let began = Instant::now();
    let answer = call.send().await;
    let took = began.elapsed();
    assert_eq!(answer.status, 404);
    took
}
