//! A home, a workspace, perhaps an agent: what a test of the binary needs around it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use container_agent::control::message::{LinkView, Reason};
use container_agent::control::{Agent, ControlServer, ReportView, StatusView, ToolStart};
use container_agent::disk::observe::UNREADABLE;
use container_agent::engine::{MassDelete, Meant};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use uspark_shared::path::FilePath;

/// Longest wait for anything: a test that waits so long has failed.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Directories of its own, and no variable of ours.
pub struct Sandbox {
    directory: TempDir,
    pub agent: FakeAgent,
    server: Option<ControlServer>,
}

/// What a finished program left.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

/// Notes what it is told, and says of the workspace what the test wants.
#[derive(Clone, Default)]
pub struct FakeAgent {
    told: Arc<Mutex<Vec<String>>>,
    report: Arc<Mutex<ReportView>>,
}

impl Sandbox {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["home", "work", "bin"] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
        Self {
            directory,
            agent: FakeAgent::default(),
            server: None,
        }
    }

    /// The same, with an agent that holds the workspace and finds everything equal.
    pub fn with_agent() -> Self {
        let mut sandbox = Self::new();
        std::fs::create_dir(sandbox.work().join(".uspark")).unwrap();
        sandbox.agent.set_left(&[]);
        let agent = sandbox.agent.clone();
        sandbox.server = Some(ControlServer::start(&sandbox.work(), agent).unwrap());
        sandbox
    }

    pub fn work(&self) -> PathBuf {
        self.directory.path().join("work").canonicalize().unwrap()
    }

    pub fn home(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    /// Puts a shell script on the program's PATH.
    pub fn script(&self, name: &str, text: &str) {
        let path = self.directory.path().join("bin").join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// `uspark` with `arguments`, in the workspace, with nothing in its environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_uspark"));
        let bin = self.directory.path().join("bin");
        command
            .args(arguments)
            .current_dir(self.work())
            .env_clear()
            .env("HOME", self.home())
            .env("PATH", format!("{}:/usr/bin:/bin", bin.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs `uspark` with `arguments` and an empty standard input.
    pub async fn uspark(&self, arguments: &[&str]) -> Ended {
        end(self.command(arguments).spawn().unwrap(), b"").await
    }
}

/// Gives `input` to the program and waits for its end.
pub async fn end(mut child: Child, input: &[u8]) -> Ended {
    let mut stdin = child.stdin.take();
    let feed = async {
        if let Some(stdin) = &mut stdin {
            // A program that does not read has ended; its code tells.
            let _ = stdin.write_all(input).await;
        }
        drop(stdin.take());
    };
    let both = async { tokio::join!(feed, child.wait_with_output()).1.unwrap() };
    let output = tokio::time::timeout(DEADLINE, both)
        .await
        .expect("the program ends");
    Ended {
        code: output.status.code().expect("no signal ends the program"),
        stdout: output.stdout,
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Waits until the program has printed exactly `expected`.
pub async fn expect_stdout(child: &mut Child, expected: &str) {
    let mut bytes = vec![0; expected.len()];
    let read = child.stdout.as_mut().unwrap().read_exact(&mut bytes);
    tokio::time::timeout(DEADLINE, read)
        .await
        .expect("it is printed in time")
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes), expected);
}

/// Sends a signal by its name, such as `TERM`.
pub fn send(child: &Child, signal: &str) {
    let id = child.id().expect("it still runs").to_string();
    let sent = std::process::Command::new("kill")
        .args(["-s", signal, &id])
        .status()
        .unwrap();
    assert!(sent.success());
}

impl Ended {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap()
    }

    /// Checks that it failed with `code`, said `message`, and what to do about it.
    #[track_caller]
    pub fn assert_failed(&self, code: i32, message: &str) {
        assert_eq!(self.code, code, "{self:?}");
        assert!(
            self.stderr.contains(message),
            "no `{message}` in {}",
            self.stderr
        );
        assert!(self.stderr.contains("\nhint: "), "{}", self.stderr);
    }
}

impl FakeAgent {
    /// What it was told, in order.
    pub fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }

    /// What barriers find left from now on.
    pub fn set_left(&self, left: &[&str]) {
        let reason = |path: &&str| Reason {
            path: Some((*path).to_owned()),
            why: "the test says so".to_owned(),
        };
        *self.report.lock().unwrap() = ReportView {
            done: left.is_empty(),
            equal: left.is_empty(),
            pending: left.iter().map(reason).collect(),
            ..ReportView::default()
        };
    }

    /// What barriers find that this user may not read from now on; all else is equal.
    pub fn set_unreadable(&self, paths: &[&str]) {
        self.set_left(&[]);
        let reason = |path: &&str| Reason {
            path: Some((*path).to_owned()),
            why: UNREADABLE.to_owned(),
        };
        self.report.lock().unwrap().skipped = paths.iter().map(reason).collect();
    }

    /// What barriers find held from now on.
    pub fn set_held(&self, held: &[&str]) {
        self.set_left(held);
        self.report.lock().unwrap().held = held.len() as u64;
    }

    /// So many of them were deleted in the project.
    pub fn set_held_here(&self, held: u64) {
        self.report.lock().unwrap().held_here = held;
    }

    fn note(&self, what: String) {
        self.told.lock().unwrap().push(what);
    }
}

impl Agent for FakeAgent {
    async fn status(&self) -> StatusView {
        StatusView {
            pid: 4711,
            command: "watch".into(),
            project: "p".parse().unwrap(),
            server: "http://127.0.0.1:1".parse().unwrap(),
            link: LinkView::Online,
            report: self.report.lock().unwrap().clone(),
            unacknowledged: 2,
            last_acknowledged: Some(1),
            watches: 3,
            watches_allowed: Some(1000),
            events: 0,
            files: 5,
        }
    }

    async fn barrier(&self, _: Duration, meant: Meant) -> ReportView {
        self.note(match meant.mass_delete {
            MassDelete::Held => "barrier".into(),
            passes => format!("barrier, deletions: {passes:?}"),
        });
        self.report.lock().unwrap().clone()
    }

    async fn unknown(&self, paths: Vec<FilePath>) -> Vec<Reason> {
        let unknown = paths
            .into_iter()
            .filter(|path| path.as_str().contains("nosuch"));
        unknown
            .map(|path| Reason {
                why: format!("there is no `{path}` here or in the project"),
                path: Some(path.into()),
            })
            .collect()
    }

    fn tool_started(&self, call: ToolStart) {
        let paths: Vec<_> = call
            .paths
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        self.note(format!(
            "started {} {} {}",
            call.id,
            call.name,
            paths.join(" ")
        ));
    }

    fn tool_finished(&self, id: &str) {
        self.note(format!("finished {id}"));
    }
}

/// A server's address at which nobody listens.
pub fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// A stream in which a file is written, with everything around it that may come along.
pub fn claude_stream(work: &Path) -> Vec<u8> {
    let tool = |id: &str, file: &str| {
        format!(
            r#"{{"type":"assistant","message":{{"content":[{{"type":"tool_use","id":"{id}","name":"Write","input":{{"file_path":"{}"}}}}]}}}}"#,
            work.join(file).display()
        )
    };
    let result = |id: &str| {
        format!(
            r#"{{"type":"user","message":{{"content":[{{"type":"tool_result","tool_use_id":"{id}"}}]}},"tool_use_result":"Error: x"}}"#
        )
    };
    let mut stream = Vec::new();
    for line in [
        r#"{"type":"system","subtype":"init"}"#.to_owned(),
        "[SandboxDebug] no JSON".into(),
        tool("t1", "a.txt"),
        format!(
            "{{\"type\":\"future\",\"x\":\"{}\"}}\r",
            "y".repeat(3_000_000)
        ),
        result("t1"),
        String::new(),
        tool("t2", "b.txt"),
        result("t2"),
    ] {
        stream.extend_from_slice(line.as_bytes());
        stream.push(b'\n');
    }
    stream.extend_from_slice(b"\xff\xfe not UTF-8, and no newline at the end");
    stream
}

/// What an agent is told of [`claude_stream`], before the barriers.
pub fn claude_calls(work: &Path) -> Vec<String> {
    ["a.txt", "b.txt"]
        .iter()
        .zip(["t1", "t2"])
        .flat_map(|(file, id)| {
            let path = work.join(file);
            [
                format!("started {id} Write {}", path.display()),
                format!("finished {id}"),
            ]
        })
        .collect()
}
