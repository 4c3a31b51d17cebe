//! Who may do what: tokens, and the grants that the rest of the server holds.
//!
//! Owns: what a token looks like, how it is checked, and what it allows. Must not do: name an HTTP
//! status or a close code, read a clock.
//!
//! Invariants:
//! - A grant reaches its project, its verbs and its time, and nothing else.
//! - Only a digest of a secret is stored; secrets are compared in constant time, and an unknown
//!   token is refused by the same path as a wrong secret.
//! - From a revocation on no new grant is given, and every holder of an old one is told.

mod token;
mod tokens;
mod usage;

use std::fmt;
use std::str::FromStr;

use uspark_shared::id::ProjectId;

pub use token::{Token, TokenFormatError, TokenId, TokenRecord};
pub use tokens::{NewToken, TokenError, Tokens};
pub use usage::{SocketPlace, Usage, UsageLimits};

/// What a token allows; each level includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// See everything of the project.
    Read,
    /// Also change its documents, files and blobs.
    Write,
    /// Also its tokens, the project itself and the audit log.
    Admin,
}

/// A string that names no level of access.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no access: `read`, `write` or `admin`")]
pub struct AccessFormatError(String);

/// Where a token is valid.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TokenScope {
    /// In one project.
    Project(ProjectId),
    /// Everywhere: the server's own tokens.
    Server,
}

/// What a verified token allows; held by a request or a socket instead of the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The token it came from.
    pub token_id: TokenId,
    /// What people call it.
    pub name: Option<String>,
    /// Where it is valid.
    pub scope: TokenScope,
    /// What it allows there.
    pub access: Access,
    /// From when on it is no longer valid, in ms since 1970.
    pub expires_at: Option<u64>,
}

/// Why something is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such token; also said of a wrong secret and of what is no token at all.
    #[error("the token is not valid")]
    Unknown,
    /// It was valid once.
    #[error("the token has expired")]
    Expired,
    /// Somebody took it back.
    #[error("the token was revoked")]
    Revoked,
    /// It is for one project, and not for this.
    #[error("the token is for another project")]
    OtherProject,
    /// It is for one project, and this concerns the server.
    #[error("this needs a token of the server itself")]
    NotServer,
    /// It allows less.
    #[error("this needs {needed} access, the token allows {held}")]
    Access {
        /// What it would take.
        needed: Access,
        /// What the token has.
        held: Access,
    },
}

impl Grant {
    /// Whether it allows `access` in `project`. Its time is another question: [`Grant::check_time`].
    pub fn allows(&self, project: &ProjectId, access: Access) -> Result<(), Refusal> {
        match &self.scope {
            TokenScope::Project(own) if own != project => Err(Refusal::OtherProject),
            _ => self.allows_access(access),
        }
    }

    /// Whether it allows `access` in what belongs to no project.
    pub fn allows_server(&self, access: Access) -> Result<(), Refusal> {
        match &self.scope {
            TokenScope::Project(_) => Err(Refusal::NotServer),
            TokenScope::Server => self.allows_access(access),
        }
    }

    /// Whether its time has not run out at `now`.
    pub fn check_time(&self, now: u64) -> Result<(), Refusal> {
        match self.expires_at {
            Some(end) if end <= now => Err(Refusal::Expired),
            _ => Ok(()),
        }
    }

    fn allows_access(&self, needed: Access) -> Result<(), Refusal> {
        if self.access >= needed {
            Ok(())
        } else {
            Err(Refusal::Access {
                needed,
                held: self.access,
            })
        }
    }
}

impl Access {
    /// Its name on the wire and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Access {
    type Err = AccessFormatError;

    fn from_str(s: &str) -> Result<Self, AccessFormatError> {
        match s {
            "read" => Ok(Self::Read),
            "write" => Ok(Self::Write),
            "admin" => Ok(Self::Admin),
            other => Err(AccessFormatError(other.chars().take(32).collect())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(scope: TokenScope, access: Access) -> Grant {
        let token_id = "abcdefghijkl".parse().unwrap();
        Grant {
            token_id,
            name: None,
            scope,
            access,
            expires_at: Some(100),
        }
    }

    #[test]
    fn a_grant_reaches_its_project_and_its_verbs() {
        use Access::{Admin, Read, Write};
        let (own, other): (ProjectId, ProjectId) = ("own".parse().unwrap(), "x".parse().unwrap());
        for held in [Read, Write, Admin] {
            let project = grant(TokenScope::Project(own.clone()), held);
            let server = grant(TokenScope::Server, held);
            for needed in [Read, Write, Admin] {
                let expected = if (needed as u8) <= (held as u8) {
                    Ok(())
                } else {
                    Err(Refusal::Access { needed, held })
                };
                assert_eq!(project.allows(&own, needed), expected);
                assert_eq!(project.allows(&other, needed), Err(Refusal::OtherProject));
                assert_eq!(project.allows_server(needed), Err(Refusal::NotServer));
                assert_eq!(server.allows(&own, needed), expected);
                assert_eq!(server.allows_server(needed), expected);
            }
        }
    }

    #[test]
    fn a_grant_ends_at_its_time() {
        let grant = grant(TokenScope::Server, Access::Read);
        assert_eq!(grant.check_time(99), Ok(()));
        assert_eq!(grant.check_time(100), Err(Refusal::Expired));
        assert_eq!(
            Grant {
                expires_at: None,
                ..grant
            }
            .check_time(u64::MAX),
            Ok(())
        );
    }

    #[test]
    fn access_survives_its_text() {
        for access in [Access::Read, Access::Write, Access::Admin] {
            assert_eq!(access.as_str().parse(), Ok(access));
        }
        assert!("Admin".parse::<Access>().is_err());
    }
}
