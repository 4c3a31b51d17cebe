//! The program itself: what it prints, how it starts again, how it stops.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio_tungstenite::tungstenite::Message;

use crate::client::Client;

/// The program, serving. It is killed when it is dropped.
pub struct Program {
    child: Child,
    stdout: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Program {
    pub fn start(data: &Path, more: &[&str]) -> Self {
        Self::start_by(command(data).args(more))
    }

    /// One that may say much that nobody reads.
    pub fn quiet(data: &Path) -> Self {
        Self::quiet_with(data, &[])
    }

    pub fn quiet_with(data: &Path, more: &[&str]) -> Self {
        Self::start_by(command(data).args(more).env("USPARK_LOG", "error"))
    }

    fn start_by(command: &mut Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut program = Self {
            child,
            stdout,
            address: SocketAddr::from(([0; 4], 0)),
        };
        let line = program.line();
        let address = line
            .strip_prefix("listening on http://")
            .unwrap_or_else(|| panic!("{line}"));
        program.address = address.parse().unwrap();
        program
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "{line:?}, then the end");
        line.trim_end().to_owned()
    }

    /// The token and where it is saved, as printed.
    pub fn token(&mut self) -> (String, String) {
        let (token, path) = (self.line(), self.line());
        let token = token.strip_prefix("admin token: ").unwrap().to_owned();
        (token, path.strip_prefix("saved in ").unwrap().to_owned())
    }

    pub fn client(&self, token: &str) -> Client {
        Client::new(self.address, Some(token))
    }

    /// Ends it, and gives how it ended, how long that took, and the rest of stdout, and stderr.
    pub fn end(mut self, signal: Signal) -> (ExitStatus, Duration, String, String) {
        let began = Instant::now();
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.stdout.read_to_string(&mut stdout).unwrap();
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut stderr)
            .unwrap();
        (self.child.wait().unwrap(), began.elapsed(), stdout, stderr)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn command(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sync-server"));
    command.arg("--data").arg(data);
    command
        .env("USPARK_LISTEN", "127.0.0.1:0")
        .env_remove("USPARK_ADMIN_TOKEN")
        .env("USPARK_LOG", "trace");
    command
}

/// Runs it to its end, which must come by itself.
fn run(command: &mut Command) -> (i32, String) {
    let Output {
        status,
        stderr,
        stdout,
    } = command.output().unwrap();
    assert!(stdout.is_empty() || status.success());
    (status.code().unwrap(), String::from_utf8(stderr).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_starts_stops_and_starts_again_with_all_that_was_acknowledged() {
    let data = tempfile::tempdir().unwrap();
    let mut program = Program::start(data.path(), &[]);
    let (token, saved) = program.token();
    assert_eq!(Path::new(&saved), data.path().join("admin-token"));
    assert_eq!(std::fs::read_to_string(&saved).unwrap().trim(), token);
    assert_eq!(
        std::fs::metadata(&saved).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let client = program.client(&token);
    assert_eq!(
        client
            .post("/api/projects")
            .json(json!({ "id": "p" }))
            .await
            .status,
        201
    );
    let file = "/api/projects/p/files/a.txt";
    assert_eq!(client.put(file).bytes("one").await.status, 200);
    let (status, took, stdout, stderr) = program.end(Signal::TERM);
    assert!(
        status.success() && took < Duration::from_secs(5),
        "{status} {took:?} {stderr}"
    );
    assert_eq!(stdout, "");
    assert!(
        stderr.contains("SIGTERM") && !stderr.contains(&token[18..]),
        "{stderr}"
    );

    // It was shown once; from now on it is said where it is.
    let mut program = Program::start(data.path(), &[]);
    let is_in = format!("the admin token is in {saved}");
    assert_eq!(program.line(), is_in);
    let client = program.client(&token);
    assert_eq!(client.get(file).send().await.body, "one");
    assert_eq!(client.put(file).bytes("two").await.status, 200);
    program.end(Signal::KILL);

    let program = Program::start(data.path(), &[]);
    assert_eq!(program.client(&token).get(file).send().await.body, "two");
    assert!(program.end(Signal::INT).0.success());

    // Another database, the same file: the token is taken over.
    for file in ["uspark.db", "uspark.db-wal", "uspark.db-shm"] {
        let _ = std::fs::remove_file(data.path().join(file));
    }
    let mut program = Program::start(data.path(), &[]);
    assert_eq!(program.line(), is_in);
    assert_eq!(
        program
            .client(&token)
            .get("/api/projects")
            .send()
            .await
            .status,
        200
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_hang_do_not_hold_it_up() {
    let data = tempfile::tempdir().unwrap();
    let mut program = Program::start(data.path(), &[]);
    let (token, _) = program.token();
    let client = program.client(&token);
    assert_eq!(
        client
            .post("/api/projects")
            .json(json!({ "id": "p" }))
            .await
            .status,
        201
    );
    let head = format!(
        "POST /api/blobs?project=p HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: 1000\r\n\r\nonly this"
    );
    let mut uploading = tokio::net::TcpStream::connect(program.address)
        .await
        .unwrap();
    uploading.write_all(head.as_bytes()).await.unwrap();
    let mut silent = tokio::net::TcpStream::connect(program.address)
        .await
        .unwrap();
    silent.write_all(b"GET /hea").await.unwrap();
    let url = format!("ws://{}/ws/p?token={token}", program.address);
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    // All were accepted before this one.
    assert_eq!(client.get("/healthz").send().await.status, 200);
    let end = async {
        // What closes for no fault of the client's is tried again.
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Close(frame) = message {
                return frame.map(|frame| u16::from(frame.code));
            }
        }
        None
    };
    let (end, stopped) = tokio::join!(
        end,
        tokio::task::spawn_blocking(|| program.end(Signal::TERM))
    );
    assert_eq!(end, Some(1013));
    let (status, took, _, stderr) = stopped.unwrap();
    assert!(
        status.success() && took < Duration::from_secs(5),
        "{status} {took:?} {stderr}"
    );
    assert!(
        !stderr.contains(&token[18..]),
        "a token in a query is not logged"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_given_token_is_taken_and_kept_nowhere() {
    let (data, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let token = Program::start(other.path(), &[]).token().0;
    let program = Program::start(data.path(), &["--admin-token", &token]);
    assert_eq!(
        program
            .client(&token)
            .get("/api/projects")
            .send()
            .await
            .status,
        200
    );
    let (_, _, stdout, stderr) = program.end(Signal::TERM);
    assert_eq!(stdout, "");
    assert!(!stderr.contains(&token[18..]));
    assert!(!data.path().join("admin-token").exists());

    let secret = "uspk_almost_a_token";
    let (code, said) = run(command(data.path()).args(["--admin-token", secret]));
    assert_eq!(code, 2);
    assert!(said.contains("hint:") && !said.contains(secret), "{said}");
}

#[test]
fn what_keeps_it_from_starting_is_told_with_a_hint() {
    let data = tempfile::tempdir().unwrap();
    let program = Program::start(data.path(), &[]);
    let expect = |command: &mut Command, words: &[&str]| {
        let (code, said) = run(command);
        assert_eq!(code, 1, "{said}");
        for word in words {
            assert!(said.contains(word), "{word}: {said}");
        }
        assert!(
            said.contains("error: ") && said.contains("hint: ") && !said.contains("panicked"),
            "{said}"
        );
    };
    expect(&mut command(data.path()), &["in use", "--data"]);
    drop(program);
    expect(
        &mut command(Path::new("/sys/uspark")),
        &["/sys/uspark", "--data"],
    );
    let file = data.path().join("a-file");
    std::fs::write(&file, "").unwrap();
    for place in [file.clone(), file.join("below")] {
        expect(&mut command(&place), &["a-file", "no directory", "--data"]);
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    expect(
        command(data.path()).args(["--listen", &address]),
        &[&address, "--listen"],
    );
    std::fs::write(data.path().join("admin-token"), "nothing").unwrap();
    expect(&mut command(data.path()), &["admin-token", "remove"]);
    std::fs::write(
        data.path().join("uspark.db"),
        "no database at all, and long enough".repeat(100),
    )
    .unwrap();
    expect(&mut command(data.path()), &["uspark.db", "backup"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_one_object_a_line_for_who_wants_that() {
    let data = tempfile::tempdir().unwrap();
    let mut program = Program::start(data.path(), &["--log-format", "json"]);
    let (token, _) = program.token();
    let client = program.client(&token);
    let made = client.post("/api/projects").json(json!({ "id": "p" }));
    assert_eq!(made.await.status, 201);
    let odd = client
        .get("/api/projects/p/files/a%0Ab%1B%5B2J")
        .send()
        .await;
    assert_eq!(odd.status, 404);
    let (_, _, _, stderr) = program.end(Signal::TERM);
    let events: Vec<serde_json::Value> = stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    for field in ["timestamp", "level", "target"] {
        assert!(
            events.iter().all(|event| event[field].is_string()),
            "{field}: {stderr}"
        );
    }
    let says = |message: &str| events.iter().any(|event| event["message"] == message);
    assert!(says("SIGTERM: stopping") && says("stopped"), "{stderr}");
    assert!(
        !stderr.contains('\u{1b}') && !stderr.contains(&token[18..]),
        "{stderr}"
    );

    let (code, said) = run(command(data.path()).env("USPARK_LOG_FORMAT", "xml"));
    assert!(
        code == 2 && said.contains("[possible values: text, json]"),
        "{said}"
    );
}

#[test]
fn the_command_line_explains_itself() {
    let data = tempfile::tempdir().unwrap();
    for bad in [
        &["--listen", "nowhere"][..],
        &["--max-blob-bytes", "much"],
        &["--max-update-bytes", "0"],
        &["--max-connections", "0"],
        &["--tls-cert", "cert.pem"],
        &["--log-format", "xml"],
        &["more"],
    ] {
        let (code, said) = run(command(data.path()).args(bad));
        assert_eq!(code, 2, "{said}");
    }
    let (code, said) = run(command(data.path()).env("USPARK_LOG", "=="));
    assert!(code == 2 && said.contains("USPARK_LOG"), "{said}");
    let help = command(data.path()).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(help.starts_with("The uspark sync server"), "{help}");
    for word in [
        "USPARK_LISTEN",
        "USPARK_DATA",
        "USPARK_ADMIN_TOKEN",
        "127.0.0.1:4400",
        "Examples:",
    ] {
        assert!(help.contains(word), "{word}: {help}");
    }
    let version = command(data.path()).arg("--version").output().unwrap();
    assert!(
        String::from_utf8(version.stdout)
            .unwrap()
            .starts_with("sync-server 0.")
    );
}
