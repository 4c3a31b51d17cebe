//! Both sides at once, and no past.

use uspark_shared::id::BlobHash;
use uspark_shared::replica::ProjectEdit;
use uspark_shared::schema::Entry;

use super::*;

fn kept(tree: &BTreeMap<String, String>, path: &str) -> Vec<String> {
    let prefix = format!("{path}.conflict-me-");
    let kept = tree.iter().filter(|(name, _)| name.starts_with(&prefix));
    kept.map(|(_, content)| content.clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_changed_on_both_sides_while_nobody_watched_is_merged() {
    let server = Double::new();
    server.text_file("f", "one\ntwo\nthree\n");
    server.text_file("edited", "a\n");
    server.type_into("edited", |t| format!("{t}b\n"));
    let place = Place::new();
    place.watch(&server).await.finish().await;
    server.type_into("f", |t| t.replace("one", "ONE"));
    server.type_into("edited", |t| t.replace("a", "A"));
    place.write("f", "one\ntwo\nTHREE\n");
    place.write("edited", "a\nb\nc\n");
    let agent = place.watch(&server).await;
    assert_eq!(place.read("f"), "ONE\ntwo\nTHREE\n");
    assert_eq!(place.read("edited"), "A\nb\nc\n");
    assert_eq!(server.tree(), place.tree());
    agent.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_binaries_one_wins_and_the_other_is_kept_on_both_sides() {
    let server = Double::new();
    server.binary_file("b", &[0, 1]);
    let place = Place::new();
    place.watch(&server).await.finish().await;
    server.binary_file("b", &[0, 2]);
    place.write("b", [0, 3]);
    let agent = place.watch(&server).await;
    let report = agent.equal().await;
    assert_eq!(report.conflicts.len(), 1);
    assert_eq!(std::fs::read(place.at("b")).unwrap(), [0, 2]);
    assert_eq!(
        kept(&place.tree(), "b"),
        [format!("blob {}", BlobHash::of(&[0, 3]))]
    );
    assert_eq!(server.tree(), place.tree());
    agent.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_deleted_on_one_side_and_changed_on_the_other_lives() {
    let server = Double::new();
    for name in ["a", "b", "c", "d"] {
        server.text_file(name, "text\n");
    }
    server.binary_file("e", &[0]);
    let place = Place::new();
    place.watch(&server).await.finish().await;
    server.type_into("a", |t| format!("{t}typed\n"));
    place.sh("rm a");
    server.remove("b");
    place.write("b", "text\nwritten\n");
    server.remove("c");
    place.sh("rm d e");
    let agent = place.watch(&server).await;
    agent.equal().await;
    let expected = [("a", "text\ntyped\n"), ("b", "text\nwritten\n")];
    let expected: BTreeMap<String, String> = expected
        .map(|(path, text)| (path.to_owned(), text.to_owned()))
        .into();
    assert_eq!(place.tree(), expected);
    assert_eq!(server.tree(), expected);
    agent.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_contact_with_files_already_there_loses_and_doubles_nothing() {
    let server = Double::new();
    server.text_file("same", "same\n");
    server.text_file("old", "seed\n");
    server.type_into("old", |t| format!("{t}typed\n"));
    server.text_file("current", "seed\n");
    server.type_into("current", |t| format!("{t}typed\n"));
    server.text_file("other", "theirs\n");
    server.binary_file("bin", &[0, 1]);
    server.binary_file("mode", &[0, 9]);
    let place = Place::new();
    place.write("same", "same\n");
    place.write("old", "seed\n");
    place.write("current", "seed\ntyped\n");
    place.write("other", "ours\n");
    place.write("bin", [0, 2]);
    place.write("mode", [0, 9]);
    place.write("new", "new\n");
    let docs = |name: &str| server.entry(name).unwrap().doc().cloned();
    let before = [docs("same"), docs("old"), docs("current"), docs("other")];
    let agent = place.watch(&server).await;
    agent.equal().await;
    for (path, text) in [
        ("same", "same\n"),
        ("old", "seed\ntyped\n"),
        ("current", "seed\ntyped\n"),
    ] {
        assert_eq!(place.read(path), text, "{path}");
    }
    assert_eq!(place.read("other"), "theirs\n");
    assert_eq!(kept(&place.tree(), "other"), ["ours\n"]);
    assert_eq!(kept(&place.tree(), "bin").len(), 1);
    assert_eq!(server.tree(), place.tree());
    assert_eq!(
        before,
        [docs("same"), docs("old"), docs("current"), docs("other")]
    );
    assert!(matches!(
        server.entry("mode"),
        Some(Entry::Blob { mode: 0o600, .. })
    ));
    // What was taken as common ground is one: edits merge from here on.
    for path in ["same", "old", "current"] {
        server.type_into(path, |t| format!("top\n{t}"));
        place.sh(&format!("echo bottom >> {path}"));
        agent.equal().await;
        let text = place.read(path);
        assert_eq!(text, server.text(path));
        assert!(
            text.starts_with("top\n") && text.ends_with("bottom\n"),
            "{text}"
        );
        assert_eq!(text.lines().count(), if path == "same" { 3 } else { 4 });
    }
    agent.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_journal_is_a_first_contact_and_said_to_be() {
    let server = Double::new();
    server.text_file("f", "one\n");
    let place = Place::new();
    let agent = place.watch(&server).await;
    place.sh("echo two >> f");
    agent.finish().await;
    for damage in [
        "rm .uspark/journal.db*",
        "printf '%08192d' 0 > .uspark/journal.db; rm -f .uspark/journal.db-*",
    ] {
        server.type_into("f", |t| format!("typed\n{t}"));
        place.sh(damage);
        let agent = place.watch(&server).await;
        agent.equal().await;
        assert_eq!(place.read("f"), server.text("f"));
        assert_eq!(server.tree(), place.tree());
        agent.finish().await;
    }
    let note = |p: &Progress| matches!(p, Progress::Note(note) if note.contains("first time"));
    assert!(place.notes.lock().unwrap().iter().any(note));
    // Both times the disk was behind without anyone knowing: kept, not merged twice.
    assert_eq!(server.text("f").matches("two").count(), 1);
    assert_eq!(kept(&place.tree(), "f").len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_becomes_binary_and_back_and_grows() {
    let server = Double::new();
    let place = Place::new();
    place.write("f", "text\n");
    let agent = place.watch(&server).await;
    agent.equal().await;
    let first = server.entry("f").unwrap().doc().cloned().unwrap();
    place.write("f", [0xff, 0xfe]);
    agent.equal().await;
    assert!(matches!(
        server.entry("f"),
        Some(Entry::Blob { size: 2, .. })
    ));
    place.write("f", "text again\n");
    agent.equal().await;
    let second = server.entry("f").unwrap().doc().cloned().unwrap();
    assert_ne!(first, second);
    // Longer than a new text may be: it stays the text that it is.
    place.write("f", "x\n".repeat(600_000));
    agent.equal().await;
    assert_eq!(server.entry("f").unwrap().doc(), Some(&second));
    place.write("f", "y\n".repeat(3 << 20));
    agent.equal().await;
    assert!(matches!(server.entry("f"), Some(Entry::Blob { .. })));
    assert_eq!(server.tree(), place.tree());
    agent.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_way_sessions_move_one_way_and_merge() {
    let server = Double::new();
    server.text_file("both", "one\ntwo\n");
    server.text_file("theirs", "t\n");
    server.text_file("gone there", "g\n");
    server.text_file("gone here", "g\n");
    let place = Place::new();
    assert!(place.once(&server, Direction::Pull).await.is_equal());
    server.type_into("both", |t| t.replace("one", "ONE"));
    server.type_into("theirs", |t| format!("{t}typed\n"));
    server.remove("gone there");
    place.write("both", "one\nTWO\n");
    place.write("ours", "o\n");
    place.sh("rm 'gone here'");
    let updates = server.seen().updates.len();
    let report = place.once(&server, Direction::Pull).await;
    assert!(report.is_done() && !report.is_equal(), "{report:?}");
    assert_eq!(
        left(&report.not_pushed),
        [
            "gone here: deleted here",
            "ours: changed here",
            "both: an earlier change is not sent yet"
        ]
    );
    assert_eq!(report.not_pulled, []);
    assert_eq!(server.seen().updates.len(), updates);
    assert_eq!(place.read("both"), "ONE\nTWO\n");
    assert_eq!(place.read("theirs"), "t\ntyped\n");
    assert!(!place.at("gone there").exists() && !place.at("gone here").exists());
    assert!(server.entry("ours").is_none());
    // The merge of the pull waited in the journal.
    server.type_into("theirs", |t| format!("{t}more\n"));
    place.sh("echo three >> both");
    let report = place.once(&server, Direction::Push).await;
    assert!(report.is_done() && !report.is_equal(), "{report:?}");
    assert_eq!(left(&report.not_pulled), ["theirs: changed on the server"]);
    assert_eq!(report.not_pushed, []);
    assert_eq!(server.text("both"), "ONE\nTWO\nthree\n");
    assert!(server.entry("ours").is_some() && server.entry("gone here").is_none());
    assert_eq!(place.read("theirs"), "t\ntyped\n");
    let agent = place.watch(&server).await;
    assert_eq!(server.tree(), place.tree());
    agent.finish().await;
}

fn left(left: &[Pending]) -> Vec<String> {
    let line = |left: &Pending| {
        let path = left.path.as_ref().map_or("project", |path| path.as_str());
        format!("{path}: {}", left.why)
    };
    left.iter().map(line).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_other_direction_would_move_is_told_and_then_no_more() {
    let server = Double::new();
    for name in ["mode", "deleted", "edited", "d/inside"] {
        server.text_file(name, "text\n");
    }
    let place = Place::new();
    place.sh("mkdir -p d empty/none");
    let report = place.once(&server, Direction::Pull).await;
    // `d` was empty when it was seen; what came into it is why it is there.
    assert_eq!(left(&report.not_pushed), ["empty/none: changed here"]);
    place.sh("chmod 755 mode; rm deleted; echo more >> edited; rmdir empty/none");
    let report = place.once(&server, Direction::Pull).await;
    let here = [
        "deleted: deleted here",
        "edited: changed here",
        "empty: changed here",
        "mode: permissions changed here",
    ];
    assert_eq!(left(&report.not_pushed), here);
    assert!(place.once(&server, Direction::Push).await.is_equal());
    assert!(place.once(&server, Direction::Pull).await.is_equal());

    server.remove("mode");
    server.text_file("new", "n\n");
    let report = place.once(&server, Direction::Push).await;
    let there = ["mode: deleted on the server", "new: changed on the server"];
    assert_eq!(left(&report.not_pulled), there);
    assert!(place.once(&server, Direction::Pull).await.is_equal());
    assert!(place.once(&server, Direction::Push).await.is_equal());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_names_nothing_is_unknown() {
    let server = Double::new();
    server.text_file("there/file", "x");
    server.text_file("gone", "x");
    let place = Place::new();
    place.once(&server, Direction::Pull).await;
    place.write(".gitignore", "*.log\n");
    place.write("x.log", "no");
    place.write("node_modules/x", "no");
    place.write("here/file", "x");
    place.sh("rm gone");
    for direction in [Direction::Pull, Direction::Push, Direction::Both] {
        let agent = place.start(&server, direction).await;
        let paths = [
            "there",
            "there/file",
            "here",
            "here/file",
            "x.log",
            "node_modules/x",
        ];
        let paths = paths.iter().chain(&["nosuch", "there/nosuch"]);
        let paths: Vec<_> = paths.map(|path| path.parse().unwrap()).collect();
        agent.barrier().await;
        let unknown = agent.handle.unknown(paths).await;
        let whys: Vec<_> = unknown.iter().map(|unknown| unknown.why.as_str()).collect();
        assert_eq!(
            whys,
            [
                "`x.log` is ignored: nothing of it is synced",
                "`node_modules/x` is ignored: nothing of it is synced",
                "there is no `nosuch` here or in the project",
                "there is no `there/nosuch` here or in the project",
            ],
            "{direction:?}"
        );
        agent.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_named_paths_are_touched() {
    let server = Double::new();
    server.text_file("a/x", "x");
    server.text_file("a/y", "y");
    server.text_file("b", "b");
    let place = Place::new();
    let mut config = place.config(Direction::Pull);
    config.paths = vec!["a/x".parse().unwrap(), "b".parse().unwrap()];
    let agent = place.try_start(&server, config).await.unwrap();
    agent.finish().await;
    assert_eq!(place.tree().into_keys().collect::<Vec<_>>(), ["a/x", "b"]);
    let mut config = place.config(Direction::Push);
    config.paths = vec!["a".parse().unwrap()];
    place.sh("echo 1 > a/new; echo 2 > c; rm b");
    place
        .try_start(&server, config)
        .await
        .unwrap()
        .finish()
        .await;
    let paths: Vec<String> = server.tree().into_keys().collect();
    assert_eq!(paths, ["a/new", "a/x", "a/y", "b"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn words_survive_a_stale_write_also_after_a_restart_until_they_are_removed_twice() {
    let server = Double::new();
    server.text_file("f", "one\n");
    let place = Place::new();
    let agent = place.watch(&server).await;
    server.type_into("f", |t| format!("{t}typed\n"));
    eventually("the write-back", || place.read("f") == "one\ntyped\n").await;
    agent.equal().await;
    agent.kill().await;
    // Somebody read the file before the write-back, and a new session sees what they write.
    let agent = place.watch(&server).await;
    place.write("f", "one\nmine\n");
    agent.equal().await;
    assert_eq!(server.text("f").lines().count(), 3);
    assert_eq!(server.tree(), place.tree());
    let told = |note: &Progress| matches!(note, Progress::Note(note) if note.starts_with("f was"));
    assert_eq!(
        place
            .notes
            .lock()
            .unwrap()
            .iter()
            .filter(|note| told(note))
            .count(),
        1
    );
    place.write("f", "one\nmine\n");
    agent.equal().await;
    assert_eq!(server.text("f"), "one\nmine\n");
    assert_eq!(server.tree(), place.tree());
    agent.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_writes_what_it_has_read_in_pieces_doubles_nothing() {
    let server = Double::new();
    let typed = "one\nHello people\ntwo\n";
    for (n, script) in [
        ": > F; sleep 0.3; cat N >> F",
        "head -n 1 N > F; sleep 0.1; tail -n +2 N >> F",
        ": > F; while read -r line; do echo \"$line\" >> F; sleep 0.05; done < N",
        "tr '\\n' ' ' < N > F",
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("f{n}");
        server.text_file(&name, "one\ntwo\n");
        let place = Place::new();
        let agent = place.watch(&server).await;
        server.type_into(&name, |_| typed.to_owned());
        eventually("the write-back", || place.read(&name) == typed).await;
        place.sh(&format!("cp {name} .uspark/N"));
        let script = script.replace('F', &name).replace('N', ".uspark/N");
        place.sh(&script);
        let written = place.read(&name);
        agent.equal().await;
        assert_eq!(server.text(&name), written, "{script}");
        assert_eq!(place.read(&name).matches("Hello").count(), 1, "{script}");
        agent.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_to_the_disk_another_way_too_is_not_doubled() {
    let server = Double::new();
    for name in ["f", "g"] {
        server.text_file(name, "one\n");
    }
    let place = Place::new();
    place.watch(&server).await.finish().await;
    for name in ["f", "g"] {
        server.type_into(name, |t| format!("{t}two\n"));
    }
    // A checkout of the same commit, or an older `.uspark` that was put back.
    place.write("f", "one\ntwo\n");
    place.write("g", "one\ntwo\nmine\n");
    let agent = place.watch(&server).await;
    agent.equal().await;
    assert_eq!(
        (server.text("f"), place.read("f")),
        ("one\ntwo\n".into(), "one\ntwo\n".into())
    );
    assert_eq!(server.text("g"), place.read("g"));
    // The shadow is where the disk is.
    place.write("f", "one\ntwo\nthree\n");
    agent.equal().await;
    assert_eq!(server.text("f"), "one\ntwo\nthree\n");
    agent.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_new_files_at_one_path_both_are_kept() {
    let server = Double::new();
    let place = Place::new();
    place.watch(&server).await.finish().await;
    place.write("text", "ours\n");
    place.write("same", "same\n");
    place.write("bin", [0, 1]);
    place.write("mixed", "ours\n");
    server.text_file("text", "theirs\n");
    server.text_file("same", "same\n");
    server.binary_file("bin", &[0, 2]);
    server.binary_file("mixed", &[0, 3]);
    let agent = place.watch(&server).await;
    let report = agent.equal().await;
    assert_eq!(report.conflicts.len(), 3, "{report:#?}");
    let tree = place.tree();
    assert_eq!(
        (tree["text"].as_str(), tree["same"].as_str()),
        ("theirs\n", "same\n")
    );
    for (path, ours) in [
        ("text", b"ours\n".as_slice()),
        ("bin", &[0, 1]),
        ("mixed", b"ours\n"),
    ] {
        let ours = match uspark_shared::text::as_text(ours) {
            Some(text) => text.to_owned(),
            None => format!("blob {}", BlobHash::of(ours)),
        };
        assert_eq!(kept(&tree, path), [ours], "{path}");
    }
    assert!(kept(&tree, "same").is_empty());
    assert_eq!(server.tree(), tree);
    agent.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_that_became_binary_there_and_was_edited_here_is_kept_twice() {
    let server = Double::new();
    server.text_file("f", "one\n");
    server.binary_file("b", &[0, 1]);
    let place = Place::new();
    place.watch(&server).await.finish().await;
    server.binary_file("f", &[0, 2]);
    server.text_file("b", "a text now\n");
    place.sh("echo two >> f; printf '\\0\\7' > b");
    let agent = place.watch(&server).await;
    let tree = place.tree();
    assert_eq!(tree["f"], format!("blob {}", BlobHash::of(&[0, 2])));
    assert_eq!(kept(&tree, "f"), ["one\ntwo\n"]);
    assert_eq!(tree["b"], "a text now\n");
    assert_eq!(
        kept(&tree, "b"),
        [format!("blob {}", BlobHash::of(&[0, 7]))]
    );
    assert_eq!(server.tree(), tree);
    agent.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_that_was_typed_too_long_waits_for_the_server_to_make_it_binary() {
    let server = Double::new();
    server.text_file("f", "short\n");
    let place = Place::new();
    let agent = place.watch(&server).await;
    let long = "typed\n".repeat(800_000);
    server.type_into("f", |text| format!("{text}{long}"));
    let report = agent.barrier().await;
    assert!(
        report
            .pending
            .iter()
            .any(|p| p.why.contains("no text any more")),
        "{report:#?}"
    );
    assert_eq!(place.read("f"), "short\n");
    let whole = format!("short\n{long}");
    server.binary_file("f", whole.as_bytes());
    agent.equal().await;
    assert_eq!(std::fs::read(place.at("f")).unwrap(), whole.as_bytes());
    agent.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_agents_one_moves_and_deletes_what_the_other_edits() {
    let server = Double::new();
    for name in ["d/e/f", "d/g", "gone"] {
        server.text_file(name, "one\ntwo\n");
    }
    let docs = ["d/e/f", "d/g"].map(|path| server.entry(path).unwrap().doc().cloned());
    let (first, second) = (Place::new(), Place::new());
    let agents = [first.watch(&server).await, second.watch(&server).await];
    server.set_away(true);
    first.sh("mv d moved; echo three >> moved/g; rm gone");
    second.sh("sed -i s/one/ONE/ d/e/f d/g; echo new > d/new");
    for agent in &agents {
        let deadline = Instant::now() + SOON;
        while agent.handle.status().await.unacknowledged < 2 {
            assert!(Instant::now() < deadline, "nothing was spooled");
        }
    }
    server.set_away(false);
    for agent in agents.iter().chain(&agents).chain(&agents) {
        agent.equal().await;
    }
    let expected = [
        ("d/new", "new\n"),
        ("moved/e/f", "ONE\ntwo\n"),
        ("moved/g", "ONE\ntwo\nthree\n"),
    ];
    let expected = BTreeMap::from(expected.map(|(path, text)| (path.into(), text.into())));
    assert_eq!(server.tree(), expected);
    assert_eq!([first.tree(), second.tree()], [expected.clone(), expected]);
    let now = ["moved/e/f", "moved/g"].map(|path| server.entry(path).unwrap().doc().cloned());
    assert_eq!(now, docs);
    for agent in agents {
        agent.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_put_back_and_overwritten_by_what_was_read_before_keeps_what_was_typed() {
    for killed in [false, true] {
        put_back_and_overwritten(killed).await;
    }
}

async fn put_back_and_overwritten(killed: bool) {
    let server = Double::new();
    // One was edited here, the other never was.
    for file in ["f", "g"] {
        server.text_file(file, "one\n");
    }
    let place = Place::new();
    let mut agent = place.watch(&server).await;
    place.sh("echo two >> f");
    agent.equal().await;
    server.set_away(true);
    place.sh("mkdir .uspark/aside; mv f g .uspark/aside");
    for file in ["f", "g"] {
        server.type_into(file, |t| format!("{t}typed\n"));
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while agent.handle.status().await.unacknowledged == 0 {
        assert!(Instant::now() < deadline, "the deletions are not made");
    }
    if killed {
        agent.kill().await;
        agent = place.start(&server, Direction::Both).await;
    }
    server.set_away(false);
    let is_back = || ["f", "g"].into_iter().all(|file| place.at(file).exists());
    eventually("the files to come back", is_back).await;
    agent.equal().await;
    place.sh("mv .uspark/aside/f .uspark/aside/g .");
    agent.equal().await;
    assert_eq!(place.read("f"), "one\ntwo\ntyped\n");
    assert_eq!(place.read("g"), "one\ntyped\n");
    assert_eq!(server.tree(), place.tree());
    agent.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_typed_into_a_file_that_is_replaced_unseen_lives() {
    let server = Double::new();
    for file in ["f", "g", "h"] {
        server.text_file(file, "one\n");
    }
    let place = Place::new();
    let agent = place.watch(&server).await;
    server.set_away(true);
    server.type_into("f", |t| format!("{t}typed\n"));
    for (file, replaced) in [("g", 1), ("f", 2)] {
        place.sh(&format!("ln -sf h {file}"));
        let deadline = Instant::now() + Duration::from_secs(10);
        while agent.handle.status().await.unacknowledged < replaced {
            assert!(Instant::now() < deadline, "{file} is not replaced");
        }
    }
    server.set_away(false);
    eventually("what was typed", || kept(&place.tree(), "f").len() == 1).await;
    agent.equal().await;
    let tree = place.tree();
    assert_eq!(kept(&tree, "f"), ["one\ntyped\n"]);
    assert_eq!(kept(&tree, "g"), [""; 0]);
    assert_eq!(server.tree(), tree);
    agent.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_in_the_place_of_a_file_that_was_moved_aside_stays() {
    let server = Double::new();
    server.text_file("d", "one\n");
    let place = Place::new();
    let agent = place.watch(&server).await;
    server.set_away(true);
    place.sh("rm d; mkdir d; echo x > d/x");
    server.type_into("d", |t| format!("{t}typed\n"));
    // As the server does when a directory has a file's name.
    let aside = ProjectEdit::SetFile("d.aside".parse().unwrap(), server.entry("d").unwrap());
    server.edit(&[ProjectEdit::RemoveFile("d".into()), aside]);
    server.set_away(false);
    eventually("the file to come", || place.at("d.aside").is_file()).await;
    agent.equal().await;
    assert_eq!(place.read("d.aside"), "one\ntyped\n");
    assert_eq!(place.read("d/x"), "x\n");
    assert_eq!(server.tree(), place.tree());
    agent.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_typed_into_a_file_that_is_deleted_unseen_lives() {
    let server = Double::new();
    for file in ["f", "g"] {
        server.text_file(file, "one\n");
    }
    let place = Place::new();
    let agent = place.watch(&server).await;
    server.set_away(true);
    place.sh("rm f g");
    server.type_into("f", |t| format!("{t}typed\n"));
    let deadline = Instant::now() + Duration::from_secs(10);
    while agent.handle.status().await.unacknowledged == 0 {
        assert!(Instant::now() < deadline, "the deletions are not made");
    }
    // A killed session's successor asks what came of it too.
    agent.kill().await;
    let agent = place.start(&server, Direction::Both).await;
    server.set_away(false);
    eventually("the file to come back", || place.at("f").exists()).await;
    agent.equal().await;
    assert_eq!(place.read("f"), "one\ntyped\n");
    assert_eq!(server.tree(), place.tree());
    assert!(!place.at("g").exists());
    agent.finish().await;
}
