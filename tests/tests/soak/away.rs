//! A server that is away does not slow down whoever writes.

use std::{fs, path::Path, time::Duration};

use anyhow::ensure;
use serde_json::json;
use uspark_tests::{
    Model, Project, Row, Running, SOON, Server, Turn, Workspace, eventually, pause,
};

use crate::watched::LONG;

/// Writes in place, by temporary name, into new files, and deletes, until it is told to stop; then says how many rounds it did,
/// how long it took, and how long the longest of them took, in microseconds. Everything is written into `$1`.
const SCRIPT: &str = r#"
mkdir -p "$1/d" && cd "$1" || exit 1
now() { local t=${EPOCHREALTIME}; echo $((${t%.*} * 1000000 + 10#${t#*.})); }
rounds=0 longest=0 began=$(now)
while [ ! -e "$HOME/stop" ]; do
  before=$(now)
  rounds=$((rounds + 1))
  echo "round $rounds" >> log.txt
  echo "$rounds of its own" > "d/f$((rounds % 20))"
  echo "$rounds" > new && mv new d/moved
  [ $((rounds % 7)) = 0 ] && rm -f "d/f$((rounds % 20))"
  took=$(($(now) - before))
  [ $took -gt $longest ] && longest=$took
  [ $rounds = 1 ] && touch "$HOME/began-$1"
  sleep 0.02
done
echo "$rounds $(($(now) - began)) $longest" > "$HOME/done-$1"
"#;

/// How much of its pace the script keeps at least: both copies of it share a busy machine.
const KEPT_PACE: f64 = 0.85;
/// The same of Claude Code in the short form, which has time for a few rounds only.
const KEPT_PACE_SHORT: f64 = 0.6;
/// How long one round may take at most, in seconds.
const LONGEST: f64 = 2.0;

#[test]
fn a_server_that_is_away_during_a_run() {
    let row = Row::begin("server away during a run");
    let mut server = Server::start();
    let project = server.project();
    let workspace = Workspace::new(&project);
    let home = workspace.home();
    fs::write(home.join("script"), SCRIPT).unwrap();
    let script = home.join("script").display().to_string();
    let run = workspace.start(&[
        "run",
        "--project-id",
        &project.id,
        "--",
        "bash",
        &script,
        "with",
    ]);
    eventually(SOON, || exists(&home.join("began-with")));
    // The same beside it, in the same minute, where nobody watches.
    let alone = Running::start(
        workspace
            .bash(&format!("bash {script} alone"))
            .current_dir(&home),
    );
    eventually(SOON, || exists(&home.join("began-alone")));
    eventually(SOON, || project.read("with/log.txt"));

    let away = if row.is_full() { 60 } else { 3 };
    server.kill9();
    pause(Duration::from_secs(away));
    server.restart();
    let after = fs::read_to_string(workspace.path("with/log.txt")).unwrap();
    // It writes on while the server takes what it missed.
    eventually(SOON, || {
        ensure!(
            project.text("with/log.txt")?.contains(&after),
            "the server has not caught up"
        );
        Ok(())
    });
    fs::write(home.join("stop"), "").unwrap();
    alone.wait_within(LONG).expect_code(0);
    run.wait_within(LONG).expect_code(0);
    workspace.equals_by_hash(&project).unwrap();
    workspace.equals(&project).unwrap();

    let (with, without) = (
        pace(&home.join("done-with")),
        pace(&home.join("done-alone")),
    );
    let kept = with.rounds_per_second / without.rounds_per_second;
    assert!(
        kept > KEPT_PACE && with.longest < LONGEST,
        "the command was slowed: with uspark {with:?}, without {without:?}"
    );
    row.held(format!(
        "{away} s away, {:.0} % of the pace without uspark, longest round {:.0} ms ({:.0} ms without), 0 differences",
        100.0 * kept,
        1000.0 * with.longest,
        1000.0 * without.longest
    ));
}

fn exists(path: &Path) -> anyhow::Result<()> {
    ensure!(path.exists(), "{} is not there", path.display());
    Ok(())
}

#[derive(Debug)]
struct Pace {
    rounds_per_second: f64,
    /// In seconds.
    longest: f64,
}

fn pace(done: &Path) -> Pace {
    let said = fs::read_to_string(done).expect("the script says at its end what it did");
    let numbers: Vec<f64> = said
        .split_whitespace()
        .map(|number| number.parse().expect("a number"))
        .collect();
    let [rounds, took, longest] = numbers[..] else {
        panic!("{said}")
    };
    Pace {
        rounds_per_second: rounds / (took / 1e6),
        longest: longest / 1e6,
    }
}

/// How many rounds Claude Code has to do at most: more than it can in the time.
const ROUNDS: usize = 2000;
/// What Claude Code does before the server goes.
const FIRST_TURNS: usize = 5;

/// A run of Claude Code that edits, writes, and moves what it wrote, round after round, until its model ends.
struct Claude {
    server: Server,
    project: Project,
    workspace: Workspace,
    model: Model,
    run: Running,
}

impl Claude {
    fn start() -> Self {
        let server = Server::start();
        let project = server.project();
        project.put("count.js", "count = 0\n");
        let workspace = Workspace::new(&project);
        let path = |name: &str| workspace.path(name).display().to_string();
        let round = |number: usize| {
            let (old, new) = (
                format!("count = {number}\n"),
                format!("count = {}\n", number + 1),
            );
            let edit = json!({"file_path": path("count.js"), "old_string": old, "new_string": new});
            let write = json!({"file_path": path(&format!("new/f{number}")), "content": old});
            let script = format!(
                "cd {} && echo {number} >> log && mkdir -p moved && mv new/f{number} moved",
                path("")
            );
            [
                Turn::tool("Edit", edit),
                Turn::tool("Write", write),
                Turn::tool("Bash", json!({"command": script})),
            ]
        };
        let read = Turn::tool("Read", json!({"file_path": path("count.js")}));
        let model = Model::start(
            [read]
                .into_iter()
                .chain((0..ROUNDS).flat_map(round))
                .collect(),
        );
        let workspace = model.asked_by(workspace);
        let prompt = ["run", "--project-id", &project.id, "--prompt", "count"];
        let run = workspace.start(&prompt);
        Self {
            server,
            project,
            workspace,
            model,
            run,
        }
    }

    /// Waits for the end of the run, whose model has ended; gives how many tools were used. None failed, and all that they did is on the server.
    #[track_caller]
    fn end(self) -> usize {
        self.run.wait_within(LONG).expect_code(0);
        let results = self.model.tool_results();
        let failed: Vec<&String> = results
            .iter()
            .filter(|(_, failed)| *failed)
            .map(|(said, _)| said)
            .collect();
        assert!(failed.is_empty(), "{failed:?}");
        let rounds = (results.len() - 1) / 3;
        let log: String = (0..rounds).map(|number| format!("{number}\n")).collect();
        assert_eq!(self.project.text("log").expect("the file is there"), log);
        let equal = self.workspace.equals(&self.project);
        equal.expect("all is equal in the end");
        results.len()
    }
}

#[test]
fn claude_code_while_the_server_is_away() {
    let row = Row::begin("server away, the real Claude Code");
    let (away, kept_pace) = if row.is_full() {
        (60, KEPT_PACE)
    } else {
        (3, KEPT_PACE_SHORT)
    };
    // Two at the same time, so that both have the same half of the machine.
    let (mut left, with) = (Claude::start(), Claude::start());
    for claude in [&left, &with] {
        claude.model.wait_asked(FIRST_TURNS);
    }
    eventually(SOON, || left.project.read("log"));
    left.server.kill9();
    let before = [&left, &with].map(|claude| claude.model.asked());
    pause(Duration::from_secs(away));
    let after = [&left, &with].map(|claude| claude.model.asked());
    left.server.restart();
    for claude in [&left, &with] {
        claude.model.end();
    }
    let [without, with_server] = [0, 1].map(|which| after[which] - before[which]);
    let kept = without as f64 / with_server as f64;
    assert!(
        kept > kept_pace,
        "Claude Code was slowed: {without} tools in {away} s without the server, {with_server} with it"
    );
    let tools = left.end() + with.end();
    row.held(format!(
        "{away} s away, {without} tools meanwhile and {with_server} where the server was up ({:.0} %), none of {tools} failed, 0 differences",
        100.0 * kept
    ));
}
