//! The agent is killed with -9 at random points, and nothing is lost, nor ever half there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, OpenOptions},
    io::Write,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use serde_json::json;
use uspark_tests::{Node, Project, Row, Running, SOON, Server, Workspace, eventually, pause};

use crate::watched::{EndOnDrop, barrier};

/// Where the script and the person write both.
const SHARED: &str = "shared.txt";
/// Files of which others put whole versions: a text and a binary.
const VERSIONS: [&str; 2] = ["versions.txt", "versions.bin"];
/// Where others put files that were not there before.
const NEW: &str = "new";
/// One in so many rounds of versions puts a new file too.
const ROUNDS_TO_NEW: usize = 4;
/// Of so many kills at most one leaves a conflict copy.
const KILLS_TO_COPY: usize = 100;
/// Files that the script alone writes.
const OWN: usize = 12;
/// How the agent's names begin for what is not complete yet.
const TEMPORARY: &str = ".uspark-tmp-";

#[test]
fn an_agent_killed_at_random_points() {
    let mut row = Row::begin("agent killed -9");
    let server = Server::start();
    let project = server.project();
    project.put(SHARED, "the person:\nthe script:\n");
    for path in VERSIONS {
        project.put(path, version(path, 0));
    }
    project.put(&new_name(0), version(&new_name(0), 0));
    let workspace = Workspace::new(&project);
    let watch = ["watch", "--project-id", &project.id];
    workspace
        .run(&["pull", "--project-id", &project.id])
        .expect_code(0);
    let document = project.document(SHARED);
    let mut person = Node::collab(&project);
    person.call("open", json!({"document": document}));

    let kills = row.count(1000, 15);
    let over = AtomicBool::new(false);
    let mut script = Script::new(&workspace, row.random.fork());
    let (words, (versions, new), looks) = thread::scope(|scope| {
        let end = EndOnDrop(&over);
        let typing = scope.spawn(|| type_words(&mut person, &document, &over));
        let putting = scope.spawn(|| put_versions(&project, &over));
        let looking = scope.spawn(|| look(&workspace, &over));
        let writing = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                script.step();
            }
        });
        for kill in 0..kills {
            let agent = workspace.start(&watch);
            // Most die while they begin, some at work, and a few when they have been at work for long.
            pause(Duration::from_millis(match kill % 50 {
                7 => row.random.u64(2000..5000),
                0..5 => row.random.u64(..500),
                _ => row.random.u64(..120),
            }));
            agent.kill9();
        }
        drop(end);
        writing.join().expect("the script writes");
        (
            typing.join().expect("the person types"),
            putting.join().expect("versions are put"),
            looking.join().expect("every version is whole"),
        )
    });

    let agent = workspace.start(&watch);
    eventually(SOON, || {
        let status = workspace.run(&["status"]);
        anyhow::ensure!(status.text().contains("uspark watch"), "{status}");
        Ok(())
    });
    person.call("waitSaved", json!({"document": document}));
    barrier(&workspace);
    workspace.equals_by_hash(&project).unwrap();
    let copies = script.check(&workspace, &new);
    assert!(
        copies.len() * KILLS_TO_COPY <= kills + KILLS_TO_COPY,
        "{} conflict copies after {kills} kills",
        copies.len()
    );
    let mut find = workspace.bash(&format!("find . -name '{TEMPORARY}*'"));
    let left = Running::start(&mut find).wait().expect_code(0).text();
    assert_eq!(left, "", "what was not complete is still there");
    for path in new.iter().map(String::as_str).chain(VERSIONS) {
        assert!(is_whole(&workspace.read(path).unwrap()), "{path}");
    }
    let shared = workspace.text(SHARED).unwrap();
    // What the script wrote while the file was exchanged, and the agent then died, is kept beside it.
    let kept: String = copies
        .iter()
        .map(|copy| workspace.text(copy).unwrap())
        .collect();
    for (tokens, elsewhere) in [(&words, ""), (&script.tokens, kept.as_str())] {
        for token in tokens {
            let count = shared.matches(token.as_str()).count();
            let is_there = count == 1 || (count == 0 && elsewhere.contains(token.as_str()));
            assert!(
                is_there,
                "{token} is there {count} times: {shared}\n{copies:?}"
            );
        }
    }
    person.call("waitText", json!({"document": document, "equals": shared}));
    agent.terminate().expect_code(0);
    row.held(format!(
        "{kills} kills, {} words typed and {} written into one file, {} steps beside it, {versions} versions and {} new files seen whole in {looks} looks, {} conflict copies, 0 differences",
        words.len(),
        script.tokens.len(),
        script.steps,
        new.len(),
        copies.len()
    ));
}

/// Types words into the shared file until it is over; gives them.
fn type_words(person: &mut Node, document: &str, over: &AtomicBool) -> Vec<String> {
    let mut words = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let word = format!("<p{}>", words.len());
        person.call(
            "insert",
            json!({"document": document, "after": "the person:", "text": word}),
        );
        words.push(word);
        pause(Duration::from_millis(50));
    }
    words
}

/// A whole version: a line with the hash of what follows, and that. One that ends in `.bin` is no text.
fn version(path: &str, number: usize) -> Vec<u8> {
    let mut body: String = (0..2000)
        .map(|line| format!("line {line} of version {number}\n"))
        .collect();
    if path.ends_with(".bin") {
        body.push('\0');
    }
    format!("{}\n{body}", blake3::hash(body.as_bytes()).to_hex()).into_bytes()
}

fn is_whole(bytes: &[u8]) -> bool {
    let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
    let (hash, body) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    blake3::hash(body).to_hex().as_bytes() == hash
}

/// The path of a new file: every other one is a binary.
fn new_name(number: usize) -> String {
    let kind = if number.is_multiple_of(2) {
        "txt"
    } else {
        "bin"
    };
    format!("{NEW}/{number}.{kind}")
}

/// Puts version after version, and now and then a new file, until it is over; gives how many, and the files.
fn put_versions(project: &Project, over: &AtomicBool) -> (usize, Vec<String>) {
    let mut number = 0;
    let mut new = vec![new_name(0)];
    while !over.load(Ordering::Relaxed) {
        number += 1;
        for path in VERSIONS {
            project.put(path, version(path, number));
        }
        if number.is_multiple_of(ROUNDS_TO_NEW) {
            let path = new_name(new.len());
            project.put(&path, version(&path, number));
            new.push(path);
        }
        pause(Duration::from_millis(30));
    }
    (number, new)
}

/// Reads the versions again and again, and each new file once it has its name, until it is over; gives how often.
fn look(workspace: &Workspace, over: &AtomicBool) -> usize {
    let mut looks = 0;
    let mut known = BTreeSet::new();
    while !over.load(Ordering::Relaxed) {
        let new = fs::read_dir(workspace.path(NEW)).expect("the first of them was pulled");
        let new = new.map(|entry| entry.expect("it can be listed").file_name());
        let new = new.filter_map(|name| name.into_string().ok());
        let new = new.filter(|name| !name.starts_with(TEMPORARY) && known.insert(name.clone()));
        let new: Vec<String> = new.map(|name| format!("{NEW}/{name}")).collect();
        for path in new.iter().map(String::as_str).chain(VERSIONS) {
            let bytes = workspace
                .read(path)
                .unwrap_or_else(|error| panic!("{path}: {error}"));
            assert!(
                is_whole(&bytes),
                "{path} is no whole version: {} bytes",
                bytes.len()
            );
            looks += 1;
        }
        pause(Duration::from_millis(1));
    }
    looks
}

/// A program that writes in every way there is.
struct Script<'a> {
    workspace: &'a Workspace,
    random: fastrand::Rng,
    /// What its own files hold.
    own: BTreeMap<String, String>,
    /// What it wrote into the shared file.
    tokens: Vec<String>,
    steps: usize,
}

impl<'a> Script<'a> {
    fn new(workspace: &'a Workspace, random: fastrand::Rng) -> Self {
        fs::create_dir(workspace.path("own")).expect("a directory of our own");
        Self {
            workspace,
            random,
            own: BTreeMap::new(),
            tokens: Vec::new(),
            steps: 0,
        }
    }

    fn step(&mut self) {
        self.steps += 1;
        let path = format!("own/f{}", self.random.usize(..OWN));
        match self.random.u8(..10) {
            0..3 => self.write(path, write_in_place),
            3..6 => self.write(path, write_by_rename),
            6 => {
                if self.own.remove(&path).is_some() {
                    fs::remove_file(self.workspace.path(&path)).expect("it is there");
                }
            }
            7 => self.append(),
            _ => self.insert(),
        }
        pause(Duration::from_millis(self.random.u64(1..20)));
    }

    fn write(&mut self, path: String, write: fn(&Path, &str)) {
        let lines = 1 + self.random.usize(..300);
        let step = self.steps;
        let text: String = (0..lines)
            .map(|line| format!("line {line} of step {step}\n"))
            .collect();
        write(&self.workspace.path(&path), &text);
        self.own.insert(path, text);
    }

    /// Appends to the shared file as `>>` does.
    fn append(&mut self) {
        let token = self.token();
        let mut file = OpenOptions::new()
            .append(true)
            .open(self.workspace.path(SHARED))
            .expect("it is there");
        file.write_all(format!("{token}\n").as_bytes())
            .expect("there is room");
    }

    /// Reads the shared file and writes all of it, as editors and agents do.
    fn insert(&mut self) {
        let token = self.token();
        let path = self.workspace.path(SHARED);
        let text = fs::read_to_string(&path).expect("it is there");
        let text = text.replacen("the script:\n", &format!("the script:\n{token}\n"), 1);
        match self.random.bool() {
            true => write_in_place(&path, &text),
            false => write_by_rename(&path, &text),
        }
    }

    fn token(&mut self) -> String {
        let token = format!("<s{}>", self.tokens.len());
        self.tokens.push(token.clone());
        token
    }

    /// Its own files are exactly what it left, and nobody has made any but copies of the shared one: gives those.
    fn check(&self, workspace: &Workspace, new: &[String]) -> Vec<String> {
        let tree = workspace.outline().expect("nobody changes it any more");
        let expected = self
            .own
            .keys()
            .map(String::as_str)
            .chain(new.iter().map(String::as_str))
            .chain(VERSIONS)
            .chain([SHARED]);
        let mut expected: Vec<&str> = expected.collect();
        expected.sort_unstable();
        let is_copy = |path: &&str| path.starts_with(&format!("{SHARED}.conflict-"));
        let (copies, found): (Vec<&str>, Vec<&str>) =
            tree.keys().map(String::as_str).partition(is_copy);
        assert_eq!(found, expected);
        for (path, text) in &self.own {
            assert!(
                workspace.text(path).expect("it is listed") == *text,
                "{path} is not what was written last"
            );
        }
        copies.into_iter().map(str::to_owned).collect()
    }
}

fn write_in_place(path: &Path, text: &str) {
    fs::write(path, text).expect("there is room");
}

fn write_by_rename(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).expect("there is room");
    fs::rename(&new, path).expect("both are here");
}
