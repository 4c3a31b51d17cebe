//! The real `sync-server`, as a process with a data directory of its own.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Curl, Ended, Entry, Reply, Running, SOON, Tree, eventually, pause, program};

/// The name of a backup in its directory.
const BACKUP: &str = "backup";

/// A server; it ends, and its data are deleted, when it is dropped.
pub struct Server {
    data: PathBuf,
    /// Deleted with the server.
    _directories: Vec<TempDir>,
    /// `http://127.0.0.1:<port>`; the port stays over restarts.
    pub url: String,
    /// The token of the first administrator.
    pub token: String,
    running: Option<Running>,
}

impl Server {
    /// Starts a server on a free port with no data.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_by(Command::new(program("sync-server")))
    }

    /// Starts a server by a command that takes the server's own arguments at its end.
    #[track_caller]
    pub fn start_by(mut command: Command) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let data = directory.path().to_owned();
        let mut running = Running::start(with_arguments(&mut command, "127.0.0.1:0", &data));
        let url = running.wait_line("listening on ");
        let token = running.wait_line("admin token: ");
        Self {
            data,
            _directories: vec![directory],
            url,
            token,
            running: Some(running),
        }
    }

    /// Ends the server at once, with SIGKILL.
    #[track_caller]
    pub fn kill9(&mut self) {
        self.running.take().expect("the server runs").kill9();
    }

    /// Ends the server as an operator does, with SIGTERM.
    #[track_caller]
    pub fn terminate(&mut self) -> Ended {
        self.running.take().expect("the server runs").terminate()
    }

    /// Starts the server again, on the same port and data.
    #[track_caller]
    pub fn restart(&mut self) {
        self.restart_with(&[]);
    }

    /// The same with further arguments.
    #[track_caller]
    pub fn restart_with(&mut self, arguments: &[&str]) {
        let address = self.address();
        self.running = Some(eventually(SOON, || {
            let mut command = Command::new(program("sync-server"));
            command.args(arguments);
            let mut running = Running::start(with_arguments(&mut command, &address, &self.data));
            // A client that is trying to connect may hold the port for a moment.
            let said = eventually(SOON, || {
                let said = running.stdout();
                ensure!(
                    said.contains("listening on ") || !running.is_running(),
                    "the server says {said:?}"
                );
                Ok(said)
            });
            ensure!(
                said.contains("listening on "),
                "the server ended: {}",
                running.stderr()
            );
            Ok(running)
        }));
    }

    /// Starts the server that has ended, and kills it again after a while, wherever it is then.
    #[track_caller]
    pub fn start_and_kill9(&self, after: Duration) {
        let mut command = Command::new(program("sync-server"));
        let running = Running::start(with_arguments(&mut command, &self.address(), &self.data));
        pause(after);
        running.kill9();
    }

    /// Verifies the data directory with `sync-server check`.
    #[track_caller]
    pub fn check(&self) -> Ended {
        let mut command = Command::new(program("sync-server"));
        Running::start(command.args(["check", "--data"]).arg(&self.data)).wait()
    }

    fn address(&self) -> String {
        self.url.trim_start_matches("http://").to_owned()
    }

    /// Copies the data directory, as an operator does while the server serves.
    #[track_caller]
    pub fn backup(&self) -> TempDir {
        let place = TempDir::new().expect("a temporary directory");
        let mut command = Command::new(program("sync-server"));
        command.arg("backup").arg(place.path().join(BACKUP));
        Running::start(command.arg("--data").arg(&self.data))
            .wait()
            .expect_code(0);
        place
    }

    /// Starts the server that has ended on a backup, on the same port.
    #[track_caller]
    pub fn restore(&mut self, backup: TempDir) {
        self.data = backup.path().join(BACKUP);
        self._directories.push(backup);
        self.restart();
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.data.clone()
    }

    /// The number that its metrics say of this.
    pub fn metric(&self, name: &str) -> anyhow::Result<usize> {
        let url = format!("{}/metrics", self.url);
        let text = Curl::without_token(url).try_send()?.text();
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        let found = lines.find(|(other, _)| *other == name);
        let (_, value) = found.with_context(|| format!("no {name} in {text}"))?;
        Ok(value.parse()?)
    }

    /// The process id.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        self.running.as_ref().expect("the server runs").pid()
    }

    /// A request with the administrator's token; `path` starts with a slash.
    pub fn curl(&self, path: &str) -> Curl {
        Curl::new(format!("{}{path}", self.url), &self.token)
    }

    /// Makes a project.
    #[track_caller]
    pub fn project(&self) -> Project {
        let made = self
            .curl("/api/projects")
            .json(&json!({"name": "a test"}))
            .expect(201)
            .json();
        let id = made["id"].as_str().expect("a project has an id").to_owned();
        Project {
            id,
            url: self.url.clone(),
            token: self.token.clone(),
        }
    }
}

/// A project, as the administrator sees it over HTTP.
pub struct Project {
    /// Its id.
    pub id: String,
    /// The server's URL.
    pub url: String,
    /// A token that may do everything.
    pub token: String,
}

impl Project {
    /// A request below `/api/projects/{id}`.
    pub fn curl(&self, path: &str) -> Curl {
        Curl::new(
            format!("{}/api/projects/{}{path}", self.url, self.id),
            &self.token,
        )
    }

    /// A request for a file by its path.
    pub fn file(&self, path: &str) -> Curl {
        self.curl(&format!("/files/{}", percent_encoded(path)))
    }

    /// Writes a file.
    #[track_caller]
    pub fn put(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.file(path).method("PUT").body(bytes).ok();
    }

    /// Uploads a blob; returns its hash.
    #[track_caller]
    pub fn store(&self, bytes: &[u8]) -> String {
        let url = format!("{}/api/blobs?project={}", self.url, self.id);
        let reply = Curl::new(url, &self.token)
            .method("POST")
            .body(bytes)
            .expect(201)
            .json();
        assert_eq!(reply["size"], bytes.len(), "{reply}");
        reply["hash"]
            .as_str()
            .expect("a blob has a hash")
            .to_owned()
    }

    /// Applies an update by PATCH.
    #[track_caller]
    pub fn patch(&self, update: impl Into<Vec<u8>>) -> Reply {
        self.curl("").method("PATCH").body(update).expect(200)
    }

    /// A file's bytes.
    pub fn read(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        let reply = self.file(path).try_send()?;
        ensure!(
            reply.status == 200,
            "GET {path}: {} {}",
            reply.status,
            reply.text()
        );
        Ok(reply.body)
    }

    /// A file's text.
    pub fn text(&self, path: &str) -> anyhow::Result<String> {
        Ok(String::from_utf8(self.read(path)?)?)
    }

    /// The manifest's `files`.
    pub fn manifest(&self) -> anyhow::Result<Value> {
        let reply = self
            .curl("")
            .header("accept", "application/json")
            .try_send()?;
        ensure!(
            reply.status == 200,
            "the manifest: {} {}",
            reply.status,
            reply.text()
        );
        Ok(reply.json()["files"].take())
    }

    /// Every event of the project until now, as curl follows them.
    #[track_caller]
    pub fn events(&self) -> Vec<Value> {
        static MARKS: AtomicUsize = AtomicUsize::new(0);
        let mark = format!("mark-{}", MARKS.fetch_add(1, Ordering::Relaxed));
        // A run of its own, whose line is the last event.
        let call = self.curl(&format!("/events?run={mark}&from=1"));
        call.method("POST").body("the end").expect(200);
        let following = self.follow("");
        let said = eventually(SOON, || {
            let said = following.stdout();
            ensure!(
                said.contains(&mark) && said.ends_with("\n\n"),
                "curl: {said}"
            );
            Ok(said)
        });
        let is_mark = |event: &Value| {
            event["run"]
                .as_str()
                .is_some_and(|run| run.starts_with("mark-"))
        };
        let events = events_in(&said).into_iter();
        events.filter(|event| !is_mark(event)).collect()
    }

    /// A curl that follows the events after this id, or all of them.
    #[track_caller]
    pub fn follow(&self, id: &str) -> Running {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--no-buffer", "--header"])
            .arg(format!("authorization: Bearer {}", self.token))
            .args(["--header", &format!("last-event-id: {id}")])
            .arg(format!("{}/api/projects/{}/events", self.url, self.id));
        Running::start(&mut curl)
    }

    /// The lines of runs among the events.
    #[track_caller]
    pub fn lines(&self) -> Vec<String> {
        let events = self.events();
        let lines = events.iter().filter(|event| event["what"] == "line");
        lines
            .map(|event| {
                event["text"]
                    .as_str()
                    .expect("a line has a text")
                    .to_owned()
            })
            .collect()
    }

    /// The name of the text document of a file, as a client opens it: `{project}/{doc}`.
    #[track_caller]
    pub fn document(&self, path: &str) -> String {
        let doc = eventually(SOON, || {
            let manifest = self.manifest()?;
            let doc = manifest[path]["doc"].as_str().map(str::to_owned);
            doc.with_context(|| format!("{path} is no text in {manifest}"))
        });
        format!("{}/{doc}", self.id)
    }

    /// Everything in the project, to be compared with a workspace.
    pub fn tree(&self) -> anyhow::Result<Tree> {
        let manifest = self.manifest()?;
        let files = manifest.as_object().context("`files` is an object")?;
        files
            .iter()
            .map(|(path, entry)| Ok((path.clone(), self.entry(path, entry)?)))
            .collect()
    }

    fn entry(&self, path: &str, entry: &Value) -> anyhow::Result<Entry> {
        if let Some(target) = entry["link"].as_str() {
            return Ok(Entry::Link(target.to_owned()));
        }
        if entry.get("hash").is_none() {
            return Ok(Entry::Directory);
        }
        let bytes = self.read(path)?;
        let mode = entry["mode"]
            .as_u64()
            .with_context(|| format!("no mode in {entry}"))?;
        Ok(Entry::File {
            mode: u32::try_from(mode)?,
            bytes,
        })
    }
}

fn with_arguments<'a>(command: &'a mut Command, listen: &str, data: &Path) -> &'a mut Command {
    command
        .env_remove("RUST_LOG")
        .args(["--listen", listen, "--data"])
        .arg(data)
}

/// The events in what a server has sent.
pub fn events_in(stream: &str) -> Vec<Value> {
    let events = stream
        .lines()
        .filter_map(|line| line.strip_prefix("data: "));
    events
        .map(|data| serde_json::from_str(data).expect("an event is JSON"))
        .collect()
}

/// A path as it is written in a URL.
fn percent_encoded(path: &str) -> String {
    let encoded = path.bytes().map(|byte| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
            char::from(byte).to_string()
        }
        byte => format!("%{byte:02X}"),
    });
    encoded.collect()
}
