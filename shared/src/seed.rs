//! The first content of a text document, as a pure function.
//!
//! Invariant: the same (document, seed) gives the same update wherever it is computed, so that a
//! second seeding merges to nothing and everyone shares one ancestor. Changing the function would
//! double the text of every document that was seeded before: it is part of the format.

use crate::id::{BlobHash, DocId};
use crate::replica::{ClientId, TextReplica};
use crate::update::scan;

/// The update that puts `text`, whose bytes hash to `seed`, into the empty document `doc`.
///
/// An empty text gives an update that adds nothing.
pub fn seed_update(doc: &DocId, seed: &BlobHash, text: &str) -> Vec<u8> {
    let replica = TextReplica::new(seed_client(doc, seed));
    replica
        .append(text)
        .unwrap_or_else(|| crate::replica::EMPTY_UPDATE.to_vec())
}

/// Whether an update has in it what a document began with, or what is left of that: then it is the whole
/// document, as somebody has it who was given it from its beginning. What no insert makes is in every one.
pub fn brings_seed(update: &[u8], doc: &DocId, seed: &BlobHash) -> bool {
    let author = seed_client(doc, seed).get();
    let Ok(scan) = scan(update) else { return false };
    let mut blocks = scan.blocks();
    *seed == BlobHash::of_empty()
        || blocks.any(|block| block.id.client == author && block.id.clock == 0)
}

/// The author of the seed: 32 bits of a hash, as Yjs 13 draws its client ids.
fn seed_client(doc: &DocId, seed: &BlobHash) -> ClientId {
    let mut hasher = blake3::Hasher::new_derive_key("uspark 2026-11 text document seed author");
    hasher.update(doc.as_str().as_bytes());
    hasher.update(&[0]);
    hasher.update(seed.as_bytes());
    let digest = hasher.finalize();
    let [a, b, c, d, ..] = *digest.as_bytes();
    ClientId::from_random([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diff::diff;

    fn seed(doc: &str, text: &str) -> Vec<u8> {
        let doc = doc.parse().unwrap();
        seed_update(&doc, &BlobHash::of(text.as_bytes()), text)
    }

    #[test]
    fn the_format_does_not_change() {
        // Recorded once. A different value here doubles text in every existing project.
        let bytes = seed("doc", "a😀\r\n");
        assert_eq!(BlobHash::of(&bytes).to_string(), RECORDED);
        assert_ne!(seed("doc", "x"), seed("cod", "x"));
    }
    const RECORDED: &str = "c903b87dee553c81911f377bea937d66f8bd1ae8c7fa4e9f5409cf3e7e4b77a6";

    #[test]
    fn seeding_twice_adds_nothing_and_edits_merge() {
        let bytes = seed("doc", "one\ntwo\n");
        let person = TextReplica::new(ClientId::from_random([1; 4]));
        let agent = TextReplica::new(ClientId::from_random([2; 4]));
        person.apply(&bytes).unwrap();
        assert!(!person.apply(&seed("doc", "one\ntwo\n")).unwrap().changed);
        agent.apply(&bytes).unwrap();
        let typed = person.edit(&diff("one\ntwo\n", "one!\ntwo\n")).unwrap();
        let wrote = agent
            .edit(&diff("one\ntwo\n", "one\ntwo\nthree\n"))
            .unwrap();
        person.apply(&wrote).unwrap();
        agent.apply(&typed).unwrap();
        assert_eq!(person.text(), "one!\ntwo\nthree\n");
        assert_eq!(agent.text(), person.text());
    }

    #[test]
    fn a_whole_document_brings_its_seed_and_an_edit_does_not() {
        let (doc, hash) = ("doc".parse().unwrap(), BlobHash::of(b"one\n"));
        let person = TextReplica::new(ClientId::from_random([1; 4]));
        person.apply(&seed("doc", "one\n")).unwrap();
        let typed = person.edit(&diff("one\n", "one\ntwo\n")).unwrap();
        assert!(!brings_seed(&typed, &doc, &hash));
        assert!(brings_seed(&person.state(), &doc, &hash));
        // All of it may have been deleted since.
        person.edit(&diff("one\ntwo\n", "two\n")).unwrap();
        assert!(brings_seed(&person.state(), &doc, &hash));
        assert!(!brings_seed(
            &person.state(),
            &"cod".parse().unwrap(),
            &hash
        ));
        assert!(!brings_seed(b"garbage", &doc, &hash));
        assert!(brings_seed(&typed, &doc, &BlobHash::of_empty()));
    }

    #[test]
    fn an_empty_text_seeds_to_nothing() {
        assert_eq!(seed("doc", ""), crate::replica::EMPTY_UPDATE);
    }
}
