use crate::sandbox::{Sandbox, nobody};

#[tokio::test]
async fn wrong_usage_exits_with_2_and_says_what_would_be_right() {
    let sandbox = Sandbox::new();
    for (arguments, message) in [
        (&["fly"][..], "unrecognized subcommand 'fly'"),
        (&["pull", "--project-id", "../x"], "is no valid id"),
        (&["pull"], "no project is known"),
        (&["pull", "--project-id", "p", "../x"], "`..`"),
        (&["push", "--project-id", "p", "/etc/passwd"], "absolute"),
        (
            &["push", "--project-id", "p", "a", "--all"],
            "cannot be used with",
        ),
        (
            &["push", "--project-id", "p", "--workspace", "none"],
            "no workspace",
        ),
        (&["run", "--project-id", "p"], "nothing to run"),
        (&["run", "--project-id", "p", "--prompt", ""], "--prompt"),
    ] {
        sandbox.uspark(arguments).await.assert_failed(2, message);
    }
}

#[tokio::test]
async fn a_machine_gets_errors_as_json_on_standard_output() {
    let sandbox = Sandbox::new();
    for (arguments, code) in [
        (&["pull", "--json", "--fly"][..], 2),
        (&["pull", "--json"], 2),
        (&["pull", "--json", "--project-id", "p"], 1),
    ] {
        let ended = sandbox.uspark(arguments).await;
        let error = &ended.json()["error"];
        assert_eq!(
            (ended.code, &error["exit"]),
            (code, &code.into()),
            "{arguments:?}"
        );
        assert!(
            error["message"].is_string() && error["hint"].is_string(),
            "{error}"
        );
    }
}

#[tokio::test]
async fn the_streams_of_commands_are_never_mixed_with_json() {
    let sandbox = Sandbox::new();
    let server = nobody();
    let ended = sandbox
        .uspark(&[
            "run",
            "--json",
            "--project-id",
            "p",
            "--token",
            "t",
            "--server",
            &server,
            "--sync-timeout",
            "0",
            "--",
            "ls",
        ])
        .await;
    assert_eq!((ended.code, ended.text()), (1, ""));
    let last = ended.stderr.lines().last().unwrap();
    let object: serde_json::Value = serde_json::from_str(last).unwrap();
    assert!(
        object["error"]["message"]
            .as_str()
            .unwrap()
            .contains(&server)
    );
}

#[tokio::test]
async fn a_server_that_is_not_there_is_one_clear_error() {
    let sandbox = Sandbox::new();
    let server = nobody();
    for command in ["pull", "push"] {
        let ended = sandbox
            .uspark(&[
                command,
                "--project-id",
                "p",
                "--token",
                "t",
                "--server",
                &server,
                "--sync-timeout",
                "300ms",
            ])
            .await;
        let away = "the server is away, trying again for 1 s: cannot reach the server";
        assert_eq!(ended.stderr.matches(away).count(), 1, "{}", ended.stderr);
        ended.assert_failed(1, &format!("cannot reach the server {server}"));
        assert!(ended.stderr.contains("refused"), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn help_and_version_are_results() {
    let sandbox = Sandbox::new();
    let version = sandbox.uspark(&["--version"]).await;
    assert_eq!((version.code, version.text()), (0, "uspark 0.1.0\n"));
    let help = sandbox.uspark(&["watch-claude", "--help"]).await;
    assert_eq!((help.code, help.stderr.as_str()), (0, ""));
    assert!(
        help.text()
            .contains("| uspark watch-claude --project-id my-project")
    );
    for command in ["push", "watch"] {
        let help = sandbox.uspark(&[command, "--help"]).await;
        let rules = [
            "Not synced are .git, node_modules",
            ".gitignore",
            ".usparkignore",
        ];
        for named in rules {
            assert!(help.text().contains(named), "{command}: {}", help.text());
        }
    }
}

#[tokio::test]
async fn a_variable_that_is_set_to_nothing_is_not_set() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command(&["pull", "--project-id", "p"]);
    for name in [
        "USPARK_TOKEN",
        "USPARK_SERVER",
        "API_HOST",
        "PROJECT_ID",
        "WORKSPACE_PATH",
    ] {
        command.env(name, "");
    }
    let ended = crate::sandbox::end(command.spawn().unwrap(), b"").await;
    ended.assert_failed(1, "no token for the server http://127.0.0.1:4400");
}
