//! `/api/tokens`: minting, listing and revoking.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use uspark_shared::id::ProjectId;

use super::body;
use super::caller::{Asked, Caller, Named};
use crate::access::{Access, NewToken, TokenId, TokenRecord, TokenScope};
use crate::refusal::Refusal;
use crate::server::AppState;

/// Longest name, in characters: one line on a screen.
const NAME_CHARS: usize = 200;

/// Longest time that can be asked for, ten years: more is a mistake in the unit.
const MAX_SECONDS: u64 = 10 * 365 * 24 * 3600;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct New {
    project: String,
    access: String,
    /// Seconds; without it the token lasts as long as the one that mints it.
    expires_in: Option<u64>,
    name: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Of {
    project: Option<String>,
}

/// A token without its secret. Times are milliseconds since 1970.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    id: TokenId,
    /// `None` is the server's own.
    project: Option<ProjectId>,
    access: &'static str,
    name: Option<String>,
    expires_at: Option<u64>,
}

#[derive(Serialize)]
struct Minted {
    /// In full, this once.
    token: String,
    #[serde(flatten)]
    shown: Shown,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    #[serde(flatten)]
    shown: Shown,
    created_at: u64,
    revoked_at: Option<u64>,
}

#[derive(Serialize)]
struct Listed {
    tokens: Vec<Line>,
}

/// `POST /tokens`: a token for one project.
pub(super) async fn mint(
    caller: Caller,
    State(state): State<AppState>,
    body: Body,
) -> Result<Response, Refusal> {
    let own_end = caller.grant.expires_at;
    is_admin(&caller)?;
    let new: New = body::json(body).await?;
    let project = caller.project(&new.project, Access::Admin)?;
    let access = new.access.parse::<Access>();
    let access = access.map_err(|error| Refusal::Malformed(error.to_string()))?;
    if new
        .name
        .as_ref()
        .is_some_and(|name| name.chars().count() > NAME_CHARS)
    {
        return Err(Refusal::Malformed(format!(
            "a name has at most {NAME_CHARS} characters"
        )));
    }
    let now = (state.clock)();
    let end = new
        .expires_in
        .map(|seconds| expiry(now, seconds))
        .transpose()?;
    let token = NewToken {
        scope: TokenScope::Project(project),
        access,
        // No token reaches beyond the time of the one it came from.
        expires_at: end.into_iter().chain(own_end).min(),
        name: new.name,
    };
    let actor = caller.grant.token_id.as_str();
    let (record, token) = state.tokens.mint(token, actor, now).await?;
    let minted = Minted {
        token: token.reveal(),
        shown: shown(record),
    };
    Ok((StatusCode::CREATED, Json(minted)).into_response())
}

/// `GET /tokens`: without secrets; for the server's admin all, or `?project=`.
pub(super) async fn list(
    caller: Caller,
    State(state): State<AppState>,
    Asked(Of { project }): Asked<Of>,
) -> Result<Response, Refusal> {
    let project = caller.project_or_own(project.as_deref(), Access::Admin)?;
    let tokens = state.tokens.list(project.as_ref()).await?;
    let line = |record: TokenRecord| Line {
        created_at: record.created_at,
        revoked_at: record.revoked_at,
        shown: shown(record),
    };
    let tokens = tokens.into_iter().map(line).collect();
    Ok(Json(Listed { tokens }).into_response())
}

/// `DELETE /tokens/{id}`: it opens nothing from now on, and its sockets close.
pub(super) async fn revoke(
    caller: Caller,
    State(state): State<AppState>,
    Named(id): Named<String>,
) -> Result<Response, Refusal> {
    is_admin(&caller)?;
    let unknown = Refusal::NotFound("token");
    let id: TokenId = id.parse().map_err(|_| unknown.clone())?;
    let record = state
        .tokens
        .get(&id)
        .await?
        .ok_or_else(|| unknown.clone())?;
    let allowed = match &record.scope {
        TokenScope::Project(project) => caller.grant.allows(project, Access::Admin),
        TokenScope::Server => caller.grant.allows_server(Access::Admin),
    };
    // A project's admin is not told what others have.
    allowed.map_err(|_| unknown)?;
    let (actor, now) = (caller.grant.token_id.as_str(), (state.clock)());
    state.tokens.revoke(&id, actor, now).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `GET /tokens/self`: what the token in hand allows.
pub(super) async fn whoami(caller: Caller) -> Response {
    let grant = caller.grant;
    Json(Shown {
        id: grant.token_id,
        project: project_of(grant.scope),
        access: grant.access.as_str(),
        name: grant.name,
        expires_at: grant.expires_at,
    })
    .into_response()
}

/// Before a body or an id is looked at.
fn is_admin(caller: &Caller) -> Result<(), Refusal> {
    caller.project_or_own(None, Access::Admin).map(drop)
}

fn expiry(now: u64, seconds: u64) -> Result<u64, Refusal> {
    if !(1..=MAX_SECONDS).contains(&seconds) {
        let said =
            format!("`expiresIn` takes seconds, 1 to {MAX_SECONDS}; leave it out for no end");
        return Err(Refusal::Malformed(said));
    }
    Ok(now + seconds * 1000)
}

fn shown(record: TokenRecord) -> Shown {
    Shown {
        id: record.id,
        project: project_of(record.scope),
        access: record.access.as_str(),
        name: record.name,
        expires_at: record.expires_at,
    }
}

fn project_of(scope: TokenScope) -> Option<ProjectId> {
    match scope {
        TokenScope::Project(project) => Some(project),
        TokenScope::Server => None,
    }
}
