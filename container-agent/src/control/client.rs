//! A command's end of the control socket.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::BufReader;
use tokio::net::UnixStream;
use tokio::time::Instant;

use uspark_shared::path::FilePath;

use super::message::{Reason, Reply, ReportView, Request, StatusView};
use super::socket;
use crate::disk::state::is_locked;
use crate::engine::Meant;

/// Longest answer: a report that names every path of a large project.
const MAX_REPLY_BYTES: u64 = 256 * 1024 * 1024;
/// How long an answer may take beyond the time that was asked for.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a process that was started just now may take to lock the workspace: it asks the server
/// first.
const STARTING: Duration = Duration::from_secs(2);
/// How often an agent that is awaited is looked for: a socket's file tells nobody that it is there.
const PAUSE: Duration = Duration::from_millis(50);

/// A connection to the agent of a workspace.
#[derive(Debug)]
pub struct ControlClient {
    stream: BufReader<UnixStream>,
    meant: Meant,
}

/// Why the agent could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The socket failed.
    #[error("cannot talk to the agent of this workspace")]
    Io(#[from] io::Error),
    /// It ended before it answered.
    #[error("the agent of this workspace ended before it answered")]
    Gone,
    /// It answers too late.
    #[error("the agent of this workspace does not answer")]
    Silent,
    /// It answered something else: perhaps it is of another version.
    #[error("the agent of this workspace answered what was not asked: {0}")]
    Odd(String),
}

impl ControlClient {
    /// Connects to the agent of the workspace at `root`; `None` when none listens.
    pub async fn connect(root: &Path) -> Result<Option<Self>, ControlError> {
        let stream = socket::connect(root).await?;
        Ok(stream.map(|stream| Self {
            stream: BufReader::new(stream),
            meant: Meant::default(),
        }))
    }

    /// Which deletions pass while this client waits for a barrier, however many they are.
    pub fn set_meant(&mut self, meant: Meant) {
        self.meant = meant;
    }

    /// Connects to an agent that may be starting: waits while a process has the workspace's lock,
    /// for at most `patience`, and for [`STARTING`] while none has.
    pub async fn connect_soon(
        root: &Path,
        patience: Duration,
    ) -> Result<Option<Self>, ControlError> {
        let deadline = Instant::now() + patience;
        let mut until = deadline.min(Instant::now() + STARTING);
        loop {
            if let Some(client) = Self::connect(root).await? {
                return Ok(Some(client));
            }
            if is_locked(root) {
                until = deadline.min(Instant::now() + STARTING);
            }
            if Instant::now() >= until {
                return Ok(None);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Asks what the agent is doing.
    pub async fn status(&mut self) -> Result<StatusView, ControlError> {
        match self.ask(&Request::Status, ANSWER_TIMEOUT).await? {
            Reply::Status(status) => Ok(*status),
            other => Err(odd(&other)),
        }
    }

    /// Waits until workspace and project are equal, for at most `timeout`.
    pub async fn barrier(&mut self, timeout: Duration) -> Result<ReportView, ControlError> {
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let request = Request::Barrier {
            timeout_ms,
            meant: self.meant.clone(),
        };
        match self.ask(&request, timeout + ANSWER_TIMEOUT).await? {
            Reply::Report(report) => Ok(report),
            other => Err(odd(&other)),
        }
    }

    /// Asks which of `paths` name nothing that is synced, and why.
    pub async fn unknown(&mut self, paths: Vec<FilePath>) -> Result<Vec<Reason>, ControlError> {
        match self
            .ask(&Request::Unknown { paths }, ANSWER_TIMEOUT)
            .await?
        {
            Reply::Unknown(unknown) => Ok(unknown),
            other => Err(odd(&other)),
        }
    }

    /// Tells something that needs no answer.
    pub async fn tell(&mut self, request: &Request) -> Result<(), ControlError> {
        Ok(socket::write_line(&mut self.stream, request).await?)
    }

    async fn ask(&mut self, request: &Request, timeout: Duration) -> Result<Reply, ControlError> {
        let asked = async {
            socket::write_line(&mut self.stream, request).await?;
            socket::read_line(&mut self.stream, MAX_REPLY_BYTES).await
        };
        let line = match tokio::time::timeout(timeout, asked).await {
            Err(_) => return Err(ControlError::Silent),
            Ok(Err(error)) if is_gone(&error) => return Err(ControlError::Gone),
            Ok(answer) => answer?.ok_or(ControlError::Gone)?,
        };
        serde_json::from_slice(&line).map_err(|error| ControlError::Odd(error.to_string()))
    }
}

fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset};
    matches!(error.kind(), BrokenPipe | ConnectionReset)
}

fn odd(reply: &Reply) -> ControlError {
    ControlError::Odd(match reply {
        Reply::Refused(why) => why.clone(),
        Reply::Status(_) => "a status".into(),
        Reply::Report(_) => "a report".into(),
        Reply::Unknown(_) => "a list of paths".into(),
    })
}
