//! A tree of files, brought from one place to another by uspark and by what people use else.
//!
//! All lies below the directory for temporary files: `TMPDIR=/dev/shm` measures without a disk. Every copy
//! goes to a fresh directory, and all are deleted at the end: making files where others were just deleted
//! is up to twenty times as slow on ext4 without a journal.
#![allow(clippy::disallowed_methods, reason = "a bench makes its own files")]

use std::fmt;
use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;
use uspark_tests::{Project, Running, SOON, Server, eventually, program};

use crate::relay::relay;

/// How far away the far server is, each way.
const FAR: Duration = Duration::from_millis(25);

/// A way to bring a tree over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// `uspark pull` to an empty directory.
    Pull,
    /// `uspark push` to an empty project.
    Push,
    /// `uspark pull` with nothing to do.
    PullNothing,
    /// `uspark push` with nothing to do.
    PushNothing,
    /// `uspark pull` of one file that has changed.
    PullOne,
    /// `uspark pull` to an empty directory from a server that is [`FAR`].
    PullFar,
    /// `git clone` from `git daemon`, of one commit in one pack.
    GitClone,
    /// `rsync -a` from its daemon.
    Rsync,
    /// `rsync -a` to its daemon.
    RsyncUp,
    /// One `tar` over TCP.
    Tar,
    /// One `tar` over TCP, from [`FAR`].
    TarFar,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pull => "uspark pull",
            Self::Push => "uspark push",
            Self::PullNothing => "uspark pull, nothing to do",
            Self::PushNothing => "uspark push, nothing to do",
            Self::PullOne => "uspark pull, one file",
            Self::PullFar => "uspark pull, far",
            Self::GitClone => "git clone",
            Self::Rsync => "rsync -a from a daemon",
            Self::RsyncUp => "rsync -a to a daemon",
            Self::Tar => "tar over TCP",
            Self::TarFar => "tar over TCP, far",
        })
    }
}

/// A tree, and everything that gives it out. Other people's servers are started when they are needed.
pub struct Source {
    directory: TempDir,
    server: Server,
    project: Project,
    git: Option<(Running, u16)>,
    rsync: Option<(Running, u16)>,
    copies: usize,
}

impl Source {
    /// Makes a tree of so many files, 8 KB each in the mean, and a project of it.
    pub fn start(files: usize) -> anyhow::Result<Self> {
        let directory = TempDir::new()?;
        let tree = directory.path().join("tree");
        make_tree(&tree, files)?;
        let server = Server::start();
        let project = server.project();
        let source = Self {
            git: None,
            rsync: None,
            directory,
            server,
            project,
            copies: 0,
        };
        source.uspark(&source.tree(), &source.project, &["push", "--all"], None)?;
        let known = source.directory.path().join("known");
        fs::create_dir(&known)?;
        source.uspark(&known, &source.project, &["pull"], None)?;
        source.check(&known)?;
        Ok(source)
    }

    fn tree(&self) -> PathBuf {
        self.directory.path().join("tree")
    }

    /// Goes one way; gives how long it took, in milliseconds. What arrived is compared.
    pub fn go(&mut self, way: Way) -> anyhow::Result<f64> {
        self.copies += 1;
        let to = self.directory.path().join(format!("copy-{}", self.copies));
        let (tree, known) = (self.tree(), self.directory.path().join("known"));
        match way {
            Way::Pull | Way::PullFar => {
                fs::create_dir(&to)?;
                let host = self.server.url.trim_start_matches("http://");
                let far = match way {
                    Way::PullFar => Some(relay(host.parse()?, FAR)?),
                    _ => None,
                };
                let took = self.uspark(&to, &self.project, &["pull"], far)?;
                self.check(&to)?;
                Ok(took)
            }
            Way::Push => {
                // As it was before anything was pushed; what it remembers is made anew.
                fs::remove_dir_all(tree.join(".uspark"))?;
                let project = self.server.project();
                self.uspark(&tree, &project, &["push", "--all"], None)
            }
            Way::PullNothing => self.uspark(&known, &self.project, &["pull"], None),
            Way::PushNothing => self.uspark(&known, &self.project, &["push"], None),
            Way::PullOne => {
                let line = format!("changed for copy {}\n", self.copies);
                self.project.put("d0/e0/f0.txt", line.clone());
                let took = self.uspark(&known, &self.project, &["pull"], None)?;
                ensure!(fs::read_to_string(known.join("d0/e0/f0.txt"))? == line);
                Ok(took)
            }
            Way::GitClone => {
                let url = format!("git://127.0.0.1:{}/repository.git", self.git()?);
                let mut git = Command::new("git");
                let took = timed(git.args(["clone", "-q", &url]).arg(&to))?;
                fs::remove_dir_all(to.join(".git"))?;
                self.check(&to)?;
                Ok(took)
            }
            Way::Rsync => {
                let url = format!("rsync://127.0.0.1:{}/tree/", self.rsync()?);
                let took = timed(&mut rsync_of_tree(&url, &to.display().to_string()))?;
                self.check(&to)?;
                Ok(took)
            }
            Way::RsyncUp => {
                let url = format!(
                    "rsync://127.0.0.1:{}/up/copy-{}/",
                    self.rsync()?,
                    self.copies
                );
                timed(&mut rsync_of_tree(&format!("{}/", tree.display()), &url))
            }
            Way::Tar | Way::TarFar => {
                fs::create_dir(&to)?;
                let near = tar_server(tree)?;
                let from = match way {
                    Way::TarFar => relay(near, FAR)?,
                    _ => near,
                };
                let began = Instant::now();
                let socket = TcpStream::connect(from)?;
                let mut tar = Command::new("tar");
                tar.arg("-xf-").arg("-C").arg(&to);
                let status = tar.stdin(OwnedFd::from(socket)).status()?;
                let took = began.elapsed();
                ensure!(status.success(), "tar: {status}");
                self.check(&to)?;
                Ok(took.as_secs_f64() * 1000.0)
            }
        }
    }

    /// The port of `git daemon`.
    fn git(&mut self) -> anyhow::Result<u16> {
        if self.git.is_none() {
            self.git = Some(git_daemon(self.directory.path(), &self.tree())?);
        }
        Ok(self.git.as_ref().context("it was started")?.1)
    }

    /// The port of rsync's daemon.
    fn rsync(&mut self) -> anyhow::Result<u16> {
        if self.rsync.is_none() {
            self.rsync = Some(rsync_daemon(self.directory.path())?);
        }
        Ok(self.rsync.as_ref().context("it was started")?.1)
    }

    /// A command of ours; gives how long it took, in milliseconds.
    fn uspark(
        &self,
        place: &Path,
        project: &Project,
        args: &[&str],
        server: Option<SocketAddr>,
    ) -> anyhow::Result<f64> {
        let url = server.map_or(project.url.clone(), |address| format!("http://{address}"));
        let mut command = Command::new(program("uspark"));
        command.args(args).args(["--project-id", &project.id]);
        command.current_dir(place);
        command.env("HOME", self.directory.path());
        command
            .env("USPARK_SERVER", url)
            .env("USPARK_TOKEN", &project.token);
        timed(command.stdout(Stdio::null()).stderr(Stdio::null()))
    }

    /// Compares a copy with the tree, byte for byte.
    fn check(&self, copy: &Path) -> anyhow::Result<()> {
        let mut diff = Command::new("diff");
        diff.args(["-r", "-q", "--no-dereference", "--exclude=.uspark"]);
        let said = diff.arg(self.tree()).arg(copy).output()?;
        let said = String::from_utf8_lossy(&said.stdout);
        let changed = said.lines().filter(|line| !line.contains("f0.txt")).count();
        ensure!(changed == 0, "{}: {said}", copy.display());
        Ok(())
    }
}

fn timed(command: &mut Command) -> anyhow::Result<f64> {
    let began = Instant::now();
    let status = command.status().with_context(|| format!("{command:?}"))?;
    let took = began.elapsed();
    ensure!(status.success(), "{command:?}: {status}");
    Ok(took.as_secs_f64() * 1000.0)
}

/// Words of text, a tenth binary, a few links; sizes as in a code base: many small, few large.
fn make_tree(tree: &Path, files: usize) -> anyhow::Result<()> {
    const MEAN: f64 = 8000.0;
    let mut random = fastrand::Rng::with_seed(1);
    let words: Vec<String> = (0..5000)
        .map(|_| {
            (0..random.usize(2..10))
                .map(|_| random.lowercase())
                .collect()
        })
        .collect();
    for n in 0..files {
        let directory = tree.join(format!("d{}/e{}", n % 100, n % 7));
        fs::create_dir_all(&directory)?;
        let size = (-(1.0 - random.f64()).ln() * MEAN) as usize + 1;
        let path = directory.join(match n % 10 {
            9 => format!("f{n}.bin"),
            _ => format!("f{n}.txt"),
        });
        if n % 1000 == 5 {
            symlink(format!("../e{}/f{n}.txt", n % 7), &path)?;
            continue;
        }
        let mut file = fs::File::create(&path)?;
        let mut bytes = Vec::with_capacity(size + 16);
        while bytes.len() < size {
            if n % 10 == 9 {
                bytes.push(random.u8(..));
            } else {
                bytes.extend(words[random.usize(..words.len())].as_bytes());
                bytes.push(if random.u8(..9) == 0 { b'\n' } else { b' ' });
            }
        }
        file.write_all(&bytes)?;
        if n % 100 == 7 {
            file.set_permissions(fs::Permissions::from_mode(0o755))?;
        }
    }
    Ok(())
}

fn git_daemon(directory: &Path, tree: &Path) -> anyhow::Result<(Running, u16)> {
    let repository = directory.join("repository.git");
    let git = |args: &[&str]| {
        let mut git = Command::new("git");
        git.arg("--git-dir")
            .arg(&repository)
            .arg("--work-tree")
            .arg(tree);
        git.args(["-c", "user.name=bench", "-c", "user.email=bench@localhost"]);
        timed(git.args(args).stdout(Stdio::null()))
    };
    git(&["init", "-q"])?;
    git(&["add", "."])?;
    git(&["commit", "-q", "-m", "all"])?;
    git(&["repack", "-adq"])?;
    let port = free_port()?;
    let mut daemon = Command::new("git");
    daemon.args(["daemon", "--export-all", "--listen=127.0.0.1"]);
    daemon.arg(format!("--port={port}"));
    daemon.arg(format!("--base-path={}", directory.display()));
    listening(Running::start(&mut daemon), port)
}

fn rsync_daemon(directory: &Path) -> anyhow::Result<(Running, u16)> {
    let (port, config) = (free_port()?, directory.join("rsyncd.conf"));
    fs::create_dir(directory.join("up"))?;
    let module = |name: &str, read_only: &str| {
        let path = directory.join(name);
        format!("[{name}]\npath={}\nread only={read_only}\n", path.display())
    };
    let text = [
        "use chroot=no\n".into(),
        module("tree", "yes"),
        module("up", "no"),
    ]
    .concat();
    fs::write(&config, text)?;
    let mut daemon = Command::new("rsync");
    daemon.args(["--daemon", "--no-detach", "--address=127.0.0.1"]);
    daemon.arg(format!("--port={port}"));
    daemon.arg(format!("--config={}", config.display()));
    listening(Running::start(&mut daemon), port)
}

fn rsync_of_tree(from: &str, to: &str) -> Command {
    let mut rsync = Command::new("rsync");
    rsync.args(["-a", "--exclude=.uspark", from, to]);
    rsync
}

/// Gives the tree to the first who connects, as one archive.
fn tar_server(tree: PathBuf) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let mut tar = Command::new("tar");
            tar.args(["-cf-", "--exclude=.uspark", "-C"])
                .arg(&tree)
                .arg(".");
            // Who connected sees it when it fails.
            let _ = tar.stdout(OwnedFd::from(socket)).status();
        }
    });
    Ok(address)
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn listening(running: Running, port: u16) -> anyhow::Result<(Running, u16)> {
    eventually(SOON, || {
        TcpStream::connect(("127.0.0.1", port)).with_context(|| running.stderr())
    });
    Ok((running, port))
}
