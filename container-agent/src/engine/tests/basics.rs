//! One change at a time, both ways.

use uspark_shared::replica::ProjectEdit;
use uspark_shared::schema::Entry;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_are_no_utf8_are_told_and_left_alone() {
    use std::os::unix::ffi::OsStrExt as _;
    let server = Double::new();
    let place = Place::new();
    place.write("d/f", "x");
    let file = |name: &[u8]| place.at("d").join(std::ffi::OsStr::from_bytes(name));
    std::fs::write(file(b"bad\xff"), "kept").unwrap();
    std::fs::write(file(b"bad\xfe"), "kept too").unwrap();
    let skipped = |report: &Report| -> Vec<String> {
        assert!(report.is_equal(), "{report:#?}");
        let skipped = report.skipped.iter();
        skipped.map(|s| format!("{}: {}", s.path, s.why)).collect()
    };
    let told = ["d/bad\\xfe", "d/bad\\xff"].map(|path| format!("{path}: its name is not UTF-8"));
    for direction in [Direction::Push, Direction::Pull] {
        assert_eq!(skipped(&place.once(&server, direction).await), told);
    }
    let agent = place.watch(&server).await;
    assert_eq!(skipped(&agent.handle.status().await.report), told);
    assert_eq!(server.tree().into_keys().collect::<Vec<_>>(), ["d/f"]);
    assert_eq!(std::fs::read(file(b"bad\xff")).unwrap(), b"kept");
    assert_eq!(std::fs::read(file(b"bad\xfe")).unwrap(), b"kept too");
    // What is gone is not told of any more, also where its directory went.
    std::fs::remove_file(file(b"bad\xff")).unwrap();
    assert_eq!(skipped(&agent.equal().await), told[..1]);
    place.sh("mv d e");
    assert_eq!(
        skipped(&agent.equal().await),
        ["e/bad\\xfe: its name is not UTF-8"]
    );
    place.sh("rm -r e");
    assert_eq!(skipped(&agent.equal().await), [""; 0]);
    agent.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_comes_down_byte_for_byte() {
    let server = Double::new();
    server.text_file("src/main.rs", "fn main() {}\r\n");
    server.text_file("bom", "\u{feff}x");
    server.text_file("empty", "");
    server.binary_file("bin", &[0xff; 70_000]);
    server.binary_file("large", &vec![7; 5 << 20]);
    server.set("d/none", Entry::Dir);
    server.set(
        "l",
        Entry::Link {
            target: "src/main.rs".into(),
        },
    );
    server.type_into("bom", |text| format!("{text} typed"));
    let place = Place::new();
    let report = place.once(&server, Direction::Pull).await;
    assert!(report.is_equal(), "{report:?}");
    assert_eq!(place.tree(), server.tree());
    assert_eq!(place.read("src/main.rs"), "fn main() {}\r\n");
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let meta = std::fs::metadata(place.at("bin")).unwrap();
    assert_eq!(
        (meta.permissions().mode() & 0o777, meta.mtime()),
        (0o600, 1_700_000_000)
    );
    assert!(server.seen().updates.is_empty() && server.seen().uploads.is_empty());
    // Again: nothing moves.
    let downloads = server.seen().downloads;
    let report = place.once(&server, Direction::Pull).await;
    assert!(report.is_equal() && report.received == 0, "{report:?}");
    assert_eq!(server.seen().downloads, downloads);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workspace_goes_up_byte_for_byte() {
    let server = Double::new();
    let place = Place::new();
    place.write("a/b/c.txt", "hello\n");
    place.write("bin", [0xff, 0]);
    place.write("large.txt", vec![b'x'; (1 << 20) + 1]);
    place.write(".gitignore", "*.log\n");
    place.write("x.log", "no");
    place.sh("mkdir -p empty/deep; ln -s a/b l; ln -s /etc/passwd out; chmod 755 bin");
    let report = place.once(&server, Direction::Push).await;
    assert!(report.is_equal(), "{report:?}");
    assert_eq!(report.skipped.len(), 1);
    assert_eq!(report.skipped[0].path, "out");
    let mut expected = place.tree();
    expected.remove("out");
    expected.remove("x.log");
    assert_eq!(server.tree(), expected);
    assert!(matches!(
        server.entry("bin"),
        Some(Entry::Blob { mode: 0o755, .. })
    ));
    let before = server.seen();
    let report = place.once(&server, Direction::Push).await;
    assert!(report.is_equal() && report.sent == 0);
    assert_eq!(server.seen().updates.len(), before.updates.len());
    assert_eq!(server.seen().uploads.len(), before.uploads.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watching_carries_every_kind_of_change_up() {
    let server = Double::new();
    server.text_file("f", "one\n");
    let place = Place::new();
    let agent = place.watch(&server).await;
    for script in [
        "echo two >> f",
        "echo new > g; mkdir -p d/e; echo deep > d/e/h",
        "printf 'x' > f.tmp.1.2 && mv f.tmp.1.2 f",
        "sed -i s/x/yz/ f",
        "chmod 755 g; ln -s g l",
        "mv d k; mv g k/g2",
        "cp -r k m; rm -rf k/e",
        "rm f; mkdir f; echo inside > f/x",
        "rm -rf f; echo file > f",
        "rm l; ln -s m l; rm -rf k; mkdir lonely",
        "printf '\\377' > f",
        "echo text again > f",
    ] {
        place.sh(script);
        agent.equal().await;
        assert_eq!(server.tree(), place.tree(), "after {script}");
    }
    agent.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watching_carries_every_kind_of_change_down() {
    let server = Double::new();
    let place = Place::new();
    let agent = place.watch(&server).await;
    type Change = fn(&Double);
    let changes: [Change; 10] = [
        |s| drop(s.text_file("a/f", "one\n")),
        |s| s.type_into("a/f", |t| format!("{t}two\n")),
        |s| s.binary_file("b", &[0, 1, 2]),
        |s| s.binary_file("b", &[0, 1, 2, 3]),
        |s| {
            s.set(
                "l",
                Entry::Link {
                    target: "a/f".into(),
                },
            )
        },
        |s| s.set("e", Entry::Dir),
        |s| {
            let entry = s.entry("a/f").unwrap();
            s.edit(&[
                ProjectEdit::RemoveFile("a/f".into()),
                ProjectEdit::SetFile("z/y/f".parse().unwrap(), entry),
            ]);
        },
        |s| s.type_into("z/y/f", |t| t.replace("one", "1")),
        |s| {
            s.remove("e");
            s.remove("b");
        },
        |s| {
            s.remove("z/y/f");
            s.text_file("z", "a file now");
        },
    ];
    for (n, change) in changes.iter().enumerate() {
        change(&server);
        agent.equal().await;
        assert_eq!(place.tree(), server.tree(), "after change {n}");
    }
    let seen = server.seen();
    assert!(
        seen.updates.is_empty() && seen.uploads.is_empty(),
        "{seen:?}"
    );
    agent.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_a_tree_left_is_empty_on_the_server_too() {
    let server = Double::new();
    let place = Place::new();
    place.sh("mkdir -p out/a/b in gone/c; echo x > out/a/b/f; mv out in/tree; echo y > gone/c/f");
    let agent = place.watch(&server).await;
    server.remove("gone/c/f");
    place.sh("rm -f gone/c/f; mv in/tree elsewhere");
    agent.equal().await;
    assert_eq!(server.tree(), place.tree());
    place.sh("rm -r elsewhere/a");
    agent.equal().await;
    assert_eq!(server.tree(), place.tree());
    agent.finish().await;
}
