//! What a person at a terminal does with `uspark`, and what it says.

use serde_json::Value;
use uspark_tests::{Running, Server, Workspace};

#[test]
fn a_pull_says_what_is_not_pushed_and_a_push_what_is_not_pulled() {
    let server = Server::start();
    let project = server.project();
    project.put("a", "a\n");
    project.put("b", "b\n");
    let workspace = Workspace::new(&project).env("PROJECT_ID", &project.id);
    let said = |arguments: &[&str]| workspace.run(arguments).expect_code(0).text();
    assert!(said(&["pull"]).ends_with("Successfully pulled 2 files\n"));
    assert_eq!(said(&["pull"]), "All files are up to date\n");

    workspace.write("new", "new\n");
    workspace.write("a", "changed\n");
    std::fs::remove_file(workspace.path("b")).unwrap();
    let here = "No changes to pull\n3 files differ here and are not pushed: uspark push\n";
    assert_eq!(said(&["pull"]), here);
    let json: Value = serde_json::from_str(&said(&["pull", "--json"])).unwrap();
    let report = &json["report"];
    assert_eq!(
        (&report["done"], &report["equal"]),
        (&true.into(), &false.into())
    );
    let names: Vec<_> = (0..3)
        .map(|n| report["notPushed"][n]["path"].clone())
        .collect();
    assert_eq!(names, ["a", "b", "new"]);

    said(&["push"]);
    project.put("there", "there\n");
    let there = "No changes to push\n1 file differs on the server and is not pulled: uspark pull\n";
    assert_eq!(said(&["push"]), there);
    said(&["pull"]);
    assert_eq!(
        said(&["push"]),
        "No changes to push (all files are up to date)\n"
    );
}

#[test]
fn a_name_that_names_nothing_fails_and_the_others_are_transferred() {
    let server = Server::start();
    let project = server.project();
    project.put("a", "a\n");
    let workspace = Workspace::new(&project).env("PROJECT_ID", &project.id);
    workspace.write("b", "b\n");
    for (command, other) in [("pull", "a"), ("push", "b")] {
        for arguments in [&[command, "nosuch"][..], &[command, other, "nosuch"]] {
            let ended = workspace.run(arguments).expect_code(1);
            let message = "there is no `nosuch` here or in the project";
            assert!(ended.stderr.contains(message), "{ended}");
            assert!(!ended.text().contains("up to date"), "{ended}");
        }
    }
    workspace.equals(&project).unwrap();
    // To take away what is gone there is no mistake.
    std::fs::remove_file(workspace.path("a")).unwrap();
    workspace.run(&["push", "a"]).expect_code(0);
}

#[test]
fn status_waits_for_the_agent_that_was_started_just_before() {
    let server = Server::start();
    let project = server.project();
    project.put("a", "a\n");
    let workspace = Workspace::new(&project).env("PROJECT_ID", &project.id);
    let script = "uspark watch & uspark status --wait && cat a && kill $! && wait";
    let ended = Running::start(&mut workspace.bash(script)).wait();
    assert!(ended.text().ends_with("a\n"), "{ended}");
}
