//! Small private JSON files, read whole and replaced whole.
//!
//! Owns: the only disk access of [`super`]. Invariant: a reader sees the old file or the new one,
//! never a part, and nobody but the owner can read either. A crash loses at most the newest
//! replacement, never the file.
#![allow(
    clippy::disallowed_methods,
    reason = "configuration is no workspace file; these are its only disk accesses"
)]

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::FlockOperation;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ConfigError;

/// The owner reads and writes; nobody else does.
const PRIVATE_FILE_MODE: u32 = 0o600;

/// Reads `path`; `None` when there is no such file.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ConfigError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", path, error)),
    };
    match serde_json::from_slice(&bytes) {
        Ok(value) => Ok(Some(value)),
        Err(source) => Err(ConfigError::Malformed {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Changes `path` under a lock that other writers of the same directory take too, so that two
/// commands at once do not undo each other. An absent file is `T::default()`.
pub(super) fn update<T, F>(path: &Path, change: F) -> Result<(), ConfigError>
where
    T: DeserializeOwned + Serialize + Default,
    F: FnOnce(&mut T),
{
    let directory = directory_of(path);
    let _lock = lock(directory)?;
    let mut value = read::<T>(path)?.unwrap_or_default();
    change(&mut value);
    replace(path, &value)
}

/// Makes `path` and what is missing above it; the owner alone may enter what is made.
pub(super) fn make_private_directory(path: &Path) -> Result<(), ConfigError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| failed("create", path, error))
}

/// Makes a workspace's directory and what is missing above it, with the usual permissions.
pub fn make_directory(path: &Path) -> Result<(), ConfigError> {
    fs::create_dir_all(path).map_err(|error| failed("create", path, error))
}

/// Puts `bytes` at `path` unless something is there already.
pub(super) fn write_if_absent(path: &Path, bytes: &[u8]) -> Result<(), ConfigError> {
    match File::create_new(path).and_then(|mut file| file.write_all(bytes)) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(failed("write", path, error))
        }
        _ => Ok(()),
    }
}

/// Holds the directory's own lock until the file is dropped: no lock file is left behind.
fn lock(directory: &Path) -> Result<File, ConfigError> {
    let opened = File::open(directory).map_err(|error| failed("read", directory, error))?;
    rustix::fs::flock(&opened, FlockOperation::LockExclusive)
        .map_err(|error| failed("lock", directory, error.into()))?;
    Ok(opened)
}

fn replace<T: Serialize>(path: &Path, value: &T) -> Result<(), ConfigError> {
    // A link that a dotfile manager made stays: its target is replaced.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let directory = directory_of(&target);
    let write = || -> io::Result<()> {
        let mut temp = tempfile::Builder::new()
            .prefix(".config-")
            .permissions(Permissions::from_mode(PRIVATE_FILE_MODE))
            .tempfile_in(directory)?;
        serde_json::to_writer_pretty(&mut temp, value)?;
        temp.write_all(b"\n")?;
        temp.as_file().sync_all()?;
        temp.persist(&target)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(|error| failed("write", &target, error))
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> ConfigError {
    ConfigError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    type Table = BTreeMap<String, String>;

    fn put(path: &Path, key: &str, value: &str) {
        update::<Table, _>(path, |table| {
            table.insert(key.into(), value.into());
        })
        .unwrap();
    }

    #[test]
    fn an_update_keeps_the_rest_and_leaves_one_private_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        fs::write(&path, "{\"old\": \"1\"}").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        put(&path, "new", "2");

        let table: Table = read(&path).unwrap().unwrap();
        assert_eq!(
            table.into_iter().collect::<Vec<_>>(),
            [
                ("new".to_owned(), "2".to_owned()),
                ("old".to_owned(), "1".to_owned())
            ]
        );
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
    }

    #[test]
    fn writers_at_once_all_count() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        std::thread::scope(|scope| {
            for writer in 0..8 {
                let path = &path;
                scope.spawn(move || {
                    for n in 0..10 {
                        put(path, &format!("{writer}-{n}"), "x");
                    }
                });
            }
        });
        assert_eq!(read::<Table>(&path).unwrap().unwrap().len(), 80);
    }

    #[test]
    fn a_link_to_the_file_stays_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let (real, link) = (directory.path().join("real"), directory.path().join("link"));
        fs::write(&real, "{}").unwrap();
        symlink(&real, &link).unwrap();
        put(&link, "a", "b");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(read::<Table>(&real).unwrap().unwrap()["a"], "b");
    }

    #[test]
    fn what_is_no_json_is_named_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        fs::write(&path, "not json").unwrap();
        let error = update::<Table, _>(&path, |_| {}).unwrap_err();
        assert!(matches!(&error, ConfigError::Malformed { path: p, .. } if *p == path));
        assert_eq!(fs::read_to_string(&path).unwrap(), "not json");
        assert!(matches!(
            read::<Table>(&directory.path().join("none")),
            Ok(None)
        ));
    }
}
