//! The one table from what went wrong to what a client sees: HTTP status, close code, words.

use axum::http::StatusCode;
use uspark_shared::id::IdError;
use uspark_shared::path::PathError;
use uspark_shared::replica::ReplicaError;

use crate::access::{self, TokenError};
use crate::blobs::BlobError;
use crate::store::{CommitError, Refused, StoreError};

/// A request, a message or a document that the server will not serve. Nobody else names a status
/// or a close code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No token, or one that is wrong, expired or revoked.
    #[error("the token is missing, wrong, expired or revoked")]
    Unauthorised,
    /// The token is good, but not for this.
    #[error("this token does not allow that: {0} access is needed")]
    Forbidden(&'static str),
    /// Not there, or not for this token to know of.
    #[error("there is no {0} here")]
    NotFound(&'static str),
    /// It is there already.
    #[error("{0} exists already")]
    Exists(String),
    /// A link or a directory, where the bytes of a file were wanted.
    #[error("{0}")]
    NoFile(String),
    /// The address is right, the method is not.
    #[error("this address does not take that method")]
    Method,
    /// What was sent cannot be understood.
    #[error("{0}")]
    Malformed(String),
    /// What was sent is longer than allowed.
    #[error("too large: at most {0} bytes are taken")]
    TooLarge(u64),
    /// The condition of the request does not hold.
    #[error("{0}")]
    Precondition(String),
    /// The asked range is not in the blob.
    #[error("the range does not lie in the {0} bytes")]
    Range(u64),
    /// The server is stopping, or its storage is in trouble: come back.
    #[error("{0}")]
    Unavailable(String),
    /// More than one may have or ask at a time.
    #[error("{what}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// Seconds after which to come back.
        retry_after: u64,
    },
    /// A mistake of the server's own.
    #[error("an internal error; the server's log says more")]
    Internal,
}

impl Refusal {
    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Unauthorised => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Exists(_) | Self::NoFile(_) => StatusCode::CONFLICT,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Precondition(_) => StatusCode::PRECONDITION_FAILED,
            Self::Range(_) => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The close code of a socket. 44xx: do not come back as you are; anything else: come back.
    pub fn close_code(&self) -> u16 {
        match self {
            Self::Unauthorised => 4401,
            Self::Forbidden(_) => 4403,
            Self::NotFound(_) => 4404,
            Self::Exists(_)
            | Self::NoFile(_)
            | Self::Method
            | Self::Malformed(_)
            | Self::Precondition(_)
            | Self::Range(_) => 4400,
            Self::TooLarge(_) => 4413,
            Self::Unavailable(_) | Self::TooMany { .. } => 1013,
            Self::Internal => 1011,
        }
    }

    /// Whether coming back as one is, is of no use.
    pub fn is_final(&self) -> bool {
        (4400..4500).contains(&self.close_code())
    }

    /// Seconds after which to come back, where coming back is of use.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Unavailable(_) => Some(1),
            Self::TooMany { retry_after, .. } => Some(*retry_after),
            _ => None,
        }
    }

    /// What the person on the other end can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unauthorised => {
                Some("send `Authorization: Bearer uspk_…`; `uspark auth login --token …` keeps one")
            }
            Self::Forbidden(_) => Some("ask an administrator for a token with that access"),
            Self::NotFound("project") => {
                Some("check the id; `POST /api/projects` makes one, with an admin's token")
            }
            Self::NotFound("page") => Some(
                "this server was built without the page: `make page`, then build the server again",
            ),
            Self::NoFile(_) => Some("the manifest (`Accept: application/json`) says what it is"),
            Self::Unavailable(_) => Some("try again in a moment"),
            Self::TooMany { .. } => {
                Some("come back after `Retry-After` seconds; the server's operator sets the limit")
            }
            _ => None,
        }
    }
}

impl From<IdError> for Refusal {
    fn from(error: IdError) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl From<PathError> for Refusal {
    fn from(error: PathError) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl From<ReplicaError> for Refusal {
    fn from(error: ReplicaError) -> Self {
        match error {
            ReplicaError::Poisoned => Self::Internal,
            error => Self::Malformed(error.to_string()),
        }
    }
}

impl From<access::Refusal> for Refusal {
    fn from(refusal: access::Refusal) -> Self {
        match refusal {
            access::Refusal::Unknown | access::Refusal::Expired | access::Refusal::Revoked => {
                Self::Unauthorised
            }
            // Another project's token is not told whether this one exists.
            access::Refusal::OtherProject => Self::NotFound("project"),
            access::Refusal::NotServer => Self::Forbidden("the server's own"),
            access::Refusal::Access { needed, .. } => Self::Forbidden(needed.as_str()),
        }
    }
}

/// The log has the particulars: paths of the server are nobody else's business.
impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the storage is in trouble");
        let said = match error {
            StoreError::Full { .. } => "the server's disk is full",
            StoreError::ReadOnly { .. } => "the server's storage is read-only",
            _ => "the server's storage is in trouble",
        };
        Self::Unavailable(said.into())
    }
}

impl From<CommitError> for Refusal {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Refused(Refused::ProjectExists(id)) => {
                Self::Exists(format!("project `{id}`"))
            }
            CommitError::Refused(Refused::NoSuchProject(_)) => Self::NotFound("project"),
            CommitError::Refused(Refused::NoSuchToken(_)) => Self::NotFound("token"),
            CommitError::Refused(error @ Refused::LinesMissing { .. }) => {
                Self::Precondition(error.to_string())
            }
            CommitError::Refused(error) => Self::Unavailable(error.to_string()),
            CommitError::Failed(error) => (*error).clone().into(),
            CommitError::Overloaded | CommitError::Closed => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<BlobError> for Refusal {
    fn from(error: BlobError) -> Self {
        match error {
            BlobError::TooLarge { limit } => Self::TooLarge(limit),
            BlobError::WrongSize { .. } | BlobError::WrongHash { .. } => {
                Self::Malformed(error.to_string())
            }
            BlobError::Lost(_) => Self::Unavailable(error.to_string()),
            BlobError::Store(error) => error.into(),
            BlobError::Commit(error) => error.into(),
        }
    }
}

impl From<TokenError> for Refusal {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Refused(refusal) => refusal.into(),
            TokenError::Commit(error) => error.into(),
            TokenError::Store(error) => error.into(),
        }
    }
}
