//! A server that is started on a backup, which is older than what its clients and its agents hold.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that fails may panic, and works on the disk as a user does"
)]

use std::fs;

use anyhow::ensure;
use serde_json::json;
use uspark_tests::{Node, Project, SOON, Server, Workspace, eventually, same};

/// Whether the agent watches while the server is restored.
#[derive(Clone, Copy, PartialEq)]
enum Agent {
    Watches,
    ComesLater,
}

/// Types a word behind what stands in a document, and waits until it is saved.
fn typed(client: &mut Node, document: &str, after: &str, word: &str) {
    let typing = json!({"document": document, "after": after, "words": [word]});
    client.call("type", typing);
    client.call("waitSaved", json!({"document": document}));
}

fn open(client: &mut Node, project: &Project, path: &str) -> String {
    let document = project.document(path);
    client.call("open", json!({"document": document}));
    document
}

fn everything_comes_back(agent: Agent) {
    let mut server = Server::start();
    let project = server.project();
    for name in ["typed", "worked", "moved", "gone"] {
        project.put(&format!("{name}.txt"), format!("{name}: \n"));
    }
    let workspace = Workspace::new(&project);
    let watch = ["watch", "--project-id", &project.id];
    let mut running = workspace.start(&watch);
    eventually(SOON, || workspace.equals(&project));
    let (mut anna, mut bert) = (Node::client(&project), Node::collab(&project));
    let known = open(&mut anna, &project, "typed.txt");
    bert.call("open", json!({"document": known}));
    typed(&mut anna, &known, "typed: ", "<before>");
    let backup = server.backup();

    // Edits of what the backup has, by everybody.
    typed(&mut anna, &known, "typed: ", "<anna>");
    typed(&mut bert, &known, "typed: ", "<bert>");
    workspace.edit("worked.txt", "worked: ", "worked: by the agent");
    fs::create_dir(workspace.path("deep")).unwrap();
    fs::rename(
        workspace.path("moved.txt"),
        workspace.path("deep/moved.txt"),
    )
    .unwrap();
    fs::remove_file(workspace.path("gone.txt")).unwrap();
    // Files that it has not: small and large, text and binary, from both sides.
    workspace.write("new.txt", "new: \n");
    workspace.write("large.txt", "a line of a large text\n".repeat(10_000));
    workspace.write("new.bin", [0_u8, 1, 2]);
    workspace.write("large.bin", vec![0_u8; 300_000]);
    project.put("http.txt", "http: \n");
    project.put("http.bin", [0_u8, 9]);
    workspace.write("empty.txt", "");
    eventually(SOON, || workspace.equals(&project));
    let mut newer = Vec::new();
    for name in ["new", "http"] {
        let document = open(&mut anna, &project, &format!("{name}.txt"));
        typed(&mut anna, &document, &format!("{name}: "), "<typed>");
        newer.push(document);
    }
    eventually(SOON, || workspace.equals(&project));
    let (tree, disk) = (project.tree().unwrap(), workspace.tree().unwrap());
    assert!(tree.len() == 10 && tree == disk);

    if agent == Agent::ComesLater {
        running.kill9();
        server.kill9();
        server.restore(backup);
        running = workspace.start(&watch);
    } else {
        server.kill9();
        server.restore(backup);
    }
    eventually(SOON, || {
        workspace.equals(&project)?;
        ensure!(project.tree()? == tree, "{}", project.manifest()?);
        Ok(())
    });
    assert!(workspace.tree().unwrap() == disk);
    for (document, path) in
        [&known, &newer[0], &newer[1]]
            .into_iter()
            .zip(["typed.txt", "new.txt", "http.txt"])
    {
        let text = project.text(path).unwrap();
        anna.call("waitText", json!({"document": document, "equals": text}));
    }
    // And everybody goes on.
    typed(&mut anna, &newer[0], "new: ", "<after>");
    typed(&mut bert, &known, "typed: ", "<after>");
    workspace.write("after.bin", [0_u8, 3]);
    eventually(SOON, || {
        let text = workspace.text("new.txt")? + &workspace.text("typed.txt")?;
        ensure!(text.matches("<after>").count() == 2, "{text}");
        same(project.read("after.bin")?, [0_u8, 3])?;
        workspace.equals(&project)
    });
    assert!(running.is_running(), "{}", running.stderr());
    running.terminate().expect_code(0);
}

#[test]
fn what_clients_and_a_watching_agent_hold_comes_back() {
    everything_comes_back(Agent::Watches);
}

#[test]
fn what_an_agent_held_that_comes_later_comes_back() {
    everything_comes_back(Agent::ComesLater);
}

/// What is typed before, while and after the server is restored is there once, for everybody.
#[test]
fn who_types_while_the_server_is_restored_loses_nothing() {
    let words = |who: &str| (0..100).map(|n| format!("<{who}{n}>")).collect::<Vec<_>>();
    let mut server = Server::start();
    let project = server.project();
    project.put("a.txt", "anna:\nbert:\n");
    let workspace = Workspace::new(&project);
    let agent = workspace.start(&["watch", "--project-id", &project.id]);
    eventually(SOON, || workspace.equals(&project));
    let (mut anna, mut bert) = (Node::client(&project), Node::collab(&project));
    let document = open(&mut anna, &project, "a.txt");
    bert.call("open", json!({"document": document}));
    let typing = |client: &mut Node, who: &str| {
        let after = format!("{who}:");
        let words = words(&who[..1]);
        let typing = json!({"document": document, "after": after, "words": words, "pause": 20});
        client.ask("type", typing)
    };
    let typings = [typing(&mut anna, "anna"), typing(&mut bert, "bert")];
    let reached = |word: &str| {
        eventually(SOON, || {
            let text = workspace.text("a.txt")?;
            ensure!(text.contains(word), "no {word} in {text}");
            Ok(())
        });
    };
    reached("<a10>");
    let backup = server.backup();
    reached("<a30>");
    workspace.write("new.bin", [0_u8, 1]);
    eventually(SOON, || same(project.read("new.bin")?, [0_u8, 1]));
    server.kill9();
    server.restore(backup);
    for (client, typing) in [&mut anna, &mut bert].into_iter().zip(typings) {
        client.answer(typing);
        client.call("waitSaved", json!({"document": document}));
    }
    let all = [words("a"), words("b")].concat();
    eventually(SOON, || {
        let text = project.text("a.txt")?;
        for word in &all {
            same(text.matches(word).count(), 1)?;
        }
        same(project.read("new.bin")?, [0_u8, 1])?;
        workspace.equals(&project)
    });
    let text = project.text("a.txt").unwrap();
    for client in [&mut anna, &mut bert] {
        client.call("waitText", json!({"document": document, "equals": text}));
    }
    agent.terminate().expect_code(0);
}

/// Without any agent: nobody has the bytes that the text began with.
#[test]
fn a_text_that_only_an_editor_has_comes_back() {
    let mut server = Server::start();
    let project = server.project();
    let backup = server.backup();
    project.put("new.txt", "new: \n");
    let mut anna = Node::client(&project);
    anna.call("open", json!({"document": project.id}));
    let document = open(&mut anna, &project, "new.txt");
    typed(&mut anna, &document, "new: ", "<anna>");
    server.kill9();
    server.restore(backup);
    eventually(SOON, || same(project.text("new.txt")?, "new: <anna>\n"));
    typed(&mut anna, &document, "<anna>", "<after>");
    eventually(SOON, || {
        same(project.text("new.txt")?, "new: <anna><after>\n")
    });
}

#[test]
fn a_project_that_the_backup_has_not_is_made_again_and_its_agent_brings_it() {
    let mut server = Server::start();
    let backup = server.backup();
    let project = server.project();
    let workspace = Workspace::new(&project);
    let watch = ["watch", "--project-id", &project.id];
    let agent = workspace.start(&watch);
    workspace.write("a.txt", "one\n");
    workspace.write("b.bin", [0_u8, 1]);
    eventually(SOON, || workspace.equals(&project));
    workspace.write("a.txt", "one\ntwo\n");
    eventually(SOON, || same(project.text("a.txt")?, "one\ntwo\n"));
    server.kill9();
    server.restore(backup);
    // It says so, and ends.
    let ended = agent.wait().expect_code(1);
    assert!(ended.stderr.contains("no project here"), "{ended}");
    let again = json!({"id": project.id});
    server.curl("/api/projects").json(&again).expect(201);
    let agent = workspace.start(&watch);
    eventually(SOON, || {
        same(project.text("a.txt")?, "one\ntwo\n")?;
        same(project.read("b.bin")?, [0_u8, 1])?;
        workspace.equals(&project)
    });
    agent.terminate().expect_code(0);
}
