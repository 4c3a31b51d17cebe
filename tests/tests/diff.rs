//! `uspark diff` against the real server, beside the real agent.
#![allow(
    clippy::disallowed_methods,
    reason = "what is on disk is changed from outside"
)]

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use serde_json::{Value, json};
use uspark_tests::{SOON, Server, Workspace, eventually, same};

#[test]
fn it_shows_what_differs_and_git_takes_it_for_a_patch() {
    let server = Server::start();
    let project = server.project();
    project.put("src/a.js", "one\ntwo\nthree\n");
    project.put("gone.txt", "gone\n");
    project.put("logo.png", [0, 1, 2]);
    let workspace = Workspace::new(&project);
    workspace
        .run(&["pull", "--project-id", &project.id])
        .expect_code(0);
    let none = workspace.run(&["diff", "--exit-code"]).expect_code(0);
    assert_eq!(none.text(), "");

    workspace.write("src/a.js", "one\n2\nthree");
    workspace.write("src/new.js", "new\n");
    workspace.write("logo.png", [0, 1, 2, 3]);
    fs::remove_file(workspace.path("gone.txt")).unwrap();
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(workspace.path("src/new.js"), executable).unwrap();
    let text = workspace.run(&["diff"]).expect_code(0).text();
    assert_eq!(
        text,
        "\
diff --git a/gone.txt b/gone.txt
deleted file mode 100644
--- a/gone.txt
+++ /dev/null
@@ -1,1 +0,0 @@
-gone
diff --git a/logo.png b/logo.png
Binary files a/logo.png (binary, 3 bytes) and b/logo.png (binary, 4 bytes) differ
diff --git a/src/a.js b/src/a.js
--- a/src/a.js
+++ b/src/a.js
@@ -1,3 +1,3 @@
 one
-two
-three
+2
+three
\\ No newline at end of file
diff --git a/src/new.js b/src/new.js
new file mode 100755
--- /dev/null
+++ b/src/new.js
@@ -0,0 +1,1 @@
+new
"
    );
    workspace.run(&["diff", "--exit-code"]).expect_code(1);
    // Undone by other people's program, but for the binary.
    let undone = workspace
        .bash("set -o pipefail; uspark diff src gone.txt | patch -R -p1 -s")
        .status();
    assert!(undone.expect("patch runs").success());
    let left = workspace.run(&["diff", "--json", "--stat"]).expect_code(0);
    let left: Value = serde_json::from_slice(&left.stdout).expect("one JSON object");
    let differences = left["differences"].as_array().expect("a list");
    assert_eq!(differences.len(), 1, "{left}");
    assert_eq!(differences[0]["path"], "logo.png");
    assert_eq!(differences[0]["workspace"]["size"], 4);
    assert_eq!(differences[0]["project"]["kind"], "binary");
    assert_eq!(differences[0].get("diff"), None);
}

#[test]
fn it_works_beside_an_agent_and_below_the_workspace() {
    let server = Server::start();
    let project = server.project();
    project.put("src/a.js", "one\n");
    project.put("other", "x\n");
    let workspace = Workspace::new(&project);
    let agent = workspace.start(&["watch", "--project-id", &project.id]);
    eventually(SOON, || workspace.equals(&project));
    // The agent goes on, so nothing differs for long; an edit that was not settled counts too.
    workspace.write("src/a.js", "one\ntwo\n");
    eventually(SOON, || {
        same(workspace.run(&["diff"]).expect_code(0).text(), "")
    });
    same(project.text("src/a.js").unwrap(), "one\ntwo\n").unwrap();
    agent.terminate().expect_code(0);

    workspace.write("src/a.js", "two\n");
    workspace.write("other", "y\n");
    let mut below: Command = workspace.uspark(&["diff", "a.js", "--stat"]);
    let shown = below
        .current_dir(workspace.path("src"))
        .output()
        .expect("it runs");
    assert_eq!(
        String::from_utf8_lossy(&shown.stdout),
        " src/a.js | 1 -\n 1 path changed, 0 insertions(+), 1 deletion(-)\n"
    );
    let json = workspace.run(&["diff", "src", "--json"]).expect_code(0);
    let json: Value = serde_json::from_slice(&json.stdout).expect("one JSON object");
    assert_eq!(json["differences"][0]["deletions"], json!(1));
    assert!(
        json["differences"][0]["diff"]
            .as_str()
            .is_some_and(|diff| diff.contains("\n-one\n"))
    );

    let away = workspace
        .run(&["diff", "--server", "http://127.0.0.1:1"])
        .expect_code(1);
    assert!(away.stderr.contains("hint: "), "{away}");
}

#[test]
fn a_name_that_names_nothing_fails_and_the_others_are_compared() {
    let server = Server::start();
    let project = server.project();
    project.put("there/a", "a\n");
    let workspace = Workspace::new(&project).env("PROJECT_ID", &project.id);
    workspace.write("here", "b\n");
    workspace.write(".gitignore", "ignored\n");
    workspace.write("ignored", "c\n");
    // What only one side has, a directory of it too, and what is ignored is there.
    let names = ["diff", "--stat", "there", "here", "ignored"];
    let all = workspace.run(&names).expect_code(0).text();
    assert!(all.contains(" 2 paths changed"), "{all}");

    let ended = workspace.run(&["diff", "nosuch"]).expect_code(1);
    let message = "error: there is no `nosuch` here or in the project\n";
    assert!(ended.stderr.contains(message), "{ended}");
    assert_eq!(ended.text(), "");
    let json = ["diff", "--json", "here", "nosuch", "none"];
    let json = workspace.run(&json).expect_code(1).text();
    let json: Value = serde_json::from_str(&json).expect("one JSON object");
    assert_eq!(json["differences"][0]["path"], "here");
    assert_eq!(json["unknown"][1]["path"], "nosuch");
    assert_eq!(
        json["error"]["message"],
        "2 paths name nothing that is synced"
    );
}
