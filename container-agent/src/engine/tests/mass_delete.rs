//! Most files gone at once, on either side: held, told, let pass, taken back.

use uspark_shared::path::FilePath;
use uspark_shared::replica::ProjectEdit;

use super::*;

const FILES: usize = 24;
/// Longer than `rm` stands still between two files on a busy machine: few that go first pass at once.
const PATIENT_HOLD: Duration = Duration::from_millis(400);

/// A project of [`FILES`] files in three directories, and a workspace that mirrors it.
async fn mirrored() -> (Double, Place, Agent) {
    let (server, place) = (Double::new(), Place::new());
    for n in 0..FILES {
        match n % 4 {
            0 => server.binary_file(&name(n), &[0, n as u8]),
            _ => drop(server.text_file(&name(n), &format!("file {n}\n"))),
        }
    }
    let agent = place.watch_patiently(&server).await;
    (server, place, agent)
}

fn name(n: usize) -> String {
    format!("d{}/f{n}", n % 3)
}

fn remove_there(server: &Double, files: std::ops::Range<usize>) {
    let edits: Vec<ProjectEdit> = files.map(|n| ProjectEdit::RemoveFile(name(n))).collect();
    server.edit(&edits);
}

impl Agent {
    /// A barrier that finds so many deletions held, and nothing else left.
    async fn held(&self, held: usize) -> Report {
        let began = Instant::now();
        let report = self.barrier().await;
        assert!(
            began.elapsed() < Duration::from_secs(9),
            "it is not waited for"
        );
        assert_eq!(report.held, held as u64, "{report:#?}");
        assert_eq!(report.pending.len(), held, "{report:#?}");
        let reasons = report.pending.iter().filter(|p| p.path.is_some());
        assert!(
            reasons
                .into_iter()
                .all(|p| p.why.contains("its deletion is held"))
        );
        report
    }

    async fn let_pass(&self) -> Report {
        let report = self.let_some_pass(Vec::new()).await;
        assert!(report.is_equal(), "{report:#?}");
        report
    }

    async fn let_some_pass(&self, paths: Vec<FilePath>) -> Report {
        let deadline = Instant::now() + Duration::from_secs(10);
        let mass_delete = MassDelete::Passes;
        let meant = Meant { mass_delete, paths };
        self.handle.barrier_with(deadline, meant).await
    }
}

impl Place {
    /// Watches, and holds what vanished for so long that a busy machine has time for all of it.
    async fn watch_patiently(&self, server: &Double) -> Agent {
        let mut config = self.config(Direction::Both);
        config.limits.hold = PATIENT_HOLD;
        let agent = self.try_start(server, config).await.unwrap();
        agent.equal().await;
        agent
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rm_rf_is_held_and_told_all_else_goes_on_and_whoever_means_it_lets_it_pass() {
    let (server, place, agent) = mirrored().await;
    let before = server.tree();
    place.sh("rm -rf d0 d1");
    agent.held(16).await;
    assert_eq!(server.tree(), before);
    assert_eq!(
        place.notes_with("16 of 24 files are gone from the workspace"),
        1
    );
    // Changes travel both ways all the same.
    place.write("new", "n\n");
    place.sh("echo more >> d2/f2");
    server.type_into("d2/f5", |t| format!("{t}typed\n"));
    agent.held(16).await;
    assert_eq!(server.text("new"), "n\n");
    assert!(server.text("d2/f2").ends_with("more\n") && place.read("d2/f5").ends_with("typed\n"));
    // An edit of what is held outlives the deletion.
    server.type_into("d0/f3", |t| format!("{t}typed\n"));
    agent.held(15).await;
    assert_eq!(place.read("d0/f3"), "file 3\ntyped\n");
    agent.let_pass().await;
    assert_eq!(server.tree(), place.tree());
    assert_eq!(server.tree().len(), 10);
    // That was said of these deletions, not of all that follow.
    place.sh("rm -rf d2 d0 new");
    agent.held(10).await;
    assert_eq!(place.notes_with("files are gone from the workspace"), 2);
    let report = agent.session.finish(Duration::from_secs(10)).await.unwrap();
    assert_eq!(report.held, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkout_of_an_empty_branch_is_held_and_going_back_cancels_it() {
    let (server, place, agent) = mirrored().await;
    let before = server.tree();
    place.sh("git init -q -b main; echo .uspark > .git/info/exclude
        git config user.name me; git config user.email me@localhost
        git add .; git commit -qm all; git switch -q --orphan empty");
    agent.held(FILES).await;
    assert_eq!(server.tree(), before);
    place.sh("git checkout -q main -- d0 d1");
    agent.held(8).await;
    assert_eq!(server.tree(), before);
    assert_eq!(place.notes_with("no deletion is held any more"), 0);
    place.sh("git switch -qf main");
    agent.equal().await;
    eventually("it to be told", || {
        place.notes_with("no deletion is held any more") == 1
    })
    .await;
    assert_eq!(server.tree(), before);
    // Few of them are none of the guard's business, before and after.
    place.sh("rm d0/f0 d1/f1");
    agent.equal().await;
    assert_eq!(server.tree().len(), FILES - 2);
    agent.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn up_to_half_of_the_files_go_at_once_and_a_few_without_waiting() {
    let (server, place, agent) = mirrored().await;
    place.sh("rm -rf d0; rm d1/f1 d1/f4 d1/f7 d1/f10");
    agent.equal().await;
    assert_eq!(server.tree().len(), 12);
    agent.finish().await;
    // All of nine files, one of which is a directory's only one.
    let (server, place) = (Double::new(), Place::new());
    place.sh("mkdir d; touch 1 2 3 4 5 6 7 8 d/9");
    let agent = place.watch(&server).await;
    let began = Instant::now();
    place.sh("rm -rf 1 2 3 4 5 6 7 8 d");
    agent.equal().await;
    assert!(server.tree().is_empty() && began.elapsed() < Duration::from_secs(2));
    assert_eq!(place.notes_with("at once"), 0);
    agent.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_those_that_are_held_the_ones_that_are_meant_pass() {
    let (server, place, agent) = mirrored().await;
    place.sh("rm -rf d0 d1");
    agent.held(16).await;
    let report = agent
        .let_some_pass(
            ["d0", "d1/f1", "d2"]
                .map(|path| path.parse().unwrap())
                .into(),
        )
        .await;
    assert_eq!(report.held, 7, "{report:#?}");
    assert_eq!(server.tree().len(), FILES - 9);
    assert_eq!(
        place.notes_with("of the deletions that were held 9 pass"),
        1
    );
    agent.let_pass().await;
    assert_eq!(server.tree().len(), 8);
    agent.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkout_there_and_back_and_there_again_counts_once() {
    let (server, place, agent) = mirrored().await;
    place.sh("mkdir -p .uspark/k; cp -r d0/* d1/f1 d1/f4 .uspark/k");
    for _ in 0..3 {
        place.sh("rm -rf d0 d1/f1 d1/f4");
        agent.equal().await;
        assert_eq!(server.tree().len(), FILES - 10);
        place.sh("cp -r .uspark/k d0; mv d0/f1 d0/f4 d1");
        agent.equal().await;
        assert_eq!(server.tree().len(), FILES);
    }
    assert_eq!(place.notes_with("at once"), 0);
    agent.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_moved_tree_is_not_a_deleted_one() {
    let (server, place, agent) = mirrored().await;
    place.sh("mkdir x; mv d0 d1 d2 x");
    agent.equal().await;
    // Also where its files are new ones, as from another device.
    place.sh("cp -r x y; rm -rf x");
    agent.equal().await;
    assert_eq!(server.tree(), place.tree());
    // And there, texts with their documents, binaries by their bytes. These come only later: so long
    // nothing is gone.
    for n in 0..FILES {
        server.binary_file(&format!("y/more/{n}"), &[n as u8, 0, 0]);
    }
    agent.equal().await;
    let of_both = (0..FILES).flat_map(|n| [name(n), format!("more/{n}")]);
    let edits = of_both.flat_map(|file| {
        let from = format!("y/{file}");
        let entry = server.entry(&from).unwrap();
        let to = format!("z/{file}").parse().unwrap();
        [
            ProjectEdit::RemoveFile(from),
            ProjectEdit::SetFile(to, entry),
        ]
    });
    server.edit(&edits.collect::<Vec<_>>());
    agent.equal().await;
    assert_eq!(server.tree(), place.tree());
    assert_eq!(
        (place.tree().len(), place.notes_with("at once")),
        (2 * FILES, 0)
    );
    agent.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_project_loses_at_once_stays_on_disk() {
    let (server, place, agent) = mirrored().await;
    let (before, entries): (_, Vec<_>) = (
        place.tree(),
        (0..16)
            .map(|n| (name(n), server.entry(&name(n)).unwrap()))
            .collect(),
    );
    remove_there(&server, 0..16);
    agent.held(16).await;
    assert_eq!(place.tree(), before);
    assert_eq!(
        place.notes_with("16 of 24 files were deleted in the project"),
        1
    );
    place.sh("echo more >> d2/f17; echo kept >> d1/f1");
    server.text_file("new", "n\n");
    // Whoever writes a file wants it.
    agent.held(15).await;
    assert_eq!(
        (server.text("d1/f1"), place.read("new")),
        ("file 1\nkept\n".into(), "n\n".into())
    );
    // Somebody takes it back.
    let back = |(path, entry): &(String, _)| {
        ProjectEdit::SetFile(
            path.parse().unwrap(),
            uspark_shared::schema::Entry::clone(entry),
        )
    };
    let gone = entries.iter().filter(|(path, _)| path != "d1/f1");
    server.edit(&gone.map(back).collect::<Vec<_>>());
    agent.equal().await;
    eventually("it to be told", || {
        place.notes_with("no deletion is held any more") == 1
    })
    .await;
    // Once more, and it is meant.
    remove_there(&server, 0..16);
    agent.held(16).await;
    agent.let_pass().await;
    assert_eq!(place.tree(), server.tree());
    assert_eq!(place.tree().len(), FILES - 16 + 1);
    agent.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_went_while_nobody_watched_is_held_too_one_way_and_both() {
    let (server, place, agent) = mirrored().await;
    agent.finish().await;
    let before = server.tree();
    place.sh("rm -rf d0 d2");
    for direction in [Direction::Push, Direction::Both] {
        let report = place.once(&server, direction).await;
        assert_eq!((report.held, report.pending.len()), (16, 16), "{report:#?}");
        assert_eq!(server.tree(), before);
    }
    let with_flag = |direction| SyncConfig {
        mass_delete: MassDelete::Passes,
        ..place.config(direction)
    };
    let agent = place
        .try_start(&server, with_flag(Direction::Push))
        .await
        .unwrap();
    agent.finish().await;
    assert_eq!((server.tree(), place.tree().len()), (place.tree(), 8));

    let all: Vec<ProjectEdit> = (0..FILES)
        .map(|n| ProjectEdit::RemoveFile(name(n)))
        .collect();
    for n in 0..8 {
        server.text_file(&format!("more{n}"), "x\n");
    }
    place.watch(&server).await.finish().await;
    server.edit(&all);
    for n in 0..8 {
        server.remove(&format!("more{n}"));
    }
    for direction in [Direction::Pull, Direction::Both] {
        let report = place.once(&server, direction).await;
        assert_eq!((report.held, place.tree().len()), (16, 16), "{report:#?}");
    }
    let agent = place
        .try_start(&server, with_flag(Direction::Pull))
        .await
        .unwrap();
    agent.finish().await;
    assert!(place.tree().is_empty() && server.tree().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_tool_call_deletes_passes_with_a_note() {
    let (server, place, agent) = mirrored().await;
    let call = |id: &str, name: &str| ToolCall {
        id: id.into(),
        name: name.into(),
        paths: Vec::new(),
    };
    // A call that only reads covers nothing.
    agent.handle.tool_started(call("t0", "Grep"));
    agent.handle.tool_started(call("t1", "Bash"));
    agent.handle.status().await;
    // A directory that is moved away says nothing of what was in it.
    place.sh("mkdir .git; mv d0 .git; rm -rf d1");
    agent.handle.tool_finished("t1");
    agent.equal().await;
    assert_eq!(
        (server.tree(), place.tree().len()),
        (tree_of(&place), 16 + 8 - 8)
    );
    assert_eq!(place.notes_with("a tool call deletes more than half"), 1);
    agent.handle.tool_finished("t0");
    agent.finish().await;
}

/// What is synced of a place in which `.git` hides something.
fn tree_of(place: &Place) -> BTreeMap<String, String> {
    let mut tree = place.tree();
    tree.retain(|path, _| !path.starts_with(".git/"));
    tree
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workspace_that_vanishes_deletes_nothing_and_is_gone_on_with_when_it_is_back() {
    let server = Double::new();
    for n in 0..FILES {
        server.text_file(&name(n), &format!("file {n}\n"));
    }
    let around = Place::new();
    let place = Place::new();
    let root = around.at("root");
    std::fs::create_dir(&root).unwrap();
    let mut config = place.config(Direction::Both);
    config.root.clone_from(&root);
    config.limits.hold = PATIENT_HOLD;
    let agent = place.try_start(&server, config).await.unwrap();
    agent.equal().await;
    let before = server.tree();
    // An empty directory in its place is what is left of a mount.
    around.sh("mv root away; mkdir root");
    eventually("it to be told", || {
        place.notes_with("the workspace is gone") == 1
    })
    .await;
    let soon = Instant::now() + Duration::from_millis(300);
    let report = agent.handle.barrier(soon).await;
    assert!(
        report
            .pending
            .iter()
            .any(|p| p.why == "the workspace is gone"),
        "{report:#?}"
    );
    assert_eq!(report.held, 0);
    server.type_into("d1/f1", |t| format!("{t}typed\n"));
    around.sh("rmdir root; echo more >> away/d0/f3; mv away root");
    eventually("it to be back", || {
        place.notes_with("the workspace is back") == 1
    })
    .await;
    agent.equal().await;
    assert_eq!(around.read("root/d1/f1"), "file 1\ntyped\n");
    assert_eq!(server.text("d0/f3"), "file 3\nmore\n");
    assert_eq!(server.tree().len(), before.len());
    // Deleted for good, file by file: the directory itself was the last.
    around.sh("rm -rf root; mkdir root");
    eventually("it to be told", || {
        place.notes_with("the workspace is gone") == 2
    })
    .await;
    let soon = Duration::from_millis(300);
    let report = agent.session.finish(soon).await.unwrap();
    assert!(!report.is_equal());
    assert_eq!(server.tree().len(), before.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_large_tree_nothing_slips_through_however_slowly_it_goes() {
    let (server, place) = (Double::new(), Place::new());
    place.sh(
        "for d in $(seq 10); do mkdir d$d; for f in $(seq 100); do echo $d > d$d/$f; done; done",
    );
    let agent = place.watch_patiently(&server).await;
    let before = server.seen().updates.len();
    // Ignored files take `rm` a while in between.
    place.sh("mkdir .git; cp -r d* .git; for d in d*; do rm -rf $d; sleep 0.1; done");
    agent.held(1000).await;
    assert_eq!(server.seen().updates.len(), before);
    place.sh("cp -r .git/* .");
    agent.equal().await;
    assert_eq!(server.seen().updates.len(), before);
    agent.finish().await;
}
