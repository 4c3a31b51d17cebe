//! A server that was restored from a backup asks for what it lacks.

use serde_json::json;
use uspark_shared::id::BlobHash;

use super::*;

#[tokio::test]
async fn what_the_server_lacks_it_is_given_again_and_nothing_else() {
    let (server, place) = (Double::new(), Place::new());
    for (path, bytes) in [("a.bin", [0_u8, 1]), ("b.bin", [0, 2]), ("c.bin", [0, 3])] {
        place.write(path, bytes);
    }
    server.text_file("t.txt", "one\n");
    let agent = place.watch(&server).await;
    server.type_into("t.txt", |text| format!("{text}two\n"));
    agent.equal().await;
    let (a, c) = (BlobHash::of(&[0, 1]), BlobHash::of(&[0, 3]));
    server.forget(&a);
    server.forget(&c);
    let doc = server.forget_edits("t.txt");
    assert_eq!(server.text("t.txt"), "one\n");
    let before = server.seen();
    let nobodys = BlobHash::of(b"nobody's");
    let unknown = "nobodys";
    let lacks = json!({"blobs": [a, nobodys, "no hash", 7], "texts": [doc, unknown, "../x"]});
    server.tell(&json!({ "lacks": lacks }).to_string());
    agent.equal().await;
    assert_eq!(server.text("t.txt"), "one\ntwo\n");
    let given = server.seen().uploads[before.uploads.len()..].to_vec();
    assert_eq!(given, [2]);
    server.forget(&a);
    // It may be asked again, whenever it was restored again.
    server.tell(&json!({ "lacks": { "blobs": [a, c] } }).to_string());
    agent.equal().await;
    let given = server.seen().uploads.len() - before.uploads.len();
    assert_eq!(given, 3);
    agent.finish().await;
}

#[tokio::test]
async fn what_cannot_be_given_now_is_given_later_and_waited_for() {
    let (server, place) = (Double::new(), Place::new());
    place.write("a.bin", [0_u8, 1]);
    let agent = place.watch(&server).await;
    let hash = BlobHash::of(&[0, 1]);
    server.forget(&hash);
    server.refuse_uploads(2);
    server.tell(&json!({ "lacks": { "blobs": [hash] } }).to_string());
    agent.equal().await;
    server.forget(&hash);
    // Another file has that name now, and is sent like any other.
    place.write("a.bin", [0_u8, 1, 2]);
    agent.equal().await;
    let before = server.seen().uploads.len();
    server.tell(&json!({ "lacks": { "blobs": [hash] } }).to_string());
    agent.equal().await;
    assert_eq!(server.seen().uploads.len(), before);
    agent.finish().await;
}

#[tokio::test]
async fn a_pull_gives_nothing() {
    let (server, place) = (Double::new(), Place::new());
    server.binary_file("a.bin", &[0, 1]);
    let agent = place.start(&server, Direction::Pull).await;
    agent.equal().await;
    let lacks = json!({ "blobs": [BlobHash::of(&[0, 1])] });
    server.tell(&json!({ "lacks": lacks }).to_string());
    agent.equal().await;
    assert!(server.seen().uploads.is_empty());
    agent.finish().await;
}
