//! Paths as people write them -> paths of the project.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};

use uspark_shared::path::FilePath;

use super::failure::Failure;

/// Which part of a project a command is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All of it.
    Everything,
    /// These files, and what lies below these directories. Sorted, none twice.
    Only(Vec<FilePath>),
}

impl Scope {
    /// Reads paths relative to `current`, a directory in the workspace at `root`. Both are
    /// absolute and without links.
    pub fn parse(given: &[OsString], current: &Path, root: &Path) -> Result<Self, Failure> {
        let mut paths = Vec::new();
        for given in given {
            match parse_one(Path::new(given), current, root)? {
                // The workspace itself was named: the other paths add nothing.
                None => return Ok(Self::Everything),
                Some(path) => paths.push(path),
            }
        }
        paths.sort();
        paths.dedup();
        Ok(match paths.is_empty() {
            true => Self::Everything,
            false => Self::Only(paths),
        })
    }

    /// As the engine takes it.
    pub fn into_paths(self) -> Vec<FilePath> {
        match self {
            Self::Everything => Vec::new(),
            Self::Only(paths) => paths,
        }
    }
}

/// One path; `None` is the workspace itself.
fn parse_one(given: &Path, current: &Path, root: &Path) -> Result<Option<FilePath>, Failure> {
    let shown = given.display();
    if given.as_os_str().is_empty() {
        return Err(Failure::usage("a path is empty").hint("name a file, or leave it out for all"));
    }
    if given.as_os_str().as_bytes().contains(&0) {
        return Err(Failure::usage("a path holds a NUL").hint("no file has such a name"));
    }
    if given.is_absolute() {
        let hint = match given.strip_prefix(current) {
            Ok(below) if !below.as_os_str().is_empty() => format!("write `{}`", below.display()),
            _ => "write it relative to the current directory".to_owned(),
        };
        return Err(Failure::usage(format!("`{shown}` is absolute")).hint(hint));
    }
    if given.components().any(|part| part == Component::ParentDir) {
        return Err(Failure::usage(format!("`{shown}` has a `..`"))
            .hint("go to the directory first: paths only lead down from it"));
    }
    let Ok(below) = current.strip_prefix(root) else {
        let message = format!("`{shown}` is outside the workspace {}", root.display());
        let hint = format!(
            "paths are relative to the current directory: cd {}",
            root.display()
        );
        return Err(Failure::usage(message).hint(hint));
    };
    // `components` drops `.`, doubled slashes and a last one.
    let joined = below.join(given);
    let parts: Option<Vec<&str>> = joined
        .components()
        .filter(|part| *part != Component::CurDir)
        .map(|part| part.as_os_str().to_str())
        .collect();
    let Some(parts) = parts else {
        return Err(Failure::usage(format!("`{shown}` is no valid UTF-8"))
            .hint("such names cannot be synced; rename the file"));
    };
    if parts.is_empty() {
        return Ok(None);
    }
    let path = parts.join("/").parse().map_err(|error| {
        Failure::usage(format!("`{shown}` cannot be synced: {error}")).hint("name another file")
    })?;
    Ok(Some(path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    fn scope(given: &[&str], current: &str) -> Result<Scope, Failure> {
        let given: Vec<_> = given.iter().map(OsString::from).collect();
        Scope::parse(&given, Path::new(current), Path::new("/w"))
    }

    fn only(given: &[&str], current: &str) -> Vec<String> {
        let paths = scope(given, current).unwrap().into_paths();
        paths.into_iter().map(String::from).collect()
    }

    #[test]
    fn paths_are_relative_to_the_current_directory() {
        assert_eq!(only(&["src/a.js"], "/w"), ["src/a.js"]);
        assert_eq!(only(&["a.js", "sub"], "/w/src"), ["src/a.js", "src/sub"]);
        assert_eq!(only(&["./b//c/", "./b/./c", "a"], "/w"), ["a", "b/c"]);
        assert_eq!(only(&["."], "/w/src"), ["src"]);
        for all in [&[][..], &["."], &["./"], &["a", "."]] {
            assert_eq!(scope(all, "/w"), Ok(Scope::Everything), "{all:?}");
        }
    }

    #[test]
    fn what_leads_out_of_the_workspace_is_wrong_usage_with_a_hint() {
        for (given, current, says) in [
            ("/etc/passwd", "/w", "absolute"),
            ("/w/src/a", "/w", "absolute"),
            ("../x", "/w/src", "`..`"),
            ("a/../../x", "/w", "`..`"),
            ("a\0b", "/w", "NUL"),
            ("", "/w", "empty"),
            ("a", "/elsewhere", "outside the workspace /w"),
            (".", "/wide", "outside the workspace /w"),
            (".git/config", "/w", ".git"),
            ("x", "/w/.uspark", ".uspark"),
            (&"x".repeat(300), "/w", "too long"),
        ] {
            let failure = scope(&[given], current).unwrap_err();
            assert_eq!(failure.exit, 2, "{given:?}");
            assert!(
                failure.message.contains(says),
                "{given:?}: {}",
                failure.message
            );
            assert!(failure.hint.is_some(), "{given:?}");
        }
        let inside = scope(&["/w/src/a"], "/w").unwrap_err();
        assert_eq!(inside.hint.as_deref(), Some("write `src/a`"));
    }

    #[test]
    fn a_name_that_is_no_text_is_wrong_usage() {
        let given = [OsString::from_vec(b"a\xff".to_vec())];
        let failure = Scope::parse(&given, Path::new("/w"), Path::new("/w")).unwrap_err();
        assert_eq!(failure.exit, 2);
        assert!(failure.message.contains("UTF-8"));
    }
}
