//! Texts whose deletion the server has not confirmed yet.
//!
//! Whoever deletes a file may not have seen what somebody has just typed into it. The server says
//! before it acknowledges the deletion what the text was by then. If that is more than what was
//! deleted here, the edit lives: the file is put back. The journal has them too: a killed session's
//! successor asks the same.

use uspark_shared::id::BlobHash;
use uspark_shared::path::FilePath;
use uspark_shared::schema::Entry;

use super::config::Direction;
use super::run::Engine;
use crate::clock::now_ms;
use crate::journal::{Record, Withdrawn};

impl Engine {
    /// A text is being deleted or replaced in the project that was agreed to have this content.
    pub(super) fn expect_confirmation(&mut self, path: &FilePath, deleted: Option<BlobHash>) {
        if let Some(entry @ Entry::Text { doc, seed, .. }) = self.project.entries.get(path) {
            let withdrawn = Withdrawn {
                path: path.clone(),
                entry: entry.clone(),
                doc: doc.clone(),
                deleted,
                settled: Some(self.project.settled.get(doc).copied().unwrap_or(*seed)),
            };
            self.records.push(Record::Withdrawn(withdrawn.clone()));
            self.withdrawn.push((None, withdrawn));
        }
    }

    /// What was deleted in this turn is in the updates up to this place in line.
    pub(super) fn deleted_by(&mut self, seq: u64) {
        for (at, _) in &mut self.withdrawn {
            at.get_or_insert(seq);
        }
    }

    /// Looks what came of deletions that the server has: it said so before it acknowledged them.
    pub(super) fn confirm_deletions(&mut self) {
        if self.withdrawn.is_empty() || !self.following || self.config.direction == Direction::Pull
        {
            return;
        }
        let owed = self.wire.unacknowledged().iter();
        let of_project = owed.filter(|(_, document)| document.is_none());
        let first = of_project.map(|(seq, _)| *seq).min();
        let due: Vec<_> = self
            .withdrawn
            .extract_if(.., |(at, _)| {
                at.is_some_and(|at| first.is_none_or(|first| at < first))
            })
            .collect();
        for (_, withdrawn) in due {
            self.records.push(Record::Confirmed(withdrawn.doc.clone()));
            self.put_back_if_edited(withdrawn);
        }
    }

    fn put_back_if_edited(&mut self, withdrawn: Withdrawn) {
        let Withdrawn {
            path,
            entry,
            doc,
            deleted,
            settled,
        } = withdrawn;
        let now = self.project.settled.get(&doc).copied();
        let is_known = now.is_none() || [deleted, settled].contains(&now);
        if is_known || self.project.docs.contains_key(&doc) {
            return;
        }
        let taken = self.project.entries.contains_key(&path) || self.project.has_below(&path);
        let path = match taken {
            true => path.conflict(&self.config.who, now_ms()),
            false => path,
        };
        self.note(format!(
            "somebody typed in what was deleted or replaced here: it is back as {path}"
        ));
        self.stale.insert(doc);
        self.set_entry(&path, entry, None);
        self.remote_changed(&path);
    }
}
