//! Who searches the tree costs the agent nothing.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::ensure;
use uspark_tests::{Row, Running, SOON, Workspace, eventually, pause};

use crate::watched::{LONG, Watched, fill};

/// The agent's share of the time that the searches take, at most.
const SHARE: f64 = 0.01;

#[test]
fn searches_through_the_tree() {
    let mut row = Row::begin("grep -r while watching");
    let watched = Watched::start();
    let directories = row.count(500, 20);
    fill(&mut row.random, &watched.workspace.root(), directories, 100);
    watched.check();
    let searcher = if Running::start(&mut watched.workspace.bash("command -v rg"))
        .wait()
        .code
        == 0
    {
        "rg --no-ignore"
    } else {
        "grep -r"
    };
    let pid = watched.agent.pid();
    // What is left of the work before: idle documents are put away.
    eventually(SOON, || {
        let (before, began) = (cpu_seconds(pid), Instant::now());
        pause(Duration::from_secs(1));
        let used = cpu_seconds(pid) - before;
        ensure!(
            used < SHARE / 2.0 * began.elapsed().as_secs_f64(),
            "the agent still uses {used} s a second"
        );
        Ok(())
    });
    let (wakes, before, began) = (
        wakes_of(&watched.workspace),
        cpu_seconds(pid),
        Instant::now(),
    );
    let runs = 20;
    for _ in 0..runs {
        let found = format!(
            "test $({searcher} -l 'some words' . | wc -l) -gt {}",
            directories * 50
        );
        Running::start(&mut watched.workspace.bash(&found))
            .wait_within(LONG)
            .expect_code(0);
    }
    let (used, took) = (cpu_seconds(pid) - before, began.elapsed().as_secs_f64());
    let woken = wakes_of(&watched.workspace) - wakes;
    assert_eq!(woken, 0, "the watcher was woken");
    assert!(
        used < SHARE * took,
        "the agent used {used:.3} s in {took:.3} s"
    );
    watched.end();
    row.held(format!(
        "{runs} runs of {searcher} over {} files: {:.2} % of {took:.1} s, 0 events",
        directories * 100,
        100.0 * used / took
    ));
}

/// How often the agent's watcher had anything to do.
fn wakes_of(workspace: &Workspace) -> u64 {
    let status = workspace.run(&["status", "--json"]).expect_code(0);
    let status: serde_json::Value =
        serde_json::from_slice(&status.stdout).expect("the status is JSON");
    status["agent"]["wakes"]
        .as_u64()
        .unwrap_or_else(|| panic!("no wakes in {status}"))
}

/// What all threads of a process have run until now, in seconds: those that are there, to the nanosecond, or with those
/// that have ended, in hundredths, whichever is more.
fn cpu_seconds(pid: u32) -> f64 {
    let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
    let process = PathBuf::from(format!("/proc/{pid}"));
    let stat = read(process.join("stat"));
    // The program's name, in parentheses, may hold anything; after it, user and system time are the 12th and the 13th.
    let (_, after_name) = stat.rsplit_once(')').expect("the process is there");
    let ticks = after_name.split_whitespace().skip(11).take(2);
    let of_all: f64 = ticks
        .map(|ticks| ticks.parse::<f64>().expect("a number"))
        .sum();
    let tasks = fs::read_dir(process.join("task")).expect("the process is there");
    let of_those_there = tasks.map(|task| {
        let schedstat = read(task.expect("tasks are listed").path().join("schedstat"));
        let nanoseconds = schedstat.split(' ').next();
        nanoseconds
            .and_then(|number| number.parse::<f64>().ok())
            .unwrap_or_default()
    });
    (of_all / 100.0).max(of_those_there.sum::<f64>() / 1e9)
}
