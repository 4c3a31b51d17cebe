//! Letting go of what nothing names any more, as far as only the owner can know that.
//!
//! Entries are in the project's document, and every one that is accepted goes through here: what no
//! entry names in this turn, and is refused to those of later turns until it is gone, is named by none.

use std::collections::HashSet;

use tokio::sync::oneshot;
use uspark_shared::id::{BlobHash, DocId};
use uspark_shared::replica::ProjectEdit;
use uspark_shared::schema::Entry;

use super::Owner;
use crate::ack::Ack;
use crate::project::command::{Command, Reply};
use crate::project::happened::Change;
use crate::project::repair::BlobFact;
use crate::store::{Spent, Upkeep, Write};

impl Owner {
    /// Deletes texts whose path is gone for long enough, and says how many.
    pub(super) fn forget_texts(&mut self, mut docs: Vec<DocId>, reply: Reply<u64>) {
        let mut writes = Vec::new();
        docs.retain(|doc| self.may_forget(doc));
        let forgotten = docs.len() as u64;
        if !docs.is_empty() {
            let unsettle = |doc: &DocId| ProjectEdit::RemoveText(doc.to_string());
            let edits: Vec<_> = docs.iter().map(unsettle).collect();
            self.edit_project(&edits, None, &mut writes);
            for doc in &docs {
                self.records.remove(doc);
                self.texts.remove(doc);
            }
            writes.push(Write::Upkeep(Upkeep::ForgetTexts {
                project: self.id.clone(),
                docs,
            }));
        }
        self.answer(reply, Ok(forgotten), writes);
    }

    /// Whether nobody has a text open, and no update that has come can bring it back.
    fn may_forget(&self, doc: &DocId) -> bool {
        self.records.get(doc).is_some_and(|memo| !memo.is_live)
            && self.tree.path_of(doc).is_none()
            && !self.rooms.has_seats(doc)
            && !self.loading.contains_key(doc)
            && !self.project.misses_updates()
    }

    /// Lets go of those of these blobs that nothing names, and says how many they are.
    pub(super) fn forget_blobs(&mut self, hashes: Vec<BlobHash>, spent: Spent, reply: Reply<u64>) {
        let (kept, forgotten) = self.judge(hashes);
        self.deps.facts.forget(&self.id, &forgotten);
        self.going.extend(&forgotten);
        let writes = vec![
            Write::Upkeep(Upkeep::KeepBlobs {
                project: self.id.clone(),
                hashes: kept,
            }),
            Write::Upkeep(Upkeep::ForgetBlobs {
                project: self.id.clone(),
                hashes: forgotten.clone(),
                spent,
            }),
        ];
        let (done, gone) = oneshot::channel();
        let told = move |stored| {
            let _ = done.send(stored);
        };
        self.submit(writes, Ack::new(told));
        let commands = self.commands.clone();
        self.deps.tasks.spawn(async move {
            // After a failure the owner goes, and nobody is answered.
            if gone.await == Ok(true)
                && let Some(commands) = commands.upgrade()
            {
                let many = forgotten.len() as u64;
                let _ = commands.send(Command::Forgotten(forgotten)).await;
                let _ = reply.send(Ok(many));
            }
        });
    }

    /// Which of these are named, and which by nothing at all.
    ///
    /// Neither are those of which it is not known: an update that waits for others may name any, and bytes
    /// in the original protocol are about to be named otherwise.
    fn judge(&self, mut hashes: Vec<BlobHash>) -> (Vec<BlobHash>, Vec<BlobHash>) {
        let (mut named, mut unclear) = (HashSet::new(), HashSet::new());
        for (_, entry) in self.tree.iter() {
            match entry {
                Entry::Original { hash, .. } => unclear.insert(*hash),
                entry => entry.blob().is_some_and(|hash| named.insert(*hash)),
            };
        }
        let texts = self.records.values();
        named.extend(texts.flat_map(|memo| [memo.seed, memo.content()]));
        let kept = hashes.extract_if(.., |hash| named.contains(hash)).collect();
        let waits = self.project.misses_updates();
        hashes.retain(|hash| !waits && !unclear.contains(hash) && !self.going.contains(hash));
        (kept, hashes)
    }

    /// Blobs are gone. Entries that named one meanwhile found it absent, and look again: somebody may have
    /// uploaded it, or been told that it was there, before it went.
    pub(super) fn forgotten(&mut self, hashes: Vec<BlobHash>) {
        for hash in &hashes {
            self.going.remove(hash);
        }
        for hash in hashes {
            self.blob_arrived(hash);
        }
    }

    /// What is known of a blob; nothing of one that is about to go.
    pub(super) fn blob_fact(&self, hash: &BlobHash) -> Option<BlobFact> {
        match self.going.contains(hash) {
            true => None,
            false => self.deps.facts.get(&self.id, hash),
        }
    }

    /// The blobs that entries let go of in these changes. A text's seed is kept for its document.
    pub(super) fn releases<'a>(&self, changes: impl Iterator<Item = &'a Change>) -> Vec<Write> {
        let at = self.now();
        let hashes = changes.filter_map(|(before, after)| {
            let before = before.as_ref()?;
            let hash = before.blob()?;
            let is_kept = match before {
                Entry::Text { doc, seed, .. } => {
                    let memo = self.records.get(doc);
                    memo.is_some_and(|memo| memo.seed == *seed)
                }
                _ => after.as_ref().and_then(Entry::blob) == Some(hash),
            };
            (!is_kept).then_some(*hash)
        });
        let release = |hash| {
            Write::Upkeep(Upkeep::ReleaseBlob {
                project: self.id.clone(),
                hash,
                at,
            })
        };
        hashes.map(release).collect()
    }
}
