//! What stands in the project document: `files` (path -> entry) and `texts` (document -> settled
//! content). Values come from strangers, so each is parsed before anyone believes it.

use serde_json::{Map, Value, json};

use crate::id::{BlobHash, DocId};

/// Name of the map from path to entry.
pub const FILES: &str = "files";
/// Name of the map from text document to its settled content. Only the server writes it.
pub const TEXTS: &str = "texts";
/// Name of the one `Y.Text` in a text document.
pub const CONTENT: &str = "content";

/// Permission bits of a file nobody said otherwise of: `rw-r--r--`.
pub const DEFAULT_MODE: u32 = 0o644;
/// Longest target of a symbolic link, in bytes (Linux' `PATH_MAX`).
const MAX_LINK_BYTES: usize = 4096;
/// Largest integer that survives JavaScript.
const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// One path of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A text file: its content is the text document `doc`, first made from the blob `seed`.
    Text {
        /// The text document. Never changes hands between two paths.
        doc: DocId,
        /// The content the document began with.
        seed: BlobHash,
        /// Permission bits.
        mode: u32,
        /// Milliseconds since 1970.
        mtime: u64,
    },
    /// A binary file, or one too large to be text.
    Blob {
        /// The content.
        hash: BlobHash,
        /// Bytes.
        size: u64,
        /// Permission bits.
        mode: u32,
        /// Milliseconds since 1970.
        mtime: u64,
    },
    /// A symbolic link.
    Link {
        /// Where it points, exactly as on disk.
        target: String,
    },
    /// An empty directory.
    Dir,
    /// What a client of the original protocol sets. The server replaces it with one of the others.
    Original {
        /// The content.
        hash: BlobHash,
        /// Milliseconds since 1970.
        mtime: u64,
    },
}

/// The settled content of a text document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextVersion {
    /// The content as a blob.
    pub hash: BlobHash,
    /// Bytes.
    pub size: u64,
    /// Milliseconds since 1970.
    pub mtime: u64,
}

/// Why a value is no entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Not a JSON object, or none of the known forms.
    #[error("not an entry: expected an object with `doc`, `hash`, `link` or `dir`")]
    Form,
    /// A field is missing or of the wrong type or range.
    #[error("field `{0}` is missing or wrong")]
    Field(&'static str),
}

impl Entry {
    /// Reads a value of `files`.
    pub fn from_json(value: &Value) -> Result<Self, EntryError> {
        let object = value.as_object().ok_or(EntryError::Form)?;
        if object.contains_key("doc") {
            return Ok(Self::Text {
                doc: text(object, "doc")?,
                seed: text(object, "seed")?,
                mode: mode(object)?,
                mtime: number(object, "mtime")?,
            });
        }
        if object.contains_key("hash") {
            let hash = text(object, "hash")?;
            let mtime = number(object, "mtime")?;
            if !object.contains_key("size") {
                return Ok(Self::Original { hash, mtime });
            }
            return Ok(Self::Blob {
                hash,
                size: number(object, "size")?,
                mode: mode(object)?,
                mtime,
            });
        }
        if let Some(target) = object.get("link") {
            let target = target.as_str().ok_or(EntryError::Field("link"))?;
            if target.is_empty() || target.len() > MAX_LINK_BYTES || target.contains('\0') {
                return Err(EntryError::Field("link"));
            }
            return Ok(Self::Link {
                target: target.into(),
            });
        }
        match object.get("dir") {
            Some(Value::Bool(true)) => Ok(Self::Dir),
            Some(_) => Err(EntryError::Field("dir")),
            None => Err(EntryError::Form),
        }
    }

    /// The value to set in `files`.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Text {
                doc,
                seed,
                mode,
                mtime,
            } => json!({ "doc": doc, "seed": seed, "mode": mode, "mtime": mtime }),
            Self::Blob {
                hash,
                size,
                mode,
                mtime,
            } => json!({ "hash": hash, "size": size, "mode": mode, "mtime": mtime }),
            Self::Link { target } => json!({ "link": target }),
            Self::Dir => json!({ "dir": true }),
            Self::Original { hash, mtime } => json!({ "hash": hash, "mtime": mtime }),
        }
    }

    /// The text document, if it is a text.
    pub fn doc(&self) -> Option<&DocId> {
        match self {
            Self::Text { doc, .. } => Some(doc),
            _ => None,
        }
    }

    /// The blob that must be there before the entry can be put on a disk.
    pub fn blob(&self) -> Option<&BlobHash> {
        match self {
            Self::Text { seed: hash, .. }
            | Self::Blob { hash, .. }
            | Self::Original { hash, .. } => Some(hash),
            Self::Link { .. } | Self::Dir => None,
        }
    }
}

impl TextVersion {
    /// Reads a value of `texts`.
    pub fn from_json(value: &Value) -> Result<Self, EntryError> {
        let object = value.as_object().ok_or(EntryError::Form)?;
        Ok(Self {
            hash: text(object, "hash")?,
            size: number(object, "size")?,
            mtime: number(object, "mtime")?,
        })
    }

    /// The value to set in `texts`.
    pub fn to_json(&self) -> Value {
        json!({ "hash": self.hash, "size": self.size, "mtime": self.mtime })
    }
}

fn text<T: std::str::FromStr>(
    object: &Map<String, Value>,
    field: &'static str,
) -> Result<T, EntryError> {
    let value = object.get(field).and_then(Value::as_str);
    value
        .and_then(|s| s.parse().ok())
        .ok_or(EntryError::Field(field))
}

/// A whole number; JavaScript writes large ones as floats.
fn number(object: &Map<String, Value>, field: &'static str) -> Result<u64, EntryError> {
    let value = object.get(field).ok_or(EntryError::Field(field))?;
    let whole = value.as_u64().or_else(|| {
        let float = value.as_f64()?;
        let fits = float.fract() == 0.0 && (0.0..=MAX_SAFE_INTEGER as f64).contains(&float);
        fits.then_some(float as u64)
    });
    whole
        .filter(|n| *n <= MAX_SAFE_INTEGER)
        .ok_or(EntryError::Field(field))
}

fn mode(object: &Map<String, Value>) -> Result<u32, EntryError> {
    let mode = number(object, "mode")?;
    u32::try_from(mode)
        .ok()
        .filter(|mode| *mode <= 0o7777)
        .ok_or(EntryError::Field("mode"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash() -> BlobHash {
        BlobHash::of(b"x")
    }

    #[test]
    fn entries_survive_their_json() {
        let (mode, mtime) = (0o755, 1_732_166_400_123);
        let entries = [
            Entry::Text {
                doc: "d".parse().unwrap(),
                seed: hash(),
                mode,
                mtime,
            },
            Entry::Blob {
                hash: hash(),
                size: 5_000_000_000,
                mode,
                mtime,
            },
            Entry::Link {
                target: "../x".into(),
            },
            Entry::Dir,
            Entry::Original {
                hash: hash(),
                mtime,
            },
        ];
        for entry in entries {
            assert_eq!(Entry::from_json(&entry.to_json()), Ok(entry));
        }
    }

    #[test]
    fn javascript_numbers_are_numbers() {
        let value = json!({ "hash": hash(), "mtime": 1732166400123.0 });
        let mtime = 1_732_166_400_123;
        assert_eq!(
            Entry::from_json(&value),
            Ok(Entry::Original {
                hash: hash(),
                mtime
            })
        );
    }

    #[test]
    fn what_is_no_entry_is_refused() {
        let good = json!({ "doc": "d", "seed": hash(), "mode": 420, "mtime": 1 });
        let with = |field: &str, value: Value| {
            let mut entry = good.clone();
            entry[field] = value;
            entry
        };
        for bad in [
            json!(null),
            json!([]),
            json!("x"),
            json!({}),
            json!({ "dir": false }),
            json!({ "link": "" }),
            json!({ "link": "a\0b" }),
            json!({ "hash": "xyz", "mtime": 1 }),
            json!({ "hash": hash() }),
            with("doc", json!("../x")),
            with("seed", json!(1)),
            with("mode", json!(-1)),
            with("mode", json!(0o10000)),
            with("mtime", json!(1.5)),
            with("mtime", json!(1e300)),
            with("mtime", json!("1")),
        ] {
            assert!(Entry::from_json(&bad).is_err(), "{bad}");
        }
    }
}
