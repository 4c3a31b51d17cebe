//! A store that fails, waits and counts on purpose, around any other. For tests only.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use uspark_shared::id::{BlobHash, DocId, DocumentName, ProjectId};

use super::{
    AuditRecord, Doubtful, EventPage, OriginSpan, Outcome, ProjectRecord, Reader, SettledVersion,
    Spent, Store, StoreError, StoredBlob, StoredDocument, TextRecord, Write,
};
use crate::access::{TokenId, TokenRecord};

/// Wraps a store; its commits can be counted, held back and made to fail. Clones share all that.
#[derive(Clone)]
pub struct TestStore {
    inner: Arc<dyn Store>,
    control: Arc<(Mutex<Control>, Condvar)>,
}

type Failing = Box<dyn FnMut(&[Vec<Write>]) -> Option<StoreError> + Send>;

#[derive(Default)]
struct Control {
    commits: usize,
    waiting: bool,
    held: bool,
    /// Looks at each batch, and says what its commit fails with.
    failing: Option<Failing>,
    /// What every read says.
    failing_reads: Option<StoreError>,
}

impl TestStore {
    /// Wraps `inner`, and leaves it as it is until told otherwise.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self {
            inner,
            control: Arc::default(),
        }
    }

    /// How many batches were made durable.
    pub fn commits(&self) -> usize {
        self.control().commits
    }

    /// Lets no commit begin until [`TestStore::release`].
    pub fn hold(&self) {
        self.control().held = true;
    }

    /// Lets commits go on.
    pub fn release(&self) {
        self.control().held = false;
        self.control.1.notify_all();
    }

    /// Blocks until a commit is held back.
    pub fn wait_until_held(&self) {
        let mut control = self.control();
        while !control.waiting {
            control = self
                .control
                .1
                .wait(control)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Fails every commit after the next `commits`, leaving no trace of it.
    pub fn fail_after(&self, mut commits: usize, error: StoreError) {
        self.fail_when(move |_| {
            let fails = commits == 0;
            commits = commits.saturating_sub(1);
            fails.then(|| error.clone())
        });
    }

    /// Fails every commit of a batch for which `failing` names an error.
    pub fn fail_when(
        &self,
        failing: impl FnMut(&[Vec<Write>]) -> Option<StoreError> + Send + 'static,
    ) {
        self.control().failing = Some(Box::new(failing));
    }

    /// Fails every read.
    pub fn fail_reads(&self, error: StoreError) {
        self.control().failing_reads = Some(error);
    }

    /// Fails no more.
    pub fn heal(&self) {
        let mut control = self.control();
        (control.failing, control.failing_reads) = (None, None);
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        self.control
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(
        &self,
        read: impl FnOnce(&dyn Store) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let failing = self.control().failing_reads.clone();
        failing.map_or_else(|| read(&*self.inner), Err)
    }
}

impl Store for TestStore {
    fn commit(&self, batch: &[Vec<Write>]) -> Result<Vec<Outcome>, StoreError> {
        let mut control = self.control();
        while control.held {
            control.waiting = true;
            self.control.1.notify_all();
            control = self
                .control
                .1
                .wait(control)
                .unwrap_or_else(PoisonError::into_inner);
        }
        control.waiting = false;
        if let Some(error) = control.failing.as_mut().and_then(|failing| failing(batch)) {
            return Err(error);
        }
        drop(control);
        let outcomes = self.inner.commit(batch)?;
        self.control().commits += 1;
        Ok(outcomes)
    }

    fn epoch(&self) -> &str {
        self.inner.epoch()
    }

    fn project(&self, id: &ProjectId) -> Result<Option<ProjectRecord>, StoreError> {
        self.read(|store| store.project(id))
    }

    fn projects(
        &self,
        after: Option<&ProjectId>,
        limit: usize,
    ) -> Result<Vec<ProjectRecord>, StoreError> {
        self.read(|store| store.projects(after, limit))
    }

    fn load(&self, name: &DocumentName) -> Result<StoredDocument, StoreError> {
        self.read(|store| store.load(name))
    }

    fn origins(&self, name: &DocumentName, limit: usize) -> Result<Vec<OriginSpan>, StoreError> {
        self.read(|store| store.origins(name, limit))
    }

    fn text(&self, project: &ProjectId, doc: &DocId) -> Result<Option<TextRecord>, StoreError> {
        self.read(|store| store.text(project, doc))
    }

    fn texts(
        &self,
        project: &ProjectId,
    ) -> Result<Vec<(TextRecord, Option<SettledVersion>)>, StoreError> {
        self.read(|store| store.texts(project))
    }

    fn settled(
        &self,
        project: &ProjectId,
        doc: &DocId,
        limit: usize,
    ) -> Result<Vec<(u64, SettledVersion)>, StoreError> {
        self.read(|store| store.settled(project, doc, limit))
    }

    fn unsettled(&self, project: &ProjectId) -> Result<Vec<DocId>, StoreError> {
        self.read(|store| store.unsettled(project))
    }

    fn blob(&self, hash: &BlobHash, reader: Reader<'_>) -> Result<Option<StoredBlob>, StoreError> {
        self.read(|store| store.blob(hash, reader))
    }

    fn absent(
        &self,
        project: &ProjectId,
        hashes: &[BlobHash],
    ) -> Result<Vec<BlobHash>, StoreError> {
        self.read(|store| store.absent(project, hashes))
    }

    fn token(&self, id: &TokenId) -> Result<Option<TokenRecord>, StoreError> {
        self.read(|store| store.token(id))
    }

    fn tokens(&self, project: Option<&ProjectId>) -> Result<Vec<TokenRecord>, StoreError> {
        self.read(|store| store.tokens(project))
    }

    fn audit(&self, after: u64, limit: usize) -> Result<Vec<(u64, AuditRecord)>, StoreError> {
        self.read(|store| store.audit(after, limit))
    }

    fn events(
        &self,
        project: &ProjectId,
        after: u64,
        limit: usize,
    ) -> Result<Option<EventPage>, StoreError> {
        self.read(|store| store.events(project, after, limit))
    }

    fn doubtful_blobs(
        &self,
        project: &ProjectId,
        spent: Spent,
        limit: usize,
    ) -> Result<Vec<Doubtful>, StoreError> {
        self.read(|store| store.doubtful_blobs(project, spent, limit))
    }

    fn texts_deleted(
        &self,
        project: &ProjectId,
        before: u64,
        limit: usize,
    ) -> Result<Vec<DocId>, StoreError> {
        self.read(|store| store.texts_deleted(project, before, limit))
    }

    fn crowded_versions(
        &self,
        project: &ProjectId,
        before: u64,
        limit: usize,
    ) -> Result<Vec<(DocId, u64)>, StoreError> {
        self.read(|store| store.crowded_versions(project, before, limit))
    }

    fn blobs_of_nobody(&self, limit: usize) -> Result<Vec<(BlobHash, u64)>, StoreError> {
        self.read(|store| store.blobs_of_nobody(limit))
    }
}
