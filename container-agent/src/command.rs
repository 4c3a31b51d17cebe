//! The command that `uspark run` runs: its start, its signals, its end.
//!
//! Owns: the child process, its process group and its environment. Must not do: read its output
//! (that is `claude`'s), sync. Invariants: the child never sees the token; it is signalled only
//! while it has not been waited for, so never a stranger that got its number.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal as _};
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

/// Which of this process's standard streams a person sits at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terminal {
    /// Standard input. Its keyboard belongs to one process group, so the child stays in ours, and
    /// Ctrl-C reaches it without us. Elsewhere the child has a group of its own, and every signal
    /// is passed on to all of it.
    pub keyboard: bool,
    /// Standard output. A command that is not Claude Code writes to it directly, in colour.
    pub screen: bool,
}

/// A child that has not been waited for to its end.
#[derive(Debug)]
pub struct Running {
    child: Child,
    terminal: Terminal,
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
    /// It ran, and how it ended is not known.
    #[error("cannot tell how the command ended")]
    Lost(#[source] io::Error),
    /// Anything else about its start.
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

impl Terminal {
    /// Looks.
    pub fn of_this_process() -> Self {
        Self {
            keyboard: io::stdin().is_terminal(),
            screen: io::stdout().is_terminal(),
        }
    }
}

impl Running {
    /// Starts `task` in `directory`. Its standard error is ours.
    pub fn start(task: Task, directory: PathBuf, terminal: Terminal) -> Result<Self, CommandError> {
        let is_claude = matches!(task, Task::Claude { .. });
        let mut command = Command::new(task.program());
        command.current_dir(directory);
        match &task {
            Task::Claude { .. } => command.args(launch::ARGUMENTS).stdin(Stdio::piped()),
            Task::Words(words) => command.args(words.iter().skip(1)),
        };
        let is_root = rustix::process::geteuid().is_root();
        for (name, value) in environment(is_claude && is_root, |name| std::env::var_os(name)) {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if !terminal.keyboard {
            command.process_group(0);
        }
        let mut output = None;
        if is_claude || !terminal.screen {
            let (reader, writer) = io::pipe().map_err(|error| task.failed(error))?;
            command.stdout(writer);
            output = Some(reader.into());
        }
        let mut child = command.spawn().map_err(|error| task.failed(error))?;
        if let (Task::Claude { prompt }, Some(mut stdin)) = (task, child.stdin.take()) {
            // Beside the rest: a prompt larger than a pipe waits for its reader. A child that ends
            // without reading it has its reasons; its exit code tells.
            tokio::spawn(async move { stdin.write_all(prompt.as_bytes()).await });
        }
        Ok(Self {
            child,
            terminal,
            output,
        })
    }

    /// Its standard output, once; none when it writes to ours.
    pub fn take_output(&mut self) -> Option<OwnedFd> {
        self.output.take()
    }

    /// Waits for its end. May be dropped and called again.
    pub async fn wait(&mut self) -> Result<ExitStatus, CommandError> {
        self.child.wait().await.map_err(CommandError::Lost)
    }

    /// Passes `signal` on to the child's group, or to the child alone when the group is ours. Says
    /// whether it did: not after the end, and not what the keyboard has sent the child itself.
    pub fn signal(&self, signal: Signal) -> bool {
        let id = self
            .child
            .id()
            .and_then(|id| Pid::from_raw(id.try_into().ok()?));
        let sent = match id {
            None => return false,
            Some(_) if self.terminal.keyboard && signal == Signal::INT => return false,
            Some(id) if self.terminal.keyboard => rustix::process::kill_process(id, signal),
            Some(group) => rustix::process::kill_process_group(group, signal),
        };
        if let Err(error) = sent {
            tracing::debug!("signal {signal:?} did not reach the command: {error}");
        }
        sent.is_ok()
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
