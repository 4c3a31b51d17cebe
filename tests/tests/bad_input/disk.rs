//! A file that cannot be read, and a full disk on either side: a small tmpfs in a mount namespace of its own.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "the tests fill and empty a disk, and say when they cannot"
)]

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::ensure;
use serde_json::json;
use uspark_tests::{
    Curl, Node, Running, SOON, Server, Workspace, as_ordinary_user, eventually, private_mounts,
    program, same, under,
};

use crate::assert_hint;

#[test]
fn a_file_that_cannot_be_read() {
    let server = Server::start();
    let project = server.project();
    let workspace = Workspace::new(&project);
    let push = || {
        let command = workspace.uspark(&["push", "--project-id", &project.id, "--all"]);
        Running::start(&mut as_ordinary_user(command, workspace.outside())).wait()
    };
    workspace.write("secret.txt", "first\n");
    push().expect_code(0);

    workspace.write("secret.txt", "second\n");
    workspace.write("good.txt", "good\n");
    fs::set_permissions(
        workspace.path("secret.txt"),
        fs::Permissions::from_mode(0o000),
    )
    .unwrap();
    assert_hint(push().expect_code(1), "secret.txt");
    assert_eq!(project.text("good.txt").unwrap(), "good\n");
    assert_eq!(
        project.text("secret.txt").unwrap(),
        "first\n",
        "a file that cannot be read is not gone"
    );

    fs::set_permissions(
        workspace.path("secret.txt"),
        fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    push().expect_code(0);
    assert_eq!(project.text("secret.txt").unwrap(), "second\n");
}

const MIB: usize = 1024 * 1024;

/// The command line's start, or the reason why a test does nothing.
fn private_mounts_or_reason() -> Option<&'static [&'static str]> {
    let line = private_mounts();
    if line.is_none() {
        eprintln!(
            "NOT RUN: nobody may mount a small tmpfs on this machine (`unshare --mount` fails)"
        );
    }
    line
}

#[test]
fn a_full_disk_under_the_workspace() {
    let Some(unshare) = private_mounts_or_reason() else {
        return;
    };
    let server = Server::start();
    let project = server.project();
    project.put("large.bin", vec![0; 8 * MIB]);
    project.put("small.txt", "small\n");
    let workspace = Workspace::new(&project).env("PROJECT_ID", &project.id);

    let script = "mount -t tmpfs -o size=4m none $PWD && cd $PWD || exit 99
                  uspark pull --project-id $PROJECT_ID; code=$?
                  ls; cat small.txt
                  uspark push --project-id $PROJECT_ID --all >&2
                  exit $code";
    let ended = Running::start(&mut under(unshare, &workspace.bash(script)))
        .wait()
        .expect_code(1);
    assert!(
        ended.text().ends_with("small.txt\nsmall\n"),
        "small.txt alone was to be there\n{ended}"
    );
    assert!(
        ended.stderr.contains("large.bin") && ended.stderr.contains("No space left"),
        "{ended}"
    );
    assert!(ended.stderr.contains("hint:"), "{ended}");
    let large = project.read("large.bin").unwrap();
    assert_eq!(
        large.len(),
        8 * MIB,
        "what never arrived was not deleted here"
    );
}

#[test]
fn a_disk_too_full_for_the_journal() {
    let Some(unshare) = private_mounts_or_reason() else {
        return;
    };
    let server = Server::start();
    let project = server.project();
    for number in 0..8u8 {
        project.put(&format!("{number}.bin"), vec![0xff - number; 500_000]);
    }
    let workspace = Workspace::new(&project).env("PROJECT_ID", &project.id);
    let script = "mount -t tmpfs -o size=3m none $PWD && cd $PWD || exit 99
                  timeout 20 uspark pull --project-id $PROJECT_ID --sync-timeout 2; code=$?
                  timeout 20 uspark run --project-id $PROJECT_ID --sync-timeout 2 -- true; echo $?
                  exit $code";
    let ended = Running::start(&mut under(unshare, &workspace.bash(script)))
        .wait()
        .expect_code(1);
    assert!(ended.text().ends_with("\n1\n"), "{ended}");
    assert!(ended.stderr.contains("hint:"), "{ended}");
}

/// A server whose data are on a disk of 24 MiB, and where a file beside them is seen from here.
fn server_on_a_small_disk(unshare: &[&str]) -> (Server, PathBuf) {
    // The server's own arguments come last: `$4` is the data directory.
    let script = r#"mount -t tmpfs -o size=24m none "$4" && exec "$0" "$@""#;
    let mut command = Command::new("bash");
    command
        .args(["-c", script])
        .arg(program("sync-server"))
        .env("PATH", std::env::var_os("PATH").expect("tests have a PATH"));
    let server = Server::start_by(under(unshare, &command));
    let ballast = PathBuf::from(format!(
        "/proc/{}/root{}/ballast",
        server.pid(),
        server.data().display()
    ));
    (server, ballast)
}

/// Writes a file until not even a byte fits any more.
fn fill(ballast: &Path) -> fs::File {
    let mut options = fs::File::options();
    let mut file = options
        .create_new(true)
        .append(true)
        .open(ballast)
        .expect("it is made");
    for step in [MIB, 1] {
        while file.write(&vec![0; step]).is_ok_and(|written| written > 0) {}
    }
    file
}

#[test]
fn a_server_whose_disk_takes_no_files_any_more_is_not_ready_though_small_writes_fit() {
    let Some(unshare) = private_mounts_or_reason() else {
        return;
    };
    let (server, ballast) = server_on_a_small_disk(unshare);
    let project = server.project();
    let ready = || Curl::without_token(format!("{}/readyz", server.url)).send();
    let store = || {
        let url = format!("{}/api/blobs?project={}", server.url, project.id);
        let upload = Curl::new(url, &server.token).method("POST");
        upload.body(vec![1; 4 * MIB]).send()
    };
    let file = fill(&ballast);
    // Room for some small writes, and for no file of 4 MiB.
    file.set_len(file.metadata().unwrap().len() - 2 * MIB as u64)
        .unwrap();
    store().problem(503);
    project.put("small.txt", "small\n");
    ready().problem(503);
    let metrics = Curl::without_token(format!("{}/metrics", server.url))
        .ok()
        .text();
    assert!(
        metrics.contains("uspark_refusals_total{code=\"503\"} 2"),
        "{metrics}"
    );

    drop(file);
    fs::remove_file(&ballast).unwrap();
    assert_eq!(ready().status, 200);
    assert_eq!(store().status, 201);
}

#[test]
fn a_full_disk_under_the_server() {
    let Some(unshare) = private_mounts_or_reason() else {
        return;
    };
    let (server, ballast) = server_on_a_small_disk(unshare);
    let project = server.project();
    project.put("a.txt", "typed: ");
    let document = project.document("a.txt");
    let mut client = Node::client(&project);
    client.call("open", json!({"document": document}));

    let file = fill(&ballast);

    // What cannot be kept is not acknowledged, and said to be so.
    let reply = Curl::new(
        format!("{}/api/blobs?project={}", server.url, project.id),
        &server.token,
    )
    .method("POST")
    .body(vec![1; 4 * MIB])
    .send();
    reply.problem(503);
    client.call(
        "insert",
        json!({"document": document, "after": "typed: ", "text": "on a full disk"}),
    );
    let saved = client.try_call("waitSaved", json!({"document": document, "timeout": 1000}));
    assert!(saved.is_err(), "what cannot be on disk was acknowledged");
    eventually(SOON, || {
        same(
            Curl::without_token(format!("{}/readyz", server.url))
                .try_send()?
                .status,
            503,
        )
    });
    Curl::without_token(format!("{}/healthz", server.url)).expect(200);
    // A read that would show what is not stored is refused; soon the client waits before it sends again.
    eventually(SOON, || {
        let read = project.file("a.txt").try_send()?;
        same(read.status, 200)?;
        same(read.text().as_str(), "typed: ")
    });

    // Once there is room the clients go on by themselves.
    drop(file);
    fs::remove_file(&ballast).unwrap();
    eventually(SOON, || {
        let status = Curl::without_token(format!("{}/readyz", server.url))
            .try_send()?
            .status;
        ensure!(status == 200, "{status}");
        Ok(())
    });
    eventually(SOON, || {
        same(project.text("a.txt")?, "typed: on a full disk")
    });
    let mut other = Node::client(&project);
    other.call("open", json!({"document": document}));
    assert_eq!(
        other.call("text", json!({"document": document})),
        "typed: on a full disk"
    );
}
