//! What keeps workspace and project equal for the time of a command: a session of this process,
//! or the agent that holds the workspace already.
//!
//! Invariant: the control socket is gone before the session, and with it the lock, is given up.

use std::path::Path;
use std::time::{Duration, Instant};

use uspark_shared::path::FilePath;

use super::access::{self, Denied};
use super::agent::SessionAgent;
use super::args;
use super::failure::Failure;
use super::place::{Connection, Workspace};
use super::progress::{Changes, Listed, Reporter};
use crate::api::Access;
use crate::control::message::{Identity, LinkView, Reason};
use crate::control::{ControlClient, ControlError, ControlServer, ReportView};
use crate::engine::{
    Direction, EngineError, Limits, MassDelete, Meant, Session, SessionHandle, SyncConfig,
};

/// How often a workspace that another command holds is tried again: a lock tells nobody that it
/// is free.
const LOCK_PAUSE: Duration = Duration::from_millis(50);
/// How often the agent of another process is asked whether it has found its server.
const LINK_PAUSE: Duration = Duration::from_millis(100);

/// What a command wants of the sync.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its name, for `status`.
    pub command: &'static str,
    /// Which way changes travel.
    pub direction: Direction,
    /// Only these paths; everything when empty.
    pub paths: Vec<FilePath>,
    /// What becomes of too many deletions at once.
    pub mass_delete: MassDelete,
    /// The run that it is, if it is one.
    pub run: Option<String>,
    /// What a server that cannot be reached means.
    pub unreachable: Unreachable,
    /// How long a short command that has the workspace is waited for.
    pub patience: Duration,
}

impl Wanted {
    /// The deletions that another process's session is to let pass.
    fn meant(&self) -> Meant {
        Meant {
            mass_delete: self.mass_delete,
            paths: self.paths.clone(),
        }
    }
}

/// What a server that cannot be reached at the start means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreachable {
    /// It is tried again for as long as the command has patience; then the command fails.
    Retry,
    /// The session goes on trying.
    Await,
    /// In a workspace that knows its project the session works with what is there; in any other it
    /// is as [`Self::Retry`].
    DoWithout,
}

/// How long a server is waited for that can be done without: as long as one takes to start again.
const RESTART: Duration = Duration::from_secs(5);

/// How a command will sync, as far as that is known without the network.
#[derive(Debug)]
pub enum Plan {
    /// Ask the agent that has the workspace. It has a token of its own.
    Ask(ControlClient),
    /// Be the agent.
    Be(Connection),
}

/// Keeps workspace and project equal until it is finished.
pub enum Keeper {
    /// This process does.
    Own(Box<Own>),
    /// Another process does already; it is asked.
    Other(Other),
}

/// A session of another process.
pub struct Other {
    /// Asks it.
    pub client: ControlClient,
    /// The server is away, and that session works with what it remembers.
    is_alone: bool,
}

/// A session of this process.
pub struct Own {
    session: Session,
    /// Only long sessions answer others: a `pull` is over soon, and they wait for it.
    control: Option<ControlServer>,
    reporter: Reporter,
    /// The server is away, and the session works with what it remembers.
    is_alone: bool,
}

/// How a command's sync ended.
#[derive(Debug)]
pub struct Finished {
    /// What the last barrier found.
    pub report: ReportView,
    /// Every path that changed, if this process kept a list.
    pub changes: Listed,
}

impl Plan {
    /// Looks for an agent in the workspace; without one, for a server and a token.
    pub async fn make(workspace: &Workspace, given: &args::Connection) -> Result<Self, Failure> {
        match running(workspace).await? {
            Some(client) => Ok(Self::Ask(client)),
            None => Connection::find(given, workspace.remembered.as_ref()).map(Self::Be),
        }
    }

    /// Carries the plan out: from here on workspace and project are kept equal.
    pub async fn start(self, workspace: &Workspace, wanted: Wanted) -> Result<Keeper, Failure> {
        let connection = match self {
            Self::Ask(mut client) => {
                client.set_meant(wanted.meant());
                let is_alone = match wanted.unreachable {
                    Unreachable::DoWithout => is_alone(&mut client, wanted.patience).await?,
                    Unreachable::Retry | Unreachable::Await => false,
                };
                return Ok(Keeper::Other(Other { client, is_alone }));
            }
            Self::Be(connection) => connection,
        };
        let need = match wanted.direction {
            Direction::Pull => Access::Read,
            Direction::Push | Direction::Both => Access::Write,
        };
        let (unreachable, patience) = (wanted.unreachable, wanted.patience);
        let began = Instant::now();
        let check =
            |patience| access::check_within(patience, &connection, &workspace.project, need);
        let first = match unreachable {
            Unreachable::Retry => patience,
            Unreachable::Await => Duration::ZERO,
            Unreachable::DoWithout => patience.min(RESTART),
        };
        let is_away = match check(first).await {
            Ok(()) => false,
            Err(Denied::ForNow(_)) if unreachable != Unreachable::Retry => true,
            Err(denied) => return Err(denied.failure()),
        };
        let mut keeper = take(workspace, connection.clone(), wanted).await?;
        if let Keeper::Own(own) = &mut keeper
            && is_away
            && unreachable == Unreachable::DoWithout
        {
            own.is_alone = own.session.knows_project();
            if !own.is_alone {
                let left = patience.saturating_sub(began.elapsed());
                check(left).await.map_err(Denied::failure)?;
            }
        }
        Ok(keeper)
    }
}

/// Whether the agent of another process has a project to work with, and no server to it: one that
/// is starting again is waited for, for at most `patience`.
async fn is_alone(client: &mut ControlClient, patience: Duration) -> Result<bool, Failure> {
    let deadline = Instant::now() + patience.min(RESTART);
    loop {
        let status = client.status().await?;
        if status.link == LinkView::Online || status.files == 0 {
            return Ok(false);
        }
        if Instant::now() >= deadline {
            return Ok(true);
        }
        tokio::time::sleep(LINK_PAUSE).await;
    }
}

impl Keeper {
    /// The session, if it is in this process.
    pub fn handle(&self) -> Option<SessionHandle> {
        match self {
            Self::Own(own) => Some(own.session.handle()),
            Self::Other(_) => None,
        }
    }

    /// Whether the server was away at the start and is done without.
    pub fn is_alone(&self) -> bool {
        match self {
            Self::Own(own) => own.is_alone,
            Self::Other(other) => other.is_alone,
        }
    }

    /// Waits until the server refuses this process's session for good; for ever if it does not.
    pub async fn refused(&self) {
        match self {
            Self::Own(own) => own.session.refused().await,
            Self::Other(_) => std::future::pending().await,
        }
    }

    /// Waits until everything is brought over, for as long as something moves: gives up after
    /// `patience` without any progress.
    pub async fn settle(&mut self, patience: Duration) -> Result<ReportView, Failure> {
        let mut before = None;
        loop {
            let report = self.barrier(patience).await?;
            let now = match self {
                Self::Own(own) => own.reporter.advances(),
                Self::Other(_) => report.sent + report.received,
            };
            if report.done || before == Some(now) {
                return Ok(report);
            }
            before = Some(now);
        }
    }

    /// Which of `paths` name nothing that is synced, and why. To be asked after a barrier.
    pub async fn unknown(&mut self, paths: Vec<FilePath>) -> Result<Vec<Reason>, Failure> {
        match self {
            Self::Own(own) => {
                let unknown = own.session.handle().unknown(paths).await;
                Ok(unknown.into_iter().map(Reason::from).collect())
            }
            Self::Other(other) => Ok(other.client.unknown(paths).await?),
        }
    }

    /// Waits for everything to be equal, for at most `timeout`, and ends the session. The agent of
    /// another process goes on.
    pub async fn finish(self, timeout: Duration) -> Result<Finished, Failure> {
        let deadline = Instant::now() + timeout;
        let own = match self {
            Self::Own(own) => *own,
            Self::Other(Other { mut client, .. }) => {
                return Ok(Finished {
                    report: client.barrier(timeout).await?,
                    changes: Listed::new(),
                });
            }
        };
        if let Some(control) = own.control {
            // Others may ask while the last changes go out; the socket goes before the lock.
            own.session.handle().barrier(deadline).await;
            control.stop().await;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let report = own.session.finish(left).await?;
        Ok(Finished {
            report: report.into(),
            changes: own.reporter.finish(),
        })
    }

    async fn barrier(&mut self, timeout: Duration) -> Result<ReportView, Failure> {
        match self {
            Self::Own(own) => {
                let handle = own.session.handle();
                Ok(handle.barrier(Instant::now() + timeout).await.into())
            }
            Self::Other(other) => Ok(other.client.barrier(timeout).await?),
        }
    }
}

/// The agent that has the workspace, if one answers there.
pub async fn running(workspace: &Workspace) -> Result<Option<ControlClient>, Failure> {
    let Some(mut client) = ControlClient::connect(&workspace.root).await? else {
        return Ok(None);
    };
    let status = match client.status().await {
        Err(ControlError::Gone) => return Ok(None),
        status => status?,
    };
    if status.project != workspace.project {
        let (pid, project) = (status.pid, status.project);
        return Err(Failure::new(format!(
            "the agent of this workspace (process {pid}) keeps the project `{project}`"
        ))
        .hint("use another directory, or end that agent first"));
    }
    Ok(Some(client))
}

/// Takes the workspace, or finds the agent that has come to have it.
async fn take(
    workspace: &Workspace,
    connection: Connection,
    wanted: Wanted,
) -> Result<Keeper, Failure> {
    let is_long = wanted.direction == Direction::Both;
    let changes = match wanted.direction {
        Direction::Pull => Changes::Here,
        Direction::Push => Changes::There,
        Direction::Both => Changes::Counted,
    };
    let reporter = Reporter::start(changes).map_err(|error| {
        Failure::new("cannot start a thread")
            .cause(error)
            .hint("the machine allows this user no more")
    })?;
    let deadline = Instant::now() + wanted.patience;
    let meant = wanted.meant();
    let config = SyncConfig {
        server: connection.server.clone(),
        token: connection.token.clone(),
        authorities: connection.authorities.clone(),
        project: workspace.project.clone(),
        root: workspace.root.clone(),
        direction: wanted.direction,
        paths: wanted.paths,
        mass_delete: wanted.mass_delete,
        run: wanted.run,
        who: host_name(),
        limits: Limits::default(),
    };
    let session = loop {
        match Session::start(config.clone(), reporter.sink()).await {
            Ok(session) => break session,
            Err(EngineError::Locked) => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(mut client) = running(workspace).await? {
            client.set_meant(meant);
            let is_alone = false;
            return Ok(Keeper::Other(Other { client, is_alone }));
        }
        if Instant::now() >= deadline {
            return Err(busy(&workspace.root));
        }
        tokio::time::sleep(LOCK_PAUSE).await;
    };
    workspace.remember(&connection.server)?;
    let control = match is_long {
        false => None,
        true => {
            let identity = Identity {
                command: wanted.command,
                project: workspace.project.clone(),
                server: connection.server,
            };
            let agent = SessionAgent::new(session.handle(), identity, &workspace.root);
            let started = ControlServer::start(&workspace.root, agent);
            Some(started.map_err(|error| {
                Failure::new("cannot open the control socket in .uspark")
                    .cause(error)
                    .hint("put the workspace on a file system that has sockets")
            })?)
        }
    };
    Ok(Keeper::Own(Box::new(Own {
        session,
        control,
        reporter,
        is_alone: false,
    })))
}

/// A command has the workspace that answers no questions.
pub fn busy(root: &Path) -> Failure {
    Failure::new(format!(
        "another uspark command is at work in {}",
        root.display()
    ))
    .hint("wait for it to end, or give it more time with --sync-timeout")
}

/// Names this machine, in a container the container: who a conflict's loser came from.
fn host_name() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}
