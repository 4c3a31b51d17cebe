//! What differs between a workspace and a project, without an agent: the disk is looked at, and
//! compared with the manifest.
//!
//! Owns: [`compare`] and, in [`patch`], how a difference is written. Must not do: change anything,
//! take the workspace's lock, or fetch; the caller does. What is ignored, unless the project has
//! it, what cannot be synced and what is outside are no differences.

pub mod patch;

use std::collections::BTreeMap;

use uspark_shared::path::{FilePath, PathError};
use uspark_shared::text::MAX_TEXT_BYTES;

use crate::api::manifest::{File, Version};
use crate::disk::observe::{IfWritten, Seen};
use crate::disk::{DiskError, Kind, Root};
use crate::rules::Rules;

/// A path at which the two differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Where.
    pub path: FilePath,
    /// What the project has there.
    pub project: Option<Version>,
    /// What the disk has there.
    pub workspace: Option<Version>,
    /// The disk's text, if it has one there.
    pub text: Option<String>,
}

/// Everything in which the two differ.
#[derive(Debug, Default)]
pub struct Differences {
    /// By path.
    pub found: Vec<Difference>,
    /// What is not synced, and why. By path, as far as it can be shown.
    pub skipped: BTreeMap<String, String>,
    /// Those of the named paths at and below which neither side has anything.
    pub unknown: Vec<FilePath>,
}

/// Compares the workspace with what the project has. `only`: these paths and what lies below them;
/// everything when empty.
pub fn compare(
    root: &Root,
    project: &BTreeMap<FilePath, Version>,
    only: &[FilePath],
) -> Result<Differences, DiskError> {
    let mut walk = Walk {
        root,
        project,
        only,
        rules: Rules::default(),
        differences: Differences::default(),
    };
    let mut left = vec![None];
    while let Some(directory) = left.pop() {
        walk.directory(directory, &mut left)?;
    }
    for path in project.keys() {
        walk.look(path)?;
    }
    let mut differences = walk.differences;
    differences.found.sort_by(|a, b| a.path.cmp(&b.path));
    let is_unknown = |path: &&FilePath| {
        let has = |other: &FilePath| other == *path || other.is_below(path);
        !project.keys().any(has) && !root.has(path)
    };
    differences.unknown = only.iter().filter(is_unknown).cloned().collect();
    Ok(differences)
}

struct Walk<'a> {
    root: &'a Root,
    project: &'a BTreeMap<FilePath, Version>,
    only: &'a [FilePath],
    rules: Rules,
    differences: Differences,
}

/// What is on disk at a path.
#[derive(Default)]
struct OnDisk {
    workspace: Option<Version>,
    text: Option<String>,
}

impl From<Version> for OnDisk {
    fn from(version: Version) -> Self {
        Self {
            workspace: Some(version),
            text: None,
        }
    }
}

impl Walk<'_> {
    /// Looks at everything in a directory that the project has not, and leaves the directories in it.
    fn directory(
        &mut self,
        directory: Option<FilePath>,
        left: &mut Vec<Option<FilePath>>,
    ) -> Result<(), DiskError> {
        let listed = match self.root.list(directory.as_ref()) {
            Ok(listed) => listed.unwrap_or_default(),
            // Looking at the directory says that it cannot be read.
            Err(DiskError::Io { .. }) if directory.is_some() => return Ok(()),
            Err(error) => return Err(error),
        };
        self.rules.load(self.root, directory.as_ref());
        for entry in listed {
            let name = entry.name.to_string_lossy();
            let whole = match &directory {
                Some(directory) => format!("{directory}/{name}"),
                None => name.into_owned(),
            };
            let path: FilePath = match whole.parse() {
                Ok(path) if entry.name.to_str().is_some() => path,
                Ok(_) => {
                    self.skip(&whole, &"its name is not UTF-8");
                    continue;
                }
                Err(PathError::Reserved(_)) => continue,
                Err(error) => {
                    self.skip(&whole, &error);
                    continue;
                }
            };
            let is_dir = entry.kind == Kind::Dir;
            if self.rules.is_ignored(&path, is_dir) {
                continue;
            }
            if !self.project.contains_key(&path) {
                self.look(&path)?;
            }
            if is_dir && self.leads_on(&path) {
                left.push(Some(path));
            }
        }
        Ok(())
    }

    /// Compares one path.
    fn look(&mut self, path: &FilePath) -> Result<(), DiskError> {
        if !self.covers(path) {
            return Ok(());
        }
        let project = self.project.get(path);
        let Some(OnDisk { workspace, text }) = self.on_disk(path, project)? else {
            return Ok(());
        };
        // A directory whose files are all gone has become empty; that is said of the files.
        let emptied = project.is_none() && workspace == Some(Version::Dir) && self.has_below(path);
        if !emptied && !same(project, workspace.as_ref()) {
            self.differences.found.push(Difference {
                path: path.clone(),
                project: project.cloned(),
                workspace,
                text,
            });
        }
        Ok(())
    }

    /// What is at a path, with its text; `None` for what cannot be synced.
    fn on_disk(
        &mut self,
        path: &FilePath,
        project: Option<&Version>,
    ) -> Result<Option<OnDisk>, DiskError> {
        let why = match self.root.observe(path, None, IfWritten::Read) {
            Ok(Seen::File(seen)) => {
                let file = File {
                    hash: seen.hash,
                    size: seen.size,
                    mode: seen.mode,
                };
                // A text may grow, but does not begin as large.
                let may_be =
                    file.size <= MAX_TEXT_BYTES as u64 || matches!(project, Some(Version::Text(_)));
                let text = seen.text.filter(|_| may_be);
                let workspace = match text {
                    Some(_) => Version::Text(file),
                    None => Version::Binary(file),
                };
                return Ok(Some(OnDisk {
                    workspace: Some(workspace),
                    text,
                }));
            }
            Ok(Seen::Link { target: link, .. }) => match self.root.admits_link(path, &link) {
                Ok(()) => return Ok(Some(Version::Link { link }.into())),
                Err(why) => why.to_string(),
            },
            Ok(Seen::Dir { empty }) if empty || project == Some(&Version::Dir) => {
                return Ok(Some(Version::Dir.into()));
            }
            Ok(Seen::Unsyncable { why }) => why,
            Ok(_) => return Ok(Some(OnDisk::default())),
            Err(error @ DiskError::RootLost(_)) => return Err(error),
            Err(error) => error.to_string(),
        };
        self.skip(path, &why);
        Ok(None)
    }

    fn skip(&mut self, path: &impl ToString, why: &impl ToString) {
        let skipped = &mut self.differences.skipped;
        skipped.insert(path.to_string(), why.to_string());
    }

    fn covers(&self, path: &FilePath) -> bool {
        self.only.is_empty() || self.only.iter().any(|p| p == path || path.is_below(p))
    }

    /// Whether something below a directory is covered.
    fn leads_on(&self, directory: &FilePath) -> bool {
        self.covers(directory) || self.only.iter().any(|path| path.is_below(directory))
    }

    fn has_below(&self, directory: &FilePath) -> bool {
        self.project.keys().any(|path| path.is_below(directory))
    }
}

/// Whether two versions are one. What the project takes for binary may be text on disk.
fn same(a: Option<&Version>, b: Option<&Version>) -> bool {
    match (a.and_then(Version::file), b.and_then(Version::file)) {
        (Some(a), Some(b)) => (a.hash, a.mode & 0o777) == (b.hash, b.mode & 0o777),
        _ => a == b,
    }
}

#[cfg(test)]
#[allow(
    clippy::disallowed_methods,
    reason = "what is on disk is made from outside"
)]
mod tests;
