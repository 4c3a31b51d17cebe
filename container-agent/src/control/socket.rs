//! The socket's file: where it is, how it comes to be there, and lines over it.
#![allow(
    clippy::disallowed_methods,
    reason = "the socket's file is no workspace file; this module alone makes and removes it"
)]

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde::Serialize;
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
};
use tokio::net::{UnixListener, UnixStream};

use crate::config::workspace::OWN_DIRECTORY;

const NAME: &str = "agent.sock";

/// The directory of a socket, held open. A socket's address has room for 107 bytes of path, less
/// than many a workspace's; through the descriptor every path is short.
#[derive(Debug)]
pub(super) struct Directory(OwnedFd);

impl Directory {
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(root.join(OWN_DIRECTORY), flags, Mode::empty())?;
        Ok(Self(opened))
    }

    fn path(&self, name: &str) -> PathBuf {
        format!("/proc/self/fd/{}/{name}", self.0.as_raw_fd()).into()
    }
}

/// Listens in a workspace's directory. Only the holder of the workspace's lock may: whatever
/// socket is there belongs to a process that has ended, and is replaced.
pub(super) fn listen(directory: &Directory) -> io::Result<UnixListener> {
    // Nobody can connect before the permissions are right: it gets its name after them.
    let unnamed = directory.path(&format!("{NAME}.{}", std::process::id()));
    remove_if_there(&unnamed)?;
    let listener = UnixListener::bind(&unnamed)?;
    std::fs::set_permissions(&unnamed, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&unnamed, directory.path(NAME))?;
    Ok(listener)
}

/// Connects to the agent of the workspace at `root`; `None` when none listens.
pub(super) async fn connect(root: &Path) -> io::Result<Option<UnixStream>> {
    use io::ErrorKind::{ConnectionRefused, NotFound};

    let connected = match Directory::open(root) {
        Ok(directory) => UnixStream::connect(directory.path(NAME)).await,
        Err(error) => Err(error),
    };
    match connected {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if matches!(error.kind(), NotFound | ConnectionRefused) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Takes the socket's name away, while the workspace's lock is still held.
pub(super) fn remove(directory: &Directory) -> io::Result<()> {
    remove_if_there(&directory.path(NAME))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Reads the next line, at most `limit` bytes; `None` at the end of the stream.
pub(super) async fn read_line(
    reader: &mut (impl AsyncBufRead + Unpin),
    limit: u64,
) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    reader.take(limit + 1).read_until(b'\n', &mut line).await?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) if line.len() as u64 >= limit => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a line of more than {limit} bytes"),
        )),
        // The peer ended within a line.
        Some(_) => Ok(None),
    }
}

/// Writes `message` as one line.
pub(super) async fn write_line(
    writer: &mut (impl AsyncWrite + Unpin),
    message: &impl Serialize,
) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    writer.write_all(&line).await
}
