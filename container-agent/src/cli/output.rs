//! What a command says: results on standard output, everything else on standard error.

use std::fmt::Display;
use std::io;
use std::time::Duration;

use serde_json::Value;
use uspark_shared::printable::printable;

use super::failure::Failure;
use crate::control::ReportView;
use crate::control::message::Reason;
use crate::disk::observe::UNREADABLE;

/// How many paths of a list are shown to a person; a machine gets them all.
const SHOWN_PATHS: usize = 20;

/// Where a command's result goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Lines for a person on standard output.
    Lines,
    /// One JSON object on standard output.
    Json,
    /// Standard output belongs to a stream; lines for a person on standard error.
    BesideStream,
    /// Standard output belongs to a stream; one JSON object on standard error.
    JsonBesideStream,
}

impl Output {
    /// The output for a command whose standard output is its own.
    pub fn new(json: bool) -> Self {
        if json { Self::Json } else { Self::Lines }
    }

    /// The output for a command whose standard output is a stream.
    pub fn beside_stream(json: bool) -> Self {
        if json {
            Self::JsonBesideStream
        } else {
            Self::BesideStream
        }
    }

    /// Prints what came of a command, and returns its exit code: 0 unless it failed.
    ///
    /// `object` is a JSON object; the failure becomes its member `error`.
    pub fn conclude(self, lines: &str, mut object: Value, failure: Option<Failure>) -> u8 {
        if let Some(failure) = &failure {
            object["error"] = failure.json();
        }
        match self {
            Self::Lines => print(io::stdout(), &lines),
            Self::Json => print(io::stdout(), &format_args!("{object}\n")),
            Self::BesideStream | Self::JsonBesideStream => say(lines),
        }
        if let Some(failure) = &failure {
            say(failure.lines());
        }
        if self == Self::JsonBesideStream {
            say(format_args!("{object}\n"));
        }
        failure.map_or(0, |failure| failure.exit)
    }
}

/// Says something on standard error. Nobody listening is no error.
pub fn say(text: impl Display) {
    print(io::stderr(), &text);
}

/// A report's conflicts and skipped paths, as warnings for a person.
pub fn warnings(report: &ReportView) -> String {
    let conflicts: Vec<_> = report
        .conflicts
        .iter()
        .map(|conflict| {
            format!(
                "{}: both sides changed it; the other version is {}",
                conflict.path, conflict.kept
            )
        })
        .collect();
    let mut text = list("warning: ", &conflicts);
    text += &list("warning: not synced: ", &reasons(&report.skipped));
    text
}

/// Why workspace and project are not equal, as a failure.
pub fn not_equal(report: &ReportView, hint: &str) -> Failure {
    let pass = let_pass(report);
    let hint = match report.held {
        0 => hint.to_owned(),
        _ => format!("bring the files back; or, if it is meant, let the deletions pass: {pass}"),
    };
    let count = report.pending.len();
    let pending = list("  ", &reasons(&report.pending));
    Failure {
        cause: Some(format!(
            "{} left\n{}",
            of(count, "thing"),
            pending.trim_end()
        )),
        ..Failure::new("workspace and project are not equal yet").hint(hint)
    }
}

/// The commands that let pass what is held.
pub fn let_pass(report: &ReportView) -> &'static str {
    match report.held_here {
        0 => "`uspark push --allow-mass-delete`",
        here if here == report.held => "`uspark pull --allow-mass-delete`",
        _ => "`uspark push --allow-mass-delete` and `uspark pull --allow-mass-delete`",
    }
}

/// What this user may not read is not on the server, as a failure; `verb` is what was to be done
/// with it.
pub fn unreadable(verb: &str, report: &ReportView) -> Option<Failure> {
    let paths: Vec<String> = report
        .skipped
        .iter()
        .filter(|skipped| skipped.why == UNREADABLE)
        .filter_map(|skipped| skipped.path.clone())
        .collect();
    let failure = match paths.as_slice() {
        [] => return None,
        [path] => Failure::new(format!("cannot {verb} {}: {UNREADABLE}", printable(path))),
        many => {
            let named = list("  ", many);
            Failure::new(format!("cannot {verb} {}", of(many.len(), "path")))
                .cause(format!("{UNREADABLE}\n{}", named.trim_end()))
        }
    };
    Some(failure.hint("give this user the right to read it, or name it in .usparkignore"))
}

/// Names were given that name nothing, as a failure.
pub fn no_such(unknown: &[Reason]) -> Option<Failure> {
    let failure = match unknown {
        [] => return None,
        [one] => Failure::new(printable(&one.why)),
        many => {
            let failure = Failure::new(format!(
                "{} name nothing that is synced",
                of(many.len(), "path")
            ));
            failure.cause(format!("\n{}", list("  ", &whys(many)).trim_end()))
        }
    };
    Some(failure.hint("check the names: they are relative to the current directory"))
}

/// The reasons alone: they name their paths.
pub fn whys(reasons: &[Reason]) -> Vec<String> {
    reasons.iter().map(|reason| reason.why.clone()).collect()
}

/// A number with its noun.
pub fn of(count: usize, noun: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{ending}")
}

/// A span of time in its two largest units.
pub fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// Each path with its reason.
pub fn reasons(reasons: &[Reason]) -> Vec<String> {
    let line = |reason: &Reason| match &reason.path {
        Some(path) => format!("{path}: {}", reason.why),
        None => reason.why.clone(),
    };
    reasons.iter().map(line).collect()
}

/// So many lines as a person reads, each after `prefix`; of the others the number.
pub fn list(prefix: &str, lines: &[String]) -> String {
    let mut text: String = lines
        .iter()
        .take(SHOWN_PATHS)
        .map(|line| format!("{prefix}{}\n", printable(line)))
        .collect();
    if lines.len() > SHOWN_PATHS {
        let more = lines.len() - SHOWN_PATHS;
        text += &format!("{prefix}… and {more} more; --json names all\n");
    }
    text
}

fn print(mut to: impl io::Write, text: &dyn Display) {
    // A closed pipe ends the reading, not the syncing; there is nobody left to tell.
    let _ = write!(to, "{text}").and_then(|()| to.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(pending: usize) -> ReportView {
        let reason = |n| Reason {
            path: Some(format!("file-{n}")),
            why: "the server is away".into(),
        };
        ReportView {
            pending: (0..pending).map(reason).collect(),
            ..ReportView::default()
        }
    }

    #[test]
    fn what_is_left_is_named_but_not_without_end() {
        let few = not_equal(&report(1), "h").lines();
        assert!(
            few.contains("1 thing left\n  file-0: the server is away\nhint: h"),
            "{few}"
        );
        let many = not_equal(&report(50), "h").lines();
        assert!(
            many.contains("50 things left") && many.contains("and 30 more"),
            "{many}"
        );
    }

    #[test]
    fn all_that_cannot_be_read_is_one_failure() {
        let skipped = |path: String, why: &str| Reason {
            path: Some(path),
            why: why.into(),
        };
        let failure = |count| {
            let secrets = (0..count).map(|n| skipped(format!("secret-{n}"), UNREADABLE));
            let report = ReportView {
                skipped: secrets
                    .chain([skipped("pipe".into(), "a named pipe")])
                    .collect(),
                ..ReportView::default()
            };
            unreadable("sync", &report)
        };
        assert_eq!(failure(0), None);
        let one = failure(1).unwrap();
        assert_eq!(one.message, format!("cannot sync secret-0: {UNREADABLE}"));
        let many = failure(50).unwrap();
        assert_eq!((many.exit, &*many.message), (1, "cannot sync 50 paths"));
        let cause = many.cause.unwrap();
        assert!(
            cause.starts_with(&format!("{UNREADABLE}\n  secret-0\n  secret-1\n")),
            "{cause}"
        );
        assert!(
            cause.ends_with("\n  … and 30 more; --json names all") && !cause.contains("pipe"),
            "{cause}"
        );
    }

    #[test]
    fn a_name_cannot_command_the_terminal() {
        let skipped = Reason {
            path: Some("a\u{1b}[2J\nb".into()),
            why: "isn't a file".into(),
        };
        let text = warnings(&ReportView {
            skipped: vec![skipped],
            ..ReportView::default()
        });
        assert_eq!(text, "warning: not synced: a\\u{1b}[2J\\nb: isn't a file\n");
    }
}
