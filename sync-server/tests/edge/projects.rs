//! Projects, and their document: updates, differences, versions, the manifest.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use uspark_shared::id::BlobHash;
use uspark_shared::path::FilePath;
use uspark_shared::replica::{ClientId, ProjectEdit, ProjectReplica};
use uspark_shared::schema::Entry;

use crate::client::{Answer, Client, TestServer};

fn replica(author: u8) -> ProjectReplica {
    ProjectReplica::new(ClientId::from_random([author; 4]))
}

fn set(path: &str, entry: Entry) -> ProjectEdit {
    ProjectEdit::SetFile(path.parse().unwrap(), entry)
}

fn sorted(replica: &ProjectReplica) -> Vec<(FilePath, Entry)> {
    let mut entries = replica.entries();
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    entries
}

async fn manifest(client: &Client) -> Answer {
    client
        .get("/api/projects/p")
        .header("accept", "application/json")
        .send()
        .await
}

fn version(answer: &Answer) -> u64 {
    answer.header("x-version").unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn projects_are_made_listed_and_found() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let made = admin
        .post("/api/projects")
        .json(json!({ "id": "b", "name": "Bé" }))
        .await;
    assert_eq!(made.status, 201);
    assert_eq!(made.header("location"), Some("/api/projects/b"));
    let made = made.value();
    assert_eq!((&made["id"], &made["name"]), (&json!("b"), &json!("Bé")));
    assert!(made["createdAt"].as_u64().unwrap() > 1_600_000_000_000);
    admin
        .post("/api/projects")
        .json(json!({ "id": "b" }))
        .await
        .problem(409);
    let unnamed = admin.post("/api/projects").json(json!({})).await.value();
    assert_eq!(unnamed["id"].as_str().unwrap().len(), 20);
    for bad in [
        json!({ "id": "a/b" }),
        json!({ "id": "" }),
        json!({ "name": 1 }),
        json!({ "nome": "" }),
        json!("p"),
    ] {
        admin.post("/api/projects").json(bad).await.problem(400);
    }
    for id in ["a", "c", "d"] {
        server.project(id).await;
    }

    let (mut after, mut seen) = (String::new(), Vec::new());
    loop {
        let page = admin
            .get(&format!("/api/projects?limit=2{after}"))
            .send()
            .await
            .value();
        let ids = page["projects"].as_array().unwrap().iter();
        seen.extend(ids.map(|project| project["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else {
            break;
        };
        after = format!("&after={next}");
    }
    let mut expected = vec!["a", "b", "c", "d", unnamed["id"].as_str().unwrap()];
    expected.sort_unstable();
    assert_eq!(seen, expected);

    let own = server.with(&server.token("c", "read").await);
    let listed = own.get("/api/projects").send().await.value();
    assert_eq!(listed["projects"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&listed["projects"][0]["id"], &listed["next"]),
        (&json!("c"), &Value::Null)
    );
    let listed = own.get("/api/projects?after=c").send().await.value();
    assert_eq!(listed["projects"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_goes_in_and_comes_out() {
    let server = TestServer::start().await;
    server.project("p").await;
    let client = server.with(&server.token("p", "write").await);
    let text = client.upload("p", "hello\n").await;
    let seed: BlobHash = text.parse().unwrap();
    let entry = Entry::Text {
        doc: "d1".parse().unwrap(),
        seed,
        mode: 0o755,
        mtime: 1_732_166_400_123,
    };

    let ours = replica(1);
    let update = ours
        .edit(&[
            set("src/a.sh", entry),
            set(
                "link",
                Entry::Link {
                    target: "src".into(),
                },
            ),
        ])
        .unwrap();
    let patched = client.patch("/api/projects/p").bytes(update.clone()).await;
    assert_eq!(patched.status, 200, "{patched:?}");
    let body = patched.value();
    assert_eq!(
        body,
        json!({ "version": version(&patched), "repaired": [] })
    );

    let listed = manifest(&client).await;
    assert_eq!(listed.header("content-type"), Some("application/json"));
    let expected = json!({ "files": {
        "src/a.sh": { "kind": "text", "hash": text, "size": 6, "mode": 0o755,
                      "mtime": 1_732_166_400_123_u64, "doc": "d1" },
        "link": { "kind": "link", "link": "src" },
    } });
    assert_eq!(listed.value(), expected);
    assert!(version(&listed) >= version(&patched));

    let whole = client.get("/api/projects/p").send().await;
    assert_eq!(
        whole.header("content-type"),
        Some("application/octet-stream")
    );
    let theirs = replica(2);
    theirs.apply(&whole.body).unwrap();
    assert_eq!(sorted(&theirs), sorted(&ours));

    // A second change, asked for as a difference.
    let sv = URL_SAFE_NO_PAD.encode(theirs.state_vector());
    let update = ours.edit(&[set("empty", Entry::Dir)]).unwrap();
    let again = client.patch("/api/projects/p").bytes(update).await;
    assert!(version(&again) > version(&patched));
    let difference = client.get(&format!("/api/projects/p?sv={sv}")).send().await;
    assert!(difference.body.len() < whole.body.len());
    theirs.apply(&difference.body).unwrap();
    assert_eq!(sorted(&theirs), sorted(&ours));
    assert!(!theirs.misses_updates());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_repairs_it_tells() {
    let server = TestServer::start().await;
    server.project("p").await;
    let ours = replica(1);
    let bad = Entry::Link { target: "x".into() };
    let update = ours
        .edit(&[set("good", bad.clone()), set("Good", bad)])
        .unwrap();
    let patched = server.admin().patch("/api/projects/p").bytes(update).await;
    assert_eq!(patched.status, 200);
    let repaired = patched.value()["repaired"].clone();
    assert_eq!(repaired.as_array().unwrap().len(), 1, "{repaired}");
    let [path, reason] = ["path", "reason"].map(|field| repaired[0][field].as_str().unwrap());
    assert!(
        path.eq_ignore_ascii_case("good") && !reason.is_empty(),
        "{repaired}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_names_a_base_for_the_original_protocol() {
    let server = TestServer::start().await;
    server.project("p").await;
    let client = server.with(&server.token("p", "write").await);
    let file = "/api/projects/p/files/a.txt";
    assert_eq!(
        client.put(file).bytes("one\ntwo\nthree\n").await.status,
        200
    );
    let seen = manifest(&client).await;
    // Somebody else goes on meanwhile.
    assert_eq!(
        client.put(file).bytes("ONE\ntwo\nthree\n").await.status,
        200
    );
    manifest(&client).await;

    let hash = client
        .upload("p", "one\ntwo\nTHREE\n")
        .await
        .parse()
        .unwrap();
    let ours = replica(1);
    ours.apply(&client.get("/api/projects/p").send().await.body)
        .unwrap();
    let update = ours
        .edit(&[set("a.txt", Entry::Original { hash, mtime: 1 })])
        .unwrap();
    let patched = client
        .patch("/api/projects/p")
        .header("x-version", seen.header("x-version").unwrap());
    assert_eq!(patched.bytes(update).await.status, 200);
    assert_eq!(client.get(file).send().await.body, "ONE\ntwo\nTHREE\n");
    assert_eq!(
        manifest(&client).await.value()["files"]["a.txt"]["kind"],
        "text"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_update_is_refused_and_changes_nothing() {
    let server = TestServer::start().await;
    server.project("p").await;
    let admin = server.admin();
    let update = replica(1).edit(&[set("a", Entry::Dir)]).unwrap();
    let before = version(&manifest(&admin).await);
    for bad in [
        &b""[..],
        b"garbage",
        &update[..update.len() - 1],
        &[0xff; 64],
        &[1],
    ] {
        admin
            .patch("/api/projects/p")
            .bytes(bad.to_vec())
            .await
            .problem(400);
    }
    for bad in ["x", "-1", "", "99999"] {
        let call = admin.patch("/api/projects/p").header("x-version", bad);
        call.bytes(update.clone()).await.problem(400);
    }
    for sv in ["*", "_w", "AQ"] {
        admin
            .get(&format!("/api/projects/p?sv={sv}"))
            .send()
            .await
            .problem(400);
    }
    let after = manifest(&admin).await;
    assert_eq!(
        (version(&after), after.value()),
        (before, json!({ "files": {} }))
    );
}
