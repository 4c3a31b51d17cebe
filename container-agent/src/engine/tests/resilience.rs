//! Lost connections, killed processes, races, and a server that means harm.

use uspark_shared::id::DocId;
use uspark_shared::path::FilePath;
use uspark_shared::replica::ProjectEdit;
use uspark_shared::schema::Entry;

use super::*;
use crate::watch::InotifyNotifier;
use crate::watch::limited::Limited;
use crate::watch::one_by_one::OneByOne;

fn doc(server: &Double, path: &str) -> DocId {
    server.entry(path).unwrap().doc().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_goes_on_without_the_server_and_arrives_after() {
    let server = Double::new();
    server.text_file("f", "one\n");
    server.text_file("untouched", "u\n");
    let place = Place::new();
    let agent = place.watch(&server).await;
    server.set_away(true);
    place.sh("echo two >> f");
    place.write("new", "n\n");
    place.write("bin", [0, 1]);
    place.sh("mv untouched moved; sleep 0.1; echo three >> f");
    let soon = Instant::now() + Duration::from_millis(500);
    let report = agent.handle.barrier(soon).await;
    assert!(!report.is_equal());
    assert!(
        report.pending.iter().any(|p| p.why.contains("away")),
        "{report:?}"
    );
    assert!(agent.handle.status().await.unacknowledged >= 2);
    server.type_into("f", |t| format!("typed\n{t}"));
    server.set_away(false);
    agent.equal().await;
    assert_eq!(place.read("f"), "typed\none\ntwo\nthree\n");
    assert_eq!(server.tree(), place.tree());
    agent.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edits_of_what_was_then_deleted_do_not_bring_it_back() {
    let server = Double::new();
    for path in ["deleted", "replaced"] {
        server.text_file(path, "one\n");
    }
    let docs = ["deleted", "replaced"].map(|path| format!("p/{}", doc(&server, path)));
    let place = Place::new();
    let agent = place.watch(&server).await;
    server.set_away(true);
    place.sh("echo two >> deleted; echo two >> replaced");
    let sent = |note: &Progress| matches!(note, Progress::Sent(_));
    let count = || {
        let notes = place.notes.lock().unwrap();
        notes.iter().filter(|note| sent(note)).count()
    };
    eventually("both edits", || count() == 2).await;
    place.sh("rm deleted; ln -sfn elsewhere replaced");
    server.set_away(false);
    agent.equal().await;
    assert_eq!(server.tree(), place.tree());
    let updates = server.seen().updates;
    let last = |document: &str| updates.iter().rposition(|(of, ..)| of == document);
    for document in docs {
        assert!(
            last(&document).is_some() && last(&document) < last("p"),
            "{document} is taken out once its edits are there"
        );
    }
    agent.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_session_is_gone_on_from_the_journal() {
    let server = Double::new();
    server.text_file("f", "one\n");
    let place = Place::new();
    let agent = place.watch(&server).await;
    server.set_away(true);
    let told = || server.seen().updates.len();
    let before = told();
    // One after the other, each spooled: the journal has it, the server has not.
    for (changes, script) in [(1, "echo two >> f"), (2, "mkdir d; mv f d/g")] {
        place.sh(script);
        let deadline = Instant::now() + Duration::from_secs(10);
        while agent.handle.status().await.unacknowledged < changes {
            assert!(Instant::now() < deadline, "{script}");
        }
    }
    agent.kill().await;
    assert_eq!(told(), before);
    place.sh("echo three >> d/g; echo half > d/.uspark-tmp-0123456789abcdef.part");
    server.set_away(false);
    server.type_into("f", |t| format!("typed\n{t}"));
    let agent = place.watch(&server).await;
    let part = place.at("d/.uspark-tmp-0123456789abcdef.part");
    eventually("what was half written to go", || !part.exists()).await;
    assert_eq!(place.read("d/g"), "typed\none\ntwo\nthree\n");
    assert_eq!(server.tree(), place.tree());
    agent.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_edit_is_a_small_update_also_after_a_restart() {
    let server = Double::new();
    let text: String = (0..4000)
        .map(|n| format!("line number {n} of this file\n"))
        .collect();
    server.text_file("f", &text);
    let place = Place::new();
    place.watch(&server).await.finish().await;
    let agent = place.watch(&server).await;
    place.write(
        "f",
        text.replace("number 2000 of", "number 2000 (edited) of"),
    );
    agent.equal().await;
    place.write(
        "f",
        text.replace("number 2000 of", "number 2000 (once more) of"),
    );
    agent.equal().await;
    let updates = server.seen().updates;
    assert_eq!(updates.len(), 2);
    assert!(
        text.len() > 100_000 && updates.iter().all(|(_, bytes, _)| *bytes < 100),
        "{updates:?}"
    );
    agent.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renames_keep_the_document_on_both_sides() {
    renames_keep_the_document(Box::new(InotifyNotifier::new().unwrap())).await;
    // Between two events there is time for a look at what the first is about.
    let apart = OneByOne::by(Duration::from_millis(4));
    renames_keep_the_document(Box::new(apart)).await;
}

async fn renames_keep_the_document(notifier: Box<dyn Notifier>) {
    let server = Double::new();
    let place = Place::new();
    place.write("d/e/f", "text\n");
    let agent = place.watch_with(&server, notifier).await;
    let id = doc(&server, "d/e/f");
    for (script, path) in [
        ("mv d/e/f g", "g"),
        ("mkdir -p x/y && mv g x/y/h", "x/y/h"),
        ("mv x z", "z/y/h"),
        ("mv z/y/h z/y/i && echo more >> z/y/i", "z/y/i"),
    ] {
        place.sh(script);
        agent.equal().await;
        assert_eq!(doc(&server, path), id, "{script}");
        assert_eq!(server.tree(), place.tree(), "{script}");
    }
    let uploads = server.seen().uploads.len();
    assert_eq!(uploads, 1);
    // Saved by a rename and moved on, twice, before anybody has looked: the inode is another.
    let saved = |from: &str, to: [&str; 2], text: &str| {
        let save = |path: &str| {
            std::fs::write(place.at(".i.tmp.1"), text).unwrap();
            std::fs::rename(place.at(".i.tmp.1"), place.at(path)).unwrap();
        };
        save(from);
        std::fs::rename(place.at(from), place.at(to[0])).unwrap();
        std::fs::rename(place.at(to[0]), place.at(to[1])).unwrap();
        save(to[1]);
    };
    for (from, to) in [("z/y/i", ["a", "b"]), ("b", ["c", "z/y/i"])] {
        saved(from, to, &format!("at {from} before\n"));
        agent.equal().await;
        assert_eq!(doc(&server, to[1]), id, "{from}");
        assert_eq!(server.tree(), place.tree(), "{from}");
    }
    // There, with somebody writing the file at its old place.
    let inode = |path: &str| {
        use std::os::unix::fs::MetadataExt as _;
        std::fs::metadata(place.at(path)).unwrap().ino()
    };
    let before = inode("z/y/i");
    let entry = server.entry("z/y/i").unwrap();
    server.edit(&[
        ProjectEdit::RemoveFile("z/y/i".into()),
        ProjectEdit::SetFile("top".parse().unwrap(), entry),
    ]);
    agent.equal().await;
    assert_eq!(inode("top"), before);
    assert_eq!(server.tree(), place.tree());
    // An overwrite by a rename keeps the document that was overwritten.
    place.sh("echo replaced > other; mv other top");
    agent.equal().await;
    assert_eq!(doc(&server, "top"), id);
    assert_eq!(server.text("top"), "replaced\n");
    agent.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renamed_file_that_was_edited_while_nobody_watched_follows() {
    let server = Double::new();
    server.text_file("f", "one\n");
    let place = Place::new();
    place.watch(&server).await.finish().await;
    let entry = server.entry("f").unwrap();
    let rename = [
        ProjectEdit::RemoveFile("f".into()),
        ProjectEdit::SetFile("d/g".parse().unwrap(), entry),
    ];
    server.edit(&rename);
    server.type_into("d/g", |t| format!("typed\n{t}"));
    place.sh("echo written >> f");
    let agent = place.watch(&server).await;
    let expected = BTreeMap::from([("d/g".to_owned(), "typed\none\nwritten\n".to_owned())]);
    assert_eq!(place.tree(), expected);
    assert_eq!(server.tree(), expected);
    agent.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_name_the_tool_call_that_made_them() {
    let server = Double::new();
    server.text_file("f", "one\n");
    let place = Place::new();
    let mut config = place.config(Direction::Both);
    config.run = Some("r1".into());
    let agent = place.try_start(&server, config).await.unwrap();
    agent.equal().await;
    let call = |id: &str, name: &str, paths: &[&str]| ToolCall {
        id: id.into(),
        name: name.into(),
        paths: paths.iter().map(|path| path.parse().unwrap()).collect(),
    };
    agent.handle.tool_started(call("t1", "Edit", &["f"]));
    // Somebody types into the file while the tool has it: the disk waits.
    agent.handle.status().await;
    server.type_into("f", |t| format!("typed\n{t}"));
    assert!(
        agent
            .barrier()
            .await
            .pending
            .iter()
            .any(|p| p.why.contains("tool"))
    );
    assert_eq!(place.read("f"), "one\n");
    place.sh("echo two >> f");
    agent.handle.tool_finished("t1");
    agent.equal().await;
    assert_eq!(place.read("f"), "typed\none\ntwo\n");
    agent.handle.tool_started(call("t2", "Bash", &[]));
    agent.handle.status().await;
    place.sh("echo three >> f; echo new > g");
    agent.handle.tool_finished("t2");
    agent.equal().await;
    place.sh("echo four >> f");
    agent.equal().await;
    let tools: Vec<Option<String>> = server
        .seen()
        .updates
        .into_iter()
        .map(|(_, _, by)| {
            let by: serde_json::Value = serde_json::from_str(&by.unwrap()).unwrap();
            assert_eq!(by["run"], "r1");
            by["toolUseId"].as_str().map(ToOwned::to_owned)
        })
        .collect();
    let expected = [Some("t1"), Some("t2"), Some("t2"), None];
    assert_eq!(tools, expected.map(|tool| tool.map(ToOwned::to_owned)));
    agent.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_several_names_loses_nothing_and_reaches_nothing_outside() {
    use std::os::unix::fs::PermissionsExt as _;
    let server = Double::new();
    server.text_file("f", "one\n");
    let place = Place::new();
    let agent = place.watch(&server).await;
    let outside = tempfile::tempdir_in(place.dir.path().parent().unwrap()).unwrap();
    let other = outside.path().join("other");
    std::fs::hard_link(place.at("f"), &other).unwrap();
    place.sh("chmod 644 f; ln f g; mkdir d; ln f d/h");
    agent.equal().await;
    let mode_there = |path: &str| match server.entry(path) {
        Some(Entry::Text { mode, .. }) => mode & 0o777,
        entry => panic!("{entry:?}"),
    };
    // What is written under one name is there under all.
    place.sh("echo two >> g; chmod 600 d/h");
    agent.equal().await;
    assert_eq!(mode_there("f"), 0o600);
    place.sh("chmod 644 f");
    agent.equal().await;
    assert_eq!(mode_there("g"), 0o644);
    assert_eq!(server.text("f"), "one\ntwo\n");
    assert_eq!(server.text("d/h"), "one\ntwo\n");
    assert_eq!(server.tree(), place.tree());
    // What comes from there is for one name; the others keep what they had.
    let set_mode = |path: &str| match server.entry(path).unwrap() {
        Entry::Text {
            doc, seed, mtime, ..
        } => {
            let mode = 0o755;
            let entry = Entry::Text {
                doc,
                seed,
                mode,
                mtime,
            };
            server.set(path, entry);
        }
        entry => panic!("{entry:?}"),
    };
    server.type_into("f", |text| format!("typed\n{text}"));
    set_mode("g");
    agent.equal().await;
    assert_eq!(place.read("f"), "typed\none\ntwo\n");
    assert_eq!(place.read("g"), "one\ntwo\n");
    assert_eq!(place.read("d/h"), "one\ntwo\n");
    assert_eq!(server.tree(), place.tree());
    assert_eq!(std::fs::read_to_string(&other).unwrap(), "one\ntwo\n");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&place.at("g")), mode(&other)), (0o755, 0o644));
    assert_eq!(place.notes_with("other names (hard links)"), 1);
    // From here on each is a file of its own.
    place.sh("echo three >> f; echo four >> d/h");
    agent.equal().await;
    assert_eq!(server.tree(), place.tree());
    assert_eq!(std::fs::read_to_string(&other).unwrap(), "one\ntwo\nfour\n");
    // Where nothing is sent, names of one file do not have each other looked at for ever.
    place.sh("ln -f f g");
    agent.finish().await;
    place.sh("echo five >> f");
    let agent = place.start(&server, Direction::Pull).await;
    let report = agent.session.finish(Duration::from_secs(5)).await.unwrap();
    assert!(report.is_done(), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn past_the_limit_of_watches_a_barrier_is_true() {
    // Not even the cookies' directory; or that, the root, and one more.
    for limit in [0, 3] {
        let server = Double::new();
        let place = Place::new();
        for directory in ["a", "b", "c/d"] {
            place.write(&format!("{directory}/kept"), "one\n");
            place.write(&format!("{directory}/gone"), "two\n");
        }
        let notifier = Box::new(Limited::new(limit));
        let agent = place.watch_with(&server, notifier).await;
        for round in 0..3 {
            place.sh("for d in a b c/d; do echo more >> $d/kept; done");
            place.write(&format!("e{round}/new"), "new\n");
            agent.equal().await;
            assert_eq!(server.tree(), place.tree(), "limit {limit}, {round}");
        }
        assert_eq!(server.seen().removals, [""; 0]);
        place.sh("rm b/gone");
        agent.equal().await;
        assert_eq!(server.seen().removals, ["b/gone"]);
        assert_eq!(place.notes_with("not every directory can be watched"), 1);
        agent.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_project_reaches_nothing_outside() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "safe").unwrap();
    let server = Double::new();
    let place = Place::new();
    std::os::unix::fs::symlink(outside.path(), place.at("out")).unwrap();
    let link = |target: &str| Entry::Link {
        target: target.into(),
    };
    server.text_file("out/secret", "overwritten");
    server.text_file("out/new", "made");
    server.set("l1", link("../x"));
    server.set("l2", link("/etc/passwd"));
    server.set("d/l3", link("../../x"));
    server.set("l4", link("out/secret"));
    server.set("l5", link(".git/hooks"));
    server.set("good", link("d/f"));
    server.text_file("d/f", "fine");
    // Good where it lies, and not where its directory goes to, there or here.
    server.set("one/two/there", link("../../d/f"));
    server.set("three/four/here", link("../../d/f"));
    for directory in ["moves/here", "moves/there"] {
        server.set(&format!("{directory}/good"), link("../../d/f"));
        server.text_file(&format!("{directory}/f"), "moves along");
    }
    server.text_file("swapped/f", "fine");
    let beside = format!("../{}-up", place.dir.path().file_name().unwrap().display());
    let deep = format!("d/../{beside}");
    let above = outside.path().join("above").display().to_string();
    let keys = [
        &beside,
        &deep,
        &above,
        "a\0b",
        "a//b",
        ".git/hooks/x",
        ".GIT/x",
        "d/.Git/x",
        ".uspark/x",
    ];
    let text = server.entry("d/f").unwrap();
    for key in keys {
        server.set_raw(key, text.clone());
    }
    let agent = place.start(&server, Direction::Both).await;
    agent.barrier().await;
    server.remove("one/two/there");
    server.set("there", link("../../d/f"));
    place.sh("mv three/four/here here; mv moves/here moved-here");
    let moved = server.entry("moves/there/f").unwrap();
    server.edit(&[
        ProjectEdit::RemoveFile("moves/there/f".into()),
        ProjectEdit::RemoveFile("moves/there/good".into()),
        ProjectEdit::SetFile("moved-there/f".parse().unwrap(), moved),
        ProjectEdit::SetFile("moved-there/good".parse().unwrap(), link("../../d/f")),
    ]);
    // What is written there goes nowhere once its directory is a link.
    place.sh(&format!(
        "mv swapped was && ln -s {} swapped",
        outside.path().display()
    ));
    server.text_file("swapped/new", "through a link");
    server.text_file("good/f", "through a link");
    let soon = Instant::now() + Duration::from_secs(1);
    let report = agent.handle.barrier(soon).await;
    let pending = report.pending.iter().filter_map(|p| p.path.as_ref());
    let pending: Vec<&str> = pending.map(FilePath::as_str).collect();
    for path in ["good/f", "out/secret", "out/new", "swapped/new"] {
        assert!(pending.contains(&path), "{path}: {report:#?}");
    }
    assert_eq!(place.read("d/f"), "fine");
    assert_eq!(place.read("good"), "fine");
    for path in ["moved-here/f", "moved-there/f"] {
        assert_eq!(place.read(path), "moves along");
        assert_eq!(server.text(path), "moves along");
    }
    assert_eq!(server.text("was/f"), "fine");
    let refused: Vec<&str> = report.skipped.iter().map(|s| s.path.as_str()).collect();
    for path in ["l1", "l2", "d/l3", "l4", "l5", "there", "moved-there/good"] {
        assert!(refused.contains(&path), "{path}: {report:#?}");
        assert!(std::fs::symlink_metadata(place.at(path)).is_err());
    }
    for key in keys {
        assert!(refused.contains(&key), "{key}: {report:#?}");
        assert!(key.contains('\0') || !place.at(key).exists(), "{key}");
    }
    for path in ["here", "moved-here/good", "out", "swapped"] {
        assert!(refused.contains(&path), "{path}: {report:#?}");
        assert!(server.entry(path).is_none(), "{path}");
    }
    assert!(!place.at(".git").exists() && !place.at(".GIT").exists());
    let files: Vec<_> = std::fs::read_dir(outside.path())
        .unwrap()
        .flatten()
        .collect();
    assert_eq!(files.len(), 1);
    assert_eq!(
        std::fs::read_to_string(outside.path().join("secret")).unwrap(),
        "safe"
    );
    drop(agent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_session_per_workspace_and_refusals_are_final() {
    let server = Double::new();
    let place = Place::new();
    let agent = place.watch(&server).await;
    let second = place
        .try_start(&server, place.config(Direction::Pull))
        .await;
    assert!(matches!(second.err(), Some(EngineError::Locked)));
    agent.finish().await;
    server.set_read_only();
    let refused = |agent: Agent| agent.session.finish(Duration::from_secs(10));
    let agent = place.start(&server, Direction::Both).await;
    assert!(matches!(
        refused(agent).await,
        Err(EngineError::Over(Over::Refused(_)))
    ));
    assert!(place.once(&server, Direction::Pull).await.is_equal());
    server.set_denied();
    let agent = place.start(&server, Direction::Pull).await;
    let why = refused(agent).await.unwrap_err().to_string();
    assert!(why.contains("no such project"), "{why}");
    let mut config = place.config(Direction::Pull);
    config.project = "other".parse().unwrap();
    let other = place
        .try_start(&server, config)
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(other.contains("belongs to project `p`"), "{other}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_that_is_not_there_yet_holds_up_nothing_else() {
    let server = Double::new();
    let hash = uspark_shared::id::BlobHash::of(&[9, 0]);
    server.set(
        "late",
        Entry::Blob {
            hash,
            size: 2,
            mode: 0o644,
            mtime: 1,
        },
    );
    server.text_file("f", "here\n");
    let place = Place::new();
    let agent = place.start(&server, Direction::Both).await;
    let soon = Instant::now() + Duration::from_secs(1);
    let report = agent.handle.barrier(soon).await;
    assert_eq!(report.pending.len(), 1, "{report:#?}");
    assert_eq!(place.read("f"), "here\n");
    server.blob(&[9, 0]);
    agent.equal().await;
    assert_eq!(std::fs::read(place.at("late")).unwrap(), [9, 0]);
    agent.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_that_is_written_anew_is_read_once_it_is_closed() {
    use std::io::Write as _;
    let server = Double::new();
    server.text_file("f", "one\ntwo\n");
    let place = Place::new();
    let agent = place.watch(&server).await;
    let mut file = std::fs::File::create(place.at("f")).unwrap();
    file.write_all(b"one\n").unwrap();
    place.sh("chmod 600 f");
    server.type_into("f", |text| text.replace("two", "two typed"));
    // Longer than a log is waited for.
    let later = Instant::now() + Duration::from_secs(2);
    let report = agent.handle.barrier(later).await;
    assert_eq!(report.pending.len(), 1, "{report:#?}");
    assert_eq!(server.updates(), 0);
    file.write_all(b"two\nthree\n").unwrap();
    drop(file);
    agent.equal().await;
    assert_eq!(server.text("f"), "one\ntwo typed\nthree\n");
    // What only grows is a log: it is read although it is open.
    let mut log = std::fs::File::options()
        .append(true)
        .open(place.at("f"))
        .unwrap();
    log.write_all(b"four\n").unwrap();
    place.sh("chmod 644 f");
    eventually("the log", || server.text("f").ends_with("four\n")).await;
    drop(log);
    agent.equal().await;
    agent.finish().await;
}

/// Everybody inserts unique tokens all the time; in the end each is everywhere, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_agents_a_person_and_racing_writers_lose_no_token() {
    let server = Double::new();
    let lines: String = (0..40).map(|n| format!("line {n}\n")).collect();
    for file in ["f", "g"] {
        server.text_file(file, &lines);
    }
    let places = [Place::new(), Place::new()];
    let mut agents = Vec::new();
    for place in &places {
        let mut config = place.config(Direction::Both);
        // So that documents are let go and loaded again.
        config.limits.loaded_texts = 1;
        let agent = place.try_start(&server, config).await.unwrap();
        agent.equal().await;
        agents.push(agent);
    }
    let rounds = 60;
    std::thread::scope(|scope| {
        for (who, place) in places.iter().enumerate() {
            scope.spawn(move || {
                for n in 0..rounds {
                    let file = if n % 3 == 0 { "g" } else { "f" };
                    let read = place.read(file);
                    if read.is_empty() {
                        continue;
                    }
                    let at = (n * 7 + who * 3) % 40;
                    let new = read.replace(
                        &format!("line {at}\n"),
                        &format!("line {at}\nagent{who}-{n};\n"),
                    );
                    let aside = place.at(&format!("{file}.tmp.1.{n}"));
                    std::fs::write(&aside, &new).unwrap();
                    std::fs::rename(&aside, place.at(file)).unwrap();
                    std::thread::sleep(Duration::from_millis(3));
                }
            });
        }
        let server = server.clone();
        scope.spawn(move || {
            for n in 0..rounds * 2 {
                let file = if n % 3 == 0 { "f" } else { "g" };
                server.type_into(file, |text| {
                    text.replacen(
                        &format!("line {}\n", n % 40),
                        &format!("line {}\nperson-{n};\n", n % 40),
                        1,
                    )
                });
                if n == rounds {
                    server.set_away(true);
                    server.set_away(false);
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        });
    });
    // What one agent writes back the other may have to merge: both are equal when both rest.
    for _ in 0..3 {
        for agent in &agents {
            agent.equal().await;
        }
    }
    for file in ["f", "g"] {
        let text = server.text(file);
        for place in &places {
            assert_eq!(place.read(file), text);
        }
        for n in 0..rounds * 2 {
            let token = format!("person-{n};");
            let mine = if n % 3 == 0 { "f" } else { "g" };
            let found = text.matches(&token).count();
            assert_eq!(found, usize::from(file == mine), "{token} in {file}");
        }
        for line in 0..40 {
            assert_eq!(
                text.matches(&format!("line {line}\n")).count(),
                1,
                "line {line} of {file}"
            );
        }
        let mut tokens: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("agent"))
            .collect();
        let all = tokens.len();
        tokens.sort_unstable();
        tokens.dedup();
        assert_eq!(tokens.len(), all, "doubled tokens in {file}");
    }
    for agent in agents {
        agent.finish().await;
    }
    let conflicts = server
        .tree()
        .keys()
        .filter(|path| path.contains("conflict"))
        .count();
    assert_eq!(conflicts, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_barrier_sees_what_no_event_tells_of() {
    use std::io::Write as _;

    let (server, place) = (Double::new(), Place::new());
    place.sh("echo one > log; echo one > cut; mkdir -p b/e; echo one > linked");
    let outside = tempfile::tempdir().unwrap();
    std::fs::hard_link(place.dir.path().join("linked"), outside.path().join("name")).unwrap();
    let agent = place.watch(&server).await;
    // Kept open, as a server keeps its log and a database its file.
    let mut log = std::fs::File::options()
        .append(true)
        .open(place.dir.path().join("log"))
        .unwrap();
    for round in 0..3 {
        writeln!(log, "line {round}").unwrap();
        std::fs::File::options()
            .write(true)
            .open(place.dir.path().join("cut"))
            .unwrap()
            .set_len(round)
            .unwrap();
        std::fs::write(outside.path().join("name"), format!("round {round}\n")).unwrap();
        agent.equal().await;
        assert_eq!(server.tree(), place.tree());
    }
    // Another directory in the place of one that is moved away at once.
    place.sh("mv b c; mkdir b");
    agent.equal().await;
    assert_eq!(server.tree(), place.tree());
    agent.finish().await;
}

/// `git clean -fdx` does it. Whoever begins anew must not meet one that goes on half blind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_own_directory_an_agent_ends_and_another_goes_on() {
    let (server, place) = (Double::new(), Place::new());
    place.write("f", "one\n");
    let agent = place.watch(&server).await;
    place.sh("rm -rf .uspark");
    agent.session.refused().await;
    place.write("f", "one\ntwo\n");
    let ended = agent.session.finish(Duration::from_secs(10)).await;
    assert!(
        matches!(ended, Err(EngineError::Over(Over::StateLost))),
        "{ended:?}"
    );
    assert_eq!(server.text("f"), "one\n");
    let agent = place.watch(&server).await;
    agent.equal().await;
    assert_eq!(server.tree(), place.tree());
    agent.finish().await;
}
