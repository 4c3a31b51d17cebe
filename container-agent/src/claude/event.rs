//! One line of stream-json -> what it says about tools.
//!
//! The format is another program's and grows: what is not understood is no event and no error.
//! A line is read in place, and no more of it is kept than ids, names and paths.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// What Claude Code's output tells about its tools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamEvent {
    /// A tool that may write is about to run: nothing is written yet.
    ToolStarted {
        /// The call's id, `toolu_…`.
        id: String,
        /// The tool's name.
        name: String,
        /// What it says that it will write; empty for tools that do not say (Bash).
        paths: Vec<PathBuf>,
    },
    /// A tool has ended: what it wrote is on disk.
    ToolFinished {
        /// The call's id.
        id: String,
        /// Whether the tool failed; it may have written all the same.
        is_error: bool,
        /// The file that the result names, if it names one.
        path: Option<PathBuf>,
    },
    /// A line was passed on but is too long to be read.
    LineTooLong {
        /// Its length in bytes.
        bytes: u64,
    },
}

/// The tools that write the one file their input names. `MultiEdit` is from older versions.
const WRITING_TOOLS: [&str; 4] = ["Write", "Edit", "MultiEdit", "NotebookEdit"];

/// Tools that write no file themselves: what changes meanwhile is not their doing. A sub-agent
/// (`Task`, later `Agent`) writes by calls of its own, each of which is told.
const SILENT_TOOLS: [&str; 11] = [
    "Read",
    "Glob",
    "Grep",
    "LS",
    "WebFetch",
    "WebSearch",
    "TodoWrite",
    "TaskOutput",
    "BashOutput",
    "Task",
    "Agent",
];

/// A line. Every field may be absent or have another shape in some version.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    /// Object, array or text; beside `message`.
    #[serde(borrow)]
    tool_use_result: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Block<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_use_id: Option<&'a RawValue>,
    #[serde(borrow)]
    is_error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Input<'a> {
    #[serde(borrow)]
    file_path: Option<&'a RawValue>,
    #[serde(borrow)]
    notebook_path: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ToolUseResult<'a> {
    #[serde(borrow, rename = "filePath")]
    file_path: Option<&'a RawValue>,
}

/// Reads `line` and hands on each event in it, in order.
pub(super) fn read_line(line: &[u8], mut on_event: impl FnMut(StreamEvent)) {
    let Ok(message) = serde_json::from_slice::<Message<'_>>(line) else {
        return;
    };
    let kind = text(message.kind).unwrap_or_default();
    if kind != "assistant" && kind != "user" {
        return;
    }
    let Some(content) = parse::<Body<'_>>(message.message).and_then(|body| body.content) else {
        return;
    };
    let result_path = parse::<ToolUseResult<'_>>(message.tool_use_result)
        .and_then(|result| path(result.file_path));
    let on_block = |block: Block<'_>| {
        match text(block.kind).as_deref() {
            Some("tool_use") => {
                let name = text(block.name)?.into_owned();
                if !SILENT_TOOLS.contains(&name.as_str()) {
                    on_event(StreamEvent::ToolStarted {
                        id: text(block.id)?.into_owned(),
                        paths: written_paths(&name, block.input),
                        name,
                    });
                }
            }
            Some("tool_result") => on_event(StreamEvent::ToolFinished {
                id: text(block.tool_use_id)?.into_owned(),
                is_error: parse(block.is_error).unwrap_or(false),
                path: result_path.clone(),
            }),
            _ => {}
        }
        Some(())
    };
    for_each_block(content, on_block);
}

fn written_paths(tool: &str, input: Option<&RawValue>) -> Vec<PathBuf> {
    if !WRITING_TOOLS.contains(&tool) {
        return Vec::new();
    }
    let Some(input) = parse::<Input<'_>>(input) else {
        return Vec::new();
    };
    path(input.file_path)
        .or_else(|| path(input.notebook_path))
        .into_iter()
        .collect()
}

/// Visits the elements of `content` one by one, so that a hostile array costs no memory. Content
/// that is no array (a prompt is a string) has no blocks.
fn for_each_block<'a>(content: &'a RawValue, on_block: impl FnMut(Block<'a>) -> Option<()>) {
    struct Blocks<F>(F);

    impl<'de, F: FnMut(Block<'de>) -> Option<()>> Visitor<'de> for Blocks<F> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array of content blocks")
        }

        fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
            while let Some(element) = elements.next_element::<&'de RawValue>()? {
                // A block of an unknown shape says nothing about a tool.
                let _ = parse::<Block<'_>>(Some(element)).and_then(&mut self.0);
            }
            Ok(())
        }
    }

    let mut elements = serde_json::Deserializer::from_str(content.get());
    // Content of another shape has no blocks.
    let _ = elements.deserialize_seq(Blocks(on_block));
}

fn parse<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>) -> Option<T> {
    serde_json::from_str(raw?.get()).ok()
}

fn text(raw: Option<&RawValue>) -> Option<Cow<'_, str>> {
    let raw = raw?.get();
    let plain = raw.strip_prefix('"')?.strip_suffix('"')?;
    if plain.contains('\\') {
        return serde_json::from_str(raw).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(plain))
}

fn path(raw: Option<&RawValue>) -> Option<PathBuf> {
    let path = text(raw)?;
    (!path.is_empty()).then(|| PathBuf::from(path.into_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn events(line: &[u8]) -> Vec<StreamEvent> {
        let mut events = Vec::new();
        read_line(line, |event| events.push(event));
        events
    }

    fn events_of(line: &Value) -> Vec<StreamEvent> {
        events(line.to_string().as_bytes())
    }

    fn started(name: &str, input: Value) -> Vec<StreamEvent> {
        events_of(&json!({"type": "assistant", "message": {"content": [
            {"type": "text", "text": "now I write"},
            {"type": "tool_use", "id": "toolu_1", "name": name, "input": input},
        ]}}))
    }

    fn finished(block: Value, result: Option<Value>) -> Vec<StreamEvent> {
        let mut line = json!({"type": "user", "message": {"content": [block]}});
        if let Some(result) = result {
            line["tool_use_result"] = result;
        }
        events_of(&line)
    }

    #[test]
    fn a_tool_use_names_the_files_of_the_tools_that_write() {
        let at = |path: &str| vec![PathBuf::from(path)];
        for (name, input, paths) in [
            (
                "Write",
                json!({"file_path": "/w/a", "content": "x"}),
                at("/w/a"),
            ),
            (
                "Edit",
                json!({"file_path": "/w/é\n", "old_string": "x"}),
                at("/w/é\n"),
            ),
            ("MultiEdit", json!({"file_path": "b", "edits": []}), at("b")),
            (
                "NotebookEdit",
                json!({"notebook_path": "/w/n.ipynb"}),
                at("/w/n.ipynb"),
            ),
            ("Bash", json!({"command": "rm -rf x"}), vec![]),
            ("mcp__x__y", json!([1, 2]), vec![]),
            ("Write", json!({"file_path": 7}), vec![]),
            ("Write", json!("odd"), vec![]),
            ("Write", json!({"file_path": ""}), vec![]),
        ] {
            let expected = StreamEvent::ToolStarted {
                id: "toolu_1".into(),
                name: name.into(),
                paths,
            };
            assert_eq!(started(name, input), [expected], "{name}");
        }
    }

    #[test]
    fn a_tool_that_only_reads_and_a_sub_agent_are_no_events() {
        for name in SILENT_TOOLS {
            assert_eq!(started(name, json!({"file_path": "/w/a"})), [], "{name}");
        }
    }

    #[test]
    fn a_tool_result_is_read_in_every_shape_that_was_seen() {
        let good = json!({"type": "tool_result", "tool_use_id": "t", "content": "ok"});
        let bad = json!({"type": "tool_result", "tool_use_id": "t", "is_error": true});
        let write = json!({"type": "create", "filePath": "/w/a", "structuredPatch": []});
        for (block, result, is_error, path) in [
            (&good, Some(write), false, Some("/w/a")),
            (&good, None, false, None),
            (
                &good,
                Some(json!({"stdout": "", "interrupted": false})),
                false,
                None,
            ),
            (
                &good,
                Some(json!([{"type": "text", "text": "mcp"}])),
                false,
                None,
            ),
            (&bad, Some(json!("Error: no such file")), true, None),
            (&bad, Some(Value::Null), true, None),
        ] {
            let expected = StreamEvent::ToolFinished {
                id: "t".into(),
                is_error,
                path: path.map(PathBuf::from),
            };
            assert_eq!(finished(block.clone(), result), [expected]);
        }
    }

    #[test]
    fn several_blocks_on_a_line_are_several_events() {
        let tool = |id: &str| json!({"type": "tool_use", "id": id, "name": "Bash", "input": {}});
        let line = json!({"type": "assistant", "parent_tool_use_id": "toolu_0",
            "message": {"content": [tool("a"), 7, null, "x", {"type": 9}, tool("b")]}});
        let ids: Vec<_> = events_of(&line)
            .into_iter()
            .map(|event| match event {
                StreamEvent::ToolStarted { id, .. } => id,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(ids, ["a", "b"]);
    }

    #[test]
    fn what_is_not_understood_is_no_event() {
        let tool = r#"{"type":"tool_use","id":"a","name":"Bash","input":{}}"#;
        let lines = [
            String::new(),
            "\r".into(),
            "[SandboxDebug] hello".into(),
            "null".into(),
            "[]".into(),
            r#"{"type":"result","subtype":"success"}"#.into(),
            r#"{"type":"user","message":{"role":"user","content":"a prompt"}}"#.into(),
            r#"{"type":"user","message":"odd"}"#.into(),
            r#"{"type":["user"],"message":{}}"#.into(),
            r#"{"type":"assistant","message":{"content":[{"type":"tool_use","id":"a"}]}}"#.into(),
            format!(r#"{{"type":"stream_event","message":{{"content":[{tool}]}}}}"#),
            format!(r#"{{"type":"assistant","message":{{"content":[{tool}]}}"#),
        ];
        for line in lines {
            assert_eq!(events(line.as_bytes()), [], "{line}");
        }
        assert_eq!(events(b"{\"type\":\"assistant\xff\"}"), []);
    }

    #[test]
    fn a_line_may_end_in_a_carriage_return_and_nest_deeply() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        let line = format!(
            "{{\"type\":\"assistant\",\"extra\":{deep},\"message\":{{\"content\":[\
             {{\"type\":\"tool_use\",\"id\":\"a\",\"name\":\"Bash\",\"input\":{deep}}}]}}}}\r"
        );
        assert_eq!(events(line.as_bytes()).len(), 1);
    }
}
