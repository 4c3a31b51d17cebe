//! Whether deletions pass: when most files go at once, they are held until somebody says that it
//! is meant.
//!
//! An `rm -rf` in the wrong place, a directory that was unmounted, a checkout of an empty branch
//! look like any other deletion, one path at a time. So none is decided alone: a deletion that is
//! ready to be carried over waits for a verdict on all that are ready. A few pass at once. Many
//! wait until no more come and everything that may have changed was looked at; then, if they are
//! more than half of all files, they are held, else they pass.
//!
//! Owns [`Guard`], which judges by counts alone, and the steps that carry its verdicts out. Both
//! directions are judged alike and apart. Invariants: only deletions are held, all else goes on; a
//! deletion whose file comes back on either side is none any more; who waits for a barrier does
//! not wait for what is held.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;
use uspark_shared::id::BlobHash;
use uspark_shared::path::FilePath;
use uspark_shared::schema::Entry;

use super::barrier::Barrier;
use super::config::MassDelete;
use super::run::{Again, Engine};

/// Fewer deletions are never held: one can see what they were, and bring it back.
const LEAST: usize = 10;
/// No deletion for so long is the end of many: on its way, `rm` may have a directory to empty that
/// is not watched.
const QUIET: Duration = Duration::from_millis(500);
/// After so long without a deletion it no longer matters what else goes on: where much is written
/// all the time, something always does.
const LONG_QUIET: Duration = Duration::from_secs(1);
/// How long many deletions are waited for at most. Of a removal that takes longer, up to a half may
/// pass before the rest is held.
const PATIENCE: Duration = Duration::from_secs(10);
/// Deletions that passed so lately count with those that follow; and once some are held, so long
/// nothing has to change before those that are fewer now pass after all: whoever brings files back
/// may not be done.
const RECENT: Duration = Duration::from_secs(5);
/// How often many deletions are counted at most.
const PACE: Duration = Duration::from_millis(20);

/// Where files are gone, so that they are to be deleted on the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// From the disk.
    Workspace,
    /// From the project.
    Project,
}

/// How far the deletion of a path has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Deletion {
    /// It is not to be deleted, as far as is known.
    #[default]
    No,
    /// It is gone from that side, and waits for a verdict or is held.
    Waits(Side),
    /// It passes.
    Passes,
}

/// What there is to judge by.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    /// Deletions that wait or are held.
    waiting: usize,
    /// Files that may have changed and were not looked at yet.
    unseen: usize,
    /// Anything, new files too, was not looked at yet.
    stirring: bool,
    /// Files that both sides had, those that wait included.
    files: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It is too early to tell.
    Wait,
    /// All that wait pass.
    Pass,
    /// All that wait are held.
    Hold,
    /// Nothing waits any more.
    Nothing,
}

/// What is remembered of the deletions of both sides.
#[derive(Debug, Default)]
pub(super) struct Guard {
    workspace: Burst,
    project: Burst,
}

/// Deletions of one side that belong together.
#[derive(Debug, Default)]
struct Burst {
    /// How many waited when they were last counted.
    waiting: usize,
    /// Since when some wait.
    since: Option<Instant>,
    /// When their number last changed.
    changed: Option<Instant>,
    /// Those that wait are held.
    held: bool,
    /// When they are counted next.
    due: Option<Instant>,
    passed: Lately,
    /// Those that tool calls made.
    called: Lately,
    /// It was said that a tool call made many.
    called_told: bool,
}

/// How many deletions passed lately.
#[derive(Debug, Default)]
struct Lately(VecDeque<(Instant, usize)>);

impl Guard {
    /// When there is something to judge.
    pub fn due(&self) -> Option<Instant> {
        [self.workspace.due, self.project.due]
            .into_iter()
            .flatten()
            .min()
    }

    /// A deletion of this side has come or gone.
    pub fn stir(&mut self, side: Side, now: Instant) {
        let burst = self.of(side);
        let due = match burst.waiting < LEAST {
            true => now,
            false => now + PACE,
        };
        burst.due = Some(burst.due.map_or(due, |earlier| earlier.min(due)));
    }

    fn is_held(&self, side: Side) -> bool {
        match side {
            Side::Workspace => self.workspace.held,
            Side::Project => self.project.held,
        }
    }

    fn of(&mut self, side: Side) -> &mut Burst {
        match side {
            Side::Workspace => &mut self.workspace,
            Side::Project => &mut self.project,
        }
    }
}

impl Burst {
    /// Decides about those that wait. `moved`: how many of them are only elsewhere now, which is
    /// asked before they are held.
    fn judge(&mut self, tally: Tally, now: Instant, moved: impl FnOnce() -> usize) -> Verdict {
        if self.waiting != tally.waiting {
            self.waiting = tally.waiting;
            self.changed = Some(now);
        }
        if tally.waiting == 0 {
            self.end();
            return Verdict::Nothing;
        }
        let since = *self.since.get_or_insert(now);
        let quiet = now.duration_since(self.changed.unwrap_or(since));
        let rested =
            quiet >= LONG_QUIET || quiet >= QUIET && !tally.stirring || now >= since + PATIENCE;
        let passed = self.passed.count(now);
        let is_mass = |deletions| is_mass(deletions, tally.files + passed);
        let mut lost = tally.waiting;
        if is_mass(lost + passed) && (self.held || rested) {
            lost -= moved();
        }
        let (all, worst) = (lost + passed, lost + passed + tally.unseen);
        let (verdict, next) = if is_mass(all) && (self.held || rested) {
            (Verdict::Hold, RECENT)
        } else if self.held && (quiet < RECENT || is_mass(worst)) {
            (Verdict::Hold, RECENT.saturating_sub(quiet).max(PACE))
        } else if is_mass(worst) || (!rested && is_many(all, tally.unseen)) {
            (Verdict::Wait, PACE)
        } else {
            (Verdict::Pass, RECENT)
        };
        if verdict == Verdict::Pass {
            self.end();
            self.passed.add(now, lost);
        } else {
            self.held = verdict == Verdict::Hold;
            self.due = Some(now + next);
        }
        verdict
    }

    /// Nothing waits any more.
    fn end(&mut self) {
        self.waiting = 0;
        self.since = None;
        self.held = false;
        self.due = None;
    }
}

/// Whether deletions are many, or may turn out to be when all that changed is looked at.
fn is_many(deletions: usize, unseen: usize) -> bool {
    deletions + unseen >= LEAST
}

/// Whether so many deletions, of so many files, are too many at once.
fn is_mass(deletions: usize, files: usize) -> bool {
    deletions >= LEAST && deletions * 2 > files
}

impl Lately {
    fn add(&mut self, now: Instant, many: usize) {
        self.0.push_back((now, many));
    }

    fn count(&mut self, now: Instant) -> usize {
        while self.0.front().is_some_and(|(at, _)| *at + RECENT <= now) {
            self.0.pop_front();
        }
        self.0.iter().map(|(_, many)| many).sum()
    }
}

impl Side {
    /// Why a deletion is held.
    fn why(self) -> String {
        let gone = match self {
            Self::Workspace => "gone from the workspace",
            Self::Project => "deleted in the project",
        };
        format!("{gone} together with most other files: its deletion is held")
    }
}

impl Engine {
    /// Whether a path that is gone from a side may be deleted on the other now. If not, it waits,
    /// or is held. `before`: how far it had come when it was planned last.
    pub(super) fn may_delete(&mut self, path: &FilePath, side: Side, before: Deletion) -> bool {
        let now = Instant::now();
        let free = before == Deletion::Passes || self.deletes_freely();
        let held = self.guard.of(side).held;
        let Some(work) = self.works.get_mut(path) else {
            return false;
        };
        let by_call = side == Side::Workspace && work.by_call;
        if free || by_call {
            work.deletion = Deletion::Passes;
            if by_call {
                self.tell_of_call(now);
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
    fn deletes_freely(&self) -> bool {
        self.config.mass_delete == MassDelete::Passes || self.barriers.iter().any(Barrier::frees)
    }

    /// Judges the deletions that wait, if it is time.
    pub(super) fn judge_deletions(&mut self, now: Instant) {
        for side in [Side::Workspace, Side::Project] {
            if self.guard.of(side).due.is_none_or(|due| now < due) || !self.may_plan() {
                continue;
            }
            let tally = self.tally(side);
            let mut burst = std::mem::take(self.guard.of(side));
            let held = burst.held;
            let verdict = burst.judge(tally, now, || self.moved(side));
            *self.guard.of(side) = burst;
            match verdict {
                Verdict::Pass => self.pass(side),
                Verdict::Hold => self.hold(side, held, tally),
                Verdict::Wait => {}
                Verdict::Nothing => {}
            }
            if held && matches!(verdict, Verdict::Pass | Verdict::Nothing) {
                self.note("no deletion is held any more".into());
            }
        }
    }

    /// Lets everything pass that is held: somebody said that it is meant.
    pub(super) fn pass_all(&mut self) {
        if self.held() > 0 {
            self.note("the deletions that were held pass".into());
        }
        for side in [Side::Workspace, Side::Project] {
            self.guard.of(side).end();
            self.pass(side);
        }
    }

    /// How many deletions are held.
    pub(super) fn held(&self) -> usize {
        let is_held = |side| self.guard.is_held(side);
        let works = self.works.iter().filter(|(_, work)| match work.deletion {
            Deletion::Waits(side) => is_held(side),
            _ => false,
        });
        works.count()
    }

    fn pass(&mut self, side: Side) {
        for path in self.waiting(side) {
            if let Some(work) = self.works.get_mut(&path) {
                work.deletion = Deletion::Passes;
            }
            // It may have waited for long.
            self.look_again(&path);
        }
    }

    fn hold(&mut self, side: Side, already: bool, tally: Tally) {
        for path in self.waiting(side) {
            if self
                .works
                .get(&path)
                .is_some_and(|work| work.trouble.is_none())
            {
                self.trouble(&path, side.why(), Again::OnChange);
            }
        }
        if already {
            return;
        }
        let (many, files) = (tally.waiting, tally.files);
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

    fn tally(&self, side: Side) -> Tally {
        let mut tally = Tally {
            files: self.agreed.len(),
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

    /// How many of the files that wait to be deleted are at another path now: what was moved is not
    /// lost.
    fn moved(&self, side: Side) -> usize {
        let waiting: HashSet<FilePath> = self.waiting(side).into_iter().collect();
        let elsewhere: HashSet<BlobHash> = match side {
            Side::Workspace => {
                let there = self
                    .agreed
                    .iter()
                    .filter(|(path, _)| !waiting.contains(*path));
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
        let base = |path: &FilePath| self.agreed.get(path).and_then(|base| base.hash);
        let moved = waiting
            .iter()
            .filter_map(base)
            .filter(|hash| elsewhere.contains(hash));
        moved.count()
    }

    /// A tool call deletes a file: that is meant, and said if it is one of many.
    fn tell_of_call(&mut self, now: Instant) {
        let files = self.agreed.len();
        let burst = self.guard.of(Side::Workspace);
        let before = burst.called.count(now);
        burst.called.add(now, 1);
        let told = std::mem::replace(&mut burst.called_told, is_mass(before + 1, files + before));
        if burst.called_told && !told {
            self.note("a tool call deletes more than half of all files; that is passed on".into());
        }
    }
}

#[cfg(test)]
mod tests;
