//! Loads on a server: each starts it on fresh data, measures, and ends it.
//!
//! Who types sends one character an update, so that the clock up to which a reader has it says which
//! updates it has seen, merged or not. The client is one thread: the server has the other core.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::{interval_at, sleep_until, timeout};

use crate::client::{Connection, Said, Target, ms_since};
use crate::measure::{Times, cpu_seconds, resident_bytes};
use crate::peers::Peer;
use crate::typed::{end_of, inserted, typed};

/// How long what was sent last may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a load cost.
#[derive(Debug, Default)]
pub struct Cost {
    /// Of each update at each reader: from the socket's write to its arrival.
    pub times: Times,
    /// Updates that a reader did not get.
    pub undelivered: usize,
    /// Updates that arrived, each reader's counted.
    pub delivered: usize,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// CPU seconds of the server meanwhile.
    pub cpu: f64,
    /// Bytes of the server in memory with everything open.
    pub resident: u64,
    /// The same before anything was opened, where that was looked at.
    pub resident_before: u64,
    /// The same when all had been left for a while, where that was looked at.
    pub resident_after: u64,
}

/// One who types at an even pace, and readers.
#[derive(Debug, Clone, Copy)]
pub struct Typing {
    /// Updates in a second.
    pub rate: u32,
    /// Updates in all that are measured.
    pub updates: u64,
    /// Readers.
    pub readers: usize,
    /// Whether every client has an awareness state.
    pub aware: bool,
}

/// When each update was sent.
type Sent = Rc<RefCell<Vec<Instant>>>;

/// Somebody types, others read along.
pub fn typing(peer: Peer, load: Typing) -> anyhow::Result<Cost> {
    /// Updates before those that count.
    const WARM_UP: u64 = 100;
    let mut server = peer.start()?;
    let target = server.documents(1)?.remove(0);
    let pid = server.pid();
    on_one_thread(async move {
        let client = fastrand::u64(1 << 20..1 << 31);
        let sent: Sent = Rc::default();
        let (mut writer, _) = Connection::join(&target).await?;
        let end = WARM_UP + load.updates;
        let mut readers = Vec::new();
        for n in 0..load.readers {
            let (mut reader, _) = Connection::join(&target).await?;
            if load.aware {
                reader.aware(client + 1 + n as u64, 1).await?;
            }
            let reads = read_to(reader, client, end, Rc::clone(&sent));
            readers.push(spawn_local(reads));
        }
        let period = Duration::from_secs(1) / load.rate;
        type_at(&mut writer, client, WARM_UP, period, &sent).await?;
        let (began, before) = (Instant::now(), cpu_seconds(pid)?);
        type_at(&mut writer, client, load.updates, period, &sent).await?;
        let mut cost = Cost::default();
        let drain = spawn_local(drain(writer));
        for reader in readers {
            let seen = finished(reader).await?;
            cost.undelivered += (end - seen.clock) as usize;
            cost.times.join(seen.times_after(WARM_UP));
        }
        drain.abort();
        cost.seconds = began.elapsed().as_secs_f64();
        cost.cpu = cpu_seconds(pid)? - before;
        cost.delivered = cost.times.len();
        cost.resident = resident_bytes(pid)?;
        Ok(cost)
    })
}

/// Pairs of a writer and a reader, a document each, as fast as they can with so many updates under way.
pub fn flat_out(peer: Peer, pairs: usize, window: u64, time: Duration) -> anyhow::Result<Cost> {
    let mut server = peer.start()?;
    let targets = server.documents(pairs)?;
    let pid = server.pid();
    on_one_thread(async move {
        let mut open = Vec::new();
        for target in &targets {
            let (writer, _) = Connection::join(target).await?;
            let (reader, _) = Connection::join(target).await?;
            open.push((writer, reader));
        }
        let warm = Instant::now() + time / 5;
        let end = warm + time;
        let runs: Vec<_> = open
            .into_iter()
            .map(|(writer, reader)| spawn_local(pair(writer, reader, window, warm, end)))
            .collect();
        sleep_until(warm.into()).await;
        let (began, before) = (Instant::now(), cpu_seconds(pid)?);
        let mut cost = Cost::default();
        sleep_until(end.into()).await;
        cost.cpu = cpu_seconds(pid)? - before;
        cost.seconds = began.elapsed().as_secs_f64();
        for run in runs {
            cost.delivered += timeout(PATIENCE, run).await???;
        }
        cost.resident = resident_bytes(pid)?;
        Ok(cost)
    })
}

/// So many documents of 10 KB, with a connection each, that are all left after that.
pub fn open_and_leave(peer: Peer, documents: usize, rest: Duration) -> anyhow::Result<Cost> {
    const BYTES: usize = 10_000;
    let mut server = peer.start()?;
    let targets = server.documents(documents)?;
    let pid = server.pid();
    on_one_thread(async move {
        let mut cost = Cost {
            resident_before: resident_bytes(pid)?,
            ..Cost::default()
        };
        let content = "x".repeat(BYTES);
        let mut open = Vec::new();
        for target in &targets {
            let (mut connection, _) = Connection::join(target).await?;
            connection.update(&inserted(1, 0, &content)).await?;
            // What comes back now has it.
            connection.ask().await?;
            while !matches!(connection.next().await?, Said::Step2(update) if update.len() > BYTES) {
            }
            open.push(connection);
        }
        cost.delivered = open.len();
        cost.resident = resident_bytes(pid)?;
        for connection in open {
            connection.close().await?;
        }
        sleep_until((Instant::now() + rest).into()).await;
        cost.resident_after = resident_bytes(pid)?;
        Ok(cost)
    })
}

/// Gives how many updates arrived between the two times.
async fn pair(
    mut writer: Connection,
    mut reader: Connection,
    window: u64,
    warm: Instant,
    end: Instant,
) -> anyhow::Result<usize> {
    let client = fastrand::u64(1 << 20..1 << 31);
    let (mut sent, mut seen, mut counted) = (0, 0, 0);
    loop {
        while sent < seen + window {
            writer.update(&typed(client, sent)).await?;
            sent += 1;
        }
        tokio::select! {
            said = reader.next() => {
                let Said::Update(update) = said? else { continue };
                let clock = end_of(&update, client)?.unwrap_or(seen);
                let now = Instant::now();
                if now >= end {
                    return Ok(counted);
                }
                if now >= warm {
                    counted += clock.saturating_sub(seen) as usize;
                }
                seen = seen.max(clock);
            }
            said = writer.next() => drop(said?),
        }
    }
}

/// What a reader has seen of one who types.
#[derive(Debug, Default)]
struct Seen {
    clock: u64,
    /// By clock.
    times: Vec<f64>,
}

impl Seen {
    fn times_after(self, clock: u64) -> Times {
        let mut times = Times::default();
        self.times
            .into_iter()
            .skip(clock as usize)
            .for_each(|ms| times.add(ms));
        times
    }
}

/// Reads until it has everything up to `end`, or nothing more comes.
async fn read_to(
    mut reader: Connection,
    client: u64,
    end: u64,
    sent: Sent,
) -> anyhow::Result<Seen> {
    let mut seen = Seen::default();
    while seen.clock < end {
        let Ok(said) = timeout(PATIENCE, reader.next()).await else {
            break;
        };
        let (Said::Update(update) | Said::Step2(update)) = said? else {
            continue;
        };
        let clock = end_of(&update, client)?.unwrap_or_default();
        for clock in seen.clock..clock {
            seen.times.push(ms_since(sent.borrow()[clock as usize]));
        }
        seen.clock = seen.clock.max(clock);
    }
    Ok(seen)
}

/// Sends so many more updates, one each period.
async fn type_at(
    writer: &mut Connection,
    client: u64,
    updates: u64,
    period: Duration,
    sent: &Sent,
) -> anyhow::Result<()> {
    let mut pace = interval_at((Instant::now() + period).into(), period);
    let end = sent.borrow().len() as u64 + updates;
    loop {
        let clock = sent.borrow().len() as u64;
        if clock == end {
            return Ok(());
        }
        tokio::select! {
            _ = pace.tick() => {
                sent.borrow_mut().push(Instant::now());
                writer.update(&typed(client, clock)).await?;
            }
            said = writer.next() => drop(said?),
        }
    }
}

/// Reads what a writer is told, for as long as somebody else has to read.
async fn drain(mut writer: Connection) {
    while writer.next().await.is_ok() {}
}

async fn finished(reader: JoinHandle<anyhow::Result<Seen>>) -> anyhow::Result<Seen> {
    let seen = reader.await.context("a reader panicked")??;
    ensure!(!seen.times.is_empty(), "a reader got nothing");
    Ok(seen)
}

fn on_one_thread<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, work)
}

/// A document's target, for a message.
impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.framed.as_deref().unwrap_or(&self.url))
    }
}
