//! `sync-server`: parses the command line, starts the server, and stops it on a signal; or does what
//! else an operator wants of the data directory.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is the command line"
)]

mod operate;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser;
use operate::Operation;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sync_server::config::LogFormat;
use sync_server::{Config, Running, Server};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use uspark_shared::printable::OneLine;

/// The command line is wrong.
const USAGE: u8 = 2;

// Without an operation it serves. What the command is about is said beside its options.
#[derive(Parser)]
#[command(name = "sync-server", version)]
struct CommandLine {
    #[command(flatten)]
    config: Config,
    #[command(subcommand)]
    operation: Option<Operation>,
}

fn main() -> ExitCode {
    let CommandLine { config, operation } = CommandLine::parse();
    if let Some(operation) = operation {
        return operation.run(&config.data);
    }
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .with_env_var("USPARK_LOG")
        .from_env();
    let filter = match filter {
        Ok(filter) => filter,
        Err(error) => {
            let hint = Some("try USPARK_LOG=info, or leave it out");
            return fail(USAGE, &format!("USPARK_LOG: {error}"), hint);
        }
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter);
    let log = log.with_ansi(false);
    match config.log_format {
        LogFormat::Text => log.with_writer(|| OneLine(io::stderr())).init(),
        // JSON escapes what is not printable by itself.
        LogFormat::Json => log
            .json()
            .flatten_event(true)
            .with_writer(io::stderr)
            .init(),
    }
    allow_open_files(config.limits.max_connections);
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, &format!("the system gives no threads: {error}"), None),
    };
    let code = runtime.block_on(run(config));
    // What is left behind was told; a disk that hangs must not keep the process.
    runtime.shutdown_background();
    code
}

async fn run(config: Config) -> ExitCode {
    // Before anything is said: whoever reads the address may send a signal at once.
    let signals = signal(SignalKind::terminate()).and_then(|terminate| {
        let interrupt = signal(SignalKind::interrupt())?;
        Ok((terminate, interrupt))
    });
    let (mut terminate, mut interrupt) = match signals {
        Ok(signals) => signals,
        Err(error) => return fail(1, &format!("signals cannot be received: {error}"), None),
    };
    let server = match Server::start(config).await {
        Ok(server) => server,
        Err(error) => {
            let code = if error.is_usage() { USAGE } else { 1 };
            return fail(code, &error.to_string(), error.hint());
        }
    };
    // Without anything to read again, the signal ends the process as it does any other.
    let hangup = server.has_tls().then(|| signal(SignalKind::hangup()));
    let mut hangup = match hangup.transpose() {
        Ok(hangup) => hangup,
        Err(error) => return fail(1, &format!("signals cannot be received: {error}"), None),
    };
    // Whoever closed our stdout does not want to know.
    let _ = announce(&server);
    loop {
        tokio::select! {
            _ = terminate.recv() => break tracing::info!("SIGTERM: stopping"),
            _ = interrupt.recv() => break tracing::info!("SIGINT: stopping"),
            () = hung_up(&mut hangup) => reload(&server),
        }
    }
    server.stop().await;
    tracing::info!("stopped");
    ExitCode::SUCCESS
}

/// Every connection is an open file, and most systems allow a process 1024 until it asks for more.
fn allow_open_files(wanted: usize) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    let raised = setrlimit(Resource::Nofile, raised).map_or(limit.current, |()| limit.maximum);
    if raised.is_some_and(|files| files < wanted as u64) {
        tracing::warn!(
            files = raised,
            hint = "raise the limit with `ulimit -n` or LimitNOFILE=, or lower --max-connections",
            "the system allows fewer open files than there may be connections"
        );
    }
}

async fn hung_up(hangup: &mut Option<Signal>) {
    match hangup {
        Some(hangup) => drop(hangup.recv().await),
        None => std::future::pending().await,
    }
}

fn reload(server: &Running) {
    match server.reload_tls() {
        Ok(()) => tracing::info!("SIGHUP: the TLS certificate and its key were read again"),
        Err(error) => tracing::error!(
            hint = error.hint(),
            "SIGHUP: the old certificate stays: {error}"
        ),
    }
}

/// The only place where a token is shown; never in a log.
fn announce(server: &Running) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "listening on {}", server.url())?;
    match (server.admin_token_file(), server.is_first_start()) {
        (Some(path), true) => {
            writeln!(out, "admin token: {}", server.admin_token().reveal())?;
            writeln!(out, "saved in {}", path.display())?;
        }
        (Some(path), false) => writeln!(out, "the admin token is in {}", path.display())?,
        (None, _) => {}
    }
    out.flush()
}

fn fail(code: u8, what: &str, hint: Option<&str>) -> ExitCode {
    eprintln!("error: {what}");
    if let Some(hint) = hint {
        eprintln!("hint: {hint}");
    }
    ExitCode::from(code)
}
