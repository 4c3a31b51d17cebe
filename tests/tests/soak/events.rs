//! Events across kill -9 and reconnects: each once, in order.

use std::thread;

use anyhow::ensure;
use uspark_tests::{Project, Row, SOON, Server, events_in, eventually};

/// Lines in one call.
const LINES: usize = 50;

/// Files and lines are written until the server is killed, again and again. What curl saw, going on each
/// time after the last event that it had, is all of it.
#[test]
fn events_across_kill_9() {
    let row = Row::begin("events across kill -9");
    let (total, rounds) = (row.count(100_000, 1_000), row.count(40, 4));
    let mut server = Server::start();
    let project = server.project();
    let (mut id, mut numbers, mut said, mut created) = (String::new(), vec![], vec![], vec![]);
    let (mut saved, mut next_line) = (Vec::new(), 1);
    for round in 0..=rounds {
        let following = project.follow(&id);
        let seen = |events: usize| {
            let stream = following.stdout();
            ensure!(
                stream.matches("\nevent: ").count() >= events,
                "curl: {} bytes",
                stream.len()
            );
            Ok(())
        };
        if round < rounds {
            let (project, from) = (&project, next_line);
            thread::scope(|scope| {
                let lines = scope.spawn(move || write_lines(project, from));
                let files = scope.spawn(move || write_files(project, round));
                eventually(SOON, || seen(total.div_ceil(rounds)));
                server.kill9();
                next_line = lines.join().unwrap();
                saved.extend(files.join().unwrap());
            });
        } else {
            // The rest, up to a last word.
            publish(&project, "end", 1, "end").unwrap();
            eventually(SOON, || {
                ensure!(
                    following.stdout().contains("\"run\":\"end\""),
                    "no last word"
                );
                Ok(())
            });
            server.kill9();
        }
        let stream = following.wait().text();
        // What was cut off in the middle comes again.
        let whole = stream.rfind("\n\n").map_or("", |end| &stream[..end]);
        for event in events_in(whole) {
            numbers.push(event["number"].as_u64().unwrap());
            match event["what"].as_str().unwrap() {
                "line" => said.push(event["text"].as_str().unwrap().to_owned()),
                "created" => created.push(event["path"].as_str().unwrap().to_owned()),
                other => panic!("{other}: {event}"),
            }
        }
        let mut ids = whole.lines().filter_map(|line| line.strip_prefix("id: "));
        id = ids.next_back().map_or(id, str::to_owned);
        server.restart();
    }
    assert!(numbers.iter().copied().eq(1..=numbers.len() as u64));
    assert!(numbers.len() > total, "{}", numbers.len());
    assert_eq!(said.pop().as_deref(), Some("end"));
    // The last call's answer may be lost, its lines are all there or none.
    let lines = said.len();
    assert!(
        lines + 1 >= next_line && lines % LINES == 0,
        "{lines} {next_line}"
    );
    assert!(
        (1..)
            .zip(&said)
            .all(|(line, text)| *text == format!("line {line}"))
    );
    created.sort();
    for path in &saved {
        assert!(created.binary_search(path).is_ok(), "{path}");
    }
    let files = created.len();
    created.dedup();
    assert_eq!(created.len(), files, "a file was created twice");
    row.held(format_args!(
        "{} events, {files} of them files, {rounds} kills",
        numbers.len()
    ));
}

/// Writes new files until the server is gone, and gives those that it acknowledged.
fn write_files(project: &Project, round: usize) -> Vec<String> {
    let paths = (0..).map(|number| format!("{round}/{number}.txt"));
    let is_saved = |path: &String| {
        let call = project.file(path).method("PUT").body(format!("{path}\n"));
        call.try_send().is_ok_and(|reply| reply.status == 200)
    };
    paths.take_while(is_saved).collect()
}

/// Publishes lines until the server is gone, and gives the number of the first that was not acknowledged.
fn write_lines(project: &Project, mut next: usize) -> usize {
    loop {
        let lines: String = (next..next + LINES)
            .map(|line| format!("line {line}\n"))
            .collect();
        if publish(project, "r", next, &lines).is_err() {
            return next;
        }
        next += LINES;
    }
}

fn publish(project: &Project, run: &str, from: usize, lines: &str) -> anyhow::Result<()> {
    let call = project.curl(&format!("/events?run={run}&from={from}"));
    let reply = call.method("POST").body(lines).try_send()?;
    ensure!(reply.status == 200, "{reply}");
    Ok(())
}
