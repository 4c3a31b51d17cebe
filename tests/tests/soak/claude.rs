//! The real Claude Code edits while a person types, and neither hinders the other.
//!
//! Claude Code refuses to edit a file that has changed since it read it. Some versions go by the time alone, so a file
//! whose bytes stay must not be touched.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, SystemTime},
};

use serde_json::json;
use uspark_tests::{Model, Node, Project, Row, Server, Turn, Workspace, pause};

use crate::watched::{EndOnDrop, LONG};

/// What Claude Code edits.
const EDITED: &str = "src/edited.js";
/// What a person types into while it does so, unless it is the same.
const OTHERS: [&str; 3] = ["src/one.js", "two.md", "notes/three.txt"];
/// A person's words: five a second.
const PACE: Duration = Duration::from_millis(200);

/// A file with a place for the person, and lines between that and where Claude Code writes.
fn text() -> String {
    let lines: String = (0..40).map(|line| format!("// line {line}\n")).collect();
    format!("// the person:\n{lines}export const count = 0\n")
}

/// What a row's run came to.
struct Ran {
    /// What the tools said, in order, and whether it was an error.
    results: Vec<(String, bool)>,
    words: Vec<(&'static str, String)>,
    text: String,
    /// How often the edited file's time changed and its bytes did not.
    touched: usize,
}

impl Ran {
    /// Every word that was typed is where it was typed, once.
    fn check_words(&self, workspace: &Workspace) {
        for (path, word) in &self.words {
            let text = workspace.text(path).expect("the file is there");
            assert_eq!(
                text.matches(word.as_str()).count(),
                1,
                "{word} in {path}: {text}"
            );
        }
    }
}

/// Runs Claude Code on these turns, while a person types into these files.
fn run(
    turns: impl FnOnce(&str) -> Vec<Turn>,
    typed: &[&'static str],
) -> (Ran, Workspace, Project, Server) {
    let server = Server::start();
    let project = server.project();
    for path in OTHERS.into_iter().chain([EDITED]) {
        project.put(path, text());
    }
    let workspace = Workspace::new(&project);
    let edited = workspace.path(EDITED).display().to_string();
    let model = Model::start(turns(&edited));
    let workspace = model
        .environment()
        .into_iter()
        .fold(workspace, |workspace, (name, value)| {
            workspace.env(name, value)
        });
    let mut person = Node::client(&project);
    let documents: Vec<String> = typed.iter().map(|path| project.document(path)).collect();
    for document in &documents {
        person.call("open", json!({"document": document}));
    }

    // It begins when the file is there for good.
    workspace
        .run(&["pull", "--project-id", &project.id])
        .expect_code(0);
    let over = AtomicBool::new(false);
    let (mut words, mut touched) = (Vec::new(), 0);
    thread::scope(|scope| {
        let end = EndOnDrop(&over);
        let typing = scope.spawn(|| {
            let mut words = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let which = words.len() % typed.len();
                let word = format!("<w{}>", words.len());
                let word = (typed[which], word);
                let insert = json!({"document": documents[which], "after": "// the person:", "text": word.1});
                person.call("insert", insert);
                words.push(word);
                pause(PACE);
            }
            for document in &documents {
                person.call("waitSaved", json!({"document": document}));
            }
            words
        });
        let looking = scope.spawn(|| touches(&workspace.path(EDITED), &over));
        let prompt = ["run", "--project-id", &project.id, "--prompt", "count"];
        workspace.start(&prompt).wait_within(LONG).expect_code(0);
        drop(end);
        words = typing.join().expect("the person types");
        touched = looking.join().expect("the file is there");
    });
    // What was typed after the last sync is fetched.
    workspace.run(&["pull"]).expect_code(0);
    workspace.equals(&project).expect("all is equal in the end");
    let ran = Ran {
        results: model.tool_results(),
        text: workspace.text(EDITED).expect("the file is there"),
        words,
        touched,
    };
    ran.check_words(&workspace);
    (ran, workspace, project, server)
}

/// Looks at a file until it is over: how often its time changed and its bytes did not.
fn touches(path: &Path, over: &AtomicBool) -> usize {
    let look = || -> io::Result<(SystemTime, Vec<u8>)> {
        let mut file = File::open(path)?;
        let (mut bytes, time) = (Vec::new(), file.metadata()?.modified()?);
        file.read_to_end(&mut bytes)?;
        Ok((time, bytes))
    };
    let mut touched = 0;
    let mut before = look().expect("the file is there");
    while !over.load(Ordering::Relaxed) {
        let now = look().expect("the file is there");
        touched += usize::from(now.0 != before.0 && now.1 == before.1);
        before = now;
        pause(Duration::from_millis(2));
    }
    touched
}

fn edit(path: &str, number: usize) -> Turn {
    let (old, new) = (
        format!("count = {number}\n"),
        format!("count = {}\n", number + 1),
    );
    Turn::tool(
        "Edit",
        json!({"file_path": path, "old_string": old, "new_string": new}),
    )
}

#[test]
fn a_person_in_other_files_hinders_no_edit() {
    let row = Row::begin("Claude Code edits, a person types in other files");
    let edits = row.count(200, 10);
    let turns = |path: &str| {
        let read = Turn::tool("Read", json!({"file_path": path}));
        [read]
            .into_iter()
            .chain((0..edits).map(|number| edit(path, number)))
            .collect()
    };
    let (ran, ..) = run(turns, &OTHERS);
    let refused: Vec<&String> = ran
        .results
        .iter()
        .filter(|(_, failed)| *failed)
        .map(|(said, _)| said)
        .collect();
    assert!(
        refused.is_empty() && ran.results.len() == edits + 1,
        "{} of {edits}: {refused:?}",
        ran.results.len()
    );
    assert!(
        ran.text.ends_with(&format!("count = {edits}\n")),
        "{}",
        ran.text
    );
    assert_eq!(ran.touched, 0, "the file was touched");
    row.held(format!(
        "{edits} edits, {} words beside them, 0 refused, 0 words lost",
        ran.words.len()
    ));
}

#[test]
fn a_person_in_the_same_file_hinders_only_what_they_changed() {
    let row = Row::begin("Claude Code edits, a person types in the same file");
    let edits = row.count(200, 10);
    // Every edit is of a line of its own, so that one that is refused changes nothing for the next.
    let turns = |path: &str| {
        let pairs = (0..edits).flat_map(|number| {
            let read = Turn::tool("Read", json!({"file_path": path}));
            let line = format!("// line {}\n", number % 40);
            let edit = json!({"file_path": path, "old_string": line, "new_string": format!("{line}// edit-{number};\n")});
            [read, Turn::tool("Edit", edit)]
        });
        pairs.collect()
    };
    let (ran, ..) = run(turns, &[EDITED]);
    assert_eq!(ran.results.len(), 2 * edits, "{:?}", ran.results);
    let mut refused = 0;
    for number in 0..edits {
        let (said, failed) = &ran.results[2 * number + 1];
        let is_there = ran.text.matches(&format!("// edit-{number};\n")).count();
        assert_eq!(
            is_there,
            usize::from(!failed),
            "edit {number}: {said}\n{}",
            ran.text
        );
        if *failed {
            refused += 1;
            assert!(said.contains("modified"), "{said}");
            // What it read before and after tells whether the bytes were others.
            let seen = |at: usize| ran.results.get(at).map(|(said, _)| said);
            let (before, after) = (seen(2 * number), seen(2 * number + 2));
            assert!(
                before != after,
                "edit {number} was refused, and nothing had changed: {said}"
            );
        }
    }
    assert_eq!(ran.touched, 0, "the file was touched");
    row.held(format!(
        "{edits} edits, {} words in the same file, {refused} refused for changed bytes, 0 for others, 0 words lost",
        ran.words.len()
    ));
}
