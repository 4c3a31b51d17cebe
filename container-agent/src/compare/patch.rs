//! A difference as text: in git's form, so that `git apply` and `patch` take it.

use std::fmt::{self, Write as _};

use imara_diff::{Algorithm, Diff, InternedInput, Token, UnifiedDiffConfig, UnifiedDiffPrinter};
use uspark_shared::path::FilePath;

use super::Difference;
use crate::api::manifest::Version;

/// Unchanged lines shown before and after a change.
const CONTEXT: u32 = 3;

/// A difference that was written.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Patch {
    /// Lines.
    pub text: String,
    /// Lines that only the workspace has.
    pub insertions: u64,
    /// Lines that only the project has.
    pub deletions: u64,
}

/// Writes how the workspace differs from the project. `project_text`: the project's text, if it has
/// one there.
pub fn patch(difference: &Difference, project_text: Option<&str>) -> Patch {
    let Difference {
        path,
        project,
        workspace,
        text,
    } = difference;
    let mut patch = Patch::default();
    let old = project.as_ref().map(|version| (version, project_text));
    let new = workspace.as_ref().map(|version| (version, text.as_deref()));
    match (old, new) {
        // A file that became a link, or the other way round, is two changes.
        (Some(old), Some(new)) if old.0.file().is_none() || new.0.file().is_none() => {
            if (git_mode(old.0), git_mode(new.0)) == (LINK, LINK) {
                patch.section(path, Some(old), Some(new));
            } else {
                patch.section(path, Some(old), None);
                patch.section(path, None, Some(new));
            }
        }
        (old, new) => patch.section(path, old, new),
    }
    patch
}

/// A version and its text, if it is one.
type Side<'a> = Option<(&'a Version, Option<&'a str>)>;

const LINK: u32 = 0o120_000;

impl Patch {
    fn section(&mut self, path: &FilePath, old: Side<'_>, new: Side<'_>) {
        let (a, b) = (quoted("a/", path), quoted("b/", path));
        let is_dir = |side: Side<'_>| matches!(side, Some((Version::Dir, _)));
        if is_dir(old) || is_dir(new) {
            let only = if is_dir(old) { "project" } else { "workspace" };
            let path = quoted("", path);
            return self.line(format_args!(
                "Only in the {only}: {path} (an empty directory)"
            ));
        }
        self.line(format_args!("diff --git {a} {b}"));
        let mode = |side: Side<'_>| side.map(|(version, _)| git_mode(version));
        match (mode(old), mode(new)) {
            (None, Some(mode)) => self.line(format_args!("new file mode {mode:06o}")),
            (Some(mode), None) => self.line(format_args!("deleted file mode {mode:06o}")),
            (Some(old), Some(new)) if old != new => {
                self.line(format_args!("old mode {old:06o}"));
                self.line(format_args!("new mode {new:06o}"));
            }
            _ => {}
        }
        let name = |side: Side<'_>, name| match side {
            Some(_) => name,
            None => "/dev/null".to_owned(),
        };
        match (content(old), content(new)) {
            (Some(old_text), Some(new_text)) if old_text == new_text => {}
            (Some(old_text), Some(new_text)) => {
                self.line(format_args!("--- {}", name(old, a)));
                self.line(format_args!("+++ {}", name(new, b)));
                self.hunks(old_text, new_text);
            }
            _ if hash(old) == hash(new) => {}
            _ => {
                let (a, b) = (name(old, a), name(new, b));
                let (old, new) = (described(old), described(new));
                self.line(format_args!("Binary files {a}{old} and {b}{new} differ"));
            }
        }
    }

    fn hunks(&mut self, old: &str, new: &str) {
        let input = InternedInput::new(old, new);
        let mut diff = Diff::compute(Algorithm::Histogram, &input);
        diff.postprocess_lines(&input);
        self.insertions += u64::from(diff.count_additions());
        self.deletions += u64::from(diff.count_removals());
        let mut config = UnifiedDiffConfig::default();
        config.context_len(CONTEXT);
        let printer = Printer(&input);
        let _ = write!(self.text, "{}", diff.unified_diff(&printer, config, &input));
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        // Writing into a string does not fail.
        let _ = writeln!(self.text, "{line}");
    }
}

/// Prints lines as git does, the missing last newline too.
struct Printer<'a>(&'a InternedInput<&'a str>);

impl Printer<'_> {
    fn line(&self, mut to: impl fmt::Write, sign: char, token: Token) -> fmt::Result {
        let line = self.0.interner[token];
        write!(to, "{sign}{line}")?;
        match line.ends_with('\n') {
            true => Ok(()),
            false => to.write_str("\n\\ No newline at end of file\n"),
        }
    }
}

impl UnifiedDiffPrinter for Printer<'_> {
    fn display_header(
        &self,
        mut to: impl fmt::Write,
        start_before: u32,
        start_after: u32,
        len_before: u32,
        len_after: u32,
    ) -> fmt::Result {
        // Before a first change near the beginning the library prints everything from the first line
        // on, and yet names the line at which the usual context would begin.
        let from_start = start_before <= CONTEXT;
        let start = |start, len| match (from_start, len) {
            (true, 0) => 0,
            (true, _) => 1,
            (false, 0) => start,
            (false, _) => start + 1,
        };
        let (before, after) = (
            start(start_before, len_before),
            start(start_after, len_after),
        );
        writeln!(to, "@@ -{before},{len_before} +{after},{len_after} @@")
    }

    fn display_context_token(&self, to: impl fmt::Write, token: Token) -> fmt::Result {
        self.line(to, ' ', token)
    }

    fn display_hunk(
        &self,
        mut to: impl fmt::Write,
        before: &[Token],
        after: &[Token],
    ) -> fmt::Result {
        for token in before {
            self.line(&mut to, '-', *token)?;
        }
        for token in after {
            self.line(&mut to, '+', *token)?;
        }
        Ok(())
    }
}

/// What is compared line by line: a text, a link's target, nothing where there is nothing.
fn content<'a>(side: Side<'a>) -> Option<&'a str> {
    match side {
        None => Some(""),
        Some((Version::Link { link }, _)) => Some(link),
        Some((_, text)) => text,
    }
}

fn hash(side: Side<'_>) -> Option<uspark_shared::id::BlobHash> {
    Some(side?.0.file()?.hash)
}

fn git_mode(version: &Version) -> u32 {
    match version {
        Version::Text(file) | Version::Binary(file) => 0o100_000 | (file.mode & 0o777),
        Version::Link { .. } => LINK,
        Version::Dir => 0o040_000,
    }
}

fn described(side: Side<'_>) -> String {
    let Some((version, _)) = side else {
        return String::new();
    };
    match version {
        Version::Text(file) => format!(" (text, {} bytes)", file.size),
        Version::Binary(file) => format!(" (binary, {} bytes)", file.size),
        Version::Link { .. } | Version::Dir => String::new(),
    }
}

/// A name as git writes it: in quotes when it holds what could be taken for something else.
pub fn quoted(prefix: &str, path: &FilePath) -> String {
    let is_plain = |c: char| !c.is_control() && c != '"' && c != '\\';
    if path.as_str().chars().all(is_plain) {
        return format!("{prefix}{path}");
    }
    let mut text = format!("\"{prefix}");
    for c in path.as_str().chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            c if is_plain(c) => text.push(c),
            c => {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    let _ = write!(text, "\\{byte:03o}");
                }
            }
        }
    }
    text.push('"');
    text
}
