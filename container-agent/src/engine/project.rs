//! The project document as this session knows it: the replica, and what it says, parsed once.
//!
//! Invariant: own edits are collected and made together, at the end of a turn, so that a rename is
//! one update and a thousand new files are a few.

use std::collections::{BTreeMap, HashMap};

use uspark_shared::id::{BlobHash, DocId};
use uspark_shared::path::{FilePath, below};
use uspark_shared::replica::{ClientId, KeyChange, ProjectEdit, ProjectReplica, ReplicaError};
use uspark_shared::schema::{Entry, TextVersion};

use crate::journal::StatePart;

/// The project document, and its content by path and by document.
pub(super) struct Project {
    replica: ProjectReplica,
    /// Every path that has an entry.
    pub entries: BTreeMap<FilePath, Entry>,
    /// Where each text document is.
    pub docs: HashMap<DocId, FilePath>,
    /// The settled content of each text document that has one.
    pub settled: HashMap<DocId, BlobHash>,
    /// Keys that are no paths and values that are no entries, and why.
    pub refused: BTreeMap<String, String>,
    /// Own edits of this turn, each with what made it.
    edits: Vec<(ProjectEdit, Option<String>)>,
}

/// What an update changed.
#[derive(Debug, Default)]
pub(super) struct Changed {
    /// Paths whose entry is another.
    pub paths: Vec<FilePath>,
    /// It waits for updates that never came.
    pub missing: bool,
}

impl Project {
    /// Puts the document together from its updates.
    pub fn from_updates(client: ClientId, parts: &[StatePart]) -> Result<Self, ReplicaError> {
        let replica = ProjectReplica::new(client);
        for part in parts {
            replica.apply(&part.update)?;
        }
        let mut project = Self {
            replica,
            entries: BTreeMap::new(),
            docs: HashMap::new(),
            settled: HashMap::new(),
            refused: BTreeMap::new(),
            edits: Vec::new(),
        };
        for (key, value) in project.replica.files() {
            project.file_is(&key, Some(&value));
        }
        for (key, value) in project.replica.texts() {
            project.text_is(&key, Some(&value));
        }
        Ok(project)
    }

    /// Merges an update from the server.
    pub fn receive(&mut self, update: &[u8]) -> Result<Changed, ReplicaError> {
        let applied = self.replica.apply_project(update)?;
        let mut changed = Changed {
            missing: applied.applied.missing,
            ..Changed::default()
        };
        for KeyChange { key, after, .. } in applied.files {
            changed.paths.extend(self.file_is(&key, after.as_ref()));
        }
        for KeyChange { key, after, .. } in applied.texts {
            self.text_is(&key, after.as_ref());
        }
        Ok(changed)
    }

    /// Sets a path, at the end of this turn. Empty directories above it are no longer empty: gives
    /// those whose entries went.
    pub fn set(&mut self, path: &FilePath, entry: Entry, by: Option<String>) -> Vec<FilePath> {
        let is_entry = |directory: &FilePath| self.entries.get(directory) == Some(&Entry::Dir);
        let above: Vec<FilePath> = path.ancestors().filter(is_entry).collect();
        for directory in &above {
            self.remove(directory, by.clone());
        }
        self.entry_is(path, Some(entry.clone()));
        self.edits
            .push((ProjectEdit::SetFile(path.clone(), entry), by));
        above
    }

    /// Removes a path, at the end of this turn.
    pub fn remove(&mut self, path: &FilePath, by: Option<String>) {
        self.entry_is(path, None);
        let edit = ProjectEdit::RemoveFile(path.as_str().to_owned());
        self.edits.push((edit, by));
    }

    /// Makes the collected edits. Gives an update for each thing that made some, in order.
    pub fn commit(&mut self) -> Vec<(Vec<u8>, Option<String>)> {
        let edits = std::mem::take(&mut self.edits);
        let mut updates = Vec::new();
        for group in edits.chunk_by(|(_, a), (_, b)| a == b) {
            let by = group[0].1.clone();
            let group: Vec<ProjectEdit> = group.iter().map(|(edit, _)| edit.clone()).collect();
            updates.extend(self.replica.edit(&group).map(|update| (update, by)));
        }
        updates
    }

    /// The state vector.
    pub fn state_vector(&self) -> Vec<u8> {
        self.replica.state_vector()
    }

    /// What someone with `state_vector` lacks.
    pub fn diff(&self, state_vector: &[u8]) -> Result<Vec<u8>, ReplicaError> {
        self.replica.diff(state_vector)
    }

    /// Whether updates wait for others that never came.
    pub fn misses_updates(&self) -> bool {
        self.replica.misses_updates()
    }

    /// The whole document, without what waits for others.
    pub fn state(&self) -> Vec<u8> {
        self.replica.state()
    }

    /// Whether there is anything at or below a directory.
    pub fn has_below(&self, directory: &FilePath) -> bool {
        below(&self.entries, directory).next().is_some()
    }

    fn file_is(&mut self, key: &str, value: Option<&serde_json::Value>) -> Option<FilePath> {
        self.refused.remove(key);
        let path: FilePath = match key.parse() {
            Ok(path) => path,
            Err(error) => {
                if value.is_some() {
                    self.refused.insert(key.to_owned(), error.to_string());
                }
                return None;
            }
        };
        let entry = match value.map(Entry::from_json).transpose() {
            Ok(entry) => entry,
            Err(error) => {
                self.refused.insert(key.to_owned(), error.to_string());
                None
            }
        };
        self.entry_is(&path, entry);
        Some(path)
    }

    fn entry_is(&mut self, path: &FilePath, entry: Option<Entry>) {
        let before = match entry {
            Some(entry) => {
                if let Some(doc) = entry.doc() {
                    self.docs.insert(doc.clone(), path.clone());
                }
                self.entries.insert(path.clone(), entry)
            }
            None => self.entries.remove(path),
        };
        let now = self.entries.get(path).and_then(Entry::doc);
        if let Some(doc) = before.as_ref().and_then(Entry::doc)
            && now != Some(doc)
            && self.docs.get(doc) == Some(path)
        {
            self.docs.remove(doc);
        }
    }

    fn text_is(&mut self, key: &str, value: Option<&serde_json::Value>) {
        let Ok(doc) = key.parse() else {
            return;
        };
        match value.map(TextVersion::from_json) {
            Some(Ok(version)) => drop(self.settled.insert(doc, version.hash)),
            _ => drop(self.settled.remove(&doc)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(doc: &str) -> Entry {
        Entry::Text {
            doc: doc.parse().unwrap(),
            seed: BlobHash::of(b""),
            mode: 0o644,
            mtime: 1,
        }
    }

    fn path(s: &str) -> FilePath {
        s.parse().unwrap()
    }

    fn project(id: u8) -> Project {
        Project::from_updates(ClientId::from_random([id; 4]), &[]).unwrap()
    }

    #[test]
    fn a_rename_is_one_update_and_keeps_the_document_findable() {
        let (mut here, mut there) = (project(1), project(2));
        here.set(&path("a"), text("d"), None);
        for (update, _) in here.commit() {
            there.receive(&update).unwrap();
        }
        here.remove(&path("a"), None);
        here.set(&path("b"), text("d"), None);
        let updates = here.commit();
        assert_eq!(updates.len(), 1);
        let mut changed = there.receive(&updates[0].0).unwrap().paths;
        changed.sort();
        assert_eq!(changed, [path("a"), path("b")]);
        let doc = "d".parse().unwrap();
        for side in [&here, &there] {
            assert_eq!(side.docs.get(&doc), Some(&path("b")));
            assert_eq!(side.entries.len(), 1);
        }
        let again = Project::from_updates(
            ClientId::from_random([3; 4]),
            &[StatePart::of(here.state())],
        )
        .unwrap();
        assert_eq!(again.entries, there.entries);
    }

    #[test]
    fn a_file_in_an_empty_directory_ends_its_emptiness() {
        let mut project = project(1);
        project.set(&path("d"), Entry::Dir, None);
        project.set(&path("d/e/f"), text("x"), Some("tool".into()));
        assert!(!project.entries.contains_key(&path("d")));
        assert!(project.has_below(&path("d")) && !project.has_below(&path("d/e/f")));
        assert_eq!(project.commit().len(), 2);
        assert!(project.commit().is_empty());
    }

    #[test]
    fn what_is_no_path_or_no_entry_is_refused_until_it_is_gone() {
        let hostile = ProjectReplica::new(ClientId::from_random([9; 4]));
        let mut project = project(1);
        let update = hostile
            .edit(&[ProjectEdit::SetFile(path("ok"), Entry::Dir)])
            .unwrap();
        project.receive(&update).unwrap();
        project.file_is("../x", Some(&serde_json::json!({"dir": true})));
        project.file_is("y", Some(&serde_json::json!({"dir": 1})));
        assert_eq!(project.refused.len(), 2);
        assert_eq!(project.entries.len(), 1);
        project.file_is("../x", None);
        project.file_is("y", None);
        assert!(project.refused.is_empty());
    }
}
