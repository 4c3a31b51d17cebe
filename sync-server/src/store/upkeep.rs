//! What is needed no more, and what is noted so that this is known.

use uspark_shared::id::{BlobHash, DocId, ProjectId};

/// A note about what is used, or the end of what is not. A part of [`Write`](super::Write).
///
/// About what is not there (a project, a text, a blob) all but [`Upkeep::RenewBlob`] say nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upkeep {
    /// Somebody who may write was told that the project has this blob, and so will not send it.
    ///
    /// Refused with `NoSuchBlob` if the project may not read it.
    RenewBlob {
        /// The project.
        project: ProjectId,
        /// The blob.
        hash: BlobHash,
        /// When.
        at: u64,
    },
    /// An entry that named this blob names it no more.
    ReleaseBlob {
        /// The project.
        project: ProjectId,
        /// The blob.
        hash: BlobHash,
        /// When.
        at: u64,
    },
    /// Something names these blobs: they are not in doubt until that is released or forgotten.
    KeepBlobs {
        /// The project.
        project: ProjectId,
        /// The blobs.
        hashes: Vec<BlobHash>,
    },
    /// Takes the right to read these blobs from a project: as far as they are still spent, and neither
    /// a settled version nor a seed.
    ForgetBlobs {
        /// The project.
        project: ProjectId,
        /// The blobs; no entry names them.
        hashes: Vec<BlobHash>,
        /// When they are.
        spent: Spent,
    },
    /// Deletes texts with their logs and histories.
    ForgetTexts {
        /// The project.
        project: ProjectId,
        /// The text documents; no entry names them.
        docs: Vec<DocId>,
    },
    /// Deletes settled versions, each named by the project's place at which it was settled.
    ForgetVersions {
        /// The project.
        project: ProjectId,
        /// The versions; none is its text's newest.
        versions: Vec<(DocId, u64)>,
    },
    /// Deletes the bytes of blobs that no project may read, and the names of such as have a file.
    DropBlobs {
        /// The blobs; those that a project may read stay.
        hashes: Vec<BlobHash>,
    },
    /// Deletes the lines of the audit log up to this number.
    ForgetAudit {
        /// The number of the last one to go.
        through: u64,
    },
}

/// How long ago a blob must have been of use to be spent, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    /// It was uploaded, or a writer was told that it is there, before this.
    pub uploaded_before: u64,
    /// The last entry that named it, if one did, went before this.
    pub released_before: u64,
}

impl Spent {
    /// Whether a blob of these dates is spent; `released_at` is 0 if no entry ever let go of it.
    pub(super) fn is(&self, uploaded_at: u64, released_at: u64) -> bool {
        uploaded_at < self.uploaded_before && released_at < self.released_before
    }
}

/// A blob of a project which may be garbage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doubtful {
    /// Its name.
    pub hash: BlobHash,
    /// Whether it is a settled version or a seed. Entries are not looked at here.
    pub is_text: bool,
}

/// Milliseconds of a day: of versions that are old, the last of each day in UTC is kept.
pub const DAY: u64 = 24 * 60 * 60 * 1000;

impl Upkeep {
    /// About how many bytes of memory it holds beside itself.
    pub(super) fn cost(&self) -> usize {
        match self {
            Self::KeepBlobs { hashes, .. }
            | Self::ForgetBlobs { hashes, .. }
            | Self::DropBlobs { hashes } => size_of_val(&hashes[..]),
            Self::ForgetTexts { docs, .. } => size_of_val(&docs[..]),
            Self::ForgetVersions { versions, .. } => size_of_val(&versions[..]),
            Self::RenewBlob { .. } | Self::ReleaseBlob { .. } | Self::ForgetAudit { .. } => 0,
        }
    }
}
