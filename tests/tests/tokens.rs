//! Tokens and the audit log, by the real curl and a real Yjs client.

use std::process::Command;

use anyhow::ensure;
use serde_json::json;
use uspark_tests::{Curl, Node, Project, SOON, Server, Workspace, eventually, from_hex, program};

/// Makes a token for a project; `expires_in` is in seconds.
fn token(server: &Server, project: &Project, access: &str, expires_in: u64) -> (String, String) {
    let request = json!({"project": project.id, "access": access, "expiresIn": expires_in});
    let made = server.curl("/api/tokens").json(&request).expect(201).json();
    let field = |name: &str| {
        made[name]
            .as_str()
            .unwrap_or_else(|| panic!("no {name} in {made}"))
            .to_owned()
    };
    (field("id"), field("token"))
}

#[test]
fn a_token_reaches_its_project_and_its_verbs_and_nothing_else() {
    let server = Server::start();
    let (mine, other) = (server.project(), server.project());
    mine.put("a.txt", "mine\n");
    other.put("a.txt", "other\n");
    let hash = other.store(b"secret of the other project");

    let (_, read) = token(&server, &mine, "read", 3600);
    let (_, write) = token(&server, &mine, "write", 3600);
    let with = |token: &str, path: &str| Curl::new(format!("{}{path}", server.url), token);
    let file = |project: &Project| format!("/api/projects/{}/files/a.txt", project.id);

    assert_eq!(with(&read, &file(&mine)).expect(200).text(), "mine\n");
    with(&read, &file(&mine))
        .method("PUT")
        .body("no")
        .problem(403);
    with(&write, &file(&mine))
        .method("PUT")
        .body("yes\n")
        .send();
    assert_eq!(mine.text("a.txt").unwrap(), "yes\n");

    // A project that is somebody else's answers as one that is not there.
    let strange = with(&write, &file(&other)).send();
    let absent = with(&write, "/api/projects/there-is-none/files/a.txt").send();
    assert_eq!(strange.status, absent.status);
    assert!([403, 404].contains(&strange.status), "{}", strange.text());

    // A hash alone opens nothing, and an entry that names it grants nothing.
    let blob = format!("/api/blobs/{hash}");
    with(&write, &blob).problem(404);
    let mut ydoc = Node::ydoc();
    let files = json!({"stolen": {"hash": hash, "size": 27, "mode": 0o644, "mtime": 1}});
    let update = from_hex(&ydoc.call("set", json!({"name": "mine", "files": files})));
    with(&write, &format!("/api/projects/{}", mine.id))
        .method("PATCH")
        .body(update)
        .expect(200);
    with(&write, &blob).problem(404);
    with(&write, &format!("/api/projects/{}/files/stolen", mine.id)).problem(404);

    with(&write, "/api/tokens")
        .json(&json!({"project": mine.id, "access": "read"}))
        .problem(403);
    with(&write, &format!("/api/projects/{}", mine.id))
        .method("DELETE")
        .problem(403);
    with(&write, "/api/audit").problem(403);
}

#[test]
fn a_revoked_token_is_out_and_its_sockets_are_closed() {
    let server = Server::start();
    let project = server.project();
    let (id, secret) = token(&server, &project, "write", 3600);
    let mine = Project {
        id: project.id.clone(),
        url: server.url.clone(),
        token: secret.clone(),
    };
    let mut client = Node::client(&mine);
    client.call("open", json!({"document": project.id}));

    let listed = server.curl("/api/tokens").expect(200).text();
    assert!(
        listed.contains(&id) && !listed.contains(&secret),
        "{listed}"
    );
    server
        .curl(&format!("/api/tokens/{id}"))
        .method("DELETE")
        .ok();

    let closed = client.call(
        "waitClosed",
        json!({"document": project.id, "timeout": 1000}),
    );
    assert_eq!(closed["code"], 4401, "{closed}");
    mine.curl("").problem(401);
}

#[test]
fn a_token_ends_with_its_time() {
    let server = Server::start();
    let project = server.project();
    let (_, secret) = token(&server, &project, "read", 1);
    let mine = Project {
        id: project.id.clone(),
        url: server.url.clone(),
        token: secret,
    };
    eventually(SOON, || {
        let status = mine.curl("").try_send()?.status;
        ensure!(status == 401, "{status}");
        Ok(())
    });
}

#[test]
fn the_audit_log_tells_who_did_what() {
    let server = Server::start();
    let project = server.project();
    let (id, _) = token(&server, &project, "read", 3600);
    server
        .curl(&format!("/api/tokens/{id}"))
        .method("DELETE")
        .send();
    let log = server.curl("/api/audit").expect(200).text();
    for named in [&project.id, &id] {
        assert!(log.contains(named.as_str()), "{named} in {log}");
    }
    assert!(!log.contains(&server.token), "the log holds a secret");
}

#[test]
fn an_agent_that_asks_too_often_waits_and_gets_done() {
    let mut command = Command::new(program("sync-server"));
    command.args(["--max-token-requests", "20"]);
    let server = Server::start_by(command);
    let project = server.project();
    let (_, write) = token(&server, &project, "write", 3600);
    let workspace = Workspace::without_token(&server.url)
        .env("USPARK_TOKEN", &write)
        .env("PROJECT_ID", &project.id);
    // More than twenty times ten, each a request at least.
    for number in 0..250u8 {
        workspace.write(&format!("{number}.bin"), [0, number]);
    }
    workspace.run(&["push"]).expect_code(0);
    let metrics = Curl::without_token(format!("{}/metrics", server.url));
    let metrics = metrics.ok().text();
    let is_refused = metrics.contains("uspark_refusals_total{code=\"429\"}");
    assert!(is_refused, "it never asked too often\n{metrics}");
    let files = project.manifest().unwrap();
    assert_eq!(files.as_object().map(serde_json::Map::len), Some(250));
}
