//! `/collab`: Hocuspocus framing, many documents on one socket.
//!
//! Every address (a document, or one of several providers of it) is authenticated by itself and
//! has its own seat. A refusal concerns one document; the socket stays.

mod documents;
mod frames;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::any;

use self::documents::Documents;
use self::frames::Frames;
use crate::refusal::Refusal;
use crate::server::AppState;
use crate::socket::{Incoming, Over, Watch, split, stopping};
use crate::subscriber::Outbox;

/// The route of Hocuspocus.
pub fn routes() -> Router<AppState> {
    Router::new().route("/collab", any(serve))
}

async fn serve(State(state): State<AppState>, upgrade: WebSocketUpgrade) -> Response {
    let limit = usize::try_from(state.limits.max_update_bytes)
        .unwrap_or(usize::MAX)
        .saturating_add(1024);
    let tasks = state.tasks.clone();
    upgrade
        .max_message_size(limit)
        .max_frame_size(limit)
        .on_upgrade(move |socket| async move {
            // Tracked, so that stopping waits for its last words.
            if let Err(error) = tasks.spawn(run(state, socket)).await {
                tracing::error!(%error, "a socket's task failed");
            }
        })
}

async fn run(state: AppState, socket: WebSocket) {
    let mut watch = Watch::new(state.tokens.revoked(), state.clock, state.stopping.clone());
    let outbox = Outbox::new(state.limits.outbox_bytes);
    let mut documents = Documents::new(state.clone(), outbox.clone());
    let writing = Frames::new(documents.sinks());
    let (mut reading, writer) = split(socket, &outbox, state.limits.max_update_bytes, writing);
    let writer = state.tasks.spawn(writer);
    loop {
        let (expires_at, deadline) = (documents.expires_at(), documents.deadline());
        let result = tokio::select! {
            incoming = reading.next() => match incoming {
                Incoming::Frame(frame) => documents.take(&frame).await,
                Incoming::Refused(refusal) => Err(refusal),
                Incoming::Gone => break,
            },
            event = documents.next_event() => {
                documents.handle(event).await;
                Ok(())
            }
            () = until(deadline) => Err(Refusal::Unauthorised),
            over = watch.over(expires_at) => match over {
                Over::Revoked(token) => documents.revoked(&token),
                Over::Expired => documents.expired(),
                Over::Missed | Over::Stopping => Err(stopping()),
            },
            () = outbox.closed() => break,
        };
        if let Err(refusal) = result {
            tracing::debug!(%refusal, "a socket is closed");
            documents.end(refusal);
            // The writer's end is this socket's.
            outbox.closed().await;
            break;
        }
    }
    documents.leave().await;
    outbox.close();
    if let Err(error) = writer.await {
        tracing::error!(%error, "a socket's writer failed");
    }
}

async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
