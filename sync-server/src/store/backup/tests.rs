use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use uspark_shared::diff::diff;
use uspark_shared::replica::{ClientId, TextReplica};

use super::super::check::tests::{large, served};
use super::super::contract::{commit, name, project};
use super::super::{DataDirectory, Spent, SqliteStore, Store as _, StoredDocument, Write};
use super::*;

fn copied(data: &Path, to: &Path) -> Result<Findings, BackupError> {
    backup(data, to, &mut |_| {})
}

fn open(data: &Path) -> SqliteStore {
    SqliteStore::open(&DataDirectory::open(data).unwrap()).unwrap()
}

fn loaded(store: &SqliteStore, document: &str) -> StoredDocument {
    store.load(&name(document)).unwrap()
}

fn names_in(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_backup_is_a_data_directory_for_nobody_elses_eyes() {
    let (data, store) = served();
    fs::write(data.path().join(ADMIN_TOKEN), "secret\n").unwrap();
    let place = tempfile::tempdir().unwrap();
    let to = place.path().join("monday");
    let found = copied(data.path(), &to).unwrap();
    assert_eq!(found.documents, 2);
    assert_eq!(names_in(place.path()), ["monday"]);
    assert_eq!(names_in(&to), ["admin-token", "blobs", "uspark.db"]);
    assert_eq!(
        fs::read(large(&to)).unwrap(),
        fs::read(large(data.path())).unwrap()
    );
    assert_eq!(fs::read(to.join(ADMIN_TOKEN)).unwrap(), b"secret\n");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&to), mode(&to.join("blobs"))), (0o700, 0o700));
    assert_eq!(mode(&to.join("uspark.db")), 0o600);
    let copy = open(&to);
    assert_eq!(loaded(&copy, "p/edited"), loaded(&store, "p/edited"));
    // It is one of its own: what is written to the one is not in the other.
    assert!(check(&to, &mut |_| {}).unwrap().is_whole());
    assert!(check(data.path(), &mut |_| {}).unwrap().is_whole());
}

#[test]
fn who_opens_a_copy_first_draws_a_new_epoch() {
    let (data, store) = served();
    let place = tempfile::tempdir().unwrap();
    let to = place.path().join("one");
    copied(data.path(), &to).unwrap();
    // The same backup, restored twice.
    let again = place.path().join("two");
    fs::create_dir(&again).unwrap();
    fs::copy(to.join("uspark.db"), again.join("uspark.db")).unwrap();
    let epochs = [&to, &again].map(|copy| open(copy).epoch().to_owned());
    assert_ne!(epochs[0], epochs[1]);
    assert!(!epochs.contains(&store.epoch().to_owned()), "{epochs:?}");
    assert!(!epochs.contains(&String::new()));
    assert_eq!(open(&to).epoch(), epochs[0], "from then on it stays");
    drop(store);
    assert_eq!(open(data.path()).epoch().len(), epochs[0].len());
}

/// However old a copy is: who comes back to it finds what it has.
#[test]
fn in_a_copy_that_is_opened_nothing_is_spent() {
    let (data, store) = served();
    let spent = Spent {
        uploaded_before: 1000,
        released_before: 1000,
    };
    let doubtful = |store: &SqliteStore| store.doubtful_blobs(&project("p"), spent, 99).unwrap();
    assert!(!doubtful(&store).is_empty());
    let place = tempfile::tempdir().unwrap();
    let to = place.path().join("copy");
    copied(data.path(), &to).unwrap();
    assert_eq!(doubtful(&open(&to)), []);
}

/// Two documents are written in the same groups while the copies are made: each copy has both to the same
/// place, and all that was durable before it began.
#[test]
fn a_copy_made_while_a_server_writes_is_of_one_moment() {
    let (data, store) = served();
    let place = tempfile::tempdir().unwrap();
    let (written, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let author = TextReplica::new(ClientId::from_random([9; 4]));
            for seq in 10.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let old = author.text();
                let update = author.edit(&diff(&old, &format!("{old}word ")));
                let update = Bytes::from(update.unwrap());
                let append = |document| Write::Append {
                    name: name(document),
                    seq,
                    update: update.clone(),
                    origin: None,
                    at: 0,
                };
                commit(&store, vec![append("p/a"), append("p/b")]).unwrap();
                written.store(seq, Ordering::Relaxed);
            }
        });
        for round in 0..5 {
            let before = written.load(Ordering::Relaxed);
            let to = place.path().join(round.to_string());
            copied(data.path(), &to).unwrap();
            let copy = open(&to);
            let (a, b) = (loaded(&copy, "p/a"), loaded(&copy, "p/b"));
            assert_eq!(a, b, "round {round}");
            assert!(
                a.next_seq > before,
                "round {round}: {} of {before}",
                a.next_seq
            );
            // It must have gone on meanwhile.
            while written.load(Ordering::Relaxed) <= before {
                std::thread::yield_now();
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn what_is_there_is_not_touched_and_what_is_damaged_not_kept() {
    let (data, _store) = served();
    let place = tempfile::tempdir().unwrap();
    let to = place.path().join("monday");
    fs::create_dir(&to).unwrap();
    let error = copied(data.path(), &to).unwrap_err();
    assert!(matches!(error, BackupError::Exists { .. }), "{error:?}");
    assert!(error.hint().is_some());
    fs::remove_dir(&to).unwrap();

    let nothing = copied(place.path(), &to).unwrap_err();
    let is_nothing = matches!(nothing, BackupError::Store(StoreError::NoData { .. }));
    assert!(is_nothing, "{nothing:?}");

    fs::remove_file(large(data.path())).unwrap();
    let error = copied(data.path(), &to).unwrap_err();
    let BackupError::NotWhole(found) = error else {
        panic!("{error:?}");
    };
    assert!(
        found.problems[0].detail.contains("No such file"),
        "{found:?}"
    );
    assert_eq!(names_in(place.path()), [""; 0]);
}

/// Ends the work at every step at which it says how far it is.
#[test]
fn what_is_cut_short_is_no_backup() {
    let (data, _store) = served();
    let place = tempfile::tempdir().unwrap();
    let to = place.path().join("monday");
    let mut steps = 0;
    backup(data.path(), &place.path().join("whole"), &mut |_| {
        steps += 1
    })
    .unwrap();
    assert!(steps > 3, "{steps}");
    for cut in 0..steps {
        let mut left = cut;
        let cut_short = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            backup(data.path(), &to, &mut |_| {
                assert!(!to.exists());
                left = usize::checked_sub(left, 1).expect("it is cut here");
            })
        }));
        assert!(cut_short.is_err(), "cut {cut}");
        assert_eq!(names_in(place.path()), ["whole"], "cut {cut}");
    }
    copied(data.path(), &to).unwrap();
}
