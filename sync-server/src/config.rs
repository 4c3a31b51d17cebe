//! What an operator chooses, on the command line or in the environment.

mod retention;

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::builder::RangedU64ValueParser;

use crate::access::UsageLimits;
use crate::project::Timing;

pub use retention::{Retention, millis};

const ABOUT: &str =
    "The uspark sync server: projects as Yjs documents and blobs, for editors and coding agents";
const EXAMPLES: &str = "\
Examples:
  sync-server                                        serve on 127.0.0.1:4400 from ./uspark-data
  sync-server --listen 0.0.0.0:80 --data /var/lib/uspark
  sync-server --tls-cert chain.pem --tls-key key.pem --listen 0.0.0.0:443
  USPARK_ADMIN_TOKEN=uspk_… sync-server              with an admin token of your own
  sync-server --keep-versions 90d --keep-deleted 90d keep more history, and deleted files, for longer
  sync-server check                                  verify ./uspark-data, also while it is served
  sync-server backup /backup/monday                  copy it, also while it is served

Logs go to stderr; USPARK_LOG chooses what (`USPARK_LOG=debug`, `USPARK_LOG=sync_server=trace`).
GET /metrics is for Prometheus. SIGHUP reads the TLS certificate and key again.
SIGTERM and SIGINT stop the server within 5 seconds; what was acknowledged is on disk anyway.";

/// The least and the most that may be chosen. An update has to carry what a person pastes, a blob the
/// longest text of 4 MiB; more than memory or a disk holds is a slip of the pen.
const UPDATE_RANGE: RangeInclusive<u64> = 64 << 10..=1 << 30;
const BLOB_RANGE: RangeInclusive<u64> = 4 << 20..=1 << 40;
const OUTBOX_RANGE: RangeInclusive<u64> = 64 << 10..=1 << 30;
/// Of connections, sockets and requests: at least one, and no more than anybody counts.
const COUNT_RANGE: RangeInclusive<u64> = 1..=10_000_000;
const EVENTS_RANGE: RangeInclusive<u64> = 1..=100_000_000;

/// How a server is started.
///
/// No `Debug`: it may hold a secret.
#[derive(Clone, clap::Parser)]
#[command(name = "sync-server", version, about = ABOUT, long_about = None, after_help = EXAMPLES)]
pub struct Config {
    /// Where to listen; port 0 takes any free one
    #[arg(
        long,
        env = "USPARK_LISTEN",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:4400"
    )]
    #[arg(value_parser = address)]
    pub listen: SocketAddr,
    /// Where everything is kept; made if it is not there
    #[arg(
        long,
        global = true,
        env = "USPARK_DATA",
        value_name = "DIRECTORY",
        default_value = "./uspark-data"
    )]
    pub data: PathBuf,
    /// The server's admin token, `uspk_…`; without it one is made and kept in the data directory
    // Parsed later: a usage error repeats the value, and this one is a secret.
    #[arg(
        long,
        env = "USPARK_ADMIN_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true
    )]
    pub admin_token: Option<String>,
    /// TLS in the server itself.
    #[command(flatten)]
    pub tls: TlsFiles,
    /// How much is taken.
    #[command(flatten)]
    pub limits: Limits,
    /// How long things are kept that nothing needs any more.
    #[command(flatten)]
    pub retention: Retention,
    /// The form of the log: lines for people, or one JSON object a line
    #[arg(
        long,
        env = "USPARK_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text"
    )]
    pub log_format: LogFormat,
    /// How long things wait; tests make it short.
    #[arg(skip)]
    pub timing: Timing,
    /// Milliseconds since 1970.
    #[arg(skip = system_clock as fn() -> u64)]
    pub clock: fn() -> u64,
}

/// The certificate with which the server speaks TLS, and nothing else. Without one it speaks none.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct TlsFiles {
    /// The server's certificate and those that vouch for it, PEM: speak only TLS. Read again on SIGHUP
    #[arg(
        long,
        env = "USPARK_TLS_CERT",
        value_name = "FILE",
        requires = "tls_key"
    )]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key, PEM
    #[arg(
        long,
        env = "USPARK_TLS_KEY",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    pub tls_key: Option<PathBuf>,
}

/// The form of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// How much the server takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
pub struct Limits {
    /// Largest update of a document, by PATCH or on a socket, in bytes
    #[arg(long, env = "USPARK_MAX_UPDATE_BYTES", value_name = "BYTES")]
    #[arg(default_value_t = Limits::default().max_update_bytes)]
    #[arg(value_parser = RangedU64ValueParser::<u64>::new().range(UPDATE_RANGE))]
    pub max_update_bytes: u64,
    /// Largest blob or file, in bytes
    #[arg(long, env = "USPARK_MAX_BLOB_BYTES", value_name = "BYTES")]
    #[arg(default_value_t = Limits::default().max_blob_bytes)]
    #[arg(value_parser = RangedU64ValueParser::<u64>::new().range(BLOB_RANGE))]
    pub max_blob_bytes: u64,
    /// Document updates that may wait for one slow socket, in bytes; more become one difference
    #[arg(long, env = "USPARK_OUTBOX_BYTES", value_name = "BYTES")]
    #[arg(default_value_t = Limits::default().outbox_bytes)]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(OUTBOX_RANGE))]
    pub outbox_bytes: usize,
    /// Connections open at a time, those of sockets too
    #[arg(long, env = "USPARK_MAX_CONNECTIONS", value_name = "NUMBER")]
    #[arg(default_value_t = Limits::default().max_connections)]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(COUNT_RANGE))]
    pub max_connections: usize,
    /// Sockets that one token has open at a time
    #[arg(long, env = "USPARK_MAX_TOKEN_SOCKETS", value_name = "NUMBER")]
    #[arg(default_value_t = Limits::default().max_token_sockets)]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(COUNT_RANGE))]
    pub max_token_sockets: usize,
    /// Requests that one token makes in a second; ten times as many at once after a pause
    #[arg(long, env = "USPARK_MAX_TOKEN_REQUESTS", value_name = "NUMBER")]
    #[arg(default_value_t = Limits::default().max_token_requests)]
    #[arg(value_parser = RangedU64ValueParser::<u32>::new().range(COUNT_RANGE))]
    pub max_token_requests: u32,
    /// Events that are kept of each project; a client that lags further behind is told so
    #[arg(long, env = "USPARK_KEPT_EVENTS", value_name = "EVENTS")]
    #[arg(default_value_t = Limits::default().kept_events)]
    #[arg(value_parser = RangedU64ValueParser::<u64>::new().range(EVENTS_RANGE))]
    pub kept_events: u64,
}

impl Config {
    /// The defaults, on a free port of this machine, over `data`.
    pub fn local(data: impl Into<PathBuf>) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            data: data.into(),
            admin_token: None,
            tls: TlsFiles::default(),
            limits: Limits::default(),
            retention: Retention::default(),
            log_format: LogFormat::Text,
            timing: Timing::default(),
            clock: system_clock,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_update_bytes: 64 << 20,
            // Any file that is of use in a workspace.
            max_blob_bytes: 5 << 30,
            // A few thousand keystrokes, or a page of a large text.
            outbox_bytes: 4 << 20,
            // What a machine of some gigabytes holds, at 20 KiB a socket and what they queue.
            max_connections: 10_000,
            // Everybody who has a page open on one shared token.
            max_token_sockets: 1_000,
            // More than one agent asks for that pushes small files from beside the server.
            max_token_requests: 2_000,
            // Some days of work: about 300 bytes each, lines of a run as long as they are.
            kept_events: 100_000,
        }
    }
}

impl Limits {
    /// Those of one token.
    pub fn of_token(&self) -> UsageLimits {
        UsageLimits {
            sockets: self.max_token_sockets,
            requests_per_second: self.max_token_requests,
        }
    }
}

/// The system's time, in milliseconds since 1970.
pub fn system_clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let mut found = text.to_socket_addrs().map_err(|error| error.to_string())?;
    found
        .next()
        .ok_or_else(|| "the name has no address".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Config::command().debug_assert();
    }

    #[test]
    fn without_arguments_it_serves_this_machine() {
        let config = Config::parse_from(["sync-server"]);
        assert_eq!(config.listen.to_string(), "127.0.0.1:4400");
        assert_eq!(config.data, PathBuf::from("./uspark-data"));
        assert_eq!(config.limits, Limits::default());
        assert_eq!(config.limits.max_update_bytes, 67_108_864);
    }

    #[test]
    fn the_help_speaks_to_an_operator() {
        let help = Config::command().render_long_help().to_string();
        assert!(help.starts_with("The uspark sync server"), "{help}");
    }

    #[test]
    fn absurd_limits_are_refused() {
        for flag in ["--max-update-bytes", "--max-blob-bytes", "--outbox-bytes"] {
            for (bytes, fine) in [("0", false), ("1", false), ("4194304", true)] {
                let parsed = Config::try_parse_from(["sync-server", flag, bytes]);
                assert_eq!(parsed.is_ok(), fine, "{flag} {bytes}");
            }
            let most = u64::MAX.to_string();
            assert!(Config::try_parse_from(["sync-server", flag, &most]).is_err());
        }
    }

    #[test]
    fn nobody_may_be_allowed_nothing() {
        for flag in [
            "--max-connections",
            "--max-token-sockets",
            "--max-token-requests",
        ] {
            for (number, fine) in [("0", false), ("1", true), ("1000", true), ("-1", false)] {
                let parsed = Config::try_parse_from(["sync-server", &format!("{flag}={number}")]);
                assert_eq!(parsed.is_ok(), fine, "{flag} {number}");
            }
        }
    }

    #[test]
    fn tls_takes_both_files_or_none() {
        let parse = |line: &str| Config::try_parse_from(line.split(' '));
        assert!(parse("sync-server --tls-cert a --tls-key b").is_ok());
        for half in ["sync-server --tls-cert a", "sync-server --tls-key b"] {
            let Err(error) = parse(half) else {
                panic!("{half}")
            };
            assert!(error.to_string().contains("--tls-"), "{error}");
        }
    }

    #[test]
    fn some_event_is_always_kept() {
        let parsed = |kept| Config::try_parse_from(["sync-server", "--kept-events", kept]);
        assert!(parsed("0").is_err());
        assert_eq!(parsed("1").unwrap().limits.kept_events, 1);
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in ["", "here", "127.0.0.1", "127.0.0.1:70000"] {
            assert!(
                Config::try_parse_from(["sync-server", "--listen", bad]).is_err(),
                "{bad}"
            );
        }
    }
}
