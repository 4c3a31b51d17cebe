//! The manifest of a project: what it has at each path, in the server's words.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uspark_shared::id::BlobHash;
use uspark_shared::path::FilePath;

/// Every path of a project, all texts settled.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Manifest {
    /// What is at each path.
    pub files: BTreeMap<FilePath, Version>,
}

/// What is at a path, in a project or on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Version {
    /// A text.
    Text(File),
    /// Any other file, and a text that is too large to be edited by many.
    Binary(File),
    /// A symbolic link.
    Link {
        /// Where it points, as written.
        link: String,
    },
    /// An empty directory; on disk also one that is not.
    Dir,
}

/// A file's content by its name, and what else is synced of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Of its bytes.
    pub hash: BlobHash,
    /// How many they are.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
}

impl Version {
    /// The file, if it is one.
    pub fn file(&self) -> Option<&File> {
        match self {
            Self::Text(file) | Self::Binary(file) => Some(file),
            _ => None,
        }
    }
}
