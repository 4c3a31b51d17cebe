//! What every store must do: one suite, run against each of them.

use bytes::Bytes;
use uspark_shared::id::{BlobHash, DocId, DocumentName, ProjectId};

use super::*;
use crate::access::{Access, TokenScope};

/// A store in memory.
pub(super) fn memory() -> MemoryStore {
    MemoryStore::new("epoch")
}

/// A store on disk, and its directory.
pub(super) fn sqlite() -> (tempfile::TempDir, SqliteStore) {
    let temp = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&DataDirectory::open(temp.path()).unwrap()).unwrap();
    (temp, store)
}

pub(super) fn project(id: &str) -> ProjectId {
    id.parse().unwrap()
}

pub(super) fn doc(id: &str) -> DocId {
    id.parse().unwrap()
}

pub(super) fn name(name: &str) -> DocumentName {
    name.parse().unwrap()
}

pub(super) fn create(id: &str) -> Write {
    let name = Some(format!("Project {id}"));
    Write::CreateProject(ProjectRecord {
        id: project(id),
        name,
        created_at: 7,
    })
}

pub(super) fn append(document: &str, seq: u64, update: &str) -> Write {
    append_by(document, seq, update, None)
}

fn append_by(document: &str, seq: u64, update: &str, origin: Option<Origin>) -> Write {
    let update = Bytes::copy_from_slice(update.as_bytes());
    Write::Append {
        name: name(document),
        seq,
        update,
        origin,
        at: 1000 + seq,
    }
}

pub(super) fn compact(document: &str, through: u64, state: &str) -> Write {
    let state = Bytes::copy_from_slice(state.as_bytes());
    Write::Compact {
        name: name(document),
        through,
        state,
    }
}

fn text(project_id: &str, id: &str, path: &str) -> TextRecord {
    TextRecord {
        project: project(project_id),
        doc: doc(id),
        seed: BlobHash::of(id.as_bytes()),
        path: path.parse().unwrap(),
        deleted_at: None,
    }
}

fn version(content: &str) -> SettledVersion {
    let hash = BlobHash::of(content.as_bytes());
    SettledVersion {
        hash,
        size: content.len() as u64,
        mtime: 5,
    }
}

fn settle(project_id: &str, id: &str, content: &str, project_seq: u64) -> Write {
    let (project, doc) = (project(project_id), doc(id));
    Write::Settle {
        project,
        doc,
        version: version(content),
        project_seq,
        doc_seq: 1,
    }
}

/// Settles a text of project `p` up to its update `doc_seq`.
fn settle_through(id: &str, doc_seq: u64) -> Write {
    Write::Settle {
        project: project("p"),
        doc: doc(id),
        version: version("content"),
        project_seq: 1,
        doc_seq,
    }
}

pub(super) fn put_blob(project_id: &str, content: &str) -> Write {
    let body = BlobBody::Inline(Bytes::copy_from_slice(content.as_bytes()));
    let hash = BlobHash::of(content.as_bytes());
    Write::PutBlob {
        project: project(project_id),
        hash,
        body,
        at: 1,
    }
}

fn upkeep(upkeep: Upkeep) -> Write {
    Write::Upkeep(upkeep)
}

/// What was of no use to anybody since `before` is spent.
fn spent(before: u64) -> Spent {
    Spent {
        uploaded_before: before,
        released_before: before,
    }
}

fn token(id: &str, scope: TokenScope) -> TokenRecord {
    TokenRecord {
        id: id.repeat(12).parse().unwrap(),
        scope,
        access: Access::Write,
        digest: *BlobHash::of(id.as_bytes()).as_bytes(),
        created_at: 1,
        expires_at: Some(2),
        revoked_at: None,
        name: Some("ci".into()),
    }
}

fn audit(actor: &str) -> AuditRecord {
    AuditRecord {
        at: 9,
        actor: actor.into(),
        action: "token.mint".into(),
        project: Some(project("p")),
        detail: "x".into(),
    }
}

/// An event that tells itself apart by its time.
pub(super) fn event(at: u64) -> EventRecord {
    let origin = |tool: Option<&str>| Origin {
        token: "abcdefghijkl".parse().unwrap(),
        run: Some("run-1".into()),
        tool_use_id: None,
        tool: tool.map(Into::into),
    };
    let file = FileState {
        kind: FileKind::Text,
        hash: Some(BlobHash::of(b"x")),
    };
    let (path, from) = ("a/b".parse().unwrap(), "c".parse().unwrap());
    EventRecord {
        at,
        what: Happening::Moved { path, from, file },
        who: Some(origin(Some("Edit"))),
        also: vec![origin(None)],
    }
}

pub(super) fn events(id: &str, at: std::ops::RangeInclusive<u64>, keep: u64) -> Write {
    Write::Events {
        project: project(id),
        events: at.map(event).collect(),
        keep,
    }
}

fn lines(from: u64, lines: &[&str]) -> RunLines {
    RunLines {
        project: project("p"),
        run: "r".into(),
        from,
        lines: strings(lines),
        at: 9,
        who: None,
        keep: 100,
    }
}

/// The numbers and times of events, then the last number, and the one up to which they are cut.
fn told(store: &dyn Store, id: &str, after: u64) -> (Vec<(u64, u64)>, u64, u64) {
    let page = store.events(&project(id), after, 100).unwrap().unwrap();
    let events = page
        .events
        .iter()
        .map(|(number, event)| (*number, event.at));
    (events.collect(), page.last, page.cut)
}

/// Lines of runs, with their numbers.
fn said(store: &dyn Store) -> Vec<(u64, String)> {
    let page = store.events(&project("p"), 0, 100).unwrap().unwrap();
    let line = |(_, event): (u64, EventRecord)| match event.what {
        Happening::Line { line, text, .. } => (line, text),
        other => panic!("{other:?}"),
    };
    page.events.into_iter().map(line).collect()
}

/// Commits one group and answers what became of it.
pub(super) fn commit(store: &dyn Store, group: Vec<Write>) -> Outcome {
    store.commit(&[group]).unwrap().pop().unwrap()
}

/// A document's updates as text, and the next place.
pub(super) fn loaded(store: &dyn Store, document: &str) -> (Vec<String>, u64) {
    let stored = store.load(&name(document)).unwrap();
    let updates = stored
        .updates
        .iter()
        .map(|u| String::from_utf8(u.to_vec()).unwrap());
    (updates.collect(), stored.next_seq)
}

fn strings(updates: &[&str]) -> Vec<String> {
    updates.iter().map(|update| (*update).into()).collect()
}

fn taken(document: &str, seq: u64) -> Outcome {
    Err(Refused::SequenceTaken {
        name: name(document),
        seq,
    })
}

/// Declares each test once for every store.
macro_rules! contract {
    ($($(#[$doc:meta])* fn $test:ident($store:ident) $body:block)*) => {
        $($(#[$doc])* fn $test($store: &dyn Store) $body)*

        mod in_memory {
            $(#[test] fn $test() { super::$test(&super::memory()); })*
        }

        mod in_sqlite {
            $(#[test] fn $test() {
                let (_temp, store) = super::sqlite();
                super::$test(&store);
            })*
        }
    };
}

contract! {
    fn projects_are_made_once_listed_in_pages_and_deleted(store) {
        for id in ["b", "a", "C", "d-_"] {
            assert_eq!(commit(store, vec![create(id)]), Ok(()));
        }
        let exists = Err(Refused::ProjectExists(project("a")));
        assert_eq!(commit(store, vec![create("a")]), exists);
        let found = store.project(&project("a")).unwrap().unwrap();
        assert_eq!((found.name.as_deref(), found.created_at), (Some("Project a"), 7));
        assert_eq!(store.project(&project("x")).unwrap(), None);

        let page = |after: Option<&str>, limit| {
            let after = after.map(project);
            let page = store.projects(after.as_ref(), limit).unwrap();
            page.iter().map(|found| found.id.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(page(None, 2), ["C", "a"]);
        assert_eq!(page(Some("a"), 2), ["b", "d-_"]);
        assert_eq!(page(Some("d-_"), 2), [""; 0]);

        assert_eq!(commit(store, vec![Write::DeleteProject(project("b"))]), Ok(()));
        assert_eq!(page(None, 9), ["C", "a", "d-_"]);
        let absent = Err(Refused::NoSuchProject(project("b")));
        assert_eq!(commit(store, vec![Write::DeleteProject(project("b"))]), absent);
    }

    fn a_document_is_what_was_appended_in_order(store) {
        assert_eq!(loaded(store, "p"), (vec![], 1));
        commit(store, vec![create("p"), append("p", 1, "one"), append("p/d", 1, "other")]).unwrap();
        // A gap is left by a group that failed.
        commit(store, vec![append("p", 3, "three"), append("p", 2, "two"), append("p", 7, "")])
            .unwrap();
        assert_eq!(loaded(store, "p"), (strings(&["one", "two", "three", ""]), 8));
        assert_eq!(loaded(store, "p/d"), (strings(&["other"]), 2));
        assert_eq!(loaded(store, "p/e"), (vec![], 1));
    }

    fn a_place_is_taken_once(store) {
        commit(store, vec![create("p"), append("p", 1, "first"), append("p", 2, "second")]).unwrap();
        assert_eq!(commit(store, vec![append("p", 2, "stale")]), taken("p", 2));
        assert_eq!(commit(store, vec![append("p", 0, "before all")]), taken("p", 0));
        assert_eq!(loaded(store, "p"), (strings(&["first", "second"]), 3));
        // Its rows are gone, but the place is still taken.
        commit(store, vec![compact("p", 2, "state")]).unwrap();
        assert_eq!(commit(store, vec![append("p", 2, "stale")]), taken("p", 2));
        assert_eq!(loaded(store, "p"), (strings(&["state"]), 3));
    }

    fn a_refused_group_has_no_effect_and_harms_no_other(store) {
        commit(store, vec![create("p"), append("p/a", 1, "a1"), append("p/b", 1, "b1")]).unwrap();
        let batch = [
            vec![append("p/a", 2, "a2")],
            vec![append("p/b", 2, "b2"), put_blob("p", "x"), append("p/a", 2, "stale")],
            vec![append("p/b", 2, "b2 again")],
            vec![append("gone", 1, "nothing")],
            vec![append("p/a", 3, "a3")],
        ];
        let gone = Err(Refused::NoSuchProject(project("gone")));
        let expected = vec![Ok(()), taken("p/a", 2), Ok(()), gone, Ok(())];
        assert_eq!(store.commit(&batch).unwrap(), expected);
        assert_eq!(loaded(store, "p/a"), (strings(&["a1", "a2", "a3"]), 4));
        assert_eq!(loaded(store, "p/b"), (strings(&["b1", "b2 again"]), 3));
        assert_eq!(store.blob(&BlobHash::of(b"x"), Reader::Any).unwrap(), None);
    }

    fn a_compaction_keeps_what_came_after_it(store) {
        commit(store, vec![create("p"), append("p/other", 1, "kept")]).unwrap();
        for seq in 1..=5 {
            commit(store, vec![append("p", seq, &seq.to_string())]).unwrap();
        }
        commit(store, vec![compact("p", 3, "1+2+3")]).unwrap();
        assert_eq!(loaded(store, "p"), (strings(&["1+2+3", "4", "5"]), 6));
        // An older one that comes late changes nothing.
        commit(store, vec![compact("p", 2, "1+2"), compact("p", 3, "again")]).unwrap();
        assert_eq!(loaded(store, "p"), (strings(&["1+2+3", "4", "5"]), 6));
        commit(store, vec![compact("p", 5, "all"), append("p", 6, "6")]).unwrap();
        assert_eq!(loaded(store, "p"), (strings(&["all", "6"]), 7));
        assert_eq!(loaded(store, "p/other"), (strings(&["kept"]), 2));
    }

    /// A reader sees all before a compaction or all after it, never between.
    fn a_load_beside_compactions_is_whole(store) {
        const UPDATES: u64 = 300;
        commit(store, vec![create("p")]).unwrap();
        std::thread::scope(|threads| {
            let reader = threads.spawn(|| {
                loop {
                    let (updates, next) = loaded(store, "p");
                    let held: u64 = updates.iter().map(|u| u.parse::<u64>().unwrap()).sum();
                    assert_eq!(held, next - 1, "{updates:?}");
                    if next > UPDATES {
                        return;
                    }
                }
            });
            // Each update weighs one; a snapshot weighs what it holds.
            for seq in 1..=UPDATES {
                commit(store, vec![append("p", seq, "1")]).unwrap();
                commit(store, vec![compact("p", seq, &seq.to_string())]).unwrap();
            }
            reader.join().unwrap();
        });
    }

    fn who_wrote_what_outlives_a_compaction(store) {
        let by = |tool: Option<&str>| Origin {
            token: "abcdefghijkl".parse().unwrap(),
            run: Some("run-1".into()),
            tool_use_id: None,
            tool: tool.map(Into::into),
        };
        commit(store, vec![create("p"), append("p/d", 1, "seed")]).unwrap();
        for seq in 2..=4 {
            commit(store, vec![append_by("p/d", seq, "x", Some(by(None)))]).unwrap();
        }
        commit(store, vec![append_by("p/d", 5, "x", Some(by(Some("Edit"))))]).unwrap();
        commit(store, vec![append("p/d", 6, "server"), append("p/d", 7, "server")]).unwrap();
        let expected = [
            OriginSpan { from_seq: 6, at: 1006, origin: None },
            OriginSpan { from_seq: 5, at: 1005, origin: Some(by(Some("Edit"))) },
            OriginSpan { from_seq: 2, at: 1002, origin: Some(by(None)) },
        ];
        assert_eq!(store.origins(&name("p/d"), 9).unwrap(), expected);
        commit(store, vec![compact("p/d", 7, "all")]).unwrap();
        assert_eq!(store.origins(&name("p/d"), 9).unwrap(), expected);
        assert_eq!(store.origins(&name("p/d"), 1).unwrap(), expected[..1]);
        assert_eq!(store.origins(&name("p/x"), 9).unwrap(), []);
    }

    fn texts_keep_their_path_and_their_history(store) {
        commit(store, vec![create("p"), create("q")]).unwrap();
        let (a, b) = (text("p", "a", "src/a.rs"), text("p", "b", "b"));
        commit(store, vec![Write::PutText(a.clone()), Write::PutText(b.clone())]).unwrap();
        commit(store, vec![settle("p", "a", "one", 4), settle("p", "a", "three", 9)]).unwrap();
        commit(store, vec![settle("p", "a", "two", 6), settle("p", "a", "two'", 6)]).unwrap();
        commit(store, vec![settle("q", "a", "other project", 99)]).unwrap();

        let history = |limit| store.settled(&project("p"), &doc("a"), limit).unwrap();
        let newest_first =
            [(9, "three"), (6, "two'"), (6, "two"), (4, "one")].map(|(seq, c)| (seq, version(c)));
        assert_eq!(history(9), newest_first);
        assert_eq!(history(2), newest_first[..2]);

        let gone = TextRecord { deleted_at: Some(12), path: "moved".parse().unwrap(), ..a };
        commit(store, vec![Write::PutText(gone.clone())]).unwrap();
        assert_eq!(store.text(&project("p"), &doc("a")).unwrap(), Some(gone.clone()));
        assert_eq!(store.text(&project("q"), &doc("a")).unwrap(), None);
        let all = store.texts(&project("p")).unwrap();
        assert_eq!(all, [(gone, Some(version("three"))), (b, None)]);
        assert_eq!(store.texts(&project("q")).unwrap(), []);
    }

    fn a_text_is_unsettled_until_a_version_holds_its_last_update(store) {
        let p = project("p");
        let unsettled = || {
            let docs = store.unsettled(&p).unwrap();
            docs.iter().map(DocId::to_string).collect::<Vec<_>>()
        };
        commit(store, vec![create("p"), create("q"), append("p", 1, "the project's own")]).unwrap();
        for id in ["b", "a", "idle"] {
            commit(store, vec![Write::PutText(text("p", id, id))]).unwrap();
        }
        commit(store, vec![append("p/a", 1, "1"), append("p/b", 1, "1"), append("p/b", 2, "2")])
            .unwrap();
        // One that has no record is nobody's text.
        commit(store, vec![append("p/stray", 1, "1")]).unwrap();
        assert_eq!(unsettled(), ["a", "b"]);
        assert_eq!(store.unsettled(&project("q")).unwrap(), []);

        commit(store, vec![settle_through("a", 1), settle_through("b", 1)]).unwrap();
        assert_eq!(unsettled(), ["b"]);
        // Compacting moves updates, and settles none.
        commit(store, vec![compact("p/a", 1, "1"), compact("p/b", 2, "1+2")]).unwrap();
        assert_eq!(unsettled(), ["b"]);
        commit(store, vec![settle_through("b", 2), append("p/a", 2, "2")]).unwrap();
        assert_eq!(unsettled(), ["a"]);
        // An older version that comes late takes nothing back.
        commit(store, vec![settle_through("a", 2), settle_through("a", 1)]).unwrap();
        assert_eq!(unsettled(), [""; 0]);
    }

    fn a_blob_opens_only_to_its_projects(store) {
        commit(store, vec![create("p"), create("q"), put_blob("p", "small")]).unwrap();
        let (small, large) = (BlobHash::of(b"small"), BlobHash::of(b"large"));
        let body = BlobBody::External { size: 5 };
        commit(store, vec![Write::PutBlob { project: project("q"), hash: large, body, at: 1 }]).unwrap();

        let read = |hash: &BlobHash, project: &str| {
            store.blob(hash, Reader::Project(&project.parse().unwrap())).unwrap()
        };
        let inline = Some(StoredBlob::Inline("small".into()));
        let external = Some(StoredBlob::External { size: 5 });
        assert_eq!((read(&small, "p"), read(&small, "q")), (inline.clone(), None));
        assert_eq!((read(&large, "p"), read(&large, "q")), (None, external.clone()));
        let absent = |project_id| store.absent(&project(project_id), &[small, large]).unwrap();
        assert_eq!((absent("p"), absent("q")), (vec![large], vec![small]));
        assert_eq!(absent("none"), [small, large]);
        assert_eq!(store.blob(&small, Reader::Any).unwrap(), inline);
        assert_eq!(store.blob(&large, Reader::Any).unwrap(), external);
        assert_eq!(store.blob(&BlobHash::of(b"?"), Reader::Any).unwrap(), None);

        commit(store, vec![put_blob("q", "small"), put_blob("q", "small")]).unwrap();
        assert_eq!(read(&small, "q"), inline);
        commit(store, vec![put_blob("p", "")]).unwrap();
        let empty = Some(StoredBlob::Inline(Bytes::new()));
        assert_eq!(read(&BlobHash::of_empty(), "p"), empty);
    }

    fn a_blob_is_in_doubt_when_it_is_spent_and_nothing_is_known_to_name_it(store) {
        commit(store, vec![create("p"), create("q"), put_blob("p", "a"), put_blob("q", "a")]).unwrap();
        let a = BlobHash::of(b"a");
        let doubt = |is_text| vec![Doubtful { hash: a, is_text }];
        let doubtful = |id: &str, uploaded_before, released_before| {
            let spent = Spent { uploaded_before, released_before };
            store.doubtful_blobs(&project(id), spent, 9).unwrap()
        };
        assert_eq!(doubtful("p", 1, 99), []);
        assert_eq!(doubtful("p", 2, 99), doubt(false));
        assert_eq!(store.doubtful_blobs(&project("none"), spent(9), 9).unwrap(), []);
        commit(store, vec![upkeep(Upkeep::RenewBlob { project: project("p"), hash: a, at: 5 })]).unwrap();
        // Neither date goes back.
        commit(store, vec![put_blob("p", "a")]).unwrap();
        assert_eq!((doubtful("p", 5, 99), doubtful("p", 6, 99)), (vec![], doubt(false)));
        assert_eq!(doubtful("q", 2, 99), doubt(false), "another's is another's");
        let keep = Upkeep::KeepBlobs { project: project("p"), hashes: vec![a, version("none").hash] };
        commit(store, vec![upkeep(keep.clone())]).unwrap();
        assert_eq!(doubtful("p", 99, 99), []);
        commit(store, vec![upkeep(Upkeep::ReleaseBlob { project: project("p"), hash: a, at: 7 })]).unwrap();
        assert_eq!((doubtful("p", 99, 7), doubtful("p", 99, 8)), (vec![], doubt(false)));
        // What a text is made of is told apart, and in doubt again when the text goes.
        commit(store, vec![Write::PutText(text("p", "a", "x")), upkeep(keep.clone())]).unwrap();
        assert_eq!(doubtful("p", 99, 99), []);
        commit(store, vec![settle("p", "b", "a", 3), settle("p", "b", "a", 4)]).unwrap();
        let forget = Upkeep::ForgetTexts { project: project("p"), docs: vec![doc("a")] };
        commit(store, vec![upkeep(forget)]).unwrap();
        assert_eq!(doubtful("p", 99, 99), doubt(true));
        commit(store, vec![upkeep(keep)]).unwrap();
        let forget = Upkeep::ForgetVersions { project: project("p"), versions: vec![(doc("b"), 3)] };
        commit(store, vec![upkeep(forget)]).unwrap();
        assert_eq!(doubtful("p", 99, 99), doubt(true), "version 4 is the same");
    }

    fn only_what_is_spent_and_no_text_is_forgotten(store) {
        let (p, q) = (project("p"), project("q"));
        let all = ["spent", "fresh", "seed", "version"];
        commit(store, vec![create("p"), create("q")]).unwrap();
        commit(store, all.map(|content| put_blob("p", content)).to_vec()).unwrap();
        commit(store, vec![put_blob("q", "spent"), Write::PutText(text("p", "seed", "x"))]).unwrap();
        commit(store, vec![settle("p", "d", "version", 1)]).unwrap();
        let [spent_one, fresh, ..] = all.map(|content| BlobHash::of(content.as_bytes()));
        commit(store, vec![upkeep(Upkeep::RenewBlob { project: p.clone(), hash: fresh, at: 9 })]).unwrap();
        let hashes = all.map(|content| BlobHash::of(content.as_bytes())).to_vec();
        let forget = Upkeep::ForgetBlobs { project: p.clone(), hashes: hashes.clone(), spent: spent(9) };
        commit(store, vec![upkeep(forget.clone())]).unwrap();
        assert_eq!(store.absent(&p, &hashes).unwrap(), [spent_one]);
        let renew = upkeep(Upkeep::RenewBlob { project: p.clone(), hash: spent_one, at: 9 });
        assert_eq!(commit(store, vec![renew]), Err(Refused::NoSuchBlob(spent_one)));
        // Its bytes stay for whoever else may read them, and then for nobody.
        let drop = upkeep(Upkeep::DropBlobs { hashes: hashes.clone() });
        assert_eq!(store.blobs_of_nobody(9).unwrap(), []);
        commit(store, vec![drop.clone()]).unwrap();
        assert!(store.blob(&spent_one, Reader::Project(&q)).unwrap().is_some());
        commit(store, vec![Write::DeleteProject(q)]).unwrap();
        assert_eq!(store.blobs_of_nobody(9).unwrap(), [(spent_one, 5)]);
        commit(store, vec![drop]).unwrap();
        assert!(store.blob(&spent_one, Reader::Any).unwrap().is_none());
        assert!(store.blob(&fresh, Reader::Any).unwrap().is_some());
        // Of what is not there nothing is said, unless somebody was told that it is.
        for project in [&p, &project("none")] {
            let project = project.clone();
            let docs = vec![doc("none")];
            commit(store, vec![upkeep(Upkeep::ForgetTexts { project, docs })]).unwrap();
        }
    }

    fn a_forgotten_text_leaves_nothing(store) {
        let p = project("p");
        let gone = TextRecord { deleted_at: Some(5), ..text("p", "a", "a") };
        commit(store, vec![create("p"), Write::PutText(gone), Write::PutText(text("p", "b", "b"))]).unwrap();
        commit(store, vec![append("p/a", 1, "1"), append("p/b", 1, "1"), settle("p", "a", "one", 1)]).unwrap();
        let deleted = |before| store.texts_deleted(&p, before, 9).unwrap();
        assert_eq!((deleted(5), deleted(6)), (vec![], vec![doc("a")]));
        commit(store, vec![upkeep(Upkeep::ForgetTexts { project: p.clone(), docs: deleted(6) })]).unwrap();
        assert_eq!(deleted(99), []);
        assert_eq!(store.text(&p, &doc("a")).unwrap(), None);
        assert_eq!(store.settled(&p, &doc("a"), 9).unwrap(), []);
        assert_eq!((loaded(store, "p/a"), loaded(store, "p/b").1), ((vec![], 1), 2));
        assert_eq!(store.origins(&name("p/a"), 9).unwrap(), []);
        assert_eq!(store.unsettled(&p).unwrap(), [doc("b")]);
    }

    fn of_old_versions_all_but_the_last_of_a_day_are_crowded(store) {
        let settle_at = |id, project_seq, mtime| {
            let Write::Settle { project, doc, version, doc_seq, .. } = settle("p", id, "x", 1) else {
                unreachable!()
            };
            let version = SettledVersion { mtime, ..version };
            Write::Settle { project, doc, version, project_seq, doc_seq }
        };
        let versions = [(1, 1), (2, 2), (3, DAY - 1), (4, DAY), (5, DAY + 1), (6, DAY + 2), (7, 3 * DAY)];
        commit(store, vec![create("p")]).unwrap();
        commit(store, versions.map(|(seq, at)| settle_at("a", seq, at)).to_vec()).unwrap();
        commit(store, vec![settle_at("b", 9, 3)]).unwrap();
        let crowded = |before| store.crowded_versions(&project("p"), before, 9).unwrap();
        let of_a = |seqs: &[u64]| seqs.iter().map(|seq| (doc("a"), *seq)).collect::<Vec<_>>();
        assert_eq!(crowded(2), of_a(&[1]));
        assert_eq!(crowded(DAY + 1), of_a(&[1, 2, 4]));
        assert_eq!(crowded(9 * DAY), of_a(&[1, 2, 4, 5]));
        let versions = crowded(9 * DAY);
        commit(store, vec![upkeep(Upkeep::ForgetVersions { project: project("p"), versions })]).unwrap();
        let left = store.settled(&project("p"), &doc("a"), 9).unwrap();
        assert_eq!(left.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [7, 6, 3]);
        assert_eq!(crowded(9 * DAY), []);
    }

    fn the_audit_log_is_cut_at_its_old_end(store) {
        commit(store, ["a", "b", "c"].map(|who| Write::Audit(audit(who))).to_vec()).unwrap();
        commit(store, vec![upkeep(Upkeep::ForgetAudit { through: 2 })]).unwrap();
        let numbers = || store.audit(0, 9).unwrap().into_iter().map(|(number, _)| number).collect::<Vec<_>>();
        assert_eq!(numbers(), [3]);
        commit(store, vec![upkeep(Upkeep::ForgetAudit { through: 9 }), Write::Audit(audit("d"))]).unwrap();
        assert_eq!(numbers(), [4], "no number is given twice");
    }

    fn a_deleted_project_leaves_nothing_to_the_next_of_its_name(store) {
        let scope = TokenScope::Project(project("p"));
        let everything = vec![
            create("p"), create("q"), append("p", 1, "x"), compact("p", 1, "x"),
            append("p/d", 1, "x"), append("q", 1, "x"), Write::PutText(text("p", "d", "d")),
            settle("p", "d", "x", 1), put_blob("p", "x"), Write::PutToken(token("t", scope)),
            Write::PutToken(token("s", TokenScope::Server)), Write::Audit(audit("me")),
        ];
        commit(store, everything).unwrap();
        commit(store, vec![Write::DeleteProject(project("p"))]).unwrap();
        let none = Err(Refused::NoSuchProject(project("p")));
        assert_eq!(commit(store, vec![append("p", 2, "late")]), none);
        assert_eq!(commit(store, vec![settle("p", "d", "late", 2)]), none);
        assert_eq!(commit(store, vec![put_blob("p", "late")]), none);
        assert_eq!(commit(store, vec![Write::PutText(text("p", "d", "late"))]), none);

        commit(store, vec![create("p")]).unwrap();
        assert_eq!(loaded(store, "p"), (vec![], 1));
        assert_eq!(loaded(store, "p/d"), (vec![], 1));
        assert_eq!(store.texts(&project("p")).unwrap(), []);
        assert_eq!(store.settled(&project("p"), &doc("d"), 9).unwrap(), []);
        let reader = Reader::Project(&project("p"));
        assert_eq!(store.blob(&BlobHash::of(b"x"), reader).unwrap(), None);
        assert_eq!(store.tokens(None).unwrap(), [token("s", TokenScope::Server)]);
        assert_eq!(store.audit(0, 9).unwrap().len(), 1);
        assert_eq!(loaded(store, "q"), (strings(&["x"]), 2));
    }

    fn tokens_are_added_and_revoked_and_never_changed(store) {
        let (own, server) =
            (token("b", TokenScope::Project(project("p"))), token("a", TokenScope::Server));
        let none = Err(Refused::NoSuchProject(project("p")));
        assert_eq!(commit(store, vec![Write::PutToken(own.clone())]), none);
        commit(store, vec![create("p"), create("q")]).unwrap();
        let both = vec![Write::PutToken(own.clone()), Write::PutToken(server.clone())];
        commit(store, both).unwrap();
        let same_id = TokenRecord { access: Access::Admin, ..own.clone() };
        let exists = Err(Refused::TokenExists(own.id.clone()));
        assert_eq!(commit(store, vec![Write::PutToken(same_id)]), exists);
        assert_eq!(store.token(&own.id).unwrap(), Some(own.clone()));
        assert_eq!(store.tokens(None).unwrap(), [server, own.clone()]);
        assert_eq!(store.tokens(Some(&project("p"))).unwrap(), std::slice::from_ref(&own));
        assert_eq!(store.tokens(Some(&project("q"))).unwrap(), []);

        for at in [50, 60] {
            commit(store, vec![Write::RevokeToken { id: own.id.clone(), at }]).unwrap();
        }
        assert_eq!(store.token(&own.id).unwrap().unwrap().revoked_at, Some(50));
        let unknown: TokenId = "unknown-----".parse().unwrap();
        let revoke = vec![Write::RevokeToken { id: unknown.clone(), at: 1 }];
        assert_eq!(commit(store, revoke), Err(Refused::NoSuchToken(unknown)));
    }

    fn the_audit_log_is_read_in_order_from_anywhere(store) {
        let records: Vec<_> = ["a", "b", "c"].map(audit).into();
        commit(store, records.iter().cloned().map(Write::Audit).collect()).unwrap();
        let all = store.audit(0, 9).unwrap();
        assert_eq!(all.iter().map(|(_, record)| record.clone()).collect::<Vec<_>>(), records);
        assert!(all.is_sorted_by_key(|(number, _)| *number));
        assert_eq!(store.audit(all[0].0, 1).unwrap(), all[1..2]);
        assert_eq!(store.audit(all[2].0, 9).unwrap(), []);
    }

    fn events_are_numbered_as_they_come_and_read_in_pages(store) {
        assert_eq!(store.events(&project("p"), 0, 9).unwrap(), None);
        commit(store, vec![create("p"), create("q")]).unwrap();
        assert_eq!(told(store, "p", 0), (vec![], 0, 0));
        commit(store, vec![events("p", 1..=2, 100), append("p", 1, "x")]).unwrap();
        commit(store, vec![events("q", 7..=7, 100), events("p", 3..=3, 100)]).unwrap();
        assert_eq!(told(store, "p", 0), (vec![(1, 1), (2, 2), (3, 3)], 3, 0));
        assert_eq!(told(store, "p", 2), (vec![(3, 3)], 3, 0));
        assert_eq!(told(store, "p", 3), (vec![], 3, 0));
        assert_eq!(told(store, "q", 0), (vec![(1, 7)], 1, 0));
        let page = store.events(&project("p"), 0, 2).unwrap().unwrap();
        assert_eq!(page.events, [(1, event(1)), (2, event(2))]);
    }

    fn a_refused_group_leaves_no_event_and_takes_no_number(store) {
        commit(store, vec![create("p"), append("p", 1, "x")]).unwrap();
        assert_eq!(commit(store, vec![events("p", 1..=3, 9), append("p", 1, "stale")]), taken("p", 1));
        commit(store, vec![events("p", 4..=4, 9)]).unwrap();
        assert_eq!(told(store, "p", 0), (vec![(1, 4)], 1, 0));
        let none = Err(Refused::NoSuchProject(project("q")));
        assert_eq!(commit(store, vec![events("q", 1..=1, 9)]), none);
    }

    fn the_newest_events_are_kept(store) {
        commit(store, vec![create("p"), create("q"), events("q", 1..=9, 100)]).unwrap();
        commit(store, vec![events("p", 1..=5, 3)]).unwrap();
        assert_eq!(told(store, "p", 0), (vec![(3, 3), (4, 4), (5, 5)], 5, 2));
        commit(store, vec![events("p", 6..=6, 3)]).unwrap();
        assert_eq!(told(store, "p", 0), (vec![(4, 4), (5, 5), (6, 6)], 6, 3));
        // What is gone does not come back when more may be kept.
        commit(store, vec![events("p", 7..=7, 100)]).unwrap();
        assert_eq!(told(store, "p", 4), (vec![(5, 5), (6, 6), (7, 7)], 7, 3));
        commit(store, vec![events("p", 8..=8, 1)]).unwrap();
        assert_eq!(told(store, "p", 0), (vec![(8, 8)], 8, 7));
        assert_eq!(told(store, "q", 0).0.len(), 9);
    }

    fn no_number_is_given_twice_not_to_a_later_project_either(store) {
        commit(store, vec![create("p"), events("p", 1..=5, 100)]).unwrap();
        commit(store, vec![Write::DeleteProject(project("p"))]).unwrap();
        assert_eq!(store.events(&project("p"), 0, 9).unwrap(), None);
        commit(store, vec![create("p")]).unwrap();
        // Who had seen them all sees that something is cut.
        assert_eq!(told(store, "p", 0), (vec![], 6, 6));
        commit(store, vec![events("p", 1..=1, 100)]).unwrap();
        assert_eq!(told(store, "p", 0), (vec![(7, 1)], 7, 6));
    }

    fn a_page_of_events_is_bounded_in_bytes(store) {
        let long = "x".repeat(EVENT_PAGE_BYTES / 4);
        let ten = [long.as_str(); 10];
        commit(store, vec![create("p"), Write::Lines(lines(1, &ten))]).unwrap();
        let (mut after, mut pages) = (0, 0);
        while after < 10 {
            let page = store.events(&project("p"), after, 100).unwrap().unwrap();
            assert!((1..=4).contains(&page.events.len()), "{}", page.events.len());
            assert_eq!(page.events[0].0, after + 1);
            (after, pages) = (page.events.last().unwrap().0, pages + 1);
        }
        assert!(pages >= 3, "{pages}");
    }

    fn each_line_of_a_run_is_there_once(store) {
        let none = Err(Refused::NoSuchProject(project("p")));
        assert_eq!(commit(store, vec![Write::Lines(lines(1, &["a"]))]), none);
        commit(store, vec![create("p")]).unwrap();
        let missing = |next| Err(Refused::LinesMissing { next });
        assert_eq!(commit(store, vec![Write::Lines(lines(2, &["b"]))]), missing(1));
        for again in [lines(1, &["a", "b"]), lines(1, &["a", "b"]), lines(2, &["b"]), lines(3, &[])] {
            commit(store, vec![Write::Lines(again)]).unwrap();
        }
        assert_eq!(commit(store, vec![Write::Lines(lines(4, &["d"]))]), missing(3));
        commit(store, vec![Write::Lines(lines(2, &["b", "c", ""]))]).unwrap();
        let other = RunLines { run: "other".into(), ..lines(1, &["A"]) };
        commit(store, vec![Write::Lines(other)]).unwrap();
        let expected = [(1, "a"), (2, "b"), (3, "c"), (4, ""), (1, "A")];
        assert_eq!(said(store), expected.map(|(line, text)| (line, text.to_owned())));
        // Also when they are cut.
        commit(store, vec![events("p", 1..=1, 1)]).unwrap();
        commit(store, vec![Write::Lines(lines(1, &["a", "b", "c", ""]))]).unwrap();
        assert_eq!(told(store, "p", 0), (vec![(6, 1)], 6, 5));
    }

    fn numbers_beyond_every_calendar_are_kept_as_the_largest(store) {
        commit(store, vec![create("p")]).unwrap();
        let far = TokenRecord { expires_at: Some(u64::MAX), ..token("t", TokenScope::Server) };
        commit(store, vec![Write::PutToken(far.clone())]).unwrap();
        assert!(store.token(&far.id).unwrap().unwrap().expires_at.unwrap() >= i64::MAX as u64);
    }

    fn an_empty_batch_and_an_empty_group_are_no_errors(store) {
        assert_eq!(store.commit(&[]).unwrap(), []);
        assert_eq!(store.commit(&[vec![]]).unwrap(), [Ok(())]);
    }
}
