//! After a barrier, workspace and project are equal, whatever happened to the tree.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
};

use uspark_tests::Row;

use crate::watched::{Watched, fill, some_bytes};

#[test]
fn directories_made_and_written_into_at_once() {
    let row = Row::begin("mkdir -p a/b/c and a write");
    let watched = Watched::start();
    let rounds = row.count(100, 5);
    for round in 0..rounds {
        watched.bash(&format!(
            "mkdir -p r{round}/a/b/c && echo x > r{round}/a/b/c/f"
        ));
        watched.check();
    }
    watched.end();
    row.held(format!("{rounds} rounds, 0 differences"));
}

#[test]
fn a_tree_that_is_copied() {
    let mut row = Row::begin("cp -r of many files");
    let watched = Watched::start();
    let (directories, each) = if row.is_full() { (100, 20) } else { (20, 10) };
    let source = watched.workspace.outside().join("source");
    fill(&mut row.random, &source, directories, each);
    let rounds = row.count(100, 3);
    for round in 0..rounds {
        // Two copies are there at all times: most of the workspace never goes at once.
        let old = round.wrapping_sub(2);
        watched.bash(&format!(
            "cp -r {} c{round}; rm -rf c{old}",
            source.display()
        ));
        watched.check();
    }
    watched.end();
    row.held(format!(
        "{rounds} copies of {} files, 0 differences",
        directories * each
    ));
}

/// Branches that are checked out in turn.
const BRANCHES: usize = 3;

#[test]
fn branches_checked_out_back_and_forth() {
    let mut row = Row::begin("git checkout back and forth");
    let watched = Watched::start();
    let files = row.count(5000, 500);
    watched.bash("git init -q && git config user.name me && git config user.email me@example.com");
    for branch in 0..BRANCHES {
        for file in 0..files {
            change(
                &mut row.random,
                &watched.workspace.path(&format!("d{}/f{file}", file % 50)),
                branch,
            );
        }
        watched.bash(&format!(
            "git checkout -q -b b{branch} && git add -A && git commit -q -m {branch}"
        ));
    }
    watched.check();
    let rounds = row.count(100, 4);
    let mut at = BRANCHES - 1;
    for _ in 0..rounds {
        at = (at + row.random.usize(1..BRANCHES)) % BRANCHES;
        watched.bash(&format!(
            "git checkout -q b{at} && test -z \"$(git status --porcelain)\""
        ));
        watched.check();
    }
    watched.end();
    row.held(format!(
        "{rounds} checkouts of {files} files, 0 differences"
    ));
}

/// What a branch does to a file of the one before: half of them stay, the others change, go, come back, or can be run.
fn change(random: &mut fastrand::Rng, path: &Path, branch: usize) {
    fs::create_dir_all(path.parent().expect("a file has a directory"))
        .expect("a directory of our own");
    let old = fs::read(path).unwrap_or_default();
    match random.u8(..10) {
        _ if branch == 0 => fs::write(path, some_bytes(random)).expect("a file of our own"),
        0..5 => {}
        5 => drop(fs::remove_file(path)),
        6 => fs::write(path, some_bytes(random)).expect("a file of our own"),
        _ => {
            fs::write(path, [old, b"one line more\n".to_vec()].concat()).expect("a file of our own")
        }
    }
}

#[test]
fn packages_installed_and_removed() {
    let row = Row::begin("npm install of a local package");
    let watched = Watched::start();
    let library = watched.workspace.outside().join("library");
    fs::create_dir(&library).unwrap();
    fs::write(library.join("index.js"), "export const one = 1\n").unwrap();
    watched.bash("echo '{\"name\": \"app\", \"version\": \"1.0.0\"}' > package.json");
    let rounds = row.count(100, 2);
    for round in 0..rounds {
        let package = format!("{{\"name\": \"library\", \"version\": \"1.0.{round}\"}}");
        fs::write(library.join("package.json"), package).unwrap();
        let npm = "npm --offline --no-audit --no-fund --silent --install-links";
        watched.bash(&format!(
            "{npm} install {} && test -f node_modules/library/index.js",
            library.display()
        ));
        watched.check();
        let manifest = watched.project.outline().unwrap();
        let paths: Vec<&String> = manifest.keys().collect();
        assert_eq!(
            paths,
            ["package-lock.json", "package.json"],
            "what npm made"
        );
        watched.bash(&format!("{npm} uninstall library"));
        watched.check();
    }
    watched.end();
    row.held(format!("{rounds} times in and out, 0 differences"));
}

#[test]
fn directories_moved_in_from_outside_and_out_again() {
    let mut row = Row::begin("moves of directories in and out");
    let watched = Watched::start();
    let mut random = row.random.fork();
    // What stays is more than what goes at once.
    fill(&mut random, &watched.workspace.path("kept"), 20, 10);
    let outside = watched.workspace.outside().join("outside");
    let names: Vec<String> = (0..5).map(|number| format!("m{number}")).collect();
    for name in &names {
        fill(&mut random, &outside.join(name).join("deep/er"), 5, 5);
    }
    let rounds = row.count(100, 10);
    let mut places: Vec<PathBuf> = names.iter().map(|name| outside.join(name)).collect();
    for _ in 0..rounds {
        // Some rounds move more than once before the barrier, and so the same directory twice.
        let moves = random.usize(1..4);
        let script = (0..moves).map(|_| {
            let which = random.usize(..places.len());
            let place = match random.u8(..3) {
                0 => outside.join(&names[which]),
                1 => watched.workspace.path(&format!("in/{}", names[which])),
                _ => watched
                    .workspace
                    .path(&format!("kept/d{}/{}", random.u8(..3), names[which])),
            };
            let from = std::mem::replace(&mut places[which], place.clone());
            match from == place {
                true => String::new(),
                false => format!("mv {} {}\n", from.display(), place.display()),
            }
        });
        let script: String = script.collect();
        watched.bash(&format!("set -e; mkdir -p in\n{script}"));
        watched.check();
    }
    watched.end();
    row.held(format!("{rounds} rounds, 0 differences"));
}

#[test]
fn a_tree_removed_while_it_is_written_into() {
    let mut row = Row::begin("rm -rf racing writes");
    let watched = Watched::start();
    fill(&mut row.random, &watched.workspace.path("kept"), 20, 10);
    let rounds = row.count(100, 5);
    for _ in 0..rounds {
        let tree = watched.workspace.path("tree");
        let mut random = row.random.fork();
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..300 {
                    let directory = tree.join(format!("a{}/b{}", random.u8(..3), random.u8(..3)));
                    // What is being removed may go between the two steps.
                    let _ = fs::create_dir_all(&directory).and_then(|()| {
                        fs::write(directory.join(format!("f{}", random.u8(..20))), "text\n")
                    });
                }
            });
            for _ in 0..20 {
                // As `rm -rf` does, it fails where something new has come.
                let _ = fs::remove_dir_all(&tree);
            }
        });
        watched.check();
    }
    watched.end();
    row.held(format!("{rounds} rounds, 0 differences"));
}
