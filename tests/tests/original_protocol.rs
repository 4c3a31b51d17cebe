//! A client that knows only manifest and blobs, beside an editor that has the file open.

use serde_json::{Value, json};
use uspark_tests::{Node, Project, SOON, Server, eventually, same};

const BEFORE: &str = "one\ntwo\nthree\nfour\nfive\n";
const UPLOADED: &str = "one more\ntwo\nthree\nfour\nfive\n";
const TYPED: &str = "one\ntwo\nthree, typed by a person\nfour\nfive\n";
const MERGED: &str = "one more\ntwo\nthree, typed by a person\nfour\nfive\n";

/// The original client holds `notes.md` as it was; then the editor, who has it open, types.
fn opened(project: &Project) -> (Node, Node, String) {
    project.put("notes.md", BEFORE);
    let document = project.document("notes.md");
    let mut original = Node::original(project);
    original.call("get", json!({"project": project.id, "copy": "mine"}));

    let mut editor = Node::client(project);
    editor.call("open", json!({"document": document}));
    editor.call("forget", json!({"document": document}));
    editor.call(
        "insert",
        json!({"document": document, "after": "three", "text": ", typed by a person"}),
    );
    editor.call("waitSaved", json!({"document": document}));
    (original, editor, document)
}

/// Uploads the new bytes as the original client does.
fn upload(original: &mut Node, project: &Project, naming_the_version: bool) {
    let hash =
        original.call("post", json!({"project": project.id, "text": UPLOADED}))["hash"].take();
    let value = json!({"hash": hash, "mtime": 1_732_166_400_123_u64});
    original.call(
        "patch",
        json!({"copy": "mine", "path": "notes.md", "value": value, "named": naming_the_version}),
    );
}

/// The editor sees the smallest edit, and has what it typed; the entry is a text's again, by the same document.
fn assert_bridged(editor: &mut Node, project: &Project, document: &str) {
    editor.call("waitText", json!({"document": document, "equals": MERGED}));
    let deltas = editor.call("deltas", json!({"document": document}));
    let changes: Vec<&Value> = deltas
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|delta| delta.as_array())
        .flatten()
        .collect();
    assert!(
        changes.iter().all(|change| change.get("delete").is_none()),
        "{deltas}"
    );
    let inserted: String = changes
        .iter()
        .filter_map(|change| change["insert"].as_str())
        .collect();
    assert_eq!(inserted, " more", "{deltas}");

    eventually(SOON, || {
        same(
            format!(
                "{}/{}",
                project.id,
                entry(project)?["doc"].as_str().unwrap_or("")
            ),
            document,
        )
    });
    eventually(SOON, || same(project.text("notes.md")?, MERGED));
}

fn entry(project: &Project) -> anyhow::Result<Value> {
    Ok(project.manifest()?["notes.md"].take())
}

#[test]
fn an_upload_with_its_version_reaches_the_editor_as_the_smallest_edit() {
    let server = Server::start();
    let project = server.project();
    let (mut original, mut editor, document) = opened(&project);
    upload(&mut original, &project, true);
    assert_bridged(&mut editor, &project, &document);
}

#[test]
fn an_upload_without_a_version_is_merged_against_the_nearest_settled_version() {
    let server = Server::start();
    let project = server.project();
    let (mut original, mut editor, document) = opened(&project);
    // Reading the file settles what was typed, so that there are two versions to choose from.
    assert_eq!(project.text("notes.md").unwrap(), TYPED);
    upload(&mut original, &project, false);
    assert_bridged(&mut editor, &project, &document);
}

#[test]
fn an_upload_that_knows_the_typing_may_delete_it() {
    let server = Server::start();
    let project = server.project();
    let (mut original, mut editor, document) = opened(&project);
    assert_eq!(project.text("notes.md").unwrap(), TYPED);
    original.call("get", json!({"project": project.id, "copy": "mine"}));
    upload(&mut original, &project, true);
    editor.call(
        "waitText",
        json!({"document": document, "equals": UPLOADED}),
    );
}

#[test]
fn new_files_of_the_original_protocol_become_a_text_and_a_binary() {
    let server = Server::start();
    let project = server.project();
    let mut original = Node::original(&project);
    original.call("get", json!({"project": project.id, "copy": "mine"}));
    for (path, content) in [("new.md", "new text\n"), ("new.bin", "a\0b")] {
        let hash =
            original.call("post", json!({"project": project.id, "text": content}))["hash"].take();
        let value = json!({"hash": hash, "mtime": 1_732_166_400_123_u64});
        original.call(
            "patch",
            json!({"copy": "mine", "path": path, "value": value, "named": true}),
        );
    }

    let document = project.document("new.md");
    let mut editor = Node::client(&project);
    editor.call("open", json!({"document": document}));
    assert_eq!(
        editor.call("text", json!({"document": document})),
        "new text\n"
    );
    assert_eq!(project.read("new.bin").unwrap(), b"a\0b");
    let binary = project.manifest().unwrap()["new.bin"].take();
    assert_eq!(binary["size"], 3, "{binary}");

    // What the original client gets next is what the server made of it, and only the difference.
    let got = original.call("get", json!({"project": project.id, "copy": "mine"}));
    assert!(got["files"]["new.md"]["doc"].is_string(), "{got}");
}
