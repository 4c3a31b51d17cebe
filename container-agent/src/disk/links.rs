//! Symbolic links: which may be created, and creating them.
//!
//! A link from the network is created only if it is relative and leads to a place inside the root
//! from where it lies. That is decided twice. By its letters: `..` only in front, and no more of
//! them than the link is deep, so that no later link can turn a harmless `a/..` into a way out.
//! And by the kernel, which follows what exists beneath the root and stops where it leaves it.

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use uspark_shared::path::FilePath;

use super::Root;

/// Why a link is not created, or not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkRefused {
    /// It begins with a slash.
    #[error("a link to an absolute path")]
    Absolute,
    /// It leads out of the workspace.
    #[error("a link that leads out of the workspace")]
    Outside,
    /// It leads into `.git` or `.uspark`.
    #[error("a link into `.git` or `.uspark`")]
    Reserved,
    /// `..` after a name: where that leads depends on other links.
    #[error("a link with `..` after a name")]
    Winding,
}

impl Root {
    /// Says whether a link at `path` may point to `target`.
    pub fn admits_link(&self, path: &FilePath, target: &str) -> Result<(), LinkRefused> {
        admits(path, target)?;
        let place = path.parent();
        let place = place.as_ref().map_or(".", FilePath::as_str);
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let whole = format!("{place}/{target}");
        match rustix::fs::openat2(self, whole.as_str(), flags, Mode::empty(), resolve) {
            Err(Errno::XDEV) => Err(LinkRefused::Outside),
            // It leads nowhere yet, or in a circle: nothing is reached through it.
            _ => Ok(()),
        }
    }
}

fn admits(path: &FilePath, target: &str) -> Result<(), LinkRefused> {
    if target.starts_with('/') {
        return Err(LinkRefused::Absolute);
    }
    let mut room = path.components().count() - 1;
    let mut named = false;
    for component in target.split('/') {
        match component {
            "" | "." => {}
            ".." if named => return Err(LinkRefused::Winding),
            ".." => room = room.checked_sub(1).ok_or(LinkRefused::Outside)?,
            name if name.parse::<FilePath>().is_err() => return Err(LinkRefused::Reserved),
            _ => named = true,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_may_only_point_inside() {
        let may = |path: &str, target: &str| admits(&path.parse().unwrap(), target);
        for (path, target) in [
            ("l", "a"),
            ("l", "./a/b"),
            ("l", "."),
            ("d/l", "../a"),
            ("d/e/l", "../../a"),
        ] {
            assert_eq!(may(path, target), Ok(()), "{path} -> {target}");
        }
        for (path, target, why) in [
            ("l", "/etc/passwd", LinkRefused::Absolute),
            ("l", "..", LinkRefused::Outside),
            ("l", "../x", LinkRefused::Outside),
            ("d/l", "../../x", LinkRefused::Outside),
            ("l", "m/../x", LinkRefused::Winding),
            ("l", ".git/hooks", LinkRefused::Reserved),
            ("l", "a/.USPARK/x", LinkRefused::Reserved),
        ] {
            assert_eq!(may(path, target), Err(why), "{path} -> {target}");
        }
    }

    #[test]
    fn a_link_through_a_link_of_the_disk_that_leads_out_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        std::os::unix::fs::symlink("/tmp", dir.path().join("out")).unwrap();
        std::fs::create_dir(dir.path().join("in")).unwrap();
        let may = |target| root.admits_link(&"l".parse().unwrap(), target);
        assert_eq!(may("out/x"), Err(LinkRefused::Outside));
        assert_eq!(may("in/x"), Ok(()));
        assert_eq!(may("in"), Ok(()));
    }
}
