//! Connections over the limit: told so, and closed.

use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};

use crate::metrics::Held;
use crate::refusal::Refusal;
use crate::server::AppState;
use crate::socket;

/// Refuses a request, or closes a socket: a browser cannot see why an upgrade was refused.
pub(super) async fn turn_away(
    State(state): State<AppState>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let reason = "as many connections are open as the server takes";
    let refusal = Refusal::Unavailable(reason.into());
    if upgrade.is_ok() {
        state.metrics.socket_refused(&refusal);
        return socket::accept(
            &state,
            &headers,
            upgrade,
            Held::default(),
            async move |socket| {
                socket::turn_away(socket, None, &refusal).await;
            },
        );
    }
    let mut response = refusal.into_response();
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(header::CONNECTION, close);
    response
}
