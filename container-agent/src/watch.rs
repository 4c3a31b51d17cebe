//! That something changed on disk, and where. Never what: an event only makes a path dirty.
//!
//! Owns: [`Watcher`], a thread that keeps one kernel watch per directory that is not ignored and
//! turns events into [`WatchEvent`]s. Must not do: read a file (rule files apart), compare,
//! or decide.
//!
//! Invariants
//! - A directory's watch is added before the directory is listed, and every entry of the listing is
//!   reported, to a fixpoint: whatever was made before the watch is in the listing, whatever is
//!   made after it has an event. This is what a recursive watch that only reports events misses.
//! - Events are reported in the kernel's order, so the event of a cookie file is behind those of
//!   all earlier changes (see [`WatchEvent::Cookie`]).
//! - After a lost event (overflow, unmount, no more watches) everything is listed again through
//!   the same code. Nothing is ever reported as deleted because it could not be seen.
//! - Where events do not prove enough, because some were lost or some directory cannot be watched,
//!   a cookie is reported only after a listing that began once it was put.

mod inotify;
#[cfg(test)]
pub mod limited;
#[cfg(test)]
pub mod lossy;
#[cfg(test)]
pub mod one_by_one;
mod tree;

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use tokio::sync::mpsc::Sender;
use uspark_shared::path::FilePath;

pub use self::inotify::{InotifyNotifier, watches_allowed};
use crate::disk::Root;
use crate::disk::state::StateDir;

/// What the watcher reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchEvent {
    /// These paths are to be looked at.
    Dirty(Vec<Dirty>),
    /// Everything is listed again: what could not be seen before may be seen now.
    ListingBegan,
    /// The listing is complete. What was known and not reported may be gone: it is to be looked at.
    ListingEnded,
    /// Everything before this cookie was announced has been reported.
    Cookie(String),
    /// Something that cannot be synced for its name, or a directory that cannot be looked into.
    Unseen {
        /// What of it is no UTF-8 is escaped.
        path: String,
        /// Why not.
        why: String,
    },
    /// What was here, so shown, has left, and with it all below.
    Gone(String),
    /// How many directories are watched.
    Watches(usize),
    /// Something a person should know.
    Note(String),
    /// The root was deleted, moved or unmounted. Nothing about its content is known any more.
    RootLost,
    /// The root is back; a full listing follows.
    RootBack,
    /// The directory of the cookies is gone.
    CookiesGone,
}

/// A path to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dirty {
    /// Where.
    pub path: FilePath,
    /// How soon.
    pub urgency: Urgency,
    /// The rules say it is not synced. Unless it already is, that is the end of it.
    pub ignored: bool,
    /// The kernel said that it was renamed from there.
    pub moved_from: Option<FilePath>,
}

/// How soon a path is to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// It may be on its way to something else: created, deleted, moved away, its mode changed.
    Soon,
    /// Its content is complete: closed after writing, moved here, or found in a listing.
    Now,
}

/// The kernel's name for a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WatchId(pub i32);

/// What the kernel says happened in a watched directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawEvent {
    /// Which directory; none when it is about the queue itself.
    pub watch: Option<WatchId>,
    /// What.
    pub what: What,
    /// Whether it happened to a directory.
    pub is_dir: bool,
    /// The entry, if it is about one.
    pub name: Option<OsString>,
    /// Pairs the two halves of a rename; 0 otherwise.
    pub cookie: u32,
}

#[cfg(test)]
impl RawEvent {
    /// What is in the place of events that were lost.
    fn overflow() -> Self {
        Self {
            watch: None,
            what: What::Overflow,
            is_dir: false,
            name: None,
            cookie: 0,
        }
    }
}

/// The kinds of events that we ask for, or cannot avoid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// An entry was made.
    Created,
    /// A file was closed that had been open for writing.
    Closed,
    /// An entry left.
    MovedFrom,
    /// An entry came.
    MovedTo,
    /// An entry was removed.
    Deleted,
    /// Mode, owner or times changed.
    Attributes,
    /// The directory itself was deleted or moved.
    SelfGone,
    /// The watch no longer exists.
    WatchGone,
    /// Events were lost.
    Overflow,
    /// Anything else. Nothing comes of it, but each would wake the thread: it is counted.
    Unasked,
}

/// Where events come from. The seam at which tests lose events and shorten queues.
pub trait Notifier: Send {
    /// Watches a directory. Watching it again gives the same id.
    fn add(&mut self, directory: &Path) -> io::Result<WatchId>;
    /// Stops watching. An id that is no longer known is fine.
    fn remove(&mut self, watch: WatchId);
    /// Waits until there are events, somebody calls the waker, or the time is over.
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Vec<RawEvent>>;
    /// What ends a wait from another thread.
    fn waker(&self) -> Waker;
}

/// Ends a [`Notifier::wait`].
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// A notifier that never notices anything, for a session that looks once.
pub struct NoNotifier {
    wakes: mpsc::Sender<()>,
    woken: mpsc::Receiver<()>,
}

/// Tells the watcher's thread what to do. Dropping it ends the thread.
pub struct Watcher {
    requests: mpsc::Sender<Request>,
    waker: Waker,
    events: Arc<AtomicU64>,
}

enum Request {
    /// Watch this directory although it is ignored: something in it is in the project.
    Require(FilePath),
    /// A cookie of this name is about to be put.
    Expect(String),
    /// List everything again.
    Relist,
}

impl Watcher {
    /// Starts the thread. The first thing it does is a full listing.
    ///
    /// When `events` is full the thread waits, and the kernel queues; if that overflows,
    /// everything is listed again.
    pub fn start(
        notifier: Box<dyn Notifier>,
        root: Arc<Root>,
        state: &StateDir,
        events: Sender<WatchEvent>,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let (requests, received) = mpsc::channel();
        let waker = notifier.waker();
        let cookies = state.cookies();
        let counted = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&counted);
        // Made here: whoever has a watcher may put cookies.
        let tree = tree::Tree::new(notifier, root, cookies, events, counter);
        let thread = tokio::task::spawn_blocking(move || tree.run(&received));
        let watcher = Self {
            requests,
            waker,
            events: counted,
        };
        (watcher, thread)
    }

    /// How many events of the kernel the thread has taken, those of its cookies apart.
    pub fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// Has a directory watched although it is ignored.
    pub fn require(&self, directory: FilePath) {
        self.request(Request::Require(directory));
    }

    /// Announces a cookie, which is then put: [`WatchEvent::Cookie`] follows, whether or not the
    /// kernel tells of it.
    pub fn expect(&self, cookie: &str) {
        self.request(Request::Expect(cookie.to_owned()));
    }

    /// Has everything listed again.
    pub fn relist(&self) {
        self.request(Request::Relist);
    }

    fn request(&self, request: Request) {
        // A thread that ended needs no requests.
        let _ = self.requests.send(request);
        (self.waker)();
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // The thread notices that its requests ended once it is woken: the sender goes first.
        self.requests = mpsc::channel().0;
        (self.waker)();
    }
}

impl Default for NoNotifier {
    fn default() -> Self {
        let (wakes, woken) = mpsc::channel();
        Self { wakes, woken }
    }
}

impl Notifier for NoNotifier {
    fn add(&mut self, _: &Path) -> io::Result<WatchId> {
        Ok(WatchId(0))
    }

    fn remove(&mut self, _: WatchId) {}

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Vec<RawEvent>> {
        let _ = match timeout {
            Some(timeout) => self.woken.recv_timeout(timeout).is_ok(),
            None => self.woken.recv().is_ok(),
        };
        Ok(Vec::new())
    }

    fn waker(&self) -> Waker {
        let wakes = self.wakes.clone();
        Arc::new(move || {
            // A reader that is gone needs no waking.
            let _ = wakes.send(());
        })
    }
}

#[cfg(test)]
#[allow(
    clippy::disallowed_methods,
    reason = "what is on disk is made, and looked at, from outside"
)]
mod tests;
