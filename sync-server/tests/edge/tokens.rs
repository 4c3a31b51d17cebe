//! Minting, listing and revoking tokens; the audit log.

use serde_json::{Value, json};

use crate::client::{TestServer, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_token_knows_itself_and_no_list_shows_a_secret() {
    let server = TestServer::start().await;
    server.project("p").await;
    let wanted = json!({ "project": "p", "access": "write", "expiresIn": 3600, "name": "ci" });
    let minted = server.admin().post("/api/tokens").json(wanted).await;
    assert_eq!(minted.status, 201);
    let minted = minted.value();
    let token = minted["token"].as_str().unwrap();

    let own = server
        .with(token)
        .get("/api/tokens/self")
        .send()
        .await
        .value();
    let expected = json!({
        "id": minted["id"], "project": "p", "access": "write", "name": "ci",
        "expiresAt": minted["expiresAt"],
    });
    assert_eq!(own, expected);
    let servers = server.admin().get("/api/tokens/self").send().await.value();
    assert_eq!(
        (&servers["project"], &servers["access"]),
        (&Value::Null, &json!("admin"))
    );

    let listed = server.admin().get("/api/tokens?project=p").send().await;
    assert!(!String::from_utf8_lossy(&listed.body).contains(&token[18..]));
    let listed = listed.value();
    assert_eq!(listed["tokens"].as_array().unwrap().len(), 1);
    assert_eq!(listed["tokens"][0]["id"], minted["id"]);
    assert_eq!(listed["tokens"][0]["revokedAt"], Value::Null);

    let path = format!("/api/tokens/{}", minted["id"].as_str().unwrap());
    assert_eq!(server.admin().delete(&path).send().await.status, 204);
    server
        .with(token)
        .get("/api/tokens/self")
        .send()
        .await
        .problem(401);
    let listed = server
        .admin()
        .get("/api/tokens?project=p")
        .send()
        .await
        .value();
    assert!(listed["tokens"][0]["revokedAt"].is_u64());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_outlasts_the_one_it_came_from() {
    let server = TestServer::start().await;
    server.project("p").await;
    let wanted = json!({ "project": "p", "access": "admin", "expiresIn": 60 });
    let parent = server
        .admin()
        .post("/api/tokens")
        .json(wanted)
        .await
        .value();
    let client = server.with(parent["token"].as_str().unwrap());
    let end = parent["expiresAt"].as_u64().unwrap();
    for expires_in in [Value::Null, json!(1_000_000)] {
        let wanted = json!({ "project": "p", "access": "admin", "expiresIn": expires_in });
        let child = client.post("/api/tokens").json(wanted).await;
        assert_eq!(child.value()["expiresAt"].as_u64(), Some(end));
    }
    let wanted = json!({ "project": "p", "access": "read", "expiresIn": 1 });
    let child = client.post("/api/tokens").json(wanted).await.value();
    assert!(child["expiresAt"].as_u64().unwrap() < end);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_token_request_is_refused() {
    let server = TestServer::start().await;
    server.project("p").await;
    let mint = |wanted: Value| server.admin().post("/api/tokens").json(wanted);
    for bad in [
        json!({ "access": "read" }),
        json!({ "project": "p" }),
        json!({ "project": "p", "access": "root" }),
        json!({ "project": "../p", "access": "read" }),
        json!({ "project": "p", "access": "read", "expiresIn": 0 }),
        json!({ "project": "p", "access": "read", "expiresIn": -1 }),
        json!({ "project": "p", "access": "read", "expiresIn": u64::MAX }),
        // Milliseconds, where seconds are meant.
        json!({ "project": "p", "access": "read", "expiresIn": 1_800_000_000_000_u64 }),
        // A slip of the pen must not mint a token that never ends.
        json!({ "project": "p", "access": "read", "expires_in": 60 }),
        json!({ "project": "p", "access": "read", "name": "n".repeat(201) }),
        json!([]),
    ] {
        mint(bad).await.problem(400);
    }
    server
        .admin()
        .post("/api/tokens")
        .bytes("{")
        .await
        .problem(400);
    mint(json!({ "project": "nobody", "access": "read" }))
        .await
        .problem(404);
    server
        .admin()
        .delete("/api/tokens/AAAAAAAAAAAA")
        .send()
        .await
        .problem(404);
    server
        .admin()
        .delete("/api/tokens/x")
        .send()
        .await
        .problem(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projects_admin_has_no_say_over_the_servers_token() {
    let server = TestServer::start().await;
    server.project("p").await;
    let client = server.with(&server.token("p", "admin").await);
    let path = format!("/api/tokens/{}", &server.admin[5..17]);
    client.delete(&path).send().await.problem(404);
    assert_eq!(server.admin().get("/api/projects").send().await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_project_takes_its_tokens_along() {
    let server = TestServer::start().await;
    server.project("p").await;
    let client = server.with(&server.token("p", "admin").await);
    assert_eq!(client.delete("/api/projects/p").send().await.status, 204);
    client.get("/api/projects/p").send().await.problem(401);
    server
        .admin()
        .get("/api/projects/p")
        .send()
        .await
        .problem(404);
    server
        .admin()
        .delete("/api/projects/p")
        .send()
        .await
        .problem(404);
    // The next one of that id is another one.
    server.project("p").await;
    client.get("/api/projects/p").send().await.problem(401);
    let manifest = server
        .admin()
        .get("/api/projects/p")
        .header("accept", "application/json");
    assert_eq!(manifest.send().await.value(), json!({ "files": {} }));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_says_who_did_what() {
    let server = TestServer::start().await;
    for project in ["p", "q"] {
        server.project(project).await;
        let put = server
            .admin()
            .put(&format!("/api/projects/{project}/files/secret.txt"));
        assert_eq!(put.bytes("top secret contents").await.status, 200);
    }
    let token = server.token("p", "admin").await;
    let client = server.with(&token);
    client.get("/api/projects/p").send().await;
    client
        .delete("/api/projects/p/files/secret.txt")
        .send()
        .await;

    let actions = |records: &Value| -> Vec<String> {
        let records = records["records"].as_array().unwrap();
        records
            .iter()
            .map(|line| line["action"].as_str().unwrap().to_owned())
            .collect()
    };
    let log = || async { client.get("/api/audit").send().await };
    eventually("the last line", || async {
        actions(&log().await.value())
            .last()
            .is_some_and(|last| last == "file.delete")
    })
    .await;
    let own = log().await;
    assert!(!String::from_utf8_lossy(&own.body).contains("top secret"));
    let own = own.value();
    let expected = [
        "project.create",
        "file.write",
        "token.mint",
        "project.read",
        "file.delete",
    ];
    assert_eq!(actions(&own), expected);
    let last = &own["records"][4];
    assert_eq!(
        (&last["actor"], &last["project"]),
        (&json!(&token[5..17]), &json!("p"))
    );
    assert_eq!(last["detail"], "secret.txt");

    // The server's admin sees all, page by page.
    let (mut after, mut seen) = (json!(0), Vec::new());
    while !after.is_null() {
        let page = server
            .admin()
            .get(&format!("/api/audit?after={after}&limit=2"))
            .send()
            .await;
        let page = page.value();
        assert!(page["records"].as_array().unwrap().len() <= 2);
        seen.extend(actions(&page));
        after = page["next"].clone();
    }
    assert_eq!(
        seen.iter()
            .filter(|action| *action == "project.create")
            .count(),
        2
    );
    let all = server.admin().get("/api/audit").send().await.value();
    assert!(all["records"].as_array().unwrap().len() >= seen.len());
    assert!(seen.len() > expected.len());
}
