//! Who is let in, and for how long.

use std::time::Duration;

use super::*;
use crate::config::system_clock;

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_gets_everything_and_is_told_that_it_changes_nothing() {
    let server = TestServer::start().await;
    let doc = server.text("a.txt", "one\n").await;
    let mut reader = server.ws(&format!("p/{doc}"), Access::Read).await;
    reader.send(STEP1_OF_NOTHING).await;
    // No SyncStep1 of the server's before it.
    let step2 = reader.frame().await;
    assert!(step2.starts_with(&STEP2));
    let text = replica(1);
    text.apply(sync(&step2)).unwrap();
    assert_eq!(text.text(), "one\n");
    reader.send(typed(&text, "two\n")).await;
    assert_eq!(
        reader.frame().await,
        Message::AuthDenied(READ_ONLY).encode()
    );
    // A padded type is the same type.
    let update = text.state();
    let mut padded = vec![0x80, 0x00, 0x82, 0x00];
    padded.extend(&Message::Sync(SyncMessage::Update(&update)).encode()[2..]);
    reader.send(padded).await;
    assert_eq!(
        reader.frame().await,
        Message::AuthDenied(READ_ONLY).encode()
    );
    reader.send(STEP1_OF_NOTHING).await;
    assert_eq!(reader.frame().await, step2);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_no_right_is_let_in_told_and_closed() {
    let server = TestServer::start().await;
    server.project("other").await;
    let token = server.token(Access::Read).await.reveal();
    let revoked = server.token(Access::Read).await;
    server.revoke(revoked.id()).await;
    let over = Some(system_clock() - 1);
    let expired = server.token_until("p", Access::Read, over).await.reveal();
    let forged = format!(
        "{}{}",
        &token[..60],
        if token.ends_with('a') { 'b' } else { 'a' }
    );
    let cases = [
        ("/ws/p".to_owned(), 4401),
        ("/ws/p?token=".to_owned(), 4401),
        ("/ws/p?token=secret".to_owned(), 4401),
        (format!("/ws/p?token={forged}"), 4401),
        (format!("/ws/p?token={}", revoked.reveal()), 4401),
        (format!("/ws/p?token={expired}"), 4401),
        // A foreign project is told as one that does not exist.
        (format!("/ws/other?token={token}"), 4404),
        (format!("/ws/none?token={token}"), 4404),
        (format!("/ws/p/none?token={token}"), 4404),
        (format!("/ws/p%2Fx?token={token}"), 4400),
        (format!("/ws/{}?token={token}", "x".repeat(65)), 4400),
    ];
    let mut reasons = Vec::new();
    for (path, code) in cases {
        let mut client = server.connect(&path).await;
        let (frames, closed, reason) = client.closed().await;
        assert_eq!((closed, frames.len()), (code, 1), "{path}: {reason}");
        assert!(matches!(
            decode_frame(&frames[0]).unwrap()[..],
            [Message::AuthDenied(_)]
        ));
        assert!(reason.len() <= 123 && !reason.contains("uspk_"), "{reason}");
        reasons.push(reason);
    }
    assert_eq!(reasons[6], reasons[7]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_come_in_headers_and_subprotocols_too() {
    let server = TestServer::start().await;
    let token = server.token(Access::Write).await.reveal();
    let bearer = format!("bearer {token}");
    let mut client = server
        .connect_with("/ws/p", &[("authorization", &bearer)])
        .await;
    assert_eq!(client.frame().await, STEP1_OF_NOTHING);
    assert_eq!(
        client.response.headers().get("sec-websocket-protocol"),
        None
    );

    let both = format!("{token}, uspark");
    for (offered, answer) in [(&both, "uspark"), (&token, token.as_str())] {
        let headers = [("sec-websocket-protocol", offered.as_str())];
        let mut client = server.connect_with("/ws/p", &headers).await;
        assert_eq!(client.frame().await, STEP1_OF_NOTHING);
        assert_eq!(client.response.headers()["sec-websocket-protocol"], answer);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_closes_its_sockets_within_a_second_and_no_other() {
    let server = TestServer::start().await;
    let (one, other) = (
        server.token(Access::Write).await,
        server.token(Access::Write).await,
    );
    let path = |token: &Token| format!("/ws/p?token={}", token.reveal());
    let mut first = server.connect(&path(&one)).await;
    let mut second = server.connect(&path(&one)).await;
    let mut stays = server.connect(&path(&other)).await;
    for client in [&mut first, &mut second, &mut stays] {
        client.frame().await;
    }
    let start = std::time::Instant::now();
    server.revoke(one.id()).await;
    assert_eq!(first.closed().await.1, 4401);
    assert_eq!(second.closed().await.1, 4401);
    assert!(start.elapsed() < Duration::from_secs(1));
    stays.send(STEP1_OF_NOTHING).await;
    assert_eq!(stays.frame().await, STEP2_OF_NOTHING);
    // Back with the same token.
    assert_eq!(server.connect(&path(&one)).await.closed().await.1, 4401);
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_ends_a_socket_that_reads_nothing() {
    let server = TestServer::start().await;
    let doc = server.text("a.txt", "").await;
    let name = format!("p/{doc}");
    let (mut author, text) = server.person(&name, 1).await;
    let token = server.token(Access::Read).await;
    let tasks = server.state.tasks.len();
    let stalled = server
        .connect(&format!("/ws/{name}?token={}", token.reveal()))
        .await;
    // More than the kernel holds for a connection.
    for round in 0..80 {
        let update = typed(&text, &format!("{round} ").repeat(40_000));
        author.send(update.clone()).await;
        assert_eq!(author.frame().await, update);
    }
    let start = std::time::Instant::now();
    server.revoke(token.id()).await;
    server.tasks_left(tasks).await;
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
    drop(stalled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_ends_with_its_tokens_time() {
    let server = TestServer::start().await;
    let end = system_clock() + 300;
    let token = server.token_until("p", Access::Read, Some(end)).await;
    let mut client = server
        .connect(&format!("/ws/p?token={}", token.reveal()))
        .await;
    client.send(STEP1_OF_NOTHING).await;
    assert_eq!(client.frame().await, STEP2_OF_NOTHING);
    assert_eq!(client.closed().await.1, 4401);
    let late = system_clock() - end;
    assert!(late < 1000, "{late} ms late");
}
