//! The real Claude Code edits while a person types, and neither hinders the other.
//!
//! Claude Code refuses to edit a file that has changed since it read it. Some versions go by the time alone, so a file
//! whose bytes stay must not be touched.
//!
//! Who watches the file logs its versions by the kernel's time of change, so that a late look blames nobody.

use std::{
    fs::File,
    io::{self, Read},
    ops::RangeInclusive,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
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
/// Where they are typed.
const PLACE: &str = "// the person:";
/// How each of them begins, and nothing else.
const WORD: &str = "<w";

/// A file with a place for the person, and lines between that and where Claude Code writes.
fn text() -> String {
    let lines: String = (0..40).map(|line| format!("// line {line}\n")).collect();
    format!("{PLACE}\n{lines}export const count = 0\n")
}

/// What a row's run came to.
struct Ran {
    /// What the tools said, in order, and whether it was an error.
    results: Vec<(String, bool)>,
    words: Vec<(&'static str, String)>,
    text: String,
    /// The edited file's versions, as they came.
    versions: Vec<Version>,
    /// When the model was asked for each of its answers, and so had the result of the tool before.
    asked: Vec<SystemTime>,
}

/// What a look at a file found that was not what the one before had found.
struct Version {
    /// When the file's bytes or its name last changed.
    since: SystemTime,
    modified: SystemTime,
    hash: blake3::Hash,
    /// How many words of the person are in it.
    words: usize,
}

impl Ran {
    /// How often the edited file's time changed and its bytes did not.
    fn touched(&self) -> usize {
        let pairs = self.versions.windows(2);
        let touched = |pair: &&[Version]| {
            pair[0].modified != pair[1].modified && pair[0].hash == pair[1].hash
        };
        pairs.filter(touched).count()
    }

    /// The numbers of the person's words that were in the edited file at some moment of a time.
    fn words_during(&self, time: RangeInclusive<SystemTime>) -> Vec<usize> {
        let ends = self.versions.iter().skip(1).map(|next| next.since);
        let ends = ends.chain([SystemTime::now()]);
        let there = self.versions.iter().zip(ends);
        let there =
            there.filter(|(version, end)| version.since <= *time.end() && end >= time.start());
        there.map(|(version, _)| version.words).collect()
    }

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
    let workspace = model.asked_by(workspace);
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
    let (mut words, mut versions) = (Vec::new(), Vec::new());
    thread::scope(|scope| {
        let end = EndOnDrop(&over);
        let typing = scope.spawn(|| {
            let mut words = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let which = words.len() % typed.len();
                let word = format!("{WORD}{}>", words.len());
                let word = (typed[which], word);
                let insert = json!({"document": documents[which], "after": PLACE, "text": word.1});
                person.call("insert", insert);
                words.push(word);
                pause(PACE);
            }
            for document in &documents {
                person.call("waitSaved", json!({"document": document}));
            }
            words
        });
        let looking = scope.spawn(|| versions_of(&workspace.path(EDITED), &over));
        let prompt = ["run", "--project-id", &project.id, "--prompt", "count"];
        workspace.start(&prompt).wait_within(LONG).expect_code(0);
        drop(end);
        words = typing.join().expect("the person types");
        versions = looking.join().expect("the file is there");
    });
    // What was typed after the last sync is fetched.
    workspace.run(&["pull"]).expect_code(0);
    workspace.equals(&project).expect("all is equal in the end");
    let results = model.tool_results();
    let ran = Ran {
        asked: (0..=results.len())
            .map(|turn| model.asked_at(turn))
            .collect(),
        results,
        text: workspace.text(EDITED).expect("the file is there"),
        words,
        versions,
    };
    ran.check_words(&workspace);
    (ran, workspace, project, server)
}

/// Looks at a file until it is over; gives all that it found.
fn versions_of(path: &Path, over: &AtomicBool) -> Vec<Version> {
    let look = || -> io::Result<Version> {
        let (bytes, metadata) = loop {
            let mut file = File::open(path)?;
            let (mut bytes, before) = (Vec::new(), file.metadata()?);
            file.read_to_end(&mut bytes)?;
            let after = file.metadata()?;
            // Who writes in place may be between the two.
            if before.modified()? == after.modified()? {
                break (bytes, after);
            }
        };
        let since = Duration::new(
            metadata.ctime().try_into().expect("after 1970"),
            metadata.ctime_nsec().try_into().expect("below a second"),
        );
        Ok(Version {
            since: UNIX_EPOCH + since,
            modified: metadata.modified()?,
            hash: blake3::hash(&bytes),
            words: String::from_utf8_lossy(&bytes).matches(WORD).count(),
        })
    };
    let mut versions = vec![look().expect("the file is there")];
    while !over.load(Ordering::Relaxed) {
        let now = look().expect("the file is there");
        let last = versions.last().expect("there is the first");
        if (now.modified, now.hash) != (last.modified, last.hash) {
            versions.push(now);
        }
        pause(Duration::from_millis(2));
    }
    versions
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
    assert_eq!(ran.touched(), 0, "the file was touched");
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
    let (mut refused, mut read) = (0, 0);
    for number in 0..edits {
        // By its words a version is told from others: nobody but the person writes between a Read and its Edit, and nobody
        // takes a word away. A file that it knows is not shown to Claude Code again.
        let (shown, _) = &ran.results[2 * number];
        if shown.contains(PLACE) {
            read = shown.matches(WORD).count();
        }
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
            // Its bytes must have been others before it said that they were.
            let between = ran.words_during(ran.asked[2 * number + 1]..=ran.asked[2 * number + 2]);
            assert!(
                between.iter().any(|words| *words != read),
                "edit {number} was refused, and nothing had changed: {said}"
            );
        }
    }
    assert_eq!(ran.touched(), 0, "the file was touched");
    row.held(format!(
        "{edits} edits, {} words in the same file, {refused} refused for changed bytes, 0 for others, 0 words lost",
        ran.words.len()
    ));
}
