//! Entries of the manifest that are none, or that name what is not there.

use serde_json::{Value, json};
use uspark_tests::{Node, SOON, Server, Workspace, eventually, from_hex};

use crate::Bystander;

#[test]
fn an_entry_that_is_no_entry() {
    let server = Server::start();
    let project = server.project();
    let mut bystander = Bystander::new(&project);
    let bad = json!({"nonsense": {"x": 1}, "a-string": "text", "a-hash": {"hash": "xyz", "mtime": 1}, "nothing": null});
    let names: Vec<&String> = bad.as_object().unwrap().keys().collect();

    // By HTTP the answer says what was repaired.
    let update = from_hex(&Node::ydoc().call("set", json!({"name": "a", "files": bad})));
    let reply = project.patch(update);
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
    eventually(SOON, || workspace.text("a.txt"));
    assert!(agent.is_running(), "{}", agent.stderr());
    assert!(workspace.read("late.bin").is_err());
    // It is there as soon as its bytes are.
    project.store(bytes);
    eventually(SOON, || workspace.equals(&project));
    assert_eq!(workspace.read("late.bin").unwrap(), bytes);
}
