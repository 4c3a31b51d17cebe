use std::os::unix::fs::MetadataExt as _;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use serde_json::json;

use crate::sandbox::{Sandbox, end, nobody};

/// Plays the server's `GET /api/tokens/self`: knows the tokens that begin with `good`.
async fn token_server() -> String {
    let answer = |headers: HeaderMap| async move {
        let bearer = headers["authorization"]
            .to_str()
            .unwrap()
            .strip_prefix("Bearer ")
            .unwrap();
        if !bearer.starts_with("good") {
            let problem = json!({"title": "Unauthorized", "detail": "the token is unknown"});
            return (StatusCode::UNAUTHORIZED, problem.to_string());
        }
        let token = json!({"id": bearer, "project": "p", "access": "write", "expiresAt": null});
        (StatusCode::OK, token.to_string())
    };
    let router = Router::new().route("/api/tokens/self", get(answer));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

#[tokio::test]
async fn a_good_token_is_kept_privately_shown_and_forgotten() {
    let (sandbox, server) = (Sandbox::new(), token_server().await);
    let login = sandbox
        .uspark(&["auth", "login", "--token", "good-1", "--server", &server])
        .await;
    assert_eq!(login.code, 0, "{login:?}");
    let file = sandbox.home().join(".config/uspark/config.json");
    assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);

    // The server is now the one that is used when none is named.
    let status = sandbox.uspark(&["auth", "status"]).await;
    for line in [
        format!("server   {server}"),
        "project  p".into(),
        "access   write".into(),
    ] {
        assert!(status.text().contains(&line), "{}", status.text());
    }
    assert!(!status.text().contains("Bearer") && status.code == 0);
    let status = sandbox.uspark(&["auth", "status", "--json"]).await;
    assert_eq!(
        (&status.json()["token"], &status.json()["access"]),
        (&"good-1".into(), &"write".into())
    );

    assert_eq!(sandbox.uspark(&["auth", "logout"]).await.code, 0);
    let after = sandbox
        .uspark(&["auth", "status", "--server", &server])
        .await;
    after.assert_failed(1, "no token for the server");
}

#[tokio::test]
async fn a_refused_token_and_an_absent_server_keep_nothing() {
    let (sandbox, server) = (Sandbox::new(), token_server().await);
    let refused = sandbox
        .uspark(&["auth", "login", "--token", "bad", "--server", &server])
        .await;
    refused.assert_failed(1, "the token is unknown");
    let absent = sandbox
        .uspark(&["auth", "login", "--token", "good", "--server", &nobody()])
        .await;
    absent.assert_failed(1, "cannot reach the server");
    let calls = format!("{server}/api");
    let longer = sandbox
        .uspark(&["auth", "login", "--token", "good", "--server", &calls])
        .await;
    longer.assert_failed(1, "it has no tokens");
    assert!(
        longer
            .stderr
            .contains(&format!("without `/api`: {server}\n")),
        "{longer:?}"
    );
    assert!(!sandbox.home().join(".config").exists());
}

#[tokio::test]
async fn a_flag_wins_over_a_variable_and_that_over_the_file() {
    let (sandbox, server) = (Sandbox::new(), token_server().await);
    let kept = sandbox
        .uspark(&["auth", "login", "--token", "good-file", "--server", &server])
        .await;
    assert_eq!(kept.code, 0);
    let used = async |arguments: &[&str], variable: Option<&str>| {
        let mut command = sandbox.command(&[&["auth", "status", "--json"], arguments].concat());
        if let Some(token) = variable {
            command.env("USPARK_TOKEN", token);
        }
        let ended = end(command.spawn().unwrap(), b"").await;
        ended.json()["token"].as_str().unwrap().to_owned()
    };
    assert_eq!(used(&[], None).await, "good-file");
    assert_eq!(used(&[], Some("good-variable")).await, "good-variable");
    assert_eq!(
        used(&["--token", "good-flag"], Some("good-variable")).await,
        "good-flag"
    );
}

#[tokio::test]
async fn the_server_may_be_named_as_the_original_did_and_without_a_home() {
    let (sandbox, server) = (Sandbox::new(), token_server().await);
    let mut command = sandbox.command(&["auth", "status", "--json", "--token", "good"]);
    // Without a scheme, as `API_HOST` was.
    command
        .env("API_HOST", server.strip_prefix("http://").unwrap())
        .env_remove("HOME");
    let ended = end(command.spawn().unwrap(), b"").await;
    assert_eq!(ended.json()["server"], server);
}
