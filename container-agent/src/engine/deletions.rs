//! Deletions on their way to the other side: counted for the [guard](super::guard), passed or held.
//!
//! Invariants: only deletions are held, all else goes on; a deletion whose file comes back on either
//! side is none any more; who waits for a barrier does not wait for what is held.

use std::collections::HashSet;

use tokio::time::Instant;
use uspark_shared::id::BlobHash;
use uspark_shared::path::FilePath;
use uspark_shared::schema::Entry;

use super::barrier::Barrier;
use super::config::Meant;
use super::guard::{Deletion, LEAST, Side, Tally, Verdict};
use super::run::{Again, Engine};

impl Engine {
    /// Whether a path that is gone from a side may be deleted on the other now. If not, it waits,
    /// or is held. `before`: how far it had come when it was planned last.
    pub(super) fn may_delete(&mut self, path: &FilePath, side: Side, before: Deletion) -> bool {
        let now = Instant::now();
        let free = before == Deletion::Passes || self.deletes_freely(side, path);
        let held = self.guard.is_held(side);
        let Some(work) = self.works.get_mut(path) else {
            return false;
        };
        let by_call = side == Side::Workspace && work.by_call;
        if free || by_call {
            work.deletion = Deletion::Passes;
            if by_call {
                self.tell_of_call(path, now);
            }
            return true;
        }
        work.deletion = Deletion::Waits(side);
        if held {
            self.trouble(path, side.why(), Again::OnChange);
        }
        self.guard.stir(side, now);
        false
    }

    /// How far the deletion of a path had come, which is now to be found out anew.
    pub(super) fn take_deletion(&mut self, path: &FilePath, now: Instant) -> Deletion {
        let work = self.works.get_mut(path);
        let deletion = work.map_or(Deletion::No, |work| std::mem::take(&mut work.deletion));
        if let Deletion::Waits(side) = deletion {
            self.guard.stir(side, now);
        }
        deletion
    }

    /// Nobody is to be asked: the session was begun so, or somebody waits for all deletions.
    fn deletes_freely(&self, side: Side, path: &FilePath) -> bool {
        let frees = |barrier: &Barrier| barrier.frees(side, path);
        side.passes(self.config.mass_delete) || self.barriers.iter().any(frees)
    }

    /// Judges the deletions that wait, if it is time.
    pub(super) fn judge_deletions(&mut self, now: Instant) {
        for side in [Side::Workspace, Side::Project] {
            if !self.may_plan() || !self.guard.is_due(side, now) {
                continue;
            }
            let (held, lost) = (self.guard.is_held(side), self.lost(side));
            let tally = self.tally(side, lost.len());
            let verdict = self.guard.judge(side, tally, now);
            match verdict {
                Verdict::Pass => {
                    self.pass(self.waiting(side));
                    self.guard.passed(side, lost, now);
                }
                Verdict::Hold => self.hold(side, held, tally),
                Verdict::Wait | Verdict::Nothing => {}
            }
            if held && matches!(verdict, Verdict::Pass | Verdict::Nothing) {
                self.note("no deletion is held any more".into());
            }
        }
    }

    /// Lets pass what is held, as far as somebody said that it is meant.
    pub(super) fn pass_meant(&mut self, meant: &Meant) {
        for side in [Side::Workspace, Side::Project] {
            if !side.passes(meant.mass_delete) {
                continue;
            }
            let waiting = self.waiting(side);
            let covered = waiting.iter().filter(|path| meant.covers(path));
            let covered: Vec<FilePath> = covered.cloned().collect();
            if self.guard.is_held(side) && !covered.is_empty() {
                let held = waiting.len() - covered.len();
                self.note(match held {
                    0 => "the deletions that were held pass".into(),
                    _ => format!("of the deletions that were held {} pass", covered.len()),
                });
            }
            match waiting.len() == covered.len() {
                true => self.guard.end(side),
                false => self.guard.let_pass(side, covered.len()),
            }
            self.pass(covered);
        }
    }

    /// How many deletions of files that are gone from this side are held.
    pub(super) fn held(&self, side: Side) -> u64 {
        match self.guard.is_held(side) {
            true => self.waiting(side).len() as u64,
            false => 0,
        }
    }

    fn pass(&mut self, paths: Vec<FilePath>) {
        for path in paths {
            let Some(work) = self.works.get_mut(&path) else {
                continue;
            };
            work.deletion = Deletion::Passes;
            // It may have waited for long; if it is being looked at, that is on its way.
            if !work.busy {
                self.look_again(&path);
            }
        }
    }

    fn hold(&mut self, side: Side, already: bool, tally: Tally) {
        for path in self.waiting(side) {
            let work = self.works.get(&path);
            if work.is_some_and(|work| work.trouble.is_none() && !work.busy) {
                self.trouble(&path, side.why(), Again::OnChange);
            }
        }
        if already {
            return;
        }
        let (many, files) = (tally.waiting, self.guard.files_before(side));
        self.note(match side {
            Side::Workspace => format!(
                "{many} of {files} files are gone from the workspace at once: they are not deleted \
                 in the project, everything else is synced. hint: if it is meant, \
                 `uspark push --allow-mass-delete`; files that come back need nothing"
            ),
            Side::Project => format!(
                "{many} of {files} files were deleted in the project at once: they are not deleted \
                 here, everything else is synced. hint: if it is meant, \
                 `uspark pull --allow-mass-delete`; files that come back need nothing"
            ),
        });
    }

    fn waiting(&self, side: Side) -> Vec<FilePath> {
        let waits = self
            .works
            .iter()
            .filter(|(_, work)| work.deletion == Deletion::Waits(side));
        waits.map(|(path, _)| path.clone()).collect()
    }

    fn tally(&self, side: Side, lost: usize) -> Tally {
        let mut tally = Tally {
            files: self.agreed.len(),
            lost,
            ..Tally::default()
        };
        for (path, work) in self.works.iter() {
            let known = self.agreed.get(path).is_some();
            let unseen = work.view.is_none() || work.dirty != work.seen;
            match work.deletion {
                Deletion::Waits(waits) if waits == side => tally.waiting += 1,
                Deletion::Passes if known => tally.files -= 1,
                Deletion::No if unseen && work.trouble.is_none() => {
                    tally.stirring = true;
                    tally.unseen += usize::from(known);
                }
                _ => {}
            }
        }
        tally
    }

    /// The files that wait to be deleted, but for those that are at another path now: what was moved
    /// is not lost.
    fn lost(&self, side: Side) -> Vec<FilePath> {
        let mut waiting = self.waiting(side);
        // Few are never held: where their bytes are need not be asked.
        if waiting.len() < LEAST {
            return waiting;
        }
        let elsewhere: HashSet<BlobHash> = match side {
            Side::Workspace => {
                let waits: HashSet<&FilePath> = waiting.iter().collect();
                let there = self.agreed.iter().filter(|(path, _)| !waits.contains(path));
                there.filter_map(|(_, base)| base.hash).collect()
            }
            Side::Project => {
                let hash = |entry: &Entry| match entry {
                    Entry::Blob { hash, .. } => Some(*hash),
                    entry => self.current_text(entry),
                };
                self.project.entries.values().filter_map(hash).collect()
            }
        };
        let is_elsewhere = |path: &FilePath| {
            let hash = self.agreed.get(path).and_then(|base| base.hash);
            hash.is_some_and(|hash| elsewhere.contains(&hash))
        };
        waiting.retain(|path| !is_elsewhere(path));
        waiting
    }

    /// A tool call deletes a file: that is meant, and said if it is one of many.
    fn tell_of_call(&mut self, path: &FilePath, now: Instant) {
        if self.guard.called(path, self.agreed.len(), now) {
            self.note("a tool call deletes more than half of all files; that is passed on".into());
        }
    }
}
