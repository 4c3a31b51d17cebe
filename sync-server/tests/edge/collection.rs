//! What nothing needs any more goes by itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use uspark_shared::id::BlobHash;

use crate::binary::{Program, command};
use crate::client::{TestServer, eventually};

const DAY: u64 = 24 * 60 * 60 * 1000;

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_nobody_names_go_a_day_after_they_were_last_spoken_of() {
    static NOW: AtomicU64 = AtomicU64::new(1000 * DAY);
    let server = TestServer::start_with(|config| {
        config.clock = || NOW.load(Ordering::SeqCst);
        config.retention.collect_every = Duration::from_millis(20);
    })
    .await;
    server.project("p").await;
    let writer = server.with(&server.token("p", "write").await);
    let reader = server.with(&server.token("p", "read").await);
    let contents = ["by a writer", "by a reader", "by nobody"];
    let path = |content: &str| format!("/api/blobs/{}", BlobHash::of(content.as_bytes()));
    for content in contents {
        let stored = writer.post("/api/blobs").bytes(content).await;
        assert_eq!(stored.status, 201, "{stored:?}");
    }
    NOW.fetch_add(DAY / 2, Ordering::SeqCst);
    for (client, content) in [(&writer, contents[0]), (&reader, contents[1])] {
        let looked = client.call("HEAD", &path(content)).send().await;
        assert_eq!(looked.status, 200);
    }
    NOW.fetch_add(DAY / 2 + 1, Ordering::SeqCst);
    // Who cannot name anything keeps nothing.
    for content in &contents[1..] {
        eventually("it is gone", || async {
            reader.get(&path(content)).send().await.status == 404
        })
        .await;
    }
    assert_eq!(reader.get(&path(contents[0])).send().await.status, 200);
    let bytes = contents[1].len() + contents[2].len();
    for line in [
        "uspark_collected_total{kind=\"blob\"} 2".to_owned(),
        format!("uspark_collected_bytes_total {bytes}"),
    ] {
        eventually(&line, || async {
            let metrics = server.without_token().get("/metrics").send().await;
            let text = String::from_utf8(metrics.body.to_vec()).unwrap();
            text.lines().any(|other| other == line)
        })
        .await;
    }
}

/// Killed at any moment of a round, the directory is whole, and every file that was saved is there.
#[tokio::test(flavor = "multi_thread")]
async fn kill_9_in_a_collection_leaves_all_whole() {
    let data = tempfile::tempdir().unwrap();
    let settings = [
        "--blob-grace",
        "1s",
        "--keep-deleted",
        "1s",
        "--collect-every",
        "1s",
    ];
    let mut saved: Vec<(String, Vec<u8>)> = Vec::new();
    let mut token = None;
    for round in 0..4_u64 {
        let mut program = Program::quiet_with(data.path(), &settings);
        if token.is_none() {
            token = Some(program.token().0);
        }
        let client = program.client(token.as_deref().unwrap());
        if round == 0 {
            client
                .post("/api/projects")
                .json(json!({ "id": "p" }))
                .await;
        }
        for number in 0..300_u64 {
            // With a NUL at the end a binary; every tenth has a file of its own.
            let mut bytes = format!("{round} {number}").into_bytes();
            bytes.resize(if number % 10 == 0 { 70_000 } else { 40 }, 0);
            if number % 20 < 2 {
                let path = format!("/api/projects/p/files/{round}-{number}");
                let put = client.call("PUT", &path).bytes(bytes.clone()).await;
                assert_eq!(put.status, 200, "{put:?}");
                saved.push((path, bytes));
            } else {
                let stored = client.post("/api/blobs?project=p").bytes(bytes).await;
                assert_eq!(stored.status, 201, "{stored:?}");
            }
        }
        // When the grace of the first is over; the kill comes before, in, or after the round that sees it.
        tokio::time::sleep(Duration::from_millis(1400 + 300 * round)).await;
        program.end(Signal::KILL);
        let check = command(data.path()).arg("check").output().unwrap();
        let said = String::from_utf8_lossy(&check.stdout);
        assert!(check.status.success(), "after round {round}: {said}");
    }
    let program = Program::quiet_with(data.path(), &settings);
    let client = program.client(token.as_deref().unwrap());
    eventually("only what is named is left", || async {
        let check = command(data.path())
            .args(["check", "--json"])
            .output()
            .unwrap();
        let found: serde_json::Value = serde_json::from_slice(&check.stdout).unwrap();
        found["blobs"] == saved.len() && found["notes"].as_array().unwrap().is_empty()
    })
    .await;
    for (path, bytes) in &saved {
        assert_eq!(client.get(path).send().await.body, *bytes, "{path}");
    }
}
