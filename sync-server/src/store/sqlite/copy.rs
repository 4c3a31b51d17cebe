//! Copying the database of a server that may be writing to it.
#![allow(
    clippy::disallowed_methods,
    reason = "this module makes a database file"
)]

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rusqlite::Connection;

use super::{StoreError, schema, store_error};

/// Copies a database as it is at one moment, to where nothing is yet, and makes the copy durable.
///
/// `VACUUM INTO` reads everything in one transaction: it holds up no writer, and starts over for
/// none, as SQLite's page by page backup does whenever another process commits. The copy has no
/// free pages, and no epoch: see [`schema::give_epoch`].
pub fn copy(path: &Path, to: &Path) -> Result<(), StoreError> {
    let failed = |error: rusqlite::Error| store_error(path, &error);
    let failed_there = |error: rusqlite::Error| store_error(to, &error);
    let io = |error: std::io::Error| StoreError::io(to.display(), &error);
    let from = schema::open_reader(path).map_err(failed)?;
    schema::known_format(&from, path)?;
    // An empty file is taken for none, and keeps its mode.
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let file = options.open(to).map_err(io)?;
    let name = to.to_str().ok_or_else(|| StoreError::Failed {
        place: to.display().to_string(),
        detail: "SQLite takes only names in UTF-8".into(),
    })?;
    from.execute("VACUUM INTO ?1", [name]).map_err(failed)?;
    let copied = Connection::open(to).map_err(failed_there)?;
    let marked = copied.execute("UPDATE server SET epoch = ''", []);
    marked.map_err(failed_there)?;
    copied.close().map_err(|(_, error)| failed_there(error))?;
    file.sync_all().map_err(io)
}
