//! `watch` and `watch-claude`: two-way, for as long as somebody works.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use uspark_shared::printable::printable;

use super::args;
use super::copy::Copy;
use super::failure::{Failure, USAGE};
use super::keeper::{Finished, Keeper, Plan, Unreachable, Wanted};
use super::output::{Output, not_equal, say, unreadable, warnings};
use super::place::{Missing, Workspace};
use super::publish;
use super::signals::{Stops, stopped};
use super::tools::ToolCalls;
use crate::control::{ControlClient, ReportView};
use crate::engine::{Direction, MassDelete};

/// How long Claude Code may still write after this process was asked to stop. A terminal and a
/// container ask both at once; it needs about a second to end.
const INPUT_GRACE: Duration = Duration::from_secs(5);

/// What to say when the last sync is not complete.
pub const SPOOLED: &str =
    "what is not sent is kept in .uspark; the next `uspark push`, `watch` or `run` sends it";

/// Runs `watch`.
pub async fn watch(given: args::Target, output: Output) -> Result<u8, Failure> {
    let workspace = Workspace::find(&given, Missing::IsMade)?;
    let plan = Plan::make(&workspace, &given.connection).await?;
    let mut stops = Stops::listen()?;
    let patience = given.place.sync_timeout;
    let wanted = wanted("watch", &given, None, Unreachable::Await);
    let keeper = tokio::select! {
        keeper = plan.start(&workspace, wanted) => keeper?,
        signal = stops.next() => return Err(stopped(signal, "watch", "nothing was begun")),
    };
    if let Keeper::Other(mut other) = keeper {
        let status = other.client.status().await?;
        let message = format!(
            "`uspark {}` (process {}) keeps this workspace equal already",
            status.command, status.pid
        );
        return Err(Failure::new(message).hint("`uspark status` says what it is doing"));
    }
    say(format_args!(
        "uspark: keeping {} and the project {} equal; Ctrl-C stops\n",
        printable(&workspace.root.display().to_string()),
        workspace.project
    ));
    tokio::select! {
        _ = stops.next() => {}
        // There is nothing to wait for; the end says why.
        () = keeper.refused() => {}
    }
    let finished = tokio::select! {
        finished = keeper.finish(patience) => finished,
        signal = stops.next() => Err(stopped(signal, "the last sync", SPOOLED)),
    };
    Ok(conclude("watch", &workspace, finished, None, output))
}

/// How long after the end of the stream a signal still counts as one to Claude Code.
const LATE_SIGNAL: Duration = Duration::from_millis(500);

/// Runs `watch-claude`.
pub async fn watch_claude(given: args::WatchClaude, output: Output) -> Result<u8, Failure> {
    let target = given.target;
    let (workspace, plan) = match prepare(&target).await {
        Ok(prepared) => prepared,
        Err(wrong) if wrong.exit == USAGE => return Err(wrong),
        Err(failure) => return Err(pass_through(failure).await),
    };
    let mut stops = Stops::listen()?;
    let patience = target.place.sync_timeout;
    let calls = Arc::new(ToolCalls::new(&workspace.root));
    let run = fresh_run();
    let publishing = given.stream_output.then(|| {
        let connection = publish::connection(&plan, &workspace, &target.connection)?;
        publish::begin(&workspace, &connection, &run)
    });
    let (publisher, lines, unpublished) = match publishing {
        Some(Ok((publisher, lines))) => (Some(publisher), Some(lines), None),
        Some(Err(failure)) => {
            say_not_done("published", &failure);
            (None, None, Some(failure))
        }
        None => (None, None, None),
    };
    let mut copy = Copy::of_stdin(INPUT_GRACE, Arc::clone(&calls), lines)?;
    // Beside the copy: the stream waits neither for the network nor for the first scan.
    let starting = tokio::spawn({
        let (workspace, run) = (workspace.clone(), Some(run));
        let calls = Arc::clone(&calls);
        let wanted = wanted("watch-claude", &target, run, Unreachable::Await);
        async move { start(plan, &workspace, wanted, &calls).await }
    });
    copy.end(&mut stops).await;
    let ended = Instant::now();

    let deadline = Instant::now() + patience;
    let finish = async {
        let keeper = match tokio::time::timeout_at(deadline.into(), starting).await {
            Ok(Ok(keeper)) => keeper?,
            Ok(Err(panicked)) => return Err(broken(&panicked)),
            Err(_) => return Err(Failure::new("the sync did not begin in time").hint(SPOOLED)),
        };
        let _ = tokio::time::timeout_at(deadline.into(), calls.told()).await;
        keeper
            .finish(deadline.saturating_duration_since(Instant::now()))
            .await
    };
    let stop = async {
        loop {
            let signal = stops.next().await;
            // The Ctrl-C that ended Claude Code may be heard after the end of its stream.
            if ended.elapsed() > LATE_SIGNAL {
                return signal;
            }
        }
    };
    let (finished, late) = tokio::select! {
        both = async { tokio::join!(finish, publish::end(publisher, deadline.into())) } => both,
        signal = stop => (Err(stopped(signal, "the last sync", SPOOLED)), None),
    };
    let unpublished = unpublished.or(late);
    Ok(conclude(
        "watch-claude",
        &workspace,
        finished,
        unpublished,
        output,
    ))
}

async fn prepare(target: &args::Target) -> Result<(Workspace, Plan), Failure> {
    let workspace = Workspace::find(target, Missing::IsMade)?;
    let plan = Plan::make(&workspace, &target.connection).await?;
    Ok((workspace, plan))
}

/// Passes the stream through although nothing can be synced: whoever reads it needs all of it.
async fn pass_through(failure: Failure) -> Failure {
    say_not_done("synced", &failure);
    let copy = async {
        let mut stops = Stops::listen()?;
        // Nobody is told of the tool calls.
        let calls = Arc::new(ToolCalls::new(Path::new("/")));
        let copy = Copy::of_stdin(INPUT_GRACE, calls, None);
        copy?.end(&mut stops).await;
        Ok::<_, Failure>(())
    };
    copy.await.err().unwrap_or(failure)
}

/// At once, not at the end: the stream may go on for hours.
fn say_not_done(what: &str, failure: &Failure) {
    say(format_args!(
        "uspark: nothing is {what}: {}; the stream goes on\n",
        printable(&failure.message)
    ));
}

/// Starts to sync, and says so when that is refused.
async fn start(
    plan: Plan,
    workspace: &Workspace,
    wanted: Wanted,
    calls: &ToolCalls,
) -> Result<Keeper, Failure> {
    let started = plan.start(workspace, wanted).await;
    match &started {
        Ok(keeper) => attach(calls, keeper, workspace).await?,
        Err(failure) => say_not_done("synced", failure),
    }
    started
}

/// Sends the stream's tool calls to whoever keeps the workspace.
pub async fn attach(
    calls: &ToolCalls,
    keeper: &Keeper,
    workspace: &Workspace,
) -> Result<(), Failure> {
    match keeper.handle() {
        Some(handle) => calls.attach_session(handle),
        // A connection of their own: they go on while a barrier is waited for.
        None => {
            if let Some(client) = ControlClient::connect(&workspace.root).await? {
                calls.attach_agent(client);
            }
        }
    }
    Ok(())
}

/// A two-way sync of everything.
pub fn wanted(
    command: &'static str,
    target: &args::Target,
    run: Option<String>,
    unreachable: Unreachable,
) -> Wanted {
    Wanted {
        command,
        direction: Direction::Both,
        paths: Vec::new(),
        mass_delete: target.mass_delete(MassDelete::Passes),
        run,
        unreachable,
        patience: target.place.sync_timeout,
    }
}

/// An id for this run, so that what it changed can be told apart.
pub fn fresh_run() -> String {
    let mut bytes = [0; 15];
    match getrandom::fill(&mut bytes) {
        Ok(()) => uspark_shared::id::ProjectId::from_random(bytes).to_string(),
        // Without randomness the process' number has to do; it is a label, not a secret.
        Err(_) => format!("process-{}", std::process::id()),
    }
}

fn conclude(
    command: &str,
    workspace: &Workspace,
    finished: Result<Finished, Failure>,
    unpublished: Option<Failure>,
    output: Output,
) -> u8 {
    let mut object = json!({"command": command, "project": workspace.project});
    let failure = match finished {
        Err(failure) => Some(failure),
        Ok(Finished { report, .. }) => {
            say(warnings(&report));
            object["report"] = json!(report);
            incomplete(&report).or(unpublished)
        }
    };
    output.conclude("", object, failure)
}

/// What the last sync did not bring to the server, as a failure.
pub fn incomplete(report: &ReportView) -> Option<Failure> {
    match report.done {
        true => unreadable("sync", report),
        false => Some(not_equal(report, SPOOLED)),
    }
}

fn broken(error: &tokio::task::JoinError) -> Failure {
    Failure::new(format!("the sync broke: {error}")).hint(SPOOLED)
}
