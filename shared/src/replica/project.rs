//! The project document: the maps `files` and `texts`.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use yrs::any::Number;
use yrs::types::{EntryChange, ToJson as _};
use yrs::{Any, Map as _, MapRef, Observable as _, Out, ReadTxn, Transact as _, WriteTxn as _};

use super::{Applied, ClientId, Replica, ReplicaError};
use crate::id::DocId;
use crate::path::FilePath;
use crate::schema::{Entry, FILES, TEXTS, TextVersion};
use crate::update::Scan;

/// A replica of a project document.
///
/// Keys and values are strangers' until parsed: keys of `files` need not be paths.
pub struct ProjectReplica {
    replica: Replica,
    changes: Arc<Mutex<Changes>>,
}

/// One edit of the project document.
#[derive(Debug, Clone, PartialEq)]
pub enum ProjectEdit {
    /// Sets a path.
    SetFile(FilePath, Entry),
    /// Removes a path, or whatever stands where a path should.
    RemoveFile(String),
    /// Sets the settled content of a text. Only the server does.
    SetText(DocId, TextVersion),
    /// Removes a key of `texts`. Only the server does.
    RemoveText(String),
}

/// A key that an update changed.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyChange {
    /// The key.
    pub key: String,
    /// Its value before, if it had one.
    pub before: Option<Value>,
    /// Its value now, if it has one.
    pub after: Option<Value>,
}

/// What an update did to a project document.
#[derive(Debug, Clone, PartialEq)]
pub struct ProjectApplied {
    /// What it did to the document.
    pub applied: Applied,
    /// What it changed in `files`.
    pub files: Vec<KeyChange>,
    /// What it changed in `texts`.
    pub texts: Vec<KeyChange>,
}

#[derive(Default)]
struct Changes {
    files: Vec<KeyChange>,
    texts: Vec<KeyChange>,
}

impl ProjectReplica {
    /// An empty project.
    pub fn new(client: ClientId) -> Self {
        let replica = Replica::new(client);
        let changes = Arc::<Mutex<Changes>>::default();
        observe(&replica, FILES, &changes, |changes| &mut changes.files);
        observe(&replica, TEXTS, &changes, |changes| &mut changes.texts);
        Self { replica, changes }
    }

    /// Merges an update and says which keys it changed.
    pub fn apply_project(&self, update: &[u8]) -> Result<ProjectApplied, ReplicaError> {
        self.collecting(|replica| replica.apply(update))
    }

    /// Merges an update that was scanned already and says which keys it changed.
    pub fn apply_project_scanned(
        &self,
        update: &[u8],
        scan: &Scan<'_>,
    ) -> Result<ProjectApplied, ReplicaError> {
        self.collecting(|replica| replica.apply_scanned(update, scan))
    }

    /// Edits the project in one transaction.
    ///
    /// Gives the update that says so, or `None` if nothing changed.
    pub fn edit(&self, edits: &[ProjectEdit]) -> Option<Vec<u8>> {
        self.edit_with(|txn| {
            let files = txn.get_or_insert_map(FILES);
            let texts = txn.get_or_insert_map(TEXTS);
            for edit in edits {
                match edit {
                    ProjectEdit::SetFile(path, entry) => {
                        files.insert(txn, path.as_str(), to_any(&entry.to_json()));
                    }
                    ProjectEdit::RemoveFile(key) => drop(files.remove(txn, key)),
                    ProjectEdit::SetText(doc, version) => {
                        texts.insert(txn, doc.as_str(), to_any(&version.to_json()));
                    }
                    ProjectEdit::RemoveText(key) => drop(texts.remove(txn, key)),
                }
            }
        })
    }

    /// Every key of `files` with its value.
    pub fn files(&self) -> Vec<(String, Value)> {
        self.entries_of(FILES)
    }

    /// Every key of `texts` with its value.
    pub fn texts(&self) -> Vec<(String, Value)> {
        self.entries_of(TEXTS)
    }

    /// The value of one key of `files`.
    pub fn file(&self, key: &str) -> Option<Value> {
        self.value_of(FILES, key)
    }

    /// The value of one key of `texts`.
    pub fn text(&self, key: &str) -> Option<Value> {
        self.value_of(TEXTS, key)
    }

    /// The entry at a path, if there is one and it is one.
    pub fn entry(&self, path: &FilePath) -> Option<Entry> {
        Entry::from_json(&self.file(path.as_str())?).ok()
    }

    /// Every path whose entry is one.
    pub fn entries(&self) -> Vec<(FilePath, Entry)> {
        let entry = |(key, value): (String, Value)| {
            Some((key.parse().ok()?, Entry::from_json(&value).ok()?))
        };
        self.files().into_iter().filter_map(entry).collect()
    }

    /// The settled content of a text.
    pub fn text_version(&self, doc: &DocId) -> Option<TextVersion> {
        TextVersion::from_json(&self.text(doc.as_str())?).ok()
    }

    fn collecting(
        &self,
        apply: impl FnOnce(&Replica) -> Result<Applied, ReplicaError>,
    ) -> Result<ProjectApplied, ReplicaError> {
        self.take_changes();
        let applied = apply(&self.replica)?;
        let Changes { files, texts } = self.take_changes();
        Ok(ProjectApplied {
            applied,
            files: in_all(files),
            texts: in_all(texts),
        })
    }

    fn take_changes(&self) -> Changes {
        std::mem::take(&mut *self.changes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn entries_of(&self, map: &str) -> Vec<(String, Value)> {
        let txn = self.doc.transact();
        let Some(map) = txn.get_map(map) else {
            return Vec::new();
        };
        map.iter(&txn)
            .map(|(key, value)| (key.to_owned(), out_to_json(&txn, &value)))
            .collect()
    }

    fn value_of(&self, map: &str, key: &str) -> Option<Value> {
        let txn = self.doc.transact();
        let value = txn.get_map(map)?.get(&txn, key)?;
        Some(out_to_json(&txn, &value))
    }
}

impl Deref for ProjectReplica {
    type Target = Replica;

    fn deref(&self) -> &Replica {
        &self.replica
    }
}

/// What changes in their order come to, each key once: updates that waited are taken in after the one
/// that they waited for.
fn in_all(changes: Vec<KeyChange>) -> Vec<KeyChange> {
    let mut places = HashMap::new();
    let mut all = Vec::<KeyChange>::with_capacity(changes.len());
    for change in changes {
        match places.get(&change.key) {
            Some(place) => {
                let earlier: &mut KeyChange = &mut all[*place];
                earlier.after = change.after;
            }
            None => {
                places.insert(change.key.clone(), all.len());
                all.push(change);
            }
        }
    }
    all.retain(|change| change.before.is_some() || change.after.is_some());
    all
}

/// Records every change of a root map. The closure runs inside a transaction: it cannot panic and
/// opens no other.
fn observe(
    replica: &Replica,
    name: &str,
    changes: &Arc<Mutex<Changes>>,
    of: fn(&mut Changes) -> &mut Vec<KeyChange>,
) {
    let map: MapRef = replica.doc.get_or_insert_map(name);
    let changes = Arc::clone(changes);
    map.observe(name, move |txn, event| {
        let mut changes = changes.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, change) in event.keys(txn) {
            let (before, after) = match change {
                EntryChange::Inserted(new) => (None, Some(new)),
                EntryChange::Updated(old, new) => (Some(old), Some(new)),
                EntryChange::Removed(old) => (Some(old), None),
            };
            of(&mut changes).push(KeyChange {
                key: key.to_string(),
                before: before.map(|out| out_to_json(txn, out)),
                after: after.map(|out| out_to_json(txn, out)),
            });
        }
    });
}

fn out_to_json(txn: &impl ReadTxn, out: &Out) -> Value {
    match out {
        Out::Any(any) => to_json(any),
        // A shared type where a plain value belongs: its content shows that it is no entry.
        nested => to_json(&nested.to_json(txn)),
    }
}

fn to_json(any: &Any) -> Value {
    match any {
        Any::Null | Any::Undefined | Any::Buffer(_) => Value::Null,
        Any::Bool(value) => Value::Bool(*value),
        Any::Number(Number::Int(value)) => Value::from(*value),
        // JavaScript encodes whole numbers beyond 31 bits as floats.
        Any::Number(Number::Float(value)) => match Number::try_i64(*value) {
            Number::Int(whole) => Value::from(whole),
            Number::Float(value) => Value::from(value),
        },
        Any::String(value) => Value::from(value.as_ref()),
        Any::Array(values) => values.iter().map(to_json).collect(),
        Any::Map(map) => Value::Object(map.iter().map(|(k, v)| (k.clone(), to_json(v))).collect()),
    }
}

fn to_any(value: &Value) -> Any {
    match value {
        Value::Null => Any::Null,
        Value::Bool(value) => Any::Bool(*value),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => Any::Number(Number::Int(whole)),
            None => Any::from(number.as_f64().unwrap_or_default()),
        },
        Value::String(value) => Any::from(value.as_str()),
        Value::Array(values) => Any::Array(values.iter().map(to_any).collect()),
        Value::Object(map) => {
            let map: HashMap<String, Any> =
                map.iter().map(|(k, v)| (k.clone(), to_any(v))).collect();
            Any::from(map)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::BlobHash;

    fn project(author: u8) -> ProjectReplica {
        ProjectReplica::new(ClientId::from_random([author; 4]))
    }

    fn blob(content: &str) -> Entry {
        Entry::Blob {
            hash: BlobHash::of(content.as_bytes()),
            size: content.len() as u64,
            mode: 0o644,
            mtime: 1_732_166_400_123,
        }
    }

    fn set(path: &str, entry: Entry) -> ProjectEdit {
        ProjectEdit::SetFile(path.parse().unwrap(), entry)
    }

    #[test]
    fn entries_travel_and_changes_are_told() {
        let (a, b) = (project(1), project(2));
        let first = a
            .edit(&[set("x", blob("1")), set("y", Entry::Dir)])
            .unwrap();
        let told = b.apply_project(&first).unwrap();
        assert!(told.applied.changed && told.applied.new && !told.applied.missing);
        assert_eq!(told.files.len(), 2);
        assert_eq!(b.entry(&"x".parse().unwrap()), Some(blob("1")));

        let second = a.edit(&[set("x", blob("2")), ProjectEdit::RemoveFile("y".into())]);
        let mut told = b.apply_project(&second.unwrap()).unwrap().files;
        told.sort_by(|l, r| l.key.cmp(&r.key));
        assert_eq!(told[0].before, Some(blob("1").to_json()));
        assert_eq!(told[0].after, Some(blob("2").to_json()));
        assert_eq!((told[1].key.as_str(), &told[1].after), ("y", &None));
        assert_eq!(a.edit(&[ProjectEdit::RemoveFile("y".into())]), None);
    }

    #[test]
    fn a_key_that_waiting_updates_change_again_is_told_once() {
        let (a, b) = (project(1), project(2));
        let remove = |key: &str| ProjectEdit::RemoveFile(key.into());
        let steps = [
            a.edit(&[set("x", blob("1")), set("y", blob("1"))]),
            a.edit(&[remove("x"), set("y", blob("2"))]),
            a.edit(&[set("y", blob("3"))]),
        ];
        let [first, second, third] = steps.map(Option::unwrap);
        for waits in [third, second] {
            assert_eq!(b.apply_project(&waits).unwrap().files, []);
        }
        let y = KeyChange {
            key: "y".into(),
            before: None,
            after: Some(blob("3").to_json()),
        };
        assert_eq!(b.apply_project(&first).unwrap().files, [y]);
    }

    #[test]
    fn an_update_that_adds_nothing_says_so() {
        let (a, b) = (project(1), project(2));
        let update = a.edit(&[set("x", blob("1"))]).unwrap();
        assert!(b.apply(&update).unwrap().new);
        assert!(!b.apply(&update).unwrap().new);
        assert!(!b.apply(&super::super::EMPTY_UPDATE).unwrap().new);
    }

    #[test]
    fn an_update_that_waits_is_new_but_changes_nothing_yet() {
        let (a, b) = (project(1), project(2));
        let first = a.edit(&[set("x", blob("1"))]).unwrap();
        let second = a.edit(&[set("x", blob("2"))]).unwrap();
        let applied = b.apply(&second).unwrap();
        assert_eq!(
            (applied.changed, applied.new, applied.missing),
            (false, true, true)
        );
        let kept = project(3);
        kept.apply(&b.state()).unwrap();
        for update in b.waiting_updates() {
            kept.apply(&update).unwrap();
        }
        kept.apply(&first).unwrap();
        assert_eq!(kept.entry(&"x".parse().unwrap()), Some(blob("2")));
    }

    /// An update that scans, and that yrs gives up in the middle: an element of it is in one that is no type.
    #[test]
    fn a_poisoned_replica_leaves_memory() {
        let (author, project) = (project(1), project(2));
        let entry = author.edit(&[set("x", Entry::Dir)]).unwrap();
        let [id] = crate::update::scan(&entry)
            .unwrap()
            .blocks()
            .map(|block| block.id)
            .collect::<Vec<_>>()[..]
        else {
            panic!("one block");
        };
        let mut inside = crate::codec::Writer::new();
        // One block of client 5, a text, and what it is in.
        for number in [1, 1, 5, 0, 4, 0, id.client, id.clock.into()] {
            inside.var_uint(number);
        }
        inside.var_string("x").byte(0);

        let document = Arc::downgrade(&project.changes);
        project.apply(&entry).unwrap();
        let refused = project.apply(&inside.into_bytes());
        assert!(
            matches!(refused, Err(ReplicaError::Decode(_))),
            "{refused:?}"
        );
        assert!(project.is_poisoned());
        drop(project);
        assert!(document.upgrade().is_none(), "it is still in memory");
    }

    #[test]
    fn a_replica_with_a_subdocument_leaves_memory() {
        let author = yrs::Doc::new();
        let (map, list) = (
            author.get_or_insert_map("m"),
            author.get_or_insert_array("l"),
        );
        let mut txn = author.transact_mut();
        map.insert(&mut txn, "sub", yrs::Doc::new());
        let nested = yrs::Array::push_back(&list, &mut txn, yrs::MapPrelim::default());
        nested.insert(&mut txn, "sub", yrs::Doc::new());
        let update = txn.encode_update_v1();
        let project = project(1);
        let document = Arc::downgrade(&project.changes);
        project.apply(&update).unwrap();
        drop(project);
        assert!(document.upgrade().is_none(), "it is still in memory");
    }
}
