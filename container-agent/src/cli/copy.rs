//! Claude Code's output on its way through this process, on a thread of its own: nothing else that
//! goes on here can hold it up.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::failure::Failure;
use super::output::say;
use super::signals::Stops;
use super::tools::ToolCalls;
use crate::claude::{Line, Outlet, Stopper, Tap, tee_lines};
use crate::publish::LineSink;

/// A copy from somewhere to standard output.
#[derive(Debug)]
pub struct Copy {
    stopper: Option<Stopper>,
    ended: oneshot::Receiver<()>,
}

impl Copy {
    /// Copies standard input. Once stopped, waits `grace` for what is still to come.
    pub fn of_stdin(
        grace: Duration,
        calls: Arc<ToolCalls>,
        lines: Option<LineSink>,
    ) -> Result<Self, Failure> {
        Tap::stdin(grace)
            .and_then(|tap| Self::start(tap, calls, lines))
            .map_err(failed)
    }

    /// Copies a command's output. Once stopped, waits `grace` for what is still to come.
    pub fn of_output(
        output: OwnedFd,
        grace: Duration,
        calls: Arc<ToolCalls>,
        lines: Option<LineSink>,
    ) -> Result<Self, Failure> {
        Tap::new(output, grace)
            .and_then(|tap| Self::start(tap, calls, lines))
            .map_err(failed)
    }

    fn start(
        (tap, stopper): (Tap, Stopper),
        calls: Arc<ToolCalls>,
        mut lines: Option<LineSink>,
    ) -> io::Result<Self> {
        let outlet = Outlet::stdout()?;
        let (sender, ended) = oneshot::channel();
        std::thread::Builder::new()
            .name("copy".into())
            .spawn(move || {
                let on_line = |line: Line<'_>| {
                    if let Some(lines) = &mut lines {
                        lines.take(line);
                    }
                };
                let end = tee_lines(tap, outlet, |event| calls.note(event), on_line);
                // There are no more to come.
                drop(lines);
                if let Some(error) = end.input {
                    say(format_args!("uspark: the stream broke off: {error}\n"));
                }
                if let Some(error) = end.output {
                    tracing::debug!("standard output was closed: {error}");
                }
                // Whoever does not wait for it does not need to know.
                let _ = sender.send(());
            })?;
        Ok(Self {
            stopper: Some(stopper),
            ended,
        })
    }

    /// Stops it: what is there is still copied.
    pub fn stop(&mut self) {
        self.stopper = None;
    }

    /// Waits for its end. The first signal stops it, a second one ends the wait.
    pub async fn end(&mut self, stops: &mut Stops) {
        for _ in 0..2 {
            tokio::select! {
                _ = &mut self.ended => return,
                _ = stops.next() => self.stop(),
            }
        }
    }
}

fn failed(error: io::Error) -> Failure {
    Failure::new("cannot copy the stream")
        .cause(error)
        .hint("the machine allows this user no more")
}
