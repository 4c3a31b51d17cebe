//! What a one-way session leaves as it is, and what the paths it was given do not name: neither is
//! its business, and neither is to be kept silent about.

use uspark_shared::path::FilePath;

use super::config::Direction;
use super::plan::{Disk, Step};
use super::report::{Pending, Skipped};
use super::run::Engine;

impl Engine {
    /// The session's direction does not take this step: it is noted for the report.
    pub(super) fn leave_alone(&mut self, path: &FilePath, disk: &Disk, step: Step) {
        let entry = self.project.entries.get(path);
        if let (Step::Write, Disk::File { .. }, Some(entry)) = (step, disk, entry)
            && let Some(doc) = entry.doc().cloned()
            && self.agreed.at_doc(&doc) == Some(path)
            && self.current_text(entry).is_none()
        {
            // What differs may be what was sent a moment ago: only the server knows.
            return self.exchange(path, &doc);
        }
        // A directory that is still empty here is there by what is in it.
        if !(matches!(disk, Disk::Dir { .. }) && self.project.has_below(path)) {
            self.left_alone.insert(path.clone(), why(step));
        }
        self.settle(path);
    }

    /// What the workspace has changed and this session does not send.
    pub(super) fn not_pushed(&self) -> Vec<Pending> {
        if self.config.direction != Direction::Pull {
            return Vec::new();
        }
        let mut left = self.left();
        let mut spooled: Vec<Pending> = self
            .wire
            .unacknowledged()
            .values()
            .map(|document| {
                let doc = document.as_ref();
                let path =
                    doc.and_then(|doc| self.project.docs.get(doc).or(self.agreed.at_doc(doc)));
                Pending {
                    path: path.cloned(),
                    why: "an earlier change is not sent yet".into(),
                }
            })
            .filter(|spooled| spooled.path.as_ref().is_none_or(|path| self.covers(path)))
            .filter(|spooled| {
                spooled.path.is_none() || !left.iter().any(|left| left.path == spooled.path)
            })
            .collect();
        spooled.sort();
        spooled.dedup();
        left.append(&mut spooled);
        left
    }

    /// What the project has changed and this session does not bring.
    pub(super) fn not_pulled(&self) -> Vec<Pending> {
        match self.config.direction {
            Direction::Push => self.left(),
            _ => Vec::new(),
        }
    }

    fn left(&self) -> Vec<Pending> {
        let pending = |(path, why): (&FilePath, &&str)| Pending {
            path: Some(path.clone()),
            why: (*why).into(),
        };
        self.left_alone.iter().map(pending).collect()
    }

    /// Those of `paths` at and below which nothing is synced, and why.
    pub(super) fn unknown(&self, paths: Vec<FilePath>) -> Vec<Skipped> {
        // Until both sides were seen nobody knows.
        if !self.may_plan() {
            return Vec::new();
        }
        let unknown = paths.into_iter().filter(|path| !self.knows(path));
        unknown
            .map(|path| Skipped {
                why: match self.jobs.root().has(&path) {
                    true => format!("`{path}` is ignored: nothing of it is synced"),
                    false => format!("there is no `{path}` here or in the project"),
                },
                path: path.into(),
            })
            .collect()
    }

    /// Whether there is anything at or below a path that is synced, or will be, or is reported.
    fn knows(&self, path: &FilePath) -> bool {
        let within = |other: &FilePath| other == path || other.is_below(path);
        self.project.entries.contains_key(path)
            || self.project.has_below(path)
            || self.agreed.get(path).is_some()
            || self.agreed.below(path).next().is_some()
            || self.works.get(path).is_some()
            || self.left_alone.keys().any(within)
            || self.skipped.keys().any(within)
            || self
                .unseen
                .keys()
                .any(|other| other.parse().is_ok_and(|other| within(&other)))
    }
}

fn why(step: Step) -> &'static str {
    match step {
        Step::Send | Step::Edit => "changed here",
        Step::SendMode => "permissions changed here",
        Step::Withdraw => "deleted here",
        Step::WriteMode => "permissions changed on the server",
        Step::Remove => "deleted on the server",
        _ => "changed on the server",
    }
}
