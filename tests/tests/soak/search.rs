//! Who searches the tree costs the agent nothing.

use std::time::{Duration, Instant};

use anyhow::ensure;
use uspark_tests::{Row, Running, SOON, Used, Workspace, eventually, pause};

use crate::watched::{LONG, Watched, fill};

/// The agent's share of the time that the searches take, at most.
const SHARE: f64 = 0.01;

#[test]
fn searches_through_the_tree() {
    let mut row = Row::begin("rg while watching");
    let watched = Watched::start();
    let directories = row.count(500, 20);
    fill(&mut row.random, &watched.workspace.root(), directories, 100);
    watched.check();
    let mut agent = Used::by(watched.agent.pid());
    // What is left of the work before: idle documents are put away.
    eventually(SOON, || {
        let before = agent.until_now();
        pause(Duration::from_secs(1));
        let used = agent.until_now() - before;
        let enough = SHARE / 2.0;
        ensure!(
            used.as_secs_f64() < enough,
            "the agent still used {used:?} in a second"
        );
        Ok(())
    });
    let events = events_of(&watched.workspace);
    let (before, began) = (agent.until_now(), Instant::now());
    let mut runs = 0;
    // A few runs over few files are over before the agent does anything at all.
    while runs < 20 || began.elapsed() < Duration::from_secs(5) {
        let found = format!(
            "test $(rg --no-ignore -l 'some words' . | wc -l) -gt {}",
            directories * 50
        );
        Running::start(&mut watched.workspace.bash(&found))
            .wait_within(LONG)
            .expect_code(0);
        runs += 1;
        agent.until_now();
    }
    let took = began.elapsed().as_secs_f64();
    let used = (agent.until_now() - before).as_secs_f64();
    let taken = events_of(&watched.workspace) - events;
    assert_eq!(taken, 0, "the kernel told the watcher of readers");
    assert!(
        used < SHARE * took,
        "the agent used {used:.3} s in {took:.3} s"
    );
    watched.end();
    row.held(format!(
        "{runs} runs over {} files: the agent ran for {:.3} % of {took:.1} s, 0 events",
        directories * 100,
        100.0 * used / took
    ));
}

/// How many of the kernel's events the agent has taken, those of its own cookies apart.
fn events_of(workspace: &Workspace) -> u64 {
    let status = workspace.run(&["status", "--json"]).expect_code(0);
    let status: serde_json::Value =
        serde_json::from_slice(&status.stdout).expect("the status is JSON");
    status["agent"]["events"]
        .as_u64()
        .unwrap_or_else(|| panic!("no events in {status}"))
}
