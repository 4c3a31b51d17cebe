//! `status`: what the agent of a workspace is doing.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::json;
use uspark_shared::printable::printable;

use super::args;
use super::failure::Failure;
use super::keeper::busy;
use super::output::{Output, let_pass, list, not_equal, of, reasons, span};
use super::place::existing_root;
use crate::clock::now_ms;
use crate::config::WorkspaceConfig;
use crate::control::message::LinkView;
use crate::control::{ControlClient, StatusView};
use crate::disk::state::is_locked;

/// Runs `status`.
pub async fn status(given: args::Status, output: Output) -> Result<u8, Failure> {
    let root = existing_root(given.place.workspace.as_deref())?;
    let mirror = WorkspaceConfig::of(&root).read()?;
    let mut lines = format!("workspace  {}\n", printable(&root.display().to_string()));
    let began = Instant::now();
    let patience = given.place.sync_timeout;
    let client = match given.wait {
        true => ControlClient::connect_soon(&root, patience).await?,
        false => ControlClient::connect(&root).await?,
    };
    let Some(mut client) = client else {
        let nobody = match is_locked(&root) {
            true => busy(&root),
            false => Failure::new(format!("no agent is at work in {}", root.display()))
                .hint("`uspark watch` starts one; `uspark pull` and `uspark push` sync once"),
        };
        if let Some(mirror) = &mirror {
            let _ = writeln!(lines, "project    {} on {}", mirror.project, mirror.server);
        }
        lines += "agent      none: `uspark diff --stat` shows what differs now\n";
        let object = json!({"workspace": root, "agent": null,
            "project": mirror.as_ref().map(|mirror| &mirror.project),
            "server": mirror.as_ref().map(|mirror| &mirror.server)});
        return Ok(output.conclude(&lines, object, given.wait.then_some(nobody)));
    };
    let waited = match given.wait {
        true => Some(
            client
                .barrier(patience.saturating_sub(began.elapsed()))
                .await?,
        ),
        false => None,
    };
    let mut status = client.status().await?;
    if let Some(report) = waited {
        status.report = report;
    }
    lines += &describe(&status);
    // A barrier that gives up before its time waits for somebody to change something.
    let hint = match began.elapsed() < patience {
        true => {
            "waiting longer does not help: see to the reasons above; it is then tried by itself"
        }
        false => "wait longer with --sync-timeout, or see the reasons above",
    };
    let failure = (given.wait && !status.report.done).then(|| not_equal(&status.report, hint));
    let object = json!({"workspace": root, "agent": status,
        "project": status.project, "server": status.server});
    Ok(output.conclude(&lines, object, failure))
}

fn describe(status: &StatusView) -> String {
    let report = &status.report;
    let link = match &status.link {
        LinkView::Connecting => "connecting".to_owned(),
        LinkView::Online => "connected".to_owned(),
        LinkView::Offline { why } => format!("away, trying again: {why}"),
    };
    let count = |n: u64, noun| of(usize::try_from(n).unwrap_or(usize::MAX), noun);
    let equal = if report.equal {
        "equal".to_owned()
    } else {
        of(report.pending.len(), "path") + " left"
    };
    let mut lines = format!(
        "project    {} on {}\n\
         agent      uspark {}, process {}\n\
         server     {link}\n\
         state      {equal}; {}, {} not acknowledged yet\n\
         since then {} sent, {} received\n",
        status.project,
        status.server,
        status.command,
        status.pid,
        count(status.files, "file"),
        count(status.unacknowledged, "update"),
        report.sent,
        report.received,
    );
    if let Some(at) = status.last_acknowledged {
        let ago = Duration::from_millis(now_ms().saturating_sub(at));
        let _ = writeln!(lines, "last saved {} ago", span(ago));
    }
    let allowed = status
        .watches_allowed
        .map_or(String::new(), |n| format!(" of {n} allowed"));
    let _ = writeln!(lines, "watches    {}{allowed}", status.watches);
    if report.held > 0 {
        let held = count(report.held, "deletion");
        let _ = writeln!(
            lines,
            "held       {held}; if that is meant: {}",
            let_pass(report)
        );
    }
    let conflicts: Vec<_> = report
        .conflicts
        .iter()
        .map(|conflict| format!("{}: the other version is {}", conflict.path, conflict.kept))
        .collect();
    lines += &list("left       ", &reasons(&report.pending));
    lines += &list("not synced ", &reasons(&report.skipped));
    lines += &list("conflict   ", &conflicts);
    lines
}
