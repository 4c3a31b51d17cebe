//! The owner of one project: a loop that takes commands, and nothing else touches its state.
//!
//! It never waits for I/O: loading, fetching and committing run beside it and come back as
//! commands, so a keystroke waits for no disk.

mod collect;
mod events;
mod files;
mod lacking;
mod load;
mod seats;
mod settle;
mod updates;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;
use uspark_shared::id::{BlobHash, DocId, ProjectId};
use uspark_shared::path::FilePath;
use uspark_shared::replica::ProjectReplica;

use self::lacking::Unseeded;
use self::seats::Rooms;
use super::chain::Chains;
use super::command::{Command, SeatMessage};
use super::live::{LiveText, Log};
use super::registry::ProjectDeps;
use super::repair::Waiting;
use super::tree::Tree;
use crate::ack::AckQueue;
use crate::metrics::{Held, HeldDocument};
use crate::refusal::Refusal;
use crate::store::SettledVersion;

/// Everything a project is, in memory.
pub struct Owner {
    id: ProjectId,
    deps: ProjectDeps,
    /// To itself, from the tasks it starts.
    commands: mpsc::WeakSender<Command>,
    acks: AckQueue,

    project: ProjectReplica,
    log: Log,
    chains: Chains,
    tree: Tree,
    /// Every text document the project ever had.
    records: HashMap<DocId, TextMemo>,
    /// Paths whose blob is not there yet.
    waiting: HashMap<BlobHash, Vec<Waiting>>,

    texts: HashMap<DocId, LiveText>,
    /// What waits for a text that is being loaded.
    loading: HashMap<DocId, Vec<Command>>,
    /// Texts with edits from before a restart that are not settled. Loading finds out; what reads
    /// settled contents waits for it.
    left_over: Vec<DocId>,
    /// Joins whose document nobody has named yet, and until when they may wait.
    unknown: Vec<(Instant, DocId, Command)>,
    /// Texts whose seed is not there, and that somebody has open.
    unseeded: HashMap<DocId, Unseeded>,
    /// Blobs that nothing names and that are on their way out: no entry finds them here any more.
    going: HashSet<BlobHash>,
    rooms: Rooms,
    used: Instant,
    /// Held by what fetches bytes and comes back with them: the project stays in memory for it.
    fetches: Arc<()>,
    _counted: Held,
    /// The project's document, as it is counted.
    document: HeldDocument,
}

/// What is known of a text document without loading it.
#[derive(Debug, Clone)]
struct TextMemo {
    seed: BlobHash,
    /// Its path, or the last it had.
    path: FilePath,
    is_live: bool,
    settled: Option<SettledVersion>,
}

impl TextMemo {
    /// The content that is known to be settled.
    fn content(&self) -> BlobHash {
        self.settled.map_or(self.seed, |version| version.hash)
    }
}

/// Whether the owner goes on.
enum Flow {
    Go,
    /// Leave memory in good order.
    Leave,
    /// Leave it without another word to the store: what is in memory is not what is there.
    Drop,
}

impl Owner {
    /// Takes commands until there is nobody left, or it is told to stop.
    pub async fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        for doc in self.left_over.clone() {
            self.load_text(doc.clone(), Command::Touch(doc));
        }
        loop {
            let deadline = tokio::time::Instant::from_std(self.next_deadline());
            let flow = tokio::select! {
                command = queue.recv() => match command {
                    Some(command) => self.take(command),
                    None => Flow::Leave,
                },
                () = tokio::time::sleep_until(deadline) => self.tick(queue.is_empty()),
            };
            match flow {
                // Of a poisoned document even a look is not safe: it may wait for ever.
                _ if self.project.is_poisoned() => break,
                Flow::Go => {}
                Flow::Leave => {
                    self.snapshot();
                    break;
                }
                Flow::Drop => break,
            }
        }
        queue.close();
        self.leave_memory().await;
    }

    fn take(&mut self, command: Command) -> Flow {
        self.used = Instant::now();
        // What needs a text that is not in memory waits until it is.
        if let Some(doc) = self.needs(&command)
            && !self.texts.contains_key(&doc)
        {
            match command {
                Command::Message(seat, message) if self.unseeded.contains_key(&doc) => {
                    self.about_unseeded(&doc, seat, message);
                }
                command => self.load_text(doc, command),
            }
            return Flow::Go;
        }
        match command {
            Command::Join {
                seat,
                document,
                reply,
            } => self.join(seat, document, reply),
            Command::Leave(seat) => self.leave(seat),
            Command::Message(seat, message) => self.message(seat, message),
            Command::State { since, reply } => self.state(since.as_deref(), reply),
            Command::Manifest(reply) => self.manifest(reply),
            Command::File { path, reply } => self.file(&path, reply),
            Command::Patch {
                update,
                base,
                who,
                reply,
            } => self.patch(update, base, who, reply),
            Command::Put {
                path,
                hash,
                base,
                mode,
                who,
                reply,
            } => {
                self.put(path, hash, base, mode, who, reply);
            }
            Command::Delete {
                path,
                only,
                who,
                reply,
            } => self.delete(&path, only, &who, reply),
            Command::BlobArrived(hash) => self.blob_arrived(hash),
            Command::Loaded { doc, result } => self.loaded(doc, result),
            Command::Merge(merge, ack) => self.merge(merge, ack),
            Command::ForgetTexts { docs, reply } => self.forget_texts(docs, reply),
            Command::ForgetBlobs {
                hashes,
                spent,
                reply,
            } => self.forget_blobs(hashes, spent, reply),
            Command::Forgotten(hashes) => self.forgotten(hashes),
            Command::Deleted => {
                self.rooms.refuse_all(&Refusal::NotFound("project"));
                return Flow::Drop;
            }
            Command::Close(done) => {
                self.close_when_gone(done);
                return Flow::Leave;
            }
            Command::Failed => return Flow::Drop,
            Command::Touch(_) => {}
        }
        Flow::Go
    }

    /// The text that must be in memory for a command.
    fn needs(&self, command: &Command) -> Option<DocId> {
        match command {
            Command::Join {
                document: Some(doc),
                ..
            } if self.records.contains_key(doc) => Some(doc.clone()),
            Command::Message(seat, message) => match message {
                SeatMessage::Step1(_) | SeatMessage::Update(_) => {
                    self.rooms.document_of(*seat).cloned().flatten()
                }
                SeatMessage::Follow => self.left_over.first().cloned(),
                SeatMessage::CatchUp(doc) => {
                    doc.clone().filter(|doc| self.records.contains_key(doc))
                }
                _ => None,
            },
            Command::Touch(doc) => Some(doc.clone()),
            Command::State { .. }
            | Command::Manifest(_)
            | Command::File { .. }
            | Command::Patch { .. }
            | Command::Delete { .. }
            | Command::ForgetTexts { .. } => self.left_over.first().cloned(),
            Command::Merge(merge, _) => {
                let doc = merge.wanted.doc.as_ref().map(|(doc, _)| doc.clone());
                doc.filter(|doc| self.records.contains_key(doc))
            }
            _ => None,
        }
    }

    /// Milliseconds since 1970.
    fn now(&self) -> u64 {
        (self.deps.clock)()
    }
}
