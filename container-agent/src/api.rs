//! The server's HTTP calls that the agent makes: blobs, the project document, the token itself.
//!
//! Owns: requests, their deadlines, and what an answer means. Must not do: retry (the caller knows
//! what a retry costs), touch the disk, decide what to sync.
//! Invariants: every call ends, with a refusal, an answer or a deadline; the token goes to the
//! server's own address and nowhere else, so redirects are not followed.

mod error;
pub mod manifest;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_LENGTH, HeaderMap, RANGE};
use reqwest::{Body, Client, Method, RequestBuilder, Response, StatusCode, redirect};
use rustls::ClientConfig;
use serde::Deserialize;
use url::Url;
use uspark_shared::id::{BlobHash, ProjectId};

use self::manifest::Manifest;
use crate::config::{Authorities, Secret, ServerUrl};

pub use error::{ApiError, Refusal};

/// Time to reach the server: longer than two lost SYN packets take (1 s, then 2 s).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence while an answer is awaited or arrives; also how long sent bytes may stay
/// unacknowledged by the peer's kernel.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(30);
/// The slowest upload that is still waited for, in bytes per second.
const SLOWEST_UPLOAD: u64 = 16 * 1024;
/// Longest JSON answer: they name one token, one blob or one problem.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;
/// Longest project document: ten times what 100,000 entries take.
const MAX_PROJECT_BYTES: usize = 256 * 1024 * 1024;

/// A client of one server with one token. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Api {
    http: Client,
    server: ServerUrl,
    token: Secret,
    tls: Arc<ClientConfig>,
}

/// What the server says about the token that asks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenInfo {
    /// The token's public part.
    pub id: String,
    /// The project it is for; `None` for all of them.
    pub project: Option<ProjectId>,
    /// What it allows.
    pub access: Access,
    /// When it ends, in milliseconds since 1970; `None` for never.
    pub expires_at: Option<u64>,
}

/// What a token allows, each with what the one before allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Every GET, and joining.
    Read,
    /// Changes to files.
    Write,
    /// Tokens and the project itself.
    Admin,
}

/// The project document, or the part of it that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectUpdate {
    /// An update, encoding v1.
    pub update: Bytes,
    /// What `X-Version` named.
    pub version: Option<String>,
}

/// A blob as the server has stored it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct StoredBlob {
    /// The hash of the bytes that arrived.
    pub hash: BlobHash,
    /// How many they were.
    pub size: u64,
}

impl Api {
    /// Makes a client; nothing is sent yet.
    pub fn new(
        server: ServerUrl,
        token: Secret,
        authorities: &Authorities,
    ) -> Result<Self, ApiError> {
        let tls = tls::client_config(&server, authorities);
        let mut builder = Client::builder()
            .user_agent(concat!("uspark/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_user_timeout(SILENCE_TIMEOUT)
            .redirect(redirect::Policy::none())
            .tls_backend_preconfigured(tls.clone());
        if server.is_loopback() {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|source| ApiError::Request {
            server: server.to_string(),
            source,
        })?;
        Ok(Self {
            http,
            server,
            token,
            tls: Arc::new(tls),
        })
    }

    /// Whom the client trusts: for its sockets too.
    pub fn tls(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.tls)
    }

    /// The server that the calls go to.
    pub fn server(&self) -> &ServerUrl {
        &self.server
    }

    /// Asks what the token is for: `GET /api/tokens/self`.
    pub async fn token_info(&self) -> Result<TokenInfo, ApiError> {
        let call = self.server.call(["api", "tokens", "self"]);
        let answer = self.send(self.request(Method::GET, call)).await;
        let answer = answer.map_err(|error| match error.refusal() {
            // Every uspark server has this call.
            Some(Refusal::NotFound) => self.malformed("it has no tokens"),
            _ => error,
        })?;
        self.json(answer).await
    }

    /// Fetches the project document, or what `state_vector` lacks of it.
    pub async fn project(
        &self,
        project: &ProjectId,
        state_vector: Option<&[u8]>,
    ) -> Result<ProjectUpdate, ApiError> {
        let call = self.server.call(["api", "projects", project.as_str()]);
        let mut request = self.request(Method::GET, call);
        if let Some(state_vector) = state_vector {
            request = request.query(&[("sv", URL_SAFE_NO_PAD.encode(state_vector))]);
        }
        let answer = self.send(request).await?;
        let version = header_text(answer.headers(), "x-version");
        let update = self.body(answer, MAX_PROJECT_BYTES).await?;
        Ok(ProjectUpdate { update, version })
    }

    /// Fetches what `project` has at each path, all texts settled.
    pub async fn manifest(&self, project: &ProjectId) -> Result<Manifest, ApiError> {
        let call = self.server.call(["api", "projects", project.as_str()]);
        let request = self.request(Method::GET, call);
        let answer = self
            .send(request.header(ACCEPT, "application/json"))
            .await?;
        let body = self.body(answer, MAX_PROJECT_BYTES).await?;
        serde_json::from_slice(&body).map_err(|error| self.malformed(error))
    }

    /// Checks that the token may read `project`, without fetching it.
    pub async fn check_project(&self, project: &ProjectId) -> Result<(), ApiError> {
        let call = self.server.call(["api", "projects", project.as_str()]);
        self.send(self.request(Method::HEAD, call)).await.map(drop)
    }

    /// Stores `size` bytes as a blob of `project`; durable when this returns.
    ///
    /// The hash is the server's own: a caller whose file changed on the way finds out by it.
    pub async fn put_blob(
        &self,
        project: &ProjectId,
        body: impl Into<Body>,
        size: u64,
    ) -> Result<StoredBlob, ApiError> {
        let deadline = SILENCE_TIMEOUT + Duration::from_secs(size / SLOWEST_UPLOAD);
        let request = self
            .request(Method::POST, self.blobs_of(project, None))
            .header(CONTENT_LENGTH, size)
            .body(body)
            .timeout(deadline);
        let answer = request.send().await.map_err(|error| self.failed(error))?;
        let answer = self.accepted(answer).await?;
        self.json(answer).await
    }

    /// Adds consecutive lines of a run to the project's events, the first of which is number
    /// `from`; durable when this returns. Those that are there already are left as they are.
    pub async fn publish(
        &self,
        project: &ProjectId,
        run: &str,
        from: u64,
        lines: Bytes,
    ) -> Result<(), ApiError> {
        let call = ["api", "projects", project.as_str(), "events"];
        let deadline = SILENCE_TIMEOUT + Duration::from_secs(lines.len() as u64 / SLOWEST_UPLOAD);
        let request = self
            .request(Method::POST, self.server.call(call))
            .query(&[("run", run), ("from", &from.to_string())])
            .body(lines)
            .timeout(deadline);
        let answer = request.send().await.map_err(|error| self.failed(error))?;
        self.accepted(answer).await.map(drop)
    }

    /// Says whether `project` has the blob, and its size if so: `HEAD`.
    pub async fn blob_size(
        &self,
        project: &ProjectId,
        hash: &BlobHash,
    ) -> Result<Option<u64>, ApiError> {
        let request = self.request(Method::HEAD, self.blobs_of(project, Some(hash)));
        match self.send(request).await {
            Ok(answer) => {
                let size = header_text(answer.headers(), CONTENT_LENGTH.as_str())
                    .and_then(|text| text.parse().ok())
                    .ok_or_else(|| self.malformed("the answer names no size"))?;
                Ok(Some(size))
            }
            Err(error) if error.refusal() == Some(Refusal::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Streams a blob from byte `from` to its end. The caller checks the hash.
    pub async fn get_blob(
        &self,
        project: &ProjectId,
        hash: &BlobHash,
        from: u64,
    ) -> Result<impl Stream<Item = Result<Bytes, ApiError>> + Send + Unpin + use<>, ApiError> {
        let mut request = self
            .request(Method::GET, self.blobs_of(project, Some(hash)))
            .header(ACCEPT_ENCODING, "identity");
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        let answer = self.send(request).await?;
        if from > 0 && answer.status() != StatusCode::PARTIAL_CONTENT {
            return Err(self.malformed("a range was asked for, the whole came"));
        }
        Ok(self.clone().chunks(answer))
    }

    fn blobs_of(&self, project: &ProjectId, hash: Option<&BlobHash>) -> Url {
        let hash = hash.map(BlobHash::to_string);
        let segments = ["api", "blobs"].into_iter().chain(hash.as_deref());
        let mut call = self.server.call(segments);
        call.query_pairs_mut()
            .append_pair("project", project.as_str());
        call
    }

    fn request(&self, method: Method, call: Url) -> RequestBuilder {
        self.http
            .request(method, call)
            .bearer_auth(self.token.expose())
    }

    /// Sends a request with a small body or none, and waits for the head of a good answer.
    async fn send(&self, request: RequestBuilder) -> Result<Response, ApiError> {
        let answer = tokio::time::timeout(SILENCE_TIMEOUT, request.send())
            .await
            .map_err(|_| self.silent())?
            .map_err(|error| self.failed(error))?;
        self.accepted(answer).await
    }

    async fn accepted(&self, answer: Response) -> Result<Response, ApiError> {
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status().as_u16();
        let redirect = header_text(answer.headers(), "location");
        let body = self
            .body(answer, MAX_ANSWER_BYTES)
            .await
            .unwrap_or_default();
        Err(error::refused(&self.server, status, redirect, &body))
    }

    async fn json<T: serde::de::DeserializeOwned>(&self, answer: Response) -> Result<T, ApiError> {
        let body = self.body(answer, MAX_ANSWER_BYTES).await?;
        serde_json::from_slice(&body).map_err(|error| self.malformed(error))
    }

    async fn body(&self, answer: Response, limit: usize) -> Result<Bytes, ApiError> {
        let mut chunks = self.clone().chunks(answer);
        let mut body = Vec::new();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk?;
            if body.len() + chunk.len() > limit {
                return Err(self.malformed(format!("more than {limit} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.into())
    }

    /// The body as it arrives; a silence longer than [`SILENCE_TIMEOUT`] ends it with an error.
    fn chunks(
        self,
        answer: Response,
    ) -> impl Stream<Item = Result<Bytes, ApiError>> + Send + Unpin + use<> {
        let parts = stream::unfold((self, Some(answer)), |(api, answer)| async move {
            let mut answer = answer?;
            match tokio::time::timeout(SILENCE_TIMEOUT, answer.chunk()).await {
                Ok(Ok(Some(chunk))) => Some((Ok(chunk), (api, Some(answer)))),
                Ok(Ok(None)) => None,
                Ok(Err(error)) => Some((Err(api.failed(error)), (api, None))),
                Err(_) => Some((Err(api.silent()), (api, None))),
            }
        });
        Box::pin(parts)
    }

    fn failed(&self, source: reqwest::Error) -> ApiError {
        ApiError::Request {
            server: self.server.to_string(),
            source: source.without_url(),
        }
    }

    fn silent(&self) -> ApiError {
        ApiError::Silent {
            server: self.server.to_string(),
            seconds: SILENCE_TIMEOUT.as_secs(),
        }
    }

    fn malformed(&self, reason: impl ToString) -> ApiError {
        ApiError::Malformed {
            server: self.server.to_string(),
            reason: reason.to_string(),
        }
    }
}

fn header_text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

#[cfg(test)]
mod tests;
