//! What only a store on disk can get wrong: opening, reopening, cuts, and a full disk.

use std::fs;
use std::path::Path;

use super::super::contract::{
    append, commit, compact, create, events, loaded, project, put_blob, sqlite,
};
use super::*;

fn open(path: &Path) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(&DataDirectory::open(path)?)
}

/// What opening a directory fails with, as a person reads it.
fn error_of_opening(path: &Path) -> StoreError {
    let error = open(path).unwrap_err();
    assert!(error.to_string().contains("uspark.db"), "{error}");
    error
}

#[test]
fn all_that_was_committed_is_there_after_reopening() {
    let (temp, store) = sqlite();
    commit(&store, vec![create("p")]).unwrap();
    for seq in 1..=50 {
        commit(&store, vec![append("p", seq, "x"), append("p/d", seq, "y")]).unwrap();
    }
    commit(&store, vec![compact("p", 30, "snapshot")]).unwrap();
    let before = (
        loaded(&store, "p"),
        loaded(&store, "p/d"),
        store.epoch().to_owned(),
    );
    assert_eq!(before.0.0.len(), 21);
    drop(store);
    let store = open(temp.path()).unwrap();
    let after = (
        loaded(&store, "p"),
        loaded(&store, "p/d"),
        store.epoch().to_owned(),
    );
    assert_eq!(after, before);
}

#[test]
fn every_data_directory_has_its_own_epoch() {
    let (one, two) = (sqlite(), sqlite());
    assert_ne!(one.1.epoch(), two.1.epoch());
}

/// Cuts the log at many places, as a crash may, and opens what is left each time: what was
/// committed before the cut is all there, and the document is never without its content.
#[test]
fn a_cut_anywhere_keeps_every_commit_before_it() {
    let (temp, store) = sqlite();
    commit(&store, vec![create("p")]).unwrap();
    let log = || temp.path().join("uspark.db-wal");
    // The length of the log after each commit, and what it holds then.
    let mut marks = vec![(fs::metadata(log()).unwrap().len(), loaded(&store, "p"))];
    let large = "large ".repeat(2000);
    let steps = [
        vec![append("p", 1, "one")],
        vec![append("p", 2, &large)],
        vec![compact("p", 2, "one+large")],
        vec![append("p", 3, "three")],
        vec![append("p", 4, "four"), compact("p", 3, &large)],
        vec![compact("p", 4, "all")],
    ];
    for step in steps {
        commit(&store, step).unwrap();
        marks.push((fs::metadata(log()).unwrap().len(), loaded(&store, "p")));
    }
    let (database, whole) = (temp.path().join("uspark.db"), fs::read(log()).unwrap());
    let frame_edges = marks.iter().flat_map(|(end, _)| [*end - 1, *end, *end + 1]);
    let cuts = frame_edges.chain((marks[0].0..whole.len() as u64).step_by(1777));
    for cut in cuts.filter(|&cut| cut >= marks[0].0 && cut <= whole.len() as u64) {
        let copy = tempfile::tempdir().unwrap();
        fs::copy(&database, copy.path().join("uspark.db")).unwrap();
        fs::write(copy.path().join("uspark.db-wal"), &whole[..cut as usize]).unwrap();
        let (_, expected) = marks.iter().rfind(|(end, _)| *end <= cut).unwrap();
        assert_eq!(
            loaded(&open(copy.path()).unwrap(), "p"),
            *expected,
            "cut at {cut}"
        );
    }
}

#[test]
fn a_full_disk_is_one_clear_error_and_keeps_nothing_of_the_batch() {
    let (temp, store) = sqlite();
    commit(&store, vec![create("p"), append("p", 1, "kept")]).unwrap();
    let pages = |limit: i64| {
        let writer = lock(&store.writer);
        writer
            .pragma_update_and_check(None, "max_page_count", limit, |_| Ok(()))
            .unwrap();
    };
    pages(1); // SQLite takes the present size for the limit.
    let large = "x".repeat(1 << 20);
    let batch = [vec![append("p", 2, "small")], vec![append("p", 3, &large)]];
    let error = store.commit(&batch).unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    assert!(error.to_string().contains("uspark.db"), "{error}");
    assert_eq!(loaded(&store, "p"), (vec!["kept".into()], 2));
    // With room again it goes on, in the same process.
    pages(1 << 20);
    assert_eq!(store.commit(&batch).unwrap(), [Ok(()), Ok(())]);
    drop(store);
    assert_eq!(loaded(&open(temp.path()).unwrap(), "p").1, 4);
}

#[test]
fn a_damaged_database_is_named_and_left_as_it_is() {
    let (temp, store) = sqlite();
    commit(&store, vec![create("p")]).unwrap();
    drop(store);
    let database = temp.path().join("uspark.db");
    let whole = fs::read(&database).unwrap();
    let noise: Vec<u8> = (0..8192_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    for damaged in [&noise[..], &[], &whole[..50], b"a note, not a database"] {
        fs::write(&database, damaged).unwrap();
        let error = error_of_opening(temp.path());
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
        assert!(error.hint().unwrap().contains("backup"));
        assert_eq!(fs::read(&database).unwrap(), damaged);
    }
    fs::write(&database, &whole).unwrap();
    assert!(
        open(temp.path())
            .unwrap()
            .project(&project("p"))
            .unwrap()
            .is_some()
    );
}

#[test]
fn a_newer_format_is_refused() {
    let (temp, store) = sqlite();
    lock(&store.writer)
        .pragma_update(None, "user_version", schema::FORMAT + 1)
        .unwrap();
    drop(store);
    let error = error_of_opening(temp.path());
    assert!(
        matches!(
            error,
            StoreError::Newer {
                found: 4,
                known: 3,
                ..
            }
        ),
        "{error:?}"
    );
}

#[test]
fn format_1_is_taken_over_with_all_that_is_in_it() {
    let (temp, store) = sqlite();
    commit(
        &store,
        vec![
            create("p"),
            append("p", 1, "one"),
            append("p/d", 1, "two"),
            put_blob("p", "blob"),
        ],
    )
    .unwrap();
    let epoch = store.epoch().to_owned();
    {
        let writer = lock(&store.writer);
        let back = "DROP TABLE events; DROP TABLE runs; DROP TABLE event_numbers;
                    DROP INDEX grants_in_doubt; DROP INDEX settled_by_hash;
                    DROP INDEX texts_by_seed; DROP INDEX texts_deleted;
                    ALTER TABLE grants DROP COLUMN kept;
                    ALTER TABLE grants DROP COLUMN released_at;
                    ALTER TABLE grants DROP COLUMN uploaded_at;
                    PRAGMA user_version = 1;";
        writer.execute_batch(back).unwrap();
    }
    drop(store);
    // The schema that a server of format 1 made.
    let made = Connection::open_in_memory().unwrap();
    made.execute_batch(schema::FORMAT_1).unwrap();
    let tables = |db: &Connection| -> Vec<String> {
        let mut names = db
            .prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name")
            .unwrap();
        let names = names.query_map([], |row| row.get(0)).unwrap();
        names.map(Result::unwrap).collect()
    };
    let database = temp.path().join("uspark.db");
    assert_eq!(tables(&Connection::open(&database).unwrap()), tables(&made));

    for _ in 0..2 {
        let store = open(temp.path()).unwrap();
        assert_eq!(store.epoch(), epoch);
        assert_eq!(loaded(&store, "p"), (vec!["one".into()], 2));
        assert_eq!(loaded(&store, "p/d"), (vec!["two".into()], 2));
        commit(&store, vec![events("p", 1..=1, 9)]).unwrap();
        // As if it had been uploaded, and let go of, only now.
        let long_ago = Spent {
            uploaded_before: crate::config::system_clock() - 60_000,
            released_before: u64::MAX,
        };
        let doubtful = |spent| store.doubtful_blobs(&project("p"), spent, 9).unwrap();
        assert_eq!(doubtful(long_ago), []);
        let (uploaded_before, released_before) =
            (long_ago.released_before, long_ago.uploaded_before);
        assert_eq!(
            doubtful(Spent {
                uploaded_before,
                released_before
            }),
            []
        );
        let (uploaded_before, released_before) = (u64::MAX, u64::MAX);
        assert_eq!(
            doubtful(Spent {
                uploaded_before,
                released_before
            })
            .len(),
            1
        );
    }
    let store = open(temp.path()).unwrap();
    let page = store.events(&project("p"), 0, 9).unwrap().unwrap();
    assert_eq!(page.events.len(), 2);
    let (_other, new) = sqlite();
    assert_eq!(tables(&lock(&store.writer)), tables(&lock(&new.writer)));
}

#[test]
fn half_a_creation_is_begun_anew() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(
        temp.path().join("uspark.db.new"),
        b"cut off while it was made",
    )
    .unwrap();
    let store = open(temp.path()).unwrap();
    commit(&store, vec![create("p")]).unwrap();
    assert!(!temp.path().join("uspark.db.new").exists());
}

#[test]
fn other_users_cannot_read_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let (temp, store) = sqlite();
    commit(&store, vec![create("p")]).unwrap();
    for file in ["uspark.db", "uspark.db-wal", "uspark.db-shm"] {
        let found = fs::metadata(temp.path().join(file)).unwrap();
        assert_eq!(found.permissions().mode() & 0o777, 0o600, "{file}");
    }
}

#[test]
fn a_commit_waits_for_the_disk() {
    let (_temp, store) = sqlite();
    let writer = lock(&store.writer);
    let setting = |name: &str| -> String {
        writer
            .query_row(
                &format!("SELECT \"{name}\" FROM pragma_{name}"),
                [],
                |row| {
                    row.get::<_, rusqlite::types::Value>(0)
                        .map(|value| format!("{value:?}"))
                },
            )
            .unwrap()
    };
    assert_eq!(setting("journal_mode"), "Text(\"wal\")");
    assert_eq!(setting("synchronous"), "Integer(2)");
    assert_eq!(setting("foreign_keys"), "Integer(1)");
}

/// The probe must reach the file: a store that cannot be written must not look well.
#[test]
fn an_empty_group_writes() {
    let (temp, store) = sqlite();
    let length = || {
        fs::metadata(temp.path().join("uspark.db-wal"))
            .unwrap()
            .len()
    };
    commit(&store, vec![create("p")]).unwrap();
    let before = length();
    commit(&store, vec![]).unwrap();
    assert!(length() > before);
}
