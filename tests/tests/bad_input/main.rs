//! Bad input: each gets one clear error where the user is looking, and nothing else is harmed.

use serde_json::json;
use uspark_tests::{Ended, Node, Project};

mod access;
mod disk;
mod entries;
mod frames;
mod paths;

/// An editor of another document of the same project, who must not notice anything.
struct Bystander {
    client: Node,
    document: String,
}

impl Bystander {
    fn new(project: &Project) -> Self {
        project.put("bystander.txt", "text");
        let (mut client, document) = (Node::client(project), project.document("bystander.txt"));
        client.call("open", json!({"document": document}));
        Self { client, document }
    }

    /// Typing is still saved, over the same connection.
    #[track_caller]
    fn assert_unharmed(&mut self) {
        self.client.call(
            "insert",
            json!({"document": self.document, "at": 0, "text": "still "}),
        );
        self.client
            .call("waitSaved", json!({"document": self.document}));
        assert_eq!(
            self.client
                .call("closes", json!({"document": self.document})),
            0,
            "the connection was lost"
        );
    }
}

/// The command failed and said one line that names the thing, with a hint what to do.
#[track_caller]
fn assert_hint(ended: Ended, named: &str) {
    assert_ne!(ended.code, 0, "{ended}");
    assert!(
        ended.stderr.contains(named),
        "{named:?} is not named\n{ended}"
    );
    assert!(
        ended
            .stderr
            .lines()
            .any(|line| line.trim_start().starts_with("hint:")),
        "no hint\n{ended}"
    );
    assert!(!ended.stderr.contains("panicked"), "{ended}");
}
