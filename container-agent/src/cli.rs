//! The command line: what may be asked, who is asked for it, what is said of it.
//!
//! Owns: arguments and variables ([`args`]), the choice of workspace, server and token, the course
//! of each command, every word that a person or a script reads, the exit codes. Must not do: look
//! into the project or the disk; those are the engine's. Invariants: results go to standard output
//! and all else to standard error; where standard output belongs to a stream, nothing else is ever
//! written to it; every failure has a next step.

mod access;
mod agent;
pub mod args;
mod auth;
mod copy;
mod diff;
mod failure;
mod keeper;
mod output;
mod paths;
mod place;
mod progress;
mod publish;
mod run;
mod signals;
mod status;
pub mod tools;
mod transfer;
mod watch;

use std::ffi::OsString;

use serde_json::json;

pub use args::Cli;
use args::Command;
use failure::Failure;
use output::Output;
use transfer::Way;

/// Does what was asked, says what came of it, and returns the exit code.
pub async fn execute(cli: Cli) -> u8 {
    let output = match &cli.command {
        Command::WatchClaude(_) | Command::Run(_) => Output::beside_stream(cli.common.json),
        _ => Output::new(cli.common.json),
    };
    let done = match cli.command {
        Command::Auth(given) => auth::auth(given, output).await,
        Command::Pull(given) => transfer::transfer(Way::Pull, given, output).await,
        Command::Push(given) => transfer::transfer(Way::Push, given, output).await,
        Command::Watch(given) => watch::watch(given, output).await,
        Command::WatchClaude(given) => watch::watch_claude(given, output).await,
        Command::Run(given) => run::run(given, output).await,
        Command::Diff(given) => diff::diff(given, output).await,
        Command::Status(given) => status::status(given, output).await,
    };
    done.unwrap_or_else(|failure| output.conclude("", json!({}), Some(failure)))
}

/// Says why `arguments` cannot be parsed, or the help or version that they ask for, and returns
/// the exit code.
pub fn explain(error: clap::Error, arguments: &[OsString]) -> u8 {
    use clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;

    if !error.use_stderr() || error.kind() == DisplayHelpOnMissingArgumentOrSubcommand {
        // Nobody listening is no error.
        let _ = error.print();
        return u8::try_from(error.exit_code()).unwrap_or(failure::USAGE);
    }
    let own = arguments.iter().take_while(|argument| *argument != "--");
    let output = Output::new(own.into_iter().any(|argument| argument == "--json"));
    output.conclude("", json!({}), Some(Failure::from(error)))
}

/// Says that the process could not be set up, and returns the exit code.
pub fn cannot_start(error: &std::io::Error) -> u8 {
    let failure = Failure::new(format!("cannot start: {error}"))
        .hint("the machine allows this user no more threads or files");
    Output::Lines.conclude("", json!({}), Some(failure))
}
