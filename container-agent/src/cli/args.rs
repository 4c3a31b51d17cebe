//! What may be written on the command line, and the variables that stand for it.
//!
//! Everything is parsed into its type here; what remains for the commands to check depends on the
//! workspace.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use uspark_shared::id::ProjectId;

use crate::config::{Authorities, ConfigError, Secret, ServerUrl};
use crate::engine::MassDelete;

/// Keeps a directory and a project on a uspark server equal while a coding agent works in it.
#[derive(Debug, Parser)]
#[command(
    name = "uspark",
    version,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "\
Examples:
  uspark auth login --token uspk_… --server https://sync.example.com
  uspark pull --project-id my-project
  claude -p --output-format stream-json --verbose … | uspark watch-claude --project-id my-project
  uspark run --project-id my-project --prompt 'add a test for the parser'"
)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
pub struct Common {
    /// Print the result, or the error, as one JSON object on standard output (`run` and
    /// `watch-claude` leave that to their stream and print it as the last line of standard error)
    #[arg(long, global = true)]
    pub json: bool,
    /// Say more on standard error; USPARK_LOG=debug says everything
    #[arg(short, long, global = true)]
    pub verbose: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Keep or forget the token for a server
    #[command(
        subcommand,
        after_help = "\
Examples:
  uspark auth login --token uspk_…
  uspark auth status"
    )]
    Auth(Auth),
    /// Bring the workspace up to the project: everything, or only some paths
    #[command(after_help = "\
Examples:
  uspark pull --project-id my-project       into the current directory
  uspark pull                               again: the project is remembered
  uspark pull src/one-file.js docs          one file and one directory

Files changed on both sides are merged. What only this directory has stays, and is counted: `uspark
push` sends it. If most files were deleted in the project at once, these deletions are held;
--allow-mass-delete lets them pass.

--json prints {changes, unknown, report}. In the report `done` is true when everything came over,
`equal` only when nothing differs the other way either; `notPushed` names what does. `unknown` are
paths that name nothing here or in the project; the others are pulled all the same.

Exits with 1 when something could not be pulled or a path names nothing.")]
    Pull(Transfer),
    /// Bring the project up to the workspace: everything, or only some paths
    #[command(after_help = "\
Examples:
  uspark push --project-id my-project --all
  uspark push src/one-file.js

Files changed on both sides are merged. On the server only what this directory had, and has deleted
since, is deleted. What only the server has changed is counted: `uspark pull` brings it.

If most files are gone from this directory, their deletions are held: bring the files back or, if it is
meant, let them pass, also where an agent is at work:
  uspark push --allow-mass-delete

Not synced are .git, node_modules, target, .venv and the like, and what a .gitignore names;
.usparkignore, of the same form, has the last word: `!target` there brings target back.

--json prints {changes, unknown, report}. In the report `done` is true when everything was sent,
`equal` only when nothing differs the other way either; `notPulled` names what does. `unknown` are
paths that name nothing here or in the project; the others are pushed all the same.

Exits with 1 when something could not be pushed or a path names nothing.")]
    Push(Transfer),
    /// Keep workspace and project equal until stopped
    #[command(after_help = "\
Examples:
  uspark watch --project-id my-project      until Ctrl-C, which makes a last sync

Not synced are .git, node_modules, target, .venv and the like, and what a .gitignore names;
.usparkignore, of the same form, has the last word: `!target` there brings target back.")]
    Watch(Target),
    /// Pass Claude Code's output through, byte for byte, and sync what it does as it does it
    #[command(after_help = "\
Examples:
  claude -p --output-format stream-json --verbose --dangerously-skip-permissions < prompt.txt \\
    | uspark watch-claude --project-id my-project --stream-output

With --stream-output each line is also an event of the project, `GET /api/projects/{id}/events`. While
the server is away the lines are kept in .uspark; what is there at the end is sent by the next run.

Exits with 0 once everything is on the server, else with 1. With `set -o pipefail` the pipe gives
Claude's own exit code.")]
    WatchClaude(WatchClaude),
    /// Pull, run Claude Code or another command, sync as it works, and once more at its end
    #[command(after_help = "\
Examples:
  uspark run --project-id my-project --prompt 'add a test for the parser'
  uspark run --project-id my-project -- npm run build

Variables:
  USER_PROMPT        the prompt, when there is neither --prompt nor a command
  ANTHROPIC_API_KEY  Claude Code's key; CLAUDE_API_KEY is passed on under this name

What Claude Code says is also published among the project's events, `GET /api/projects/{id}/events`,
unless another agent keeps this workspace.

While the server is away a workspace that was synced before is used as it is: the command runs, and
what it changes is sent when the server is back, or by the next `uspark push`, `watch` or `run`.

Exits with the command's own code; with 1 if that was 0 and the last sync failed, or not all that
Claude Code said could be published.")]
    Run(Run),
    /// Say what the agent of this workspace is doing
    #[command(after_help = "\
Examples:
  uspark status
  uspark status --wait --sync-timeout 10    until all is equal, for 10 s at most")]
    Status(Status),
    /// Show what differs between workspace and project now, as changes from project to workspace
    #[command(after_help = "\
Examples:
  uspark diff                               everything, as git shows it
  uspark diff src/one-file.js docs --stat   one file and one directory, in numbers
  uspark diff | patch -R -p1                undo here what the project has not
  uspark diff --exit-code >/dev/null || uspark push

`+` is what only the workspace has, `-` what only the project has. Of binary files the sizes are
shown. It only reads, and works beside an agent: what that is about to sync may be shown. Exits with
0 whenever the two could be compared; with --exit-code with 1 if they differ. A failure is 1 as well,
with an error on standard error, and so is a path that names nothing here or in the project.")]
    Diff(Diff),
}

/// The commands about tokens.
#[derive(Debug, Subcommand)]
pub enum Auth {
    /// Check a token with its server and keep it
    #[command(after_help = "\
Examples:
  uspark auth login --token uspk_…
  USPARK_TOKEN=uspk_… uspark auth login --server https://sync.example.com
  uspark auth login --token uspk_… --server https://10.0.0.7:4400 --ca-cert ca.pem")]
    Login {
        /// The token
        #[arg(
            long,
            value_name = "TOKEN",
            env = "USPARK_TOKEN",
            hide_env_values = true
        )]
        token: Secret,
        /// Which server
        #[command(flatten)]
        server: ServerArg,
        /// Whom to trust
        #[command(flatten)]
        trust: Trust,
    },
    /// Say which token is used, for what, and until when
    #[command(after_help = "\
Examples:
  uspark auth status
  uspark auth status --json")]
    Status(Connection),
    /// Forget the token for a server
    #[command(after_help = "\
Examples:
  uspark auth logout
  uspark auth logout --server https://sync.example.com")]
    Logout(ServerArg),
}

/// Which server.
#[derive(Debug, Clone, Args)]
pub struct ServerArg {
    /// The server; also API_HOST. Without a scheme: http on this machine, https elsewhere
    #[arg(long, value_name = "URL", env = "USPARK_SERVER")]
    pub server: Option<ServerUrl>,
}

/// Which server, and as whom.
#[derive(Debug, Clone, Args)]
pub struct Connection {
    /// Which server.
    #[command(flatten)]
    pub server: ServerArg,
    /// The token; else the one that `uspark auth login` kept
    #[arg(
        long,
        value_name = "TOKEN",
        env = "USPARK_TOKEN",
        hide_env_values = true
    )]
    pub token: Option<Secret>,
    /// Whom to trust.
    #[command(flatten)]
    pub trust: Trust,
}

/// Whom to trust, beside the public authorities and this machine's own.
#[derive(Debug, Clone, Default, Args)]
pub struct Trust {
    /// Trust these authorities too that a server is who it says: a PEM file. Needed for a server whose
    /// certificate is of your own making; `uspark auth login` remembers it
    #[arg(long, value_name = "FILE", env = "USPARK_CA_CERT")]
    pub ca_cert: Option<PathBuf>,
}

impl Trust {
    /// Reads the file that is named, or else the one that is `kept`.
    pub fn authorities(&self, kept: Option<&Path>) -> Result<Authorities, ConfigError> {
        let read = self.ca_cert.as_deref().or(kept).map(Authorities::read);
        Ok(read.transpose()?.unwrap_or_default())
    }
}

/// Which directory, and how long to wait.
#[derive(Debug, Clone, Args)]
pub struct Place {
    /// The workspace; else the current directory
    #[arg(long, value_name = "DIR", env = "WORKSPACE_PATH")]
    pub workspace: Option<PathBuf>,
    /// How long to wait at the end for the last sync, before that while nothing moves, and for a
    /// server that is away: seconds, or 500ms, 60s, 5m
    #[arg(long, value_name = "TIME", default_value = "60", value_parser = parse_timeout)]
    pub sync_timeout: Duration,
}

/// Which directory, which project, which server, as whom.
#[derive(Debug, Clone, Args)]
pub struct Target {
    /// The project; remembered in the workspace
    #[arg(long, value_name = "ID", env = "PROJECT_ID")]
    pub project_id: Option<ProjectId>,
    /// Which directory.
    #[command(flatten)]
    pub place: Place,
    /// Which server, as whom.
    #[command(flatten)]
    pub connection: Connection,
    /// Let deletions pass also when they are more than half of all files at once (and ten or more);
    /// else they are held, and all other changes go on
    #[arg(long)]
    pub allow_mass_delete: bool,
}

impl Target {
    /// What becomes of too many deletions at once; `allowed` if the user said that they are meant.
    pub fn mass_delete(&self, allowed: MassDelete) -> MassDelete {
        match self.allow_mass_delete {
            true => allowed,
            false => MassDelete::Held,
        }
    }
}

/// What `pull` and `push` take.
#[derive(Debug, Args)]
pub struct Transfer {
    /// Files or directories, relative to the current directory; everything if none is named
    #[arg(value_name = "PATH", conflicts_with = "all")]
    pub paths: Vec<OsString>,
    /// Everything, which is what no path means too
    #[arg(long)]
    pub all: bool,
    /// Between what.
    #[command(flatten)]
    pub target: Target,
}

/// What `watch-claude` takes.
#[derive(Debug, Args)]
pub struct WatchClaude {
    /// Also publish the lines among the project's events, where everybody can follow them
    #[arg(long)]
    pub stream_output: bool,
    /// Between what.
    #[command(flatten)]
    pub target: Target,
}

/// What `run` takes.
#[derive(Debug, Args)]
pub struct Run {
    /// Run Claude Code with this prompt
    #[arg(
        long,
        value_name = "TEXT",
        allow_hyphen_values = true,
        conflicts_with = "command",
        value_parser = clap::builder::NonEmptyStringValueParser::new()
    )]
    pub prompt: Option<String>,
    /// Run this command instead
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
    /// Between what.
    #[command(flatten)]
    pub target: Target,
}

/// What `status` takes.
#[derive(Debug, Args)]
pub struct Status {
    /// Wait until workspace and project are equal, for an agent that is just starting too; exit with
    /// 1 if they are not in time
    #[arg(long)]
    pub wait: bool,
    /// Which directory.
    #[command(flatten)]
    pub place: Place,
}

/// What `diff` takes.
#[derive(Debug, Args)]
pub struct Diff {
    /// Files or directories, relative to the current directory; everything if none is named
    #[arg(value_name = "PATH")]
    pub paths: Vec<OsString>,
    /// Show only how many lines of each file differ
    #[arg(long)]
    pub stat: bool,
    /// Exit with 1 if anything differs
    #[arg(long)]
    pub exit_code: bool,
    /// The project; remembered in the workspace
    #[arg(long, value_name = "ID", env = "PROJECT_ID")]
    pub project_id: Option<ProjectId>,
    /// The workspace; else the current directory
    #[arg(long, value_name = "DIR", env = "WORKSPACE_PATH")]
    pub workspace: Option<PathBuf>,
    /// Which server, as whom.
    #[command(flatten)]
    pub connection: Connection,
}

impl Cli {
    /// Parses `arguments`, the program's name first. A variable that is set to nothing counts as
    /// not set: container scripts export what they do not have.
    pub fn parse_from_arguments(
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<Self, clap::Error> {
        let matches: ArgMatches =
            without_blank_variables(Self::command()).try_get_matches_from(arguments)?;
        Self::from_arg_matches(&matches)
    }
}

fn without_blank_variables(command: clap::Command) -> clap::Command {
    let is_blank = |arg: &clap::Arg| {
        let value = arg.get_env().and_then(std::env::var_os);
        value.is_some_and(|value| value.to_string_lossy().trim().is_empty())
    };
    command
        .mut_args(|arg| match is_blank(&arg) {
            true => arg.env(None::<&'static str>),
            false => arg,
        })
        .mut_subcommands(without_blank_variables)
}

/// Longest wait that can be asked for; more than a day is a mistake in the unit.
const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

fn parse_timeout(text: &str) -> Result<Duration, String> {
    let (number, unit_ms) = match text {
        _ if text.ends_with("ms") => (&text[..text.len() - 2], 1.0),
        _ if text.ends_with('s') => (&text[..text.len() - 1], 1000.0),
        _ if text.ends_with('m') => (&text[..text.len() - 1], 60_000.0),
        _ => (text, 1000.0),
    };
    let number: f64 = number
        .parse()
        .map_err(|_| "write seconds, such as 60, or 500ms, 60s, 5m".to_owned())?;
    Duration::try_from_secs_f64(number * unit_ms / 1000.0)
        .ok()
        .filter(|time| *time <= MAX_TIMEOUT)
        .ok_or_else(|| "it must be between 0 and 24 hours".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        let words = std::iter::once("uspark").chain(line.split_whitespace());
        Cli::parse_from_arguments(words.map(OsString::from))
    }

    #[test]
    fn the_definition_is_consistent_and_every_command_shows_an_example() {
        fn check(command: &clap::Command) {
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(
                help.contains("uspark "),
                "`{}` has no example",
                command.get_name()
            );
            command.get_subcommands().for_each(check);
        }
        Cli::command().debug_assert();
        check(&Cli::command());
    }

    #[test]
    fn the_forms_of_the_container_scripts_are_accepted() {
        for line in [
            "auth login --token uspk_a_b",
            "auth login --token uspk_a_b --server localhost:4400",
            "auth login --token uspk_a_b --server localhost:4400 --ca-cert ca.pem",
            "pull --project-id p --ca-cert ca.pem",
            "auth status --json",
            "auth logout",
            "pull --project-id p",
            "pull --project-id p src/one-file.js",
            "pull --project-id p --all",
            "push --project-id p src/one-file.js other",
            "push --project-id p --all",
            "push --allow-mass-delete",
            "run --allow-mass-delete -- make clean",
            "push",
            "watch --project-id p",
            "watch-claude --project-id p --stream-output",
            "run --project-id p --prompt x",
            "run --project-id p -- npm run --json",
            "status --wait --sync-timeout 5 --json",
            "--json --verbose status",
            "diff",
            "diff --project-id p src --stat --exit-code --json",
        ] {
            assert!(parse(line).is_ok(), "{line}: {:?}", parse(line).err());
        }
    }

    #[test]
    fn wrong_usage_is_found_before_anything_happens() {
        for line in [
            "",
            "fly",
            "diff --allow-mass-delete",
            "pull --project-id ../x",
            "pull --all src",
            "pull --server ftp://x",
            "pull --token \u{e9}",
            "pull --sync-timeout soon",
            "run --prompt x -- ls",
            "run ls",
            "status --project-id p",
        ] {
            assert_eq!(
                parse(line).err().map(|error| error.exit_code()),
                Some(2),
                "{line}"
            );
        }
    }

    #[test]
    fn everything_after_two_dashes_is_the_command() {
        let Command::Run(run) = parse("run -- sh -c --json").unwrap().command else {
            panic!("it is `run`")
        };
        assert_eq!(run.command, ["sh", "-c", "--json"]);
    }

    #[test]
    fn a_timeout_is_seconds_or_says_its_unit() {
        for (text, millis) in [
            ("60", 60_000),
            ("0", 0),
            ("1.5s", 1500),
            ("250ms", 250),
            ("2m", 120_000),
        ] {
            assert_eq!(
                parse_timeout(text),
                Ok(Duration::from_millis(millis)),
                "{text}"
            );
        }
        for bad in ["", "s", "-1", "1h", "NaN", "inf", "1e300", "25h", "100000"] {
            assert!(parse_timeout(bad).is_err(), "{bad}");
        }
    }
}
