use proptest::prelude::*;
use uspark_shared::id::BlobHash;

use super::patch::{patch, quoted};
use super::*;

fn path(s: &str) -> FilePath {
    s.parse().unwrap()
}

fn file(content: &str, mode: u32) -> File {
    File {
        hash: BlobHash::of(content.as_bytes()),
        size: content.len() as u64,
        mode,
    }
}

fn text(content: &str) -> Version {
    Version::Text(file(content, 0o644))
}

fn binary(content: &str) -> Version {
    Version::Binary(file(content, 0o644))
}

struct Place(tempfile::TempDir);

impl Place {
    fn new(script: &str) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.sh(script);
        place
    }

    fn sh(&self, script: &str) {
        let mut command = std::process::Command::new("sh");
        let command = command.args(["-ec", script]).current_dir(self.0.path());
        assert!(command.status().unwrap().success(), "{script}");
    }

    fn compare(&self, project: &[(&str, Version)], only: &[&str]) -> Differences {
        let project = project
            .iter()
            .map(|(at, version)| (path(at), version.clone()));
        let only: Vec<FilePath> = only.iter().map(|at| path(at)).collect();
        let root = Root::open(self.0.path()).unwrap();
        compare(&root, &project.collect(), &only).unwrap()
    }

    fn paths(&self, project: &[(&str, Version)], only: &[&str]) -> Vec<String> {
        let found = self.compare(project, only).found;
        found.into_iter().map(|found| found.path.into()).collect()
    }
}

#[test]
fn everything_that_differs_is_found_and_nothing_else() {
    let place = Place::new(
        "umask 022; mkdir -p same d/e empty gone-files .uspark .git node_modules/kept out
        printf one > same/text; printf two > changed; printf x > mode; chmod 755 mode
        printf new > d/e/new; ln -s changed link; ln -s /etc/passwd absolute; mkfifo pipe
        echo '*.log' > .gitignore; printf no > a.log; printf yes > b.log
        printf x > .uspark/x; printf x > .git/x; printf 1 > node_modules/kept/synced; printf 2 > node_modules/not
        printf f > was-dir; ln -s x was-file; printf big > big",
    );
    let project = [
        ("same/text", text("one")),
        (".gitignore", text("*.log\n")),
        ("changed", text("2")),
        ("mode", text("x")),
        ("deleted", binary("?")),
        ("gone-files/f", text("f")),
        ("b.log", text("yes")),
        ("node_modules/kept/synced", text("11")),
        ("was-dir", Version::Dir),
        ("was-file", text("x")),
        ("d/e", Version::Dir),
        // Too large to be edited by many, were it larger.
        ("big", binary("big")),
    ];
    let expected = [
        "changed",
        "d/e/new",
        "deleted",
        "empty",
        "gone-files/f",
        "link",
        "mode",
        "node_modules/kept/synced",
        "out",
        "was-dir",
        "was-file",
    ];
    assert_eq!(place.paths(&project, &[]), expected);
    let skipped = place.compare(&project, &[]).skipped;
    let skipped: Vec<&str> = skipped.keys().map(String::as_str).collect();
    assert_eq!(skipped, ["absolute", "pipe"]);
    assert_eq!(
        place.paths(&project, &["d", "mode", "none"]),
        ["d/e/new", "mode"]
    );
    assert_eq!(
        place.paths(&project, &["node_modules"]),
        ["node_modules/kept/synced"]
    );
    assert!(place.compare(&project, &["d", "same"]).skipped.is_empty());
}

fn difference(
    project: Option<Version>,
    workspace: Option<Version>,
    now: Option<&str>,
) -> Difference {
    Difference {
        path: path("d/f"),
        project,
        workspace,
        text: now.map(ToOwned::to_owned),
    }
}

#[test]
fn each_kind_of_difference_has_gits_form() {
    let link = |target: &str| {
        Some(Version::Link {
            link: target.into(),
        })
    };
    let head = "diff --git a/d/f b/d/f\n";
    for (project, before, workspace, now, expected) in [
        (
            None,
            None,
            Some(text("a\nb")),
            Some("a\nb"),
            "new file mode 100644\n--- /dev/null\n+++ b/d/f\n@@ -0,0 +1,2 @@\n+a\n+b\n\\ No newline at end of file\n",
        ),
        (
            Some(text("a\n")),
            Some("a\n"),
            None,
            None,
            "deleted file mode 100644\n--- a/d/f\n+++ /dev/null\n@@ -1,1 +0,0 @@\n-a\n",
        ),
        (
            Some(text("a\n")),
            Some("a\n"),
            Some(text("a")),
            Some("a"),
            "--- a/d/f\n+++ b/d/f\n@@ -1,1 +1,1 @@\n-a\n+a\n\\ No newline at end of file\n",
        ),
        (
            Some(text("")),
            Some(""),
            None,
            None,
            "deleted file mode 100644\n",
        ),
        (
            Some(text("a")),
            Some("a"),
            Some(Version::Text(file("a", 0o755))),
            Some("a"),
            "old mode 100644\nnew mode 100755\n",
        ),
        (
            Some(binary("a")),
            None,
            Some(binary("bc")),
            None,
            "Binary files a/d/f (binary, 1 bytes) and b/d/f (binary, 2 bytes) differ\n",
        ),
        (
            None,
            None,
            Some(binary("bc")),
            None,
            "new file mode 100644\nBinary files /dev/null and b/d/f (binary, 2 bytes) differ\n",
        ),
        (
            Some(text("a")),
            None,
            Some(binary("bc")),
            None,
            "Binary files a/d/f (text, 1 bytes) and b/d/f (binary, 2 bytes) differ\n",
        ),
        (
            link("x"),
            None,
            link("y"),
            None,
            "--- a/d/f\n+++ b/d/f\n@@ -1,1 +1,1 @@\n-x\n\\ No newline at end of file\n+y\n\\ No newline at end of file\n",
        ),
    ] {
        let difference = difference(project, workspace, now);
        assert_eq!(patch(&difference, before).text, format!("{head}{expected}"));
    }
    let became = patch(&difference(Some(text("a\n")), link("x"), None), Some("a\n"));
    assert_eq!((became.insertions, became.deletions), (1, 1));
    assert_eq!(became.text.matches(head).count(), 2);
    let dir = patch(&difference(None, Some(Version::Dir), None), None);
    assert_eq!(
        dir.text,
        "Only in the workspace: d/f (an empty directory)\n"
    );
}

#[test]
fn a_name_cannot_be_taken_for_something_else() {
    assert_eq!(quoted("a/", &path("ä b")), "a/ä b");
    assert_eq!(
        quoted("a/", &path("x\n\"\\\u{9b}")),
        r#""a/x\012\"\\\302\233""#
    );
}

#[test]
fn git_takes_what_is_written() {
    let old = "one\ntwo\nthree\nfour\nfive\nsix\nseven\n";
    let new = "one\ntwo\nthree\nfour\n5\nsix\nseven";
    let place = Place::new("git init -q .; mkdir d");
    std::fs::write(place.0.path().join("d/f"), old).unwrap();
    let patch = patch(
        &difference(Some(text(old)), Some(text(new)), Some(new)),
        Some(old),
    );
    std::fs::write(place.0.path().join("p"), &patch.text).unwrap();
    place.sh("git apply --unidiff-zero p");
    assert_eq!(
        std::fs::read_to_string(place.0.path().join("d/f")).unwrap(),
        new
    );
    assert_eq!((patch.insertions, patch.deletions), (2, 2));
}

/// Applies hunks strictly, each exactly where its header says.
fn apply(old: &str, patch: &str) -> String {
    let old: Vec<&str> = old.split_inclusive('\n').collect();
    let mut new: Vec<String> = Vec::new();
    let mut at = 0;
    let mut lines = patch
        .split_inclusive('\n')
        .skip_while(|line| !line.starts_with("@@"))
        .peekable();
    while let Some(line) = lines.next() {
        let (sign, rest) = line.split_at(1);
        let mut content = rest.to_owned();
        if lines.peek().is_some_and(|next| next.starts_with('\\')) {
            content.pop();
            lines.next();
        }
        match sign {
            "@" => {
                let numbers: Vec<usize> = line
                    .split(|c: char| !c.is_ascii_digit())
                    .filter_map(|number| number.parse().ok())
                    .collect();
                let [from, from_len, to, to_len] = numbers[..] else {
                    panic!("{line}");
                };
                let start = from - usize::from(from_len > 0);
                new.extend(old[at..start].iter().map(|line| (*line).to_owned()));
                at = start;
                assert_eq!(to - usize::from(to_len > 0), new.len(), "{line}");
            }
            "+" => new.push(content),
            _ => {
                assert_eq!(old[at], content);
                at += 1;
                if sign == " " {
                    new.push(content);
                }
            }
        }
    }
    new.extend(old[at..].iter().map(|line| (*line).to_owned()));
    new.concat()
}

proptest! {
    #[test]
    fn every_hunk_stands_where_its_header_says(
        old in proptest::collection::vec("[abc]?", 0..40),
        edits in proptest::collection::vec((0usize..40, 0usize..3, "[abcd\n]{0,4}"), 0..4),
        ends in any::<(bool, bool)>(),
    ) {
        let mut new = old.clone();
        for (at, delete, insert) in edits {
            let at = at.min(new.len());
            let to = (at + delete).min(new.len());
            new.splice(at..to, [insert]);
        }
        let whole = |lines: &[String], end: bool| {
            let mut text = lines.join("\n");
            if end { text.push('\n'); }
            text
        };
        let (old, new) = (whole(&old, ends.0), whole(&new, ends.1));
        let written = patch(&difference(Some(text(&old)), Some(text(&new)), Some(&new)), Some(&old));
        prop_assert_eq!(apply(&old, &written.text), new);
    }
}
