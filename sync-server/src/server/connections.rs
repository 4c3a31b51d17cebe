//! Accepting connections, and ending them.
//!
//! One task a connection, which also shakes hands. When the server stops, idle connections close at
//! once, those with a request under way after it, and what is still there after a while is dropped.
//!
//! Invariants: a connection has its place, and is counted, until its last byte: also when it has
//! become a socket. One whose peer takes nothing of what is to be sent ends, whatever is sent.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::tls::Tls;
use crate::metrics::{Held, Metrics};

/// How long a head may take to come, and a connection may idle: longer than clients keep
/// theirs (reqwest 90 s), so that it is they who close.
const HEAD: Duration = Duration::from_secs(120);
/// How long to wait when no connection can be accepted: mostly files have run out.
const BREATH: Duration = Duration::from_millis(250);
/// Connections over the limit that are told so at a time. More are dropped without a word.
const TURNED_AWAY: usize = 256;

/// What connections are served with.
pub(super) struct Serving {
    router: Router,
    full: Router,
    tls: Option<Arc<Tls>>,
    metrics: Arc<Metrics>,
    /// How long a peer may take nothing.
    stalled: Duration,
    places: Arc<Semaphore>,
    turned_away: Arc<Semaphore>,
}

/// Whether the server ends, and how.
#[derive(Clone)]
struct Ending {
    stopping: CancellationToken,
    abandoned: CancellationToken,
}

/// A connection with its place.
struct Placed {
    stream: TcpStream,
    /// How long a peer may take nothing.
    patience: Duration,
    /// Until when it may, while it takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
    _counted: Held,
}

impl Serving {
    /// Serves `router` on up to `places` connections, and `full` on those that are too many; each ends when
    /// its peer takes nothing for as long as `stalled`.
    pub fn new(
        router: Router,
        full: Router,
        places: usize,
        stalled: Duration,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            router,
            full,
            tls: None,
            metrics,
            stalled,
            places: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
            turned_away: Arc::new(Semaphore::new(TURNED_AWAY)),
        }
    }

    /// The same over TLS.
    pub fn over(self, tls: Option<Arc<Tls>>) -> Self {
        Self { tls, ..self }
    }

    /// Gives a connection its place, and what it is served with.
    fn place(&self, stream: TcpStream) -> Option<(Placed, Router)> {
        let place = |of: &Arc<Semaphore>| Arc::clone(of).try_acquire_owned().ok();
        let (place, router) = match place(&self.places) {
            Some(place) => (place, &self.router),
            None => (place(&self.turned_away)?, &self.full),
        };
        let placed = Placed {
            stream,
            patience: self.stalled,
            stalled: None,
            _place: place,
            _counted: self.metrics.connection(),
        };
        Some((placed, router.clone()))
    }
}

/// Cuts a request's connection off: for an answer that is to end though nobody reads it.
#[derive(Debug, Clone, Default)]
pub(crate) struct CutOff(CancellationToken);

impl CutOff {
    /// Cuts.
    pub(crate) fn cut(&self) {
        self.0.cancel();
    }

    /// Whether it was cut.
    #[cfg(test)]
    pub(crate) fn is_cut(&self) -> bool {
        self.0.is_cancelled()
    }
}

/// Serves until `stopping`, and `drain` longer what is under way then.
pub(super) async fn accept(
    listener: TcpListener,
    serving: Serving,
    stopping: CancellationToken,
    drain: Duration,
) {
    let connections = TaskTracker::new();
    let ending = Ending {
        stopping,
        abandoned: CancellationToken::new(),
    };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = ending.stopping.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => match serving.place(stream) {
                Some((placed, router)) => {
                    let tls = serving.tls.clone();
                    connections.spawn(serve(placed, tls, router, ending.clone()));
                }
                None => serving.metrics.connection_dropped(),
            },
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                sleep(BREATH).await;
            }
        }
    }
    drop(listener);
    connections.close();
    if timeout(drain, connections.wait()).await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "requests under way are cut off"
        );
        ending.abandoned.cancel();
        connections.wait().await;
    }
}

async fn serve(placed: Placed, tls: Option<Arc<Tls>>, router: Router, ending: Ending) {
    if let Err(error) = placed.stream.set_nodelay(true) {
        tracing::debug!(%error, "small frames of this connection may be held back");
    }
    let Some(tls) = tls else {
        return answer(placed, router, ending).await;
    };
    let secured = tokio::select! {
        secured = tls.handshake(placed) => secured,
        () = ending.stopping.cancelled() => return,
    };
    match secured {
        Ok(stream) => answer(stream, router, ending).await,
        Err(error) => tracing::debug!(%error, "a TLS handshake failed"),
    }
}

async fn answer<S>(stream: S, router: Router, ending: Ending)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let cut_off = CutOff::default();
    let cut = cut_off.0.clone();
    let router = router.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(cut_off.clone());
        request
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        // Whoever stops sending early is still told what is wrong.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .with_upgrades();
    let mut connection = pin!(connection);
    let mut is_leaving = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection broke");
                }
                return;
            }
            () = ending.stopping.cancelled(), if !is_leaving => {
                is_leaving = true;
                connection.as_mut().graceful_shutdown();
            }
            () = ending.abandoned.cancelled() => return,
            () = cut.cancelled() => return,
        }
    }
}

impl Placed {
    /// Lets a write wait for its peer, but not for ever.
    fn written(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let patience = self.patience;
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(stalled.as_mut().poll(context));
        let why = format!("the peer took nothing for {} s", patience.as_secs_f32());
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)))
    }
}

impl AsyncRead for Placed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Placed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
