//! Large blobs as files: `blobs/ab/cdef…`, named by their hash.
//!
//! Owns: the directory `blobs`. A blob is written to `blobs/incoming`, synced, renamed to its
//! name, and the directory synced: under a blob's name there is never a part of it. What a crash
//! may leave is in `incoming`, and removed at the next start.
//!
//! Who removes files holds a lock on `blobs` that no backup and no check holds, in whatever process, and
//! a lock on the directory of the files that no upload holds until its commit is over.
#![allow(
    clippy::disallowed_methods,
    reason = "this module owns the files of large blobs"
)]

use std::io::{self, Read as _, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, fs::TryLockError, io::ErrorKind};

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, TryFutureExt as _, stream};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use tempfile::TempPath;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};
use tokio::sync::{OwnedRwLockWriteGuard, RwLock};
use uspark_shared::id::BlobHash;

use super::directory::{make_directory, sync_directory};
use super::{DataDirectory, StoreError};
use crate::blobs::{BytesStream, Clearing, Hold, LargeBlobs, Receiving};

/// Most bytes that a reader holds of a file at once.
const READ_CHUNK: usize = 128 << 10;

/// Large blobs in the data directory.
#[derive(Debug)]
pub struct BlobFiles {
    root: Arc<Path>,
    places: Places,
    _directory: DataDirectory,
}

/// A lock for each directory of files, by the first byte of their hashes.
type Places = Arc<[Arc<RwLock<()>>]>;

impl BlobFiles {
    /// Opens the directory, or makes it, and removes what a crash left of uploads.
    pub fn open(directory: &DataDirectory) -> Result<Self, StoreError> {
        let root = directory.blobs();
        let open = || {
            let made = make_directory(&root)?;
            let made_incoming = make_directory(&incoming(&root))?;
            if made || made_incoming {
                sync_directory(&root)?;
                sync_directory(directory.path())?;
            }
            for stale in fs::read_dir(incoming(&root))? {
                fs::remove_file(stale?.path())?;
            }
            io::Result::Ok(())
        };
        open().map_err(|error| StoreError::io(root.display(), &error))?;
        Ok(Self {
            root: root.into(),
            places: (0..=u8::MAX).map(|_| Arc::default()).collect(),
            _directory: directory.clone(),
        })
    }

    fn path(&self, hash: &BlobHash) -> PathBuf {
        path_of(&self.root, hash)
    }
}

impl LargeBlobs for BlobFiles {
    fn put(&self) -> BoxFuture<'_, Result<Box<dyn Receiving>, StoreError>> {
        let (root, places) = (Arc::clone(&self.root), Arc::clone(&self.places));
        async move {
            let place = root.display().to_string();
            let made = blocking(move || {
                let temp = tempfile::Builder::new()
                    .prefix("upload-")
                    .tempfile_in(incoming(&root));
                temp.map(|temp| (root, temp))
            });
            let (root, temp) = made.await.map_err(|error| StoreError::io(place, &error))?;
            let (file, temp) = temp.into_parts();
            Ok(Box::new(IncomingFile {
                file: File::from_std(file),
                temp,
                root,
                places,
            }) as _)
        }
        .boxed()
    }

    fn get(&self, hash: &BlobHash, range: Range<u64>) -> BoxFuture<'_, io::Result<BytesStream>> {
        let path = self.path(hash);
        async move {
            let mut file = File::open(&path).await?;
            file.seek(SeekFrom::Start(range.start)).await?;
            let left = range.end.saturating_sub(range.start);
            Ok(stream::try_unfold((file, left), next_chunk).boxed())
        }
        .boxed()
    }

    fn check(&self, size: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        let root = Arc::clone(&self.root);
        async move {
            let place = incoming(&root).display().to_string();
            let tried = blocking(move || take_room(&incoming(&root), size)).await;
            tried.map_err(|error| StoreError::io(place, &error))
        }
        .boxed()
    }

    fn has(&self, hash: &BlobHash) -> BoxFuture<'_, Result<Option<u64>, StoreError>> {
        let path = self.path(hash);
        async move {
            match tokio::fs::metadata(&path).await {
                Ok(found) => Ok(Some(found.len())),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                Err(error) => Err(StoreError::io(path.display(), &error)),
            }
        }
        .boxed()
    }

    fn clear(&self, first: u8) -> BoxFuture<'_, Result<Option<Box<dyn Clearing>>, StoreError>> {
        let place = Arc::clone(&self.places[usize::from(first)]);
        let root = Arc::clone(&self.root);
        async move {
            let Ok(place) = place.try_write_owned() else {
                return Ok(None);
            };
            let at = root.display().to_string();
            let begun = blocking(move || Cleared::begin(root, first, place)).await;
            let begun = begun.map_err(|error| StoreError::io(at, &error))?;
            Ok(begun.map(|cleared| Box::new(cleared) as _))
        }
        .boxed()
    }
}

/// A directory of files that nobody else adds to or reads.
struct Cleared {
    root: Arc<Path>,
    blobs: Vec<BlobHash>,
    _place: OwnedRwLockWriteGuard<()>,
    /// Locked against backups and checks.
    _all: fs::File,
}

impl Cleared {
    fn begin(
        root: Arc<Path>,
        first: u8,
        place: OwnedRwLockWriteGuard<()>,
    ) -> io::Result<Option<Self>> {
        let all = fs::File::open(&root)?;
        match all.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let directory = format!("{first:02x}");
        let mut blobs = Vec::new();
        match fs::read_dir(root.join(&directory)) {
            Ok(files) => {
                for file in files {
                    let name = format!("{directory}{}", file?.file_name().display());
                    blobs.extend(name.parse::<BlobHash>());
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(Some(Self {
            root,
            blobs,
            _place: place,
            _all: all,
        }))
    }
}

impl Clearing for Cleared {
    fn blobs(&self) -> &[BlobHash] {
        &self.blobs
    }

    fn remove(
        self: Box<Self>,
        blobs: Vec<BlobHash>,
    ) -> BoxFuture<'static, Result<u64, StoreError>> {
        // The locks go where the work is: it does not end with whoever waits for it.
        let work = move || {
            for hash in &blobs {
                fs::remove_file(path_of(&self.root, hash))?;
            }
            Ok((blobs.len() as u64, self))
        };
        async move {
            let (removed, _) = blocking(work).await?;
            Ok(removed)
        }
        .map_err(|error: io::Error| StoreError::io("a large blob", &error))
        .boxed()
    }
}

/// Waits until no file is being removed, and lets none be until the answer is dropped. `None`: there is no
/// such directory.
pub(super) fn keep_all(root: &Path) -> Result<Option<fs::File>, StoreError> {
    let failed = |error: io::Error| StoreError::io(root.display(), &error);
    match fs::File::open(root) {
        Ok(all) => {
            all.lock_shared().map_err(failed)?;
            Ok(Some(all))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// Reads up to one chunk of the `left` bytes that are wanted.
async fn next_chunk((mut file, left): (File, u64)) -> io::Result<Option<(Bytes, (File, u64))>> {
    if left == 0 {
        return Ok(None);
    }
    let want = left.min(READ_CHUNK as u64);
    let mut chunk = BytesMut::with_capacity(want as usize);
    (&mut file).take(want).read_buf(&mut chunk).await?;
    if chunk.is_empty() {
        return Err(io::Error::new(
            ErrorKind::UnexpectedEof,
            "the blob's file is cut",
        ));
    }
    let left = left - chunk.len() as u64;
    Ok(Some((chunk.freeze(), (file, left))))
}

/// A file in `incoming`; dropping its path removes it.
struct IncomingFile {
    file: File,
    temp: TempPath,
    root: Arc<Path>,
    places: Places,
}

impl IncomingFile {
    fn failed(&self, error: &io::Error) -> StoreError {
        StoreError::io(self.temp.display(), error)
    }
}

impl Receiving for IncomingFile {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            let written = self.file.write_all(&bytes).await;
            written.map_err(|error| self.failed(&error))
        }
        .boxed()
    }

    fn keep(mut self: Box<Self>, hash: BlobHash) -> BoxFuture<'static, Result<Hold, StoreError>> {
        async move {
            // The last write may still be on its way; its error comes out here.
            let flushed = self.file.flush().await;
            let synced = match flushed {
                Ok(()) => self.file.sync_all().await,
                failed => failed,
            };
            synced.map_err(|error| self.failed(&error))?;
            let Self {
                temp, root, places, ..
            } = *self;
            let place = Arc::clone(&places[usize::from(hash.as_bytes()[0])]);
            let held = place.read_owned().await;
            let path = path_of(&root, &hash);
            let place = path.display().to_string();
            let kept = blocking(move || keep_file(&root, temp, &path)).await;
            kept.map_err(|error| StoreError::io(place, &error))?;
            Ok(Box::new(held) as _)
        }
        .boxed()
    }
}

/// Takes `size` bytes of the disk for a moment, without writing them where the file system can.
fn take_room(directory: &Path, size: u64) -> io::Result<()> {
    let mut file = tempfile::tempfile_in(directory)?;
    let taken = rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, size.max(1));
    match taken {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            io::copy(&mut io::repeat(1).take(size), &mut file)?;
            file.sync_all()
        }
        taken => Ok(taken?),
    }
}

fn keep_file(root: &Path, temp: TempPath, path: &Path) -> io::Result<()> {
    let directory = path.parent().unwrap_or(root);
    make_directory(directory)?;
    temp.persist(path)?;
    sync_directory(directory)?;
    // Not only when it was made just now: who made it may not have synced it yet.
    sync_directory(root)
}

/// Where uploads are under way.
pub(super) fn incoming(root: &Path) -> PathBuf {
    root.join("incoming")
}

/// The file of a blob.
pub(super) fn path_of(root: &Path, hash: &BlobHash) -> PathBuf {
    let name = hash.to_string();
    let (directory, file) = name.split_at(2);
    root.join(directory).join(file)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
}
