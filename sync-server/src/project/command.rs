//! What may be asked of a project's owner. One closed enum: its loop takes nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use uspark_shared::id::{BlobHash, DocId};
use uspark_shared::path::FilePath;

use super::live::LoadedText;
use super::merge::Merge;
use super::repair::Report;
use crate::access::{Grant, TokenId};
use crate::ack::Ack;
use crate::refusal::Refusal;
use crate::store::{Origin, Spent};
use crate::subscriber::{Outbox, SeatId};

/// Where an answer goes.
pub type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

/// A connection's seat at a document.
#[derive(Debug, Clone)]
pub struct Seat {
    /// Its id.
    pub id: SeatId,
    /// What its messages are addressed with.
    pub address: Arc<str>,
    /// Its connection's queue.
    pub outbox: Outbox,
    /// What tells its client that an update is durable.
    pub ack: SeatAck,
    /// Whether its updates are taken.
    pub may_write: bool,
    /// Who sits there.
    pub who: Attribution,
}

/// How a client is told that its update is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeatAck {
    /// The update comes back to it (y-websocket).
    Echo,
    /// SyncStatus (Hocuspocus).
    Status,
}

/// Who makes an update. The token is known; the rest is what its holder says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribution {
    /// The token; `None` is the server itself.
    pub token: Option<TokenId>,
    /// What people call it: the token's name, or its id.
    pub name: Arc<str>,
    /// What made the update.
    pub by: Option<By>,
}

/// What made an update, as its author says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct By {
    /// The run.
    #[serde(default)]
    pub run: Option<String>,
    /// The tool call.
    #[serde(default)]
    pub tool_use_id: Option<String>,
    /// The tool's name.
    #[serde(default)]
    pub tool: Option<String>,
}

/// What a seat says.
#[derive(Debug)]
pub enum SeatMessage {
    /// Its state vector: "send me what I lack".
    Step1(Bytes),
    /// An update, or the answer to our state vector.
    Update(Bytes),
    /// The body of an awareness message.
    Awareness(Bytes),
    /// "Send me everybody's awareness."
    QueryAwareness,
    /// "Send me the updates of every text of the project."
    Follow,
    /// What makes the updates that follow.
    By(Option<By>),
    /// Its client showed another token.
    Granted {
        /// Whose it is.
        who: Attribution,
        /// Whether updates are taken from now on.
        may_write: bool,
    },
    /// It is ready for what it missed.
    CatchUp(Option<DocId>),
}

/// What a version of a file by path is merged against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutBase {
    /// What is there now: the result is exactly the new bytes.
    Current,
    /// The version of this hash.
    Hash(BlobHash),
    /// There must be nothing yet.
    Nothing,
    /// What the project's document said at this `X-Version`.
    Version(u64),
    /// The settled version that is nearest to the new bytes.
    Nearest,
}

/// A file, settled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ManifestFile {
    /// `text`, `binary`, `link` or `dir`.
    pub kind: &'static str,
    /// The content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<BlobHash>,
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Permission bits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// Milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtime: Option<u64>,
    /// The text document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub doc: Option<DocId>,
    /// A link's target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

/// Every file, settled, and the version that this is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Manifest {
    /// Files by path.
    pub files: BTreeMap<FilePath, ManifestFile>,
    /// Says what `X-Version` says.
    #[serde(skip)]
    pub version: u64,
}

/// A file by path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileView {
    /// Its path.
    pub path: FilePath,
    /// What it is.
    pub file: ManifestFile,
}

/// What became of a PATCH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patched {
    /// The version that it made.
    pub version: u64,
    /// What the server put right.
    pub repaired: Vec<Report>,
}

/// A request to a project's owner.
#[expect(missing_docs, reason = "each variant says what its fields are for")]
pub enum Command {
    /// Take a seat at the project's document, or at a text.
    Join {
        seat: Seat,
        document: Option<DocId>,
        reply: Reply<()>,
    },
    /// Leave it.
    Leave(SeatId),
    /// A message from a seat.
    Message(SeatId, SeatMessage),
    /// The project document as an update, or what `since` lacks of it, with its version. Settled.
    State {
        since: Option<Bytes>,
        reply: Reply<(Bytes, u64)>,
    },
    /// Every file. Settled.
    Manifest(Reply<Manifest>),
    /// One file. Settled.
    File {
        path: FilePath,
        reply: Reply<FileView>,
    },
    /// Apply an update to the project document. `base` is what Original entries are merged against.
    Patch {
        update: Bytes,
        base: PutBase,
        who: Attribution,
        reply: Reply<Patched>,
    },
    /// Set a file to bytes that are stored already.
    Put {
        path: FilePath,
        hash: BlobHash,
        base: PutBase,
        mode: Option<u32>,
        who: Attribution,
        reply: Reply<FileView>,
    },
    /// Remove a file, if it is still of this content.
    Delete {
        path: FilePath,
        only: Option<BlobHash>,
        who: Attribution,
        reply: Reply<()>,
    },
    /// A blob was uploaded to the project.
    BlobArrived(BlobHash),
    /// The project was deleted: everybody leaves.
    Deleted,
    /// Settle and store everything, then go.
    Close(oneshot::Sender<()>),
    /// Load a text, to find out whether it is settled.
    Touch(DocId),
    /// A text is loaded.
    Loaded {
        doc: DocId,
        result: Result<LoadedText, Refusal>,
    },
    /// Bytes were fetched, and go into the tree.
    Merge(Merge, Ack),
    /// Delete texts that have had no path for long enough, as far as nobody has them open. Says how many.
    ForgetTexts { docs: Vec<DocId>, reply: Reply<u64> },
    /// Let go of those of these blobs that nothing names. Says how many.
    ForgetBlobs {
        hashes: Vec<BlobHash>,
        spent: Spent,
        reply: Reply<u64>,
    },
    /// They are gone.
    Forgotten(Vec<BlobHash>),
    /// A commit failed.
    Failed,
}

impl Attribution {
    /// Of a request with this grant.
    pub fn of(grant: &Grant) -> Self {
        let name = grant.name.as_deref().unwrap_or(grant.token_id.as_str());
        Self {
            token: Some(grant.token_id.clone()),
            name: name.into(),
            by: None,
        }
    }

    /// The server itself.
    pub fn server() -> Self {
        Self {
            token: None,
            name: "server".into(),
            by: None,
        }
    }

    /// As it is stored; `None` is the server itself.
    pub fn origin(&self) -> Option<Origin> {
        let token = self.token.clone()?;
        let by = self.by.clone();
        let (run, tool_use_id, tool) =
            by.map_or((None, None, None), |by| (by.run, by.tool_use_id, by.tool));
        Some(Origin {
            token,
            run,
            tool_use_id,
            tool,
        })
    }
}
