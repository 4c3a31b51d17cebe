//! The audit log: lines about requests, and `GET /api/audit`.

use std::num::NonZeroUsize;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use uspark_shared::id::ProjectId;

use super::caller::{Asked, Caller};
use crate::access::Access;
use crate::refusal::Refusal;
use crate::server::AppState;
use crate::store::{AuditRecord, Write, read as read_store};

/// Lines on a page, unless the client wants fewer.
const PAGE: usize = 1000;
/// Lines of other projects that are passed over for one page, so that a request ends.
const SCAN: usize = 20 * PAGE;

#[derive(Deserialize)]
pub(super) struct Page {
    project: Option<String>,
    after: Option<u64>,
    limit: Option<NonZeroUsize>,
}

#[derive(Serialize)]
struct Listed {
    records: Vec<Line>,
    /// What `after` takes for the next page, which may be shorter than wanted, or empty.
    next: Option<u64>,
}

#[derive(Serialize)]
struct Line {
    number: u64,
    at: u64,
    actor: String,
    action: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    project: Option<ProjectId>,
    detail: String,
}

/// Who did what, and never with what contents.
pub(super) fn record(
    state: &AppState,
    caller: &Caller,
    action: &str,
    project: Option<&ProjectId>,
    detail: String,
) -> AuditRecord {
    AuditRecord {
        at: (state.clock)(),
        actor: caller.grant.token_id.to_string(),
        action: action.into(),
        project: project.cloned(),
        detail,
    }
}

/// Queues a line about what was just done, in the order of what is committed. The answer does not
/// wait for it: a crash within milliseconds may lose the line, not the change.
pub(super) fn note(
    state: &AppState,
    caller: &Caller,
    action: &str,
    project: Option<&ProjectId>,
    detail: String,
) {
    let line = record(state, caller, action, project, detail);
    let written = state.committer.submit(vec![Write::Audit(line.clone())]);
    state.tasks.spawn(async move {
        if let Err(error) = written.await {
            let AuditRecord {
                actor,
                action,
                detail,
                ..
            } = line;
            tracing::error!(actor, action, detail, %error, "not in the audit log");
        }
    });
}

/// `GET /audit`: the server's admin sees all, or `?project=`; a project's admin that project.
pub(super) async fn list(
    caller: Caller,
    State(state): State<AppState>,
    Asked(page): Asked<Page>,
) -> Result<Response, Refusal> {
    let project = caller.project_or_own(page.project.as_deref(), Access::Admin)?;
    let limit = page.limit.map_or(PAGE, NonZeroUsize::get).min(PAGE);
    let after = page.after.unwrap_or(0);
    let listed = read_store(&state.store, move |store| {
        let (mut records, mut last, mut scanned) = (Vec::new(), after, 0);
        loop {
            let chunk = store.audit(last, PAGE)?;
            let is_end = chunk.len() < PAGE;
            scanned += chunk.len();
            for (number, record) in chunk {
                if records.len() == limit {
                    return Ok(Listed {
                        records,
                        next: Some(last),
                    });
                }
                last = number;
                if project.is_none() || record.project == project {
                    records.push(shown(number, record));
                }
            }
            if is_end {
                return Ok(Listed {
                    records,
                    next: None,
                });
            }
            if scanned >= SCAN {
                return Ok(Listed {
                    records,
                    next: Some(last),
                });
            }
        }
    });
    Ok(Json(listed.await?).into_response())
}

fn shown(number: u64, record: AuditRecord) -> Line {
    let AuditRecord {
        at,
        actor,
        action,
        project,
        detail,
    } = record;
    Line {
        number,
        at,
        actor,
        action,
        project,
        detail,
    }
}
