//! Each read of the store as SQL; those of a document's log are in [`super::log`].

use rusqlite::types::{FromSqlError, Type};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use uspark_shared::id::{BlobHash, DocId, ProjectId};

use super::super::{AuditRecord, ProjectRecord, Reader, SettledVersion, StoredBlob, TextRecord};
use super::integer;
use crate::access::{TokenId, TokenRecord, TokenScope};

pub(super) fn epoch(db: &Connection) -> rusqlite::Result<String> {
    db.query_row("SELECT epoch FROM server", [], |row| row.get(0))
}

pub(super) fn project(db: &Connection, id: &ProjectId) -> rusqlite::Result<Option<ProjectRecord>> {
    db.prepare_cached("SELECT id, name, created_at FROM projects WHERE id = ?1")?
        .query_row([id.as_str()], project_record)
        .optional()
}

pub(super) fn projects(
    db: &Connection,
    after: Option<&ProjectId>,
    limit: usize,
) -> rusqlite::Result<Vec<ProjectRecord>> {
    // No id is empty, so every id comes after the empty one.
    db.prepare_cached(
        "SELECT id, name, created_at FROM projects WHERE id > ?1 ORDER BY id LIMIT ?2",
    )?
    .query_map(
        params![after.map_or("", ProjectId::as_str), integer(limit as u64)],
        project_record,
    )?
    .collect()
}

pub(super) fn text(
    db: &Connection,
    project: &ProjectId,
    doc: &DocId,
) -> rusqlite::Result<Option<TextRecord>> {
    db.prepare_cached(
        "SELECT doc, seed, path, deleted_at FROM texts WHERE project = ?1 AND doc = ?2",
    )?
    .query_row([project.as_str(), doc.as_str()], |row| {
        text_record(project, row)
    })
    .optional()
}

pub(super) fn texts(
    db: &Connection,
    project: &ProjectId,
) -> rusqlite::Result<Vec<(TextRecord, Option<SettledVersion>)>> {
    db.prepare_cached(
        "SELECT t.doc, t.seed, t.path, t.deleted_at, s.hash, s.size, s.mtime
         FROM texts t LEFT JOIN settled s ON s.number = (
             SELECT number FROM settled WHERE project = t.project AND doc = t.doc
             ORDER BY project_seq DESC, number DESC LIMIT 1)
         WHERE t.project = ?1 ORDER BY t.doc",
    )?
    .query_map([project.as_str()], |row| {
        let settled = row.get::<_, Option<[u8; 32]>>(4)?;
        let settled = settled.map(|_| settled_version(row, 4)).transpose()?;
        Ok((text_record(project, row)?, settled))
    })?
    .collect()
}

pub(super) fn settled(
    db: &Connection,
    project: &ProjectId,
    doc: &DocId,
    limit: usize,
) -> rusqlite::Result<Vec<(u64, SettledVersion)>> {
    db.prepare_cached(
        "SELECT project_seq, hash, size, mtime FROM settled WHERE project = ?1 AND doc = ?2
         ORDER BY project_seq DESC, number DESC LIMIT ?3",
    )?
    .query_map(
        params![project.as_str(), doc.as_str(), integer(limit as u64)],
        |row| Ok((row.get(0)?, settled_version(row, 1)?)),
    )?
    .collect()
}

pub(super) fn unsettled(db: &Connection, project: &ProjectId) -> rusqlite::Result<Vec<DocId>> {
    db.prepare_cached(
        "SELECT d.doc FROM documents d JOIN texts t ON t.project = d.project AND t.doc = d.doc
         WHERE d.project = ?1 AND max(d.through, coalesce(
             (SELECT max(seq) FROM updates WHERE document = d.key), 0)) > coalesce(
             (SELECT max(doc_seq) FROM settled WHERE project = d.project AND doc = d.doc), 0)
         ORDER BY d.doc",
    )?
    .query_map([project.as_str()], |row| parsed(row, 0))?
    .collect()
}

/// Looks for the right also where there is no such blob: what others have takes as long as what nobody has.
pub(super) fn blob(
    db: &Connection,
    hash: &BlobHash,
    reader: Reader<'_>,
) -> rusqlite::Result<Option<StoredBlob>> {
    let stored = |row: &Row<'_>| {
        Ok(match row.get::<_, Option<Vec<u8>>>(1)? {
            Some(bytes) => StoredBlob::Inline(bytes.into()),
            None => StoredBlob::External { size: row.get(0)? },
        })
    };
    match reader {
        Reader::Any => db
            .prepare_cached("SELECT size, body FROM blobs WHERE hash = ?1")?
            .query_row([hash.as_bytes()], stored),
        Reader::Project(project) => db
            .prepare_cached(
                "SELECT size, body FROM grants CROSS JOIN blobs ON key = blob
                 WHERE project = ?2 AND blob = coalesce((SELECT key FROM blobs WHERE hash = ?1), -1)",
            )?
            .query_row(params![hash.as_bytes(), project.as_str()], stored),
    }
    .optional()
}

pub(super) fn absent(
    db: &Connection,
    project: &ProjectId,
    hashes: &[BlobHash],
) -> rusqlite::Result<Vec<BlobHash>> {
    let mut is_there = db.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM grants WHERE project = ?2
                        AND blob = coalesce((SELECT key FROM blobs WHERE hash = ?1), -1))",
    )?;
    let mut absent = Vec::new();
    for hash in hashes {
        let there = is_there.query_row(params![hash.as_bytes(), project.as_str()], |row| {
            row.get::<_, bool>(0)
        })?;
        absent.extend((!there).then_some(*hash));
    }
    Ok(absent)
}

const TOKEN: &str =
    "SELECT id, project, access, digest, name, created_at, expires_at, revoked_at FROM tokens";

pub(super) fn token(db: &Connection, id: &TokenId) -> rusqlite::Result<Option<TokenRecord>> {
    db.prepare_cached(&format!("{TOKEN} WHERE id = ?1"))?
        .query_row([id.as_str()], token_record)
        .optional()
}

pub(super) fn tokens(
    db: &Connection,
    project: Option<&ProjectId>,
) -> rusqlite::Result<Vec<TokenRecord>> {
    db.prepare_cached(&format!(
        "{TOKEN} WHERE ?1 IS NULL OR project = ?1 ORDER BY id"
    ))?
    .query_map([project.map(ProjectId::as_str)], token_record)?
    .collect()
}

pub(super) fn audit(
    db: &Connection,
    after: u64,
    limit: usize,
) -> rusqlite::Result<Vec<(u64, AuditRecord)>> {
    db.prepare_cached(
        "SELECT number, at, actor, action, project, detail FROM audit
         WHERE number > ?1 ORDER BY number LIMIT ?2",
    )?
    .query_map(params![integer(after), integer(limit as u64)], |row| {
        let project: Option<String> = row.get(4)?;
        let record = AuditRecord {
            at: row.get(1)?,
            actor: row.get(2)?,
            action: row.get(3)?,
            project: project
                .map(|id| id.parse().map_err(|e| damaged(4, e)))
                .transpose()?,
            detail: row.get(5)?,
        };
        Ok((row.get(0)?, record))
    })?
    .collect()
}

fn project_record(row: &Row<'_>) -> rusqlite::Result<ProjectRecord> {
    Ok(ProjectRecord {
        id: parsed(row, 0)?,
        name: row.get(1)?,
        created_at: row.get(2)?,
    })
}

/// Columns `doc, seed, path, deleted_at`, from the first.
fn text_record(project: &ProjectId, row: &Row<'_>) -> rusqlite::Result<TextRecord> {
    Ok(TextRecord {
        project: project.clone(),
        doc: parsed(row, 0)?,
        seed: BlobHash::from_bytes(row.get(1)?),
        path: parsed(row, 2)?,
        deleted_at: row.get(3)?,
    })
}

/// Columns `hash, size, mtime`, from `first`.
fn settled_version(row: &Row<'_>, first: usize) -> rusqlite::Result<SettledVersion> {
    Ok(SettledVersion {
        hash: BlobHash::from_bytes(row.get(first)?),
        size: row.get(first + 1)?,
        mtime: row.get(first + 2)?,
    })
}

fn token_record(row: &Row<'_>) -> rusqlite::Result<TokenRecord> {
    let project: Option<String> = row.get(1)?;
    let scope = match project {
        Some(id) => TokenScope::Project(id.parse().map_err(|e| damaged(1, e))?),
        None => TokenScope::Server,
    };
    Ok(TokenRecord {
        id: parsed(row, 0)?,
        scope,
        access: parsed(row, 2)?,
        digest: row.get(3)?,
        name: row.get(4)?,
        created_at: row.get(5)?,
        expires_at: row.get(6)?,
        revoked_at: row.get(7)?,
    })
}

pub(super) fn parsed<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    let text = row
        .get_ref(column)?
        .as_str()
        .map_err(|e: FromSqlError| damaged(column, e))?;
    text.parse().map_err(|e| damaged(column, e))
}

/// A value that was never written by this server.
pub(super) fn damaged(
    column: usize,
    error: impl std::error::Error + Send + Sync + 'static,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}
