//! The signals that ask a command to stop.

use std::io;

use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind};

use super::failure::Failure;

/// The three that people, containers and terminals send. Once listened to, they no longer end the
/// process.
#[derive(Debug)]
pub struct Stops {
    terminate: unix::Signal,
    interrupt: unix::Signal,
    hang_up: unix::Signal,
}

impl Stops {
    /// Listens from now on.
    pub fn listen() -> Result<Self, Failure> {
        let listen = || -> io::Result<Self> {
            Ok(Self {
                terminate: unix::signal(SignalKind::terminate())?,
                interrupt: unix::signal(SignalKind::interrupt())?,
                hang_up: unix::signal(SignalKind::hangup())?,
            })
        };
        listen().map_err(|error| {
            Failure::new("cannot listen to signals")
                .cause(error)
                .hint("the machine is out of resources")
        })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.hang_up.recv() => Signal::HUP,
        }
    }
}

/// What a command that `signal` stopped half-way exits with, and says.
pub fn stopped(signal: Signal, what: &str, hint: &str) -> Failure {
    Failure {
        exit: u8::try_from(128 + signal.as_raw()).unwrap_or(super::failure::FAILED),
        ..Failure::new(format!("{what} was stopped half-way")).hint(hint)
    }
}
