//! Whatever agents do to a project's structure, in whatever order it arrives: the server ends with
//! a tree that every disk can hold, every replica equal to it, and a restart changes nothing.

use std::collections::HashSet;

use super::*;

/// Names that collide in every way: case, Unicode, a file where a directory is.
const PATHS: [&str; 9] = [
    "a", "A", "a/b", "A/b", "d/x", "D/x", "\u{e9}", "e\u{301}", "b",
];
const AGENTS: usize = 3;
const STEPS: usize = 40;

/// Numbers from a seed (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides
    }
}

/// A workspace: what it has, and what it has not sent yet.
struct Agent {
    replica: ProjectReplica,
    unsent: Vec<Vec<u8>>,
}

impl Agent {
    fn new() -> Self {
        let replica = ProjectReplica::new(client());
        Self {
            replica,
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

async fn step(server: &Server, agents: &mut [Agent], dice: &mut Dice, drawn: &mut u32) {
    let agent = &mut agents[dice.roll(AGENTS)];
    let at = PATHS[dice.roll(PATHS.len())];
    match dice.roll(14) {
        0..=2 => {
            let content = format!("text {}\n", dice.roll(4));
            *drawn += 1;
            let entry = text(&format!("doc-{drawn}"), server.blob(&content).await);
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
        8 => {
            // Somebody types into a text that may be anywhere, or nowhere any more.
            if *drawn > 0 {
                let doc = format!("doc-{}", 1 + dice.roll(*drawn as usize));
                if let Ok(mut person) = server.try_person(Some(&doc), true).await {
                    let typed = format!("{}typed {}\n", person.text.text(), dice.roll(1000));
                    person.write(&typed).await;
                    person.is_saved(1).await;
                    person.handle.leave(person.id).await;
                    let files = server.files().await;
                    let there = files.values().any(|content| *content == typed);
                    assert!(there, "{doc} lies nowhere: {files:?}");
                }
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

/// The tree is one that every disk can hold, and the manifest and the document say the same.
async fn check(server: &Server, seed: u64) -> HashMap<String, String> {
    let replica = server.replica().await;
    let entries = replica.entries();
    assert_eq!(
        entries.len(),
        replica.files().len(),
        "seed {seed}: a key that is no entry"
    );
    let files = server.files().await;
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

async fn play(seed: u64) {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut server = Server::new().await;
    let mut agents: Vec<_> = (0..AGENTS).map(|_| Agent::new()).collect();
    let mut drawn = 0;
    for n in 0..STEPS {
        step(&server, &mut agents, &mut dice, &mut drawn).await;
        if n % 16 == 15 && dice.roll(3) == 0 {
            server = server.restart();
        }
    }
    for agent in &mut agents {
        for update in std::mem::take(&mut agent.unsent) {
            server.patch(update).await.unwrap();
        }
    }
    let files = check(&server, seed).await;
    // What everybody has, given back, changes nothing, and neither does a restart.
    let state = server.state().await;
    for agent in &agents {
        agent.replica.apply(&state).unwrap();
        let patched = server.patch(agent.replica.state()).await.unwrap();
        assert_eq!(patched.repaired, [], "seed {seed}");
        let mut theirs = agent.replica.files();
        let mut ours = server.replica().await.files();
        theirs.sort_by(|(a, _), (b, _)| a.cmp(b));
        ours.sort_by(|(a, _), (b, _)| a.cmp(b));
        assert_eq!(theirs, ours, "seed {seed}");
    }
    let server = server.restart();
    assert_eq!(
        check(&server, seed).await,
        files,
        "seed {seed}: after a restart"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_disk_can_hold_what_agents_make_together() {
    let from = std::env::var("USPARK_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let rounds = std::env::var("USPARK_TEST_ROUNDS")
        .ok()
        .and_then(|rounds| rounds.parse().ok());
    let from: u64 = from.unwrap_or(1);
    for seed in from..from + rounds.unwrap_or(24) {
        play(seed).await;
    }
}
