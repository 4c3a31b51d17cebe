//! What a disk may do to the database: see `uspark_tests::Row` and `make soak`.
#![allow(
    clippy::disallowed_methods,
    reason = "the test does to files what a disk may do"
)]

use std::fs;
use std::path::{Path, PathBuf};

use uspark_shared::diff::diff;
use uspark_shared::replica::{ClientId, TextReplica};
use uspark_tests::Row;

use super::check::tests::{large, served};
use super::contract::{commit, name};
use super::*;

const DATABASE: &str = "uspark.db";
const LOG: &str = "uspark.db-wal";
/// Commits after those that make the project.
const COMMITS: usize = 60;

/// A database, once with its commits in the log and once all in one file.
struct Original {
    database: Vec<u8>,
    log: Vec<u8>,
    /// The length of the log after each commit, and what the text was then: at first there was none.
    commits: Vec<(usize, Option<String>)>,
    whole: Vec<u8>,
    /// Where the large blob lies, below the data directory.
    blob: PathBuf,
    blob_bytes: Vec<u8>,
}

/// What became of a damaged database.
struct Outcome {
    /// What the text is, if it opens and loads.
    text: Result<Option<String>, String>,
    is_whole: bool,
}

#[test]
fn a_database_cut_or_overwritten_at_random() {
    let mut row = Row::begin("the database cut or overwritten");
    let rounds = row.count(4000, 40);
    let original = Original::make();
    let last = original.commits.last().unwrap().1.clone();
    let (mut in_log, mut refused, mut named) = (0, 0, 0);
    for round in 0..rounds {
        let random = &mut row.random;
        if round % 2 == 0 {
            // The log: what was committed before the damage is there, and nothing that never was.
            let at = random.usize(..original.log.len());
            let mut log = original.log.clone();
            match random.bool() {
                true => log.truncate(at),
                false => noise(random, &mut log[at..], 200),
            }
            let found = original.opened(&original.database, Some(&log));
            let text = found
                .text
                .unwrap_or_else(|error| panic!("at {at}: {error}"));
            let survive = original.commits.iter().rposition(|(end, _)| *end <= at);
            let possible = &original.commits[survive.unwrap()..];
            assert!(
                possible.iter().any(|(_, then)| *then == text),
                "at {at}: {text:?}"
            );
            assert!(found.is_whole, "at {at}");
            in_log += 1;
        } else {
            // The rest: it is as it was, or something says that it is not.
            let mut whole = original.whole.clone();
            let at = random.usize(..whole.len());
            match random.bool() {
                true => whole.truncate(at),
                false => {
                    let page = at / 4096 * 4096;
                    noise(random, &mut whole[page..], 4096);
                }
            }
            let found = original.opened(&whole, None);
            refused += usize::from(found.text.is_err());
            named += usize::from(!found.is_whole);
            let is_right = found.text.as_ref().is_ok_and(|text| *text == last);
            assert!(
                !found.is_whole || is_right,
                "at {at}: nothing says what is wrong"
            );
        }
    }
    row.held(format_args!(
        "{in_log} times in the log: all before it is there; {} times elsewhere: {refused} did not open or load, \
         {named} were named by the check",
        rounds - in_log
    ));
}

/// Overwrites up to `most` bytes at the front.
fn noise(random: &mut fastrand::Rng, bytes: &mut [u8], most: usize) {
    let most = most.min(bytes.len());
    let length = random.usize(1..=most);
    random.fill(&mut bytes[..length]);
}

impl Original {
    fn make() -> Self {
        let (temp, store) = served();
        let file = |name: &str| fs::read(temp.path().join(name)).unwrap();
        let text = |store: &SqliteStore| text_of(store).unwrap();
        let mut commits = vec![(0, None), (file(LOG).len(), text(&store))];
        let author = TextReplica::new(ClientId::from_random([9; 4]));
        for update in store.load(&name("p/edited")).unwrap().updates {
            author.apply(&update).unwrap();
        }
        for seq in 3..3 + COMMITS as u64 {
            let before = author.text();
            let after = format!("{before}line {seq}\n");
            let update = author.edit(&diff(&before, &after)).unwrap().into();
            let append = Write::Append {
                name: name("p/edited"),
                seq,
                update,
                origin: None,
                at: 0,
            };
            commit(&store, vec![append]).unwrap();
            commits.push((file(LOG).len(), text(&store)));
        }
        let (database, log) = (file(DATABASE), file(LOG));
        let blob = large(temp.path());
        let blob_bytes = fs::read(&blob).unwrap();
        let blob = blob.strip_prefix(temp.path()).unwrap().to_owned();
        // Closing it puts all of it into one file.
        drop(store);
        assert!(!temp.path().join(LOG).exists());
        let whole = file(DATABASE);
        Self {
            database,
            log,
            commits,
            whole,
            blob,
            blob_bytes,
        }
    }

    /// Opens a copy with these files.
    fn opened(&self, database: &[u8], log: Option<&[u8]>) -> Outcome {
        let temp = tempfile::tempdir().unwrap();
        let write = |name: &Path, bytes: &[u8]| {
            let path = temp.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        write(Path::new(DATABASE), database);
        write(&self.blob, &self.blob_bytes);
        if let Some(log) = log {
            write(Path::new(LOG), log);
        }
        let text = DataDirectory::open(temp.path())
            .and_then(|directory| SqliteStore::open(&directory))
            .map_err(|error| error.to_string())
            .and_then(|store| text_of(&store));
        if let Err(error) = &text {
            assert!(
                error.contains(DATABASE) || error.contains("update"),
                "{error}"
            );
        }
        let found = check::check(temp.path(), &mut |_| {});
        let is_whole = found.is_ok_and(|found| found.is_whole());
        Outcome { text, is_whole }
    }
}

/// The text, or why it does not load; none if there is no such document.
fn text_of(store: &SqliteStore) -> Result<Option<String>, String> {
    let stored = store
        .load(&name("p/edited"))
        .map_err(|error| error.to_string())?;
    let replica = TextReplica::new(ClientId::from_random([8; 4]));
    for update in &stored.updates {
        replica
            .apply(update)
            .map_err(|error| format!("an update: {error}"))?;
    }
    Ok((stored.next_seq > 1).then(|| replica.text()))
}
