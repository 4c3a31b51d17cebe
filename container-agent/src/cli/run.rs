//! `run`: pull, a command, a last sync; the container's entrypoint.

use std::env;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use super::args;
use super::copy::Copy;
use super::failure::Failure;
use super::keeper::{Keeper, Plan, Unreachable};
use super::output::{Output, not_equal, say, warnings};
use super::place::{Missing, Workspace};
use super::publish;
use super::signals::{Stops, stopped};
use super::tools::ToolCalls;
use super::watch::{SPOOLED, attach, fresh_run, incomplete, wanted};
use crate::command::{Running, Task, Terminal, exit_code};
use crate::publish::LineSink;

/// How long a command may take to end after it was asked to. Container engines give 10 s before
/// they kill everything; half of that is left for the last sync.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// How long the output of what the command left behind is still passed on.
const OUTPUT_GRACE: Duration = Duration::from_secs(2);

/// Runs `run`.
pub async fn run(given: args::Run, output: Output) -> Result<u8, Failure> {
    let target = &given.target;
    let workspace = Workspace::find(target, Missing::IsMade)?;
    let task = choose_task(given.prompt, given.command)?;
    let plan = Plan::make(&workspace, &target.connection).await?;
    let patience = target.place.sync_timeout;
    let mut stops = Stops::listen()?;
    let calls = Arc::new(ToolCalls::new(&workspace.root));

    let run = fresh_run();
    // The agent that has the workspace has a token, this process perhaps none.
    let published = match (&task, &plan) {
        (Task::Claude { .. }, Plan::Be(connection)) => Some(connection.clone()),
        _ => None,
    };

    let keeper = tokio::select! {
        keeper = pull(plan, &workspace, &calls, target, run.clone()) => keeper?,
        signal = stops.next() => {
            return Err(stopped(signal, "the first pull", "the command was not started"));
        }
    };
    let directory = match workspace.current.starts_with(&workspace.root) {
        true => workspace.current.clone(),
        false => workspace.root.clone(),
    };
    let publishing = published.map(|connection| publish::begin(&workspace, &connection, &run));
    let (publisher, lines) = publishing.transpose()?.unzip();
    let status = execute(task, directory, Arc::clone(&calls), lines, &mut stops).await?;
    // As much as the agent of another process takes in time.
    let _ = tokio::time::timeout(patience, calls.told()).await;
    let published = publish::end(publisher, Instant::now() + patience);
    let (finished, unpublished) = tokio::select! {
        both = async { tokio::join!(keeper.finish(patience), published) } => both,
        signal = stops.next() => (Err(stopped(signal, "the last sync", SPOOLED)), None),
    };

    let code = exit_code(status);
    let mut object = json!({"command": "run", "project": workspace.project, "commandExit": code});
    let failure = match finished {
        Err(failure) => Some(failure),
        Ok(finished) => {
            say(warnings(&finished.report));
            object["report"] = json!(finished.report);
            incomplete(&finished.report).or(unpublished)
        }
    };
    let synced = output.conclude("", object, failure);
    Ok(final_code(code, synced))
}

/// The command's own code; the sync's only when the command has nothing to complain of.
fn final_code(command: u8, sync: u8) -> u8 {
    match (command, sync) {
        (0, 0) => 0,
        (0, _) => super::failure::FAILED,
        (command, _) => command,
    }
}

fn choose_task(prompt: Option<String>, words: Vec<std::ffi::OsString>) -> Result<Task, Failure> {
    if !words.is_empty() {
        return Ok(Task::Words(words));
    }
    let from_variable = || {
        env::var("USER_PROMPT")
            .ok()
            .filter(|prompt| !prompt.trim().is_empty())
    };
    match prompt.or_else(from_variable) {
        Some(prompt) => Ok(Task::Claude { prompt }),
        None => Err(Failure::usage("there is nothing to run")
            .hint("give a prompt (--prompt TEXT, or USER_PROMPT) or a command: uspark run -- CMD")),
    }
}

/// Brings the workspace up to the project, unless the server is away and an earlier session did. The
/// sync goes on from there.
async fn pull(
    plan: Plan,
    workspace: &Workspace,
    calls: &ToolCalls,
    target: &args::Target,
    run: String,
) -> Result<Keeper, Failure> {
    let wanted = wanted("run", target, Some(run), Unreachable::DoWithout);
    let mut keeper = plan.start(workspace, wanted).await?;
    if keeper.is_alone() {
        say(
            "uspark: the command runs on what is here; what it changes is kept in .uspark until the \
             server is back\n",
        );
    } else {
        let report = keeper.settle(target.place.sync_timeout).await?;
        if !report.done {
            let hint = "the command was not started; mend this and try again";
            return Err(not_equal(&report, hint));
        }
    }
    attach(calls, &keeper, workspace).await?;
    Ok(keeper)
}

/// Runs the task to its end, passing its output and the signals on.
async fn execute(
    task: Task,
    directory: PathBuf,
    calls: Arc<ToolCalls>,
    lines: Option<LineSink>,
    stops: &mut Stops,
) -> Result<ExitStatus, Failure> {
    let mut running = Running::start(task, directory, Terminal::of_this_process())?;
    let copy = running.take_output();
    let mut copy = match copy {
        Some(output) => Some(Copy::of_output(output, OUTPUT_GRACE, calls, lines)?),
        None => None,
    };
    let mut kill_at = None;
    let status = loop {
        tokio::select! {
            status = running.wait() => break status?,
            signal = stops.next() => {
                if running.signal(signal) {
                    // Whoever asks twice wants it now.
                    let grace = if kill_at.is_some() { Duration::ZERO } else { STOP_GRACE };
                    kill_at = Some(Instant::now() + grace);
                }
            }
            () = sleep_until(kill_at.unwrap_or_else(Instant::now)), if kill_at.is_some() => {
                running.signal(Signal::KILL);
                kill_at = None;
            }
        }
    };
    if let Some(copy) = &mut copy {
        copy.stop();
        copy.end(stops).await;
    }
    Ok(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_code_wins_unless_it_is_zero() {
        for (command, sync, expected) in [(0, 0, 0), (0, 1, 1), (0, 143, 1), (3, 0, 3), (3, 1, 3)] {
            assert_eq!(final_code(command, sync), expected, "{command} {sync}");
        }
    }

    #[test]
    fn a_command_or_a_prompt_is_needed() {
        let words = vec!["ls".into(), "-l".into()];
        assert_eq!(choose_task(None, words.clone()), Ok(Task::Words(words)));
        let prompt = "-p is no flag here".to_owned();
        let task = choose_task(Some(prompt.clone()), vec![]);
        assert_eq!(task, Ok(Task::Claude { prompt }));
    }
}
