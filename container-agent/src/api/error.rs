//! Why a call did not do what it should, and what the server said about it.

use std::error::Error;
use std::io;

use serde::Deserialize;

use crate::config::ServerUrl;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The request or its answer did not get through.
    #[error("cannot reach the server {server}")]
    Request {
        /// Which server.
        server: String,
        /// Why, without the address.
        source: reqwest::Error,
    },
    /// The server is there and says nothing.
    #[error("the server {server} did not answer for {seconds} s")]
    Silent {
        /// Which server.
        server: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The server answered that it will not.
    #[error("{detail}")]
    Refused {
        /// Which kind of refusal.
        refusal: Refusal,
        /// What the server says, or what its status means.
        detail: String,
        /// What it says to do about it.
        hint: Option<String>,
    },
    /// The answer is not what the call promises: perhaps this is another program's server.
    #[error("the server {server} answered what it should not: {reason}")]
    Malformed {
        /// Which server.
        server: String,
        /// What is wrong.
        reason: String,
    },
}

/// What kind of refusal an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The token is unknown, expired or revoked: 401.
    Unauthorised,
    /// The token is not for this: 403.
    Forbidden,
    /// There is no such project, blob or call: 404.
    NotFound,
    /// The body is too large: 413.
    TooLarge,
    /// The server cannot now and may later: 408, 429 and 5xx.
    Later,
    /// Anything else.
    Other(u16),
}

impl ApiError {
    /// The kind of refusal, if the server refused.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Refused { refusal, .. } => Some(*refusal),
            _ => None,
        }
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Request { source, .. } => !source.is_builder(),
            Self::Silent { .. } => true,
            Self::Refused { refusal, .. } => *refusal == Refusal::Later,
            Self::Malformed { .. } => false,
        }
    }

    /// Whether the server's certificate was not accepted.
    pub fn is_untrusted(&self) -> bool {
        matches!(self.tls(), Some(rustls::Error::InvalidCertificate(_)))
    }

    /// Whether what the server speaks is not TLS.
    pub fn is_plain(&self) -> bool {
        matches!(self.tls(), Some(rustls::Error::InvalidMessage(_)))
    }

    /// Why there is no TLS with the server, if that is why.
    fn tls(&self) -> Option<&rustls::Error> {
        let mut next = self.source();
        while let Some(error) = next {
            if let Some(error) = error.downcast_ref() {
                return Some(error);
            }
            // An I/O error gives what it wraps as no source of its own.
            let wrapped = error.downcast_ref().and_then(io::Error::get_ref);
            next = match wrapped {
                Some(wrapped) => Some(wrapped),
                None => error.source(),
            };
        }
        None
    }

    /// The innermost cause, where libraries put the part that people understand.
    pub fn cause(&self) -> Option<String> {
        let mut cause = self.source()?;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        Some(cause.to_string())
    }
}

/// The body of an error, RFC 9457.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Problem {
    title: String,
    detail: String,
    hint: Option<String>,
}

/// Reads a refusal from its status and body; a body that is no problem document adds nothing.
pub(super) fn refused(
    server: &ServerUrl,
    status: u16,
    redirect: Option<String>,
    body: &[u8],
) -> ApiError {
    let problem: Problem = serde_json::from_slice(body).unwrap_or_default();
    let refusal = match status {
        401 => Refusal::Unauthorised,
        403 => Refusal::Forbidden,
        404 => Refusal::NotFound,
        413 => Refusal::TooLarge,
        408 | 429 | 500..=599 => Refusal::Later,
        other => Refusal::Other(other),
    };
    let said = [problem.detail, problem.title]
        .into_iter()
        .find(|text| !text.is_empty())
        .unwrap_or_else(|| format!("status {status}"));
    let hint = problem
        .hint
        .or_else(|| redirect.map(|to| format!("it redirects to {to}: name that server instead")));
    ApiError::Refused {
        refusal,
        detail: format!("the server {server} refused: {said}"),
        hint,
    }
}
