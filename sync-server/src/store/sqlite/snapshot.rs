//! One moment of a database, read beside a server that may be writing to it.
//!
//! Writes nothing and holds nobody up. While it lives the database's log cannot be cut back.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags};
use uspark_shared::id::ProjectId;
use uspark_shared::schema::Entry;

use super::{StoreError, reads, schema, store_error};

/// Problems of SQLite's own check that are told.
const MOST_PROBLEMS: u32 = 100;

/// A text's first content.
pub enum Seed {
    /// The project has no such blob, and needs it.
    Absent,
    /// The project has no such blob. Somebody brought the document without it, after a backup was restored.
    Forgotten,
    /// It is in the database.
    Inline(Vec<u8>),
    /// It has a file.
    Large,
    /// It is there. Nobody needs its bytes: the document has a log of its own.
    Unread,
}

/// One moment of a database.
pub struct Snapshot {
    db: Connection,
    path: PathBuf,
}

impl Snapshot {
    /// Opens a database as it is now.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let db = schema::open_reader(path).and_then(pin);
        let db = match db {
            // SQLite keeps an index beside a log even to read, and a medium may take no file.
            Err(error) if is_unwritable(&error) && !has_log(path) => unchanging(path).and_then(pin),
            db => db,
        };
        let db = db.map_err(|error| store_error(path, &error))?;
        schema::known_format(&db, path)?;
        let path = path.to_owned();
        Ok(Self { db, path })
    }

    /// The epoch; empty in a backup that nobody has opened.
    pub fn epoch(&self) -> Result<String, StoreError> {
        self.read(reads::epoch)
    }

    /// What SQLite finds wrong with the file and with what refers to what.
    pub fn damage(&self) -> Result<Vec<String>, StoreError> {
        self.read(|db| {
            let mut check = db.prepare(&format!("PRAGMA integrity_check({MOST_PROBLEMS})"))?;
            let found = check.query_map([], |row| row.get(0))?;
            let mut found = found.collect::<rusqlite::Result<Vec<String>>>()?;
            found.retain(|line| line != "ok");
            let mut check = db.prepare("PRAGMA foreign_key_check")?;
            let dangling = check.query_map([], |row| {
                let (table, of): (String, String) = (row.get(0)?, row.get(2)?);
                Ok(format!("a row of `{table}` without its row of `{of}`"))
            })?;
            for line in dangling.take(MOST_PROBLEMS as usize) {
                found.push(line?);
            }
            Ok(found)
        })
    }

    /// Reads every project, token and line of the audit log; gives how many projects there are.
    pub fn records(&self) -> Result<u64, StoreError> {
        self.read(|db| {
            reads::tokens(db, None)?;
            let mut after = 0;
            while let Some((last, _)) = reads::audit(db, after, 10_000)?.pop() {
                after = last;
            }
            Ok(reads::projects(db, None, usize::MAX)?.len() as u64)
        })
    }

    /// How many documents have a log.
    pub fn count_documents(&self) -> Result<u64, StoreError> {
        self.read(|db| db.query_row("SELECT count(*) FROM documents", [], |row| row.get(0)))
    }

    /// Each document's project, its id (empty: the project's own), and its snapshot and updates.
    pub fn documents(
        &self,
        mut each: impl FnMut(&str, &str, &[Vec<u8>]),
    ) -> Result<(), StoreError> {
        self.read(|db| {
            let mut documents = db.prepare("SELECT key, project, doc, snapshot FROM documents")?;
            let mut updates =
                db.prepare("SELECT body FROM updates WHERE document = ?1 ORDER BY seq")?;
            let mut rows = documents.query([])?;
            while let Some(row) = rows.next()? {
                let (key, project, doc): (i64, String, String) =
                    (row.get(0)?, row.get(1)?, row.get(2)?);
                let snapshot: Option<Vec<u8>> = row.get(3)?;
                let mut log: Vec<Vec<u8>> = snapshot.into_iter().collect();
                for body in updates.query_map([key], |row| row.get(0))? {
                    log.push(body?);
                }
                each(&project, &doc, &log);
            }
            Ok(())
        })
    }

    /// Each text's project, its id, and its first content, which that project must be able to read.
    pub fn seeds(
        &self,
        mut each: impl FnMut(&str, &str, [u8; 32], Seed),
    ) -> Result<(), StoreError> {
        self.read(|db| {
            let mut texts = db.prepare(
                "SELECT t.project, t.doc, t.seed, b.key, b.body, EXISTS (
                     SELECT 1 FROM documents d WHERE d.project = t.project AND d.doc = t.doc)
                 FROM texts t LEFT JOIN blobs b ON b.hash = t.seed AND EXISTS (
                     SELECT 1 FROM grants g WHERE g.blob = b.key AND g.project = t.project)",
            )?;
            let mut rows = texts.query([])?;
            while let Some(row) = rows.next()? {
                let (project, doc): (String, String) = (row.get(0)?, row.get(1)?);
                let seed = match (row.get::<_, Option<i64>>(3)?, row.get(5)?) {
                    (None, false) => Seed::Absent,
                    (None, true) => Seed::Forgotten,
                    (Some(_), true) => Seed::Unread,
                    (Some(_), false) => match row.get(4)? {
                        Some(bytes) => Seed::Inline(bytes),
                        None => Seed::Large,
                    },
                };
                each(&project, &doc, row.get(2)?, seed);
            }
            Ok(())
        })
    }

    /// Each settled version that its project cannot read: project, text, hash.
    pub fn lost_versions(
        &self,
        mut each: impl FnMut(&str, &str, [u8; 32]),
    ) -> Result<(), StoreError> {
        self.read(|db| {
            let mut lost = db.prepare(
                "SELECT project, doc, hash FROM settled s WHERE NOT EXISTS (
                     SELECT 1 FROM blobs b JOIN grants g ON g.blob = b.key
                     WHERE b.hash = s.hash AND g.project = s.project)",
            )?;
            let mut rows = lost.query([])?;
            while let Some(row) = rows.next()? {
                let (project, doc): (String, String) = (row.get(0)?, row.get(1)?);
                each(&project, &doc, row.get(2)?);
            }
            Ok(())
        })
    }

    /// Whether what an entry names is not there for its project.
    pub fn lacks(&self, project: &ProjectId, entry: &Entry) -> Result<bool, StoreError> {
        self.read(|db| match entry {
            Entry::Text { doc, .. } => Ok(reads::text(db, project, doc)?.is_none()),
            Entry::Blob { hash, .. } | Entry::Original { hash, .. } => {
                Ok(!reads::absent(db, project, &[*hash])?.is_empty())
            }
            Entry::Link { .. } | Entry::Dir => Ok(false),
        })
    }

    /// How many bytes all blobs have.
    pub fn count_bytes(&self) -> Result<u64, StoreError> {
        self.read(|db| {
            db.query_row("SELECT coalesce(sum(size), 0) FROM blobs", [], |row| {
                row.get(0)
            })
        })
    }

    /// Each blob's hash, size, and bytes unless it has a file.
    pub fn blobs(
        &self,
        mut each: impl FnMut([u8; 32], u64, Option<&[u8]>),
    ) -> Result<(), StoreError> {
        self.read(|db| {
            let mut blobs = db.prepare("SELECT hash, size, body FROM blobs")?;
            let mut rows = blobs.query([])?;
            while let Some(row) = rows.next()? {
                let body = row.get_ref(2)?.as_blob_or_null()?;
                each(row.get(0)?, row.get(1)?, body);
            }
            Ok(())
        })
    }

    /// The hashes of blobs that have a file.
    pub fn large_blobs(&self) -> Result<Vec<[u8; 32]>, StoreError> {
        self.read(|db| {
            db.prepare("SELECT hash FROM blobs WHERE body IS NULL")?
                .query_map([], |row| row.get(0))?
                .collect()
        })
    }

    /// How many blobs no project may read, and their bytes.
    pub fn ungranted(&self) -> Result<(u64, u64), StoreError> {
        self.read(|db| {
            db.query_row(
                "SELECT count(*), coalesce(sum(size), 0) FROM blobs
                 WHERE NOT EXISTS (SELECT 1 FROM grants WHERE blob = key)",
                [],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
        })
    }

    fn read<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        read(&self.db).map_err(|error| store_error(&self.path, &error))
    }
}

/// All reads from here on see this moment.
fn pin(db: Connection) -> rusqlite::Result<Connection> {
    db.execute_batch("BEGIN")?;
    db.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    Ok(db)
}

fn is_unwritable(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly))
}

/// Whether commits wait in a log beside the database.
fn has_log(path: &Path) -> bool {
    let log = path.with_extension("db-wal").metadata();
    log.is_ok_and(|log| log.len() > 0)
}

/// Opens a database that nobody can change.
fn unchanging(path: &Path) -> rusqlite::Result<Connection> {
    let mut name = path.display().to_string();
    for (special, escaped) in [("%", "%25"), ("?", "%3f"), ("#", "%23")] {
        name = name.replace(special, escaped);
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(format!("file:{name}?immutable=1"), flags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::DataDirectory;

    #[test]
    fn a_database_that_nobody_can_change_is_read_whatever_its_directory_is_called() {
        let temp = tempfile::tempdir().unwrap();
        let data = DataDirectory::open(temp.path().join("a?b=c#d%20e")).unwrap();
        let path = data.database();
        schema::create_if_absent(&path).unwrap();
        let db = unchanging(&path).and_then(pin).unwrap();
        assert_eq!(reads::epoch(&db).unwrap().len(), 20);
        drop(db);
        assert!(!has_log(&path));
        std::os::unix::fs::symlink(&path, path.with_extension("db-wal")).unwrap();
        assert!(has_log(&path));
    }
}
