//! HTTP.
use crate::server::AppState;
use axum::Router;
/// All routes.
pub(crate) fn router(state: AppState) -> Router {
    Router::new().with_state(state)
}
