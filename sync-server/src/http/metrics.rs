//! `GET /metrics`, and counting what requests are refused with.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use crate::refusal::Refusal;
use crate::server::AppState;

/// The form that Prometheus reads.
const KIND: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Numbers of this process, without a name or an id in them: they need no token.
pub(super) async fn read(State(state): State<AppState>) -> Result<impl IntoResponse, Refusal> {
    let text = state.metrics.text().map_err(|_| Refusal::Internal)?;
    Ok(([(CONTENT_TYPE, KIND)], text))
}

/// Counts a failure by its status.
pub(super) async fn count(State(state): State<AppState>, response: Response) -> Response {
    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        state.metrics.request_refused(status.as_u16());
    }
    response
}
