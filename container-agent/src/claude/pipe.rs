//! File descriptors to copy between: patient ones, and an input that can be told to end.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// An input that ends when its writers are gone, or some time after it is told to.
///
/// A background process that a command leaves behind keeps the command's output open for ever. So
/// once stopped, all that was written before is still read, and what comes within the grace after
/// that; then the input ends.
#[derive(Debug)]
pub struct Tap {
    input: OwnedFd,
    stop: PipeReader,
    grace: Duration,
    state: State,
}

/// Stops its [`Tap`] when dropped.
#[derive(Debug)]
pub struct Stopper {
    _open: PipeWriter,
}

#[derive(Debug)]
enum State {
    Open,
    /// Told to end: this many bytes had been written before and are still to be read.
    Draining {
        left: u64,
    },
    /// Read on until then.
    Ending {
        at: Instant,
    },
}

/// An output that waits when it is full, also when somebody has made it non-blocking: Node.js does
/// that to the pipes it shares.
#[derive(Debug)]
pub struct Outlet(OwnedFd);

impl Tap {
    /// Reads from `input`; after the stop, at most `grace` longer than what was there already.
    pub fn new(input: impl Into<OwnedFd>, grace: Duration) -> io::Result<(Self, Stopper)> {
        let (stop, open) = io::pipe()?;
        let tap = Self {
            input: input.into(),
            stop,
            grace,
            state: State::Open,
        };
        Ok((tap, Stopper { _open: open }))
    }

    /// Reads from this process's standard input.
    pub fn stdin(grace: Duration) -> io::Result<(Self, Stopper)> {
        Self::new(io::stdin().as_fd().try_clone_to_owned()?, grace)
    }

    /// Waits until there is something to read; `false` when it is time to end.
    fn wait(&mut self) -> io::Result<bool> {
        loop {
            let timeout = match self.state {
                State::Open => None,
                State::Draining { .. } => Some(Duration::ZERO),
                State::Ending { at } => Some(at.saturating_duration_since(Instant::now())),
            };
            let timeout = timeout
                .map(|time| Timespec::try_from(time).expect("a grace is seconds, not centuries"));
            let mut watched = [
                PollFd::new(&self.input, PollFlags::IN),
                PollFd::new(&self.stop, PollFlags::IN),
            ];
            // Once stopped, the stop is always ready and no longer asked for.
            let asked = if matches!(self.state, State::Open) {
                2
            } else {
                1
            };
            match poll(&mut watched[..asked], timeout.as_ref()) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            let [input, stop] = watched.map(|fd| !fd.revents().is_empty());
            match self.state {
                State::Open if stop => {
                    let left = rustix::io::ioctl_fionread(&self.input).unwrap_or(0);
                    self.state = State::Draining { left };
                }
                State::Draining { left } if left == 0 || !input => {
                    let at = Instant::now() + self.grace;
                    self.state = State::Ending { at };
                }
                State::Ending { at } if Instant::now() >= at => return Ok(false),
                _ if input => return Ok(true),
                _ => {}
            }
        }
    }
}

impl Read for Tap {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.wait()? {
                return Ok(0);
            }
            match rustix::io::read(&self.input, &mut *buffer) {
                // Another process that shares the descriptor was faster.
                Err(Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
                Ok(read) => {
                    if let State::Draining { left } = &mut self.state {
                        *left = left.saturating_sub(read as u64);
                    }
                    return Ok(read);
                }
            }
        }
    }
}

impl Outlet {
    /// Writes to this process's standard output, with no buffer between.
    pub fn stdout() -> io::Result<Self> {
        Ok(Self(io::stdout().as_fd().try_clone_to_owned()?))
    }
}

impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match rustix::io::write(&self.0, bytes) {
                Err(Errno::AGAIN) => {
                    let mut watched = [PollFd::new(&self.0, PollFlags::OUT)];
                    match poll(&mut watched, None) {
                        Ok(_) | Err(Errno::INTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                Err(error) => return Err(error.into()),
                Ok(written) => return Ok(written),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(60);

    fn read_all(mut tap: Tap) -> Vec<u8> {
        let mut bytes = Vec::new();
        tap.read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn an_input_ends_with_its_last_writer() {
        let (input, mut writer) = io::pipe().unwrap();
        let (tap, _stopper) = Tap::new(input, LONG).unwrap();
        let reader = thread::spawn(|| read_all(tap));
        writer.write_all(b"one").unwrap();
        drop(writer);
        assert_eq!(reader.join().unwrap(), b"one");
    }

    #[test]
    fn a_stopped_input_still_gives_what_was_written_before() {
        let (input, mut writer) = io::pipe().unwrap();
        let (tap, stopper) = Tap::new(input, SHORT).unwrap();
        writer.write_all(&[b'x'; 50_000]).unwrap();
        drop(stopper);
        // The writer stays open, as a process in the background would hold it.
        assert_eq!(read_all(tap).len(), 50_000);
    }

    #[test]
    fn a_stop_ends_a_read_that_waits() {
        let (input, _writer) = io::pipe().unwrap();
        let (tap, stopper) = Tap::new(input, SHORT).unwrap();
        let reader = thread::spawn(|| read_all(tap));
        drop(stopper);
        assert_eq!(reader.join().unwrap(), b"");
    }

    #[test]
    fn a_writer_that_never_pauses_does_not_hold_a_stopped_input() {
        let (input, mut writer) = io::pipe().unwrap();
        let (tap, stopper) = Tap::new(input, SHORT).unwrap();
        let chatter = thread::spawn(move || while writer.write_all(b"chatter").is_ok() {});
        drop(stopper);
        read_all(tap);
        chatter.join().unwrap();
    }

    #[test]
    fn the_end_of_a_stopped_input_comes_at_once_when_its_writers_are_gone() {
        let (input, writer) = io::pipe().unwrap();
        let (tap, stopper) = Tap::new(input, LONG).unwrap();
        drop((stopper, writer));
        assert_eq!(read_all(tap), b"");
    }

    #[test]
    fn a_full_non_blocking_output_is_waited_for() {
        let (mut reader, writer) = io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let mut outlet = Outlet(writer.into());
        let sender = thread::spawn(move || outlet.write_all(&[b'x'; 1_000_000]));
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len(), 1_000_000);
        sender.join().unwrap().unwrap();
    }
}
