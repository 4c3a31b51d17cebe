//! The real Claude Code, driven by a scripted model, beside the real `uspark`.

use serde_json::json;
use uspark_tests::{Model, Running, Turn, Workspace};

/// The command of the original container script, with Claude's real flags; the prompt comes on stdin.
const CLAUDE: &str = "claude -p --output-format stream-json --verbose --dangerously-skip-permissions";

/// Write, Edit, a Bash command that makes, moves and deletes files, and a tool that fails.
fn script(workspace: &Workspace) -> Vec<Turn> {
    let path = |name: &str| workspace.path(name).display().to_string();
    vec![
        Turn::tool("Write", json!({"file_path": path("src/hello.js"), "content": "export const hello = 'world'\n"})),
        Turn::tool("Edit", json!({"file_path": path("src/hello.js"), "old_string": "world", "new_string": "Welt"})),
        Turn::tool("Edit", json!({"file_path": path("no-such-file.js"), "old_string": "a", "new_string": "b"})),
        Turn::tool(
            "Bash",
            json!({"command": "mkdir made && echo one > made/one && echo two > two && mv two made/zwei && echo x > gone && rm gone && chmod +x made/one"}),
        ),
        Turn::say("all done"),
    ]
}

/// Claude Code's environment, on top of the workspace's own.
fn with_model(workspace: Workspace, model: &Model) -> Workspace {
    model.environment().into_iter().fold(workspace, |workspace, (name, value)| workspace.env(name, value))
}

#[test]
fn claude_code_does_what_the_scripted_model_says() {
    let workspace = Workspace::without_token("http://127.0.0.1:9");
    let model = Model::start(script(&workspace));
    let workspace = with_model(workspace, &model);
    let ended = Running::start(&mut workspace.bash(&format!("echo 'do it' | {CLAUDE}"))).wait().expect_code(0);
    println!("{ended}");
    assert_eq!(workspace.text("src/hello.js").unwrap(), "export const hello = 'Welt'\n");
    let failed: Vec<bool> = model.tool_results().into_iter().map(|(_, failed)| failed).collect();
    assert_eq!(failed, [false, false, true, false]);
}
