//! The tree as a zip.

use std::io::{Cursor, Read as _};

use uspark_shared::id::BlobHash;
use uspark_shared::replica::{ClientId, ProjectEdit, ProjectReplica};
use uspark_shared::schema::Entry;
use zip::ZipArchive;

use crate::client::TestServer;

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_in_it_as_it_is() {
    let server = TestServer::start().await;
    server.project("p").await;
    let client = server.with(&server.token("p", "write").await);
    let large: Vec<u8> = (0..1_500_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let files = [
        ("bin/run", "?mode=0755", b"#!/bin/sh\n".to_vec()),
        ("b.bin", "", large),
        ("empty.txt", "", vec![]),
    ];
    for (path, mode, bytes) in &files {
        let put = client.put(&format!("/api/projects/p/files/{path}{mode}"));
        assert_eq!(put.bytes(bytes.clone()).await.status, 200);
    }
    let ours = ProjectReplica::new(ClientId::from_random([1; 4]));
    let link = Entry::Link {
        target: "bin/run".into(),
    };
    let edits = [("link", link), ("dir", Entry::Dir)];
    let edits = edits.map(|(path, entry)| ProjectEdit::SetFile(path.parse().unwrap(), entry));
    let patched = client
        .patch("/api/projects/p")
        .bytes(ours.edit(&edits).unwrap())
        .await;
    assert_eq!(patched.status, 200);
    // What is no file says so.
    let detail = client
        .get("/api/projects/p/files/link")
        .send()
        .await
        .problem(409);
    assert!(detail.contains("bin/run"), "{detail}");
    let dir = "/api/projects/p/files/dir";
    client.get(dir).send().await.problem(409);
    let etag = format!("\"{}\"", BlobHash::of(b"x"));
    let put = client.put(dir).header("if-match", &etag);
    put.bytes("x").await.problem(412);

    let archive = client.get("/api/projects/p/archive").send().await;
    assert_eq!(archive.status, 200);
    assert_eq!(archive.header("content-type"), Some("application/zip"));
    assert_eq!(
        archive.header("content-disposition"),
        Some("attachment; filename=\"p.zip\"")
    );
    let mut zip = ZipArchive::new(Cursor::new(archive.body)).unwrap();
    assert_eq!(zip.len(), 5);
    let mut entry = |name: &str| {
        let mut entry = zip.by_name(name).unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (entry.unix_mode().unwrap(), bytes)
    };
    for ((path, _, bytes), mode) in files.into_iter().zip([0o100_755, 0o100_644, 0o100_644]) {
        assert!(entry(path) == (mode, bytes), "{path}");
    }
    assert_eq!(entry("link"), (0o120_777, b"bin/run".to_vec()));
    assert_eq!(entry("dir/"), (0o040_755, vec![]));
}
