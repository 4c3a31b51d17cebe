//! Claude Code's tool calls, on their way to whoever keeps the workspace.
//!
//! Nothing here waits: the copy of the stream calls it. The session comes later than the stream,
//! because the network must not hold the stream up; until then open calls are kept, and ended
//! ones forgotten, since the session's first scan sees what they did.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::agent::tool_call;
use crate::claude::StreamEvent;
use crate::control::message::Request;
use crate::control::{ControlClient, ToolStart};
use crate::engine::SessionHandle;

/// Open calls kept while there is no session: more than any version runs at once.
const MAX_OPEN_CALLS: usize = 1024;
/// Messages on their way to another process. When it does not take them the rest is dropped: the
/// kernel tells it of every change all the same.
const QUEUE: usize = 1024;

/// Passes tool calls on.
pub struct ToolCalls {
    root: PathBuf,
    to: Mutex<To>,
    /// What sends to the agent of another process.
    sending: Mutex<Option<JoinHandle<()>>>,
}

enum To {
    /// Nobody yet; these are open.
    Nobody(BTreeMap<String, ToolStart>),
    /// The session of this process, and the calls that it takes for open.
    Session(SessionHandle, BTreeSet<String>),
    /// The agent of another process.
    Agent(mpsc::Sender<Request>),
}

impl ToolCalls {
    /// For the workspace at `root`; nobody listens yet.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            to: Mutex::new(To::Nobody(BTreeMap::new())),
            sending: Mutex::new(None),
        }
    }

    /// Takes what the stream tells. Returns at once.
    pub fn note(&self, event: StreamEvent) {
        let mut to = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            StreamEvent::ToolStarted { id, name, paths } => {
                to.started(ToolStart { id, name, paths }, &self.root);
            }
            StreamEvent::ToolFinished { id, is_error, path } => {
                tracing::debug!(id, is_error, ?path, "a tool has ended");
                to.finished(id);
            }
            StreamEvent::LineTooLong { bytes } => {
                tracing::warn!("a line of {bytes} bytes was passed on but not read for tool calls");
            }
        }
    }

    /// Passes on to the session of this process from now on, the open calls first.
    pub fn attach_session(&self, handle: SessionHandle) {
        self.attach(To::Session(handle, BTreeSet::new()));
    }

    /// Passes on to the agent of another process from now on, the open calls first.
    pub fn attach_agent(&self, mut client: ControlClient) {
        let (sender, mut requests) = mpsc::channel(QUEUE);
        let sending = tokio::spawn(async move {
            while let Some(request) = requests.recv().await {
                if let Err(error) = client.tell(&request).await {
                    tracing::warn!("tool calls no longer reach the agent: {error}");
                    break;
                }
            }
        });
        *self.sending.lock().unwrap_or_else(PoisonError::into_inner) = Some(sending);
        self.attach(To::Agent(sender));
    }

    /// Ends with the stream, and with it every call that got no result: whoever made it is gone.
    /// Waits until the agent has been told everything.
    pub async fn told(&self) {
        let nobody = To::Nobody(BTreeMap::new());
        let to = std::mem::replace(
            &mut *self.to.lock().unwrap_or_else(PoisonError::into_inner),
            nobody,
        );
        to.end();
        let sending = self
            .sending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(sending) = sending {
            // An agent that went away has been told what it took.
            let _ = sending.await;
        }
    }

    fn attach(&self, new: To) {
        let mut to = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        if let To::Nobody(open) = std::mem::replace(&mut *to, new) {
            for call in open.into_values() {
                to.started(call, &self.root);
            }
        }
    }
}

impl To {
    /// Ends what is open. The agent of another process does so when its peer goes.
    fn end(self) {
        if let Self::Session(handle, open) = self {
            open.iter().for_each(|id| handle.tool_finished(id));
        }
    }

    fn started(&mut self, call: ToolStart, root: &Path) {
        match self {
            Self::Nobody(open) if open.len() < MAX_OPEN_CALLS => {
                open.insert(call.id.clone(), call);
            }
            Self::Nobody(_) => {}
            Self::Session(handle, open) => {
                if let Some(call) = tool_call(call, root) {
                    open.insert(call.id.clone());
                    handle.tool_started(call);
                }
            }
            Self::Agent(queue) => send(queue, Request::ToolStarted(call)),
        }
    }

    fn finished(&mut self, id: String) {
        match self {
            Self::Nobody(open) => {
                open.remove(&id);
            }
            Self::Session(handle, open) => {
                open.remove(&id);
                handle.tool_finished(&id);
            }
            Self::Agent(queue) => send(queue, Request::ToolFinished { id }),
        }
    }
}

fn send(queue: &mpsc::Sender<Request>, request: Request) {
    if queue.try_send(request).is_err() {
        tracing::debug!("a tool call did not reach the agent");
    }
}
