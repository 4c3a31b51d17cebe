//! Files by path, for curl.

use serde_json::json;
use uspark_shared::id::BlobHash;

use crate::client::{Client, TestServer};

async fn server_and_client() -> (TestServer, Client) {
    let server = TestServer::start().await;
    server.project("p").await;
    let client = server.with(&server.token("p", "write").await);
    (server, client)
}

fn quoted(bytes: &str) -> String {
    format!("\"{}\"", BlobHash::of(bytes.as_bytes()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_written_read_and_removed() {
    let (_server, client) = server_and_client().await;
    let file = "/api/projects/p/files/src/a%20b%2F%C3%BC.txt";
    client.get(file).send().await.problem(404);
    let written = client
        .put(&format!("{file}?mode=0755"))
        .bytes("hello\r\n")
        .await;
    assert_eq!(written.status, 200, "{written:?}");
    assert_eq!(written.header("etag"), Some(quoted("hello\r\n").as_str()));
    let view = written.value();
    assert_eq!(view["path"], "src/a b/ü.txt");
    assert_eq!(
        (&view["kind"], &view["mode"], &view["size"]),
        (&json!("text"), &json!(0o755), &json!(7))
    );

    let read = client.get(file).send().await;
    assert_eq!((read.status, read.body.as_ref()), (200, &b"hello\r\n"[..]));
    assert_eq!(read.header("etag"), written.header("etag"));
    let part = client.get(file).header("range", "bytes=1-2").send().await;
    assert_eq!((part.status, part.body.as_ref()), (206, &b"el"[..]));
    let etag = read.header("etag").unwrap();
    assert_eq!(
        client
            .get(file)
            .header("if-none-match", etag)
            .send()
            .await
            .status,
        304
    );

    // Without a mode it stays as it is.
    assert_eq!(client.put(file).bytes("bye").await.value()["mode"], 0o755);
    client
        .delete(file)
        .header("if-match", etag)
        .send()
        .await
        .problem(412);
    assert_eq!(client.get(file).send().await.body, "bye");
    let delete = client
        .delete(file)
        .header("if-match", &quoted("bye"))
        .send()
        .await;
    assert_eq!((delete.status, delete.body.len()), (204, 0));
    client.get(file).send().await.problem(404);
    client.delete(file).send().await.problem(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_moved_aside_by_a_put() {
    let (_server, client) = server_and_client().await;
    let file = |path: &str| format!("/api/projects/p/files/{path}");
    client.put(&file("src/main.rs")).bytes("x").await;
    for (path, why) in [
        ("src", "`src` is a directory"),
        ("src/main.rs/x", "`src/main.rs` is a file"),
        ("src/Main.rs", "`src/main.rs`, which exists"),
    ] {
        let refused = client.put(&file(path)).bytes("y").await;
        assert_eq!(refused.status, 409, "{refused:?}");
        let detail = refused.value()["detail"].to_string();
        assert!(detail.contains(why), "{detail}");
    }
    let manifest = client
        .get("/api/projects/p")
        .header("accept", "application/json");
    let files = manifest.send().await.value()["files"].clone();
    assert_eq!(files.as_object().unwrap().len(), 1, "{files}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_began_with_one_version_both_keep_what_they_wrote() {
    let (_server, client) = server_and_client().await;
    let file = "/api/projects/p/files/a.txt";
    let base = "one\ntwo\nthree\n";
    client.put(file).bytes(base).await;
    let etag = quoted(base);
    let first = client
        .put(file)
        .header("if-match", &etag)
        .bytes("ONE\ntwo\nthree\n")
        .await;
    assert_eq!(first.status, 200, "{first:?}");
    let second = client
        .put(file)
        .header("if-match", &etag)
        .bytes("one\ntwo\nTHREE\n")
        .await;
    let merged = "ONE\ntwo\nTHREE\n";
    assert_eq!(
        second.header("etag"),
        Some(quoted(merged).as_str()),
        "{second:?}"
    );
    assert_eq!(client.get(file).send().await.body, merged);
    // Without a base it is exactly what was sent.
    assert_eq!(client.put(file).bytes("new").await.status, 200);
    assert_eq!(client.get(file).send().await.body, "new");
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_hold_or_nothing_happens() {
    let (_server, client) = server_and_client().await;
    let file = "/api/projects/p/files/a";
    client
        .put(file)
        .header("if-match", &quoted("x"))
        .bytes("y")
        .await
        .problem(412);
    assert_eq!(
        client
            .put(file)
            .header("if-none-match", "*")
            .bytes("\0one")
            .await
            .status,
        200
    );
    client
        .put(file)
        .header("if-none-match", "*")
        .bytes("two")
        .await
        .problem(412);
    // Bytes that are no text cannot be merged.
    client
        .put(file)
        .header("if-match", &quoted("other"))
        .bytes("\0two")
        .await
        .problem(412);
    let good = client
        .put(file)
        .header("if-match", &quoted("\0one"))
        .bytes("\0two")
        .await;
    assert_eq!(good.status, 200, "{good:?}");
    assert_eq!(client.get(file).send().await.body, "\0two");
    for (name, value) in [
        ("if-match", "*"),
        ("if-match", "\"x\""),
        ("if-none-match", "\"x\""),
    ] {
        client
            .put(file)
            .header(name, value)
            .bytes("z")
            .await
            .problem(400);
    }
    client
        .delete(file)
        .header("if-match", "x")
        .send()
        .await
        .problem(400);
    for mode in ["rwx", "8", "10000", "-1", "+7", ""] {
        client
            .put(&format!("{file}?mode={mode}"))
            .bytes("z")
            .await
            .problem(400);
    }
    assert_eq!(client.get(file).send().await.body, "\0two");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_outside_the_project_is_a_path() {
    let (_server, client) = server_and_client().await;
    for path in [
        "..",
        "../x",
        "%2e%2e/x",
        "a/../x",
        "a/%2E%2e/x",
        "a/./b",
        "%2Fetc/passwd",
        "/etc/passwd",
        "a//b",
        "a/",
        "a%00b",
        ".git/config",
        ".GIT/hooks/x",
        "sub/.git",
        ".uspark/x",
        "%2egit",
        "%ff",
        &"x".repeat(256),
        &"a/".repeat(600),
    ] {
        let path = format!("/api/projects/p/files/{path}");
        for method in ["GET", "PUT", "DELETE"] {
            client.call(method, &path).send().await.problem(400);
        }
    }
    client
        .get("/api/projects/p/files/")
        .send()
        .await
        .problem(404);
    let manifest = client
        .get("/api/projects/p")
        .header("accept", "application/json")
        .send()
        .await;
    assert_eq!(manifest.value(), json!({ "files": {} }));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_want_to_be_first_one_is() {
    let (_server, client) = server_and_client().await;
    for (path, content) in [("text", "is "), ("binary", "\0")] {
        let file = format!("/api/projects/p/files/{path}");
        let puts = (0..20).map(|n| {
            let put = client.put(&file).header("if-none-match", "*");
            let bytes = format!("{content}{n}");
            async move { (put.bytes(bytes.clone()).await, bytes) }
        });
        let answers = futures_util::future::join_all(puts).await;
        let (won, lost): (Vec<_>, Vec<_>) = answers
            .into_iter()
            .partition(|(answer, _)| answer.status == 200);
        let [(_, bytes)] = won.as_slice() else {
            panic!("{} were first", won.len())
        };
        for (answer, _) in lost {
            answer.problem(412);
        }
        assert_eq!(client.get(&file).send().await.body, *bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_nobody_had_is_none() {
    let (_server, client) = server_and_client().await;
    let file = "/api/projects/p/files/a";
    assert_eq!(client.put(file).bytes("text").await.status, 200);
    client
        .put(file)
        .header("if-match", &quoted("never"))
        .bytes("more")
        .await
        .problem(412);
    assert_eq!(client.get(file).send().await.body, "text");
}
