//! A server in this process, and requests that say exactly what they are told to.

use std::error::Error;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use bytes::Bytes;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sync_server::{Config, Running, Server};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// A server over a directory of its own. It stops when it is dropped.
pub struct TestServer {
    pub running: Running,
    pub admin: String,
    _data: TempDir,
}

/// Where to send requests, and with which token.
#[derive(Clone)]
pub struct Client {
    address: SocketAddr,
    token: Option<String>,
}

/// A request that is being made.
pub struct Call {
    client: Client,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Body,
}

/// What is coming back.
pub struct Open {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Body,
    connection: JoinHandle<hyper::Result<()>>,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl TestServer {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut config = Config::local(data.path());
        change(&mut config);
        let running = Server::start(config).await.unwrap();
        let admin = running.admin_token().reveal();
        Self {
            running,
            admin,
            _data: data,
        }
    }

    /// With the server's admin token.
    pub fn admin(&self) -> Client {
        self.with(&self.admin)
    }

    pub fn with(&self, token: &str) -> Client {
        Client::new(self.running.address(), Some(token))
    }

    pub fn without_token(&self) -> Client {
        Client::new(self.running.address(), None)
    }

    /// A new project.
    pub async fn project(&self, id: &str) {
        let made = self
            .admin()
            .post("/api/projects")
            .json(json!({ "id": id }))
            .await;
        assert_eq!(made.status, 201, "{made:?}");
    }

    /// Writes a text file, and gives the name of its document.
    pub async fn text(&self, project: &str, path: &str, content: impl Into<Bytes>) -> String {
        let file = format!("/api/projects/{project}/files/{path}");
        let put = self.admin().put(&file).bytes(content).await.value();
        format!("{project}/{}", put["doc"].as_str().unwrap())
    }

    /// An admin token of a project whose time is over.
    pub async fn expired(&self, project: &str) -> String {
        let wanted = json!({ "project": project, "access": "admin", "expiresIn": 1 });
        let minted = self.admin().post("/api/tokens").json(wanted).await.value();
        let token = minted["token"].as_str().unwrap().to_owned();
        eventually("a token expires", || async {
            self.with(&token)
                .get("/api/tokens/self")
                .send()
                .await
                .status
                == 401
        })
        .await;
        token
    }

    /// A new token of a project.
    pub async fn token(&self, project: &str, access: &str) -> String {
        let wanted = json!({ "project": project, "access": access });
        let minted = self.admin().post("/api/tokens").json(wanted).await;
        assert_eq!(minted.status, 201, "{minted:?}");
        minted.value()["token"].as_str().unwrap().to_owned()
    }
}

impl Client {
    pub fn new(address: SocketAddr, token: Option<&str>) -> Self {
        Self {
            address,
            token: token.map(str::to_owned),
        }
    }

    pub fn get(&self, path: &str) -> Call {
        self.call("GET", path)
    }

    pub fn post(&self, path: &str) -> Call {
        self.call("POST", path)
    }

    pub fn put(&self, path: &str) -> Call {
        self.call("PUT", path)
    }

    pub fn patch(&self, path: &str) -> Call {
        self.call("PATCH", path)
    }

    pub fn delete(&self, path: &str) -> Call {
        self.call("DELETE", path)
    }

    /// The path goes out as it is given.
    pub fn call(&self, method: &str, path: &str) -> Call {
        Call {
            client: self.clone(),
            method: method.parse().unwrap(),
            path: path.to_owned(),
            headers: HeaderMap::new(),
            body: Body::empty(),
        }
    }

    /// Stores bytes and gives their hash.
    pub async fn upload(&self, project: &str, bytes: impl Into<Bytes>) -> String {
        let stored = self
            .post(&format!("/api/blobs?project={project}"))
            .bytes(bytes)
            .await;
        assert_eq!(stored.status, 201, "{stored:?}");
        stored.value()["hash"].as_str().unwrap().to_owned()
    }
}

impl Call {
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name: HeaderName = name.parse().unwrap();
        self.headers
            .append(name, HeaderValue::from_str(value).unwrap());
        self
    }

    pub async fn bytes(self, bytes: impl Into<Bytes>) -> Answer {
        self.with(bytes).send().await
    }

    pub fn with(mut self, bytes: impl Into<Bytes>) -> Self {
        self.body = Body::from(bytes.into());
        self
    }

    pub async fn body(mut self, body: Body) -> Answer {
        self.body = body;
        self.send().await
    }

    pub async fn json(self, value: Value) -> Answer {
        self.bytes(value.to_string()).await
    }

    /// On a connection of its own.
    pub async fn send(self) -> Answer {
        self.try_send().await.unwrap()
    }

    /// The same with a server that may go away.
    pub async fn try_send(self) -> Result<Answer, Box<dyn Error + Send + Sync>> {
        self.open().await?.whole().await
    }

    /// The answer without its body, which may have no end.
    pub async fn begin(self) -> Answer {
        let open = self.open().await.unwrap();
        if open.status >= 300 {
            return open.whole().await.unwrap();
        }
        open.connection.abort();
        Answer {
            status: open.status,
            headers: open.headers,
            body: Bytes::new(),
        }
    }

    /// The beginning of an answer.
    pub async fn open(self) -> Result<Open, Box<dyn Error + Send + Sync>> {
        let stream = TcpStream::connect(self.client.address).await?;
        let io = TokioIo::new(stream);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
        let connection = tokio::spawn(connection);
        let mut request = Request::builder().method(self.method).uri(&self.path);
        request = request.header("host", "test");
        if let Some(token) = &self.client.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let mut request = request.body(self.body).unwrap();
        request.headers_mut().extend(self.headers);
        let (parts, body) = sender.send_request(request).await?.into_parts();
        Ok(Open {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: Body::new(body),
            connection,
        })
    }
}

impl Open {
    async fn whole(self) -> Result<Answer, Box<dyn Error + Send + Sync>> {
        let body = to_bytes(self.body, usize::MAX).await?;
        self.connection.abort();
        Ok(Answer {
            status: self.status,
            headers: self.headers,
            body,
        })
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Expects a problem of this status that says so, and gives its detail.
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{self:?}"
        );
        let problem = self.value();
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], "about:blank");
        let title = StatusCode::from_u16(status).unwrap().canonical_reason();
        assert_eq!(problem["title"].as_str(), title);
        problem["detail"].as_str().unwrap().to_owned()
    }
}

/// Asks until the answer is yes.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !ask().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
