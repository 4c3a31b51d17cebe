//! Whether somebody is writing a file right now.
//!
//! A file that is open for writing may be half written: truncated, and its new bytes still to
//! come. Reading it then would turn a save into "delete everything, insert everything", and
//! unlinking it after a swap would lose what is still to come. The kernel knows, and says so when
//! asked for a read lease, which it grants only while nobody has the file open for writing.

#![allow(
    unsafe_code,
    reason = "fcntl leases have no safe wrapper among our dependencies"
)]

use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Chooses the signal for a broken lease; `asm-generic/fcntl.h`, not in `libc`.
const F_SETSIG: libc::c_int = 10;

/// What the kernel says about a file's writers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writers {
    /// Nobody has it open for writing.
    None,
    /// Somebody has.
    Some,
    /// This file system, or this file's owner, does not let us ask.
    Unknown,
}

/// Asks about the writers of a regular file that is open for reading only.
///
/// The lease is given back at once. A writer that comes in between waits those microseconds, and
/// its arrival is signalled as SIGURG, which does nothing by default (the default signal, SIGIO,
/// would end the process).
pub(super) fn writers(file: BorrowedFd<'_>) -> Writers {
    let fcntl = |command: libc::c_int, argument: libc::c_int| {
        // SAFETY: both commands take an int and touch no memory of ours; the descriptor is
        // borrowed, so it is open for as long as the call lasts.
        match unsafe { libc::fcntl(file.as_raw_fd(), command, argument) } {
            -1 => Err(std::io::Error::last_os_error()),
            _ => Ok(()),
        }
    };
    if fcntl(F_SETSIG, libc::SIGURG).is_err() {
        return Writers::Unknown;
    }
    match fcntl(libc::F_SETLEASE, libc::F_RDLCK) {
        Ok(()) => {
            // Closing the descriptor would give it back too; this is sooner.
            let _ = fcntl(libc::F_SETLEASE, libc::F_UNLCK);
            Writers::None
        }
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Writers::Some,
        Err(_) => Writers::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn a_writer_is_noticed_until_it_closes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let writer = File::create(&path).unwrap();
        let reader = File::open(&path).unwrap();
        let other = File::open(&path).unwrap();
        let first = writers(reader.as_fd());
        if first == Writers::Unknown {
            return; // This file system has no leases; the fallback is tested by the swap.
        }
        assert_eq!(first, Writers::Some);
        drop(writer);
        assert_eq!(writers(reader.as_fd()), Writers::None);
        drop(other);
        // The lease was given back: opening for writing does not wait for its break time.
        let began = std::time::Instant::now();
        drop(OpenOptions::new().write(true).open(&path).unwrap());
        assert!(began.elapsed() < std::time::Duration::from_secs(5));
    }
}
