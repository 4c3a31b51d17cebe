//! Each [`Write`] as SQL; those of a document's log are in [`log`], of events in [`events`], of what
//! is let go of in [`upkeep`].

use rusqlite::{Connection, ffi, params};

use super::super::{BlobBody, Outcome, Refused, SettledVersion, TextRecord, Write};
use super::{events, integer, log, schema, upkeep};
use crate::access::{TokenRecord, TokenScope};

/// Why a write stopped: it was refused, or the database failed.
pub(super) enum Stopped {
    Refused(Refused),
    Database(rusqlite::Error),
}

impl From<Refused> for Stopped {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<rusqlite::Error> for Stopped {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

/// Applies a group; what it did before a refusal is the caller's to take back.
pub(super) fn apply_group(db: &Connection, group: &[Write]) -> rusqlite::Result<Outcome> {
    if group.is_empty() {
        // The probe: the smallest write there is.
        db.pragma_update(None, "user_version", schema::FORMAT)?;
    }
    for write in group {
        match apply(db, write) {
            Ok(()) => {}
            Err(Stopped::Refused(refused)) => return Ok(Err(refused)),
            Err(Stopped::Database(error)) => return missing_project(write, error).map(Err),
        }
    }
    Ok(Ok(()))
}

/// The only foreign key that a write can break is the one to its project.
fn missing_project(write: &Write, error: rusqlite::Error) -> rusqlite::Result<Refused> {
    let code = error.sqlite_error().map(|failure| failure.extended_code);
    match (code, write.project()) {
        (Some(ffi::SQLITE_CONSTRAINT_FOREIGNKEY), Some(project)) => {
            Ok(Refused::NoSuchProject(project.clone()))
        }
        _ => Err(error),
    }
}

fn apply(db: &Connection, write: &Write) -> Result<(), Stopped> {
    match write {
        Write::CreateProject(project) => {
            let made = db
                .prepare_cached(
                    "INSERT INTO projects (id, name, created_at) VALUES (?1, ?2, ?3)
                     ON CONFLICT DO NOTHING",
                )?
                .execute(params![
                    project.id.as_str(),
                    project.name,
                    integer(project.created_at)
                ])?;
            or_refuse(made, || Refused::ProjectExists(project.id.clone()))
        }
        Write::DeleteProject(id) => {
            let deleted = db
                .prepare_cached("DELETE FROM projects WHERE id = ?1")?
                .execute([id.as_str()])?;
            or_refuse(deleted, || Refused::NoSuchProject(id.clone()))?;
            events::end(db, id)
        }
        Write::Append {
            name,
            seq,
            update,
            origin,
            at,
        } => {
            let document = log::append(db, name, *seq, update)?;
            log::note_origin(db, document, *seq, origin.as_ref(), *at)
        }
        Write::Compact {
            name,
            through,
            state,
        } => log::compact(db, name, *through, state),
        Write::PutText(text) => put_text(db, text),
        Write::Settle {
            project,
            doc,
            version,
            project_seq,
            doc_seq,
        } => {
            let SettledVersion { hash, size, mtime } = version;
            db.prepare_cached(
                "INSERT INTO settled (project, doc, project_seq, doc_seq, hash, size, mtime)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                project.as_str(),
                doc.as_str(),
                integer(*project_seq),
                integer(*doc_seq),
                hash.as_bytes(),
                integer(*size),
                integer(*mtime)
            ])?;
            Ok(())
        }
        Write::PutBlob {
            project,
            hash,
            body,
            at,
        } => {
            let (size, bytes) = match body {
                BlobBody::Inline(bytes) => (bytes.len() as u64, Some(&bytes[..])),
                BlobBody::External { size } => (*size, None),
            };
            db.prepare_cached(
                "INSERT INTO blobs (hash, size, body) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
            )?
            .execute(params![hash.as_bytes(), integer(size), bytes])?;
            db.prepare_cached(
                "INSERT INTO grants (project, blob, uploaded_at)
                 VALUES (?1, (SELECT key FROM blobs WHERE hash = ?2), ?3)
                 ON CONFLICT DO UPDATE SET uploaded_at = max(uploaded_at, excluded.uploaded_at)",
            )?
            .execute(params![project.as_str(), hash.as_bytes(), integer(*at)])?;
            Ok(())
        }
        Write::PutToken(token) => put_token(db, token),
        Write::RevokeToken { id, at } => {
            let found = db
                .prepare_cached(
                    "UPDATE tokens SET revoked_at = coalesce(revoked_at, ?2) WHERE id = ?1",
                )?
                .execute(params![id.as_str(), integer(*at)])?;
            or_refuse(found, || Refused::NoSuchToken(id.clone()))
        }
        Write::Audit(record) => {
            db.prepare_cached(
                "INSERT INTO audit (at, actor, action, project, detail)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![
                integer(record.at),
                record.actor,
                record.action,
                record.project.as_ref().map(|project| project.as_str()),
                record.detail
            ])?;
            Ok(())
        }
        Write::Events {
            project,
            events,
            keep,
        } => events::append(db, project, events, *keep),
        Write::Lines(lines) => events::append_lines(db, lines),
        Write::Upkeep(upkeep) => upkeep::apply(db, upkeep),
    }
}

fn put_text(db: &Connection, text: &TextRecord) -> Result<(), Stopped> {
    db.prepare_cached(
        "INSERT INTO texts (project, doc, seed, path, deleted_at) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (project, doc) DO UPDATE SET
             seed = excluded.seed, path = excluded.path, deleted_at = excluded.deleted_at",
    )?
    .execute(params![
        text.project.as_str(),
        text.doc.as_str(),
        text.seed.as_bytes(),
        text.path.as_str(),
        text.deleted_at.map(integer)
    ])?;
    Ok(())
}

fn put_token(db: &Connection, token: &TokenRecord) -> Result<(), Stopped> {
    let project = match &token.scope {
        TokenScope::Project(project) => Some(project.as_str()),
        TokenScope::Server => None,
    };
    let added = db
        .prepare_cached(
            "INSERT INTO tokens
                 (id, project, access, digest, name, created_at, expires_at, revoked_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            token.id.as_str(),
            project,
            token.access.as_str(),
            token.digest,
            token.name,
            integer(token.created_at),
            token.expires_at.map(integer),
            token.revoked_at.map(integer)
        ])?;
    or_refuse(added, || Refused::TokenExists(token.id.clone()))
}

pub(super) fn or_refuse(changed: usize, refusal: impl FnOnce() -> Refused) -> Result<(), Stopped> {
    if changed == 0 {
        Err(refusal().into())
    } else {
        Ok(())
    }
}
