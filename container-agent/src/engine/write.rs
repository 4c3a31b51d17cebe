//! Taking the planner's steps towards the disk.
//!
//! Every change of the disk goes through compare-and-swap, and everything that could be lost to a
//! killed process in between is announced to the journal first: see [`crate::disk::swap`] and
//! [`super::recover`].

use uspark_shared::id::{BlobHash, DocId};
use uspark_shared::path::FilePath;
use uspark_shared::replica::ClientId;
use uspark_shared::schema::Entry;

use super::config::Progress;
use super::jobs::{DiskJob, Fetched, Transfer, TransferError};
use super::plan::{Disk, entry_mode};
use super::report::Conflict;
use super::run::{Again, Engine, chain};
use super::step::random;
use super::work::{View, Writing};
use crate::clock::now_ms;
use crate::disk::DiskError;
use crate::disk::observe::{Fingerprint, SeenFile};
use crate::disk::swap::{Content, Displaced, Expected, Put, PutResult, TakeResult, TempName};
use crate::journal::{Base, Intent, Record};
use crate::watch::Urgency;

/// What is to be written, once it is all there.
struct Ready {
    content: Content,
    hash: Option<BlobHash>,
    size: u64,
    is_text: bool,
    mtime: Option<u64>,
    shadow: Option<(Vec<u8>, u64)>,
    /// To be kept as the document's first content.
    keep: Option<(BlobHash, String)>,
}

impl Engine {
    /// The project's version takes the path. What is there is displaced, and kept as `kept`.
    pub(super) fn write(
        &mut self,
        path: &FilePath,
        view: View,
        entry: Option<Entry>,
        kept: Option<FilePath>,
    ) {
        let Some(entry) = entry else {
            return;
        };
        if self.tools.hold(path) {
            let why = "a tool call on it is under way".to_owned();
            return self.trouble(path, why, Again::OnChange);
        }
        let expected = match (&view.disk, view.print) {
            (Disk::File { hash, .. }, Some(print)) => Expected::File(print, *hash),
            (Disk::Link(target), Some(print)) => Expected::Link(print, target.clone()),
            (Disk::Dir { empty: false }, _) => {
                let why = "a directory of the same name is there".to_owned();
                return self.trouble(path, why, Again::OnChange);
            }
            _ => Expected::Absent,
        };
        if entry == Entry::Dir {
            return match expected {
                Expected::Absent => {
                    self.jobs.disk(DiskJob::MakeDir(path.clone()));
                    self.busy(path);
                }
                _ => self.take_away(path, expected),
            };
        }
        let Some(ready) = self.gather(path, &view, &entry) else {
            return;
        };
        let temp = TempName::from_random(random());
        let mode = entry_mode(&entry).unwrap_or_default();
        let intent = expected != Expected::Absent;
        if intent {
            let shadow = self.announced_shadow(&entry, ready.shadow.as_ref());
            self.records.push(Record::Intent(Intent {
                path: path.clone(),
                temp: temp.clone(),
                old: match &expected {
                    Expected::File(_, hash) if kept.is_none() => Some(*hash),
                    _ => None,
                },
                new: ready.hash,
                shadow,
            }));
        }
        let after = View {
            disk: match (&entry, ready.hash) {
                (Entry::Link { target }, _) => Disk::Link(target.clone()),
                (_, Some(hash)) => Disk::File {
                    hash,
                    size: ready.size,
                    mode,
                    is_text: ready.is_text,
                },
                _ => Disk::Absent,
            },
            print: None,
            mtime: 0,
        };
        self.jobs.disk(DiskJob::Put {
            put: Put {
                path: path.clone(),
                temp: temp.clone(),
                content: ready.content,
                mode,
                mtime: ready.mtime,
                expected,
            },
            keep: ready.keep,
            instead_of_dir: matches!(view.disk, Disk::Dir { .. }),
        });
        self.busy(path);
        if let Some(work) = self.works.get_mut(path) {
            work.writing = Some(Writing {
                entry,
                hash: ready.hash,
                shadow: ready.shadow,
                temp,
                kept,
                view: after,
                intent,
            });
        }
    }

    /// The update by which a killed process's successor brings the shadow to what was written.
    fn announced_shadow(
        &mut self,
        entry: &Entry,
        shadow: Option<&(Vec<u8>, u64)>,
    ) -> Option<(DocId, Vec<u8>)> {
        let (doc, (update, _)) = (entry.doc()?, shadow?);
        self.remember_shadow(doc);
        Some((doc.clone(), update.clone()))
    }

    /// Makes sure that the shadow of a loaded document is remembered, so that updates can be added.
    fn remember_shadow(&mut self, doc: &DocId) {
        if !self.has_state(doc)
            && let Some(document) = self.texts.get(doc)
        {
            let state = document.shadow_state();
            self.records
                .push(Record::WholeState(Some(doc.clone()), state));
        }
    }

    /// Puts together what an entry puts on disk, or asks for what is missing of it.
    fn gather(&mut self, path: &FilePath, view: &View, entry: &Entry) -> Option<Ready> {
        match entry {
            Entry::Link { target } => {
                if let Err(why) = self.jobs.root().admits_link(path, target) {
                    self.skipped.insert(path.clone(), format!("refused: {why}"));
                    self.settle(path);
                    return None;
                }
                Some(Ready {
                    content: Content::Link(target.clone()),
                    hash: None,
                    size: 0,
                    is_text: false,
                    mtime: None,
                    shadow: None,
                    keep: None,
                })
            }
            Entry::Blob {
                hash, size, mtime, ..
            } => {
                let content = match self.fetch(path, *hash, *size)? {
                    Fetched::Bytes(bytes) => Content::Bytes(bytes),
                    Fetched::File(arrived) => Content::Arrived(arrived),
                };
                Some(Ready {
                    content,
                    hash: Some(*hash),
                    size: *size,
                    is_text: false,
                    mtime: Some(*mtime),
                    shadow: None,
                    keep: None,
                })
            }
            Entry::Text {
                doc, seed, mtime, ..
            } => {
                if self.agreed.at_doc(doc).is_none() && self.is_unedited(doc) {
                    return self.gather_seed(path, *seed, *mtime);
                }
                if self.stale.contains(doc) || !self.texts.contains_key(doc) {
                    self.exchange(path, doc);
                    return None;
                }
                match self.texts.get(doc)?.snapshot() {
                    Ok(Some(snapshot)) => Some(Ready {
                        hash: Some(snapshot.hash),
                        size: snapshot.text.len() as u64,
                        is_text: true,
                        content: Content::Bytes(snapshot.text.into_bytes()),
                        mtime: (view.disk == Disk::Absent).then_some(*mtime),
                        shadow: Some((snapshot.update, snapshot.version)),
                        keep: None,
                    }),
                    Ok(None) => {
                        let why = "it is no text any more; the server will make it a binary file";
                        self.trouble(path, why.into(), Again::OnChange);
                        None
                    }
                    Err(error) => {
                        self.lose_document(path, doc, &chain(&error));
                        None
                    }
                }
            }
            Entry::Dir | Entry::Original { .. } => None,
        }
    }

    /// A document that nobody has edited: its file is the blob it was seeded from.
    fn gather_seed(&mut self, path: &FilePath, seed: BlobHash, mtime: u64) -> Option<Ready> {
        let Fetched::Bytes(bytes) = self.fetch(path, seed, 0)? else {
            return None;
        };
        match String::from_utf8(bytes) {
            Ok(text) => Some(Ready {
                hash: Some(seed),
                size: text.len() as u64,
                is_text: true,
                content: Content::Bytes(text.clone().into_bytes()),
                mtime: Some(mtime),
                shadow: None,
                keep: Some((seed, text)),
            }),
            Err(_) => {
                let why = "its first content is no text; the server will make it a binary file";
                self.trouble(path, why.into(), Again::OnChange);
                None
            }
        }
    }

    /// The blob for a path, if it has come. If not, it is asked for.
    fn fetch(&mut self, path: &FilePath, hash: BlobHash, size: u64) -> Option<Fetched> {
        let work = self.works.get_mut(path)?;
        if let Some((fetched, content)) = work.fetched.take()
            && fetched == hash
        {
            return Some(content);
        }
        self.jobs.transfer(Transfer::Down {
            path: path.clone(),
            hash,
            size,
        });
        self.busy(path);
        None
    }

    /// A blob has come for a path, or has not.
    pub(super) fn fetched(
        &mut self,
        path: &FilePath,
        hash: BlobHash,
        result: Result<Fetched, TransferError>,
    ) {
        let base = self.agreed.get(path).cloned();
        match result {
            Ok(fetched) => {
                let is_base =
                    |base: &Base| matches!(&base.entry, Entry::Text { seed, .. } if *seed == hash);
                if let Some(base) = base.filter(is_base)
                    && !self.fetched_base(&base, &fetched)
                {
                    let why = "its document's first content is no text".to_owned();
                    return self.trouble(path, why, Again::OnChange);
                }
                if let Some(work) = self.works.get_mut(path) {
                    work.fetched = Some((hash, fetched));
                }
                self.replan(path);
            }
            Err(error) => self.transfer_failed(path, error),
        }
    }

    /// A change of a path is done, or not.
    pub(super) fn put(&mut self, path: &FilePath, result: Result<PutResult, DiskError>) {
        let Some(work) = self.works.get_mut(path) else {
            return;
        };
        work.busy = false;
        let Some(writing) = work.writing.take() else {
            return;
        };
        // After an error nobody knows how far it came: what it displaced may wait for the next session.
        let is_over = matches!(
            result,
            Ok(PutResult::Done(_) | PutResult::Changed | PutResult::Linked | PutResult::Busy)
        );
        if writing.intent && is_over {
            self.records.push(Record::NoIntent(path.clone()));
        }
        match result {
            Ok(PutResult::Done(print)) => self.written(path, writing, print, None),
            Ok(PutResult::Swapped {
                print,
                displaced,
                linked,
                left,
            }) => {
                if linked && !std::mem::replace(&mut self.told_linked, true) {
                    self.note(format!(
                        "`{path}` is a file of its own now: it had other names (hard links), and \
                         these keep what they had; so with every such file"
                    ));
                }
                self.written(path, writing, print, Some((displaced, left)));
            }
            Ok(PutResult::Changed | PutResult::Linked) => self.look_again(path),
            Ok(PutResult::Busy) => {
                let why = "somebody is writing it".to_owned();
                self.trouble(path, why, Again::Later);
            }
            Err(error) => self.disk_failed(path, &error),
        }
    }

    fn written(
        &mut self,
        path: &FilePath,
        writing: Writing,
        print: Fingerprint,
        displaced: Option<(Displaced, Fingerprint)>,
    ) {
        let Writing {
            entry,
            hash,
            shadow,
            temp,
            kept,
            mut view,
            ..
        } = writing;
        let (displaced, left) = displaced.unzip();
        let mut keep = kept;
        let mut feed = None;
        match displaced {
            None => {}
            Some(Displaced::AsExpected) => {}
            Some(Displaced::File(seen)) if keep.is_none() => feed = Some(seen),
            Some(_) => keep = keep.or_else(|| Some(path.conflict(&self.config.who, now_ms()))),
        }
        if let Some(seen) = feed {
            match self.merge_displaced(path, &entry, &seen) {
                true => self.records.push(Record::Intent(Intent {
                    path: path.clone(),
                    temp: temp.clone(),
                    old: Some(seen.hash),
                    new: hash,
                    shadow: None,
                })),
                false => keep = Some(path.conflict(&self.config.who, now_ms())),
            }
        }
        if let (Some(doc), Some((update, version))) = (entry.doc().cloned(), shadow) {
            self.follow(&doc, update, version);
        }
        view.print = Some(print);
        self.agree(
            path,
            Base {
                entry,
                hash,
                print: Some(print),
            },
        );
        self.received_paths += 1;
        (self.progress)(Progress::Received(path.clone()));
        if let Some(work) = self.works.get_mut(path) {
            work.view = Some(view);
        }
        let path = path.clone();
        self.busy(&path);
        match (left, keep) {
            (None, _) => self.replan(&path),
            (Some(_), Some(kept)) => self.jobs.disk(DiskJob::KeepAs { path, temp, kept }),
            (Some(left), None) => self.jobs.disk(DiskJob::Discard {
                path,
                left: Some((temp, left)),
                prune: Vec::new(),
            }),
        }
    }

    /// Somebody wrote a file in the instant in which it was replaced. Gives whether what they wrote
    /// is merged now.
    fn merge_displaced(&mut self, path: &FilePath, entry: &Entry, seen: &SeenFile) -> bool {
        let (Some(doc), Some(text)) = (entry.doc(), &seen.text) else {
            return false;
        };
        let Some(document) = self.texts.get_mut(doc) else {
            return false;
        };
        let fresh = ClientId::from_random(random());
        match document.edit_of_displaced(text, fresh, now_ms()) {
            Ok(Some(update)) => {
                let by = self.tools.author(path);
                let outgoing = self.wire.outgoing(Some(doc.clone()), update, by);
                self.records.push(Record::Outgoing(outgoing));
                self.sent += 1;
                true
            }
            Ok(None) => true,
            Err(error) => {
                self.note(chain(&error));
                false
            }
        }
    }

    /// The disk has a snapshot of a document.
    fn follow(&mut self, doc: &DocId, update: Vec<u8>, version: u64) {
        self.remember_shadow(doc);
        let now = now_ms();
        let Some(document) = self.texts.get_mut(doc) else {
            return;
        };
        match document.follow(&update, version, now) {
            Ok(()) => self
                .records
                .push(Record::WrittenBack(doc.clone(), update, now)),
            Err(error) => self.note(chain(&error)),
        }
    }

    /// What a change displaced has a name now, or has not.
    pub(super) fn kept(
        &mut self,
        path: &FilePath,
        kept: FilePath,
        result: Result<bool, DiskError>,
    ) {
        match result {
            Ok(true) => {
                self.conflicts.push(Conflict {
                    path: path.clone(),
                    kept: kept.clone(),
                });
                (self.progress)(Progress::Conflict {
                    path: path.clone(),
                    kept: kept.clone(),
                });
                self.mark_for(&kept, Urgency::Now, path);
                self.records.push(Record::NoIntent(path.clone()));
            }
            // Either way it is kept when the next session begins.
            Ok(false) => self.note(format!(
                "`{kept}` exists; a version of `{path}` keeps a temporary name"
            )),
            Err(error) => self.note(chain(&error)),
        }
        self.replan(path);
    }

    /// The project's permission bits are set on disk.
    pub(super) fn write_mode(&mut self, path: &FilePath, view: View, entry: Option<Entry>) {
        let mode = entry.as_ref().and_then(entry_mode);
        let (Some(print), Some(mode)) = (view.print, mode) else {
            return;
        };
        self.jobs.disk(DiskJob::SetMode {
            path: path.clone(),
            print,
            mode,
        });
        self.busy(path);
    }

    /// Permission bits are set, or not.
    pub(super) fn mode_set(&mut self, path: &FilePath, result: Result<PutResult, DiskError>) {
        let entry = self.project.entries.get(path);
        let mode = entry.and_then(entry_mode);
        match result {
            Ok(PutResult::Done(print)) => {
                if let Some(work) = self.works.get_mut(path)
                    && let Some(view) = &mut work.view
                {
                    view.print = Some(print);
                    if let (Disk::File { mode: is, .. }, Some(mode)) = (&mut view.disk, mode) {
                        *is = mode;
                    }
                }
                self.received_paths += 1;
                (self.progress)(Progress::Received(path.clone()));
                self.replan(path);
            }
            Ok(PutResult::Linked) => {
                // A file of its own gets it.
                let (view, entry) = (
                    self.works.get(path).and_then(|work| work.view.clone()),
                    entry.cloned(),
                );
                self.replan(path);
                if let Some(view) = view {
                    self.write(path, view, entry, None);
                }
            }
            Ok(_) => self.look_again(path),
            Err(error) => self.disk_failed(path, &error),
        }
    }

    /// What is on disk goes.
    pub(super) fn remove(&mut self, path: &FilePath, view: View, base: Option<Base>) {
        if self.tools.hold(path) {
            let why = "a tool call on it is under way".to_owned();
            return self.trouble(path, why, Again::OnChange);
        }
        let expected = match (view.disk, view.print, base) {
            (Disk::File { hash, .. }, Some(print), _) => Expected::File(print, hash),
            (Disk::Link(target), Some(print), _) => Expected::Link(print, target),
            (Disk::Dir { .. }, _, _) => {
                self.jobs.disk(DiskJob::RemoveDir {
                    path: path.clone(),
                    prune: self.unused_above(path),
                });
                return self.busy(path);
            }
            _ => return self.look_again(path),
        };
        self.take_away(path, expected);
    }

    fn take_away(&mut self, path: &FilePath, expected: Expected) {
        let temp = TempName::from_random(random());
        self.records.push(Record::Intent(Intent {
            path: path.clone(),
            temp: temp.clone(),
            old: match &expected {
                Expected::File(_, hash) => Some(*hash),
                _ => None,
            },
            new: None,
            shadow: None,
        }));
        if let Some(work) = self.works.get_mut(path) {
            work.taking = Some(temp.clone());
        }
        self.jobs.disk(DiskJob::Take {
            path: path.clone(),
            temp,
            expected,
        });
        self.busy(path);
    }

    /// What was on disk is gone, or not.
    pub(super) fn taken(&mut self, path: &FilePath, result: Result<TakeResult, DiskError>) {
        if matches!(result, Ok(TakeResult::Changed | TakeResult::Busy)) {
            self.records.push(Record::NoIntent(path.clone()));
        }
        let Some(temp) = self.works.get_mut(path).and_then(|work| work.taking.take()) else {
            return;
        };
        match result {
            Ok(TakeResult::Taken(left)) => {
                self.jobs.disk(DiskJob::Discard {
                    path: path.clone(),
                    left: Some((temp, left)),
                    prune: self.unused_above(path),
                });
                self.disagree(path);
                self.received_paths += 1;
                (self.progress)(Progress::RemovedHere(path.clone()));
                if let Some(work) = self.works.get_mut(path) {
                    work.view = None;
                }
            }
            Ok(TakeResult::Changed) => self.look_again(path),
            Ok(TakeResult::Busy) => {
                let why = "somebody is writing it".to_owned();
                self.trouble(path, why, Again::Later);
            }
            Err(error) => self.disk_failed(path, &error),
        }
    }

    /// What was at a path is gone for good, and with it perhaps what was in the way of another.
    pub(super) fn discarded(&mut self, path: &FilePath) {
        self.records.push(Record::NoIntent(path.clone()));
        self.retry_below(path);
        for directory in path.ancestors() {
            if self
                .works
                .get(&directory)
                .is_some_and(|work| work.trouble.is_some())
            {
                self.mark_for(&directory, Urgency::Now, path);
            }
        }
        self.replan(path);
    }

    /// The directories above a path of which the project knows nothing any more.
    pub(super) fn unused_above(&self, path: &FilePath) -> Vec<FilePath> {
        let unused = |directory: &FilePath| {
            !self.project.has_below(directory) && !self.project.entries.contains_key(directory)
        };
        path.ancestors().take_while(unused).collect()
    }

    /// A directory is there, or not.
    pub(super) fn dir_made(&mut self, path: &FilePath, result: Result<(), DiskError>) {
        match result {
            Ok(()) => {
                self.received_paths += 1;
                (self.progress)(Progress::Received(path.clone()));
                self.look_again(path);
            }
            Err(error) => self.disk_failed(path, &error),
        }
    }

    /// A directory is gone, or has something in it; either way it is no empty directory.
    pub(super) fn dir_removed(&mut self, path: &FilePath, result: Result<bool, DiskError>) {
        match result {
            Ok(_) => {
                self.disagree(path);
                self.look_again(path);
            }
            Err(error) => self.disk_failed(path, &error),
        }
    }

    fn disk_failed(&mut self, path: &FilePath, error: &DiskError) {
        let first = self.works.get(path).is_some_and(|work| work.tries == 0);
        if first {
            self.note(chain(error));
        }
        let again = match error.is_passing() {
            true => Again::Later,
            false => Again::OnChange,
        };
        self.trouble(path, chain(error), again);
    }
}
