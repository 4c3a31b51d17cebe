//! What is told of each change, and whom it is put down to.

use std::sync::Mutex;

use super::*;
use crate::project::By;
use crate::store::{FileState, Happening, Origin};

impl Server {
    /// Each event as a line: what, where, the beginning of the hash, who.
    fn told(&self) -> Vec<String> {
        let page = self.inner.events(&self.project, 0, 1000).unwrap().unwrap();
        let numbers: Vec<u64> = page.events.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, (1..=page.last).collect::<Vec<_>>());
        let line = |(_, event): (u64, crate::store::EventRecord)| {
            let who: Vec<_> = event.who.iter().chain(&event.also).map(said).collect();
            format!("{} by {}", happened(&event.what), who.join(", "))
        };
        page.events.into_iter().map(line).collect()
    }

    /// What was told since `told` had this many.
    fn told_after(&self, count: usize) -> Vec<String> {
        self.told().split_off(count)
    }
}

fn happened(what: &Happening) -> String {
    let state = |FileState { kind, hash }: &FileState| {
        let hash = hash.map_or_else(String::new, |hash| hash.to_string()[..8].to_owned());
        format!("{kind:?} {hash}")
    };
    match what {
        Happening::Created { path, file } => format!("+ {path} {}", state(file)),
        Happening::Changed { path, file } => format!("* {path} {}", state(file)),
        Happening::Deleted { path, file } => format!("- {path} {}", state(file)),
        Happening::Moved { path, from, file } => format!("{from} > {path} {}", state(file)),
        Happening::Line { line, text, .. } => format!("{line}: {text}"),
    }
}

/// The tool, or the token.
fn said(who: &Origin) -> String {
    who.tool.clone().unwrap_or_else(|| who.token.to_string())
}

fn event(what: &str, content: &str, who: &str) -> String {
    let hash = BlobHash::of(content.as_bytes()).to_string();
    format!("{what} {} by {who}", &hash[..8])
}

const TOKEN: &str = "abcdefghijkl";

async fn with_tool(person: &Person, tool: &str) {
    let by = By {
        run: Some("run".into()),
        tool_use_id: None,
        tool: Some(tool.into()),
    };
    person.say(SeatMessage::By(Some(by))).await;
}

/// Edits the project as somebody.
async fn edit(server: &Server, edits: &[ProjectEdit]) {
    let update = server.replica().await.edit(edits).unwrap();
    server.patch(update).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_update_is_told_in_its_own_group_of_writes() {
    let server = Server::new().await;
    let groups = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&groups);
    server.store.fail_when(move |batch| {
        for group in batch {
            let is = |is: fn(&Write) -> bool| group.iter().any(is);
            let appends =
                is(|write| matches!(write, Write::Append { name, .. } if name.text.is_none()));
            let tells = is(|write| matches!(write, Write::Events { .. }));
            seen.lock().unwrap().push((appends, tells));
        }
        None
    });
    server.text_file("a.txt", "d", "one\n").await;
    let binary = Entry::Blob {
        hash: server.blob("b\0").await,
        size: 2,
        mode: 0o644,
        mtime: 7,
    };
    edit(&server, &[set("b.bin", binary), set("dir", Entry::Dir)]).await;
    let moved = text("d", BlobHash::of(b"one\n"));
    edit(
        &server,
        &[
            set("c/d.txt", moved),
            ProjectEdit::RemoveFile("a.txt".into()),
        ],
    )
    .await;
    let link = Entry::Link { target: "c".into() };
    edit(
        &server,
        &[set("dir", link), ProjectEdit::RemoveFile("b.bin".into())],
    )
    .await;
    let expected = [
        event("+ a.txt Text", "one\n", TOKEN),
        event("+ b.bin Binary", "b\0", TOKEN),
        format!("+ dir Dir  by {TOKEN}"),
        event("a.txt > c/d.txt Text", "one\n", TOKEN),
        event("- b.bin Binary", "b\0", TOKEN),
        format!("* dir Link  by {TOKEN}"),
    ];
    assert_eq!(server.told(), expected);
    let groups = groups.lock().unwrap();
    assert_eq!(groups.iter().filter(|(_, tells)| *tells).count(), 4);
    assert!(
        groups.iter().all(|(appends, tells)| appends == tells),
        "{groups:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_is_told_when_it_settles_with_all_who_edited_it() {
    let server = Server::new().await;
    server.text_file("a.txt", "d", "one\n").await;
    let (mut ann, mut claude) = (
        server.person(Some("d")).await,
        server.person(Some("d")).await,
    );
    with_tool(&claude, "Edit").await;
    ann.write("one\ntwo\n").await;
    claude.sees("one\ntwo\n").await;
    claude.write("one\ntwo\nthree\n").await;
    claude.is_saved(1).await;
    assert_eq!(server.told().len(), 1, "nothing is settled yet");
    server.manifest().await;
    let who = format!("Edit, {TOKEN}");
    let now = event("* a.txt Text", "one\ntwo\nthree\n", &who);
    assert_eq!(server.told_after(1), [now]);
    // Once, and what comes to the same is nothing.
    claude.write("other").await;
    claude.write("one\ntwo\nthree\n").await;
    claude.is_saved(3).await;
    server.manifest().await;
    assert_eq!(server.told().len(), 2);

    // After a kill the last of them is known.
    with_tool(&claude, "Write").await;
    claude.write("four\n").await;
    claude.is_saved(4).await;
    let server = server.restart();
    server.manifest().await;
    let now = event("* a.txt Text", "four\n", "Write");
    assert_eq!(server.told_after(2), [now]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_deletes_a_text_did_not_edit_it() {
    let server = Server::new().await;
    server.text_file("a.txt", "d", "one\n").await;
    let mut claude = server.person(Some("d")).await;
    with_tool(&claude, "Edit").await;
    claude.write("two\n").await;
    claude.is_saved(1).await;
    let update = {
        let author = ProjectReplica::new(client());
        let state = server
            .inner
            .load(&uspark_shared::id::DocumentName::of_project(
                server.project.clone(),
            ));
        for update in state.unwrap().updates {
            author.apply(&update).unwrap();
        }
        author
            .edit(&[ProjectEdit::RemoveFile("a.txt".into())])
            .unwrap()
    };
    server.patch(update).await.unwrap();
    let expected = [
        event("* a.txt Text", "two\n", "Edit"),
        event("- a.txt Text", "two\n", TOKEN),
    ];
    assert_eq!(server.told_after(1), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_puts_right_is_its_own_doing() {
    let server = Server::new().await;
    server.text_file("a.txt", "d", "one\n").await;
    let state = server.state().await;
    // Two copies of one document: each path is told once, and by whom it was set.
    let seed = BlobHash::of(b"one\n");
    edit(&server, &[set("copy.txt", text("d", seed))]).await;
    assert_eq!(
        server.told_after(1),
        [event("+ copy.txt Text", "one\n", TOKEN)]
    );
    // Two values for one path, unknown to each other: the loser is kept by the server.
    for content in ["of ann\n", "of bob\n"] {
        let hash = server.blob(content).await;
        let author = ProjectReplica::new(client());
        author.apply(&state).unwrap();
        let id = content.replace([' ', '\n'], "-");
        server
            .patch(author.edit(&[set("new.txt", text(&id, hash))]).unwrap())
            .await
            .unwrap();
    }
    let told = server.told_after(2);
    let (kept, set): (Vec<_>, Vec<_>) = told.iter().partition(|line| line.contains("conflict"));
    assert!(kept.len() == 1 && kept[0].ends_with(" by "), "{told:?}");
    assert!(
        set.iter()
            .all(|line| line.contains(" new.txt ") && line.ends_with(TOKEN)),
        "{told:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_the_original_protocol_is_told_once() {
    let server = Server::new().await;
    server.text_file("a.txt", "d", "one\n").await;
    let write = async |at: &str, content: &str| {
        let hash = server.blob(content).await;
        edit(&server, &[set(at, Entry::Original { hash, mtime: 9 })]).await;
    };
    write("new.txt", "new\n").await;
    write("a.txt", "two\n").await;
    server.manifest().await;
    let expected = [
        event("+ new.txt Text", "new\n", TOKEN),
        event("* a.txt Text", "two\n", TOKEN),
    ];
    assert_eq!(server.told_after(1), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_becomes_binary_is_told_by_its_author() {
    let server = Server::new().await;
    server.text_file("a.txt", "d", "one\n").await;
    let mut ann = server.person(Some("d")).await;
    ann.write("one\0\n").await;
    ann.is_saved(1).await;
    server.manifest().await;
    assert_eq!(
        server.told_after(1),
        [event("* a.txt Binary", "one\0\n", TOKEN)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_did_not_become_durable_was_never_told() {
    let server = Server::new().await;
    server.text_file("a.txt", "d", "one\n").await;
    let gone = ProjectEdit::RemoveFile("a.txt".into());
    let update = server.replica().await.edit(&[gone]).unwrap();
    let full = crate::store::StoreError::Full {
        place: "disk".into(),
    };
    server.store.fail_after(0, full);
    let mut ann = server.person(Some("d")).await;
    assert!(server.patch(update.clone()).await.is_err());
    // The project has left memory.
    ann.is_told("refused 1013").await;
    server.store.heal();
    assert_eq!(server.told().len(), 1);
    server.patch(update).await.unwrap();
    assert_eq!(
        server.told_after(1),
        [event("- a.txt Text", "one\n", TOKEN)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn loading_a_project_tells_nothing() {
    let server = Server::new().await;
    server.text_file("a.txt", "d", "one\n").await;
    let server = server.restart();
    server.manifest().await;
    server.text_file("b.txt", "e", "two\n").await;
    assert_eq!(
        server.told_after(1),
        [event("+ b.txt Text", "two\n", TOKEN)]
    );
}
