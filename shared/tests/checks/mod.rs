//! What must hold of any bytes, whoever sent them: for the fuzz targets in `fuzz/`, and for the tests that replay
//! what these found. Each check panics where it does not hold.

mod agrees;

use std::collections::BTreeMap;

use uspark_shared::codec::awareness::{decode_awareness, encode_awareness};
use uspark_shared::codec::collab::{ClientFrame, ServerFrame};
use uspark_shared::codec::message::{Message, SyncMessage, decode_frame};
use uspark_shared::diff::diff;
use uspark_shared::replica::{
    ClientId, ProjectEdit, ProjectReplica, Replica, ReplicaError, TextReplica,
};
use uspark_shared::schema::Entry;
use uspark_shared::update::{scan, scan_state_vector};

pub use agrees::assert_agrees;

/// A frame: what is read is written, and read again, as the same.
pub fn frame(bytes: &[u8]) {
    for message in decode_frame(bytes).unwrap_or_default() {
        assert_eq!(decode_frame(&message.encode()), Ok(vec![message]));
    }
    if let Ok(frame) = ClientFrame::decode(bytes) {
        assert_eq!(ClientFrame::decode(&frame.encode()), Ok(frame));
    }
    if let Ok(frame) = ServerFrame::decode(bytes) {
        assert_eq!(ServerFrame::decode(&frame.encode()), Ok(frame));
    }
    if let Ok(entries) = decode_awareness(bytes) {
        assert_eq!(decode_awareness(&encode_awareness(&entries)), Ok(entries));
    }
}

/// An update, or a state vector: yrs reads what scans, as the same; and a document takes it once.
pub fn update(bytes: &[u8]) {
    let mut documents = Documents::new();
    documents.receive(SyncMessage::Step1(bytes));
    documents.receive(SyncMessage::Update(bytes));
    documents.receive(SyncMessage::Update(bytes));
    documents.assert_sound();
}

/// A frame of many messages, which one document after the other gets, as a server does with them.
pub fn session(bytes: &[u8]) {
    let mut documents = Documents::new();
    for message in decode_frame(bytes).unwrap_or_default() {
        if let Message::Sync(message) = message {
            documents.receive(message);
        }
    }
    documents.assert_sound();
}

/// A text and a project, both of which get everything.
pub struct Documents {
    text: TextReplica,
    project: ProjectReplica,
    /// What both have taken.
    log: Vec<Vec<u8>>,
    /// How often yrs panicked, and was caught.
    pub panics: usize,
}

impl Documents {
    /// Two documents that have been edited.
    pub fn new() -> Self {
        let text = TextReplica::new(client(1));
        let project = ProjectReplica::new(client(2));
        text.edit(&diff("", "what was there before, and ünits 😀"));
        project.edit(&[set("a/b.txt")]);
        Self {
            text,
            project,
            log: Vec::new(),
            panics: 0,
        }
    }

    /// Gives the documents a message, and whether it was taken.
    pub fn receive(&mut self, message: SyncMessage<'_>) -> bool {
        match message {
            SyncMessage::Step1(state_vector) => {
                let is_one = scan_state_vector(state_vector).is_ok();
                let text = self.text.diff(state_vector);
                let project = self.project.diff(state_vector);
                for answer in [text, project] {
                    assert_eq!(answer.is_ok(), is_one);
                    assert!(answer.is_err() || scan(&answer.expect("checked")).is_ok());
                }
                is_one
            }
            SyncMessage::Step2(update) | SyncMessage::Update(update) => self.update(update),
        }
    }

    fn update(&mut self, update: &[u8]) -> bool {
        let waited = self.text.waiting_bytes();
        let text = self.text.apply(update);
        let project = self.project.apply_project(update);
        let scanned = scan(update);
        if let Ok(scanned) = &scanned {
            assert_agrees(update, scanned);
        }
        for refused in [text.as_ref().err(), project.as_ref().err()] {
            assert_eq!(
                matches!(refused, Some(ReplicaError::Scan(_))),
                scanned.is_err()
            );
        }
        let is_taken = text.is_ok() && project.is_ok();
        let is_panic = |error: &ReplicaError| matches!(error, ReplicaError::Poisoned);
        self.panics += usize::from(text.as_ref().is_err_and(is_panic));
        self.panics += usize::from(project.as_ref().is_err_and(is_panic));
        if is_taken {
            self.log.push(update.to_vec());
        } else if self.text.is_poisoned() || self.project.is_poisoned() {
            self.rebuild();
        } else if scanned.is_err() {
            assert_eq!(self.text.waiting_bytes(), waited, "a part of it is kept");
        }
        is_taken
    }

    /// The documents again, from what they have taken.
    fn rebuild(&mut self) {
        let Self { log, panics, .. } = std::mem::take(self);
        self.panics = panics;
        for update in log {
            assert!(self.update(&update), "what was taken once is taken again");
        }
    }

    /// The documents can be read, written, stored and loaded.
    pub fn assert_sound(&self) {
        let text = self.text.text();
        let copy = TextReplica::new(client(3));
        copy.apply(&self.text.state())
            .expect("a state is an update");
        assert_eq!(characters(&copy.text()), characters(&text));
        assert_eq!(clocks(&copy), clocks(&self.text));

        let project = ProjectReplica::new(client(4));
        project
            .apply(&self.project.state())
            .expect("a state is an update");
        assert_eq!(clocks(&project), clocks(&self.project));

        let text = copy.text();
        let edited: String = text.chars().skip(text.len() / 4).chain(['!']).collect();
        if let Some(update) = copy.edit(&diff(&text, &edited)) {
            self.text.apply(&update).expect("an edit is an update");
        }
        project.edit(&[set("a/b.txt")]);
        assert!(project.entry(&"a/b.txt".parse().expect("a path")).is_some());
    }
}

fn clocks(replica: &Replica) -> BTreeMap<u64, u32> {
    let state_vector = scan_state_vector(&replica.state_vector()).expect("its own");
    state_vector.into_iter().collect()
}

/// What a text is made of. Its order may depend on that of the updates, where these contradict themselves.
fn characters(text: &str) -> Vec<char> {
    let mut characters: Vec<_> = text.chars().collect();
    characters.sort_unstable();
    characters
}

impl Default for Documents {
    fn default() -> Self {
        Self::new()
    }
}

fn set(path: &str) -> ProjectEdit {
    ProjectEdit::SetFile(path.parse().expect("a path"), Entry::Dir)
}

fn client(number: u8) -> ClientId {
    ClientId::from_random([number; 4])
}
