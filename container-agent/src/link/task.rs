//! One socket at a time, for as long as the session lasts.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uspark_shared::codec::awareness::EMPTY_AWARENESS;
use uspark_shared::codec::collab::{Address, ClientFrame, CollabMessage};
use uspark_shared::id::ProjectId;

use super::{Connection, LinkEvent, Server};

/// Sent when nothing else was for this long: servers close a socket after 60 s of silence, and
/// proxies often after 30.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// A server that says nothing for this long, though it answers our keep-alives, is gone.
const SILENCE: Duration = Duration::from_secs(60);

/// Connects, reports frames, and connects again, until cancelled or nobody listens.
///
/// `retry` bounds the wait before the next attempt; it doubles with every failure and is cut by a
/// random part, so that a server that comes back is not met by everybody at once.
pub async fn keep_connected(
    server: Arc<dyn Server>,
    project: ProjectId,
    retry: (Duration, Duration),
    events: mpsc::Sender<LinkEvent>,
    cancelled: CancellationToken,
) {
    let session = async {
        let mut wait = retry.0;
        loop {
            let why = match server.connect().await {
                Err(why) => why,
                Ok(connection) => {
                    let began = tokio::time::Instant::now();
                    let Some(why) = serve(connection, &project, &events).await else {
                        return;
                    };
                    if began.elapsed() > retry.1 {
                        wait = retry.0;
                    }
                    why
                }
            };
            if events.send(LinkEvent::Down(why)).await.is_err() {
                return;
            }
            tokio::time::sleep(jittered(wait)).await;
            wait = (wait * 2).min(retry.1);
        }
    };
    tokio::select! {
        () = cancelled.cancelled() => {}
        () = session => {}
    }
}

/// Serves one socket to its end. `None` when nobody listens any more.
async fn serve(
    connection: Connection,
    project: &ProjectId,
    events: &mpsc::Sender<LinkEvent>,
) -> Option<String> {
    let Connection {
        outgoing,
        mut incoming,
    } = connection;
    // The engine gets the only strong sender: dropping it is how it gives a socket up.
    let keep_alive = outgoing.downgrade();
    events.send(LinkEvent::Up(outgoing)).await.ok()?;
    let frame = keep_alive_frame(project);
    let mut due = tokio::time::interval(KEEP_ALIVE);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut heard = tokio::time::Instant::now();
    loop {
        tokio::select! {
            received = incoming.recv() => match received {
                Some(Ok(frame)) => {
                    heard = tokio::time::Instant::now();
                    events.send(LinkEvent::Frame(frame)).await.ok()?;
                }
                Some(Err(why)) => return Some(why),
                None => return Some("the connection was closed".into()),
            },
            _ = due.tick() => {
                if heard.elapsed() > SILENCE {
                    return Some("the server has gone silent".into());
                }
                match keep_alive.upgrade() {
                    // A full queue is as good as a keep-alive.
                    Some(outgoing) => drop(outgoing.try_send(frame.clone())),
                    None => return Some("the connection was given up".into()),
                }
            }
        }
    }
}

fn keep_alive_frame(project: &ProjectId) -> Vec<u8> {
    let address = Address::new(project.as_str());
    ClientFrame::new(address, CollabMessage::Awareness(EMPTY_AWARENESS)).encode()
}

/// Between half of `wait` and all of it.
fn jittered(wait: Duration) -> Duration {
    let mut random = [0; 2];
    // Without randomness everybody waits in full.
    let part = match getrandom::fill(&mut random) {
        Ok(()) => u32::from(u16::from_le_bytes(random)),
        Err(_) => u32::from(u16::MAX),
    };
    wait / 2 + wait / 2 * part / u32::from(u16::MAX)
}
