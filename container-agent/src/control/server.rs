//! The agent's end of the control socket.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::BufReader;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::message::{Reply, Request};
use super::{Agent, socket};

/// Longest request: as many paths as a command line holds.
const MAX_REQUEST_BYTES: u64 = 4 * 1024 * 1024;
/// Peers at once; the next waits to be accepted. They are this user's own commands.
const MAX_PEERS: usize = 32;
/// Wait before accepting again after the machine refused, as it does when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Listens until stopped. Dropping it stops too, without waiting for the peers.
#[derive(Debug)]
pub struct ControlServer {
    root: PathBuf,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl ControlServer {
    /// Starts to answer for `agent` in the workspace at `root`, whose lock the caller holds.
    pub fn start(root: &Path, agent: impl Agent) -> io::Result<Self> {
        let listener = socket::listen(root)?;
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        tasks.spawn(accept(listener, agent, stop.clone(), tasks.clone()));
        Ok(Self {
            root: root.to_owned(),
            stop,
            tasks,
        })
    }

    /// Stops listening and closes every connection. The lock is given back after this.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Err(error) = socket::remove(&self.root) {
            tracing::warn!("the control socket stays behind: {error}");
        }
    }
}

async fn accept(
    listener: UnixListener,
    agent: impl Agent,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    let room = Arc::new(Semaphore::new(MAX_PEERS));
    let serve = async {
        loop {
            let place = Arc::clone(&room).acquire_owned().await;
            match listener.accept().await {
                Ok((peer, _)) => {
                    let (agent, stop) = (agent.clone(), stop.clone());
                    tasks.spawn(async move {
                        let _place = place;
                        let served = stop.run_until_cancelled(serve_peer(peer, agent)).await;
                        if let Some(Err(error)) = served {
                            tracing::debug!("a peer on the control socket was left: {error}");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!("cannot accept on the control socket: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    stop.run_until_cancelled(serve).await;
}

async fn serve_peer(mut peer: UnixStream, agent: impl Agent) -> io::Result<()> {
    let (reader, mut writer) = peer.split();
    let mut reader = BufReader::new(reader);
    let mut calls = OpenCalls {
        agent: agent.clone(),
        open: BTreeSet::new(),
    };
    while let Some(line) = socket::read_line(&mut reader, MAX_REQUEST_BYTES).await? {
        let reply = match serde_json::from_slice(&line) {
            Ok(Request::Status) => Reply::Status(agent.status().await.into()),
            Ok(Request::Barrier { timeout_ms, meant }) => {
                let timeout = Duration::from_millis(timeout_ms);
                Reply::Report(agent.barrier(timeout, meant).await)
            }
            Ok(Request::Unknown { paths }) => Reply::Unknown(agent.unknown(paths).await),
            Ok(Request::ToolStarted(call)) => {
                calls.open.insert(call.id.clone());
                agent.tool_started(call);
                continue;
            }
            Ok(Request::ToolFinished { id }) => {
                calls.open.remove(&id);
                agent.tool_finished(&id);
                continue;
            }
            Err(error) => Reply::Refused(error.to_string()),
        };
        socket::write_line(&mut writer, &reply).await?;
    }
    Ok(())
}

/// The calls that a peer has begun; what is left of them ends with the peer.
struct OpenCalls<A: Agent> {
    agent: A,
    open: BTreeSet<String>,
}

impl<A: Agent> Drop for OpenCalls<A> {
    fn drop(&mut self) {
        for id in &self.open {
            self.agent.tool_finished(id);
        }
    }
}
