//! Most files gone at once: the project keeps them until somebody says that it is meant.
#![allow(
    clippy::disallowed_methods,
    reason = "what is on disk is changed from outside"
)]

use std::fs;
use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::Value;
use uspark_tests::{
    Ended, Project, Row, Running, SOON, Server, Used, Workspace, eventually, private_mounts, same,
    under,
};

const FILES: usize = 20;

/// A project of twenty files, and a workspace that has them.
fn pulled(server: &Server) -> (Project, Workspace) {
    let project = server.project();
    for n in 0..FILES {
        project.put(&format!("src/{n}"), format!("file {n}\n"));
    }
    let workspace = Workspace::new(&project).env("PROJECT_ID", &project.id);
    workspace.run(&["pull"]).expect_code(0);
    (project, workspace)
}

fn files(project: &Project) -> usize {
    project.tree().expect("the server answers").len()
}

/// It failed, named a file that is held, and said what to do.
#[track_caller]
fn assert_held(ended: Ended) {
    let ended = ended.expect_code(1);
    for word in [
        "src/7: gone from the workspace together with most other files",
        "hint: bring the files back; or, if it is meant",
        "--allow-mass-delete",
    ] {
        assert!(ended.stderr.contains(word), "no {word:?}\n{ended}");
    }
}

#[test]
fn a_command_that_empties_the_workspace_fails_and_the_project_keeps_its_files() {
    let server = Server::start();
    let (project, workspace) = pulled(&server);
    let removes = ["run", "--", "sh", "-c", "rm -rf src; echo made > new"];
    assert_held(workspace.run(&removes));
    assert_eq!(files(&project), FILES + 1);
    assert_eq!(project.text("new").unwrap(), "made\n");
    // It stays so with the next command, which then does not begin.
    assert_held(workspace.run(&["run", "--", "touch", "started"]));
    assert!(!workspace.path("started").exists());
    assert_held(workspace.run(&["push"]));
    assert_eq!(files(&project), FILES + 1);
    // The files come back, each as it was: nothing is left to be said.
    fs::create_dir(workspace.path("src")).unwrap();
    for n in 0..FILES {
        workspace.write(&format!("src/{n}"), format!("file {n}\n"));
    }
    workspace.run(&["push"]).expect_code(0);
    workspace.equals(&project).unwrap();
    // It is meant.
    let removes = ["run", "--allow-mass-delete", "--", "rm", "-rf", "src"];
    workspace.run(&removes).expect_code(0);
    assert_eq!(files(&project), 1);
}

#[test]
fn an_agent_whose_workspace_is_gone_rests_and_ends_at_once() {
    let server = Server::start();
    let (_project, workspace) = pulled(&server);
    let agent = workspace.start(&["watch"]);
    eventually(SOON, || {
        let ended = workspace.run(&["status", "--wait"]);
        ensure!(ended.code == 0, "{}", ended.stderr);
        Ok(())
    });
    fs::remove_dir_all(workspace.root()).unwrap();
    eventually(SOON, || {
        ensure!(agent.stderr().contains("the workspace is gone"));
        Ok(())
    });
    // Longer than it waits for a server that does not come.
    let mut used = Used::by(agent.pid());
    let before = used.until_now();
    uspark_tests::pause(Duration::from_secs(4));
    let spent = used.until_now() - before;
    assert!(spent < Duration::from_millis(400), "{spent:?} of 4 s");
    let began = Instant::now();
    let ended = agent.terminate();
    assert!(began.elapsed() < Duration::from_secs(10), "{ended}");
}

#[test]
fn an_agent_at_work_holds_deletions_from_both_sides_and_is_told_to_let_them_pass() {
    let server = Server::start();
    let (project, workspace) = pulled(&server);
    let agent = workspace.start(&["watch"]);
    let status = |args: &[&str]| -> Value {
        let ended = workspace.run(&[&["status", "--json"], args].concat());
        serde_json::from_slice(&ended.stdout).expect("one JSON object")
    };
    // Up to nine may have passed before there were enough to be too many.
    let held = || {
        eventually(SOON, || {
            let held = status(&["--wait"])["agent"]["report"]["held"].as_u64();
            let held = held.map_or(0, |held| held as usize);
            ensure!((FILES - 9..=FILES).contains(&held), "{held} are held");
            Ok(held)
        })
    };
    eventually(SOON, || {
        same(&status(&["--wait"])["agent"]["report"]["equal"], true)
    });
    fs::remove_dir_all(workspace.path("src")).unwrap();
    let left = held();
    assert_eq!(files(&project), left);
    let said = workspace.run(&["status"]).expect_code(0).text();
    let line = format!("held       {left} deletions");
    assert!(said.contains(&line) && said.contains("src/"), "{said}");
    let told = "of 20 files are gone from the workspace at once";
    assert!(agent.stderr().contains(told), "{}", agent.stderr());
    // What comes from the project is not what is held.
    workspace
        .run(&["pull", "--allow-mass-delete"])
        .expect_code(1);
    assert_eq!(files(&project), left);
    workspace
        .run(&["push", "--allow-mass-delete"])
        .expect_code(0);
    assert_eq!(files(&project), 0);

    for n in 0..FILES {
        project.put(&format!("src/{n}"), format!("file {n}\n"));
    }
    eventually(SOON, || workspace.equals(&project));
    // Somebody else means it; here that is not known.
    let other = Workspace::new(&project);
    other
        .run(&["pull", "--project-id", &project.id])
        .expect_code(0);
    fs::remove_dir_all(other.path("src")).unwrap();
    other.run(&["push", "--allow-mass-delete"]).expect_code(0);
    let left = held();
    workspace
        .run(&["push", "--allow-mass-delete"])
        .expect_code(1);
    assert_eq!(workspace.tree().unwrap().len(), left);
    workspace
        .run(&["pull", "--allow-mass-delete"])
        .expect_code(0);
    assert!(workspace.tree().unwrap().is_empty());
}

#[test]
fn a_workspace_that_is_unmounted_deletes_nothing_and_says_so() {
    let row = Row::begin("a workspace that is unmounted");
    let Some(mounts) = private_mounts() else {
        let why = "nobody may mount a tmpfs on this machine (`unshare --mount` fails)";
        assert!(!row.is_full(), "{why}");
        eprintln!("NOT RUN: {why}");
        return;
    };
    let server = Server::start();
    let (project, workspace) = pulled(&server);
    let script = r#"
        cd .. && mount -t tmpfs none work && cd work
        uspark watch --sync-timeout 1 2>../said & agent=$!
        for n in $(seq 600); do
            uspark status --wait --sync-timeout 5 && [ "$(ls src | wc -l)" = 20 ] && break; sleep 0.05
        done
        cd .. && umount -l work
        for n in $(seq 600); do grep -q 'the workspace is gone' said && break; sleep 0.05; done
        kill $agent; wait $agent"#;
    let ended = Running::start(&mut under(mounts, &workspace.bash(script))).wait();
    let said = fs::read_to_string(workspace.outside().join("said")).unwrap();
    assert!(
        said.contains("the workspace is gone: nothing is deleted for it"),
        "{said}\n{ended}"
    );
    assert_eq!(files(&project), FILES, "{ended}");
    row.held(format!("{FILES} files, 0 deleted"));
}
