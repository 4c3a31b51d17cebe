//! The loop: one task that owns all of a session's state.
//!
//! Everything that happens comes in as an [`Event`]. A turn takes what has happened, decides, and
//! collects what is to be remembered and what is to be done. Then it commits: the journal first,
//! and only if that succeeded the frames go to the socket and the jobs to the disk. So whatever
//! leaves the loop is remembered, and a journal that cannot be written stops the session from
//! acting, not from knowing.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc::Receiver;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uspark_shared::id::{BlobHash, DocId};
use uspark_shared::path::FilePath;
use uspark_shared::replica::ClientId;
use uspark_shared::schema::Entry;

use super::agreed::Agreed;
use super::barrier::{Barrier, Cookie};
use super::config::{Direction, Meant, Progress, ProgressSink, SyncConfig, ToolCall};
use super::guard::{Deletion, Guard};
use super::jobs::{Done, Jobs};
use super::project::Project;
use super::report::{Conflict, LinkState, Report, Skipped, Status};
use super::texts::{Pasts, TextDocument};
use super::tools::Tools;
use super::wire::Wire;
use super::work::{Trouble, Works};
use crate::disk::state::StateDir;
use crate::journal::{Journal, Record, Withdrawn};
use crate::link::LinkEvent;
use crate::watch::{Urgency, WatchEvent, Watcher};

/// Events taken in one turn at most: what belongs together is committed together, and nothing
/// waits long for it.
const EVENTS_PER_TURN: usize = 256;
/// Steps taken in one turn at most, so that whoever asks something is answered.
const STEPS_PER_TURN: usize = 4096;
/// How often idle documents are looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(5);
/// How long `rm -rf` of a workspace may take from `.uspark` to the workspace itself.
const STATE_GRACE: Duration = Duration::from_millis(500);
/// How long a document stays open and loaded without being used.
const IDLE: Duration = Duration::from_secs(20);
/// How long a session with a past waits for the server before it works on its own.
const PATIENCE: Duration = Duration::from_secs(3);

/// Everything that can happen to a session.
pub(super) enum Event {
    /// On the workspace's disk.
    Watch(WatchEvent),
    /// On the way to the server.
    Link(LinkEvent),
    /// To a job.
    Done(Done),
    /// Somebody wants something.
    Command(Command),
    /// Time passed.
    Tick,
    /// Nobody can want anything any more.
    Abandoned,
}

/// Why a session does nothing any more, and never will again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Over {
    /// The server will not let us in.
    #[error("{0}")]
    Refused(String),
    /// The agent's own directory went.
    #[error(".uspark was removed or replaced: nothing is synced any more")]
    StateLost,
}

/// What a session's handle asks for.
pub(super) enum Command {
    /// A tool call began.
    ToolStarted(ToolCall),
    /// A tool call ended.
    ToolFinished(String),
    /// Say when all is equal, or what is not at the deadline.
    Barrier(Instant, Meant, tokio::sync::oneshot::Sender<Report>),
    /// Say how things are.
    Status(tokio::sync::oneshot::Sender<Status>),
    /// Say which of these paths name nothing that is synced, and why.
    Unknown(Vec<FilePath>, tokio::sync::oneshot::Sender<Vec<Skipped>>),
    /// Say why it is over, if so.
    Over(tokio::sync::oneshot::Sender<Option<Over>>),
    /// End.
    Stop,
}

/// Where events come from.
pub(super) struct Sources {
    pub watch: Receiver<WatchEvent>,
    pub link: Receiver<LinkEvent>,
    pub done: Receiver<Done>,
    pub commands: Receiver<Command>,
}

/// A session's state.
pub(super) struct Engine {
    pub config: SyncConfig,
    pub progress: ProgressSink,
    pub client: ClientId,
    pub state: StateDir,
    pub journal: Journal,
    pub watcher: Option<Watcher>,
    pub jobs: Jobs,
    pub wire: Wire,
    pub project: Project,
    pub agreed: Agreed,
    pub works: Works,
    pub guard: Guard,
    /// Loaded text documents.
    pub texts: HashMap<DocId, TextDocument>,
    /// What was on disk a moment ago of documents that no longer are.
    pub departed: HashMap<DocId, Pasts>,
    /// Texts whose deletion the server has not confirmed yet, and the place in line of the update
    /// that deletes them, once that is made.
    pub withdrawn: Vec<(Option<u64>, Withdrawn)>,
    /// Updates of documents that are on disk and not loaded.
    pub inbox: HashMap<DocId, Vec<Vec<u8>>>,
    /// Documents of which updates may have been missed: only an exchange tells.
    pub stale: HashSet<DocId>,
    /// Paths of which the server has asked for the content.
    pub lacked: HashMap<FilePath, BlobHash>,
    /// Paths that wait for a place among the exchanges.
    pub exchange_line: VecDeque<FilePath>,
    pub tools: Tools,
    pub barriers: Vec<Barrier>,
    /// To be journalled at the end of this turn.
    pub records: Vec<Record>,
    pub link: LinkState,
    /// The project document was received in full, now or in an earlier session.
    pub received: bool,
    /// The server follows up on every text of the project.
    pub following: bool,
    /// Answers of the project document that are expected, for barriers.
    pub asked: u64,
    pub answered: u64,
    /// The server did not come in time: the session works with what it remembers.
    pub alone: bool,
    /// The workspace was listed.
    pub listed: bool,
    pub root_lost: bool,
    /// What the watcher cannot see, and why.
    pub unseen: BTreeMap<String, String>,
    /// Paths that cannot be synced, and why.
    pub skipped: BTreeMap<FilePath, String>,
    /// Paths that differ and that the other direction would bring over, and why.
    pub left_alone: BTreeMap<FilePath, &'static str>,
    pub sent: u64,
    pub received_paths: u64,
    pub conflicts: Vec<Conflict>,
    /// It was said that files lose their other names.
    pub told_linked: bool,
    pub last_acknowledged: Option<SystemTime>,
    pub watches: usize,
    /// Cancelled when it is over; the link ends with it.
    pub shut_out: CancellationToken,
    /// Why nothing goes on any more.
    pub over: Option<Over>,
    /// Why the journal cannot be written, and when it is tried again.
    pub stuck: Option<(String, Instant)>,
    pub began: Instant,
    pub next_housekeeping: Instant,
    pub last_left: usize,
    pub cookies: u64,
    /// How often what is known was compared with the disk.
    pub comparisons: u64,
}

impl Engine {
    /// Runs until it is told to stop or nobody listens.
    pub async fn run(mut self, mut sources: Sources) {
        loop {
            let event = self.next(&mut sources).await;
            let mut left = EVENTS_PER_TURN;
            let mut event = Some(event);
            while let Some(next) = event.take() {
                match next {
                    Event::Command(Command::Stop) | Event::Abandoned => return self.end(),
                    next => self.take(next),
                }
                left -= 1;
                if left > 0 {
                    event = ready(&mut sources);
                }
            }
            self.end_turn();
        }
    }

    async fn next(&mut self, sources: &mut Sources) -> Event {
        let due = self.next_due();
        tokio::select! {
            Some(done) = sources.done.recv() => Event::Done(done),
            Some(event) = sources.watch.recv() => Event::Watch(event),
            Some(event) = sources.link.recv() => Event::Link(event),
            command = sources.commands.recv() => match command {
                Some(command) => Event::Command(command),
                None => Event::Abandoned,
            },
            () = tokio::time::sleep_until(due) => Event::Tick,
        }
    }

    fn next_due(&self) -> Instant {
        if self.works.any_ready() && self.stuck.is_none() {
            return Instant::now();
        }
        let mut due = self.next_housekeeping;
        due = due.min(self.works.next_timer().unwrap_or(due));
        due = due.min(
            self.barriers
                .iter()
                .map(Barrier::deadline)
                .min()
                .unwrap_or(due),
        );
        if let Some((_, at)) = &self.stuck {
            due = due.min(*at);
        }
        if self.may_plan() && self.stuck.is_none() {
            due = due.min(self.guard.due().unwrap_or(due));
        }
        if !self.following && !self.alone && self.received {
            due = due.min(self.began + PATIENCE);
        }
        due
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Watch(event) => self.watched(event),
            Event::Link(event) => self.linked(event),
            Event::Done(done) => self.done(done),
            Event::Command(command) => self.command(command),
            Event::Tick => self.tick(),
            Event::Abandoned => {}
        }
    }

    fn watched(&mut self, event: WatchEvent) {
        match event {
            WatchEvent::Dirty(dirty) => {
                for dirty in dirty {
                    self.dirty(dirty);
                }
            }
            WatchEvent::ListingBegan => self.unseen.clear(),
            WatchEvent::ListingEnded => {
                self.listed = true;
                // What is known and was not listed may be gone; so may what is on its way.
                let works = self.works.iter().map(|(path, _)| path);
                let known: Vec<FilePath> = self.agreed.paths().chain(works).cloned().collect();
                let by_call = self.tools.may_delete();
                for path in known {
                    self.mark(&path, Urgency::Soon);
                    if let Some(work) = self.works.get_mut(&path) {
                        work.by_call |= by_call && work.deletion == Deletion::No;
                    }
                }
                self.wake_all();
            }
            WatchEvent::Cookie(name) => self.cookie_seen(&name),
            WatchEvent::Unseen { path, why } => drop(self.unseen.insert(path, why)),
            WatchEvent::Gone(gone) => {
                let below = format!("{gone}/");
                self.unseen
                    .retain(|path, _| *path != gone && !path.starts_with(&below));
            }
            WatchEvent::Watches(count) => self.watches = count,
            WatchEvent::Note(note) => self.note(note),
            WatchEvent::RootLost => self.lose_root(),
            WatchEvent::RootBack => {
                self.root_lost = false;
                self.wake_all();
                self.note("the workspace is back".into());
            }
            WatchEvent::CookiesGone => {
                // The root may be about to go as well, which is another matter.
                let soon = Instant::now() + STATE_GRACE;
                self.next_housekeeping = self.next_housekeeping.min(soon);
            }
        }
    }

    /// Ends the sync if `.uspark` is not there any more: with it went the lock, and what is remembered of what was
    /// agreed. An agent that began in a new one would take this one's work for somebody else's.
    fn look_for_state(&mut self) {
        // Of a root that is gone the watcher tells.
        let is_lost = || !self.state.is_there() && self.jobs.root().is_there();
        if !self.root_lost && self.over.is_none() && is_lost() {
            self.end_for_good(Over::StateLost);
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::ToolStarted(call) => self.tools.started(call),
            Command::ToolFinished(id) => {
                let cookie = self.put_cookie();
                for call in self.tools.finished(&id, cookie) {
                    call.paths.iter().for_each(|path| self.tool_released(path));
                }
            }
            Command::Barrier(deadline, meant, reply) => {
                self.begin_barrier(deadline, meant, reply);
            }
            // Whoever asked may have gone.
            Command::Status(reply) => drop(reply.send(self.status())),
            Command::Unknown(paths, reply) => drop(reply.send(self.unknown(paths))),
            Command::Over(reply) => drop(reply.send(self.over.clone())),
            Command::Stop => {}
        }
    }

    fn tick(&mut self) {
        let now = Instant::now();
        if !self.following && now >= self.began + PATIENCE {
            self.work_alone();
        }
        if now < self.next_housekeeping {
            return;
        }
        self.next_housekeeping = now + HOUSEKEEPING;
        self.look_for_state();
        if let Some(before) = now.checked_sub(IDLE) {
            self.wire.close_idle(before);
        }
        self.unload_idle();
    }

    /// Decides and acts on what has happened: see the module.
    fn end_turn(&mut self) {
        let now = Instant::now();
        self.works.run_timers(now);
        let stuck = self.stuck.as_ref().is_some_and(|(_, until)| now < *until);
        if stuck {
            return self.expire_barriers(now);
        }
        for _ in 0..STEPS_PER_TURN {
            match self.works.next_ready() {
                Some(path) => self.advance(&path, now),
                None => break,
            }
        }
        self.judge_deletions(now);
        let mut last = None;
        for (update, by) in self.project.commit() {
            self.records.push(Record::State(None, update.clone()));
            let outgoing = self.wire.outgoing(None, update, by);
            last = Some(outgoing.seq);
            self.records.push(Record::Outgoing(outgoing));
        }
        if let Some(last) = last {
            self.deleted_by(last);
        }
        if !self.commit(now) {
            return self.expire_barriers(now);
        }
        self.jobs.start();
        self.check_barriers();
        let left = self.works.len();
        if left != self.last_left {
            self.last_left = left;
            (self.progress)(Progress::Left(left));
        }
    }

    /// Writes the journal, then releases the frames. Gives whether it could be written.
    fn commit(&mut self, now: Instant) -> bool {
        let sends = self.config.direction != Direction::Pull;
        let written = self.journal.write(&self.records).and_then(|()| {
            self.records.clear();
            let journal = &self.journal;
            match sends {
                true => self.wire.send_waiting(|seq| journal.outgoing(seq)),
                false => Ok(()),
            }
        });
        if let Err(error) = written {
            if self.stuck.is_none() {
                self.note(format!(
                    "nothing is synced until this passes: {}",
                    chain(&error)
                ));
            }
            self.stuck = Some((
                chain(&error),
                now + self.config.limits.retry.1.min(PATIENCE),
            ));
            return false;
        }
        if self.stuck.take().is_some() {
            self.note("the journal can be written again".into());
        }
        for (document, state_vector) in self.wire.answerable() {
            self.give(&document, &state_vector);
        }
        if !self.wire.flush() {
            self.disconnected("the connection was too slow".into());
        }
        true
    }

    fn end(mut self) {
        for (update, by) in self.project.commit() {
            self.records.push(Record::State(None, update.clone()));
            let outgoing = self.wire.outgoing(None, update, by);
            self.records.push(Record::Outgoing(outgoing));
        }
        if let Err(error) = self.journal.write(&self.records) {
            self.note(chain(&error));
        }
        for barrier in std::mem::take(&mut self.barriers) {
            barrier.answer(self.report());
        }
    }

    /// Whether disk and project may be compared: both were seen, or the past is all there is.
    pub fn may_plan(&self) -> bool {
        self.listed
            && self.received
            && (self.following || self.alone)
            && !self.root_lost
            && self.over.is_none()
    }

    /// The server does not come: what is remembered of the project has to do.
    pub fn work_alone(&mut self) {
        if !std::mem::replace(&mut self.alone, true) && self.received {
            self.wake_all();
        }
    }

    /// Marks what the project has and the disk, as remembered, has not: a session that ended in
    /// between left it.
    pub fn mark_differences(&mut self) {
        let differs = |(path, entry): &(&FilePath, &Entry)| {
            self.agreed
                .get(path)
                .is_none_or(|base| base.entry != **entry)
        };
        let differing = self.project.entries.iter().filter(differs);
        let differing: Vec<FilePath> = differing.map(|(path, _)| path.clone()).collect();
        for path in differing {
            self.mark(&path, Urgency::Now);
        }
    }

    /// Has every path that is worked on advanced.
    pub fn wake_all(&mut self) {
        let all: Vec<FilePath> = self.works.iter().map(|(path, _)| path.clone()).collect();
        for path in all {
            self.works.wake(&path);
        }
    }

    /// Marks a path to be looked at.
    pub fn mark(&mut self, path: &FilePath, urgency: Urgency) {
        self.works.mark(path, urgency, self.config.limits.hold);
    }

    /// Marks a path to be looked at as a part of the work on another.
    pub fn mark_for(&mut self, path: &FilePath, urgency: Urgency, cause: &FilePath) {
        self.mark(path, urgency);
        self.works.inherit(path, cause);
    }

    /// A path cannot be done now. It is tried again by itself, or not before it changes.
    pub fn trouble(&mut self, path: &FilePath, why: String, again: Again) {
        let (first, longest) = self.config.limits.retry;
        let Some(work) = self.works.get_mut(path) else {
            return;
        };
        work.tries += 1;
        let retry_at = match again {
            Again::Later => {
                let wait = first.saturating_mul(1 << work.tries.min(16)).min(longest);
                Some(Instant::now() + wait)
            }
            Again::OnChange => None,
        };
        work.busy = false;
        work.trouble = Some(Trouble { why, retry_at });
        let changed = work.dirty != work.seen;
        match retry_at {
            Some(at) => self.works.wake_at(at, path),
            None => {
                self.works.give_up(path);
                if changed {
                    self.works.wake(path);
                }
            }
        }
    }

    /// A path may no longer be what it was: what was given up below it is tried again.
    pub fn retry_below(&mut self, path: &FilePath) {
        for below in self.works.take_given_up(path) {
            if self
                .works
                .get(&below)
                .is_some_and(|work| work.trouble.is_some())
            {
                self.mark_for(&below, Urgency::Now, path);
            }
        }
    }

    /// What waited for the end of a tool call on a path goes on.
    fn tool_released(&mut self, path: &FilePath) {
        if self.works.get(path).is_some_and(|work| !work.busy) {
            self.replan(path);
        }
    }

    /// Tells a person.
    pub fn note(&self, note: String) {
        tracing::info!("{note}");
        (self.progress)(Progress::Note(note));
    }

    fn lose_root(&mut self) {
        if !std::mem::replace(&mut self.root_lost, true) {
            self.note(
                "the workspace is gone: nothing is deleted for it, and the sync goes on once the \
                 same directory is back. hint: for a new one in its place, stop this and begin again"
                    .into(),
            );
        }
    }

    /// Puts a cookie, which the watcher reports behind everything before. One way needs none.
    pub fn put_cookie(&mut self) -> Option<Cookie> {
        if self.config.direction != Direction::Both {
            return None;
        }
        let watcher = self.watcher.as_ref()?;
        self.cookies += 1;
        let cookie = format!("{}-{}", self.client.get(), self.cookies);
        watcher.expect(&cookie);
        if let Err(error) = self.state.touch_cookie(&cookie) {
            tracing::debug!("everything is listed instead: {error}");
            watcher.relist();
        }
        Some(cookie)
    }

    fn cookie_seen(&mut self, name: &str) {
        for call in self.tools.cookie(name) {
            for path in call.paths {
                self.tool_released(&path);
            }
        }
        self.barrier_cookie(name);
    }
}

/// When something that failed is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// By itself, after a wait that grows.
    Later,
    /// When something about it changes.
    OnChange,
}

/// The next event that is there already.
fn ready(sources: &mut Sources) -> Option<Event> {
    if let Ok(done) = sources.done.try_recv() {
        return Some(Event::Done(done));
    }
    if let Ok(event) = sources.watch.try_recv() {
        return Some(Event::Watch(event));
    }
    if let Ok(event) = sources.link.try_recv() {
        return Some(Event::Link(event));
    }
    sources.commands.try_recv().ok().map(Event::Command)
}

/// An error and what lies beneath it, in one line; what it says itself of its cause is said once.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(error) = below {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        below = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::DiskError;

    #[test]
    fn a_cause_is_said_once() {
        let source = std::io::Error::from_raw_os_error(20);
        let path = "a/b".to_owned();
        let error = DiskError::Io {
            action: "create",
            path,
            source,
        };
        assert_eq!(
            chain(&error),
            "cannot create `a/b`: Not a directory (os error 20)"
        );
    }
}
