//! New bytes for a path, and what they were made from: fetched before the owner merges them.
//!
//! Clients of the original protocol and of the file API send whole files. The server finds the
//! version that the bytes were made from, so that only the difference goes into the document.

use std::sync::{Arc, OnceLock};

use uspark_shared::diff::diff;
use uspark_shared::id::{BlobHash, DocId, ProjectId};
use uspark_shared::path::FilePath;
use uspark_shared::text::{as_grown_text, as_text, utf16_len};

use super::command::{Attribution, PutBase};
use super::registry::ProjectDeps;
use crate::refusal::Refusal;
use crate::store::{self, DAY};

/// Settled versions that are compared with new bytes of unknown origin.
const CANDIDATES: usize = 32;

/// Bytes that should go to a path.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The path.
    pub path: FilePath,
    /// The bytes, uploaded already.
    pub hash: BlobHash,
    /// When they were written, in milliseconds since 1970.
    pub mtime: u64,
    /// Permission bits, if they are to change.
    pub mode: Option<u32>,
    /// The text document at the path, with its seed.
    pub doc: Option<(DocId, BlobHash)>,
    /// What the bytes were made from.
    pub base: PutBase,
    /// Whose they are.
    pub who: Attribution,
    /// Why the owner did not take them in the end.
    pub refused: Arc<OnceLock<Refusal>>,
}

/// The same with contents.
#[derive(Debug, Clone)]
pub struct Merge {
    /// What was asked for.
    pub wanted: Wanted,
    /// Bytes.
    pub size: u64,
    /// The bytes, if they can be a text at this path.
    pub text: Option<String>,
    /// What they were made from; `None` is what is there now.
    pub base: Option<String>,
}

/// Fetches the bytes and their base. `now` is the text as it is, where it is in memory.
pub async fn fetch(
    deps: &ProjectDeps,
    project: &ProjectId,
    wanted: Wanted,
    now: Option<String>,
) -> Result<Merge, Refusal> {
    let blob = deps.blobs.open(Some(project), &wanted.hash).await?;
    let blob = blob.ok_or(Refusal::NotFound("blob"))?;
    let limit = uspark_shared::text::MAX_GROWN_TEXT_BYTES as u64;
    let text = if blob.size <= limit {
        let bytes = blob
            .read_all()
            .await
            .map_err(|error| Refusal::Unavailable(error.to_string()))?;
        // A document that exists may be longer than a file that becomes one.
        let as_text = if wanted.doc.is_some() {
            as_grown_text
        } else {
            as_text
        };
        as_text(&bytes).map(str::to_owned)
    } else {
        None
    };
    let base = match (&wanted.doc, &text) {
        (Some((doc, seed)), Some(text)) => {
            Sources {
                deps,
                project,
                doc,
                seed,
            }
            .base(wanted.base, text, now)
            .await?
        }
        _ => None,
    };
    Ok(Merge {
        size: blob.size,
        wanted,
        text,
        base,
    })
}

/// Where versions of one text come from.
struct Sources<'a> {
    deps: &'a ProjectDeps,
    project: &'a ProjectId,
    doc: &'a DocId,
    seed: &'a BlobHash,
}

impl Sources<'_> {
    async fn base(
        &self,
        base: PutBase,
        new: &str,
        now: Option<String>,
    ) -> Result<Option<String>, Refusal> {
        match base {
            PutBase::Current | PutBase::Nothing => Ok(None),
            PutBase::Hash(hash) => {
                let known = self
                    .versions(usize::MAX)
                    .await?
                    .iter()
                    .any(|known| known.hash == hash);
                let text = if known {
                    self.content(&hash).await?
                } else {
                    None
                };
                let unknown =
                    || Refusal::Precondition(format!("`{hash}` is no version of this file"));
                text.map(Some).ok_or_else(unknown)
            }
            PutBase::Version(version) => {
                let cut = (self.deps.clock)().saturating_sub(self.deps.versions_kept);
                let versions = self.versions(usize::MAX).await?;
                let base = match shown_at(&versions, version, cut) {
                    Some(hash) => self.content(&hash).await?,
                    None => None,
                };
                match base {
                    Some(base) => Ok(Some(base)),
                    None => self.nearest(new, now).await,
                }
            }
            PutBase::Nearest => self.nearest(new, now).await,
        }
    }

    async fn nearest(&self, new: &str, now: Option<String>) -> Result<Option<String>, Refusal> {
        let mut nearest = now.map(|text| (distance(&text, new), text));
        for version in self.versions(CANDIDATES).await? {
            let Some(text) = self.content(&version.hash).await? else {
                continue;
            };
            let distance = distance(&text, new);
            if nearest.as_ref().is_none_or(|(best, _)| distance < *best) {
                nearest = Some((distance, text));
            }
        }
        Ok(nearest.map(|(_, text)| text))
    }

    /// Settled versions, newest first; the seed is the last.
    async fn versions(&self, limit: usize) -> Result<Vec<Version>, Refusal> {
        let (project, doc) = (self.project.clone(), self.doc.clone());
        let settled = store::read(&self.deps.store, move |store| {
            store.settled(&project, &doc, limit.min(10_000))
        });
        let settled = settled.await?;
        let versions = settled.into_iter().map(|(seq, version)| Version {
            seq,
            hash: version.hash,
            at: version.mtime,
        });
        let seed = Version {
            seq: 0,
            hash: *self.seed,
            at: 0,
        };
        Ok(versions.chain([seed]).collect())
    }

    async fn content(&self, hash: &BlobHash) -> Result<Option<String>, Refusal> {
        let Some(blob) = self.deps.blobs.open(Some(self.project), hash).await? else {
            return Ok(None);
        };
        let bytes = blob
            .read_all()
            .await
            .map_err(|error| Refusal::Unavailable(error.to_string()))?;
        Ok(as_grown_text(&bytes).map(str::to_owned))
    }
}

/// A content that a text had.
#[derive(Debug, Clone, Copy)]
struct Version {
    /// The place at which the project named it.
    seq: u64,
    hash: BlobHash,
    /// When it was last edited.
    at: u64,
}

/// What a text was at a place of the project, if that is known for sure: of versions from before `cut` only
/// the last of each day is left. `versions` are newest first.
fn shown_at(versions: &[Version], place: u64, cut: u64) -> Option<BlobHash> {
    let found = versions.iter().position(|version| version.seq <= place)?;
    // What was taken out before another version is of the same day as that one.
    let next = found.checked_sub(1).map(|next| versions[next].at);
    let is_sure = next.is_none_or(|next| next / DAY * DAY >= cut);
    is_sure.then_some(versions[found].hash)
}

/// How much two texts differ, in UTF-16 units that go or come.
fn distance(old: &str, new: &str) -> u64 {
    let cost = |edit: &uspark_shared::diff::TextEdit| {
        u64::from(edit.delete) + u64::from(utf16_len(&edit.insert))
    };
    diff(old, new).iter().map(cost).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_a_base_only_if_none_was_taken_out_after_it() {
        let version = |seq: u64, at: u64| Version {
            seq,
            hash: BlobHash::of(&seq.to_le_bytes()),
            at,
        };
        // Of day 3 and day 5 the last versions; of day 9 and 10 all.
        let versions = [
            version(70, 10 * DAY + 5),
            version(60, 9 * DAY + 5),
            version(50, 9 * DAY + 1),
            version(40, 5 * DAY + 9),
            version(20, 3 * DAY + 9),
            version(0, 0),
        ];
        let cut = 9 * DAY;
        let found = |place| {
            let hash = shown_at(&versions, place, cut)?;
            Some(versions.iter().find(|v| v.hash == hash)?.seq)
        };
        assert_eq!(found(80), Some(70), "the newest");
        assert_eq!(
            (found(65), found(60), found(55)),
            (Some(60), Some(60), Some(50))
        );
        assert_eq!(found(45), Some(40), "nothing was taken out of day 9");
        assert_eq!((found(39), found(20), found(10)), (None, None, None));
        assert_eq!(shown_at(&versions, 10, 0), Some(versions[5].hash));
    }
}
