//! Names that cannot be wrong: projects, text documents, blobs.
//!
//! Each is parsed once where it enters the process; after that its form is a fact.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

/// Longest project or document id, in bytes.
pub const MAX_ID_BYTES: usize = 64;

/// Why a string is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Empty, too long, or a character outside `[A-Za-z0-9_-]`.
    #[error("`{0}` is no valid id: 1 to 64 characters of A-Z, a-z, 0-9, `_` and `-`")]
    Id(String),
    /// Not 64 lower-case hexadecimal digits.
    #[error("`{0}` is no valid hash: 64 lower-case hexadecimal digits")]
    Hash(String),
}

/// A project: the unit of sharing and of access.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProjectId(Box<str>);

/// A text document of a project. Random, never a path and never reused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DocId(Box<str>);

/// The BLAKE3 hash that names a blob.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BlobHash([u8; 32]);

/// One document of the server: a project's own, or one of its texts.
///
/// Written `{project}` or `{project}/{doc}` on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DocumentName {
    /// The project that owns the document.
    pub project: ProjectId,
    /// The text document, or `None` for the project document itself.
    pub text: Option<DocId>,
}

/// What both kinds of ids can do.
macro_rules! id {
    ($($name:ident),*) => {$(
        impl $name {
            /// Makes a fresh id from 15 random bytes, of which it uses 119 bits: it is never drawn
            /// twice, and begins with a letter. A command line takes what begins with `-` for an
            /// option.
            pub fn from_random(mut bytes: [u8; 15]) -> Self {
                bytes[0] &= 0x7f;
                Self(URL_SAFE_NO_PAD.encode(bytes).into())
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(s: &str) -> Result<Self, IdError> {
                match is_id(s) {
                    true => Ok(Self(s.into())),
                    false => Err(IdError::Id(s.into())),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}
id!(ProjectId, DocId);

impl BlobHash {
    /// Names `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The hash of no bytes at all.
    pub fn of_empty() -> Self {
        Self::of(&[])
    }

    /// Takes a finished BLAKE3 digest.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The raw digest.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl DocumentName {
    /// The project document of `project`.
    pub fn of_project(project: ProjectId) -> Self {
        Self {
            project,
            text: None,
        }
    }

    /// The text document `doc` of `project`.
    pub fn of_text(project: ProjectId, doc: DocId) -> Self {
        Self {
            project,
            text: Some(doc),
        }
    }
}

fn is_id(s: &str) -> bool {
    (1..=MAX_ID_BYTES).contains(&s.len())
        && s.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

impl FromStr for BlobHash {
    type Err = IdError;

    fn from_str(s: &str) -> Result<Self, IdError> {
        let digit = |b: u8| match b {
            b'0'..=b'9' => Some(b - b'0'),
            b'a'..=b'f' => Some(b - b'a' + 10),
            _ => None,
        };
        let wrong = || IdError::Hash(s.into());
        let text: &[u8; 64] = s.as_bytes().try_into().map_err(|_| wrong())?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            let (high, low) = (digit(pair[0]), digit(pair[1]));
            *byte = high.zip(low).map(|(h, l)| h << 4 | l).ok_or_else(wrong)?;
        }
        Ok(Self(bytes))
    }
}

impl FromStr for DocumentName {
    type Err = IdError;

    fn from_str(s: &str) -> Result<Self, IdError> {
        match s.split_once('/') {
            None => Ok(Self::of_project(s.parse()?)),
            Some((project, doc)) => Ok(Self::of_text(project.parse()?, doc.parse()?)),
        }
    }
}

impl fmt::Display for BlobHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(blake3::Hash::from_bytes(self.0).to_hex().as_str())
    }
}

impl fmt::Debug for BlobHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobHash({self})")
    }
}

impl fmt::Display for DocumentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            None => write!(f, "{}", self.project),
            Some(doc) => write!(f, "{}/{doc}", self.project),
        }
    }
}

/// Lets serde go through `FromStr` and `Display`, so that nothing is parsed twice.
macro_rules! through_string {
    ($($name:ty),*) => {$(
        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(s: String) -> Result<Self, IdError> {
                s.parse()
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }
    )*};
}
through_string!(ProjectId, DocId, BlobHash);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_take_their_alphabet_and_nothing_else() {
        for good in ["a", "A-z_0", &"x".repeat(64)] {
            assert!(good.parse::<ProjectId>().is_ok(), "{good}");
            assert!(good.parse::<DocId>().is_ok(), "{good}");
        }
        for bad in ["", "a/b", "..", "a b", "ä", &"x".repeat(65)] {
            assert!(bad.parse::<ProjectId>().is_err(), "{bad}");
            assert!(bad.parse::<DocId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_fresh_id_begins_with_a_letter() {
        for first in 0..=u8::MAX {
            let mut bytes = [0xff; 15];
            bytes[0] = first;
            let id = ProjectId::from_random(bytes);
            assert!(id.as_str().starts_with(|c: char| c.is_ascii_alphabetic()));
            assert_eq!(id.as_str().parse(), Ok(id));
        }
    }

    #[test]
    fn a_hash_survives_its_text() {
        let hash = BlobHash::of(b"hello");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        let upper = hash.to_string().to_uppercase();
        assert!(upper.parse::<BlobHash>().is_err());
        assert!("00".parse::<BlobHash>().is_err());
        assert!("é".repeat(32).parse::<BlobHash>().is_err());
    }

    #[test]
    fn a_document_name_has_one_or_two_parts() {
        for name in ["p", "p/doc"] {
            assert_eq!(name.parse::<DocumentName>().unwrap().to_string(), name);
        }
        for bad in ["", "/", "p/", "/d", "p/d/e"] {
            assert!(bad.parse::<DocumentName>().is_err(), "{bad}");
        }
    }
}
