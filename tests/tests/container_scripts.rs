//! The container scripts of the specification, word for word but for Claude's real flags.

use serde_json::json;
use uspark_tests::{Ended, Model, Project, Running, Server, Turn, Workspace};

/// Every variable that a container has.
fn container(project: &Project) -> Workspace {
    let workspace = Workspace::new(project)
        .env("PROJECT_ID", &project.id)
        .env("USER_PROMPT", "write a file");
    let root = workspace.root().display().to_string();
    workspace.env("WORKSPACE_PATH", &root)
}

#[track_caller]
fn run(workspace: &Workspace, script: &str) -> Ended {
    Running::start(&mut workspace.bash(script))
        .wait()
        .expect_code(0)
}

#[test]
fn the_entrypoint_logs_in_pulls_and_pipes_claude() {
    let server = Server::start();
    let project = server.project();
    project.put("src/one-file.js", "let a = 1\n");
    let workspace = container(&project);
    let model = Model::start(vec![
        Turn::tool(
            "Write",
            json!({"file_path": workspace.path("src/new.js"), "content": "let b = 2\n"}),
        ),
        Turn::tool(
            "Bash",
            json!({"command": "sed -i s/1/one/ src/one-file.js"}),
        ),
        Turn::say("done"),
    ]);
    let workspace = model.asked_by(workspace);

    let ended = run(
        &workspace,
        r#"
        set -euo pipefail
        uspark auth login --token $USPARK_TOKEN
        cd $WORKSPACE_PATH
        uspark pull --project-id $PROJECT_ID
        echo "$USER_PROMPT" \
          | claude -p --output-format stream-json --verbose --dangerously-skip-permissions \
          | uspark watch-claude --project-id $PROJECT_ID --stream-output
        "#,
    );
    assert!(ended.text().contains("tool_use_result"), "{ended}");
    assert_eq!(project.text("src/new.js").unwrap(), "let b = 2\n");
    assert_eq!(project.text("src/one-file.js").unwrap(), "let a = one\n");

    // Every line is among the project's events, each once and in order, and nothing else of a run.
    let text = ended.text();
    let said: Vec<&str> = text
        .lines()
        .skip_while(|line| !line.starts_with('{'))
        .collect();
    assert_eq!(project.lines(), said);
    let events = project.events();
    // The same run names itself in the changes that its tools made.
    let run = events.iter().find(|event| event["what"] == "line").unwrap()["run"].clone();
    let is_of_run = |event: &&serde_json::Value| event["who"]["run"] == run;
    let by = |path: &str| {
        events
            .iter()
            .filter(is_of_run)
            .any(|event| event["path"] == path)
    };
    assert!(by("src/new.js") && by("src/one-file.js"), "{events:?}");
}

#[test]
fn single_files_and_everything_by_hand() {
    let server = Server::start();
    let project = server.project();
    project.put("src/one-file.js", "let a = 1\n");
    project.put("src/other-file.js", "let b = 1\n");
    let workspace = container(&project);

    run(
        &workspace,
        "uspark pull --project-id $PROJECT_ID src/one-file.js",
    );
    let tree = workspace.tree().unwrap();
    assert_eq!(
        tree.keys().collect::<Vec<_>>(),
        ["src/one-file.js"],
        "one file was asked for"
    );

    run(
        &workspace,
        "echo 'let a = 2' > src/one-file.js; echo 'not yet' > new.js
         uspark push --project-id $PROJECT_ID src/one-file.js",
    );
    assert_eq!(project.text("src/one-file.js").unwrap(), "let a = 2\n");
    assert!(project.read("new.js").is_err(), "one file was to be pushed");

    run(&workspace, "uspark push --project-id $PROJECT_ID --all");
    assert_eq!(project.text("new.js").unwrap(), "not yet\n");
    // What this workspace never had is not its to delete.
    assert_eq!(project.text("src/other-file.js").unwrap(), "let b = 1\n");
}

#[test]
fn a_login_is_remembered_and_ended_by_logout() {
    let server = Server::start();
    let project = server.project();
    project.put("a.txt", "text\n");
    let workspace = container(&project);
    run(
        &workspace,
        "set -e
         uspark auth login --token $USPARK_TOKEN --server $USPARK_SERVER
         unset USPARK_TOKEN USPARK_SERVER
         uspark auth status
         uspark pull --project-id $PROJECT_ID
         test \"$(cat a.txt)\" = text
         # The project is remembered in the workspace.
         echo more >> a.txt
         uspark push --all
         uspark auth logout
         ! uspark pull",
    );
    assert_eq!(project.text("a.txt").unwrap(), "text\nmore\n");
}

#[test]
fn the_server_may_be_named_by_api_host() {
    let server = Server::start();
    let project = server.project();
    project.put("a.txt", "text\n");
    let workspace = container(&project);
    run(
        &workspace,
        "export API_HOST=$USPARK_SERVER; unset USPARK_SERVER; uspark pull --project-id $PROJECT_ID",
    );
    assert_eq!(workspace.text("a.txt").unwrap(), "text\n");
}

#[test]
fn run_takes_everything_from_the_environment() {
    let server = Server::start();
    let project = server.project();
    project.put("a.txt", "text\n");
    let workspace = container(&project);
    let model = Model::start(vec![
        Turn::tool(
            "Write",
            json!({"file_path": workspace.path("b.txt"), "content": "by claude\n"}),
        ),
        Turn::say("done"),
    ]);
    // The old name of the key is accepted, and passed on under its real one.
    let workspace = model
        .environment()
        .into_iter()
        .fold(workspace, |workspace, (name, value)| {
            workspace.env(
                if name == "ANTHROPIC_API_KEY" {
                    "CLAUDE_API_KEY"
                } else {
                    name
                },
                value,
            )
        });
    run(&workspace, "cd / && exec uspark run");
    assert_eq!(workspace.text("a.txt").unwrap(), "text\n");
    assert_eq!(project.text("b.txt").unwrap(), "by claude\n");
}
