//! The database's format, and how it is made and opened.
//!
//! Invariant: a database appears under its name only with its whole schema in it. One that has
//! none (cut to nothing, or somebody else's) is damaged, never taken for a new one.
#![allow(
    clippy::disallowed_methods,
    reason = "this module owns the database file"
)]

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rusqlite::{Connection, OpenFlags};

use super::super::directory::sync_directory;
use super::{StoreError, store_error};

/// The format that this server writes; kept in `user_version`.
pub(super) const FORMAT: i64 = 3;

/// Statements kept prepared on each connection: more than there are.
const STATEMENTS: usize = 96;

/// A second process may only be a backup or a check, and those are brief.
const BUSY: Duration = Duration::from_secs(5);

/// The log is cut back to this after a large write, in bytes.
const LOG_LIMIT: u64 = 64 << 20;

/// Format 1. `documents.doc` is empty for the project document itself. An update's place is unique among
/// those that are left, and above `through`. `origins` holds a row only where the origin changes.
pub(super) const FORMAT_1: &str = "
CREATE TABLE server (epoch TEXT NOT NULL) STRICT;

CREATE TABLE projects (
    id TEXT PRIMARY KEY,
    name TEXT,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE documents (
    key INTEGER PRIMARY KEY,
    project TEXT NOT NULL REFERENCES projects ON DELETE CASCADE,
    doc TEXT NOT NULL,
    through INTEGER NOT NULL,
    snapshot BLOB,
    UNIQUE (project, doc)
) STRICT;

CREATE TABLE updates (
    document INTEGER NOT NULL REFERENCES documents ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (document, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE origins (
    document INTEGER NOT NULL REFERENCES documents ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    origin TEXT,
    PRIMARY KEY (document, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE texts (
    project TEXT NOT NULL REFERENCES projects ON DELETE CASCADE,
    doc TEXT NOT NULL,
    seed BLOB NOT NULL,
    path TEXT NOT NULL,
    deleted_at INTEGER,
    PRIMARY KEY (project, doc)
) STRICT, WITHOUT ROWID;

CREATE TABLE settled (
    number INTEGER PRIMARY KEY,
    project TEXT NOT NULL REFERENCES projects ON DELETE CASCADE,
    doc TEXT NOT NULL,
    project_seq INTEGER NOT NULL,
    doc_seq INTEGER NOT NULL,
    hash BLOB NOT NULL,
    size INTEGER NOT NULL,
    mtime INTEGER NOT NULL
) STRICT;
CREATE INDEX settled_by_text ON settled (project, doc, project_seq);

CREATE TABLE blobs (
    key INTEGER PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    size INTEGER NOT NULL,
    body BLOB
) STRICT;

CREATE TABLE grants (
    project TEXT NOT NULL REFERENCES projects ON DELETE CASCADE,
    blob INTEGER NOT NULL REFERENCES blobs,
    PRIMARY KEY (project, blob)
) STRICT, WITHOUT ROWID;
CREATE INDEX grants_by_blob ON grants (blob);

CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    project TEXT REFERENCES projects ON DELETE CASCADE,
    access TEXT NOT NULL,
    digest BLOB NOT NULL,
    name TEXT,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX tokens_by_project ON tokens (project);

CREATE TABLE audit (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    project TEXT,
    detail TEXT NOT NULL
) STRICT;
";

/// What format 2 adds. `event_numbers` outlives its project, so that no number is given twice; of
/// its events none up to `cut` is kept. `runs` says how many lines of a run there ever were.
const ADDED_IN_2: &str = "
CREATE TABLE event_numbers (
    project TEXT PRIMARY KEY,
    last INTEGER NOT NULL,
    cut INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    project TEXT NOT NULL REFERENCES projects ON DELETE CASCADE,
    number INTEGER NOT NULL,
    event TEXT NOT NULL,
    PRIMARY KEY (project, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE runs (
    project TEXT NOT NULL REFERENCES projects ON DELETE CASCADE,
    run TEXT NOT NULL,
    lines INTEGER NOT NULL,
    PRIMARY KEY (project, run)
) STRICT, WITHOUT ROWID;
";

/// What format 3 adds: when a blob was uploaded to a project, or a writer was told that it is there; when
/// an entry let go of it; whether something was found to name it. And what finds who names a blob.
const ADDED_IN_3: &str = "
ALTER TABLE grants ADD COLUMN uploaded_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE grants ADD COLUMN released_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE grants ADD COLUMN kept INTEGER NOT NULL DEFAULT 0;
CREATE INDEX grants_in_doubt ON grants (project, uploaded_at) WHERE kept = 0;
CREATE INDEX settled_by_hash ON settled (project, hash);
CREATE INDEX texts_by_seed ON texts (project, seed);
CREATE INDEX texts_deleted ON texts (project, deleted_at) WHERE deleted_at IS NOT NULL;
";

/// As if everything had been uploaded, let go of and deleted right now: of blobs from before format 3 nothing
/// is known, and who comes back to a backup may name what it has. The only place where the store looks at a
/// clock: there is nobody to ask.
const DATE_ANEW: &str = "
UPDATE grants SET uploaded_at = unixepoch() * 1000, released_at = unixepoch() * 1000;
UPDATE texts SET deleted_at = unixepoch() * 1000 WHERE deleted_at IS NOT NULL;
";

/// Makes the database under another name, then renames it: there is never half a one.
pub(super) fn create_if_absent(path: &Path) -> Result<(), StoreError> {
    let io = |error: std::io::Error| StoreError::io(path.display(), &error);
    if fs::exists(path).map_err(io)? {
        return Ok(());
    }
    let draft = path.with_extension("db.new");
    // The log and its index take over this file's mode.
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(&draft).map_err(io)?;
    let create = || {
        let db = Connection::open(&draft)?;
        // One transaction, and so one sync, for all of it.
        let transaction = db.unchecked_transaction()?;
        db.execute_batch(FORMAT_1)?;
        db.execute_batch(ADDED_IN_2)?;
        db.execute_batch(ADDED_IN_3)?;
        db.execute("INSERT INTO server (epoch) VALUES (?1)", [random_epoch()])?;
        db.pragma_update(None, "user_version", FORMAT)?;
        transaction.commit()?;
        db.close().map_err(|(_, error)| error)
    };
    create().map_err(|error| store_error(path, &error))?;
    fs::rename(&draft, path).map_err(io)?;
    path.parent().map_or(Ok(()), sync_directory).map_err(io)
}

/// Opens the connection that writes, after checking that the database is one of ours.
pub(super) fn open_writer(path: &Path) -> Result<Connection, StoreError> {
    let failed = |error| store_error(path, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(failed)?;
    let place = || path.display().to_string();
    // SQLite opens what it may not write for reading, without a word.
    if db.is_readonly("main").map_err(failed)? {
        return Err(StoreError::ReadOnly {
            place: place(),
            detail: "no write access".into(),
        });
    }
    let found = known_format(&db, path)?;
    set_up_writer(&db).map_err(failed)?;
    if found < FORMAT {
        migrate(&db, found).map_err(failed)?;
        tracing::info!(from = found, to = FORMAT, "the database has a new format");
    }
    give_epoch(&db).map_err(failed)?;
    Ok(db)
}

/// Checks that the database is one of ours, in a format that this server knows: gives that.
pub(super) fn known_format(db: &Connection, path: &Path) -> Result<i64, StoreError> {
    let place = path.display().to_string();
    let version = db.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0));
    match version.map_err(|error| store_error(path, &error))? {
        found @ 1..=FORMAT => Ok(found),
        found if found > FORMAT => Err(StoreError::Newer {
            place,
            found,
            known: FORMAT,
        }),
        _ => {
            let detail = "the database holds no format version".into();
            Err(StoreError::Corrupt { place, detail })
        }
    }
}

/// Draws an epoch for a database that has none: a copy goes another way than what it was copied from,
/// and two copies go two ways.
pub(super) fn give_epoch(db: &Connection) -> rusqlite::Result<()> {
    let transaction = db.unchecked_transaction()?;
    let drawn = db.execute(
        "UPDATE server SET epoch = ?1 WHERE epoch = ''",
        [random_epoch()],
    )?;
    if drawn > 0 {
        db.execute_batch(DATE_ANEW)?;
    }
    transaction.commit()
}

/// From the format `found`, all or nothing.
fn migrate(db: &Connection, found: i64) -> rusqlite::Result<()> {
    let transaction = db.unchecked_transaction()?;
    if found < 2 {
        db.execute_batch(ADDED_IN_2)?;
    }
    db.execute_batch(ADDED_IN_3)?;
    db.execute_batch(DATE_ANEW)?;
    db.pragma_update(None, "user_version", FORMAT)?;
    transaction.commit()
}

fn set_up_writer(db: &Connection) -> rusqlite::Result<()> {
    db.busy_timeout(BUSY)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "foreign_keys", true)?;
    db.pragma_update(None, "journal_size_limit", LOG_LIMIT)?;
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(())
}

/// Opens a connection that only reads.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(BUSY)?;
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(db)
}

fn random_epoch() -> String {
    let mut bytes = [0; 15];
    getrandom::fill(&mut bytes).expect("the system gives random bytes once it has booted");
    URL_SAFE_NO_PAD.encode(bytes)
}
