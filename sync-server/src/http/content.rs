//! Sending the bytes of a blob: whole, in part, or not at all because the reader has them.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::TryStreamExt as _;
use uspark_shared::id::{BlobHash, ProjectId};

use super::headers::{etag, has_already, range};
use crate::refusal::Refusal;
use crate::server::AppState;

/// How long an answer stays true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lasts {
    /// The address names the content.
    Forever,
    /// It names something that changes: ask each time.
    NotAtAll,
}

/// Answers with a blob on behalf of `project`, or without one on behalf of the server's admin.
pub(super) async fn send(
    state: &AppState,
    project: Option<&ProjectId>,
    hash: &BlobHash,
    headers: &HeaderMap,
    lasts: Lasts,
) -> Result<Response, Refusal> {
    let blob = state.blobs.open(project, hash).await?;
    let blob = blob.ok_or(Refusal::NotFound("blob"))?;
    let mut response = if has_already(headers, hash) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let part = range(headers, hash, blob.size)?;
        let wanted = part.clone().unwrap_or(0..blob.size);
        let length = HeaderValue::from(wanted.end - wanted.start);
        let metrics = Arc::clone(&state.metrics);
        let chunks = blob.read(wanted);
        let counted = chunks.inspect_ok(move |chunk| metrics.blob_sent(chunk.len()));
        let mut response = Body::from_stream(counted).into_response();
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, length);
        if let Some(part) = part {
            let range = format!("bytes {}-{}/{}", part.start, part.end - 1, blob.size);
            let range = HeaderValue::from_str(&range).expect("numbers are ASCII");
            response.headers_mut().insert(header::CONTENT_RANGE, range);
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        }
        // Strangers' bytes: never a page of this origin.
        let kind = HeaderValue::from_static("application/octet-stream");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    };
    let cache = match lasts {
        Lasts::Forever => "private, max-age=31536000, immutable",
        Lasts::NotAtAll => "private, no-cache",
    };
    response.headers_mut().extend([
        (header::ETAG, etag(hash)),
        (header::CACHE_CONTROL, HeaderValue::from_static(cache)),
        (header::ACCEPT_RANGES, HeaderValue::from_static("bytes")),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
        // What one token may read, a cache must not give to another.
        (header::VARY, HeaderValue::from_static("authorization")),
    ]);
    Ok(response)
}
