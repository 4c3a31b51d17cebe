//! Which paths are to be looked at, and what is known about those that are.
//!
//! A path is here from the moment something about it may have changed until disk, project and base
//! agree, or nothing more can be done. At most one operation is under way per path. "May have
//! changed" is a number and not a flag: a change during an operation is not lost when it ends.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;
use uspark_shared::id::BlobHash;
use uspark_shared::path::{FilePath, below};
use uspark_shared::schema::Entry;

use super::guard::Deletion;
use super::jobs::Fetched;
use super::plan::Disk;
use crate::disk::observe::Fingerprint;
use crate::disk::swap::TempName;
use crate::watch::Urgency;

/// Failures in a row after which a path is still tried again, but nobody waits for it any more: a
/// full disk is told at once, not at the end of everybody's patience.
const TRIES_BEFORE_GIVEN_UP: u32 = 3;

/// What is known about a path that is worked on.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// The mark since which it has not been at rest.
    pub since: u64,
    /// The last mark.
    pub dirty: u64,
    /// The mark that the last look covers.
    pub seen: u64,
    /// An operation is under way.
    pub busy: bool,
    /// Not to be looked at before this.
    pub held_until: Option<Instant>,
    /// When it was first found absent, of a path that has a base.
    pub absent_since: Option<Instant>,
    /// When its text was first found cut short, of what others have typed into lately.
    pub cut_since: Option<Instant>,
    /// It is only looked at because its file was changed under another of its names.
    pub by_other_name: bool,
    /// What the last look found.
    pub view: Option<View>,
    /// The text that it found, of a path that has a document.
    pub text: Option<String>,
    /// Where the kernel says it came from.
    pub moved_from: Option<FilePath>,
    /// Whether its possible origin is gone, once asked.
    pub origin: Origin,
    /// The rules say it is not synced, unless it already is.
    pub ignored: bool,
    /// What made the change, for the wire.
    pub by: Option<String>,
    /// It was a tool call that named the path, and write-back waited for it.
    pub by_named_call: bool,
    /// A tool call that may delete files was under way when it changed.
    pub by_call: bool,
    /// How far its deletion has come.
    pub deletion: Deletion,
    /// The next look is to bring the document's first content too.
    pub wants_base: bool,
    /// It was to bring it once already.
    pub asked_base: bool,
    /// The document's first content is kept beside the workspace.
    pub kept_base: bool,
    /// The blob that the server was given for this path.
    pub uploaded: Option<BlobHash>,
    /// The blob that came for this path.
    pub fetched: Option<(BlobHash, Fetched)>,
    /// The change of the disk that is under way.
    pub writing: Option<Writing>,
    /// The name under which what is removed waits.
    pub taking: Option<TempName>,
    /// The file of the document was to be renamed here, and could not be.
    pub rename_tried: bool,
    /// Since when it has been found being written, without a pause.
    pub written_since: Option<Instant>,
    /// Why it is not done.
    pub trouble: Option<Trouble>,
    /// How often it failed since it was last at rest.
    pub tries: u32,
    queued: bool,
}

/// What is on disk at a path.
#[derive(Debug, Clone)]
pub(super) struct View {
    /// For the planner.
    pub disk: Disk,
    /// To know it again.
    pub print: Option<Fingerprint>,
    /// Milliseconds since 1970.
    pub mtime: u64,
}

/// A change of the disk that is under way.
#[derive(Debug, Clone)]
pub(super) struct Writing {
    /// The entry that it puts on disk.
    pub entry: Entry,
    /// The content that it puts there.
    pub hash: Option<BlobHash>,
    /// How the shadow of the entry's document follows, if that is in memory.
    pub shadow: Option<(Vec<u8>, u64)>,
    /// The name on the way.
    pub temp: TempName,
    /// The name under which what it displaces is kept.
    pub kept: Option<FilePath>,
    /// What is at the path once it is done.
    pub view: View,
    /// It was announced to the journal.
    pub intent: bool,
}

/// Whether a new path is a renamed one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Origin {
    /// Nobody asked.
    #[default]
    Unknown,
    /// It is asked whether this path is gone.
    Asked(FilePath),
    /// It is gone: the new path is it.
    Gone(FilePath),
    /// It is no rename.
    None,
}

/// Why a path is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    /// In one sentence.
    pub why: String,
    /// When it is tried again; never by itself when `None`.
    pub retry_at: Option<Instant>,
}

/// All paths that are worked on.
#[derive(Debug, Default)]
pub(super) struct Works {
    works: BTreeMap<FilePath, Work>,
    ready: VecDeque<FilePath>,
    timers: BTreeSet<(Instant, FilePath)>,
    /// Paths that are not tried again before something changes; more than those that still are.
    given_up: BTreeSet<FilePath>,
    /// Where the kernel says files went, by where they were, until that is decided.
    moved: HashMap<FilePath, FilePath>,
    marks: u64,
}

impl Works {
    /// Marks a path to be looked at. `hold`: not at once, unless it already is, or is marked so.
    pub fn mark(&mut self, path: &FilePath, urgency: Urgency, hold: Duration) -> &mut Work {
        self.marks += 1;
        let marks = self.marks;
        let until = Instant::now() + hold;
        let is_new = !self.works.contains_key(path);
        let work = self.works.entry(path.clone()).or_insert_with(|| Work {
            since: marks,
            ..Work::default()
        });
        work.dirty = marks;
        let due = match urgency {
            Urgency::Now => None,
            Urgency::Soon if is_new => Some(until),
            // Held since it was first marked; a change that is looked at anyway is not held.
            Urgency::Soon => work.held_until,
        };
        if is_new || due.is_none() {
            work.held_until = due;
        }
        if let Some(trouble) = &mut work.trouble {
            // Something changed: what failed may work now.
            trouble.retry_at = None;
            if urgency == Urgency::Now {
                work.trouble = None;
            }
        }
        self.wake(path);
        self.works.get_mut(path).expect("it was just marked")
    }

    /// The kernel says that what is at `path` came from `from`.
    pub fn came_from(&mut self, path: &FilePath, from: FilePath) {
        self.is_no_move(path);
        if from != *path
            && let Some(work) = self.works.get_mut(path)
        {
            work.moved_from = Some(from.clone());
            self.moved.insert(from, path.clone());
        }
    }

    /// What is at `path` is not taken for something moved there, or not any more. Gives from where.
    pub fn is_no_move(&mut self, path: &FilePath) -> Option<FilePath> {
        let from = self.works.get_mut(path)?.moved_from.take()?;
        // What was there next may have gone elsewhere.
        if self.moved.get(&from) == Some(path) {
            self.moved.remove(&from);
        }
        Some(from)
    }

    /// Where the file of this path went, as far as the kernel says and nobody has found out yet.
    pub fn moved_to(&self, from: &FilePath) -> Option<&FilePath> {
        let to = self.moved.get(from)?;
        let is_open =
            |work: &Work| work.moved_from.as_ref() == Some(from) && work.trouble.is_none();
        self.works.get(to).is_some_and(is_open).then_some(to)
    }

    /// What was marked belongs to what `cause` is worked on for: whoever waits for that, waits.
    pub fn inherit(&mut self, path: &FilePath, cause: &FilePath) {
        let cause = self.works.get(cause).map(|work| (work.since, work.by_call));
        if let (Some((since, by_call)), Some(work)) = (cause, self.works.get_mut(path)) {
            work.since = work.since.min(since);
            work.by_call |= by_call;
        }
    }

    /// The path is not tried again before something about it, or above it, changes.
    pub fn give_up(&mut self, path: &FilePath) {
        self.given_up.insert(path.clone());
    }

    /// Takes out the paths below a directory that were given up.
    pub fn take_given_up(&mut self, directory: &FilePath) -> Vec<FilePath> {
        if self.given_up.is_empty() {
            return Vec::new();
        }
        self.given_up
            .extract_if(.., |path| path.is_below(directory))
            .collect()
    }

    /// Has a path advanced in this turn, or when it is due.
    pub fn wake(&mut self, path: &FilePath) {
        if let Some(work) = self.works.get_mut(path)
            && !work.queued
        {
            work.queued = true;
            self.ready.push_back(path.clone());
        }
    }

    /// Has a path advanced at a time.
    pub fn wake_at(&mut self, at: Instant, path: &FilePath) {
        self.timers.insert((at, path.clone()));
    }

    /// The next path to advance.
    pub fn next_ready(&mut self) -> Option<FilePath> {
        let path = self.ready.pop_front()?;
        if let Some(work) = self.works.get_mut(&path) {
            work.queued = false;
        }
        Some(path)
    }

    /// Makes ready what is due, and says when the next is.
    pub fn run_timers(&mut self, now: Instant) {
        while let Some((at, _)) = self.timers.first()
            && *at <= now
        {
            if let Some((_, path)) = self.timers.pop_first() {
                self.wake(&path);
            }
        }
    }

    /// Tries everything that failed again now: somebody waits for it.
    pub fn retry_failed(&mut self, now: Instant) {
        let mut failed = Vec::new();
        for (path, work) in &mut self.works {
            if let Some(Trouble {
                retry_at: Some(at), ..
            }) = &mut work.trouble
            {
                *at = now;
                work.tries = 0;
                failed.push(path.clone());
            }
        }
        for path in failed {
            self.wake(&path);
        }
    }

    /// When the next timer is due.
    pub fn next_timer(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// A path's work.
    pub fn get(&self, path: &FilePath) -> Option<&Work> {
        self.works.get(path)
    }

    /// A path's work.
    pub fn get_mut(&mut self, path: &FilePath) -> Option<&mut Work> {
        self.works.get_mut(path)
    }

    /// The path is at rest, as far as the last look goes. Gives whether it is altogether.
    pub fn rest(&mut self, path: &FilePath) -> bool {
        let Some(work) = self.works.get_mut(path) else {
            return true;
        };
        work.busy = false;
        if work.dirty == work.seen {
            self.drop(path);
            return true;
        }
        work.since = work.seen + 1;
        work.view = None;
        work.trouble = None;
        work.tries = 0;
        self.wake(path);
        false
    }

    /// The path is nothing to this session.
    pub fn drop(&mut self, path: &FilePath) {
        self.is_no_move(path);
        self.works.remove(path);
    }

    /// Whether something is to be advanced now.
    pub fn any_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The last mark.
    pub fn last_mark(&self) -> u64 {
        self.marks
    }

    /// Paths that are worked on.
    pub fn len(&self) -> usize {
        self.works.len()
    }

    /// Every path that is worked on below a directory.
    pub fn below(&self, directory: &FilePath) -> impl Iterator<Item = &FilePath> {
        below(&self.works, directory).map(|(path, _)| path)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&FilePath, &Work)> {
        self.works.iter()
    }

    /// Whether a path that was marked up to `mark` is still being worked on, and not given up.
    pub fn any_since(&self, mark: u64) -> bool {
        let waits = |work: &Work| {
            let failing = work.trouble.as_ref().is_some_and(|trouble| {
                trouble.retry_at.is_none() || work.tries >= TRIES_BEFORE_GIVEN_UP
            });
            let given_up = failing && !work.busy;
            work.since <= mark && !given_up
        };
        self.works.values().any(waits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = Duration::from_secs(3600);

    fn path(s: &str) -> FilePath {
        s.parse().unwrap()
    }

    #[test]
    fn a_change_during_a_look_is_not_lost() {
        let mut works = Works::default();
        let f = path("f");
        let first = works.mark(&f, Urgency::Now, HOLD).dirty;
        works.get_mut(&f).unwrap().seen = first;
        assert!(works.any_since(first));
        works.mark(&f, Urgency::Now, HOLD);
        assert!(!works.rest(&f));
        assert!(!works.any_since(first) && works.any_since(works.last_mark()));
        let work = works.get_mut(&f).unwrap();
        work.seen = work.dirty;
        assert!(works.rest(&f));
        assert_eq!(works.len(), 0);
    }

    #[test]
    fn what_may_go_on_is_held_unless_something_is_known_to_be_complete() {
        let mut works = Works::default();
        let f = path("f");
        let held = works.mark(&f, Urgency::Soon, HOLD).held_until.unwrap();
        assert_eq!(
            works.mark(&f, Urgency::Soon, HOLD * 2).held_until,
            Some(held)
        );
        assert_eq!(works.mark(&f, Urgency::Now, HOLD).held_until, None);
        assert_eq!(works.mark(&f, Urgency::Soon, HOLD).held_until, None);
    }

    #[test]
    fn what_was_moved_away_last_is_what_a_path_waits_for() {
        let mut works = Works::default();
        let (from, first, second) = (path("f"), path("a"), path("b"));
        for to in [&first, &second] {
            works.mark(to, Urgency::Now, HOLD);
            works.came_from(to, from.clone());
        }
        assert_eq!(works.is_no_move(&first), Some(from.clone()));
        assert_eq!(works.moved_to(&from), Some(&second));
        works.drop(&second);
        assert_eq!(works.moved_to(&from), None);
    }

    #[test]
    fn a_path_is_queued_once_and_timers_queue_it() {
        let mut works = Works::default();
        let f = path("f");
        works.mark(&f, Urgency::Now, HOLD);
        works.wake(&f);
        assert_eq!(works.next_ready(), Some(f.clone()));
        assert_eq!(works.next_ready(), None);
        let now = Instant::now();
        works.wake_at(now + HOLD, &f);
        works.run_timers(now);
        assert_eq!(works.next_ready(), None);
        works.run_timers(now + HOLD);
        assert_eq!(works.next_ready(), Some(f));
        assert_eq!(works.next_timer(), None);
    }

    #[test]
    fn what_is_given_up_is_not_waited_for() {
        let mut works = Works::default();
        let f = path("f");
        works.mark(&f, Urgency::Now, HOLD).trouble = Some(Trouble {
            why: "no".into(),
            retry_at: None,
        });
        assert!(!works.any_since(works.last_mark()));
        works.mark(&f, Urgency::Now, HOLD);
        assert!(works.any_since(works.last_mark()));
    }
}
