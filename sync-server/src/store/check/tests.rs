use std::fs;

use bytes::Bytes;
use rusqlite::Connection;
use tempfile::TempDir;
use uspark_shared::diff::diff;
use uspark_shared::replica::ProjectEdit;
use uspark_shared::schema::Entry;

use super::super::contract::{commit, create, doc, name, project};
use super::super::{BlobBody, DataDirectory, SettledVersion, SqliteStore, TextRecord, Write};
use super::*;

/// Longer than what is kept in the database, and no text.
static LARGE: [u8; 100_000] = [0; 100_000];

/// A data directory with a project, an edited text, one that nobody edited, and a large blob. The store
/// is open, as it is in a server.
pub(in crate::store) fn served() -> (TempDir, SqliteStore) {
    let temp = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&DataDirectory::open(temp.path()).unwrap()).unwrap();
    let client = |n| ClientId::from_random([n; 4]);
    let of_project = ProjectReplica::new(client(1));
    let set = ProjectEdit::SetFile("empty".parse().unwrap(), Entry::Dir);
    let of_text = TextReplica::new(client(2));
    let one = of_text.edit(&diff("", "one\n"));
    let two = of_text.edit(&diff("one\n", "one\ntwo\n"));
    let append = |document, seq, update: Option<Vec<u8>>| Write::Append {
        name: name(document),
        seq,
        update: update.unwrap().into(),
        origin: None,
        at: 0,
    };
    let text = |id, seed: &[u8]| {
        Write::PutText(TextRecord {
            project: project("p"),
            doc: doc(id),
            seed: BlobHash::of(seed),
            path: id.parse().unwrap(),
            deleted_at: None,
        })
    };
    let settled = SettledVersion {
        hash: BlobHash::of(b"one\ntwo\n"),
        size: 8,
        mtime: 0,
    };
    let writes = vec![
        create("p"),
        blob(b"one\n"),
        blob(b"unedited\n"),
        blob(b"one\ntwo\n"),
        text("edited", b"one\n"),
        text("unedited", b"unedited\n"),
        append("p", 1, of_project.edit(&[set])),
        append("p/edited", 1, one),
        append("p/edited", 2, two),
        Write::Settle {
            project: project("p"),
            doc: doc("edited"),
            version: settled,
            project_seq: 1,
            doc_seq: 2,
        },
        Write::PutBlob {
            project: project("p"),
            hash: BlobHash::of(&LARGE),
            body: BlobBody::External {
                size: LARGE.len() as u64,
            },
            at: 1,
        },
    ];
    commit(&store, writes).unwrap();
    let file = large(temp.path());
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, LARGE).unwrap();
    (temp, store)
}

fn blob(bytes: &'static [u8]) -> Write {
    Write::PutBlob {
        project: project("p"),
        hash: BlobHash::of(bytes),
        body: BlobBody::Inline(Bytes::from_static(bytes)),
        at: 1,
    }
}

/// The file of the large blob.
pub(in crate::store) fn large(data: &Path) -> PathBuf {
    path_of(&blobs_in(data), &BlobHash::of(&LARGE))
}

fn checked(data: &Path) -> Findings {
    check(data, &mut |_| {}).unwrap()
}

#[test]
fn a_directory_is_whole_while_it_is_served_and_after() {
    let (temp, store) = served();
    let mut progress = Vec::new();
    let found = check(temp.path(), &mut |step| progress.push(step)).unwrap();
    let expected = Findings {
        projects: 1,
        documents: 2,
        blobs: 4,
        bytes: 4 + 9 + 8 + LARGE.len() as u64,
        ..Findings::default()
    };
    assert_eq!(found, expected);
    for what in ["documents", "bytes of blobs"] {
        let last = progress.iter().rfind(|step| step.what == what).unwrap();
        assert_eq!(last.done, last.total, "{what}");
    }
    drop(store);
    assert_eq!(checked(temp.path()), expected);
    // And it is none the worse for it.
    SqliteStore::open(&DataDirectory::open(temp.path()).unwrap()).unwrap();
}

#[test]
fn what_is_written_during_a_check_is_no_part_of_it() {
    let (temp, store) = served();
    let mut more = vec![blob(b"later\n")];
    let before = check(temp.path(), &mut |_| {
        if !more.is_empty() {
            commit(&store, std::mem::take(&mut more)).unwrap();
        }
    });
    assert_eq!(before.unwrap().blobs, 4);
    assert_eq!(checked(temp.path()).blobs, 5);
}

/// Runs SQL that no server would.
fn sql(data: &Path, sql: &str) {
    let db = Connection::open(database_in(data)).unwrap();
    db.execute_batch(&format!("PRAGMA foreign_keys = off; {sql}"))
        .unwrap();
}

#[test]
fn whatever_is_damaged_is_found_and_named() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 16] = [
        ("No such file", |data| fs::remove_file(large(data)).unwrap()),
        ("has 99999 bytes instead of 100000", |data| {
            fs::write(large(data), &LARGE[1..]).unwrap();
        }),
        ("its bytes are others", |data| {
            fs::write(large(data), [1; 100_000]).unwrap();
        }),
        ("its bytes are others", |data| {
            sql(data, "UPDATE blobs SET body = x'62616421' WHERE size = 4");
        }),
        ("it has 1 bytes instead of 4", |data| {
            sql(data, "UPDATE blobs SET body = x'62' WHERE size = 4");
        }),
        ("text p/edited: part 2 of 2", |data| {
            sql(data, "UPDATE updates SET body = x'0101ff' WHERE seq = 2");
        }),
        ("document of project p: part 1 of 1", |data| {
            sql(
                data,
                "UPDATE updates SET body = x'ff' WHERE document = (SELECT key FROM documents WHERE doc = '')",
            );
        }),
        ("text p/unedited: what it began with", |data| {
            sql(
                data,
                "DELETE FROM grants WHERE blob = (SELECT key FROM blobs WHERE size = 9)",
            );
        }),
        ("text p/unedited: what it is to begin with", |data| {
            sql(
                data,
                "UPDATE texts SET seed = (SELECT hash FROM blobs WHERE body IS NULL) WHERE doc = 'unedited'",
            );
        }),
        ("text p/edited: its version", |data| {
            sql(
                data,
                "DELETE FROM grants WHERE blob = (SELECT key FROM blobs WHERE size = 8)",
            );
        }),
        ("a row of `grants` without its row of `blobs`", |data| {
            sql(data, "DELETE FROM blobs WHERE size = 8");
        }),
        ("a row of `documents` without", |data| {
            sql(data, "DELETE FROM projects");
        }),
        ("its name is no name", |data| {
            sql(
                data,
                "UPDATE documents SET doc = '../x' WHERE doc = 'edited'",
            );
        }),
        ("uspark.db is damaged", |data| {
            sql(
                data,
                "INSERT INTO tokens VALUES ('x', NULL, 'owner', x'', NULL, 0, NULL, NULL)",
            );
        }),
        ("no such table", |data| sql(data, "DROP TABLE settled")),
        ("no format version", |data| {
            sql(data, "PRAGMA user_version = 0")
        }),
    ];
    for (expected, damage) in damages {
        let (temp, store) = served();
        drop(store);
        damage(temp.path());
        let found = checked(temp.path());
        let said: Vec<String> = found
            .problems
            .iter()
            .map(|problem| format!("{}: {}", problem.place, problem.detail))
            .collect();
        assert!(!found.is_whole(), "{expected}");
        assert!(
            said.iter().any(|line| line.contains(expected)),
            "{expected}: {said:#?}"
        );
    }
}

#[test]
fn a_page_that_was_overwritten_is_found() {
    let (temp, store) = served();
    drop(store);
    // All of it in one file.
    sql(temp.path(), "PRAGMA wal_checkpoint(TRUNCATE)");
    let database = database_in(temp.path());
    let whole = fs::read(&database).unwrap();
    let pages = whole.len() / 4096;
    for page in 1..pages {
        let mut damaged = whole.clone();
        damaged[page * 4096..][..4096].fill(0xa5);
        fs::write(&database, damaged).unwrap();
        assert!(!checked(temp.path()).is_whole(), "page {page} of {pages}");
    }
    fs::write(&database, &whole[..4096]).unwrap();
    assert!(!checked(temp.path()).is_whole(), "cut");
    fs::write(&database, b"a note").unwrap();
    assert!(!checked(temp.path()).is_whole(), "a note");
    fs::write(&database, whole).unwrap();
    assert!(checked(temp.path()).is_whole());
}

#[test]
fn what_harms_nothing_is_a_note() {
    let (temp, store) = served();
    let author = ProjectReplica::new(ClientId::from_random([3; 4]));
    let (mode, mtime) = (0o644, 0);
    let never = BlobHash::of(b"never came");
    let (seed, hash) = (never, never);
    let doc = "unknown".parse().unwrap();
    let entries = [
        (
            "a.bin",
            Entry::Blob {
                hash,
                size: 10,
                mode,
                mtime,
            },
        ),
        (
            "b.txt",
            Entry::Text {
                doc,
                seed,
                mode,
                mtime,
            },
        ),
        (
            "c.bin",
            Entry::Blob {
                hash: BlobHash::of(&LARGE),
                size: 100_000,
                mode,
                mtime,
            },
        ),
    ];
    let edits = entries.map(|(path, entry)| ProjectEdit::SetFile(path.parse().unwrap(), entry));
    let update = author.edit(&edits).unwrap().into();
    let append = Write::Append {
        name: name("p"),
        seq: 2,
        update,
        origin: None,
        at: 0,
    };
    commit(&store, vec![append]).unwrap();
    let notes = checked(temp.path()).notes;
    assert_eq!(
        notes,
        ["2 paths of project p wait for content that never came, such as `a.bin`"]
    );
    drop(store);
    sql(
        temp.path(),
        "DELETE FROM grants WHERE blob = (SELECT key FROM blobs WHERE body IS NULL)",
    );
    let blobs = blobs_in(temp.path());
    fs::create_dir_all(incoming(&blobs)).unwrap();
    fs::write(incoming(&blobs).join("upload-x"), b"half").unwrap();
    fs::write(large(temp.path()).with_extension("copy"), b"mine").unwrap();
    sql(
        temp.path(),
        "UPDATE texts SET seed = zeroblob(32) WHERE doc = 'edited'",
    );
    let found = checked(temp.path());
    assert!(found.is_whole(), "{found:?}");
    let notes = found.notes.join("\n");
    for expected in [
        "1 blobs (100000 bytes) that no project has",
        "1 files (4 bytes) that the database does not name",
        "1 files (4 bytes) of uploads",
        "1 texts came back",
    ] {
        assert!(notes.contains(expected), "{expected}: {notes}");
    }
}

#[test]
fn where_no_server_worked_there_is_nothing_to_check() {
    let temp = tempfile::tempdir().unwrap();
    for data in [temp.path(), &temp.path().join("nothing")] {
        let error = check(data, &mut |_| {}).unwrap_err();
        assert!(matches!(error, StoreError::NoData { .. }), "{error:?}");
        assert!(error.hint().unwrap().contains("--data"));
    }
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
    let (temp, store) = served();
    drop(store);
    sql(temp.path(), "PRAGMA user_version = 1000");
    let error = check(temp.path(), &mut |_| {}).unwrap_err();
    assert!(matches!(error, StoreError::Newer { .. }), "{error:?}");
}
