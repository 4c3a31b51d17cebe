//! What is at a path right now: stat, then read and hash only if the stat is not the known one.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use uspark_shared::id::BlobHash;
use uspark_shared::path::FilePath;
use uspark_shared::text::{MAX_GROWN_TEXT_BYTES, as_grown_text};

use super::lease::{Writers, writers};
use super::{DiskError, Root, TEMP_PREFIX, kind_of};

/// Why a file or directory that is not ours to read is not synced. Unlike a pipe or a socket, it
/// is one that somebody will miss.
pub const UNREADABLE: &str = "cannot be read: permission denied";

/// A file whose last change is younger than this may change again within one tick of the kernel's
/// clock (at most 10 ms) and show the same times: its fingerprint is not to be trusted later.
const RACY: Duration = Duration::from_millis(20);
const READ_BYTES: usize = 256 << 10;

/// What tells one state of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    /// Device.
    pub dev: u64,
    /// Inode.
    pub ino: u64,
    /// Bytes.
    pub size: u64,
    /// Last change of the content, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Last change of anything, nanoseconds since 1970; 0 when it was too young to be trusted, which
    /// equals no real file's.
    pub ctime_ns: i64,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Nothing, or something whose directory is not one.
    Absent,
    /// What the caller knew.
    Same,
    /// A regular file.
    File(SeenFile),
    /// A symbolic link.
    Link {
        /// Its own fingerprint.
        print: Fingerprint,
        /// Where it points, as written.
        target: String,
    },
    /// A directory.
    Dir {
        /// Nothing is in it, our own temporary files apart.
        empty: bool,
    },
    /// A file that somebody is writing. It will be seen again when it is closed.
    Busy,
    /// Something that cannot be synced.
    Unsyncable {
        /// Why, in a few words.
        why: String,
    },
}

/// A regular file, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenFile {
    /// To know it again.
    pub print: Fingerprint,
    /// Permission bits.
    pub mode: u32,
    /// Milliseconds since 1970.
    pub mtime: u64,
    /// Bytes.
    pub size: u64,
    /// How many names it has (hard links), here and elsewhere.
    pub links: u64,
    /// Of the content.
    pub hash: BlobHash,
    /// The content, if it may be that of a text document that has grown.
    pub text: Option<String>,
}

impl SeenFile {
    /// Whether the content may be that of a text document.
    pub fn is_text(&self) -> bool {
        self.text.is_some()
    }
}

/// What to do about a file that is open for writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfWritten {
    /// Give [`Seen::Busy`]: its close will be noticed.
    Wait,
    /// Read what is there if it begins with these bytes, as a log does that has grown. A file that
    /// is written anew is half empty until it is closed.
    ReadGrown(u64, BlobHash),
    /// Read what is there: it has been open for long, as a log is.
    Read,
}

impl Root {
    /// Looks at a path. `known` is the fingerprint of what the caller already knows to be there.
    pub fn observe(
        &self,
        path: &FilePath,
        known: Option<&Fingerprint>,
        if_written: IfWritten,
    ) -> Result<Seen, DiskError> {
        let error = |source| DiskError::new("look at", path, source);
        let parent = match self.parent(path) {
            Ok(parent) => parent,
            Err(source) if is_absence(source) => return self.absent(),
            Err(source) => return Err(error(source)),
        };
        let stat = match rustix::fs::statat(&parent, path.name(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(source) if is_absence(source) => return self.absent(),
            Err(source) => return Err(error(source)),
        };
        let why = match kind_of(&stat) {
            FileType::RegularFile => {
                if known == Some(&Fingerprint::exact(&stat)) {
                    return Ok(Seen::Same);
                }
                return self.observe_file(&parent, path, if_written);
            }
            FileType::Symlink => {
                let print = Fingerprint::exact(&stat);
                if known == Some(&print) {
                    return Ok(Seen::Same);
                }
                let target = rustix::fs::readlinkat(&parent, path.name(), Vec::new());
                match target.map_err(error)?.into_string() {
                    Ok(target) => return Ok(Seen::Link { print, target }),
                    Err(_) => "a link whose target is not UTF-8",
                }
            }
            FileType::Directory => {
                let ours = |name: &std::ffi::OsStr| {
                    name.as_encoded_bytes().starts_with(TEMP_PREFIX.as_bytes())
                };
                return match self.list(Some(path)) {
                    Ok(Some(listed)) => Ok(Seen::Dir {
                        empty: listed.iter().all(|entry| ours(&entry.name)),
                    }),
                    Ok(None) => self.absent(),
                    Err(DiskError::Io { source, .. })
                        if source.kind() == io::ErrorKind::PermissionDenied =>
                    {
                        Ok(unsyncable(UNREADABLE))
                    }
                    Err(error) => Err(error),
                };
            }
            FileType::Fifo => "a named pipe",
            FileType::Socket => "a socket",
            FileType::CharacterDevice | FileType::BlockDevice => "a device",
            FileType::Unknown => "neither a file, a directory nor a link",
        };
        Ok(unsyncable(why))
    }

    /// Whether a file or a link is as it was when it had this fingerprint; without one, whether there is a
    /// directory. What cannot be told is not.
    pub fn is_still(&self, path: &FilePath, known: Option<&Fingerprint>) -> bool {
        let Ok(stat) = self
            .parent(path)
            .and_then(|parent| rustix::fs::statat(&parent, path.name(), AtFlags::SYMLINK_NOFOLLOW))
        else {
            return false;
        };
        match known {
            Some(known) => *known == Fingerprint::exact(&stat),
            None => kind_of(&stat) == FileType::Directory,
        }
    }

    /// Opens a regular file for reading.
    pub fn open_file(&self, path: &FilePath) -> Result<File, DiskError> {
        let open = || {
            let parent = self.parent(path)?;
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&parent, path.name(), flags, Mode::empty())?;
            match kind_of(&rustix::fs::fstat(&file)?) {
                FileType::RegularFile => Ok(File::from(file)),
                _ => Err(Errno::INVAL),
            }
        };
        open().map_err(|source| DiskError::new("open", path, source))
    }

    fn observe_file(
        &self,
        parent: &OwnedFd,
        path: &FilePath,
        if_written: IfWritten,
    ) -> Result<Seen, DiskError> {
        // A pipe that took the file's place meanwhile must not make us wait for its writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(parent, path.name(), flags, Mode::empty()) {
            Ok(file) => file,
            Err(source) if is_absence(source) => return self.absent(),
            Err(Errno::LOOP | Errno::NXIO) => return Ok(Seen::Busy),
            Err(Errno::ACCESS | Errno::PERM) => {
                return Ok(unsyncable(UNREADABLE));
            }
            Err(source) => return Err(DiskError::new("open", path, source)),
        };
        read(file, if_written).map_err(|source| DiskError::Io {
            action: "read",
            path: path.to_string(),
            source,
        })
    }

    fn absent(&self) -> Result<Seen, DiskError> {
        if self.is_there() {
            Ok(Seen::Absent)
        } else {
            Err(DiskError::RootLost(self.path.clone()))
        }
    }
}

impl Fingerprint {
    /// For comparing with one that was taken earlier.
    pub(super) fn exact(stat: &Stat) -> Self {
        let ns = |seconds: i64, nanos: u64| {
            let nanos = i64::try_from(nanos).unwrap_or_default();
            seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
        };
        Self {
            dev: stat.st_dev,
            ino: stat.st_ino,
            size: stat.st_size.try_into().unwrap_or_default(),
            mtime_ns: ns(stat.st_mtime, stat.st_mtime_nsec),
            ctime_ns: ns(stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    /// For keeping: one whose last change is too young to be told from the next is marked.
    pub(super) fn lasting(stat: &Stat) -> Self {
        let mut print = Self::exact(stat);
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |now| now.as_nanos()) as i64;
        if now.saturating_sub(print.ctime_ns) < RACY.as_nanos() as i64 {
            print.ctime_ns = 0;
        }
        print
    }

    /// Whether this may be the state that `later` shows: equal, as far as it can be trusted.
    pub(super) fn admits(&self, later: &Self) -> bool {
        let trusted = Self {
            ctime_ns: if self.ctime_ns == 0 {
                0
            } else {
                later.ctime_ns
            },
            ..*later
        };
        *self == trusted
    }
}

/// Reads an open regular file, unless somebody is writing it.
pub(super) fn read(file: OwnedFd, if_written: IfWritten) -> io::Result<Seen> {
    let before = rustix::fs::fstat(&file)?;
    if kind_of(&before) != FileType::RegularFile {
        return Ok(Seen::Busy);
    }
    let open = if_written != IfWritten::Read && writers(file.as_fd()) == Writers::Some;
    if if_written == IfWritten::Wait && open {
        return Ok(Seen::Busy);
    }
    let mut file = File::from(file);
    let mut hasher = blake3::Hasher::new();
    let mut small = Vec::new();
    let mut size = 0u64;
    let mut buffer = vec![0; READ_BYTES.min(before.st_size as usize + 1)];
    loop {
        let count = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&buffer[..count]);
        size += count as u64;
        if size <= MAX_GROWN_TEXT_BYTES as u64 {
            small.extend_from_slice(&buffer[..count]);
        } else {
            small = Vec::new();
        }
    }
    let after = rustix::fs::fstat(&file)?;
    let changed = Fingerprint::exact(&before) != Fingerprint::exact(&after);
    let moves = open || changed || size != after.st_size as u64;
    let busy = match if_written {
        IfWritten::Wait => moves,
        IfWritten::ReadGrown(bytes, hash) => moves && !begins_with(&small, bytes, &hash),
        IfWritten::Read => false,
    };
    if busy {
        return Ok(Seen::Busy);
    }
    let is_text = size <= MAX_GROWN_TEXT_BYTES as u64 && as_grown_text(&small).is_some();
    let mut print = Fingerprint::lasting(&after);
    if changed {
        print.ctime_ns = 0;
    }
    Ok(Seen::File(SeenFile {
        print,
        mode: after.st_mode & 0o777,
        mtime: u64::try_from(print.mtime_ns / 1_000_000).unwrap_or_default(),
        size,
        links: after.st_nlink as u64,
        hash: BlobHash::from_bytes(*hasher.finalize().as_bytes()),
        text: is_text.then(|| String::from_utf8(small).ok()).flatten(),
    }))
}

fn begins_with(content: &[u8], bytes: u64, hash: &BlobHash) -> bool {
    let beginning = content.get(..bytes as usize);
    beginning.is_some_and(|beginning| BlobHash::of(beginning) == *hash)
}

fn is_absence(error: Errno) -> bool {
    // A link on the way is no directory of ours: nothing of the project can be behind it.
    matches!(error, Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
}

fn unsyncable(why: &str) -> Seen {
    Seen::Unsyncable { why: why.into() }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn observe(root: &Root, name: &str) -> Seen {
        root.observe(&name.parse().unwrap(), None, IfWritten::Wait)
            .unwrap()
    }

    fn file(seen: Seen) -> SeenFile {
        match seen {
            Seen::File(file) => file,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_kind_of_thing_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("text"), "é\r\n").unwrap();
        std::fs::write(at("binary"), [0xff]).unwrap();
        std::fs::write(at("nul"), "a\0b").unwrap();
        std::fs::write(at("empty"), "").unwrap();
        std::fs::create_dir(at("dir")).unwrap();
        std::fs::create_dir_all(at("full/x")).unwrap();
        std::os::unix::fs::symlink("text", at("link")).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        assert_eq!(file(observe(&root, "text")).text.as_deref(), Some("é\r\n"));
        assert_eq!(
            file(observe(&root, "text")).hash,
            BlobHash::of("é\r\n".as_bytes())
        );
        assert_eq!(file(observe(&root, "empty")).text.as_deref(), Some(""));
        for binary in ["binary", "nul"] {
            assert_eq!(file(observe(&root, binary)).text, None);
        }
        assert_eq!(observe(&root, "dir"), Seen::Dir { empty: true });
        assert_eq!(observe(&root, "full"), Seen::Dir { empty: false });
        assert!(matches!(observe(&root, "link"), Seen::Link { target, .. } if target == "text"));
        assert!(matches!(observe(&root, "socket"), Seen::Unsyncable { .. }));
        for absent in ["none", "none/x", "text/x", "link/x"] {
            assert_eq!(observe(&root, absent), Seen::Absent, "{absent}");
        }
    }

    #[test]
    fn a_known_file_is_not_read_again_once_its_times_can_be_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let path: FilePath = "f".parse().unwrap();
        std::fs::write(dir.path().join("f"), "x").unwrap();
        let young = file(observe(&root, "f")).print;
        assert_eq!(young.ctime_ns, 0);
        let again = || root.observe(&path, Some(&young), IfWritten::Wait).unwrap();
        assert!(matches!(again(), Seen::File(_)));
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        let old = loop {
            let print = file(observe(&root, "f")).print;
            if print.ctime_ns != 0 {
                break print;
            }
            assert!(std::time::Instant::now() < deadline);
        };
        let again = || root.observe(&path, Some(&old), IfWritten::Wait).unwrap();
        assert_eq!(again(), Seen::Same);
        std::fs::write(dir.path().join("f"), "y").unwrap();
        assert_eq!(file(again()).text.as_deref(), Some("y"));
    }

    #[test]
    fn a_file_being_written_is_left_alone_until_it_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let mut writer = File::create(dir.path().join("f")).unwrap();
        writer.write_all(b"half").unwrap();
        assert_eq!(observe(&root, "f"), Seen::Busy);
        let path = "f".parse().unwrap();
        let read = |how| root.observe(&path, None, how).unwrap();
        assert_eq!(file(read(IfWritten::Read)).text.as_deref(), Some("half"));
        let grown = |from: &str| {
            let hash = BlobHash::of(from.as_bytes());
            IfWritten::ReadGrown(from.len() as u64, hash)
        };
        assert_eq!(file(read(grown("ha"))).size, 4);
        for before in ["another", "other", "lf"] {
            assert_eq!(read(grown(before)), Seen::Busy);
        }
        drop(writer);
        assert_eq!(file(read(grown("other"))).size, 4);
        assert_eq!(file(observe(&root, "f")).size, 4);
    }

    #[test]
    fn nothing_is_absent_from_a_root_that_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("root");
        std::fs::create_dir(&at).unwrap();
        let root = Root::open(&at).unwrap();
        std::fs::remove_dir(&at).unwrap();
        let seen = root.observe(&"f".parse().unwrap(), None, IfWritten::Wait);
        assert!(matches!(seen, Err(DiskError::RootLost(_))));
    }
}
