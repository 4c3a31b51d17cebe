//! `/api/blobs`: contents by hash.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use uspark_shared::id::BlobHash;

use super::audit::note;
use super::caller::{Asked, Caller, Named};
use super::content::{Lasts, send};
use super::headers::etag;
use super::{body, projects};
use crate::access::Access;
use crate::project::Command;
use crate::refusal::Refusal;
use crate::server::AppState;

#[derive(Deserialize)]
pub(super) struct Into {
    project: Option<String>,
}

#[derive(Serialize)]
struct Uploaded {
    hash: BlobHash,
    size: u64,
}

/// `POST /blobs?project={id}`; a project's own token need not say which.
pub(super) async fn upload(
    caller: Caller,
    State(state): State<AppState>,
    Asked(into): Asked<Into>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let project = caller.project_or_own(into.project.as_deref(), Access::Write)?;
    let project = project.ok_or_else(|| {
        Refusal::Malformed("say which project the blob is for: `POST /api/blobs?project=…`".into())
    })?;
    // Before megabytes are received for a project that is not there.
    projects::must_exist(&state, &project).await?;
    let stored = body::store(&state, &project, &headers, body).await?;
    let arrived = Command::BlobArrived(stored.hash);
    state.projects.tell(&project, arrived).await;
    if stored.created {
        let what = format!("{} {} bytes", stored.hash, stored.size);
        note(&state, &caller, "blob.upload", Some(&project), what);
    }
    let location = format!("/api/blobs/{}", stored.hash);
    let location = HeaderValue::from_str(&location).expect("a hash is hexadecimal digits");
    let headers = [
        (header::LOCATION, location),
        (header::ETAG, etag(&stored.hash)),
    ];
    let uploaded = Uploaded {
        hash: stored.hash,
        size: stored.size,
    };
    Ok((StatusCode::CREATED, headers, Json(uploaded)).into_response())
}

/// `GET` and `HEAD /blobs/{hash}`: what the token's project was given, whoever names the hash.
/// The server's own token may say with `?project=` whose eyes it looks through.
pub(super) async fn read(
    caller: Caller,
    State(state): State<AppState>,
    Asked(from): Asked<Into>,
    Named(hash): Named<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let hash = hash.parse()?;
    let project = caller.project_or_own(from.project.as_deref(), Access::Read)?;
    send(&state, project.as_ref(), &hash, &headers, Lasts::Forever).await
}

/// `HEAD /blobs/{hash}`: who may write will not send what is there, so it stays for them to name it.
pub(super) async fn look(
    caller: Caller,
    State(state): State<AppState>,
    Asked(from): Asked<Into>,
    Named(hash): Named<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let writable = caller.project_or_own(from.project.as_deref(), Access::Write);
    if let (Ok(Some(project)), Ok(hash)) = (writable, hash.parse()) {
        state.blobs.renew(&project, &hash).await?;
    }
    read(caller, State(state), Asked(from), Named(hash), headers).await
}
