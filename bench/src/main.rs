//! uspark beside its peers, in one run: `cargo run --release -p uspark-bench`.

mod client;
mod files;
mod load;
mod measure;
mod peers;
mod relay;
mod typed;

use std::time::Duration;

use clap::Parser;

use files::{Source, Way};
use load::{Cost, Typing};
use measure::median;
use peers::Peer;

/// Measures uspark's server beside other Yjs servers.
///
/// Each server is started here, on fresh data, with its persistence on; runs are interleaved, and the
/// middle one of several counts. What is not installed is left out, and said.
#[derive(Debug, Parser)]
struct Given {
    /// Only rows whose name has this in it
    row: Option<String>,
    /// How many runs of each
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Only uspark's own server, of the loads on servers
    #[arg(long)]
    ours: bool,
    /// A tenth of each load: to see that everything works
    #[arg(long)]
    quick: bool,
}

/// A load and what is shown of it.
struct Row {
    name: &'static str,
    title: &'static str,
    run: fn(Peer, u32) -> anyhow::Result<Cost>,
    columns: &'static [Column],
}

/// A column's title, and its value of a run.
type Column = (&'static str, fn(&mut Cost) -> f64);

const P50: Column = ("p50 ms", |cost| cost.times.at(0.5));
const P99: Column = ("p99 ms", |cost| cost.times.at(0.99));
const UNDELIVERED: Column = ("undelivered", |cost| cost.undelivered as f64);
const CPU_PER_DELIVERY: Column = ("CPU µs per delivery", |cost| {
    cost.cpu * 1e6 / cost.delivered.max(1) as f64
});
const UPDATES: Column = ("updates/s", |cost| cost.delivered as f64 / cost.seconds);
const RESIDENT: Column = ("RSS MB", |cost| cost.resident as f64 / 1e6);

const FANOUT: &[Column] = &[P50, P99, UNDELIVERED, CPU_PER_DELIVERY, RESIDENT];

/// The second argument of `run` is 1, or 10 for a tenth of the load.
const ROWS: &[Row] = &[
    Row {
        name: "latency",
        title: "1 writer, 1 reader, 200 updates a second",
        run: |peer, part| typing(peer, 200, 2000, 1, false, part),
        columns: &[P50, P99, UNDELIVERED],
    },
    Row {
        name: "readers-50",
        title: "1 writer at 100 a second, 50 readers, awareness on",
        run: |peer, part| typing(peer, 100, 1000, 50, true, part),
        columns: FANOUT,
    },
    Row {
        name: "readers-500",
        title: "1 writer at 10 a second, 500 readers, awareness on",
        run: |peer, part| typing(peer, 10, 100, 500, true, part),
        columns: FANOUT,
    },
    Row {
        name: "readers-1500",
        title: "1 writer at 10 a second, 1500 readers, awareness on",
        run: |peer, part| typing(peer, 10, 100, 1500, true, part),
        columns: FANOUT,
    },
    Row {
        name: "flat-out",
        title: "20 documents, a writer and a reader each, 32 updates under way",
        run: |peer, part| load::flat_out(peer, 20, 32, Duration::from_secs(10) / part),
        columns: &[UPDATES, CPU_PER_DELIVERY, RESIDENT],
    },
    Row {
        name: "documents",
        title: "2000 documents of 10 KB opened, one connection each, and left",
        run: |peer, part| {
            let rest = Duration::from_secs(60) / part;
            load::open_and_leave(peer, 2000 / part as usize, rest)
        },
        columns: &[
            ("start MB", |cost| cost.resident_before as f64 / 1e6),
            ("all open MB", |cost| cost.resident as f64 / 1e6),
            ("a minute later MB", |cost| cost.resident_after as f64 / 1e6),
        ],
    },
];

/// A tree brought over in several ways; the first is ours.
struct FileRow {
    name: &'static str,
    title: &'static str,
    ways: &'static [Way],
}

const FILE_ROWS: &[FileRow] = &[
    FileRow {
        name: "pull",
        title: "10,000 files, 80 MB, to an empty directory",
        ways: &[Way::Pull, Way::GitClone, Way::Rsync, Way::Tar],
    },
    FileRow {
        name: "pull-far",
        title: "the same from a server that is 25 ms away, each way",
        ways: &[Way::PullFar, Way::TarFar],
    },
    FileRow {
        name: "push",
        title: "the same to an empty project",
        ways: &[Way::Push, Way::RsyncUp],
    },
    FileRow {
        name: "nothing-to-do",
        title: "pull, push, and pull of one changed file, of a tree that is there",
        ways: &[Way::PullNothing, Way::PushNothing, Way::PullOne],
    },
];

/// Files of the tree.
const FILES: usize = 10_000;

fn typing(
    peer: Peer,
    rate: u32,
    updates: u64,
    readers: usize,
    aware: bool,
    part: u32,
) -> anyhow::Result<Cost> {
    let load = Typing {
        rate,
        updates: updates / u64::from(part),
        readers,
        aware,
    };
    load::typing(peer, load)
}

#[allow(clippy::print_stdout, reason = "the tables are its output")]
fn main() -> anyhow::Result<()> {
    let given = Given::parse();
    let wanted = |name: &str| given.row.as_ref().is_none_or(|part| name.contains(part));
    let part = if given.quick { 10 } else { 1 };
    for row in ROWS.iter().filter(|row| wanted(row.name)) {
        println!("{}", measure_load(row, &given, part));
    }
    let rows: Vec<_> = FILE_ROWS.iter().filter(|row| wanted(row.name)).collect();
    if !rows.is_empty() {
        let mut source = Source::start(FILES / part as usize)?;
        for row in rows {
            println!("{}", measure_ways(row, &mut source, given.runs)?);
        }
    }
    Ok(())
}

#[allow(clippy::print_stderr, reason = "what it is doing")]
fn tell(what: impl std::fmt::Display) {
    eprintln!("{what}");
}

fn measure_load(row: &Row, given: &Given, part: u32) -> String {
    let runs = given.runs;
    let asked = Peer::ALL
        .iter()
        .filter(|peer| !given.ours || **peer == Peer::Uspark);
    let (there, missing): (Vec<Peer>, Vec<Peer>) = asked.partition(|peer| peer.missing().is_none());
    for peer in missing {
        let hint = peer.missing().unwrap_or_default();
        tell(format_args!(
            "{peer} is not installed, and left out. hint: {hint}"
        ));
    }
    let mut costs: Vec<Vec<Cost>> = there.iter().map(|_| Vec::new()).collect();
    for run in 1..=runs {
        for (peer, costs) in there.iter().zip(&mut costs) {
            tell(format_args!("{}: {peer}, run {run} of {runs}", row.name));
            match (row.run)(*peer, part) {
                Ok(cost) => costs.push(cost),
                Err(error) => tell(format_args!("{}: {peer} failed: {error:#}", row.name)),
            }
        }
    }
    table(row, &there, costs)
}

fn measure_ways(row: &FileRow, source: &mut Source, runs: usize) -> anyhow::Result<String> {
    let mut times: Vec<Vec<f64>> = row.ways.iter().map(|_| Vec::new()).collect();
    for run in 1..=runs {
        for (way, times) in row.ways.iter().zip(&mut times) {
            tell(format_args!("{}: {way:?}, run {run} of {runs}", row.name));
            times.push(source.go(*way)?);
        }
    }
    let middle: Vec<f64> = times.into_iter().map(median).collect();
    let ours = middle[0];
    let mut lines = format!(
        "\n### {}: {}\n\n| | ms | uspark / it |\n|---|---|---|",
        row.name, row.title
    );
    for (way, ms) in row.ways.iter().zip(middle) {
        lines += &format!("\n| {way} | {} | {} |", short(ms), short(ours / ms));
    }
    Ok(lines)
}

/// A row as a Markdown table: the middle of all runs, and beside it how many times uspark's it is.
fn table(row: &Row, peers: &[Peer], costs: Vec<Vec<Cost>>) -> String {
    let titles: Vec<&str> = row.columns.iter().map(|(title, _)| *title).collect();
    let mut lines = format!(
        "\n### {}: {}\n\n| | {} |\n|---|",
        row.name,
        row.title,
        titles.join(" | ")
    );
    lines += &"---|".repeat(titles.len());
    let mut ours: Option<Vec<f64>> = None;
    for (peer, mut costs) in peers.iter().zip(costs) {
        if costs.is_empty() {
            lines += &format!("\n| {peer} | failed |");
            continue;
        }
        let values: Vec<f64> = row
            .columns
            .iter()
            .map(|(_, value)| median(costs.iter_mut().map(value).collect()))
            .collect();
        let base = ours.get_or_insert_with(|| values.clone());
        let cells = values
            .iter()
            .zip(base.iter())
            .map(|(value, ours)| match *peer {
                Peer::Uspark => short(*value),
                _ if *ours > 0.0 => format!("{} ({} ×)", short(*value), short(value / ours)),
                _ => short(*value),
            });
        lines += &format!("\n| {peer} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
    lines
}

/// Three digits that matter.
fn short(value: f64) -> String {
    match value {
        value if value >= 100.0 || value == 0.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_load_runs_on_our_server() {
        // So many readers take minutes in a debug build.
        let many = ["readers-500", "readers-1500"];
        for row in ROWS.iter().filter(|row| !many.contains(&row.name)) {
            let mut cost = (row.run)(Peer::Uspark, 100).unwrap();
            assert!(
                cost.delivered > 0 && cost.undelivered == 0,
                "{}: {cost:?}",
                row.name
            );
            let first = row.columns[0].1(&mut cost);
            assert!(first > 0.0, "{}: {cost:?}", row.name);
        }
    }

    #[test]
    fn a_tree_goes_every_way_of_ours() {
        let mut source = Source::start(50).unwrap();
        for way in [
            Way::Pull,
            Way::PullNothing,
            Way::PushNothing,
            Way::PullOne,
            Way::PullFar,
            Way::Push,
        ] {
            assert!(source.go(way).unwrap() > 0.0, "{way}");
        }
    }
}
