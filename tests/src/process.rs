//! A child process in a process group of its own, with everything it says.
//!
//! Invariant: the whole group is gone once the [`Running`] is dropped, also when the test panicked.

use std::{
    fmt,
    io::{BufRead, BufReader, Read, Write},
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::{SOON, eventually};

/// How long a command that ends by itself may take: less than the agent waits before it gives up, so that a sync which
/// hangs fails the test.
const DEADLINE: Duration = Duration::from_secs(45);

/// A process that ended: its exit code and what it wrote.
pub struct Ended {
    /// The exit code; 128 and the signal's number when a signal ended it, as a shell has it.
    pub code: i32,
    /// What it wrote on stdout, byte for byte.
    pub stdout: Vec<u8>,
    /// What it wrote on stderr.
    pub stderr: String,
}

impl Ended {
    /// Panics unless the exit code is `code`.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "unexpected exit code\n{self}");
        self
    }

    /// What it wrote on stdout, as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "exit code {}\n--- stdout\n{}\n--- stderr\n{}",
            self.code,
            self.text(),
            self.stderr
        )
    }
}

/// A child process that leads a process group; dropping it ends the whole group.
pub(crate) struct Group {
    pub(crate) child: Child,
}

impl Group {
    /// Starts `command` at the head of a new group.
    #[track_caller]
    pub(crate) fn start(command: &mut Command) -> Self {
        match command.process_group(0).spawn() {
            Ok(child) => Self { child },
            Err(error) => panic!("{command:?} does not start: {error}"),
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // An error says that nobody is left in it.
        let _ = kill_process_group(Pid::from_child(&self.child), signal);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }
}

/// A running process whose output is being read.
pub struct Running {
    name: String,
    group: Group,
    stdout: Arc<Mutex<Vec<u8>>>,
    stderr: Arc<Mutex<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Running {
    /// Starts `command` with an empty stdin.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        let mut group = Group::start(
            command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped()),
        );
        let (stdout, stderr) = (Arc::default(), Arc::default());
        let readers = vec![
            collect(group.child.stdout.take().expect("stdout is piped"), &stdout),
            collect(group.child.stderr.take().expect("stderr is piped"), &stderr),
        ];
        let name = command.get_program().to_string_lossy().into_owned();
        Self {
            name,
            group,
            stdout,
            stderr,
            readers,
        }
    }

    /// The process id, which is its group's as well.
    pub fn pid(&self) -> u32 {
        self.group.child.id()
    }

    /// What it has written on stdout until now.
    pub fn stdout(&self) -> String {
        text_of(&self.stdout)
    }

    /// What it has written on stderr until now.
    pub fn stderr(&self) -> String {
        text_of(&self.stderr)
    }

    /// Waits for a line on stdout that starts with `prefix`; returns the rest of it.
    #[track_caller]
    pub fn wait_line(&mut self, prefix: &str) -> String {
        eventually(SOON, || {
            let said = self.stdout();
            let complete = said.rsplit_once('\n').map_or("", |(lines, _)| lines);
            let found = complete
                .lines()
                .find_map(|line| line.strip_prefix(prefix))
                .map(str::to_owned);
            if found.is_none()
                && let Some(status) = self.group.child.try_wait()?
            {
                panic!(
                    "{} ended ({status}) before it said {prefix:?}\n{said}\n{}",
                    self.name,
                    self.stderr()
                );
            }
            found.with_context(|| {
                format!(
                    "{} did not say {prefix:?}\n{said}\n{}",
                    self.name,
                    self.stderr()
                )
            })
        })
    }

    /// True while the process has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.group.child.try_wait(), Ok(None))
    }

    /// Waits until the process ends by itself.
    #[track_caller]
    pub fn wait(self) -> Ended {
        self.wait_within(DEADLINE)
    }

    /// Waits until the process ends by itself; for what may take longer than usual.
    #[track_caller]
    pub fn wait_within(mut self, deadline: Duration) -> Ended {
        let status = eventually(deadline, || {
            let ended = self.group.child.try_wait()?;
            ended.with_context(|| {
                format!(
                    "{} still runs\n{}\n{}",
                    self.name,
                    self.stdout(),
                    self.stderr()
                )
            })
        });
        self.collected(status)
    }

    /// Sends SIGTERM to the process alone and waits until it ends.
    #[track_caller]
    pub fn terminate(self) -> Ended {
        let pid = Pid::from_child(&self.group.child);
        rustix::process::kill_process(pid, Signal::TERM).expect("our own child can be signalled");
        self.wait()
    }

    /// Sends SIGKILL to the whole group and waits until the process is gone.
    #[track_caller]
    pub fn kill9(mut self) -> Ended {
        self.group.signal(Signal::KILL);
        let status = self
            .group
            .child
            .wait()
            .expect("our own child can be awaited");
        self.collected(status)
    }

    fn collected(&mut self, status: ExitStatus) -> Ended {
        // Whoever it left behind would keep the pipes open.
        self.group.signal(Signal::KILL);
        eventually(SOON, || {
            anyhow::ensure!(
                self.readers.iter().all(JoinHandle::is_finished),
                "{}'s output is still open",
                self.name
            );
            Ok(())
        });
        let stdout = std::mem::take(&mut *self.stdout.lock().expect("a reader does not panic"));
        Ended {
            code: exit_code(status),
            stdout,
            stderr: self.stderr(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        show_if_panicking(&self.name, &self.stderr());
    }
}

/// Shows what a process said last when the test has failed.
#[expect(
    clippy::print_stderr,
    reason = "the test runner shows it with the failure"
)]
pub(crate) fn show_if_panicking(name: &str, said: &str) {
    if thread::panicking() && !said.is_empty() {
        eprintln!("--- {name} wrote on stderr:\n{said}");
    }
}

/// Runs `command` to its end with `input` on its stdin.
#[track_caller]
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Ended {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let input = input.to_vec();
    // A program that ends without reading its input is not our mistake.
    let writer = thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child
        .wait_with_output()
        .expect("our own child can be awaited");
    writer.join().expect("the writer does not panic");
    Ended {
        code: exit_code(output.status),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

pub(crate) fn collect(
    source: impl Read + Send + 'static,
    into: &Arc<Mutex<Vec<u8>>>,
) -> JoinHandle<()> {
    let into = Arc::clone(into);
    thread::spawn(move || {
        let mut source = BufReader::new(source);
        loop {
            let Ok(bytes) = source.fill_buf() else { return };
            if bytes.is_empty() {
                return;
            }
            into.lock()
                .expect("nobody panics with the lock")
                .extend_from_slice(bytes);
            let read = bytes.len();
            source.consume(read);
        }
    })
}

pub(crate) fn text_of(bytes: &Mutex<Vec<u8>>) -> String {
    String::from_utf8_lossy(&bytes.lock().expect("a reader does not panic")).into_owned()
}

fn exit_code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(-1)
}
