//! Who may make which call: every call by everybody.

use serde_json::json;
use uspark_shared::id::BlobHash;
use uspark_shared::replica::EMPTY_UPDATE;

use crate::client::{Answer, Client, TestServer};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Needs {
    Read,
    Write,
    Admin,
    /// The server's own token.
    Server,
}

/// `(method, path, needs, where another project's token ends)`; `P` is the project, `H` a blob of
/// it, `T` a token of it. The blob calls go by the token's own project.
const CALLS: &[(&str, &str, Needs, u16)] = &[
    ("GET", "/api/projects", Needs::Read, 200),
    ("POST", "/api/projects", Needs::Server, 403),
    ("GET", "/api/projects/P", Needs::Read, 404),
    ("GET", "/api/projects/P?sv=AA", Needs::Read, 404),
    ("PATCH", "/api/projects/P", Needs::Write, 404),
    ("DELETE", "/api/projects/P", Needs::Admin, 404),
    ("GET", "/api/projects/P/archive", Needs::Read, 404),
    // GET is the same and never ends.
    ("HEAD", "/api/projects/P/events", Needs::Read, 404),
    (
        "POST",
        "/api/projects/P/events?run=r&from=1",
        Needs::Write,
        404,
    ),
    ("GET", "/api/projects/P/files/a.txt", Needs::Read, 404),
    ("HEAD", "/api/projects/P/files/a.txt", Needs::Read, 404),
    ("PUT", "/api/projects/P/files/new.txt", Needs::Write, 404),
    ("DELETE", "/api/projects/P/files/a.txt", Needs::Write, 404),
    ("POST", "/api/blobs?project=P", Needs::Write, 404),
    ("GET", "/api/blobs/H", Needs::Read, 404),
    ("HEAD", "/api/blobs/H", Needs::Read, 404),
    ("GET", "/api/tokens?project=P", Needs::Admin, 404),
    ("POST", "/api/tokens", Needs::Admin, 404),
    ("DELETE", "/api/tokens/T", Needs::Admin, 404),
    ("GET", "/api/tokens/self", Needs::Read, 200),
    ("GET", "/api/audit?project=P", Needs::Admin, 404),
];

struct Project {
    id: String,
    hash: String,
    token: String,
}

impl Project {
    async fn new(server: &TestServer, id: String) -> Self {
        server.project(&id).await;
        let file = format!("/api/projects/{id}/files/a.txt");
        let text = format!("text of {id}");
        assert_eq!(
            server.admin().put(&file).bytes(text.clone()).await.status,
            200
        );
        let spare = server.token(&id, "read").await;
        Self {
            hash: BlobHash::of(text.as_bytes()).to_string(),
            token: spare[5..17].to_owned(),
            id,
        }
    }

    async fn call(&self, client: &Client, (method, path, ..): (&str, &str, Needs, u16)) -> Answer {
        let path = path
            .replace('P', &self.id)
            .replace('H', &self.hash)
            .replace('T', &self.token);
        let call = client.call(method, &path);
        match (method, path.as_str()) {
            ("POST", "/api/projects") => call.json(json!({})).await,
            ("POST", "/api/tokens") => {
                call.json(json!({ "project": self.id, "access": "read" }))
                    .await
            }
            ("PATCH", _) => call.bytes(EMPTY_UPDATE.to_vec()).await,
            ("PUT" | "POST", _) => call.bytes("bytes").await,
            _ => call.send().await,
        }
    }
}

fn is_problem(answer: &Answer, method: &str, status: u16) {
    if method == "HEAD" {
        assert_eq!(answer.status, status, "{answer:?}");
    } else {
        answer.problem(status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_served_without_a_token_that_counts() {
    let server = TestServer::start().await;
    let project = Project::new(&server, "p0".into()).await;
    let revoked = server.token("p0", "admin").await;
    let path = format!("/api/tokens/{}", &revoked[5..17]);
    assert_eq!(server.admin().delete(&path).send().await.status, 204);
    let wrong_secret = format!("{}{}", &server.admin[..18], "A".repeat(43));
    let mut others: Vec<_> = ["", "garbage", &revoked, &wrong_secret, &server.admin[..60]]
        .map(|token| server.with(token))
        .into();
    others.push(server.without_token());
    for call in CALLS {
        for client in &others {
            let answer = project.call(client, *call).await;
            is_problem(&answer, call.0, 401);
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
    }
    // A token in the query is for sockets.
    let path = format!("/api/projects?token={}", server.admin);
    server.without_token().get(&path).send().await.problem(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_reaches_its_project_and_its_verbs() {
    let server = TestServer::start().await;
    server.project("other").await;
    let others = server.with(&server.token("other", "admin").await);
    for (number, call) in CALLS.iter().enumerate() {
        let (method, path, needs, foreign) = *call;
        let project = Project::new(&server, format!("p{number}")).await;
        let answer = project.call(&others, *call).await;
        if foreign < 300 {
            assert_eq!(answer.status, foreign, "{method} {path}: {answer:?}");
            let said = String::from_utf8_lossy(&answer.body);
            assert!(
                said.contains("other") && !said.contains(&project.id),
                "{said}"
            );
        } else {
            is_problem(&answer, method, foreign);
        }
        for (held, access) in [
            ("read", Needs::Read),
            ("write", Needs::Write),
            ("admin", Needs::Admin),
        ] {
            let project = Project::new(&server, format!("p{number}-{held}")).await;
            let client = server.with(&server.token(&project.id, held).await);
            let answer = project.call(&client, *call).await;
            if access >= needs {
                assert!(answer.status < 300, "{held}: {method} {path}: {answer:?}");
            } else {
                is_problem(&answer, method, 403);
            }
        }
        let answer = project.call(&server.admin(), *call).await;
        assert!(answer.status < 300, "server: {method} {path}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_project_looks_like_none() {
    let server = TestServer::start().await;
    server.project("there").await;
    server.project("own").await;
    let client = server.with(&server.token("own", "admin").await);
    for path in [
        "/api/projects/ID",
        "/api/projects/ID/archive",
        "/api/projects/ID/events",
        "/api/projects/ID/files/a",
        "/api/audit?project=ID",
    ] {
        let [there, not] = ["there", "not-there"].map(|id| path.replace("ID", id));
        let (there, not) = (
            client.get(&there).send().await,
            client.get(&not).send().await,
        );
        assert_eq!(there.problem(404), not.problem(404));
        assert_eq!(there.body, not.body);
    }
}
