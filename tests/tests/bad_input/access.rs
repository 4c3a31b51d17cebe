//! Who may not, and what there is not.

use serde_json::json;
use uspark_tests::{Curl, Node, Project, Server, Workspace};

use crate::{Bystander, assert_hint};

#[test]
fn a_wrong_or_missing_token() {
    let server = Server::start();
    let project = server.project();
    let mut bystander = Bystander::new(&project);
    let wrong = format!("{}x", &server.token[..server.token.len() - 1]);
    for token in [wrong.as_str(), "nonsense", ""] {
        let mine = Project {
            id: project.id.clone(),
            url: server.url.clone(),
            token: token.to_owned(),
        };
        mine.curl("").problem(401);

        let mut client = Node::client(&mine);
        client.call("open", json!({"document": project.id, "synced": false}));
        let closed = client.call("waitClosed", json!({"document": project.id}));
        assert_eq!(closed["code"], 4401, "{closed}");
        assert_ne!(closed["reason"], "", "{closed}");

        let mut collab = Node::collab(&mine);
        collab.call("open", json!({"document": project.id, "synced": false}));
        let closed = collab.call("waitClosed", json!({"document": project.id}));
        assert_ne!(closed["reason"], "", "{closed}");

        assert_hint(
            Workspace::new(&mine)
                .run(&["pull", "--project-id", &project.id])
                .expect_code(1),
            "token",
        );
    }

    Curl::without_token(format!("{}/api/projects/{}", server.url, project.id)).problem(401);
    let mut client = Node::start("client.mjs", &[&server.url]);
    client.call("open", json!({"document": project.id, "synced": false}));
    assert_eq!(
        client.call("waitClosed", json!({"document": project.id}))["code"],
        4401
    );
    assert_hint(
        Workspace::without_token(&server.url).run(&["pull", "--project-id", &project.id]),
        "token",
    );
    bystander.assert_unharmed();
}

#[test]
fn an_unknown_project() {
    let server = Server::start();
    let known = server.project();
    let mut bystander = Bystander::new(&known);
    let unknown = Project {
        id: "no-such-project".to_owned(),
        url: server.url.clone(),
        token: server.token.clone(),
    };
    unknown.curl("").problem(404);

    let mut client = Node::client(&unknown);
    let (mut collab, no_text) = (Node::collab(&unknown), format!("{}/no-such-text", known.id));
    for document in [&unknown.id, &no_text] {
        client.call("open", json!({"document": document, "synced": false}));
        let closed = client.call("waitClosed", json!({"document": document}));
        assert_eq!(closed["code"], 4404, "{closed}");
        collab.call("open", json!({"document": document, "synced": false}));
        let closed = collab.call("waitClosed", json!({"document": document}));
        assert_ne!(closed["reason"], "", "{closed}");
    }
    // The same socket carries on with what there is.
    collab.call("open", json!({"document": known.id}));

    for command in ["pull", "push", "watch"] {
        let ended = Workspace::new(&unknown).run(&[command, "--project-id", &unknown.id]);
        assert_hint(ended.expect_code(1), &unknown.id);
    }
    bystander.assert_unharmed();
}

#[test]
fn a_command_line_that_makes_no_sense() {
    let server = Server::start();
    let project = server.project();
    let workspace = Workspace::new(&project);
    for args in [
        &["pull", "--no-such-flag"][..],
        &["no-such-command"],
        &["pull"],
        &["pull", "--project-id", "../up"],
    ] {
        let ended = workspace.run(args).expect_code(2);
        assert!(
            !ended.stderr.is_empty() && ended.stdout.is_empty(),
            "{ended}"
        );
    }
}

#[test]
fn a_server_that_is_not_there() {
    let mut server = Server::start();
    let project = server.project();
    server.kill9();
    let workspace = Workspace::new(&project);
    assert_hint(
        workspace
            .run(&["pull", "--project-id", &project.id, "--sync-timeout", "1"])
            .expect_code(1),
        &server.url,
    );
}
