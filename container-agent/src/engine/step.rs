//! Taking the planner's steps: towards the project, and where nothing has to move.
//!
//! A step that needs something first (a blob uploaded, a document loaded) asks for it and returns;
//! when it has come the path is planned again, and the step finds it.

use std::time::Duration;

use tokio::time::Instant;
use uspark_shared::id::{BlobHash, DocId};
use uspark_shared::path::FilePath;
use uspark_shared::replica::ClientId;
use uspark_shared::schema::Entry;

use super::config::Progress;
use super::guard::Side;
use super::jobs::{DiskJob, Transfer, TransferError};
use super::plan::{Disk, Remote, Step, becomes_text, permits, plan};
use super::run::{Again, Engine, chain};
use super::texts::{Edited, Found, Writer};
use super::work::View;
use crate::clock::now_ms;
use crate::journal::{Base, Record};
use crate::link::BlobError;
use crate::watch::Urgency;

/// How long a text of which the end is missing is waited for: programs that write a file in pieces, opened anew
/// for each, pause for less.
const CUT_PATIENCE: Duration = Duration::from_secs(1);

impl Engine {
    /// Finds the next step for a path, and takes it.
    pub(super) fn plan(&mut self, path: &FilePath, now: Instant) {
        let Some(view) = self.works.get(path).and_then(|work| work.view.clone()) else {
            return;
        };
        let deletion = self.take_deletion(path, now);
        if self.follows_rename(path, &view) || self.waits_for_move(path, &view, now) {
            return;
        }
        let base = self.agreed.get(path).cloned();
        let entry = self.project.entries.get(path).cloned();
        if base.is_none() && entry.is_none() {
            if view.disk == Disk::Absent {
                if self.may_have_moved_on(path, now) {
                    return;
                }
                // It came and went before anybody else knew of it: its directory may be empty now.
                self.mark_emptied(path, path);
            }
            let ignored = self.works.get(path).is_some_and(|work| work.ignored);
            if ignored || self.is_rename(path, &view) {
                if ignored {
                    self.settle(path);
                }
                return;
            }
        }
        self.works.is_no_move(path);
        let text = entry.as_ref().and_then(|entry| self.current_text(entry));
        if let (None, Some(entry), Disk::File { hash, .. }) = (&base, &entry, &view.disk)
            && matches!(entry, Entry::Text { seed, .. } if seed == hash)
            && text != Some(*hash)
            && self.project.docs.get(entry.doc().expect("it is a text")) == Some(path)
        {
            let entry = entry.clone();
            return self.take_seed(path, view, entry);
        }
        let remote = entry.as_ref().map(|entry| Remote { entry, text });
        let step = plan(base.as_ref(), &view.disk, remote.as_ref());
        let remote_changed = base.as_ref().is_some_and(|base| base.hash != text);
        if !permits(self.config.direction, step, remote_changed) {
            return self.leave_alone(path, &view.disk, step);
        }
        tracing::debug!(%path, ?step, disk = ?view.disk, entry = ?entry, "step");
        match step {
            Step::Nothing => self.nothing(path, base, view),
            Step::Adopt => self.adopt(path, view, entry),
            Step::Forget => self.forget(path),
            Step::Edit => self.edit(path, view, base),
            Step::Send => self.send(path, view, base),
            Step::SendMode => self.send_mode(path, view, base, entry),
            Step::Withdraw => {
                // A file that became a directory is gone already.
                let replaced = view.disk != Disk::Absent;
                let gone = |engine: &mut Self| {
                    engine.is_gone(path, now) && engine.may_delete(path, Side::Workspace, deletion)
                };
                if (replaced || gone(self)) && !self.is_being_edited(path) {
                    self.withdraw(path);
                }
            }
            Step::Write => {
                // Whoever saves by moving the old version away is not to find it there again.
                let vanished = base.is_some() && view.disk == Disk::Absent;
                if !vanished || self.is_gone(path, now) {
                    self.write(path, view, entry, None);
                }
            }
            Step::WriteMode => self.write_mode(path, view, entry),
            Step::Remove => {
                if self.may_delete(path, Side::Project, deletion) {
                    self.remove(path, view, base);
                }
            }
            Step::Conflict => {
                let kept = path.conflict(&self.config.who, now_ms());
                self.write(path, view, entry, Some(kept));
            }
            Step::Blocked(why) => self.trouble(path, why.into(), Again::OnChange),
        }
    }

    /// Both sides agree with the base; what is known about the file may be newer.
    fn nothing(&mut self, path: &FilePath, base: Option<Base>, view: View) {
        if self.gives(path, &view) {
            return;
        }
        if let Some(mut base) = base {
            if let Some(doc) = base.entry.doc().cloned() {
                self.catch_up(&doc);
            }
            let seen = view.print.is_some() && view.print != base.print;
            let entry = self.project.entries.get(path);
            if seen || entry.is_some_and(|entry| *entry != base.entry) {
                base.print = view.print.or(base.print);
                base.entry = entry.cloned().unwrap_or(base.entry);
                self.agree(path, base);
            }
        }
        self.settle(path);
    }

    /// Both sides have the same: the base is to say so.
    fn adopt(&mut self, path: &FilePath, view: View, entry: Option<Entry>) {
        let Some(entry) = entry else {
            return;
        };
        let hash = match &view.disk {
            Disk::File { hash, .. } => Some(*hash),
            _ => None,
        };
        let agreed = self.agreed.get(path);
        let known = agreed.is_some_and(|base| base.entry.doc() == entry.doc() && base.hash == hash);
        if let (Entry::Text { doc, seed, .. }, Some(hash), false) = (&entry, hash, known) {
            if self.is_unedited(doc) && hash == *seed {
                // The shadow is the seed, and that is computed from these bytes.
                if !self.keeps_base(path, *seed) {
                    return;
                }
            } else if self.current_text(&entry) != Some(hash) || !self.texts.contains_key(doc) {
                return self.exchange(path, doc);
            } else {
                self.ground(doc);
            }
        }
        let base = Base {
            entry,
            hash,
            print: view.print,
        };
        self.agree(path, base);
        self.replan(path);
    }

    /// The disk has the first content of the document, which has gone on since: that is what the
    /// two have in common.
    fn take_seed(&mut self, path: &FilePath, view: View, entry: Entry) {
        let Entry::Text { doc, seed, .. } = &entry else {
            return;
        };
        if !self.keeps_base(path, *seed) {
            return;
        }
        self.forget_document(doc, seed);
        self.stale.insert(doc.clone());
        let base = Base {
            hash: Some(*seed),
            print: view.print,
            entry,
        };
        self.agree(path, base);
        self.replan(path);
    }

    /// Whether the document's first content is kept; if not, it will be.
    fn keeps_base(&mut self, path: &FilePath, hash: BlobHash) -> bool {
        if self.works.get(path).is_some_and(|work| work.kept_base) {
            return true;
        }
        let path = path.clone();
        self.busy(&path);
        self.jobs.disk(DiskJob::KeepBase { path, hash });
        false
    }

    /// Both sides have nothing.
    fn forget(&mut self, path: &FilePath) {
        self.disagree(path);
        self.mark_emptied(path, path);
        self.settle(path);
    }

    /// The disk's text goes into the document.
    fn edit(&mut self, path: &FilePath, view: View, base: Option<Base>) {
        let Some(base) = base else {
            return;
        };
        let Some(doc) = base.entry.doc().cloned() else {
            return;
        };
        if !self.ensure_loaded(path, &doc) {
            return;
        }
        let settled = self.project.settled.get(&doc).copied();
        let is_settled = matches!(view.disk, Disk::File { hash, .. } if settled == Some(hash));
        if is_settled && self.stale.contains(&doc) && self.wire.is_up() {
            // What somebody has copied here from elsewhere is no edit of ours: it is on its way.
            return self.exchange(path, &doc);
        }
        let Some(text) = self.works.get_mut(path).and_then(|work| work.text.take()) else {
            return self.look_again(path);
        };
        if self.may_go_on(path, &doc, &text) {
            return;
        }
        let first = !self.has_state(&doc);
        let used = self.turn_used();
        let writer = match self.works.get(path).is_some_and(|work| work.by_named_call) {
            true => Writer::SawTheDisk,
            false => Writer::Unknown,
        };
        let hash = BlobHash::of(text.as_bytes());
        let found = Found {
            text: &text,
            hash,
            mtime_ns: view.print.map_or(0, |print| print.mtime_ns),
            writer,
        };
        let Some(document) = self.texts.get_mut(&doc) else {
            return;
        };
        document.used = used;
        let fresh = ClientId::from_random(random());
        let edited = match document.edit(found, fresh, now_ms()) {
            Ok(edited) => edited,
            Err(error) => return self.lose_document(path, &doc, &chain(&error)),
        };
        let whole = Record::WholeState(Some(doc.clone()), document.shadow_state());
        let update = match edited {
            Edited::Nothing => None,
            Edited::Here(update) if first => Some((whole, Some(update))),
            Edited::Here(update) => Some((
                Record::State(Some(doc.clone()), update.clone()),
                Some(update),
            )),
            Edited::Elsewhere(update) => {
                self.note(format!(
                    "{path} was written without what others had just typed there: both are kept; \
                     write the same again to remove their words"
                ));
                Some((whole, update))
            }
        };
        let by = self.works.get(path).and_then(|work| work.by.clone());
        if let Some((state, update)) = update {
            self.records.push(state);
            if let Some(update) = update {
                let outgoing = self.wire.outgoing(Some(doc), update, by);
                self.records.push(Record::Outgoing(outgoing));
            }
            self.sent += 1;
            (self.progress)(Progress::Sent(path.clone()));
        }
        let hash = Some(hash);
        let print = view.print;
        self.agree(
            path,
            Base {
                hash,
                print,
                ..base
            },
        );
        self.replan(path);
    }

    /// The disk's version becomes the project's.
    fn send(&mut self, path: &FilePath, view: View, base: Option<Base>) {
        let by = self.works.get(path).and_then(|work| work.by.clone());
        // The text is still its document's: it is the place that was lost, or is elsewhere now.
        if let Some(Base { entry, .. }) = &base
            && let Some(doc) = entry.doc()
            && matches!(view.disk, Disk::File { is_text: true, .. })
            && !self.project.entries.contains_key(path)
        {
            match self.project.docs.get(doc) {
                None => {
                    let entry = entry.clone();
                    self.set_entry(path, entry, by);
                    return self.replan(path);
                }
                Some(_) => return self.edit(path, view, base),
            }
        }
        let (entry, hash) = match &view.disk {
            Disk::File {
                hash, size, mode, ..
            } => {
                let uploaded = self.works.get(path).and_then(|work| work.uploaded);
                let text = becomes_text(&view.disk);
                if uploaded != Some(*hash) {
                    self.jobs.transfer(Transfer::Up {
                        path: path.clone(),
                        hash: *hash,
                        size: *size,
                        is_text: text,
                    });
                    return self.busy(path);
                }
                let (hash, size, mode, mtime) = (*hash, *size, *mode, view.mtime);
                let entry = match text {
                    true => Entry::Text {
                        doc: DocId::from_random(random()),
                        seed: hash,
                        mode,
                        mtime,
                    },
                    false => Entry::Blob {
                        hash,
                        size,
                        mode,
                        mtime,
                    },
                };
                (entry, Some(hash))
            }
            Disk::Link(target) => {
                let target = target.clone();
                (Entry::Link { target }, None)
            }
            Disk::Dir { .. } if self.project.has_below(path) => {
                return self.settle(path);
            }
            Disk::Dir { .. } => (Entry::Dir, None),
            Disk::Absent => return,
        };
        if let Entry::Link { target } = &entry
            && let Err(why) = self.jobs.root().admits_link(path, target)
        {
            self.skipped.insert(path.clone(), why.to_string());
            return self.settle(path);
        }
        if self.is_being_edited(path) {
            return;
        }
        // A text that is replaced is as gone as one that is deleted.
        let deleted = base.and_then(|base| base.hash);
        self.expect_confirmation(path, deleted);
        self.set_entry(path, entry.clone(), by);
        self.agree(
            path,
            Base {
                entry,
                hash,
                print: view.print,
            },
        );
        self.sent += 1;
        (self.progress)(Progress::Sent(path.clone()));
        self.replan(path);
    }

    /// A blob has arrived at the server, or has not.
    pub(super) fn uploaded(
        &mut self,
        path: &FilePath,
        hash: BlobHash,
        result: Result<(), TransferError>,
    ) {
        match result {
            Ok(()) => {
                if let Some(work) = self.works.get_mut(path) {
                    work.uploaded = Some(hash);
                }
                self.replan(path);
            }
            Err(error) => self.transfer_failed(path, error),
        }
    }

    pub(super) fn transfer_failed(&mut self, path: &FilePath, error: TransferError) {
        match error {
            TransferError::Changed => self.look_again(path),
            TransferError::Blob(BlobError::Refused(why)) => {
                self.trouble(path, why, Again::OnChange);
            }
            error => self.trouble(path, chain(&error), Again::Later),
        }
    }

    /// The disk's permission bits become the project's.
    fn send_mode(&mut self, path: &FilePath, view: View, base: Option<Base>, entry: Option<Entry>) {
        let Disk::File { mode: new, .. } = view.disk else {
            return;
        };
        let (Some(base), Some(mut entry)) = (base, entry) else {
            return;
        };
        if let Entry::Text { mode, .. } | Entry::Blob { mode, .. } = &mut entry {
            *mode = new;
        }
        let by = self.works.get(path).and_then(|work| work.by.clone());
        self.set_entry(path, entry.clone(), by);
        let print = view.print;
        self.agree(
            path,
            Base {
                entry,
                print,
                ..base
            },
        );
        self.sent += 1;
        (self.progress)(Progress::Sent(path.clone()));
        self.replan(path);
    }

    /// The project's entry goes.
    fn withdraw(&mut self, path: &FilePath) {
        let by = self.works.get(path).and_then(|work| work.by.clone());
        let deleted = self.agreed.get(path).and_then(|base| base.hash);
        self.expect_confirmation(path, deleted);
        self.project.remove(path, by);
        self.disagree(path);
        self.sent += 1;
        (self.progress)(Progress::RemovedThere(path.clone()));
        self.mark_emptied(path, path);
        self.settle(path);
    }

    /// The project has nothing at a path any more: of the directories above it those that are empty
    /// now may still be on disk. They may have been looked at when the project was not as far.
    pub(super) fn mark_emptied(&mut self, path: &FilePath, cause: &FilePath) {
        for directory in path.ancestors() {
            if self.project.has_below(&directory) {
                return;
            }
            self.mark_for(&directory, Urgency::Soon, cause);
        }
    }

    /// Whether a text of which the end is missing may be one that a program is writing anew, a piece
    /// after the other: whether it had read what others typed shows only in all of it. It is looked
    /// at again.
    fn may_go_on(&mut self, path: &FilePath, doc: &DocId, text: &str) -> bool {
        let document = self.texts.get(doc);
        let is_cut = document.is_some_and(|document| document.is_cut_short(text));
        let Some(work) = self.works.get_mut(path) else {
            return false;
        };
        if !is_cut || work.by_named_call {
            work.cut_since = None;
            return false;
        }
        let now = Instant::now();
        let until = *work.cut_since.get_or_insert(now) + CUT_PATIENCE;
        if now >= until {
            work.cut_since = None;
            return false;
        }
        work.held_until = Some(until);
        work.view = None;
        self.works.wake_at(until, path);
        true
    }

    /// Whether edits of the text that the project has at a path are on their way to the server. It is
    /// taken out only after they are there: the server would take them for newer ones, and bring the
    /// file back. Their acknowledgement has the path planned again.
    fn is_being_edited(&self, path: &FilePath) -> bool {
        let doc = self.project.entries.get(path).and_then(Entry::doc);
        doc.is_some_and(|doc| self.wire.owes(&Some(doc.clone())))
    }

    /// Sets a path of the project.
    pub(super) fn set_entry(&mut self, path: &FilePath, entry: Entry, by: Option<String>) {
        for directory in self.project.set(path, entry, by) {
            self.disagree(&directory);
        }
    }

    /// Remembers what a path is agreed to be.
    pub(super) fn agree(&mut self, path: &FilePath, base: Base) {
        self.guard.is_back(path);
        self.records.push(Record::Base(path.clone(), base.clone()));
        self.agreed.set(path, base);
    }

    /// Remembers that a path is agreed to be nothing, and forgets its document if that is no
    /// longer on disk.
    pub(super) fn disagree(&mut self, path: &FilePath) {
        self.records.push(Record::NoBase(path.clone()));
        let base = self.agreed.remove(path);
        if let Some(Entry::Text { doc, seed, .. }) = base.map(|base| base.entry)
            && self.agreed.at_doc(&doc).is_none()
        {
            self.forget_document(&doc, &seed);
        }
    }

    /// The path is planned again in this turn, with what is known about it.
    pub(super) fn replan(&mut self, path: &FilePath) {
        if let Some(work) = self.works.get_mut(path) {
            work.busy = false;
            work.trouble = None;
            self.works.wake(path);
        }
    }

    /// The path is looked at again.
    pub(super) fn look_again(&mut self, path: &FilePath) {
        if let Some(work) = self.works.get_mut(path) {
            work.view = None;
        }
        self.replan(path);
    }

    /// An operation is under way.
    pub(super) fn busy(&mut self, path: &FilePath) {
        if let Some(work) = self.works.get_mut(path) {
            work.busy = true;
        }
    }
}

/// So many random bytes.
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    bytes
}
