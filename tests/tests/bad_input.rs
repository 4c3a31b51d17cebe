//! Bad input: each gets one clear error where the user is looking, and nothing else is harmed.

use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    os::unix::fs::PermissionsExt,
};

use anyhow::ensure;
use serde_json::{Value, json};
use uspark_tests::{
    Curl, Ended, Node, Project, Running, SOON, Server, Workspace, as_ordinary_user, eventually,
    from_hex,
};

/// An editor of another document of the same project, who must not notice anything.
struct Bystander {
    client: Node,
    document: String,
}

impl Bystander {
    fn new(project: &Project) -> Self {
        project.put("bystander.txt", "text");
        let (mut client, document) = (Node::client(project), project.document("bystander.txt"));
        client.call("open", json!({"document": document}));
        Self { client, document }
    }

    /// Typing is still saved, over the same connection.
    #[track_caller]
    fn assert_unharmed(&mut self) {
        self.client.call(
            "insert",
            json!({"document": self.document, "at": 0, "text": "still "}),
        );
        self.client
            .call("waitSaved", json!({"document": self.document}));
        assert_eq!(
            self.client
                .call("closes", json!({"document": self.document})),
            0,
            "the connection was lost"
        );
    }
}

/// The command failed and said one line that names the thing, with a hint what to do.
#[track_caller]
fn assert_hint(ended: Ended, named: &str) {
    assert_ne!(ended.code, 0, "{ended}");
    assert!(
        ended.stderr.contains(named),
        "{named:?} is not named\n{ended}"
    );
    assert!(
        ended
            .stderr
            .lines()
            .any(|line| line.trim_start().starts_with("hint:")),
        "no hint\n{ended}"
    );
    assert!(!ended.stderr.contains("panicked"), "{ended}");
}

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
        mine.curl("").send().expect_problem(401);

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

    Curl::without_token(format!("{}/api/projects/{}", server.url, project.id))
        .send()
        .expect_problem(401);
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
    unknown.curl("").send().expect_problem(404);

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
            .run(&["pull", "--project-id", &project.id])
            .expect_code(1),
        &server.url,
    );
}

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
            reply.expect_problem(status);
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

#[test]
fn a_blob_whose_body_stops_early() {
    let server = Server::start();
    let project = server.project();
    let mut bystander = Bystander::new(&project);
    let whole = b"a body that is sent whole the second time".repeat(1000);
    let mut socket = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    let head = format!(
        "POST /api/blobs?project={} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n\r\n",
        project.id,
        server.token,
        whole.len() + 1
    );
    socket.write_all(head.as_bytes()).unwrap();
    socket.write_all(&whole).unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    // Whoever has gone is told nothing; whoever still listens is told what is wrong.
    if socket.read_to_string(&mut answer).is_ok() && !answer.is_empty() {
        assert!(
            answer.starts_with("HTTP/1.1 400") && answer.contains("application/problem+json"),
            "{answer}"
        );
    }

    // What had come of it is not a blob.
    let other = server.project();
    let hash = other.store(&whole);
    let secret = token_of(&server, &project);
    Curl::new(format!("{}/api/blobs/{hash}", server.url), &secret)
        .send()
        .expect_problem(404);
    assert_eq!(project.store(&whole), hash);
    bystander.assert_unharmed();
}

/// A token for nothing but this project.
fn token_of(server: &Server, project: &Project) -> String {
    let request = json!({"project": project.id, "access": "write", "expiresIn": 3600});
    let made = server
        .curl("/api/tokens")
        .json(&request)
        .send()
        .expect(201)
        .json();
    made["token"].as_str().expect("the secret, once").to_owned()
}

#[test]
fn a_truncated_or_random_frame() {
    let server = Server::start();
    let project = server.project();
    let mut bystander = Bystander::new(&project);
    let mut raw = Node::raw(&server.url);
    let frames = [
        ("a frame that ends within its length", "00 02 ff"),
        ("an update shorter than announced", "00 02 05 01 02"),
        (
            "a length of more than 64 bits",
            "00 02 ff ff ff ff ff ff ff ff ff ff ff",
        ),
        ("an update that is none", "00 02 04 ff fe fd fc"),
        (
            "four billion blocks in six bytes",
            "00 02 06 ff ff ff ff 0f 00",
        ),
        ("a state vector that is none", "00 00 03 ff ff ff"),
        ("an awareness message that is none", "01 03 ff ff ff"),
        ("an empty frame", ""),
    ];
    for (number, (what, hex)) in frames.into_iter().enumerate() {
        for path in [&project.id, &bystander.document] {
            let socket = format!("{number} {path}");
            raw.call(
                "open",
                json!({"socket": socket, "path": format!("/ws/{path}?token={}", server.token)}),
            );
            raw.call(
                "send",
                json!({"socket": socket, "hex": hex.replace(' ', "")}),
            );
            let closed = raw.call("waitClosed", json!({"socket": socket, "what": what}));
            assert_eq!(closed["code"], 4400, "{what}: {closed}");
            assert_ne!(closed["reason"], "", "{what}: {closed}");
        }
    }
    raw.call("open", json!({"socket": "collab", "path": "/collab"}));
    raw.call(
        "send",
        json!({"socket": "collab", "hex": "ffffffffffffffffffffff"}),
    );
    assert_eq!(
        raw.call("waitClosed", json!({"socket": "collab"}))["code"],
        4400
    );
    bystander.assert_unharmed();
}

#[test]
fn a_truncated_or_random_update_by_http() {
    let server = Server::start();
    let project = server.project();
    let mut bystander = Bystander::new(&project);
    let update = from_hex(&Node::ydoc().call(
        "set",
        json!({"name": "a", "files": {"empty": {"dir": true}}}),
    ));
    for body in [
        &update[..update.len() - 3],
        b"\xff\xfe\xfd",
        b"\xff\xff\xff\xff\x0f\0",
        b"",
    ] {
        project
            .curl("")
            .method("PATCH")
            .body(body)
            .send()
            .expect_problem(400);
    }
    project
        .curl("")
        .method("PATCH")
        .body(update)
        .send()
        .expect(200);
    bystander.assert_unharmed();
}

#[test]
fn an_update_over_the_limit() {
    const MIB: usize = 1024 * 1024;
    let server = Server::start();
    let project = server.project();
    let mut bystander = Bystander::new(&project);

    // More than any part of the server takes by default, and less than its limit.
    let mut large = Node::client(&project);
    large.call("open", json!({"document": project.id}));
    large.call(
        "insert",
        json!({"document": project.id, "at": 0, "text": "x".repeat(20 * MIB)}),
    );
    large.call("waitSaved", json!({"document": project.id}));
    let update = from_hex(&Node::ydoc().call("grow", json!({"name": "a", "length": 3 * MIB})));
    project
        .curl("")
        .method("PATCH")
        .body(update)
        .send()
        .expect(200);

    let detail = project
        .curl("")
        .method("PATCH")
        .body(vec![0; 65 * MIB])
        .send()
        .expect_problem(413);
    assert!(detail.contains("64"), "the limit is not named: {detail}");
    let mut raw = Node::raw(&server.url);
    raw.call(
        "open",
        json!({"socket": "a", "path": format!("/ws/{}?token={}", project.id, server.token)}),
    );
    raw.call(
        "send",
        json!({"socket": "a", "hex": "0002", "zeros": 65 * MIB}),
    );
    let closed = raw.call("waitClosed", json!({"socket": "a"}));
    assert_eq!(closed["code"], 4413, "{closed}");
    bystander.assert_unharmed();
}

#[test]
fn an_entry_that_is_no_entry() {
    let server = Server::start();
    let project = server.project();
    let mut bystander = Bystander::new(&project);
    let bad = json!({"nonsense": {"x": 1}, "a-string": "text", "a-hash": {"hash": "xyz", "mtime": 1}, "nothing": null});
    let names: Vec<&String> = bad.as_object().unwrap().keys().collect();

    // By HTTP the answer says what was repaired.
    let update = from_hex(&Node::ydoc().call("set", json!({"name": "a", "files": bad})));
    let reply = project
        .curl("")
        .method("PATCH")
        .body(update)
        .send()
        .expect(200);
    let repaired = reply.json()["repaired"].take();
    for name in &names {
        assert!(has_path(&repaired, name), "{name} in {repaired}");
    }

    // By socket a message says it; the same client's good entry stays.
    let mut collab = Node::collab(&project);
    collab.call("open", json!({"document": project.id}));
    for (path, value) in bad.as_object().unwrap() {
        collab.call(
            "setFile",
            json!({"document": project.id, "path": path, "value": value}),
        );
    }
    collab.call(
        "setFile",
        json!({"document": project.id, "path": "good", "value": {"dir": true}}),
    );
    for name in &names {
        collab.call(
            "waitFile",
            json!({"document": project.id, "path": name, "gone": true}),
        );
    }
    let told = collab.call(
        "waitStateless",
        json!({"document": project.id, "key": "repaired"}),
    );
    assert!(
        told["repaired"][0]["reason"]
            .as_str()
            .is_some_and(|reason| !reason.is_empty()),
        "{told}"
    );
    let manifest = project.manifest().unwrap();
    assert_eq!(
        manifest.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["bystander.txt", "good"]
    );
    bystander.assert_unharmed();
}

fn has_path(repaired: &Value, path: &str) -> bool {
    repaired.as_array().is_some_and(|all| {
        all.iter()
            .any(|one| one["path"] == path && one["reason"].is_string())
    })
}

#[test]
fn an_entry_that_names_an_absent_blob() {
    let server = Server::start();
    let project = server.project();
    project.put("a.txt", "text\n");
    let workspace = Workspace::new(&project);
    let bytes = b"late\0bytes";
    let hash = server.project().store(bytes);

    let mut client = Node::client(&project);
    client.call("open", json!({"document": project.id}));
    let entry = json!({"hash": hash, "size": bytes.len(), "mode": 0o644, "mtime": 1});
    client.call(
        "setFile",
        json!({"document": project.id, "path": "late.bin", "value": entry}),
    );
    client.call("waitSaved", json!({"document": project.id}));

    let mut agent = workspace.start(&["watch", "--project-id", &project.id]);
    eventually(SOON, || Ok(workspace.text("a.txt")?));
    assert!(agent.is_running(), "{}", agent.stderr());
    assert!(workspace.read("late.bin").is_err());
    // It is there as soon as its bytes are.
    project.store(bytes);
    eventually(SOON, || workspace.equals(&project));
    assert_eq!(workspace.read("late.bin").unwrap(), bytes);
}

#[test]
fn a_file_that_cannot_be_read() {
    let server = Server::start();
    let project = server.project();
    let workspace = Workspace::new(&project);
    let push = || {
        let command = workspace.uspark(&["push", "--project-id", &project.id, "--all"]);
        Running::start(&mut as_ordinary_user(command, workspace.outside())).wait()
    };
    workspace.write("secret.txt", "first\n");
    push().expect_code(0);

    workspace.write("secret.txt", "second\n");
    workspace.write("good.txt", "good\n");
    fs::set_permissions(workspace.path("secret.txt"), fs::Permissions::from_mode(0)).unwrap();
    assert_hint(push().expect_code(1), "secret.txt");
    assert_eq!(project.read("good.txt").unwrap(), Some("good\n".into()));
    assert_eq!(
        project.read("secret.txt").unwrap(),
        Some("first\n".into()),
        "a file that cannot be read is not gone"
    );

    fs::set_permissions(
        workspace.path("secret.txt"),
        fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    push().expect_code(0);
    assert_eq!(project.read("secret.txt").unwrap(), Some("second\n".into()));
}
