//! Contents by hash: ranges, conditions, limits, and whose they are.

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use uspark_shared::id::BlobHash;
use uspark_shared::replica::{ClientId, ProjectEdit, ProjectReplica};
use uspark_shared::schema::Entry;

use crate::client::TestServer;

/// Larger than what the store keeps in a row.
fn large() -> Bytes {
    (0..300_000_u32)
        .flat_map(u32::to_le_bytes)
        .collect::<Vec<_>>()
        .into()
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_come_back_whole_and_in_part() {
    let server = TestServer::start().await;
    server.project("p").await;
    let client = server.with(&server.token("p", "write").await);
    for bytes in [Bytes::new(), Bytes::from("0123456789"), large()] {
        let stored = client.post("/api/blobs").bytes(bytes.clone()).await;
        let hash = BlobHash::of(&bytes).to_string();
        assert_eq!(stored.status, 201);
        assert_eq!(
            stored.value(),
            serde_json::json!({ "hash": hash, "size": bytes.len() })
        );
        let path = format!("/api/blobs/{hash}");
        assert_eq!(stored.header("location"), Some(path.as_str()));

        let whole = client.get(&path).send().await;
        assert_eq!((whole.status, &whole.body), (200, &bytes));
        let etag = format!("\"{hash}\"");
        assert_eq!(whole.header("etag"), Some(etag.as_str()));
        let cache = whole.header("cache-control").unwrap();
        assert!(
            cache.contains("private") && cache.contains("immutable"),
            "{cache}"
        );
        assert_eq!(whole.header("accept-ranges"), Some("bytes"));
        assert_eq!(whole.header("x-content-type-options"), Some("nosniff"));

        let head = client.call("HEAD", &path).send().await;
        let length = bytes.len().to_string();
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(head.header("content-length"), Some(length.as_str()));

        let again = client
            .get(&path)
            .header("if-none-match", &etag)
            .send()
            .await;
        assert_eq!((again.status, again.body.len()), (304, 0));
        assert_eq!(again.header("etag"), Some(etag.as_str()));

        let beyond = format!("bytes={}-", bytes.len());
        let refused = client.get(&path).header("range", &beyond).send().await;
        refused.problem(416);
        let range = format!("bytes */{}", bytes.len());
        assert_eq!(refused.header("content-range"), Some(range.as_str()));
        if bytes.is_empty() {
            continue;
        }
        let end = bytes.len();
        for (range, from, to) in [
            ("bytes=0-0".to_owned(), 0, 1),
            ("bytes=3-".to_owned(), 3, end),
            ("bytes=-4".to_owned(), end - 4, end),
            (
                format!("bytes={}-{}", end / 2, end / 2 + 3),
                end / 2,
                end / 2 + 4,
            ),
            (format!("bytes=5-{}", u64::MAX), 5, end),
        ] {
            let part = client.get(&path).header("range", &range).send().await;
            assert_eq!(
                (part.status, &part.body),
                (206, &bytes.slice(from..to)),
                "{range}"
            );
            let told = format!("bytes {from}-{}/{end}", to - 1);
            assert_eq!(part.header("content-range"), Some(told.as_str()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hash_alone_opens_nothing() {
    let server = TestServer::start().await;
    server.project("p").await;
    server.project("q").await;
    let owner = server.with(&server.token("p", "write").await);
    let thief = server.with(&server.token("q", "admin").await);
    let hash = owner.upload("p", "secret").await;
    let path = format!("/api/blobs/{hash}");
    let unknown = thief
        .get(&format!("/api/blobs/{}", BlobHash::of(b"?")))
        .send()
        .await;
    assert_eq!(thief.get(&path).send().await.body, unknown.body);
    unknown.problem(404);

    // Neither does an entry that names it.
    let entry = Entry::Blob {
        hash: hash.parse().unwrap(),
        size: 6,
        mode: 0o644,
        mtime: 1,
    };
    let ours = ProjectReplica::new(ClientId::from_random([1; 4]));
    let update = ours
        .edit(&[ProjectEdit::SetFile("a".parse().unwrap(), entry)])
        .unwrap();
    assert_eq!(
        thief.patch("/api/projects/q").bytes(update).await.status,
        200
    );
    thief.get(&path).send().await.problem(404);
    thief
        .get("/api/projects/q/files/a")
        .send()
        .await
        .problem(404);

    // The bytes do, and then the entry is a file.
    assert_eq!(thief.upload("q", "secret").await, hash);
    assert_eq!(thief.get(&path).send().await.body, "secret");
    assert_eq!(
        thief.get("/api/projects/q/files/a").send().await.body,
        "secret"
    );
    assert_eq!(server.admin().get(&path).send().await.body, "secret");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_is_for_a_project() {
    let server = TestServer::start().await;
    server.project("p").await;
    let detail = server
        .admin()
        .post("/api/blobs")
        .bytes("x")
        .await
        .problem(400);
    assert!(detail.contains("project="), "{detail}");
    server
        .admin()
        .post("/api/blobs?project=q")
        .bytes("x")
        .await
        .problem(404);
    let client = server.with(&server.token("p", "write").await);
    client
        .post("/api/blobs?project=q")
        .bytes("x")
        .await
        .problem(404);
    for bad in ["x", &"A".repeat(64), &"0".repeat(63)] {
        client
            .get(&format!("/api/blobs/{bad}"))
            .send()
            .await
            .problem(400);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_is_refused_however_it_comes() {
    let server = TestServer::start_with(|config| config.limits.max_blob_bytes = 200_000).await;
    server.project("p").await;
    let client = server.with(&server.token("p", "write").await);
    assert_eq!(
        client
            .post("/api/blobs")
            .bytes(vec![7; 200_000])
            .await
            .status,
        201
    );
    let much = vec![7; 200_001];
    for path in ["/api/blobs", "/api/projects/p/files/a"] {
        let method = if path.ends_with('a') { "PUT" } else { "POST" };
        let detail = client
            .call(method, path)
            .bytes(much.clone())
            .await
            .problem(413);
        assert!(detail.contains("200000"), "{detail}");
        let chunks = much
            .chunks(1000)
            .map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec()));
        let body = Body::from_stream(stream::iter(chunks.collect::<Vec<_>>()));
        client.call(method, path).body(body).await.problem(413);
    }
    client
        .get(&format!("/api/blobs/{}", BlobHash::of(&much)))
        .send()
        .await
        .problem(404);
}
