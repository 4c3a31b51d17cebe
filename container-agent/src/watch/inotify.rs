//! Events from Linux' inotify.
//!
//! The mask has no OPEN, ACCESS or MODIFY: a search through the tree costs nothing, and a file is
//! looked at when it is closed, not while it is written.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::{Notifier, RawEvent, Waker, WatchId, What};

/// Room for a few thousand events with short names: one read empties a busy queue's burst.
const BUFFER_BYTES: usize = 64 << 10;

/// An inotify instance and what wakes its reader.
pub struct InotifyNotifier {
    inotify: Inotify,
    watches: HashMap<WatchId, WatchDescriptor>,
    wake: Arc<OwnedFd>,
    buffer: Vec<u8>,
}

impl InotifyNotifier {
    /// Opens an instance. Fails when this user has too many (`max_user_instances`).
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            inotify: Inotify::init()?,
            watches: HashMap::new(),
            wake: Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?),
            buffer: vec![0; BUFFER_BYTES],
        })
    }
}

impl Notifier for InotifyNotifier {
    fn add(&mut self, directory: &Path) -> io::Result<WatchId> {
        let mask = WatchMask::CLOSE_WRITE
            | WatchMask::MOVED_FROM
            | WatchMask::MOVED_TO
            | WatchMask::CREATE
            | WatchMask::DELETE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ATTRIB
            | WatchMask::ONLYDIR
            | WatchMask::DONT_FOLLOW
            | WatchMask::EXCL_UNLINK;
        let descriptor = self.inotify.watches().add(directory, mask)?;
        let id = WatchId(descriptor.get_watch_descriptor_id());
        self.watches.insert(id, descriptor);
        Ok(id)
    }

    fn remove(&mut self, watch: WatchId) {
        if let Some(descriptor) = self.watches.remove(&watch) {
            // It may be gone with its directory already.
            let _ = self.inotify.watches().remove(descriptor);
        }
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Vec<RawEvent>> {
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let mut fds = [
            PollFd::from_borrowed_fd(self.inotify.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.wake.as_fd(), PollFlags::IN),
        ];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        // Empties the counter; nothing in it is as fine as something.
        let _ = rustix::io::read(&self.wake, &mut [0u8; 8]);
        let events = match self.inotify.read_events(&mut self.buffer) {
            Ok(events) => events,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut read = Vec::new();
        for event in events {
            let what = what(event.mask);
            let watch = WatchId(event.wd.get_watch_descriptor_id());
            if what == What::WatchGone {
                self.watches.remove(&watch);
            }
            read.push(RawEvent {
                watch: (what != What::Overflow).then_some(watch),
                what,
                is_dir: event.mask.contains(EventMask::ISDIR),
                name: event.name.map(ToOwned::to_owned),
                cookie: event.cookie,
            });
        }
        Ok(read)
    }

    fn waker(&self) -> Waker {
        let wake = Arc::clone(&self.wake);
        Arc::new(move || {
            // A counter that is full has woken the reader already.
            let _ = rustix::io::write(&*wake, &1u64.to_ne_bytes());
        })
    }
}

/// How many directories the kernel lets a user watch, all processes together; none where it does not say.
pub fn watches_allowed() -> Option<u64> {
    let said = std::fs::read_to_string("/proc/sys/fs/inotify/max_user_watches").ok()?;
    said.trim().parse().ok()
}

/// The kind of an event.
fn what(mask: EventMask) -> What {
    let kinds = [
        (EventMask::Q_OVERFLOW, What::Overflow),
        (EventMask::CLOSE_WRITE, What::Closed),
        (EventMask::MOVED_TO, What::MovedTo),
        (EventMask::MOVED_FROM, What::MovedFrom),
        (EventMask::CREATE, What::Created),
        (EventMask::DELETE, What::Deleted),
        (EventMask::ATTRIB, What::Attributes),
        (EventMask::DELETE_SELF, What::SelfGone),
        (EventMask::MOVE_SELF, What::SelfGone),
        (EventMask::UNMOUNT, What::SelfGone),
        (EventMask::IGNORED, What::WatchGone),
    ];
    let kind = kinds.into_iter().find(|(bit, _)| mask.contains(*bit));
    kind.map_or(What::Unasked, |(_, what)| what)
}
