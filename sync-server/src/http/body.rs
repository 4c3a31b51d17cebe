//! Bodies of requests: as they come, or whole up to a limit.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use uspark_shared::id::ProjectId;

use crate::blobs::Stored;
use crate::refusal::Refusal;
use crate::server::AppState;

/// Largest JSON body, in bytes: names and ids.
const JSON_BYTES: u64 = 64 << 10;
/// How long a sender may pause: clients give up sooner.
const PAUSE: Duration = Duration::from_secs(60);

/// Reads all of a body.
pub(super) async fn read(body: Body, limit: u64) -> Result<Bytes, Refusal> {
    let mut stream = body.into_data_stream();
    let Some(first) = next(&mut stream).await? else {
        return Ok(Bytes::new());
    };
    let mut all = BytesMut::from(first);
    while let Some(chunk) = next(&mut stream).await? {
        if (all.len() + chunk.len()) as u64 > limit {
            return Err(Refusal::TooLarge(limit));
        }
        all.extend_from_slice(&chunk);
    }
    if all.len() as u64 > limit {
        return Err(Refusal::TooLarge(limit));
    }
    Ok(all.freeze())
}

/// Reads JSON, whatever kind the client says it is: `curl -d` says it is a form.
pub(super) async fn json<T: DeserializeOwned>(body: Body) -> Result<T, Refusal> {
    let bytes = read(body, JSON_BYTES).await?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Refusal::Malformed(format!("the body is not the JSON wanted: {error}")))
}

/// Stores a body as a blob of the project; a body that stops early leaves nothing.
pub(super) async fn store(
    state: &AppState,
    project: &ProjectId,
    headers: &HeaderMap,
    body: Body,
) -> Result<Stored, Refusal> {
    let announced = headers.get(CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse().ok());
    let mut stream = body.into_data_stream();
    let mut upload = state.blobs.upload(project);
    while let Some(chunk) = next(&mut stream).await? {
        state.metrics.blob_received(chunk.len());
        upload.write(chunk).await?;
    }
    Ok(upload.finish(None, announced).await?)
}

async fn next(stream: &mut BodyDataStream) -> Result<Option<Bytes>, Refusal> {
    let cut = |why: String| Refusal::Malformed(format!("the body stops early: {why}"));
    match timeout(PAUSE, stream.next()).await {
        Ok(None) => Ok(None),
        Ok(Some(Ok(chunk))) => Ok(Some(chunk)),
        Ok(Some(Err(error))) => Err(cut(error.to_string())),
        Err(_) => Err(cut(format!("nothing came for {} s", PAUSE.as_secs()))),
    }
}
