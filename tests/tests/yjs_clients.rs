//! Unmodified Yjs clients (yjs 13 with y-websocket 3, and @hocuspocus/provider) beside the real agent.

use std::{fs::OpenOptions, io::Write, time::Duration};

use anyhow::ensure;
use serde_json::{Value, json};
use uspark_tests::{Node, Running, SOON, Server, Workspace, eventually, same};

/// 100 KB of numbered lines, with `marker` in the middle.
fn large_text(marker: &str) -> String {
    let lines =
        (0..2400).map(|number| format!("line {number:>5}: the quick brown fox jumps over a dog\n"));
    let (first, last): (Vec<_>, Vec<_>) = lines.enumerate().partition(|(number, _)| *number < 1200);
    let join =
        |lines: Vec<(usize, String)>| lines.into_iter().map(|(_, line)| line).collect::<String>();
    let text = format!("{}{marker}\n{}", join(first), join(last));
    assert!(text.len() > 100_000);
    text
}

#[test]
fn a_client_reads_the_tree_from_files() {
    let server = Server::start();
    let project = server.project();
    project.put("src/main.js", "console.log(1)\n");
    project.put("logo.png", b"\x89PNG\0\x01".to_vec());

    let mut client = Node::client(&project);
    client.call("open", json!({"document": project.id}));
    let files = client.call("files", json!({"document": project.id}));

    let paths: Vec<_> = files.as_object().unwrap().keys().collect();
    assert_eq!(paths, ["logo.png", "src/main.js"]);
    let text = &files["src/main.js"];
    for (field, length) in [("seed", 64), ("doc", text["doc"].as_str().unwrap().len())] {
        assert_eq!(
            text[field].as_str().map(str::len),
            Some(length),
            "{field} in {text}"
        );
    }
    let binary = &files["logo.png"];
    assert_eq!(binary["size"], 6, "{binary}");
    assert_eq!(binary["hash"].as_str().map(str::len), Some(64), "{binary}");
    for entry in [text, binary] {
        assert_eq!(entry["mode"], 0o644, "{entry}");
        assert!(entry["mtime"].is_u64(), "{entry}");
    }
}

#[test]
fn a_client_opens_a_text_by_its_document_id() {
    let server = Server::start();
    let project = server.project();
    let bytes = "\u{feff}first\r\nsecond, with an ä and a 🦀, no newline at the end";
    project.put("a text.md", bytes);

    let mut client = Node::client(&project);
    client.call("open", json!({"document": project.id}));
    let files = client.call("files", json!({"document": project.id}));
    let document = format!(
        "{}/{}",
        project.id,
        files["a text.md"]["doc"].as_str().unwrap()
    );
    client.call("open", json!({"document": document}));
    assert_eq!(client.call("text", json!({"document": document})), bytes);
}

#[test]
fn an_agents_one_line_write_to_100_kb_arrives_as_an_update_under_200_bytes() {
    let server = Server::start();
    let project = server.project();
    project.put("large.txt", large_text("the marked line"));
    let workspace = Workspace::new(&project);
    let _agent = workspace.start(&["watch", "--project-id", &project.id]);
    eventually(SOON, || workspace.equals(&project));

    let document = project.document("large.txt");
    let mut client = Node::client(&project);
    client.call("open", json!({"document": document}));
    client.call("forget", json!({"document": document}));
    workspace.edit(
        "large.txt",
        "the marked line",
        "the line that the agent wrote",
    );

    client.call(
        "waitText",
        json!({"document": document, "contains": "the line that the agent wrote"}),
    );
    let text = client.call("text", json!({"document": document}));
    assert_eq!(text, large_text("the line that the agent wrote"));
    let updates = client.call("updates", json!({"document": document}));
    let sizes: Vec<u64> = updates
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_u64)
        // The echo of the client's own answer, "I have nothing that you lack", may come late.
        .filter(|size| *size > 2)
        .collect();
    assert!(
        sizes.len() == 1 && sizes[0] < 200,
        "updates of {sizes:?} bytes"
    );
}

#[test]
fn typing_is_found_on_the_agents_disk_while_it_goes_on() {
    let server = Server::start();
    let project = server.project();
    project.put("notes.md", "# Notes\n\n");
    let workspace = Workspace::new(&project);
    let _agent = workspace.start(&["watch", "--project-id", &project.id]);
    eventually(SOON, || workspace.equals(&project));

    let document = project.document("notes.md");
    let mut client = Node::client(&project);
    client.call("open", json!({"document": document}));
    // Somebody who never rests for as long as a text takes to settle: only following it finds the first words.
    let words: Vec<String> = (0..300).map(|number| format!("word{number} ")).collect();
    let typing = client.ask(
        "type",
        json!({"document": document, "after": "# Notes\n\n", "words": words, "pause": 25}),
    );

    let disk = eventually(SOON, || {
        let disk = workspace.text("notes.md")?;
        ensure!(disk.contains("word0 "), "{disk:?}");
        Ok(disk)
    });
    assert!(
        !disk.contains("word299 "),
        "the first word came with the last"
    );

    client.answer(typing);
    let text = client.call("text", json!({"document": document}));
    eventually(SOON, || {
        same(
            workspace.text("notes.md")?,
            text.as_str().unwrap_or_default(),
        )
    });
}

#[test]
fn two_clients_and_the_agent_type_at_once_and_nothing_is_lost() {
    const WORDS: usize = 60;
    let words = |who: &str| -> Vec<String> {
        (0..WORDS)
            .map(|number| format!("<{who}{number}>"))
            .collect()
    };

    let server = Server::start();
    let project = server.project();
    project.put("shared.txt", "anna:\nbert:\nagent:\n");
    let workspace = Workspace::new(&project);
    let _agent = workspace.start(&["watch", "--project-id", &project.id]);
    eventually(SOON, || workspace.equals(&project));

    let document = project.document("shared.txt");
    let (mut anna, mut bert) = (Node::client(&project), Node::client(&project));
    for client in [&mut anna, &mut bert] {
        client.call("open", json!({"document": document}));
    }
    let annas = anna.ask(
        "type",
        json!({"document": document, "after": "anna:", "words": words("a"), "pause": 15}),
    );
    let berts = bert.ask(
        "type",
        json!({"document": document, "after": "bert:", "words": words("b"), "pause": 15}),
    );
    for word in words("c") {
        let mut file = OpenOptions::new()
            .append(true)
            .open(workspace.path("shared.txt"))
            .unwrap();
        file.write_all(format!("{word}\n").as_bytes()).unwrap();
        drop(file);
        // The agent's writes are spread over the others' typing by waiting for each to arrive.
        anna.call("waitText", json!({"document": document, "contains": word}));
    }
    anna.answer(annas);
    bert.answer(berts);

    let all: Vec<String> = ["a", "b", "c"].iter().flat_map(|who| words(who)).collect();
    for client in [&mut anna, &mut bert] {
        client.call("waitText", json!({"document": document, "contains": all}));
    }
    let text = anna.call("text", json!({"document": document}));
    let text = text.as_str().unwrap();
    for word in &all {
        assert_eq!(text.matches(word.as_str()).count(), 1, "{word} in {text}");
    }
    bert.call("waitText", json!({"document": document, "equals": text}));
    eventually(SOON, || same(workspace.text("shared.txt")?, text));
    eventually(SOON, || same(project.text("shared.txt")?, text));
}

#[test]
fn a_hocuspocus_client_is_told_when_its_typing_is_saved() {
    let server = Server::start();
    let project = server.project();
    project.put("a.txt", "start\n");
    let document = project.document("a.txt");

    let mut collab = Node::collab(&project);
    let mut client = Node::client(&project);
    collab.call("open", json!({"document": project.id}));
    for editor in [&mut collab, &mut client] {
        editor.call("open", json!({"document": document}));
    }
    collab.call("waitSaved", json!({"document": document}));
    collab.call(
        "insert",
        json!({"document": document, "after": "start", "text": " by hocuspocus"}),
    );
    collab.call("waitSaved", json!({"document": document}));
    client.call(
        "waitText",
        json!({"document": document, "equals": "start by hocuspocus\n"}),
    );
    client.call(
        "insert",
        json!({"document": document, "after": "start", "text": " by y-websocket and"}),
    );
    client.call("waitSaved", json!({"document": document}));
    collab.call(
        "waitText",
        json!({"document": document, "equals": "start by y-websocket and by hocuspocus\n"}),
    );
}

#[test]
fn a_client_makes_renames_and_deletes_files_and_the_agents_disk_follows() {
    let server = Server::start();
    let project = server.project();
    project.put("old-name.txt", "the same text\n");
    project.put("deleted.txt", "going\n");
    let workspace = Workspace::new(&project);
    let _agent = workspace.start(&["watch", "--project-id", &project.id]);
    eventually(SOON, || workspace.equals(&project));

    let mut client = Node::client(&project);
    client.call("open", json!({"document": project.id}));
    let entry = client.call("files", json!({"document": project.id}))["old-name.txt"].take();
    client.call(
        "renameFile",
        json!({"document": project.id, "from": "old-name.txt", "to": "sub/new-name.txt"}),
    );
    client.call(
        "removeFile",
        json!({"document": project.id, "path": "deleted.txt"}),
    );
    client.call(
        "setFile",
        json!({"document": project.id, "path": "link", "value": {"link": "sub/new-name.txt"}}),
    );

    eventually(SOON, || {
        let tree = workspace.tree()?;
        same(
            tree.keys().map(String::as_str).collect::<Vec<_>>(),
            vec!["link", "sub/new-name.txt"],
        )
    });
    assert_eq!(workspace.text("link").unwrap(), "the same text\n");
    eventually(Duration::from_secs(10), || workspace.equals(&project));
    let renamed = client.call("files", json!({"document": project.id}));
    assert_eq!(
        renamed["sub/new-name.txt"]["doc"], entry["doc"],
        "a rename keeps the document"
    );
}

#[test]
fn cursors_in_untouched_lines_survive_a_formatter() {
    // The same few lines again and again, some of them with characters of two units.
    let functions = (0..40).map(|number| {
        format!("fn f{number}() {{\n  let crab = \"🦀\";\n  if crab {{\n    call({number});\n  }}\n}}\n\n")
    });
    let before: String = functions.collect();
    // It indents the bodies of some functions by four instead of two.
    let is_touched =
        |line: usize, text: &str| (line / 7).is_multiple_of(3) && text.starts_with(' ');
    let line = |(number, line): (usize, &str)| match is_touched(number, line) {
        true => line.replacen("  ", "    ", 1),
        false => line.to_owned(),
    };
    let after: String = before.split_inclusive('\n').enumerate().map(line).collect();
    assert!(before.len() < after.len() && before.lines().count() == after.lines().count());

    let server = Server::start();
    let project = server.project();
    project.put("a.rs", before.as_str());
    let workspace = Workspace::new(&project);
    let _agent = workspace.start(&["watch", "--project-id", &project.id]);
    eventually(SOON, || workspace.equals(&project));
    let document = project.document("a.rs");
    let mut client = Node::client(&project);
    client.call("open", json!({"document": document}));
    // A cursor at every character of every untouched line.
    let cursors = |text: &str| -> Vec<usize> {
        let mut at = 0;
        let mut cursors = Vec::new();
        for (number, (line, old)) in text
            .split_inclusive('\n')
            .zip(before.split_inclusive('\n'))
            .enumerate()
        {
            let starts = line.chars().scan(at, |at, c| {
                *at += c.len_utf16();
                Some(*at - c.len_utf16())
            });
            if !is_touched(number, old) {
                cursors.extend(starts);
            }
            at += line.encode_utf16().count();
        }
        cursors
    };
    client.call(
        "setCursors",
        json!({"document": document, "at": cursors(&before)}),
    );

    // As formatters do: the whole file under another name, then over the old one.
    workspace.write("a.rs~", &after);
    Running::start(&mut workspace.bash("mv a.rs~ a.rs"))
        .wait()
        .expect_code(0);
    client.call("waitText", json!({"document": document, "equals": after}));
    let found = client.call("cursors", json!({"document": document}));
    assert_eq!(found, json!(cursors(&after)));
    let elsewhere = cursors(&before)
        .iter()
        .zip(cursors(&after))
        .filter(|(before, after)| *before != after)
        .count();
    assert!(elsewhere > 1000, "only {elsewhere} cursors had to move");
}
