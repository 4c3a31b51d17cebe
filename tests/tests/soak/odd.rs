//! Every odd file goes to the server and comes out of it byte for byte.

use std::{
    fs::{self, File, Permissions},
    io::{Seek, SeekFrom, Write},
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use serde_json::{Value, json};
use uspark_tests::{Outline, Project, Row, Server, Workspace, same_outline};

use crate::watched::LONG;

#[test]
fn every_odd_file_comes_back_as_it_was() {
    let mut row = Row::begin("round trip of odd files");
    let server = Server::start();
    let project = server.project();
    let (from, to) = (Workspace::new(&project), Workspace::new(&project));
    let big = if row.is_full() { 2 << 30 } else { 20 << 20 };
    make(&from, &mut row.random, big);
    let made = from.outline().unwrap();

    let outside = |path: &str| {
        OUTSIDE
            .iter()
            .any(|(name, _)| path == format!("links/{name}"))
    };
    let pushed = transfer(&from, "push", &project);
    let skipped = pushed["skipped"].as_array().expect("a list");
    let skipped = skipped
        .iter()
        .filter_map(|skipped| skipped["path"].as_str());
    assert!(
        skipped.clone().count() == OUTSIDE.len() && skipped.clone().all(outside),
        "{pushed}"
    );
    same_outline(&from.outline().unwrap(), &made).unwrap();
    let made: Outline = made
        .into_iter()
        .filter(|(path, _)| !outside(path))
        .collect();
    transfer(&to, "pull", &project);
    same_outline(&made, &to.outline().unwrap()).unwrap();
    to.equals_by_hash(&project).unwrap();
    // What has come is sent back by nobody, nor what was sent fetched again.
    for (workspace, command) in [(&to, "push"), (&from, "pull")] {
        let again = transfer(workspace, command, &project);
        assert_eq!(
            (&again["sent"], &again["received"]),
            (&json!(0), &json!(0)),
            "{again}"
        );
    }
    row.held(format!(
        "{} odd paths, one of {big} bytes, 0 differences",
        made.len()
    ));
}

/// Links that lead out of the workspace: they stay where they are, and it is said.
const OUTSIDE: [(&str, &str); 2] = [("out", "../../outside"), ("absolute", "/etc/hostname")];

/// Does it; gives the report.
fn transfer(workspace: &Workspace, command: &str, project: &Project) -> Value {
    let transfer = [
        command,
        "--project-id",
        &project.id,
        "--sync-timeout",
        "5m",
        "--json",
    ];
    let ended = workspace.start(&transfer).wait_within(LONG).expect_code(0);
    let mut said: Value =
        serde_json::from_slice(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended}"));
    said["report"].take()
}

fn make(workspace: &Workspace, random: &mut fastrand::Rng, big: u64) {
    let contents: [(&str, &[u8]); 14] = [
        ("crlf", b"one\r\ntwo\r\n"),
        ("mixed ends", b"one\r\ntwo\nthree\rfour\n\r"),
        ("bom", b"\xef\xbb\xbfwith a mark\n"),
        ("bom alone", b"\xef\xbb\xbf"),
        ("utf-16", b"\xff\xfeo\0n\0e\0"),
        ("no last newline", b"one\ntwo"),
        ("newlines", b"\n\n\n"),
        ("invalid utf-8", b"caf\xe9\n"),
        ("cut utf-8", b"caf\xc3"),
        ("surrogate", b"\xed\xa0\x80\n"),
        ("nul", b"a\0b\n"),
        ("empty", b""),
        (
            "beyond 16 bits",
            "\u{1f600}\u{1f468}\u{200d}\u{1f469}\n\u{10ffff}\u{fffe}\n".as_bytes(),
        ),
        ("controls", b"\x01\x02\x1b[31m\x7f\x0b\x0c\n"),
    ];
    for (name, bytes) in contents {
        workspace.write(&format!("contents/{name}"), bytes);
    }
    // About as large as a text may be, and larger.
    for size in [(1 << 20) - 1, 1 << 20, (1 << 20) + 1] {
        workspace.write(&format!("sizes/{size}"), "x".repeat(size));
    }
    write_sparse(&workspace.path("sizes/big"), random, big);

    let names = [
        "a space",
        " leading space",
        "trailing space ",
        "-leading-dash",
        "--",
        "-rf",
        "it's",
        "\"quoted\"",
        "back\\slash",
        "new\nline",
        "tab\tand\rreturn",
        "$HOME",
        "`id`",
        "*",
        "?[a]",
        "semi;colon&and|pipe",
        "#hash",
        "%41",
        "a+b=c",
        "~home",
        "...",
        ".hidden",
        "käse",
        "ka\u{308}se 2",
        "日本語",
        "\u{1f600}",
        "\u{202e}rtl",
        "CON",
        "aux.txt",
        "end.",
        "a:b",
        "1",
    ];
    for name in names {
        workspace.write(&format!("names/{name}"), name);
        workspace.write(&format!("names/in/{name}/deep/{name}"), name);
    }
    workspace.write(&format!("names/{}", "n".repeat(255)), "a long name");
    workspace.write(
        &format!("{}/f", vec!["d".repeat(200); 5].join("/")),
        "a long path",
    );

    for mode in [
        0o755, 0o644, 0o600, 0o400, 0o444, 0o700, 0o777, 0o070, 0o111,
    ] {
        for (kind, bytes) in [("text", "#!/bin/sh\n"), ("binary", "\0")] {
            let path = format!("modes/{kind} {mode:o}");
            workspace.write(&path, bytes);
            fs::set_permissions(workspace.path(&path), Permissions::from_mode(mode))
                .expect("our own file");
        }
    }

    fs::create_dir_all(workspace.path("links/empty/in empty")).expect("a directory of our own");
    fs::create_dir(workspace.path("empty directory")).expect("a directory of our own");
    let inside = [
        ("file", "../contents/crlf"),
        ("directory", "../contents"),
        ("nowhere", "nowhere at all"),
        ("here", "."),
        ("up", ".."),
        ("itself", "itself"),
        ("odd", "a b'c\"d\nkäse"),
    ];
    for (name, target) in inside.into_iter().chain(OUTSIDE) {
        symlink(target, workspace.path(&format!("links/{name}"))).expect("a link of our own");
    }
}

/// A large file that takes no room, with some bytes of its own in it.
fn write_sparse(path: &Path, random: &mut fastrand::Rng, size: u64) {
    let mut file = File::create(path).expect("a file of our own");
    file.set_len(size)
        .expect("the file system has sparse files");
    for _ in 0..50 {
        let at = random.u64(..size - 8);
        file.seek(SeekFrom::Start(at)).expect("it is that large");
        file.write_all(&random.u64(..).to_le_bytes())
            .expect("there is room");
    }
}
