//! Which tool call a change is the doing of, from Claude Code's own stream.

use serde_json::{Value, json};

use super::*;
use crate::claude::tee;
use crate::cli::tools::ToolCalls;

/// A run as its stream tells it.
struct Claude<'a> {
    place: &'a Place,
    agent: &'a Agent,
    calls: ToolCalls,
    /// Paths and the calls that changed them, if any.
    expected: Vec<(String, Option<String>)>,
}

impl Claude<'_> {
    async fn says(&self, line: Value) {
        let line = format!("{line}\n");
        tee(line.as_bytes(), std::io::sink(), |event| {
            self.calls.note(event)
        });
        // Commands are taken in order.
        self.agent.handle.status().await;
    }

    async fn starts(&self, id: &str, name: &str, input: Value, parent: Option<&str>) {
        let block = json!({"type": "tool_use", "id": id, "name": name, "input": input});
        self.says(json!({"type": "assistant", "parent_tool_use_id": parent,
            "message": {"content": [block]}}))
            .await;
    }

    async fn ends(&self, id: &str, parent: Option<&str>) {
        let block = json!({"type": "tool_result", "tool_use_id": id, "content": "ok"});
        self.says(json!({"type": "user", "parent_tool_use_id": parent,
            "message": {"content": [block]}}))
            .await;
    }

    /// Changes a file, as the doing of a call or of none.
    fn changes(&mut self, file: usize, by: Option<&str>) {
        let path = format!("f{file}");
        self.place.sh(&format!("echo more >> {path}"));
        self.expected.push((path, by.map(ToOwned::to_owned)));
    }

    fn at(&self, file: usize) -> String {
        self.place.at(&format!("f{file}")).display().to_string()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_names_its_tool_call_or_none() {
    let mut row = Row::begin("attribution");
    let rounds = row.count(200, 3);
    let server = Double::new();
    let place = Place::new();
    for file in 0..8 {
        server.text_file(&format!("f{file}"), "first\n");
    }
    let agent = place.watch(&server).await;
    let calls = ToolCalls::new(place.dir.path());
    calls.attach_session(agent.handle.clone());
    let mut claude = Claude {
        place: &place,
        agent: &agent,
        calls,
        expected: Vec::new(),
    };
    for round in 0..rounds {
        let mut files: Vec<usize> = (0..8).collect();
        row.random.shuffle(&mut files);
        let id = |n: usize| format!("toolu_{round}_{n}");
        let [write, edit, bash, task, inner, shell, read, away] = [0, 1, 2, 3, 4, 5, 6, 7].map(id);
        for (call, name, file) in [(&write, "Write", files[0]), (&edit, "Edit", files[1])] {
            let input = json!({"file_path": claude.at(file)});
            claude.starts(call, name, input, None).await;
            claude.changes(file, Some(call));
            // Somebody else at the same time.
            claude.changes(files[2], None);
            claude.ends(call, None).await;
            agent.equal().await;
        }
        claude
            .starts(&bash, "Bash", json!({"command": "make"}), None)
            .await;
        claude
            .starts(&read, "Read", json!({"file_path": claude.at(0)}), None)
            .await;
        claude.changes(files[3], Some(&bash));
        claude.ends(&read, None).await;
        claude.ends(&bash, None).await;
        agent.equal().await;
        claude
            .starts(&task, "Task", json!({"prompt": "go"}), None)
            .await;
        let input = json!({"file_path": claude.at(files[4])});
        claude.starts(&inner, "Write", input, Some(&task)).await;
        claude.changes(files[4], Some(&inner));
        claude.ends(&inner, Some(&task)).await;
        agent.equal().await;
        let command = json!({"command": "make"});
        claude.starts(&shell, "Bash", command, Some(&task)).await;
        claude.changes(files[5], Some(&shell));
        claude.ends(&shell, Some(&task)).await;
        agent.equal().await;
        claude.changes(files[6], None);
        agent.equal().await;
        claude.ends(&task, None).await;
        let elsewhere = json!({"file_path": "/elsewhere/f"});
        claude.starts(&away, "Write", elsewhere, None).await;
        claude.changes(files[7], None);
        agent.equal().await;
        claude.ends(&away, None).await;
        agent.equal().await;
    }
    let mut found: Vec<(String, Option<String>)> = server
        .seen()
        .updates
        .into_iter()
        .map(|(doc, _, by)| {
            let by: Value = by.map_or(Value::Null, |by| serde_json::from_str(&by).unwrap());
            (
                server.path_of(&doc),
                by["toolUseId"].as_str().map(ToOwned::to_owned),
            )
        })
        .collect();
    let mut expected = claude.expected;
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    agent.finish().await;
    row.held(format!(
        "{} changes, each by its call or by none",
        found.len()
    ));
}
