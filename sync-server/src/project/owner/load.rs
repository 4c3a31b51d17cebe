//! From the store to memory.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;
use uspark_shared::id::{BlobHash, DocId, DocumentName, ProjectId};
use uspark_shared::replica::{ClientId, ProjectReplica};
use uspark_shared::schema::Entry;
use uspark_shared::seed::seed_update;
use uspark_shared::text::as_grown_text;
use uspark_shared::update::scan;

use super::seats::Rooms;
use super::{Owner, TextMemo};
use crate::ack::AckQueue;
use crate::project::chain::Chains;
use crate::project::command::Command;
use crate::project::live::{LoadedText, Log};
use crate::project::registry::ProjectDeps;
use crate::project::repair::Waiting;
use crate::project::tree::Tree;
use crate::refusal::Refusal;
use crate::store;

impl Owner {
    /// Loads a project's document and what is known of its texts.
    pub async fn load(
        id: ProjectId,
        deps: ProjectDeps,
        commands: mpsc::WeakSender<Command>,
    ) -> Result<Self, Refusal> {
        let name = DocumentName::of_project(id.clone());
        let (project, stored, texts, left_over) = {
            let (id, name) = (id.clone(), name.clone());
            let query = move |store: &dyn store::Store| {
                Ok((
                    store.project(&id)?,
                    store.load(&name)?,
                    store.texts(&id)?,
                    store.unsettled(&id)?,
                ))
            };
            store::read(&deps.store, query).await?
        };
        project.ok_or(Refusal::NotFound("project"))?;
        // Of another project of this name, or of what was collected since.
        deps.facts.forget_project(&id);
        let replica = ProjectReplica::new(random_client());
        for update in &stored.updates {
            replica.apply(update)?;
        }
        let mut tree = Tree::default();
        for (path, entry) in replica.entries() {
            tree.set(&path, entry);
        }
        let absent = absent_blobs(&deps, &id, &tree).await?;
        // All that was told when it happened.
        tree.take_changes();
        let state = replica.state();
        let chains =
            Chains::of_state(&scan(&state).map_err(|error| Refusal::Malformed(error.to_string()))?);
        let records = texts.into_iter().map(|(record, settled)| {
            let (seed, path, is_live) = (record.seed, record.path, record.deleted_at.is_none());
            (
                record.doc,
                TextMemo {
                    seed,
                    path,
                    is_live,
                    settled,
                },
            )
        });
        let weak = commands.clone();
        let acks = AckQueue::start(id.clone(), &deps.tasks, move |_| {
            // The loop may be waiting for its next command: this is it.
            if let Some(commands) = weak.upgrade() {
                tokio::spawn(async move { drop(commands.send(Command::Failed).await) });
            }
        });
        let mut owner = Self {
            log: Log::after(name.clone(), &stored),
            rooms: Rooms::new(name, replica.state_vector().into()),
            project: replica,
            chains,
            records: records.collect(),
            waiting: HashMap::new(),
            texts: HashMap::new(),
            loading: HashMap::new(),
            left_over,
            unknown: Vec::new(),
            unseeded: HashMap::new(),
            going: HashSet::new(),
            used: Instant::now(),
            fetches: Arc::new(()),
            _counted: deps.metrics.project(),
            document: deps.metrics.document(),
            id,
            deps,
            commands,
            acks,
            tree,
        };
        owner.document.pending(owner.project.waiting_bytes());
        owner.wait_for_absent_blobs(&absent);
        Ok(owner)
    }

    /// Loads a text in the background; `command` is taken up again when it is there.
    pub(super) fn load_text(&mut self, doc: DocId, command: Command) {
        let waiting = self.loading.entry(doc.clone()).or_default();
        waiting.push(command);
        if waiting.len() > 1 {
            return;
        }
        let seed = self.records.get(&doc).map(|memo| memo.seed);
        let (deps, name) = (
            self.deps.clone(),
            DocumentName::of_text(self.id.clone(), doc.clone()),
        );
        let commands = self.commands.clone();
        self.deps.tasks.spawn(async move {
            let result = match seed {
                Some(seed) => load_text(&deps, name, &doc, seed).await,
                None => Err(Refusal::NotFound("document")),
            };
            if let Some(commands) = commands.upgrade() {
                // If the owner is gone, nobody waits for the text either.
                let _ = commands.send(Command::Loaded { doc, result }).await;
            }
        });
    }

    /// Takes a loaded text into use, and what waited for it.
    pub(super) fn loaded(&mut self, doc: DocId, result: Result<LoadedText, Refusal>) {
        let waiting = self.loading.remove(&doc).unwrap_or_default();
        self.left_over.retain(|other| *other != doc);
        match (result, self.records.get(&doc)) {
            (Ok(text), Some(memo)) => {
                let counted = self.deps.metrics.document();
                let live = text.live(&memo.content(), Instant::now(), self.now(), counted);
                self.texts.insert(doc, live);
                for command in waiting {
                    self.take(command);
                }
            }
            (result, _) => {
                let refusal = result.err().unwrap_or(Refusal::NotFound("document"));
                tracing::warn!(project = %self.id, %doc, %refusal, "a text could not be loaded");
                for command in waiting {
                    self.refuse(command, &refusal);
                }
            }
        }
    }

    /// Answers a command that cannot be carried out.
    fn refuse(&mut self, command: Command, refusal: &Refusal) {
        match command {
            // Nobody may be waiting any more.
            Command::Join { reply, .. } => drop(reply.send(Err(refusal.clone()))),
            Command::Message(seat, _) => self.rooms.refuse(seat, refusal),
            // Dropping the ack says that it failed.
            _ => {}
        }
    }

    fn wait_for_absent_blobs(&mut self, absent: &HashSet<BlobHash>) {
        let by_path: HashMap<_, _> = self
            .records
            .iter()
            .map(|(doc, memo)| (memo.path.clone(), doc.clone()))
            .collect();
        for (path, entry) in self.tree.iter() {
            if let Entry::Blob { hash, .. } = entry
                && absent.contains(hash)
            {
                let waiting = Waiting {
                    hash: *hash,
                    path: path.clone(),
                    before: None,
                };
                self.waiting.entry(*hash).or_default().push(waiting);
            }
            let known = entry
                .doc()
                .is_some_and(|doc| self.records.contains_key(doc));
            let unfinished = matches!(entry, Entry::Original { .. } | Entry::Text { .. }) && !known;
            if let (true, Some(hash)) = (unfinished, entry.blob()) {
                let before = by_path.get(path).and_then(|doc| {
                    let seed = self.records.get(doc)?.seed;
                    let (mode, mtime) = (uspark_shared::schema::DEFAULT_MODE, 0);
                    Some(Entry::Text {
                        doc: doc.clone(),
                        seed,
                        mode,
                        mtime,
                    })
                });
                let waiting = Waiting {
                    hash: *hash,
                    path: path.clone(),
                    before,
                };
                self.waiting.entry(*hash).or_default().push(waiting);
            }
        }
    }
}

/// Blobs that entries name as their content and that the project has not.
async fn absent_blobs(
    deps: &ProjectDeps,
    id: &ProjectId,
    tree: &Tree,
) -> Result<HashSet<BlobHash>, Refusal> {
    let named = tree.iter().filter_map(|(_, entry)| match entry {
        Entry::Blob { hash, .. } => Some(*hash),
        _ => None,
    });
    let (id, named) = (id.clone(), named.collect::<Vec<_>>());
    let absent = store::read(&deps.store, move |store| store.absent(&id, &named)).await?;
    Ok(absent.into_iter().collect())
}

async fn load_text(
    deps: &ProjectDeps,
    name: DocumentName,
    doc: &DocId,
    seed: BlobHash,
) -> Result<LoadedText, Refusal> {
    let (stored, spans) = {
        let name = name.clone();
        let query =
            move |store: &dyn store::Store| Ok((store.load(&name)?, store.origins(&name, 1)?));
        store::read(&deps.store, query).await?
    };
    let author = spans.into_iter().next().and_then(|span| span.origin);
    let seed_bytes = if stored.updates.is_empty() {
        let blob = deps.blobs.open(Some(&name.project), &seed).await?;
        let blob = blob.ok_or_else(|| Refusal::Unavailable("the seed is missing".into()))?;
        Some(
            blob.read_all()
                .await
                .map_err(|error| Refusal::Unavailable(error.to_string()))?,
        )
    } else {
        None
    };
    let doc = doc.clone();
    let build = move || {
        let seed = match &seed_bytes {
            Some(bytes) => {
                let text = as_grown_text(bytes).ok_or(Refusal::Internal)?;
                Some(seed_update(&doc, &seed, text))
            }
            None => None,
        };
        LoadedText::build(name, &stored, author, seed, random_client()).map_err(Refusal::from)
    };
    // Applying a long log takes tens of milliseconds.
    tokio::task::spawn_blocking(build)
        .await
        .map_err(|_| Refusal::Internal)?
}

/// A fresh author for this process' edits of one document.
pub(super) fn random_client() -> ClientId {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).expect("the system has randomness");
    ClientId::from_random(bytes)
}
