//! `GET /api/projects/{id}/archive`: the tree as a zip.

use std::io::{self, BufWriter, Write};

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use uspark_shared::id::{BlobHash, ProjectId};

use super::audit::note;
use super::caller::{Caller, Named};
use super::{X_VERSION, zip};
use crate::access::Access;
use crate::blobs::{Blobs, BytesStream};
use crate::project::Command;
use crate::refusal::Refusal;
use crate::server::AppState;

/// Bytes that are compressed before they are sent.
const CHUNK: usize = 64 << 10;
/// Chunks that wait for a slow reader: with the buffers, under 1 MiB for each archive.
const AHEAD: usize = 8;
/// Archives at one time, in this process; more are told to come back. Each holds a thread for as
/// long as its reader reads, and reads of the store need some too.
const AT_ONCE: usize = 32;

static PLACES: Semaphore = Semaphore::const_new(AT_ONCE);

type Chunk = io::Result<Bytes>;

/// Every file as it is now, settled, with its mode; links as links; empty directories.
pub(super) async fn read(
    caller: Caller,
    State(state): State<AppState>,
    Named(id): Named<String>,
) -> Result<Response, Refusal> {
    let project = caller.project(&id, Access::Read)?;
    let busy = |_| Refusal::Unavailable("too many archives are being read".into());
    let place = PLACES.try_acquire().map_err(busy)?;
    let manifest = state.projects.ask(&project, Command::Manifest).await?;
    let version = manifest.version;
    note(
        &state,
        &caller,
        "project.read",
        Some(&project),
        format!("archive {version}"),
    );

    let (sender, receiver) = mpsc::channel(AHEAD);
    let contents = Contents {
        blobs: state.blobs,
        project,
        runtime: Handle::current(),
    };
    // The compressor blocks, and so does a slow reader. A reader that goes away ends it.
    state.tasks.spawn_blocking(move || {
        let _place = place;
        let mut out = BufWriter::with_capacity(CHUNK, Pipe(sender.clone()));
        let written = zip::write(&manifest.files, |hash| contents.open(hash), &mut out);
        if let Err(error) = written.and_then(|()| out.flush()) {
            tracing::warn!(project = %contents.project, %error, "an archive is cut");
            // So that the reader does not take what it has for the whole.
            let _ = sender.blocking_send(Err(error));
        }
    });
    let body = stream::unfold(receiver, |mut receiver| async {
        let chunk: Chunk = receiver.recv().await?;
        Some((chunk, receiver))
    });
    let name = format!("attachment; filename=\"{id}.zip\"");
    let name = HeaderValue::from_str(&name).expect("an id is letters and digits");
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/zip"),
        ),
        (header::CONTENT_DISPOSITION, name),
        (
            header::CACHE_CONTROL,
            HeaderValue::from_static("private, no-store"),
        ),
        (X_VERSION, HeaderValue::from(version)),
    ];
    Ok((headers, Body::from_stream(body)).into_response())
}

/// The reader's end of an archive, for a thread that may block.
struct Pipe(mpsc::Sender<Chunk>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the reader went away"))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A project's contents, for a thread that may block.
struct Contents {
    blobs: Blobs,
    project: ProjectId,
    runtime: Handle,
}

impl Contents {
    fn open(&self, hash: &BlobHash) -> io::Result<Chunks> {
        let opened = self
            .runtime
            .block_on(self.blobs.open(Some(&self.project), hash));
        let blob = opened.map_err(io::Error::other)?;
        let blob = blob.ok_or_else(|| io::Error::other(format!("blob {hash} is gone")))?;
        let stream = blob.read(0..blob.size).boxed();
        Ok(Chunks {
            stream,
            runtime: self.runtime.clone(),
        })
    }
}

struct Chunks {
    stream: BytesStream,
    runtime: Handle,
}

impl Iterator for Chunks {
    type Item = Chunk;

    fn next(&mut self) -> Option<Chunk> {
        self.runtime.block_on(self.stream.next())
    }
}
