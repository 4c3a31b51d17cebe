//! One block of an update: what it is made of, and how it is read.
//!
//! The form is that of Yjs' `readClientsStructRefs` and yrs' `Update::decode_block`, less what
//! only one of the two accepts.

use std::fmt;

use super::any::AnyValues;
use super::{MAX_CLOCK, ScanError, Unsupported};
use crate::codec::{DecodeError, MAX_DEPTH, Reader, check_json};

/// The position of one element: which client made it, and as its how-manieth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    /// The client, below 2^53.
    pub client: u64,
    /// Counts the client's elements from 0, at most [`MAX_CLOCK`].
    pub clock: u32,
}

/// A run of elements that one client made in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block<'a> {
    /// The first element.
    pub id: Id,
    /// How many elements, at least one; of a string, UTF-16 code units.
    pub len: u32,
    /// What they are.
    pub kind: BlockKind<'a>,
}

/// What a [`Block`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockKind<'a> {
    /// Elements that were deleted and collected: nothing is known of them.
    Gc,
    /// Elements that this update does not carry.
    Skip,
    /// Elements with a place and content.
    Item(Item<'a>),
}

/// Elements with a place and content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item<'a> {
    /// What was to the left when it was inserted.
    pub origin: Option<Id>,
    /// What was to the right when it was inserted.
    pub right_origin: Option<Id>,
    /// The shared type it is in. Only on the wire when there is neither origin nor right origin:
    /// otherwise it is theirs.
    pub parent: Option<Parent<'a>>,
    /// The key, in a map. On the wire together with `parent` only: the second value of a key has
    /// the first as its origin, and names neither.
    pub key: Option<&'a str>,
    /// What it holds.
    pub content: Content<'a>,
}

/// The shared type that an item is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parent<'a> {
    /// A root type, by its name.
    Root(&'a str),
    /// The type that this item holds.
    Item(Id),
}

/// What an [`Item`] holds; how many elements that is, is the block's `len`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content<'a> {
    /// Deleted content: only its length is left.
    Deleted,
    /// Text.
    String(&'a str),
    /// Values of a map or an array.
    Any(AnyValues<'a>),
    /// Bytes; one element.
    Binary(&'a [u8]),
    /// An object inside a text, as JSON; one element.
    Embed(&'a str),
    /// The start or the end of a formatting; one element, which no index counts.
    Format {
        /// The attribute.
        key: &'a str,
        /// Its value, as JSON; `null` ends it.
        value: &'a str,
    },
    /// A nested shared type; one element.
    Type(TypeKind<'a>),
    /// A subdocument; one element.
    Doc {
        /// Its name.
        guid: &'a str,
        /// One object of options.
        options: AnyValues<'a>,
    },
}

/// Which shared type a [`Content::Type`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TypeKind<'a> {
    /// Y.Array.
    Array,
    /// Y.Map.
    Map,
    /// Y.Text.
    Text,
    /// Y.XmlElement, with its node name.
    XmlElement(&'a str),
    /// Y.XmlFragment.
    XmlFragment,
    /// Y.XmlText.
    XmlText,
}

const INFO_GC: u8 = 0;
const INFO_SKIP: u8 = 10;
const INFO_CONTENT: u8 = 0b0001_1111;
const INFO_KEY: u8 = 0b0010_0000;
const INFO_RIGHT_ORIGIN: u8 = 0b0100_0000;
const INFO_ORIGIN: u8 = 0b1000_0000;

const MIN_VALUE_BYTES: u64 = 1;

impl Block<'_> {
    /// The element after the last one.
    pub fn end(&self) -> Id {
        Id {
            client: self.id.client,
            clock: self.id.clock + self.len,
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.client, self.clock)
    }
}

/// Reads the clock of `client`.
pub(super) fn read_clock(reader: &mut Reader<'_>, client: u64) -> Result<u32, ScanError> {
    let clock = reader.var_uint()?;
    match u32::try_from(clock) {
        Ok(clock) if clock <= MAX_CLOCK => Ok(clock),
        _ => Err(ScanError::Clock { client }),
    }
}

/// Reads a number of elements from `start` on: at least one, and not beyond [`MAX_CLOCK`].
pub(super) fn read_len(reader: &mut Reader<'_>, start: Id) -> Result<u32, ScanError> {
    checked_len(reader.var_uint()?, start)
}

fn checked_len(len: u64, start: Id) -> Result<u32, ScanError> {
    match len {
        0 => Err(ScanError::Empty(start)),
        _ if len > u64::from(MAX_CLOCK - start.clock) => Err(ScanError::Clock {
            client: start.client,
        }),
        _ => Ok(len as u32),
    }
}

fn read_id(reader: &mut Reader<'_>) -> Result<Id, ScanError> {
    let client = reader.var_uint()?;
    let clock = read_clock(reader, client)?;
    Ok(Id { client, clock })
}

/// Reads the block that starts at `id`.
pub(super) fn read_block<'a>(reader: &mut Reader<'a>, id: Id) -> Result<Block<'a>, ScanError> {
    let info = reader.byte()?;
    let (len, kind) = match info {
        INFO_GC => (read_len(reader, id)?, BlockKind::Gc),
        INFO_SKIP => (read_len(reader, id)?, BlockKind::Skip),
        _ => {
            let (len, item) = read_item(reader, id, info)?;
            (len, BlockKind::Item(item))
        }
    };
    Ok(Block { id, len, kind })
}

fn read_item<'a>(reader: &mut Reader<'a>, id: Id, info: u8) -> Result<(u32, Item<'a>), ScanError> {
    let reference = |reader: &mut Reader<'a>| {
        let reference = read_id(reader)?;
        if reference.client == id.client && reference.clock >= id.clock {
            return Err(ScanError::OwnFuture {
                block: id,
                reference,
            });
        }
        Ok(reference)
    };
    let has = |flag: u8| info & flag != 0;
    let origin = has(INFO_ORIGIN).then(|| reference(reader)).transpose()?;
    let right_origin = has(INFO_RIGHT_ORIGIN)
        .then(|| reference(reader))
        .transpose()?;
    let (mut parent, mut key) = (None, None);
    if origin.is_none() && right_origin.is_none() {
        parent = Some(match reader.var_uint()? {
            0 => Parent::Item(reference(reader)?),
            1 => Parent::Root(reader.var_string()?),
            value => return Err(unknown("kind of parent", value).into()),
        });
        if has(INFO_KEY) {
            key = Some(reader.var_string()?);
        }
    }
    let (len, content) = read_content(reader, id, info & INFO_CONTENT)?;
    let item = Item {
        origin,
        right_origin,
        parent,
        key,
        content,
    };
    Ok((len, item))
}

fn read_content<'a>(
    reader: &mut Reader<'a>,
    id: Id,
    kind: u8,
) -> Result<(u32, Content<'a>), ScanError> {
    let content = match kind {
        1 => return Ok((read_len(reader, id)?, Content::Deleted)),
        4 => {
            let text = reader.var_string()?;
            let len = checked_len(utf16_len(text), id)?;
            return Ok((len, Content::String(text)));
        }
        8 => {
            let count = reader.count(MIN_VALUE_BYTES)?;
            let len = checked_len(count as u64, id)?;
            return Ok((len, Content::Any(AnyValues::read(reader, count)?)));
        }
        2 => return Err(ScanError::Unsupported(Unsupported::LegacyJson)),
        3 => Content::Binary(reader.var_bytes()?),
        5 => Content::Embed(read_json(reader)?),
        6 => Content::Format {
            key: reader.var_string()?,
            value: read_json(reader)?,
        },
        7 => Content::Type(read_type(reader)?),
        9 => Content::Doc {
            guid: reader.var_string()?,
            options: read_options(reader)?,
        },
        value => return Err(unknown("kind of content", value.into()).into()),
    };
    Ok((checked_len(1, id)?, content))
}

/// Reads which shared type it is: one byte, although Yjs reads a variable-length integer.
fn read_type<'a>(reader: &mut Reader<'a>) -> Result<TypeKind<'a>, ScanError> {
    Ok(match reader.byte()? {
        0 => TypeKind::Array,
        1 => TypeKind::Map,
        2 => TypeKind::Text,
        3 => TypeKind::XmlElement(reader.var_string()?),
        4 => TypeKind::XmlFragment,
        5 => return Err(ScanError::Unsupported(Unsupported::XmlHook)),
        6 => TypeKind::XmlText,
        other => return Err(ScanError::Unsupported(Unsupported::TypeRef(other))),
    })
}

fn read_options<'a>(reader: &mut Reader<'a>) -> Result<AnyValues<'a>, ScanError> {
    let options = AnyValues::read(reader, 1)?;
    if !options.starts_with_object() {
        // Yjs takes the options apart without looking.
        return Err(DecodeError::Json("a subdocument's options are no object".into()).into());
    }
    Ok(options)
}

/// Reads a JSON text that both JavaScript and yrs can hold.
fn read_json<'a>(reader: &mut Reader<'a>) -> Result<&'a str, ScanError> {
    let text = reader.var_string()?;
    check_json(text)?;
    // yrs' own reader knows best what it takes; at most MAX_DEPTH deep, it cannot recurse away.
    const { assert!(MAX_DEPTH < 128) };
    match yrs::Any::from_json(text) {
        Ok(_) => Ok(text),
        Err(_) => Err(ScanError::Unsupported(Unsupported::Json)),
    }
}

/// Counts UTF-16 code units: one for each character, two for those of four bytes.
fn utf16_len(text: &str) -> u64 {
    let units = |byte: u8| u64::from(byte & 0xc0 != 0x80) + u64::from(byte >= 0xf0);
    text.bytes().map(units).sum()
}

fn unknown(what: &'static str, value: u64) -> DecodeError {
    DecodeError::Unknown { what, value }
}
