//! The servers that are measured: ours and the peers, each started here with its documented defaults and
//! its persistence on, and ended when it is dropped.

use std::fmt;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use tempfile::TempDir;
use uspark_shared::id::{BlobHash, DocId};
use uspark_shared::replica::{ClientId, ProjectEdit, ProjectReplica};
use uspark_shared::schema::Entry;
use uspark_tests::{Curl, Running, SOON, Server, eventually, program};

use crate::client::Target;

/// A kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Ours, by y-websocket.
    Uspark,
    /// `@y/websocket-server` with y-leveldb.
    YWebsocket,
    /// `@hocuspocus/server` with its SQLite extension.
    Hocuspocus,
    /// y-sweet with a directory.
    YSweet,
}

/// A server that runs.
pub struct Runs {
    peer: Peer,
    /// Ours.
    server: Option<Server>,
    /// A peer, and where it listens.
    process: Option<(Running, u16)>,
    _data: TempDir,
    documents: usize,
}

impl Peer {
    /// All of them, ours first.
    pub const ALL: [Self; 4] = [
        Self::Uspark,
        Self::YWebsocket,
        Self::Hocuspocus,
        Self::YSweet,
    ];

    /// Why it cannot be measured here, and what to do about it.
    pub fn missing(self) -> Option<&'static str> {
        let there = match self {
            Self::Uspark => true,
            Self::YWebsocket | Self::Hocuspocus => node_package().join("node_modules").is_dir(),
            Self::YSweet => y_sweet().is_some(),
        };
        let hint = match self {
            Self::YSweet => "`cargo install y-sweet --version 0.9.1 --locked`",
            _ => "`scripts/install-node-package.sh bench/node`",
        };
        (!there).then_some(hint)
    }

    /// Starts it on fresh data.
    pub fn start(self) -> anyhow::Result<Runs> {
        let data = TempDir::new()?;
        let server = (self == Self::Uspark).then(|| {
            let mut command = Command::new(program("sync-server"));
            // All clients are one here.
            command.args(["--max-token-sockets", "10000"]);
            Server::start_by(command)
        });
        let process = match self {
            Self::Uspark => None,
            peer => Some(peer.launch(data.path())?),
        };
        Ok(Runs {
            peer: self,
            server,
            process,
            _data: data,
            documents: 0,
        })
    }

    fn launch(self, data: &Path) -> anyhow::Result<(Running, u16)> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let node = |script: &str| {
            let mut command = Command::new("node");
            command.arg(node_package().join(script));
            command
        };
        let mut command = match self {
            Self::YWebsocket => {
                let mut command = node("node_modules/@y/websocket-server/src/server.js");
                command
                    .env("HOST", "127.0.0.1")
                    .env("PORT", port.to_string());
                command.env("YPERSISTENCE", data);
                command
            }
            Self::Hocuspocus => {
                let mut command = node("hocuspocus.mjs");
                command.arg(port.to_string()).arg(data.join("db.sqlite"));
                command
            }
            Self::YSweet => {
                let mut command = Command::new(y_sweet().context("y-sweet is not installed")?);
                command.args(["serve", "--host", "127.0.0.1", "--port"]);
                command.arg(port.to_string()).arg(data);
                command.env("RUST_LOG", "off");
                command
            }
            Self::Uspark => unreachable!("it is started by the harness"),
        };
        let running = Running::start(&mut command);
        eventually(SOON, || {
            std::net::TcpStream::connect(("127.0.0.1", port))
                .with_context(|| format!("{self} does not listen: {}", running.stderr()))
        });
        Ok((running, port))
    }
}

impl Runs {
    /// The process id.
    pub fn pid(&self) -> u32 {
        match (&self.server, &self.process) {
            (Some(server), _) => server.pid(),
            (None, Some((running, _))) => running.pid(),
            (None, None) => unreachable!("something was started"),
        }
    }

    /// New documents, empty.
    pub fn documents(&mut self, count: usize) -> anyhow::Result<Vec<Target>> {
        let first = self.documents;
        self.documents += count;
        let names = (first..self.documents).map(|n| format!("bench-{n}"));
        match &self.server {
            Some(server) => ours(server, names),
            None => {
                let port = self.process.as_ref().context("it runs")?.1;
                names.map(|name| self.peer.document(port, name)).collect()
            }
        }
    }
}

/// A project of empty text files.
fn ours(server: &Server, names: impl Iterator<Item = String>) -> anyhow::Result<Vec<Target>> {
    let project = server.project();
    project.store(b"");
    let replica = ProjectReplica::new(ClientId::from_random(fastrand::u32(..).to_ne_bytes()));
    let (mut edits, mut targets) = (Vec::new(), Vec::new());
    for name in names {
        let doc: DocId = name.parse()?;
        let entry = Entry::Text {
            doc,
            seed: BlobHash::of_empty(),
            mode: 0o644,
            mtime: 0,
        };
        edits.push(ProjectEdit::SetFile(name.parse()?, entry));
        let host = server.url.trim_start_matches("http://");
        targets.push(Target {
            url: format!(
                "ws://{host}/ws/{}/{name}?token={}",
                project.id, server.token
            ),
            framed: None,
        });
    }
    project.patch(replica.edit(&edits).context("there are files")?);
    Ok(targets)
}

impl Peer {
    fn document(self, port: u16, name: String) -> anyhow::Result<Target> {
        let framed = (self == Self::Hocuspocus).then(|| name.clone());
        let url = match self {
            Self::YSweet => {
                let base = format!("http://127.0.0.1:{port}/doc");
                let post = |path: String, body| {
                    let reply = Curl::without_token(path).method("POST").json(&body).send();
                    ensure!(reply.status == 200, "{}: {}", reply.status, reply.text());
                    Ok(reply.json())
                };
                post(format!("{base}/new"), serde_json::json!({ "docId": name }))?;
                let auth = post(format!("{base}/{name}/auth"), serde_json::json!({}))?;
                let url = auth["url"].as_str().context("y-sweet gives a URL")?;
                let token = auth["token"].as_str();
                let query = token.map_or(String::new(), |token| format!("?token={token}"));
                format!("{url}/{name}{query}")
            }
            Self::Hocuspocus => format!("ws://127.0.0.1:{port}/"),
            Self::YWebsocket | Self::Uspark => format!("ws://127.0.0.1:{port}/{name}"),
        };
        Ok(Target { url, framed })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uspark => "uspark",
            Self::YWebsocket => "y-websocket-server",
            Self::Hocuspocus => "Hocuspocus",
            Self::YSweet => "y-sweet",
        })
    }
}

fn node_package() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("node")
}

/// Where `cargo install` put it.
fn y_sweet() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut places = std::env::split_paths(&path).map(|directory| directory.join("y-sweet"));
    places.find(|place| fs::metadata(place).is_ok())
}
