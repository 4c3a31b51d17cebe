//! HTTP: every call but the sockets.
//!
//! Owns: what a request and an answer look like. Must not do: decide what a change means (the
//! project's owner does), name a status for a failure ([`crate::refusal`] does), log a query (it
//! may hold a token).
//!
//! Invariants:
//! - Nothing is looked at before the token is: an unknown token learns nothing, and another
//!   project's token learns what it would of a project that does not exist.
//! - Bodies stream. In memory there is at most one update of a document for each request.
//! - Every failure is `application/problem+json`.

mod archive;
mod audit;
mod blobs;
mod body;
mod caller;
mod content;
mod events;
mod files;
mod full;
mod headers;
mod health;
mod linger;
mod metrics;
mod problem;
mod projects;
mod tokens;
mod zip;

use std::any::Any;

use axum::Router;
use axum::http::{HeaderName, Request, header};
use axum::middleware::{from_fn, map_response, map_response_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowHeaders, Any as AnyOrigin, CorsLayer};
use tower_http::trace::TraceLayer;
use tracing::Span;

use crate::refusal::Refusal;
use crate::server::AppState;

/// The place of an update in the log of its project's document.
const X_VERSION: HeaderName = HeaderName::from_static("x-version");

/// All that the server serves.
pub(crate) fn router(state: AppState) -> Router {
    let api = Router::new()
        .route("/projects", get(projects::list).post(projects::create))
        .route(
            "/projects/{project}",
            get(projects::read)
                .patch(projects::patch)
                .delete(projects::delete),
        )
        .route("/projects/{project}/archive", get(archive::read))
        .route(
            "/projects/{project}/events",
            get(events::follow).post(events::publish),
        )
        .route(
            "/projects/{project}/files/{*path}",
            get(files::read).put(files::write).delete(files::delete),
        )
        .route("/blobs", post(blobs::upload))
        .route("/blobs/{hash}", get(blobs::read).head(blobs::look))
        .route("/tokens", get(tokens::list).post(tokens::mint))
        .route("/tokens/self", get(tokens::whoami))
        .route("/tokens/{id}", delete(tokens::revoke))
        .route("/audit", get(audit::list));
    let all = probes()
        .nest("/api", api)
        .merge(crate::ws::routes())
        .merge(crate::collab::routes())
        .fallback(|| async { Refusal::NotFound("such address") })
        .method_not_allowed_fallback(|| async { Refusal::Method });
    layered(all, state)
}

/// What is served on a connection that is one too many: whoever watches the server, and a refusal.
pub(crate) fn full_router(state: AppState) -> Router {
    let probes = probes().fallback(full::turn_away);
    layered(probes, state)
}

fn probes() -> Router<AppState> {
    Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(metrics::read))
}

fn layered(router: Router<AppState>, state: AppState) -> Router {
    router
        .layer(from_fn(linger::linger))
        .layer(map_response(problem::in_our_form))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(map_response_with_state(state.clone(), metrics::count))
        .layer(cors())
        .layer(TraceLayer::new_for_http().make_span_with(span))
        .with_state(state)
}

/// Without the query.
fn span<B>(request: &Request<B>) -> Span {
    tracing::debug_span!("http", method = %request.method(), path = request.uri().path())
}

fn panicked(_: Box<dyn Any + Send>) -> Response {
    Refusal::Internal.into_response()
}

/// Any page may call: a token is in a header, never in a cookie, so no page acts for another.
fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(AnyOrigin)
        .allow_methods(AnyOrigin)
        // `*` would not cover Authorization.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([
            X_VERSION,
            header::ETAG,
            header::CONTENT_RANGE,
            header::ACCEPT_RANGES,
            header::CONTENT_DISPOSITION,
            header::LOCATION,
            header::RETRY_AFTER,
        ])
        .max_age(std::time::Duration::from_secs(24 * 60 * 60))
}
