//! One update: apply, store, forward, acknowledge; and what the server puts right after it.

use std::collections::HashSet;
use std::time::Instant;

use bytes::Bytes;
use uspark_shared::id::{BlobHash, DocId};
use uspark_shared::path::FilePath;
use uspark_shared::replica::{KeyChange, ProjectApplied, ProjectEdit, ReplicaError};
use uspark_shared::schema::{Entry, TextVersion};
use uspark_shared::update::scan;

use super::lacking::Lacking;
use super::{Owner, TextMemo};
use crate::ack::Ack;
use crate::project::chain::Chains;
use crate::project::command::{Attribution, PutBase};
use crate::project::facts::BlobFacts;
use crate::project::repair::{BlobFact, Facts, Loser, Repairs, Report, Review, TextFact};
use crate::refusal::Refusal;
use crate::store::{Origin, SettledVersion, TextRecord, Write};
use crate::subscriber::{Outgoing, SeatId};

/// Who made an update, and what Original entries in it are merged against.
pub(super) struct Author<'a> {
    pub who: &'a Attribution,
    pub seat: Option<SeatId>,
    pub base: PutBase,
}

/// What an update of the project document led to.
pub(super) struct Outcome {
    pub repaired: Vec<Report>,
    /// The document waits for updates that this one depends on.
    pub missing: bool,
}

impl Owner {
    /// An update from a seat.
    pub(super) fn update(&mut self, id: SeatId, document: Option<DocId>, update: Bytes) {
        let Some(seat) = self.rooms.seat(id).cloned() else {
            return;
        };
        self.deps.metrics.update_received();
        if !seat.may_write {
            self.deps.metrics.update_refused();
            // In its turn: an update may be under way that was sent while it still might.
            self.acks.after_all(Ack::new(move |_| {
                seat.outbox.push(&seat.address, Outgoing::Status(false));
            }));
            return;
        }
        let ack = self.seat_ack(id, &update);
        let result = match &document {
            None => {
                let author = Author {
                    who: &seat.who,
                    seat: Some(id),
                    base: PutBase::Nearest,
                };
                self.project_update(update, &author, ack)
            }
            Some(doc) => self.text_update(doc, update, &seat.who, Some(id), ack),
        };
        match result {
            Ok(outcome) => {
                if let (true, Some(state_vector)) = (outcome.missing, self.state_vector(&document))
                {
                    // Something came before it that never arrived: ask again.
                    self.tell(id, Outgoing::Step1(state_vector));
                }
                if !outcome.repaired.is_empty() {
                    let told = serde_json::json!({ "repaired": outcome.repaired });
                    self.tell(id, Outgoing::Stateless(told.to_string()));
                }
            }
            Err(error) => {
                self.deps.metrics.update_refused();
                tracing::warn!(project = %self.id, ?document, who = &*seat.who.name, %error, "an update was refused");
                self.rooms.refuse(id, &error.clone().into());
                self.drop_poisoned(&document);
            }
        }
    }

    /// An update of a text document, which is in memory.
    pub(super) fn text_update(
        &mut self,
        doc: &DocId,
        update: Bytes,
        who: &Attribution,
        seat: Option<SeatId>,
        ack: Ack,
    ) -> Result<Outcome, ReplicaError> {
        let (now, at) = (Instant::now(), self.now());
        let Some(text) = self.texts.get_mut(doc) else {
            return Ok(Outcome {
                repaired: Vec::new(),
                missing: false,
            });
        };
        let applied = text.replica.apply(&update);
        text.counted.pending(text.replica.waiting_bytes());
        let applied = applied?;
        let outcome = Outcome {
            repaired: Vec::new(),
            missing: applied.missing,
        };
        if !applied.new {
            self.acks.after_all(ack);
            return Ok(outcome);
        }
        text.used = now;
        // The log must say by itself what the document is.
        let seed = text.seed.take().filter(|_| text.log.is_empty());
        let mut writes: Vec<_> = seed
            .into_iter()
            .map(|seed| text.log.append(seed, None, at))
            .collect();
        writes.push(text.log.append(update.clone(), who.origin(), at));
        if applied.changed {
            text.edited(now, at, who.origin());
            self.give_path_back(doc, &mut writes);
        }
        self.submit(writes, ack);
        let texts = &self.texts;
        let state_vector = || {
            texts
                .get(doc)
                .map(|text| text.replica.state_vector().into())
                .unwrap_or_default()
        };
        self.rooms
            .broadcast(&Some(doc.clone()), &update, seat, state_vector);
        Ok(outcome)
    }

    /// An update of the project document.
    pub(super) fn project_update(
        &mut self,
        update: Bytes,
        author: &Author<'_>,
        ack: Ack,
    ) -> Result<Outcome, ReplicaError> {
        let scanned = scan(&update)?;
        let missed = self.project.misses_updates();
        let contests = self.chains.receive(&scanned, self.project.clocks());
        let before: Vec<_> = contests
            .iter()
            .map(|contest| self.project.file(contest.key()))
            .collect();
        let applied = self.project.apply_project_scanned(&update, &scanned);
        self.document.pending(self.project.waiting_bytes());
        let applied = match applied {
            Ok(applied) => applied,
            Err(error) => {
                if !self.project.is_poisoned() {
                    // They have taken in what was not applied.
                    self.read_chains_again();
                }
                return Err(error);
            }
        };
        let missing = applied.applied.missing;
        if !applied.applied.new {
            self.acks.after_all(ack);
            return Ok(Outcome {
                repaired: Vec::new(),
                missing,
            });
        }
        let mut losers = Vec::new();
        // What waits has not lost against anybody yet.
        let decided = contests.into_iter().zip(before);
        for (contest, before) in decided.filter(|_| !applied.applied.waits) {
            let after = self.project.file(contest.key());
            losers.extend(self.chains.decide(
                contest,
                before.as_ref(),
                after.as_ref(),
                &author.who.name,
            ));
        }
        if missed && applied.applied.changed {
            // What waited, if that is in now, was never seen as it was integrated.
            self.read_chains_again();
        }
        let at = self.now();
        let mut writes = vec![self.log.append(update.clone(), author.who.origin(), at)];
        let project = &self.project;
        self.rooms.broadcast(&None, &update, author.seat, || {
            project.state_vector().into()
        });
        let repaired = self.put_right(&applied, losers, author, &mut writes, &ack);
        let keys: HashSet<&str> = applied.files.iter().map(|c| c.key.as_str()).collect();
        let own = |path: &FilePath| keys.contains(path.as_str());
        self.note_changes(author.who, own, &mut writes);
        self.submit(writes, ack);
        Ok(Outcome { repaired, missing })
    }

    /// Decides and carries out the repairs after an update.
    fn put_right(
        &mut self,
        applied: &ProjectApplied,
        losers: Vec<Loser>,
        author: &Author<'_>,
        writes: &mut Vec<Write>,
        ack: &Ack,
    ) -> Vec<Report> {
        // A copy of a text is made of its settled content.
        for change in &applied.files {
            let named = [&change.before, &change.after].into_iter().flatten();
            for doc in named.filter_map(|value| Entry::from_json(value).ok()?.doc().cloned()) {
                self.settle(&doc, writes);
            }
        }
        let mut repairs = self.review(&author.who.name, |review| {
            review.changes(&applied.files);
            review.losers(losers);
        });
        let mut lacking = Lacking::default();
        for change in &applied.texts {
            let truth = change.key.parse::<DocId>().ok().and_then(|doc| {
                let settled = self.records.get(&doc)?.settled?;
                Some((doc, version_of(&settled)))
            });
            let is_true = match (&change.after, &truth) {
                (Some(value), Some((_, version))) => TextVersion::from_json(value) == Ok(*version),
                (after, truth) => after.is_none() && truth.is_none(),
            };
            if !is_true {
                // Another server settled what this one has not: somebody may have it.
                let known = change.key.parse::<DocId>().ok();
                let known = known.filter(|doc| self.records.contains_key(doc));
                if let (Some(doc), true) = (known, change.after.is_some()) {
                    lacking.text(doc);
                }
                let reason = "`texts` is the server's; set back to what is settled".to_owned();
                repairs.reports.push(Report {
                    path: change.key.clone(),
                    reason,
                });
                repairs.edits.push(match truth {
                    Some((doc, version)) => ProjectEdit::SetText(doc, version),
                    None => ProjectEdit::RemoveText(change.key.clone()),
                });
            }
        }
        self.ask_followers(&lacking);
        self.carry_out(repairs, author, writes, ack)
    }

    /// Runs a review of the tree as it is.
    pub(super) fn review(
        &mut self,
        who: &str,
        run: impl FnOnce(&mut Review<'_, OwnerFacts<'_>>),
    ) -> Repairs {
        let at = self.now();
        let facts = OwnerFacts {
            blobs: &self.deps.facts,
            going: &self.going,
            id: &self.id,
            records: &self.records,
        };
        let mut review = Review::new(&mut self.tree, &facts, who, at);
        run(&mut review);
        review.finish()
    }

    /// Carries repairs out, and gives what to tell the author.
    pub(super) fn carry_out(
        &mut self,
        repairs: Repairs,
        author: &Author<'_>,
        writes: &mut Vec<Write>,
        ack: &Ack,
    ) -> Vec<Report> {
        let Repairs {
            edits,
            texts,
            bridges,
            waiting,
            reports,
        } = repairs;
        for change in texts {
            let memo = self
                .records
                .entry(change.doc.clone())
                .or_insert_with(|| TextMemo {
                    seed: change.seed,
                    path: change.path.clone(),
                    is_live: change.is_live,
                    settled: None,
                });
            memo.path = change.path;
            memo.is_live = change.is_live;
            self.remember(&change.doc, writes);
            self.join_unknown(&change.doc);
        }
        let mut lacking = Lacking::default();
        for wait in waiting {
            self.note_lacking(&wait, &mut lacking);
            self.waiting.entry(wait.hash).or_default().push(wait);
        }
        self.ask_followers(&lacking);
        self.join_awaited(&lacking);
        self.edit_project(&edits, None, writes);
        for bridge in bridges {
            self.bridge(bridge, author, ack.clone());
        }
        for report in &reports {
            tracing::info!(project = %self.id, path = report.path, reason = report.reason, "repaired");
        }
        reports
    }

    /// Edits the project document as the server; `origin` says for whom.
    pub(super) fn edit_project(
        &mut self,
        edits: &[ProjectEdit],
        origin: Option<Origin>,
        writes: &mut Vec<Write>,
    ) {
        let Some(update) = self.project.edit(edits) else {
            return;
        };
        for edit in edits {
            match edit {
                ProjectEdit::SetFile(path, entry) => drop(self.tree.set(path, entry.clone())),
                ProjectEdit::RemoveFile(key) => {
                    if let Ok(path) = key.parse() {
                        self.tree.remove(&path);
                    }
                }
                ProjectEdit::SetText(..) | ProjectEdit::RemoveText(_) => {}
            }
        }
        self.chains_of_own(&update);
        let update = Bytes::from(update);
        writes.push(self.log.append(update.clone(), origin, self.now()));
        let project = &self.project;
        self.rooms
            .broadcast(&None, &update, None, || project.state_vector().into());
    }

    /// Stores a group of writes, then acknowledges. What changed and was put down to nobody is the
    /// server's doing.
    pub(super) fn submit(&mut self, mut writes: Vec<Write>, ack: Ack) {
        self.note_changes(&Attribution::server(), |_| true, &mut writes);
        if writes.is_empty() {
            self.acks.after_all(ack);
        } else {
            self.acks.after(self.deps.committer.submit(writes), ack);
        }
    }

    /// Stores what is known of a text.
    pub(super) fn remember(&self, doc: &DocId, writes: &mut Vec<Write>) {
        if let Some(memo) = self.records.get(doc) {
            writes.push(Write::PutText(TextRecord {
                project: self.id.clone(),
                doc: doc.clone(),
                seed: memo.seed,
                path: memo.path.clone(),
                deleted_at: (!memo.is_live).then(|| self.now()),
            }));
        }
    }

    /// A new edit of a text whose path is gone brings the path back, or a conflict name where
    /// something else has it.
    fn give_path_back(&mut self, doc: &DocId, writes: &mut Vec<Write>) {
        if self.records.get(doc).is_none_or(|memo| memo.is_live) {
            return;
        }
        // Whoever sees the path come back is to know that the text is no longer what it was.
        self.settle(doc, writes);
        let Some(memo) = self.records.get_mut(doc).filter(|memo| !memo.is_live) else {
            return;
        };
        let at = (self.deps.clock)();
        let tree = &self.tree;
        let taken = match tree.above(&memo.path) {
            // Below a file there is no place, beside it there is.
            Some(above) if tree.get(&above) != Some(&Entry::Dir) => Some(above),
            _ => (tree.get(&memo.path).is_some()
                || tree.has_below(&memo.path)
                || tree.collides_with(&memo.path).is_some())
            .then(|| memo.path.clone()),
        };
        if let Some(taken) = taken {
            memo.path = tree.free(taken.conflict("edit", at));
        }
        memo.is_live = true;
        let mode = uspark_shared::schema::DEFAULT_MODE;
        let entry = Entry::Text {
            doc: doc.clone(),
            seed: memo.seed,
            mode,
            mtime: at,
        };
        let path = memo.path.clone();
        tracing::info!(project = %self.id, %doc, %path, "an edit brought a deleted text back");
        self.remember(doc, writes);
        let edit = ProjectEdit::SetFile(path.clone(), entry.clone());
        self.edit_project(&[edit], None, writes);
        self.review_own(path, &entry, &Attribution::server(), writes);
    }

    /// Looks at an entry that the server itself has set: it may collide with another one.
    pub(super) fn review_own(
        &mut self,
        path: FilePath,
        entry: &Entry,
        who: &Attribution,
        writes: &mut Vec<Write>,
    ) {
        let change = KeyChange {
            key: path.into(),
            before: None,
            after: Some(entry.to_json()),
        };
        let repairs = self.review(&who.name, |review| review.changes(&[change]));
        let author = Author {
            who,
            seat: None,
            base: PutBase::Nearest,
        };
        self.carry_out(repairs, &author, writes, &Ack::nobody());
    }

    fn chains_of_own(&mut self, update: &[u8]) {
        // What yrs encodes scans; if it ever did not, only conflict copies would be missed.
        let Ok(scanned) = scan(update) else { return };
        let contests = self.chains.receive(&scanned, |_| 0);
        for contest in contests {
            let after = self.project.file(contest.key());
            self.chains.decide(contest, None, after.as_ref(), "server");
        }
    }

    fn read_chains_again(&mut self) {
        let state = self.project.state();
        if let Ok(scanned) = scan(&state) {
            self.chains = Chains::of_state(&scanned);
        }
    }

    /// After a panic in the CRDT: the document leaves memory, and its log is the truth again.
    fn drop_poisoned(&mut self, document: &Option<DocId>) {
        let again = Refusal::Unavailable("the document is loaded again".into());
        match document {
            Some(doc)
                if self
                    .texts
                    .get(doc)
                    .is_some_and(|text| text.replica.is_poisoned()) =>
            {
                self.texts.remove(doc);
                self.rooms.refuse_document(document, &again);
            }
            None if self.project.is_poisoned() => {
                self.rooms.refuse_all(&again);
                self.stop_soon();
            }
            _ => {}
        }
    }
}

/// A settled version as it stands in `texts`.
pub(super) fn version_of(settled: &SettledVersion) -> TextVersion {
    TextVersion {
        hash: settled.hash,
        size: settled.size,
        mtime: settled.mtime,
    }
}

/// What the owner knows that does not stand in the tree.
pub(super) struct OwnerFacts<'a> {
    blobs: &'a BlobFacts,
    going: &'a HashSet<BlobHash>,
    id: &'a uspark_shared::id::ProjectId,
    records: &'a std::collections::HashMap<DocId, TextMemo>,
}

impl Facts for OwnerFacts<'_> {
    fn blob(&self, hash: &BlobHash) -> Option<BlobFact> {
        match self.going.contains(hash) {
            true => None,
            false => self.blobs.get(self.id, hash),
        }
    }

    fn text(&self, doc: &DocId) -> Option<TextFact> {
        let memo = self.records.get(doc)?;
        Some(TextFact {
            seed: memo.seed,
            current: memo.content(),
        })
    }

    fn fresh_doc(&self) -> DocId {
        super::files::fresh_doc()
    }
}
