//! Who comes back and has everything, or all but a deletion.

use super::*;

/// What coming back may cost beside the deletions, in bytes.
const REJOIN: usize = 200;

/// Two people at a text that was edited and cut often, both with all of it.
async fn two_at_a_long_text(server: &Server) -> (Person, Person) {
    server.text_file("a", "a", "").await;
    let (mut ann, mut bert) = (
        server.person(Some("a")).await,
        server.person(Some("a")).await,
    );
    for round in 0..200 {
        let text = ann.text.text();
        ann.write(&format!("{text}line {round} that ann has typed\n"))
            .await;
        let text = ann.text.text();
        ann.write(&text.replacen(" that", "", 1)).await;
    }
    ann.is_saved(400).await;
    let text = ann.text.text();
    bert.sees(&text).await;
    (ann, bert)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_up_to_date_gets_the_deletions_and_no_more_and_nothing_is_read() {
    let server = Server::new().await;
    let (_ann, bert) = two_at_a_long_text(&server).await;
    bert.handle.leave(bert.id).await;
    let reads = server.store.reads();
    let again = server.sit(Some("a"), true).await.unwrap();
    let has = bert.text.state_vector();
    let deletions = bert.text.diff(&has).unwrap().len();
    let length = bert.text.text().len();
    assert!(deletions > 200 && length > 4_000, "{deletions} of {length}");
    again.say(SeatMessage::Step1(has.into())).await;
    let mut bytes = 0;
    loop {
        match again.outbox.next().await {
            Some(Next::Send(_, Outgoing::Step1(body))) => bytes += body.len(),
            Some(Next::Send(_, Outgoing::Step2(body))) => break bytes += body.len(),
            Some(Next::Send(_, Outgoing::Authenticated { .. })) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(
        bytes <= deletions + REJOIN,
        "{bytes} bytes for {deletions} of deletions"
    );
    assert_eq!(server.store.reads(), reads);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_that_one_side_missed_is_made_up_for_though_state_vectors_are_equal() {
    let server = Server::new().await;
    let (mut ann, bert) = two_at_a_long_text(&server).await;
    let cut = |text: &str| text.replacen("line", "", 1);
    // Bert is away when Ann cuts something.
    bert.handle.leave(bert.id).await;
    let less = cut(&ann.text.text());
    ann.write(&less).await;
    ann.is_saved(401).await;
    assert_eq!(ann.text.state_vector(), bert.text.state_vector());
    let mut back = server.sit(Some("a"), true).await.unwrap();
    back.text = bert.text;
    back.ask().await;
    assert_eq!(back.text.text(), less);
    // He cuts something while he is away, and brings it.
    back.handle.leave(back.id).await;
    let still_less = cut(&less);
    back.text.edit(&diff(&less, &still_less)).unwrap();
    let mut again = server.sit(Some("a"), true).await.unwrap();
    again.text = back.text;
    again.ask().await;
    ann.sees(&still_less).await;
}
