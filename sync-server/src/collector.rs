//! What nothing needs any more goes away: in the background, bit by bit.
//!
//! Owns: when it is looked for, in which order, and what is told of it. Must not do: decide what an
//! entry names (that is the project's owner) or delete anything itself.
//!
//! Invariants:
//! - First the rights to read go, then the bytes that nobody may read, then the files that nothing
//!   names. Each is durable before the next begins, so a crash leaves at most what the next round removes.
//! - One round at a time, and one thing after another: what is found is not changed by another round.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use uspark_shared::id::ProjectId;

use crate::blobs::Blobs;
use crate::config::{Retention, millis};
use crate::metrics::Metrics;
use crate::project::{Command, Projects};
use crate::refusal::Refusal;
use crate::store::{Committer, Doubtful, Spent, Store, StoreError, Upkeep, Write, read};

/// Things in one step: a commit of some milliseconds.
const STEP: usize = 500;
/// The pause after a step: others' commits and reads come first.
const BREATH: Duration = Duration::from_millis(2);
/// When the first round begins, unless rounds are more frequent.
const FIRST: Duration = Duration::from_secs(60);

/// Looks for what is to go.
pub struct Collector {
    /// To ask owners.
    pub projects: Projects,
    /// To read.
    pub store: Arc<dyn Store>,
    /// To write.
    pub committer: Committer,
    /// Large blobs are removed there.
    pub blobs: Blobs,
    /// Where it is counted.
    pub metrics: Arc<Metrics>,
    /// Milliseconds since 1970.
    pub clock: fn() -> u64,
    /// How long things are kept.
    pub retention: Retention,
}

/// Dates before which things go, in milliseconds since 1970.
#[derive(Debug, Clone, Copy)]
struct Dates {
    spent: Spent,
    versions: u64,
    texts: u64,
    audit: u64,
}

/// What one round did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Round {
    /// Versions of texts.
    pub versions: u64,
    /// Deleted texts.
    pub texts: u64,
    /// Rights of a project to read a blob.
    pub rights: u64,
    /// Blobs.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files of large blobs.
    pub files: u64,
    /// Lines of the audit log.
    pub audit: u64,
}

/// Why a part of a round was not done. The next round does it.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Commit(#[from] crate::store::CommitError),
    #[error(transparent)]
    Project(#[from] Refusal),
}

impl Collector {
    /// Makes rounds until the server stops.
    pub async fn run(self, stopping: CancellationToken) {
        let every = self.retention.collect_every;
        let mut next = Instant::now() + every.min(FIRST);
        let rounds = async {
            loop {
                sleep_until(next).await;
                next = Instant::now() + every;
                self.round().await;
            }
        };
        tokio::select! {
            () = rounds => {}
            () = stopping.cancelled() => {}
        }
    }

    /// Lets go of all that is to go by now. Trouble is logged, and ends only the part where it is.
    pub async fn round(&self) -> Round {
        let mut round = Round::default();
        let dates = self.dates();
        let mut after = None;
        loop {
            let from = after.clone();
            let page = read(&self.store, move |store| {
                store.projects(from.as_ref(), STEP)
            });
            let page = self
                .told("the list of projects", page.await)
                .unwrap_or_default();
            let Some(last) = page.last() else { break };
            after = Some(last.id.clone());
            for project in page {
                let done = self.project(&project.id, &dates, &mut round).await;
                self.told(&format!("project {}", project.id), done);
            }
        }
        let done = self.bytes(&mut round).await;
        self.told("blobs of nobody", done);
        let done = self.files(&mut round).await;
        self.told("files of large blobs", done);
        let done = self.audit(dates.audit, &mut round).await;
        self.told("the audit log", done);
        self.metrics.collected(&round);
        if round == Round::default() {
            tracing::debug!("nothing to collect");
        } else {
            let Round {
                versions,
                texts,
                rights,
                blobs,
                bytes,
                files,
                audit,
            } = round;
            tracing::info!(
                versions,
                texts,
                rights,
                blobs,
                bytes,
                files,
                audit,
                "collected what nothing needs any more"
            );
        }
        round
    }

    fn dates(&self) -> Dates {
        let now = (self.clock)();
        let before = |kept| now.saturating_sub(millis(kept));
        let Retention {
            blob_grace,
            keep_versions,
            keep_deleted,
            keep_audit,
            ..
        } = self.retention;
        Dates {
            spent: Spent {
                uploaded_before: before(blob_grace),
                released_before: before(keep_deleted),
            },
            versions: before(keep_versions),
            texts: before(keep_deleted),
            audit: before(keep_audit),
        }
    }

    fn told<T, E: Into<Trouble>>(&self, what: &str, result: Result<T, E>) -> Option<T> {
        match result.map_err(Into::into) {
            Ok(done) => Some(done),
            Err(Trouble::Project(Refusal::NotFound(_))) => None,
            Err(error) => {
                tracing::warn!(what, %error, "could not be collected; the next round tries again");
                None
            }
        }
    }

    /// First what names blobs, then the blobs.
    async fn project(
        &self,
        id: &ProjectId,
        dates: &Dates,
        round: &mut Round,
    ) -> Result<(), Trouble> {
        self.texts(id, dates.texts, round).await?;
        self.versions(id, dates.versions, round).await?;
        self.rights(id, dates.spent, round).await
    }

    async fn texts(&self, id: &ProjectId, before: u64, round: &mut Round) -> Result<(), Trouble> {
        loop {
            let of = id.clone();
            let found = read(&self.store, move |store| {
                store.texts_deleted(&of, before, STEP)
            });
            let docs = found.await?;
            if docs.is_empty() {
                return Ok(());
            }
            let ask = |reply| Command::ForgetTexts {
                docs: docs.clone(),
                reply,
            };
            let gone = self.projects.ask(id, ask).await?;
            round.texts += gone;
            // Somebody has those open that are left.
            if gone < docs.len() as u64 {
                return Ok(());
            }
            sleep(BREATH).await;
        }
    }

    async fn versions(
        &self,
        id: &ProjectId,
        before: u64,
        round: &mut Round,
    ) -> Result<(), Trouble> {
        loop {
            let of = id.clone();
            let found = read(&self.store, move |store| {
                store.crowded_versions(&of, before, STEP)
            });
            let versions = found.await?;
            if versions.is_empty() {
                return Ok(());
            }
            let (many, project) = (versions.len() as u64, id.clone());
            self.commit(Upkeep::ForgetVersions { project, versions })
                .await?;
            round.versions += many;
        }
    }

    async fn rights(&self, id: &ProjectId, spent: Spent, round: &mut Round) -> Result<(), Trouble> {
        let mut before = Vec::new();
        loop {
            let of = id.clone();
            let found = read(&self.store, move |store| {
                store.doubtful_blobs(&of, spent, STEP)
            });
            let found = found.await?.into_iter();
            let (texts, others): (Vec<_>, Vec<_>) = found.partition(|blob| blob.is_text);
            let hashes = |blobs: Vec<Doubtful>| blobs.iter().map(|blob| blob.hash).collect();
            let (texts, others): (Vec<_>, Vec<_>) = (hashes(texts), hashes(others));
            // Nobody need be asked about a version or a seed. Whatever takes those away says so.
            let is_known = !texts.is_empty();
            if is_known {
                self.commit(Upkeep::KeepBlobs {
                    project: id.clone(),
                    hashes: texts,
                })
                .await?;
            }
            // What the owner has judged before it can say nothing about now.
            if !is_known && (others.is_empty() || others == before) {
                return Ok(());
            }
            if !others.is_empty() {
                let ask = |reply| Command::ForgetBlobs {
                    hashes: others.clone(),
                    spent,
                    reply,
                };
                round.rights += self.projects.ask(id, ask).await?;
                sleep(BREATH).await;
            }
            before = others;
        }
    }

    async fn bytes(&self, round: &mut Round) -> Result<(), Trouble> {
        loop {
            let found = read(&self.store, |store| store.blobs_of_nobody(STEP)).await?;
            if found.is_empty() {
                return Ok(());
            }
            let hashes = found.iter().map(|(hash, _)| *hash).collect();
            self.commit(Upkeep::DropBlobs { hashes }).await?;
            round.blobs += found.len() as u64;
            round.bytes += found.iter().map(|(_, size)| size).sum::<u64>();
        }
    }

    async fn files(&self, round: &mut Round) -> Result<(), Trouble> {
        let (removed, all) = self.blobs.sweep().await?;
        round.files += removed;
        if !all {
            tracing::debug!("some files are being kept or copied: looked at again next time");
        }
        Ok(())
    }

    async fn audit(&self, before: u64, round: &mut Round) -> Result<(), Trouble> {
        loop {
            let oldest = read(&self.store, |store| store.audit(0, STEP)).await?;
            let old = oldest.iter().take_while(|(_, line)| line.at < before);
            let (many, last) = old.fold((0, None), |(many, _), (number, _)| {
                (many + 1, Some(*number))
            });
            let Some(through) = last else {
                return Ok(());
            };
            self.commit(Upkeep::ForgetAudit { through }).await?;
            round.audit += many;
        }
    }

    async fn commit(&self, upkeep: Upkeep) -> Result<(), Trouble> {
        self.committer.commit(vec![Write::Upkeep(upkeep)]).await?;
        sleep(BREATH).await;
        Ok(())
    }
}

impl Round {
    /// How many went of each kind of thing.
    pub fn counts(&self) -> [(&'static str, u64); 6] {
        [
            ("version", self.versions),
            ("text", self.texts),
            ("right", self.rights),
            ("blob", self.blobs),
            ("file", self.files),
            ("audit", self.audit),
        ]
    }
}

#[cfg(test)]
mod tests;
