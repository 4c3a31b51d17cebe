//! Every odd file goes to the server and comes out of it byte for byte.

use std::{
    fs::{self, File, Permissions},
    io::{Seek, SeekFrom, Write},
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use uspark_tests::{Row, Server, Workspace, same_outline};

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

    for (workspace, command) in [(&from, "push"), (&to, "pull")] {
        let transfer = [command, "--project-id", &project.id, "--sync-timeout", "5m"];
        workspace.start(&transfer).wait_within(LONG).expect_code(0);
    }
    same_outline(&from.outline().unwrap(), &made).unwrap();
    same_outline(&made, &to.outline().unwrap()).unwrap();
    from.equals_by_hash(&project).unwrap();
    // What comes back is sent again by nobody.
    let again = ["push", "--project-id", &project.id, "--json"];
    let again = to.run(&again).expect_code(0).text();
    let again: serde_json::Value = serde_json::from_str(&again).expect("the report is JSON");
    assert_eq!(again["report"]["sent"], 0, "{again}");
    row.held(format!(
        "{} odd paths, one of {big} bytes, 0 differences",
        made.len()
    ));
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
    let targets = [
        "../contents/crlf",
        "../contents",
        "nowhere",
        ".",
        "..",
        "itself",
        "../../outside",
        "/etc/hostname",
        "a b'c\"d",
        "käse",
    ];
    for (number, target) in targets.into_iter().enumerate() {
        let name = if target == "itself" {
            target.to_owned()
        } else {
            format!("l{number}")
        };
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
