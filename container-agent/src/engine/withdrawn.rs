//! Texts whose deletion the server has not confirmed yet.
//!
//! Whoever deletes a file may not have seen what somebody has just typed into it. The server says
//! with its answer to the deletion what the text was by then. If that is more than what was deleted
//! here, the edit lives: the file is put back.

use uspark_shared::id::{BlobHash, DocId};
use uspark_shared::path::FilePath;
use uspark_shared::schema::Entry;

use super::run::Engine;
use crate::clock::now_ms;

/// A text that was deleted here.
pub(super) struct Withdrawn {
    path: FilePath,
    entry: Entry,
    doc: DocId,
    /// Contents that the server may have had without anybody else's doing: what was deleted, and
    /// what was settled before.
    known: [Option<BlobHash>; 2],
    /// The place in line of the update that deletes it, once that is made.
    seq: Option<u64>,
}

impl Engine {
    /// A path is being deleted in the project that was agreed to have this content.
    pub(super) fn expect_confirmation(&mut self, path: &FilePath, hash: Option<BlobHash>) {
        if let Some(entry @ Entry::Text { doc, seed, .. }) = self.project.entries.get(path) {
            let settled = self.project.settled.get(doc).unwrap_or(seed);
            self.withdrawn.push(Withdrawn {
                path: path.clone(),
                entry: entry.clone(),
                doc: doc.clone(),
                known: [hash, Some(*settled)],
                seq: None,
            });
        }
    }

    /// What was deleted in this turn is in the update with this place in line.
    pub(super) fn deleted_by(&mut self, seq: u64) {
        for withdrawn in &mut self.withdrawn {
            withdrawn.seq.get_or_insert(seq);
        }
    }

    /// The server has an update of the project document, and said before what came of it.
    pub(super) fn confirmed(&mut self, seq: u64) {
        let is_due = |withdrawn: &mut Withdrawn| withdrawn.seq.is_some_and(|at| at <= seq);
        let due: Vec<Withdrawn> = self.withdrawn.extract_if(.., is_due).collect();
        for Withdrawn {
            path,
            entry,
            doc,
            known,
            ..
        } in due
        {
            let settled = self.project.settled.get(&doc).copied();
            let is_known = settled.is_none_or(|settled| known.contains(&Some(settled)));
            if is_known || self.project.docs.contains_key(&doc) {
                continue;
            }
            let taken = self.project.entries.contains_key(&path) || self.project.has_below(&path);
            let path = match taken {
                true => path.conflict(&self.config.who, now_ms()),
                false => path,
            };
            self.note(format!(
                "{path} was deleted here while somebody typed in it: it is put back"
            ));
            self.stale.insert(doc);
            self.set_entry(&path, entry, None);
            self.remote_changed(&path);
        }
    }
}
