//! The server is killed with -9 in the middle, and started again.

use std::fs::OpenOptions;

use anyhow::ensure;
use serde_json::{Value, json};
use uspark_tests::{Node, Running, SOON, Server, Workspace, eventually, same};

fn words(who: &str, count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("<{who}{number}>"))
        .collect()
}

#[test]
fn everything_acknowledged_survives_kill_9() {
    let mut server = Server::start();
    let project = server.project();
    project.put("a.txt", "typed: ");
    let document = project.document("a.txt");
    let mut saved = String::new();
    for round in 0..5 {
        // Saved by two protocols' own words: an echo of one's update, and SyncStatus.
        let (mut client, mut collab) = (Node::client(&project), Node::collab(&project));
        for (editor, who) in [(&mut client, "y"), (&mut collab, "h")] {
            editor.call("open", json!({"document": document}));
            let words = words(&format!("{who}{round}-"), 20);
            editor.call(
                "type",
                json!({"document": document, "after": "typed: ", "words": words, "pause": 0}),
            );
            editor.call("waitSaved", json!({"document": document}));
            saved.extend(words);
        }
        let put = format!("round-{round}.bin");
        project.put(&put, [0, round]);
        // The editors are gone before the server is back: nobody gives it again what it lost.
        drop((client, collab));
        server.kill9();
        server.restart();

        let text = project.text("a.txt").unwrap();
        for word in saved.split_inclusive('>') {
            assert_eq!(text.matches(word).count(), 1, "{word} in {text}");
        }
        assert_eq!(project.read(&put).unwrap(), [0, round]);
    }
}

#[test]
fn clients_and_the_agent_go_on_by_themselves() {
    const WORDS: usize = 150;
    let mut server = Server::start();
    let project = server.project();
    project.put("a.txt", "anna:\nbert:\nagent:\n");
    let workspace = Workspace::new(&project);
    let mut agent = workspace.start(&["watch", "--project-id", &project.id]);
    eventually(SOON, || workspace.equals(&project));

    let document = project.document("a.txt");
    let (mut anna, mut bert) = (Node::client(&project), Node::collab(&project));
    for client in [&mut anna, &mut bert] {
        client.call("open", json!({"document": document}));
    }
    let annas = anna.ask(
        "type",
        json!({"document": document, "after": "anna:", "words": words("a", WORDS), "pause": 20}),
    );
    let berts = bert.ask(
        "type",
        json!({"document": document, "after": "bert:", "words": words("b", WORDS), "pause": 20}),
    );
    // While they type, the server dies twice, each time when the latest word has reached the disk.
    for round in 0..2 {
        eventually(SOON, || {
            let disk = workspace.text("a.txt")?;
            ensure!(disk.contains(&format!("<a{}>", 20 + 40 * round)), "{disk}");
            Ok(())
        });
        server.kill9();
        workspace.write(
            &format!("while-away-{round}.txt"),
            "written while the server was away\n",
        );
        server.restart();
    }
    anna.answer(annas);
    bert.answer(berts);
    workspace.write("after.txt", "written when it was back\n");

    let all: Vec<String> = words("a", WORDS)
        .into_iter()
        .chain(words("b", WORDS))
        .collect();
    for client in [&mut anna, &mut bert] {
        client.call("waitText", json!({"document": document, "contains": all}));
    }
    let text = anna.call("text", json!({"document": document}));
    let text = text.as_str().unwrap();
    for word in &all {
        assert_eq!(text.matches(word.as_str()).count(), 1, "{word} in {text}");
    }
    bert.call("waitText", json!({"document": document, "equals": text}));
    eventually(SOON, || same(workspace.text("a.txt")?, text));
    eventually(SOON, || workspace.equals(&project));
    let manifest = project.manifest().unwrap();
    for path in ["while-away-0.txt", "while-away-1.txt", "after.txt"] {
        assert!(manifest[path] != Value::Null, "{path} is not in {manifest}");
    }
    assert!(agent.is_running(), "{}", agent.stderr());
    agent.terminate().expect_code(0);
}

#[test]
fn a_command_is_never_stopped_by_a_server_that_is_away() {
    let mut server = Server::start();
    let project = server.project();
    project.put("a.txt", "text\n");
    let workspace = Workspace::new(&project);
    // The command reads the pipe to its end before it goes on.
    let (pipe, done) = (workspace.home().join("pipe"), workspace.home().join("done"));
    Running::start(&mut workspace.bash("mkfifo $HOME/pipe"))
        .wait()
        .expect_code(0);
    let script = "echo new > b.txt; cat $HOME/pipe; echo more > c.txt; touch $HOME/done";
    let run = workspace.start(&[
        "run",
        "--project-id",
        &project.id,
        "--",
        "bash",
        "-c",
        script,
    ]);
    eventually(SOON, || same(project.text("b.txt")?, "new\n"));

    server.kill9();
    OpenOptions::new().write(true).open(&pipe).unwrap();
    // The command ends while nobody answers; its last files arrive when somebody does.
    eventually(SOON, || {
        ensure!(done.exists(), "the command waits");
        Ok(())
    });
    server.restart();
    run.wait().expect_code(0);
    assert_eq!(project.text("c.txt").unwrap(), "more\n");
    workspace.equals(&project).unwrap();
}

#[test]
fn what_claude_says_while_the_server_is_away_is_published_when_it_is_back() {
    let mut server = Server::start();
    let project = server.project();
    let workspace = Workspace::new(&project);
    let (pipe, done) = (workspace.home().join("pipe"), workspace.home().join("done"));
    Running::start(&mut workspace.bash("mkfifo $HOME/pipe"))
        .wait()
        .expect_code(0);
    let script = "says() { for line in $(seq $1 $2); do echo line $line; done; }; \
                  (says 1 100; cat $HOME/pipe; says 101 200; touch $HOME/done) \
                  | uspark watch-claude --stream-output --project-id";
    let running = Running::start(&mut workspace.bash(&format!("{script} {}", project.id)));
    let published = |lines: usize| {
        let expected: Vec<_> = (1..=lines).map(|line| format!("line {line}")).collect();
        same(project.lines(), expected)
    };
    eventually(SOON, || published(100));
    server.kill9();
    OpenOptions::new().write(true).open(&pipe).unwrap();
    eventually(SOON, || {
        ensure!(done.exists(), "Claude waits for a server");
        Ok(())
    });
    server.restart();
    running.wait().expect_code(0);
    published(200).unwrap();
    // The spool is empty, and the directory is the agent's own.
    let spooled = workspace.root().join(".uspark/lines").join(&project.id);
    assert_eq!(std::fs::read_dir(spooled).unwrap().count(), 0);
    workspace.equals(&project).unwrap();
}

/// Ends the server, has `uspark` begin, and starts the server again when it says that it is away.
#[track_caller]
fn began_without(server: &mut Server, workspace: &Workspace, arguments: &[&str]) -> Running {
    server.terminate().expect_code(0);
    let running = workspace.start(arguments);
    eventually(SOON, || {
        ensure!(
            running.stderr().contains("the server is away"),
            "{}",
            running.stderr()
        );
        Ok(())
    });
    server.restart();
    running
}

#[test]
fn commands_wait_for_a_server_that_is_starting_again() {
    let mut server = Server::start();
    let project = server.project();
    project.put("a.txt", "text\n");
    let workspace = Workspace::new(&project).env("PROJECT_ID", &project.id);
    let run = ["run", "--", "test", "-e", "a.txt"];
    // Nothing is known here yet: the command has nothing to run on before the first pull.
    began_without(&mut server, &workspace, &run)
        .wait()
        .expect_code(0);
    project.put("b.txt", "more\n");
    workspace.write("c.txt", "mine\n");
    for arguments in [["pull"], ["push"]] {
        began_without(&mut server, &workspace, &arguments)
            .wait()
            .expect_code(0);
    }
    workspace.equals(&project).unwrap();
}

#[test]
fn a_known_workspace_is_worked_on_while_the_server_is_away() {
    let mut server = Server::start();
    let project = server.project();
    project.put("a.txt", "text\n");
    let workspace = Workspace::new(&project).env("PROJECT_ID", &project.id);
    workspace.run(&["pull"]).expect_code(0);
    server.terminate().expect_code(0);
    let ended = workspace
        .run(&[
            "run",
            "--sync-timeout",
            "1",
            "--",
            "sh",
            "-c",
            "echo more >> a.txt; echo new > b.txt",
        ])
        .expect_code(1);
    for said in [
        "the command runs on what is here",
        "the server is away",
        "kept in .uspark",
    ] {
        assert!(ended.stderr.contains(said), "{said}: {ended}");
    }
    server.restart();
    workspace.run(&["push"]).expect_code(0);
    assert_eq!(project.text("a.txt").unwrap(), "text\nmore\n");
    workspace.equals(&project).unwrap();

    // Beside an agent that is at work already too.
    let agent = workspace.start(&["watch"]);
    workspace.run(&["status", "--wait"]).expect_code(0);
    server.terminate().expect_code(0);
    let ended = workspace
        .run(&["run", "--sync-timeout", "1", "--", "touch", "c.txt"])
        .expect_code(1);
    let said = "the command runs on what is here";
    assert!(ended.stderr.contains(said), "{ended}");
    assert!(workspace.path("c.txt").exists());
    server.restart();
    workspace.run(&["status", "--wait"]).expect_code(0);
    workspace.equals(&project).unwrap();
    agent.terminate().expect_code(0);

    // Its own code is still the command's.
    server.terminate().expect_code(0);
    workspace
        .run(&["run", "--sync-timeout", "0", "--", "sh", "-c", "exit 7"])
        .expect_code(7);
}
