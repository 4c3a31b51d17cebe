//! What the server puts right in `files` after somebody's update, decided without effects.
//!
//! A well-formed update is never refused for its meaning (that would leave a hole in its author's
//! clock), so whatever it says is applied first, and this module then says what the server edits.
//!
//! Invariants: every key that remains is a [`FilePath`] with a valid [`Entry`]; a document lies at
//! one path and keeps its seed; no two paths collide on any file system; nothing anyone wrote is
//! dropped without a copy beside it; deciding twice about the same state edits nothing the second
//! time.

use serde_json::Value;
use uspark_shared::id::{BlobHash, DocId};
use uspark_shared::path::{FilePath, MAX_PATH_BYTES};
use uspark_shared::replica::{KeyChange, ProjectEdit};
use uspark_shared::schema::Entry;
use uspark_shared::text::MAX_TEXT_BYTES;

use super::tree::Tree;

/// Things put right that are told of one update. More are put right, and not told: a peer chose how
/// many there are.
const MAX_REPORTS: usize = 1000;

/// What the server knows that does not stand in the tree.
pub trait Facts {
    /// A blob this project may read; absent and forbidden are the same.
    fn blob(&self, hash: &BlobHash) -> Option<BlobFact>;
    /// A text document this project ever had.
    fn text(&self, doc: &DocId) -> Option<TextFact>;
    /// A document id nobody has used.
    fn fresh_doc(&self) -> DocId;
}

/// What is known of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobFact {
    /// Bytes.
    pub size: u64,
    /// Whether a file of these bytes is a text.
    pub is_text: bool,
}

/// What is known of a text document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextFact {
    /// The blob it began with.
    pub seed: BlobHash,
    /// Its content now, as a blob that is, or is about to be, stored.
    pub current: BlobHash,
}

/// A value that lost its path to another one, set by somebody who did not know of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Loser {
    /// The key both set.
    pub key: String,
    /// What lost.
    pub value: Value,
    /// Who had set it.
    pub who: String,
}

/// What the server does about an update.
#[derive(Debug, Default, PartialEq)]
pub struct Repairs {
    /// Edits of `files`, in order.
    pub edits: Vec<ProjectEdit>,
    /// Text documents that are new, have a new path, or none any more.
    pub texts: Vec<TextChange>,
    /// Writes in the original protocol, to be merged into the document at their path.
    pub bridges: Vec<Bridge>,
    /// Paths that wait for a blob.
    pub waiting: Vec<Waiting>,
    /// What to tell the author.
    pub reports: Vec<Report>,
}

/// A path that is not there for anyone until its blob comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The blob.
    pub hash: BlobHash,
    /// The path.
    pub path: FilePath,
    /// What stood at the path.
    pub before: Option<Entry>,
}

/// A change in where a text document lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextChange {
    /// The document.
    pub doc: DocId,
    /// The blob it began with.
    pub seed: BlobHash,
    /// Its path, or the last it had.
    pub path: FilePath,
    /// Whether it lies there now.
    pub is_live: bool,
}

/// New bytes for a path, from a client that knows no text documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// The path.
    pub path: FilePath,
    /// The new bytes.
    pub hash: BlobHash,
    /// When they were written, in milliseconds since 1970.
    pub mtime: u64,
    /// What stood at the path.
    pub before: Option<Entry>,
}

/// One thing that was put right.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// The key.
    pub path: String,
    /// What was wrong, and what became of it.
    pub reason: String,
}

/// Decides about one update.
pub struct Review<'a, F> {
    tree: &'a mut Tree,
    facts: &'a F,
    who: &'a str,
    /// Milliseconds since 1970.
    now: u64,
    out: Repairs,
}

impl<'a, F: Facts> Review<'a, F> {
    /// `tree` is as it was before the update, and is kept up to date with what is decided.
    pub fn new(tree: &'a mut Tree, facts: &'a F, who: &'a str, now: u64) -> Self {
        Self {
            tree,
            facts,
            who,
            now,
            out: Repairs::default(),
        }
    }

    /// Looks at everything an update changed in `files`.
    pub fn changes(&mut self, changes: &[KeyChange]) {
        let mut removed = Vec::new();
        for change in changes.iter().filter(|change| change.after.is_none()) {
            let path = change.key.parse().ok();
            let gone = path.and_then(|path: FilePath| Some((self.tree.remove(&path)?, path)));
            removed.extend(gone);
        }
        let mut claims = Vec::new();
        for change in changes {
            let Some(value) = &change.after else { continue };
            if let Some((path, entry)) = self.parsed(&change.key, value) {
                let before = self.tree.set(&path, entry.clone());
                claims.push((path, entry, before));
            }
        }
        for (path, entry, before) in claims {
            // Bytes in the original protocol go into the document that is there: it stays.
            let stays = matches!(entry, Entry::Original { .. });
            let other = |before: &Entry| !stays && before.doc() != entry.doc();
            if let Some(before) = before.clone().filter(other) {
                removed.push((before, path.clone()));
            }
            // An earlier claim may have put this one right already.
            if self.tree.get(&path) == Some(&entry) {
                self.claim(path, entry, before);
            }
        }
        for (entry, path) in removed {
            self.gone(entry, path);
        }
    }

    /// Looks again at paths whose blob has come, or that were never looked at.
    pub fn again(&mut self, waiting: Vec<Waiting>) {
        for Waiting { path, before, .. } in waiting {
            if let Some(entry) = self.tree.get(&path).cloned() {
                self.claim(path, entry, before);
            }
        }
    }

    /// Keeps what lost a path beside it.
    pub fn losers(&mut self, losers: Vec<Loser>) {
        for loser in losers {
            let (Ok(path), Ok(entry)) = (loser.key.parse(), Entry::from_json(&loser.value)) else {
                continue;
            };
            self.keep_loser(&path, entry, &loser.who);
        }
    }

    /// What is to be done.
    pub fn finish(self) -> Repairs {
        self.out
    }

    /// The key and value as what they should be. Where they are not, the value that was there is
    /// put back, or the key removed.
    fn parsed(&mut self, key: &str, value: &Value) -> Option<(FilePath, Entry)> {
        let path = match key.parse::<FilePath>() {
            Ok(path) => path,
            Err(error) => {
                self.report(key, format!("removed: {error}"));
                self.out.edits.push(ProjectEdit::RemoveFile(key.to_owned()));
                return None;
            }
        };
        match Entry::from_json(value) {
            Ok(entry) => Some((path, entry)),
            Err(error) => {
                if let Some(before) = self.tree.get(&path).cloned() {
                    self.report(key, format!("put back as it was: {error}"));
                    self.out.edits.push(ProjectEdit::SetFile(path, before));
                } else {
                    self.report(key, format!("removed: {error}"));
                    self.out.edits.push(ProjectEdit::RemoveFile(key.to_owned()));
                }
                None
            }
        }
    }

    fn claim(&mut self, path: FilePath, entry: Entry, before: Option<Entry>) {
        let Some(path) = self.without_collision(path, &entry) else {
            return;
        };
        match entry {
            Entry::Text {
                doc,
                seed,
                mode,
                mtime,
            } => {
                self.claim_text(
                    path,
                    Text {
                        doc,
                        seed,
                        mode,
                        mtime,
                    },
                    before.as_ref(),
                );
            }
            Entry::Blob {
                hash,
                size,
                mode,
                mtime,
            } => match self.facts.blob(&hash) {
                None => self.wait(hash, path, before),
                Some(fact) if fact.size != size => {
                    let size = fact.size;
                    self.set(
                        path,
                        Entry::Blob {
                            hash,
                            size,
                            mode,
                            mtime,
                        },
                    );
                }
                Some(_) => {}
            },
            Entry::Original { hash, mtime } => match self.facts.blob(&hash) {
                None => self.wait(hash, path, before),
                Some(_) => self.out.bridges.push(Bridge {
                    path,
                    hash,
                    mtime,
                    before,
                }),
            },
            Entry::Link { .. } | Entry::Dir => {}
        }
    }

    fn claim_text(&mut self, path: FilePath, text: Text, before: Option<&Entry>) {
        let Text {
            doc,
            seed,
            mode,
            mtime,
        } = text;
        if self.tree.path_of(&doc) != Some(&path) {
            // Set again at another path in the same update: that one keeps the document, and
            // gives this one a new one.
            return;
        }
        if let Some(known) = self.facts.text(&doc) {
            if known.seed != seed {
                self.report(
                    path.as_str(),
                    "seed set back: a document keeps its seed".into(),
                );
                let seed = known.seed;
                self.set(
                    path.clone(),
                    Entry::Text {
                        doc: doc.clone(),
                        seed,
                        mode,
                        mtime,
                    },
                );
            }
            self.only_path(&path, &doc, known.current);
            let moved = before.and_then(Entry::doc) != Some(&doc);
            if moved {
                let seed = known.seed;
                self.out.texts.push(TextChange {
                    doc,
                    seed,
                    path,
                    is_live: true,
                });
            }
            return;
        }
        match self.facts.blob(&seed) {
            None => self.wait(seed, path, before.cloned()),
            Some(fact) if !fact.is_text => {
                let reason = format!(
                    "kept as binary: its bytes are no text of at most {MAX_TEXT_BYTES} bytes"
                );
                self.report(path.as_str(), reason);
                let size = fact.size;
                self.set(
                    path,
                    Entry::Blob {
                        hash: seed,
                        size,
                        mode,
                        mtime,
                    },
                );
            }
            Some(_) => {
                self.only_path(&path, &doc, seed);
                self.out.texts.push(TextChange {
                    doc,
                    seed,
                    path,
                    is_live: true,
                });
            }
        }
    }

    /// Gives every other path that names `doc` a new document with the same content.
    fn only_path(&mut self, path: &FilePath, doc: &DocId, content: BlobHash) {
        let others = self
            .tree
            .paths_of(doc)
            .iter()
            .filter(|other| *other != path);
        let others: Vec<_> = others
            .filter_map(|other| Some((other.clone(), self.tree.get(other)?.clone())))
            .collect();
        for (other, entry) in others {
            let Entry::Text { mode, mtime, .. } = entry else {
                continue;
            };
            let copy = self.facts.fresh_doc();
            self.report(
                other.as_str(),
                format!("given a document of its own: `{path}` has its old one now"),
            );
            self.out.texts.push(TextChange {
                doc: copy.clone(),
                seed: content,
                path: other.clone(),
                is_live: true,
            });
            self.set(
                other,
                Entry::Text {
                    doc: copy,
                    seed: content,
                    mode,
                    mtime,
                },
            );
        }
    }

    /// Moves aside what cannot stand where it does; `None` if that was the claim itself.
    fn without_collision(&mut self, path: FilePath, entry: &Entry) -> Option<FilePath> {
        if let Some(above) = self.tree.above(&path) {
            match self.tree.get(&above) {
                Some(Entry::Dir) => self.unset(above),
                Some(file) => {
                    let file = file.clone();
                    self.move_aside(above, file, "a directory has its name now");
                }
                None => {}
            }
        }
        if self.tree.has_below(&path) {
            if *entry == Entry::Dir {
                self.unset(path);
            } else {
                self.move_aside(path, entry.clone(), "a directory has this name");
            }
            return None;
        }
        if let Some(other) = self.tree.collides_with(&path).cloned() {
            let reason = format!("`{other}` is the same name to some file systems");
            self.move_aside(path, entry.clone(), &reason);
            return None;
        }
        Some(path)
    }

    fn move_aside(&mut self, path: FilePath, entry: Entry, reason: &str) {
        let to = self.tree.free(path.conflict(self.who, self.now));
        self.report(path.as_str(), format!("moved to `{to}`: {reason}"));
        self.unset(path);
        self.set(to.clone(), entry.clone());
        self.claim(to, entry, None);
    }

    fn keep_loser(&mut self, path: &FilePath, entry: Entry, who: &str) {
        let winner = self.tree.get(path);
        let when = match &entry {
            Entry::Text {
                doc, mtime, seed, ..
            } => {
                let here = winner.and_then(Entry::doc) == Some(doc);
                let elsewhere = self.tree.path_of(doc).is_some();
                let known = self.facts.text(doc);
                let untouched = known.is_none_or(|known| known.current == *seed);
                let same = untouched && winner.and_then(Entry::blob) == Some(seed);
                if here || elsewhere || same {
                    return;
                }
                *mtime
            }
            Entry::Blob { hash, mtime, .. } => {
                if winner.and_then(Entry::blob) == Some(hash) {
                    return;
                }
                *mtime
            }
            Entry::Original { hash, mtime } => {
                // Nothing is lost of it: it is merged into what won.
                let bridge = Bridge {
                    path: path.clone(),
                    hash: *hash,
                    mtime: *mtime,
                    before: winner.cloned(),
                };
                self.out.bridges.push(bridge);
                return;
            }
            Entry::Link { .. } if winner != Some(&entry) => self.now,
            Entry::Link { .. } | Entry::Dir => return,
        };
        let kept = path.conflict(who, when);
        if self.tree.get(&kept) == Some(&entry) {
            return;
        }
        let kept = self.tree.free(kept);
        self.report(
            path.as_str(),
            format!("two writers set it unknown to each other; the other version is `{kept}`"),
        );
        self.set(kept.clone(), entry.clone());
        self.claim(kept, entry, None);
    }

    /// Notes that a text's path is gone, unless it has another one.
    fn gone(&mut self, entry: Entry, path: FilePath) {
        if let Entry::Text { doc, seed, .. } = entry
            && self.tree.path_of(&doc).is_none()
        {
            self.out.texts.push(TextChange {
                doc,
                seed,
                path,
                is_live: false,
            });
        }
    }

    fn set(&mut self, path: FilePath, entry: Entry) {
        self.tree.set(&path, entry.clone());
        self.out.edits.push(ProjectEdit::SetFile(path, entry));
    }

    fn unset(&mut self, path: FilePath) {
        self.tree.remove(&path);
        self.out.edits.push(ProjectEdit::RemoveFile(path.into()));
    }

    fn wait(&mut self, hash: BlobHash, path: FilePath, before: Option<Entry>) {
        self.out.waiting.push(Waiting { hash, path, before });
    }

    fn report(&mut self, path: &str, reason: String) {
        if self.out.reports.len() < MAX_REPORTS {
            let path = path.chars().take(MAX_PATH_BYTES).collect();
            self.out.reports.push(Report { path, reason });
        }
    }
}

/// The fields of [`Entry::Text`].
struct Text {
    doc: DocId,
    seed: BlobHash,
    mode: u32,
    mtime: u64,
}

#[cfg(test)]
mod tests;
