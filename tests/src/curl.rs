//! HTTP by the real `curl`.

use std::{collections::BTreeMap, fmt, process::Command};

use anyhow::Context;
use serde_json::{Value, json};

use crate::process::run;

/// One request.
pub struct Curl {
    command: Command,
    url: String,
    body: Vec<u8>,
}

impl Curl {
    /// A GET of `url`, with a bearer token.
    pub fn new(url: String, token: &str) -> Self {
        Self::without_token(url).header("authorization", &format!("Bearer {token}"))
    }

    /// A GET of `url`, without any token.
    pub fn without_token(url: String) -> Self {
        let mut command = Command::new("curl");
        // Headers go to stderr, so that a body of any bytes stands alone on stdout.
        command.args([
            "--silent",
            "--show-error",
            "--path-as-is",
            "--globoff",
            "--max-time",
            "60",
        ]);
        command.args(["--dump-header", "/dev/stderr"]);
        Self {
            command,
            url,
            body: Vec::new(),
        }
    }

    /// Uses another method.
    pub fn method(self, method: &str) -> Self {
        self.args(&["--request", method])
    }

    /// Adds a header.
    pub fn header(self, name: &str, value: &str) -> Self {
        self.args(&["--header", &format!("{name}: {value}")])
    }

    /// Adds arguments for curl.
    pub fn args(mut self, args: &[&str]) -> Self {
        self.command.args(args);
        self
    }

    /// Sends these bytes.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.args(&["--data-binary", "@-"])
            .header("content-type", "application/octet-stream")
    }

    /// Sends a JSON value.
    pub fn json(mut self, body: &Value) -> Self {
        self.body = body.to_string().into_bytes();
        self.args(&["--data-binary", "@-"])
            .header("content-type", "application/json")
    }

    /// Sends the request; panics when no answer comes.
    #[track_caller]
    pub fn send(self) -> Reply {
        self.try_send().unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Sends the request; panics unless it succeeds.
    #[track_caller]
    pub fn ok(self) -> Reply {
        let reply = self.send();
        assert!((200..300).contains(&reply.status), "{reply}");
        reply
    }

    /// Sends the request; panics unless the status of the answer is `status`.
    #[track_caller]
    pub fn expect(self, status: u16) -> Reply {
        let reply = self.send();
        assert_eq!(reply.status, status, "{reply}");
        reply
    }

    /// Sends the request; panics unless it is refused as [`Reply::problem`] has it.
    #[track_caller]
    pub fn problem(self, status: u16) -> String {
        self.send().problem(status)
    }

    /// Sends the request; an error when no answer comes, as while the server is away.
    pub fn try_send(mut self) -> anyhow::Result<Reply> {
        let ended = run(self.command.arg(&self.url), &self.body);
        let request = self
            .command
            .get_args()
            .map(|arg| arg.to_string_lossy())
            .collect::<Vec<_>>()
            .join(" ");
        let (status, headers) = last_head(&ended.stderr)
            .with_context(|| format!("no answer to curl {request}\n{ended}"))?;
        Ok(Reply {
            request,
            status,
            headers,
            body: ended.stdout,
        })
    }
}

/// An answer.
pub struct Reply {
    request: String,
    /// The status code.
    pub status: u16,
    headers: BTreeMap<String, String>,
    /// The body, byte for byte.
    pub body: Vec<u8>,
}

impl Reply {
    /// Panics unless this is a clear error as RFC 9457 has it, with this status; returns its detail.
    #[track_caller]
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self}");
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{self}"
        );
        let problem = self.json();
        assert_eq!(
            (&problem["type"], &problem["status"]),
            (&json!("about:blank"), &json!(status)),
            "{self}"
        );
        for field in ["title", "detail"] {
            assert!(
                problem[field].as_str().is_some_and(|text| !text.is_empty()),
                "no {field}: {self}"
            );
        }
        problem["detail"].as_str().unwrap_or_default().to_owned()
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self}"))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} to curl {}\n{}",
            self.status,
            self.request,
            self.text()
        )
    }
}

/// The status and the headers of the last answer in curl's dump: those before it are `100 Continue`.
fn last_head(dump: &str) -> Option<(u16, BTreeMap<String, String>)> {
    let start = dump.rfind("HTTP/1.1 ")?;
    let mut lines = dump[start..].lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines.map_while(|line| line.split_once(": "));
    Some((
        status,
        headers
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect(),
    ))
}
