//! `/ws/{project}` and `/ws/{project}/{doc}`: y-websocket, one document on a socket.
//!
//! Owns: who is let in, and the frames. A socket without a right is accepted, told so and closed,
//! because a browser cannot see why an upgrade was refused.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, Uri, header};
use axum::response::Response;
use axum::routing::any;
use bytes::Bytes;
use uspark_shared::codec::awareness::KEEP_ALIVE_FRAME;
use uspark_shared::codec::message::{Message, SyncMessage, decode_frame};
use uspark_shared::id::DocumentName;

use crate::access::{Access, Grant, SocketPlace, Token};
use crate::metrics::SocketKind;
use crate::project::{Attribution, ProjectHandle, Seat, SeatAck, SeatMessage};
use crate::refusal::Refusal;
use crate::server::AppState;
use crate::socket::{self, Frames, Incoming, Reading, Served, Watch, Writing};
use crate::subscriber::{Next, Outbox, Outgoing, SeatId};

/// What a reader is told when it writes. Its socket stays.
const READ_ONLY: &str = "this token may read, not write: the change was not taken";

/// The routes of y-websocket.
pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/ws/{project}", any(serve))
        .route("/ws/{project}/{doc}", any(serve))
}

async fn serve(
    State(state): State<AppState>,
    uri: Uri,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    // No character of a name is ever escaped, so what is escaped is no name.
    let name = uri.path().trim_start_matches("/ws/").to_owned();
    let token = token_of(query.as_deref(), &headers);
    let connection = Connection {
        state: state.clone(),
        name,
        token,
    };
    let counted = state.metrics.socket(SocketKind::Ws);
    socket::accept(&state, &headers, upgrade, counted, |socket| {
        connection.run(socket)
    })
}

/// The token in the header; in the query or a subprotocol, which is all that browsers can set.
fn token_of(query: Option<&str>, headers: &HeaderMap) -> Option<String> {
    let in_header = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        scheme
            .eq_ignore_ascii_case("bearer")
            .then(|| token.trim().to_owned())
    });
    // Nothing in a token is ever escaped either.
    let in_query = || {
        let mut pairs = query?.split('&');
        let token = pairs.find_map(|pair| pair.strip_prefix("token="))?;
        Some(token.to_owned())
    };
    let in_subprotocol = || {
        let mut names = socket::subprotocols(headers);
        names
            .find(|name| name.parse::<Token>().is_ok())
            .map(str::to_owned)
    };
    in_header.or_else(in_query).or_else(in_subprotocol)
}

struct Connection {
    state: AppState,
    name: String,
    token: Option<String>,
}

/// A seat that was taken, and what it was given for.
struct Joined {
    handle: ProjectHandle,
    seat: SeatId,
    grant: Grant,
    place: SocketPlace,
}

impl Connection {
    async fn run(self, socket: WebSocket) {
        let mut watch = Watch::start(&self.state);
        let metrics = Arc::clone(&self.state.metrics);
        let outbox = Outbox::measured(self.state.limits.outbox_bytes, metrics);
        let joined = tokio::select! {
            joined = self.join(&outbox) => joined,
            () = self.state.stopping.cancelled() => Err(socket::come_back()),
        };
        let Joined {
            handle,
            seat,
            grant,
            place,
        } = match joined {
            Ok(joined) => joined,
            Err(refusal) => {
                tracing::debug!(document = self.name, %refusal, "a socket is turned away");
                self.state.metrics.socket_refused(&refusal);
                let reason = refusal.to_string();
                let denied = Message::AuthDenied(&reason).encode();
                socket::turn_away(socket, Some(denied.into()), &refusal).await;
                return;
            }
        };
        let writing = Encoder {
            handle: handle.clone(),
        };
        let mut served = Served::start(&self.state, socket, &outbox, writing);
        let reason = tokio::select! {
            reason = read(&mut served.reading, &outbox, &handle, seat) => reason,
            reason = watch.over_for(&grant) => Some(reason),
            // The writer said the last thing.
            () = outbox.closed() => None,
        };
        if let Some(reason) = reason {
            tracing::debug!(document = self.name, %reason, "a socket is closed");
            outbox.end([], reason);
        }
        tokio::join!(served.finish(), handle.leave(seat));
        drop(place);
    }

    async fn join(&self, outbox: &Outbox) -> Result<Joined, Refusal> {
        let name: DocumentName = self.name.parse()?;
        let token = self.token.as_deref().ok_or(Refusal::Unauthorised)?;
        let tokens = &self.state.tokens;
        let grant = tokens.verify(token, (self.state.clock)()).await?;
        grant.allows(&name.project, Access::Read)?;
        let place = socket::place(&self.state, &grant.token_id)?;
        let seat = Seat {
            id: SeatId::fresh(),
            address: Arc::from(self.name.as_str()),
            outbox: outbox.clone(),
            ack: SeatAck::Echo,
            may_write: grant.allows(&name.project, Access::Write).is_ok(),
            who: Attribution::of(&grant),
        };
        let id = seat.id;
        let projects = &self.state.projects;
        let handle = projects.join(&name.project, name.text, seat).await?;
        Ok(Joined {
            handle,
            seat: id,
            grant,
            place,
        })
    }
}

/// Takes frames until there are no more, and gives why.
async fn read(
    reading: &mut Reading,
    outbox: &Outbox,
    handle: &ProjectHandle,
    seat: SeatId,
) -> Option<Refusal> {
    loop {
        let taken = match reading.next().await {
            Incoming::Frame(frame) => take(&frame, outbox, handle, seat).await,
            Incoming::Refused(refusal) => Err(refusal),
            Incoming::Gone => return None,
        };
        if let Err(refusal) = taken {
            return Some(refusal);
        }
    }
}

async fn take(
    frame: &Bytes,
    outbox: &Outbox,
    handle: &ProjectHandle,
    seat: SeatId,
) -> Result<(), Refusal> {
    for message in decode_frame(frame)? {
        let message = match message {
            Message::Sync(SyncMessage::Step1(body)) => SeatMessage::Step1(frame.slice_ref(body)),
            Message::Sync(SyncMessage::Step2(body) | SyncMessage::Update(body)) => {
                SeatMessage::Update(frame.slice_ref(body))
            }
            Message::Awareness(body) => SeatMessage::Awareness(frame.slice_ref(body)),
            Message::QueryAwareness => SeatMessage::QueryAwareness,
            // Of no meaning to a server, or of a protocol that we do not speak.
            Message::AuthDenied(_) | Message::Unknown(_) => continue,
        };
        // Many small questions in one frame may have large answers.
        outbox.has_room().await;
        if !handle.message(seat, message).await {
            return Err(socket::come_back());
        }
    }
    Ok(())
}

/// Writes frames of y-websocket.
struct Encoder {
    handle: ProjectHandle,
}

impl Writing for Encoder {
    fn keep_alive(&self) -> Bytes {
        Bytes::from_static(KEEP_ALIVE_FRAME)
    }

    async fn frames(&mut self, next: Next) -> Frames {
        let outgoing = match next {
            Next::Send(_, outgoing) => outgoing,
            Next::CatchUp(seat, name) => {
                // If the owner is gone, the reader notices too.
                self.handle
                    .message(seat, SeatMessage::CatchUp(name.text))
                    .await;
                return Frames::default();
            }
        };
        match outgoing {
            Outgoing::Broadcast(broadcast) => Frames::one(broadcast.websocket_frame()),
            Outgoing::Step1(body) => Frames::one(Message::Sync(SyncMessage::Step1(&body)).encode()),
            Outgoing::Step2(body) => Frames::one(Message::Sync(SyncMessage::Step2(&body)).encode()),
            Outgoing::Status(false) => Frames::one(Message::AuthDenied(READ_ONLY).encode()),
            Outgoing::Refused(_, refusal) | Outgoing::End(refusal) => last(refusal),
            // The echo says that an update is durable; the others are of `/collab`.
            Outgoing::Status(true)
            | Outgoing::Stateless(_)
            | Outgoing::Pong
            | Outgoing::Authenticated { .. } => Frames::default(),
        }
    }
}

/// A refusal that is final is told as a message too: older clients show it, and then come back
/// whatever the close code is.
fn last(refusal: Refusal) -> Frames {
    let mut frames = Vec::new();
    if refusal.is_final() {
        let reason = refusal.to_string();
        frames.push(Message::AuthDenied(&reason).encode().into());
    }
    Frames {
        frames,
        end: Some(refusal),
    }
}
