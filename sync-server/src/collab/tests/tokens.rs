//! Tokens that end, and tokens that follow others, on open sockets.

use tokio::time::sleep;

use super::*;
use crate::config::system_clock;

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_token_changes_the_rights_of_a_seat_and_opens_no_gap() {
    let server = TestServer::start().await;
    server.project("other").await;
    let name = format!("p/{}", server.text("a.txt", "one\n").await);
    let (writer, reader) = (
        server.token(Access::Write).await,
        server.token(Access::Read).await,
    );
    let foreign = server.token_until("other", Access::Write, None).await;
    let (mut client, mut other) = (collab(&server).await, collab(&server).await);
    client.open("p", &writer).await;
    client.say("p", CollabMessage::Stateless(FOLLOW)).await;
    client.heard().await;
    let text = other.open(&name, &writer).await;
    client.auth("p", &reader).await;
    assert_eq!(client.told().await, ("p".into(), Granted("read")));
    client.update("p", &[0, 0]).await;
    assert_eq!(client.heard().await, Status(false));
    // It still follows.
    let update = typed(&text, "two\n");
    other.update(&name, &update).await;
    assert_eq!(client.told().await, (name, Told::Update(update)));
    // The old token does not count any more.
    server.revoke(writer.id()).await;
    assert_eq!(other.closed().await.1, 4401);
    let again = server.token(Access::Write).await;
    client.auth("p", &again).await;
    assert_eq!(client.heard().await, Granted("write"));
    let Told::Step1(_) = client.heard().await else {
        panic!("the server asks what it refused")
    };
    client.auth("p", &foreign).await;
    assert_eq!(client.heard().await, Denied);
    assert_eq!(client.heard().await, Closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_ends_its_documents_and_with_the_last_the_socket() {
    let server = TestServer::start().await;
    let name = format!("p/{}", server.text("a.txt", "one\n").await);
    let (one, two) = (
        server.token(Access::Write).await,
        server.token(Access::Write).await,
    );
    let (mut client, mut other) = (collab(&server).await, collab(&server).await);
    client.open("p", &one).await;
    let text = client.open(&name, &two).await;
    other.open(&name, &one).await;
    server.revoke(two.id()).await;
    assert_eq!(client.told().await, (name.clone(), Denied));
    assert_eq!(client.told().await, (name.clone(), Closed));
    // What is written with it does not arrive.
    client.update(&name, &typed(&text, "two\n")).await;
    client.ask("p").await;
    let (address, Told::Step2(_)) = client.told().await else {
        panic!("the other one stays")
    };
    assert_eq!(address, "p");
    other.ask(&name).await;
    let Told::Step2(update) = other.heard().await else {
        panic!("an answer")
    };
    let copy = replica(fresh());
    copy.apply(&update).unwrap();
    assert_eq!(copy.text(), "one\n");

    let start = std::time::Instant::now();
    server.revoke(one.id()).await;
    let (frames, code, _) = client.closed().await;
    assert_eq!(code, 4401);
    assert!(start.elapsed() < Duration::from_secs(1));
    let denied = ServerFrame::decode(&frames[0]).unwrap();
    let is_denial = |message| {
        matches!(
            message,
            CollabMessage::Auth(ServerAuth::PermissionDenied { .. })
        )
    };
    assert!(matches!(denied, CollabFrame::Document { message, .. } if is_denial(message)));
    assert_eq!(frames.len(), 2, "and the document is closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_end_with_their_tokens_time() {
    let server = TestServer::start().await;
    let name = format!("p/{}", server.text("a.txt", "one\n").await);
    let end = system_clock() + 300;
    let brief = server.token_until("p", Access::Read, Some(end)).await;
    let longer = server.token_until("p", Access::Read, Some(end + 300)).await;
    let mut client = collab(&server).await;
    client.open(&name, &brief).await;
    client.open("p", &longer).await;
    assert_eq!(client.told().await, (name.clone(), Denied));
    assert_eq!(client.told().await, (name, Closed));
    assert!((end..end + 1000).contains(&system_clock()));
    assert_eq!(client.closed().await.1, 4401);
    assert!((end + 300..end + 1300).contains(&system_clock()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_revoked_while_its_document_is_awaited_opens_nothing() {
    let timing = Timing {
        unknown_document: Duration::from_millis(700),
        ..brief()
    };
    let server = TestServer::with_timing(timing).await;
    let (token, other) = (
        server.token(Access::Write).await,
        server.token(Access::Write).await,
    );
    let mut client = collab(&server).await;
    client.open("p", &other).await;
    client.auth("p/later", &token).await;
    // Its seat is being awaited once the token was looked at.
    client.send(ClientFrame::Ping.encode()).await;
    client.frame().await;
    sleep(Duration::from_millis(100)).await;
    server.revoke(token.id()).await;
    server.text_of("later.txt", "later", "one\n").await;
    let mut told = Vec::new();
    while told.last() != Some(&Closed) {
        match client.told().await {
            (address, Told::Update(_)) if address == "p" => {}
            (address, of_later) if address == "p/later" => told.push(of_later),
            other => panic!("{other:?}"),
        }
    }
    assert!(told.contains(&Denied), "{told:?}");
    client.ask("p/later").await;
    client.ask("p").await;
    loop {
        match client.told().await {
            (address, Told::Step2(_)) if address == "p" => break,
            (address, Told::Update(_)) if address == "p" => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_with_the_right_to_is_answered_before_what_was_not() {
    let server = TestServer::start().await;
    let name = format!("p/{}", server.text("a.txt", "one\n").await);
    let (writer, reader) = (
        server.token(Access::Write).await,
        server.token(Access::Read).await,
    );
    let mut client = collab(&server).await;
    let text = client.open(&name, &writer).await;
    // Known before the store is held: looking it up is a read.
    client.open("p", &reader).await;
    server.store.hold();
    client.update(&name, &typed(&text, "two\n")).await;
    client.auth(&name, &reader).await;
    assert_eq!(client.told().await, (name.clone(), Granted("read")));
    client.update(&name, &typed(&text, "three\n")).await;
    client.send(ClientFrame::Ping.encode()).await;
    assert_eq!(client.frame().await, ServerFrame::Pong.encode());
    server.store.release();
    assert_eq!(client.heard().await, Status(true));
    assert_eq!(client.heard().await, Status(false));
}
