//! Whether deletions pass: when most files go at once, they are held until somebody says that it
//! is meant.
//!
//! An `rm -rf` in the wrong place, a directory that was unmounted, a checkout of an empty branch
//! look like any other deletion, one path at a time. So none is decided alone: a deletion that is
//! ready to be carried over waits for a verdict on all that are ready. A few pass at once. Many
//! wait until no more come and everything that may have changed was looked at; then, if they are
//! more than half of all files, they are held, else they pass.
//!
//! Owns [`Guard`], which judges by counts alone; [`super::deletions`] counts, and carries the verdicts
//! out. Both directions are judged alike and apart.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;
use uspark_shared::path::FilePath;

use super::config::MassDelete;

/// Fewer deletions are never held: one can see what they were, and bring it back.
pub(super) const LEAST: usize = 10;
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
/// How often many deletions are counted at most: of a large project that takes a while.
const PACE: Duration = Duration::from_millis(100);

/// Where files are gone, so that they are to be deleted on the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// From the disk.
    Workspace,
    /// From the project.
    Project,
}

impl Side {
    /// Whether what is gone from this side is deleted on the other without asking.
    pub fn passes(self, mass_delete: MassDelete) -> bool {
        match mass_delete {
            MassDelete::Held => false,
            MassDelete::Passes => true,
            MassDelete::PassesHere => self == Self::Project,
            MassDelete::PassesThere => self == Self::Workspace,
        }
    }
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
pub(super) struct Tally {
    /// Deletions that wait or are held.
    pub waiting: usize,
    /// How many of them are lost, not only elsewhere now.
    pub lost: usize,
    /// Files that may have changed and were not looked at yet.
    pub unseen: usize,
    /// Anything, new files too, was not looked at yet.
    pub stirring: bool,
    /// Files that both sides have, those that wait included.
    pub files: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
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
    /// Since when some wait, and how many files both sides had then: those that are made meanwhile do
    /// not make up for those that are lost.
    began: Option<(Instant, usize)>,
    /// When their number last changed.
    changed: Option<Instant>,
    /// Those that wait are held.
    held: bool,
    /// How many of those that were held somebody let pass: the others are not fewer for it.
    let_pass: usize,
    /// When they are counted next.
    due: Option<Instant>,
    passed: Lately,
    /// Those that tool calls made.
    called: Lately,
    /// It was said that a tool call made many.
    called_told: bool,
}

/// The files whose deletion passed lately, and when.
#[derive(Debug, Default)]
struct Lately(HashMap<FilePath, Instant>);

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

    /// Whether deletions of this side are held.
    pub fn is_held(&self, side: Side) -> bool {
        match side {
            Side::Workspace => self.workspace.held,
            Side::Project => self.project.held,
        }
    }

    /// Whether those that wait are to be counted now.
    pub fn is_due(&mut self, side: Side, now: Instant) -> bool {
        self.of(side).due.is_some_and(|due| due <= now)
    }

    /// Decides about those that wait.
    pub fn judge(&mut self, side: Side, tally: Tally, now: Instant) -> Verdict {
        self.of(side).judge(tally, now)
    }

    /// These pass now, and are lost.
    pub fn passed(&mut self, side: Side, lost: impl IntoIterator<Item = FilePath>, now: Instant) {
        self.of(side).passed.add(lost, now);
    }

    /// Both sides have a file again: it no longer counts as one that went.
    pub fn is_back(&mut self, path: &FilePath) {
        for burst in [&mut self.workspace, &mut self.project] {
            burst.passed.0.remove(path);
            burst.called.0.remove(path);
        }
    }

    /// How many files there were when the deletions of this side began, if any wait.
    pub fn files_before(&mut self, side: Side) -> usize {
        self.of(side).began.map_or(0, |(_, files)| files)
    }

    /// Somebody let so many of those that are held pass; others are held on.
    pub fn let_pass(&mut self, side: Side, many: usize) {
        self.of(side).let_pass += many;
    }

    /// Somebody decided: nothing of this side waits any more.
    pub fn end(&mut self, side: Side) {
        self.of(side).end();
    }

    /// A tool call deletes one of so many files. Gives whether it is to be told: once, when they
    /// have become too many.
    pub fn called(&mut self, path: &FilePath, files: usize, now: Instant) -> bool {
        let burst = &mut self.workspace;
        burst.called.add([path.clone()], now);
        let called = burst.called.count(now);
        let told = std::mem::replace(&mut burst.called_told, is_mass(called, files + called - 1));
        burst.called_told && !told
    }

    fn of(&mut self, side: Side) -> &mut Burst {
        match side {
            Side::Workspace => &mut self.workspace,
            Side::Project => &mut self.project,
        }
    }
}

impl Burst {
    fn judge(&mut self, tally: Tally, now: Instant) -> Verdict {
        if self.waiting != tally.waiting {
            self.waiting = tally.waiting;
            self.changed = Some(now);
        }
        if tally.waiting == 0 {
            self.end();
            return Verdict::Nothing;
        }
        let passed = self.passed.count(now);
        let (since, files) = *self.began.get_or_insert((now, tally.files + passed));
        let quiet = now.duration_since(self.changed.unwrap_or(since));
        let rested =
            quiet >= LONG_QUIET || quiet >= QUIET && !tally.stirring || now >= since + PATIENCE;
        let is_mass = |deletions| is_mass(deletions, files);
        let all = tally.lost + passed + self.let_pass;
        let worst = all + tally.unseen;
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
        } else {
            self.held = verdict == Verdict::Hold;
            self.due = Some(now + next);
        }
        verdict
    }

    /// Nothing waits any more.
    fn end(&mut self) {
        self.waiting = 0;
        self.began = None;
        self.held = false;
        self.let_pass = 0;
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
    fn add(&mut self, lost: impl IntoIterator<Item = FilePath>, now: Instant) {
        self.0.extend(lost.into_iter().map(|path| (path, now)));
    }

    fn count(&mut self, now: Instant) -> usize {
        self.0.retain(|_, at| now < *at + RECENT);
        self.0.len()
    }
}

impl Side {
    /// Why a deletion is held.
    pub fn why(self) -> String {
        let gone = match self {
            Self::Workspace => "gone from the workspace",
            Self::Project => "deleted in the project",
        };
        format!("{gone} together with most other files: its deletion is held")
    }
}

#[cfg(test)]
mod tests;
