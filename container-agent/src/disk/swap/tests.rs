use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

struct Place {
    dir: tempfile::TempDir,
    root: Root,
    temps: u64,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        super::super::state::StateDir::open(&root).unwrap();
        Self {
            dir,
            root,
            temps: 0,
        }
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn put(&mut self, name: &str, bytes: &[u8], expected: Expected) -> (Put, PutResult) {
        self.temps += 1;
        let put = Put {
            path: name.parse().unwrap(),
            temp: TempName::from_random(self.temps.to_le_bytes()),
            content: Content::Bytes(bytes.to_vec()),
            mode: 0o640,
            mtime: Some(1_700_000_000_123),
            expected,
        };
        let result = self.root.put(&put).unwrap();
        (put, result)
    }

    fn seen(&self, name: &str) -> SeenFile {
        match self
            .root
            .observe(&name.parse().unwrap(), None, IfWritten::Wait)
        {
            Ok(Seen::File(seen)) => seen,
            other => panic!("{other:?}"),
        }
    }

    fn expected(&self, name: &str) -> Expected {
        let seen = self.seen(name);
        Expected::File(seen.print, seen.hash)
    }

    fn names(&self) -> Vec<String> {
        names(self.dir.path())
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap().flatten();
    let mut names: Vec<String> = entries
        .map(|e| e.file_name().into_string().unwrap())
        .filter(|n| n != ".uspark")
        .collect();
    names.sort();
    names
}

#[test]
fn a_new_file_appears_whole_with_mode_and_time_and_directories() {
    let mut place = Place::new();
    let (_, result) = place.put("a/b/f", b"x", Expected::Absent);
    assert!(matches!(result, PutResult::Done(_)));
    let meta = std::fs::metadata(place.at("a/b/f")).unwrap();
    assert_eq!(meta.permissions().mode() & 0o777, 0o640);
    assert_eq!(
        (meta.mtime(), meta.mtime_nsec()),
        (1_700_000_000, 123_000_000)
    );
    let (_, again) = place.put("a/b/f", b"y", Expected::Absent);
    assert_eq!(again, PutResult::Changed);
    assert_eq!(std::fs::read(place.at("a/b/f")).unwrap(), b"x");
    assert_eq!(names(&place.at("a/b")), ["f"]);
}

#[test]
fn a_swap_leaves_what_it_displaced_until_it_is_discarded() {
    let mut place = Place::new();
    std::fs::write(place.at("f"), "old").unwrap();
    let expected = place.expected("f");
    let (put, result) = place.put("f", b"new", expected);
    assert!(matches!(
        &result,
        PutResult::Swapped {
            displaced: Displaced::AsExpected,
            ..
        }
    ));
    assert_eq!(std::fs::read(place.at("f")).unwrap(), b"new");
    assert_eq!(std::fs::read(place.at(put.temp.as_str())).unwrap(), b"old");
    place.root.discard(&put.path, &put.temp);
    assert_eq!(place.names(), ["f"]);
}

#[test]
fn what_was_not_expected_stays_untouched() {
    let mut place = Place::new();
    std::fs::write(place.at("f"), "old").unwrap();
    let expected = place.expected("f");
    std::fs::write(place.at("f"), "newer").unwrap();
    let (put, result) = place.put("f", b"mine", expected.clone());
    assert_eq!(result, PutResult::Changed);
    let take = place.root.take(&put.path, &put.temp, &expected).unwrap();
    assert_eq!(take, TakeResult::Changed);
    std::fs::remove_file(place.at("f")).unwrap();
    assert_eq!(
        place.put("f", b"mine", expected.clone()).1,
        PutResult::Changed
    );
    std::fs::create_dir(place.at("f")).unwrap();
    assert_eq!(place.put("f", b"mine", expected).1, PutResult::Changed);
    assert_eq!(place.names(), ["f"]);
}

#[test]
fn a_file_of_same_size_and_time_but_other_content_is_given_back() {
    let mut place = Place::new();
    std::fs::write(place.at("f"), "old").unwrap();
    // The fingerprint is as of the new content, the hash as of the old: what a write in the
    // instant between comparing and exchanging looks like.
    std::fs::write(place.at("f"), "odd").unwrap();
    let expected = Expected::File(place.seen("f").print, BlobHash::of(b"old"));
    let (put, result) = place.put("f", b"mine", expected.clone());
    let PutResult::Swapped {
        displaced: Displaced::File(seen),
        ..
    } = result
    else {
        panic!("{result:?}");
    };
    assert_eq!(seen.text.as_deref(), Some("odd"));
    let kept: FilePath = "f.conflict".parse().unwrap();
    assert!(place.root.keep_as(&put.path, &put.temp, &kept).unwrap());
    assert_eq!(place.names(), ["f", "f.conflict"]);
    // A removal puts it back.
    let wrong = Expected::File(place.seen("f").print, BlobHash::of(b"old"));
    assert_eq!(
        place.root.take(&put.path, &put.temp, &wrong).unwrap(),
        TakeResult::Changed
    );
    assert_eq!(std::fs::read(place.at("f")).unwrap(), b"mine");
}

#[test]
fn files_and_links_are_taken_away_and_links_replaced() {
    let mut place = Place::new();
    std::fs::write(place.at("f"), "x").unwrap();
    std::os::unix::fs::symlink("f", place.at("l")).unwrap();
    let path: FilePath = "l".parse().unwrap();
    let Seen::Link { print, target } = place.root.observe(&path, None, IfWritten::Wait).unwrap()
    else {
        panic!()
    };
    let (put, result) = place.put("l", b"now a file", Expected::Link(print, target));
    assert!(matches!(
        result,
        PutResult::Swapped {
            displaced: Displaced::AsExpected,
            ..
        }
    ));
    place.root.discard(&put.path, &put.temp);
    assert_eq!(std::fs::read(place.at("f")).unwrap(), b"x");
    let expected = place.expected("l");
    assert_eq!(
        place.root.take(&path, &put.temp, &expected).unwrap(),
        TakeResult::Taken
    );
    place.root.discard(&path, &put.temp);
    assert_eq!(place.names(), ["f"]);
}

#[test]
fn a_file_that_somebody_writes_is_not_replaced() {
    let mut place = Place::new();
    std::fs::write(place.at("f"), "old").unwrap();
    let expected = place.expected("f");
    let writer = std::fs::OpenOptions::new()
        .append(true)
        .open(place.at("f"))
        .unwrap();
    assert_eq!(place.put("f", b"mine", expected.clone()).1, PutResult::Busy);
    drop(writer);
    assert!(matches!(
        place.put("f", b"mine", expected).1,
        PutResult::Swapped { .. }
    ));
}

/// Every version a writer wrote is either still there, or was displaced into our hands, or was
/// overwritten by the writer itself.
#[test]
fn nothing_is_lost_to_a_writer_that_overwrites_without_pause() {
    let mut place = Place::new();
    std::fs::write(place.at("f"), "0").unwrap();
    let stop = AtomicBool::new(false);
    let path = place.at("f");
    let lost = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            // Each version names its predecessor as read from disk: if that is a version of ours
            // then the writer has seen it, and whatever it replaced must have been handed to us.
            let mut n = 0u64;
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                if n.is_multiple_of(2) {
                    std::fs::write(&path, format!("w{n}")).unwrap();
                } else {
                    let aside = path.with_extension("aside");
                    std::fs::write(&aside, format!("w{n}")).unwrap();
                    std::fs::rename(&aside, &path).unwrap();
                }
            }
        });
        let mut lost = 0;
        let mut swaps = 0;
        let deadline = Instant::now() + Duration::from_secs(20);
        while swaps < 300 && Instant::now() < deadline {
            let seen = match place
                .root
                .observe(&"f".parse().unwrap(), None, IfWritten::Wait)
            {
                Ok(Seen::File(seen)) => seen,
                _ => continue,
            };
            let (put, result) = place.put("f", b"ours", Expected::File(seen.print, seen.hash));
            if let PutResult::Swapped { displaced, .. } = result {
                swaps += 1;
                let held = std::fs::read(place.at(put.temp.as_str())).unwrap();
                // What we were told is what stays: nobody writes it after we were told.
                let told = match displaced {
                    Displaced::AsExpected => seen.hash,
                    Displaced::File(seen) => seen.hash,
                    Displaced::Other => panic!("only files here"),
                };
                lost += u32::from(BlobHash::of(&held) != told || held.is_empty());
                place.root.discard(&put.path, &put.temp);
            }
        }
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap();
        assert!(swaps >= 100, "only {swaps} swaps went through");
        lost
    });
    assert_eq!(lost, 0);
}

#[test]
fn an_exchange_without_kernel_support_is_as_visible() {
    let place = Place::new();
    std::fs::write(place.at("f"), "old").unwrap();
    std::fs::write(place.at("t"), "new").unwrap();
    let parent = place.root.parent(&"f".parse().unwrap()).unwrap();
    exchange(&parent, "t", "f").unwrap();
    assert_eq!(std::fs::read(place.at("f")).unwrap(), b"new");
    assert_eq!(std::fs::read(place.at("t")).unwrap(), b"old");
}

#[test]
fn a_replacement_that_cannot_be_written_harms_nothing() {
    let mut place = Place::new();
    std::fs::write(place.at("f"), "old").unwrap();
    let expected = place.expected("f");
    let (mut put, _) = place.put("other", b"x", Expected::Absent);
    put.path = "f".parse().unwrap();
    put.content = Content::Link("x".repeat(5000));
    put.expected = expected;
    assert!(place.root.put(&put).is_err());
    assert_eq!(std::fs::read(place.at("f")).unwrap(), b"old");
    assert_eq!(place.names(), ["f", "other"]);
}
