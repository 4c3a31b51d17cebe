//! A server from start to stop.
//!
//! Owns: putting the parts together, the first admin token, and the order in which everything
//! ends. Must not do: serve a request.
//!
//! Invariant: every task of the server runs in [`AppState::tasks`] and ends soon after
//! [`AppState::stopping`] is cancelled. The committer is closed last: until then what was applied
//! can still become durable.

mod admin;
mod connections;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::access::{Token, TokenError, TokenFormatError, Tokens, Usage};
use crate::blobs::{BlobLimits, Blobs, LargeBlobs};
use crate::collector::Collector;
use crate::config::{Config, Limits, Retention, millis};
use crate::metrics::Metrics;
use crate::project::{BlobFacts, ProjectDeps, Projects};
use crate::store::{BlobFiles, Committer, DataDirectory, SqliteStore, Store, StoreError};

use admin::Admin;
use connections::Serving;
use tls::Tls;

pub(crate) use connections::CutOff;
pub use tls::TlsError;

/// How long requests under way may take to end by themselves when the server stops.
const DRAIN: Duration = Duration::from_millis(1500);
/// How long each later step of stopping may take: with [`DRAIN`] less than 5 s in all.
const STEP: Duration = Duration::from_secs(1);

/// What every request and every socket works with. Cheap to clone.
#[derive(Clone)]
pub struct AppState {
    /// The documents.
    pub(crate) projects: Projects,
    /// Who may do what.
    pub(crate) tokens: Tokens,
    /// How much each token is used.
    pub(crate) usage: Usage,
    /// The contents.
    pub(crate) blobs: Blobs,
    /// What is durable, to read.
    pub(crate) store: Arc<dyn Store>,
    /// The way to write.
    pub(crate) committer: Committer,
    /// What is measured.
    pub(crate) metrics: Arc<Metrics>,
    /// How much is taken.
    pub(crate) limits: Limits,
    /// How long things are kept that nothing needs any more.
    pub(crate) retention: Retention,
    /// Milliseconds since 1970.
    pub(crate) clock: fn() -> u64,
    /// Every task of the server.
    pub(crate) tasks: TaskTracker,
    /// Cancelled when the server stops: sockets close so that their clients come back.
    pub(crate) stopping: CancellationToken,
}

/// The sync server.
pub struct Server;

/// A server at work. Dropping it stops it without waiting.
pub struct Running {
    address: SocketAddr,
    admin: Admin,
    tls: Option<Arc<Tls>>,
    state: AppState,
    accepting: tokio::task::JoinHandle<()>,
    _stopping: DropGuard,
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The token that was given is none. It is not repeated.
    #[error("--admin-token (or USPARK_ADMIN_TOKEN) is {0}")]
    TokenFormat(TokenFormatError),
    /// TLS cannot be spoken as it is configured.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The data directory is not to be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nobody can be reached there.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's words.
        source: io::Error,
    },
    /// The token that was given does not count.
    #[error("the admin token that was given does not work: {0}")]
    GivenToken(TokenError),
    /// The token that was saved does not count.
    #[error("the admin token saved in {} does not work: {reason}", path.display())]
    SavedToken {
        /// Where it is.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// No first token could be made.
    #[error("no admin token can be made: {0}")]
    NoToken(TokenError),
}

impl Server {
    /// Starts a server; it listens when this returns.
    ///
    /// Needs a multi-thread runtime: documents are applied where their owner runs.
    pub async fn start(config: Config) -> Result<Running, StartError> {
        let given = config.admin_token.as_deref().map(str::parse);
        let given = given.transpose().map_err(StartError::TokenFormat)?;
        let tls = Tls::open(&config.tls)?;
        let directory = DataDirectory::open(&config.data)?;
        let store = Arc::new(SqliteStore::open(&directory)?);
        let large = Arc::new(BlobFiles::open(&directory)?);
        let state = AppState::new(&config, store, large);
        let admin = admin::settle(&state, &directory, given).await?;
        let listening = |source| StartError::Listen {
            address: config.listen,
            source,
        };
        let listener = TcpListener::bind(config.listen).await.map_err(listening)?;
        let address = listener.local_addr().map_err(listening)?;
        let router = crate::http::router(state.clone());
        let full = crate::http::full_router(state.clone());
        let (most, stalled) = (config.limits.max_connections, config.timing.stalled);
        let serving = Serving::new(router, full, most, stalled, Arc::clone(&state.metrics));
        let serving = serving.over(tls.clone());
        let stopping = state.stopping.clone();
        let collector = state.collector();
        state.tasks.spawn(collector.run(stopping.clone()));
        let accepting = connections::accept(listener, serving, stopping.clone(), DRAIN);
        Ok(Running {
            address,
            admin,
            tls,
            accepting: state.tasks.spawn(accepting),
            state,
            _stopping: stopping.drop_guard(),
        })
    }
}

impl AppState {
    /// Puts the parts together over a store.
    pub(crate) fn new(config: &Config, store: Arc<dyn Store>, large: Arc<dyn LargeBlobs>) -> Self {
        let metrics = Arc::<Metrics>::default();
        let committer = Committer::measured(Arc::clone(&store), Arc::clone(&metrics));
        let limits = BlobLimits {
            max_bytes: config.limits.max_blob_bytes,
        };
        let (of, by) = (Arc::clone(&store), committer.clone());
        let blobs = Blobs::new(of, by, large, limits, config.clock);
        let tasks = TaskTracker::new();
        let projects = Projects::new(ProjectDeps {
            store: Arc::clone(&store),
            committer: committer.clone(),
            facts: BlobFacts::new(blobs.clone()),
            blobs: blobs.clone(),
            clock: config.clock,
            timing: config.timing,
            kept_events: config.limits.kept_events,
            versions_kept: millis(config.retention.keep_versions),
            tasks: tasks.clone(),
            metrics: Arc::clone(&metrics),
        });
        Self {
            projects,
            tokens: Tokens::new(Arc::clone(&store), committer.clone()),
            usage: Usage::new(config.limits.of_token()),
            blobs,
            store,
            committer,
            metrics,
            limits: config.limits,
            retention: config.retention,
            clock: config.clock,
            tasks,
            stopping: CancellationToken::new(),
        }
    }

    /// What looks for things that are to go.
    pub(crate) fn collector(&self) -> Collector {
        Collector {
            projects: self.projects.clone(),
            store: Arc::clone(&self.store),
            committer: self.committer.clone(),
            blobs: self.blobs.clone(),
            metrics: Arc::clone(&self.metrics),
            clock: self.clock,
            retention: self.retention,
        }
    }
}

impl Running {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same for a client: `http://127.0.0.1:4400`.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Whether it speaks TLS.
    pub fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Reads the certificate and its key again, for connections from now on. If they cannot be
    /// used, those before them stay.
    pub fn reload_tls(&self) -> Result<(), TlsError> {
        self.tls.as_ref().map_or(Ok(()), |tls| tls.reload())
    }

    /// The server's own admin token.
    pub fn admin_token(&self) -> &Token {
        &self.admin.token
    }

    /// Where that token is kept; `None` if it was given.
    pub fn admin_token_file(&self) -> Option<&Path> {
        self.admin.file.as_deref()
    }

    /// Whether that token was made now: it is shown once.
    pub fn is_first_start(&self) -> bool {
        self.admin.is_new
    }

    /// Stops serving, then stores what is left, within 5 s. What takes longer is told and left.
    pub async fn stop(self) {
        self.state.stopping.cancel();
        within(DRAIN + STEP, "connections", async {
            if let Err(error) = self.accepting.await {
                tracing::error!(%error, "the listener failed");
            }
        })
        .await;
        within(STEP, "projects", self.state.projects.close()).await;
        within(STEP, "commits", self.state.committer.close()).await;
        self.state.tasks.close();
        within(STEP / 2, "tasks", self.state.tasks.wait()).await;
    }
}

impl StartError {
    /// What the operator can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::TokenFormat(_) => {
                Some("give one that a server minted, or none: the first start makes one")
            }
            Self::Tls(error) => Some(error.hint()),
            Self::Store(error) => error.hint(),
            Self::Listen { source, .. } => Some(match source.kind() {
                io::ErrorKind::AddrInUse => {
                    "stop what listens there, or choose another address with --listen"
                }
                io::ErrorKind::PermissionDenied => {
                    "ports below 1024 need a privilege; choose another with --listen"
                }
                _ => "choose an address of this machine with --listen",
            }),
            Self::GivenToken(_) => Some("give another one; a revoked token never works again"),
            Self::SavedToken { .. } => Some("remove that file: the next start makes a new token"),
            Self::NoToken(_) => None,
        }
    }

    /// Whether the command line is wrong, rather than the machine.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::TokenFormat(_) | Self::Tls(TlsError::Half))
    }
}

async fn within(limit: Duration, what: &str, step: impl Future<Output = ()>) {
    if timeout(limit, step).await.is_err() {
        tracing::warn!("stopping: {what} took longer than {limit:?} and are left behind");
    }
}
