//! Blobs small and large, whole and cut short, granted and not.
#![allow(
    clippy::disallowed_methods,
    reason = "the tests damage files on purpose"
)]

use std::fs;
use std::path::{Path, PathBuf};

use futures_util::future::BoxFuture;
use tempfile::TempDir;

use super::*;
use crate::store::testing::TestStore;
use crate::store::{BlobFiles, DataDirectory, ProjectRecord, SqliteStore};

struct Fixture {
    temp: TempDir,
    store: TestStore,
    blobs: Blobs,
}

fn project(id: &str) -> ProjectId {
    id.parse().unwrap()
}

/// Bytes that no compression or repetition makes smaller by chance.
fn bytes(length: usize) -> Bytes {
    let mut out = vec![0; length];
    blake3::Hasher::new()
        .update(&length.to_le_bytes())
        .finalize_xof()
        .fill(&mut out);
    out.into()
}

async fn fixture_with(max_bytes: u64) -> Fixture {
    let temp = tempfile::tempdir().unwrap();
    let data = DataDirectory::open(temp.path()).unwrap();
    let store = TestStore::new(Arc::new(SqliteStore::open(&data).unwrap()));
    let committer = Committer::start(Arc::new(store.clone()));
    for id in ["p", "q"] {
        let record = ProjectRecord {
            id: project(id),
            name: None,
            created_at: 0,
        };
        committer
            .commit(vec![Write::CreateProject(record)])
            .await
            .unwrap();
    }
    let large = Arc::new(BlobFiles::open(&data).unwrap());
    let limits = BlobLimits { max_bytes };
    let blobs = Blobs::new(Arc::new(store.clone()), committer, large, limits, || 1000);
    Fixture { temp, store, blobs }
}

async fn fixture() -> Fixture {
    fixture_with(BlobLimits::default().max_bytes).await
}

/// Every file under `blobs`.
fn files(fixture: &Fixture) -> Vec<PathBuf> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found)
            } else {
                found.push(path)
            }
        }
    }
    let mut found = Vec::new();
    walk(&fixture.temp.path().join("blobs"), &mut found);
    found
}

/// Sends `content` in pieces of `piece` bytes.
async fn send(upload: &mut Upload, content: &Bytes, piece: usize) -> Result<(), BlobError> {
    for chunk in content.chunks(piece) {
        upload.write(content.slice_ref(chunk)).await?;
    }
    Ok(())
}

#[tokio::test]
async fn every_size_comes_back_byte_for_byte() {
    let fixture = fixture().await;
    let p = project("p");
    for size in [
        0,
        1,
        INLINE_BYTES - 1,
        INLINE_BYTES,
        INLINE_BYTES + 1,
        1_000_003,
    ] {
        let content = bytes(size);
        let hash = BlobHash::of(&content);
        let before = files(&fixture).len();
        let mut upload = fixture.blobs.upload(&p);
        send(&mut upload, &content, 40_001).await.unwrap();
        let stored = upload.finish(Some(hash), Some(size as u64)).await.unwrap();
        assert_eq!(
            stored,
            Stored {
                hash,
                size: size as u64,
                created: true
            }
        );
        assert_eq!(
            files(&fixture).len() - before,
            usize::from(size > INLINE_BYTES),
            "{size}"
        );

        let blob = fixture.blobs.open(Some(&p), &hash).await.unwrap().unwrap();
        assert_eq!(blob.size, size as u64);
        assert_eq!(blob.read_all().await.unwrap(), content);
        for (start, end) in [(0, 0), (0, 1), (size / 3, size / 2), (size / 2, size + 9)] {
            let chunks: Vec<Bytes> = blob
                .read(start as u64..end as u64)
                .try_collect()
                .await
                .unwrap();
            assert!(chunks.iter().all(|chunk| chunk.len() <= 128 << 10));
            assert_eq!(
                chunks.concat(),
                content[start..end.min(size)],
                "{start}..{end} of {size}"
            );
        }
        let beyond: Vec<Bytes> = blob
            .read(size as u64 + 5..u64::MAX)
            .try_collect()
            .await
            .unwrap();
        assert_eq!(beyond.concat(), b"");
    }
}

#[tokio::test]
async fn a_blob_opens_to_those_who_have_its_bytes() {
    let fixture = fixture().await;
    let (p, q) = (project("p"), project("q"));
    for content in [bytes(10), bytes(100_000)] {
        let hash = fixture.blobs.put(&p, content.clone()).await.unwrap().hash;
        assert!(fixture.blobs.has(Some(&p), &hash).await.unwrap());
        assert!(!fixture.blobs.has(Some(&q), &hash).await.unwrap());
        assert!(fixture.blobs.open(Some(&q), &hash).await.unwrap().is_none());
        assert!(fixture.blobs.open(None, &hash).await.unwrap().is_some());
        // New to q, though the server has it: q learns nothing of others.
        assert!(
            fixture
                .blobs
                .put(&q, content.clone())
                .await
                .unwrap()
                .created
        );
        assert!(
            !fixture
                .blobs
                .put(&q, content.clone())
                .await
                .unwrap()
                .created
        );
        let blob = fixture.blobs.open(Some(&q), &hash).await.unwrap().unwrap();
        assert_eq!(blob.read_all().await.unwrap(), content);
    }
    assert_eq!(files(&fixture).len(), 1);
}

#[tokio::test]
async fn a_body_that_is_not_what_was_announced_stores_nothing() {
    let fixture = fixture_with(200_000).await;
    let p = project("p");
    for content in [bytes(100), bytes(150_000)] {
        let hash = BlobHash::of(&content);
        let size = content.len() as u64;
        let upload = || async {
            let mut upload = fixture.blobs.upload(&p);
            send(&mut upload, &content, 70_000).await.unwrap();
            upload
        };
        let error = upload()
            .await
            .finish(None, Some(size + 1))
            .await
            .unwrap_err();
        assert_eq!(
            error,
            BlobError::WrongSize {
                announced: size + 1,
                received: size
            }
        );
        let other = BlobHash::of(b"other");
        let error = upload().await.finish(Some(other), None).await.unwrap_err();
        assert_eq!(
            error,
            BlobError::WrongHash {
                announced: other,
                received: hash
            }
        );
        drop(upload().await); // The body stopped, and so did the request.

        let mut too_large = upload().await;
        let error = send(&mut too_large, &bytes(200_000), 70_000)
            .await
            .unwrap_err();
        assert_eq!(error, BlobError::TooLarge { limit: 200_000 });
        drop(too_large);
        let error = fixture.blobs.put(&project("gone"), content.clone()).await;
        assert!(
            matches!(error, Err(BlobError::Commit(CommitError::Refused(_)))),
            "{error:?}"
        );
        assert!(!fixture.blobs.has(Some(&p), &hash).await.unwrap());
        assert!(!fixture.blobs.has(None, &hash).await.unwrap());
    }
    // Of the refused grant the bytes stay until they are collected; of the others nothing.
    assert_eq!(files(&fixture).len(), 1);
    assert!(!files(&fixture)[0].starts_with(fixture.temp.path().join("blobs/incoming")));
}

#[tokio::test]
async fn exactly_the_limit_is_taken() {
    let fixture = fixture_with(1000).await;
    assert!(fixture.blobs.put(&project("p"), bytes(1000)).await.is_ok());
    let error = fixture
        .blobs
        .put(&project("p"), bytes(1001))
        .await
        .unwrap_err();
    assert_eq!(error, BlobError::TooLarge { limit: 1000 });
}

#[tokio::test]
async fn nothing_is_answered_before_the_grant_is_durable() {
    let fixture = fixture().await;
    let (p, content) = (project("p"), bytes(100_000));
    let full = StoreError::Full {
        place: "the disk".into(),
    };
    fixture.store.fail_after(0, full.clone());
    let error = fixture.blobs.put(&p, content.clone()).await.unwrap_err();
    assert_eq!(
        error,
        BlobError::Commit(CommitError::Failed(Arc::new(full)))
    );
    assert!(
        !fixture
            .blobs
            .has(Some(&p), &BlobHash::of(&content))
            .await
            .unwrap()
    );
    fixture.store.heal();
    assert!(fixture.blobs.put(&p, content).await.unwrap().created);
}

#[tokio::test]
async fn bytes_that_are_gone_are_told_and_can_be_given_back() {
    let fixture = fixture().await;
    let (p, content) = (project("p"), bytes(300_000));
    let hash = fixture.blobs.put(&p, content.clone()).await.unwrap().hash;
    let blob = fixture.blobs.open(Some(&p), &hash).await.unwrap().unwrap();
    let file = files(&fixture).pop().unwrap();
    for cut in [Some(150_000), None] {
        match cut {
            Some(length) => fs::write(&file, &content[..length]).unwrap(),
            None => fs::remove_file(&file).unwrap(),
        }
        let lost = fixture.blobs.open(Some(&p), &hash).await.err();
        assert_eq!(lost, Some(BlobError::Lost(hash)));
        // One that was open already ends with an error, not early.
        assert!(blob.read_all().await.is_err());
    }
    fixture.blobs.put(&p, content.clone()).await.unwrap();
    let blob = fixture.blobs.open(Some(&p), &hash).await.unwrap().unwrap();
    assert_eq!(blob.read_all().await.unwrap(), content);
}

#[tokio::test]
async fn a_start_removes_what_a_crash_left() {
    let fixture = fixture().await;
    let hash = fixture
        .blobs
        .put(&project("p"), bytes(100_000))
        .await
        .unwrap()
        .hash;
    let stale = fixture.temp.path().join("blobs/incoming/upload-x");
    fs::write(&stale, "half a blob").unwrap();
    let Fixture { temp, store, blobs } = fixture;
    blobs.committer.close().await;
    drop((store, blobs));
    let data = DataDirectory::open(temp.path());
    let large = BlobFiles::open(&data.unwrap()).unwrap();
    assert!(!stale.exists());
    assert_eq!(large.has(&hash).await.unwrap(), Some(100_000));
}

fn full() -> StoreError {
    StoreError::Full {
        place: "the disk".into(),
    }
}

/// A disk that takes some bytes and is full then.
struct SmallDisk {
    room: usize,
}

impl LargeBlobs for SmallDisk {
    fn put(&self) -> BoxFuture<'_, Result<Box<dyn Receiving>, StoreError>> {
        let receiving = SmallDisk { room: self.room };
        Box::pin(future::ready(Ok(Box::new(receiving) as Box<dyn Receiving>)))
    }

    fn get(&self, _: &BlobHash, _: Range<u64>) -> BoxFuture<'_, io::Result<BytesStream>> {
        Box::pin(future::ready(Err(io::ErrorKind::NotFound.into())))
    }

    fn has(&self, _: &BlobHash) -> BoxFuture<'_, Result<Option<u64>, StoreError>> {
        Box::pin(future::ready(Ok(None)))
    }

    fn check(&self, size: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        let fits = size <= self.room as u64;
        Box::pin(future::ready(fits.then_some(()).ok_or_else(full)))
    }

    fn clear(&self, _: u8) -> BoxFuture<'_, Result<Option<Box<dyn Clearing>>, StoreError>> {
        Box::pin(future::ready(Ok(None)))
    }
}

impl Receiving for SmallDisk {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<(), StoreError>> {
        let fits = self.room.checked_sub(bytes.len());
        self.room = fits.unwrap_or(0);
        Box::pin(future::ready(fits.map(drop).ok_or_else(full)))
    }

    fn keep(self: Box<Self>, _: BlobHash) -> BoxFuture<'static, Result<Hold, StoreError>> {
        // Filled to the last byte, there is none left for the name.
        let kept = (self.room > 0)
            .then_some(Box::new(()) as _)
            .ok_or_else(full);
        Box::pin(future::ready(kept))
    }
}

#[tokio::test]
async fn a_full_disk_is_one_clear_error() {
    let fixture = fixture().await;
    let small = Arc::new(SmallDisk { room: 150_000 });
    let blobs = Blobs {
        large: small,
        ..fixture.blobs.clone()
    };
    let (p, content) = (project("p"), bytes(200_000));
    let error = blobs.put(&p, content.clone()).await.unwrap_err();
    assert_eq!(error, BlobError::Store(full()));
    assert!(!blobs.has(None, &BlobHash::of(&content)).await.unwrap());
    assert!(blobs.put(&p, bytes(140_000)).await.unwrap().created);
}

#[tokio::test]
async fn blobs_are_in_trouble_until_what_was_refused_would_fit() {
    let fixture = fixture().await;
    let on = |room| Blobs {
        large: Arc::new(SmallDisk { room }),
        ..fixture.blobs.clone()
    };
    let p = project("p");
    // Nothing is tried while nothing was refused.
    assert_eq!(on(0).check().await, Ok(()));
    on(150_000).put(&p, bytes(200_000)).await.unwrap_err();
    assert_eq!(on(150_000).check().await, Err(full()));
    // That smaller ones fit changes nothing.
    on(150_000).put(&p, bytes(100_000)).await.unwrap();
    assert_eq!(on(150_000).check().await, Err(full()));
    assert_eq!(on(200_000).check().await, Ok(()));
    assert_eq!(on(0).check().await, Ok(()), "it is over");

    // The same for small ones, which are in the store.
    fixture.store.fail_after(0, full());
    fixture.blobs.put(&p, bytes(1000)).await.unwrap_err();
    fixture.store.heal();
    assert_eq!(on(0).check().await, Err(full()));
    fixture.blobs.put(&p, bytes(1001)).await.unwrap();
    assert_eq!(on(0).check().await, Ok(()), "a larger one was kept");
}

#[tokio::test]
async fn room_on_a_disk_is_tried_and_given_back() {
    let fixture = fixture().await;
    let large = &fixture.blobs.large;
    large.check(8 << 20).await.unwrap();
    // More than any file may have.
    let error = large.check(i64::MAX as u64).await.unwrap_err();
    assert!(error.to_string().contains("incoming"), "{error}");
    let incoming = fs::read_dir(fixture.temp.path().join("blobs/incoming"));
    assert_eq!(incoming.unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_not_removed_before_its_row_is_there() {
    let fixture = fixture().await;
    let (blobs, p, content) = (fixture.blobs.clone(), project("p"), bytes(100_000));
    fixture.store.hold();
    let uploading = tokio::spawn({
        let (blobs, content) = (blobs.clone(), content.clone());
        async move { blobs.put(&project("p"), content).await }
    });
    tokio::task::block_in_place(|| fixture.store.wait_until_held());
    assert_eq!(files(&fixture).len(), 1);
    // Nor when nobody waits for the upload any more.
    uploading.abort();
    assert!(uploading.await.unwrap_err().is_cancelled());
    assert_eq!(blobs.sweep().await, Ok((0, false)));
    fixture.store.release();
    blobs.committer.commit(Vec::new()).await.unwrap();
    let blob = blobs.open(Some(&p), &BlobHash::of(&content)).await.unwrap();
    assert_eq!(blob.unwrap().read_all().await.unwrap(), content);
}

#[tokio::test]
async fn while_files_are_copied_none_is_removed() {
    let fixture = fixture().await;
    fixture.store.fail_after(0, full());
    fixture
        .blobs
        .put(&project("p"), bytes(100_000))
        .await
        .unwrap_err();
    fixture.store.heal();
    let copying = fs::File::open(fixture.temp.path().join("blobs")).unwrap();
    copying.lock_shared().unwrap();
    assert_eq!(fixture.blobs.sweep().await, Ok((0, false)));
    assert_eq!(files(&fixture).len(), 1);
    drop(copying);
    assert_eq!(fixture.blobs.sweep().await, Ok((1, true)));
    assert_eq!(files(&fixture).len(), 0);
}
