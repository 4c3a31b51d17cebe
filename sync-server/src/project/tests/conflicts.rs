//! What the server repairs, seen from outside.

use uspark_shared::schema::TextVersion;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn two_new_files_at_one_path_are_both_kept() {
    let server = Server::new().await;
    let (one, two) = (server.blob("of ann\n").await, server.blob("of bob\n").await);
    let (ann, bob) = (ProjectReplica::new(client()), ProjectReplica::new(client()));
    let of_ann = ann.edit(&[set("new.txt", text("a", one))]).unwrap();
    let of_bob = bob.edit(&[set("new.txt", text("b", two))]).unwrap();
    server
        .patch_from(of_ann, PutBase::Nearest, "ann")
        .await
        .unwrap();
    server
        .patch_from(of_bob.clone(), PutBase::Nearest, "bob")
        .await
        .unwrap();
    let mut contents: Vec<_> = server.files().await.into_values().collect();
    contents.sort();
    assert_eq!(contents, ["of ann\n", "of bob\n"]);
    // Twice is once, and a restart forgets nothing of it.
    let server = server.restart();
    server
        .patch_from(of_bob, PutBase::Nearest, "bob")
        .await
        .unwrap();
    assert_eq!(server.files().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_edit_gives_a_deleted_text_its_path_back() {
    let server = Server::new().await;
    server.text_file("a.txt", "d", "one\n").await;
    let mut ann = server.person(Some("d")).await;
    let replica = server.replica().await;
    let gone = replica
        .edit(&[ProjectEdit::RemoveFile("a.txt".into())])
        .unwrap();
    server.patch(gone).await.unwrap();
    assert_eq!(server.files().await.len(), 0);
    // A replay brings nothing back.
    ann.say(SeatMessage::Update(ann.text.state().into())).await;
    ann.is_saved(1).await;
    assert_eq!(server.files().await.len(), 0);
    ann.write("one\nmore\n").await;
    ann.is_saved(2).await;
    assert_eq!(server.files().await["a.txt"], "one\nmore\n");
}

/// Whoever deleted it, or sees it come back, is told before that it was edited.
#[tokio::test(flavor = "multi_thread")]
async fn a_text_is_settled_when_its_path_goes_and_when_it_comes_back() {
    let server = Server::new().await;
    server.text_file("a.txt", "d", "one\n").await;
    let mut ann = server.person(Some("d")).await;
    let mut bob = server.person(None).await;
    let seen = |person: &Person| {
        let replica = ProjectReplica::new(client());
        replica.apply(&person.text.state()).unwrap();
        let text = replica.texts().into_iter().find(|(key, _)| key == "d");
        let hash = text.map(|(_, value)| TextVersion::from_json(&value).unwrap().hash);
        (replica, hash)
    };
    ann.write("one\ntyped\n").await;
    ann.is_saved(1).await;
    let (replica, _) = seen(&bob);
    let gone = replica
        .edit(&[ProjectEdit::RemoveFile("a.txt".into())])
        .unwrap();
    bob.text.apply(&gone).unwrap();
    bob.say(SeatMessage::Update(gone.into())).await;
    bob.is_saved(1).await;
    assert_eq!(seen(&bob).1, Some(BlobHash::of(b"one\ntyped\n")));
    ann.write("one\ntyped\nmore\n").await;
    bob.until(|bob| seen(bob).0.file("a.txt").is_some()).await;
    assert_eq!(seen(&bob).1, Some(BlobHash::of(b"one\ntyped\nmore\n")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_text_whose_path_is_taken_comes_back_beside_it() {
    let server = Server::new().await;
    server.text_file("a.txt", "d", "one\n").await;
    let mut ann = server.person(Some("d")).await;
    let replica = server.replica().await;
    let gone = replica
        .edit(&[ProjectEdit::RemoveFile("a.txt".into())])
        .unwrap();
    server.patch(gone).await.unwrap();
    server.text_file("a.txt", "e", "other\n").await;
    ann.write("one\nmore\n").await;
    ann.is_saved(1).await;
    let files = server.files().await;
    assert_eq!(files["a.txt"], "other\n");
    assert_eq!(files["a.txt.conflict-edit-1000"], "one\nmore\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_text_comes_back_beside_a_file_that_has_its_directory_s_name() {
    let server = Server::new().await;
    server.text_file("d/a", "t", "one\n").await;
    let mut ann = server.person(Some("t")).await;
    let replica = server.replica().await;
    let gone = replica.edit(&[ProjectEdit::RemoveFile("d/a".into())]);
    server.patch(gone.unwrap()).await.unwrap();
    server.text_file("d", "e", "other\n").await;
    ann.write("one\nmore\n").await;
    ann.is_saved(1).await;
    let files = server.files().await;
    assert_eq!(files["d"], "other\n");
    assert_eq!(files["d.conflict-edit-1000"], "one\nmore\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_is_set_back_to_the_truth() {
    let server = Server::new().await;
    server.text_file("a.txt", "d", "one\n").await;
    let replica = server.replica().await;
    let lie = TextVersion {
        hash: BlobHash::of(b"lie"),
        size: 3,
        mtime: 1,
    };
    let update = replica
        .edit(&[ProjectEdit::SetText("d".parse().unwrap(), lie)])
        .unwrap();
    let patched = server.patch(update).await.unwrap();
    assert_eq!(patched.repaired.len(), 1);
    assert_eq!(server.replica().await.texts(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_whose_blob_comes_later_appears_then() {
    let server = Server::new().await;
    let replica = ProjectReplica::new(client());
    let entry = text("d", BlobHash::of(b"late\n"));
    server
        .patch(replica.edit(&[set("a.txt", entry)]).unwrap())
        .await
        .unwrap();
    assert_eq!(server.files().await.len(), 0);
    // Also when it comes after a restart.
    let server = server.restart();
    assert_eq!(server.files().await.len(), 0);
    server.blob("late\n").await;
    assert_eq!(server.files().await["a.txt"], "late\n");
    assert_eq!(server.person(Some("d")).await.text.text(), "late\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_blob_is_as_good_as_absent() {
    let server = Server::new().await;
    let other: ProjectId = "other".parse().unwrap();
    let record = ProjectRecord {
        id: other.clone(),
        name: None,
        created_at: 1,
    };
    Committer::start(Arc::clone(&server.inner))
        .commit(vec![Write::CreateProject(record)])
        .await
        .unwrap();
    let secret = server
        .blobs
        .put(&other, Bytes::from_static(b"secret"))
        .await
        .unwrap()
        .hash;
    let replica = ProjectReplica::new(client());
    server
        .patch(replica.edit(&[set("a.txt", text("d", secret))]).unwrap())
        .await
        .unwrap();
    assert_eq!(server.files().await.len(), 0);
    // Who may write may bring the text, and is told nothing of it.
    let mut person = server.person(Some("d")).await;
    person.is_told("refused 4404").await;
    assert_eq!(person.text.text(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_gets_a_document_of_its_own() {
    let server = Server::new().await;
    server.text_file("a.txt", "d", "one\n").await;
    let mut ann = server.person(Some("d")).await;
    ann.write("two\n").await;
    ann.is_saved(1).await;
    let replica = server.replica().await;
    let entry = replica.entry(&path("a.txt")).unwrap();
    server
        .patch(replica.edit(&[set("b.txt", entry)]).unwrap())
        .await
        .unwrap();
    let files = server.files().await;
    assert_eq!(
        (files["a.txt"].as_str(), files["b.txt"].as_str()),
        ("two\n", "two\n")
    );
    ann.write("three\n").await;
    ann.is_saved(2).await;
    let files = server.files().await;
    assert_eq!(
        (files["a.txt"].as_str(), files["b.txt"].as_str()),
        ("two\n", "three\n")
    );
}
