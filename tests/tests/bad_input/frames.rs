//! Bytes that are no message, no update, no whole body, or too many.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
};

use serde_json::json;
use uspark_tests::{Curl, Node, Project, Server, from_hex};

use crate::Bystander;

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
    Curl::new(format!("{}/api/blobs/{hash}", server.url), &secret).problem(404);
    assert_eq!(project.store(&whole), hash);
    bystander.assert_unharmed();
}

/// A token for nothing but this project.
fn token_of(server: &Server, project: &Project) -> String {
    let request = json!({"project": project.id, "access": "write", "expiresIn": 3600});
    let made = server.curl("/api/tokens").json(&request).expect(201).json();
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
        project.curl("").method("PATCH").body(body).problem(400);
    }
    project.patch(update);
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
    project.patch(update);

    let detail = project
        .curl("")
        .method("PATCH")
        .body(vec![0; 65 * MIB])
        .problem(413);
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
