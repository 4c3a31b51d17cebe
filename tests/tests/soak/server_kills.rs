//! The server is killed with -9 while many write, and has everything that it acknowledged when it is back.

use std::time::Duration;

use serde_json::{Value, json};
use uspark_tests::{Node, Row, Server, pause};

/// Texts that are written to at a time.
const TEXTS: usize = 4;
/// Writers at each of them.
const WRITERS: usize = 3;
/// Rounds with one project's texts. The next have new ones; in the end all of them are looked at.
const ROUNDS_TO_PROJECT: usize = 50;

#[test]
fn a_server_killed_under_load() {
    let mut row = Row::begin("server killed -9 under load");
    let rounds = row.count(1000, 12);
    let mut server = Server::start();
    let mut writers = Node::start("writers.mjs", &[&server.url, &server.token]);
    let (mut saved, mut compared) = (0, 0);
    let mut place = Value::Null;
    for round in 0..rounds {
        if round % ROUNDS_TO_PROJECT == 0 {
            place = texts(&server);
            row.tell(format_args!("{round} kills, {saved} acknowledged"));
        }
        place["number"] = json!(round);
        place["seed"] = json!(row.random.u32(..));
        writers.call("begin", place.clone());
        // Some die while clients come, most under load.
        pause(Duration::from_millis(row.random.u64(..120)));
        server.kill9();
        let said = writers.call("stop", json!({}));
        assert_eq!(said["wrong"], json!([]), "round {round}");
        saved += said["saved"].as_u64().unwrap();
        compared += said["compared"].as_u64().unwrap();
        if row.random.u8(..5) == 0 {
            server.start_and_kill9(Duration::from_millis(row.random.u64(..40)));
        }
        server.restart();
    }
    let said = writers.call("compareAll", json!({}));
    assert_eq!(said["wrong"], json!([]));
    assert_eq!(said["unread"], 0, "files that nobody could read");
    server.terminate().expect_code(0);
    server.check().expect_code(0);
    let kills = rounds as u64;
    assert!(
        saved > kills && compared > kills,
        "too little happened: {saved} acknowledged, {compared} compared"
    );
    row.held(format_args!(
        "{kills} kills, {saved} acknowledged updates and files, {compared} times a document was compared, 0 lost"
    ));
}

/// Makes a project with empty texts, for the writers.
fn texts(server: &Server) -> Value {
    let project = server.project();
    let names = (0..TEXTS).map(|number| {
        let path = format!("{number}.txt");
        project.put(&path, "");
        project.document(&path)
    });
    let names: Vec<_> = names.collect();
    json!({"project": project.id, "names": names, "writers": WRITERS})
}
