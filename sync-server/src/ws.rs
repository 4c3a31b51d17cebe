//! `/ws/{project}` and `/ws/{project}/{doc}`: y-websocket, one document on a socket.

use std::sync::Arc;

use axum::Router;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::extract::{Path, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::any;
use bytes::Bytes;
use uspark_shared::codec::awareness::KEEP_ALIVE_FRAME;
use uspark_shared::codec::message::{Message, SyncMessage, decode_frame};
use uspark_shared::id::DocumentName;

use crate::access::{Access, Grant};
use crate::project::{Attribution, ProjectHandle, Seat, SeatAck, SeatMessage};
use crate::refusal::Refusal;
use crate::server::AppState;
use crate::socket::{End, Incoming, Watch, Writing, split, turn_away};
use crate::subscriber::{Next, Outbox, Outgoing, SeatId};

/// The routes of y-websocket.
pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/ws/{project}", any(project))
        .route("/ws/{project}/{doc}", any(text))
}

async fn project(
    State(state): State<AppState>,
    Path(project): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    serve(
        state,
        project,
        token_of(query.as_deref(), &headers),
        upgrade,
    )
}

async fn text(
    State(state): State<AppState>,
    Path((project, doc)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    serve(
        state,
        format!("{project}/{doc}"),
        token_of(query.as_deref(), &headers),
        upgrade,
    )
}

/// Browsers cannot set headers on a socket, so the query counts too. It is never logged.
fn token_of(query: Option<&str>, headers: &HeaderMap) -> Option<String> {
    let bearer = headers
        .get(axum::http::header::AUTHORIZATION)
        .and_then(|value| {
            let value = value.to_str().ok()?;
            Some(value.strip_prefix("Bearer ")?.trim().to_owned())
        });
    // A token is letters, digits, `_` and `-`: nothing in it is ever escaped.
    let in_query = || {
        let mut pairs = query?.split('&');
        pairs
            .find_map(|pair| pair.strip_prefix("token="))
            .map(str::to_owned)
    };
    bearer.or_else(in_query)
}

fn serve(
    state: AppState,
    name: String,
    token: Option<String>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let limit = state.limits.max_update_bytes;
    let frame_limit = usize::try_from(limit)
        .unwrap_or(usize::MAX)
        .saturating_add(64);
    let tasks = state.tasks.clone();
    upgrade
        .max_message_size(frame_limit)
        .max_frame_size(frame_limit)
        .on_upgrade(move |socket| async move {
            // Tracked, so that stopping waits for its last words.
            let connection = Connection { state, name, token };
            let served = tasks.spawn(connection.run(socket));
            if let Err(error) = served.await {
                tracing::error!(%error, "a socket's task failed");
            }
        })
}

struct Connection {
    state: AppState,
    name: String,
    token: Option<String>,
}

impl Connection {
    async fn run(self, socket: WebSocket) {
        // Before the token is looked at, so that no revocation falls in between.
        let revoked = self.state.tokens.revoked();
        let outbox = Outbox::new(self.state.limits.outbox_bytes);
        let (handle, id, grant) = match self.join(&outbox).await {
            Ok(joined) => joined,
            Err(refusal) => {
                tracing::debug!(document = self.name, %refusal, "a socket was turned away");
                let reason = refusal.to_string();
                turn_away(
                    socket,
                    Message::AuthDenied(&reason).encode().into(),
                    &refusal,
                )
                .await;
                return;
            }
        };
        let writing = Frames {
            handle: handle.clone(),
        };
        let limit = self.state.limits.max_update_bytes;
        let (mut reading, writer) = split(socket, &outbox, limit, writing);
        let writer = self.state.tasks.spawn(writer);
        let (clock, stopping) = (self.state.clock, self.state.stopping.clone());
        let mut watch = Watch::new(revoked, clock, stopping);
        loop {
            let refusal = tokio::select! {
                incoming = reading.next() => match incoming {
                    Incoming::Frame(frame) => match take(&handle, id, &frame).await {
                        Ok(()) => continue,
                        Err(refusal) => refusal,
                    },
                    Incoming::Refused(refusal) => refusal,
                    Incoming::Gone => break,
                },
                refusal = watch.over_for(&grant) => refusal,
                () = outbox.closed() => break,
            };
            outbox.push(&Arc::from(self.name.as_str()), Outgoing::Refused(refusal));
            // The writer's end is this socket's.
            outbox.closed().await;
            break;
        }
        handle.leave(id).await;
        outbox.close();
        if let Err(error) = writer.await {
            tracing::error!(%error, "a socket's writer failed");
        }
    }

    async fn join(&self, outbox: &Outbox) -> Result<(ProjectHandle, SeatId, Grant), Refusal> {
        let name: DocumentName = self.name.parse()?;
        let token = self.token.as_deref().ok_or(Refusal::Unauthorised)?;
        let grant = self
            .state
            .tokens
            .verify(token, (self.state.clock)())
            .await?;
        grant.allows(&name.project, Access::Read)?;
        let seat = Seat {
            id: SeatId::fresh(),
            address: self.name.as_str().into(),
            outbox: outbox.clone(),
            ack: SeatAck::Echo,
            may_write: grant.allows(&name.project, Access::Write).is_ok(),
            who: Attribution::of(&grant),
        };
        let id = seat.id;
        let handle = self
            .state
            .projects
            .join(&name.project, name.text, seat)
            .await?;
        Ok((handle, id, grant))
    }
}

async fn take(handle: &ProjectHandle, seat: SeatId, frame: &Bytes) -> Result<(), Refusal> {
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
        if !handle.message(seat, message).await {
            return Err(Refusal::Unavailable("the project is loaded again".into()));
        }
    }
    Ok(())
}

/// The frames of y-websocket.
struct Frames {
    handle: ProjectHandle,
}

impl Writing for Frames {
    fn keep_alive(&self) -> Bytes {
        Bytes::from_static(KEEP_ALIVE_FRAME)
    }

    async fn frames(&mut self, next: Next) -> (Vec<Bytes>, Option<End>) {
        let outgoing = match next {
            Next::Send(_, outgoing) => outgoing,
            Next::CatchUp(seat, name) => {
                self.handle
                    .message(seat, SeatMessage::CatchUp(name.text))
                    .await;
                return (Vec::new(), None);
            }
        };
        let frame = match outgoing {
            Outgoing::Broadcast(broadcast) => broadcast.websocket_frame(),
            Outgoing::Step1(body) => Message::Sync(SyncMessage::Step1(&body)).encode().into(),
            Outgoing::Step2(body) => Message::Sync(SyncMessage::Step2(&body)).encode().into(),
            // The echo is what says that an update is durable.
            Outgoing::Status(true)
            | Outgoing::Stateless(_)
            | Outgoing::Pong
            | Outgoing::Authenticated { .. } => {
                return (Vec::new(), None);
            }
            Outgoing::Status(false) => {
                let reason = "this token may read, not write; the change was not taken";
                Message::AuthDenied(reason).encode().into()
            }
            Outgoing::Refused(refusal) => {
                let reason = refusal.to_string();
                let denied = refusal
                    .is_final()
                    .then(|| Message::AuthDenied(&reason).encode().into());
                return (denied.into_iter().collect(), Some(End::With(refusal)));
            }
        };
        (vec![frame], None)
    }
}
