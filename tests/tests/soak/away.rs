//! A server that is away does not slow down whoever writes.

use std::{fs, path::Path, time::Duration};

use anyhow::ensure;
use uspark_tests::{Row, Running, SOON, Server, Workspace, eventually, pause};

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
