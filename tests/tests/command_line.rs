//! What a person at a terminal does with `uspark`, and what it says.
#![allow(
    clippy::disallowed_methods,
    reason = "tests change workspaces as a user does"
)]

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use uspark_tests::{Project, Running, SOON, Server, Workspace, as_ordinary_user, eventually, same};

#[test]
fn a_pull_says_what_is_not_pushed_and_a_push_what_is_not_pulled() {
    let server = Server::start();
    let project = server.project();
    project.put("a", "a\n");
    project.put("b", "b\n");
    let workspace = Workspace::new(&project).env("PROJECT_ID", &project.id);
    let said = |arguments: &[&str]| workspace.run(arguments).expect_code(0).text();
    assert!(said(&["pull"]).ends_with("Successfully pulled 2 files\n"));
    assert_eq!(said(&["pull"]), "All files are up to date\n");

    workspace.write("new", "new\n");
    workspace.write("a", "changed\n");
    std::fs::remove_file(workspace.path("b")).unwrap();
    let here = "No changes to pull\n3 files differ here and are not pushed: uspark push\n";
    assert_eq!(said(&["pull"]), here);
    let json: Value = serde_json::from_str(&said(&["pull", "--json"])).unwrap();
    let report = &json["report"];
    assert_eq!(
        (&report["done"], &report["equal"]),
        (&true.into(), &false.into())
    );
    let names: Vec<_> = (0..3)
        .map(|n| report["notPushed"][n]["path"].clone())
        .collect();
    assert_eq!(names, ["a", "b", "new"]);

    said(&["push"]);
    project.put("there", "there\n");
    let there = "No changes to push\n1 file differs on the server and is not pulled: uspark pull\n";
    assert_eq!(said(&["push"]), there);
    said(&["pull"]);
    assert_eq!(
        said(&["push"]),
        "No changes to push (all files are up to date)\n"
    );
}

#[test]
fn a_name_that_names_nothing_fails_and_the_others_are_transferred() {
    let server = Server::start();
    let project = server.project();
    project.put("a", "a\n");
    let workspace = Workspace::new(&project).env("PROJECT_ID", &project.id);
    workspace.write("b", "b\n");
    for (command, other, did) in [("pull", "a", "Pulled"), ("push", "b", "Pushed")] {
        let cases = [
            (&[command, "nosuch"][..], String::new()),
            (
                &[command, other, "nosuch"],
                format!("+ {other}\n{did} 1 file\n"),
            ),
        ];
        for (arguments, said) in cases {
            let ended = workspace.run(arguments).expect_code(1);
            let message = "there is no `nosuch` here or in the project";
            assert!(ended.stderr.contains(message), "{ended}");
            assert_eq!(ended.text(), said);
        }
    }
    workspace.equals(&project).unwrap();
    // To take away what is gone there is no mistake.
    std::fs::remove_file(workspace.path("a")).unwrap();
    workspace.run(&["push", "a"]).expect_code(0);
}

#[test]
fn status_waits_for_the_agent_that_was_started_just_before() {
    let server = Server::start();
    let project = server.project();
    project.put("a", "a\n");
    let workspace = Workspace::new(&project).env("PROJECT_ID", &project.id);
    let script = "uspark watch & uspark status --wait && cat a && kill $! && wait";
    let ended = Running::start(&mut workspace.bash(script)).wait();
    assert!(ended.text().ends_with("a\n"), "{ended}");
}

#[test]
fn status_says_what_is_watched_what_is_saved_and_what_is_skipped() {
    let mut server = Server::start();
    let project = server.project();
    project.put("src/a", "a\n");
    let workspace = Workspace::new(&project).env("PROJECT_ID", &project.id);
    std::os::unix::fs::symlink("/etc/hostname", workspace.path("out")).unwrap();
    let agent = workspace.start(&["watch"]);
    let status = |arguments: &[&str]| -> Value {
        let ended = workspace.run(&[&["status", "--json"], arguments].concat());
        serde_json::from_slice::<Value>(&ended.stdout).unwrap()["agent"].take()
    };
    eventually(SOON, || same(&status(&["--wait"])["report"]["equal"], true));
    let before = now_ms();
    workspace.write("src/deep/new", "new\n");
    let now = status(&["--wait"]);
    // The root, `src` and `src/deep`.
    assert_eq!(now["watches"], 3, "{now}");
    let allowed = std::fs::read_to_string("/proc/sys/fs/inotify/max_user_watches").unwrap();
    assert_eq!(now["watchesAllowed"].to_string(), allowed.trim(), "{now}");
    let at = now["lastAcknowledged"].as_u64().unwrap();
    assert!((before..=now_ms()).contains(&at), "{before}: {now}");
    assert_eq!(now["unacknowledged"], 0, "{now}");
    let skipped = now["report"]["skipped"].as_array().unwrap();
    assert_eq!(skipped.len(), 1, "{now}");
    assert_eq!(skipped[0]["path"], "out");
    assert_eq!(skipped[0]["why"], "a link to an absolute path");

    server.kill9();
    workspace.edit("src/a", "a\n", "a\nb\n");
    eventually(SOON, || same(&status(&[])["unacknowledged"], 1));
    assert_eq!(status(&[])["lastAcknowledged"], at);
    server.restart();
    eventually(SOON, || {
        let now = status(&["--wait"]);
        same(&now["unacknowledged"], 0)?;
        anyhow::ensure!(now["lastAcknowledged"].as_u64() > Some(at), "{now}");
        Ok(())
    });
    agent.terminate().expect_code(0);
}

/// Milliseconds since 1970.
fn now_ms() -> u64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed();
    let since = since.expect("it is after 1970").as_millis();
    since.try_into().expect("a time in milliseconds fits")
}

#[test]
fn a_token_that_does_not_count_any_more_ends_watch_and_says_what_to_do() {
    let server = Server::start();
    let project = server.project();
    project.put("a", "a\n");
    for (expires_in, is_revoked) in [(3600, true), (3, false)] {
        let wanted = json!({"project": project.id, "access": "write", "expiresIn": expires_in});
        let token = server.curl("/api/tokens").json(&wanted).expect(201).json();
        let mine = Project {
            id: project.id.clone(),
            url: server.url.clone(),
            token: token["token"].as_str().unwrap().to_owned(),
        };
        let workspace = Workspace::new(&mine);
        let watch = workspace.start(&["watch", "--project-id", &project.id]);
        eventually(SOON, || same(workspace.text("a")?, "a\n"));
        if is_revoked {
            let path = format!("/api/tokens/{}", token["id"].as_str().unwrap());
            server.curl(&path).method("DELETE").expect(204);
        }
        let ended = watch.wait().expect_code(1);
        let error = "error: the server refuses this project: the token is missing, wrong, expired or revoked";
        assert!(ended.stderr.contains(error), "{ended}");
        assert!(ended.stderr.contains("hint: `uspark auth login"), "{ended}");
        assert!(ended.stderr.lines().count() < 8, "{ended}");
    }
}

#[test]
fn a_log_is_plain_lines_whatever_a_file_is_called() {
    let server = Server::start();
    let project = server.project();
    let name = "a\nforged\u{1b}[31m";
    let workspace = Workspace::new(&project).env("USPARK_LOG", "debug");
    workspace.write(name, "x");
    let ended = workspace
        .run(&["push", "--project-id", &project.id])
        .expect_code(0);
    assert!(
        ended.text().starts_with("+ a\\nforged\\u{1b}[31m\n"),
        "{ended}"
    );
    assert!(ended.stderr.contains("a\\nforged"), "{ended}");
    let hidden = |c: char| c.is_control() && c != '\n';
    assert!(
        !ended.stderr.contains(hidden) && !ended.stderr.contains("\nforged"),
        "{ended}"
    );
}

#[test]
fn a_directory_that_may_not_be_written_to_gets_a_hint_that_helps() {
    let server = Server::start();
    let project = server.project();
    let workspace = Workspace::new(&project);
    let pull = workspace.uspark(&["pull", "--project-id", &project.id]);
    let mut pull = as_ordinary_user(pull, workspace.outside());
    let read_only = std::fs::Permissions::from_mode(0o555);
    std::fs::set_permissions(workspace.root(), read_only).unwrap();
    let ended = Running::start(&mut pull).wait().expect_code(1);
    assert!(
        ended.stderr.contains("/.uspark`: Permission denied"),
        "{ended}"
    );
    assert!(ended.stderr.contains("hint: check who owns it"), "{ended}");
}

#[test]
fn a_file_that_cannot_be_read_fails_the_last_sync_and_the_rest_is_synced() {
    let server = Server::start();
    let project = server.project();
    let workspace = Workspace::new(&project).env("PROJECT_ID", &project.id);
    workspace.write("secret.env", "mine\n");
    let nobody = std::fs::Permissions::from_mode(0o000);
    std::fs::set_permissions(workspace.path("secret.env"), nobody).unwrap();
    for (arguments, file) in [
        (&["run", "--", "sh", "-c", "echo 1 > one"][..], "one"),
        (&["watch-claude"], "two"),
    ] {
        workspace.write(file, "1\n");
        let command = workspace.uspark(arguments);
        let mut command = as_ordinary_user(command, workspace.outside());
        let ended = Running::start(&mut command).wait().expect_code(1);
        let error = "error: cannot sync secret.env: cannot be read: permission denied\nhint: give";
        assert!(ended.stderr.contains(error), "{ended}");
        assert_eq!(project.text(file).unwrap(), "1\n");
    }
}

#[test]
fn a_workspace_of_another_server_is_told_apart_and_what_to_do_is_said() {
    let (server, other) = (Server::start(), Server::start());
    let project = server.project();
    let workspace = Workspace::new(&project);
    let id = ["--project-id", &project.id];
    workspace.run(&["pull", id[0], id[1]]).expect_code(0);
    let wanted = json!({"id": project.id});
    other.curl("/api/projects").json(&wanted).expect(201);
    let wanted = json!({"project": project.id, "access": "write", "expiresIn": 3600});
    let token = other.curl("/api/tokens").json(&wanted).expect(201).json();
    let token = token["token"].as_str().unwrap();
    let there = ["push", "--server", &other.url, "--token", token];
    let ended = workspace.run(&there).expect_code(1);
    let said = format!("belongs to project `{}` on {}", project.id, project.url);
    assert!(ended.stderr.contains(&said), "{ended}");
    assert!(
        ended.stderr.contains("hint: use another directory"),
        "{ended}"
    );
}
