//! A source of events that loses some, as the kernel's does when its queue is full.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{InotifyNotifier, Notifier, RawEvent, Waker, WatchId};

/// Events that fit into the queue.
const QUEUE: usize = 64;
/// Of this many reads one loses what it likes, although there was room.
const LOSES: usize = 8;
/// How long the reader of one of two reads is late, so that the queue fills.
const LATE: Duration = Duration::from_millis(3);

/// Loses the end of what does not fit, and at random the end of what does. As with the kernel an
/// overflow is in the place of what was lost.
pub struct Lossy {
    inner: InotifyNotifier,
    random: fastrand::Rng,
    lost: Arc<AtomicUsize>,
}

impl Lossy {
    /// On a fresh instance of inotify.
    pub fn new(random: fastrand::Rng) -> Self {
        Self {
            inner: InotifyNotifier::new().unwrap(),
            random,
            lost: Arc::default(),
        }
    }

    /// How many events were lost so far.
    pub fn lost(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.lost)
    }
}

impl Notifier for Lossy {
    fn add(&mut self, directory: &Path) -> io::Result<WatchId> {
        self.inner.add(directory)
    }

    fn remove(&mut self, watch: WatchId) {
        self.inner.remove(watch);
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Vec<RawEvent>> {
        let mut events = self.inner.wait(timeout)?;
        if self.random.bool() && !events.is_empty() {
            std::thread::sleep(LATE);
            events.extend(self.inner.wait(Some(Duration::ZERO))?);
        }
        let mut room = QUEUE;
        if self.random.usize(..LOSES) == 0 {
            room = self.random.usize(..QUEUE);
        }
        if events.len() > room {
            self.lost.fetch_add(events.len() - room, Ordering::Relaxed);
            events.truncate(room);
            events.push(RawEvent::overflow());
        }
        Ok(events)
    }

    fn waker(&self) -> Waker {
        self.inner.waker()
    }
}
