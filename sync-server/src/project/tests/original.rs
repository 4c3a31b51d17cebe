//! The bridge: whole files from clients that know no text documents.

use super::*;

const BASE: &str = "one\ntwo\nthree\nfour\nfive\n";

async fn original(server: &Server, at: &str, content: &str, base: PutBase) {
    let hash = server.blob(content).await;
    let replica = server.replica().await;
    let entry = Entry::Original { hash, mtime: 9 };
    let update = replica.edit(&[set(at, entry)]).unwrap();
    server.patch_from(update, base, "old").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_editors_typing_is_kept_with_and_without_a_version() {
    for named in [true, false] {
        let server = Server::new().await;
        server.text_file("a.txt", "d", BASE).await;
        let version = server.version().await;
        let mut ann = server.person(Some("d")).await;
        ann.write(&BASE.replace("one", "one and a half")).await;
        ann.is_saved(1).await;
        ann.told.clear();
        // Made from what it read before ann typed.
        let base = if named {
            PutBase::Version(version)
        } else {
            PutBase::Nearest
        };
        original(&server, "a.txt", &BASE.replace("five", "5"), base).await;
        ann.sees("one and a half\ntwo\nthree\nfour\n5\n").await;
        assert_eq!(ann.told, ["update"]);
        let entry = server.replica().await.entry(&path("a.txt")).unwrap();
        assert_eq!(
            entry.doc().unwrap().as_str(),
            "d",
            "the document is back in its entry"
        );
        assert_eq!(
            server.files().await["a.txt"],
            "one and a half\ntwo\nthree\nfour\n5\n"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_files_become_texts_or_binaries() {
    let server = Server::new().await;
    original(&server, "t.txt", "text\n", PutBase::Nearest).await;
    original(&server, "b.bin", "b\0", PutBase::Nearest).await;
    let replica = server.replica().await;
    assert!(matches!(
        replica.entry(&path("t.txt")),
        Some(Entry::Text { .. })
    ));
    assert!(matches!(
        replica.entry(&path("b.bin")),
        Some(Entry::Blob { size: 2, .. })
    ));
    let files = server.files().await;
    assert_eq!(
        (files["t.txt"].as_str(), files["b.bin"].as_str()),
        ("text\n", "b\0")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_replaced_by_a_binary_is_a_binary() {
    let server = Server::new().await;
    server.text_file("a.txt", "d", "one\n").await;
    original(&server, "a.txt", "b\0", PutBase::Nearest).await;
    assert_eq!(server.files().await["a.txt"], "b\0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_merges_against_the_version_it_names() {
    let server = Server::new().await;
    server.text_file("a.txt", "d", BASE).await;
    let mut ann = server.person(Some("d")).await;
    ann.write(&BASE.replace("one", "1")).await;
    ann.is_saved(1).await;
    let base = PutBase::Hash(BlobHash::of(BASE.as_bytes()));
    server
        .put("a.txt", &BASE.replace("five", "5"), base)
        .await
        .unwrap();
    ann.sees("1\ntwo\nthree\nfour\n5\n").await;
    // Without one, the file is what was put.
    let put = server.put("a.txt", BASE, PutBase::Current).await.unwrap();
    assert_eq!(put.file.hash, Some(BlobHash::of(BASE.as_bytes())));
    ann.sees(BASE).await;
    let unknown = PutBase::Hash(BlobHash::of(b"?"));
    assert!(matches!(
        server.put("a.txt", "x", unknown).await,
        Err(Refusal::Precondition(_))
    ));
    assert!(matches!(
        server.put("a.txt", "x", PutBase::Nothing).await,
        Err(Refusal::Precondition(_))
    ));
    assert_eq!(server.files().await["a.txt"], BASE);
}

#[tokio::test(flavor = "multi_thread")]
async fn puts_and_deletes_by_path() {
    let server = Server::new().await;
    let made = server
        .put("src/new.rs", "fn main() {}\n", PutBase::Nothing)
        .await
        .unwrap();
    assert_eq!(made.file.kind, "text");
    let doc = made.file.doc.unwrap();
    assert_eq!(
        server.person(Some(doc.as_str())).await.text.text(),
        "fn main() {}\n"
    );
    let delete = |only| {
        let command = move |reply| Command::Delete {
            path: path("src/new.rs"),
            only,
            who: who("ann"),
            reply,
        };
        server.projects.ask(&server.project, command)
    };
    assert!(matches!(
        delete(Some(BlobHash::of(b"?"))).await,
        Err(Refusal::Precondition(_))
    ));
    delete(made.file.hash).await.unwrap();
    assert!(matches!(delete(None).await, Err(Refusal::NotFound(_))));
    assert_eq!(server.files().await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_bytes_replaced_comes_back_beside_them() {
    let server = Server::new().await;
    server.text_file("a", "d", "one\n").await;
    let mut ann = server.person(Some("d")).await;
    let hash = server.blob("bytes\0").await;
    let replica = server.replica().await;
    let original = Entry::Original { hash, mtime: 3 };
    server
        .patch(replica.edit(&[set("a", original)]).unwrap())
        .await
        .unwrap();
    assert_eq!(server.files().await["a"], "bytes\0");
    ann.write("one\nmore\n").await;
    ann.is_saved(1).await;
    let files = server.files().await;
    assert_eq!(files["a"], "bytes\0");
    assert_eq!(files["a.conflict-edit-1000"], "one\nmore\n");
}
