//! Files by path: what HTTP and the original protocol see.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use uspark_shared::diff::{diff, rebase};
use uspark_shared::id::{BlobHash, DocId, ProjectId};
use uspark_shared::path::FilePath;
use uspark_shared::replica::ProjectEdit;
use uspark_shared::schema::{DEFAULT_MODE, Entry};

use super::updates::Author;
use super::{Owner, TextMemo};
use crate::ack::Ack;
use crate::project::command::{
    Attribution, Command, FileView, Manifest, ManifestFile, Patched, PutBase, Reply,
};
use crate::project::merge::{Merge, Wanted, fetch};
use crate::project::registry::ProjectDeps;
use crate::project::repair::Bridge;
use crate::refusal::Refusal;
use crate::store::Write;

/// An answer that is given when the ack beside it says that everything is durable.
struct Pending<T>(Arc<Mutex<Option<Result<T, Refusal>>>>);

impl<T: Send + 'static> Pending<T> {
    fn new(reply: Reply<T>) -> (Self, Ack) {
        let slot = Arc::new(Mutex::new(None));
        let answer = Arc::clone(&slot);
        let ack = Ack::new(move |stored| {
            let answer = answer.lock().unwrap_or_else(PoisonError::into_inner).take();
            let failed = || {
                Err(Refusal::Unavailable(
                    "the change, or one that the answer would show, could not be stored".into(),
                ))
            };
            let answer = match answer {
                Some(Err(refusal)) => Err(refusal),
                Some(answer) if stored => answer,
                _ => failed(),
            };
            // Whoever asked may have gone.
            let _ = reply.send(answer);
        });
        (Self(slot), ack)
    }

    fn set(&self, answer: Result<T, Refusal>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
    }
}

impl Owner {
    pub(super) fn state(&mut self, since: Option<&[u8]>, reply: Reply<(Bytes, u64)>) {
        let writes = self.settle_every_text();
        let state = match since {
            Some(since) => self.project.diff(since),
            None => Ok(self.project.state()),
        };
        let version = self.log.last_seq();
        let state = state.map(|state| (state.into(), version));
        self.answer(reply, state.map_err(Refusal::from), writes);
    }

    pub(super) fn manifest(&mut self, reply: Reply<Manifest>) {
        let writes = self.settle_every_text();
        let files = self.tree.iter();
        let files = files.filter_map(|(path, entry)| Some((path.clone(), self.view(entry)?)));
        let manifest = Manifest {
            files: files.collect(),
            version: self.log.last_seq(),
        };
        self.answer(reply, Ok(manifest), writes);
    }

    /// Answers when `writes`, and everything before them, is durable.
    pub(super) fn answer<T: Send + 'static>(
        &mut self,
        reply: Reply<T>,
        answer: Result<T, Refusal>,
        writes: Vec<Write>,
    ) {
        let (pending, ack) = Pending::new(reply);
        pending.set(answer);
        self.submit(writes, ack);
    }

    pub(super) fn file(&mut self, path: &FilePath, reply: Reply<FileView>) {
        let mut writes = Vec::new();
        if let Some(doc) = self.tree.get(path).and_then(Entry::doc).cloned() {
            self.settle(&doc, &mut writes);
        }
        let view = self.file_view(path);
        self.answer(reply, view, writes);
    }

    pub(super) fn patch(
        &mut self,
        update: Bytes,
        base: PutBase,
        who: Attribution,
        reply: Reply<Patched>,
    ) {
        let last = self.log.last_seq();
        if let PutBase::Version(version) = base
            && version > last
        {
            let why = format!("there is no X-Version {version} yet: the project is at {last}");
            let _ = reply.send(Err(Refusal::Malformed(why)));
            return;
        }
        let (pending, ack) = Pending::new(reply);
        let author = Author {
            who: &who,
            seat: None,
            base,
        };
        self.deps.metrics.update_received();
        match self.project_update(update, &author, ack.clone()) {
            Ok(outcome) => {
                let version = self.log.last_seq();
                pending.set(Ok(Patched {
                    version,
                    repaired: outcome.repaired,
                }));
            }
            Err(error) => {
                self.deps.metrics.update_refused();
                pending.set(Err(error.into()));
                if self.project.is_poisoned() {
                    self.stop_soon();
                }
            }
        }
        ack.done();
    }

    pub(super) fn put(
        &mut self,
        path: FilePath,
        hash: BlobHash,
        base: PutBase,
        mode: Option<u32>,
        who: Attribution,
        reply: Reply<FileView>,
    ) {
        let entry = self.tree.get(&path).cloned();
        let may = self.may_put(&path, base);
        if let Err(refusal) = may.and_then(|()| self.has_room(&path)) {
            let _ = reply.send(Err(refusal));
            return;
        }
        let wanted = Wanted {
            doc: text_of(entry.as_ref()),
            mtime: self.now(),
            path,
            hash,
            // Who does not say otherwise wants it as it is.
            mode: mode.or_else(|| entry.as_ref().and_then(mode_of)),
            base,
            who,
            refused: Arc::default(),
        };
        let (deps, project, commands) = (self.deps.clone(), self.id.clone(), self.commands.clone());
        let now = self.text_now(&wanted);
        let fetches = Arc::clone(&self.fetches);
        self.deps.tasks.spawn(async move {
            let _stays = fetches;
            let (path, refused) = (wanted.path.clone(), Arc::clone(&wanted.refused));
            match (
                fetch(&deps, &project, wanted, now).await,
                commands.upgrade(),
            ) {
                (Ok(merge), Some(commands)) => {
                    let (done, stored) = tokio::sync::oneshot::channel();
                    let ack = Ack::new(move |stored| {
                        let _ = done.send(stored);
                    });
                    let sent = commands.send(Command::Merge(merge, ack)).await.is_ok();
                    if sent && stored.await == Ok(true) {
                        let _ = commands.send(Command::File { path, reply }).await;
                    } else {
                        let failed = || Refusal::Unavailable("the file could not be stored".into());
                        let refusal = refused.get().cloned().unwrap_or_else(failed);
                        let _ = reply.send(Err(refusal));
                    }
                }
                (Err(refusal), _) => drop(reply.send(Err(refusal))),
                (Ok(_), None) => {}
            }
        });
    }

    pub(super) fn delete(
        &mut self,
        path: &FilePath,
        only: Option<BlobHash>,
        who: &Attribution,
        reply: Reply<()>,
    ) {
        let mut writes = Vec::new();
        let Some(entry) = self.tree.get(path).cloned() else {
            return self.answer(reply, Err(Refusal::NotFound("file")), writes);
        };
        if let Some(doc) = entry.doc() {
            self.settle(doc, &mut writes);
        }
        let now = self.view(&entry).and_then(|file| file.hash);
        if only.is_some() && only != now {
            let refusal = Refusal::Precondition(format!("`{path}` has changed since"));
            return self.answer(reply, Err(refusal), writes);
        }
        let edit = ProjectEdit::RemoveFile(path.to_string());
        self.edit_project(&[edit], who.origin(), &mut writes);
        if let Some(doc) = entry.doc() {
            self.lost_path(doc, &mut writes);
        }
        self.note_changes(who, |own| own == path, &mut writes);
        self.answer(reply, Ok(()), writes);
    }

    /// What waited for a blob is looked at again.
    pub(super) fn blob_arrived(&mut self, hash: BlobHash) {
        let Some(waiting) = self.waiting.remove(&hash) else {
            return;
        };
        let repairs = self.review("server", |review| review.again(waiting));
        let (mut writes, ack) = (Vec::new(), Ack::nobody());
        // Nobody is known to have made it from a version that can be named.
        let who = Attribution::server();
        let author = Author {
            who: &who,
            seat: None,
            base: PutBase::Nearest,
        };
        self.carry_out(repairs, &author, &mut writes, &ack);
        self.submit(writes, ack);
    }

    /// Fetches what a client of the original protocol wrote; it comes back as a merge.
    pub(super) fn bridge(&mut self, bridge: Bridge, author: &Author<'_>, ack: Ack) {
        let Bridge {
            path,
            hash,
            mtime,
            before,
        } = bridge;
        let (doc, who) = (text_of(before.as_ref()), author.who.clone());
        let mode = before.as_ref().and_then(mode_of);
        let wanted = Wanted {
            path,
            hash,
            mtime,
            mode,
            doc,
            base: author.base,
            who,
            refused: Arc::default(),
        };
        let (deps, project, commands) = (self.deps.clone(), self.id.clone(), self.commands.clone());
        let now = self.text_now(&wanted);
        let fetches = Arc::clone(&self.fetches);
        self.deps.tasks.spawn(async move {
            let _stays = fetches;
            match (bridged(&deps, &project, wanted, now).await, commands.upgrade()) {
                (Ok(merge), Some(commands)) => drop(commands.send(Command::Merge(merge, ack)).await),
                (Err(refusal), _) => tracing::error!(%project, %refusal, "bytes of the original protocol cannot be merged"),
                (Ok(_), None) => {}
            }
        });
    }

    /// Whether a file can be at a path: what is in its way would be moved aside, or the file would.
    fn has_room(&self, path: &FilePath) -> Result<(), Refusal> {
        let why = if self.tree.has_below(path) {
            format!("`{path}` is a directory")
        } else if let Some(Entry::Dir | Entry::Link { .. }) = self.tree.get(path) {
            format!("`{path}` is a link or a directory")
        } else if let Some(above) = self.tree.above(path)
            && !matches!(self.tree.get(&above), Some(Entry::Dir))
        {
            format!("`{above}` is a file: nothing can be below it")
        } else if let Some(other) = self.tree.collides_with(path) {
            format!("some file systems take `{path}` for `{other}`, which exists")
        } else {
            return Ok(());
        };
        Err(Refusal::NoFile(why))
    }

    /// Whether what is at a path now is what new bytes for it were made from.
    fn may_put(&self, path: &FilePath, base: PutBase) -> Result<(), Refusal> {
        let refusal = match (self.tree.get(path), base) {
            (Some(_), PutBase::Nothing) => format!("`{path}` exists already"),
            (None, PutBase::Hash(_)) => format!("`{path}` does not exist"),
            (Some(Entry::Blob { hash: now, .. }), PutBase::Hash(base)) if *now != base => {
                format!("`{path}` is `{now}` now, and no text that could be merged")
            }
            (Some(Entry::Link { .. } | Entry::Dir), PutBase::Hash(_)) => {
                format!("`{path}` is no file now")
            }
            _ => return Ok(()),
        };
        Err(Refusal::Precondition(refusal))
    }

    /// Puts fetched bytes where they belong.
    pub(super) fn merge(&mut self, merge: Merge, ack: Ack) {
        let Merge {
            wanted,
            size,
            text,
            base,
        } = merge;
        // The path may have changed while the bytes were fetched. Dropped, the ack says no.
        if let Err(refusal) = self.may_put(&wanted.path, wanted.base) {
            let _ = wanted.refused.set(refusal);
            return;
        }
        let mut writes = Vec::new();
        let doc = wanted
            .doc
            .clone()
            .filter(|(doc, _)| self.texts.contains_key(doc));
        let entry = match (doc, text) {
            (Some((doc, seed)), Some(new)) => {
                self.merge_text(&doc, base.as_deref(), &new, &wanted, ack.clone());
                Entry::Text {
                    doc,
                    seed,
                    mode: wanted.mode.unwrap_or(DEFAULT_MODE),
                    mtime: wanted.mtime,
                }
            }
            (_, Some(_)) if size <= uspark_shared::text::MAX_TEXT_BYTES as u64 => {
                let (doc, seed) = (fresh_doc(), wanted.hash);
                let path = wanted.path.clone();
                self.records.insert(
                    doc.clone(),
                    TextMemo {
                        seed,
                        path,
                        is_live: true,
                        settled: None,
                    },
                );
                Entry::Text {
                    doc,
                    seed,
                    mode: wanted.mode.unwrap_or(DEFAULT_MODE),
                    mtime: wanted.mtime,
                }
            }
            _ => Entry::Blob {
                hash: wanted.hash,
                size,
                mode: wanted.mode.unwrap_or(DEFAULT_MODE),
                mtime: wanted.mtime,
            },
        };
        self.put_entry(&wanted, entry, &mut writes);
        self.note_changes(&wanted.who, |own| *own == wanted.path, &mut writes);
        self.submit(writes, ack);
    }

    fn merge_text(
        &mut self,
        doc: &DocId,
        base: Option<&str>,
        new: &str,
        wanted: &Wanted,
        ack: Ack,
    ) {
        let Some(text) = self.texts.get(doc) else {
            return;
        };
        let now = text.replica.text();
        let edits = match base {
            None => diff(&now, new),
            Some(base) => rebase(&diff(base, new), &diff(base, &now)),
        };
        match text.replica.edit(&edits) {
            // Applied already: what is left is to store and forward it.
            Some(update) => self.stored_edit(doc, update.into(), wanted, ack),
            None => ack.done(),
        }
    }

    fn stored_edit(&mut self, doc: &DocId, update: Bytes, wanted: &Wanted, ack: Ack) {
        let at = self.now();
        let Some(text) = self.texts.get_mut(doc) else {
            return;
        };
        let seed = text.seed.take().filter(|_| text.log.is_empty());
        let mut writes: Vec<_> = seed
            .into_iter()
            .map(|seed| text.log.append(seed, None, at))
            .collect();
        writes.push(text.log.append(update.clone(), wanted.who.origin(), at));
        text.edited(std::time::Instant::now(), at, wanted.who.origin());
        let state_vector = Bytes::from(text.replica.state_vector());
        self.submit(writes, ack);
        self.rooms
            .broadcast(&Some(doc.clone()), &update, None, || state_vector);
    }

    /// Sets the entry of a path, with what follows from it, for whoever wanted it.
    fn put_entry(&mut self, wanted: &Wanted, entry: Entry, writes: &mut Vec<Write>) {
        let path = wanted.path.clone();
        let before = self.tree.get(&path).cloned();
        if before.as_ref() == Some(&entry) {
            return;
        }
        if let Some(doc) = entry.doc().cloned() {
            // The text moved meanwhile: its content went with it, and its path stays.
            let moved = self
                .tree
                .path_of(&doc)
                .filter(|other| **other != path)
                .is_some();
            if moved {
                if matches!(before, Some(Entry::Original { .. })) {
                    self.edit_project(&[ProjectEdit::RemoveFile(path.into())], None, writes);
                }
                return;
            }
            if let Some(memo) = self.records.get_mut(&doc) {
                memo.path = path.clone();
                memo.is_live = true;
            }
            self.remember(&doc, writes);
        }
        self.edit_project(
            &[ProjectEdit::SetFile(path.clone(), entry.clone())],
            wanted.who.origin(),
            writes,
        );
        // In place of bytes in the original protocol there was a text.
        let text = wanted.doc.as_ref().map(|(doc, _)| doc);
        let text = before.as_ref().and_then(Entry::doc).or(text);
        if let Some(text) = text.filter(|text| entry.doc() != Some(text)) {
            self.lost_path(text, writes);
        }
        self.review_own(path, &entry, &wanted.who, writes);
    }

    /// Notes that a text lies nowhere any more.
    fn lost_path(&mut self, doc: &DocId, writes: &mut Vec<Write>) {
        if self.tree.path_of(doc).is_none()
            && let Some(memo) = self.records.get_mut(doc)
        {
            memo.is_live = false;
            self.remember(doc, writes);
        }
    }

    fn file_view(&self, path: &FilePath) -> Result<FileView, Refusal> {
        let entry = self.tree.get(path).ok_or(Refusal::NotFound("file"))?;
        let file = self.view(entry).ok_or(Refusal::NotFound("file"))?;
        Ok(FileView {
            path: path.clone(),
            file,
        })
    }

    /// An entry as the manifest shows it; `None` while its blob is absent.
    fn view(&self, entry: &Entry) -> Option<ManifestFile> {
        let empty = ManifestFile {
            kind: "dir",
            hash: None,
            size: None,
            mode: None,
            mtime: None,
            doc: None,
            link: None,
        };
        Some(match entry {
            Entry::Text {
                doc,
                seed,
                mode,
                mtime,
            } => {
                let memo = self.records.get(doc)?;
                let (hash, size, mtime) = match memo.settled {
                    Some(version) => (version.hash, version.size, version.mtime.max(*mtime)),
                    None => (*seed, self.blob_fact(seed)?.size, *mtime),
                };
                let (hash, size, mode, mtime) = (Some(hash), Some(size), Some(*mode), Some(mtime));
                ManifestFile {
                    kind: "text",
                    hash,
                    size,
                    mode,
                    mtime,
                    doc: Some(doc.clone()),
                    link: None,
                }
            }
            Entry::Blob {
                hash,
                size,
                mode,
                mtime,
            } => {
                self.blob_fact(hash)?;
                let (hash, size, mode, mtime) =
                    (Some(*hash), Some(*size), Some(*mode), Some(*mtime));
                ManifestFile {
                    kind: "binary",
                    hash,
                    size,
                    mode,
                    mtime,
                    ..empty
                }
            }
            Entry::Link { target } => ManifestFile {
                kind: "link",
                link: Some(target.clone()),
                ..empty
            },
            Entry::Dir => empty,
            Entry::Original { .. } => return None,
        })
    }

    /// The text that bytes are about to go into, where it is in memory.
    fn text_now(&self, wanted: &Wanted) -> Option<String> {
        let (doc, _) = wanted.doc.as_ref()?;
        self.texts.get(doc).map(|text| text.replica.text())
    }
}

/// Fetches what is named only when it has come back: until then its bytes stay.
async fn bridged(
    deps: &ProjectDeps,
    project: &ProjectId,
    wanted: Wanted,
    now: Option<String>,
) -> Result<Merge, Refusal> {
    deps.blobs.renew(project, &wanted.hash).await?;
    fetch(deps, project, wanted, now).await
}

/// A document id that nobody has.
pub(super) fn fresh_doc() -> DocId {
    let mut bytes = [0; 15];
    getrandom::fill(&mut bytes).expect("the system has randomness");
    DocId::from_random(bytes)
}

fn text_of(entry: Option<&Entry>) -> Option<(DocId, BlobHash)> {
    match entry? {
        Entry::Text { doc, seed, .. } => Some((doc.clone(), *seed)),
        _ => None,
    }
}

fn mode_of(entry: &Entry) -> Option<u32> {
    match entry {
        Entry::Text { mode, .. } | Entry::Blob { mode, .. } => Some(*mode),
        _ => None,
    }
}
