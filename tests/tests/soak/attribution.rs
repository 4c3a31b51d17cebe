//! Every change that the real Claude Code makes names its tool call on the server; what others do meanwhile names none.

use std::fs;

use anyhow::ensure;
use serde_json::json;
use uspark_tests::{
    Change, Model, Row, Running, SOON, Server, Turn, Workspace, call_id, changes, eventually,
};

use crate::watched::{LONG, barrier};

/// What Bash does without a word: an edit, a new file, a delete and a rename.
const BASH: &str =
    "echo more >> edited.txt && echo new > made.txt && rm old.txt && mv kept.txt moved.txt";
/// What is there before.
const FILES: [&str; 7] = [
    "read.js",
    "edited.txt",
    "old.txt",
    "kept.txt",
    "shelled.txt",
    "typed.txt",
    "going.txt",
];
/// The turns of a round.
const TURNS: usize = 6;

/// What happens to a path, and the call that does it with its tool.
type Made = (String, &'static str, Option<(String, &'static str)>);

/// Where the server is while Claude Code works.
#[derive(PartialEq)]
enum TheServer {
    IsUp,
    IsAway,
}

/// A round's turns, in a directory of its own. The first waits for the server to go, the last for what somebody else does.
fn turns(workspace: &Workspace, round: usize) -> Vec<Turn> {
    let path = |name: &str| {
        workspace
            .path(&format!("r{round}/{name}"))
            .display()
            .to_string()
    };
    let write = |name: &str| {
        Turn::tool(
            "Write",
            json!({"file_path": path(name), "content": "one\n"}),
        )
    };
    let bash = |script: &str| {
        let command = format!(
            "cd {} && {script}",
            workspace.path(&format!("r{round}")).display()
        );
        Turn::tool("Bash", json!({"command": command}))
    };
    let read = |name: &str| Turn::tool("Read", json!({"file_path": path(name)}));
    let edit = json!({"file_path": path("read.js"), "old_string": "read", "new_string": "edited"});
    let by_agent = vec![
        write("by-agent.txt"),
        bash("echo more >> shelled.txt"),
        Turn::say("my part is done"),
    ];
    vec![
        write("written.js").held(),
        read("read.js"),
        Turn::tool("Edit", edit),
        bash(BASH),
        Turn::agent(&format!("do part {round} of it."), by_agent),
        read("typed.txt").held(),
    ]
}

/// What a round changes.
fn expected(round: usize) -> Vec<Made> {
    let first = round * TURNS;
    let by = |turn: usize, tool| Some((call_id(None, first + turn), tool));
    let by_agent = |turn, tool| Some((call_id(Some(first + 4), turn), tool));
    let changes = [
        ("written.js", "add", by(0, "Write")),
        ("read.js", "edit", by(2, "Edit")),
        ("edited.txt", "edit", by(3, "Bash")),
        ("made.txt", "add", by(3, "Bash")),
        ("old.txt", "delete", by(3, "Bash")),
        ("kept.txt", "delete", by(3, "Bash")),
        ("moved.txt", "add", by(3, "Bash")),
        ("by-agent.txt", "add", by_agent(0, "Write")),
        ("shelled.txt", "edit", by_agent(1, "Bash")),
        ("typed.txt", "edit", None),
        ("new.txt", "add", None),
        ("going.txt", "delete", None),
    ];
    changes
        .map(|(name, action, by)| (format!("r{round}/{name}"), action, by))
        .into()
}

#[test]
fn each_change_names_its_tool_call_or_none() {
    let row = Row::begin("attribution, the real Claude Code");
    attributed(row, &TheServer::IsUp);
}

#[test]
fn so_does_what_is_made_while_the_server_is_away() {
    let row = Row::begin("attribution, the real Claude Code, server away");
    attributed(row, &TheServer::IsAway);
}

fn attributed(row: Row, the_server: &TheServer) {
    let rounds = row.count(10, 1);
    let mut server = Server::start();
    let project = server.project();
    for round in 0..rounds {
        for name in FILES {
            // No two have the same bytes: a rename is one by more than those.
            project.put(&format!("r{round}/{name}"), format!("{name} {round}\n"));
        }
    }
    let workspace = Workspace::new(&project);
    let model = Model::start(
        (0..rounds)
            .flat_map(|round| turns(&workspace, round))
            .collect(),
    );
    let workspace = model.asked_by(workspace);
    let run = workspace.start(&["run", "--project-id", &project.id, "--prompt", "do it"]);
    for round in 0..rounds {
        model.wait_asked(round * TURNS + 1);
        if *the_server == TheServer::IsAway {
            server.kill9();
        }
        model.go_on();
        model.wait_asked((round + 1) * TURNS);
        if *the_server == TheServer::IsAway {
            server.restart();
        }
        somebody_else(&workspace, &run, round);
        model.go_on();
    }
    run.wait_within(LONG).expect_code(0);
    let results = model.tool_results();
    assert!(
        results.iter().all(|(_, failed)| !failed) && results.len() == rounds * TURNS,
        "{results:?}"
    );
    workspace.equals(&project).expect("all is equal in the end");

    // What the tests put there before names no run.
    let changes: Vec<Change> = changes(&server, &project)
        .into_iter()
        .filter(|change| change.run.is_some())
        .collect();
    assert!(
        changes.iter().all(|change| change.run == changes[0].run),
        "two runs: {changes:?}"
    );
    let mut found: Vec<_> = changes
        .iter()
        .map(|change| {
            let by = change.tool_use_id.clone().zip(change.tool.as_deref());
            (change.path.clone(), change.action.as_str(), by)
        })
        .collect();
    let mut expected: Vec<_> = (0..rounds).flat_map(expected).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    for round in 0..rounds {
        let doc_at = |name: &str| {
            let path = format!("r{round}/{name}");
            let change = changes.iter().find(|change| change.path == path);
            change
                .and_then(|change| change.doc.clone())
                .expect("it is a text")
        };
        assert_eq!(
            doc_at("moved.txt"),
            doc_at("kept.txt"),
            "the rename kept the document"
        );
    }
    row.held(format!(
        "{} changes, each by its call or by none",
        found.len()
    ));
}

/// Changes files outside of any tool call: the agent knows that the last one is over.
fn somebody_else(workspace: &Workspace, run: &Running, round: usize) {
    let last = format!("\"tool_use_id\":\"{}\"", call_id(None, round * TURNS + 4));
    eventually(SOON, || {
        ensure!(
            run.stdout().contains(&last),
            "the stream has no result {last}"
        );
        Ok(())
    });
    barrier(workspace);
    workspace.edit(&format!("r{round}/typed.txt"), "typed", "TYPED");
    workspace.write(&format!("r{round}/new.txt"), "new\n");
    fs::remove_file(workspace.path(&format!("r{round}/going.txt"))).expect("it was there");
    barrier(workspace);
}
