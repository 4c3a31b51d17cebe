//! Other people's clients, unmodified: one suite for every generation.

use std::thread;
use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use uspark_tests::{
    Node, Project, Row, SOON, Server, eventually, from_hex, is_stored, pause, same,
};

/// The y-websocket providers, by the names of their packages; the last is of @y/y 14, the others of yjs 13.
const Y_WEBSOCKET: [&str; 4] = [
    "y-websocket-1",
    "y-websocket-2",
    "y-websocket",
    "@y/websocket",
];
const HOCUSPOCUS: &str = "@hocuspocus/provider";

/// How long all of them are idle; y-websocket gives a connection up on which it heard nothing for 30 s.
const IDLE: Duration = Duration::from_secs(180);

#[test]
fn unmodified_clients() {
    let row = Row::begin("unmodified clients");
    let mut server = Server::start();
    let project = server.project();
    let names = Y_WEBSOCKET.into_iter().chain([HOCUSPOCUS]);
    let mut clients: Vec<Client> = thread::scope(|scope| {
        let (server, project) = (&server, &project);
        let joining = |name| scope.spawn(move || Client::join(server, project, name));
        let joining: Vec<_> = names.map(joining).collect();
        let joined = joining.into_iter().map(|client| client.join());
        joined
            .map(|client| client.expect("a client passes"))
            .collect()
    });

    let idle = Duration::from_millis(row.count(IDLE.as_millis() as usize, 0) as u64);
    for client in &mut clients {
        client.call("hide", json!({}));
    }
    pause(idle);
    for client in &mut clients {
        assert_eq!(client.call("closes", json!({})), 0, "{}", client.name);
        client.types(" after a rest");
    }

    server.kill9();
    server.restart();
    for client in &mut clients {
        client.call("waitText", json!({"contains": "after a rest"}));
        client.types(" after a restart");
        let text = client.call("text", json!({}));
        eventually(SOON, || {
            same(
                project.text(&client.path)?,
                text.as_str().unwrap_or_default(),
            )
        });
    }
    row.held(format_args!(
        "{} clients, idle for {:.0} s without awareness",
        clients.len(),
        idle.as_secs_f64()
    ));
}

struct Client {
    name: &'static str,
    node: Node,
    /// Its text document.
    document: String,
    path: String,
}

impl Client {
    /// What every client can do, in a file of its own and beside another client.
    fn join(server: &Server, project: &Project, name: &'static str) -> Self {
        let slug = name.replace(['@', '/'], "");
        let first = format!("{slug}.txt");
        project.put(&first, "start\n");
        let node = match name {
            HOCUSPOCUS => Node::collab(project),
            package => Node::client_of(project, package),
        };
        let document = project.document(&first);
        let path = format!("renamed/{slug}.txt");
        let mut client = Self {
            name,
            node,
            document,
            path,
        };

        client.node.call("open", json!({"document": project.id}));
        let files = client.node.call("files", json!({"document": project.id}));
        assert_eq!(
            format!(
                "{}/{}",
                project.id,
                files[&first]["doc"].as_str().expect("a text")
            ),
            client.document
        );
        client.call("open", json!({}));
        assert_eq!(client.call("text", json!({})), "start\n", "{name}");
        let mut other = Node::client(project);
        other.call("open", json!({"document": client.document}));

        client.is_told_when_its_bytes_are_on_the_disk(server);
        client.types_beside(&mut other);
        client.node.call(
            "renameFile",
            json!({"document": project.id, "from": first, "to": client.path}),
        );
        eventually(SOON, || {
            let renamed = &project.manifest()?[&client.path];
            ensure!(renamed["doc"] == files[&first]["doc"], "{name}: {renamed}");
            Ok(())
        });
        let text = client.call("text", json!({}));
        eventually(SOON, || {
            same(
                project.text(&client.path)?,
                text.as_str().unwrap_or_default(),
            )
        });
        client
    }

    /// "Saved" is only said of what the server has committed, byte for byte.
    fn is_told_when_its_bytes_are_on_the_disk(&mut self, server: &Server) {
        self.types(" 😀 typed");
        self.call("delete", json!({"text": "typed"}));
        self.types("ünits");
        let Value::Object(bytes) = self.call("made", json!({})) else {
            panic!("{}: no updates", self.name);
        };
        let made = bytes["made"].as_array().expect("updates");
        assert_eq!(made.len(), 3, "{}", self.name);
        for update in made {
            assert!(
                is_stored(server, &from_hex(update)),
                "{}: {update}",
                self.name
            );
        }
        if self.name != HOCUSPOCUS {
            assert_eq!(bytes["echoed"], bytes["made"], "{}", self.name);
        }
    }

    /// Both type at once; both have all of it.
    fn types_beside(&mut self, other: &mut Node) {
        let words = |who: &str| {
            (0..20)
                .map(|number| format!("<{who}{number}>"))
                .collect::<Vec<_>>()
        };
        for (mine, theirs) in words("a").iter().zip(words("b")) {
            let asked = other.ask(
                "insert",
                json!({"document": self.document, "at": 0, "text": theirs}),
            );
            self.call("insert", json!({"at": 0, "text": mine}));
            other.answer(asked);
        }
        let all = [words("a"), words("b")].concat();
        other.call(
            "waitText",
            json!({"document": self.document, "contains": all}),
        );
        self.call("waitText", json!({"contains": all}));
        let text = other.call("text", json!({"document": self.document}));
        self.call("waitText", json!({"equals": text}));
        let text = text.as_str().expect("a text");
        for word in &all {
            assert_eq!(
                text.matches(word.as_str()).count(),
                1,
                "{}: {word} in {text}",
                self.name
            );
        }
    }

    /// Types behind the first word, and waits until that is saved.
    fn types(&mut self, text: &str) {
        self.call("insert", json!({"after": "start", "text": text}));
        self.call("waitSaved", json!({}));
    }

    /// A command about its text.
    #[track_caller]
    fn call(&mut self, command: &str, mut arguments: Value) -> Value {
        arguments["document"] = json!(self.document);
        self.node.call(command, arguments)
    }
}
