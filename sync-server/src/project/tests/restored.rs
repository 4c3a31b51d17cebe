//! A server that was restored from a backup, and clients that hold more than it.

use super::*;

const BYTES: &str = "\0binary";

/// What clients of an earlier server hold: an edited text, one that nobody edited, an empty one, and a binary.
struct Held {
    project: Bytes,
    edited: Vec<u8>,
    unedited: Vec<u8>,
    files: HashMap<String, String>,
}

impl Held {
    async fn new() -> Self {
        let server = Server::new().await;
        server.text_file("edited.txt", "edited", "one\n").await;
        server
            .text_file("unedited.txt", "unedited", "as it was\n")
            .await;
        server.text_file("empty.txt", "empty", "").await;
        let mut ann = server.person(Some("edited")).await;
        ann.write("one\ntwo\n").await;
        ann.is_saved(1).await;
        let entry = blob(server.blob(BYTES).await);
        let author = server.replica().await;
        let patched = server.patch(author.edit(&[set("b.bin", entry)]).unwrap());
        patched.await.unwrap();
        Self {
            // It settles.
            files: server.files().await,
            project: server.state().await,
            edited: ann.text.state(),
            unedited: server.person(Some("unedited")).await.text.state(),
        }
    }
}

fn blob(hash: BlobHash) -> Entry {
    Entry::Blob {
        hash,
        size: BYTES.len() as u64,
        mode: 0o644,
        mtime: 7,
    }
}

/// Somebody who follows the project.
async fn follower(server: &Server, may_write: bool) -> Person {
    let mut follower = server.try_person(None, may_write).await.unwrap();
    follower.say(SeatMessage::Follow).await;
    follower.is_told("following").await;
    follower
}

/// A server that waits for texts as long as it takes.
async fn patient() -> Server {
    let server = Server::new().await;
    let timing = Timing {
        unknown_document: Duration::from_secs(3600),
        ..timing()
    };
    Server::over(server.inner, server.directory, timing, AMPLE)
}

/// Somebody at a document who comes with its state.
async fn holder(server: &Server, document: &str, state: &[u8]) -> Person {
    let mut holder = server.sit(Some(document), true).await.unwrap();
    holder.text.apply(state).unwrap();
    holder.ask().await;
    holder
}

impl Person {
    fn asked(&self) -> Vec<&String> {
        let lacks = |told: &&String| told.contains("lacks");
        self.told.iter().filter(lacks).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_lacks_it_asks_of_those_who_follow_and_takes_from_whoever_has_it() {
    let held = Held::new().await;
    let server = Server::new().await;
    let mut ann = follower(&server, true).await;
    let mut reader = follower(&server, false).await;
    let mut giver = server.person(None).await;
    giver.say(SeatMessage::Update(held.project.clone())).await;
    giver.is_saved(1).await;
    let asked = format!(
        r#"{{"lacks":{{"blobs":["{}"],"texts":[]}}}}"#,
        BlobHash::of(BYTES.as_bytes())
    );
    ann.is_told(&asked).await;
    ann.is_told(r#""edited""#).await;
    ann.is_told(r#""unedited""#).await;
    assert!(server.files().await.is_empty());

    // Who has nothing of a text, or only a part, brings nothing.
    let mut empty = server.person(Some("edited")).await;
    empty.is_told("refused 4404").await;
    let typed = TextReplica::new(client());
    let typed = typed.edit(&diff("", "typed into nothing")).unwrap();
    let mut other = holder(&server, "edited", &typed).await;
    other.is_told("refused 4404").await;
    assert!(server.files().await.is_empty());

    let mut bob = holder(&server, "edited", &held.edited).await;
    bob.is_saved(1).await;
    let mut cat = holder(&server, "unedited", &held.unedited).await;
    cat.is_saved(1).await;
    // As clients answer who have nothing to give.
    let mut dan = server.sit(Some("empty"), true).await.unwrap();
    dan.say(SeatMessage::Update(Bytes::from_static(&[0, 0])))
        .await;
    dan.is_saved(1).await;
    server.blob(BYTES).await;
    assert_eq!(server.files().await, held.files);
    bob.write("one\ntwo\nthree\n").await;
    bob.is_saved(2).await;

    // Whoever comes later is asked for nothing, and readers never were.
    let late = follower(&server, true).await;
    assert!(late.asked().is_empty(), "{:?}", late.told);
    reader.say(SeatMessage::Follow).await;
    reader
        .until(|person| {
            let follows = |told: &&String| told.contains("following");
            person.told.iter().filter(follows).count() == 2
        })
        .await;
    assert!(reader.asked().is_empty(), "{:?}", reader.told);
    let server = server.restart();
    let mut files = held.files.clone();
    files.insert("edited.txt".into(), "one\ntwo\nthree\n".into());
    assert_eq!(server.files().await, files);
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_do_not_pile_up_for_who_reads_none() {
    let held = Held::new().await;
    let server = Server::new().await;
    let mut slow = follower(&server, true).await;
    // More than may wait for it; then more comes.
    let long = ["x"; 4].map(|part| part.repeat(250)).join("/");
    let many = (0..1500).map(|number| set(&format!("{long}/{number}"), Entry::Dir));
    let many: Vec<_> = many.collect();
    let author = ProjectReplica::new(client());
    server.patch(author.edit(&many).unwrap()).await.unwrap();
    server.patch(held.project.to_vec()).await.unwrap();
    slow.is_told("refused 1013").await;
    assert!(slow.asked().is_empty());
    // It comes back, and is asked.
    let mut back = follower(&server, true).await;
    back.is_told(r#""edited""#).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_asking_when_it_was_started_again() {
    let held = Held::new().await;
    let server = Server::new().await;
    server.patch(held.project.to_vec()).await.unwrap();
    let server = server.restart();
    let mut ann = follower(&server, true).await;
    ann.is_told(&BlobHash::of(BYTES.as_bytes()).to_string())
        .await;
    ann.is_told(r#""edited""#).await;
    server.blob(BYTES).await;
    // A seed that comes makes a text of it as well; the edits come with the document.
    server.blob("one\n").await;
    let mut bob = holder(&server, "edited", &held.edited).await;
    bob.is_saved(1).await;
    let files = server.files().await;
    assert_eq!(files["edited.txt"], held.files["edited.txt"]);
    assert_eq!(files["b.bin"], held.files["b.bin"]);
    assert!(!files.contains_key("unedited.txt"));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_text_that_it_has_it_asks_for_newer_edits() {
    let held = Held::new().await;
    let server = Server::new().await;
    server.text_file("edited.txt", "edited", "one\n").await;
    let mut ann = follower(&server, true).await;
    server.patch(held.project.to_vec()).await.unwrap();
    ann.is_told(r#""texts":["edited"]"#).await;
    assert_eq!(server.files().await["edited.txt"], "one\n");
    let mut bob = holder(&server, "edited", &held.edited).await;
    bob.is_saved(1).await;
    assert_eq!(server.files().await["edited.txt"], "one\ntwo\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_text_gets_it_however_it_comes() {
    let held = Held::new().await;
    let server = patient().await;
    // Before the entry came; and a reader, who can bring nothing.
    let writes = async {
        let mut bob = server.sit(Some("edited"), true).await.unwrap();
        bob.text.apply(&held.edited).unwrap();
        bob.ask().await;
    };
    let reads = async {
        let mut reader = server.sit(Some("edited"), false).await.unwrap();
        reader.ask().await;
        reader.sees("one\ntwo\n").await;
    };
    let all = async { tokio::join!(writes, reads, server.patch(held.project.to_vec())) };
    let all = tokio::time::timeout(Duration::from_secs(10), all).await;
    all.unwrap().2.unwrap();
    // By its seed, after somebody asked.
    let mut ann = server.sit(Some("unedited"), true).await.unwrap();
    ann.say(SeatMessage::Step1(Bytes::from_static(&[0]))).await;
    server.blob("as it was\n").await;
    ann.sees("as it was\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_too_much_about_a_text_that_nobody_brings_is_refused_and_the_text_can_still_come()
{
    let held = Held::new().await;
    let server = patient().await;
    server.patch(held.project.to_vec()).await.unwrap();
    let mut hostile = server.sit(Some("edited"), true).await.unwrap();
    for number in 0..=1024_u32 {
        let text = TextReplica::new(ClientId::from_random(number.to_le_bytes()));
        let update = text.edit(&diff("", "x")).unwrap();
        hostile.say(SeatMessage::Update(update.into())).await;
    }
    hostile.is_told("refused 4404").await;
    assert_eq!(hostile.saved, 0);
    let mut bob = holder(&server, "edited", &held.edited).await;
    bob.is_saved(1).await;
    assert_eq!(server.files().await["edited.txt"], "one\ntwo\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_before_the_text_came_is_not_lost() {
    let held = Held::new().await;
    let server = Server::new().await;
    server.patch(held.project.to_vec()).await.unwrap();
    // An edit that waits for the text; then the text. Both are acknowledged.
    let author = TextReplica::new(client());
    author.apply(&held.edited).unwrap();
    let typed = author
        .edit(&diff("one\ntwo\n", "one\ntwo\nthree\n"))
        .unwrap();
    let mut bob = server.sit(Some("edited"), true).await.unwrap();
    for update in [typed, held.edited.clone()] {
        bob.say(SeatMessage::Update(update.into())).await;
    }
    bob.is_saved(2).await;
    assert_eq!(server.files().await["edited.txt"], "one\ntwo\nthree\n");
    let server = server.restart();
    assert_eq!(server.files().await["edited.txt"], "one\ntwo\nthree\n");
}
