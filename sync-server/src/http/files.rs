//! `/api/projects/{id}/files/{path}`: a file by path, for curl.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use uspark_shared::path::FilePath;

use super::audit::note;
use super::caller::{Asked, Caller, Named};
use super::content::{Lasts, send};
use super::headers::{etag, if_match, put_base};
use super::{body, projects};
use crate::access::Access;
use crate::project::{Command, FileView, ManifestFile};
use crate::refusal::Refusal;
use crate::server::AppState;

/// All permission bits there are.
const ALL_BITS: u32 = 0o7777;

#[derive(Deserialize)]
pub(super) struct With {
    /// Permission bits, octal as `chmod` takes them.
    mode: Option<String>,
}

#[derive(Serialize)]
struct Written {
    path: FilePath,
    #[serde(flatten)]
    file: ManifestFile,
}

/// `GET` and `HEAD`.
pub(super) async fn read(
    caller: Caller,
    State(state): State<AppState>,
    Named((id, path)): Named<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let project = caller.project(&id, Access::Read)?;
    let path: FilePath = path.parse()?;
    let ask = |reply| Command::File {
        path: path.clone(),
        reply,
    };
    let FileView { file, .. } = state.projects.ask(&project, ask).await?;
    let Some(hash) = file.hash else {
        return Err(Refusal::NoFile(match file.link {
            Some(target) => format!("`{path}` is a link to `{}`", target.escape_debug()),
            None => format!("`{path}` is a directory"),
        }));
    };
    let sent = send(&state, Some(&project), &hash, &headers, Lasts::NotAtAll).await?;
    note(
        &state,
        &caller,
        "file.read",
        Some(&project),
        path.to_string(),
    );
    Ok(sent)
}

/// `PUT`: merged against the content that `If-Match` names, or in place of what is there.
pub(super) async fn write(
    caller: Caller,
    State(state): State<AppState>,
    Named((id, path)): Named<(String, String)>,
    Asked(With { mode }): Asked<With>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let project = caller.project(&id, Access::Write)?;
    let path: FilePath = path.parse()?;
    let mode = mode.as_deref().map(permissions).transpose()?;
    let base = put_base(&headers)?;
    projects::must_exist(&state, &project).await?;
    let stored = body::store(&state, &project, &headers, body).await?;
    let who = caller.who();
    let ask = |reply| Command::Put {
        path: path.clone(),
        hash: stored.hash,
        base,
        mode,
        who: who.clone(),
        reply,
    };
    let FileView { path, file } = state.projects.ask(&project, ask).await?;
    note(
        &state,
        &caller,
        "file.write",
        Some(&project),
        path.to_string(),
    );
    let etag = file.hash.map(|hash| [(header::ETAG, etag(&hash))]);
    Ok((etag, Json(Written { path, file })).into_response())
}

/// `DELETE`, where `If-Match` is given only of that content.
pub(super) async fn delete(
    caller: Caller,
    State(state): State<AppState>,
    Named((id, path)): Named<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let project = caller.project(&id, Access::Write)?;
    let path: FilePath = path.parse()?;
    let (only, who) = (if_match(&headers)?, caller.who());
    let ask = |reply| Command::Delete {
        path: path.clone(),
        only,
        who: who.clone(),
        reply,
    };
    state.projects.ask(&project, ask).await?;
    note(
        &state,
        &caller,
        "file.delete",
        Some(&project),
        path.to_string(),
    );
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn permissions(octal: &str) -> Result<u32, Refusal> {
    let digits = octal.bytes().all(|b| b.is_ascii_digit());
    let bits = u32::from_str_radix(octal, 8)
        .ok()
        .filter(|bits| digits && *bits <= ALL_BITS);
    bits.ok_or_else(|| Refusal::Malformed("`mode` takes octal bits, as in `?mode=0755`".into()))
}
