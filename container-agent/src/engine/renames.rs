//! Renames, on either side: a text keeps its document.
//!
//! On disk a rename is two events, of which the kernel says that they belong together, or an inode
//! that was somewhere else before. In the project it is a document under another path. Each end
//! waits until what became of the other is known: until then it is neither deleted nor written.

use std::time::Duration;

use tokio::time::Instant;
use uspark_shared::path::FilePath;
use uspark_shared::schema::Entry;

use super::config::Progress;
use super::jobs::DiskJob;
use super::plan::{Disk, Step, permits};
use super::run::{Engine, chain};
use super::work::{Origin, View};
use crate::disk::DiskError;
use crate::journal::{Base, Record};
use crate::watch::Urgency;

/// How long the two ends of a rename wait for each other before one looks again.
const RENAME_STEP: Duration = Duration::from_millis(10);

impl Engine {
    /// Whether a path that is absent waits for what became of its file, which the kernel says was moved.
    pub(super) fn waits_for_move(&mut self, path: &FilePath, view: &View, now: Instant) -> bool {
        let waits = view.disk == Disk::Absent && self.works.moved_to(path).is_some();
        if waits {
            self.works.wake_at(now + RENAME_STEP, path);
        }
        waits
    }

    /// Whether a path that somebody moved a file to, and is absent, may have been moved on: the kernel
    /// is given the time to say so.
    pub(super) fn may_have_moved_on(&mut self, path: &FilePath, now: Instant) -> bool {
        let work = self.works.get(path);
        work.is_some_and(|work| work.moved_from.is_some()) && !self.is_gone(path, now)
    }

    /// Whether a new path is an old one renamed, or that is being asked.
    pub(super) fn is_rename(&mut self, path: &FilePath, view: &View) -> bool {
        if !permits(self.config.direction, Step::Send, false) {
            return false;
        }
        let Some(print) = view.print else {
            return false;
        };
        let Some(work) = self.works.get_mut(path) else {
            return false;
        };
        // Whoever saves by a rename gives a path another inode before anybody has looked.
        let hinted = work.moved_from.clone();
        let hinted = hinted.filter(|from| self.agreed.get(from).is_some());
        let at_inode = || self.agreed.at_inode(print.dev, print.ino).cloned();
        let Some(from) = hinted.clone().or_else(at_inode) else {
            return false;
        };
        let Some(base) = self.agreed.get(&from).cloned() else {
            return false;
        };
        // Inodes are used again quickly: without the kernel's word the content has to be the same.
        let same_content = match &view.disk {
            Disk::File { hash, .. } => base.hash == Some(*hash),
            Disk::Link(target) => {
                base.entry
                    == Entry::Link {
                        target: target.clone(),
                    }
            }
            _ => false,
        };
        let same_kind = match (&view.disk, &base.entry) {
            (Disk::File { is_text, .. }, Entry::Text { .. }) => *is_text,
            (Disk::File { .. }, Entry::Blob { .. }) => same_content,
            // Good where it lay, it may lead elsewhere from here.
            (Disk::Link(target), Entry::Link { .. }) => {
                same_content && self.jobs.root().admits_link(path, target).is_ok()
            }
            _ => false,
        };
        if !same_kind || !(same_content || hinted.as_ref() == Some(&from)) {
            return false;
        }
        if self.works.get(&from).is_some_and(|work| work.busy) {
            // It is being looked at; its end is not far.
            self.works
                .wake_at(Instant::now() + self.config.limits.hold / 8, path);
            return true;
        }
        let Some(work) = self.works.get_mut(path) else {
            return false;
        };
        match work.origin.clone() {
            Origin::None => false,
            Origin::Gone(origin) if origin == from => {
                self.rename_there(&from, path, base);
                true
            }
            _ => {
                work.origin = Origin::Asked(from);
                self.look_again(path);
                true
            }
        }
    }

    /// The project's entry moves, and its document with it.
    fn rename_there(&mut self, from: &FilePath, to: &FilePath, base: Base) {
        tracing::debug!(%from, %to, "moved in the workspace");
        let by = self.works.get(to).and_then(|work| work.by.clone());
        let entry = self.project.entries.get(from).cloned();
        self.agreed.remove(from);
        self.records.push(Record::NoBase(from.clone()));
        if let Some(entry) = entry.filter(|entry| entry.doc() == base.entry.doc()) {
            self.project.remove(from, by.clone());
            self.set_entry(to, entry, by);
            self.sent += 1;
            (self.progress)(Progress::Sent(to.clone()));
            self.agree(to, base);
        }
        if let Some(work) = self.works.get_mut(to) {
            work.origin = Origin::Unknown;
        }
        self.mark_for(from, Urgency::Soon, to);
        self.mark_emptied(from, to);
        self.replan(to);
    }

    /// Whether the path's document moved in the project, so that its file is to move on disk, or is
    /// just about to.
    pub(super) fn follows_rename(&mut self, path: &FilePath, view: &View) -> bool {
        if !permits(self.config.direction, Step::Write, false) {
            return false;
        }
        let here = self.project.entries.get(path).and_then(Entry::doc);
        let agreed = self.agreed.get(path).and_then(|base| base.entry.doc());
        match (here, agreed) {
            (Some(doc), None) if view.disk == Disk::Absent => {
                let Some(from) = self.agreed.at_doc(doc).cloned() else {
                    return false;
                };
                let left = self.project.entries.get(&from).and_then(Entry::doc) != Some(doc);
                let tried = self.works.get(path).is_none_or(|work| work.rename_tried);
                if !left || tried || self.agreed.get(path).is_some() {
                    return false;
                }
                self.need(&from, path);
                let busy = self.works.get(&from).is_some_and(|work| work.busy);
                if busy || self.tools.hold(&from) || self.tools.hold(path) {
                    self.works.wake_at(Instant::now() + RENAME_STEP, path);
                    return true;
                }
                tracing::debug!(%from, to = %path, "moved in the project");
                self.busy(path);
                self.busy(&from);
                // What a killed session renamed was not renamed by somebody here.
                let record = Record::Renaming(from.clone(), path.clone());
                self.records.push(record);
                self.jobs.disk(DiskJob::Rename {
                    from,
                    to: path.clone(),
                });
                true
            }
            (here, Some(doc)) if here != Some(doc) && view.disk != Disk::Absent => {
                let Some(to) = self.project.docs.get(doc).cloned() else {
                    return false;
                };
                if self.agreed.get(&to).is_some() {
                    return false;
                }
                self.need(&to, path);
                let may_come = self.works.get(&to).is_some_and(|work| {
                    let free = work
                        .view
                        .as_ref()
                        .is_none_or(|view| view.disk == Disk::Absent);
                    !work.rename_tried && free
                });
                if may_come {
                    self.works.wake_at(Instant::now() + RENAME_STEP, path);
                }
                may_come
            }
            _ => false,
        }
    }

    /// The work on a path goes on only after that on another.
    fn need(&mut self, other: &FilePath, path: &FilePath) {
        if self.works.get(other).is_none() {
            self.mark(other, Urgency::Now);
        }
        self.works.inherit(other, path);
    }

    /// A file was renamed after its document, or could not be.
    pub(super) fn renamed(
        &mut self,
        from: &FilePath,
        to: &FilePath,
        result: Result<bool, DiskError>,
    ) {
        if let Err(error) = &result {
            self.note(chain(error));
        }
        self.records.push(Record::NotRenaming(from.clone()));
        if matches!(result, Ok(true)) {
            if let Some(base) = self.agreed.remove(from) {
                self.records.push(Record::NoBase(from.clone()));
                self.agree(to, base);
            }
            self.received_paths += 1;
            (self.progress)(Progress::Received(to.clone()));
        } else if let Some(work) = self.works.get_mut(to) {
            work.rename_tried = true;
        }
        for (path, other) in [(from, to), (to, from)] {
            self.mark_for(path, Urgency::Now, other);
            self.look_again(path);
        }
        self.busy(from);
        self.jobs.disk(DiskJob::Discard {
            path: from.clone(),
            left: None,
            prune: self.unused_above(from),
        });
    }
}
