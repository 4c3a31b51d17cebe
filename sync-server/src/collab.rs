//! `/collab`: Hocuspocus framing, many documents on one socket.
//!
//! Every address (a document, or one of several providers of it) is authenticated by itself and
//! has its own seat. A refusal concerns one document; the socket stays.

mod decoder;
mod document;
mod documents;
mod encoder;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::any;
use tokio::time::Instant;

use self::documents::Documents;
use self::encoder::Encoder;
use crate::metrics::SocketKind;
use crate::server::AppState;
use crate::socket::{self, Incoming, Over, Served, Watch};
use crate::subscriber::Outbox;

/// The route of Hocuspocus.
pub fn routes() -> Router<AppState> {
    Router::new().route("/collab", any(serve))
}

async fn serve(
    State(state): State<AppState>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let of_socket = state.clone();
    let counted = state.metrics.socket(SocketKind::Collab);
    socket::accept(&state, &headers, upgrade, counted, |socket| {
        run(of_socket, socket)
    })
}

async fn run(state: AppState, socket: WebSocket) {
    let mut watch = Watch::start(&state);
    let outbox = Outbox::measured(state.limits.outbox_bytes, Arc::clone(&state.metrics));
    let mut documents = Documents::new(state.clone(), outbox.clone());
    let writing = Encoder::new(documents.teller());
    let mut served = Served::start(&state, socket, &outbox, writing);
    let reason = loop {
        let (expires_at, deadline) = (documents.expires_at(), documents.deadline());
        let result = tokio::select! {
            incoming = served.reading.next(), if documents.has_room() => match incoming {
                Incoming::Frame(frame) => documents.take(&frame).await,
                Incoming::Refused(refusal) => Err(refusal),
                Incoming::Gone => break None,
            },
            event = documents.next_event() => documents.handle(event).await,
            () = until(deadline) => Err(documents.idle()),
            over = watch.over(expires_at) => match over {
                Over::Revoked(token) => documents.revoked(token).await,
                Over::Expired => documents.expired().await,
                Over::Missed | Over::Stopping => Err(socket::come_back()),
            },
            // The writer said the last thing.
            () = outbox.closed() => break None,
        };
        if let Err(refusal) = result {
            break Some(refusal);
        }
    };
    if let Some(reason) = reason {
        tracing::debug!(%reason, "a socket is closed");
        documents.end(reason);
    }
    tokio::join!(served.finish(), documents.leave());
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
