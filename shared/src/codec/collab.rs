//! Hocuspocus framing: many documents on one socket.
//!
//! Every frame but ping and pong is an address, a type and a body, one message per frame. The two
//! directions differ in the body of an auth message, so a frame's type names its direction:
//! [`ClientFrame`] is what clients send, [`ServerFrame`] what servers send, and each side decodes
//! the one and encodes the other. Bytes as of `@hocuspocus/provider` 4.8.0, which does not know
//! [`CollabMessage::SyncReply`]: do not send it one.

#[cfg(test)]
mod tests;

use super::message::SyncMessage;
use super::{DecodeError, Reader, Writer};
use crate::id::{DocumentName, IdError};

const SYNC: u64 = 0;
const AWARENESS: u64 = 1;
const AUTH: u64 = 2;
const QUERY_AWARENESS: u64 = 3;
const SYNC_REPLY: u64 = 4;
const STATELESS: u64 = 5;
const BROADCAST_STATELESS: u64 = 6;
const CLOSE: u64 = 7;
const SYNC_STATUS: u64 = 8;
/// Ping and pong are whole frames: no address comes before them.
const PING: u8 = 9;
const PONG: u8 = 10;

const AUTH_TOKEN: u64 = 0;
const AUTH_DENIED: u64 = 1;
const AUTH_GRANTED: u64 = 2;

const SCOPE_READ: &str = "readonly";
const SCOPE_WRITE: &str = "read-write";

/// What a client sends on `/collab`.
pub type ClientFrame<'a> = CollabFrame<'a, ClientAuth<'a>>;

/// What a server sends on `/collab`.
pub type ServerFrame<'a> = CollabFrame<'a, ServerAuth<'a>>;

/// A frame of `/collab`, in the direction that `A` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CollabFrame<'a, A> {
    /// "Are you there?", of the socket and no document.
    Ping,
    /// The answer to [`CollabFrame::Ping`].
    Pong,
    /// A message of one document.
    Document {
        /// Which document, and for which of its providers.
        address: Address<'a>,
        /// What is said.
        message: CollabMessage<'a, A>,
    },
}

/// The address of a frame: `documentName`, or `documentName\0sessionId` when several providers
/// share a socket and a document. An answer carries the address of its question, whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address<'a>(&'a str);

/// A message about one document, in the direction that `A` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CollabMessage<'a, A> {
    /// Exchange of document state.
    Sync(SyncMessage<'a>),
    /// As [`CollabMessage::Sync`], from one that wants no SyncStep1 back.
    SyncReply(SyncMessage<'a>),
    /// The body of an awareness message: see [`super::awareness`].
    Awareness(&'a [u8]),
    /// What this direction says about rights.
    Auth(A),
    /// "Send me the awareness states of everybody."
    QueryAwareness,
    /// Text of the application's own.
    Stateless(&'a str),
    /// Text for everybody on the document; Hocuspocus uses it between servers only.
    BroadcastStateless(&'a str),
    /// Ends one document, not the socket. Servers give a reason, the provider gives none.
    Close {
        /// Why; empty when none was given.
        reason: &'a str,
    },
    /// Whether one received SyncStep2 or Update was taken (and here: is durable).
    SyncStatus(bool),
    /// A type that Hocuspocus does not know; its body is unknown, and not kept.
    Unknown(u64),
}

/// What a client says about rights.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth<'a> {
    /// The token, on joining and whenever the server asks.
    Token {
        /// The secret.
        token: &'a str,
        /// The provider's version; providers before 4 send none.
        version: Option<&'a str>,
    },
}

/// What a server says about rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerAuth<'a> {
    /// "Send me your token again."
    TokenRequest,
    /// The document stays shut.
    PermissionDenied {
        /// Why.
        reason: &'a str,
    },
    /// The document is open.
    Authenticated {
        /// Whether updates will be refused.
        read_only: bool,
    },
}

/// The body of an auth message in one direction. Only [`ClientAuth`] and [`ServerAuth`] are.
pub trait AuthBody<'a>: Copy + Sized {
    /// Reads the body, up to the end of the frame.
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError>;
    /// Writes the body.
    fn write(&self, writer: &mut Writer);
}

impl<'a> Address<'a> {
    /// Addresses `text`, a document's name with or without a session id.
    pub fn new(text: &'a str) -> Self {
        Self(text)
    }

    /// The address as it is sent.
    pub fn as_str(&self) -> &'a str {
        self.0
    }

    /// The document that is meant.
    pub fn document_name(&self) -> Result<DocumentName, IdError> {
        let name = self.0.split_once('\0').map_or(self.0, |(name, _)| name);
        name.parse()
    }
}

impl<'a, A: AuthBody<'a>> CollabFrame<'a, A> {
    /// Makes a frame about one document.
    pub fn new(address: Address<'a>, message: CollabMessage<'a, A>) -> Self {
        Self::Document { address, message }
    }

    /// Reads one frame, to its last byte. Only an unknown type may be followed by anything.
    pub fn decode(frame: &'a [u8]) -> Result<Self, DecodeError> {
        match *frame {
            [PING] => return Ok(Self::Ping),
            [PONG] => return Ok(Self::Pong),
            _ => {}
        }
        let mut reader = Reader::new(frame);
        let address = Address(reader.var_string()?);
        let message = CollabMessage::read(&mut reader)?;
        if !matches!(message, CollabMessage::Unknown(_)) {
            reader.finish()?;
        }
        Ok(Self::Document { address, message })
    }

    /// Writes the frame. [`CollabMessage::Unknown`] is written without a body.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Ping => vec![PING],
            Self::Pong => vec![PONG],
            Self::Document { address, message } => {
                let payload = match message {
                    CollabMessage::Sync(sync) | CollabMessage::SyncReply(sync) => sync.payload(),
                    CollabMessage::Awareness(body) => body,
                    _ => &[],
                };
                let mut writer = Writer::with_capacity(address.0.len() + payload.len() + 16);
                writer.var_string(address.0);
                message.write(&mut writer);
                writer.into_bytes()
            }
        }
    }
}

impl<'a, A: AuthBody<'a>> CollabMessage<'a, A> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(match reader.var_uint()? {
            SYNC => Self::Sync(SyncMessage::read(reader)?),
            SYNC_REPLY => Self::SyncReply(SyncMessage::read(reader)?),
            AWARENESS => Self::Awareness(reader.var_bytes()?),
            AUTH => Self::Auth(A::read(reader)?),
            QUERY_AWARENESS => Self::QueryAwareness,
            STATELESS => Self::Stateless(reader.var_string()?),
            BROADCAST_STATELESS => Self::BroadcastStateless(reader.var_string()?),
            CLOSE => Self::Close {
                reason: optional_string(reader)?.unwrap_or_default(),
            },
            SYNC_STATUS => match reader.var_uint()? {
                0 => Self::SyncStatus(false),
                1 => Self::SyncStatus(true),
                value => return Err(unknown("sync status", value)),
            },
            kind => Self::Unknown(kind),
        })
    }

    fn write(&self, writer: &mut Writer) {
        writer.var_uint(self.kind());
        match self {
            Self::Sync(sync) | Self::SyncReply(sync) => sync.write(writer),
            Self::Awareness(body) => {
                writer.var_bytes(body);
            }
            Self::Auth(auth) => auth.write(writer),
            Self::Stateless(text) | Self::BroadcastStateless(text) => {
                writer.var_string(text);
            }
            Self::Close { reason } => {
                writer.var_string(reason);
            }
            Self::SyncStatus(taken) => {
                writer.var_uint(u64::from(*taken));
            }
            Self::QueryAwareness | Self::Unknown(_) => {}
        }
    }

    fn kind(&self) -> u64 {
        match self {
            Self::Sync(_) => SYNC,
            Self::Awareness(_) => AWARENESS,
            Self::Auth(_) => AUTH,
            Self::QueryAwareness => QUERY_AWARENESS,
            Self::SyncReply(_) => SYNC_REPLY,
            Self::Stateless(_) => STATELESS,
            Self::BroadcastStateless(_) => BROADCAST_STATELESS,
            Self::Close { .. } => CLOSE,
            Self::SyncStatus(_) => SYNC_STATUS,
            Self::Unknown(kind) => *kind,
        }
    }
}

impl<'a> AuthBody<'a> for ClientAuth<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        match reader.var_uint()? {
            AUTH_TOKEN => Ok(Self::Token {
                token: reader.var_string()?,
                version: optional_string(reader)?,
            }),
            value => Err(unknown("auth message of a client", value)),
        }
    }

    fn write(&self, writer: &mut Writer) {
        let Self::Token { token, version } = self;
        writer.var_uint(AUTH_TOKEN).var_string(token);
        if let Some(version) = version {
            writer.var_string(version);
        }
    }
}

impl<'a> AuthBody<'a> for ServerAuth<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        match reader.var_uint()? {
            AUTH_TOKEN => Ok(Self::TokenRequest),
            AUTH_DENIED => Ok(Self::PermissionDenied {
                reason: reader.var_string()?,
            }),
            AUTH_GRANTED => Ok(Self::Authenticated {
                // Fail closed: only the one word that grants writing grants it.
                read_only: reader.var_string()? != SCOPE_WRITE,
            }),
            value => Err(unknown("auth message of a server", value)),
        }
    }

    fn write(&self, writer: &mut Writer) {
        match self {
            Self::TokenRequest => writer.var_uint(AUTH_TOKEN),
            Self::PermissionDenied { reason } => writer.var_uint(AUTH_DENIED).var_string(reason),
            Self::Authenticated { read_only } => {
                let scope = if *read_only { SCOPE_READ } else { SCOPE_WRITE };
                writer.var_uint(AUTH_GRANTED).var_string(scope)
            }
        };
    }
}

/// Tokens do not get into logs: only whether there is one is shown.
impl std::fmt::Debug for ClientAuth<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self::Token { token, version } = self;
        f.debug_struct("Token")
            .field("token", &if token.is_empty() { "none" } else { "***" })
            .field("version", version)
            .finish()
    }
}

fn optional_string<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a str>, DecodeError> {
    if reader.is_empty() {
        return Ok(None);
    }
    reader.var_string().map(Some)
}

fn unknown(what: &'static str, value: u64) -> DecodeError {
    DecodeError::Unknown { what, value }
}
