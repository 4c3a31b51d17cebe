use tokio::io::AsyncWriteExt as _;

use crate::sandbox::{
    DEADLINE, Sandbox, claude_calls, claude_stream, end, expect_stdout, nobody, send,
};

const WATCH: [&str; 3] = ["watch-claude", "--project-id", "p"];

#[tokio::test]
async fn the_stream_comes_out_identical_and_its_tool_calls_reach_the_agent() {
    let sandbox = Sandbox::with_agent();
    let stream = claude_stream(&sandbox.work());
    let ended = end(sandbox.command(&WATCH).spawn().unwrap(), &stream).await;
    assert!(
        ended.stdout == stream,
        "{} bytes in, {} out",
        stream.len(),
        ended.stdout.len()
    );
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let (calls, barriers): (Vec<_>, Vec<_>) = sandbox
        .agent
        .told()
        .into_iter()
        .partition(|told| told != "barrier");
    assert_eq!(calls, claude_calls(&sandbox.work()));
    assert!(!barriers.is_empty());
}

#[tokio::test]
async fn a_closed_output_does_not_stop_the_sync() {
    let sandbox = Sandbox::with_agent();
    let mut child = sandbox.command(&WATCH).spawn().unwrap();
    drop(child.stdout.take());
    let ended = end(child, &claude_stream(&sandbox.work())).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let calls: Vec<_> = sandbox
        .agent
        .told()
        .into_iter()
        .filter(|t| t != "barrier")
        .collect();
    assert_eq!(calls, claude_calls(&sandbox.work()));
}

#[tokio::test]
async fn what_is_left_at_the_end_is_named_and_fails() {
    let sandbox = Sandbox::with_agent();
    sandbox.agent.set_left(&["late.txt"]);
    let ended = end(sandbox.command(&WATCH).spawn().unwrap(), b"x").await;
    assert_eq!(ended.text(), "x");
    ended.assert_failed(1, "late.txt: the test says so");
    assert!(ended.stderr.contains("kept in .uspark"), "{}", ended.stderr);
}

#[tokio::test]
async fn what_cannot_be_read_is_not_on_the_server_and_fails() {
    let sandbox = Sandbox::with_agent();
    sandbox.agent.set_unreadable(&["secret.env", "keys"]);
    let ended = end(sandbox.command(&WATCH).spawn().unwrap(), b"x").await;
    assert_eq!(ended.text(), "x");
    ended.assert_failed(1, "error: cannot sync 2 paths");
    ended.assert_failed(1, "\n  secret.env\n  keys\nhint: give this user the right");
}

#[tokio::test]
async fn without_a_server_the_stream_flows_at_once_and_the_end_tells() {
    let sandbox = Sandbox::new();
    let server = nobody();
    let arguments = [
        "--token",
        "t",
        "--server",
        &server,
        "--sync-timeout",
        "200ms",
    ];
    let mut child = sandbox
        .command(&[&WATCH[..], &arguments].concat())
        .spawn()
        .unwrap();
    for line in ["first\n", "second\n"] {
        child
            .stdin
            .as_mut()
            .unwrap()
            .write_all(line.as_bytes())
            .await
            .unwrap();
        // The input is still open, and the line is here.
        expect_stdout(&mut child, line).await;
    }
    end(child, b"").await.assert_failed(1, "not equal");
}

#[tokio::test]
async fn a_signal_waits_for_the_end_of_the_stream() {
    let sandbox = Sandbox::with_agent();
    let mut child = sandbox.command(&WATCH).spawn().unwrap();
    child
        .stdin
        .as_mut()
        .unwrap()
        .write_all(b"before ")
        .await
        .unwrap();
    expect_stdout(&mut child, "before ").await;
    send(&child, "INT");
    // Claude Code got the same Ctrl-C and says its last words.
    let ended = end(child, b"after").await;
    assert_eq!((ended.code, ended.text()), (0, "after"), "{}", ended.stderr);
    assert_eq!(sandbox.agent.told(), ["barrier"]);
}

#[tokio::test]
async fn what_cannot_be_published_is_said_and_fails() {
    let sandbox = Sandbox::with_agent();
    let command = [&WATCH[..], &["--stream-output"]].concat();
    let ended = end(sandbox.command(&command).spawn().unwrap(), b"x\n").await;
    assert_eq!(ended.text(), "x\n");
    ended.assert_failed(1, "no token for the server");
    let said = ended.stderr.lines().next().unwrap();
    assert!(said.starts_with("uspark: nothing is published: "), "{said}");

    let server = nobody();
    let arguments = [
        "--token",
        "uspk_a_b",
        "--server",
        &server,
        "--sync-timeout",
        "200ms",
    ];
    let child = sandbox
        .command(&[&command[..], &arguments].concat())
        .spawn()
        .unwrap();
    let ended = end(child, b"x\n").await;
    assert_eq!(ended.text(), "x\n");
    ended.assert_failed(1, "not all that the stream said is published");
    let spooled = std::fs::read_dir(sandbox.work().join(".uspark/lines/p")).unwrap();
    let spooled: Vec<_> = spooled
        .map(|file| std::fs::read(file.unwrap().path()).unwrap())
        .collect();
    assert_eq!(spooled, [b"x\n"]);
}

#[tokio::test]
async fn what_cannot_be_set_up_is_said_at_once_and_the_stream_goes_on() {
    let stranger = Sandbox::new();
    let busy = Sandbox::with_agent();
    let other = Sandbox::new();
    std::fs::create_dir(other.work().join(".uspark")).unwrap();
    std::fs::write(
        other.work().join(".uspark/config.json"),
        r#"{"project": "q", "server": "http://127.0.0.1:1"}"#,
    )
    .unwrap();
    let broken = Sandbox::new();
    std::fs::create_dir(broken.work().join(".uspark")).unwrap();
    std::fs::write(broken.work().join(".uspark/config.json"), "?").unwrap();
    for (sandbox, project, message) in [
        (stranger, "p", "no token for the server"),
        (busy, "q", "keeps the project `p`"),
        (other, "p", "mirrors the project `q`, not `p`"),
        (broken, "p", "is no valid configuration"),
    ] {
        let command = ["watch-claude", "--project-id", project];
        let mut child = sandbox.command(&command).spawn().unwrap();
        let stdin = child.stdin.as_mut().unwrap();
        stdin.write_all(b"first\n").await.unwrap();
        // The input is still open, and the line is here.
        expect_stdout(&mut child, "first\n").await;
        let stream = claude_stream(&sandbox.work());
        let ended = end(child, &stream).await;
        assert!(ended.stdout == stream, "{message}: {}", ended.stderr);
        ended.assert_failed(1, message);
        let said = ended.stderr.lines().next().unwrap();
        assert!(said.starts_with("uspark: nothing is synced: "), "{said}");
    }
}

#[tokio::test]
async fn wrong_usage_is_told_before_the_stream_begins() {
    let sandbox = Sandbox::new();
    let child = sandbox.command(&["watch-claude"]).spawn().unwrap();
    let waited = tokio::time::timeout(DEADLINE, child.wait_with_output()).await;
    // Its input was never closed.
    let output = waited.expect("it does not wait for the stream").unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no project is known"));
}
