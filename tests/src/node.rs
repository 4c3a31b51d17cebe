//! The scripts of `tests/node`, spoken to in JSON lines: real Yjs clients, steered step by step.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    process::{ChildStdin, Command, Stdio},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, channel},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    Project,
    process::{Group, collect, show_if_panicking, text_of},
    programs::node_package,
};

/// Longer than a script waits for anything by itself, so that the script says what was missing.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running script; dropping it ends it.
pub struct Node {
    script: String,
    stdin: ChildStdin,
    answers: Receiver<Value>,
    /// Answers that came while another was awaited.
    early: HashMap<u64, Value>,
    next: u64,
    /// What the script, and the libraries in it, said on stderr.
    said: Arc<Mutex<Vec<u8>>>,
    _group: Group,
}

/// A command that was given and whose answer is still to come.
#[must_use]
pub struct Asked(u64);

impl Node {
    /// A client by yjs and y-websocket.
    #[track_caller]
    pub fn client(project: &Project) -> Self {
        Self::start("client.mjs", &[&project.url, &project.token])
    }

    /// A client by another generation of y-websocket: the name of its package in `tests/node`.
    #[track_caller]
    pub fn client_of(project: &Project, package: &str) -> Self {
        Self::start("client.mjs", &[&project.url, &project.token, package])
    }

    /// A client by yjs and @hocuspocus/provider.
    #[track_caller]
    pub fn collab(project: &Project) -> Self {
        Self::start("collab.mjs", &[&project.url, &project.token])
    }

    /// A client of the original protocol.
    #[track_caller]
    pub fn original(project: &Project) -> Self {
        Self::start("original.mjs", &[&project.url, &project.token])
    }

    /// Documents without any network.
    #[track_caller]
    pub fn ydoc() -> Self {
        Self::start("ydoc.mjs", &[])
    }

    /// Bare WebSockets.
    #[track_caller]
    pub fn raw(url: &str) -> Self {
        Self::start("raw.mjs", &[url])
    }

    /// Starts any script of the package.
    #[track_caller]
    pub fn start(script: &str, args: &[&str]) -> Self {
        let mut command = Command::new("node");
        command
            .arg(node_package().join(script))
            .args(args)
            .env_remove("NODE_OPTIONS");
        let mut group = Group::start(
            command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped()),
        );
        let said = Arc::default();
        collect(group.child.stderr.take().expect("stderr is piped"), &said);
        let stdin = group.child.stdin.take().expect("stdin is piped");
        let stdout = BufReader::new(group.child.stdout.take().expect("stdout is piped"));
        let (sender, answers) = channel();
        thread::spawn(move || {
            // A line that is no JSON ends the reading, and with it every call.
            let lines = stdout.lines().map_while(Result::ok);
            let parsed = lines.map_while(|line| serde_json::from_str(&line).ok());
            for answer in parsed {
                if sender.send(answer).is_err() {
                    return;
                }
            }
        });
        Self {
            script: script.to_owned(),
            stdin,
            answers,
            early: HashMap::new(),
            next: 0,
            said,
            _group: group,
        }
    }

    /// Gives a command and waits for its answer; panics when it fails.
    #[track_caller]
    pub fn call(&mut self, command: &str, arguments: Value) -> Value {
        let asked = self.ask(command, arguments);
        self.answer(asked)
    }

    /// Gives a command and waits for its answer, or for what went wrong.
    #[track_caller]
    pub fn try_call(&mut self, command: &str, arguments: Value) -> Result<Value, String> {
        let asked = self.ask(command, arguments);
        self.try_answer(asked)
    }

    /// Gives a command and goes on.
    #[track_caller]
    pub fn ask(&mut self, command: &str, mut arguments: Value) -> Asked {
        self.next += 1;
        arguments["id"] = json!(self.next);
        arguments["do"] = json!(command);
        let sent = self.stdin.write_all(format!("{arguments}\n").as_bytes());
        assert!(sent.is_ok(), "{} ended before {arguments}", self.script);
        Asked(self.next)
    }

    /// Waits for the answer of a command; panics when it failed.
    #[track_caller]
    pub fn answer(&mut self, asked: Asked) -> Value {
        match self.try_answer(asked) {
            Ok(value) => value,
            Err(error) => panic!("{}: {error}", self.script),
        }
    }

    #[track_caller]
    fn try_answer(&mut self, asked: Asked) -> Result<Value, String> {
        loop {
            if let Some(mut answer) = self.early.remove(&asked.0) {
                return match answer["error"].as_str() {
                    Some(error) => Err(error.to_owned()),
                    None => Ok(answer["value"].take()),
                };
            }
            let Ok(answer) = self.answers.recv_timeout(PATIENCE) else {
                panic!(
                    "{} ended, or gave no answer within {PATIENCE:?}",
                    self.script
                );
            };
            let id = answer["id"].as_u64().expect("an answer names its request");
            self.early.insert(id, answer);
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        show_if_panicking(&self.script, &text_of(&self.said));
    }
}

/// The bytes that a script wrote in hex.
#[track_caller]
pub fn from_hex(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().expect("bytes are in hex");
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("two digits"))
        .collect()
}

/// Bytes in hex, for a script.
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
