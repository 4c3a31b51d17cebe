//! Paths that lead elsewhere: with `..`, absolute, with NUL, into what is never synced, through a link.

use std::fs;

use anyhow::ensure;
use serde_json::json;
use uspark_tests::{Node, SOON, Server, Workspace, eventually};

use crate::{Bystander, assert_hint};

#[test]
fn a_path_that_leads_elsewhere_by_http() {
    let server = Server::start();
    let project = server.project();
    let mut bystander = Bystander::new(&project);
    for path in [
        "../up",
        "%2e%2e/up",
        "a/../../up",
        "%2Fetc/passwd",
        "/etc/passwd",
        "a%00b",
        "a//b",
        ".git/config",
        "a/.GIT/x",
        "%FF",
    ] {
        let file = format!("/files/{path}");
        for curl in [
            project.curl(&file).method("PUT").body("x"),
            project.curl(&file),
            project.curl(&file).method("DELETE"),
        ] {
            let reply = curl.send();
            assert!(
                [400, 404].contains(&reply.status),
                "{path}: {}",
                reply.status
            );
            let status = reply.status;
            reply.problem(status);
        }
    }
    let manifest = project.manifest().unwrap();
    assert_eq!(
        manifest.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["bystander.txt"]
    );
    bystander.assert_unharmed();
}

#[test]
fn a_path_that_leads_elsewhere_in_the_manifest() {
    let server = Server::start();
    let project = server.project();
    project.put("text.txt", "stays inside\n");
    let workspace = Workspace::new(&project);
    fs::create_dir(workspace.outside().join("elsewhere")).unwrap();
    let mut agent = workspace.start(&["watch", "--project-id", &project.id]);
    eventually(SOON, || workspace.equals(&project));

    let mut client = Node::client(&project);
    client.call("open", json!({"document": project.id}));
    let text = client.call("files", json!({"document": project.id}))["text.txt"].take();
    let bad = [
        "../up.txt",
        "/tmp/uspark-up.txt",
        "a/../../up.txt",
        "a\0b",
        ".git/hooks/post-commit",
        "sub/.Git/config",
        ".uspark/x",
    ];
    for path in bad {
        client.call(
            "setFile",
            json!({"document": project.id, "path": path, "value": text}),
        );
    }
    // A path that leads elsewhere by a link that lies on disk.
    let link = workspace.outside().join("elsewhere").display().to_string();
    client.call(
        "setFile",
        json!({"document": project.id, "path": "link", "value": {"link": link}}),
    );
    client.call(
        "setFile",
        json!({"document": project.id, "path": "link/up.txt", "value": text}),
    );
    client.call(
        "setFile",
        json!({"document": project.id, "path": "last.txt", "value": text}),
    );

    for path in bad {
        client.call(
            "waitFile",
            json!({"document": project.id, "path": path, "gone": true}),
        );
    }
    eventually(SOON, || {
        ensure!(workspace.tree()?.contains_key("last.txt"), "not yet");
        Ok(())
    });
    assert!(agent.is_running(), "{}", agent.stderr());
    let names = |directory: &str| -> Vec<_> {
        let entries = fs::read_dir(workspace.outside().join(directory)).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(""), ["elsewhere", "home", "work"]);
    assert!(names("elsewhere").is_empty(), "{:?}", names("elsewhere"));
    assert!(!workspace.path(".git").exists());
}

#[test]
fn a_path_that_leads_elsewhere_on_the_command_line() {
    let server = Server::start();
    let project = server.project();
    let workspace = Workspace::new(&project);
    workspace.write("../outside.txt", "not of this project\n");
    for command in ["pull", "push"] {
        for path in ["../outside.txt", "/etc/hostname", ".git/config"] {
            assert_hint(
                workspace.run(&[command, "--project-id", &project.id, path]),
                path,
            );
        }
    }
    assert_eq!(project.manifest().unwrap(), json!({}));
}
