//! Many documents on one socket, and what is told of them.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_gets_every_texts_updates_once_joined_or_not() {
    let server = TestServer::start().await;
    let one = format!("p/{}", server.text("a.txt", "one\n").await);
    let two = format!("p/{}", server.text("b.txt", "two\n").await);
    let token = server.token(Access::Write).await;
    let (mut agent, mut person) = (collab(&server).await, collab(&server).await);
    agent.open("p", &token).await;
    agent.open(&one, &token).await;
    agent.say("p", CollabMessage::Stateless(FOLLOW)).await;
    let following = Told::Stateless(r#"{"following":"texts"}"#.into());
    assert_eq!(agent.told().await, ("p".into(), following));
    for name in [&one, &two] {
        let text = person.open(name, &token).await;
        for new in ["x\n", "x\ny\n"] {
            let update = typed(&text, new);
            person.update(name, &update).await;
            assert_eq!(person.told().await, (name.clone(), Status(true)));
            assert_eq!(agent.told().await, (name.clone(), Told::Update(update)));
        }
    }
    // Nothing came twice.
    agent.send(ClientFrame::Ping.encode()).await;
    assert_eq!(agent.frame().await, ServerFrame::Pong.encode());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_made_an_update_is_kept_with_who_is_known() {
    let server = TestServer::start().await;
    let doc = server.text("a.txt", "one\n").await;
    let (name, token) = (format!("p/{doc}"), server.token(Access::Write).await);
    let mut client = collab(&server).await;
    let text = client.open(&name, &token).await;
    let by = r#"{"by":{"run":"r1","toolUseId":"t1","tool":"Edit"}}"#;
    for (stateless, new) in [
        (by, "two\n"),
        ("not ours", "three\n"),
        (r#"{"by":null}"#, "four\n"),
    ] {
        client.say(&name, CollabMessage::Stateless(stateless)).await;
        client.update(&name, &typed(&text, new)).await;
        assert_eq!(client.heard().await, Status(true));
    }
    let name: DocumentName = name.parse().unwrap();
    let origins = server.store.origins(&name, 10).unwrap();
    let origins: Vec<_> = origins.into_iter().filter_map(|span| span.origin).collect();
    assert!(origins.iter().all(|origin| origin.token == *token.id()));
    let tools: Vec<_> = origins
        .iter()
        .map(|origin| origin.tool.as_deref())
        .collect();
    assert_eq!(tools, [None, Some("Edit")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_document_is_silent_and_can_be_opened_again() {
    let server = TestServer::start().await;
    let doc = server.text("a.txt", "one\n").await;
    let (name, token) = (format!("p/{doc}"), server.token(Access::Write).await);
    let (mut client, mut other) = (collab(&server).await, collab(&server).await);
    client.open(&name, &token).await;
    let text = other.open(&name, &token).await;
    client.say(&name, CollabMessage::Close { reason: "" }).await;
    client.send(ClientFrame::Ping.encode()).await;
    assert_eq!(client.frame().await, ServerFrame::Pong.encode());
    other.update(&name, &typed(&text, "two\n")).await;
    assert_eq!(other.heard().await, Status(true));
    // Opened and closed before the first token was looked at, and the last one counts.
    for _ in 0..5 {
        client.auth(&name, &token).await;
        client.say(&name, CollabMessage::Close { reason: "" }).await;
    }
    client.auth(&name, &token).await;
    client.ask(&name).await;
    loop {
        match client.heard().await {
            Told::Step2(update) => {
                let copy = replica(fresh());
                copy.apply(&update).unwrap();
                assert_eq!(copy.text(), "two\n");
                break;
            }
            Granted("write") | Told::Step1(_) => {}
            other => panic!("{other:?}"),
        }
    }
    let update = typed(&text, "three\n");
    other.update(&name, &update).await;
    // Once: no seat was left behind.
    assert_eq!(client.heard().await, Told::Update(update));
    client.send(ClientFrame::Ping.encode()).await;
    assert_eq!(client.frame().await, ServerFrame::Pong.encode());
}

#[tokio::test(flavor = "multi_thread")]
async fn providers_that_share_a_document_are_told_apart() {
    let server = TestServer::start().await;
    let doc = server.text("a.txt", "one\n").await;
    let token = server.token(Access::Write).await;
    let (one, two) = (format!("p/{doc}\0one"), format!("p/{doc}\0two"));
    let mut client = collab(&server).await;
    let text = client.open(&one, &token).await;
    client.open(&two, &token).await;
    let update = typed(&text, "two\n");
    client.update(&one, &update).await;
    let mut told = [client.told().await, client.told().await];
    told.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(
        told,
        [
            (one.clone(), Status(true)),
            (two.clone(), Told::Update(update))
        ]
    );
    client.say(&one, CollabMessage::Close { reason: "" }).await;
    client.ask(&two).await;
    let (address, Told::Step2(_)) = client.told().await else {
        panic!("the other stays")
    };
    assert_eq!(address, two);
}

#[tokio::test(flavor = "multi_thread")]
async fn awareness_is_of_a_document_and_comes_back_to_its_sender() {
    let server = TestServer::start().await;
    let name = format!("p/{}", server.text("a.txt", "one\n").await);
    let token = server.token(Access::Read).await;
    let (mut ann, mut bob) = (collab(&server).await, collab(&server).await);
    ann.open(&name, &token).await;
    bob.open(&name, &token).await;
    bob.open("p", &token).await;
    let state = Some("{}".to_owned());
    let here = encode_awareness(&[AwarenessEntry {
        client: 7,
        clock: 1,
        state,
    }]);
    ann.say(&name, CollabMessage::Awareness(&here)).await;
    let here = Told::Awareness(here.into());
    assert_eq!(ann.heard().await, here);
    assert_eq!(bob.told().await, (name.clone(), here.clone()));
    bob.say(&name, CollabMessage::QueryAwareness).await;
    assert_eq!(bob.told().await, (name.clone(), here));
    ann.say(&name, CollabMessage::Close { reason: "" }).await;
    let (address, Told::Awareness(gone)) = bob.told().await else {
        panic!("she left")
    };
    assert_eq!(address, name);
    assert!(String::from_utf8_lossy(&gone).contains("null"));
    assert_ne!(gone, EMPTY_AWARENESS);
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_leaves_every_seat() {
    let server = TestServer::with_timing(Timing {
        unload_text: Duration::from_millis(1),
        unload_project: Duration::from_millis(1),
        ..brief()
    })
    .await;
    let name = format!("p/{}", server.text("a.txt", "one\n").await);
    let token = server.token(Access::Write).await;
    let mut client = collab(&server).await;
    client.open("p", &token).await;
    client.open(&name, &token).await;
    client.auth("p/none", &token).await;
    client.close().await;
    assert!(matches!(client.next().await, Got::Closed(..)));
    eventually("the project leaves memory", async || {
        server.state.projects.count() == 0
    })
    .await;
    server.tasks_left(0).await;
}
