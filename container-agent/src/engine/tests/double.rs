//! A server in memory, behind the link's seam, with people who edit.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::mpsc::{self, Sender};
use uspark_shared::codec::collab::{
    Address, ClientAuth, ClientFrame, CollabMessage, ServerAuth, ServerFrame,
};
use uspark_shared::codec::message::SyncMessage;
use uspark_shared::diff::diff;
use uspark_shared::id::{BlobHash, DocId, DocumentName};
use uspark_shared::path::FilePath;
use uspark_shared::replica::{Applied, ClientId, ProjectEdit, ProjectReplica, TextReplica};
use uspark_shared::schema::{Entry, TextVersion};
use uspark_shared::seed::seed_update;

use crate::engine::step::random;
use crate::link::{BlobError, BlobStream, Connection, Server, Upload, UploadContent};

/// The server.
#[derive(Clone, Default)]
pub struct Double(Arc<Mutex<World>>);

#[derive(Default)]
struct World {
    project: Option<ProjectReplica>,
    texts: HashMap<DocId, TextReplica>,
    /// Seeds of the texts made here: to look for each among all entries would take long.
    seeds: HashMap<DocId, BlobHash>,
    blobs: HashMap<BlobHash, Vec<u8>>,
    sockets: HashMap<u64, Socket>,
    next_socket: u64,
    away: bool,
    read_only: bool,
    denied: bool,
    /// Uploads that fail from here on.
    refused_uploads: usize,
    seen: Seen,
}

struct Socket {
    sender: Sender<Result<Vec<u8>, String>>,
    follows: bool,
}

/// What clients made the server do.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    /// Updates that say anything, also those that say what is known.
    pub sent: usize,
    /// Updates that changed something: document, size, attribution.
    pub updates: Vec<(String, usize, Option<String>)>,
    /// Bytes of blobs stored.
    pub uploads: Vec<u64>,
    /// Blobs fetched.
    pub downloads: usize,
    /// Paths whose file or link was removed.
    pub removals: Vec<String>,
}

const PROJECT: &str = "p";

impl Double {
    pub fn new() -> Self {
        let double = Self::default();
        double.world().project = Some(ProjectReplica::new(ClientId::from_random(random())));
        double
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    /// Ends every connection, and refuses new ones while away.
    pub fn set_away(&self, away: bool) {
        let mut world = self.world();
        world.away = away;
        world.sockets.clear();
    }

    /// Loses a blob.
    pub fn forget(&self, hash: &BlobHash) {
        assert!(self.world().blobs.remove(hash).is_some());
    }

    /// Loses all edits of a text.
    pub fn forget_edits(&self, path: &str) -> DocId {
        let mut world = self.world();
        let doc = world.doc(path);
        world.texts.remove(&doc);
        doc
    }

    /// Says something about the project to everybody.
    pub fn tell(&self, text: &str) {
        let mut world = self.world();
        let sockets: Vec<u64> = world.sockets.keys().copied().collect();
        for id in sockets {
            world.send(id, PROJECT, CollabMessage::Stateless(text));
        }
    }

    pub fn set_read_only(&self) {
        self.world().read_only = true;
    }

    /// The next uploads fail, and may be tried again.
    pub fn refuse_uploads(&self, many: usize) {
        self.world().refused_uploads = many;
    }

    pub fn set_denied(&self) {
        self.world().denied = true;
    }

    /// How many updates changed something.
    pub fn updates(&self) -> usize {
        self.world().seen.updates.len()
    }

    pub fn seen(&self) -> Seen {
        self.world().seen.clone()
    }

    /// Sets a path as another client would.
    pub fn set(&self, path: &str, entry: Entry) {
        self.world()
            .edit(&[ProjectEdit::SetFile(path.parse().unwrap(), entry)]);
    }

    /// Sets a key that need not be a path, as only somebody who means harm does.
    pub fn set_raw(&self, key: &str, entry: Entry) {
        let path = "x".repeat(key.len()).parse().unwrap();
        let author = ProjectReplica::new(ClientId::from_random(random()));
        let mut update = author.edit(&[ProjectEdit::SetFile(path, entry)]).unwrap();
        let place = "x".repeat(key.len()).into_bytes();
        let at = update.windows(key.len()).position(|bytes| bytes == place);
        let at = at.expect("the key is in the update");
        update[at..at + key.len()].copy_from_slice(key.as_bytes());
        let mut world = self.world();
        world.apply(&update);
        world.broadcast(None, &update, None);
    }

    pub fn edit(&self, edits: &[ProjectEdit]) {
        self.world().edit(edits);
    }

    pub fn remove(&self, path: &str) {
        self.world().edit(&[ProjectEdit::RemoveFile(path.into())]);
    }

    /// Stores a blob.
    pub fn blob(&self, bytes: &[u8]) -> BlobHash {
        let hash = BlobHash::of(bytes);
        self.world().blobs.insert(hash, bytes.to_vec());
        hash
    }

    /// Makes a text file.
    pub fn text_file(&self, path: &str, text: &str) -> DocId {
        let doc = DocId::from_random(random());
        let seed = self.blob(text.as_bytes());
        self.world().seeds.insert(doc.clone(), seed);
        self.set(
            path,
            Entry::Text {
                doc: doc.clone(),
                seed,
                mode: 0o644,
                mtime: 1_700_000_000_000,
            },
        );
        doc
    }

    /// Makes a binary file.
    pub fn binary_file(&self, path: &str, bytes: &[u8]) {
        let hash = self.blob(bytes);
        let size = bytes.len() as u64;
        self.set(
            path,
            Entry::Blob {
                hash,
                size,
                mode: 0o600,
                mtime: 1_700_000_000_000,
            },
        );
    }

    /// Somebody changes a text, and everybody who follows gets it.
    pub fn type_into(&self, path: &str, change: impl FnOnce(&str) -> String) {
        let mut world = self.world();
        let doc = world.doc(path);
        let author = TextReplica::new(ClientId::from_random(random()));
        author.apply(&world.text(&doc).state()).unwrap();
        let old = author.text();
        if let Some(update) = author.edit(&diff(&old, &change(&old))) {
            world.text(&doc).apply(&update).unwrap();
            world.broadcast(Some(&doc), &update, None);
        }
    }

    pub fn entry(&self, path: &str) -> Option<Entry> {
        self.world().project().entry(&path.parse().unwrap())
    }

    /// The path of a document, by its name on the wire; the project's own is nothing.
    pub fn path_of(&self, document: &str) -> String {
        let name = document.parse::<DocumentName>().unwrap().text;
        let entries = self.world().project().entries();
        let at = |(_, entry): &&(FilePath, Entry)| entry.doc() == name.as_ref();
        let found = entries.iter().find(|entry| name.is_some() && at(entry));
        found.map_or_else(String::new, |(path, _)| path.to_string())
    }

    /// Every path with its content: text, binary hash, link or directory.
    pub fn tree(&self) -> BTreeMap<String, String> {
        let mut world = self.world();
        let entries: Vec<(FilePath, Entry)> = world.project().entries();
        let content = |world: &mut World, entry: Entry| match entry {
            Entry::Text { doc, .. } => world.text(&doc).text(),
            Entry::Blob { hash, .. } => format!("blob {hash}"),
            Entry::Link { target } => format!("-> {target}"),
            Entry::Dir => "directory".into(),
            Entry::Original { .. } => "original".into(),
        };
        entries
            .into_iter()
            .map(|(path, entry)| (path.into(), content(&mut world, entry)))
            .collect()
    }

    pub fn text(&self, path: &str) -> String {
        let mut world = self.world();
        let doc = world.doc(path);
        world.text(&doc).text()
    }

    async fn serve(self, id: u64, mut frames: mpsc::Receiver<Vec<u8>>) {
        let mut by: HashMap<String, Option<String>> = HashMap::new();
        while let Some(frame) = frames.recv().await {
            let ClientFrame::Document { address, message } = ClientFrame::decode(&frame).unwrap()
            else {
                continue;
            };
            let mut world = self.world();
            if !world.sockets.contains_key(&id) {
                return;
            }
            let name = address.as_str().to_owned();
            let doc = name.parse::<DocumentName>().unwrap().text;
            match message {
                CollabMessage::Auth(ClientAuth::Token { .. }) if world.denied => {
                    let denied = ServerAuth::PermissionDenied {
                        reason: "no such project",
                    };
                    world.send(id, &name, CollabMessage::Auth(denied));
                }
                CollabMessage::Auth(ClientAuth::Token { .. }) => {
                    let read_only = world.read_only;
                    let granted = ServerAuth::Authenticated { read_only };
                    world.send(id, &name, CollabMessage::Auth(granted));
                    // As the server does: it asks before it is asked.
                    if !world.read_only {
                        let ours = match &doc {
                            None => world.project().state_vector(),
                            Some(doc) => world.text(doc).state_vector(),
                        };
                        world.send(id, &name, CollabMessage::Sync(SyncMessage::Step1(&ours)));
                    }
                }
                CollabMessage::Sync(SyncMessage::Step1(theirs)) => {
                    let update = match &doc {
                        None => world.project().diff(theirs).unwrap(),
                        Some(doc) => world.text(doc).diff(theirs).unwrap(),
                    };
                    world.send(id, &name, CollabMessage::Sync(SyncMessage::Step2(&update)));
                }
                CollabMessage::Sync(SyncMessage::Step2(update) | SyncMessage::Update(update)) => {
                    // An answer of no insertions is owed, and names all deletions that are known. It begins with a 0.
                    let is_owed = matches!(message, CollabMessage::Sync(SyncMessage::Step2(_)));
                    world.seen.sent += usize::from(!is_owed || update[0] != 0);
                    let taken = !world.read_only;
                    if taken {
                        let applied = match &doc {
                            None => world.apply(update),
                            Some(doc) => world.text(doc).apply(update).unwrap(),
                        };
                        if applied.new {
                            let by = by.get(&name).cloned().flatten();
                            world.seen.updates.push((name.clone(), update.len(), by));
                            world.broadcast(doc.as_ref(), update, Some(id));
                        }
                    }
                    world.send(id, &name, CollabMessage::SyncStatus(taken));
                }
                CollabMessage::Stateless(text) => {
                    let value: serde_json::Value = serde_json::from_str(text).unwrap();
                    if value["follow"] == "texts" {
                        if let Some(socket) = world.sockets.get_mut(&id) {
                            socket.follows = true;
                        }
                        world.settle();
                        world.send(
                            id,
                            &name,
                            CollabMessage::Stateless(r#"{"following":"texts"}"#),
                        );
                    } else if let Some(who) = value.get("by") {
                        by.insert(name, (!who.is_null()).then(|| who.to_string()));
                    }
                }
                _ => {}
            }
        }
        self.world().sockets.remove(&id);
    }
}

impl World {
    fn project(&self) -> &ProjectReplica {
        self.project.as_ref().unwrap()
    }

    /// Takes in a client's edit of the project.
    fn apply(&mut self, update: &[u8]) -> Applied {
        let applied = self.project().apply_project(update).unwrap();
        for change in applied.files {
            let was_file = change.before.is_some_and(|entry| entry["dir"].is_null());
            if was_file && change.after.is_none() {
                self.seen.removals.push(change.key);
            }
        }
        applied.applied
    }

    fn edit(&mut self, edits: &[ProjectEdit]) {
        if let Some(update) = self.project().edit(edits) {
            self.broadcast(None, &update, None);
        }
    }

    fn doc(&self, path: &str) -> DocId {
        let entry = self.project().entry(&path.parse().unwrap());
        entry
            .as_ref()
            .and_then(Entry::doc)
            .unwrap_or_else(|| panic!("no text at {path}"))
            .clone()
    }

    /// A text, seeded once from its entry.
    fn text(&mut self, doc: &DocId) -> &TextReplica {
        if !self.texts.contains_key(doc) {
            let text = TextReplica::new(ClientId::from_random(random()));
            let in_entry = |(_, entry): (FilePath, Entry)| match entry {
                Entry::Text { doc: d, seed, .. } if d == *doc => Some(seed),
                _ => None,
            };
            let seed = self.seeds.get(doc).copied();
            let seed = seed.or_else(|| self.project().entries().into_iter().find_map(in_entry));
            if let Some(seed) = seed {
                let content = String::from_utf8(self.blobs[&seed].clone()).unwrap();
                text.apply(&seed_update(doc, &seed, &content)).unwrap();
            }
            self.texts.insert(doc.clone(), text);
        }
        &self.texts[doc]
    }

    fn settle(&mut self) {
        let mut edits = Vec::new();
        for (doc, text) in &self.texts {
            let text = text.text();
            let hash = BlobHash::of(text.as_bytes());
            if self
                .project()
                .text_version(doc)
                .is_none_or(|version| version.hash != hash)
            {
                let size = text.len() as u64;
                self.blobs.insert(hash, text.into_bytes());
                edits.push(ProjectEdit::SetText(
                    doc.clone(),
                    TextVersion {
                        hash,
                        size,
                        mtime: 7,
                    },
                ));
            }
        }
        self.edit(&edits);
    }

    fn broadcast(&mut self, doc: Option<&DocId>, update: &[u8], from: Option<u64>) {
        let name = match doc {
            None => PROJECT.to_owned(),
            Some(doc) => format!("{PROJECT}/{doc}"),
        };
        let to: Vec<u64> = self
            .sockets
            .iter()
            .filter(|(id, socket)| Some(**id) != from && (doc.is_none() || socket.follows))
            .map(|(id, _)| *id)
            .collect();
        for id in to {
            self.send(id, &name, CollabMessage::Sync(SyncMessage::Update(update)));
        }
    }

    fn send(&mut self, id: u64, name: &str, message: CollabMessage<'_, ServerAuth<'_>>) {
        let frame = ServerFrame::new(Address::new(name), message).encode();
        if let Some(socket) = self.sockets.get(&id)
            && socket.sender.try_send(Ok(frame)).is_err()
        {
            self.sockets.remove(&id);
        }
    }
}

impl Server for Double {
    fn connect(&self) -> BoxFuture<'_, Result<Connection, String>> {
        async move {
            let (outgoing, frames) = mpsc::channel(1024);
            let (sender, incoming) = mpsc::channel(4096);
            let id = {
                let mut world = self.world();
                if world.away {
                    return Err("nobody is at home".into());
                }
                world.next_socket += 1;
                let id = world.next_socket;
                world.sockets.insert(
                    id,
                    Socket {
                        sender,
                        follows: false,
                    },
                );
                id
            };
            tokio::spawn(self.clone().serve(id, frames));
            Ok(Connection { outgoing, incoming })
        }
        .boxed()
    }

    fn upload(&self, upload: Upload) -> BoxFuture<'_, Result<BlobHash, BlobError>> {
        async move {
            let bytes = match upload.content {
                UploadContent::Bytes(bytes) => bytes.to_vec(),
                UploadContent::File(mut file) => {
                    let mut bytes = Vec::new();
                    std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
                    bytes
                }
            };
            let mut world = self.world();
            if world.away {
                return Err(BlobError::Passing("nobody is at home".into()));
            }
            if let Some(left) = world.refused_uploads.checked_sub(1) {
                world.refused_uploads = left;
                return Err(BlobError::Passing("the disk is full".into()));
            }
            world.seen.uploads.push(bytes.len() as u64);
            let hash = BlobHash::of(&bytes);
            world.blobs.insert(hash, bytes);
            Ok(hash)
        }
        .boxed()
    }

    fn download(&self, hash: BlobHash) -> BoxFuture<'_, Result<BlobStream, BlobError>> {
        async move {
            let mut world = self.world();
            if world.away {
                return Err(BlobError::Passing("nobody is at home".into()));
            }
            world.seen.downloads += 1;
            let bytes = world
                .blobs
                .get(&hash)
                .cloned()
                .ok_or(BlobError::Missing(hash))?;
            let pieces: Vec<_> = bytes
                .chunks(1 << 16)
                .map(|p| Ok(Bytes::copy_from_slice(p)))
                .collect();
            Ok(futures_util::stream::iter(pieces).boxed())
        }
        .boxed()
    }
}
