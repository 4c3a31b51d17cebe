//! Work that takes time, off the loop: the disk and the blobs. Results come back as events.
//!
//! Both kinds are bounded: so many at once, the rest waits in line here.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::StreamExt as _;
use tokio::sync::mpsc::Sender;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uspark_shared::id::BlobHash;
use uspark_shared::path::FilePath;
use uspark_shared::text::MAX_GROWN_TEXT_BYTES;

use crate::disk::base::BaseStore;
use crate::disk::incoming::{Arrived, Incoming};
use crate::disk::observe::{Fingerprint, IfWritten, Seen, SeenFile};
use crate::disk::state::StateDir;
use crate::disk::swap::{Expected, Put, PutResult, TakeResult, TempName};
use crate::disk::{DiskError, Root};
use crate::link::{BlobError, Server, Upload, UploadContent};

/// Looks of one job: so many cost one hand-over between threads.
const LOOKS_AT_ONCE: usize = 64;
/// Blobs up to this size arrive in memory, larger ones in a file.
const MEMORY_BYTES: u64 = MAX_GROWN_TEXT_BYTES as u64;

/// A look at a path.
#[derive(Debug)]
pub(super) struct Look {
    /// Where.
    pub path: FilePath,
    /// What is known to be there.
    pub known: Option<Fingerprint>,
    /// What to do about a file that is being written.
    pub if_written: IfWritten,
    /// Whether a text is to be brought along: without a document there is no use for it.
    pub wants_text: bool,
    /// The document's first content, to be brought along from the store.
    pub base: Option<BlobHash>,
    /// Whether this path is absent is asked too.
    pub origin: Option<FilePath>,
}

/// What a look found.
#[derive(Debug)]
pub(super) struct Looked {
    /// What is at the path.
    pub seen: Result<Seen, DiskError>,
    /// Whether it could be a text's content.
    pub is_text: bool,
    /// The document's first content, if it was wanted and is kept.
    pub base: Option<String>,
    /// Whether the origin is absent, if that was asked.
    pub origin_gone: Option<bool>,
}

/// Something to be done on disk.
#[derive(Debug)]
pub(super) enum DiskJob {
    /// Put something at a path; before that, keep the text as its document's first content, and
    /// remove the empty directory that is in the way.
    Put {
        put: Put,
        keep: Option<(BlobHash, String)>,
        instead_of_dir: bool,
    },
    /// Remove what is at a path.
    Take {
        path: FilePath,
        temp: TempName,
        expected: Expected,
    },
    /// Rename.
    Rename { from: FilePath, to: FilePath },
    /// Set permission bits.
    SetMode {
        path: FilePath,
        print: Fingerprint,
        mode: u32,
    },
    /// Find what is not as it was when these were last seen.
    Compare {
        number: u64,
        known: Vec<(FilePath, Option<Fingerprint>)>,
    },
    /// Make a directory.
    MakeDir(FilePath),
    /// Remove a directory, if it is empty, and with it those above that then are.
    RemoveDir {
        path: FilePath,
        prune: Vec<FilePath>,
    },
    /// Keep the text at a path as its document's first content.
    KeepBase { path: FilePath, hash: BlobHash },
    /// Remove what a killed session had not even finished writing.
    Sweep(FilePath),
    /// Remove what a change displaced, if anything, as it was seen then; then directories that have
    /// become empty.
    Discard {
        path: FilePath,
        left: Option<(TempName, Fingerprint)>,
        prune: Vec<FilePath>,
    },
    /// Give what a change displaced a name.
    KeepAs {
        path: FilePath,
        temp: TempName,
        kept: FilePath,
    },
}

/// A blob that has arrived.
#[derive(Debug, Clone)]
pub(super) enum Fetched {
    /// In memory.
    Bytes(Vec<u8>),
    /// In a file.
    File(Arc<Arrived>),
}

/// A blob's travel.
#[derive(Debug)]
pub(super) enum Transfer {
    /// To the server. A text is also kept as its document's first content.
    Up {
        path: FilePath,
        hash: BlobHash,
        size: u64,
        is_text: bool,
    },
    /// From the server. `size` as far as it is known.
    Down {
        path: FilePath,
        hash: BlobHash,
        size: u64,
    },
}

/// Why a blob did not travel.
#[derive(Debug, thiserror::Error)]
pub(super) enum TransferError {
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The file is no longer what was to be sent.
    #[error("it changed while it was sent")]
    Changed,
    /// The bytes that came are not the ones asked for.
    #[error("the server sent other bytes than blob {0}")]
    Corrupt(BlobHash),
}

/// A job that is over.
#[derive(Debug)]
pub(super) enum Done {
    Looked(Vec<(FilePath, Looked)>),
    Put(FilePath, Result<PutResult, DiskError>),
    Taken(FilePath, Result<TakeResult, DiskError>),
    Renamed(FilePath, FilePath, Result<bool, DiskError>),
    ModeSet(FilePath, Result<PutResult, DiskError>),
    DirMade(FilePath, Result<(), DiskError>),
    DirRemoved(FilePath, Result<bool, DiskError>),
    BaseKept(FilePath, Result<bool, DiskError>),
    Discarded(FilePath),
    Compared(u64, Vec<FilePath>),
    Kept(FilePath, FilePath, Result<bool, DiskError>),
    Uploaded(FilePath, BlobHash, Result<(), TransferError>),
    Fetched(FilePath, BlobHash, Result<Fetched, TransferError>),
}

/// What jobs need to run.
pub(super) struct Tools {
    pub root: Arc<Root>,
    pub state: StateDir,
    pub bases: BaseStore,
    pub server: Arc<dyn Server>,
}

/// The lines of jobs.
pub(super) struct Jobs {
    tools: Arc<Tools>,
    done: Sender<Done>,
    tasks: TaskTracker,
    cancelled: CancellationToken,
    looks: VecDeque<Look>,
    disk: VecDeque<DiskJob>,
    transfers: VecDeque<Transfer>,
    free_disk: usize,
    free_transfers: usize,
}

impl Jobs {
    /// Lines with so many places at once.
    pub fn new(
        tools: Tools,
        done: Sender<Done>,
        tasks: TaskTracker,
        cancelled: CancellationToken,
        places: (usize, usize),
    ) -> Self {
        Self {
            tools: Arc::new(tools),
            done,
            tasks,
            cancelled,
            looks: VecDeque::new(),
            disk: VecDeque::new(),
            transfers: VecDeque::new(),
            free_disk: places.0.max(1),
            free_transfers: places.1.max(1),
        }
    }

    /// The workspace, for what takes no time.
    pub fn root(&self) -> &Root {
        &self.tools.root
    }

    /// A text that is kept as a document's first content.
    pub fn base(&self, hash: &BlobHash) -> Option<String> {
        self.tools.bases.get(hash)
    }

    /// Takes a look in line.
    pub fn look(&mut self, look: Look) {
        self.looks.push_back(look);
    }

    /// Takes a disk job in line.
    pub fn disk(&mut self, job: DiskJob) {
        self.disk.push_back(job);
    }

    /// Takes a transfer in line.
    pub fn transfer(&mut self, transfer: Transfer) {
        self.transfers.push_back(transfer);
    }

    /// A job of this kind is over: its place is free.
    pub fn ended(&mut self, done: &Done) {
        match done {
            Done::Uploaded(..) | Done::Fetched(..) => self.free_transfers += 1,
            _ => self.free_disk += 1,
        }
    }

    /// Starts what there are places for.
    pub fn start(&mut self) {
        while self.free_disk > 0 {
            if let Some(job) = self.disk.pop_front() {
                self.spawn_blocking(move |tools| job.run(tools));
            } else if !self.looks.is_empty() {
                let many = self.looks.len().div_ceil(self.free_disk).min(LOOKS_AT_ONCE);
                let looks: Vec<Look> = self.looks.drain(..many).collect();
                self.spawn_blocking(move |tools| {
                    let looked = looks.into_iter().map(|look| look.run(tools));
                    Done::Looked(looked.collect())
                });
            } else {
                break;
            }
            self.free_disk -= 1;
        }
        while self.free_transfers > 0 {
            let Some(transfer) = self.transfers.pop_front() else {
                break;
            };
            self.free_transfers -= 1;
            let (tools, done) = (Arc::clone(&self.tools), self.done.clone());
            let cancelled = self.cancelled.clone();
            self.tasks.spawn(async move {
                tokio::select! {
                    () = cancelled.cancelled() => {}
                    // A loop that has ended needs no results.
                    result = transfer.run(&tools) => drop(done.send(result).await),
                }
            });
        }
    }

    fn spawn_blocking(&self, run: impl FnOnce(&Tools) -> Done + Send + 'static) {
        let (tools, done) = (Arc::clone(&self.tools), self.done.clone());
        self.tasks.spawn_blocking(move || {
            // A loop that has ended needs no results.
            drop(done.blocking_send(run(&tools)));
        });
    }
}

impl Look {
    fn run(self, tools: &Tools) -> (FilePath, Looked) {
        let root = &tools.root;
        let mut seen = root.observe(&self.path, self.known.as_ref(), self.if_written);
        let mut is_text = false;
        if let Ok(Seen::File(file)) = &mut seen {
            is_text = file.is_text();
            file.text = file.text.take().filter(|_| self.wants_text);
        }
        let base = self.base.and_then(|hash| tools.bases.get(&hash));
        let origin_gone = self.origin.map(|origin| {
            let seen = tools.root.observe(&origin, None, IfWritten::Read);
            matches!(seen, Ok(Seen::Absent))
        });
        let looked = Looked {
            seen,
            is_text,
            base,
            origin_gone,
        };
        (self.path, looked)
    }
}

impl DiskJob {
    fn run(self, tools: &Tools) -> Done {
        let root = &tools.root;
        match self {
            Self::Put {
                put,
                keep,
                instead_of_dir,
            } => {
                let run = || {
                    if let Some((hash, text)) = keep {
                        tools.bases.put(&hash, &text)?;
                    }
                    if instead_of_dir && !root.remove_dir(&put.path)? {
                        return Ok(PutResult::Changed);
                    }
                    root.put(&put)
                };
                let result = run();
                Done::Put(put.path, result)
            }
            Self::Take {
                path,
                temp,
                expected,
            } => {
                let result = root.take(&path, &temp, &expected);
                Done::Taken(path, result)
            }
            Self::Rename { from, to } => {
                let result = root.rename(&from, &to);
                Done::Renamed(from, to, result)
            }
            Self::SetMode { path, print, mode } => {
                let result = root.set_mode(&path, &print, mode);
                Done::ModeSet(path, result)
            }
            Self::Sweep(path) => {
                root.sweep(&path);
                Done::Discarded(path)
            }
            Self::Compare { number, mut known } => {
                known.retain(|(path, print)| !root.is_still(path, print.as_ref()));
                let differing = known.into_iter().map(|(path, _)| path);
                Done::Compared(number, differing.collect())
            }
            Self::MakeDir(path) => {
                let result = root.make_dir(&path);
                Done::DirMade(path, result)
            }
            Self::RemoveDir { path, prune } => {
                let result = root.remove_dir(&path);
                if matches!(result, Ok(true)) {
                    remove_empty(root, &prune);
                }
                Done::DirRemoved(path, result)
            }
            Self::KeepBase { path, hash } => {
                let result = keep_base(tools, &path, hash).map(|text| text.is_some());
                Done::BaseKept(path, result)
            }
            Self::Discard { path, left, prune } => {
                let late = left.map(|(temp, seen)| root.discard_as_seen(&path, &temp, &seen));
                match late {
                    None | Some(Ok(None)) => {}
                    Some(Ok(Some(kept))) => return Done::Kept(path, kept, Ok(true)),
                    Some(Err(error)) => return Done::Kept(path.clone(), path, Err(error)),
                }
                remove_empty(root, &prune);
                Done::Discarded(path)
            }
            Self::KeepAs { path, temp, kept } => {
                let result = root.keep_as(&path, &temp, &kept);
                Done::Kept(path, kept, result)
            }
        }
    }
}

impl Transfer {
    async fn run(self, tools: &Arc<Tools>) -> Done {
        match self {
            Self::Up {
                path,
                hash,
                size,
                is_text,
            } => {
                let result = upload(tools, &path, hash, size, is_text).await;
                Done::Uploaded(path, hash, result)
            }
            Self::Down { path, hash, size } => {
                let result = download(tools, hash, size).await;
                Done::Fetched(path, hash, result)
            }
        }
    }
}

/// Removes these directories, each in the next, up to the first that is not empty.
fn remove_empty(root: &Root, directories: &[FilePath]) {
    for directory in directories {
        if !matches!(root.remove_dir(directory), Ok(true)) {
            break;
        }
    }
}

/// Keeps the text at a path as a document's first content, and gives it, if it is what it should
/// be.
fn keep_base(tools: &Tools, path: &FilePath, hash: BlobHash) -> Result<Option<String>, DiskError> {
    match tools.root.observe(path, None, IfWritten::Read)? {
        Seen::File(SeenFile {
            text: Some(text),
            hash: found,
            ..
        }) if found == hash => {
            tools.bases.put(&hash, &text)?;
            Ok(Some(text))
        }
        _ => Ok(None),
    }
}

async fn upload(
    tools: &Arc<Tools>,
    path: &FilePath,
    hash: BlobHash,
    size: u64,
    is_text: bool,
) -> Result<(), TransferError> {
    let content = {
        let (tools, path) = (Arc::clone(tools), path.clone());
        let prepare = move || -> Result<UploadContent, TransferError> {
            if !is_text {
                return Ok(UploadContent::File(tools.root.open_file(&path)?));
            }
            let text = keep_base(&tools, &path, hash)?.ok_or(TransferError::Changed)?;
            Ok(UploadContent::Bytes(text.into()))
        };
        tokio::task::spawn_blocking(prepare)
            .await
            .expect("preparing an upload does not panic")?
    };
    let stored = tools.server.upload(Upload {
        hash,
        size,
        content,
    });
    if stored.await? == hash {
        Ok(())
    } else {
        Err(TransferError::Changed)
    }
}

async fn download(tools: &Tools, hash: BlobHash, size: u64) -> Result<Fetched, TransferError> {
    let mut pieces = tools.server.download(hash).await?;
    if size <= MEMORY_BYTES {
        let mut bytes = Vec::with_capacity(size as usize);
        while let Some(piece) = pieces.next().await {
            bytes.extend_from_slice(&piece?);
            if bytes.len() as u64 > MEMORY_BYTES {
                return Err(TransferError::Corrupt(hash));
            }
        }
        if BlobHash::of(&bytes) != hash {
            return Err(TransferError::Corrupt(hash));
        }
        return Ok(Fetched::Bytes(bytes));
    }
    let mut incoming = Incoming::begin(&tools.state, hash)?;
    while let Some(piece) = pieces.next().await {
        incoming.write(&piece?)?;
    }
    let arrived = incoming.finish().ok_or(TransferError::Corrupt(hash))?;
    Ok(Fetched::File(Arc::new(arrived)))
}
