//! Why a command failed, in the three parts that a person needs: the thing, the cause, the next
//! step.

use std::error::Error;
use std::fmt::Write as _;
use std::io;

use serde_json::{Value, json};
use uspark_shared::printable::printable;

use crate::api::{ApiError, Refusal};
use crate::command::CommandError;
use crate::config::ConfigError;
use crate::control::ControlError;
use crate::disk::DiskError;
use crate::engine::{EngineError, Over};
use crate::journal::JournalError;

/// Exit code for what could not be done.
pub const FAILED: u8 = 1;
/// Exit code for what was asked wrongly.
pub const USAGE: u8 = 2;
/// Exit codes of a shell for a program that cannot be executed, or found.
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// What to do about a workspace that mirrors something else.
pub const OTHER_DIRECTORY: &str =
    "use another directory; or, to start anew here, remove its .uspark first";
const PERMISSIONS: &str = "check who owns it and what its permissions are";
const LOG: &str = "USPARK_LOG=debug shows what led to it";

/// A failed command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What did not happen, naming the thing.
    pub message: String,
    /// Why.
    pub cause: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// What the process exits with.
    pub exit: u8,
}

impl Failure {
    /// Something that could not be done.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            cause: None,
            hint: None,
            exit: FAILED,
        }
    }

    /// Something that was asked wrongly.
    pub fn usage(message: impl Into<String>) -> Self {
        Self {
            exit: USAGE,
            ..Self::new(message)
        }
    }

    /// The same, with its cause.
    pub fn cause(self, cause: impl ToString) -> Self {
        Self {
            cause: Some(cause.to_string()),
            ..self
        }
    }

    /// The same, with its next step.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }

    /// Takes an error's own words for the message, and what lies beneath it for the cause.
    fn of(error: &dyn Error) -> Self {
        let message = error.to_string();
        let mut cause = String::new();
        let mut below = error.source();
        while let Some(error) = below {
            let said = error.to_string();
            // Libraries repeat the inner error in the outer one; the words count once.
            if !message.contains(&said) && !cause.contains(&said) {
                let separator = if cause.is_empty() { "" } else { ": " };
                let _ = write!(cause, "{separator}{said}");
            }
            below = error.source();
        }
        Self {
            cause: (!cause.is_empty()).then_some(cause),
            ..Self::new(message)
        }
    }

    fn of_api(error: &ApiError, hint: String) -> Self {
        Self {
            cause: error.cause(),
            ..Self::new(error.to_string()).hint(hint)
        }
    }

    /// The message and the cause, for a sentence about them.
    pub fn in_one_line(&self) -> String {
        match &self.cause {
            Some(cause) => format!("{}: {cause}", self.message),
            None => self.message.clone(),
        }
    }

    /// The lines for a person.
    pub fn lines(&self) -> String {
        let message = Some(&self.message);
        let parts = [
            ("error", message),
            ("cause", self.cause.as_ref()),
            ("hint", self.hint.as_ref()),
        ];
        let mut lines = String::new();
        for (name, text) in parts {
            for (number, line) in text
                .into_iter()
                .flat_map(|text| text.split('\n').enumerate())
            {
                let name = if number == 0 {
                    format!("{name}: ")
                } else {
                    String::new()
                };
                let _ = writeln!(lines, "{name}{}", printable(line));
            }
        }
        lines
    }

    /// The object for a machine.
    pub fn json(&self) -> Value {
        json!({"message": self.message, "cause": self.cause, "hint": self.hint, "exit": self.exit})
    }
}

impl From<clap::Error> for Failure {
    fn from(error: clap::Error) -> Self {
        let text = error.render().to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        // Clap's paragraphs: what is wrong, tips, the usage, where to read more.
        let mut paragraphs = text.split("\n\n").map(str::trim);
        let message = paragraphs.next().unwrap_or_default();
        let usage = paragraphs.find_map(|text| text.strip_prefix("Usage: "));
        let usage = usage.unwrap_or("uspark <COMMAND>");
        Self::usage(message).hint(format!("{usage}   (--help shows examples)"))
    }
}

/// What to do about a place that cannot be used, where the system's answer tells.
fn place_hint(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            Some("something else has the name of a directory there: move it away")
        }
        io::ErrorKind::PermissionDenied => Some(PERMISSIONS),
        io::ErrorKind::ReadOnlyFilesystem => {
            Some("a workspace must be on a file system that can be written to")
        }
        _ => None,
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let hint = match &error {
            ConfigError::Io { source, .. } => place_hint(source).unwrap_or(PERMISSIONS).into(),
            ConfigError::Malformed { path, .. } => {
                format!("mend it or remove it: rm {}", path.display())
            }
            ConfigError::Authorities { .. } => {
                "--ca-cert takes a file with `-----BEGIN CERTIFICATE-----`: the authority's, not a key"
                    .into()
            }
            ConfigError::NoHome => {
                "set HOME, or give both --server and --token (USPARK_SERVER, USPARK_TOKEN)".into()
            }
        };
        Self::of(&error).hint(hint)
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        let usual = match &error {
            ApiError::Request { .. } if error.is_untrusted() => {
                "if the authority that signed its certificate is yours, name its certificate: --ca-cert \
                 FILE or USPARK_CA_CERT"
            }
            ApiError::Request { .. } if error.is_plain() => {
                "it speaks no TLS there: name it with `http://`, or give it a certificate"
            }
            ApiError::Request { .. } | ApiError::Silent { .. } => {
                "is `sync-server` running there? Name another with --server or USPARK_SERVER"
            }
            ApiError::Malformed { server, .. } => match server.strip_suffix("/api") {
                Some(address) => {
                    return Self::of_api(
                        &error,
                        format!("name the server without `/api`: {address}"),
                    );
                }
                None => "is it a uspark server? Name another with --server",
            },
            ApiError::Refused { refusal, .. } => match refusal {
                Refusal::Unauthorised => {
                    "log in with a token that is valid: uspark auth login --token …"
                }
                Refusal::Forbidden | Refusal::NotFound => {
                    "check the project's id; `uspark auth status` says what the token is for"
                }
                Refusal::TooLarge => "the server's operator sets the limit",
                Refusal::Later => "try again in a moment",
                Refusal::Other(_) => "are the agent and the server of one version?",
            },
        };
        let said = match &error {
            // Its own words are for those who write requests.
            ApiError::Refused {
                refusal: Refusal::Unauthorised,
                ..
            } => None,
            ApiError::Refused { hint, .. } => hint.clone(),
            _ => None,
        };
        Self::of_api(&error, said.unwrap_or_else(|| usual.into()))
    }
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        Self::of(&error).hint("`uspark status` says which process it is; end it and try again")
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let hint = match &error {
            EngineError::Over(Over::Refused(_)) => {
                "`uspark auth login --token …` takes a token that is valid, `uspark auth status` says \
                 what this one is for; what is not sent is kept in .uspark"
            }
            EngineError::Over(Over::StateLost) => {
                "begin again, for example `uspark watch`: what differs from the project by then is kept beside it"
            }
            EngineError::Journal(JournalError::Foreign { .. }) => OTHER_DIRECTORY,
            EngineError::Disk(DiskError::Io { source, .. }) => place_hint(source).unwrap_or(LOG),
            _ => LOG,
        };
        Self::of(&error).hint(hint)
    }
}

impl From<CommandError> for Failure {
    fn from(error: CommandError) -> Self {
        let (exit, hint) = match &error {
            CommandError::NotFound { program } if program == crate::claude::launch::PROGRAM => (
                NOT_FOUND,
                "install it with `npm install -g @anthropic-ai/claude-code`, or run another \
                 command: uspark run -- CMD",
            ),
            CommandError::NotFound { .. } => (NOT_FOUND, "is it installed, and on the PATH?"),
            CommandError::NotExecutable { .. } => (NOT_EXECUTABLE, "is it executable? chmod +x"),
            CommandError::Lost(_) => (FAILED, "`ps` shows whether it still runs"),
            CommandError::Failed { .. } => (FAILED, "the system refused it; nothing was run"),
        };
        Self {
            exit,
            ..Self::of(&error).hint(hint)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::args::Cli;
    use super::*;

    #[test]
    fn the_thing_the_cause_and_the_next_step_have_a_line_each() {
        let error = ConfigError::Io {
            action: "read",
            path: "/x/config.json".into(),
            source: io::ErrorKind::PermissionDenied.into(),
        };
        let failure = Failure::from(error);
        assert_eq!(
            failure.lines(),
            "error: cannot read /x/config.json\ncause: permission denied\n\
             hint: check who owns it and what its permissions are\n"
        );
        assert_eq!(failure.json()["exit"], 1);
    }

    #[test]
    fn a_cause_that_the_message_names_is_not_said_again() {
        let failure = Failure::from(EngineError::Disk(DiskError::Io {
            action: "use",
            path: "/w/.uspark".into(),
            source: io::Error::from_raw_os_error(20),
        }));
        assert_eq!(failure.lines().matches("Not a directory").count(), 1);
    }

    #[test]
    fn a_workspace_that_cannot_be_used_says_what_to_do_about_it() {
        let disk = |kind: io::ErrorKind| {
            EngineError::Disk(DiskError::Io {
                action: "create",
                path: "/w/.uspark".into(),
                source: kind.into(),
            })
        };
        let foreign = EngineError::Journal(JournalError::Foreign {
            project: "p".into(),
            server: "http://h".into(),
        });
        for (error, hint) in [
            (foreign, "use another directory; or, to start anew"),
            (disk(io::ErrorKind::PermissionDenied), "check who owns it"),
            (disk(io::ErrorKind::ReadOnlyFilesystem), "can be written to"),
            (disk(io::ErrorKind::NotADirectory), "move it away"),
            (disk(io::ErrorKind::Other), "USPARK_LOG=debug"),
        ] {
            let said = Failure::from(error).hint.unwrap();
            assert!(said.contains(hint), "{said}");
        }
    }

    #[test]
    fn no_part_of_it_commands_the_terminal() {
        let failure = Failure::new("a\u{1b}[2J").cause("x\n  y\r").hint("h");
        assert_eq!(
            failure.lines(),
            "error: a\\u{1b}[2J\ncause: x\n  y\\r\nhint: h\n"
        );
    }

    #[test]
    fn an_address_with_the_calls_in_it_is_told_to_be_shorter() {
        let odd = |server: &str| ApiError::Malformed {
            server: server.into(),
            reason: "x".into(),
        };
        let hint = |server| Failure::from(odd(server)).hint.unwrap();
        assert!(hint("http://h:1/api").contains("without `/api`: http://h:1"));
        assert!(hint("http://h:1").contains("is it a uspark server"));
    }

    #[test]
    fn wrong_usage_keeps_claps_words_and_gets_our_hint() {
        let parse = |words: &[&str]| {
            let error = Cli::parse_from_arguments(words.iter().map(Into::into)).unwrap_err();
            Failure::from(error)
        };
        let failure = parse(&["uspark", "pull", "--project-id", "../x"]);
        assert_eq!(failure.exit, USAGE);
        assert!(
            failure.message.contains("`../x` is no valid id"),
            "{}",
            failure.message
        );
        assert!(!failure.lines().contains("For more information"));
        let unknown = parse(&["uspark", "pull", "--fly"]);
        assert_eq!(unknown.message, "unexpected argument '--fly' found");
        assert!(unknown.hint.unwrap().starts_with("uspark pull "));
    }

    #[test]
    fn a_missing_program_exits_as_in_a_shell() {
        let missing = |program: &str| {
            Failure::from(CommandError::NotFound {
                program: program.into(),
            })
        };
        assert_eq!(missing("claude").exit, 127);
        assert!(missing("claude").hint.unwrap().contains("npm install"));
        assert_eq!(missing("made").exit, 127);
    }
}
