//! Each [`Upkeep`] as SQL, and what there is to do.
//!
//! `grants.kept` says that something was found to name a blob. Whatever stops naming one takes that
//! back, so only blobs about which something changed are ever looked at.

use rusqlite::{Connection, params};
use uspark_shared::id::{BlobHash, DocId, ProjectId};

use super::super::{DAY, Doubtful, Refused, Spent, Upkeep};
use super::integer;
use super::reads::parsed;
use super::writes::{Stopped, or_refuse};

/// Whether the blob `b` is a settled version or a seed of the project of the grant `g`.
const IS_TEXT: &str = "(
    EXISTS (SELECT 1 FROM settled s WHERE s.project = g.project AND s.hash = b.hash)
    OR EXISTS (SELECT 1 FROM texts t WHERE t.project = g.project AND t.seed = b.hash))";

pub(super) fn apply(db: &Connection, upkeep: &Upkeep) -> Result<(), Stopped> {
    match upkeep {
        Upkeep::RenewBlob { project, hash, at } => {
            let renewed = db
                .prepare_cached(
                    "UPDATE grants SET uploaded_at = max(uploaded_at, ?3)
                     WHERE project = ?1 AND blob = (SELECT key FROM blobs WHERE hash = ?2)",
                )?
                .execute(params![project.as_str(), hash.as_bytes(), integer(*at)])?;
            or_refuse(renewed, || Refused::NoSuchBlob(*hash))?;
        }
        Upkeep::ReleaseBlob { project, hash, at } => {
            db.prepare_cached(
                "UPDATE grants SET released_at = max(released_at, ?3), kept = 0
                 WHERE project = ?1 AND blob = (SELECT key FROM blobs WHERE hash = ?2)",
            )?
            .execute(params![project.as_str(), hash.as_bytes(), integer(*at)])?;
        }
        Upkeep::KeepBlobs { project, hashes } => {
            let mut keep = db.prepare_cached(
                "UPDATE grants SET kept = 1
                 WHERE project = ?1 AND blob = (SELECT key FROM blobs WHERE hash = ?2)",
            )?;
            for hash in hashes {
                keep.execute(params![project.as_str(), hash.as_bytes()])?;
            }
        }
        Upkeep::ForgetBlobs {
            project,
            hashes,
            spent,
        } => forget_blobs(db, project, hashes, *spent)?,
        Upkeep::ForgetTexts { project, docs } => {
            for doc in docs {
                forget_text(db, project, doc)?;
            }
        }
        Upkeep::ForgetVersions { project, versions } => {
            for (doc, seq) in versions {
                forget_version(db, project, doc, *seq)?;
            }
        }
        Upkeep::DropBlobs { hashes } => {
            let mut drop = db.prepare_cached(
                "DELETE FROM blobs
                 WHERE hash = ?1 AND NOT EXISTS (SELECT 1 FROM grants WHERE blob = key)",
            )?;
            for hash in hashes {
                drop.execute([hash.as_bytes()])?;
            }
        }
        Upkeep::ForgetAudit { through } => {
            db.prepare_cached("DELETE FROM audit WHERE number <= ?1")?
                .execute([integer(*through)])?;
        }
    }
    Ok(())
}

fn forget_blobs(
    db: &Connection,
    project: &ProjectId,
    hashes: &[BlobHash],
    spent: Spent,
) -> rusqlite::Result<()> {
    let mut forget = db.prepare_cached(&format!(
        "DELETE FROM grants WHERE project = ?1 AND blob = (
             SELECT b.key FROM blobs b JOIN grants g ON g.blob = b.key AND g.project = ?1
             WHERE b.hash = ?2 AND g.uploaded_at < ?3 AND g.released_at < ?4 AND NOT {IS_TEXT})"
    ))?;
    for hash in hashes {
        forget.execute(params![
            project.as_str(),
            hash.as_bytes(),
            integer(spent.uploaded_before),
            integer(spent.released_before)
        ])?;
    }
    Ok(())
}

fn forget_text(db: &Connection, project: &ProjectId, doc: &DocId) -> rusqlite::Result<()> {
    let text = (project.as_str(), doc.as_str());
    for sql in [
        "UPDATE grants SET kept = 0 WHERE project = ?1 AND blob IN (
             SELECT key FROM blobs WHERE hash IN (
                 SELECT hash FROM settled WHERE project = ?1 AND doc = ?2
                 UNION SELECT seed FROM texts WHERE project = ?1 AND doc = ?2))",
        "DELETE FROM settled WHERE project = ?1 AND doc = ?2",
        // Its updates and their origins go with it.
        "DELETE FROM documents WHERE project = ?1 AND doc = ?2",
        "DELETE FROM texts WHERE project = ?1 AND doc = ?2",
    ] {
        db.prepare_cached(sql)?.execute(text)?;
    }
    Ok(())
}

fn forget_version(
    db: &Connection,
    project: &ProjectId,
    doc: &DocId,
    seq: u64,
) -> rusqlite::Result<()> {
    let version = params![project.as_str(), doc.as_str(), integer(seq)];
    for sql in [
        "UPDATE grants SET kept = 0 WHERE project = ?1 AND blob IN (
             SELECT key FROM blobs WHERE hash IN (
                 SELECT hash FROM settled WHERE project = ?1 AND doc = ?2 AND project_seq = ?3))",
        "DELETE FROM settled WHERE project = ?1 AND doc = ?2 AND project_seq = ?3",
    ] {
        db.prepare_cached(sql)?.execute(version)?;
    }
    Ok(())
}

pub(super) fn doubtful_blobs(
    db: &Connection,
    project: &ProjectId,
    spent: Spent,
    limit: usize,
) -> rusqlite::Result<Vec<Doubtful>> {
    db.prepare_cached(&format!(
        "SELECT b.hash, {IS_TEXT} FROM grants g JOIN blobs b ON b.key = g.blob
         WHERE g.project = ?1 AND g.kept = 0 AND g.uploaded_at < ?2 AND g.released_at < ?3
         LIMIT ?4"
    ))?
    .query_map(
        params![
            project.as_str(),
            integer(spent.uploaded_before),
            integer(spent.released_before),
            integer(limit as u64)
        ],
        |row| {
            Ok(Doubtful {
                hash: BlobHash::from_bytes(row.get(0)?),
                is_text: row.get(1)?,
            })
        },
    )?
    .collect()
}

pub(super) fn texts_deleted(
    db: &Connection,
    project: &ProjectId,
    before: u64,
    limit: usize,
) -> rusqlite::Result<Vec<DocId>> {
    db.prepare_cached("SELECT doc FROM texts WHERE project = ?1 AND deleted_at < ?2 LIMIT ?3")?
        .query_map(
            params![project.as_str(), integer(before), integer(limit as u64)],
            |row| parsed(row, 0),
        )?
        .collect()
}

/// Looks at each version's next one only: a later one of the same day is always followed by such.
pub(super) fn crowded_versions(
    db: &Connection,
    project: &ProjectId,
    before: u64,
    limit: usize,
) -> rusqlite::Result<Vec<(DocId, u64)>> {
    db.prepare_cached(
        "SELECT doc, project_seq FROM settled s
         WHERE project = ?1 AND mtime < ?2 AND mtime / ?3 = (
             SELECT n.mtime / ?3 FROM settled n
             WHERE n.project = s.project AND n.doc = s.doc AND n.project_seq > s.project_seq
             ORDER BY n.project_seq LIMIT 1)
         LIMIT ?4",
    )?
    .query_map(
        params![
            project.as_str(),
            integer(before),
            integer(DAY),
            integer(limit as u64)
        ],
        |row| Ok((parsed(row, 0)?, row.get(1)?)),
    )?
    .collect()
}

/// Hash and key of a blob are in one index: those that are read by somebody cost no look at their row.
pub(super) fn blobs_of_nobody(
    db: &Connection,
    limit: usize,
) -> rusqlite::Result<Vec<(BlobHash, u64)>> {
    db.prepare_cached(
        "SELECT hash, size FROM blobs WHERE key IN (
             SELECT key FROM blobs
             WHERE NOT EXISTS (SELECT 1 FROM grants WHERE blob = key) LIMIT ?1)",
    )?
    .query_map([integer(limit as u64)], |row| {
        Ok((BlobHash::from_bytes(row.get(0)?), row.get(1)?))
    })?
    .collect()
}
