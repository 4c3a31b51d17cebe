//! Trees that come, move and go, while events are lost.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::watch::lossy::Lossy;

/// Trees that are there at once.
const TREES: usize = 4;
/// A file that is away for longer is taken for deleted, and rightly so.
const BLINK: Duration = Duration::from_millis(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_events_lose_no_file_and_delete_none() {
    let mut row = Row::begin("trees while events are lost");
    let (rounds, each) = (row.count(350, 10), row.count(100, 1));
    let notifier = Lossy::new(row.random.fork());
    let lost = notifier.lost();
    let server = Double::new();
    let mut forest = Forest::new(row.random.fork());
    let mut config = forest.place.config(Direction::Both);
    // Whole trees go here because somebody means it.
    config.mass_delete = MassDelete::Passes;
    let to = Arc::new(server.clone());
    let session = Session::start_on(config, forest.place.sink(), to, Box::new(notifier));
    let agent = Agent::on(session.await.unwrap());
    let mut checked = 0;
    let mut round = 0;
    let mut done: BTreeMap<&str, usize> = STEPS.map(|step| (step, 0)).into();
    // A short form may be too short to lose anything, and chance may forget a step.
    while round < rounds
        || round < 10 * rounds
            && (lost.load(Ordering::Relaxed) == 0 || done.values().any(|times| *times < each))
    {
        forest.gone.clear();
        let told = server.seen().removals.len();
        let steps: Vec<&str> = (0..row.random.usize(1..4)).map(|_| forest.step()).collect();
        agent.equal().await;
        for step in &steps {
            // One that found nothing to do is none of them.
            done.entry(step).and_modify(|times| *times += 1);
        }
        let tree = forest.place.tree();
        assert_same(&server.tree(), &tree, &format!("{round}: {steps:?}"));
        for path in &server.seen().removals[told..] {
            let is_false = tree.contains_key(path) && !forest.gone.contains(path);
            assert!(!is_false, "{round}: {steps:?} never removed {path}");
        }
        checked += tree.len();
        round += 1;
    }
    agent.finish().await;
    let lost = lost.load(Ordering::Relaxed);
    assert!(lost > 0, "no event was lost");
    let least = done.values().min();
    assert!(least >= Some(&each), "{done:?}");
    let removed = server.seen().removals.len();
    row.held(format!(
        "{checked} paths compared after {round} barriers, 0 differences; {removed} removed, 0 of \
         them falsely; {lost} events lost; {done:?}"
    ));
}

fn assert_same(there: &BTreeMap<String, String>, here: &BTreeMap<String, String>, what: &str) {
    let differs: Vec<_> = there
        .keys()
        .chain(here.keys())
        .filter(|path| there.get(*path) != here.get(*path))
        .take(5)
        .map(|path| (path, there.get(path), here.get(path)))
        .collect();
    assert!(differs.is_empty(), "{what}: {differs:?}");
}

/// What is done to them, by name.
const STEPS: [&str; 6] = [
    "copy",
    "check out",
    "move inside",
    "move out and in",
    "remove while writing",
    "save over",
];

/// Trees of files in a workspace, and what did to them what programs do.
struct Forest {
    place: Place,
    outside: tempfile::TempDir,
    random: fastrand::Rng,
    trees: Vec<String>,
    made: usize,
    /// Paths that were away at some time, so that they may be deleted.
    gone: BTreeSet<String>,
}

impl Forest {
    fn new(random: fastrand::Rng) -> Self {
        Self {
            place: Place::new(),
            outside: tempfile::tempdir().unwrap(),
            random,
            trees: Vec::new(),
            made: 0,
            gone: BTreeSet::new(),
        }
    }

    /// Does one thing, and gives its name.
    fn step(&mut self) -> &'static str {
        let before = self.paths();
        let done = match (self.trees.len(), self.random.u8(..7)) {
            (0, _) => self.copy(),
            (TREES, 0 | 1) => self.remove_while_writing(),
            (_, 0 | 1) => self.copy(),
            (_, 2) => self.check_out(),
            (_, 3) => self.move_inside(),
            (_, 4) => self.move_out_and_in(),
            (_, 5) => self.remove_while_writing(),
            _ => self.save_over(),
        };
        let after = self.paths();
        self.gone.extend(before.difference(&after).cloned());
        done
    }

    fn paths(&self) -> BTreeSet<String> {
        self.place.tree().into_keys().collect()
    }

    fn fresh(&mut self) -> usize {
        self.made += 1;
        self.made
    }

    fn any_tree(&mut self) -> String {
        let at = self.random.usize(..self.trees.len());
        self.trees[at].clone()
    }

    /// The files of a tree, by their whole paths.
    fn files(&self, tree: &str) -> Vec<String> {
        let prefix = format!("{tree}/");
        let files = self.place.tree().into_iter();
        files
            .filter(|(path, content)| path.starts_with(&prefix) && content != "directory")
            .map(|(path, _)| path)
            .collect()
    }

    fn content(&mut self) -> Vec<u8> {
        let n = self.fresh();
        match self.random.u8(..8) {
            0 => vec![0, n as u8, (n >> 8) as u8, (n >> 16) as u8],
            _ => format!("file {n}\n").repeat(n % 9).into_bytes(),
        }
    }

    /// `cp -r`.
    fn copy(&mut self) -> &'static str {
        let tree = format!("t{}", self.fresh());
        let mut directories = vec![tree.clone()];
        for _ in 0..self.random.usize(20..80) {
            let mut directory = directories[self.random.usize(..directories.len())].clone();
            if self.random.u8(..4) == 0 {
                directory = format!("{directory}/d{}", self.fresh());
                directories.push(directory.clone());
            }
            let (name, content) = (self.fresh(), self.content());
            self.place.write(&format!("{directory}/f{name}"), content);
        }
        self.trees.push(tree);
        "copy"
    }

    /// What `git checkout` does: some files go, some come, some are removed and made anew.
    fn check_out(&mut self) -> &'static str {
        let tree = self.any_tree();
        for path in self.files(&tree) {
            match self.random.u8(..4) {
                0 => std::fs::remove_file(self.place.at(&path)).unwrap(),
                1 => {
                    let name = format!("{path}-{}", self.fresh());
                    let content = self.content();
                    self.place.write(&name, content);
                }
                _ => {
                    let content = self.content();
                    let away = Instant::now();
                    std::fs::remove_file(self.place.at(&path)).unwrap();
                    self.place.write(&path, content);
                    if away.elapsed() > BLINK {
                        self.gone.insert(path);
                    }
                }
            }
        }
        "check out"
    }

    fn move_inside(&mut self) -> &'static str {
        let tree = self.any_tree();
        let to = self.trees[0].clone();
        let new = format!("{to}/moved{}", self.fresh());
        let from = match self.files(&tree).first() {
            // A directory below the tree, or a file.
            Some(file) => {
                let end = file[tree.len() + 1..].find('/');
                end.map_or(file.clone(), |end| file[..tree.len() + 1 + end].to_owned())
            }
            None => return "nothing to move",
        };
        std::fs::create_dir_all(self.place.at(&to)).unwrap();
        std::fs::rename(self.place.at(&from), self.place.at(&new)).unwrap();
        let renamed = format!("t{}", self.fresh());
        std::fs::rename(self.place.at(&tree), self.place.at(&renamed)).unwrap();
        self.trees.retain(|other| *other != tree);
        self.trees.push(renamed.clone());
        self.place.write(&format!("{renamed}/after"), "the move\n");
        "move inside"
    }

    fn move_out_and_in(&mut self) -> &'static str {
        let tree = self.any_tree();
        let away = self.outside.path().join(&tree);
        let files = self.files(&tree);
        std::fs::rename(self.place.at(&tree), &away).unwrap();
        self.gone.extend(files);
        let back = format!("t{}", self.fresh());
        std::fs::rename(&away, self.place.at(&back)).unwrap();
        self.place.write(&format!("{back}/after"), "it came back\n");
        self.trees.retain(|other| *other != tree);
        self.trees.push(back);
        "move out and in"
    }

    /// `rm -rf`, while somebody writes into what it removes.
    fn remove_while_writing(&mut self) -> &'static str {
        let tree = self.any_tree();
        self.gone.extend(self.files(&tree));
        let at = self.place.at(&tree);
        let over = AtomicBool::new(false);
        let first = self.fresh();
        let (place, over, tree_name) = (&self.place, &over, &tree);
        let wrote = std::thread::scope(|scope| {
            let writer = scope.spawn(move || {
                let mut wrote = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    let n = wrote.len();
                    let path = format!("{tree_name}/r{}/w{first}-{n}", n % 3);
                    let at = place.at(&path);
                    // The directory may be removed between the two.
                    let _ = std::fs::create_dir_all(at.parent().unwrap())
                        .and_then(|()| std::fs::write(&at, format!("racing {n}\n")));
                    wrote.push(path);
                }
                wrote
            });
            for _ in 0..3 {
                // A directory that is filled meanwhile cannot be removed.
                let _ = std::fs::remove_dir_all(&at);
            }
            over.store(true, Ordering::Relaxed);
            writer.join().unwrap()
        });
        self.gone.extend(wrote);
        if !self.place.at(&tree).exists() {
            self.trees.retain(|other| *other != tree);
        }
        "remove while writing"
    }

    /// Atomic saves: the files are there all the time.
    fn save_over(&mut self) -> &'static str {
        let tree = self.any_tree();
        for path in self.files(&tree) {
            let content = self.content();
            let aside = format!("{path}.tmp.1.{}", self.fresh());
            self.place.write(&aside, content);
            std::fs::rename(self.place.at(&aside), self.place.at(&path)).unwrap();
        }
        "save over"
    }
}
