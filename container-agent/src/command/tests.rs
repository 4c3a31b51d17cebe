use std::collections::HashMap;
use std::io::Read as _;

use super::*;

fn changes(contained: bool, ours: &[(&str, &str)]) -> HashMap<&'static str, Option<OsString>> {
    let lookup = |name: &str| {
        let (_, value) = ours.iter().find(|(n, _)| *n == name)?;
        Some((*value).into())
    };
    environment(contained, lookup).into_iter().collect()
}

#[test]
fn the_child_gets_the_model_key_and_not_the_token() {
    let key = |ours: &[_]| changes(false, ours).remove("ANTHROPIC_API_KEY").flatten();
    assert_eq!(key(&[("CLAUDE_API_KEY", "k")]), Some("k".into()));
    assert_eq!(
        key(&[("CLAUDE_API_KEY", "k"), ("ANTHROPIC_API_KEY", "")]),
        Some("k".into())
    );
    assert_eq!(
        key(&[("CLAUDE_API_KEY", "k"), ("ANTHROPIC_API_KEY", "own")]),
        None
    );
    assert_eq!(key(&[("CLAUDE_API_KEY", "")]), None);
    assert_eq!(
        changes(false, &[("USPARK_TOKEN", "t")])["USPARK_TOKEN"],
        None
    );
}

#[test]
fn only_a_contained_claude_is_told_so() {
    assert_eq!(changes(true, &[])["IS_SANDBOX"], Some("1".into()));
    assert!(!changes(false, &[]).contains_key("IS_SANDBOX"));
}

/// Nobody sits there.
const NOWHERE: Terminal = Terminal {
    keyboard: false,
    screen: false,
};

fn shell(script: &str, terminal: Terminal) -> Running {
    let words = ["sh", "-c", script].map(OsString::from).to_vec();
    Running::start(Task::Words(words), std::env::temp_dir(), terminal).unwrap()
}

fn output_of(running: &mut Running) -> String {
    let mut output = String::new();
    let pipe = running.take_output().unwrap();
    io::PipeReader::from(pipe)
        .read_to_string(&mut output)
        .unwrap();
    output
}

#[tokio::test]
async fn the_exit_code_is_the_commands_own() {
    for (script, code) in [
        ("exit 0", 0),
        ("exit 3", 3),
        ("exit 255", 255),
        ("kill -9 $$", 137),
    ] {
        let status = shell(script, NOWHERE).wait().await.unwrap();
        assert_eq!(exit_code(status), code, "{script}");
    }
}

#[tokio::test]
async fn it_runs_where_it_is_told_and_its_output_is_ours() {
    let mut running = shell("pwd", NOWHERE);
    let here = std::env::temp_dir().canonicalize().unwrap();
    assert_eq!(output_of(&mut running).trim_end(), here.to_str().unwrap());
    assert!(running.wait().await.unwrap().success());
}

#[tokio::test]
async fn a_signal_reaches_what_the_command_has_started() {
    let mut running = shell("sleep 600 & echo started; wait; echo never", NOWHERE);
    let pipe = running.take_output().unwrap();
    let mut output = io::PipeReader::from(pipe);
    let mut started = [0; 8];
    output.read_exact(&mut started).unwrap();
    running.signal(Signal::TERM);
    assert_eq!(exit_code(running.wait().await.unwrap()), 143);
    // The end of the output means that the sleeper, which held it too, is gone.
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
    assert!(!running.signal(Signal::TERM), "it has ended");
}

#[tokio::test]
async fn at_a_keyboard_the_interrupt_is_not_sent_twice() {
    let keyboard = Terminal {
        keyboard: true,
        screen: false,
    };
    let mut running = shell("echo started; exec sleep 600", keyboard);
    let pipe = running.take_output().unwrap();
    io::PipeReader::from(pipe).read_exact(&mut [0; 8]).unwrap();
    assert!(!running.signal(Signal::INT));
    assert!(running.signal(Signal::TERM));
    assert_eq!(exit_code(running.wait().await.unwrap()), 143);
}

#[tokio::test]
async fn what_cannot_be_run_is_named() {
    let start = |program: &str| {
        let task = Task::Words(vec![program.into()]);
        Running::start(task, "/".into(), NOWHERE)
            .map(drop)
            .unwrap_err()
    };
    let error = start("no-such-program-anywhere");
    assert!(
        matches!(error, CommandError::NotFound { program } if program == "no-such-program-anywhere")
    );
    assert!(matches!(
        start("/etc/passwd"),
        CommandError::NotExecutable { .. }
    ));
}
