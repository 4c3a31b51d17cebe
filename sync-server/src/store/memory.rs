//! The store in memory: for tests, and for a server that shall leave nothing behind.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use uspark_shared::id::{BlobHash, DocId, DocumentName, ProjectId};

use super::{
    AuditRecord, BlobBody, DAY, Doubtful, EVENT_PAGE_BYTES, EventPage, EventRecord, Origin,
    OriginSpan, Outcome, ProjectRecord, Reader, Refused, SettledVersion, Spent, Store, StoreError,
    StoredBlob, StoredDocument, TextRecord, Upkeep, Write,
};
use crate::access::{TokenId, TokenRecord, TokenScope};

/// Documents, projects, texts, small blobs, tokens and audit in memory.
#[derive(Debug)]
pub struct MemoryStore {
    epoch: String,
    state: Mutex<State>,
}

#[derive(Debug, Default, Clone)]
struct State {
    projects: BTreeMap<ProjectId, Arc<Project>>,
    blobs: BTreeMap<BlobHash, StoredBlob>,
    tokens: BTreeMap<TokenId, TokenRecord>,
    audit: BTreeMap<u64, AuditRecord>,
    /// The number of the last line of the audit log, also of one that is gone.
    audited: u64,
    numbers: BTreeMap<ProjectId, EventNumbers>,
}

/// Which numbers a project's events have; kept when the project goes.
#[derive(Debug, Default, Clone, Copy)]
struct EventNumbers {
    last: u64,
    cut: u64,
}

#[derive(Debug, Clone)]
struct Project {
    record: ProjectRecord,
    documents: BTreeMap<Option<DocId>, Document>,
    texts: BTreeMap<DocId, TextRecord>,
    settled: BTreeMap<DocId, Vec<(u64, SettledVersion)>>,
    /// The last update of each text that a settled version holds.
    settled_through: BTreeMap<DocId, u64>,
    blobs: BTreeMap<BlobHash, Grant>,
    events: BTreeMap<u64, EventRecord>,
    /// How many lines of each run there are.
    runs: BTreeMap<String, u64>,
}

/// That a project may read a blob.
#[derive(Debug, Default, Clone, Copy)]
struct Grant {
    uploaded_at: u64,
    released_at: u64,
    /// Whether something was found to name it.
    kept: bool,
}

#[derive(Debug, Default, Clone)]
struct Document {
    through: u64,
    snapshot: Option<Bytes>,
    updates: BTreeMap<u64, Bytes>,
    origins: BTreeMap<u64, (u64, Option<Origin>)>,
}

impl MemoryStore {
    /// An empty store; the caller draws the epoch.
    pub fn new(epoch: impl Into<String>) -> Self {
        Self {
            epoch: epoch.into(),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of_project<T: Default>(&self, id: &ProjectId, read: impl FnOnce(&Project) -> T) -> T {
        self.state()
            .projects
            .get(id)
            .map_or_else(T::default, |project| read(project))
    }
}

impl State {
    fn project(&mut self, id: &ProjectId) -> Result<&mut Project, Refused> {
        let project = self.projects.get_mut(id);
        project
            .map(Arc::make_mut)
            .ok_or_else(|| Refused::NoSuchProject(id.clone()))
    }

    fn document(&mut self, name: &DocumentName) -> Result<&mut Document, Refused> {
        let project = self.project(&name.project)?;
        Ok(project.documents.entry(name.text.clone()).or_default())
    }

    /// Applies one write. Refuses before it changes anything.
    fn apply(&mut self, write: &Write) -> Outcome {
        match write {
            Write::CreateProject(record) => {
                if self.projects.contains_key(&record.id) {
                    return Err(Refused::ProjectExists(record.id.clone()));
                }
                self.projects
                    .insert(record.id.clone(), Arc::new(Project::new(record.clone())));
            }
            Write::DeleteProject(id) => {
                self.projects
                    .remove(id)
                    .ok_or_else(|| Refused::NoSuchProject(id.clone()))?;
                let scope = TokenScope::Project(id.clone());
                self.tokens.retain(|_, token| token.scope != scope);
                let numbers = self.numbers.entry(id.clone()).or_default();
                numbers.last += 1;
                numbers.cut = numbers.last;
            }
            Write::Append {
                name,
                seq,
                update,
                origin,
                at,
            } => {
                let document = self.document(name)?;
                if *seq <= document.through || document.updates.contains_key(seq) {
                    return Err(Refused::SequenceTaken {
                        name: name.clone(),
                        seq: *seq,
                    });
                }
                document.updates.insert(*seq, update.clone());
                let before = document.origins.range(..*seq).next_back();
                if before.map(|(_, (_, origin))| origin).unwrap_or(&None) != origin {
                    document.origins.insert(*seq, (*at, origin.clone()));
                }
            }
            Write::Compact {
                name,
                through,
                state,
            } => {
                let document = self.document(name)?;
                if *through > document.through {
                    document.through = *through;
                    document.snapshot = Some(state.clone());
                    document.updates.retain(|seq, _| seq > through);
                }
            }
            Write::PutText(text) => {
                let project = self.project(&text.project)?;
                project.texts.insert(text.doc.clone(), text.clone());
            }
            Write::Settle {
                project,
                doc,
                version,
                project_seq,
                doc_seq,
            } => {
                let project = self.project(project)?;
                let through = project.settled_through.entry(doc.clone()).or_default();
                *through = (*through).max(*doc_seq);
                let history = project.settled.entry(doc.clone()).or_default();
                let place = history.partition_point(|(seq, _)| seq <= project_seq);
                history.insert(place, (*project_seq, *version));
            }
            Write::PutBlob {
                project,
                hash,
                body,
                at,
            } => {
                let grant = self.project(project)?.blobs.entry(*hash).or_default();
                grant.uploaded_at = grant.uploaded_at.max(*at);
                self.blobs.entry(*hash).or_insert_with(|| match body {
                    BlobBody::Inline(bytes) => StoredBlob::Inline(bytes.clone()),
                    BlobBody::External { size } => StoredBlob::External { size: *size },
                });
            }
            Write::PutToken(token) => {
                if let TokenScope::Project(project) = &token.scope {
                    self.project(project)?;
                }
                if self.tokens.contains_key(&token.id) {
                    return Err(Refused::TokenExists(token.id.clone()));
                }
                self.tokens.insert(token.id.clone(), token.clone());
            }
            Write::RevokeToken { id, at } => {
                let token = self.tokens.get_mut(id);
                let token = token.ok_or_else(|| Refused::NoSuchToken(id.clone()))?;
                token.revoked_at.get_or_insert(*at);
            }
            Write::Audit(record) => {
                self.audited += 1;
                self.audit.insert(self.audited, record.clone());
            }
            Write::Events {
                project,
                events,
                keep,
            } => self.add_events(project, events.clone(), *keep)?,
            Write::Lines(lines) => {
                let runs = &mut self.project(&lines.project)?.runs;
                let stored = runs.get(&lines.run).copied().unwrap_or(0);
                let new = lines.missing(stored)?;
                if !new.is_empty() {
                    runs.insert(lines.run.clone(), lines.last());
                    self.add_events(&lines.project, new, lines.keep)?;
                }
            }
            Write::Upkeep(upkeep) => self.keep_up(upkeep)?,
        }
        Ok(())
    }

    fn keep_up(&mut self, upkeep: &Upkeep) -> Outcome {
        match upkeep {
            Upkeep::RenewBlob { project, hash, at } => {
                let grant = self.grant(project, hash);
                let grant = grant.ok_or(Refused::NoSuchBlob(*hash))?;
                grant.uploaded_at = grant.uploaded_at.max(*at);
            }
            Upkeep::ReleaseBlob { project, hash, at } => {
                if let Some(grant) = self.grant(project, hash) {
                    grant.released_at = grant.released_at.max(*at);
                    grant.kept = false;
                }
            }
            Upkeep::KeepBlobs { project, hashes } => {
                for hash in hashes {
                    if let Some(grant) = self.grant(project, hash) {
                        grant.kept = true;
                    }
                }
            }
            Upkeep::ForgetBlobs {
                project,
                hashes,
                spent,
            } => {
                if let Ok(project) = self.project(project) {
                    for hash in hashes {
                        let is_spent =
                            |grant: &Grant| spent.is(grant.uploaded_at, grant.released_at);
                        if project.blobs.get(hash).is_some_and(is_spent) && !project.is_text(hash) {
                            project.blobs.remove(hash);
                        }
                    }
                }
            }
            Upkeep::ForgetTexts { project, docs } => {
                if let Ok(project) = self.project(project) {
                    docs.iter().for_each(|doc| project.forget_text(doc));
                }
            }
            Upkeep::ForgetVersions { project, versions } => {
                if let Ok(project) = self.project(project) {
                    for (doc, seq) in versions {
                        project.forget_versions(doc, |other| other == *seq);
                    }
                }
            }
            Upkeep::DropBlobs { hashes } => {
                for hash in hashes {
                    let mut projects = self.projects.values();
                    if !projects.any(|project| project.blobs.contains_key(hash)) {
                        self.blobs.remove(hash);
                    }
                }
            }
            Upkeep::ForgetAudit { through } => self.audit.retain(|number, _| number > through),
        }
        Ok(())
    }

    fn grant(&mut self, project: &ProjectId, hash: &BlobHash) -> Option<&mut Grant> {
        self.project(project).ok()?.blobs.get_mut(hash)
    }

    fn add_events(&mut self, id: &ProjectId, events: Vec<EventRecord>, keep: u64) -> Outcome {
        let mut numbers = self.numbers.get(id).copied().unwrap_or_default();
        let project = self.project(id)?;
        for event in events {
            numbers.last += 1;
            project.events.insert(numbers.last, event);
        }
        numbers.cut = numbers.cut.max(numbers.last.saturating_sub(keep));
        project.events.retain(|number, _| *number > numbers.cut);
        self.numbers.insert(id.clone(), numbers);
        Ok(())
    }
}

impl Project {
    fn new(record: ProjectRecord) -> Self {
        Self {
            record,
            documents: BTreeMap::new(),
            texts: BTreeMap::new(),
            settled: BTreeMap::new(),
            settled_through: BTreeMap::new(),
            blobs: BTreeMap::new(),
            events: BTreeMap::new(),
            runs: BTreeMap::new(),
        }
    }

    /// Whether a blob is a seed or a settled version.
    fn is_text(&self, hash: &BlobHash) -> bool {
        let mut versions = self.settled.values().flatten();
        self.texts.values().any(|text| text.seed == *hash)
            || versions.any(|(_, version)| version.hash == *hash)
    }

    fn forget_text(&mut self, doc: &DocId) {
        self.forget_versions(doc, |_| true);
        self.settled_through.remove(doc);
        self.documents.remove(&Some(doc.clone()));
        if let Some(text) = self.texts.remove(doc) {
            self.doubt(&text.seed);
        }
    }

    /// Removes the versions of a text at the places that are wanted.
    fn forget_versions(&mut self, doc: &DocId, wanted: impl Fn(u64) -> bool) {
        let history = self.settled.get_mut(doc);
        let gone: Vec<_> = history
            .map(|history| history.extract_if(.., |(seq, _)| wanted(*seq)).collect())
            .unwrap_or_default();
        for (_, version) in gone {
            self.doubt(&version.hash);
        }
    }

    fn doubt(&mut self, hash: &BlobHash) {
        if let Some(grant) = self.blobs.get_mut(hash) {
            grant.kept = false;
        }
    }
}

impl Store for MemoryStore {
    fn commit(&self, batch: &[Vec<Write>]) -> Result<Vec<Outcome>, StoreError> {
        let mut state = self.state();
        let apply_group = |group: &Vec<Write>| {
            // A single write undoes nothing; projects are shared with the copy until they change.
            let before = (group.len() > 1).then(|| state.clone());
            let outcome = group.iter().try_for_each(|write| state.apply(write));
            if let (Err(_), Some(before)) = (&outcome, before) {
                *state = before;
            }
            outcome
        };
        Ok(batch.iter().map(apply_group).collect())
    }

    fn epoch(&self) -> &str {
        &self.epoch
    }

    fn project(&self, id: &ProjectId) -> Result<Option<ProjectRecord>, StoreError> {
        Ok(self.of_project(id, |project| Some(project.record.clone())))
    }

    fn projects(
        &self,
        after: Option<&ProjectId>,
        limit: usize,
    ) -> Result<Vec<ProjectRecord>, StoreError> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let state = self.state();
        let page = state.projects.range((from, Bound::Unbounded)).take(limit);
        Ok(page.map(|(_, project)| project.record.clone()).collect())
    }

    fn load(&self, name: &DocumentName) -> Result<StoredDocument, StoreError> {
        let stored = self.of_project(&name.project, |project| {
            let document = project.documents.get(&name.text)?;
            let last = document
                .updates
                .last_key_value()
                .map_or(document.through, |(seq, _)| *seq);
            let updates = document.snapshot.iter().chain(document.updates.values());
            Some(StoredDocument {
                updates: updates.cloned().collect(),
                next_seq: last + 1,
            })
        });
        Ok(stored.unwrap_or(StoredDocument {
            updates: Vec::new(),
            next_seq: 1,
        }))
    }

    fn origins(&self, name: &DocumentName, limit: usize) -> Result<Vec<OriginSpan>, StoreError> {
        Ok(self.of_project(&name.project, |project| {
            let spans = project.documents.get(&name.text).into_iter();
            let spans = spans
                .flat_map(|document| document.origins.iter().rev())
                .take(limit);
            spans
                .map(|(&from_seq, (at, origin))| OriginSpan {
                    from_seq,
                    at: *at,
                    origin: origin.clone(),
                })
                .collect()
        }))
    }

    fn text(&self, project: &ProjectId, doc: &DocId) -> Result<Option<TextRecord>, StoreError> {
        Ok(self.of_project(project, |project| project.texts.get(doc).cloned()))
    }

    fn texts(
        &self,
        project: &ProjectId,
    ) -> Result<Vec<(TextRecord, Option<SettledVersion>)>, StoreError> {
        Ok(self.of_project(project, |project| {
            let newest = |doc| Some(project.settled.get(doc)?.last()?.1);
            project
                .texts
                .iter()
                .map(|(doc, text)| (text.clone(), newest(doc)))
                .collect()
        }))
    }

    fn settled(
        &self,
        project: &ProjectId,
        doc: &DocId,
        limit: usize,
    ) -> Result<Vec<(u64, SettledVersion)>, StoreError> {
        Ok(self.of_project(project, |project| {
            let history = project.settled.get(doc).into_iter().flatten();
            history.rev().take(limit).copied().collect()
        }))
    }

    fn unsettled(&self, project: &ProjectId) -> Result<Vec<DocId>, StoreError> {
        Ok(self.of_project(project, |project| {
            let through = |doc| project.settled_through.get(doc).copied().unwrap_or(0);
            let texts = project.documents.iter().filter_map(|(doc, document)| {
                let doc = doc.as_ref().filter(|doc| project.texts.contains_key(doc))?;
                let last = document.updates.keys().next_back().copied();
                (last.unwrap_or(0).max(document.through) > through(doc)).then(|| doc.clone())
            });
            texts.collect()
        }))
    }

    fn blob(&self, hash: &BlobHash, reader: Reader<'_>) -> Result<Option<StoredBlob>, StoreError> {
        let granted = match reader {
            Reader::Any => true,
            Reader::Project(project) => {
                self.of_project(project, |project| project.blobs.contains_key(hash))
            }
        };
        Ok(self.state().blobs.get(hash).filter(|_| granted).cloned())
    }

    fn absent(
        &self,
        project: &ProjectId,
        hashes: &[BlobHash],
    ) -> Result<Vec<BlobHash>, StoreError> {
        let mut absent = hashes.to_vec();
        self.of_project(project, |project| {
            absent.retain(|hash| !project.blobs.contains_key(hash));
        });
        Ok(absent)
    }

    fn token(&self, id: &TokenId) -> Result<Option<TokenRecord>, StoreError> {
        Ok(self.state().tokens.get(id).cloned())
    }

    fn tokens(&self, project: Option<&ProjectId>) -> Result<Vec<TokenRecord>, StoreError> {
        let scope = project.cloned().map(TokenScope::Project);
        let state = self.state();
        let wanted = state
            .tokens
            .values()
            .filter(|t| scope.as_ref().is_none_or(|s| t.scope == *s));
        Ok(wanted.cloned().collect())
    }

    fn audit(&self, after: u64, limit: usize) -> Result<Vec<(u64, AuditRecord)>, StoreError> {
        let state = self.state();
        let later = (Bound::Excluded(after), Bound::Unbounded);
        let lines = state.audit.range(later).take(limit);
        Ok(lines
            .map(|(number, line)| (*number, line.clone()))
            .collect())
    }

    fn events(
        &self,
        project: &ProjectId,
        after: u64,
        limit: usize,
    ) -> Result<Option<EventPage>, StoreError> {
        let state = self.state();
        let Some(found) = state.projects.get(project) else {
            return Ok(None);
        };
        let numbers = state.numbers.get(project).copied().unwrap_or_default();
        let (mut events, mut bytes) = (Vec::new(), 0);
        let later = (Bound::Excluded(after), Bound::Unbounded);
        for (number, event) in found.events.range(later).take(limit) {
            if bytes >= EVENT_PAGE_BYTES {
                break;
            }
            bytes += event.cost();
            events.push((*number, event.clone()));
        }
        Ok(Some(EventPage {
            events,
            last: numbers.last,
            cut: numbers.cut,
        }))
    }

    fn doubtful_blobs(
        &self,
        project: &ProjectId,
        spent: Spent,
        limit: usize,
    ) -> Result<Vec<Doubtful>, StoreError> {
        Ok(self.of_project(project, |project| {
            let doubtful = project
                .blobs
                .iter()
                .filter(|(_, grant)| !grant.kept && spent.is(grant.uploaded_at, grant.released_at));
            let doubtful = doubtful.map(|(hash, _)| Doubtful {
                hash: *hash,
                is_text: project.is_text(hash),
            });
            doubtful.take(limit).collect()
        }))
    }

    fn texts_deleted(
        &self,
        project: &ProjectId,
        before: u64,
        limit: usize,
    ) -> Result<Vec<DocId>, StoreError> {
        Ok(self.of_project(project, |project| {
            let texts = project.texts.values();
            let deleted = texts.filter(|text| text.deleted_at.is_some_and(|at| at < before));
            deleted.take(limit).map(|text| text.doc.clone()).collect()
        }))
    }

    fn crowded_versions(
        &self,
        project: &ProjectId,
        before: u64,
        limit: usize,
    ) -> Result<Vec<(DocId, u64)>, StoreError> {
        Ok(self.of_project(project, |project| {
            let pairs = project.settled.iter().flat_map(|(doc, history)| {
                history.windows(2).map(move |pair| (doc, pair[0], pair[1]))
            });
            let crowded = pairs.filter(|(_, (_, old), (_, next))| {
                old.mtime < before && old.mtime / DAY == next.mtime / DAY
            });
            let crowded = crowded.map(|(doc, (seq, _), _)| (doc.clone(), seq));
            crowded.take(limit).collect()
        }))
    }

    fn blobs_of_nobody(&self, limit: usize) -> Result<Vec<(BlobHash, u64)>, StoreError> {
        let state = self.state();
        let is_read = |hash| {
            let mut projects = state.projects.values();
            projects.any(|project| project.blobs.contains_key(hash))
        };
        let of_nobody = state.blobs.iter().filter(|(hash, _)| !is_read(hash));
        let sized = of_nobody.map(|(hash, blob)| match blob {
            StoredBlob::Inline(bytes) => (*hash, bytes.len() as u64),
            StoredBlob::External { size } => (*hash, *size),
        });
        Ok(sized.take(limit).collect())
    }
}
