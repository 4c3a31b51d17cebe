//! What the server asks for: after it was restored from a backup it lacks what this workspace may have.
//!
//! Only what disk and project agreed on is given, and only as anybody may give it: a blob by an upload of
//! the file that has these bytes, a text by its document.

use std::collections::HashSet;

use serde_json::Value;
use uspark_shared::id::{BlobHash, DocId};
use uspark_shared::path::FilePath;
use uspark_shared::schema::Entry;

use super::config::Direction;
use super::jobs::Transfer;
use super::plan::Disk;
use super::run::Engine;
use super::work::View;
use crate::watch::Urgency;

impl Engine {
    /// The server lacks `{"blobs": […], "texts": […]}`.
    pub(super) fn asked_for(&mut self, lacks: &Value) {
        if self.config.direction == Direction::Pull {
            return;
        }
        for doc in names::<DocId>(&lacks["texts"]) {
            if self.agreed.at_doc(&doc).is_some() {
                // The exchange that follows gives all that is here.
                self.stale.insert(doc.clone());
                self.mark_doc(&doc);
            }
        }
        let blobs: HashSet<BlobHash> = names(&lacks["blobs"]).collect();
        if blobs.is_empty() {
            return;
        }
        let lacked = |(path, entry): (&FilePath, &Entry)| match entry {
            Entry::Blob { hash, .. } if blobs.contains(hash) => {
                let agreed = self.agreed.get(path)?;
                (agreed.hash == Some(*hash)).then(|| (path.clone(), *hash))
            }
            _ => None,
        };
        let lacked: Vec<_> = self.project.entries.iter().filter_map(lacked).collect();
        for (path, hash) in lacked {
            self.mark(&path, Urgency::Now);
            if let Some(work) = self.works.get_mut(&path) {
                // What the server was given before is what it has lost.
                work.uploaded = None;
            }
            self.lacked.insert(path, hash);
        }
    }

    /// Gives the server the file at a path that is at rest, if it asked for its bytes. Gives whether that
    /// is under way.
    pub(super) fn gives(&mut self, path: &FilePath, view: &View) -> bool {
        let Some(lacked) = self.lacked.get(path) else {
            return false;
        };
        let uploaded = self.works.get(path).and_then(|work| work.uploaded);
        match view.disk {
            Disk::File { hash, size, .. } if hash == *lacked && uploaded != Some(hash) => {
                self.jobs.transfer(Transfer::Up {
                    path: path.clone(),
                    hash,
                    size,
                    is_text: false,
                });
                self.busy(path);
                true
            }
            _ => {
                self.lacked.remove(path);
                false
            }
        }
    }
}

/// What of a list are names of this kind.
fn names<T: std::str::FromStr>(list: &Value) -> impl Iterator<Item = T> {
    let names = list.as_array().into_iter().flatten();
    names.filter_map(|name| name.as_str()?.parse().ok())
}
