//! Who searches the tree costs the agent nothing.

use std::{
    fs,
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
        let before = cpu_ticks(pid);
        pause(Duration::from_secs(1));
        let used = cpu_ticks(pid) - before;
        ensure!(used == 0, "the agent still uses {used} % of the time");
        Ok(())
    });
    let events = events_of(&watched.workspace);
    let (before, began) = (cpu_ticks(pid), Instant::now());
    let mut runs = 0;
    // A few runs over few files are too short for what their time is counted in.
    while runs < 20 || began.elapsed() < Duration::from_secs(5) {
        let found = format!(
            "test $({searcher} -l 'some words' . | wc -l) -gt {}",
            directories * 50
        );
        Running::start(&mut watched.workspace.bash(&found))
            .wait_within(LONG)
            .expect_code(0);
        runs += 1;
    }
    let took = began.elapsed().as_secs_f64();
    // A tick that has begun counts as a whole one.
    let used = f64::from(cpu_ticks(pid) - before + 1) / 100.0;
    let taken = events_of(&watched.workspace) - events;
    assert_eq!(taken, 0, "the watcher took events");
    assert!(
        used < SHARE * took,
        "the agent used {used:.3} s in {took:.3} s"
    );
    watched.end();
    row.held(format!(
        "{runs} runs of {searcher} over {} files: at most {:.2} % of {took:.1} s, 0 events",
        directories * 100,
        100.0 * used / took
    ));
}

/// How many of the kernel's events the agent has taken.
fn events_of(workspace: &Workspace) -> u64 {
    let status = workspace.run(&["status", "--json"]).expect_code(0);
    let status: serde_json::Value =
        serde_json::from_slice(&status.stdout).expect("the status is JSON");
    status["agent"]["events"]
        .as_u64()
        .unwrap_or_else(|| panic!("no events in {status}"))
}

/// What all threads of a process, also those that have ended, have run until now, in hundredths of a second.
fn cpu_ticks(pid: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process is there");
    // The program's name, in parentheses, may hold anything; after it, user and system time are the 12th and the 13th.
    let (_, after_name) = stat.rsplit_once(')').expect("it has a name");
    let ticks = after_name.split_whitespace().skip(11).take(2);
    ticks
        .map(|ticks| ticks.parse::<u32>().expect("a number"))
        .sum()
}
