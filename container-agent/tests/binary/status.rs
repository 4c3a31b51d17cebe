use crate::sandbox::Sandbox;

#[tokio::test]
async fn without_an_agent_status_says_so_and_waiting_for_it_fails() {
    let sandbox = Sandbox::new();
    let status = sandbox.uspark(&["status"]).await;
    assert_eq!(status.code, 0);
    assert!(
        status.text().contains("agent      none"),
        "{}",
        status.text()
    );
    sandbox
        .uspark(&["status", "--wait", "--sync-timeout", "0"])
        .await
        .assert_failed(1, "no agent is at work");
    let json = ["status", "--wait", "--sync-timeout", "0", "--json"];
    let json = sandbox.uspark(&json).await;
    assert_eq!(
        (json.code, &json.json()["agent"]),
        (1, &serde_json::Value::Null)
    );
    assert_eq!(json.json()["error"]["exit"], 1);
}

#[tokio::test]
async fn an_agent_says_what_it_is_doing() {
    let sandbox = Sandbox::with_agent();
    let status = sandbox.uspark(&["status"]).await;
    for line in [
        "agent      uspark watch, process 4711",
        "equal; 5 files",
        "3 of 1000 allowed",
    ] {
        assert!(status.text().contains(line), "{}", status.text());
    }
    assert_eq!(sandbox.agent.told(), [""; 0], "asking is not waiting");

    sandbox.agent.set_left(&["late.txt"]);
    let status = sandbox.uspark(&["status"]).await;
    assert_eq!(status.code, 0);
    assert!(
        status
            .text()
            .contains("left       late.txt: the test says so"),
        "{}",
        status.text()
    );
    let waited = sandbox.uspark(&["status", "--wait", "--json"]).await;
    assert_eq!(waited.code, 1);
    assert_eq!(
        waited.json()["agent"]["report"]["pending"][0]["path"],
        "late.txt"
    );
    assert!(
        waited.stderr.contains("waiting longer does not help"),
        "{waited:?}"
    );
    assert_eq!(sandbox.agent.told(), ["barrier"]);

    sandbox.agent.set_left(&[]);
    assert_eq!(sandbox.uspark(&["status", "--wait"]).await.code, 0);
}

#[tokio::test]
async fn what_is_left_is_shown_in_part_to_a_person_and_whole_to_a_machine() {
    let sandbox = Sandbox::with_agent();
    let left: Vec<String> = (0..99).map(|n| format!("file-{n}")).collect();
    let left: Vec<&str> = left.iter().map(String::as_str).collect();
    sandbox.agent.set_held(&left);
    for (arguments, code) in [(&["status"][..], 0), (&["status", "--wait"], 1)] {
        let said = sandbox.uspark(arguments).await;
        assert_eq!(said.code, code, "{said:?}");
        let more = "left       … and 79 more; --json names all\n";
        assert!(said.text().ends_with(more), "{}", said.text());
        assert_eq!(said.text().matches("left       file-").count(), 20);
        let json = sandbox.uspark(&[arguments, &["--json"]].concat()).await;
        let pending = &json.json()["agent"]["report"]["pending"];
        assert_eq!(pending.as_array().unwrap().len(), 99);
    }
}

#[tokio::test]
async fn pull_and_push_ask_the_agent_and_need_no_token() {
    let sandbox = Sandbox::with_agent();
    let pull = sandbox.uspark(&["pull", "--project-id", "p"]).await;
    assert_eq!((pull.code, pull.text()), (0, "All files are up to date\n"));
    let push = sandbox
        .uspark(&["push", "--project-id", "p", "a.js", "--json"])
        .await;
    assert_eq!(
        (push.code, &push.json()["report"]["equal"]),
        (0, &true.into())
    );

    let push = sandbox
        .uspark(&["push", "--project-id", "p", "a.js", "nosuch"])
        .await;
    push.assert_failed(1, "there is no `nosuch` here or in the project");
    assert_eq!(push.text(), "", "it is not said that all is up to date");
    let pull = ["pull", "--project-id", "p", "nosuch", "nosuch/2", "--json"];
    let pull = sandbox.uspark(&pull).await;
    assert_eq!(
        (pull.code, &pull.json()["unknown"][1]["path"]),
        (1, &"nosuch/2".into())
    );
    pull.assert_failed(1, "2 paths name nothing");

    sandbox.agent.set_left(&["a.js"]);
    let push = sandbox.uspark(&["push", "--project-id", "p", "a.js"]).await;
    push.assert_failed(1, "a.js: the test says so");
    assert_eq!(push.text(), "", "nothing is said to be done");
}

#[tokio::test]
async fn one_agent_keeps_a_workspace_and_its_project() {
    let sandbox = Sandbox::with_agent();
    let second = sandbox.uspark(&["watch", "--project-id", "p"]).await;
    second.assert_failed(
        1,
        "`uspark watch` (process 4711) keeps this workspace equal already",
    );
    let other = sandbox.uspark(&["pull", "--project-id", "q"]).await;
    other.assert_failed(1, "keeps the project `p`");
}
