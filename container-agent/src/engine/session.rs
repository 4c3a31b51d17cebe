//! Starting a session, asking it, ending it.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uspark_shared::path::FilePath;
use uspark_shared::replica::ClientId;
use uspark_shared::schema::Entry;

use super::agreed::Agreed;
use super::config::{Direction, Meant, Progress, ProgressSink, SyncConfig, ToolCall};
use super::guard::Guard;
use super::jobs::{self, Jobs};
use super::project::Project;
use super::recover::{recovery, renamed};
use super::report::{LinkState, Pending, Report, Skipped, Status};
use super::run::{Command, Engine, Over, Sources, chain};
use super::step::random;
use super::tools::Tools;
use super::wire::Wire;
use super::work::Works;
use crate::api::{Api, ApiError};
use crate::disk::base::BaseStore;
use crate::disk::state::{StateDir, WorkspaceLock};
use crate::disk::{DiskError, Root};
use crate::journal::{Journal, JournalError, Remembered};
use crate::link::{RemoteServer, Server, keep_connected};
use crate::watch::{InotifyNotifier, NoNotifier, Notifier, Watcher};

/// Events of each kind that wait for the loop. When they are more, whoever makes them waits: jobs
/// and the socket for a moment; the watcher too, while the kernel queues.
const WAITING_EVENTS: usize = 1024;
/// Commands that wait. A tool call that finds no room is not told of.
const WAITING_COMMANDS: usize = 1024;
/// How long tasks may take to end once nothing is wanted of them.
const ENDING: Duration = Duration::from_secs(5);

/// Why there is no session, or why it was of no use.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Another process keeps this workspace.
    #[error("another uspark process keeps this workspace")]
    Locked,
    /// The workspace cannot be used.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The server's address cannot be used.
    #[error(transparent)]
    Server(#[from] ApiError),
    /// It is over, and not because it was finished.
    #[error(transparent)]
    Over(#[from] Over),
}

/// A running session. It ends when it is finished or dropped.
#[derive(Debug)]
pub struct Session {
    handle: SessionHandle,
    cancelled: CancellationToken,
    tasks: TaskTracker,
    knows_project: bool,
    shut_out: CancellationToken,
    _lock: WorkspaceLock,
}

/// Asks a session; cheap to clone. Outlives it harmlessly.
#[derive(Debug, Clone)]
pub struct SessionHandle {
    commands: mpsc::Sender<Command>,
}

impl Session {
    /// Takes the workspace and starts its tasks. The server is connected to in the background.
    pub async fn start(config: SyncConfig, progress: ProgressSink) -> Result<Self, EngineError> {
        let (server, token) = (config.server.clone(), config.token.clone());
        let api = Api::new(server, token, &config.authorities)?;
        let server = RemoteServer::new(api, config.project.clone());
        Self::start_with(config, progress, Arc::new(server)).await
    }

    /// [`Self::start`] with any server: the seam for tests.
    pub async fn start_with(
        config: SyncConfig,
        progress: ProgressSink,
        server: Arc<dyn Server>,
    ) -> Result<Self, EngineError> {
        let notifier = notifier(&config)?;
        Self::start_on(config, progress, server, notifier).await
    }

    /// [`Self::start_with`] any source of the kernel's events: the other seam for tests.
    pub async fn start_on(
        config: SyncConfig,
        progress: ProgressSink,
        server: Arc<dyn Server>,
        notifier: Box<dyn Notifier>,
    ) -> Result<Self, EngineError> {
        let cancelled = CancellationToken::new();
        let shut_out = cancelled.child_token();
        let tasks = TaskTracker::new();
        let prepare = {
            let config = config.clone();
            let progress = Arc::clone(&progress);
            move || Prepared::new(&config, &progress)
        };
        let prepared = tokio::task::spawn_blocking(prepare)
            .await
            .expect("preparing a session does not panic")?;
        let (watch_sender, watch) = mpsc::channel(WAITING_EVENTS);
        let (link_sender, link) = mpsc::channel(WAITING_EVENTS);
        let (done_sender, done) = mpsc::channel(WAITING_EVENTS);
        let (commands, command_receiver) = mpsc::channel(WAITING_COMMANDS);
        let Prepared {
            root,
            state,
            lock,
            journal,
            remembered,
            project,
            client,
            bases,
        } = prepared;
        let (watcher, _thread) = Watcher::start(notifier, Arc::clone(&root), &state, watch_sender);
        tasks.spawn(keep_connected(
            Arc::clone(&server),
            config.project.clone(),
            config.limits.retry,
            link_sender,
            shut_out.clone(),
        ));
        let jobs = Jobs::new(
            jobs::Tools {
                root: Arc::clone(&root),
                state: state.clone(),
                bases,
                server,
            },
            done_sender,
            tasks.clone(),
            cancelled.clone(),
            (config.limits.disk_workers, config.limits.transfers),
        );
        let now = Instant::now();
        let knows_project = remembered.received;
        // Whichever of what is owed deletes them.
        let last = remembered.next_seq.saturating_sub(1);
        let withdrawn = remembered.withdrawn.into_iter();
        let withdrawn = withdrawn.map(|withdrawn| (Some(last), withdrawn)).collect();
        let mut engine = Engine {
            wire: Wire::new(
                config.project.clone(),
                config.token.clone(),
                remembered.unacknowledged,
                remembered.next_seq,
            ),
            tools: Tools::new(config.run.clone()),
            agreed: Agreed::new(remembered.bases),
            received: remembered.received,
            config,
            progress,
            client,
            state,
            journal,
            watcher: Some(watcher),
            jobs,
            project,
            works: Works::default(),
            guard: Guard::default(),
            texts: HashMap::new(),
            departed: HashMap::new(),
            withdrawn,
            inbox: HashMap::new(),
            stale: HashSet::new(),
            lacked: HashMap::new(),
            exchange_line: VecDeque::new(),
            barriers: Vec::new(),
            records: Vec::new(),
            link: LinkState::Connecting,
            following: false,
            asked: 0,
            answered: 0,
            alone: false,
            listed: false,
            root_lost: false,
            unseen: BTreeMap::new(),
            skipped: BTreeMap::new(),
            left_alone: BTreeMap::new(),
            sent: 0,
            received_paths: 0,
            conflicts: Vec::new(),
            told_linked: false,
            last_acknowledged: None,
            watches: 0,
            shut_out: shut_out.clone(),
            over: None,
            stuck: None,
            began: now,
            next_housekeeping: now,
            last_left: 0,
            cookies: 0,
            comparisons: 0,
        };
        engine.remember_departed(remembered.departed);
        engine.mark_differences();
        let sources = Sources {
            watch,
            link,
            done,
            commands: command_receiver,
        };
        tasks.spawn(engine.run(sources));
        tasks.close();
        Ok(Self {
            handle: SessionHandle { commands },
            cancelled,
            tasks,
            knows_project,
            shut_out,
            _lock: lock,
        })
    }

    /// Whether an earlier session received the project: then there is something to work on while
    /// the server is away.
    pub fn knows_project(&self) -> bool {
        self.knows_project
    }

    /// Waits until there is nothing to go on with: the token was revoked or has expired, the project is
    /// gone, or `.uspark` is. [`Self::finish`] then says why.
    pub async fn refused(&self) {
        self.shut_out.cancelled().await;
    }

    /// What asks the session.
    pub fn handle(&self) -> SessionHandle {
        self.handle.clone()
    }

    /// Waits until all is equal, at most `timeout`, and ends the session.
    pub async fn finish(self, timeout: Duration) -> Result<Report, EngineError> {
        let deadline = std::time::Instant::now() + timeout;
        let report = self.handle.barrier(deadline).await;
        let over = self.handle.over().await;
        // A loop that has ended already needs no telling.
        let _ = self.handle.commands.send(Command::Stop).await;
        self.cancelled.cancel();
        // What does not end by itself ends with the process; nothing is left half done by it.
        let _ = tokio::time::timeout(ENDING, self.tasks.wait()).await;
        match over {
            Some(over) => Err(over.into()),
            None => Ok(report),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.cancelled.cancel();
        // A full queue is drained by the loop, which then notices that nobody is left to ask.
        let _ = self.handle.commands.try_send(Command::Stop);
    }
}

impl SessionHandle {
    /// A tool call begins: what changes from here on may be its doing, and its files are left
    /// alone until it ends.
    pub fn tool_started(&self, call: ToolCall) {
        // Without room it is as if nobody had told: changes name no tool.
        let _ = self.commands.try_send(Command::ToolStarted(call));
    }

    /// A tool call has ended.
    pub fn tool_finished(&self, id: &str) {
        let told = self.commands.try_send(Command::ToolFinished(id.to_owned()));
        if let Err(mpsc::error::TrySendError::Full(command)) = told {
            // A call that never ended would hold its files for ever: this one waits for room.
            let commands = self.commands.clone();
            tokio::spawn(async move { commands.send(command).await });
        }
    }

    /// Waits until everything done before this call is equal on both sides, at most until
    /// `deadline`, and says what is not.
    pub async fn barrier(&self, deadline: std::time::Instant) -> Report {
        self.barrier_with(deadline, Meant::default()).await
    }

    /// [`Self::barrier`]; while it waits, deletions may be let pass that would be held.
    pub async fn barrier_with(&self, deadline: std::time::Instant, meant: Meant) -> Report {
        let deadline = Instant::from_std(deadline);
        let (reply, report) = oneshot::channel();
        let command = Command::Barrier(deadline, meant, reply);
        let asked = self.commands.send(command).await;
        match (asked, report.await) {
            (Ok(()), Ok(report)) => report,
            _ => ended(),
        }
    }

    /// Says how things are.
    pub async fn status(&self) -> Status {
        let (reply, status) = oneshot::channel();
        let asked = self.commands.send(Command::Status(reply)).await;
        match (asked, status.await) {
            (Ok(()), Ok(status)) => status,
            _ => Status {
                report: ended(),
                link: LinkState::Offline {
                    why: "the session has ended".into(),
                },
                unacknowledged: 0,
                last_acknowledged: None,
                watches: 0,
                watches_allowed: None,
                events: 0,
                files: 0,
            },
        }
    }

    /// Which of `paths` name nothing that is synced, and why. Asked after a barrier; before, and of
    /// a session that has ended, nothing is known.
    pub async fn unknown(&self, paths: Vec<FilePath>) -> Vec<Skipped> {
        let (reply, unknown) = oneshot::channel();
        let asked = self.commands.send(Command::Unknown(paths, reply)).await;
        match (asked, unknown.await) {
            (Ok(()), Ok(unknown)) => unknown,
            _ => Vec::new(),
        }
    }

    /// Whether the session has ended.
    pub fn is_over(&self) -> bool {
        self.commands.is_closed()
    }

    /// Why the server will not let us in, if so.
    async fn over(&self) -> Option<Over> {
        let (reply, over) = oneshot::channel();
        self.commands.send(Command::Over(reply)).await.ok()?;
        over.await.ok()?
    }
}

/// What notices changes of the disk, for a session that watches.
fn notifier(config: &SyncConfig) -> Result<Box<dyn Notifier>, EngineError> {
    if config.direction != Direction::Both {
        return Ok(Box::new(NoNotifier::default()));
    }
    match InotifyNotifier::new() {
        Ok(notifier) => Ok(Box::new(notifier)),
        Err(source) => Err(EngineError::Disk(DiskError::Io {
            action: "watch",
            path: config.root.display().to_string(),
            source,
        })),
    }
}

fn ended() -> Report {
    Report {
        pending: vec![Pending {
            path: None,
            why: "the session has ended".into(),
        }],
        ..Report::default()
    }
}

/// What a session needs of the disk before it can start.
struct Prepared {
    root: Arc<Root>,
    state: StateDir,
    lock: WorkspaceLock,
    journal: Journal,
    remembered: Remembered,
    project: Project,
    client: ClientId,
    bases: BaseStore,
}

impl Prepared {
    fn new(config: &SyncConfig, progress: &ProgressSink) -> Result<Self, EngineError> {
        let root = Root::open(&config.root)?;
        let state = StateDir::open(&root)?;
        let lock = state.lock()?.ok_or(EngineError::Locked)?;
        let note = |note: String| progress(Progress::Note(note));
        let open = || {
            Journal::open(
                &state.journal(),
                config.server.as_url().as_str(),
                &config.project,
            )
        };
        let (mut journal, mut remembered) = match open() {
            Err(error) if error.is_damage() => {
                note(format!(
                    "{}; it is set aside, and the workspace is compared as if for the first time",
                    chain(&error)
                ));
                state.set_journal_aside()?;
                open()?
            }
            opened => opened?,
        };
        let client = ClientId::from_random(random());
        if !(remembered.intents.is_empty() && remembered.renaming.is_empty()) {
            let agreed = Agreed::new(std::mem::take(&mut remembered.bases));
            for intent in std::mem::take(&mut remembered.intents) {
                let base = agreed.get(&intent.path);
                let recovery = recovery(&root, &intent, base, &config.who)?;
                journal.write(&recovery.records)?;
                recovery.clean_up(&root, &intent);
            }
            for renaming in std::mem::take(&mut remembered.renaming) {
                journal.write(&renamed(&root, &renaming, &agreed)?)?;
            }
            drop(journal);
            (journal, remembered) = open()?;
        }
        let parts = journal.state(&None)?;
        let project = Project::from_updates(client, &parts)
            .map_err(|error| JournalError::Damaged(error.to_string()))?;
        if parts.len() > COMPACT_AFTER && !project.misses_updates() {
            let state = crate::journal::Record::WholeState(None, project.state());
            journal.write(&[state])?;
        }
        let bases = BaseStore::new(&state);
        let seeds = remembered
            .bases
            .iter()
            .filter_map(|(_, base)| match &base.entry {
                Entry::Text { seed, .. } => Some(*seed),
                _ => None,
            });
        bases.keep_only(&seeds.collect());
        Ok(Self {
            root: Arc::new(root),
            state,
            lock,
            journal,
            remembered,
            project,
            client,
            bases,
        })
    }
}

/// Updates of the project document that are remembered one by one before they become one.
const COMPACT_AFTER: usize = 256;
