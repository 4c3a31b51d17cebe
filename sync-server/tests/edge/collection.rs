//! What nothing needs any more goes by itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use uspark_shared::id::BlobHash;

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
