//! From "something may have changed" to what is there.

use std::time::Duration;

use tokio::time::Instant;
use uspark_shared::path::FilePath;
use uspark_shared::schema::Entry;

use super::config::covers;
use super::jobs::{DiskJob, Look, Looked};
use super::plan::{Disk, entry_mode};
use super::run::{Again, Engine};
use super::work::{Origin, View, Work};
use crate::disk::DiskError;
use crate::disk::observe::{IfWritten, Seen, SeenFile};
use crate::disk::swap::TempName;
use crate::journal::Base;
use crate::rules::is_temporary;
use crate::watch::{Dirty, Urgency};

/// How long a file that somebody has open for writing is waited for before it is read as it is: what
/// is half written reads as a deletion. Only a log stays open for longer.
const WRITER_PATIENCE: Duration = Duration::from_secs(1);
/// The same for a text that has not only grown: a slow program is writing it anew.
const LONG_PATIENCE: Duration = Duration::from_secs(30);
/// How soon such a file is looked at again. When it is closed, that is at once.
const WRITER_STEP: Duration = Duration::from_millis(50);

impl Engine {
    /// Takes in a report of the watcher.
    pub(super) fn dirty(&mut self, dirty: Dirty) {
        let Dirty {
            path,
            urgency,
            ignored,
            moved_from,
        } = dirty;
        // Nothing of ours is under way before the listing ends.
        if !self.listed && TempName::is_part(path.name()) {
            return self.jobs.disk(DiskJob::Sweep(path));
        }
        let tracked = self.agreed.get(&path).is_some() || self.project.entries.contains_key(&path);
        if (ignored || is_temporary(path.name())) && !tracked {
            return;
        }
        tracing::trace!(%path, ?urgency, ?moved_from, "dirty");
        let by = self.tools.author(&path);
        let by_named_call = self.tools.hold(&path);
        let by_call = self.tools.may_delete();
        let work = self.works.mark(&path, urgency, self.config.limits.hold);
        work.by = by;
        work.by_named_call = by_named_call;
        work.by_call |= by_call;
        work.by_other_name = false;
        work.ignored = ignored;
        if urgency == Urgency::Now {
            // Whoever wrote it has closed it: who writes it now is somebody else.
            work.written_since = None;
        }
        // What was found out about its origin was about what was there before.
        work.origin = Origin::Unknown;
        if let Some(from) = moved_from {
            // What is known under no name there came from where it was before, if it moved on at once. A
            // name that was never known is an overwrite: of what came here before, if something did.
            let known = match self.agreed.get(&from) {
                Some(_) => Some(from),
                None => self.works.is_no_move(&from),
            };
            // Over something that came here a moment before: that is overwritten, and stays what it is.
            let here = self.works.get(&path);
            let came = here.and_then(|work| work.moved_from.as_ref());
            let overwrites = came.is_some_and(|from| self.agreed.get(from).is_some());
            if let Some(known) = known.filter(|_| !overwrites) {
                self.works.came_from(&path, known);
            }
        }
    }

    /// Does the next thing about a path, if it is not waiting for anything.
    pub(super) fn advance(&mut self, path: &FilePath, now: Instant) {
        if !self.covers(path) {
            return self.works.drop(path);
        }
        let Some(work) = self.works.get_mut(path) else {
            return;
        };
        if work.busy {
            return;
        }
        if let Some(until) = work.held_until {
            if now < until {
                return self.works.wake_at(until, path);
            }
            work.held_until = None;
        }
        if let Some(trouble) = &work.trouble {
            match trouble.retry_at {
                Some(at) if now < at => return self.works.wake_at(at, path),
                None if work.dirty == work.seen => return,
                // Whatever was seen then may be another now.
                _ => work.view = None,
            }
        }
        let looks = work.view.is_none() || work.dirty != work.seen;
        if !self.may_plan() {
            // What is seen now would only be kept until then.
            return;
        }
        if looks {
            self.look(path);
        } else {
            self.plan(path, now);
        }
    }

    /// Whether the session is about this path.
    pub(super) fn covers(&self, path: &FilePath) -> bool {
        covers(&self.config.paths, path)
    }

    /// Sends somebody to look.
    pub(super) fn look(&mut self, path: &FilePath) {
        let base = self.agreed.get(path);
        let Some(work) = self.works.get_mut(path) else {
            return;
        };
        work.busy = true;
        work.seen = work.dirty;
        let seed = match base.map(|base| &base.entry) {
            Some(Entry::Text { seed, .. }) if work.wants_base => Some(*seed),
            _ => None,
        };
        work.wants_base = false;
        let origin = match &work.origin {
            Origin::Asked(origin) => Some(origin.clone()),
            _ => None,
        };
        let waited = work.written_since.map(|since| since.elapsed());
        let waited = waited.unwrap_or_default();
        let if_written = match base.and_then(grown_from) {
            _ if waited < WRITER_PATIENCE => IfWritten::Wait,
            Some(grown) if waited < LONG_PATIENCE => grown,
            _ => IfWritten::Read,
        };
        let look = Look {
            path: path.clone(),
            known: base.and_then(|base| base.print),
            wants_text: base.is_some_and(|base| base.entry.doc().is_some()),
            if_written,
            base: seed,
            origin,
        };
        self.jobs.look(look);
    }

    /// Takes in what somebody saw.
    pub(super) fn looked(&mut self, path: &FilePath, looked: Looked) {
        let Looked {
            seen,
            is_text,
            base: base_text,
            origin_gone,
        } = looked;
        let base = self.agreed.get(path).cloned();
        if let Some(text) = base_text
            && let Some(base) = &base
        {
            self.load_from_seed(base, &text);
        }
        self.skipped.remove(path);
        self.left_alone.remove(path);
        let Some(work) = self.works.get_mut(path) else {
            return;
        };
        work.busy = false;
        if let (Origin::Asked(origin), Some(gone)) = (&work.origin, origin_gone) {
            work.origin = match gone {
                true => Origin::Gone(origin.clone()),
                false => Origin::None,
            };
        }
        let seen = match seen {
            Ok(Seen::Busy) => {
                let now = Instant::now();
                work.written_since.get_or_insert(now);
                work.held_until = Some(now + WRITER_STEP);
                work.view = None;
                return self.works.wake(path);
            }
            Ok(Seen::Unsyncable { why }) => {
                self.skipped.insert(path.clone(), why);
                self.settle(path);
                return;
            }
            Err(DiskError::RootLost(_)) => {
                work.view = None;
                return self.trouble(path, "the workspace is gone".into(), Again::Later);
            }
            Err(error) => {
                let again = if error.is_passing() {
                    Again::Later
                } else {
                    Again::OnChange
                };
                self.skipped.insert(path.clone(), error.to_string());
                return self.trouble(path, error.to_string(), again);
            }
            Ok(seen) => seen,
        };
        work.written_since = None;
        work.kept_base = false;
        work.trouble = None;
        self.retry_below(path);
        if let Seen::File(file) = &seen {
            self.look_at_other_names(path, file);
        }
        let (view, text) = view_of(seen, is_text, base.as_ref());
        let Some(work) = self.works.get_mut(path) else {
            return;
        };
        let absent = view.disk == Disk::Absent;
        if !absent {
            work.absent_since = None;
        }
        work.view = Some(view);
        work.text = text;
        if absent {
            // A directory that went took everything below it along, without a word about it.
            let known = self.agreed.below(path).chain(self.works.below(path));
            let below: Vec<FilePath> = known.cloned().collect();
            for below in below {
                // What was seen there before is not there now.
                let is_due = |work: &Work| work.dirty != work.seen;
                match self.works.get(&below).is_some_and(is_due) {
                    true => self.works.inherit(&below, path),
                    false => self.mark_for(&below, Urgency::Soon, path),
                }
            }
        }
        self.works.wake(path);
    }

    /// What was written under one of a file's names (hard links) is under the others too, and the
    /// kernel tells of the one only.
    fn look_at_other_names(&mut self, path: &FilePath, file: &SeenFile) {
        let (Some(work), Some(base)) = (self.works.get(path), self.agreed.get(path)) else {
            return;
        };
        let is_as_agreed =
            base.hash == Some(file.hash) && entry_mode(&base.entry) == Some(file.mode);
        // Whoever is looked at for another name leaves it to that: they would go on for ever.
        if file.links < 2 || is_as_agreed || work.by_other_name {
            return;
        }
        let by = work.by.clone();
        let names = self.agreed.names_of(file.print.dev, file.print.ino);
        let others: Vec<FilePath> = names.filter(|name| *name != path).cloned().collect();
        for other in others {
            let is_new = self.works.get(&other).is_none();
            self.mark_for(&other, Urgency::Now, path);
            if let (true, Some(work)) = (is_new, self.works.get_mut(&other)) {
                work.by.clone_from(&by);
                work.by_other_name = true;
            }
        }
    }

    /// Whether a path has been absent for long enough to be gone. If not, it is looked at again.
    pub(super) fn is_gone(&mut self, path: &FilePath, now: Instant) -> bool {
        let hold = self.config.limits.hold;
        let Some(work) = self.works.get_mut(path) else {
            return false;
        };
        let since = *work.absent_since.get_or_insert(now);
        if now >= since + hold {
            return true;
        }
        work.held_until = Some(since + hold);
        work.view = None;
        self.works.wake_at(since + hold, path);
        false
    }

    /// The path is at rest.
    pub(super) fn settle(&mut self, path: &FilePath) {
        self.works.rest(path);
    }
}

/// How a text that may only have grown is read.
fn grown_from(base: &Base) -> Option<IfWritten> {
    base.entry.doc()?;
    Some(IfWritten::ReadGrown(base.print?.size, base.hash?))
}

/// What was seen, for the planner, and its text. What is the same as the base is as the base says.
fn view_of(seen: Seen, is_text: bool, base: Option<&Base>) -> (View, Option<String>) {
    let mut view = View {
        disk: Disk::Absent,
        print: None,
        mtime: 0,
    };
    let mut text = None;
    match (seen, base) {
        (Seen::File(file), _) => {
            view.disk = Disk::File {
                hash: file.hash,
                size: file.size,
                mode: file.mode,
                is_text,
            };
            view.print = Some(file.print);
            view.mtime = file.mtime;
            text = file.text;
        }
        (Seen::Link { print, target }, _) => {
            view.disk = Disk::Link(target);
            view.print = Some(print);
        }
        (Seen::Dir { empty }, _) => view.disk = Disk::Dir { empty },
        (Seen::Same, Some(base)) => {
            view.disk = disk_of(base);
            view.print = base.print;
        }
        _ => {}
    }
    (view, text)
}

/// The disk as it is when it is as agreed.
fn disk_of(base: &Base) -> Disk {
    match (&base.entry, base.hash) {
        (Entry::Text { mode, .. } | Entry::Blob { mode, .. }, Some(hash)) => Disk::File {
            hash,
            size: base.print.map_or(0, |print| print.size),
            mode: mode & 0o777,
            is_text: base.entry.doc().is_some(),
        },
        (Entry::Link { target }, _) => Disk::Link(target.clone()),
        (Entry::Dir, _) => Disk::Dir { empty: true },
        _ => Disk::Absent,
    }
}
