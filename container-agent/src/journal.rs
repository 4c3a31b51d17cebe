//! What the agent remembers of a workspace across restarts: `.uspark/journal.db`.
//!
//! Owns, per path, the *base*: what disk and project last agreed on; per document the state that
//! is on disk (the shadow; for the project document, the replica) as updates to be merged; the
//! *outbox*: own updates that the server has not acknowledged; and *intents*: replacements and
//! renames of files that had begun; and what was on disk a moment ago of documents that no longer are.
//! Must not do: decide anything, or touch the workspace.
//!
//! Invariants
//! - What belongs together is written in one transaction: an own edit with its outbox row, a
//!   replacement's end with the shadow it brought about. A process killed between two
//!   transactions leaves the one before.
//! - An own update is here before it is on the socket, so no clock of ours is ever used twice.
//! - A text document with no state here was never edited since its seed: its state is its seed's.
//!
//! Written through to the kernel, not fsynced: a killed process loses nothing, a power cut may
//! lose the last moments (never the file's integrity). A lost journal is first contact: nothing
//! is lost then either, but differences become conflict copies instead of merges.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use uspark_shared::id::{BlobHash, DocId, ProjectId};
use uspark_shared::path::FilePath;
use uspark_shared::schema::Entry;

use crate::disk::observe::Fingerprint;
use crate::disk::swap::TempName;

/// Raised when the tables change; an older agent then refuses, a newer one converts.
const FORMAT: i64 = 3;

/// New in format 3: texts that are gone from disk, as they were there last.
const TABLES_3: &str = "
    CREATE TABLE departed (
        doc TEXT PRIMARY KEY, bytes BLOB NOT NULL, at INTEGER NOT NULL
    ) WITHOUT ROWID;
";

/// New in format 2: texts whose deletion here the server has not confirmed; renames that had begun.
const TABLES_2: &str = "
    CREATE TABLE withdrawn (
        doc TEXT PRIMARY KEY, path TEXT NOT NULL, entry TEXT NOT NULL, deleted BLOB, settled BLOB
    ) WITHOUT ROWID;
    CREATE TABLE renaming (origin TEXT PRIMARY KEY, target TEXT NOT NULL) WITHOUT ROWID;
";

const TABLES: &str = "
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE base (
        path TEXT PRIMARY KEY, entry TEXT NOT NULL, hash BLOB, print BLOB
    ) WITHOUT ROWID;
    CREATE TABLE state (
        id INTEGER PRIMARY KEY, doc TEXT NOT NULL, bytes BLOB NOT NULL, written_back INTEGER
    );
    CREATE INDEX state_of_doc ON state (doc);
    CREATE TABLE outbox (
        seq INTEGER PRIMARY KEY, doc TEXT NOT NULL, bytes BLOB NOT NULL, attribution TEXT
    );
    CREATE TABLE intent (
        path TEXT PRIMARY KEY, temp TEXT NOT NULL, old BLOB, new BLOB, doc TEXT, bytes BLOB
    ) WITHOUT ROWID;
";

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// SQLite says no: the disk is full, or the file is no database.
    #[error("the journal `.uspark/journal.db` cannot be used")]
    Database(#[from] rusqlite::Error),
    /// What it holds makes no sense.
    #[error("the journal `.uspark/journal.db` is damaged: {0}")]
    Damaged(String),
    /// A newer agent wrote it.
    #[error("the journal `.uspark/journal.db` was written by a newer version of uspark")]
    Newer,
    /// The workspace belongs to something else.
    #[error("this workspace belongs to project `{project}` on {server}")]
    Foreign {
        /// The project it belongs to.
        project: String,
        /// The server that has it.
        server: String,
    },
}

impl JournalError {
    /// Whether the file itself is useless, so that another one may take its place.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged(_) => true,
            Self::Database(error) => matches!(
                error.sqlite_error_code(),
                Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt)
            ),
            Self::Newer | Self::Foreign { .. } => false,
        }
    }
}

/// What disk and project last agreed on for a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// The project's entry.
    pub entry: Entry,
    /// The content on disk, of a file.
    pub hash: Option<BlobHash>,
    /// The file or link on disk, to know it again without reading it.
    pub print: Option<Fingerprint>,
}

/// A document: a text, or the project's own (`None`).
pub type Document = Option<DocId>;

/// A replacement of a file that is about to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// The path.
    pub path: FilePath,
    /// Where the displaced file waits.
    pub temp: TempName,
    /// The content that is expected to be displaced.
    pub old: Option<BlobHash>,
    /// The content that takes its place; none for a removal.
    pub new: Option<BlobHash>,
    /// The text's document, and the update by which its shadow follows.
    pub shadow: Option<(DocId, Vec<u8>)>,
}

/// An own update on its way to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Its place in line.
    pub seq: u64,
    /// Its document.
    pub document: Document,
    /// The update.
    pub bytes: Vec<u8>,
    /// What made it, as the wire's JSON value; none when no tool did.
    pub attribution: Option<String>,
}

/// A part of a document's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatePart {
    /// An update.
    pub update: Vec<u8>,
    /// When it was written to disk, in ms since 1970, if it came from elsewhere.
    pub written_back: Option<u64>,
}

impl StatePart {
    /// An update that did not come from elsewhere to the disk, or long ago.
    pub fn of(update: Vec<u8>) -> Self {
        Self {
            update,
            written_back: None,
        }
    }
}

/// A text that was deleted here, until the server has said what it was by then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withdrawn {
    /// Where it was.
    pub path: FilePath,
    /// Its entry.
    pub entry: Entry,
    /// Its document.
    pub doc: DocId,
    /// The content that was deleted.
    pub deleted: Option<BlobHash>,
    /// The content that was settled before.
    pub settled: Option<BlobHash>,
}

/// A text that is gone from disk: whoever writes there may have read it before that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departed {
    /// Its document.
    pub doc: DocId,
    /// The state that was on disk.
    pub state: Vec<u8>,
    /// Since when, in ms since 1970.
    pub at: u64,
}

/// One thing to remember or to forget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// What a path was agreed to be.
    Base(FilePath, Base),
    /// A path is agreed to be nothing.
    NoBase(FilePath),
    /// An update that a document's state takes in.
    State(Document, Vec<u8>),
    /// The same for a text, because it was written to disk: at this time, in ms since 1970.
    WrittenBack(DocId, Vec<u8>, u64),
    /// A document's whole state, in place of its updates.
    WholeState(Document, Vec<u8>),
    /// A document that is gone.
    NoState(DocId),
    /// A text that is gone from disk.
    Departed(Departed),
    /// That was long ago.
    NotDeparted(DocId),
    /// An own update, to be sent.
    Outgoing(Outgoing),
    /// The server has an own update.
    Acknowledged(u64),
    /// A replacement begins.
    Intent(Intent),
    /// A replacement is over.
    NoIntent(FilePath),
    /// A file is about to be renamed from the first path to the second.
    Renaming(FilePath, FilePath),
    /// The renaming of what was at this path is over.
    NotRenaming(FilePath),
    /// The project document was received once in full.
    Received,
    /// A text was deleted here.
    Withdrawn(Withdrawn),
    /// What came of a deletion is known.
    Confirmed(DocId),
}

/// The open journal.
#[derive(Debug)]
pub struct Journal {
    db: Connection,
}

/// What a journal says when it is opened.
#[derive(Debug, Default)]
pub struct Remembered {
    /// Every path's base.
    pub bases: Vec<(FilePath, Base)>,
    /// Replacements that had begun.
    pub intents: Vec<Intent>,
    /// Renames that had begun, from where to where.
    pub renaming: Vec<(FilePath, FilePath)>,
    /// Place in line and document of every update not acknowledged, oldest first.
    pub unacknowledged: Vec<(u64, Document)>,
    /// The next free place in line.
    pub next_seq: u64,
    /// Whether the project document was ever received in full.
    pub received: bool,
    /// Texts whose deletion was not confirmed.
    pub withdrawn: Vec<Withdrawn>,
    /// Texts that were on disk a moment before the journal ends.
    pub departed: Vec<Departed>,
}

impl Journal {
    /// Opens or makes the journal of a project's workspace.
    pub fn open(
        path: &Path,
        server: &str,
        project: &ProjectId,
    ) -> Result<(Self, Remembered), JournalError> {
        let db = Connection::open(path)?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "NORMAL")?;
        // A checkpoint fsyncs; 16 MiB of log make it rare.
        db.pragma_update(None, "wal_autocheckpoint", 4096)?;
        let format: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        let column = "ALTER TABLE state ADD written_back INTEGER;";
        let missing = match format {
            0 => [TABLES, TABLES_2, TABLES_3].concat(),
            1 => [column, TABLES_2, TABLES_3].concat(),
            2 => TABLES_3.to_owned(),
            FORMAT => String::new(),
            _ => return Err(JournalError::Newer),
        };
        if format != FORMAT {
            let set = format!("PRAGMA user_version = {FORMAT};");
            db.execute_batch(&format!("BEGIN; {missing} {set} COMMIT;"))?;
        }
        let journal = Self { db };
        journal.belong(server, project)?;
        let remembered = journal.remember()?;
        Ok((journal, remembered))
    }

    /// Writes records in one transaction: all or none.
    pub fn write(&mut self, records: &[Record]) -> Result<(), JournalError> {
        if records.is_empty() {
            return Ok(());
        }
        let transaction = self.db.transaction()?;
        for record in records {
            write(&transaction, record)?;
        }
        Ok(transaction.commit()?)
    }

    /// The updates that make up a document's state, in the order in which they were written.
    pub fn state(&self, document: &Document) -> Result<Vec<StatePart>, JournalError> {
        let sql = "SELECT bytes, written_back FROM state WHERE doc = ? ORDER BY id";
        let mut statement = self.db.prepare_cached(sql)?;
        let rows = statement.query_map([key(document)], |row| {
            let written_back: Option<i64> = row.get(1)?;
            Ok(StatePart {
                update: row.get(0)?,
                written_back: written_back.map(|at| at as u64),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Whether a document has a state of its own here.
    pub fn has_state(&self, document: &Document) -> Result<bool, JournalError> {
        let sql = "SELECT 1 FROM state WHERE doc = ? LIMIT 1";
        let mut statement = self.db.prepare_cached(sql)?;
        Ok(statement.exists([key(document)])?)
    }

    /// An own update that is not acknowledged.
    pub fn outgoing(&self, seq: u64) -> Result<Option<Outgoing>, JournalError> {
        let sql = "SELECT doc, bytes, attribution FROM outbox WHERE seq = ?";
        let mut statement = self.db.prepare_cached(sql)?;
        let row = statement
            .query_row([seq as i64], |row| {
                Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()?;
        row.map(|(document, bytes, attribution)| {
            Ok(Outgoing {
                seq,
                document: document_of(&document)?,
                bytes,
                attribution,
            })
        })
        .transpose()
    }

    /// Makes sure that the journal is this project's, from now on if it is new.
    fn belong(&self, server: &str, project: &ProjectId) -> Result<(), JournalError> {
        let meta = |key: &str| -> Result<Option<String>, JournalError> {
            let sql = "SELECT value FROM meta WHERE key = ?";
            Ok(self.db.query_row(sql, [key], |row| row.get(0)).optional()?)
        };
        match (meta("project")?, meta("server")?) {
            (None, None) => {
                let sql = "INSERT INTO meta VALUES ('project', ?), ('server', ?)";
                self.db.execute(sql, params![project.as_str(), server])?;
                Ok(())
            }
            (Some(p), Some(s)) if p == project.as_str() && s == server => Ok(()),
            (project, server) => Err(JournalError::Foreign {
                project: project.unwrap_or_default(),
                server: server.unwrap_or_default(),
            }),
        }
    }

    fn remember(&self) -> Result<Remembered, JournalError> {
        let mut remembered = Remembered {
            received: self
                .db
                .prepare("SELECT 1 FROM meta WHERE key = 'received'")?
                .exists([])?,
            ..Remembered::default()
        };
        let mut statement = self
            .db
            .prepare("SELECT path, entry, hash, print FROM base")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            remembered.bases.push(base(row)?);
        }
        let mut statement = self
            .db
            .prepare("SELECT path, temp, old, new, doc, bytes FROM intent")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            remembered.intents.push(intent(row)?);
        }
        let mut statement = self.db.prepare("SELECT origin, target FROM renaming")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (from, to): (String, String) = (row.get(0)?, row.get(1)?);
            let renaming = (from.parse().map_err(damage)?, to.parse().map_err(damage)?);
            remembered.renaming.push(renaming);
        }
        let mut statement = self
            .db
            .prepare("SELECT seq, doc FROM outbox ORDER BY seq")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (seq, document): (i64, String) = (row.get(0)?, row.get(1)?);
            let outgoing = (seq as u64, document_of(&document)?);
            remembered.unacknowledged.push(outgoing);
        }
        let mut statement = self
            .db
            .prepare("SELECT doc, path, entry, deleted, settled FROM withdrawn")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            remembered.withdrawn.push(withdrawn(row)?);
        }
        let mut statement = self.db.prepare("SELECT doc, bytes, at FROM departed")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (doc, at): (String, i64) = (row.get(0)?, row.get(2)?);
            remembered.departed.push(Departed {
                doc: doc.parse().map_err(damage)?,
                state: row.get(1)?,
                at: at as u64,
            });
        }
        let last = remembered.unacknowledged.last();
        remembered.next_seq = last.map_or(1, |(seq, _)| seq + 1);
        Ok(remembered)
    }
}

fn write(db: &Connection, record: &Record) -> Result<(), rusqlite::Error> {
    let run = |sql: &str, params: &[&dyn rusqlite::ToSql]| {
        db.prepare_cached(sql)?.execute(params).map(drop)
    };
    match record {
        Record::Base(path, base) => run(
            "INSERT OR REPLACE INTO base VALUES (?, ?, ?, ?)",
            &[
                &path.as_str(),
                &base.entry.to_json().to_string(),
                &base.hash.map(|hash| hash.as_bytes().to_vec()),
                &base.print.map(|print| print_bytes(&print)),
            ],
        ),
        Record::NoBase(path) => run("DELETE FROM base WHERE path = ?", &[&path.as_str()]),
        Record::State(document, bytes) => run(
            "INSERT INTO state (doc, bytes) VALUES (?, ?)",
            &[&key(document), bytes],
        ),
        Record::WrittenBack(doc, bytes, at) => run(
            "INSERT INTO state (doc, bytes, written_back) VALUES (?, ?, ?)",
            &[&doc.as_str(), bytes, &(*at as i64)],
        ),
        Record::WholeState(document, bytes) => {
            run("DELETE FROM state WHERE doc = ?", &[&key(document)])?;
            run(
                "INSERT INTO state (doc, bytes) VALUES (?, ?)",
                &[&key(document), bytes],
            )
        }
        Record::NoState(doc) => run("DELETE FROM state WHERE doc = ?", &[&doc.as_str()]),
        Record::Departed(Departed { doc, state, at }) => run(
            "INSERT OR REPLACE INTO departed VALUES (?, ?, ?)",
            &[&doc.as_str(), state, &(*at as i64)],
        ),
        Record::NotDeparted(doc) => run("DELETE FROM departed WHERE doc = ?", &[&doc.as_str()]),
        Record::Outgoing(outgoing) => run(
            "INSERT INTO outbox VALUES (?, ?, ?, ?)",
            &[
                &(outgoing.seq as i64),
                &key(&outgoing.document),
                &outgoing.bytes,
                &outgoing.attribution,
            ],
        ),
        Record::Acknowledged(seq) => run("DELETE FROM outbox WHERE seq = ?", &[&(*seq as i64)]),
        Record::Intent(intent) => run(
            "INSERT OR REPLACE INTO intent VALUES (?, ?, ?, ?, ?, ?)",
            &[
                &intent.path.as_str(),
                &intent.temp.as_str(),
                &intent.old.map(|hash| hash.as_bytes().to_vec()),
                &intent.new.map(|hash| hash.as_bytes().to_vec()),
                &intent.shadow.as_ref().map(|(doc, _)| doc.as_str()),
                &intent.shadow.as_ref().map(|(_, bytes)| bytes),
            ],
        ),
        Record::NoIntent(path) => run("DELETE FROM intent WHERE path = ?", &[&path.as_str()]),
        Record::Withdrawn(withdrawn) => run(
            "INSERT OR REPLACE INTO withdrawn VALUES (?, ?, ?, ?, ?)",
            &[
                &withdrawn.doc.as_str(),
                &withdrawn.path.as_str(),
                &withdrawn.entry.to_json().to_string(),
                &withdrawn.deleted.map(|hash| hash.as_bytes().to_vec()),
                &withdrawn.settled.map(|hash| hash.as_bytes().to_vec()),
            ],
        ),
        Record::Confirmed(doc) => run("DELETE FROM withdrawn WHERE doc = ?", &[&doc.as_str()]),
        Record::Renaming(from, to) => run(
            "INSERT OR REPLACE INTO renaming VALUES (?, ?)",
            &[&from.as_str(), &to.as_str()],
        ),
        Record::NotRenaming(from) => {
            run("DELETE FROM renaming WHERE origin = ?", &[&from.as_str()])
        }
        Record::Received => run("INSERT OR REPLACE INTO meta VALUES ('received', '1')", &[]),
    }
}

fn base(row: &Row<'_>) -> Result<(FilePath, Base), JournalError> {
    let (path, entry): (String, String) = (row.get(0)?, row.get(1)?);
    let damaged = |what: &str| JournalError::Damaged(format!("{what} of `{path}`"));
    let json = serde_json::from_str(&entry).map_err(|_| damaged("the entry"))?;
    let print: Option<Vec<u8>> = row.get(3)?;
    let base = Base {
        entry: Entry::from_json(&json).map_err(|_| damaged("the entry"))?,
        hash: hash(row.get(2)?)?,
        print: print
            .map(|bytes| print_of(&bytes).ok_or_else(|| damaged("the fingerprint")))
            .transpose()?,
    };
    let path = path.parse().map_err(|_| damaged("the name"))?;
    Ok((path, base))
}

fn withdrawn(row: &Row<'_>) -> Result<Withdrawn, JournalError> {
    let (doc, path, entry): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let json = serde_json::from_str(&entry).map_err(damage)?;
    Ok(Withdrawn {
        path: path.parse().map_err(damage)?,
        entry: Entry::from_json(&json).map_err(damage)?,
        doc: doc.parse().map_err(damage)?,
        deleted: hash(row.get(3)?)?,
        settled: hash(row.get(4)?)?,
    })
}

fn intent(row: &Row<'_>) -> Result<Intent, JournalError> {
    let path: String = row.get(0)?;
    let doc: Option<String> = row.get(4)?;
    let bytes: Option<Vec<u8>> = row.get(5)?;
    let doc = doc.map(|doc| doc.parse().map_err(damage)).transpose()?;
    Ok(Intent {
        path: path.parse().map_err(damage)?,
        temp: TempName::recorded(row.get(1)?),
        old: hash(row.get(2)?)?,
        new: hash(row.get(3)?)?,
        shadow: doc.zip(bytes),
    })
}

fn hash(bytes: Option<Vec<u8>>) -> Result<Option<BlobHash>, JournalError> {
    let Some(bytes) = bytes else {
        return Ok(None);
    };
    let bytes = bytes.try_into();
    let bytes = bytes.map_err(|_| JournalError::Damaged("a hash".into()))?;
    Ok(Some(BlobHash::from_bytes(bytes)))
}

fn key(document: &Document) -> &str {
    document.as_ref().map_or("", DocId::as_str)
}

fn document_of(key: &str) -> Result<Document, JournalError> {
    match key {
        "" => Ok(None),
        doc => doc.parse().map(Some).map_err(damage),
    }
}

fn damage(error: impl std::fmt::Display) -> JournalError {
    JournalError::Damaged(error.to_string())
}

fn print_bytes(print: &Fingerprint) -> Vec<u8> {
    let Fingerprint {
        dev,
        ino,
        size,
        mtime_ns,
        ctime_ns,
    } = *print;
    let words = [dev, ino, size, mtime_ns as u64, ctime_ns as u64];
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn print_of(bytes: &[u8]) -> Option<Fingerprint> {
    let bytes: &[u8; 40] = bytes.try_into().ok()?;
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[at * 8..at * 8 + 8]);
        u64::from_le_bytes(word)
    };
    Some(Fingerprint {
        dev: word(0),
        ino: word(1),
        size: word(2),
        mtime_ns: word(3) as i64,
        ctime_ns: word(4) as i64,
    })
}

#[cfg(test)]
#[allow(
    clippy::disallowed_methods,
    reason = "what is on disk is made, and looked at, from outside"
)]
mod tests {
    use super::*;

    fn project() -> ProjectId {
        "p".parse().unwrap()
    }

    fn open(path: &Path) -> (Journal, Remembered) {
        Journal::open(path, "http://s/", &project()).unwrap()
    }

    #[test]
    fn a_commit_waits_for_no_disk() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = open(&dir.path().join("j.db"));
        let pragma = |name| -> String {
            let value = |row: &rusqlite::Row<'_>| row.get::<_, rusqlite::types::Value>(0);
            let value = journal.db.pragma_query_value(None, name, value).unwrap();
            format!("{value:?}")
        };
        // With a log written ahead, NORMAL fsyncs at checkpoints alone.
        let found = ["journal_mode", "synchronous", "wal_autocheckpoint"].map(pragma);
        assert_eq!(found, ["Text(\"wal\")", "Integer(1)", "Integer(4096)"]);
    }

    #[test]
    fn what_was_written_is_remembered_without_closing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j.db");
        let (mut journal, remembered) = open(&path);
        assert!(remembered.bases.is_empty() && !remembered.received && remembered.next_seq == 1);
        let file: FilePath = "a/b".parse().unwrap();
        let doc: DocId = "d".parse().unwrap();
        let base = Base {
            entry: Entry::Text {
                doc: doc.clone(),
                seed: BlobHash::of(b"s"),
                mode: 0o644,
                mtime: 7,
            },
            hash: Some(BlobHash::of(b"x")),
            print: Some(Fingerprint {
                dev: 1,
                ino: u64::MAX,
                size: 3,
                mtime_ns: -4,
                ctime_ns: 5,
            }),
        };
        let intent = Intent {
            path: file.clone(),
            temp: TempName::from_random([1; 8]),
            old: Some(BlobHash::of(b"o")),
            new: None,
            shadow: Some((doc.clone(), vec![1, 2])),
        };
        let departed = |doc: &str, at| Departed {
            doc: doc.parse().unwrap(),
            state: vec![5],
            at,
        };
        let outgoing = |seq, document| Outgoing {
            seq,
            document,
            bytes: vec![9],
            attribution: Some("{}".into()),
        };
        let records = [
            Record::Base(file.clone(), base.clone()),
            Record::Base("gone".parse().unwrap(), base.clone()),
            Record::NoBase("gone".parse().unwrap()),
            Record::State(Some(doc.clone()), vec![1]),
            Record::WrittenBack(doc.clone(), vec![2], 7),
            Record::State(None, vec![3]),
            Record::Outgoing(outgoing(1, None)),
            Record::Outgoing(outgoing(2, Some(doc.clone()))),
            Record::Acknowledged(1),
            Record::Intent(intent.clone()),
            Record::Received,
            Record::Departed(departed("old", 1)),
            Record::Departed(departed("gone", 2)),
            Record::Departed(departed("gone", 3)),
            Record::NotDeparted("old".parse().unwrap()),
        ];
        journal.write(&records).unwrap();
        // Not closed: as after kill -9.
        let (mut again, remembered) = open(&path);
        assert_eq!(remembered.bases, [(file.clone(), base)]);
        assert_eq!(remembered.intents, [intent]);
        assert_eq!(remembered.departed, [departed("gone", 3)]);
        assert_eq!(remembered.unacknowledged, [(2, Some(doc.clone()))]);
        assert!(remembered.received && remembered.next_seq == 3);
        let written_back = StatePart {
            update: vec![2],
            written_back: Some(7),
        };
        let parts = [StatePart::of(vec![1]), written_back];
        assert_eq!(again.state(&Some(doc.clone())).unwrap(), parts);
        assert_eq!(
            again.outgoing(2).unwrap(),
            Some(outgoing(2, Some(doc.clone())))
        );
        assert_eq!(again.outgoing(1).unwrap(), None);
        let records = [
            Record::WholeState(Some(doc.clone()), vec![4]),
            Record::NoIntent(file),
        ];
        again.write(&records).unwrap();
        let parts = [StatePart::of(vec![4])];
        assert_eq!(again.state(&Some(doc.clone())).unwrap(), parts);
        again.write(&[Record::NoState(doc.clone())]).unwrap();
        assert!(!again.has_state(&Some(doc)).unwrap() && again.has_state(&None).unwrap());
        assert!(open(&path).1.intents.is_empty());
        drop(journal);
    }

    #[test]
    fn an_older_journal_is_converted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j.db");
        let (mut journal, _) = open(&path);
        journal.write(&[Record::State(None, vec![1])]).unwrap();
        drop(journal);
        let (two, one) = (
            "DROP TABLE departed; PRAGMA user_version = 2;",
            "DROP TABLE departed; ALTER TABLE state DROP written_back; DROP TABLE withdrawn; \
             DROP TABLE renaming; PRAGMA user_version = 1;",
        );
        for older in [two, one] {
            open(&path).0.db.execute_batch(older).unwrap();
            let (journal, _) = open(&path);
            assert_eq!(journal.state(&None).unwrap(), [StatePart::of(vec![1])]);
        }
    }

    #[test]
    fn a_transaction_is_all_or_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(&dir.path().join("j.db"));
        let outgoing = Outgoing {
            seq: 1,
            document: None,
            bytes: vec![],
            attribution: None,
        };
        let twice = [
            Record::State(None, vec![1]),
            Record::Outgoing(outgoing.clone()),
        ];
        journal.write(&twice).unwrap();
        assert!(journal.write(&twice).is_err());
        assert_eq!(journal.state(&None).unwrap().len(), 1);
    }

    #[test]
    fn another_projects_journal_and_no_journal_at_all_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j.db");
        drop(open(&path));
        let other = Journal::open(&path, "http://s/", &"q".parse().unwrap()).unwrap_err();
        assert!(matches!(&other, JournalError::Foreign { project, .. } if project == "p"));
        let other = Journal::open(&path, "http://t/", &project()).unwrap_err();
        assert!(matches!(other, JournalError::Foreign { .. }) && !other.is_damage());
        std::fs::write(&path, vec![b'x'; 8192]).unwrap();
        assert!(
            Journal::open(&path, "http://s/", &project())
                .unwrap_err()
                .is_damage()
        );
    }
}
