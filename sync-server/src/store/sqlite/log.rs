//! The log of one document: its updates, its snapshot, and who wrote what.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, params};
use uspark_shared::id::{DocId, DocumentName};

use super::super::{Origin, OriginSpan, Refused, StoredDocument};
use super::integer;
use super::reads::damaged;
use super::writes::{Stopped, or_refuse};

/// The key of a document's row, and how far it is compacted; makes the row unless it is there.
fn document(db: &Connection, name: &DocumentName) -> rusqlite::Result<(i64, i64)> {
    let key = params![
        name.project.as_str(),
        name.text.as_ref().map_or("", DocId::as_str)
    ];
    let known = db
        .prepare_cached("SELECT key, through FROM documents WHERE project = ?1 AND doc = ?2")?
        .query_row(key, |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    if let Some(found) = known {
        return Ok(found);
    }
    let key = db
        .prepare_cached("INSERT INTO documents (project, doc, through) VALUES (?1, ?2, 0)")?
        .insert(key)?;
    Ok((key, 0))
}

/// Appends an update, and answers the key of the document's row.
pub(super) fn append(
    db: &Connection,
    name: &DocumentName,
    seq: u64,
    update: &[u8],
) -> Result<i64, Stopped> {
    let (key, through) = document(db, name)?;
    let taken = || Refused::SequenceTaken {
        name: name.clone(),
        seq,
    };
    // A stale owner's place may lie in what the newer owner has compacted away.
    if integer(seq) <= through {
        return Err(taken().into());
    }
    let added = db
        .prepare_cached(
            "INSERT INTO updates (document, seq, body) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
        )?
        .execute(params![key, integer(seq), update])?;
    or_refuse(added, taken)?;
    Ok(key)
}

/// Adds a row only where the origin is not that of the update before.
pub(super) fn note_origin(
    db: &Connection,
    document: i64,
    seq: u64,
    origin: Option<&Origin>,
    at: u64,
) -> Result<(), Stopped> {
    let origin = origin.map(|origin| {
        serde_json::to_string(origin).expect("a struct of strings is always valid JSON")
    });
    let before: Option<String> = db
        .prepare_cached(
            "SELECT origin FROM origins WHERE document = ?1 AND seq < ?2
             ORDER BY seq DESC LIMIT 1",
        )?
        .query_row(params![document, integer(seq)], |row| row.get(0))
        .optional()?
        .flatten();
    if before != origin {
        db.prepare_cached(
            "INSERT INTO origins (document, seq, at, origin) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![document, integer(seq), integer(at), origin])?;
    }
    Ok(())
}

pub(super) fn compact(
    db: &Connection,
    name: &DocumentName,
    through: u64,
    state: &[u8],
) -> Result<(), Stopped> {
    let (key, known) = document(db, name)?;
    if integer(through) <= known {
        return Ok(());
    }
    db.prepare_cached("UPDATE documents SET snapshot = ?3, through = ?2 WHERE key = ?1")?
        .execute(params![key, integer(through), state])?;
    db.prepare_cached("DELETE FROM updates WHERE document = ?1 AND seq <= ?2")?
        .execute(params![key, integer(through)])?;
    Ok(())
}

/// Reads the snapshot and the updates in one transaction: a compaction between the two would
/// hide what it moved from the one to the other.
pub(super) fn load(db: &Connection, name: &DocumentName) -> rusqlite::Result<StoredDocument> {
    let transaction = db.unchecked_transaction()?;
    let document = db
        .prepare_cached(
            "SELECT key, through, snapshot FROM documents WHERE project = ?1 AND doc = ?2",
        )?
        .query_row(document_key(name), |row| {
            Ok((
                row.get::<_, i64>(0)?,
                row.get::<_, u64>(1)?,
                row.get::<_, Option<Vec<u8>>>(2)?,
            ))
        })
        .optional()?;
    let Some((key, mut last, snapshot)) = document else {
        return Ok(StoredDocument {
            updates: Vec::new(),
            next_seq: 1,
        });
    };
    let mut updates: Vec<Bytes> = snapshot.map(Bytes::from).into_iter().collect();
    let mut statement =
        db.prepare_cached("SELECT seq, body FROM updates WHERE document = ?1 ORDER BY seq")?;
    let mut rows = statement.query([key])?;
    while let Some(row) = rows.next()? {
        last = row.get(0)?;
        updates.push(row.get::<_, Vec<u8>>(1)?.into());
    }
    drop(rows);
    transaction.finish()?;
    Ok(StoredDocument {
        updates,
        next_seq: last + 1,
    })
}

pub(super) fn origins(
    db: &Connection,
    name: &DocumentName,
    limit: usize,
) -> rusqlite::Result<Vec<OriginSpan>> {
    let (project, doc) = document_key(name);
    db.prepare_cached(
        "SELECT seq, at, origin FROM origins
         WHERE document = (SELECT key FROM documents WHERE project = ?1 AND doc = ?2)
         ORDER BY seq DESC LIMIT ?3",
    )?
    .query_map(params![project, doc, integer(limit as u64)], |row| {
        let origin: Option<String> = row.get(2)?;
        let origin = origin.map(|json| serde_json::from_str(&json).map_err(|e| damaged(2, e)));
        Ok(OriginSpan {
            from_seq: row.get(0)?,
            at: row.get(1)?,
            origin: origin.transpose()?,
        })
    })?
    .collect()
}

fn document_key(name: &DocumentName) -> (&str, &str) {
    (
        name.project.as_str(),
        name.text.as_ref().map_or("", DocId::as_str),
    )
}
