//! The real Claude Code, driven by a scripted model, beside the real `uspark`.

use std::fs;

use serde_json::json;
use uspark_tests::{
    Ended, Model, Project, Running, SOON, Server, Turn, Workspace, eventually, same,
};

/// The command of the original container script, with Claude's real flags; the prompt comes on stdin.
const CLAUDE: &str =
    "claude -p --output-format stream-json --verbose --dangerously-skip-permissions";

/// Makes, moves and deletes files as Bash does it: without a word in the stream.
const BASH: &str = "mkdir made && echo one > made/one && chmod +x made/one && echo two > two && mv two made/zwei \
                    && echo x > gone && rm gone old.txt && mv kept.txt made/moved.txt && ln -s made/one link";

/// Write, Edit, Bash, and a tool that fails.
fn script(workspace: &Workspace) -> Vec<Turn> {
    let path = |name: &str| workspace.path(name).display().to_string();
    let hello = path("src/hello.js");
    vec![
        Turn::tool(
            "Write",
            json!({"file_path": hello, "content": "export const hello = 'world'\n"}),
        ),
        Turn::tool(
            "Edit",
            json!({"file_path": hello, "old_string": "world", "new_string": "Welt"}),
        ),
        Turn::tool(
            "Edit",
            json!({"file_path": path("none.js"), "old_string": "a", "new_string": "b"}),
        ),
        Turn::tool("Bash", json!({"command": BASH})),
        Turn::say("all done"),
    ]
}

/// A project with two files, and a workspace whose Claude Code asks the model.
fn workspace(project: &Project) -> Workspace {
    project.put("old.txt", "going\n");
    project.put("kept.txt", "staying, elsewhere\n");
    Workspace::new(project).env("PROJECT_ID", &project.id)
}

fn bash(workspace: &Workspace, script: &str) -> Running {
    Running::start(&mut workspace.bash(script))
}

/// Everything that the script does has happened, on disk and on the server.
#[track_caller]
fn assert_done(workspace: &Workspace, project: &Project, model: &Model) {
    let failed: Vec<bool> = model
        .tool_results()
        .into_iter()
        .map(|(_, failed)| failed)
        .collect();
    assert_eq!(
        failed,
        [false, false, true, false],
        "{:?}",
        model.tool_results()
    );
    let tree = project.tree().expect("the server answers");
    let paths: Vec<&str> = tree.keys().map(String::as_str).collect();
    assert_eq!(
        paths,
        [
            "link",
            "made/moved.txt",
            "made/one",
            "made/zwei",
            "src/hello.js"
        ]
    );
    assert_eq!(
        project.text("src/hello.js").expect("the file is there"),
        "export const hello = 'Welt'\n"
    );
    workspace
        .equals(project)
        .expect("workspace and project are equal when the command has ended");
}

#[test]
fn piped_into_watch_claude_every_byte_passes_and_every_file_is_on_the_server() {
    let server = Server::start();
    let project = server.project();
    let workspace = workspace(&project);
    let model = Model::start(script(&workspace));
    let workspace = model.asked_by(workspace);
    workspace
        .run(&["pull", "--project-id", &project.id])
        .expect_code(0);

    let copy = workspace.home().join("copy");
    let pipeline = format!(
        "set -o pipefail; echo 'do it' | {CLAUDE} | tee {} | uspark watch-claude --project-id $PROJECT_ID",
        copy.display()
    );
    let ended = bash(&workspace, &pipeline).wait().expect_code(0);

    let copied = fs::read_to_string(&copy).unwrap();
    assert!(
        copied.contains("tool_use_result"),
        "Claude Code said nothing: {copied}"
    );
    assert!(
        ended.stdout == copied.as_bytes(),
        "stdout is not what Claude Code wrote:\n{}",
        ended.text()
    );
    assert_done(&workspace, &project, &model);
}

#[test]
fn each_tools_files_are_on_the_server_before_the_next_one_runs() {
    let server = Server::start();
    let project = server.project();
    let workspace = workspace(&project);
    // The model does not go on until the server has what the tools before have done.
    let mut turns = script(&workspace);
    for number in [1, 2, 4] {
        let turn = turns.remove(number);
        turns.insert(number, turn.held());
    }
    let model = Model::start(turns);
    let workspace = model.asked_by(workspace);
    workspace
        .run(&["pull", "--project-id", &project.id])
        .expect_code(0);
    let pipeline = format!(
        "set -o pipefail; echo 'do it' | {CLAUDE} | uspark watch-claude --project-id $PROJECT_ID"
    );
    let running = bash(&workspace, &pipeline);

    let hello = |expected: &str| {
        eventually(SOON, || same(project.text("src/hello.js")?, expected));
        model.go_on();
    };
    model.wait_asked(2);
    hello("export const hello = 'world'\n");
    model.wait_asked(3);
    hello("export const hello = 'Welt'\n");
    model.wait_asked(5);
    eventually(SOON, || workspace.equals(&project));
    model.go_on();
    running.wait().expect_code(0);
    assert_done(&workspace, &project, &model);
}

#[test]
fn the_pipe_returns_claudes_code_and_still_syncs_what_it_wrote() {
    let server = Server::start();
    let project = server.project();
    let workspace = workspace(&project);
    workspace
        .run(&["pull", "--project-id", &project.id])
        .expect_code(0);
    let failing = "set -o pipefail; (echo written > by-claude.txt; echo '{\"type\":\"result\"}'; exit 7) \
                   | uspark watch-claude --project-id $PROJECT_ID";
    bash(&workspace, failing).wait().expect_code(7);
    assert_eq!(project.text("by-claude.txt").unwrap(), "written\n");
}

#[test]
fn whatever_comes_through_watch_claude_comes_out_the_same() {
    let server = Server::start();
    let project = server.project();
    let workspace = workspace(&project);
    let mut odd = b"not json\r\n\n{\"type\":\"of the future\"}\n\xff\xfe\0 no utf-8\n{\"type\":\"assistant\",".to_vec();
    odd.push(b'\n');
    // A line of 50 MB, and a last one without an end.
    odd.extend(std::iter::repeat_n(b'x', 50_000_000));
    odd.extend(b"\n{\"type\":\"result\"} and no newline");
    let (input, output) = (
        workspace.home().join("input"),
        workspace.home().join("output"),
    );
    fs::copy(written(&workspace, &odd), &input).unwrap();

    let script = format!(
        "uspark watch-claude --project-id $PROJECT_ID < {} > {}",
        input.display(),
        output.display()
    );
    bash(&workspace, &script).wait().expect_code(0);
    let compared = format!("cmp {} {}", input.display(), output.display());
    bash(&workspace, &compared).wait().expect_code(0);
}

#[test]
fn a_call_without_a_result_ends_with_the_stream_and_holds_its_file_no_longer() {
    for is_watched in [false, true] {
        let server = Server::start();
        let project = server.project();
        let workspace = workspace(&project);
        workspace
            .run(&["pull", "--project-id", &project.id])
            .expect_code(0);
        let watch = is_watched.then(|| workspace.start(&["watch", "--project-id", &project.id]));
        if let Some(watch) = &watch {
            eventually(SOON, || same(watch.stderr().contains("keeping"), true));
        }
        let input = json!({"file_path": workspace.path("kept.txt"), "content": "never written"});
        let call = json!({"type": "tool_use", "id": "t1", "name": "Write", "input": input});
        let message = json!({"type": "assistant", "message": {"content": [call]}});
        workspace.write("../message", format!("{message}\n"));
        let pipeline = "(cat ../message; until [ -e ../dead ]; do sleep 0.05; done) \
                        | uspark watch-claude --project-id $PROJECT_ID";
        let running = bash(&workspace, pipeline);
        // Edits pass until the agent knows of the call.
        let mut edits = 0;
        let mut last = String::new();
        eventually(SOON, || {
            edits += 1;
            last = format!("edit {edits}\n");
            project.put("kept.txt", last.as_str());
            let status = workspace.run(&["status"]).text();
            same(status.contains("a tool call on it is under way"), true)
        });
        assert_ne!(workspace.text("kept.txt").unwrap(), last);

        workspace.write("../dead", "");
        running.wait().expect_code(0);
        assert_eq!(workspace.text("kept.txt").unwrap(), last);
        drop(watch);
    }
}

/// A file outside of the workspace with these bytes.
fn written(workspace: &Workspace, bytes: &[u8]) -> std::path::PathBuf {
    workspace.write("../bytes", bytes);
    workspace.path("../bytes")
}

#[test]
fn run_with_a_prompt_pulls_runs_claude_and_syncs() {
    let server = Server::start();
    let project = server.project();
    let workspace = workspace(&project);
    let model = Model::start(script(&workspace));
    let workspace = model.asked_by(workspace);
    let ended = workspace
        .run(&["run", "--project-id", &project.id, "--prompt", "do it"])
        .expect_code(0);
    assert!(
        ended.text().contains("tool_use_result"),
        "Claude Code's stream is not on stdout: {ended}"
    );
    assert_done(&workspace, &project, &model);
    assert_eq!(project.lines(), ended.text().lines().collect::<Vec<_>>());
}

#[test]
fn run_returns_the_commands_own_code() {
    let server = Server::start();
    let project = server.project();
    let workspace = workspace(&project);
    let run = |script: &str| -> Ended {
        workspace.run(&[
            "run",
            "--project-id",
            &project.id,
            "--",
            "bash",
            "-c",
            script,
        ])
    };
    run("cat kept.txt > copied.txt; echo said; exit 5").expect_code(5);
    assert_eq!(project.text("copied.txt").unwrap(), "staying, elsewhere\n");
    assert_eq!(run("echo said").expect_code(0).text(), "said\n");
}
