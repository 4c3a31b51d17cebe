//! `pull` and `push`: one way, once.

use std::fmt::Write as _;

use serde_json::json;
use uspark_shared::path::FilePath;
use uspark_shared::printable::printable;

use super::args;
use super::failure::Failure;
use super::keeper::{Finished, Plan, Unreachable, Wanted};
use super::output::{Output, list, no_such, not_equal, of, say, unreadable, warnings, whys};
use super::paths::Scope;
use super::place::{Missing, Workspace};
use super::signals::{Stops, stopped};
use crate::control::ReportView;
use crate::engine::{Direction, MassDelete};

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The workspace becomes as the project.
    Pull,
    /// The project becomes as the workspace.
    Push,
}

/// Runs `pull` or `push`.
pub async fn transfer(way: Way, given: args::Transfer, output: Output) -> Result<u8, Failure> {
    let (command, direction, missing) = match way {
        Way::Pull => ("pull", Direction::Pull, Missing::IsMade),
        Way::Push => ("push", Direction::Push, Missing::IsAnError),
    };
    // Of those that an agent holds, only what goes this way.
    let allowed = match way {
        Way::Pull => MassDelete::PassesHere,
        Way::Push => MassDelete::PassesThere,
    };
    let workspace = Workspace::find(&given.target, missing)?;
    let scope = Scope::parse(&given.paths, &workspace.current, &workspace.root)?;
    let named = scope.into_paths();
    let patience = given.target.place.sync_timeout;
    let wanted = Wanted {
        command,
        direction,
        paths: named.clone(),
        mass_delete: given.target.mass_delete(allowed),
        run: None,
        unreachable: Unreachable::Retry,
        patience,
    };
    let mut stops = Stops::listen()?;
    let work = async {
        let plan = Plan::make(&workspace, &given.target.connection).await?;
        let mut keeper = plan.start(&workspace, wanted).await?;
        keeper.settle(patience).await?;
        let unknown = match named.is_empty() {
            true => Vec::new(),
            false => keeper.unknown(named.clone()).await?,
        };
        Ok::<_, Failure>((keeper.finish(patience).await?, unknown))
    };
    let (finished, mut unknown) = tokio::select! {
        ended = work => ended?,
        signal = stops.next() => {
            return Err(stopped(signal, command, "the same command goes on from there"));
        }
    };
    // What was just removed was there to be named.
    unknown.retain(|reason| {
        !reason
            .path
            .as_deref()
            .is_some_and(|path| was(&finished, path))
    });

    let report = &finished.report;
    let failure = match report.done {
        true => no_such(&unknown)
            .or_else(|| unreadable(command, report))
            .or_else(|| left_out(command, report, &named)),
        false => Some(not_equal(
            report,
            "what is not sent is kept in .uspark; the same command goes on from there",
        )),
    };
    let object = json!({
        "command": command,
        "project": workspace.project,
        "changes": finished.changes.iter().map(|(path, sign)| match sign {
            '-' => json!({"removed": path}),
            _ => json!({"path": path}),
        }).collect::<Vec<_>>(),
        "unknown": unknown,
        "report": report,
    });
    say(warnings(report));
    if !report.done {
        say(list("warning: ", &whys(&unknown)));
    }
    let lines = summary(way, &finished, failure.is_some());
    Ok(output.conclude(&lines, object, failure))
}

/// Whether something at or below a path changed.
fn was(finished: &Finished, path: &str) -> bool {
    let below = format!("{path}/");
    let mut changed = finished.changes.keys().map(FilePath::as_str);
    changed.any(|changed| changed == path || changed.starts_with(&below))
}

/// Something is not synced that was named.
fn left_out(command: &str, report: &ReportView, named: &[FilePath]) -> Option<Failure> {
    let skipped = report.skipped.iter().find(|skipped| {
        let is_named = |named: &FilePath| skipped.path.as_deref() == Some(named.as_str());
        named.iter().any(is_named)
    })?;
    let path = printable(skipped.path.as_deref().unwrap_or_default());
    let why = printable(&skipped.why);
    Some(
        Failure::new(format!("cannot {command} {path}: {why}"))
            .hint("check the name, or leave it out"),
    )
}

fn summary(way: Way, finished: &Finished, failed: bool) -> String {
    let mut lines = String::new();
    for (path, sign) in &finished.changes {
        let _ = writeln!(lines, "{sign} {}", printable(path.as_str()));
    }
    let report = &finished.report;
    let count = finished.changes.len();
    lines += &match (way, count) {
        (_, 0) if failed => String::new(),
        (Way::Pull, 0) if report.equal => "All files are up to date\n".to_owned(),
        (Way::Push, 0) if report.equal => {
            "No changes to push (all files are up to date)\n".to_owned()
        }
        (Way::Pull, 0) => "No changes to pull\n".to_owned(),
        (Way::Push, 0) => "No changes to push\n".to_owned(),
        (Way::Pull, count) if failed => format!("Pulled {}\n", of(count, "file")),
        (Way::Push, count) if failed => format!("Pushed {}\n", of(count, "file")),
        (Way::Pull, count) => format!("Successfully pulled {}\n", of(count, "file")),
        (Way::Push, count) => format!("Successfully pushed {}\n", of(count, "file")),
    };
    lines += &left_to("here", "pushed: uspark push", report.not_pushed.len());
    lines += &left_to(
        "on the server",
        "pulled: uspark pull",
        report.not_pulled.len(),
    );
    lines
}

/// What differs and is the other command's to bring over.
fn left_to(side: &str, other: &str, count: usize) -> String {
    let (differ, are) = if count == 1 {
        ("differs", "is")
    } else {
        ("differ", "are")
    };
    match count {
        0 => String::new(),
        count => format!(
            "{} {differ} {side} and {are} not {other}\n",
            of(count, "file")
        ),
    }
}
