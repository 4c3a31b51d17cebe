//! What the agent remembers between commands: credentials, and which project a workspace mirrors.
//!
//! Owns: the user's file ([`user`]), the workspace's file ([`workspace`]), the form of a server's
//! address ([`server`]) and of a token ([`Secret`]). Must not do: talk to a server, print, or
//! decide which of a flag, a variable and a file wins (that is `cli`'s).
//! Invariants: every file is replaced atomically and readable by its owner alone; a token never
//! appears in a `Debug` text.

pub mod authorities;
mod file;
pub mod server;
pub mod user;
pub mod workspace;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use authorities::Authorities;
pub use file::make_directory;
pub use server::ServerUrl;
pub use user::UserConfig;
pub use workspace::WorkspaceConfig;

/// Why something remembered cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file or a directory of it cannot be read or written.
    #[error("cannot {action} {path}", path = .path.display())]
    Io {
        /// What was tried: `read`, `write`, `create`.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The file holds something else than we write.
    #[error("{path} is no valid configuration", path = .path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A file that should name authorities names none that can be used.
    #[error("no authorities can be taken from {path}", path = .path.display())]
    Authorities {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        reason: Unusable,
    },
    /// There is no directory for the user's configuration.
    #[error("no directory for the configuration: neither XDG_CONFIG_HOME nor HOME names one")]
    NoHome,
}

/// What is wrong with a file, in words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(pub String);

/// A token. Shown by nobody by accident: it has no `Display`, and its `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Secret(String);

/// Why a string is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Nothing but blanks.
    #[error("the token is empty")]
    Empty,
    /// A character that no HTTP header can carry; the token is not shown.
    #[error("the token holds a blank, a control character or a character outside ASCII")]
    Character,
}

impl Secret {
    /// The token itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = SecretError;

    /// Takes a token; blanks around it (a line's end from `$(cat file)`) are dropped.
    fn from_str(s: &str) -> Result<Self, SecretError> {
        let token = s.trim();
        if token.is_empty() {
            return Err(SecretError::Empty);
        }
        if !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(SecretError::Character);
        }
        Ok(Self(token.to_owned()))
    }
}

impl TryFrom<String> for Secret {
    type Error = SecretError;

    fn try_from(s: String) -> Result<Self, SecretError> {
        s.parse()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_trimmed_checked_and_never_shown() {
        let token: Secret = " uspk_id_abc\n".parse().unwrap();
        assert_eq!(token.expose(), "uspk_id_abc");
        assert_eq!(format!("{token:?}"), "Secret(..)");
        assert_eq!("\t ".parse::<Secret>(), Err(SecretError::Empty));
        for bad in ["a b", "a\nb", "tökén", "a\0"] {
            assert_eq!(
                bad.parse::<Secret>(),
                Err(SecretError::Character),
                "{bad:?}"
            );
        }
    }
}
