//! What goes wrong, and what the client is told.

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use uspark_shared::id::BlobHash;

use crate::client::TestServer;

/// Sends all of it before it reads anything, says that it is done, and gives what comes back until
/// the server closes.
async fn raw(server: &TestServer, head: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.running.address()).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_or_a_method_that_is_not_there_is_a_problem_too() {
    let server = TestServer::start().await;
    server.project("p").await;
    let admin = server.admin();
    for path in [
        "/none",
        "/api",
        "/api/",
        "/api/nothing",
        "/api/projects/p/pack",
    ] {
        for client in [&admin, &server.without_token()] {
            client.get(path).send().await.problem(404);
        }
    }
    for (method, path) in [
        ("PUT", "/api/projects"),
        ("PATCH", "/api/tokens"),
        ("POST", "/api/projects/p/files/a"),
        ("POST", "/healthz"),
    ] {
        let answer = admin.call(method, path).send().await;
        answer.problem(405);
        assert!(
            answer
                .header("allow")
                .is_some_and(|allow| !allow.contains(method)),
            "{answer:?}"
        );
    }
    for path in [
        "/api/projects/a%20b",
        "/api/projects/%2e%2e",
        "/api/projects/%ff",
        "/api/audit?after=x",
        "/api/projects?limit=-1",
        "/api/projects?limit=0",
        "/api/audit?limit=0",
    ] {
        admin.get(path).send().await.problem(400);
    }
    for path in ["/ws/p", "/ws/p/d", "/collab"] {
        let detail = admin.get(path).send().await.problem(400);
        assert!(detail.contains("upgrade"), "{detail}");
    }
    let detail = admin
        .get("/api/audit?after=x&token=uspk_secret")
        .send()
        .await
        .problem(400);
    assert!(!detail.contains("secret"), "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_process_tells_how_it_is() {
    let server = TestServer::start().await;
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(server.without_token().get(path).send().await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_stops_early_is_refused_and_leaves_nothing() {
    let server = TestServer::start().await;
    server.project("p").await;
    let bearer = format!("Authorization: Bearer {}", server.admin);
    for (method, path) in [
        ("POST", "/api/blobs?project=p"),
        ("PUT", "/api/projects/p/files/a"),
        ("PATCH", "/api/projects/p"),
        ("POST", "/api/tokens"),
    ] {
        for framing in [
            "Content-Length: 100\r\n\r\npart",
            "Transfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
        ] {
            let request =
                format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{bearer}\r\n{framing}");
            let answer = raw(&server, &request, b"").await;
            assert!(
                answer.starts_with("HTTP/1.1 400 "),
                "{method} {path}: {answer}"
            );
            assert!(answer.contains("application/problem+json"), "{answer}");
            assert!(answer.contains("stops early"), "{answer}");
        }
    }
    let path = format!("/api/blobs/{}", BlobHash::of(b"part"));
    server.admin().get(&path).send().await.problem(404);
    server
        .admin()
        .get("/api/projects/p/files/a")
        .send()
        .await
        .problem(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_in_the_middle_of_an_upload_is_told() {
    let server = TestServer::start().await;
    server.project("p").await;
    let reader = server.token("p", "read").await;
    // More than the buffers of a connection hold.
    let much = vec![0; 32 << 20];
    for (request, token, status) in [
        ("POST /api/blobs?project=p", "uspk_wrong", "401"),
        ("PUT /api/projects/p/files/a", &reader, "403"),
        ("POST /api/projects", &server.admin, "413"),
        ("POST /api/nothing", "", "404"),
    ] {
        let head = format!(
            "{request} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token}\r\n\
             Content-Length: {}\r\n\r\n",
            much.len()
        );
        let answer = raw(&server, &head, &much).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        assert!(answer.contains("application/problem+json"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_said_everything_is_still_answered() {
    let server = TestServer::start().await;
    let head = format!(
        "POST /api/projects HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {}\r\n\
         Content-Length: 2\r\n\r\n",
        server.admin
    );
    let answer = raw(&server, &head, b"{}").await;
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_first_is_not_made_to_send() {
    let server = TestServer::start().await;
    let request =
        b"POST /api/blobs?project=p HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\
        Expect: 100-continue\r\n\r\n";
    let mut stream = TcpStream::connect(server.running.address()).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 401 ") && !answer.contains("100 Continue"),
        "{answer}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_over_the_limit_is_refused() {
    let server = TestServer::start_with(|config| config.limits.max_update_bytes = 1000).await;
    server.project("p").await;
    let patch = || server.admin().patch("/api/projects/p");
    let detail = patch().bytes(vec![0; 1001]).await.problem(413);
    assert!(detail.contains("1000"), "{detail}");
    // As long as it may be, and then it is no update.
    patch().bytes(vec![0xff; 1000]).await.problem(400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_from_elsewhere_may_call_and_read_the_answer() {
    let server = TestServer::start().await;
    let preflight = server
        .without_token()
        .call("OPTIONS", "/api/projects")
        .header("origin", "https://editor.example")
        .header("access-control-request-method", "PATCH")
        .header(
            "access-control-request-headers",
            "authorization,if-match,x-version",
        );
    let preflight = preflight.send().await;
    assert_eq!(preflight.status, 200);
    assert_eq!(preflight.header("access-control-allow-origin"), Some("*"));
    let allowed = preflight.header("access-control-allow-headers").unwrap();
    assert!(
        allowed.contains("authorization") && allowed.contains("x-version"),
        "{allowed}"
    );
    assert_eq!(preflight.header("access-control-allow-credentials"), None);

    let refused = server.without_token().get("/api/projects");
    let refused = refused
        .header("origin", "https://editor.example")
        .send()
        .await;
    refused.problem(401);
    assert_eq!(refused.header("access-control-allow-origin"), Some("*"));
    let exposed = refused.header("access-control-expose-headers").unwrap();
    assert!(
        exposed.contains("x-version") && exposed.contains("etag"),
        "{exposed}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kind_of_a_json_body_does_not_matter() {
    let server = TestServer::start().await;
    let call = server.admin().post("/api/projects");
    let call = call.header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(call.json(json!({ "id": "p" })).await.status, 201);
}
