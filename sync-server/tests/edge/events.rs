//! What happens in a project, as a stream, and the lines that runs publish.

use std::future::ready;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use axum::body::BodyDataStream;
use futures_util::StreamExt as _;
use rustix::process::Signal;
use serde_json::{Value, json};
use sync_server::{Config, Server};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpSocket;
use tokio::time::timeout;
use uspark_shared::id::BlobHash;

use crate::binary::Program;
use crate::client::{Call, Client, TestServer, eventually};

const EVENTS: &str = "/api/projects/p/events";
/// What is awaited is there long before.
const SOON: Duration = Duration::from_secs(10);

/// A reader of a stream of events.
struct Reader {
    body: BodyDataStream,
    rest: String,
    /// The last id that was told.
    id: String,
}

#[derive(Debug, PartialEq)]
struct Event {
    name: String,
    data: Value,
}

impl Reader {
    async fn open(call: Call) -> Self {
        let open = call.open().await.unwrap();
        assert_eq!(open.status, 200);
        assert_eq!(open.headers["content-type"], "text/event-stream");
        Self {
            body: open.body.into_data_stream(),
            rest: String::new(),
            id: String::new(),
        }
    }

    async fn at(client: &Client, id: &str) -> Self {
        Self::open(client.get(EVENTS).header("last-event-id", id)).await
    }

    /// The next event; `None` at the end of the stream, also where it was cut off.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((block, rest)) = self.rest.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.rest = rest;
                if let Some(event) = self.take(&block) {
                    return Some(event);
                }
                continue;
            }
            let chunk = timeout(SOON, self.body.next()).await.expect("nothing came");
            self.rest.push_str(str::from_utf8(&chunk?.ok()?).unwrap());
        }
    }

    fn take(&mut self, block: &str) -> Option<Event> {
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
        if let Some(id) = field("id: ") {
            self.id = id.to_owned();
        }
        Some(Event {
            name: field("event: ")?.to_owned(),
            data: serde_json::from_str(field("data: ")?).unwrap(),
        })
    }

    /// The data of the next event, which is a change, without what differs from run to run.
    async fn change(&mut self) -> Value {
        let Event { name, mut data } = self.next().await.unwrap();
        assert_eq!(name, "change");
        assert!(
            self.id.ends_with(&format!(".{}", data["number"])),
            "{}",
            self.id
        );
        let event = data.as_object_mut().unwrap();
        assert!(event.remove("at").unwrap().as_u64().unwrap() > 1_600_000_000_000);
        data
    }
}

async fn put(client: &Client, path: &str, content: &str) {
    let path = format!("/api/projects/p/files/{path}");
    assert_eq!(
        client.put(&path).bytes(content.to_owned()).await.status,
        200
    );
}

async fn say(client: &Client, from: u64, lines: &str) -> crate::client::Answer {
    let path = format!("{EVENTS}?run=r&from={from}");
    client.post(&path).bytes(lines.to_owned()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_is_followed_and_gone_on_with_where_one_was() {
    let server = TestServer::start().await;
    server.project("p").await;
    let token = server.token("p", "write").await;
    let client = server.with(&token);
    let mut reader = Reader::open(server.with(&server.token("p", "read").await).get(EVENTS)).await;
    put(&client, "a.txt", "one\n").await;
    let who = json!({ "token": token[5..17] });
    let hash = BlobHash::of(b"one\n").to_string();
    let created = json!({
        "number": 1, "what": "created", "path": "a.txt", "kind": "text", "hash": hash, "who": who,
    });
    assert_eq!(reader.change().await, created);
    let (first, epoch) = (
        reader.id.clone(),
        reader.id.strip_suffix(".1").unwrap().to_owned(),
    );

    // A text is told again when it settles, which a reader of it asks for.
    put(&client, "a.txt", "two\n").await;
    let file = client.get("/api/projects/p/files/a.txt").send().await;
    assert_eq!(file.body, "two\n");
    let hash = BlobHash::of(b"two\n").to_string();
    let changed = json!({
        "number": 2, "what": "changed", "path": "a.txt", "kind": "text", "hash": hash, "who": who,
    });
    assert_eq!(reader.change().await, changed);
    drop(reader);
    assert_eq!(
        client
            .delete("/api/projects/p/files/a.txt")
            .send()
            .await
            .status,
        204
    );

    let second = format!("{epoch}.2");
    let deleted = Reader::at(&client, &second).await.change().await;
    assert_eq!(
        (&deleted["number"], &deleted["what"]),
        (&json!(3), &json!("deleted"))
    );
    // The header counts more than the address; without either it is all that is kept.
    let path = format!("{EVENTS}?after={first}");
    assert_eq!(
        Reader::open(client.get(&path)).await.change().await["number"],
        2
    );
    let call = client.get(&path).header("last-event-id", &second);
    assert_eq!(Reader::open(call).await.change().await["number"], 3);
    assert_eq!(
        Reader::open(client.get(EVENTS)).await.change().await,
        created
    );
    let mut now = Reader::open(client.get(&format!("{EVENTS}?after=now"))).await;
    put(&client, "b.txt", "b\n").await;
    assert_eq!(now.change().await["path"], "b.txt");
    client
        .get(&format!("{EVENTS}?after=7"))
        .send()
        .await
        .problem(400);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_away_for_too_long_is_told() {
    let server = TestServer::start_with(|config| config.limits.kept_events = 3).await;
    server.project("p").await;
    let client = server.admin();
    let mut reader = Reader::open(client.get(EVENTS)).await;
    put(&client, "0.txt", "text\n").await;
    reader.change().await;
    let seen = reader.id.clone();
    drop(reader);
    for number in 1..6 {
        put(&client, &format!("{number}.txt"), "text\n").await;
    }
    let mut reader = Reader::at(&client, &seen).await;
    let lagged = reader.next().await.unwrap();
    assert_eq!(lagged.name, "lagged");
    assert_eq!(
        lagged.data,
        json!({ "number": 3, "what": "lagged", "why": "cut" })
    );
    for number in 4..=6 {
        assert_eq!(reader.change().await["number"], number);
    }
    // Another project of its name is another one.
    assert_eq!(client.delete("/api/projects/p").send().await.status, 204);
    assert_eq!(reader.next().await, None);
    server.project("p").await;
    let mut reader = Reader::at(&client, &reader.id).await;
    assert_eq!(reader.next().await.unwrap().name, "lagged");
    put(&client, "a.txt", "text\n").await;
    assert_eq!(reader.change().await["number"], 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_token() {
    let server = TestServer::start().await;
    server.project("p").await;
    let wanted = json!({ "project": "p", "access": "read", "expiresIn": 2 });
    let minted = Instant::now();
    let expiring = server
        .admin()
        .post("/api/tokens")
        .json(wanted)
        .await
        .value();
    let expiring = server.with(expiring["token"].as_str().unwrap());
    let (revoked, other) = (
        server.token("p", "read").await,
        server.token("p", "read").await,
    );
    let mut readers = Vec::new();
    for client in [&server.with(&revoked), &server.with(&other), &expiring] {
        readers.push(Reader::open(client.get(EVENTS)).await);
    }
    let path = format!("/api/tokens/{}", &revoked[5..17]);
    assert_eq!(server.admin().delete(&path).send().await.status, 204);
    let began = Instant::now();
    assert_eq!(readers[0].next().await, None);
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(readers[2].next().await, None);
    let lasted = minted.elapsed();
    assert!(
        lasted >= Duration::from_millis(1900) && lasted < Duration::from_secs(3),
        "{lasted:?}"
    );
    expiring.get(EVENTS).send().await.problem(401);
    put(&server.admin(), "a.txt", "text\n").await;
    assert_eq!(readers[1].change().await["path"], "a.txt");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_nothing_is_cut_off_with_its_token() {
    let server = TestServer::start().await;
    server.project("p").await;
    // More than what the kernel keeps for a connection.
    let lines = format!("{}\n", "x".repeat(200 << 10)).repeat(20);
    for call in 0..5 {
        assert_eq!(
            say(&server.admin(), call * 20 + 1, &lines).await.status,
            200
        );
    }
    let token = server.token("p", "read").await;
    let head =
        format!("GET {EVENTS} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token}\r\n\r\n");
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(server.running.address()).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    // By the time that another one has read all of it, nothing more goes into this connection.
    let mut reader = Reader::open(server.admin().get(EVENTS)).await;
    for _ in 0..100 {
        reader.next().await.unwrap();
    }
    let path = format!("/api/tokens/{}", &token[5..17]);
    assert_eq!(server.admin().delete(&path).send().await.status, 204);
    let revoked = Instant::now();
    // A connection that is gone takes nothing any more.
    let is_cut = || {
        let written = stream.try_write(b" ");
        ready(written.is_err_and(|error| error.kind() != ErrorKind::WouldBlock))
    };
    eventually("the connection is cut", is_cut).await;
    assert!(
        revoked.elapsed() < Duration::from_secs(1),
        "{:?}",
        revoked.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_ends_its_streams() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(Config::local(data.path())).await.unwrap();
    let client = Client::new(server.address(), Some(&server.admin_token().reveal()));
    client
        .post("/api/projects")
        .json(json!({ "id": "p" }))
        .await;
    let mut reader = Reader::open(client.get(EVENTS)).await;
    put(&client, "a.txt", "text\n").await;
    reader.change().await;
    let began = Instant::now();
    let (last, ()) = tokio::join!(reader.next(), server.stop());
    assert_eq!(last, None);
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_a_run_are_events_each_once() {
    let server = TestServer::start().await;
    server.project("p").await;
    let token = server.token("p", "write").await;
    let client = server.with(&token);
    let published = say(&client, 1, "{\"type\":\"system\"}\nnot JSON, \"quoted\"\n").await;
    assert_eq!(
        (published.status, published.value()),
        (200, json!({ "next": 3 }))
    );
    // An answer that was lost, then more than was sent before.
    for (from, lines, next) in [
        (1, "{\"type\":\"system\"}", 2),
        (2, "not JSON, \"quoted\"\n\n", 4),
        (4, "", 4),
    ] {
        let published = say(&client, from, lines).await;
        assert_eq!(
            (published.status, published.value()),
            (200, json!({ "next": next }))
        );
    }
    let gap = say(&client, 5, "late\n").await.problem(412);
    assert!(gap.contains("number 4"), "{gap}");
    put(&client, "a.txt", "text\n").await;

    let mut reader = Reader::open(client.get(EVENTS)).await;
    let who = json!({ "token": token[5..17], "run": "r" });
    for (line, text) in [
        (1, "{\"type\":\"system\"}"),
        (2, "not JSON, \"quoted\""),
        (3, ""),
    ] {
        let event = reader.next().await.unwrap();
        assert_eq!(event.name, "line");
        let Value::Object(mut data) = event.data else {
            panic!()
        };
        data.remove("at");
        let expected = json!({
            "number": line, "what": "line", "run": "r", "line": line, "text": text, "who": who,
        });
        assert_eq!(Value::from(data), expected);
    }
    assert_eq!(reader.change().await["number"], 4);

    for (path, status) in [
        ("?run=r", 400),
        ("?run=r&from=0", 400),
        ("?run=&from=1", 400),
        ("?from=1", 400),
        ("?run=r&from=18446744073709551615", 400),
    ] {
        client
            .post(&format!("{EVENTS}{path}"))
            .bytes("x")
            .await
            .problem(status);
    }
    let long = "x".repeat((256 << 10) + 1);
    say(&client, 4, &long).await.problem(413);
    say(
        &client,
        4,
        &format!("{}\n", "x".repeat(200 << 10)).repeat(21),
    )
    .await
    .problem(413);
    say(&client, 4, &"\n".repeat(1001)).await.problem(400);
    assert_eq!(say(&client, 4, &long[1..]).await.status, 200);
    let line = reader.next().await.unwrap();
    assert_eq!(line.data["text"].as_str().map(str::len), Some(256 << 10));
}

/// Files and lines are written until the server is killed, again and again; what a reader saw, going
/// on each time where it was, is each event once, in order, and all that was acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn kill_9_takes_no_event_and_doubles_none() {
    const ROUNDS: usize = 6;
    const SEEN_PER_ROUND: usize = 60;
    let data = tempfile::tempdir().unwrap();
    let mut token = String::new();
    let (mut id, mut events) = (String::new(), Vec::new());
    let (mut saved, mut next_line) = (Vec::new(), 1);
    for round in 0..=ROUNDS {
        let mut program = Program::quiet(data.path());
        if round == 0 {
            token = program.token().0;
            let made = program
                .client(&token)
                .post("/api/projects")
                .json(json!({ "id": "p" }));
            assert_eq!(made.await.status, 201);
        }
        let client = program.client(&token);
        let mut reader = Reader::at(&client, &id).await;
        if round == ROUNDS {
            // Some of these lines may be there; the answer was lost.
            assert_eq!(say(&client, next_line, &lines(next_line)).await.status, 200);
            next_line += LINES;
            let end = client
                .post(&format!("{EVENTS}?run=end&from=1"))
                .bytes("end")
                .await;
            assert_eq!(end.status, 200);
            loop {
                let event = reader.next().await.unwrap().data;
                if event["run"] == "end" {
                    break;
                }
                events.push(event);
            }
            break;
        }
        let writing = (
            tokio::spawn(write_files(client.clone(), round)),
            tokio::spawn(write_lines(client.clone(), next_line)),
        );
        for _ in 0..SEEN_PER_ROUND {
            events.push(reader.next().await.unwrap().data);
        }
        tokio::task::spawn_blocking(|| program.end(Signal::KILL))
            .await
            .unwrap();
        while let Some(event) = reader.next().await {
            events.push(event.data);
        }
        id = reader.id;
        saved.extend(writing.0.await.unwrap());
        next_line = writing.1.await.unwrap();
    }
    let numbers: Vec<u64> = events
        .iter()
        .map(|event| event["number"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    let said: Vec<u64> = events
        .iter()
        .filter_map(|event| event["line"].as_u64())
        .collect();
    assert_eq!(said, (1..next_line).collect::<Vec<_>>());
    let created: Vec<&str> = events
        .iter()
        .filter(|event| event["what"] == "created")
        .map(|event| event["path"].as_str().unwrap())
        .collect();
    for path in &saved {
        assert_eq!(
            created.iter().filter(|other| *other == path).count(),
            1,
            "{path}"
        );
    }
    assert!(
        saved.len() > ROUNDS && next_line > ROUNDS as u64 * LINES,
        "{} {next_line}",
        saved.len()
    );
}

/// Lines in one call of [`write_lines`].
const LINES: u64 = 5;

fn lines(from: u64) -> String {
    (from..from + LINES)
        .map(|line| format!("line {line}\n"))
        .collect()
}

/// Writes new files until the server is gone, and gives those that it acknowledged.
async fn write_files(client: Client, round: usize) -> Vec<String> {
    let mut saved = Vec::new();
    for number in 0.. {
        let path = format!("{round}/{number}.txt");
        let call = client.put(&format!("/api/projects/p/files/{path}"));
        match call.with(format!("{path}\n")).try_send().await {
            Ok(answer) => assert_eq!(answer.status, 200, "{answer:?}"),
            Err(_) => break,
        }
        saved.push(path);
    }
    saved
}

/// Publishes lines until the server is gone, and gives the number of the first that was not
/// acknowledged.
async fn write_lines(client: Client, mut next: u64) -> u64 {
    loop {
        let call = client.post(&format!("{EVENTS}?run=r&from={next}"));
        match call.with(lines(next)).try_send().await {
            Ok(answer) => assert_eq!(answer.status, 200, "{answer:?}"),
            Err(_) => return next,
        }
        next += LINES;
    }
}
