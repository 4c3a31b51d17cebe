//! Texts: seeding, editing, acknowledging, settling, and coming back after a restart.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_text_is_seeded_once_and_everybody_sees_every_edit() {
    let server = Server::new().await;
    server.text_file("a.txt", "d", "one\n").await;
    let (mut ann, mut bob) = (
        server.person(Some("d")).await,
        server.person(Some("d")).await,
    );
    assert_eq!(ann.text.text(), "one\n");
    ann.write("one\ntwo\n").await;
    bob.sees("one\ntwo\n").await;
    ann.is_saved(1).await;
    // An agent that seeded by itself adds nothing.
    let seed =
        uspark_shared::seed::seed_update(&"d".parse().unwrap(), &BlobHash::of(b"one\n"), "one\n");
    bob.say(SeatMessage::Update(seed.into())).await;
    bob.is_saved(1).await;
    assert_eq!(server.files().await["a.txt"], "one\ntwo\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn others_hear_at_once_the_author_when_it_is_durable() {
    let server = Server::new().await;
    server.text_file("a.txt", "d", "one\n").await;
    let (mut ann, mut bob) = (
        server.person(Some("d")).await,
        server.person(Some("d")).await,
    );
    server.store.hold();
    ann.write("two\n").await;
    bob.sees("two\n").await;
    assert_eq!(ann.saved, 0);
    server.store.release();
    ann.is_saved(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_kill_settled_or_not() {
    let server = Server::new().await;
    server.text_file("a.txt", "d", "one\n").await;
    let mut ann = server.person(Some("d")).await;
    ann.write("two\n").await;
    ann.is_saved(1).await;
    let server = server.restart();
    assert_eq!(server.person(Some("d")).await.text.text(), "two\n");
    // Settled for whoever reads, though nobody opened it before.
    let server = server.restart();
    assert_eq!(server.files().await["a.txt"], "two\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_nobody_deletes_what_they_did_not_see() {
    let server = Server::new().await;
    server.text_file("a.txt", "d", "one\n").await;
    let mut ann = server.person(Some("d")).await;
    ann.write("two\n").await;
    ann.is_saved(1).await;
    let server = server.restart();
    let delete = |reply| Command::Delete {
        path: path("a.txt"),
        only: Some(BlobHash::of(b"one\n")),
        who: who("bob"),
        reply,
    };
    let deleted = server.projects.ask(&server.project, delete).await;
    assert!(
        matches!(deleted, Err(Refusal::Precondition(_))),
        "{deleted:?}"
    );
    assert_eq!(server.files().await["a.txt"], "two\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_commit_acknowledges_nothing_and_nothing_is_lost() {
    let server = Server::new().await;
    server.text_file("a.txt", "d", "one\n").await;
    let mut ann = server.person(Some("d")).await;
    server.store.fail_after(
        0,
        crate::store::StoreError::Full {
            place: "disk".into(),
        },
    );
    ann.write("two\n").await;
    ann.is_told("refused 1013").await;
    assert_eq!(ann.saved, 0);
    server.store.heal();
    // The client comes back and gives what the server lacks.
    let mut back = server.person(Some("d")).await;
    assert_eq!(back.text.text(), "one\n");
    back.text.apply(&ann.text.state()).unwrap();
    back.say(SeatMessage::Update(ann.text.state().into())).await;
    back.is_saved(1).await;
    assert_eq!(server.files().await["a.txt"], "two\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_are_told_and_work_on_cold_documents() {
    let server = Server::new().await;
    server.text_file("a.txt", "d", "one\n").await;
    let server = server.restart();
    let mut reader = server.try_person(Some("d"), false).await.unwrap();
    assert_eq!(reader.text.text(), "one\n");
    assert!(!reader.told.contains(&"step1".to_owned()));
    reader.write("forbidden\n").await;
    reader.is_told("rejected").await;
    assert_eq!(server.files().await["a.txt"], "one\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_may_be_ahead_of_its_entry_but_not_for_ever() {
    let server = Server::new().await;
    let refused = server.try_person(Some("d"), true).await;
    assert_eq!(refused.err(), Some(Refusal::NotFound("document")));
    let (person, ()) = tokio::join!(
        server.person(Some("d")),
        server.text_file("a.txt", "d", "one\n")
    );
    assert_eq!(person.text.text(), "one\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_gets_every_texts_updates_once_and_settled_what_was_before() {
    let server = Server::new().await;
    server.text_file("a.txt", "d", "one\n").await;
    let mut ann = server.person(Some("d")).await;
    ann.write("two\n").await;
    ann.is_saved(1).await;
    let mut agent = server.person(None).await;
    agent.say(SeatMessage::Follow).await;
    agent.is_told("following").await;
    let replica = server.replica().await;
    assert_eq!(
        replica.text_version(&"d".parse().unwrap()).unwrap().hash,
        BlobHash::of(b"two\n")
    );
    agent.told.clear();
    // Its replica stands in for the text's.
    agent.text = TextReplica::new(client());
    agent.text.apply(&ann.text.state()).unwrap();
    ann.write("two\nthree\n").await;
    agent.sees("two\nthree\n").await;
    ann.write("two\nthree\nfour\n").await;
    agent.sees("two\nthree\nfour\n").await;
    assert_eq!(
        agent.told.iter().filter(|told| *told == "update").count(),
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_gets_a_nul_goes_on_as_a_binary() {
    let server = Server::new().await;
    server.text_file("a.txt", "d", "one\n").await;
    let mut ann = server.person(Some("d")).await;
    ann.write("one\0\n").await;
    ann.is_saved(1).await;
    assert_eq!(server.files().await["a.txt"], "one\0\n");
    let entry = server.replica().await.entry(&path("a.txt")).unwrap();
    assert!(matches!(entry, Entry::Blob { size: 5, .. }), "{entry:?}");
    ann.is_told("refused 4404").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_waits_for_another_survives_a_restart() {
    let server = Server::new().await;
    server.text_file("a.txt", "d", "one\n").await;
    let mut ann = server.person(Some("d")).await;
    let first = ann.text.edit(&diff("one\n", "one\ntwo\n")).unwrap();
    let second = ann
        .text
        .edit(&diff("one\ntwo\n", "one\ntwo\nthree\n"))
        .unwrap();
    ann.told.clear();
    ann.say(SeatMessage::Update(second.into())).await;
    ann.is_saved(1).await;
    ann.is_told("step1").await;
    let server = server.restart();
    let mut bob = server.person(Some("d")).await;
    bob.say(SeatMessage::Update(first.into())).await;
    bob.is_saved(1).await;
    assert_eq!(server.files().await["a.txt"], "one\ntwo\nthree\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_refused_and_harms_nobody_else() {
    let server = Server::new().await;
    server.text_file("a.txt", "d", "one\n").await;
    let (mut ann, mut mallory) = (
        server.person(Some("d")).await,
        server.person(Some("d")).await,
    );
    mallory
        .say(SeatMessage::Update(Bytes::from_static(b"\x01\x02garbage")))
        .await;
    mallory.is_told("refused 4400").await;
    ann.write("two\n").await;
    ann.is_saved(1).await;
}
