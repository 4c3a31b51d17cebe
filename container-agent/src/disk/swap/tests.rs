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
fn what_is_written_into_what_was_displaced_is_kept_beside_it() {
    let mut place = Place::new();
    for late in [None, Some("late")] {
        std::fs::write(place.at("f"), "old").unwrap();
        let expected = place.expected("f");
        let (put, result) = place.put("f", b"new", expected);
        let PutResult::Swapped { left, .. } = result else {
            panic!("{result:?}");
        };
        if let Some(late) = late {
            std::fs::write(place.at(put.temp.as_str()), late).unwrap();
        }
        let kept = place.root.discard_as_seen(&put.path, &put.temp, &left);
        let kept = kept.unwrap();
        let text = kept.map(|kept| std::fs::read_to_string(place.at(kept.as_str())).unwrap());
        assert_eq!(text.as_deref(), late);
    }
    assert_eq!(place.names().len(), 2);
}

#[test]
fn of_a_file_of_several_names_only_one_is_replaced() {
    let mut place = Place::new();
    std::fs::write(place.at("f"), "old").unwrap();
    let alone = place.expected("f");
    std::fs::hard_link(place.at("f"), place.at("g")).unwrap();
    let path: FilePath = "f".parse().unwrap();
    let print = place.seen("f").print;
    let set = place.root.set_mode(&path, &print, 0o700).unwrap();
    assert_eq!(set, PutResult::Linked);
    let (put, result) = place.put("f", b"new", alone);
    assert!(matches!(result, PutResult::Swapped { linked: true, .. }));
    place.root.discard(&put.path, &put.temp);
    assert_eq!(std::fs::read(place.at("g")).unwrap(), b"old");
    assert_ne!(place.seen("g").mode, 0o700);
    let expected = place.expected("g");
    let (_, result) = place.put("g", b"new", expected);
    assert!(matches!(result, PutResult::Swapped { linked: false, .. }));
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
    assert!(matches!(
        place.root.take(&path, &put.temp, &expected).unwrap(),
        TakeResult::Taken(_)
    ));
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

/// Writes versions in place and by exchange, and gives each with what it overwrote.
fn write_without_pause(path: &Path, stop: &AtomicBool) -> (Vec<String>, Vec<String>) {
    let (mut written, mut overwritten) = (Vec::new(), Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let version = format!("w{}", written.len());
        let mut before = String::new();
        if written.len().is_multiple_of(2) {
            let mut options = std::fs::OpenOptions::new();
            let mut file = options.read(true).write(true).open(path).unwrap();
            io::Read::read_to_string(&mut file, &mut before).unwrap();
            file.set_len(0).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, version.as_bytes(), 0).unwrap();
        } else {
            let aside = path.with_extension("aside");
            std::fs::write(&aside, &version).unwrap();
            let (cwd, flags) = (rustix::fs::CWD, RenameFlags::EXCHANGE);
            rustix::fs::renameat_with(cwd, &aside, cwd, path, flags).unwrap();
            before = std::fs::read_to_string(&aside).unwrap();
        }
        written.push(version);
        overwritten.push(before);
    }
    (written, overwritten)
}

/// Every version that anybody wrote is still there, or was displaced into our hands, or was
/// overwritten by the writer itself: one of these, once.
#[test]
fn nothing_is_lost_to_a_writer_that_overwrites_without_pause() {
    let mut place = Place::new();
    std::fs::write(place.at("f"), "first").unwrap();
    let stop = AtomicBool::new(false);
    let path = place.at("f");
    let mut versions = vec!["first".to_owned()];
    let mut ends = Vec::new();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| write_without_pause(&path, &stop));
        let mut swaps = 0;
        let deadline = Instant::now() + Duration::from_secs(20);
        while swaps < 300 && Instant::now() < deadline {
            let seen = place
                .root
                .observe(&"f".parse().unwrap(), None, IfWritten::Wait);
            let Ok(Seen::File(seen)) = seen else {
                continue;
            };
            let ours = format!("ours {swaps}");
            let expected = Expected::File(seen.print, seen.hash);
            let (put, result) = place.put("f", ours.as_bytes(), expected);
            if let PutResult::Swapped {
                displaced, left, ..
            } = result
            {
                swaps += 1;
                versions.push(ours);
                let told = match displaced {
                    Displaced::AsExpected => seen,
                    Displaced::File(seen) => seen,
                    Displaced::Other => panic!("only files here"),
                };
                // Who had begun to open it then may have written it since.
                let late = place
                    .root
                    .discard_as_seen(&put.path, &put.temp, &left)
                    .unwrap();
                ends.push(match late {
                    Some(kept) => std::fs::read_to_string(place.at(kept.as_str())).unwrap(),
                    None => told.text.unwrap(),
                });
            }
        }
        stop.store(true, Ordering::Relaxed);
        let (written, overwritten) = writer.join().unwrap();
        assert!(swaps >= 100, "only {swaps} swaps went through");
        assert!(ends.iter().any(|end| end.starts_with('w')));
        versions.extend(written);
        ends.extend(overwritten);
    });
    ends.push(std::fs::read_to_string(&path).unwrap());
    versions.sort();
    ends.sort();
    assert_eq!(versions, ends);
}

#[test]
fn an_exchange_without_kernel_support_is_as_visible() {
    let place = Place::new();
    std::fs::write(place.at("f"), "old").unwrap();
    std::fs::write(place.at("t"), "new").unwrap();
    let parent = place.root.parent(&"f".parse().unwrap()).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..200 {
                let read = std::fs::read_to_string(place.at("f")).unwrap();
                assert!(read == "old" || read == "new", "{read:?}");
            }
            stop.store(true, Ordering::Relaxed);
        });
        let mut times = 0;
        while times % 2 == 0 || !stop.load(Ordering::Relaxed) && times < 1_000_000 {
            exchange_by_links(&parent, "t", "f").unwrap();
            times += 1;
        }
    });
    assert_eq!(std::fs::read(place.at("f")).unwrap(), b"new");
    assert_eq!(std::fs::read(place.at("t")).unwrap(), b"old");
    for (temp, name) in [("none", "f"), ("t", "none")] {
        let error = exchange_by_links(&parent, temp, name).unwrap_err();
        assert_eq!(error, Errno::NOENT);
    }
    assert_eq!(place.names(), ["f", "t"]);
}

#[test]
fn an_exchange_without_kernel_support_that_was_killed_is_finished() {
    let place = Place::new();
    let temp = TempName::from_random([1; 8]);
    let path: FilePath = "f".parse().unwrap();
    let behind = || match place.root.left_behind(&path, &temp).unwrap() {
        Seen::File(seen) => seen.text.unwrap(),
        other => panic!("{other:?}"),
    };
    // Only linked: the exchange never began.
    std::fs::write(place.at("f"), "old").unwrap();
    std::fs::write(place.at(temp.as_str()), "new").unwrap();
    std::fs::hard_link(place.at("f"), place.at(&aside(temp.as_str()))).unwrap();
    assert_eq!(behind(), "new");
    assert_eq!(place.names(), [temp.as_str(), "f"]);
    // Replaced: what was displaced is aside.
    std::fs::rename(place.at("f"), place.at(&aside(temp.as_str()))).unwrap();
    std::fs::rename(place.at(temp.as_str()), place.at("f")).unwrap();
    assert_eq!(behind(), "old");
    assert_eq!(place.names(), [temp.as_str(), "f"]);
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
