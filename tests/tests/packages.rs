//! `npm install` beside the agent: what is ignored costs nothing, what is not arrives whole.
#![allow(
    clippy::disallowed_methods,
    reason = "tests change workspaces as a user does"
)]

use std::{fs, io, path::Path};

use serde_json::Value;
use uspark_tests::{Running, SOON, Server, Workspace, eventually, same, same_outline};

/// Directories of the package, and files in each.
const DIRECTORIES: usize = 30;
const FILES: usize = 10;

/// An installation that a rule takes back from those that are ignored.
const WANTED: &str = "vendor/node_modules";

/// A package outside of the workspace.
fn make_package(library: &Path) {
    for directory in 0..DIRECTORIES {
        let directory = library.join(format!("lib/d{}/d{directory}", directory % 3));
        fs::create_dir_all(&directory).expect("a directory of our own");
        for file in 0..FILES {
            let text = format!("export const here = '{}/{file}'\n", directory.display());
            fs::write(directory.join(format!("f{file}.js")), text).expect("a file of our own");
        }
    }
    let package = r#"{"name": "library", "version": "1.0.0", "main": "lib/d0/d0/f0.js"}"#;
    fs::write(library.join("package.json"), package).expect("a file of our own");
}

/// Directories below `directory`, and itself.
fn directories(directory: &Path) -> io::Result<u64> {
    let mut count = 1;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            count += directories(&entry.path())?;
        }
    }
    Ok(count)
}

/// How many directories the agent watches, once it has nothing left to do.
fn watches(workspace: &Workspace) -> u64 {
    let said = workspace
        .run(&["status", "--wait", "--json"])
        .expect_code(0);
    let said: Value = serde_json::from_str(&said.text()).expect("it is JSON");
    said["agent"]["watches"].as_u64().expect("an agent runs")
}

#[test]
fn an_ignored_installation_is_not_watched_and_another_is_synced_whole() {
    let server = Server::start();
    let project = server.project();
    let workspace = Workspace::new(&project);
    let library = workspace.outside().join("library");
    make_package(&library);
    workspace.write("package.json", r#"{"name": "app", "version": "1.0.0"}"#);
    workspace.write(
        "vendor/package.json",
        r#"{"name": "vendor", "version": "1.0.0"}"#,
    );
    workspace.write(".usparkignore", format!("!/{WANTED}\n"));
    let agent = workspace.start(&["watch", "--project-id", &project.id]);
    eventually(SOON, || same(project.outline()?.len(), 3));
    let before = watches(&workspace);
    let install = |directory: &str| {
        let script = format!(
            "cd {directory} && npm --offline --no-audit --no-fund --silent --install-links install {} \
             && test -f node_modules/library/lib/d0/d0/f0.js",
            library.display()
        );
        Running::start(&mut workspace.bash(&script))
            .wait()
            .expect_code(0);
        let watches = watches(&workspace);
        let mut here = workspace.outline().unwrap();
        if workspace.path(WANTED).exists() {
            here.extend(workspace.outline_below(WANTED).unwrap());
        }
        same_outline(&here, &project.outline().unwrap()).unwrap();
        (watches, here.len())
    };

    // `package-lock.json` is all that is new.
    assert_eq!(install("."), (before, 4));
    let installed = directories(&workspace.path("node_modules/library")).unwrap();
    assert!(installed > 30, "{installed} directories are installed");

    let (after, files) = install("vendor");
    assert!(files > DIRECTORIES * FILES, "{files} files are synced");
    let made = directories(&workspace.path(WANTED)).unwrap();
    assert_eq!(
        after - before,
        made,
        "what is not ignored is watched, and no more"
    );
    agent.terminate().expect_code(0);
}
