use crate::sandbox::{Sandbox, claude_calls, claude_stream, end, expect_stdout, nobody, send};

const RUN: [&str; 3] = ["run", "--project-id", "p"];

fn run<'a>(rest: &[&'a str]) -> Vec<&'a str> {
    [&RUN[..], rest].concat()
}

#[tokio::test]
async fn claude_gets_its_prompt_on_standard_input_and_its_stream_comes_out_identical() {
    let sandbox = Sandbox::with_agent();
    let work = sandbox.work();
    let stream = claude_stream(&work);
    std::fs::write(work.join("stream"), &stream).unwrap();
    sandbox.script(
        "claude",
        "echo \"$@\" > arguments; cat > prompt; env > environment; cat stream",
    );
    let prompt = format!("--not-a-flag $(rm x)\n{}", "long ".repeat(20_000));
    let mut command = sandbox.command(&run(&["--prompt", &prompt]));
    command
        .env("USPARK_TOKEN", "secret")
        .env("CLAUDE_API_KEY", "key");
    let ended = end(command.spawn().unwrap(), b"").await;

    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stdout == stream);
    let left = |name: &str| std::fs::read_to_string(work.join(name)).unwrap();
    assert_eq!(left("prompt"), prompt);
    assert_eq!(
        left("arguments"),
        "-p --output-format stream-json --verbose --dangerously-skip-permissions\n"
    );
    let environment = left("environment");
    assert!(environment.contains("ANTHROPIC_API_KEY=key\n"));
    assert!(!environment.contains("secret"), "the token is the agent's");
    let is_root = rustix::process::geteuid().is_root();
    assert_eq!(environment.contains("IS_SANDBOX=1\n"), is_root);
    let calls: Vec<_> = sandbox
        .agent
        .told()
        .into_iter()
        .filter(|t| t != "barrier")
        .collect();
    assert_eq!(calls, claude_calls(&work));
}

#[tokio::test]
async fn the_prompt_may_be_a_variable_and_a_command_wins_over_it() {
    let sandbox = Sandbox::with_agent();
    sandbox.script("claude", "cat");
    for (arguments, output) in [
        (&[][..], "from the variable"),
        (&["--", "echo", "-n", "own"], "own"),
    ] {
        let mut command = sandbox.command(&run(arguments));
        command.env("USER_PROMPT", "from the variable");
        let ended = end(command.spawn().unwrap(), b"").await;
        assert_eq!((ended.code, ended.text()), (0, output), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn the_exit_code_is_the_commands_unless_only_the_sync_failed() {
    let sandbox = Sandbox::with_agent();
    // The first barrier, before the command, finds all equal; the command undoes that.
    let agent = &sandbox.agent;
    for (script, left, code) in [
        ("exit 0", &[][..], 0),
        ("exit 3", &[], 3),
        ("kill -9 $$", &[], 137),
        ("exit 0", &["late"], 1),
        ("exit 3", &["late"], 3),
    ] {
        agent.set_left(&[]);
        let wait = format!("echo go; read -r line; {script}");
        let mut child = sandbox
            .command(&run(&["--", "sh", "-c", &wait]))
            .spawn()
            .unwrap();
        expect_stdout(&mut child, "go\n").await;
        agent.set_left(left);
        let ended = end(child, b"go\n").await;
        assert_eq!(ended.code, code, "{script} {left:?}: {}", ended.stderr);
        assert_eq!(ended.stderr.contains("kept in .uspark"), !left.is_empty());
    }
}

#[tokio::test]
async fn what_cannot_be_read_fails_at_the_end_unless_the_command_did() {
    let sandbox = Sandbox::with_agent();
    sandbox.agent.set_unreadable(&["secret.env"]);
    for (script, code) in [("exit 0", 1), ("exit 3", 3)] {
        let ended = sandbox.uspark(&run(&["--", "sh", "-c", script])).await;
        ended.assert_failed(code, "cannot sync secret.env: cannot be read");
    }
}

#[tokio::test]
async fn a_signal_is_passed_on_and_the_last_sync_follows() {
    let sandbox = Sandbox::with_agent();
    let script = "trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.1; done";
    let mut child = sandbox
        .command(&run(&["--", "sh", "-c", script]))
        .spawn()
        .unwrap();
    expect_stdout(&mut child, "ready\n").await;
    let before = sandbox.agent.told().len();
    send(&child, "TERM");
    let ended = end(child, b"").await;
    assert_eq!(
        (ended.code, ended.text()),
        (5, "caught\n"),
        "{}",
        ended.stderr
    );
    assert_eq!(
        sandbox.agent.told().len(),
        before + 1,
        "one barrier after the command"
    );
}

#[tokio::test]
async fn a_command_that_a_signal_ends_gives_the_shells_code() {
    let sandbox = Sandbox::with_agent();
    let mut child = sandbox
        .command(&run(&["--", "sh", "-c", "echo ready; exec sleep 600"]))
        .spawn()
        .unwrap();
    expect_stdout(&mut child, "ready\n").await;
    send(&child, "INT");
    assert_eq!(end(child, b"").await.code, 130);
}

#[tokio::test]
async fn a_process_left_in_the_background_does_not_hold_the_end() {
    let sandbox = Sandbox::with_agent();
    let script = "sleep 30 2>/dev/null & echo done; exit 4";
    let began = std::time::Instant::now();
    let ended = sandbox.uspark(&run(&["--", "sh", "-c", script])).await;
    assert_eq!((ended.code, ended.text()), (4, "done\n"));
    assert!(began.elapsed().as_secs() < 25, "it waited for the sleeper");
}

#[tokio::test]
async fn a_missing_program_is_named() {
    let sandbox = Sandbox::with_agent();
    let mut command = sandbox.command(&run(&["--prompt", "x"]));
    command.env("PATH", "/nowhere");
    let ended = end(command.spawn().unwrap(), b"").await;
    ended.assert_failed(127, "cannot find the program `claude`");
    assert!(
        ended
            .stderr
            .contains("npm install -g @anthropic-ai/claude-code")
    );
    sandbox
        .uspark(&run(&["--", "no-such-command"]))
        .await
        .assert_failed(127, "no-such-command");
}

#[tokio::test]
async fn nothing_is_started_before_the_workspace_is_pulled() {
    let sandbox = Sandbox::new();
    let server = nobody();
    let away = [
        "--token",
        "t",
        "--server",
        &server,
        "--sync-timeout",
        "0",
        "--",
        "touch",
        "started",
    ];
    sandbox
        .uspark(&run(&away))
        .await
        .assert_failed(1, "cannot reach the server");

    let held = Sandbox::with_agent();
    held.agent.set_left(&["missing.txt"]);
    let ended = held.uspark(&run(&["--", "touch", "started"])).await;
    ended.assert_failed(1, "missing.txt: the test says so");
    for sandbox in [sandbox, held] {
        assert!(!sandbox.work().join("started").exists());
    }
}
