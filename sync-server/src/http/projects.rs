//! `/api/projects`: projects, and their document as an update or a manifest.

use std::num::NonZeroUsize;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uspark_shared::id::ProjectId;

use super::audit::{note, record};
use super::caller::{Asked, Caller, Named};
use super::headers::{version, wants_json};
use super::{X_VERSION, body};
use crate::access::{Access, TokenScope};
use crate::project::{Command, PutBase, Report};
use crate::refusal::Refusal;
use crate::server::AppState;
use crate::store::{ProjectRecord, Write, read as read_store};

/// Projects on a page, unless the client wants fewer.
const PAGE: usize = 1000;
/// Longest name, in characters: one line on a screen.
const NAME_CHARS: usize = 200;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    id: Option<ProjectId>,
    name: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Project {
    id: ProjectId,
    name: Option<String>,
    created_at: u64,
}

#[derive(Deserialize)]
pub(super) struct Page {
    after: Option<ProjectId>,
    limit: Option<NonZeroUsize>,
}

#[derive(Serialize)]
struct Listed {
    projects: Vec<Project>,
    /// What `after` takes for the next page.
    next: Option<ProjectId>,
}

#[derive(Deserialize)]
pub(super) struct Since {
    /// A state vector, base64url.
    sv: Option<String>,
}

#[derive(Serialize)]
struct Patched {
    version: u64,
    repaired: Vec<Report>,
}

/// `POST /projects`.
pub(super) async fn create(
    caller: Caller,
    State(state): State<AppState>,
    body: Body,
) -> Result<Response, Refusal> {
    caller.grant.allows_server(Access::Admin)?;
    let New { id, name } = body::json(body).await?;
    if name
        .as_ref()
        .is_some_and(|name| name.chars().count() > NAME_CHARS)
    {
        return Err(Refusal::Malformed(format!(
            "a name has at most {NAME_CHARS} characters"
        )));
    }
    let created_at = (state.clock)();
    let id = id.unwrap_or_else(fresh);
    let project = ProjectRecord {
        id: id.clone(),
        name,
        created_at,
    };
    let line = record(&state, &caller, "project.create", Some(&id), id.to_string());
    let writes = vec![Write::CreateProject(project.clone()), Write::Audit(line)];
    state.committer.commit(writes).await?;
    let location = format!("/api/projects/{id}");
    let location = HeaderValue::from_str(&location).expect("an id is letters and digits");
    let created = (
        StatusCode::CREATED,
        [(header::LOCATION, location)],
        Json(shown(project)),
    );
    Ok(created.into_response())
}

/// `GET /projects`: all, or for a project's token that one.
pub(super) async fn list(
    caller: Caller,
    State(state): State<AppState>,
    Asked(Page { after, limit }): Asked<Page>,
) -> Result<Response, Refusal> {
    let limit = limit.map_or(PAGE, NonZeroUsize::get).min(PAGE);
    let scope = caller.grant.scope.clone();
    let found = read_store(&state.store, move |store| match scope {
        TokenScope::Server => store.projects(after.as_ref(), limit + 1),
        TokenScope::Project(own) => {
            let is_later = after.as_ref().is_none_or(|after| own > *after);
            Ok(if is_later {
                store.project(&own)?.into_iter().collect()
            } else {
                Vec::new()
            })
        }
    });
    let mut projects: Vec<_> = found.await?.into_iter().map(shown).collect();
    let is_more = projects.len() > limit;
    projects.truncate(limit);
    let next = projects
        .last()
        .filter(|_| is_more)
        .map(|project| project.id.clone());
    Ok(Json(Listed { projects, next }).into_response())
}

/// `GET /projects/{id}`: the document, or what `?sv=` lacks of it; for those who accept JSON, the
/// manifest.
pub(super) async fn read(
    caller: Caller,
    State(state): State<AppState>,
    Named(id): Named<String>,
    Asked(Since { sv }): Asked<Since>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let project = caller.project(&id, Access::Read)?;
    let (mut response, version, what) = if wants_json(&headers) {
        let manifest = state.projects.ask(&project, Command::Manifest).await?;
        (
            Json(&manifest).into_response(),
            manifest.version,
            "manifest",
        )
    } else {
        let since = sv
            .map(|sv| URL_SAFE_NO_PAD.decode(sv.trim_end_matches('=')))
            .transpose();
        let since = since.map_err(|_| Refusal::Malformed("`sv` is no base64url".into()))?;
        let since = since.map(Bytes::from);
        let ask = |reply| Command::State {
            since: since.clone(),
            reply,
        };
        let (update, version) = state.projects.ask(&project, ask).await?;
        let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
        ((kind, update).into_response(), version, "document")
    };
    response.headers_mut().extend([
        (X_VERSION, HeaderValue::from(version)),
        (
            header::CACHE_CONTROL,
            HeaderValue::from_static("private, no-store"),
        ),
        (
            header::VARY,
            HeaderValue::from_static("accept, authorization"),
        ),
    ]);
    note(
        &state,
        &caller,
        "project.read",
        Some(&project),
        format!("{what} {version}"),
    );
    Ok(response)
}

/// `PATCH /projects/{id}`: applies an update. `X-Version` names what its author looked at.
pub(super) async fn patch(
    caller: Caller,
    State(state): State<AppState>,
    Named(id): Named<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let project = caller.project(&id, Access::Write)?;
    let base = version(&headers)?.map_or(PutBase::Nearest, PutBase::Version);
    must_exist(&state, &project).await?;
    let update = body::read(body, state.limits.max_update_bytes).await?;
    let who = caller.who();
    let ask = |reply| Command::Patch {
        update: update.clone(),
        base,
        who: who.clone(),
        reply,
    };
    let patched = state.projects.ask(&project, ask).await?;
    let what = format!("{} bytes, version {}", update.len(), patched.version);
    note(&state, &caller, "project.patch", Some(&project), what);
    let version = patched.version;
    let body = Json(Patched {
        version,
        repaired: patched.repaired,
    });
    Ok(([(X_VERSION, HeaderValue::from(version))], body).into_response())
}

/// `DELETE /projects/{id}`, with all that is stored of it and all its tokens.
pub(super) async fn delete(
    caller: Caller,
    State(state): State<AppState>,
    Named(id): Named<String>,
) -> Result<Response, Refusal> {
    let project = caller.project(&id, Access::Admin)?;
    let (actor, now) = (caller.grant.token_id.as_str(), (state.clock)());
    state.tokens.delete_project(&project, actor, now).await?;
    state.projects.tell(&project, Command::Deleted).await;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Refuses a project that is not there, before a body is received for it.
pub(super) async fn must_exist(state: &AppState, project: &ProjectId) -> Result<(), Refusal> {
    let id = project.clone();
    let found = read_store(&state.store, move |store| store.project(&id)).await?;
    found.map(drop).ok_or(Refusal::NotFound("project"))
}

fn shown(
    ProjectRecord {
        id,
        name,
        created_at,
    }: ProjectRecord,
) -> Project {
    Project {
        id,
        name,
        created_at,
    }
}

fn fresh() -> ProjectId {
    let mut bytes = [0; 15];
    getrandom::fill(&mut bytes).expect("the system gives random bytes once it has booted");
    ProjectId::from_random(bytes)
}
