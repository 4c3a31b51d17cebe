//! Replacements and renames of files that a killed process had begun: finished or undone before anything else.
//!
//! A temporary file bears its name only once it is whole, keeps it through the exchange, and loses
//! it only after the journal was told what came of the exchange; only then the journal forgets the
//! intent. So what is under the name tells how far the exchange got: nothing, and it never began; the new content, and the names were not
//! exchanged; anything else, and that is what was displaced.

use uspark_shared::path::FilePath;

use super::agreed::Agreed;
use super::run::chain;
use crate::clock::now_ms;
use crate::disk::observe::{IfWritten, Seen};
use crate::disk::{DiskError, Root};
use crate::journal::{Base, Intent, Record};

/// What is to be done about an intent: first remembered, then done.
pub(super) struct Recovery {
    /// To be written in one transaction.
    pub records: Vec<Record>,
    /// The name for what was displaced; it is removed when there is none.
    kept: Option<FilePath>,
}

/// What is to be remembered of a rename that had begun: whether the file is at its new path.
pub(super) fn renamed(
    root: &Root,
    (from, to): &(FilePath, FilePath),
    agreed: &Agreed,
) -> Result<Vec<Record>, DiskError> {
    let mut records = vec![Record::NotRenaming(from.clone())];
    let is_gone = root.observe(from, None, IfWritten::Read)? == Seen::Absent;
    let came = root.observe(to, None, IfWritten::Read)? != Seen::Absent;
    if let Some(base) = agreed.get(from)
        && agreed.get(to).is_none()
        && is_gone
        && came
    {
        records.push(Record::NoBase(from.clone()));
        records.push(Record::Base(to.clone(), base.clone()));
    }
    Ok(records)
}

/// Finds out how far an intent got.
pub(super) fn recovery(
    root: &Root,
    intent: &Intent,
    base: Option<&Base>,
    who: &str,
) -> Result<Recovery, DiskError> {
    let path = &intent.path;
    let mut records = vec![Record::NoIntent(path.clone())];
    let mut kept = None;
    let displaced = match root.left_behind(path, &intent.temp)? {
        Seen::Absent => return Ok(Recovery { records, kept }),
        Seen::File(file) => Some(file.hash),
        _ => None,
    };
    if intent.new.is_none() || displaced != intent.new {
        // The exchange took place: the disk has the new content, and the shadow follows.
        match (intent.new, base) {
            (Some(new), Some(base)) => {
                let state = intent.shadow.clone();
                records
                    .extend(state.map(|(doc, update)| Record::WrittenBack(doc, update, now_ms())));
                let base = Base {
                    hash: Some(new),
                    print: None,
                    ..base.clone()
                };
                records.push(Record::Base(path.clone(), base));
            }
            (Some(_), None) => {}
            (None, _) => records.push(Record::NoBase(path.clone())),
        }
        if intent.old.is_none() || displaced != intent.old {
            kept = Some(path.conflict(who, now_ms()));
        }
    }
    Ok(Recovery { records, kept })
}

impl Recovery {
    /// Cleans up, once the records are written.
    pub fn clean_up(&self, root: &Root, intent: &Intent) {
        if let Some(kept) = &self.kept
            && let Err(error) = root.keep_as(&intent.path, &intent.temp, kept)
        {
            tracing::warn!("{}", chain(&error));
            return;
        }
        root.discard(&intent.path, &intent.temp);
    }
}

#[cfg(test)]
#[allow(
    clippy::disallowed_methods,
    reason = "what is on disk is made, and looked at, from outside"
)]
mod tests {
    use uspark_shared::id::BlobHash;
    use uspark_shared::schema::Entry;

    use super::*;
    use crate::disk::swap::TempName;

    #[test]
    fn a_rename_that_was_made_is_remembered_and_one_that_was_not_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let path = |path: &str| path.parse::<FilePath>().unwrap();
        let base = Base {
            entry: Entry::Dir,
            hash: None,
            print: None,
        };
        let agreed = Agreed::new(vec![(path("old"), base.clone())]);
        let renaming = (path("old"), path("new"));
        std::fs::write(dir.path().join("old"), "text").unwrap();
        let not_made = renamed(&root, &renaming, &agreed).unwrap();
        assert_eq!(not_made, [Record::NotRenaming(path("old"))]);
        std::fs::rename(dir.path().join("old"), dir.path().join("new")).unwrap();
        let made = renamed(&root, &renaming, &agreed).unwrap();
        let expected = [Record::NoBase(path("old")), Record::Base(path("new"), base)];
        assert_eq!(made[1..], expected);
    }

    /// What a process leaves that was killed with `path` and `temp` on disk.
    fn recovered(path: &str, temp: Option<&str>, new: Option<&str>) -> (Vec<Record>, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let hash = |text: &str| BlobHash::of(text.as_bytes());
        let name = TempName::from_random([1; 8]);
        if !path.is_empty() {
            std::fs::write(dir.path().join("f"), path).unwrap();
        }
        if let Some(temp) = temp {
            std::fs::write(dir.path().join(name.as_str()), temp).unwrap();
        }
        let intent = Intent {
            path: "f".parse().unwrap(),
            temp: name,
            old: Some(hash("old")),
            new: new.map(hash),
            shadow: Some(("d".parse().unwrap(), vec![7])),
        };
        let base = Base {
            entry: Entry::Dir,
            hash: Some(hash("old")),
            print: None,
        };
        let recovery = recovery(&root, &intent, Some(&base), "me").unwrap();
        recovery.clean_up(&root, &intent);
        let files = std::fs::read_dir(dir.path()).unwrap().flatten();
        let mut contents: Vec<String> = files
            .map(|file| std::fs::read_to_string(file.path()).unwrap())
            .collect();
        contents.sort();
        (recovery.records, contents)
    }

    fn follows(records: &[Record]) -> bool {
        records
            .iter()
            .any(|record| matches!(record, Record::WrittenBack(..) | Record::NoBase(_)))
    }

    #[test]
    fn the_shadow_follows_exactly_when_the_names_were_exchanged() {
        // Killed before the temporary file was whole, and before the exchange.
        for temp in [None, Some("new")] {
            let (records, files) = recovered("old", temp, Some("new"));
            assert!(!follows(&records));
            assert_eq!(files, ["old"]);
        }
        // Killed after it; meanwhile somebody may have gone on writing.
        for now in ["new", "newer"] {
            let (records, files) = recovered(now, Some("old"), Some("new"));
            assert!(follows(&records));
            assert_eq!(files, [now]);
        }
        // Killed after it, and it displaced what nobody expected.
        let (records, files) = recovered("new", Some("surprise"), Some("new"));
        assert!(follows(&records));
        assert_eq!(files, ["new", "surprise"]);
    }

    #[test]
    fn a_removal_is_finished_or_was_never_begun() {
        let (records, files) = recovered("old", None, None);
        assert!(!follows(&records));
        assert_eq!(files, ["old"]);
        let (records, files) = recovered("", Some("old"), None);
        assert!(follows(&records));
        assert!(files.is_empty());
    }
}
