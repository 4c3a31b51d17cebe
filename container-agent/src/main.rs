//! The program `uspark`: parses, sets the process up, runs the command.

use std::ffi::OsString;
use std::process::ExitCode;

use container_agent::cli::{self, Cli};
use tracing_subscriber::EnvFilter;
use uspark_shared::printable::OneLine;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let cli = match Cli::parse_from_arguments(arguments.iter().cloned()) {
        Ok(cli) => cli,
        Err(error) => return cli::explain(error, &arguments).into(),
    };
    trace_to_stderr(cli.common.verbose);
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        tracing::debug!("a TLS provider was installed already");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return cli::cannot_start(&error).into(),
    };
    let code = runtime.block_on(cli::execute(cli));
    // Not waited for: what is left is a read or a write that may never end.
    runtime.shutdown_background();
    code.into()
}

/// `USPARK_LOG` says what is traced; without it, warnings, or the course of things.
fn trace_to_stderr(verbose: bool) {
    let usual = if verbose {
        "info,container_agent=debug"
    } else {
        "warn"
    };
    let filter = EnvFilter::try_from_env("USPARK_LOG").unwrap_or_else(|_| EnvFilter::new(usual));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(|| OneLine(std::io::stderr()))
        .init();
}
