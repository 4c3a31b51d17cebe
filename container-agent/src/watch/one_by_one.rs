//! A source of events that tells of each by itself, and late: whoever looks sees more than was told.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::{InotifyNotifier, Notifier, RawEvent, Waker, WatchId};

/// Splits what the kernel tells at once.
pub struct OneByOne {
    inner: InotifyNotifier,
    events: VecDeque<RawEvent>,
    between: Duration,
}

impl OneByOne {
    /// On a fresh instance of inotify, with this time between two events.
    pub fn by(between: Duration) -> Self {
        Self {
            inner: InotifyNotifier::new().unwrap(),
            events: VecDeque::new(),
            between,
        }
    }
}

impl Notifier for OneByOne {
    fn add(&mut self, directory: &Path) -> io::Result<WatchId> {
        self.inner.add(directory)
    }

    fn remove(&mut self, watch: WatchId) {
        self.inner.remove(watch);
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Vec<RawEvent>> {
        if self.events.is_empty() {
            self.events = self.inner.wait(timeout)?.into();
        } else {
            std::thread::sleep(self.between);
        }
        Ok(self.events.pop_front().into_iter().collect())
    }

    fn waker(&self) -> Waker {
        self.inner.waker()
    }
}
