//! `sync-server check` and `sync-server backup` beside the program that serves.

use std::path::Path;
use std::process::Output;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::binary::{Program, command};

/// What an operation said: its exit code, stdout, stderr.
fn operate(data: &Path, arguments: &[&str]) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command(data).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

fn json_of(data: &Path) -> (i32, Value) {
    let (code, stdout, _) = operate(data, &["check", "--json"]);
    (code, serde_json::from_str(&stdout).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_made_while_it_serves_and_served_with_the_same_admin_token() {
    let place = tempfile::tempdir().unwrap();
    let (data, to) = (place.path().join("data"), place.path().join("monday"));
    let mut program = Program::start(&data, &[]);
    let (token, _) = program.token();
    let client = program.client(&token);
    let made = client.post("/api/projects").json(json!({ "id": "p" }));
    assert_eq!(made.await.status, 201);
    let (text, large) = ("/api/projects/p/files/a.txt", "/api/projects/p/files/b.bin");
    let bytes = vec![0; 200_000];
    assert_eq!(client.put(text).bytes("before").await.status, 200);
    assert_eq!(client.put(large).bytes(bytes.clone()).await.status, 200);

    let named = to.to_str().unwrap();
    let (code, stdout, stderr) = operate(&data, &["backup", named]);
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(
        stdout.contains(named) && stdout.contains("1 projects"),
        "{stdout}"
    );
    assert!(!stdout.contains(&token[18..]) && !stderr.contains(&token[18..]));
    let (code, _, stderr) = operate(&data, &["backup", named]);
    assert_eq!(code, 1);
    assert!(
        stderr.contains("is there already") && stderr.contains("hint: "),
        "{stderr}"
    );

    assert_eq!(client.put(text).bytes("after").await.status, 200);
    for data in [&data, &to] {
        let (code, said) = json_of(data);
        assert_eq!((code, &said["ok"]), (0, &json!(true)), "{said}");
        assert_eq!(said["projects"], 1, "{said}");
        assert_eq!(said["data"], data.to_str().unwrap());
    }
    let (code, stdout, _) = operate(&to, &["check"]);
    assert_eq!(code, 0);
    assert!(stdout.contains("is whole: 1 projects"), "{stdout}");
    program.end(Signal::TERM);

    let mut restored = Program::start(&to, &[]);
    assert!(restored.line().starts_with("the admin token is in "));
    let client = restored.client(&token);
    assert_eq!(client.get(text).send().await.body, "before");
    assert_eq!(client.get(large).send().await.body, bytes);
}

#[test]
fn damage_is_told_with_exit_1_and_what_to_do() {
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("data");
    let (code, said) = json_of(&data);
    assert_eq!((code, &said["ok"]), (1, &json!(false)), "{said}");
    let (code, _, stderr) = operate(&data, &["check"]);
    assert_eq!(code, 1);
    assert!(
        stderr.contains("no data directory") && stderr.contains("hint: "),
        "{stderr}"
    );
    assert!(!data.exists());

    drop(Program::start(&data, &[]));
    assert_eq!(json_of(&data).0, 0);
    std::fs::write(data.join("uspark.db"), b"a note").unwrap();
    let (code, said) = json_of(&data);
    assert_eq!((code, &said["ok"]), (1, &json!(false)), "{said}");
    assert!(
        said["problems"][0]["place"]
            .as_str()
            .unwrap()
            .ends_with("uspark.db")
    );
    let (code, stdout, stderr) = operate(&data, &["check"]);
    assert_eq!(code, 1);
    assert!(stdout.contains("is damaged: 1 problems"), "{stdout}");
    assert!(stderr.contains("hint: "), "{stderr}");
    let to = place.path().join("copy");
    let (code, _, stderr) = operate(&data, &["backup", to.to_str().unwrap()]);
    assert_eq!(code, 1, "{stderr}");
    assert!(!to.exists());
    // Wrong usage is told apart.
    assert_eq!(operate(&data, &["backup"]).0, 2);
    assert_eq!(operate(&data, &["restore"]).0, 2);
}
