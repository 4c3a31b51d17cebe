//! What the commands say of deletions that the agent holds.

use crate::sandbox::{DEADLINE, Sandbox, end, expect_stdout};

const HELD: [&str; 2] = ["src/a.js", "src/b.js"];
const HINT: &str = "hint: bring the files back; or, if it is meant, let the deletions pass: \
    `uspark push --allow-mass-delete`";

#[tokio::test]
async fn status_names_what_is_held_and_how_to_let_it_pass() {
    let sandbox = Sandbox::with_agent();
    sandbox.agent.set_held(&HELD);
    let status = sandbox.uspark(&["status"]).await;
    for line in [
        "held       2 deletions; if that is meant: `uspark push --allow-mass-delete`",
        "left       src/a.js: the test says so",
        "left       src/b.js",
    ] {
        assert!(status.text().contains(line), "{}", status.text());
    }
    for (here, hint) in [
        (
            1,
            "push --allow-mass-delete` and `uspark pull --allow-mass-delete`",
        ),
        (2, "meant: `uspark pull --allow-mass-delete`"),
    ] {
        sandbox.agent.set_held_here(here);
        let status = sandbox.uspark(&["status"]).await;
        assert!(status.text().contains(hint), "{}", status.text());
    }
    let json = sandbox.uspark(&["status", "--json"]).await.json();
    assert_eq!(json["agent"]["report"]["held"], 2);
    assert_eq!(json["agent"]["report"]["pending"][1]["path"], "src/b.js");
}

#[tokio::test]
async fn whoever_ends_with_deletions_held_fails_and_names_them() {
    let sandbox = Sandbox::with_agent();
    let commands: [&[&str]; 3] = [
        &["push", "--project-id", "p"],
        &["watch-claude", "--project-id", "p"],
        &[
            "run",
            "--project-id",
            "p",
            "--",
            "sh",
            "-c",
            "echo go; read -r line",
        ],
    ];
    for command in commands {
        sandbox.agent.set_held(&[]);
        let mut child = sandbox.command(command).spawn().unwrap();
        if command[0] == "run" {
            expect_stdout(&mut child, "go\n").await;
        }
        sandbox.agent.set_held(&HELD);
        let ended = end(child, b"done\n").await;
        ended.assert_failed(1, "src/b.js: the test says so");
        assert!(ended.stderr.contains(HINT), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn the_flag_reaches_the_agent_at_work() {
    for (command, passes) in [
        ("push", "PassesThere"),
        ("pull", "PassesHere"),
        ("watch-claude", "Passes"),
    ] {
        let sandbox = Sandbox::with_agent();
        let line = [command, "--project-id", "p", "--allow-mass-delete"];
        let ended = tokio::time::timeout(DEADLINE, sandbox.uspark(&line)).await;
        assert_eq!(ended.unwrap().code, 0);
        let told = sandbox.agent.told();
        assert!(!told.is_empty());
        let wanted = format!("barrier, deletions: {passes}");
        assert!(told.iter().all(|told| *told == wanted), "{told:?}");
    }
}
