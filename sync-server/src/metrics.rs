//! What an operator can measure: counters, and gauges that follow what they count.
//!
//! Owns: every metric of the server, its name and its help. Must not do: put a name or an id of a
//! project, a document or a token into a label; anybody may read them.
//!
//! Invariant: whatever a gauge counts holds its part of it ([`Held`]), so the gauge goes down when
//! that is gone, in whichever way.

mod process;

use std::fmt;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::collector::Round;
use crate::refusal::Refusal;

/// Upper bounds of commits, in seconds: from a fast disk's sync to one that is in trouble.
const COMMIT_SECONDS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];

/// One label of a metric and its value.
type Label<V> = [(&'static str, V); 1];

/// All metrics of a server. Those that nobody asks for cost a few counters.
#[derive(Debug, Clone)]
pub struct Metrics {
    projects: Gauge,
    documents: Gauge,
    pending: Gauge,
    connections: Gauge,
    connections_dropped: Counter,
    sockets: Family<Label<&'static str>, Gauge>,
    queued: Gauge,
    commit_seconds: Histogram,
    commit_failures: Counter,
    updates_received: Counter,
    updates_refused: Counter,
    evictions: Family<Label<&'static str>, Counter>,
    refusals: Family<Label<u16>, Counter>,
    blobs_received: Counter,
    blobs_sent: Counter,
    collected: Family<Label<&'static str>, Counter>,
    collected_bytes: Counter,
    rounds: Counter,
}

/// Which protocol a socket speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketKind {
    /// y-websocket.
    Ws,
    /// Hocuspocus.
    Collab,
}

/// What left memory because nobody used it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evicted {
    /// A project's document, with all that is known of the project.
    Project,
    /// A text document.
    Text,
}

/// A part of a gauge. It is given back when this is dropped.
#[derive(Debug, Default)]
pub struct Held {
    gauge: Gauge,
    amount: usize,
}

/// A document in memory.
#[derive(Debug)]
pub struct HeldDocument {
    _document: Held,
    pending: Held,
}

impl Metrics {
    /// A project in memory.
    pub fn project(&self) -> Held {
        Held::new(&self.projects, 1)
    }

    /// A document in memory.
    pub fn document(&self) -> HeldDocument {
        HeldDocument {
            _document: Held::new(&self.documents, 1),
            pending: Held::new(&self.pending, 0),
        }
    }

    /// A connection, of whatever is spoken on it.
    pub fn connection(&self) -> Held {
        Held::new(&self.connections, 1)
    }

    /// A connection was let go without a word: far too many are open.
    pub fn connection_dropped(&self) {
        self.connections_dropped.inc();
    }

    /// An open socket.
    pub fn socket(&self, kind: SocketKind) -> Held {
        let label = [("kind", kind.as_str())];
        Held::new(&self.sockets.get_or_create_owned(&label), 1)
    }

    /// Bytes that wait for a socket: none yet.
    pub fn queued(&self) -> Held {
        Held::new(&self.queued, 0)
    }

    /// A group of writes became durable so many seconds after it was submitted.
    pub fn committed(&self, seconds: f64) {
        self.commit_seconds.observe(seconds);
    }

    /// The store failed to make a batch durable.
    pub fn commit_failed(&self) {
        self.commit_failures.inc();
    }

    /// An update came.
    pub fn update_received(&self) {
        self.updates_received.inc();
    }

    /// An update was not taken.
    pub fn update_refused(&self) {
        self.updates_refused.inc();
    }

    /// So many left memory.
    pub fn evicted(&self, what: Evicted, number: usize) {
        let label = [("kind", what.as_str())];
        self.evictions.get_or_create(&label).inc_by(number as u64);
    }

    /// A request was refused with this status.
    pub fn request_refused(&self, status: u16) {
        self.refusals.get_or_create(&[("code", status)]).inc();
    }

    /// A socket, or a document on one, was refused.
    pub fn socket_refused(&self, refusal: &Refusal) {
        let label = [("code", refusal.close_code())];
        self.refusals.get_or_create(&label).inc();
    }

    /// Bytes of a blob came from a client.
    pub fn blob_received(&self, bytes: usize) {
        self.blobs_received.inc_by(bytes as u64);
    }

    /// Bytes of a blob go to a client.
    pub fn blob_sent(&self, bytes: usize) {
        self.blobs_sent.inc_by(bytes as u64);
    }

    /// A round of the collector is over.
    pub fn collected(&self, round: &Round) {
        self.rounds.inc();
        self.collected_bytes.inc_by(round.bytes);
        for (kind, number) in round.counts() {
            let label = [("kind", kind)];
            self.collected.get_or_create(&label).inc_by(number);
        }
    }

    /// All of them as OpenMetrics text, which Prometheus reads.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry())?;
        Ok(text)
    }

    /// The names: all begin with `uspark_`, those that every process has with `process_`.
    fn registry(&self) -> Registry {
        let mut all = Registry::default();
        process::register(&mut all);
        let ours = all.sub_registry_with_prefix("uspark");
        ours.register("projects", "Projects in memory", self.projects.clone());
        let help = "Documents in memory: of projects and of texts";
        ours.register("documents", help, self.documents.clone());
        let help = "Updates in memory that wait for others which they build on";
        ours.register_with_unit("pending", help, Unit::Bytes, self.pending.clone());
        let help = "Open connections, those of sockets too";
        ours.register("connections", help, self.connections.clone());
        let help = "Connections let go without a word: far over --max-connections";
        let dropped = self.connections_dropped.clone();
        ours.register("connections_dropped", help, dropped);
        let help = "Open sockets, by protocol";
        ours.register("sockets", help, self.sockets.clone());
        let help = "What waits to be sent on sockets whose clients read slowly";
        ours.register_with_unit("queued", help, Unit::Bytes, self.queued.clone());
        let help = "From the submission of a group of writes until it is durable";
        ours.register_with_unit("commit", help, Unit::Seconds, self.commit_seconds.clone());
        let help = "Batches of writes that the storage did not take";
        ours.register("commit_failures", help, self.commit_failures.clone());
        let help = "Updates of documents that came, on sockets and by PATCH";
        ours.register("updates_received", help, self.updates_received.clone());
        let help = "Updates of documents that were not taken";
        ours.register("updates_refused", help, self.updates_refused.clone());
        let help = "What left memory because nobody used it, by kind";
        ours.register("evictions", help, self.evictions.clone());
        let help = "Refusals by HTTP status or close code";
        ours.register("refusals", help, self.refusals.clone());
        let help = "Bytes of blobs and files that clients sent";
        let received = self.blobs_received.clone();
        ours.register_with_unit("blobs_received", help, Unit::Bytes, received);
        let help = "Bytes of blobs and files that were sent to clients";
        ours.register_with_unit("blobs_sent", help, Unit::Bytes, self.blobs_sent.clone());
        let help = "What went because nothing needs it any more, by kind";
        ours.register("collected", help, self.collected.clone());
        let help = "Bytes of blobs that went";
        let bytes = self.collected_bytes.clone();
        ours.register_with_unit("collected", help, Unit::Bytes, bytes);
        let help = "How often what is to go was looked for";
        ours.register("collections", help, self.rounds.clone());
        all
    }
}

impl Default for Metrics {
    /// Nothing was counted yet. What has a label of few values is there from the start, as 0.
    fn default() -> Self {
        let (sockets, evictions) = (Family::default(), Family::default());
        for kind in [SocketKind::Ws, SocketKind::Collab] {
            let _: Gauge = sockets.get_or_create_owned(&[("kind", kind.as_str())]);
        }
        for kind in [Evicted::Project, Evicted::Text] {
            let _: Counter = evictions.get_or_create_owned(&[("kind", kind.as_str())]);
        }
        let collected = Family::default();
        for (kind, _) in Round::default().counts() {
            let _: Counter = collected.get_or_create_owned(&[("kind", kind)]);
        }
        Self {
            projects: Gauge::default(),
            documents: Gauge::default(),
            pending: Gauge::default(),
            connections: Gauge::default(),
            connections_dropped: Counter::default(),
            sockets,
            queued: Gauge::default(),
            commit_seconds: Histogram::new(COMMIT_SECONDS),
            commit_failures: Counter::default(),
            updates_received: Counter::default(),
            updates_refused: Counter::default(),
            evictions,
            refusals: Family::default(),
            blobs_received: Counter::default(),
            blobs_sent: Counter::default(),
            collected,
            collected_bytes: Counter::default(),
            rounds: Counter::default(),
        }
    }
}

impl SocketKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ws => "ws",
            Self::Collab => "collab",
        }
    }
}

impl Evicted {
    fn as_str(self) -> &'static str {
        match self {
            Self::Project => "project",
            Self::Text => "text",
        }
    }
}

impl Held {
    fn new(gauge: &Gauge, amount: usize) -> Self {
        let mut held = Self {
            gauge: gauge.clone(),
            amount: 0,
        };
        held.set(amount);
        held
    }

    /// How much it is.
    pub fn get(&self) -> usize {
        self.amount
    }

    /// Makes it so much.
    pub fn set(&mut self, amount: usize) {
        self.gauge.inc_by(amount as i64 - self.amount as i64);
        self.amount = amount;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl HeldDocument {
    /// So many bytes of its updates wait for others.
    pub fn pending(&mut self, bytes: usize) {
        self.pending.set(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_follows_what_it_counts() {
        let metrics = Metrics::default();
        let says = |line: &str| {
            let text = metrics.text().unwrap();
            assert!(text.lines().any(|other| other == line), "{line}: {text}");
        };
        let (one, mut other) = (metrics.document(), metrics.document());
        other.pending(7);
        says("uspark_documents 2");
        says("uspark_pending_bytes 7");
        other.pending(3);
        drop(one);
        says("uspark_documents 1");
        says("uspark_pending_bytes 3");
        drop(other);
        says("uspark_documents 0");
        says("uspark_pending_bytes 0");
    }

    #[test]
    fn what_is_labelled_is_there_before_it_happens() {
        let text = Metrics::default().text().unwrap();
        for line in [
            "uspark_sockets{kind=\"ws\"} 0",
            "uspark_sockets{kind=\"collab\"} 0",
            "uspark_evictions_total{kind=\"text\"} 0",
            "uspark_commit_seconds_count 0",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}: {text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
