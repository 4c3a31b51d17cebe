//! Lets a client whose request is refused finish sending it.
//!
//! A connection that is closed while its client still sends is reset, and the client, deep in an
//! upload, sees that and not the 401 it should act on. So what is left of the body is read and
//! thrown away for a while before the answer goes out.

use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::header::EXPECT;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::timeout;

/// How long a refused client may go on sending.
const PATIENCE: Duration = Duration::from_secs(10);

/// Wraps every request.
pub(super) async fn linger(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    // Such a client waits for a word before it sends, and the refusal is one.
    let waits = request.headers().contains_key(EXPECT);
    let (parts, body) = request.into_parts();
    let body = Shared(Arc::new(Mutex::new(Inner {
        body,
        is_begun: false,
    })));
    let request = Request::from_parts(parts, Body::new(body.clone()));
    let response = next.run(request).await;
    let status = response.status();
    if (status.is_client_error() || status.is_server_error()) && (body.lock().is_begun || !waits) {
        // Whoever sends for longer than that is cut off.
        let _ = timeout(PATIENCE, body.drain()).await;
    }
    response
}

/// A body that its handler and the wrapper both hold. They never read at the same time.
#[derive(Clone)]
struct Shared(Arc<Mutex<Inner>>);

struct Inner {
    body: Body,
    is_begun: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn drain(self) {
        let mut body = pin!(self);
        while let Some(Ok(_)) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {}
    }
}

impl HttpBody for Shared {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut inner = self.lock();
        inner.is_begun = true;
        Pin::new(&mut inner.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.lock().body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.lock().body.size_hint()
    }
}
