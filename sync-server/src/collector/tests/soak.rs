//! Uploads, entries, deletions, collections and restarts, all at once: see `uspark_tests::Row` and `make soak`.

use std::sync::atomic::{AtomicBool, AtomicUsize};

use fastrand::Rng;
use tokio::sync::RwLock;
use tokio::task::block_in_place;
use uspark_tests::Row;

use super::*;
use crate::store::backup;

/// Contents that everybody uses: few, so that what goes is wanted again.
const CONTENTS: usize = 24;
/// Paths of binary files, and as many of texts.
const PATHS: usize = 12;
const WRITERS: usize = 4;
/// Steps of each writer between two restarts.
const STEPS: usize = 60;

/// Milliseconds since 1970. It only goes on while nobody is between an upload and its entry: a client
/// that takes longer than the grace has no promise.
static NOW: AtomicU64 = AtomicU64::new(BEGIN);
static TIME: RwLock<()> = RwLock::const_new(());

/// What went, and how often somebody looked.
#[derive(Default)]
struct Totals {
    blobs: AtomicU64,
    texts: AtomicU64,
    versions: AtomicU64,
    looks: AtomicUsize,
}

fn content(which: usize) -> Vec<u8> {
    let name = format!("content {which}\n");
    match which % 3 {
        0 => large(&name),
        // With a NUL a binary, without one a text.
        1 => format!("{name}\0").into_bytes(),
        _ => name.into_bytes(),
    }
}

/// What one does to a project, and what must then be so.
async fn step(world: &World, random: &mut Rng) {
    let _time = TIME.read().await;
    let bytes = content(random.usize(..CONTENTS));
    let hash = BlobHash::of(&bytes);
    let (file, text) = (random.usize(..PATHS), random.usize(..PATHS));
    let (file, text) = (format!("file-{file}"), format!("text-{text}"));
    match random.usize(..11) {
        // Uploaded, and after a while named.
        0..=2 => {
            world.upload(&bytes).await;
            tokio::time::sleep(Duration::from_micros(random.u64(..3000))).await;
            world.name(&file, &bytes).await;
            assert!(world.read(&hash).await.is_some(), "{hash} was uploaded");
        }
        // Asked for, and named without an upload.
        3 | 4 => {
            let is_there = world.state.blobs.renew(&world.project, &hash).await;
            if is_there.unwrap() {
                world.name(&file, &bytes).await;
                let read = world.read(&hash).await;
                assert_eq!(read.as_deref(), Some(&bytes[..]), "{hash} was there");
            }
        }
        // Named by somebody who does not know whether it is there.
        5 => world.name(&file, &bytes).await,
        // Uploaded, and nothing else.
        6 => {
            world.upload(&bytes).await;
        }
        7 => world.remove(&file).await,
        8 => world.remove(&text).await,
        9 => {
            let line = random.usize(..9);
            world.write(&text, &format!("line {line}\n")).await;
        }
        // What is shown is there.
        _ => drop(world.files().await),
    }
}

/// Short, so that what goes is often wanted again.
fn retention() -> Retention {
    let hours = |hours: u64| Duration::from_secs(hours * 60 * 60);
    Retention {
        blob_grace: hours(24),
        keep_versions: hours(36),
        keep_deleted: hours(36),
        ..Retention::default()
    }
}

/// Lets hours pass.
async fn pass(hours: u64) {
    let _time = TIME.write().await;
    NOW.fetch_add(hours * DAY / 24, Ordering::SeqCst);
}

/// Round after round, in a time that flies.
async fn collect(world: World, totals: Arc<Totals>) {
    loop {
        let round = world.round().await;
        totals.blobs.fetch_add(round.blobs, Ordering::SeqCst);
        totals.texts.fetch_add(round.texts, Ordering::SeqCst);
        totals.versions.fetch_add(round.versions, Ordering::SeqCst);
        pass(9).await;
    }
}

/// Verifies and copies the directory while it is served, as an operator does.
fn look(data: &Path, over: &AtomicBool, totals: &Totals, mut random: Rng) {
    while !over.load(Ordering::SeqCst) {
        if random.usize(..3) == 0 {
            let place = tempfile::tempdir().unwrap();
            backup(data, &place.path().join("backup"), &mut |_| {}).unwrap();
        } else {
            assert_whole(data);
        }
        totals.looks.fetch_add(1, Ordering::SeqCst);
        uspark_tests::pause(Duration::from_millis(random.u64(1..80)));
    }
}

/// A server from start to stop. For the collector the end is a kill: what it is at is left as it is.
async fn serve(data: &Path, random: &mut Rng, totals: &Arc<Totals>) {
    let world = World::keeping(data, clock!(NOW), retention()).await;
    let over = Arc::new(AtomicBool::new(false));
    let collecting = tokio::spawn(collect(world.clone(), Arc::clone(totals)));
    let looking = {
        let (data, over, random) = (data.to_owned(), Arc::clone(&over), random.fork());
        let totals = Arc::clone(totals);
        std::thread::spawn(move || look(&data, &over, &totals, random))
    };
    let write = |mut random: Rng| {
        let world = world.of_another();
        tokio::spawn(async move {
            for _ in 0..STEPS {
                step(&world, &mut random).await;
            }
        })
    };
    let writers: Vec<_> = (0..WRITERS).map(|_| write(random.fork())).collect();
    for writer in writers {
        writer.await.unwrap();
    }
    over.store(true, Ordering::SeqCst);
    block_in_place(|| looking.join()).unwrap();
    collecting.abort();
    assert!(collecting.await.unwrap_err().is_cancelled());
    world.files().await;
    world.end(data).await;
    assert_whole(data);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_named_blob_is_ever_lost_and_all_garbage_goes() {
    let mut row = Row::begin("no named blob is ever lost, and all garbage goes");
    let temp = tempfile::tempdir().unwrap();
    let (data, clock) = (temp.path(), clock!(NOW));
    let starts = row.count(60, 3);
    let (mut random, totals) = (row.random.fork(), Arc::<Totals>::default());
    for start in 0..starts {
        serve(data, &mut random, &totals).await;
        if start % 10 == 9 {
            let looks = totals.looks.load(Ordering::SeqCst);
            row.tell(format_args!("{} starts, {looks} checks", start + 1));
        }
    }
    // In the end nobody wants anything.
    let world = World::open(data, clock).await;
    for number in 0..PATHS {
        world.remove(&format!("file-{number}")).await;
        world.remove(&format!("text-{number}")).await;
    }
    for path in world.files().await.keys() {
        world.remove(path).await;
    }
    world.end(data).await;
    let world = World::open(data, clock).await;
    pass(24 * 31).await;
    world.round().await;
    assert_eq!(world.round().await, Round::default());
    assert_eq!(world.state.store.texts(&world.project).unwrap(), []);
    let findings = check(data, &mut |_| {}).unwrap();
    assert!(findings.is_whole() && findings.blobs == 0, "{findings:?}");
    assert_eq!(blob_files(data), 0);
    row.held(format_args!(
        "{} steps, {starts} starts; {} blobs, {} texts, {} versions went; {} checks and backups meanwhile",
        starts * WRITERS * STEPS,
        totals.blobs.load(Ordering::SeqCst),
        totals.texts.load(Ordering::SeqCst),
        totals.versions.load(Ordering::SeqCst),
        totals.looks.load(Ordering::SeqCst),
    ));
}
