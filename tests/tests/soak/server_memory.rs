//! What the server takes of memory: at rest, for each connection, and after many documents came and went.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::ensure;
use serde_json::{Value, json};
use uspark_tests::{Node, Row, Server, eventually, pause, program, resident_bytes};

use crate::watched::LONG;

const MIB: usize = 1 << 20;
const EVICTED: &str = "uspark_evictions_total{kind=\"text\"}";
/// By how much two runs of the same differ at most.
const ROOM: usize = 4 * MIB;

/// What an idle process may take, and one that was not optimised.
const IDLE: usize = 20_000_000;
const IDLE_UNOPTIMISED: usize = 40_000_000;
/// What an idle connection may take, and where few of them share what many would.
const CONNECTION: usize = 20_000;
const FEW_CONNECTION: usize = 40_000;

#[test]
fn idle_connections() {
    let row = Row::begin("memory of idle connections");
    let server = start(&["--max-token-sockets", "5000"]);
    let project = server.project();
    project.put("a.txt", "text\n");
    let document = project.document("a.txt");
    let mut visitors = visitors(&server);
    let idle = resident_bytes(server.pid());
    // What the first of anything takes is not what the next does.
    visitors.call("hold", json!({"document": document, "count": 50}));
    let connections = row.count(2000, 200);
    let before = resident_bytes(server.pid());
    visitors.call("hold", json!({"document": document, "count": connections}));
    let each = (resident_bytes(server.pid()) - before) / connections;
    let (most_idle, most) = match row.is_full() {
        true => (IDLE, CONNECTION),
        false => (IDLE_UNOPTIMISED, FEW_CONNECTION),
    };
    assert!(idle < most_idle, "idle, it takes {idle} bytes");
    assert!(each < most, "a connection takes {each} bytes");
    row.held(format_args!(
        "{} KB idle, {each} bytes for each of {connections} idle connections",
        idle / 1000
    ));
}

#[test]
fn documents_through_a_small_cache() {
    let row = Row::begin("documents through a small cache");
    let mut server = start(&[]);
    let project = server.project();
    let count = row.count(2000, 100);
    let content = "some words of a line in a file\n".repeat(2000);
    for number in 0..count {
        project.put(&format!("{number}.txt"), content.as_bytes());
    }
    let manifest = project.manifest().unwrap();
    let files = manifest.as_object().unwrap().values();
    let name = |file: &Value| format!("{}/{}", project.id, file["doc"].as_str().unwrap());
    let documents: Vec<_> = files.map(name).collect();
    server.terminate().expect_code(0);
    // Room for the project and some ten.
    server.restart_with(&["--cache-bytes", &(3 * MIB).to_string()]);
    let mut visitors = visitors(&server);
    // The project itself stays: what it takes is not what is measured.
    visitors.call("hold", json!({"document": project.id, "count": 1}));
    let fresh = resident_bytes(server.pid());
    let mut visit = |documents: &[String], word| {
        let all = visitors.ask("visit", json!({"documents": documents, "word": word}));
        eventually(LONG, || {
            ensure!(visitors.has_answered(&all), "they still come");
            Ok(())
        });
        visitors.answer(all);
    };
    visit(&documents, "a word ");
    let before = resident_at_rest(&server);
    // Nobody writes now: what is written stays, in the project.
    visit(&documents, "");
    let after = resident_at_rest(&server);
    let evicted = server.metric(EVICTED).unwrap();
    assert!(evicted > count, "{evicted} were evicted");
    let room = if row.is_full() {
        before / 10
    } else {
        before / 8
    };
    assert!(
        after < before + room,
        "{before} bytes before, {after} after"
    );
    row.held(format_args!(
        "{} KB after {count} documents of {} KB came and went, {} KB after they did again, {} KB before both; \
         {evicted} evictions",
        before / 1000,
        content.len() / 1000,
        after / 1000,
        fresh / 1000
    ));
}

#[test]
fn a_reader_that_stalls() {
    let row = Row::begin("a reader that stalls");
    let server = start(&["--outbox-bytes", &MIB.to_string()]);
    let project = server.project();
    project.put("a.txt", "typed: ");
    let document = project.document("a.txt");
    let (mut writer, mut reader) = (Node::client(&project), Node::client(&project));
    for client in [&mut writer, &mut reader] {
        client.call("open", json!({"document": document}));
    }
    // More than 10 MB in both forms: less stays in the buffers of the system.
    let churn = json!({"document": document, "text": "x".repeat(10_000), "times": 1600});
    let mut write = || {
        let all = writer.ask("churn", churn.clone());
        let peaks = peaks_until(&server, || writer.has_answered(&all));
        writer.answer(all);
        writer.call("waitSaved", json!({"document": document}));
        peaks
    };
    let (calm, _) = write();
    reader.stop();
    let stopped = Instant::now();
    let (stalled, queued) = write();
    let last = json!({"document": document, "after": "typed: ", "text": "the last word"});
    writer.call("insert", last);
    writer.call("waitSaved", json!({"document": document}));
    if row.is_full() {
        pause(Duration::from_secs(60).saturating_sub(stopped.elapsed()));
    }
    reader.go_on();
    let awake = Instant::now();
    let all = json!({"document": document, "equals": "typed: the last word"});
    reader.call("waitText", all);
    assert!(
        queued > MIB / 2,
        "only {queued} bytes waited: it was not slow"
    );
    // Of both: the writer is told what is stored whatever waits.
    assert!(queued < 2 * MIB, "{queued} bytes waited");
    let grown = stalled.saturating_sub(calm);
    assert!(grown < MIB + ROOM, "it took {grown} bytes more");
    row.held(format_args!(
        "16 MB to a reader stopped for {:.0} s: {queued} bytes waited, {} KB more than to one that reads, equal {} ms \
         after it woke",
        (awake - stopped).as_secs_f64(),
        grown / 1000,
        awake.elapsed().as_millis()
    ));
}

/// The most memory, and the most that waited for sockets, in bytes, until something is over.
fn peaks_until(server: &Server, mut is_over: impl FnMut() -> bool) -> (usize, usize) {
    let (mut resident, mut queued) = (0, 0);
    eventually(LONG, || {
        resident = resident.max(resident_bytes(server.pid()));
        queued = queued.max(server.metric("uspark_queued_bytes")?);
        ensure!(is_over(), "it goes on");
        Ok(())
    });
    (resident, queued)
}

/// Resident memory once it changes no more.
fn resident_at_rest(server: &Server) -> usize {
    eventually(LONG, || {
        let before = resident_bytes(server.pid());
        pause(Duration::from_secs(2));
        let after = resident_bytes(server.pid());
        ensure!(
            before.abs_diff(after) < before / 100,
            "{before}, then {after} bytes"
        );
        Ok(after)
    })
}

fn start(arguments: &[&str]) -> Server {
    let mut command = Command::new(program("sync-server"));
    command.args(arguments);
    Server::start_by(command)
}

fn visitors(server: &Server) -> Node {
    Node::start("visitors.mjs", &[&server.url, &server.token])
}
