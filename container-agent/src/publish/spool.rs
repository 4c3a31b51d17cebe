//! `.uspark/lines/<project>/<run>`: what a run said, line by line, until the server has it.
//!
//! Owns: these files. A file is locked for as long as its run writes it, or somebody sends what it
//! left. Nothing is synced to the disk: a process that is killed loses nothing, a machine that
//! loses its power the last seconds.
#![allow(
    clippy::disallowed_methods,
    reason = "the spool is no workspace file; these are its only disk accesses"
)]

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rustix::fs::{FlockOperation, flock};
use uspark_shared::id::ProjectId;

use crate::config::workspace::OWN_DIRECTORY;

/// Bytes in one batch; more than the longest line.
const BATCH_BYTES: usize = 1 << 20;
/// Lines in one batch.
const BATCH_LINES: usize = 1000;

/// Where a workspace's runs are spooled that belong to one project.
#[derive(Debug, Clone)]
pub(super) struct Spool(PathBuf);

/// The writing end of a run's file.
#[derive(Debug)]
pub(super) struct SpoolWriter {
    /// Locked.
    file: File,
    /// Bytes of whole lines.
    length: u64,
    line: Vec<u8>,
}

/// The reading end.
#[derive(Debug)]
pub(super) struct SpoolReader {
    file: File,
    path: PathBuf,
    run: String,
    /// Bytes that the server has.
    offset: u64,
    /// The number of the line there.
    next: u64,
}

/// Consecutive whole lines.
#[derive(Debug)]
pub(super) struct Batch {
    /// The number of the first; a run's first is 1.
    pub from: u64,
    /// The lines with their ends.
    pub lines: Bytes,
}

impl Spool {
    pub(super) fn of(root: &Path, project: &ProjectId) -> Self {
        Self(
            root.join(OWN_DIRECTORY)
                .join("lines")
                .join(project.as_str()),
        )
    }

    /// Makes a new run's file.
    pub(super) fn begin(&self, run: &str) -> io::Result<(SpoolWriter, SpoolReader)> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)?;
        let (path, draft) = (self.0.join(run), self.0.join(format!(".{run}")));
        let mut options = OpenOptions::new();
        let file = options
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)?;
        // Before anybody can take it for one that was left.
        flock(&file, FlockOperation::LockExclusive)?;
        fs::rename(&draft, &path)?;
        let reader = SpoolReader::new(File::open(&path)?, path, run.to_owned());
        let writer = SpoolWriter {
            file,
            length: 0,
            line: Vec::new(),
        };
        Ok((writer, reader))
    }

    /// The files of runs that nobody writes or sends; they are locked now.
    pub(super) fn left(&self) -> Vec<SpoolReader> {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        let reader = |entry: fs::DirEntry| {
            let run = entry.file_name().into_string().ok()?;
            if run.starts_with('.') {
                return None;
            }
            let file = File::open(entry.path()).ok()?;
            flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
            Some(SpoolReader::new(file, entry.path(), run))
        };
        entries.filter_map(reader).collect()
    }
}

impl SpoolWriter {
    /// Adds a line. After an error it is not there, not even a part of it.
    pub(super) fn write(&mut self, line: &str) -> io::Result<()> {
        self.line.clear();
        self.line.extend_from_slice(line.as_bytes());
        self.line.push(b'\n');
        if let Err(error) = self.file.write_all(&self.line) {
            let _ = self.file.set_len(self.length);
            return Err(error);
        }
        self.length += self.line.len() as u64;
        Ok(())
    }
}

impl SpoolReader {
    fn new(file: File, path: PathBuf, run: String) -> Self {
        Self {
            file,
            path,
            run,
            offset: 0,
            next: 1,
        }
    }

    pub(super) fn run(&self) -> &str {
        &self.run
    }

    /// The lines after those that were sent; none if there is no whole one.
    pub(super) fn batch(&self) -> io::Result<Batch> {
        let mut bytes = vec![0; BATCH_BYTES];
        let mut filled = 0;
        while filled < bytes.len() {
            let place = self.offset + filled as u64;
            match self.file.read_at(&mut bytes[filled..], place)? {
                0 => break,
                read => filled += read,
            }
        }
        bytes.truncate(filled);
        let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        let whole = ends.map(|(end, _)| end + 1).take(BATCH_LINES).last();
        bytes.truncate(whole.unwrap_or(0));
        Ok(Batch {
            from: self.next,
            lines: bytes.into(),
        })
    }

    /// The server has this batch.
    pub(super) fn sent(&mut self, batch: &Batch) {
        self.offset += batch.lines.len() as u64;
        self.next += batch.lines.iter().filter(|byte| **byte == b'\n').count() as u64;
    }

    /// The server lacks what it had: the run is sent from its first line.
    pub(super) fn begin_again(&mut self) {
        (self.offset, self.next) = (0, 1);
    }

    /// The server has all of it.
    pub(super) fn remove(self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
