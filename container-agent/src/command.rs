//! The command that `uspark run` runs: its start, its signals, its end.
//!
//! Owns: the child process, its process group and its environment. Must not do: read its output
//! (that is `claude`'s), sync. Invariants: the child never sees the token; it is signalled only
//! while it has not been waited for, so never a stranger that got its number.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};

use crate::claude::launch;

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Claude Code, with this prompt on its standard input.
    Claude {
        /// The prompt.
        prompt: String,
    },
    /// Any command; the first word is the program.
    Words(Vec<OsString>),
}

/// How the child stands to the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// In a process group of its own, which every signal is passed on to.
    OwnGroup,
    /// In ours, because a terminal's keyboard belongs to one group only: Ctrl-C reaches it
    /// without us.
    Foreground,
}

/// A child that has not been waited for to its end.
#[derive(Debug)]
pub struct Running {
    child: Child,
    placement: Placement,
    output: Option<OwnedFd>,
}

/// Why a command could not be run.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// There is no such program.
    #[error("cannot find the program `{program}`")]
    NotFound {
        /// What was looked for.
        program: String,
    },
    /// It is there and cannot be executed.
    #[error("cannot execute `{program}`")]
    NotExecutable {
        /// What was tried.
        program: String,
        /// Why not.
        source: io::Error,
    },
    /// Anything else about the child.
    #[error("cannot run `{program}`")]
    Failed {
        /// What was tried.
        program: String,
        /// Why not.
        source: io::Error,
    },
}

impl Task {
    /// The program's name.
    pub fn program(&self) -> &OsStr {
        match self {
            Self::Claude { .. } => launch::PROGRAM.as_ref(),
            Self::Words(words) => words.first().map_or(OsStr::new(""), OsString::as_os_str),
        }
    }

    fn failed(&self, source: io::Error) -> CommandError {
        let program = self.program().to_string_lossy().into_owned();
        match source.kind() {
            io::ErrorKind::NotFound => CommandError::NotFound { program },
            io::ErrorKind::PermissionDenied => CommandError::NotExecutable { program, source },
            _ => CommandError::Failed { program, source },
        }
    }
}

impl Running {
    /// Starts `task` in `directory`. Its standard output is a pipe, its standard error ours.
    pub fn start(
        task: Task,
        directory: PathBuf,
        placement: Placement,
    ) -> Result<Self, CommandError> {
        let (reader, writer) = io::pipe().map_err(|error| task.failed(error))?;
        let mut command = Command::new(task.program());
        command.current_dir(directory).stdout(writer);
        match &task {
            Task::Claude { .. } => command.args(launch::ARGUMENTS).stdin(Stdio::piped()),
            Task::Words(words) => command.args(words.iter().skip(1)),
        };
        let is_claude = matches!(task, Task::Claude { .. });
        let is_root = rustix::process::geteuid().is_root();
        for (name, value) in environment(is_claude && is_root, |name| std::env::var_os(name)) {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if placement == Placement::OwnGroup {
            command.process_group(0);
        }
        let mut child = command.spawn().map_err(|error| task.failed(error))?;
        if let (Task::Claude { prompt }, Some(mut stdin)) = (task, child.stdin.take()) {
            // Beside the rest: a prompt larger than a pipe waits for its reader. A child that ends
            // without reading it has its reasons; its exit code tells.
            tokio::spawn(async move { stdin.write_all(prompt.as_bytes()).await });
        }
        Ok(Self {
            child,
            placement,
            output: Some(reader.into()),
        })
    }

    /// Its standard output, once.
    pub fn take_output(&mut self) -> Option<OwnedFd> {
        self.output.take()
    }

    /// Waits for its end. May be dropped and called again.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Passes `signal` on to the child's group, or to the child alone when the group is ours.
    /// Does nothing after the end.
    pub fn signal(&self, signal: Signal) {
        let id = self
            .child
            .id()
            .and_then(|id| Pid::from_raw(id.try_into().ok()?));
        let Some(id) = id else { return };
        let sent = match self.placement {
            Placement::OwnGroup => rustix::process::kill_process_group(id, signal),
            // The terminal has sent this one already.
            Placement::Foreground if signal == Signal::INT => Ok(()),
            Placement::Foreground => rustix::process::kill_process(id, signal),
        };
        if let Err(error) = sent {
            tracing::debug!("signal {signal:?} did not reach the command: {error}");
        }
    }
}

/// The exit code that a shell would give: the command's own, or 128 and the signal that ended it.
pub fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| Some(128 + status.signal()?));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// What the child's environment has that ours has not: a value, or nothing.
fn environment(
    contained: bool,
    ours: impl Fn(&str) -> Option<OsString>,
) -> Vec<(&'static str, Option<OsString>)> {
    let set = |name| ours(name).filter(|value| !value.is_empty());
    // The token is the agent's. In the workspace the command talks to the agent without one.
    let mut changes = vec![("USPARK_TOKEN", None)];
    if let (None, Some(key)) = (set("ANTHROPIC_API_KEY"), set("CLAUDE_API_KEY")) {
        changes.push(("ANTHROPIC_API_KEY", Some(key)));
    }
    if contained {
        let (name, value) = launch::CONTAINED;
        changes.push((name, Some(value.into())));
    }
    changes
}

#[cfg(test)]
mod tests;
