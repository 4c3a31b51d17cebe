//! The real curl against the HTTP table; updates are made and read by the real yjs.

use serde_json::json;
use uspark_tests::{Curl, Node, Running, Server, Workspace, from_hex, to_hex};

/// A text of a blob's test, long enough to take parts of.
const BYTES: &[u8] = b"0123456789abcdefghij";

#[test]
fn creates_lists_and_deletes_projects() {
    let server = Server::start();
    let made = server
        .curl("/api/projects")
        .json(&json!({"id": "my-project", "name": "Mine"}))
        .expect(201)
        .json();
    assert_eq!(
        (&made["id"], &made["name"]),
        (&json!("my-project"), &json!("Mine")),
        "{made}"
    );
    assert!(
        made["createdAt"].is_u64() || made["createdAt"].is_string(),
        "{made}"
    );
    let other = server.project();

    let listed = server.curl("/api/projects").expect(200).text();
    for id in ["my-project", &other.id] {
        assert!(listed.contains(id), "{id} in {listed}");
    }
    server
        .curl("/api/projects")
        .json(&json!({"id": "my-project"}))
        .problem(409);
    server
        .curl("/api/projects")
        .json(&json!({"id": "../up"}))
        .problem(400);

    server
        .curl("/api/projects/my-project")
        .method("DELETE")
        .ok();
    server.curl("/api/projects/my-project").problem(404);
    let listed = server.curl("/api/projects").expect(200).text();
    assert!(!listed.contains("my-project"), "{listed}");
    other.curl("").expect(200);
}

#[test]
fn applies_a_real_update_and_gives_it_back() {
    let server = Server::start();
    let project = server.project();
    let first = project.curl("").expect(200);
    let hash = project.store(b"bytes\0of a binary");
    let mut ydoc = Node::ydoc();

    let files = json!({"data.bin": {"hash": hash, "size": 17, "mode": 0o644, "mtime": 1}, "link": {"link": "data.bin"}});
    let update = from_hex(&ydoc.call("set", json!({"name": "mine", "files": files})));
    let patched = project.patch(update);
    assert_ne!(patched.header("x-version"), first.header("x-version"));

    let whole = project.curl("").expect(200);
    assert!(whole.header("x-version").is_some());
    ydoc.call(
        "apply",
        json!({"name": "read", "update": to_hex(&whole.body)}),
    );
    assert_eq!(ydoc.call("files", json!({"name": "read"})), files);

    // Whoever has that lacks only what comes after.
    let update = from_hex(&ydoc.call(
        "set",
        json!({"name": "mine", "files": {"empty": {"dir": true}}}),
    ));
    project.patch(update);
    let state_vector = ydoc.call("stateVector", json!({"name": "read"}));
    let difference = project
        .curl(&format!(
            "?sv={}",
            state_vector.as_str().unwrap_or_default()
        ))
        .expect(200);
    assert!(
        difference.body.len() < whole.body.len(),
        "{} bytes of {}",
        difference.body.len(),
        whole.body.len()
    );
    ydoc.call(
        "apply",
        json!({"name": "read", "update": to_hex(&difference.body)}),
    );
    assert_eq!(
        ydoc.call("files", json!({"name": "read"})),
        ydoc.call("files", json!({"name": "mine"}))
    );
}

#[test]
fn the_manifest_says_what_every_path_is() {
    let server = Server::start();
    let project = server.project();
    project.put("src/a.txt", "text\n");
    project.put("b.bin", b"\0".to_vec());
    let mut ydoc = Node::ydoc();
    let files = json!({"link": {"link": "src/a.txt"}, "empty": {"dir": true}});
    let update = from_hex(&ydoc.call("set", json!({"name": "mine", "files": files})));
    project.patch(update);

    let files = project.manifest().unwrap();
    let kinds: Vec<_> = files
        .as_object()
        .unwrap()
        .iter()
        .map(|(path, entry)| (path.as_str(), entry["kind"].as_str()))
        .collect();
    let kind = |kind| Some(kind);
    assert_eq!(
        kinds,
        [
            ("b.bin", kind("binary")),
            ("empty", kind("dir")),
            ("link", kind("link")),
            ("src/a.txt", kind("text"))
        ]
    );
    let text = &files["src/a.txt"];
    assert_eq!(
        (&text["size"], &text["mode"]),
        (&json!(5), &json!(0o644)),
        "{text}"
    );
    assert!(text["doc"].is_string() && text["mtime"].is_u64(), "{text}");
    assert_eq!(
        text["hash"].as_str(),
        Some(project.store(b"text\n").as_str()),
        "{text}"
    );
    assert_eq!(files["link"]["link"], "src/a.txt");
}

#[test]
fn stores_blobs_and_serves_them_whole_in_part_and_not_again() {
    let server = Server::start();
    let project = server.project();
    let hash = project.store(BYTES);
    assert_eq!(hash.len(), 64);
    assert_eq!(
        project.store(BYTES),
        hash,
        "the same bytes are the same blob"
    );

    let blob = |hash: &str| server.curl(&format!("/api/blobs/{hash}"));
    let whole = blob(&hash).expect(200);
    assert_eq!(whole.body, BYTES);
    let etag = whole.header("etag").expect("a blob has an ETag").to_owned();
    assert_eq!(etag, format!("\"{hash}\""));
    assert!(
        whole
            .header("cache-control")
            .is_some_and(|value| value.contains("immutable"))
    );

    let part = blob(&hash).args(&["--range", "5-9"]).expect(206);
    assert_eq!(
        (part.body.as_slice(), part.header("content-range")),
        (&BYTES[5..10], Some("bytes 5-9/20"))
    );
    assert_eq!(
        blob(&hash).args(&["--range", "15-"]).expect(206).body,
        &BYTES[15..]
    );
    assert_eq!(
        blob(&hash).args(&["--range", "-3"]).expect(206).body,
        &BYTES[17..]
    );
    blob(&hash).args(&["--range", "20-30"]).problem(416);

    let head = blob(&hash).args(&["--head"]).expect(200);
    assert_eq!(head.header("content-length"), Some("20"));
    blob(&hash).header("if-none-match", &etag).expect(304);
    blob(&"0".repeat(64)).problem(404);
    blob("no-hash").problem(400);
}

#[test]
fn a_large_blob_streams_in_and_out() {
    let server = Server::start();
    let project = server.project();
    let bytes: Vec<u8> = (0..20_000_000_u32)
        .map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let hash = project.store(&bytes);
    let blob = server
        .curl(&format!("/api/blobs/{hash}?project={}", project.id))
        .expect(200);
    assert!(
        blob.body == bytes,
        "{} bytes came back changed",
        blob.body.len()
    );
}

#[test]
fn reads_writes_and_deletes_files_by_path() {
    let server = Server::start();
    let project = server.project();
    project.put("a/b.txt", "one\ntwo\nthree\n");
    let read = project.file("a/b.txt").expect(200);
    assert_eq!(read.text(), "one\ntwo\nthree\n");
    let etag = read.header("etag").expect("a file has an ETag").to_owned();

    // Somebody else writes; then what was made of the first version is merged, not put in its place.
    project.put("a/b.txt", "one\ntwo\nthree\nfour\n");
    project
        .file("a/b.txt")
        .method("PUT")
        .header("if-match", &etag)
        .body("zero\none\ntwo\nthree\n")
        .ok();
    assert_eq!(
        project.text("a/b.txt").unwrap(),
        "zero\none\ntwo\nthree\nfour\n"
    );

    let unknown = format!("\"{}\"", "0".repeat(64));
    project
        .file("a/b.txt")
        .method("PUT")
        .header("if-match", &unknown)
        .body("x")
        .problem(412);
    project
        .file("a/b.txt")
        .method("DELETE")
        .header("if-match", &etag)
        .problem(412);
    let etag = project
        .file("a/b.txt")
        .send()
        .header("etag")
        .expect("a file has an ETag")
        .to_owned();
    project
        .file("a/b.txt")
        .method("DELETE")
        .header("if-match", &etag)
        .ok();
    project.file("a/b.txt").problem(404);
    project.file("a/b.txt").method("DELETE").problem(404);
}

#[test]
fn files_by_path_keep_every_byte_and_every_name() {
    let server = Server::start();
    let project = server.project();
    let files: [(&str, &[u8]); 5] = [
        ("a name with 100% & ä", b"name\n"),
        ("binary", b"\xff\xfe\0\x80"),
        ("crlf.txt", b"\xef\xbb\xbfone\r\ntwo"),
        ("dür/t?ef.txt", b"deep\n"),
        ("empty", b""),
    ];
    for (path, bytes) in files {
        project.put(path, bytes);
    }
    for (path, bytes) in files {
        assert_eq!(project.read(path).unwrap(), bytes, "{path}");
    }
    let manifest = project.manifest().unwrap();
    let names: Vec<_> = manifest
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(names, files.map(|(path, _)| path));
}

#[test]
fn the_archive_is_a_zip_of_the_tree() {
    let server = Server::start();
    let project = server.project();
    project.put("src/a.txt", "text\n");
    project.put("b.bin", b"\0\x01".to_vec());
    let archive = project.curl("/archive").expect(200);

    let directory = Workspace::new(&project);
    directory.write("tree.zip", &archive.body);
    Running::start(&mut directory.bash("unzip -q tree.zip && rm tree.zip"))
        .wait()
        .expect_code(0);
    directory.equals(&project).unwrap();
}

#[test]
fn says_that_it_is_alive_and_ready() {
    let server = Server::start();
    for path in ["/healthz", "/readyz"] {
        Curl::without_token(format!("{}{path}", server.url)).expect(200);
    }
}

#[test]
fn what_is_not_there_is_a_clear_error() {
    let server = Server::start();
    let project = server.project();
    server.curl("/api/no-such-thing").problem(404);
    project.file("none.txt").problem(404);
    project.curl("").method("POST").body("x").problem(405);
    server
        .curl("/api/projects")
        .method("POST")
        .body("{not json")
        .problem(400);
}

#[test]
fn sigterm_stops_the_server_in_good_order() {
    let mut server = Server::start();
    let project = server.project();
    project.put("a.txt", "kept\n");
    let document = project.document("a.txt");
    let mut client = Node::client(&project);
    client.call("open", json!({"document": document}));
    client.call(
        "insert",
        json!({"document": document, "at": 0, "text": "all of it "}),
    );
    client.call("waitSaved", json!({"document": document}));
    server.terminate().expect_code(0);
    server.restart();
    assert_eq!(project.text("a.txt").unwrap(), "all of it kept\n");
}
