//! A large blob while it arrives: a file in `.uspark/incoming`, checked before anyone may use it.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;

use tempfile::{NamedTempFile, TempPath};
use uspark_shared::id::BlobHash;

use super::DiskError;
use super::state::StateDir;

/// A blob that is arriving. Dropped before [`Incoming::finish`] it leaves nothing behind.
#[derive(Debug)]
pub struct Incoming {
    file: NamedTempFile,
    hash: BlobHash,
    hasher: blake3::Hasher,
}

/// A blob that has arrived whole. Its file goes when this does.
#[derive(Debug)]
pub struct Arrived {
    path: TempPath,
}

impl Incoming {
    /// Begins to receive the blob `hash`, from its first byte.
    pub fn begin(state: &StateDir, hash: BlobHash) -> Result<Self, DiskError> {
        let directory = state.incoming();
        let file = NamedTempFile::new_in(&directory)
            .map_err(|source| failed("create a file in", directory, source))?;
        Ok(Self {
            file,
            hash,
            hasher: blake3::Hasher::new(),
        })
    }

    /// Takes the next piece.
    pub fn write(&mut self, piece: &[u8]) -> Result<(), DiskError> {
        self.hasher.update(piece);
        let written = self.file.write_all(piece);
        written.map_err(|source| failed("write", self.file.path().to_owned(), source))
    }

    /// Ends the blob. `None` if its bytes are not the ones that were asked for.
    pub fn finish(self) -> Option<Arrived> {
        let hash = BlobHash::from_bytes(*self.hasher.finalize().as_bytes());
        (hash == self.hash).then(|| Arrived {
            path: self.file.into_temp_path(),
        })
    }
}

impl Arrived {
    pub(super) fn open(&self) -> io::Result<File> {
        File::open(&self.path)
    }
}

fn failed(action: &'static str, path: PathBuf, source: io::Error) -> DiskError {
    DiskError::Io {
        action,
        path: path.display().to_string(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Root;

    #[test]
    fn only_the_right_bytes_arrive_and_nothing_stays() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(&Root::open(dir.path()).unwrap()).unwrap();
        let left = || std::fs::read_dir(state.incoming()).unwrap().count();
        let receive = |pieces: &[&[u8]]| {
            let mut incoming = Incoming::begin(&state, BlobHash::of(b"whole")).unwrap();
            pieces
                .iter()
                .for_each(|piece| incoming.write(piece).unwrap());
            incoming.finish()
        };
        assert!(receive(&[b"who"]).is_none());
        assert_eq!(left(), 0);
        let (first, second) = (
            receive(&[b"who", b"le"]).unwrap(),
            receive(&[b"whole"]).unwrap(),
        );
        assert_eq!(io::read_to_string(first.open().unwrap()).unwrap(), "whole");
        drop((first, second));
        assert_eq!(left(), 0);
    }
}
