//! The watcher's thread: which directories are watched, and what their events mean.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::Sender;
use uspark_shared::path::{FilePath, PathError};

use super::{Dirty, Notifier, RawEvent, Request, Urgency, WatchEvent, WatchId, What};
use crate::disk::{Kind, Root};
use crate::rules::{Rules, is_rule_file};

/// How often everything is listed while some directories cannot be watched, and how often it is
/// looked whether the root is there.
const POLL: Duration = Duration::from_secs(2);
/// Halves of renames that are remembered; the other half is next in the queue, or nearly.
const HALF_RENAMES: usize = 64;
/// Paths reported in one event at most, so that a listing is worked on while it goes on.
const BATCH: usize = 256;

/// Whoever took our events is gone, or nobody requests anything any more.
struct Ended;

/// What is not synced although somebody will miss it, as [`WatchEvent::Unseen`] says it.
struct Unseen {
    path: String,
    why: String,
}

pub(super) struct Tree {
    notifier: Box<dyn Notifier>,
    root: Arc<Root>,
    cookies: PathBuf,
    events: Sender<WatchEvent>,
    rules: Rules,
    /// The root is `None`.
    directories: HashMap<WatchId, Option<FilePath>>,
    watches: HashMap<Option<FilePath>, WatchId>,
    cookie_watch: Option<WatchId>,
    /// Cookies announced and not reported.
    expected: Vec<String>,
    /// Cookies announced until now may have been put while they were not watched.
    cookies_missed: bool,
    /// Directories that hold something of the project although they are ignored.
    required: HashSet<FilePath>,
    half_renames: VecDeque<(u32, FilePath)>,
    /// Reported with the next event.
    dirty: Vec<Dirty>,
    /// Some directory could not be watched, or events were lost: changes are found by listing.
    uncovered: bool,
    /// That was said.
    told_uncovered: bool,
    lost: bool,
    /// When it is looked again whether the root is there, and listed what is not covered.
    next_poll: Instant,
    /// Watches when they were last reported.
    told_watches: usize,
    /// How many events were taken, those of cookies apart.
    counted: Arc<AtomicU64>,
}

impl Tree {
    pub(super) fn new(
        notifier: Box<dyn Notifier>,
        root: Arc<Root>,
        cookies: PathBuf,
        events: Sender<WatchEvent>,
        counted: Arc<AtomicU64>,
    ) -> Self {
        let mut tree = Self {
            notifier,
            root,
            cookies,
            events,
            rules: Rules::default(),
            directories: HashMap::new(),
            watches: HashMap::new(),
            cookie_watch: None,
            expected: Vec::new(),
            cookies_missed: false,
            required: HashSet::new(),
            half_renames: VecDeque::new(),
            dirty: Vec::new(),
            uncovered: false,
            told_uncovered: false,
            lost: false,
            next_poll: Instant::now(),
            told_watches: 0,
            counted,
        };
        tree.watch_cookies();
        tree.cookies_missed = tree.cookie_watch.is_none();
        tree
    }

    pub(super) fn run(mut self, requests: &Receiver<Request>) {
        // Its only end is that one side is gone, and then there is nobody to tell.
        let _ = self.run_to_end(requests);
    }

    fn run_to_end(&mut self, requests: &Receiver<Request>) -> Result<(), Ended> {
        self.list_all()?;
        loop {
            let left = self.next_poll.saturating_duration_since(Instant::now());
            let events = self.notifier.wait(Some(left));
            self.serve_all(requests)?;
            let events = match events {
                Ok(events) => {
                    self.count(&events);
                    events
                }
                Err(error) => {
                    self.uncovered = true;
                    self.note(format!("changes are found by listing: {error}"))?;
                    std::thread::sleep(POLL);
                    Vec::new()
                }
            };
            let is_due = Instant::now() >= self.next_poll;
            if is_due {
                self.next_poll = Instant::now() + POLL;
            }
            if self.lost {
                self.look_for_root()?;
            } else if (events.is_empty() || is_due) && !self.root.is_there() {
                // The kernel does not say so of a directory that is held open, or covered by a mount.
                self.lose_root()?;
            } else {
                self.take(events)?;
                // However much goes on where it is watched.
                if is_due && self.uncovered && !self.lost {
                    self.list_all()?;
                }
            }
        }
    }

    fn serve_all(&mut self, requests: &Receiver<Request>) -> Result<(), Ended> {
        let mut relist = false;
        loop {
            match requests.try_recv() {
                Ok(Request::Relist) => relist = true,
                Ok(Request::Expect(cookie)) => {
                    self.expected.push(cookie);
                    relist |= self.cookies_missed;
                }
                Ok(Request::Require(directory)) => self.require(directory)?,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Err(Ended),
            }
        }
        // What is announced from here on is put while it is watched.
        self.cookies_missed = self.cookie_watch.is_none();
        // A lost root is listed when it is back.
        match relist && !self.lost {
            true => self.list_all(),
            false => Ok(()),
        }
    }

    fn require(&mut self, directory: FilePath) -> Result<(), Ended> {
        let mut needed: Vec<FilePath> = directory.ancestors().collect();
        needed.reverse();
        needed.push(directory);
        for directory in needed {
            if self.required.insert(directory.clone())
                && !self.watches.contains_key(&Some(directory.clone()))
            {
                self.list(Some(directory), None)?;
            }
        }
        self.flush()
    }

    fn count(&self, events: &[RawEvent]) {
        let of_cookies =
            |event: &&RawEvent| event.watch.is_some() && event.watch == self.cookie_watch;
        let others = events.len() - events.iter().filter(of_cookies).count();
        self.counted.fetch_add(others as u64, Ordering::Relaxed);
    }

    fn take(&mut self, events: Vec<RawEvent>) -> Result<(), Ended> {
        let (mut overflown, mut relist) = (false, false);
        for event in events {
            match (event.what, event.watch) {
                (What::Overflow, _) | (_, None) => {
                    overflown = true;
                    // Nor do the events behind it prove enough.
                    self.uncovered = true;
                }
                (_, Some(watch)) if Some(watch) == self.cookie_watch => {
                    relist |= self.cookie_event(event)?;
                }
                (What::Unasked, _) => {}
                (What::WatchGone, Some(watch)) => self.forget(watch),
                (What::SelfGone, Some(watch)) => {
                    let is_root = self.directories.get(&watch) == Some(&None);
                    if is_root && !self.root.is_there() {
                        return self.lose_root();
                    }
                }
                (_, Some(watch)) => {
                    let directory = self.directories.get(&watch).cloned();
                    if let (Some(directory), Some(name)) = (directory, event.name.clone()) {
                        self.entry_changed(directory, &name, &event)?;
                    }
                }
            }
        }
        if overflown {
            self.note("events were lost: everything is listed again".into())?;
        }
        if overflown || relist {
            self.list_all()?;
        }
        self.flush()
    }

    /// Reports a cookie if its event proves enough. Gives whether a listing is needed instead.
    fn cookie_event(&mut self, event: RawEvent) -> Result<bool, Ended> {
        match (event.what, event.name) {
            // Not its closing: a process that is just being forked holds every file open for a
            // moment, and once the cookie is removed its closing is no longer reported.
            (What::Created, Some(name)) => {
                let at = self.expected.iter().position(|cookie| *name == **cookie);
                if let (Some(at), false) = (at, self.uncovered) {
                    let cookie = self.expected.remove(at);
                    self.flush()?;
                    self.send(WatchEvent::Cookie(cookie))?;
                }
                Ok(at.is_some() && self.uncovered)
            }
            (What::WatchGone, _) => {
                self.cookie_watch = None;
                self.cookies_missed = true;
                self.send(WatchEvent::CookiesGone)?;
                Ok(!self.expected.is_empty())
            }
            _ => Ok(false),
        }
    }

    fn entry_changed(
        &mut self,
        directory: Option<FilePath>,
        name: &OsStr,
        event: &RawEvent,
    ) -> Result<(), Ended> {
        let came = matches!(event.what, What::Created | What::MovedTo);
        let left = matches!(event.what, What::Deleted | What::MovedFrom);
        let path = match path_of(directory.as_ref(), name) {
            Ok(path) => path,
            Err(None) => return Ok(()),
            Err(Some(unnamed)) if left => return self.send(WatchEvent::Gone(unnamed.path)),
            Err(Some(unnamed)) => return self.unseen(unnamed),
        };
        let ignored = self.rules.is_ignored(&path, event.is_dir);
        let moved_from = self.pair(event, &path);
        if event.is_dir {
            if left {
                self.unwatch(&path);
                self.send(WatchEvent::Gone(path.to_string()))?;
            }
            if came && self.is_wanted(&path, ignored) {
                self.report(path.clone(), Urgency::Soon, ignored, moved_from.clone());
                return self.list(Some(path), moved_from);
            }
        } else if is_rule_file(path.name()) && self.rules.load(&self.root, directory.as_ref()) {
            // What was ignored may not be any more, and has no watches yet.
            self.list(directory, None)?;
        }
        let urgency = match event.what {
            What::Closed | What::MovedTo => Urgency::Now,
            _ => Urgency::Soon,
        };
        self.report(path, urgency, ignored, moved_from);
        Ok(())
    }

    /// Remembers one half of a rename, or finds it for the other.
    fn pair(&mut self, event: &RawEvent, path: &FilePath) -> Option<FilePath> {
        match event.what {
            What::MovedFrom => {
                self.half_renames.truncate(HALF_RENAMES - 1);
                self.half_renames.push_front((event.cookie, path.clone()));
                None
            }
            What::MovedTo => {
                let half = |(cookie, _): &(u32, FilePath)| *cookie == event.cookie;
                let at = self.half_renames.iter().position(half)?;
                self.half_renames.remove(at).map(|(_, from)| from)
            }
            _ => None,
        }
    }

    fn list_all(&mut self) -> Result<(), Ended> {
        if !self.root.is_there() {
            return self.lose_root();
        }
        self.uncovered = false;
        self.watch_cookies();
        self.flush()?;
        self.send(WatchEvent::ListingBegan)?;
        self.list(None, None)?;
        self.flush()?;
        self.send(WatchEvent::ListingEnded)?;
        self.told_uncovered &= self.uncovered;
        self.next_poll = Instant::now() + POLL;
        // They were put before it began.
        for cookie in std::mem::take(&mut self.expected) {
            self.send(WatchEvent::Cookie(cookie))?;
        }
        Ok(())
    }

    fn watch_cookies(&mut self) {
        if self.cookie_watch.is_none() {
            self.cookies_missed = true;
            self.cookie_watch = self.notifier.add(&self.cookies).ok();
        }
    }

    /// Watches and lists a directory and all that are wanted below it; reports every entry.
    fn list(
        &mut self,
        directory: Option<FilePath>,
        moved_from: Option<FilePath>,
    ) -> Result<(), Ended> {
        let top = directory.clone();
        let mut left = vec![directory];
        while let Some(directory) = left.pop() {
            self.watch(directory.as_ref())?;
            let listed = match self.root.list(directory.as_ref()) {
                Ok(Some(listed)) => listed,
                // Gone again: its parent's event says so.
                Ok(None) => continue,
                Err(error) => {
                    let path = directory.map_or(".".into(), String::from);
                    let why = error.to_string();
                    self.unseen(Unseen { path, why })?;
                    continue;
                }
            };
            if listed
                .iter()
                .any(|entry| entry.name.to_str().is_some_and(is_rule_file))
                || self.rules.has(directory.as_ref())
            {
                self.rules.load(&self.root, directory.as_ref());
            }
            for entry in listed {
                let path = match path_of(directory.as_ref(), &entry.name) {
                    Ok(path) => path,
                    Err(unnamed) => {
                        unnamed.map_or(Ok(()), |unnamed| self.unseen(unnamed))?;
                        continue;
                    }
                };
                let is_dir = entry.kind == Kind::Dir;
                let ignored = self.rules.is_ignored(&path, is_dir);
                if is_dir && !self.is_wanted(&path, ignored) {
                    continue;
                }
                let from = match (&moved_from, &top) {
                    (Some(from), Some(to)) => path.moved(to, from),
                    _ => None,
                };
                // A directory that was just made is probably not going to stay empty.
                let urgency = if is_dir { Urgency::Soon } else { Urgency::Now };
                self.report(path.clone(), urgency, ignored, from);
                if is_dir {
                    left.push(Some(path));
                }
                if self.dirty.len() >= BATCH {
                    self.flush()?;
                }
            }
        }
        Ok(())
    }

    fn is_wanted(&self, directory: &FilePath, ignored: bool) -> bool {
        !ignored || self.required.contains(directory)
    }

    fn place(&self, directory: Option<&FilePath>) -> PathBuf {
        match directory {
            Some(directory) => self.root.path().join(directory.as_str()),
            None => self.root.path().to_owned(),
        }
    }

    fn watch(&mut self, directory: Option<&FilePath>) -> Result<(), Ended> {
        match self.notifier.add(&self.place(directory)) {
            Ok(watch) => {
                let key = directory.cloned();
                // The kernel reuses neither ids nor, under one id, directories: an id that we
                // have under another path is a directory that was renamed.
                if let Some(before) = self.directories.insert(watch, key.clone())
                    && before != key
                    && self.watches.get(&before) == Some(&watch)
                {
                    self.watches.remove(&before);
                }
                self.watches.insert(key, watch);
                Ok(())
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(())
            }
            // The listing will say that it cannot be read.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            Err(error) => {
                self.uncovered = true;
                if !std::mem::replace(&mut self.told_uncovered, true) {
                    self.note(format!(
                        "not every directory can be watched ({error}); changes are found by \
                         listing every {} s. hint: raise fs.inotify.max_user_watches",
                        POLL.as_secs()
                    ))?;
                }
                Ok(())
            }
        }
    }

    /// Ends the watches of a directory that left, and of all below it. By now others may be at
    /// their paths, which a listing has found and watches: those stay.
    fn unwatch(&mut self, directory: &FilePath) {
        let below = |watched: &Option<FilePath>| {
            watched
                .as_ref()
                .is_some_and(|w| w == directory || w.is_below(directory))
        };
        let gone: Vec<_> = self
            .watches
            .iter()
            .filter(|(d, _)| below(d))
            .map(|(path, w)| (self.place(path.as_ref()), *w))
            .collect();
        for (place, watch) in gone {
            match self.notifier.add(&place) {
                Ok(there) if there == watch => continue,
                // It is not listed yet: its own event does that.
                Ok(there) if !self.directories.contains_key(&there) => self.notifier.remove(there),
                _ => {}
            }
            self.notifier.remove(watch);
            self.forget(watch);
        }
    }

    fn forget(&mut self, watch: WatchId) {
        if let Some(directory) = self.directories.remove(&watch)
            && self.watches.get(&directory) == Some(&watch)
        {
            self.watches.remove(&directory);
        }
    }

    fn lose_root(&mut self) -> Result<(), Ended> {
        self.lost = true;
        self.dirty.clear();
        let watches: Vec<WatchId> = self.directories.drain().map(|(watch, _)| watch).collect();
        for watch in watches.into_iter().chain(self.cookie_watch.take()) {
            self.notifier.remove(watch);
        }
        self.watches.clear();
        self.send(WatchEvent::RootLost)
    }

    fn look_for_root(&mut self) -> Result<(), Ended> {
        if !self.root.is_there() {
            return Ok(());
        }
        self.lost = false;
        self.send(WatchEvent::RootBack)?;
        self.list_all()
    }

    fn report(
        &mut self,
        path: FilePath,
        urgency: Urgency,
        ignored: bool,
        moved_from: Option<FilePath>,
    ) {
        self.dirty.push(Dirty {
            path,
            urgency,
            ignored,
            moved_from,
        });
    }

    fn flush(&mut self) -> Result<(), Ended> {
        let watches = self.watches.len();
        if std::mem::replace(&mut self.told_watches, watches) != watches {
            self.send(WatchEvent::Watches(watches))?;
        }
        if self.dirty.is_empty() {
            return Ok(());
        }
        let dirty = std::mem::take(&mut self.dirty);
        self.send(WatchEvent::Dirty(dirty))
    }

    fn unseen(&mut self, Unseen { path, why }: Unseen) -> Result<(), Ended> {
        self.send(WatchEvent::Unseen { path, why })
    }

    fn note(&mut self, note: String) -> Result<(), Ended> {
        self.send(WatchEvent::Note(note))
    }

    fn send(&self, event: WatchEvent) -> Result<(), Ended> {
        self.events.blocking_send(event).map_err(|_| Ended)
    }
}

/// The path of an entry. What is never synced has none, nor has what cannot be named, of which only
/// the latter is worth a word.
fn path_of(directory: Option<&FilePath>, name: &OsStr) -> Result<FilePath, Option<Unseen>> {
    let mut whole = OsString::new();
    if let Some(directory) = directory {
        whole.push(directory.as_str());
        whole.push("/");
    }
    whole.push(name);
    let why = match whole.to_str() {
        None => "its name is not UTF-8".to_owned(),
        Some(path) => match path.parse() {
            Ok(path) => return Ok(path),
            Err(PathError::Reserved(_)) => return Err(None),
            Err(error) => error.to_string(),
        },
    };
    let path = shown(&whole);
    Err(Some(Unseen { path, why }))
}

/// A name with what is no UTF-8 escaped, so that two names are never shown as one.
fn shown(name: &OsStr) -> String {
    let chunks = name.as_encoded_bytes().utf8_chunks();
    let parts = chunks.map(|chunk| format!("{}{}", chunk.valid(), chunk.invalid().escape_ascii()));
    parts.collect()
}
