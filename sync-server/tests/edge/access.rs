//! Who may make which call: every call by everybody. The table here is the one of docs/protocol.md and has every call
//! that the server takes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use uspark_shared::id::BlobHash;
use uspark_shared::replica::EMPTY_UPDATE;

use crate::client::{Answer, Client, TestServer};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Needs {
    NoToken,
    Read,
    Write,
    Admin,
    /// The server's own token.
    Server,
}

/// A call, by its address in docs/protocol.md and the query that is asked with.
#[derive(Debug, Clone, Copy)]
struct Allowed {
    method: &'static str,
    address: &'static str,
    query: &'static str,
    needs: Needs,
    /// Where another project's token ends.
    foreign: u16,
}

const fn call(
    method: &'static str,
    address: &'static str,
    query: &'static str,
    needs: Needs,
    foreign: u16,
) -> Allowed {
    Allowed {
        method,
        address,
        query,
        needs,
        foreign,
    }
}

const FILE: &str = "/api/projects/{id}/files/{path}";
const EVENTS: &str = "/api/projects/{id}/events";

/// Every call; a GET is a HEAD, too. `P` is the project. The blob calls go by the token's own project.
const CALLS: &[Allowed] = &[
    call("GET", "/api/projects", "", Needs::Read, 200),
    call("POST", "/api/projects", "", Needs::Server, 403),
    call("GET", "/api/projects/{id}", "", Needs::Read, 404),
    call("GET", "/api/projects/{id}", "?sv=AA", Needs::Read, 404),
    call("PATCH", "/api/projects/{id}", "", Needs::Write, 404),
    call("DELETE", "/api/projects/{id}", "", Needs::Admin, 404),
    call("GET", "/api/projects/{id}/archive", "", Needs::Read, 404),
    call("GET", EVENTS, "", Needs::Read, 404),
    call("POST", EVENTS, "?run=r&from=1", Needs::Write, 404),
    call("GET", FILE, "", Needs::Read, 404),
    call("PUT", FILE, "", Needs::Write, 404),
    call("DELETE", FILE, "", Needs::Write, 404),
    call("POST", "/api/blobs", "?project=P", Needs::Write, 404),
    call("GET", "/api/blobs/{hash}", "", Needs::Read, 404),
    call("GET", "/api/tokens", "?project=P", Needs::Admin, 404),
    call("POST", "/api/tokens", "", Needs::Admin, 404),
    call("GET", "/api/tokens/self", "", Needs::Read, 200),
    call("DELETE", "/api/tokens/{id}", "", Needs::Admin, 404),
    call("GET", "/api/audit", "?project=P", Needs::Admin, 404),
    call("GET", "/healthz", "", Needs::NoToken, 200),
    call("GET", "/readyz", "", Needs::NoToken, 200),
    call("GET", "/metrics", "", Needs::NoToken, 200),
];

/// Every call, and those that come with it.
fn all_calls() -> impl Iterator<Item = Allowed> {
    CALLS.iter().flat_map(|call| {
        let head = (call.method == "GET").then_some(Allowed {
            method: "HEAD",
            ..*call
        });
        [Some(*call), head].into_iter().flatten()
    })
}

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

    async fn call(&self, client: &Client, allowed: Allowed) -> Answer {
        let Allowed {
            method,
            address,
            query,
            ..
        } = allowed;
        let id = match address {
            "/api/tokens/{id}" => &self.token,
            _ => &self.id,
        };
        let path = address
            .replace("{id}", id)
            .replace("{hash}", &self.hash)
            .replace("{path}", if method == "PUT" { "new.txt" } else { "a.txt" });
        let call = client.call(method, &(path + &query.replace('P', &self.id)));
        match (method, address) {
            ("POST", "/api/projects") => call.json(json!({})).await,
            ("POST", "/api/tokens") => {
                call.json(json!({ "project": self.id, "access": "read" }))
                    .await
            }
            ("PATCH", _) => call.bytes(EMPTY_UPDATE.to_vec()).await,
            ("PUT" | "POST", _) => call.bytes("bytes").await,
            // It does not end.
            ("GET", EVENTS) => call.begin().await,
            _ => call.send().await,
        }
    }
}

#[track_caller]
fn is_problem(answer: &Answer, method: &str, status: u16) {
    if method == "HEAD" {
        assert_eq!(answer.status, status, "{answer:?}");
    } else {
        answer.problem(status);
    }
}

/// Addresses with all that stands in braces alike.
fn plain(address: &str) -> String {
    let mut parts = address.split('/').map(|part| match part.starts_with('{') {
        true => "{}",
        false => part,
    });
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |address, part| address + "/" + part)
}

/// The calls in the table of docs/protocol.md, with the access that each needs.
fn documented() -> BTreeMap<(String, String), String> {
    let table = include_str!("../../../docs/protocol.md");
    let (_, table) = table.split_once("| call | answer | access |").unwrap();
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let mut calls = BTreeMap::new();
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let mut methods = Vec::new();
        for word in cells[0].replace(['`', ','], " ").split_whitespace() {
            if word.bytes().all(|letter| letter.is_ascii_uppercase()) {
                methods.push(word);
            } else if word.starts_with('/') {
                for method in methods.drain(..) {
                    let address = word.split('?').next().unwrap();
                    let call = (method.to_owned(), plain(address));
                    calls.insert(call, cells.last().unwrap().to_string());
                }
            }
        }
    }
    calls
}

#[test]
fn the_table_is_the_one_of_the_documentation() {
    let mut documented = documented();
    for call in all_calls() {
        let access = match call.needs {
            Needs::NoToken => "no token",
            Needs::Read => "read",
            Needs::Write => "write",
            Needs::Admin => "admin",
            Needs::Server => "the server's",
        };
        match documented.remove(&(call.method.to_owned(), plain(call.address))) {
            Some(written) if written == "any" => assert_eq!(call.needs, Needs::Read, "{call:?}"),
            Some(written) => assert_eq!(written, access, "{call:?}"),
            // That every GET is a HEAD needs no word; nor what a query changes.
            None => assert!(call.method == "HEAD" || !call.query.is_empty(), "{call:?}"),
        }
    }
    assert!(documented.is_empty(), "no test has {documented:?}");
}

/// The addresses that the router's source names.
fn routes(source: &str) -> impl Iterator<Item = &str> {
    let calls = source.split(".route(").skip(1);
    calls.map(|call| call.split('"').nth(1).expect("an address"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_has_every_call_that_the_server_takes() {
    let server = TestServer::start().await;
    let mut taken = BTreeSet::new();
    for route in routes(include_str!("../../src/http.rs")) {
        let address = plain(route).replace("{}", "x");
        let api = format!("/api{address}");
        let mut allow = None;
        for path in [&address, &api] {
            let asked = server.admin().call("BREW", path).send().await;
            allow = allow.or_else(|| {
                (asked.status == 405).then(|| asked.header("allow").unwrap().to_owned())
            });
        }
        let address = match CALLS.iter().any(|call| call.address == route) {
            true => route.to_owned(),
            false => format!("/api{}", plain(route)),
        };
        for method in allow.expect(route).split(',') {
            taken.insert((method.trim().to_owned(), plain(&address)));
        }
    }
    let tested: BTreeSet<_> = all_calls()
        .map(|call| (call.method.to_owned(), plain(call.address)))
        .collect();
    assert_eq!(taken, tested);
    // Sockets have a table of their own, in `messages.rs`.
    let sockets = [
        include_str!("../../src/ws.rs"),
        include_str!("../../src/collab.rs"),
    ];
    let sockets: Vec<_> = sockets.into_iter().flat_map(routes).collect();
    assert_eq!(sockets, ["/ws/{project}", "/ws/{project}/{doc}", "/collab"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_served_without_a_token_that_counts() {
    let server = TestServer::start().await;
    let project = Project::new(&server, "p0".into()).await;
    let revoked = server.token("p0", "admin").await;
    let path = format!("/api/tokens/{}", &revoked[5..17]);
    assert_eq!(server.admin().delete(&path).send().await.status, 204);
    let expired = server.expired("p0").await;
    let wrong_secret = format!("{}{}", &server.admin[..18], "A".repeat(43));
    let mut others: Vec<_> = [
        "",
        "garbage",
        &revoked,
        &expired,
        &wrong_secret,
        &server.admin[..60],
    ]
    .map(|token| server.with(token))
    .into();
    others.push(server.without_token());
    for call in all_calls() {
        for client in &others {
            let answer = project.call(client, call).await;
            if call.needs == Needs::NoToken {
                assert_eq!(answer.status, 200, "{call:?}");
                continue;
            }
            is_problem(&answer, call.method, 401);
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
    let held = [
        ("read", Needs::Read),
        ("write", Needs::Write),
        ("admin", Needs::Admin),
    ];
    for (number, call) in all_calls().enumerate() {
        let project = Project::new(&server, format!("p{number}")).await;
        // Of these the address does not say which project they are about: too little access is told first.
        let is_blind = [("POST", "/api/tokens"), ("DELETE", "/api/tokens/{id}")]
            .contains(&(call.method, call.address));
        for (access, has) in held {
            let others = server.with(&server.token("other", access).await);
            let answer = project.call(&others, call).await;
            if call.foreign < 300 {
                assert_eq!(
                    answer.status, call.foreign,
                    "{access}: {call:?}: {answer:?}"
                );
                let said = String::from_utf8_lossy(&answer.body);
                assert!(!said.contains(&project.id), "{said}");
            } else {
                let foreign = if is_blind && has < call.needs {
                    403
                } else {
                    call.foreign
                };
                assert_eq!(answer.status, foreign, "{access}: {call:?}");
                is_problem(&answer, call.method, foreign);
            }
        }
        for (access, has) in held {
            let project = Project::new(&server, format!("p{number}-{access}")).await;
            let client = server.with(&server.token(&project.id, access).await);
            let answer = project.call(&client, call).await;
            if has >= call.needs {
                assert!(answer.status < 300, "{access}: {call:?}: {answer:?}");
            } else {
                is_problem(&answer, call.method, 403);
            }
        }
        let answer = project.call(&server.admin(), call).await;
        assert!(answer.status < 300, "server: {call:?}: {answer:?}");
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
