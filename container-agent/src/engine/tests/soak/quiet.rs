//! What is not a change is not sent.

use super::*;

/// Own writes, files that are only touched, and restarts: all equal, and nobody hears of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_echoed() {
    let row = Row::begin("own writes, touched files and restarts");
    let files = row.count(10_000, 100) / 2;
    let server = Double::new();
    let text = |n: usize| format!("d{}/f{n}", n % 50);
    for n in 0..files {
        server.text_file(&text(n), &format!("{n}\n"));
        server.binary_file(&format!("b{}/b{n}", n % 50), &n.to_be_bytes());
    }
    server.type_into(&text(1), |t| format!("{t}typed\n"));
    let place = Place::new();
    let mut agent = place.start(&server, Direction::Both).await;
    agent.equal_within(Duration::from_secs(120)).await;
    for n in 0..files {
        server.type_into(&text(n), |t| format!("{t}typed\n"));
    }
    agent.equal_within(Duration::from_secs(120)).await;
    let downloads = server.seen().downloads;
    for _ in 0..3 {
        place.sh("find . -type f -not -path './.uspark/*' -print0 | xargs -0 touch");
        agent.equal_within(Duration::from_secs(120)).await;
        let touched = modified(&place, &text(2));
        agent.kill().await;
        agent = place.start(&server, Direction::Both).await;
        agent.equal_within(Duration::from_secs(120)).await;
        assert_eq!(modified(&place, &text(2)), touched);
    }
    assert_eq!(server.tree(), place.tree());
    agent.finish().await;
    let seen = server.seen();
    assert!(
        seen.updates.is_empty() && seen.uploads.is_empty() && seen.sent == 0,
        "{seen:?}"
    );
    assert_eq!(seen.downloads, downloads, "what was there was fetched");
    row.held(format!(
        "{} files written, touched three times and found again after three kills: 0 updates, \
         0 blobs, nothing sent or fetched twice",
        2 * files
    ));
}

fn modified(place: &Place, path: &str) -> std::time::SystemTime {
    let metadata = std::fs::metadata(place.at(path)).unwrap();
    metadata.modified().unwrap()
}
