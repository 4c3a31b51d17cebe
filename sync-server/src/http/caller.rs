//! Who asks, and what in the address they ask for.

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use uspark_shared::id::ProjectId;

use crate::access::{Access, Grant, TokenScope};
use crate::project::Attribution;
use crate::refusal::Refusal;
use crate::server::AppState;

/// The holder of a valid token. A handler takes it first, so that nothing else is looked at
/// without one.
pub(super) struct Caller {
    pub grant: Grant,
}

impl Caller {
    /// The project named in an address, if the token reaches it. Says nothing of whether it
    /// exists.
    pub fn project(&self, id: &str, access: Access) -> Result<ProjectId, Refusal> {
        let project = id.parse()?;
        self.grant.allows(&project, access)?;
        Ok(project)
    }

    /// The project that `named` names, or else the token's own; `None` for the server's token.
    pub fn project_or_own(
        &self,
        named: Option<&str>,
        access: Access,
    ) -> Result<Option<ProjectId>, Refusal> {
        if let Some(id) = named {
            return self.project(id, access).map(Some);
        }
        match &self.grant.scope {
            TokenScope::Project(own) => {
                self.grant.allows(own, access)?;
                Ok(Some(own.clone()))
            }
            TokenScope::Server => {
                self.grant.allows_server(access)?;
                Ok(None)
            }
        }
    }

    /// What changes of this request are put down to.
    pub fn who(&self) -> Attribution {
        Attribution::of(&self.grant)
    }
}

impl FromRequestParts<AppState> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Refusal> {
        let token = parts.headers.get(AUTHORIZATION).and_then(|value| {
            let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
            scheme
                .eq_ignore_ascii_case("bearer")
                .then_some(token.trim())
        });
        let token = token.ok_or(Refusal::Unauthorised)?;
        let grant = state.tokens.verify(token, (state.clock)()).await?;
        let counted = state.usage.request(&grant.token_id);
        counted.map_err(|wait| Refusal::TooMany {
            what: "this token asks too often",
            retry_after: wait.as_secs() + 1,
        })?;
        Ok(Self { grant })
    }
}

/// What the address names, percent-decoded.
pub(super) struct Named<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<AppState> for Named<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Refusal> {
        let path = <Path<T> as FromRequestParts<AppState>>::from_request_parts(parts, state).await;
        let Path(named) = path.map_err(|error: PathRejection| {
            Refusal::Malformed(format!("the address cannot be read: {error}"))
        })?;
        Ok(Self(named))
    }
}

/// What stands after the question mark.
pub(super) struct Asked<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<AppState> for Asked<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Refusal> {
        // The error's own words may repeat the query, and with it a token: only serde's are given.
        match Query::<T>::try_from_uri(&parts.uri) {
            Ok(Query(asked)) => Ok(Self(asked)),
            Err(error) => {
                use std::error::Error as _;
                let why = error
                    .source()
                    .map_or_else(String::new, |why| format!(": {why}"));
                Err(Refusal::Malformed(format!("the query cannot be read{why}")))
            }
        }
    }
}
