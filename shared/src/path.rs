//! Where a file lies in its project: a path that cannot leave it.
//!
//! Invariant 11 of the design starts here: no value of [`FilePath`] names anything outside the
//! workspace, `.git` or `.uspark`. Links on disk are the agent's to resolve.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization as _;

/// Longest path, in bytes.
pub const MAX_PATH_BYTES: usize = 1024;
/// Longest component, in bytes: what ext4, xfs and btrfs allow.
pub const MAX_COMPONENT_BYTES: usize = 255;
/// Directories that belong to other programs or to us; never synced, in any case.
const RESERVED: [&str; 2] = [".git", ".uspark"];

/// Why a string is no path of a project.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// No path at all.
    #[error("the path is empty")]
    Empty,
    /// It begins with a slash.
    #[error("`{0}` is absolute; paths are relative to the project")]
    Absolute(String),
    /// A component is empty, `.` or `..`.
    #[error("`{0}` has an empty, `.` or `..` component")]
    Component(String),
    /// It holds a NUL.
    #[error("`{0}` holds a NUL")]
    Nul(String),
    /// It or one of its components is too long for a file system.
    #[error("`{0}` is too long: at most 255 bytes a component, 1024 in all")]
    TooLong(String),
    /// It lies in `.git` or `.uspark`.
    #[error("`{0}` lies in `.git` or `.uspark`, which are never synced")]
    Reserved(String),
}

/// A file's path: relative, `/`-separated, and inside the project.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FilePath(Box<str>);

impl FilePath {
    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The components, outermost first.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// The last component.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The directory it lies in, or `None` at the top.
    pub fn parent(&self) -> Option<FilePath> {
        let (parent, _) = self.0.rsplit_once('/')?;
        Some(FilePath(parent.into()))
    }

    /// Every directory above it, innermost first.
    pub fn ancestors(&self) -> impl Iterator<Item = FilePath> + '_ {
        std::iter::successors(self.parent(), FilePath::parent)
    }

    /// Whether it lies below `directory`.
    pub fn is_below(&self, directory: &FilePath) -> bool {
        self.0
            .strip_prefix(directory.as_str())
            .is_some_and(|rest| rest.starts_with('/'))
    }

    /// The same place seen from `to` instead of `from`; `None` unless it is `from` or below it.
    pub fn moved(&self, from: &FilePath, to: &FilePath) -> Option<FilePath> {
        let rest = self.0.strip_prefix(from.as_str())?;
        if !rest.is_empty() && !rest.starts_with('/') {
            return None;
        }
        format!("{to}{rest}").parse().ok()
    }

    /// What two paths share when a file system that folds case or normalises Unicode would take
    /// them for one.
    pub fn collision_key(&self) -> String {
        self.0.nfc().flat_map(char::to_lowercase).nfc().collect()
    }

    /// The name under which the loser of a conflict is kept beside this path:
    /// `name.conflict-<who>-<when>`.
    ///
    /// `who` is cut to characters that are safe in a name; `when` is in milliseconds since 1970.
    /// The same arguments give the same name, so that a conflict kept twice is kept once.
    pub fn conflict(&self, who: &str, when: u64) -> FilePath {
        let who: String = who
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .take(24)
            .collect();
        self.with_suffix(&format!(".conflict-{who}-{when}"))
    }

    /// Another name beside this path: `name-<n>`.
    pub fn numbered(&self, n: u32) -> FilePath {
        self.with_suffix(&format!("-{n}"))
    }

    /// The path with a longer name, of which the end is kept. What would be too long loses the end
    /// of its own name; where no name has room, it goes to a directory further up.
    fn with_suffix(&self, suffix: &str) -> FilePath {
        // As much of its own name as at least one character needs.
        const LEAST_NAME: usize = 4;
        let name = self.name();
        let mut directory = &self.0[..self.0.len() - name.len()];
        while directory.len() + LEAST_NAME + suffix.len() > MAX_PATH_BYTES {
            let above = directory.trim_end_matches('/').rfind('/');
            directory = &directory[..above.map_or(0, |slash| slash + 1)];
        }
        let room = MAX_COMPONENT_BYTES.min(MAX_PATH_BYTES - directory.len()) - suffix.len();
        let own = &name[..name.floor_char_boundary(room)];
        FilePath(format!("{directory}{own}{suffix}").into())
    }
}

/// What a map has below a directory.
pub fn below<'a, V>(
    map: &'a BTreeMap<FilePath, V>,
    directory: &FilePath,
) -> impl Iterator<Item = (&'a FilePath, &'a V)> + use<'a, V> {
    // `d-x` sorts between `d` and `d/x`.
    let prefix = format!("{directory}/");
    let from = (Bound::Included(prefix.as_str()), Bound::Unbounded);
    map.range::<str, _>(from)
        .take_while(move |(path, _)| path.as_str().starts_with(&prefix))
}

impl FromStr for FilePath {
    type Err = PathError;

    fn from_str(s: &str) -> Result<Self, PathError> {
        if s.is_empty() {
            return Err(PathError::Empty);
        }
        let shown = || s.escape_debug().take(200).collect::<String>();
        if s.starts_with('/') {
            return Err(PathError::Absolute(shown()));
        }
        if s.contains('\0') {
            return Err(PathError::Nul(shown()));
        }
        if s.len() > MAX_PATH_BYTES || s.split('/').any(|c| c.len() > MAX_COMPONENT_BYTES) {
            return Err(PathError::TooLong(shown()));
        }
        if s.split('/').any(|c| matches!(c, "" | "." | "..")) {
            return Err(PathError::Component(shown()));
        }
        let reserved = |c: &str| RESERVED.iter().any(|name| c.eq_ignore_ascii_case(name));
        if s.split('/').any(reserved) {
            return Err(PathError::Reserved(shown()));
        }
        Ok(Self(s.into()))
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Lets maps keyed by paths be searched by text; both order and hash as their text does.
impl Borrow<str> for FilePath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for FilePath {
    type Error = PathError;

    fn try_from(s: String) -> Result<Self, PathError> {
        s.parse()
    }
}

impl From<FilePath> for String {
    fn from(path: FilePath) -> String {
        path.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(s: &str) -> FilePath {
        s.parse().unwrap()
    }

    #[test]
    fn what_lies_below_a_directory_is_found_between_its_neighbours() {
        let paths = ["d", "d-x", "d.y", "d/a", "d/b/c", "d0", "e", "dd/a"];
        let map: BTreeMap<FilePath, ()> = paths.map(|at| (path(at), ())).into();
        let found = |directory: &str| below(&map, &path(directory)).map(|(path, ())| path.as_str());
        assert!(found("d").eq(["d/a", "d/b/c"]));
        assert_eq!(found("e").count(), 0);
    }

    #[test]
    fn nothing_outside_the_project_is_a_path() {
        for good in ["a", "src/main.rs", "a b/ü", ".gitignore", "x/.env", "..a"] {
            assert_eq!(path(good).as_str(), good);
        }
        let long = format!("{}/x", "a/".repeat(512));
        for bad in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "../x",
            "a/../b",
            "a/./b",
            "a\0b",
            ".git",
            ".GIT/hooks/x",
            "sub/.git/config",
            ".uspark/x",
            ".USPARK",
            &"x".repeat(256),
            &long,
        ] {
            assert!(bad.parse::<FilePath>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_move_carries_what_lies_below() {
        let moved = |p: &str| path(p).moved(&path("a/b"), &path("c")).map(String::from);
        assert_eq!(moved("a/b/x/y").as_deref(), Some("c/x/y"));
        assert_eq!(moved("a/b").as_deref(), Some("c"));
        assert_eq!(moved("a/bc"), None);
    }

    #[test]
    fn names_that_some_file_system_confuses_collide() {
        assert_eq!(
            path("Src/É").collision_key(),
            path("src/e\u{301}").collision_key()
        );
        assert_ne!(path("a").collision_key(), path("b").collision_key());
    }

    #[test]
    fn a_conflict_name_is_always_a_path() {
        let name = path("src/a.rs").conflict("alice@x", 1732166400123);
        assert_eq!(name.as_str(), "src/a.rs.conflict-alice-x-1732166400123");
        for long in [
            "é".repeat(127),
            format!("{}{}", "d/".repeat(380), "é".repeat(120)),
            format!("{}name", "d/".repeat(510)),
        ] {
            let kept = path(&long).conflict(&"w".repeat(99), u64::MAX);
            assert_eq!(kept.as_str().parse(), Ok(kept.clone()));
        }
        // No name has room there.
        let deep = path(&format!("{}name", "d/".repeat(510))).conflict("w", 1);
        assert!(deep.as_str().ends_with("d/d/name.conflict-w-1"), "{deep}");
    }
}
