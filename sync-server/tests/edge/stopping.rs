//! A server that stops lets go of everything.

use serde_json::json;
use sync_server::{Config, Server};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::client::Client;

#[tokio::test(flavor = "multi_thread")]
async fn the_next_one_begins_where_it_ended_whoever_was_still_connected() {
    let data = tempfile::tempdir().unwrap();
    let mut uploads = Vec::new();
    for round in 0..3 {
        let server = Server::start(Config::local(data.path())).await.unwrap();
        let token = server.admin_token().reveal();
        let client = Client::new(server.address(), Some(&token));
        if round == 0 {
            let made = client
                .post("/api/projects")
                .json(json!({ "id": "p" }))
                .await;
            assert_eq!(made.status, 201);
        } else {
            let read = client.get("/api/projects/p/files/a").send().await;
            assert_eq!(read.body, format!("{}", round - 1));
        }
        let put = client
            .put("/api/projects/p/files/a")
            .bytes(round.to_string());
        assert_eq!(put.await.status, 200);
        let head = format!(
            "POST /api/blobs?project=p HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token}\r\n\
             Content-Length: 1000000\r\n\r\n"
        );
        let mut upload = TcpStream::connect(server.address()).await.unwrap();
        upload.write_all(head.as_bytes()).await.unwrap();
        upload.write_all(&[0; 100_000]).await.unwrap();
        uploads.push(upload);
        // Accepted after it.
        assert_eq!(client.get("/healthz").send().await.status, 200);
        server.stop().await;
        let incoming = std::fs::read_dir(data.path().join("blobs/incoming")).unwrap();
        assert_eq!(incoming.count(), 0, "half an upload is left");
    }
}
