//! Verifying a data directory: of a server that serves, of one that does not, or a backup.
//!
//! Owns: what it means for a data directory to be whole. Must not do: change anything, or stop at the
//! first problem.
//!
//! Invariants: all of the database is seen at one moment, whatever is written meanwhile, and no file that
//! it names then is removed. What a server could not read later is a problem; what only takes room is a note.
#![allow(
    clippy::disallowed_methods,
    reason = "this module reads the files of large blobs"
)]

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};
use std::ops::Deref;
use std::path::{Path, PathBuf};

use serde::Serialize;
use uspark_shared::id::{BlobHash, DocId, ProjectId};
use uspark_shared::replica::{ClientId, ProjectReplica, Replica, TextReplica};
use uspark_shared::text::as_grown_text;
use uspark_shared::update::scan;

use super::StoreError;
use super::directory::{blobs_in, database_in};
use super::files::{incoming, keep_all, path_of};
use super::sqlite::{Seed, Snapshot};

/// Problems that are kept one by one; of more only the number is.
const MOST_PROBLEMS: usize = 100;
/// Bytes of a file that are read at once.
const CHUNK: usize = 1 << 20;

/// What a check found.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Findings {
    /// Projects.
    pub projects: u64,
    /// Documents that have a log, the projects' own among them.
    pub documents: u64,
    /// Blobs.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What is damaged or missing, as far as it is listed.
    pub problems: Vec<Problem>,
    /// Problems that are not listed.
    pub more_problems: u64,
    /// What is worth knowing and harms nothing.
    pub notes: Vec<String>,
}

/// Something that is damaged or missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What, or where.
    pub place: String,
    /// What is wrong with it.
    pub detail: String,
}

/// How far long work has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is counted: `documents`, or `bytes of blobs`.
    pub what: &'static str,
    /// So many are done.
    pub done: u64,
    /// Of so many.
    pub total: u64,
}

impl Findings {
    /// Whether nothing is damaged or missing.
    pub fn is_whole(&self) -> bool {
        self.problems.is_empty()
    }

    fn problem(&mut self, place: impl Into<String>, detail: impl Into<String>) {
        if self.problems.len() >= MOST_PROBLEMS {
            self.more_problems += 1;
            return;
        }
        let (place, detail) = (place.into(), detail.into());
        self.problems.push(Problem { place, detail });
    }
}

/// Verifies a data directory. Only what keeps the check from being made is an error.
pub fn check(data: &Path, progress: &mut dyn FnMut(Progress)) -> Result<Findings, StoreError> {
    let database = database_in(data);
    if !database.is_file() {
        let place = data.display().to_string();
        return Err(StoreError::NoData { place });
    }
    let mut check = Check {
        blobs: blobs_in(data),
        findings: Findings::default(),
        progress,
    };
    let _all = keep_all(&check.blobs)?;
    match Snapshot::open(&database) {
        Ok(snapshot) => check.everything(&snapshot),
        Err(StoreError::Corrupt { place, detail }) => check.findings.problem(place, detail),
        Err(error) => return Err(error),
    }
    Ok(check.findings)
}

struct Check<'a> {
    blobs: PathBuf,
    findings: Findings,
    progress: &'a mut dyn FnMut(Progress),
}

impl Check<'_> {
    fn everything(&mut self, snapshot: &Snapshot) {
        let parts = [
            self.database(snapshot),
            self.documents(snapshot),
            self.texts(snapshot),
            self.contents(snapshot),
            self.leftovers(snapshot),
        ];
        for error in parts.into_iter().filter_map(Result::err) {
            self.findings.problem("the database", error.to_string());
        }
    }

    fn database(&mut self, snapshot: &Snapshot) -> Result<(), StoreError> {
        for line in snapshot.damage()? {
            self.findings.problem("the database", line);
        }
        if snapshot.epoch()?.is_empty() {
            let note = "a backup that was not started yet: its first server draws a new epoch";
            self.findings.notes.push(note.into());
        }
        self.findings.projects = snapshot.records()?;
        Ok(())
    }

    /// Every document loads, as it would in a server.
    fn documents(&mut self, snapshot: &Snapshot) -> Result<(), StoreError> {
        let total = snapshot.count_documents()?;
        let mut waiting = 0;
        snapshot.documents(|project, doc, log| {
            self.findings.documents += 1;
            let place = document_name(project, doc);
            if project.parse::<ProjectId>().is_err()
                || !(doc.is_empty() || doc.parse::<DocId>().is_ok())
            {
                self.findings.problem(&place, "its name is no name");
            }
            // Nothing is written under it.
            let client = ClientId::from_random([0; 4]);
            let waits = match doc {
                "" => loaded(ProjectReplica::new(client), log).map(|replica| {
                    self.note_awaited(snapshot, project, &replica);
                    replica.misses_updates()
                }),
                _ => loaded(TextReplica::new(client), log).map(|replica| replica.misses_updates()),
            };
            match waits {
                Ok(waits) => waiting += u64::from(waits),
                Err(detail) => self.findings.problem(place, detail),
            }
            let done = self.findings.documents;
            let what = "documents";
            (self.progress)(Progress { what, done, total });
        })?;
        if waiting > 0 {
            let note = format!("{waiting} documents have updates that wait for others");
            self.findings.notes.push(note);
        }
        Ok(())
    }

    /// Notes the paths of a project that wait for their content: after a backup was restored, or of somebody
    /// who never uploaded it.
    fn note_awaited(&mut self, snapshot: &Snapshot, project: &str, replica: &ProjectReplica) {
        let Ok(id) = project.parse::<ProjectId>() else {
            return;
        };
        let mut awaited = replica.entries();
        // Tables that cannot be read are told of where all of them is read.
        awaited.retain(|(_, entry)| snapshot.lacks(&id, entry).unwrap_or_default());
        if let Some(path) = awaited.iter().map(|(path, _)| path).min() {
            let paths = awaited.len();
            let note = format!(
                "{paths} paths of project {project} wait for content that never came, such as `{path}`"
            );
            self.findings.notes.push(note);
        }
    }

    /// Every text can be made from what it began with, and every version of it be read.
    fn texts(&mut self, snapshot: &Snapshot) -> Result<(), StoreError> {
        let (findings, mut forgotten) = (&mut self.findings, 0);
        snapshot.seeds(|project, doc, hash, seed| {
            let hash = BlobHash::from_bytes(hash);
            let bytes = match seed {
                Seed::Absent => {
                    let detail = format!("what it began with, blob {hash}, is not there");
                    return findings.problem(document_name(project, doc), detail);
                }
                Seed::Forgotten => {
                    forgotten += 1;
                    return;
                }
                Seed::Unread => return,
                Seed::Inline(bytes) => bytes,
                // A file that cannot be read is told of with the blobs.
                Seed::Large => match fs::read(path_of(&self.blobs, &hash)) {
                    Ok(bytes) => bytes,
                    Err(_) => return,
                },
            };
            if as_grown_text(&bytes).is_none() {
                let detail = format!("what it is to begin with, blob {hash}, is no text");
                findings.problem(document_name(project, doc), detail);
            }
        })?;
        if forgotten > 0 {
            let note =
                format!("{forgotten} texts came back from a client without their first content");
            findings.notes.push(note);
        }
        snapshot.lost_versions(|project, doc, hash| {
            let hash = BlobHash::from_bytes(hash);
            let detail = format!("its version {hash} is not there");
            findings.problem(document_name(project, doc), detail);
        })
    }

    /// Every blob is what its name says.
    fn contents(&mut self, snapshot: &Snapshot) -> Result<(), StoreError> {
        let total = snapshot.count_bytes()?;
        snapshot.blobs(|hash, size, body| {
            let hash = BlobHash::from_bytes(hash);
            let path = path_of(&self.blobs, &hash);
            let (place, found) = match body {
                Some(bytes) => (
                    format!("blob {hash}"),
                    Ok((bytes.len() as u64, BlobHash::of(bytes))),
                ),
                None => (path.display().to_string(), self.hash_file(&path, total)),
            };
            match found {
                Ok((found, _)) if found != size => {
                    let detail = format!("it has {found} bytes instead of {size}");
                    self.findings.problem(place, detail);
                }
                Ok((_, found)) if found != hash => {
                    self.findings.problem(place, "its bytes are others");
                }
                Ok(_) => {}
                Err(error) => self.findings.problem(place, error.to_string()),
            }
            self.findings.blobs += 1;
            self.findings.bytes += size;
            self.hashed(0, total);
        })
    }

    fn hash_file(&mut self, path: &Path, total: u64) -> io::Result<(u64, BlobHash)> {
        let (mut file, mut hasher) = (File::open(path)?, blake3::Hasher::new());
        let (mut chunk, mut size) = (vec![0; CHUNK], 0);
        loop {
            let read = file.read(&mut chunk)?;
            if read == 0 {
                let hash = BlobHash::from_bytes(*hasher.finalize().as_bytes());
                return Ok((size, hash));
            }
            hasher.update(&chunk[..read]);
            size += read as u64;
            self.hashed(size, total);
        }
    }

    fn hashed(&mut self, more: u64, total: u64) {
        let (what, done) = ("bytes of blobs", self.findings.bytes + more);
        (self.progress)(Progress { what, done, total });
    }

    /// What takes room and is of no use.
    fn leftovers(&mut self, snapshot: &Snapshot) -> Result<(), StoreError> {
        let (blobs, bytes) = snapshot.ungranted()?;
        if blobs > 0 {
            let note = format!(
                "{blobs} blobs ({bytes} bytes) that no project has any more, until they are collected"
            );
            self.findings.notes.push(note);
        }
        // What is newer than the snapshot is none of it.
        let known = snapshot.large_blobs()?.into_iter().collect();
        let listed = Leftovers::of(&self.blobs, &known);
        let found = listed.map_err(|error| StoreError::io(self.blobs.display(), &error))?;
        for (many, bytes, what) in [
            (
                found.unnamed.0,
                found.unnamed.1,
                "that the database does not name",
            ),
            (
                found.incoming.0,
                found.incoming.1,
                "of uploads that are not complete",
            ),
        ] {
            if many > 0 {
                let note = format!(
                    "{many} files ({bytes} bytes) {what}: an upload under way, or left by a crash"
                );
                self.findings.notes.push(note);
            }
        }
        Ok(())
    }
}

/// Files and their bytes.
#[derive(Default)]
struct Leftovers {
    unnamed: (u64, u64),
    incoming: (u64, u64),
}

impl Leftovers {
    fn of(blobs: &Path, known: &std::collections::HashSet<[u8; 32]>) -> io::Result<Self> {
        let mut found = Self::default();
        for directory in list(blobs)? {
            let under_way = directory.path() == incoming(blobs);
            for file in list(&directory.path())? {
                let (first, last) = (directory.file_name(), file.file_name());
                let name = format!("{}{}", first.display(), last.display());
                let hash = name.parse::<BlobHash>();
                if hash.is_ok_and(|hash| known.contains(hash.as_bytes())) {
                    continue;
                }
                // It may have gone, or have become a blob, since it was listed.
                let bytes = file.metadata().map_or(0, |file| file.len());
                let (many, sum) = match under_way {
                    true => &mut found.incoming,
                    false => &mut found.unnamed,
                };
                (*many, *sum) = (*many + 1, *sum + bytes);
            }
        }
        Ok(found)
    }
}

/// What is in a directory; nothing if it is not there, or is none.
fn list(directory: &Path) -> io::Result<Vec<fs::DirEntry>> {
    match fs::read_dir(directory) {
        Ok(entries) => entries.collect(),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

fn document_name(project: &str, doc: &str) -> String {
    match doc {
        "" => format!("the document of project {project}"),
        doc => format!("the text {project}/{doc}"),
    }
}

/// Puts a document together from its log, in a replica that is empty.
fn loaded<R: Deref<Target = Replica>>(replica: R, log: &[Vec<u8>]) -> Result<R, String> {
    for (at, update) in log.iter().enumerate() {
        replica.apply(update).map_err(|error| {
            let (at, of) = (at + 1, log.len());
            format!("part {at} of {of} of its log cannot be applied: {error}")
        })?;
    }
    scan(&replica.state()).map_err(|error| format!("its state cannot be read: {error}"))?;
    Ok(replica)
}

#[cfg(test)]
pub(super) mod tests;
