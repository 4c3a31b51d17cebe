//! Accepting connections, and ending them.
//!
//! One task a connection. When the server stops, idle connections close at once, those with a
//! request under way after it, and what is still there after a while is dropped.

use std::pin::pin;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

/// How long a head may take to come, and a connection may idle: longer than clients keep
/// theirs (reqwest 90 s), so that it is they who close.
const HEAD: Duration = Duration::from_secs(120);
/// How long to wait when no connection can be accepted: mostly files have run out.
const BREATH: Duration = Duration::from_millis(250);

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
    router: Router,
    stopping: CancellationToken,
    drain: Duration,
) {
    let connections = TaskTracker::new();
    let abandoned = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopping.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let (stopping, abandoned) = (stopping.clone(), abandoned.clone());
                connections.spawn(serve(stream, router.clone(), stopping, abandoned));
            }
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
        abandoned.cancel();
        connections.wait().await;
    }
}

async fn serve(
    stream: TcpStream,
    router: Router,
    stopping: CancellationToken,
    abandoned: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "small frames of this connection may be held back");
    }
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
            () = stopping.cancelled(), if !is_leaving => {
                is_leaving = true;
                connection.as_mut().graceful_shutdown();
            }
            () = abandoned.cancelled() => return,
            () = cut.cancelled() => return,
        }
    }
}
