//! What Claude Code says, on its way to the project's events.
//!
//! Owns: the [`spool`] in `.uspark` and the task that empties it to the server. Must not do: hold
//! up the stream, which waits for no network here, only for its lines to be handed to the kernel.
//!
//! Invariants: the lines of a run reach the server in order, without a gap, each once (it leaves
//! out those that it has); a run's spool goes only when the server has all of it; in memory there
//! is at most one batch.

mod spool;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};
use uspark_shared::id::ProjectId;

use self::spool::{Spool, SpoolReader, SpoolWriter};
use crate::api::{Api, ApiError, Refusal};
use crate::claude::Line;

/// The first pause before a server that is away is tried again; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The longest line that the server takes, in bytes; of a longer one only its length is told.
const LINE_BYTES: usize = 256 << 10;
/// "The lines do not begin where those that I have end."
const GAP: Refusal = Refusal::Other(412);

/// Takes a run's lines as they pass. Dropped, it says that there are no more.
pub struct LineSink {
    writer: SpoolWriter,
    /// Why the disk took no more.
    broken: Arc<OnceLock<String>>,
    written: watch::Sender<u64>,
}

/// A run that is being published.
pub struct Publisher {
    live: JoinHandle<Result<(), Unpublished>>,
    left: JoinHandle<()>,
    /// Why it waits, as far as that is known.
    trouble: Arc<Mutex<Option<String>>>,
    broken: Arc<OnceLock<String>>,
}

/// Why lines are not on the server.
#[derive(Debug, thiserror::Error)]
pub enum Unpublished {
    /// It refused them, or answered nothing in time.
    #[error("{0}")]
    Server(String),
    /// The spool could not be written.
    #[error("the spool in .uspark took no more: {0}")]
    Full(String),
    /// The spool could not be read.
    #[error("the spool in .uspark: {0}")]
    Spool(#[from] io::Error),
}

impl Publisher {
    /// Begins to publish `run`, and what earlier runs in this workspace have left.
    pub fn start(
        root: &Path,
        project: &ProjectId,
        run: &str,
        api: Api,
    ) -> io::Result<(Self, LineSink)> {
        let spool = Spool::of(root, project);
        let (writer, reader) = spool.begin(run)?;
        let (written, count) = watch::channel(0);
        let (trouble, broken) = (Arc::default(), Arc::<OnceLock<_>>::default());
        let sender = Sender {
            api,
            project: project.clone(),
            trouble: Arc::clone(&trouble),
        };
        // Now, while this run's own is locked.
        let left = tokio::spawn(send_left(spool.left(), sender.clone()));
        let live = tokio::spawn(async move { sender.follow(reader, count).await });
        let sink = LineSink {
            writer,
            broken: Arc::clone(&broken),
            written,
        };
        let publisher = Self {
            live,
            left,
            trouble,
            broken,
        };
        Ok((publisher, sink))
    }

    /// Waits until the server has every line. The sink must be gone, or go.
    pub async fn finish(self, deadline: Instant) -> Result<(), Unpublished> {
        let published = match timeout_at(deadline, self.live).await {
            Ok(Ok(published)) => published,
            Ok(Err(broken)) => Err(Unpublished::Server(broken.to_string())),
            Err(_) => {
                let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
                let late = || "the server did not take them in time".to_owned();
                Err(Unpublished::Server(trouble.clone().unwrap_or_else(late)))
            }
        };
        published?;
        // What is left of earlier runs is nobody's failure now; it stays for the next.
        let _ = timeout_at(deadline, self.left).await;
        match self.broken.get() {
            Some(why) => Err(Unpublished::Full(why.clone())),
            None => Ok(()),
        }
    }
}

impl LineSink {
    /// Takes a line; an empty one says nothing and is left out.
    pub fn take(&mut self, line: Line<'_>) {
        let too_long = |bytes: u64| format!(r#"{{"type":"uspark","tooLong":{bytes}}}"#);
        let line = match line {
            Line::Whole([]) => return,
            Line::Whole(bytes) => String::from_utf8_lossy(bytes),
            Line::TooLong(bytes) => too_long(bytes).into(),
        };
        let line = match line.len() {
            0..=LINE_BYTES => line,
            longer => too_long(longer as u64).into(),
        };
        // What comes after a gap is not published.
        if self.broken.get().is_some() {
            return;
        }
        match self.writer.write(&line) {
            Ok(()) => self.written.send_modify(|count| *count += 1),
            Err(error) => {
                tracing::warn!("from here on the stream is not published: {error}");
                let _ = self.broken.set(error.to_string());
            }
        }
    }
}

#[derive(Clone)]
struct Sender {
    api: Api,
    project: ProjectId,
    trouble: Arc<Mutex<Option<String>>>,
}

impl Sender {
    /// Sends a run's lines as they come, until there will be no more and all are there.
    async fn follow(
        &self,
        mut reader: SpoolReader,
        mut written: watch::Receiver<u64>,
    ) -> Result<(), Unpublished> {
        loop {
            let ended = written.has_changed().is_err();
            if self.send_batch(&mut reader).await? {
                continue;
            }
            if ended {
                return Ok(reader.remove()?);
            }
            // At its end, too, it is looked for what came last.
            let _ = written.changed().await;
        }
    }

    /// Sends what there is, at most one batch; `false` when there was nothing.
    async fn send_batch(&self, reader: &mut SpoolReader) -> Result<bool, Unpublished> {
        let batch = reader.batch()?;
        if batch.lines.is_empty() {
            return Ok(false);
        }
        let (run, lines) = (reader.run().to_owned(), batch.lines.clone());
        let mut pause = FIRST_PAUSE;
        loop {
            let call = self
                .api
                .publish(&self.project, &run, batch.from, lines.clone());
            match call.await {
                Ok(()) => {
                    self.note(None);
                    reader.sent(&batch);
                    return Ok(true);
                }
                // It was restored from an older state: it gets the run from the start.
                Err(error) if error.refusal() == Some(GAP) && batch.from > 1 => {
                    reader.begin_again();
                    return Ok(true);
                }
                Err(error) if error.is_transient() => self.note(Some(&error)),
                Err(error) => return Err(Unpublished::Server(error.to_string())),
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn note(&self, trouble: Option<&ApiError>) {
        let trouble = trouble.map(ToString::to_string);
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}

/// Sends what runs have left whose process is gone.
async fn send_left(left: Vec<SpoolReader>, sender: Sender) {
    for mut reader in left {
        let sent = async {
            while sender.send_batch(&mut reader).await? {}
            Ok::<_, Unpublished>(reader.remove()?)
        };
        if let Err(error) = sent.await {
            tracing::warn!("lines of an earlier run are not published: {error}");
        }
    }
}

#[cfg(test)]
mod tests;
