//! The workspace's file: the project that this directory mirrors.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uspark_shared::id::ProjectId;

use super::{ConfigError, ServerUrl, file};

/// The directory in a workspace that is ours: never synced, never written from the network.
pub const OWN_DIRECTORY: &str = ".uspark";

/// `.uspark/config.json` of one workspace.
#[derive(Debug, Clone)]
pub struct WorkspaceConfig {
    root: PathBuf,
}

/// What the file holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mirror {
    /// The project that the workspace mirrors.
    pub project: ProjectId,
    /// The server it was last reached on.
    pub server: ServerUrl,
}

impl WorkspaceConfig {
    /// The file of the workspace at `root`.
    pub fn of(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// Where the file is or would be.
    pub fn path(&self) -> PathBuf {
        self.root.join(OWN_DIRECTORY).join("config.json")
    }

    /// Reads what the workspace mirrors; `None` when nothing is remembered.
    pub fn read(&self) -> Result<Option<Mirror>, ConfigError> {
        file::read(&self.path())
    }

    /// Remembers what the workspace mirrors.
    ///
    /// Makes `.uspark` when it is missing, with a `.gitignore` of its own, so that a repository
    /// around the workspace does not take it in.
    pub fn remember(&self, mirror: &Mirror) -> Result<(), ConfigError> {
        if self.read()?.as_ref() == Some(mirror) {
            return Ok(());
        }
        let directory = self.root.join(OWN_DIRECTORY);
        file::make_private_directory(&directory)?;
        file::write_if_absent(&directory.join(".gitignore"), b"*\n")?;
        file::update(&self.path(), |kept: &mut Option<Mirror>| {
            *kept = Some(mirror.clone());
        })
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests make their own files")]
mod tests {
    use super::*;

    fn mirror(project: &str) -> Mirror {
        Mirror {
            project: project.parse().unwrap(),
            server: ServerUrl::default_server(),
        }
    }

    #[test]
    fn the_project_is_remembered() {
        let root = tempfile::tempdir().unwrap();
        let config = WorkspaceConfig::of(root.path());
        assert_eq!(config.read().unwrap(), None);
        for project in ["one", "two"] {
            config.remember(&mirror(project)).unwrap();
            assert_eq!(config.read().unwrap(), Some(mirror(project)));
        }
        let ignore = std::fs::read_to_string(root.path().join(".uspark/.gitignore")).unwrap();
        assert_eq!(ignore, "*\n");
    }

    #[test]
    fn remembering_the_same_again_writes_nothing() {
        let root = tempfile::tempdir().unwrap();
        let config = WorkspaceConfig::of(root.path());
        config.remember(&mirror("one")).unwrap();
        let before = config.path().metadata().unwrap().modified().unwrap();
        config.remember(&mirror("one")).unwrap();
        assert_eq!(
            config.path().metadata().unwrap().modified().unwrap(),
            before
        );
    }

    #[test]
    fn a_file_that_names_no_project_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let config = WorkspaceConfig::of(root.path());
        config.remember(&mirror("one")).unwrap();
        std::fs::write(config.path(), "{\"project\": \"../x\", \"server\": \"h\"}").unwrap();
        assert!(matches!(config.read(), Err(ConfigError::Malformed { .. })));
    }
}
