use super::*;

const MODE: u32 = 0o644;

fn hash(version: &str) -> BlobHash {
    BlobHash::of(version.as_bytes())
}

/// One side's version in a table: `-` nothing, `t1` text 1 of document d, `u1` the same text of
/// another document, `b1` binary 1, `l1` a link, `e` an empty directory, `f` a full one.
fn entry(version: &str) -> Option<(Entry, Option<BlobHash>)> {
    let content = hash(version.get(1..).unwrap_or_default());
    let text = |doc: &str| Entry::Text {
        doc: doc.parse().unwrap(),
        seed: hash("seed"),
        mode: MODE,
        mtime: 1,
    };
    Some(match version.chars().next().unwrap() {
        't' => (text("d"), Some(content)),
        'u' => (text("other"), Some(content)),
        'b' => {
            let content = hash(version);
            (
                Entry::Blob {
                    hash: content,
                    size: 2,
                    mode: MODE,
                    mtime: 1,
                },
                Some(content),
            )
        }
        'l' => (
            Entry::Link {
                target: version.into(),
            },
            None,
        ),
        'e' | 'f' => (Entry::Dir, None),
        '-' => return None,
        _ => panic!("{version}"),
    })
}

fn disk(version: &str) -> Disk {
    match version.chars().next().unwrap() {
        't' => Disk::File {
            hash: hash(&version[1..]),
            size: 1,
            mode: MODE,
            is_text: true,
        },
        'b' => Disk::File {
            hash: hash(version),
            size: 2,
            mode: MODE,
            is_text: false,
        },
        'l' => Disk::Link(version.into()),
        'e' => Disk::Dir { empty: true },
        'f' => Disk::Dir { empty: false },
        _ => Disk::Absent,
    }
}

fn base(version: &str) -> Option<Base> {
    entry(version).map(|(entry, hash)| Base {
        entry,
        hash,
        print: None,
    })
}

fn step(base_version: &str, disk_version: &str, remote_version: &str) -> Step {
    let remote = entry(remote_version);
    let remote = remote.as_ref().map(|(entry, text)| Remote {
        entry,
        text: entry.doc().and(*text),
    });
    plan(
        base(base_version).as_ref(),
        &disk(disk_version),
        remote.as_ref(),
    )
}

#[test]
fn every_meeting_of_text_binary_and_nothing() {
    use Step::*;
    let table = [
        // base, disk, project
        ("-", "-", "-", Nothing),
        ("-", "-", "t1", Write),
        ("-", "-", "b1", Write),
        ("-", "t1", "-", Send),
        ("-", "b1", "-", Send),
        ("-", "t1", "t1", Adopt),
        ("-", "b1", "b1", Adopt),
        ("-", "t1", "t2", Conflict),
        ("-", "b1", "b2", Conflict),
        ("-", "t1", "b2", Conflict),
        ("-", "b1", "t2", Conflict),
        ("t1", "-", "-", Forget),
        ("b1", "-", "-", Forget),
        ("t1", "-", "t1", Withdraw),
        ("b1", "-", "b1", Withdraw),
        ("t1", "-", "t2", Write),
        ("b1", "-", "b2", Write),
        ("t1", "-", "b2", Write),
        ("b1", "-", "t2", Write),
        ("t1", "t1", "-", Remove),
        ("b1", "b1", "-", Remove),
        ("t1", "t2", "-", Send),
        ("b1", "b2", "-", Send),
        ("t1", "b2", "-", Send),
        ("b1", "t2", "-", Send),
        ("t1", "t1", "t1", Nothing),
        ("b1", "b1", "b1", Nothing),
        ("t1", "t1", "t2", Write),
        ("b1", "b1", "b2", Write),
        ("t1", "t1", "b2", Write),
        ("b1", "b1", "t2", Write),
        ("t1", "t1", "u2", Write),
        ("t1", "t2", "t1", Edit),
        ("b1", "b2", "b1", Send),
        ("t1", "b2", "t1", Send),
        ("b1", "t2", "b1", Send),
        ("t1", "t2", "t2", Adopt),
        ("b1", "b2", "b2", Adopt),
        ("t1", "t1", "u1", Adopt),
        ("t1", "t2", "u2", Adopt),
        ("t1", "t2", "t3", Edit),
        ("b1", "b2", "b3", Conflict),
        ("t1", "t2", "u3", Conflict),
        ("t1", "t2", "b3", Conflict),
        ("t1", "b2", "t3", Conflict),
        ("b1", "t2", "b3", Conflict),
        ("b1", "t2", "t3", Conflict),
    ];
    for (b, d, r, expected) in table {
        assert_eq!(step(b, d, r), expected, "base {b}, disk {d}, project {r}");
    }
}

#[test]
fn links_and_directories() {
    use Step::*;
    let blocked = Blocked("a directory of the same name is there");
    let table = [
        ("-", "l1", "-", Send),
        ("-", "-", "l1", Write),
        ("-", "l1", "l1", Adopt),
        ("-", "l1", "l2", Conflict),
        ("l1", "l1", "l2", Write),
        ("l1", "l2", "l1", Send),
        ("l1", "l1", "-", Remove),
        ("l1", "-", "l1", Withdraw),
        ("l1", "t1", "l1", Send),
        ("t1", "l1", "t1", Send),
        ("t1", "t1", "l1", Write),
        ("l1", "l2", "l3", Conflict),
        ("-", "e", "-", Send),
        ("-", "f", "-", Nothing),
        ("-", "-", "e", Write),
        ("-", "e", "e", Adopt),
        ("-", "f", "e", Adopt),
        ("e", "e", "e", Nothing),
        ("e", "f", "e", Nothing),
        ("e", "-", "e", Withdraw),
        ("e", "e", "-", Remove),
        ("e", "f", "-", Remove),
        ("e", "-", "-", Forget),
        // A file that became a directory, and the other way round.
        ("t1", "f", "t1", Withdraw),
        ("t1", "e", "t1", Send),
        ("t1", "f", "-", Forget),
        ("t1", "f", "t2", blocked),
        ("-", "f", "t1", blocked),
        ("e", "t1", "e", Send),
        ("e", "e", "t1", Write),
        // Content beats an empty directory.
        ("-", "t1", "e", Send),
        ("-", "e", "t1", Write),
        ("t1", "t2", "e", Send),
        ("t1", "e", "t2", Write),
    ];
    for (b, d, r, expected) in table {
        assert_eq!(step(b, d, r), expected, "base {b}, disk {d}, project {r}");
    }
}

#[test]
fn permission_bits_follow_the_side_that_changed_them() {
    let with_mode = |entry: Entry, new: u32| match entry {
        Entry::Text {
            doc, seed, mtime, ..
        } => Entry::Text {
            doc,
            seed,
            mode: new,
            mtime,
        },
        other => other,
    };
    let modes = |base_mode: Option<u32>, disk_mode, remote_mode| {
        let (entry, hash) = entry("t1").unwrap();
        let base = base_mode.map(|mode| Base {
            entry: with_mode(entry.clone(), mode),
            hash,
            print: None,
        });
        let disk = Disk::File {
            hash: hash.unwrap(),
            size: 1,
            mode: disk_mode,
            is_text: true,
        };
        let remote = with_mode(entry, remote_mode);
        plan(
            base.as_ref(),
            &disk,
            Some(&Remote {
                entry: &remote,
                text: hash,
            }),
        )
    };
    assert_eq!(modes(Some(0o644), 0o755, 0o644), Step::SendMode);
    assert_eq!(modes(Some(0o644), 0o644, 0o755), Step::WriteMode);
    assert_eq!(modes(Some(0o644), 0o755, 0o755), Step::Adopt);
    assert_eq!(modes(Some(0o644), 0o755, 0o700), Step::WriteMode);
    assert_eq!(modes(None, 0o755, 0o644), Step::WriteMode);
    assert_eq!(modes(Some(0o644), 0o644, 0o4644), Step::Nothing);
}

#[test]
fn a_step_ends_when_it_was_taken() {
    // Whatever the three views are, taking the steps leads to rest.
    let versions = ["-", "t1", "t2", "b1", "b2", "l1", "e"];
    for b in versions {
        for d in versions {
            for r in versions {
                let (mut base_is, mut disk_is, mut remote_is) = (b, d, r);
                let mut steps = 0;
                loop {
                    match step(base_is, disk_is, remote_is) {
                        Step::Nothing => break,
                        Step::Adopt => base_is = remote_is,
                        Step::Forget => base_is = "-",
                        // The document of an edit takes in both; here the disk's stands for it.
                        Step::Edit | Step::Send => (remote_is, base_is) = (disk_is, disk_is),
                        Step::Withdraw => (remote_is, base_is) = ("-", "-"),
                        Step::Write | Step::Conflict => (disk_is, base_is) = (remote_is, remote_is),
                        Step::Remove => (disk_is, base_is) = ("-", "-"),
                        other => panic!("{other:?} for {b} {d} {r}"),
                    }
                    steps += 1;
                    assert!(steps < 4, "{b} {d} {r} never rests");
                }
                assert_eq!(disk_is, remote_is, "{b} {d} {r}");
            }
        }
    }
}

#[test]
fn one_way_sessions_leave_the_other_way_alone() {
    use Direction::*;
    use Step::*;
    let permitted = |direction, remote_changed| {
        [
            Edit, Send, SendMode, Withdraw, Write, WriteMode, Remove, Conflict, Adopt,
        ]
        .into_iter()
        .filter(|step| permits(direction, *step, remote_changed))
        .collect::<Vec<_>>()
    };
    assert_eq!(permitted(Both, false).len(), 9);
    assert_eq!(
        permitted(Pull, false),
        [Write, WriteMode, Remove, Conflict, Adopt]
    );
    assert_eq!(
        permitted(Pull, true),
        [Edit, Write, WriteMode, Remove, Conflict, Adopt]
    );
    assert_eq!(
        permitted(Push, false),
        [Edit, Send, SendMode, Withdraw, Conflict, Adopt]
    );
}
