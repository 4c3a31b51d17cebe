//! What an operator does besides serving: `sync-server check` and `sync-server backup`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is the command line"
)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::json;
use sync_server::store::{BackupError, Findings, Progress, StoreError, backup, check};
use uspark_shared::printable::printable;

/// How often long work says how far it is.
const TOLD_EVERY: Duration = Duration::from_secs(2);

const CHECK_EXAMPLES: &str = "\
Examples:
  sync-server check                            of ./uspark-data, also while its server serves
  sync-server check --data /backup/monday      of a backup
  sync-server check --json | jq .problems

Exit 0 when all is whole, 1 when something is damaged or missing. Nothing is changed.";

const BACKUP_EXAMPLES: &str = "\
Examples:
  sync-server backup /backup/monday --data /var/lib/uspark
  sync-server --data /backup/monday            serve it: a backup is a data directory

Run it as the server's user, also while the server serves. The copy is checked before it appears under
its name. It holds all contents and the admin token: keep it as secret as the data directory.";

// Anything but serving. No doc comment: it would be what the whole command is said to be about.
#[derive(clap::Subcommand)]
pub enum Operation {
    /// Verify the data directory: database, documents, every blob against its hash
    #[command(after_help = CHECK_EXAMPLES)]
    Check {
        /// Print one JSON object instead of sentences
        #[arg(long)]
        json: bool,
    },
    /// Copy the data directory, as it is at one moment, to DEST, which must not be there yet
    #[command(after_help = BACKUP_EXAMPLES)]
    Backup {
        /// The directory to make
        dest: PathBuf,
    },
}

impl Operation {
    /// Does it.
    pub fn run(&self, data: &Path) -> ExitCode {
        let mut told = Instant::now();
        let mut tell = |progress: Progress| {
            if told.elapsed() >= TOLD_EVERY {
                told = Instant::now();
                let Progress { what, done, total } = progress;
                eprintln!("{what}: {done} of {total}");
            }
        };
        match self {
            Self::Check { json } => say_checked(data, check(data, &mut tell), *json),
            Self::Backup { dest } => say_copied(data, dest, backup(data, dest, &mut tell)),
        }
    }
}

fn say_checked(data: &Path, checked: Result<Findings, StoreError>, as_json: bool) -> ExitCode {
    let is_whole = checked.as_ref().is_ok_and(Findings::is_whole);
    match checked {
        Ok(findings) if as_json => {
            let mut said = json!(findings);
            said["data"] = json!(data.display().to_string());
            said["ok"] = json!(is_whole);
            println!("{said}");
        }
        Err(error) if as_json => {
            let data = data.display().to_string();
            println!(
                "{}",
                json!({ "data": data, "ok": false, "error": error.to_string() })
            );
        }
        Ok(findings) => {
            list(&findings);
            if is_whole {
                println!("{} is whole: {}", data.display(), counts(&findings));
            } else {
                let found = findings.problems.len() as u64 + findings.more_problems;
                println!("{} is damaged: {found} problems", data.display());
                eprintln!(
                    "hint: keep a copy of it, and start the server on the latest backup that is whole"
                );
            }
        }
        Err(error) => complain(&error.to_string(), error.hint()),
    }
    exit(is_whole)
}

fn say_copied(data: &Path, dest: &Path, copied: Result<Findings, BackupError>) -> ExitCode {
    match &copied {
        Ok(findings) => {
            let (data, dest) = (data.display(), dest.display());
            println!("{data} is in {dest}: {}", counts(findings));
        }
        Err(error) => {
            if let BackupError::NotWhole(findings) = error {
                list(findings);
            }
            complain(&error.to_string(), error.hint());
        }
    }
    exit(copied.is_ok())
}

fn list(findings: &Findings) {
    for problem in &findings.problems {
        let line = format!("problem: {}: {}", problem.place, problem.detail);
        println!("{}", printable(&line));
    }
    if findings.more_problems > 0 {
        println!("problem: and {} more", findings.more_problems);
    }
    for note in &findings.notes {
        println!("note: {note}");
    }
}

fn counts(findings: &Findings) -> String {
    let Findings {
        projects,
        documents,
        blobs,
        bytes,
        ..
    } = findings;
    format!("{projects} projects, {documents} documents, {blobs} blobs ({bytes} bytes)")
}

fn complain(what: &str, hint: Option<&str>) {
    eprintln!("error: {what}");
    if let Some(hint) = hint {
        eprintln!("hint: {hint}");
    }
}

fn exit(is_well: bool) -> ExitCode {
    match is_well {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
