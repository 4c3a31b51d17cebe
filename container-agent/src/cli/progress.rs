//! What a session tells, on its way to a person.
//!
//! The engine's loop only notes it down here; a thread of its own prints, so that a terminal that
//! has been stopped with Ctrl-S stops nothing but the printing.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use uspark_shared::path::FilePath;
use uspark_shared::printable::printable;

use super::output::{of, say};
use crate::engine::{Progress, ProgressSink};

/// How often the bar moves: as fast as the eye follows.
const TICK: Duration = Duration::from_millis(100);
/// How often at most a line is written where there is no terminal, and how long something must be
/// left to be worth one.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Messages kept for the printer; the rest is counted. A flood tells a person nothing more.
const MAX_WAITING_NOTES: usize = 100;

/// Collects what a session tells, and prints it until dropped.
#[derive(Debug)]
pub struct Reporter {
    state: Arc<Mutex<State>>,
    printer: Option<(SyncSender<()>, JoinHandle<()>)>,
}

/// Paths that changed, each once, with `+` for one that was brought up to the other side and `-` for
/// one that was removed there.
pub type Listed = BTreeMap<FilePath, char>;

#[derive(Debug, Default)]
struct State {
    /// Paths brought up, either way.
    done: u64,
    /// Paths known to be left.
    left: u64,
    /// Messages that are not printed yet.
    notes: Vec<String>,
    /// Messages that found no room.
    dropped: usize,
    /// Which changes are listed at the end.
    changes: Changes,
    listed: Listed,
    offline: bool,
    /// Grows with whatever shows that the other side is alive.
    advances: u64,
}

/// Which changes are listed when the command ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Changes {
    /// Those of the workspace.
    Here,
    /// Those of the project.
    There,
    /// None, they are only counted: the command goes on for ever.
    #[default]
    Counted,
}

impl Reporter {
    /// Starts to print: a bar on a terminal for what has an end, a line now and then elsewhere.
    pub fn start(changes: Changes) -> io::Result<Self> {
        let state = Arc::new(Mutex::new(State {
            changes,
            ..State::default()
        }));
        let (stop, stopped) = sync_channel(0);
        let shared = Arc::clone(&state);
        let thread = std::thread::Builder::new()
            .name("progress".into())
            .spawn(move || {
                let mut printer = Printer::new(changes);
                while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(TICK) {
                    printer.print(&shared);
                }
                printer.finish(&shared);
            })?;
        Ok(Self {
            state,
            printer: Some((stop, thread)),
        })
    }

    /// What the session is given.
    pub fn sink(&self) -> ProgressSink {
        let state = Arc::clone(&self.state);
        Arc::new(move |progress| lock(&state).note(progress))
    }

    /// A number that grows while anything moves.
    pub fn advances(&self) -> u64 {
        lock(&self.state).advances
    }

    /// Prints what is left to say, and returns the changes.
    pub fn finish(mut self) -> Listed {
        self.stop();
        std::mem::take(&mut lock(&self.state).listed)
    }

    fn stop(&mut self) {
        if let Some((stop, thread)) = self.printer.take() {
            drop(stop);
            // It ends by itself; a panic of it has been reported where it happened.
            let _ = thread.join();
        }
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.stop();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn note(&mut self, progress: Progress) {
        match progress {
            Progress::Connected => {
                self.advances += 1;
                if std::mem::take(&mut self.offline) {
                    self.say("the server is back".into());
                }
            }
            Progress::Offline { why } => {
                if !std::mem::replace(&mut self.offline, true) {
                    self.say(format!("the server is away, trying again: {why}"));
                }
            }
            Progress::Left(left) => {
                let left = left as u64;
                if left < self.left {
                    self.advances += 1;
                }
                self.left = left;
            }
            Progress::Received(path) => self.change(Changes::Here, '+', path),
            Progress::RemovedHere(path) => self.change(Changes::Here, '-', path),
            Progress::Sent(path) => self.change(Changes::There, '+', path),
            Progress::RemovedThere(path) => self.change(Changes::There, '-', path),
            Progress::Conflict { path, kept } => {
                self.say(format!(
                    "both sides changed {path}; the other version is {kept}"
                ));
            }
            Progress::Note(note) => self.say(note),
        }
    }

    fn change(&mut self, side: Changes, sign: char, path: FilePath) {
        self.done += 1;
        self.advances += 1;
        if self.changes == side {
            self.listed.insert(path, sign);
        }
    }

    fn say(&mut self, note: String) {
        if self.notes.len() < MAX_WAITING_NOTES {
            self.notes.push(note);
        } else {
            self.dropped += 1;
        }
    }
}

/// The thread's own: what has been printed.
struct Printer {
    bar: Option<ProgressBar>,
    pile: Pile,
}

/// What is left, for where there is no terminal: that one more file was synced is no news there, that
/// there is still much to do after a while is.
#[derive(Default)]
struct Pile {
    /// Since when there is something left and nothing was said.
    since: Option<Instant>,
    /// What was said last.
    said: u64,
}

impl Pile {
    /// A line, if there is something to say.
    fn line(&mut self, left: u64, now: Instant) -> Option<String> {
        if left == 0 {
            self.since = None;
            return None;
        }
        let since = *self.since.get_or_insert(now);
        if now < since + LINE_EVERY || left == self.said {
            return None;
        }
        (self.since, self.said) = (Some(now), left);
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        Some(format!("uspark: {} to go\n", of(left, "path")))
    }
}

impl Printer {
    fn new(changes: Changes) -> Self {
        let has_bar = changes != Changes::Counted && io::stderr().is_terminal();
        let bar = has_bar.then(|| {
            let style = ProgressStyle::with_template("{spinner} {pos}/{len} paths {wide_bar}")
                .expect("the template is valid");
            ProgressBar::new(0).with_style(style)
        });
        Self {
            bar,
            pile: Pile::default(),
        }
    }

    fn print(&mut self, state: &Mutex<State>) {
        let (done, left, notes, dropped) = {
            let mut state = lock(state);
            let notes = std::mem::take(&mut state.notes);
            (
                state.done,
                state.left,
                notes,
                std::mem::take(&mut state.dropped),
            )
        };
        let mut text: String = notes
            .iter()
            .map(|note| format!("uspark: {}\n", printable(note)))
            .collect();
        if dropped > 0 {
            text += &format!("uspark: and {}\n", of(dropped, "more message"));
        }
        match &self.bar {
            Some(bar) => {
                if !text.is_empty() {
                    bar.suspend(|| say(text));
                }
                bar.set_length(done + left);
                bar.set_position(done);
            }
            None => {
                text += &self.pile.line(left, Instant::now()).unwrap_or_default();
                say(text);
            }
        }
    }

    fn finish(&mut self, state: &Mutex<State>) {
        self.print(state);
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_of_the_side_is_listed_once_and_everything_that_moves_advances() {
        let reporter = Reporter::start(Changes::Here).unwrap();
        let sink = reporter.sink();
        sink(Progress::Left(3));
        assert_eq!(reporter.advances(), 0, "finding more to do is no advance");
        sink(Progress::Left(2));
        assert_eq!(reporter.advances(), 1);
        sink(Progress::Received("b".parse().unwrap()));
        sink(Progress::RemovedHere("a".parse().unwrap()));
        sink(Progress::Received("b".parse().unwrap()));
        let moved = reporter.advances();
        sink(Progress::Offline { why: "test".into() });
        assert_eq!(reporter.advances(), moved, "being away is no advance");
        sink(Progress::Sent("c".parse().unwrap()));
        assert!(reporter.advances() > moved);
        let listed = reporter.finish();
        let listed: Vec<_> = listed
            .iter()
            .map(|(path, sign)| (path.as_str(), *sign))
            .collect();
        assert_eq!(listed, [("a", '-'), ("b", '+')]);
    }

    #[test]
    fn a_flood_of_messages_costs_bounded_memory() {
        let mut state = State::default();
        for n in 0..10_000 {
            state.note(Progress::Note(n.to_string()));
        }
        assert_eq!(
            (state.notes.len(), state.dropped),
            (MAX_WAITING_NOTES, 9_900)
        );
    }

    #[test]
    fn without_a_terminal_only_a_pile_is_told() {
        let (mut pile, began) = (Pile::default(), Instant::now());
        let mut at = |seconds, left| pile.line(left, began + Duration::from_secs(seconds));
        // File after file, for minutes.
        for second in (0..200).step_by(2) {
            assert_eq!(at(second, 1), None);
            assert_eq!(at(second + 1, 0), None);
        }
        assert_eq!(at(300, 900), None);
        assert_eq!(at(305, 700).as_deref(), Some("uspark: 700 paths to go\n"));
        assert_eq!(at(306, 600), None);
        assert_eq!(at(310, 1).as_deref(), Some("uspark: 1 path to go\n"));
        // One that cannot be done is told once.
        assert_eq!(at(320, 1), None);
    }

    #[test]
    fn being_away_and_back_is_said_once_each() {
        let mut state = State::default();
        let away = || Progress::Offline { why: "x".into() };
        for progress in [
            Progress::Connected,
            away(),
            away(),
            Progress::Connected,
            Progress::Connected,
        ] {
            state.note(progress);
        }
        assert_eq!(state.notes.len(), 2, "{:?}", state.notes);
    }
}
