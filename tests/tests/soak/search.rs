//! Who searches the tree costs the agent nothing.

use std::{
    collections::BTreeMap,
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

/// How long a process's threads have run, by the scheduler's count.
struct Used {
    pid: u32,
    /// Of every thread that was ever seen. A thread's time is gone with it: what it ran after it was last seen is missed.
    threads: BTreeMap<u32, Duration>,
}

impl Used {
    fn by(pid: u32) -> Self {
        let threads = BTreeMap::new();
        Self { pid, threads }
    }

    /// All threads until now. Called often enough, it misses none: an idle thread lives for seconds.
    fn until_now(&mut self) -> Duration {
        let tasks = format!("/proc/{}/task", self.pid);
        for task in fs::read_dir(tasks).expect("the process is there") {
            let task = task.expect("the process is there");
            // A thread may end between the two.
            let Ok(said) = fs::read_to_string(task.path().join("schedstat")) else {
                continue;
            };
            let mut numbers = said.split(' ').map(str::parse);
            let Some(Ok(nanoseconds)) = numbers.next() else {
                panic!("{said:?} does not begin with a time")
            };
            let id = task.file_name().to_string_lossy().parse();
            let id = id.expect("threads are numbers");
            self.threads.insert(id, Duration::from_nanos(nanoseconds));
        }
        self.threads.values().sum()
    }
}
