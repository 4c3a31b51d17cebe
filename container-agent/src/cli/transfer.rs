//! `pull` and `push`: one way, once.

use std::fmt::Write as _;

use serde_json::json;
use uspark_shared::path::FilePath;

use super::args;
use super::failure::Failure;
use super::keeper::{Finished, Plan, Unreachable, Wanted};
use super::output::{Output, not_equal, of, warnings};
use super::paths::Scope;
use super::place::{Missing, Workspace};
use super::signals::{Stops, stopped};
use crate::disk::observe::UNREADABLE;
use crate::engine::Direction;

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
    let workspace = Workspace::find(&given.target, missing)?;
    let scope = Scope::parse(&given.paths, &workspace.current, &workspace.root)?;
    let named = scope.into_paths();
    let patience = given.target.place.sync_timeout;
    let wanted = Wanted {
        command,
        direction,
        paths: named.clone(),
        mass_delete: given.target.mass_delete(),
        run: None,
        unreachable: Unreachable::Fails,
        patience,
    };
    let mut stops = Stops::listen()?;
    let work = async {
        let plan = Plan::make(&workspace, &given.target.connection).await?;
        let mut keeper = plan.start(&workspace, wanted).await?;
        keeper.settle(patience).await?;
        keeper.finish(patience).await
    };
    let finished: Finished = tokio::select! {
        finished = work => finished?,
        signal = stops.next() => {
            return Err(stopped(signal, command, "the same command goes on from there"));
        }
    };

    let report = &finished.report;
    let failure = match report.equal {
        true => report
            .skipped
            .iter()
            .find(|skipped| {
                let is_named = |named: &FilePath| skipped.path.as_deref() == Some(named.as_str());
                skipped.why == UNREADABLE || named.iter().any(is_named)
            })
            .map(|skipped| {
                let path = skipped.path.as_deref().unwrap_or_default();
                Failure::new(format!("cannot {command} {path}: {}", skipped.why)).hint(
                    match skipped.why == UNREADABLE {
                        true => "give this user the right to read it, or name it in .usparkignore",
                        false => "check the name, or leave it out",
                    },
                )
            }),
        false => Some(not_equal(
            report,
            "what is not sent is kept in .uspark; the same command goes on from there",
        )),
    };
    let object = json!({
        "command": command,
        "project": workspace.project,
        "changes": finished.changes.iter().map(|change| match change.sign {
            '-' => json!({"removed": change.path}),
            _ => json!({"path": change.path}),
        }).collect::<Vec<_>>(),
        "report": report,
    });
    super::output::say(warnings(report));
    Ok(output.conclude(&summary(way, &finished), object, failure))
}

fn summary(way: Way, finished: &Finished) -> String {
    let mut lines = String::new();
    for change in &finished.changes {
        let _ = writeln!(lines, "{} {}", change.sign, change.path.escape_debug());
    }
    let count = match way {
        Way::Pull => finished.report.received,
        Way::Push => finished.report.sent,
    };
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    lines += &match (way, count) {
        (_, 0) if !finished.report.equal => String::new(),
        (Way::Pull, 0) => "All files are up to date\n".to_owned(),
        (Way::Push, 0) => "No changes to push (all files are up to date)\n".to_owned(),
        (Way::Pull, count) => format!("Successfully pulled {}\n", of(count, "file")),
        (Way::Push, count) => format!("Successfully pushed {}\n", of(count, "file")),
    };
    lines
}
