//! The watcher against a real kernel: after a barrier it knows what a walk finds.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::AtomicBool;

use tokio::sync::mpsc::Receiver;

use super::limited::Limited;
use super::lossy::Lossy;
use super::*;
use crate::disk::observe::{IfWritten, Seen};

/// A watcher, and a model of the tree made of nothing but its reports.
struct Watched {
    dir: tempfile::TempDir,
    root: Arc<Root>,
    state: StateDir,
    events: Receiver<WatchEvent>,
    watcher: Option<Watcher>,
    thread: tokio::task::JoinHandle<()>,
    model: BTreeSet<String>,
    reports: Vec<Dirty>,
    others: Vec<WatchEvent>,
    barriers: u32,
}

impl Watched {
    async fn new(files: &[(&str, &str)]) -> Self {
        Self::with(files, Box::new(InotifyNotifier::new().unwrap())).await
    }

    async fn with(files: &[(&str, &str)], notifier: Box<dyn Notifier>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let root = Arc::new(Root::open(dir.path()).unwrap());
        let state = StateDir::open(&root).unwrap();
        let (sender, events) = tokio::sync::mpsc::channel(8);
        let (watcher, thread) = Watcher::start(notifier, Arc::clone(&root), &state, sender);
        let mut watched = Self {
            dir,
            root,
            state,
            events,
            watcher: Some(watcher),
            thread,
            model: BTreeSet::new(),
            reports: Vec::new(),
            others: Vec::new(),
            barriers: 0,
        };
        watched
            .until(|event| matches!(event, WatchEvent::ListingEnded))
            .await;
        watched
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn sh(&self, script: &str) {
        let mut command = Command::new("sh");
        let status = command
            .arg("-ec")
            .arg(script)
            .current_dir(self.dir.path())
            .status();
        assert!(status.unwrap().success(), "{script}");
    }

    async fn until(&mut self, end: impl Fn(&WatchEvent) -> bool) {
        loop {
            let event = tokio::time::timeout(Duration::from_secs(20), self.events.recv());
            let event = event
                .await
                .expect("an event in time")
                .expect("a live watcher");
            let ended = end(&event);
            match event {
                WatchEvent::Dirty(dirty) => dirty.into_iter().for_each(|dirty| self.look(dirty)),
                WatchEvent::ListingEnded => self.look_at_known(),
                other => self.others.push(other),
            }
            if ended {
                return;
            }
        }
    }

    /// What the engine does with a report, in short.
    fn look(&mut self, dirty: Dirty) {
        let path = dirty.path.as_str().to_owned();
        self.reports.push(dirty.clone());
        match self
            .root
            .observe(&dirty.path, None, IfWritten::Read)
            .unwrap()
        {
            Seen::Absent => {
                let below = format!("{path}/");
                self.model.retain(|p| *p != path && !p.starts_with(&below));
            }
            _ if dirty.ignored => {}
            _ => drop(self.model.insert(path)),
        }
    }

    /// What the engine does when everything was listed: what was not may be gone.
    fn look_at_known(&mut self) {
        let root = self.dir.path();
        self.model
            .retain(|path| std::fs::symlink_metadata(root.join(path)).is_ok());
    }

    fn notes(&self, word: &str) -> usize {
        let with = |e: &&WatchEvent| matches!(e, WatchEvent::Note(note) if note.contains(word));
        self.others.iter().filter(with).count()
    }

    async fn barrier(&mut self) {
        self.barriers += 1;
        let name = format!("barrier-{}", self.barriers);
        self.watcher.as_ref().unwrap().expect(&name);
        self.state.touch_cookie(&name).unwrap();
        self.until(|event| *event == WatchEvent::Cookie(name.clone()))
            .await;
    }

    /// The tree as it is, without what is ignored by name.
    fn walk(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut left = vec![self.dir.path().to_owned()];
        while let Some(dir) = left.pop() {
            for entry in std::fs::read_dir(dir).unwrap().flatten() {
                let name = entry.file_name();
                if name == ".uspark" || name == "node_modules" {
                    continue;
                }
                if entry.file_type().unwrap().is_dir() {
                    left.push(entry.path());
                }
                let relative = entry
                    .path()
                    .strip_prefix(self.dir.path())
                    .unwrap()
                    .to_owned();
                found.insert(relative.into_os_string().into_string().unwrap());
            }
        }
        found
    }

    async fn assert_equal(&mut self, what: &str) {
        self.barrier().await;
        let (model, walk) = (&self.model, self.walk());
        let missed: Vec<_> = walk.difference(model).take(5).collect();
        let ghosts: Vec<_> = model.difference(&walk).take(5).collect();
        assert!(
            missed.is_empty() && ghosts.is_empty(),
            "{what}: {missed:?} {ghosts:?}"
        );
    }

    async fn stop(mut self) {
        drop(self.watcher.take());
        self.events.close();
        while self.events.recv().await.is_some() {}
        tokio::time::timeout(Duration::from_secs(10), self.thread)
            .await
            .unwrap()
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_trees_appear_move_and_vanish() {
    let mut watched = Watched::new(&[("a/b/f", "x"), ("g", "y")]).await;
    watched.assert_equal("the first listing").await;
    let outside = tempfile::tempdir().unwrap();
    let o = outside.path().display();
    watched.sh(&format!(
        "cd {o}; for d in 1 2 3 4 5 6 7 8 9 10; do mkdir -p t/$d/e; for f in 1 2 3 4 5; do echo $f > t/$d/e/$f; done; done"
    ));
    for round in 0..10 {
        watched.sh(&format!("cp -r {o}/t t{round}"));
        watched.assert_equal("cp -r").await;
        watched.sh(&format!(
            "mkdir -p m{round}/a/b/c && echo x > m{round}/a/b/c/f"
        ));
        watched.assert_equal("mkdir -p and a write").await;
        watched.sh(&format!(
            "mv m{round}/a m{round}/z && echo y > m{round}/z/b/g && mv t{round} m{round}/z/t"
        ));
        watched.assert_equal("moves of directories").await;
        watched.sh(&format!("mv m{round}/z {o}/out{round}"));
        watched.assert_equal("a move out").await;
        watched.sh(&format!(
            "mv {o}/out{round} back{round} && echo z > back{round}/b/c/new"
        ));
        watched.assert_equal("a move in").await;
        watched.sh(&format!("rm -rf back{round}/t & (mkdir -p back{round}/new/x; echo 1 > back{round}/new/x/y); wait"));
        watched.assert_equal("rm -rf beside writes").await;
        watched.sh(&format!("rm -rf back{round} m{round}"));
        watched.assert_equal("rm -rf").await;
    }
    watched.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_is_reported_when_it_is_complete_and_reading_wakes_nobody() {
    let mut watched = Watched::new(&[("f", "x"), ("d/g", "y")]).await;
    watched.barrier().await;
    watched.reports.clear();
    let events = |watched: &Watched| watched.watcher.as_ref().unwrap().events();
    let before = events(&watched);
    watched.sh("cat f d/g > /dev/null; ls -R . > /dev/null; grep -r x d || true");
    watched.barrier().await;
    assert_eq!(watched.reports, []);
    assert_eq!(events(&watched), before, "the kernel told of readers");
    watched.sh("echo new > f; chmod +x d/g; ln -s f l");
    watched.barrier().await;
    let urgency = |path: &str| {
        watched
            .reports
            .iter()
            .filter(|d| d.path.as_str() == path)
            .map(|d| d.urgency)
            .max()
    };
    assert_eq!(urgency("f"), Some(Urgency::Now));
    assert_eq!(urgency("d/g"), Some(Urgency::Soon));
    assert_eq!(urgency("l"), Some(Urgency::Soon));
    watched.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renames_are_paired_also_inside_a_renamed_directory() {
    let mut watched = Watched::new(&[("f", "x"), ("d/e/g", "y")]).await;
    watched.barrier().await;
    watched.reports.clear();
    watched.sh("mv f h; mv d k");
    watched.barrier().await;
    let from = |path: &str| {
        let mut reports = watched.reports.iter().filter(|d| d.path.as_str() == path);
        reports
            .find_map(|d| d.moved_from.as_ref())
            .map(|from| from.as_str().to_owned())
    };
    assert_eq!(from("h").as_deref(), Some("f"));
    assert_eq!(from("k/e/g").as_deref(), Some("d/e/g"));
    watched.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ignored_directories_get_no_watch_until_they_are_required_or_unignored() {
    let mut watched = Watched::new(&[(".gitignore", "build/\n*.log\n"), ("build/x/f", "x")]).await;
    watched.sh(
        "mkdir -p node_modules/p; echo 1 > node_modules/p/i.js; echo 2 > build/x/f; echo 3 > a.log",
    );
    watched.barrier().await;
    let named = |watched: &Watched, name: &str| {
        watched
            .reports
            .iter()
            .filter(|d| d.path.as_str().starts_with(name))
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(named(&watched, "build"), []);
    assert!(
        named(&watched, "node_modules")
            .iter()
            .all(|d| d.ignored && d.path.as_str() == "node_modules")
    );
    assert!(named(&watched, "a.log").iter().all(|d| d.ignored));
    watched
        .watcher
        .as_ref()
        .unwrap()
        .require("build/x".parse().unwrap());
    watched.until(|event| matches!(event, WatchEvent::Dirty(d) if d.iter().any(|d| d.path.as_str() == "build/x/f"))).await;
    watched.sh("echo '' > .gitignore; echo 4 > build/x/g");
    watched.barrier().await;
    assert!(named(&watched, "build/x/g").iter().any(|d| !d.ignored));
    assert!(named(&watched, "a.log").iter().any(|d| !d.ignored));
    watched.assert_equal("after the rules changed").await;
    watched.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_are_no_paths_are_told() {
    use std::os::unix::ffi::OsStrExt as _;
    let mut watched = Watched::new(&[]).await;
    std::fs::write(
        watched
            .dir
            .path()
            .join(std::ffi::OsStr::from_bytes(b"bad\xff")),
        "x",
    )
    .unwrap();
    watched.sh("mkdir .git && echo x > .git/config; echo ok > ok");
    watched.barrier().await;
    let told =
        |e: &WatchEvent| matches!(e, WatchEvent::Unseen { why, .. } if why.contains("UTF-8"));
    assert!(watched.others.iter().any(told));
    assert!(watched.reports.iter().all(|d| d.path.as_str() == "ok"));
    watched.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_that_goes_says_nothing_about_its_files() {
    let mut watched = Watched::new(&[("f", "x")]).await;
    watched.reports.clear();
    let (at, away) = (watched.at(""), watched.at("").with_extension("away"));
    std::fs::rename(&at, &away).unwrap();
    watched.until(|event| *event == WatchEvent::RootLost).await;
    assert_eq!(watched.reports, []);
    std::fs::rename(&away, &at).unwrap();
    watched
        .until(|event| matches!(event, WatchEvent::ListingEnded))
        .await;
    watched.assert_equal("after it came back").await;
    watched.stop().await;
}

/// Keeps the kernel's events back as long as it is told to, as a queue does whose reader is late.
struct Late {
    inner: InotifyNotifier,
    is_late: Arc<AtomicBool>,
    kept: Vec<RawEvent>,
}

impl Notifier for Late {
    fn add(&mut self, directory: &Path) -> io::Result<WatchId> {
        self.inner.add(directory)
    }

    fn remove(&mut self, watch: WatchId) {
        self.inner.remove(watch);
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Vec<RawEvent>> {
        self.kept.extend(self.inner.wait(timeout)?);
        match self.is_late.load(Ordering::Relaxed) {
            true => Ok(Vec::new()),
            false => Ok(std::mem::take(&mut self.kept)),
        }
    }

    fn waker(&self) -> Waker {
        self.inner.waker()
    }
}

/// The events of what was there before tell nothing of what a listing has found in its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_are_older_than_a_listing_end_no_watch_of_it() {
    for goes in ["rm -r d", "mv d away"] {
        let is_late = Arc::new(AtomicBool::new(false));
        let notifier = Late {
            inner: InotifyNotifier::new().unwrap(),
            is_late: Arc::clone(&is_late),
            kept: Vec::new(),
        };
        let mut watched = Watched::with(&[("d/e/f", "x")], Box::new(notifier)).await;
        watched.barrier().await;
        is_late.store(true, Ordering::Relaxed);
        watched.sh(&format!(
            "{goes}; mkdir -p d/e; echo y > d/g; echo y > d/e/g"
        ));
        watched.watcher.as_ref().unwrap().relist();
        watched
            .until(|event| matches!(event, WatchEvent::ListingEnded))
            .await;
        // The listing has told of them; what it has not told of is looked at.
        assert!(watched.model.contains("d/g") && watched.model.contains("d/e/g"));
        watched.model = watched.walk();
        watched.sh("rm d/g d/e/g; echo z > d/h");
        is_late.store(false, Ordering::Relaxed);
        watched.assert_equal(goes).await;
        watched.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_events_are_made_up_for() {
    let notifier = Lossy::new(fastrand::Rng::with_seed(1));
    let mut watched = Watched::with(&[("d/f", "x")], Box::new(notifier)).await;
    // The cookie may be among the lost as well.
    let mut round = 0;
    while round < 20 || watched.notes("were lost") == 0 && round < 200 {
        watched.sh(&format!(
            "mkdir -p n{round}/a/b; for i in 1 2 3 4 5 6 7 8; do echo $i > n{round}/a/b/$i; echo $i > d/$i; done"
        ));
        watched.sh(&format!("rm -rf n{}", round / 2));
        watched.assert_equal("after lost events").await;
        round += 1;
    }
    assert!(watched.notes("were lost") > 0, "no overflow was injected");
    watched.stop().await;
}

/// Tells of nothing but cookies, and in front of each that events were lost.
struct Blind(InotifyNotifier);

impl Notifier for Blind {
    fn add(&mut self, directory: &Path) -> io::Result<WatchId> {
        self.0.add(directory)
    }

    fn remove(&mut self, watch: WatchId) {
        self.0.remove(watch);
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Vec<RawEvent>> {
        let mut events = self.0.wait(timeout)?;
        let name = |event: &RawEvent| event.name.as_ref()?.to_str().map(ToOwned::to_owned);
        events.retain(|event| name(event).is_some_and(|name| name.starts_with("barrier-")));
        if !events.is_empty() {
            events.insert(0, RawEvent::overflow());
        }
        Ok(events)
    }

    fn waker(&self) -> Waker {
        self.0.waker()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cookie_behind_lost_events_waits_for_the_listing() {
    let notifier = Blind(InotifyNotifier::new().unwrap());
    let mut watched = Watched::with(&[("d/f", "x")], Box::new(notifier)).await;
    for script in ["echo 1 > d/1", "mkdir e; mv d/f e/g", "rm -r d"] {
        watched.sh(script);
        watched.assert_equal(script).await;
    }
    watched.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn past_the_limit_of_watches_a_barrier_holds_all_the_same() {
    // None; the cookies' directory; the root too; and one of two directories.
    for limit in 0..4 {
        let notifier = Limited::new(limit);
        let files = [("a/f", "x"), ("b/f", "y")];
        let mut watched = Watched::with(&files, Box::new(notifier)).await;
        for (round, script) in [
            "echo 1 > a/new; echo 2 > b/new; echo 3 > new",
            "mkdir -p c/d && echo x > c/d/f",
            "mv a/f b/g; mv c/d e; rm b/f",
            "rm -rf e b",
        ]
        .into_iter()
        .enumerate()
        {
            watched.sh(script);
            watched
                .assert_equal(&format!("limit {limit}, {round}"))
                .await;
        }
        assert_eq!(watched.notes("not every directory"), 1, "limit {limit}");
        watched.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_tree_does_not_keep_what_is_not_watched_from_being_listed() {
    let notifier = Limited::new(2);
    let mut watched = Watched::with(&[("d/f", "x")], Box::new(notifier)).await;
    watched.sh("echo 1 > d/new");
    let (stop, busy) = (Arc::new(AtomicU64::new(0)), watched.at("busy"));
    let stopped = Arc::clone(&stop);
    let writer = std::thread::spawn(move || {
        while stopped.load(Ordering::Relaxed) == 0 {
            std::fs::write(&busy, "x").unwrap();
        }
    });
    let reported = |event: &WatchEvent| matches!(event, WatchEvent::Dirty(d) if d.iter().any(|d| d.path.as_str() == "d/new"));
    let found = tokio::time::timeout(Duration::from_secs(20), watched.until(reported)).await;
    stop.store(1, Ordering::Relaxed);
    writer.join().unwrap();
    found.expect("it is listed while the root is written all the time");
    watched.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_barrier_holds_when_its_cookie_cannot_be_seen() {
    let mut watched = Watched::new(&[("d/f", "x")]).await;
    let cookies = watched.state.cookies();
    // Whoever removes the directory leaves nothing to watch, and nowhere to put the next.
    for script in ["echo 1 > d/1", "rm -r d/f; echo 2 > d/2"] {
        watched.sh(script);
        std::fs::remove_dir_all(&cookies).unwrap();
        watched.watcher.as_ref().unwrap().expect(script);
        watched.watcher.as_ref().unwrap().relist();
        watched
            .until(|event| *event == WatchEvent::Cookie(script.to_owned()))
            .await;
        assert_eq!(watched.model, watched.walk());
        std::fs::create_dir(&cookies).unwrap();
    }
    watched.assert_equal("once it is back").await;
    watched.stop().await;
}
