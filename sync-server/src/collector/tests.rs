//! A server without sockets on a disk, and a clock that stands until it is set.
#![allow(
    clippy::disallowed_methods,
    reason = "the tests look at what is on the disk"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use uspark_shared::id::{BlobHash, DocId};
use uspark_shared::path::FilePath;
use uspark_shared::replica::{ClientId, ProjectEdit, ProjectReplica};
use uspark_shared::schema::Entry;

use super::*;
use crate::config::Config;
use crate::project::{Attribution, PutBase, Seat, SeatAck};
use crate::server::AppState;
use crate::store::testing::TestStore;
use crate::store::{BlobFiles, DAY, DataDirectory, ProjectRecord, SqliteStore, check};
use crate::subscriber::{Outbox, SeatId};

/// A clock of this test alone: `static NOW` and the function that reads it.
macro_rules! clock {
    ($now:ident) => {{
        fn now() -> u64 {
            $now.load(Ordering::SeqCst)
        }
        now
    }};
}

mod soak;

/// When tests begin: far enough from 1970 for every retention.
const BEGIN: u64 = 1000 * DAY;

/// A project `p` in a server on a disk.
#[derive(Clone)]
struct World {
    state: AppState,
    directory: DataDirectory,
    project: ProjectId,
    /// Who edits the project's document.
    author: Arc<Mutex<ProjectReplica>>,
}

impl World {
    /// Opens what is there, or makes it.
    async fn open(data: &Path, clock: fn() -> u64) -> Self {
        Self::keeping(data, clock, Retention::default()).await
    }

    async fn keeping(data: &Path, clock: fn() -> u64, retention: Retention) -> Self {
        let config = Config {
            clock,
            retention,
            ..Config::local(data)
        };
        let directory = DataDirectory::open(data).unwrap();
        let store = Arc::new(SqliteStore::open(&directory).unwrap());
        let large = Arc::new(BlobFiles::open(&directory).unwrap());
        let state = AppState::new(&config, store, large);
        let project: ProjectId = "p".parse().unwrap();
        let record = ProjectRecord {
            id: project.clone(),
            name: None,
            created_at: 1,
        };
        // It may be there.
        let _ = state
            .committer
            .commit(vec![Write::CreateProject(record)])
            .await;
        Self {
            state,
            directory,
            project,
            author: author(),
        }
    }

    /// The same for somebody else.
    fn of_another(&self) -> Self {
        Self {
            author: author(),
            ..self.clone()
        }
    }

    /// Goes on through a store whose commits can be held and failed.
    fn through_a_store_that_fails(&mut self, data: &Path, clock: fn() -> u64) -> TestStore {
        let store = TestStore::new(Arc::clone(&self.state.store));
        let large = Arc::new(BlobFiles::open(&self.directory).unwrap());
        let config = Config {
            clock,
            ..Config::local(data)
        };
        self.state = AppState::new(&config, Arc::new(store.clone()), large);
        store
    }

    /// Closes it, and waits until another can be opened on its directory.
    async fn end(self, data: &Path) {
        self.state.projects.close().await;
        self.state.committer.close().await;
        drop(self);
        // Its tasks let go of the directory one by one.
        let open = || Ok(DataDirectory::open(data).map(drop)?);
        let opened = || uspark_tests::eventually(uspark_tests::SOON, open);
        tokio::task::block_in_place(opened);
    }

    async fn upload(&self, bytes: &[u8]) -> BlobHash {
        let bytes = Bytes::copy_from_slice(bytes);
        let hash = self
            .state
            .blobs
            .put(&self.project, bytes)
            .await
            .unwrap()
            .hash;
        let arrived = Command::BlobArrived(hash);
        self.state.projects.tell(&self.project, arrived).await;
        hash
    }

    /// A change of the project's document, as somebody makes it who has all of it.
    async fn edit(&self, edits: &[ProjectEdit]) {
        let since = self.author.lock().unwrap().state_vector();
        let since = Some(Bytes::from(since));
        let ask = |reply| Command::State {
            since: since.clone(),
            reply,
        };
        let (state, _) = self.state.projects.ask(&self.project, ask).await.unwrap();
        let update = {
            let author = self.author.lock().unwrap();
            author.apply(&state).unwrap();
            author.edit(edits).map(Bytes::from)
        };
        let Some(update) = update else { return };
        let ask = |reply| Command::Patch {
            update: update.clone(),
            base: PutBase::Nearest,
            who: Attribution::server(),
            reply,
        };
        self.state.projects.ask(&self.project, ask).await.unwrap();
    }

    async fn name(&self, at: &str, bytes: &[u8]) {
        self.edit(&[ProjectEdit::SetFile(path(at), binary(bytes))])
            .await;
    }

    async fn remove(&self, at: &str) {
        self.edit(&[ProjectEdit::RemoveFile(at.to_owned())]).await;
    }

    /// Writes a text file, as by PUT.
    async fn write(&self, at: &str, text: &str) -> Option<DocId> {
        let hash = self.upload(text.as_bytes()).await;
        let ask = |reply| Command::Put {
            path: path(at),
            hash,
            base: PutBase::Current,
            mode: None,
            who: Attribution::server(),
            reply,
        };
        match self.state.projects.ask(&self.project, ask).await {
            Ok(put) => put.file.doc,
            // Somebody removed it before it could be shown.
            Err(Refusal::NotFound("file")) => None,
            Err(refusal) => panic!("{at}: {refusal}"),
        }
    }

    /// Every file that is shown, with its content; each must be there to be read.
    async fn files(&self) -> BTreeMap<String, Bytes> {
        let ask = Command::Manifest;
        let manifest = self.state.projects.ask(&self.project, ask).await.unwrap();
        let mut files = BTreeMap::new();
        for (path, file) in manifest.files {
            let Some(hash) = file.hash else { continue };
            let bytes = self.read(&hash).await;
            let bytes = bytes.unwrap_or_else(|| panic!("`{path}` names {hash}, which is gone"));
            assert_eq!(BlobHash::of(&bytes), hash, "{path}");
            files.insert(path.to_string(), bytes);
        }
        files
    }

    async fn read(&self, hash: &BlobHash) -> Option<Bytes> {
        let blob = self
            .state
            .blobs
            .open(Some(&self.project), hash)
            .await
            .unwrap();
        Some(blob?.read_all().await.unwrap())
    }

    async fn round(&self) -> Round {
        self.state.collector().round().await
    }
}

fn author() -> Arc<Mutex<ProjectReplica>> {
    let client = ClientId::from_random(fastrand::u32(..).to_le_bytes());
    Arc::new(Mutex::new(ProjectReplica::new(client)))
}

fn path(at: &str) -> FilePath {
    at.parse().unwrap()
}

fn binary(bytes: &[u8]) -> Entry {
    Entry::Blob {
        hash: BlobHash::of(bytes),
        size: bytes.len() as u64,
        mode: 0o644,
        mtime: 5,
    }
}

/// Large enough for a file of its own.
fn large(what: &str) -> Vec<u8> {
    let mut bytes = vec![0; 70_000];
    bytes[..what.len()].copy_from_slice(what.as_bytes());
    bytes
}

/// The files of large blobs.
fn blob_files(data: &Path) -> usize {
    let mut files = 0;
    for directory in std::fs::read_dir(data.join("blobs")).unwrap() {
        files += std::fs::read_dir(directory.unwrap().path())
            .unwrap()
            .count();
    }
    files
}

fn assert_whole(data: &Path) {
    let findings = check(data, &mut |_| {}).unwrap();
    assert!(findings.is_whole(), "{findings:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_nothing_names_go_after_the_grace_and_no_others() {
    static NOW: AtomicU64 = AtomicU64::new(BEGIN);
    let temp = tempfile::tempdir().unwrap();
    let world = World::open(temp.path(), clock!(NOW)).await;
    let (named, unnamed) = (large("named"), large("unnamed"));
    for bytes in [&named[..], &unnamed, b"small\0", b"small and named\0"] {
        world.upload(bytes).await;
    }
    world.name("large", &named).await;
    world.name("small", b"small and named\0").await;
    world.write("text", "a text\n").await;
    assert_eq!(blob_files(temp.path()), 2);
    NOW.store(BEGIN + DAY, Ordering::SeqCst);
    assert_eq!(world.round().await, Round::default(), "not yet");

    NOW.store(BEGIN + DAY + 1, Ordering::SeqCst);
    let round = world.round().await;
    let bytes = (unnamed.len() + b"small\0".len()) as u64;
    let gone = Round {
        rights: 2,
        blobs: 2,
        files: 1,
        bytes,
        ..Round::default()
    };
    assert_eq!(round, gone);
    assert_eq!(blob_files(temp.path()), 1);
    assert_eq!(world.read(&BlobHash::of(&unnamed)).await, None);
    assert_eq!(world.files().await.len(), 3);
    assert_eq!(world.round().await, Round::default());
    assert_whole(temp.path());
    let text = world.state.metrics.text().unwrap();
    for line in [
        "uspark_collected_total{kind=\"blob\"} 2".to_owned(),
        format!("uspark_collected_bytes_total {bytes}"),
        "uspark_collections_total 3".to_owned(),
    ] {
        assert!(text.lines().any(|other| other == line), "{line}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_there_already_gets_a_new_grace_when_that_is_told() {
    static NOW: AtomicU64 = AtomicU64::new(BEGIN);
    let temp = tempfile::tempdir().unwrap();
    let world = World::open(temp.path(), clock!(NOW)).await;
    let hashes = [
        world.upload(&large("uploaded again")).await,
        world.upload(b"asked for\0").await,
        world.upload(b"not asked for\0").await,
    ];
    NOW.store(BEGIN + DAY, Ordering::SeqCst);
    world.upload(&large("uploaded again")).await;
    assert!(
        world
            .state
            .blobs
            .renew(&world.project, &hashes[1])
            .await
            .unwrap()
    );
    NOW.store(BEGIN + DAY + DAY / 2, Ordering::SeqCst);
    assert_eq!(world.round().await.blobs, 1);
    assert!(world.read(&hashes[0]).await.is_some());
    assert!(world.read(&hashes[1]).await.is_some());
    // And what is gone is not told to be there.
    assert!(
        !world
            .state
            .blobs
            .renew(&world.project, &hashes[2])
            .await
            .unwrap()
    );
    NOW.store(BEGIN + 2 * DAY + 1, Ordering::SeqCst);
    assert_eq!(world.round().await.blobs, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_file_outlives_its_path_for_the_retention() {
    static NOW: AtomicU64 = AtomicU64::new(BEGIN);
    let clock = clock!(NOW);
    let temp = tempfile::tempdir().unwrap();
    let world = World::open(temp.path(), clock).await;
    let (binary, version) = (large("binary"), BlobHash::of(b"two\n"));
    world.upload(&binary).await;
    world.name("binary", &binary).await;
    let doc = world.write("text", "one\n").await.unwrap();
    NOW.store(BEGIN + 2 * DAY, Ordering::SeqCst);
    world.write("text", "two\n").await;
    // Looked at while they are named.
    assert_eq!(world.round().await, Round::default());
    let deleted = BEGIN + 40 * DAY;
    NOW.store(deleted, Ordering::SeqCst);
    world.remove("binary").await;
    world.remove("text").await;
    // Out of memory, where a text is kept for those who have it open.
    world.end(temp.path()).await;
    let world = World::open(temp.path(), clock).await;
    NOW.store(deleted + 30 * DAY, Ordering::SeqCst);
    assert_eq!(world.round().await, Round::default(), "not yet");
    assert!(world.read(&BlobHash::of(&binary)).await.is_some());
    assert!(world.read(&version).await.is_some());

    NOW.store(deleted + 30 * DAY + 1, Ordering::SeqCst);
    let round = world.round().await;
    assert_eq!(
        (round.texts, round.blobs, round.files),
        (1, 3, 1),
        "{round:?}"
    );
    let (store, of) = (&world.state.store, doc.clone());
    assert_eq!(store.text(&world.project, &of).unwrap(), None);
    assert_eq!(store.settled(&world.project, &of, 9).unwrap(), []);
    let ask = |reply| Command::State { since: None, reply };
    let (state, _) = world.state.projects.ask(&world.project, ask).await.unwrap();
    let replica = ProjectReplica::new(ClientId::from_random([7; 4]));
    replica.apply(&state).unwrap();
    assert_eq!(replica.text_version(&doc), None, "nor does `texts` name it");
    assert_whole(temp.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_that_somebody_has_open_is_kept() {
    static NOW: AtomicU64 = AtomicU64::new(BEGIN);
    let temp = tempfile::tempdir().unwrap();
    let world = World::open(temp.path(), clock!(NOW)).await;
    let doc = world.write("text", "one\n").await.unwrap();
    // It is in memory from here on.
    world.write("text", "two\n").await;
    let seat = Seat {
        id: SeatId::fresh(),
        address: "a".into(),
        outbox: Outbox::new(1 << 20),
        ack: SeatAck::Status,
        may_write: true,
        who: Attribution::server(),
    };
    let (projects, id) = (&world.state.projects, seat.id);
    let joined = projects.join(&world.project, Some(doc.clone()), seat).await;
    world.remove("text").await;
    NOW.store(BEGIN + 31 * DAY, Ordering::SeqCst);
    assert_eq!(world.round().await, Round::default());
    joined.unwrap().leave(id).await;
    assert_eq!(world.round().await.texts, 1);
    assert_eq!(world.state.store.text(&world.project, &doc).unwrap(), None);
    assert_whole(temp.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_is_loaded_only_for_blobs_that_no_text_is_made_of_and_only_once() {
    static NOW: AtomicU64 = AtomicU64::new(BEGIN);
    let temp = tempfile::tempdir().unwrap();
    let mut world = World::open(temp.path(), clock!(NOW)).await;
    world.write("text", "one\n").await;
    world.write("text", "two\n").await;
    for (day, binary, loaded) in [(2, None, 0), (4, Some(b"binary\0"), 1), (6, None, 0)] {
        if let Some(bytes) = binary {
            world.upload(bytes).await;
            world.name("binary", bytes).await;
        }
        // Out of memory, and later than the grace.
        world.end(temp.path()).await;
        world = World::open(temp.path(), clock!(NOW)).await;
        NOW.store(BEGIN + day * DAY, Ordering::SeqCst);
        assert_eq!(world.round().await, Round::default());
        assert_eq!(world.state.projects.count(), loaded, "on day {day}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_old_versions_the_last_of_each_day_is_left() {
    static NOW: AtomicU64 = AtomicU64::new(BEGIN);
    let temp = tempfile::tempdir().unwrap();
    let world = World::open(temp.path(), clock!(NOW)).await;
    let mut doc = None;
    for (day, hour) in [
        (0, 1),
        (0, 2),
        (0, 23),
        (1, 0),
        (5, 3),
        (5, 4),
        (40, 1),
        (40, 2),
    ] {
        NOW.store(BEGIN + day * DAY + hour * DAY / 24, Ordering::SeqCst);
        doc = world
            .write("text", &format!("day {day} hour {hour}\n"))
            .await;
    }
    let doc = doc.unwrap();
    let versions = || {
        let settled = world.state.store.settled(&world.project, &doc, 99).unwrap();
        let times = settled
            .iter()
            .rev()
            .map(|(_, version)| version.mtime - BEGIN);
        times
            .map(|time| (time / DAY, time % DAY * 24 / DAY))
            .collect::<Vec<_>>()
    };
    // The first is the seed.
    assert_eq!(versions().len(), 7);
    NOW.store(BEGIN + 41 * DAY, Ordering::SeqCst);
    let round = world.round().await;
    assert_eq!(versions(), [(0, 23), (1, 0), (5, 4), (40, 1), (40, 2)]);
    assert_eq!((round.versions, round.blobs), (2, 2), "{round:?}");
    assert!(world.read(&BlobHash::of(b"day 5 hour 3\n")).await.is_none());
    assert!(world.read(&BlobHash::of(b"day 5 hour 4\n")).await.is_some());
    assert!(
        world.read(&BlobHash::of(b"day 0 hour 1\n")).await.is_some(),
        "the seed"
    );
    assert_eq!(world.round().await, Round::default());
    assert_eq!(world.files().await["text"], "day 40 hour 2\n");
    assert_whole(temp.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_projects_bytes_go_and_its_successor_finds_none_of_them() {
    static NOW: AtomicU64 = AtomicU64::new(BEGIN);
    let clock = clock!(NOW);
    let temp = tempfile::tempdir().unwrap();
    let world = World::open(temp.path(), clock).await;
    let bytes = large("theirs");
    world.upload(&bytes).await;
    world.name("file", &bytes).await;
    let delete = Write::DeleteProject(world.project.clone());
    world.state.committer.commit(vec![delete]).await.unwrap();
    world
        .state
        .projects
        .tell(&world.project, Command::Deleted)
        .await;
    let round = world.round().await;
    assert_eq!((round.blobs, round.files), (1, 1), "{round:?}");
    assert_eq!(blob_files(temp.path()), 0);
    let record = ProjectRecord {
        id: world.project.clone(),
        name: None,
        created_at: 2,
    };
    let create = Write::CreateProject(record);
    world.state.committer.commit(vec![create]).await.unwrap();
    // Who had the other project's document has nothing to do here.
    let world = world.of_another();
    world.name("file", &bytes).await;
    assert!(world.files().await.is_empty(), "its bytes never came");
    world.upload(&bytes).await;
    assert_eq!(world.files().await.len(), 1);
    assert_whole(temp.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_entry_that_comes_while_its_bytes_go_waits_for_them() {
    static NOW: AtomicU64 = AtomicU64::new(BEGIN);
    let temp = tempfile::tempdir().unwrap();
    let mut world = World::open(temp.path(), clock!(NOW)).await;
    let store = world.through_a_store_that_fails(temp.path(), clock!(NOW));
    let hash = world.upload(b"late\0").await;
    NOW.store(BEGIN + 2 * DAY, Ordering::SeqCst);
    // The first commit of the round takes the right away.
    store.hold();
    let going = tokio::spawn({
        let world = world.clone();
        async move { world.round().await }
    });
    tokio::task::block_in_place(|| store.wait_until_held());
    let author = ProjectReplica::new(ClientId::from_random([7; 4]));
    let entry = ProjectEdit::SetFile(path("late"), binary(b"late\0"));
    let update = Bytes::from(author.edit(&[entry]).unwrap());
    let patch = |base, reply| Command::Patch {
        update: update.clone(),
        base,
        who: Attribution::server(),
        reply,
    };
    let (reply, named) = tokio::sync::oneshot::channel();
    let projects = &world.state.projects;
    projects
        .tell(&world.project, patch(PutBase::Nearest, reply))
        .await;
    // Refused without a commit, and after the other was taken.
    let later = |reply| patch(PutBase::Version(u64::MAX), reply);
    projects.ask(&world.project, later).await.unwrap_err();
    store.release();
    named.await.unwrap().unwrap();
    assert_eq!(going.await.unwrap().rights, 1);
    assert_eq!(world.read(&hash).await, None);
    assert!(world.files().await.is_empty(), "it waits");
    world.upload(b"late\0").await;
    assert_eq!(world.files().await["late"], "late\0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_ends_a_round_it_leaves_all_whole_and_the_next_goes_on() {
    static NOW: AtomicU64 = AtomicU64::new(BEGIN);
    let temp = tempfile::tempdir().unwrap();
    let mut world = World::open(temp.path(), clock!(NOW)).await;
    let store = world.through_a_store_that_fails(temp.path(), clock!(NOW));
    world.upload(&large("garbage")).await;
    world.upload(b"garbage\0").await;
    // A crash of an upload: the file is there, and no row.
    let mut upload = world.state.blobs.upload(&world.project);
    upload.write(large("cut off").into()).await.unwrap();
    let failed = crate::store::StoreError::Failed {
        place: "the store".into(),
        detail: "for a test".into(),
    };
    store.fail_after(0, failed.clone());
    upload.finish(None, None).await.unwrap_err();
    store.heal();
    NOW.store(BEGIN + 2 * DAY, Ordering::SeqCst);
    // Each commit of a round fails once: first the rights, then the bytes.
    for (commits, gone, files) in [(0, (0, 0, 1), 1), (1, (2, 0, 0), 1)] {
        store.fail_after(commits, failed.clone());
        let round = world.round().await;
        assert_eq!((round.rights, round.blobs, round.files), gone, "{commits}");
        assert_eq!(blob_files(temp.path()), files);
        assert_whole(temp.path());
        store.heal();
    }
    let round = world.round().await;
    assert_eq!((round.rights, round.blobs, round.files), (0, 2, 1));
    assert_eq!(blob_files(temp.path()), 0);
    assert_whole(temp.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_lines_of_the_audit_log_go_and_numbers_go_on() {
    static NOW: AtomicU64 = AtomicU64::new(BEGIN);
    let temp = tempfile::tempdir().unwrap();
    let world = World::open(temp.path(), clock!(NOW)).await;
    let line = |day: u64| {
        Write::Audit(crate::store::AuditRecord {
            at: BEGIN + day * DAY,
            actor: "a".into(),
            action: "b.c".into(),
            project: None,
            detail: String::new(),
        })
    };
    let lines = (0..1200).map(|n| line(n / 100)).collect();
    world.state.committer.commit(lines).await.unwrap();
    NOW.store(BEGIN + 100 * DAY, Ordering::SeqCst);
    assert_eq!(world.round().await.audit, 1000, "of ten days");
    let left = world.state.store.audit(0, 9999).unwrap();
    assert_eq!((left.len(), left[0].0), (200, 1001));
    NOW.store(BEGIN + 1000 * DAY, Ordering::SeqCst);
    assert_eq!(world.round().await.audit, 200);
    world.state.committer.commit(vec![line(1)]).await.unwrap();
    assert_eq!(world.state.store.audit(0, 9).unwrap()[0].0, 1201);
}
