//! A run's lines against a server that goes away, loses its answers and its memory.
#![allow(
    clippy::disallowed_methods,
    reason = "tests look at what is on the disk"
)]

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::post;
use serde::Deserialize;
use tokio::net::TcpListener;

use super::*;

/// What the server is to do with its next calls, and what it has.
#[derive(Default)]
struct Stored {
    runs: BTreeMap<String, Vec<String>>,
    calls: usize,
    /// Every so many calls the answer is lost, though the lines are stored.
    lose: usize,
    refuse: Option<StatusCode>,
}

type Shared = Arc<Mutex<Stored>>;

#[derive(Deserialize)]
struct Asked {
    run: String,
    from: usize,
}

/// As the real one: what is there is left, a gap is refused.
async fn publish(
    State(stored): State<Shared>,
    Query(asked): Query<Asked>,
    body: String,
) -> StatusCode {
    let mut stored = stored.lock().unwrap();
    stored.calls += 1;
    if let Some(status) = stored.refuse {
        return status;
    }
    let lost = stored.lose > 0 && stored.calls % stored.lose == 0;
    let lines = stored.runs.entry(asked.run).or_default();
    if asked.from > lines.len() + 1 {
        return StatusCode::PRECONDITION_FAILED;
    }
    let there = lines.len() + 1 - asked.from;
    lines.extend(body.lines().skip(there).map(str::to_owned));
    match lost {
        true => StatusCode::SERVICE_UNAVAILABLE,
        false => StatusCode::OK,
    }
}

struct Bench {
    root: tempfile::TempDir,
    stored: Shared,
    listener: Option<TcpListener>,
    api: Api,
}

impl Bench {
    /// A server that accepts nobody yet.
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        Self {
            root: tempfile::tempdir().unwrap(),
            stored: Shared::default(),
            listener: Some(listener),
            api: Api::new(
                server.parse().unwrap(),
                "uspk_a_b".parse().unwrap(),
                &crate::config::Authorities::default(),
            )
            .unwrap(),
        }
    }

    fn serve(&mut self) {
        let router = Router::new()
            .route("/api/projects/p/events", post(publish))
            .with_state(Arc::clone(&self.stored));
        let listener = self.listener.take().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
    }

    fn start(&self, run: &str) -> (Publisher, LineSink) {
        let project = "p".parse().unwrap();
        Publisher::start(self.root.path(), &project, run, self.api.clone()).unwrap()
    }

    fn lines(&self, run: &str) -> Vec<String> {
        let stored = self.stored.lock().unwrap();
        stored.runs.get(run).cloned().unwrap_or_default()
    }

    fn spooled(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.root.path().join(".uspark/lines/p")).unwrap();
        let name = |entry: io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
        entries
            .map(|entry| name(entry).into_string().unwrap())
            .collect()
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

fn say(sink: &mut LineSink, lines: std::ops::Range<usize>) -> Vec<String> {
    let lines: Vec<String> = lines.map(|line| format!("line {line}")).collect();
    for line in &lines {
        sink.take(Line::Whole(line.as_bytes()));
    }
    lines
}

#[tokio::test]
async fn every_line_arrives_once_and_in_order_though_answers_are_lost() {
    let mut bench = Bench::new().await;
    bench.stored.lock().unwrap().lose = 3;
    bench.serve();
    let (publisher, mut sink) = bench.start("r");
    let writing = std::thread::spawn(move || {
        // Empty lines say nothing.
        sink.take(Line::Whole(b""));
        say(&mut sink, 0..5000)
    });
    publisher.finish(soon()).await.unwrap();
    assert_eq!(bench.lines("r"), writing.join().unwrap());
    assert!(bench.stored.lock().unwrap().calls >= 5);
    assert_eq!(bench.spooled(), [""; 0]);
}

#[tokio::test]
async fn what_a_server_that_is_away_did_not_get_the_next_run_sends() {
    let mut bench = Bench::new().await;
    let (publisher, mut sink) = bench.start("first");
    let first = say(&mut sink, 0..100);
    drop(sink);
    let late = Instant::now() + Duration::from_millis(300);
    let error = publisher.finish(late).await.unwrap_err();
    assert!(matches!(error, Unpublished::Server(_)), "{error}");
    assert_eq!(bench.spooled(), ["first"]);

    bench.serve();
    let (publisher, mut sink) = bench.start("second");
    let second = say(&mut sink, 0..10);
    drop(sink);
    publisher.finish(soon()).await.unwrap();
    assert_eq!(
        (bench.lines("first"), bench.lines("second")),
        (first, second)
    );
    assert_eq!(bench.spooled(), [""; 0]);
}

#[tokio::test]
async fn a_run_that_goes_on_is_nobody_elses_to_send() {
    let mut bench = Bench::new().await;
    bench.serve();
    let (first, mut sink) = bench.start("first");
    say(&mut sink, 0..10);
    let (second, other) = bench.start("second");
    drop(other);
    second.finish(soon()).await.unwrap();
    assert_eq!(bench.spooled(), ["first"]);
    let rest = say(&mut sink, 10..20);
    drop(sink);
    first.finish(soon()).await.unwrap();
    assert_eq!(bench.lines("first")[10..], rest);
}

#[tokio::test]
async fn a_server_that_lost_its_memory_gets_the_run_again() {
    let mut bench = Bench::new().await;
    bench.serve();
    let (publisher, mut sink) = bench.start("r");
    let mut said = say(&mut sink, 0..50);
    while bench.lines("r").len() < 50 {
        tokio::task::yield_now().await;
    }
    bench
        .stored
        .lock()
        .unwrap()
        .runs
        .get_mut("r")
        .unwrap()
        .truncate(7);
    said.extend(say(&mut sink, 50..60));
    drop(sink);
    publisher.finish(soon()).await.unwrap();
    assert_eq!(bench.lines("r"), said);
}

#[tokio::test]
async fn a_refusal_ends_it_and_the_lines_are_kept() {
    let mut bench = Bench::new().await;
    bench.stored.lock().unwrap().refuse = Some(StatusCode::FORBIDDEN);
    bench.serve();
    let (publisher, mut sink) = bench.start("r");
    say(&mut sink, 0..3);
    drop(sink);
    let error = publisher.finish(soon()).await.unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
    assert_eq!(bench.stored.lock().unwrap().calls, 1);
    assert_eq!(bench.spooled(), ["r"]);
}

#[tokio::test]
async fn what_is_too_long_or_no_text_has_a_line_too() {
    let mut bench = Bench::new().await;
    bench.serve();
    let (publisher, mut sink) = bench.start("r");
    let longest = "x".repeat(LINE_BYTES);
    sink.take(Line::Whole(longest.as_bytes()));
    sink.take(Line::Whole(format!("{longest}x").as_bytes()));
    sink.take(Line::TooLong(1 << 30));
    sink.take(Line::Whole(b"no \xff text"));
    drop(sink);
    publisher.finish(soon()).await.unwrap();
    let expected = [
        longest.as_str(),
        r#"{"type":"uspark","tooLong":262145}"#,
        r#"{"type":"uspark","tooLong":1073741824}"#,
        "no \u{fffd} text",
    ];
    assert!(bench.lines("r") == expected);
}
