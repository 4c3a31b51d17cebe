//! What is told of each change: events, in the group of writes of the update that made it.

use std::collections::BTreeMap;

use uspark_shared::id::{BlobHash, DocId};
use uspark_shared::path::FilePath;
use uspark_shared::schema::Entry;

use super::Owner;
use crate::project::command::Attribution;
use crate::project::happened::{Change, happened};
use crate::store::{EventRecord, FileKind, FileState, Happening, Origin, Write};

impl Owner {
    /// Tells of all that changed in the tree since this was last called. `who` changed the paths
    /// that are its `own`, the server the others.
    pub(super) fn note_changes(
        &mut self,
        who: &Attribution,
        own: impl Fn(&FilePath) -> bool,
        writes: &mut Vec<Write>,
    ) {
        let (at, who) = (self.now(), who.origin());
        let event = |(path, what): (FilePath, Happening)| EventRecord {
            at,
            what,
            who: who.clone().filter(|_| own(&path)),
            also: Vec::new(),
        };
        let events = self.take_happened(writes).into_iter().map(event).collect();
        self.tell_events(events, writes);
    }

    /// Tells that a text became something else, by the edits of these.
    pub(super) fn note_rewritten(
        &mut self,
        who: Option<Origin>,
        also: Vec<Origin>,
        writes: &mut Vec<Write>,
    ) {
        let at = self.now();
        let event = |(_, what)| EventRecord {
            at,
            what,
            who: who.clone(),
            also: also.clone(),
        };
        let events = self.take_happened(writes).into_iter().map(event).collect();
        self.tell_events(events, writes);
    }

    /// Tells that a text has a new content, unless no path names it.
    pub(super) fn note_settled(
        &mut self,
        doc: &DocId,
        hash: BlobHash,
        who: Option<Origin>,
        also: Vec<Origin>,
        writes: &mut Vec<Write>,
    ) {
        let Some(path) = self.tree.path_of(doc).cloned() else {
            return;
        };
        let file = FileState {
            kind: FileKind::Text,
            hash: Some(hash),
        };
        let event = EventRecord {
            at: self.now(),
            what: Happening::Changed { path, file },
            who,
            also,
        };
        self.tell_events(vec![event], writes);
    }

    /// What happened in the tree; of blobs that entries have let go of, that is written. What is still to
    /// become a file or a text (the original protocol) is left for later.
    fn take_happened(&mut self, writes: &mut Vec<Write>) -> Vec<(FilePath, Happening)> {
        let mut changes = BTreeMap::<FilePath, Change>::new();
        for (path, before) in self.tree.take_changes() {
            match self.tree.get(&path).cloned() {
                Some(Entry::Original { .. }) => self.tree.leave_change(path, before),
                after => drop(changes.insert(path, (before, after))),
            }
        }
        writes.extend(self.releases(changes.values()));
        let records = &self.records;
        happened(&changes, |doc, seed| {
            records.get(doc).map_or(*seed, |memo| memo.content())
        })
    }

    fn tell_events(&self, events: Vec<EventRecord>, writes: &mut Vec<Write>) {
        if !events.is_empty() {
            writes.push(Write::Events {
                project: self.id.clone(),
                events,
                keep: self.deps.kept_events,
            });
        }
    }
}
