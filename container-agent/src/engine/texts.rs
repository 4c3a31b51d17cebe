//! A text document in memory: what is on disk, and what is everywhere.
//!
//! The *shadow* is the document's state that equals the bytes on disk. A change of those bytes is
//! diffed against the shadow and made there, so it refers to characters and not to positions, and
//! everything that others wrote meanwhile survives. The *live* replica also has what others wrote;
//! when the disk gets that, the shadow follows.
//!
//! Invariants: the shadow's state is part of the live one. Only the shadow authors, so no clock of
//! ours is used twice; the one exception authors under a client id of its own
//! ([`TextDocument::edit_of_displaced`]).

use std::collections::VecDeque;
use std::time::Duration;

use uspark_shared::diff::diff;
use uspark_shared::id::{BlobHash, DocId};
use uspark_shared::replica::{ClientId, ReplicaError, TextReplica};
use uspark_shared::seed::seed_update;
use uspark_shared::text::as_grown_text;

use super::stale::{apart, takes_back};
use crate::journal::StatePart;

/// How long after a write-back somebody may still write what they read before it. Longer than
/// formatters and generators think; an editor that holds a file for longer asks before it
/// overwrites.
const PAST: Duration = Duration::from_secs(10);
/// Texts of write-backs that are kept for that, in bytes, unless one alone has more.
const PAST_BYTES: usize = 1 << 20;

/// A loaded text document.
pub(super) struct TextDocument {
    shadow: TextReplica,
    live: TextReplica,
    /// Of the live text's bytes.
    live_hash: BlobHash,
    /// How often the live replica took in something of others. A deletion moves no clock, so
    /// state vectors cannot tell.
    live_version: u64,
    /// Which of these the shadow has.
    shadow_version: u64,
    /// When it was last needed, in seconds of the session.
    pub used: u64,
    /// What was written back a moment ago, oldest first.
    past: Pasts,
    /// What was last taken for an edit of something older, and its file's time: written once more
    /// it is meant.
    merged: Option<(BlobHash, i64)>,
    /// What the write-back under way displaced, and the state that has it.
    displaced: Option<(String, Vec<u8>)>,
}

/// Write-backs, oldest first.
pub(super) type Pasts = VecDeque<Past>;

/// A write-back that somebody who reads and then writes may not have seen.
#[derive(Clone)]
pub(super) struct Past {
    /// Milliseconds since 1970.
    at: u64,
    /// The text before it.
    before: String,
    /// The shadow before it.
    state: Vec<u8>,
}

/// What is known about who wrote a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    /// Nothing: it may have read an earlier version.
    Unknown,
    /// It wrote over what it had just read: a tool call for which write-back had to wait.
    SawTheDisk,
}

/// A text on disk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found<'a> {
    /// The bytes.
    pub text: &'a str,
    /// Their hash.
    pub hash: BlobHash,
    /// When the file was written, as it says, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Who wrote it.
    pub writer: Writer,
}

/// What became of new bytes on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Edited {
    /// They are what the shadow is.
    Nothing,
    /// The shadow was edited; this says so.
    Here(Vec<u8>),
    /// The shadow is another now: it was edited as of an earlier version. This says so, if that
    /// was an edit at all.
    Elsewhere(Option<Vec<u8>>),
}

/// What others wrote, ready to be written to disk.
pub(super) struct Snapshot {
    /// The bytes.
    pub text: String,
    /// Their hash.
    pub hash: BlobHash,
    /// What brings the shadow there.
    pub update: Vec<u8>,
    /// Of the live replica.
    pub version: u64,
}

impl TextDocument {
    /// A document of which nothing is on disk.
    pub fn empty(client: ClientId) -> Self {
        Self {
            shadow: TextReplica::new(client),
            live: TextReplica::new(client),
            live_hash: BlobHash::of_empty(),
            live_version: 0,
            shadow_version: 0,
            used: 0,
            past: VecDeque::new(),
            merged: None,
            displaced: None,
        }
    }

    /// It was gone from disk before: whoever writes there may have read it then.
    pub fn remember(&mut self, mut departed: Pasts) {
        departed.append(&mut self.past);
        self.past = departed;
    }

    /// What somebody may have read who writes after the document is gone from disk.
    pub fn into_past(mut self, now: u64) -> Pasts {
        self.past.push_back(Past {
            at: now,
            before: self.shadow.text(),
            state: self.shadow.state(),
        });
        self.past
    }

    /// A document whose shadow was remembered, and with it what was written back a moment ago.
    ///
    /// `now`: here and below, in milliseconds since 1970.
    pub fn from_parts(
        client: ClientId,
        parts: &[StatePart],
        now: u64,
    ) -> Result<Self, ReplicaError> {
        let mut document = Self::empty(client);
        for StatePart {
            update,
            written_back,
        } in parts
        {
            match written_back.filter(|at| is_recent(*at, now)) {
                Some(at) => document.write_back(update, at)?,
                None => drop(document.shadow.apply(update)?),
            }
            document.live.apply(update)?;
        }
        document.rehash();
        Ok(document)
    }

    /// A document that was never edited, from its first content.
    pub fn from_seed(
        client: ClientId,
        doc: &DocId,
        seed: &BlobHash,
        text: &str,
    ) -> Result<Self, ReplicaError> {
        let seed = StatePart::of(seed_update(doc, seed, text));
        Self::from_parts(client, &[seed], 0)
    }

    /// Takes in an update of somebody. Gives whether it waits for what never came.
    pub fn receive(&mut self, update: &[u8]) -> Result<bool, ReplicaError> {
        let applied = self.live.apply(update)?;
        if applied.changed {
            self.live_version += 1;
            self.rehash();
        }
        Ok(applied.missing)
    }

    /// The disk has other bytes now: gives the update that says so, if they are other bytes.
    ///
    /// `fresh`: a client id nobody has used, in case whoever wrote them had not seen what was last
    /// written back.
    pub fn edit(
        &mut self,
        found: Found<'_>,
        fresh: ClientId,
        now: u64,
    ) -> Result<Edited, ReplicaError> {
        let Found {
            text: bytes,
            hash,
            mtime_ns,
            writer,
        } = found;
        // With the same time it is the same file, moved there again.
        let merged = self.merged.take();
        let insists = merged.is_some_and(|(was, at)| was == hash && at != mtime_ns);
        let seen = match writer {
            Writer::Unknown if !insists => self.seen_by_writer_of(bytes, now),
            _ => None,
        };
        if let Some(state) = seen {
            self.merged = Some((hash, mtime_ns));
            // The shadow goes back to what the writer had read, and on from there under another
            // client: its own later edits are in the live replica and must not be made again.
            let fork = fork(fresh, &state)?;
            let update = fork.edit(&diff(&fork.text(), bytes));
            self.shadow = fork;
            self.past.clear();
            if let Some(update) = &update {
                self.live.apply(update)?;
                self.rehash();
            }
            self.live_version += 1;
            return Ok(Edited::Elsewhere(update));
        }
        let Some(update) = self.shadow.edit(&diff(&self.shadow.text(), bytes)) else {
            return Ok(Edited::Nothing);
        };
        self.live.apply(&update)?;
        self.rehash();
        Ok(Edited::Here(update))
    }

    /// Somebody wrote these bytes over what the shadow is, and our own write displaced them at the
    /// same moment: they are an edit of the shadow that never was on disk for us to follow.
    ///
    /// `fresh`: as in [`Self::edit`]; the shadow's own clock goes on without this edit.
    pub fn edit_of_displaced(
        &mut self,
        bytes: &str,
        fresh: ClientId,
        now: u64,
    ) -> Result<Option<Vec<u8>>, ReplicaError> {
        let state = match self.seen_by_writer_of(bytes, now) {
            Some(state) => {
                self.past.clear();
                state
            }
            None => self.shadow.state(),
        };
        let fork = fork(fresh, &state)?;
        let update = fork.edit(&diff(&fork.text(), bytes));
        self.displaced = Some((bytes.to_owned(), fork.state()));
        if let Some(update) = &update {
            self.receive(update)?;
        }
        Ok(update)
    }

    /// The state that whoever wrote these bytes had read, if it is not the shadow's.
    fn seen_by_writer_of(&mut self, bytes: &str, now: u64) -> Option<Vec<u8>> {
        self.past.retain(|past| is_recent(past.at, now));
        if self.past.is_empty() {
            return None;
        }
        let text = self.shadow.text();
        let newest_first = self.past.iter().rev();
        let unseen = newest_first.filter(|past| takes_back(&past.before, &text, bytes));
        let read = unseen.min_by_key(|past| apart(&past.before, bytes))?;
        Some(read.state.clone())
    }

    /// What is to be written to disk.
    ///
    /// `None` when it cannot be a text file any more; the server then makes it a binary one.
    pub fn snapshot(&self) -> Result<Option<Snapshot>, ReplicaError> {
        let text = self.live.text();
        if as_grown_text(text.as_bytes()).is_none() {
            return Ok(None);
        }
        Ok(Some(Snapshot {
            hash: self.live_hash,
            version: self.live_version,
            update: self.live.diff(&self.shadow.state_vector())?,
            text,
        }))
    }

    /// The disk has a snapshot: `update` and `version` are its.
    pub fn follow(&mut self, update: &[u8], version: u64, now: u64) -> Result<(), ReplicaError> {
        self.write_back(update, now)?;
        self.shadow_version = self.shadow_version.max(version);
        Ok(())
    }

    /// The shadow takes in what was written to disk.
    fn write_back(&mut self, update: &[u8], at: u64) -> Result<(), ReplicaError> {
        // Whoever wrote what was displaced may go on from that.
        let shadow = (self.shadow.text(), self.shadow.state());
        let (before, state) = self.displaced.take().unwrap_or(shadow);
        self.shadow.apply(update)?;
        if self.shadow.text() == before {
            return Ok(());
        }
        self.past.push_back(Past { at, before, state });
        let bytes = |past: &Pasts| past.iter().map(|p| p.before.len()).sum::<usize>();
        while self.past.len() > 1 && bytes(&self.past) > PAST_BYTES {
            self.past.pop_front();
        }
        Ok(())
    }

    /// The disk has the bytes of the live text: gives what brings the shadow there, if anything.
    pub fn catch_up(&mut self) -> Result<Option<Vec<u8>>, ReplicaError> {
        if self.shadow_version == self.live_version {
            return Ok(None);
        }
        let update = self.live.diff(&self.shadow.state_vector())?;
        self.shadow.apply(&update)?;
        self.shadow_version = self.live_version;
        Ok(Some(update))
    }

    /// Whether somebody may still write who read one of these.
    pub fn are_recent(past: &Pasts, now: u64) -> bool {
        past.back().is_some_and(|past| is_recent(past.at, now))
    }

    /// Whether these bytes are only a beginning of what is on disk, and others' words were written
    /// back lately.
    pub fn is_cut_short(&self, bytes: &str) -> bool {
        let is_beginning = |shadow: String| bytes.len() < shadow.len() && shadow.starts_with(bytes);
        self.has_past() && is_beginning(self.shadow.text())
    }

    /// Whether something was written back so lately that whoever writes now may not have seen it.
    pub fn has_past(&self) -> bool {
        !self.past.is_empty()
    }

    /// The hash of the text as everybody has it.
    pub fn live_hash(&self) -> BlobHash {
        self.live_hash
    }

    /// Whether the shadow has everything.
    pub fn is_even(&self) -> bool {
        self.shadow_version == self.live_version && !self.live.misses_updates()
    }

    /// The state vector of what is known.
    pub fn state_vector(&self) -> Vec<u8> {
        self.live.state_vector()
    }

    /// What someone with `state_vector` lacks.
    pub fn diff(&self, state_vector: &[u8]) -> Result<Vec<u8>, ReplicaError> {
        self.live.diff(state_vector)
    }

    /// The shadow as one update.
    pub fn shadow_state(&self) -> Vec<u8> {
        self.shadow.state()
    }

    fn rehash(&mut self) {
        self.live_hash = BlobHash::of(self.live.text().as_bytes());
    }
}

/// Whether somebody who writes now may not have seen what was written back then.
fn is_recent(at: u64, now: u64) -> bool {
    Duration::from_millis(now.saturating_sub(at)) < PAST
}

/// A replica of its own, from a state.
fn fork(client: ClientId, state: &[u8]) -> Result<TextReplica, ReplicaError> {
    let fork = TextReplica::new(client);
    fork.apply(state)?;
    Ok(fork)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    const NOW: u64 = 1_700_000_000_000;

    impl TextDocument {
        fn wrote(&mut self, bytes: &str) -> Vec<u8> {
            match self
                .edit(found(bytes, Writer::Unknown), client(200), NOW)
                .unwrap()
            {
                Edited::Here(update) => update,
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_writer_who_had_not_seen_the_last_write_backs_deletes_nothing() {
        let mut person = seeded(2, "one\ntwo\n");
        let mut agent = seeded(1, "one\ntwo\n");
        person.receive(&agent.wrote("one\ntwo\nmine\n")).unwrap();
        person.catch_up().unwrap();
        for typed in [
            "typed first\none\ntwo\nmine\n",
            "typed first\none\ntyped second\ntwo\nmine\n",
        ] {
            agent.receive(&person.wrote(typed)).unwrap();
            let snapshot = agent.snapshot().unwrap().unwrap();
            agent
                .follow(&snapshot.update, snapshot.version, NOW)
                .unwrap();
        }
        let stale = "one\ntwo\nmine\nnew\n";
        let edited = agent
            .edit(found(stale, Writer::Unknown), client(7), NOW)
            .unwrap();
        let Edited::Elsewhere(Some(update)) = edited else {
            panic!("{edited:?}");
        };
        person.receive(&update).unwrap();
        assert_eq!(agent.shadow.text(), stale);
        let both = "typed first\none\ntyped second\ntwo\nmine\nnew\n";
        let snapshot = agent.snapshot().unwrap().unwrap();
        assert_eq!(snapshot.text, both);
        assert!(!agent.is_even());
        agent
            .follow(&snapshot.update, snapshot.version, NOW)
            .unwrap();
        // And on from there; a deletion by somebody who saw it is one.
        let update = match agent
            .edit(found("one\n", Writer::SawTheDisk), client(8), NOW)
            .unwrap()
        {
            Edited::Here(update) => update,
            other => panic!("{other:?}"),
        };
        person.receive(&update).unwrap();
        assert_eq!(person.snapshot().unwrap().unwrap().text, "one\n");
        assert_eq!(person.live_hash(), agent.live_hash());
    }

    /// A document to which `typed` was written back over `wrote`, and how it is remembered.
    fn written_back(wrote: &str, typed: &str) -> (TextDocument, Vec<StatePart>) {
        let (mut agent, mut person) = (seeded(1, wrote), seeded(2, wrote));
        let before = StatePart::of(agent.shadow_state());
        agent.receive(&person.wrote(typed)).unwrap();
        let Snapshot {
            update, version, ..
        } = agent.snapshot().unwrap().unwrap();
        agent.follow(&update, version, NOW).unwrap();
        let written_back = StatePart {
            update,
            written_back: Some(NOW),
        };
        (agent, vec![before, written_back])
    }

    #[test]
    fn a_document_that_was_unloaded_or_restarted_still_knows_what_was_written_back() {
        let (_, parts) = written_back("one\n", "one\ntyped\n");
        let late = NOW + PAST.as_millis() as u64;
        for (now, text) in [(NOW + 1, "one\ntyped\nmine\n"), (late, "one\nmine\n")] {
            let mut again = TextDocument::from_parts(client(3), &parts, NOW + 1).unwrap();
            assert!(again.has_past());
            again
                .edit(found("one\nmine\n", Writer::Unknown), client(7), now)
                .unwrap();
            assert_eq!(again.snapshot().unwrap().unwrap().text, text);
        }
        assert!(
            !TextDocument::from_parts(client(3), &parts, late)
                .unwrap()
                .has_past()
        );
    }

    #[test]
    fn who_wrote_what_a_swap_displaced_may_go_on_from_that() {
        let (mut agent, mut person) = (seeded(1, "a\n"), seeded(2, "a\n"));
        agent.receive(&person.wrote("typed\na\n")).unwrap();
        let snapshot = agent.snapshot().unwrap().unwrap();
        agent
            .edit_of_displaced("a\nraced\n", client(9), NOW)
            .unwrap();
        agent
            .follow(&snapshot.update, snapshot.version, NOW)
            .unwrap();
        let stale = "a\nraced\nlater\n";
        agent
            .edit(found(stale, Writer::Unknown), client(10), NOW)
            .unwrap();
        let text = agent.snapshot().unwrap().unwrap().text;
        assert_eq!(text, "typed\na\nraced\nlater\n");
    }

    #[test]
    fn who_reads_what_was_displaced_may_write_after_it_was_written_back_too() {
        let (mut agent, mut person) = (seeded(1, "a\n"), seeded(2, "a\n"));
        agent.receive(&person.wrote("typed\na\n")).unwrap();
        let first = agent.snapshot().unwrap().unwrap();
        let raced = agent.edit_of_displaced("a\nraced\n", client(9), NOW);
        person.receive(&raced.unwrap().unwrap()).unwrap();
        person.catch_up().unwrap();
        agent.follow(&first.update, first.version, NOW).unwrap();
        let typed = person.wrote("typed\na\nraced\ntyped later\n");
        agent.receive(&typed).unwrap();
        let second = agent.snapshot().unwrap().unwrap();
        agent.follow(&second.update, second.version, NOW).unwrap();
        let stale = "a\nraced\nlater\n";
        agent
            .edit(found(stale, Writer::Unknown), client(10), NOW)
            .unwrap();
        let text = agent.snapshot().unwrap().unwrap().text;
        for word in ["typed", "raced", "later", "typed later"] {
            assert_eq!(
                text.lines().filter(|line| *line == word).count(),
                1,
                "{text}"
            );
        }
    }

    #[test]
    fn a_file_that_is_moved_there_twice_is_not_meant() {
        let (mut agent, _) = written_back("one\n", "one\ntyped\n");
        let same = found("one\n", Writer::Unknown);
        for id in [7, 8] {
            agent.edit(same, client(id), NOW).unwrap();
            let snapshot = agent.snapshot().unwrap().unwrap();
            assert_eq!(snapshot.text, "one\ntyped\n");
            agent
                .follow(&snapshot.update, snapshot.version, NOW)
                .unwrap();
        }
    }

    #[test]
    fn what_is_written_twice_is_meant() {
        let (mut agent, _) = written_back("one\n", "one\ntyped\n");
        for (text, id) in [("one\ntyped\n", 7), ("one\n", 8)] {
            agent
                .edit(found("one\n", Writer::Unknown), client(id), NOW)
                .unwrap();
            let snapshot = agent.snapshot().unwrap().unwrap();
            assert_eq!(snapshot.text, text);
            agent
                .follow(&snapshot.update, snapshot.version, NOW)
                .unwrap();
        }
    }

    #[test]
    fn no_line_is_lost_or_doubled_whoever_writes_what_they_read_before() {
        for seed in 0..200 {
            writers_and_people(seed, line, insert_line);
        }
    }

    #[test]
    fn no_word_is_lost_or_doubled_whoever_writes_what_they_read_before() {
        for seed in 0..200 {
            writers_and_people(seed, word, insert_word);
        }
    }

    /// People type, programs write what they read a moment ago, updates are late: what is written to disk is what the
    /// shadow has then, and nothing of what `insert` put in is lost or doubled.
    fn writers_and_people(
        seed: u64,
        name: fn(usize) -> String,
        insert: fn(&str, usize, &mut fastrand::Rng) -> String,
    ) {
        let mut random = fastrand::Rng::with_seed(seed);
        let text: String = (0..6).map(|n| format!("line {n}\n")).collect();
        let mut agent = seeded(1, &text);
        let mut people = [seeded(2, &text), seeded(3, &text)];
        // What the server has sent on, and how far each has got: the agent, then the people.
        let mut log: Vec<(usize, Vec<u8>)> = Vec::new();
        let mut at = [0; 3];
        let (mut disk, mut read) = (text.clone(), text.clone());
        let (mut begun, mut fresh, mut tokens) = (None::<Snapshot>, 10_u8, 0);
        for _ in 0..60 {
            match random.u8(..10) {
                0..3 => {
                    let who = random.usize(..2);
                    tokens += 1;
                    let person = &mut people[who];
                    let now = person.live.text();
                    let update = person.wrote(&insert(&now, tokens, &mut random));
                    person.catch_up().unwrap();
                    log.push((who + 1, update));
                }
                3..6 => {
                    let who = random.usize(..3);
                    if let Some((author, update)) = log.get(at[who]) {
                        at[who] += 1;
                        if *author != who {
                            let replica = match who {
                                0 => &mut agent,
                                who => &mut people[who - 1],
                            };
                            assert!(!replica.receive(update).unwrap());
                            if who > 0 {
                                replica.catch_up().unwrap();
                            }
                        }
                    }
                }
                6 => read = disk.clone(),
                7 if begun.is_none() => begun = agent.snapshot().unwrap(),
                8 => {
                    if let Some(snapshot) = begun.take() {
                        fresh += 1;
                        // Somebody may have written what is displaced.
                        if random.bool() {
                            tokens += 1;
                            let bytes = insert(&read, tokens, &mut random);
                            let update = agent.edit_of_displaced(&bytes, client(fresh), NOW);
                            log.extend(update.unwrap().map(|update| (0, update)));
                            read = bytes;
                        }
                        disk.clone_from(&snapshot.text);
                        agent
                            .follow(&snapshot.update, snapshot.version, NOW)
                            .unwrap();
                        assert_eq!(agent.shadow.text(), disk, "seed {seed}");
                    }
                }
                _ if begun.is_none() => {
                    fresh += 1;
                    // Several times before anybody looks.
                    for _ in 0..random.usize(1..4) {
                        tokens += 1;
                        disk = insert(&read, tokens, &mut random);
                        read.clone_from(&disk);
                    }
                    let edited = agent.edit(found(&disk, Writer::Unknown), client(fresh), NOW);
                    match edited.unwrap() {
                        Edited::Here(update) | Edited::Elsewhere(Some(update)) => {
                            log.push((0, update));
                        }
                        _ => {}
                    }
                    assert_eq!(agent.shadow.text(), disk, "seed {seed}");
                }
                _ => {}
            }
        }
        for (author, update) in &log[at[0]..] {
            if *author != 0 {
                agent.receive(update).unwrap();
            }
        }
        let text = agent.live.text();
        for token in 1..=tokens {
            let count = text.matches(&name(token)).count();
            assert_eq!(count, 1, "<{token}> in seed {seed}:\n{text}");
        }
    }

    /// A line that is like no other.
    fn line(token: usize) -> String {
        format!("<{:08x}>", (token as u32).wrapping_mul(0x9e37_79b1))
    }

    /// A word that is like no other.
    fn word(token: usize) -> String {
        line(token).replace('>', ";")
    }

    /// A text with one more word, behind a line or on a line of its own.
    fn insert_word(text: &str, token: usize, random: &mut fastrand::Rng) -> String {
        let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).collect();
        let end = *random.choice(&ends).unwrap();
        let between = random.choice([" ", "\n"]).unwrap();
        format!("{}{between}{}{}", &text[..end], word(token), &text[end..])
    }

    /// A text with one more line somewhere.
    fn insert_line(text: &str, token: usize, random: &mut fastrand::Rng) -> String {
        let lines = text.lines().count();
        let at = random.usize(..=lines);
        let mut lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
        lines.insert(at, line(token));
        lines.join("\n") + "\n"
    }

    /// Every call finds another file.
    fn found(text: &str, writer: Writer) -> Found<'_> {
        static TIMES: AtomicI64 = AtomicI64::new(0);
        Found {
            text,
            hash: BlobHash::of(text.as_bytes()),
            mtime_ns: TIMES.fetch_add(1, Ordering::Relaxed),
            writer,
        }
    }

    fn client(id: u8) -> ClientId {
        ClientId::from_random([id; 4])
    }

    fn seeded(id: u8, text: &str) -> TextDocument {
        let hash = BlobHash::of(text.as_bytes());
        TextDocument::from_seed(client(id), &"d".parse().unwrap(), &hash, text).unwrap()
    }

    #[test]
    fn a_stale_overwrite_merges_with_what_was_typed_meanwhile() {
        let (mut agent, mut person) = (seeded(1, "one\ntwo\n"), seeded(2, "one\ntwo\n"));
        let typed = person.wrote("one typed\ntwo\n");
        agent.receive(&typed).unwrap();
        // The disk still had the seed when the agent wrote.
        let wrote = agent.wrote("one\ntwo\nthree\n");
        person.receive(&wrote).unwrap();
        let snapshot = agent.snapshot().unwrap().unwrap();
        assert_eq!(snapshot.text, "one typed\ntwo\nthree\n");
        assert_eq!(snapshot.hash, person.live_hash());
        assert!(!agent.is_even());
        agent
            .follow(&snapshot.update, snapshot.version, NOW)
            .unwrap();
        assert!(agent.is_even());
        let same = agent
            .edit(found(&snapshot.text, Writer::Unknown), client(9), NOW)
            .unwrap();
        assert_eq!(same, Edited::Nothing);
    }

    #[test]
    fn what_a_swap_displaced_is_merged_and_later_edits_still_work() {
        let mut agent = seeded(1, "a\n");
        let mut person = seeded(2, "a\n");
        let mut log = vec![agent.wrote("a\nb\n")];
        person.receive(&log[0]).unwrap();
        let typed = person.wrote("typed\na\nb\n");
        agent.receive(&typed).unwrap();
        let snapshot = agent.snapshot().unwrap().unwrap();
        // Between comparing and swapping somebody wrote this; the disk now has the snapshot.
        log.extend(
            agent
                .edit_of_displaced("a\nb\nraced\n", client(9), NOW)
                .unwrap(),
        );
        agent
            .follow(&snapshot.update, snapshot.version, NOW)
            .unwrap();
        log.push(agent.wrote("typed\na\nb\nlater\n"));
        for update in &log[1..] {
            assert!(!person.receive(update).unwrap());
        }
        let text = agent.snapshot().unwrap().unwrap().text;
        for token in ["typed", "raced", "later"] {
            assert_eq!(text.matches(token).count(), 1, "{text:?}");
        }
        assert_eq!(person.live_hash(), agent.live_hash());
    }

    #[test]
    fn a_remembered_shadow_goes_on_under_another_client() {
        let mut before = seeded(1, "a\n");
        before.wrote("a\nb\n");
        let state = StatePart::of(before.shadow_state());
        let mut after = TextDocument::from_parts(client(2), &[state], NOW).unwrap();
        assert_eq!(after.live_hash(), before.live_hash());
        let update = after.wrote("a\nb\nc\n");
        before.receive(&update).unwrap();
        assert_eq!(after.live_hash(), before.live_hash());
    }

    #[test]
    fn an_update_without_its_ground_is_known_to_miss_something() {
        let mut author = seeded(1, "a");
        author.wrote("ab");
        let second = author.wrote("abc");
        let mut other = seeded(2, "a");
        assert!(other.receive(&second).unwrap());
        assert!(!other.is_even());
        let all = author.diff(&other.state_vector()).unwrap();
        assert!(!other.receive(&all).unwrap());
        assert_eq!(other.live_hash(), author.live_hash());
    }
}
