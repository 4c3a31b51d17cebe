//! What a server keeps of a project's updates, and who it says made each.
//!
//! No call of the server answers who made a change, so this reads the server's database beside it, and has a real Y.Doc
//! say what each update did. It holds for updates that the server has not compacted: some hundreds for a document.

use std::collections::BTreeMap;

use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};

use crate::{Node, Project, Server, to_hex};

/// One thing that an update did.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// The path.
    pub path: String,
    /// `add`, `update` or `delete` of its entry, or `edit` of its text.
    pub action: String,
    /// The text document there, if there is one.
    pub doc: Option<String>,
    /// The run that the author named.
    pub run: Option<String>,
    /// The tool call that the author named.
    pub tool_use_id: Option<String>,
    /// Its tool.
    pub tool: Option<String>,
}

/// Everything that was done to a project, document by document, in order. What the server did itself is not in it.
#[track_caller]
pub fn changes(server: &Server, project: &Project) -> Vec<Change> {
    let logs = logs(server, project).expect("the server's database can be read");
    let of_project = logs.get("").map_or(&[][..], Vec::as_slice);
    let updates: Vec<String> = of_project.iter().map(|(body, _)| to_hex(body)).collect();
    let done = Node::ydoc().call("history", json!({"name": "project", "updates": updates}));
    let done = done.as_array().expect("an answer for each update");
    let mut changes = Vec::new();
    let mut paths = BTreeMap::new();
    for (done, (_, origin)) in done.iter().zip(of_project) {
        for done in done.as_array().expect("what an update did") {
            let [path, action, doc] = ["path", "action", "doc"].map(|key| text(&done[key]));
            let path = path.expect("an entry has a path");
            let action = action.expect("something was done");
            if let Some(doc) = &doc {
                paths.insert(doc.clone(), path.clone());
            }
            changes.extend(change(path, &action, doc, origin));
        }
    }
    for (doc, log) in logs.iter().filter(|(doc, _)| !doc.is_empty()) {
        let path = paths.get(doc).expect("a text has been at a path");
        let edits = log
            .iter()
            .filter_map(|(_, origin)| change(path.clone(), "edit", Some(doc.clone()), origin));
        changes.extend(edits);
    }
    changes
}

/// Whether the server has committed an update, byte for byte as it was sent.
#[track_caller]
pub fn is_stored(server: &Server, update: &[u8]) -> bool {
    let count = database(server).and_then(|db| {
        let same = "SELECT count(*) FROM updates WHERE body = ?1";
        db.query_row(same, [update], |row| row.get::<_, u64>(0))
    });
    count.expect("the server's database can be read") == 1
}

fn database(server: &Server) -> rusqlite::Result<Connection> {
    let path = server.data().join("uspark.db");
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
}

fn change(path: String, action: &str, doc: Option<String>, origin: &Value) -> Option<Change> {
    let of = |key: &str| text(&origin[key]);
    (!origin.is_null()).then(|| Change {
        path,
        action: action.to_owned(),
        doc,
        run: of("run"),
        tool_use_id: of("toolUseId"),
        tool: of("tool"),
    })
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// The updates of each document in order, each with its origin; the project's own document has no name.
type Logs = BTreeMap<String, Vec<(Vec<u8>, Value)>>;

fn logs(server: &Server, project: &Project) -> rusqlite::Result<Logs> {
    let db = database(server)?;
    let mut statement = db.prepare(
        "SELECT doc, body, (SELECT origin FROM origins
                            WHERE origins.document = updates.document AND origins.seq <= updates.seq
                            ORDER BY origins.seq DESC LIMIT 1)
         FROM updates JOIN documents ON key = document
         WHERE project = ?1 ORDER BY doc, seq",
    )?;
    let mut rows = statement.query([&project.id])?;
    let mut logs = Logs::new();
    while let Some(row) = rows.next()? {
        let origin = row.get::<_, Option<String>>(2)?;
        let origin = origin.map_or(Value::Null, |json| {
            serde_json::from_str(&json).expect("an origin is JSON")
        });
        logs.entry(row.get(0)?)
            .or_default()
            .push((row.get(1)?, origin));
    }
    Ok(logs)
}
