//! What is not synced: built-in names, `.gitignore` at every level, `.usparkignore` with the last
//! word.
//!
//! Pure but for [`Rules::load`], which reads a directory's two rule files through the disk. Must
//! not do: decide about a path that is already in the project. Such a path stays synced whatever
//! the rules say, and a changed rule deletes nothing anywhere; both are the caller's to keep.
//!
//! As with git, nothing below an ignored directory is looked at, so a rule inside it cannot bring
//! anything back. Unlike git, no `.git` directory is needed for `.gitignore` to count.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use uspark_shared::path::FilePath;

use crate::disk::observe::{IfWritten, Seen};
use crate::disk::{Root, TEMP_PREFIX};

const GITIGNORE: &str = ".gitignore";
const USPARKIGNORE: &str = ".usparkignore";
/// How long a rule file that is being written is waited for. The event of its close comes a moment
/// before the kernel counts it as closed.
const PATIENCE: Duration = Duration::from_millis(100);
const PATIENCE_STEP: Duration = Duration::from_millis(1);

/// What nobody wants synced unless they say so: other programs' stores, and what builds make.
/// `.git` and `.uspark` are not here only because no [`FilePath`] can name them.
const BUILT_IN: [&str; 7] = [
    "node_modules",
    "target",
    ".venv",
    "__pycache__",
    ".next",
    ".turbo",
    ".DS_Store",
];

/// The rules of a workspace, as far as they were loaded.
#[derive(Default)]
pub struct Rules {
    /// By directory, the root under `None`. Only directories that have rules.
    directories: HashMap<Option<FilePath>, DirectoryRules>,
}

struct DirectoryRules {
    /// As read, to notice a change.
    sources: [Option<String>; 2],
    git: Gitignore,
    uspark: Gitignore,
}

impl Rules {
    /// Reads a directory's rule files again. Gives whether they changed.
    pub fn load(&mut self, root: &Root, directory: Option<&FilePath>) -> bool {
        let known = self.directories.get(&directory.cloned());
        let known = known.map(|rules| rules.sources.clone()).unwrap_or_default();
        let names = [GITIGNORE, USPARKIGNORE].into_iter().zip(known);
        let sources: Vec<_> = names
            .map(|(name, known)| read(root, directory, name, known))
            .collect();
        self.set(directory, sources.try_into().expect("there are two"))
    }

    /// Whether rules of this directory are loaded.
    pub fn has(&self, directory: Option<&FilePath>) -> bool {
        self.directories.contains_key(&directory.cloned())
    }

    fn set(&mut self, directory: Option<&FilePath>, sources: [Option<String>; 2]) -> bool {
        let key = directory.cloned();
        let before = self.directories.get(&key).map(|rules| &rules.sources);
        if before == Some(&sources) || (before.is_none() && sources == [None, None]) {
            return false;
        }
        if sources == [None, None] {
            self.directories.remove(&key);
        } else {
            let [git, uspark] = &sources;
            let rules = DirectoryRules {
                git: parse(git.as_deref()),
                uspark: parse(uspark.as_deref()),
                sources,
            };
            self.directories.insert(key, rules);
        }
        true
    }

    /// Whether a path, or a directory above it, is ignored.
    pub fn is_ignored(&self, path: &FilePath, is_dir: bool) -> bool {
        let mut above: Vec<FilePath> = path.ancestors().collect();
        above.reverse();
        above.iter().any(|directory| self.names(directory, true)) || self.names(path, is_dir)
    }

    /// Whether the rules name this very path.
    fn names(&self, path: &FilePath, is_dir: bool) -> bool {
        if is_temporary(path.name()) {
            return true;
        }
        self.verdict(path, is_dir, |rules| &rules.uspark)
            .or_else(|| self.verdict(path, is_dir, |rules| &rules.git))
            .unwrap_or_else(|| BUILT_IN.contains(&path.name()))
    }

    /// What the nearest directory that has an opinion says.
    fn verdict(
        &self,
        path: &FilePath,
        is_dir: bool,
        of: impl Fn(&DirectoryRules) -> &Gitignore,
    ) -> Option<bool> {
        let nearest_first = path.ancestors().map(Some).chain([None]);
        for directory in nearest_first {
            let Some(rules) = self.directories.get(&directory) else {
                continue;
            };
            let below = directory.map_or(0, |directory| directory.as_str().len() + 1);
            match of(rules).matched(&path.as_str()[below..], is_dir) {
                Match::None => {}
                Match::Ignore(_) => return Some(true),
                Match::Whitelist(_) => return Some(false),
            }
        }
        None
    }
}

/// Whether a file of this name holds rules.
pub fn is_rule_file(name: &str) -> bool {
    matches!(name, GITIGNORE | USPARKIGNORE)
}

/// Whether a name is one that programs give to files on their way: ours, Claude Code's
/// (`NAME.tmp.PID.MS`, later `NAME.tmp.PID.` and twelve hex digits), sed's (`sedXXXXXX`), vim's
/// (`.NAME.swp`, `4913`) and backups (`NAME~`).
pub fn is_temporary(name: &str) -> bool {
    name.starts_with(TEMP_PREFIX)
        || name.ends_with('~')
        || name == "4913"
        || is_claude_temporary(name)
        || is_sed_temporary(name)
        || is_vim_swap(name)
}

fn is_claude_temporary(name: &str) -> bool {
    let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let random = |part: &str| part.len() == 12 && part.bytes().all(|b| b.is_ascii_hexdigit());
    let mut parts = name.rsplitn(4, '.');
    parts
        .next()
        .is_some_and(|part| number(part) || random(part))
        && parts.next().is_some_and(number)
        && parts.next() == Some("tmp")
        && parts.next().is_some()
}

/// mkstemp's six characters hold a capital or a digit but for one name in two hundred; real names
/// such as `sediment` must not be taken.
fn is_sed_temporary(name: &str) -> bool {
    name.strip_prefix("sed").is_some_and(|rest| {
        rest.len() == 6
            && rest.bytes().all(|b| b.is_ascii_alphanumeric())
            && rest.bytes().any(|b| !b.is_ascii_lowercase())
    })
}

fn is_vim_swap(name: &str) -> bool {
    let Some((stem, extension)) = name.rsplit_once('.') else {
        return false;
    };
    stem.starts_with('.')
        && extension.len() >= 3
        && extension.starts_with("sw")
        && extension[2..].bytes().all(|b| b.is_ascii_lowercase())
        && extension.len() <= 4
}

/// Reads a rule file. While somebody is writing it what is `known` counts: rules that are half
/// written would give away what they are about to keep out.
fn read(
    root: &Root,
    directory: Option<&FilePath>,
    name: &str,
    known: Option<String>,
) -> Option<String> {
    let path = match directory {
        Some(directory) => format!("{directory}/{name}"),
        None => name.into(),
    };
    let path = path.parse().ok()?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Rules that cannot be read, or are no text, are no rules: everything is synced then.
        return match root.observe(&path, None, IfWritten::Wait) {
            Ok(Seen::File(file)) => file.text,
            Ok(Seen::Busy) if Instant::now() < deadline => {
                std::thread::sleep(PATIENCE_STEP);
                continue;
            }
            // Its close will be noticed.
            Ok(Seen::Busy) => known,
            _ => None,
        };
    }
}

fn parse(source: Option<&str>) -> Gitignore {
    let mut builder = GitignoreBuilder::new("");
    for line in source.unwrap_or_default().lines() {
        // A line that is no pattern is skipped, as git does.
        let _ = builder.add_line(None, line);
    }
    builder.build().unwrap_or_else(|_| Gitignore::empty())
}

#[cfg(test)]
#[allow(
    clippy::disallowed_methods,
    reason = "what is on disk is made, and looked at, from outside"
)]
mod tests {
    use super::*;

    fn path(s: &str) -> FilePath {
        s.parse().unwrap()
    }

    fn rules(files: &[(&str, &str)]) -> Rules {
        let mut rules = Rules::default();
        let mut sources: HashMap<Option<FilePath>, [Option<String>; 2]> = HashMap::new();
        for (file, lines) in files {
            let file = path(file);
            let slot = usize::from(file.name() == USPARKIGNORE);
            sources.entry(file.parent()).or_default()[slot] = Some((*lines).into());
        }
        for (directory, sources) in sources {
            assert!(rules.set(directory.as_ref(), sources));
        }
        rules
    }

    fn check(rules: &Rules, ignored: &[&str], synced: &[&str]) {
        for (paths, expected) in [(ignored, true), (synced, false)] {
            for name in paths {
                let is_dir = name.ends_with('/');
                let is = rules.is_ignored(&path(name.trim_end_matches('/')), is_dir);
                assert_eq!(is, expected, "{name}");
            }
        }
    }

    #[test]
    fn some_names_are_ignored_without_being_told() {
        check(
            &Rules::default(),
            &[
                "node_modules/",
                "a/node_modules/b/c.js",
                "target/",
                ".DS_Store",
                "x/.venv/",
                "src/.uspark-tmp-00ff",
                "f.rs.tmp.1234.1732166400123",
                "f.rs.tmp.1958.607451b91628",
                "sedA1b2C3",
                ".f.swp",
                ".f.swpx",
                "4913",
                "f~",
            ],
            &[
                "src/",
                ".env",
                ".gitignore",
                ".github/workflows/ci.yml",
                "f.tmp",
                "a.tmp.1",
                "a.tmp.1.b",
                "a.tmp.b.607451b91628",
                "v1.2.3.4",
                "sediment",
                "sedation.rs",
                "f.swp",
                ".swift/x.swift",
            ],
        );
    }

    #[test]
    fn rules_nest_negate_and_anchor() {
        let rules = rules(&[
            (
                ".gitignore",
                "*.log\n/build\n!keep.log\n# comment\ndocs/*.pdf\ncache/\n",
            ),
            ("sub/.gitignore", "!important.log\n*.tmp\n"),
            ("cache/.gitignore", "!x\n"),
        ]);
        check(
            &rules,
            &[
                "a.log",
                "x/a.log",
                "build/",
                "build/x/y",
                "docs/a.pdf",
                "sub/a.tmp",
                "cache/x",
            ],
            &[
                "keep.log",
                "x/build/",
                "docs/x/a.pdf",
                "sub/important.log",
                "a.tmp",
                "cache",
            ],
        );
    }

    #[test]
    fn usparkignore_has_the_last_word() {
        let rules = rules(&[
            (".gitignore", "secret\ngenerated/\n"),
            (".usparkignore", "!generated/\n!target/\nprivate\n"),
            ("sub/.gitignore", "!private\n"),
        ]);
        check(
            &rules,
            &["secret", "private", "sub/private", "node_modules/"],
            &["generated/", "generated/a.rs", "target/debug/x"],
        );
    }

    #[test]
    fn a_directory_is_read_again_only_for_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let mut rules = Rules::default();
        assert!(!rules.load(&root, None));
        std::fs::write(dir.path().join(".gitignore"), "x\n").unwrap();
        assert!(rules.load(&root, None));
        assert!(!rules.load(&root, None));
        check(&rules, &["x"], &["y"]);
        // Truncated, and not written again yet.
        let half = std::fs::File::create(dir.path().join(".gitignore")).unwrap();
        assert!(!rules.load(&root, None));
        check(&rules, &["x"], &["y"]);
        drop(half);
        assert!(rules.load(&root, None));
        check(&rules, &[], &["x"]);
        std::fs::write(dir.path().join(".gitignore"), "x\n").unwrap();
        assert!(rules.load(&root, None));
        std::fs::remove_file(dir.path().join(".gitignore")).unwrap();
        assert!(rules.load(&root, None));
        check(&rules, &[], &["x"]);
    }
}
