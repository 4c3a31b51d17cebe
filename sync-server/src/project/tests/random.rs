//! Whatever agents do to a project's structure, in whatever order it arrives: the server ends with
//! a tree that every disk can hold, every replica equal to it, no text lost and nobody stuck, and a
//! restart changes nothing.

use std::collections::{BTreeSet, HashSet};

use uspark_shared::codec::Writer;
use uspark_shared::schema::TextVersion;
use uspark_tests::Row;

use super::*;
use crate::store::Reader;

/// Names that collide in every way: case, Unicode, a file where a directory is.
const PATHS: [&str; 9] = [
    "a", "A", "a/b", "A/b", "d/x", "D/x", "\u{e9}", "e\u{301}", "b",
];
const AGENTS: usize = 3;
const STEPS: usize = 40;

/// Random numbers.
struct Dice(fastrand::Rng);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0.usize(..sides)
    }

    /// A client id that nobody has.
    fn client(&mut self) -> ClientId {
        ClientId::from_random(self.0.u32(..).to_le_bytes())
    }

    fn path(&mut self) -> &'static str {
        PATHS[self.roll(PATHS.len())]
    }
}

/// What happened so far.
#[derive(Default)]
struct Story {
    /// Text documents that were made: `doc-1` and so on.
    drawn: usize,
    /// Contents that entries name and nobody has uploaded yet.
    absent: Vec<String>,
    /// What was typed, each word once.
    words: Vec<String>,
    /// Made by somebody who was cut off then, and has yet to come back.
    cut_off: Vec<CutOff>,
}

/// An update that replaces a path, whose author knew the project as it was then.
struct CutOff {
    update: Vec<u8>,
    content: String,
    /// What it replaces knowingly.
    replaces: Option<Entry>,
}

impl Story {
    fn draw(&mut self) -> String {
        self.drawn += 1;
        format!("doc-{}", self.drawn)
    }
}

/// A workspace: what it has, and what it has not sent yet.
struct Agent {
    replica: ProjectReplica,
    unsent: Vec<Vec<u8>>,
}

impl Agent {
    fn new(dice: &mut Dice) -> Self {
        Self {
            replica: ProjectReplica::new(dice.client()),
            unsent: Vec::new(),
        }
    }

    fn edit(&mut self, edits: &[ProjectEdit]) {
        self.unsent.extend(self.replica.edit(edits));
    }

    /// One of its paths with a text.
    fn any_text(&self, dice: &mut Dice) -> Option<(FilePath, Entry)> {
        let mut texts = self.replica.entries();
        texts.retain(|(_, entry)| entry.doc().is_some());
        texts.sort_by(|(a, _), (b, _)| a.cmp(b));
        let which = dice.roll(texts.len().max(1));
        texts.into_iter().nth(which)
    }
}

async fn step(server: &Server, agents: &mut [Agent], dice: &mut Dice, story: &mut Story) {
    let agent = &mut agents[dice.roll(AGENTS)];
    let at = dice.path();
    match dice.roll(21) {
        0..=2 => {
            let content = format!("text {}\n", dice.roll(4));
            let entry = text(&story.draw(), server.blob(&content).await);
            agent.edit(&[set(at, entry)]);
        }
        3 => {
            let content = format!("binary {}\0", dice.roll(3));
            let hash = server.blob(&content).await;
            let size = content.len() as u64;
            agent.edit(&[set(
                at,
                Entry::Blob {
                    hash,
                    size,
                    mode: 0o755,
                    mtime: 5,
                },
            )]);
        }
        4 => agent.edit(&[set(at, Entry::Dir)]),
        5 => agent.edit(&[set(at, Entry::Link { target: "b".into() })]),
        6 => agent.edit(&[ProjectEdit::RemoveFile(at.into())]),
        7 => {
            // A copy, or a move.
            if let Some((from, entry)) = agent.any_text(dice) {
                let mut edits = vec![set(at, entry)];
                if dice.roll(2) == 0 && from.as_str() != at {
                    edits.push(ProjectEdit::RemoveFile(from.into()));
                }
                agent.edit(&edits);
            }
        }
        8 | 19 => {
            // Somebody types into a text that may be anywhere, or nowhere any more.
            if let Some(doc) = any_doc(server, dice) {
                type_into(server, doc.as_str(), story).await;
            }
        }
        9 => {
            let state = server.state().await;
            agent.replica.apply(&state).unwrap();
        }
        10 => {
            // As they were made, as one, or one of them twice.
            let unsent = std::mem::take(&mut agent.unsent);
            let again = (!unsent.is_empty()).then(|| unsent[dice.roll(unsent.len())].clone());
            for update in unsent.into_iter().chain(again) {
                server.patch(update).await.unwrap();
            }
        }
        11 => {
            // What comes first waits for what comes later.
            for update in std::mem::take(&mut agent.unsent).into_iter().rev() {
                server.patch(update).await.unwrap();
            }
        }
        12 => {
            // The original protocol.
            let content = format!("bytes {}{}", dice.roll(4), ["\n", "\0"][dice.roll(2)]);
            let hash = server.blob(&content).await;
            agent.edit(&[set(at, Entry::Original { hash, mtime: 3 })]);
        }
        13 => {
            // Only the server writes `texts`.
            if let Some(doc) = any_doc(server, dice) {
                let hash = BlobHash::of(b"not so");
                let version = TextVersion {
                    hash,
                    size: 6,
                    mtime: 9,
                };
                agent.edit(&[match dice.roll(2) {
                    0 => ProjectEdit::SetText(doc, version),
                    _ => ProjectEdit::RemoveText(doc.to_string()),
                }]);
            }
        }
        14 => {
            // Its bytes come later.
            let content = format!("late {}\n", story.drawn);
            let hash = BlobHash::of(content.as_bytes());
            let entry = match dice.roll(2) {
                0 => text(&story.draw(), hash),
                _ => Entry::Blob {
                    hash,
                    size: 1,
                    mode: 0o644,
                    mtime: 5,
                },
            };
            story.absent.push(content);
            agent.edit(&[set(at, entry)]);
        }
        15 => {
            if !story.absent.is_empty() {
                let which = dice.roll(story.absent.len());
                server.blob(&story.absent.swap_remove(which)).await;
            }
        }
        16 => {
            let key = ["a", "A", "../up", "", "new"][dice.roll(5)];
            server.patch(no_entry(dice.client(), key)).await.unwrap();
            let replica = server.replica().await;
            assert_eq!(replica.entries().len(), replica.files().len(), "{key:?}");
        }
        17 => {
            let doc = story.draw();
            story.cut_off.push(cut_off(server, at, dice, doc).await);
        }
        18 => {
            if !story.cut_off.is_empty() {
                let which = dice.roll(story.cut_off.len());
                come_back(server, story.cut_off.swap_remove(which)).await;
            }
        }
        _ => {
            let content = format!("put {}{}", dice.roll(4), ["\n", "\0"][dice.roll(2)]);
            let view = server.put(at, &content, PutBase::Current).await;
            let hash = BlobHash::of(content.as_bytes());
            match view {
                Ok(view) => assert_eq!(view.file.hash, Some(hash)),
                // Something is in the way, and stays.
                Err(refusal) => assert!(matches!(refusal, Refusal::NoFile(_)), "{refusal}"),
            }
        }
    }
}

/// A text that the server knows of, with a path or without.
fn any_doc(server: &Server, dice: &mut Dice) -> Option<DocId> {
    let texts = server.inner.texts(&server.project).unwrap();
    let which = dice.roll(texts.len().max(1));
    texts.into_iter().nth(which).map(|(record, _)| record.doc)
}

/// Adds a word to a text, which then lies somewhere.
async fn type_into(server: &Server, doc: &str, story: &mut Story) {
    let Ok(mut person) = server.try_person(Some(doc), true).await else {
        return;
    };
    // Nobody has its seed yet.
    if person.told.iter().any(|told| told.starts_with("refused")) {
        return;
    }
    let word = format!("<word {}>", story.words.len());
    let typed = format!("{}{word}\n", person.text.text());
    person.write(&typed).await;
    person.is_saved(1).await;
    person.handle.leave(person.id).await;
    let files = server.files().await;
    let there = files.values().any(|content| *content == typed);
    assert!(there, "{doc} lies nowhere: {files:?}");
    story.words.push(word);
}

/// An update that sets a key of `files` to a number.
fn no_entry(client: ClientId, key: &str) -> Vec<u8> {
    let mut update = Writer::new();
    // One block of one client, from clock 0 on: values at a key of a root.
    update
        .var_uint(1)
        .var_uint(1)
        .var_uint(client.get())
        .var_uint(0);
    update
        .byte(0x28)
        .var_uint(1)
        .var_string("files")
        .var_string(key);
    update.var_uint(1).byte(125).var_uint(7).var_uint(0);
    update.into_bytes()
}

/// Somebody up to date replaces a path, and loses the connection.
async fn cut_off(server: &Server, at: &str, dice: &mut Dice, doc: String) -> CutOff {
    let replica = ProjectReplica::new(dice.client());
    replica.apply(&server.state().await).unwrap();
    let content = format!("of {doc}, cut off\n");
    let entry = text(&doc, server.blob(&content).await);
    let replaces = replica.entry(&path(at));
    let update = replica.edit(&[set(at, entry)]).unwrap();
    CutOff {
        update,
        content,
        replaces,
    }
}

/// What was cut off arrives: whoever loses, nothing goes that was not replaced knowingly.
async fn come_back(server: &Server, late: CutOff) {
    let replaces = late.replaces.as_ref();
    let is_replaced = |entry: &Entry| match (entry, replaces) {
        (Entry::Text { doc, .. }, Some(Entry::Text { doc: known, .. })) => doc == known,
        (Entry::Blob { hash, .. }, Some(Entry::Blob { hash: known, .. })) => hash == known,
        _ => false,
    };
    let entries = server.replica().await.entries().into_iter();
    let replaced = entries.filter(|(_, entry)| is_replaced(entry));
    let replaced: HashSet<String> = replaced.map(|(at, _)| at.to_string()).collect();
    let before = server.files().await.into_iter();
    let before = before.filter(|(at, content)| !replaced.contains(at) && content.ends_with('\n'));
    let before: BTreeSet<String> = before.map(|(_, content)| content).collect();
    server.patch(late.update).await.unwrap();
    let after = server.files().await;
    let after: BTreeSet<&String> = after.values().collect();
    for content in before.iter().chain([&late.content]) {
        assert!(
            after.contains(content),
            "{content:?} is lost of {before:?}, there is {after:?}"
        );
    }
}

/// Every word is in a text, or in a settled version of one, which stays readable.
async fn find_words(server: &Server, story: &Story) {
    let mut contents = String::new();
    for (record, _) in server.inner.texts(&server.project).unwrap() {
        for (_, version) in server
            .inner
            .settled(&server.project, &record.doc, 1_000)
            .unwrap()
        {
            let reader = Reader::Project(&server.project);
            assert!(server.inner.blob(&version.hash, reader).unwrap().is_some());
            let blob = server
                .blobs
                .open(Some(&server.project), &version.hash)
                .await;
            let bytes = blob.unwrap().unwrap().read_all().await.unwrap();
            contents.push_str(&String::from_utf8_lossy(&bytes));
        }
    }
    for word in &story.words {
        assert!(contents.contains(word), "{word} is lost");
    }
}

/// The tree is one that every disk can hold, and the manifest and the document say the same.
async fn check(server: &Server, seed: u64) -> HashMap<String, String> {
    // First, because that waits for what is being repaired.
    let files = server.files().await;
    let replica = server.replica().await;
    let entries = replica.entries();
    assert_eq!(
        entries.len(),
        replica.files().len(),
        "seed {seed}: a key that is no entry"
    );
    assert_eq!(entries.len(), files.len(), "seed {seed}: {entries:?}");
    let (mut names, mut docs) = (HashSet::new(), HashSet::new());
    for (at, entry) in &entries {
        assert!(
            names.insert(at.collision_key()),
            "seed {seed}: {at} collides"
        );
        let above = at
            .ancestors()
            .find(|above| files.contains_key(above.as_str()));
        assert_eq!(above, None, "seed {seed}: above {at}");
        if let Some(doc) = entry.doc() {
            assert!(
                docs.insert(doc.clone()),
                "seed {seed}: {doc} is at two paths"
            );
            let person = server.person(Some(doc.as_str())).await;
            assert_eq!(person.text.text(), files[at.as_str()], "seed {seed}: {at}");
            person.handle.leave(person.id).await;
        }
    }
    files
}

async fn play(seed: u64) -> Story {
    let mut dice = Dice(fastrand::Rng::with_seed(seed));
    let mut server = Server::new().await;
    let mut agents: Vec<_> = (0..AGENTS).map(|_| Agent::new(&mut dice)).collect();
    let mut story = Story::default();
    for n in 0..STEPS {
        step(&server, &mut agents, &mut dice, &mut story).await;
        if n % 16 == 15 && dice.roll(3) == 0 {
            server = server.restart();
        }
    }
    for agent in &mut agents {
        for update in std::mem::take(&mut agent.unsent) {
            server.patch(update).await.unwrap();
        }
    }
    for content in std::mem::take(&mut story.absent) {
        server.blob(&content).await;
    }
    for late in std::mem::take(&mut story.cut_off) {
        come_back(&server, late).await;
    }
    let files = check(&server, seed).await;
    find_words(&server, &story).await;
    // What everybody has, given back, changes nothing, and neither does a restart.
    let state = server.state().await;
    for agent in &agents {
        agent.replica.apply(&state).unwrap();
        assert!(!agent.replica.misses_updates(), "seed {seed}: a gap");
        let patched = server.patch(agent.replica.state()).await.unwrap();
        assert_eq!(patched.repaired, [], "seed {seed}");
        let mut theirs = agent.replica.files();
        let mut ours = server.replica().await.files();
        theirs.sort_by(|(a, _), (b, _)| a.cmp(b));
        ours.sort_by(|(a, _), (b, _)| a.cmp(b));
        assert_eq!(theirs, ours, "seed {seed}");
    }
    let mut server = server.restart();
    assert_eq!(
        check(&server, seed).await,
        files,
        "seed {seed}: after a restart"
    );
    // Nobody is stuck: what each says next is in at once, and after a restart.
    for (number, agent) in agents.iter().enumerate() {
        let at = format!("last/{number}");
        let update = agent.replica.edit(&[set(&at, Entry::Dir)]).unwrap();
        server.patch(update).await.unwrap();
        assert!(
            server.files().await.contains_key(&at),
            "seed {seed}: {number} is stuck"
        );
        server = server.restart();
        assert!(
            server.files().await.contains_key(&at),
            "seed {seed}: {number} is lost"
        );
    }
    story
}

#[tokio::test(flavor = "multi_thread")]
async fn repairs_by_random_interleavings() {
    let mut row = Row::begin("repairs by random interleavings");
    let plays = row.count(2_400, 24);
    let (mut words, mut docs) = (0, 0);
    for _ in 0..plays {
        let story = play(row.random.u64(..)).await;
        words += story.words.len();
        docs += story.drawn;
    }
    row.held(format_args!(
        "{plays} plays of {STEPS} steps by {AGENTS} agents and others; {docs} texts, {words} words typed"
    ));
}
