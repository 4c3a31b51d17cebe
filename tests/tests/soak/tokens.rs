//! Token conservation: people and programs insert unique lines everywhere at once, by every way there is, while
//! processes are killed. In the end each line is in every replica, on every disk and on the server, once.
//!
//! What lost its name to another (a file that was deleted here and typed into there) may be in a copy beside the file.

#![expect(
    clippy::print_stderr,
    reason = "what a killed agent said is shown when a token is missing"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Write as _},
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use fastrand::Rng;
use serde_json::json;
use uspark_tests::{Ended, Node, Project, Row, Running, SOON, Server, Workspace, eventually, same};

/// Files that programs in both workspaces write.
const SHARED: [&str; 3] = ["shared.txt", "src/shared.rs", "src/deep/er/shared.md"];
/// Files that only one workspace's programs write, who also rename them, and delete and make them again.
const OWN: [&str; 2] = ["own", "src/own"];
/// Lines that are in every file all the time.
const LINES: usize = 30;
/// Lines that a person types into a file in a round, and files that they type into.
const TYPED: (usize, usize) = (450, 2);
/// Writes of a program to a file in a round.
const WRITES: usize = 75;
/// Processes that are killed or stopped in a round, at most.
const DISTURBED: usize = 6;
/// Copies that may be left of a thousand tokens, on the average.
const COPIES: usize = 5;

#[test]
fn no_token_is_lost_or_doubled() {
    let mut row = Row::begin("token conservation");
    let wanted = row.count(1_000_000, 6_000);
    let mut world = World::new();
    let (mut done, mut rounds, mut copies) = (0, 0, 0);
    let mut ways = BTreeSet::new();
    while done < wanted {
        let tokens = world.round(&mut row.random);
        world.check(&tokens);
        copies += world.clear();
        done += tokens.values().map(BTreeMap::len).sum::<usize>();
        ways.extend(tokens.values().flat_map(BTreeMap::values).copied());
        rounds += 1;
        row.tell(format!("{done} tokens in {rounds} rounds"));
    }
    let disturbed = world.disturbed.clone();
    world.end();
    assert!(
        copies * 1000 <= COPIES * done,
        "{copies} copies of {done} tokens"
    );
    if row.is_full() {
        let others = ["typed", "typed offline"].into_iter();
        let all: BTreeSet<_> = HOW
            .into_iter()
            .filter(|how| *how != "renamed")
            .chain(others)
            .collect();
        assert_eq!(ways, all, "every way was taken");
        assert_eq!(
            disturbed.len(),
            4,
            "everything was disturbed: {disturbed:?}"
        );
    }
    row.held(format!(
        "{done} tokens in {rounds} rounds, {copies} copies kept, disturbed: {disturbed:?}"
    ));
}

/// The tokens that were put into each file, and how.
type Tokens = BTreeMap<String, BTreeMap<String, &'static str>>;

struct World {
    server: Server,
    project: Project,
    files: Vec<String>,
    /// The files' documents at the beginning of the round.
    documents: Vec<String>,
    sites: [Site; 2],
    people: [Node; 3],
    opened: BTreeSet<String>,
    /// How often what was disturbed.
    disturbed: BTreeMap<&'static str, usize>,
}

impl World {
    fn new() -> Self {
        let server = Server::start();
        let project = server.project();
        let mut sites = ['a', 'b'].map(|name| Site::new(&project, name));
        let own = sites.iter().flat_map(Site::own_files);
        let shared = SHARED.iter().map(ToString::to_string);
        let files: Vec<String> = shared.chain(own).collect();
        let text: String = (0..LINES).map(|n| format!("line {n}\n")).collect();
        for file in &files {
            project.put(file, text.as_str());
        }
        sites.iter_mut().for_each(Site::start);
        let people = [
            Node::client(&project),
            Node::client(&project),
            Node::collab(&project),
        ];
        let mut world = Self {
            server,
            project,
            files,
            documents: Vec::new(),
            sites,
            people,
            opened: BTreeSet::new(),
            disturbed: BTreeMap::new(),
        };
        world.settle();
        world
    }

    /// Everybody writes at once, and some are killed.
    fn round(&mut self, random: &mut Rng) -> Tokens {
        self.open();
        let (files, documents) = (&self.files, &self.documents);
        let writers: Vec<Writer> = self
            .sites
            .iter()
            .flat_map(|site| site.writers(random))
            .collect();
        let chaos = (&mut self.sites, &mut self.server, random.fork());
        let number = AtomicU64::new(0);
        thread::scope(|scope| {
            let mut tasks = Vec::new();
            for (person, who) in self.people.iter_mut().zip(["p", "q", "r"]) {
                let (mut random, number) = (random.fork(), &number);
                tasks.push(scope.spawn(move || {
                    let mut typed = Tokens::new();
                    for _ in 0..TYPED.1 {
                        let at = random.usize(..files.len());
                        let tokens = scatter(person, who, &documents[at], number, &mut random);
                        typed.entry(files[at].clone()).or_default().extend(tokens);
                    }
                    typed
                }));
            }
            for mut writer in writers {
                let number = &number;
                tasks.push(scope.spawn(move || {
                    for _ in 0..WRITES {
                        writer.write(number).expect("files can be written");
                    }
                    [(writer.file, writer.tokens)].into()
                }));
            }
            let chaos = scope.spawn(move || {
                let (sites, server, mut random) = chaos;
                disturb(sites, server, &mut random)
            });
            let mut all = Tokens::new();
            for task in tasks {
                for (file, tokens) in task.join().expect("nobody panics") {
                    all.entry(file).or_default().extend(tokens);
                }
            }
            for (what, times) in chaos.join().expect("nobody panics") {
                *self.disturbed.entry(what).or_default() += times;
            }
            all
        })
    }

    /// Everybody opens what the files' documents are now.
    fn open(&mut self) {
        let document = |file: &String| self.project.document(file);
        self.documents = self.files.iter().map(document).collect();
        for document in &self.documents {
            if self.opened.insert(document.clone()) {
                for person in &mut self.people {
                    person.call("open", json!({"document": document}));
                }
            }
        }
    }

    /// Waits until every replica, every disk and the server are equal.
    fn settle(&mut self) {
        for document in &self.documents {
            for person in &mut self.people {
                person.call("waitSaved", json!({"document": document}));
            }
        }
        eventually(SOON * 2, || {
            for site in &self.sites {
                let ended = site
                    .workspace
                    .run(&["status", "--wait", "--sync-timeout", "20"]);
                ensure!(ended.code == 0, "{}: {}", site.name, ended.stderr);
            }
            for site in &self.sites {
                let differs = || format!("workspace {}", site.name);
                site.workspace.equals(&self.project).with_context(differs)?;
            }
            Ok(())
        });
    }

    fn check(&mut self, tokens: &Tokens) {
        self.settle();
        let tree = self.sites[0].workspace.tree().expect("it can be listed");
        for (file, tokens) in tokens {
            let text = self.sites[0].workspace.text(file).expect("it is there");
            // What lost its name to another is kept beside it.
            let stem = file.trim_end_matches(".txt");
            let copies = tree
                .keys()
                .filter(|path| path.starts_with(stem) && *path != file);
            let copies: String = copies
                .filter_map(|path| self.sites[0].workspace.text(path).ok())
                .collect();
            let wrong: Vec<_> = tokens
                .iter()
                .map(|token| (token, text.matches(&format!("{}\n", token.0)).count()))
                .filter(|((token, _), count)| {
                    *count > 1 || *count == 0 && !copies.contains(&format!("{token}\n"))
                })
                .collect();
            assert!(
                wrong.is_empty(),
                "in {file}, tokens and how often they are there: {wrong:?}\n{:?}\n{text}\ncopies:\n{copies}",
                tree.keys()
            );
            let known = text.lines().filter(|line| line.starts_with('<'));
            let strange: Vec<&str> = known.filter(|line| !tokens.contains_key(*line)).collect();
            assert!(strange.is_empty(), "{strange:?} in {file}");
            for line in 0..LINES {
                let count = text.matches(&format!("line {line}\n")).count();
                assert_eq!(count, 1, "line {line} in {file}:\n{text}");
            }
        }
        self.open();
        for (file, document) in self.files.iter().zip(&self.documents) {
            let text = self.sites[0].workspace.text(file).expect("it is there");
            for person in &mut self.people {
                let theirs = person.call("waitText", json!({"document": document, "equals": text}));
                same(theirs.as_str(), Some(text.as_str())).expect(file);
            }
        }
    }

    /// Takes this round's tokens out again, and what was kept beside the files. Gives how many copies that were.
    fn clear(&mut self) -> usize {
        let tree = self.sites[0].workspace.tree().expect("it can be listed");
        let is_copy = |path: &&String| path.contains(".conflict-") || path.ends_with(".moved");
        let copies = tree.keys().filter(is_copy).map(|path| {
            fs::remove_file(self.sites[0].workspace.path(path)).expect("it is there");
        });
        let copies = copies.count();
        for document in &self.documents {
            let lines = json!({"document": document, "pattern": "^<"});
            self.people[0].call("deleteLines", lines);
        }
        self.settle();
        copies
    }

    fn end(self) {
        for mut site in self.sites {
            let agent = site.agent.take().expect("it runs");
            agent.terminate().expect_code(0);
        }
    }
}

/// A person types lines into a document; sometimes the connection is lost.
fn scatter(
    person: &mut Node,
    who: &str,
    document: &str,
    number: &AtomicU64,
    random: &mut Rng,
) -> BTreeMap<String, &'static str> {
    let mut tokens = BTreeMap::new();
    for part in 0..3 {
        let offline = part == 1 && random.u8(..) < 40;
        if offline {
            person.call("disconnect", json!({"document": document}));
        }
        let lines: Vec<String> = (0..TYPED.0 / 3).map(|_| token(who, number)).collect();
        let seed = random.u32(..);
        let pause = random.u32(1..8);
        person.call(
            "scatter",
            json!({"document": document, "lines": lines, "seed": seed, "pause": pause}),
        );
        if offline {
            person.call("reconnect", json!({"document": document}));
        }
        let how = if offline { "typed offline" } else { "typed" };
        tokens.extend(lines.into_iter().map(|line| (line, how)));
    }
    tokens
}

fn token(who: &str, number: &AtomicU64) -> String {
    format!("<{who}{}>", number.fetch_add(1, Ordering::Relaxed))
}

/// Kills or stops what may be, and starts it again. Gives what, and how often.
fn disturb(
    sites: &mut [Site; 2],
    server: &mut Server,
    random: &mut Rng,
) -> BTreeMap<&'static str, usize> {
    let mut disturbed = BTreeMap::new();
    for _ in 0..random.usize(..=DISTURBED) {
        pause(random, 200);
        let site = &mut sites[random.usize(..2)];
        let what = match random.u8(..10) {
            0..5 => {
                site.ended(Running::kill9);
                pause(random, 100);
                site.start();
                "agent killed"
            }
            5..7 => {
                site.ended(Running::terminate);
                site.start();
                "agent stopped"
            }
            7..9 => {
                server.kill9();
                pause(random, 100);
                server.restart();
                "server killed"
            }
            _ => {
                server.terminate();
                server.restart();
                "server stopped"
            }
        };
        *disturbed.entry(what).or_default() += 1;
    }
    disturbed
}

fn pause(random: &mut Rng, most: u64) {
    uspark_tests::pause(Duration::from_millis(random.u64(..most)));
}

/// A workspace and the agent on it.
struct Site {
    name: char,
    project: String,
    workspace: Workspace,
    agent: Option<Running>,
    /// What the agents before it said.
    said: String,
}

impl Drop for Site {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!(
                "--- agents of {} before the last:\n{}",
                self.name, self.said
            );
        }
    }
}

impl Site {
    fn new(project: &Project, name: char) -> Self {
        Self {
            name,
            project: project.id.clone(),
            workspace: Workspace::new(project),
            agent: None,
            said: String::new(),
        }
    }

    fn ended(&mut self, end: impl FnOnce(Running) -> Ended) {
        let ended = end(self.agent.take().expect("it runs"));
        self.said.push_str(&ended.stderr);
    }

    fn start(&mut self) {
        let agent = self
            .workspace
            .start(&["watch", "--project-id", &self.project]);
        self.agent = Some(agent);
    }

    fn own_files(&self) -> Vec<String> {
        OWN.iter()
            .map(|name| format!("{name}-{}.txt", self.name))
            .collect()
    }

    fn writers(&self, random: &mut Rng) -> Vec<Writer> {
        let shared = SHARED.iter().map(|name| (name.to_string(), false));
        let own = self.own_files().into_iter().map(|name| (name, true));
        let writer = |(file, moves): (String, bool)| Writer {
            who: self.name.to_string(),
            path: self.workspace.path(&file),
            file,
            moves,
            random: random.fork(),
            tokens: BTreeMap::new(),
        };
        shared.chain(own).map(writer).collect()
    }
}

/// The programs that write one file of a workspace, one after the other.
struct Writer {
    who: String,
    file: String,
    path: PathBuf,
    moves: bool,
    random: Rng,
    tokens: BTreeMap<String, &'static str>,
}

const HOW: [&str; 9] = [
    "appended",
    "in place",
    "atomically",
    "stale, in place",
    "stale, atomically",
    "in chunks",
    "renamed",
    "renamed, in place",
    "made anew",
];

impl Writer {
    /// One write, with new tokens in it.
    fn write(&mut self, number: &AtomicU64) -> io::Result<()> {
        pause(&mut self.random, 6);
        let kind = self.random.u8(..if self.moves { 9 } else { 6 });
        if kind == 0 {
            let line = format!("{}\n", self.token(number, HOW[kind as usize]));
            return fs::OpenOptions::new()
                .append(true)
                .open(&self.path)?
                .write_all(line.as_bytes());
        }
        let moved = self.path.with_extension("moved");
        if kind == 6 {
            fs::rename(&self.path, &moved)?;
            pause(&mut self.random, 80);
            return fs::rename(&moved, &self.path);
        }
        let mut text = fs::read_to_string(&self.path)?;
        for _ in 0..self.random.usize(1..4) {
            let line = format!("{}\n", self.token(number, HOW[kind as usize]));
            let starts: Vec<usize> = text.match_indices('\n').map(|(at, _)| at + 1).collect();
            let at = self.random.choice(&starts).copied().unwrap_or(0);
            text.insert_str(at, &line);
        }
        match kind {
            1 => fs::write(&self.path, text),
            2 => self.replace(&text),
            3 => {
                // It thinks, and others write.
                pause(&mut self.random, 40);
                fs::write(&self.path, text)
            }
            4 => {
                pause(&mut self.random, 40);
                self.replace(&text)
            }
            5 => {
                let mut file = fs::File::create(&self.path)?;
                for chunk in text.as_bytes().chunks(text.len() / 3 + 1) {
                    file.write_all(chunk)?;
                    pause(&mut self.random, 4);
                }
                Ok(())
            }
            7 => {
                fs::rename(&self.path, &moved)?;
                fs::write(&moved, text)?;
                pause(&mut self.random, 20);
                fs::rename(&moved, &self.path)
            }
            _ => {
                fs::remove_file(&self.path)?;
                fs::write(&self.path, text)
            }
        }
    }

    /// As editors save: another file takes the name.
    fn replace(&mut self, text: &str) -> io::Result<()> {
        let mut aside = self.path.clone().into_os_string();
        aside.push(format!(".tmp.1.{}", self.random.u32(..)));
        fs::write(&aside, text)?;
        fs::rename(aside, &self.path)
    }

    fn token(&mut self, number: &AtomicU64, how: &'static str) -> String {
        let token = token(&self.who, number);
        self.tokens.insert(token.clone(), how);
        token
    }
}
