//! The messages of y-protocols, as y-websocket sends them.
//!
//! Owns: one frame of `/ws`, and the sync messages that `/collab` carries too. A message borrows
//! its payload; updates and awareness states are opaque here.

use super::{DecodeError, Reader, Writer};

/// The most messages in one frame: a frame full of one-byte messages must not cost thirty times
/// its size. y-redis, which sends the most, joins what has come since its last poll.
pub const MAX_MESSAGES: usize = 4096;

const SYNC: u64 = 0;
const AWARENESS: u64 = 1;
const AUTH: u64 = 2;
const QUERY_AWARENESS: u64 = 3;

const AUTH_DENIED: u64 = 0;

/// A message of the sync protocol, the same in both framings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncMessage<'a> {
    /// The sender's state vector: "send me what I lack".
    Step1(&'a [u8]),
    /// The answer to [`SyncMessage::Step1`]: an update, possibly empty.
    Step2(&'a [u8]),
    /// An update, as it happens.
    Update(&'a [u8]),
}

/// A message of a y-websocket frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// Exchange of document state.
    Sync(SyncMessage<'a>),
    /// The body of an awareness message: see [`super::awareness`].
    Awareness(&'a [u8]),
    /// Permission denied, with the reason. There is no "granted".
    AuthDenied(&'a str),
    /// "Send me the awareness states of everybody."
    QueryAwareness,
    /// A type that y-protocols does not know; its body is unknown, and not kept.
    Unknown(u64),
}

impl<'a> SyncMessage<'a> {
    /// Reads a sync message without the outer type.
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let kind = reader.var_uint()?;
        let make = match kind {
            0 => Self::Step1,
            1 => Self::Step2,
            2 => Self::Update,
            value => {
                return Err(DecodeError::Unknown {
                    what: "sync message",
                    value,
                });
            }
        };
        reader.var_bytes().map(make)
    }

    /// Writes the message without the outer type.
    pub(super) fn write(&self, writer: &mut Writer) {
        let (kind, payload) = match self {
            Self::Step1(payload) => (0, payload),
            Self::Step2(payload) => (1, payload),
            Self::Update(payload) => (2, payload),
        };
        writer.var_uint(kind).var_bytes(payload);
    }

    /// The state vector or update that the message carries.
    pub fn payload(&self) -> &'a [u8] {
        match self {
            Self::Step1(payload) | Self::Step2(payload) | Self::Update(payload) => payload,
        }
    }
}

/// Reads every message of one frame.
///
/// Clients send one message per frame; some servers and newer clients send several. An empty
/// frame is truncated. Two foreign habits are met on purpose:
/// - A type that we do not know has a length that we do not know (y-sweet's 102 is followed by a
///   byte array): it takes the rest of its frame, and what came before it counts.
/// - y-sweet's client appends its awareness as a byte array to a QueryAwareness. When exactly one
///   byte array is what remains of the frame after that type, it is skipped.
pub fn decode_frame(frame: &[u8]) -> Result<Vec<Message<'_>>, DecodeError> {
    let mut reader = Reader::new(frame);
    let mut messages = Vec::with_capacity(1);
    loop {
        let message = read_message(&mut reader)?;
        messages.push(message);
        if reader.is_empty() || matches!(message, Message::Unknown(_)) {
            return Ok(messages);
        }
        if messages.len() == MAX_MESSAGES {
            return Err(DecodeError::TooManyMessages);
        }
    }
}

fn read_message<'a>(reader: &mut Reader<'a>) -> Result<Message<'a>, DecodeError> {
    match reader.var_uint()? {
        SYNC => SyncMessage::read(reader).map(Message::Sync),
        AWARENESS => reader.var_bytes().map(Message::Awareness),
        AUTH => match reader.var_uint()? {
            AUTH_DENIED => reader.var_string().map(Message::AuthDenied),
            value => Err(DecodeError::Unknown {
                what: "auth message",
                value,
            }),
        },
        QUERY_AWARENESS => {
            let mut appended = reader.clone();
            if appended.var_bytes().is_ok() && appended.is_empty() {
                *reader = appended;
            }
            Ok(Message::QueryAwareness)
        }
        unknown => Ok(Message::Unknown(unknown)),
    }
}

impl Message<'_> {
    /// Writes the message as a frame of its own: stable y-websocket reads only the first message
    /// of a frame. [`Message::Unknown`] is written without a body.
    pub fn encode(&self) -> Vec<u8> {
        let payload = match self {
            Self::Sync(sync) => sync.payload().len(),
            Self::Awareness(body) => body.len(),
            Self::AuthDenied(reason) => reason.len(),
            Self::QueryAwareness | Self::Unknown(_) => 0,
        };
        let mut writer = Writer::with_capacity(payload + 12);
        match self {
            Self::Sync(sync) => sync.write(writer.var_uint(SYNC)),
            Self::Awareness(body) => {
                writer.var_uint(AWARENESS).var_bytes(body);
            }
            Self::AuthDenied(reason) => {
                writer
                    .var_uint(AUTH)
                    .var_uint(AUTH_DENIED)
                    .var_string(reason);
            }
            Self::QueryAwareness => {
                writer.var_uint(QUERY_AWARENESS);
            }
            Self::Unknown(kind) => {
                writer.var_uint(*kind);
            }
        }
        writer.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Message<'_>; 6] = [
        Message::Sync(SyncMessage::Step1(&[0])),
        Message::Sync(SyncMessage::Step2(&[0, 0])),
        Message::Sync(SyncMessage::Update(&[1, 2, 3])),
        Message::Awareness(&[0]),
        Message::AuthDenied("no"),
        Message::QueryAwareness,
    ];

    #[test]
    fn every_message_survives_its_frame_alone_and_in_company() {
        for message in ALL {
            assert_eq!(decode_frame(&message.encode()), Ok(vec![message]));
        }
        let frame: Vec<u8> = ALL.iter().flat_map(Message::encode).collect();
        assert_eq!(decode_frame(&frame), Ok(ALL.to_vec()));
    }

    #[test]
    fn every_cut_is_an_error_or_an_earlier_end() {
        for message in &ALL[..5] {
            let frame = message.encode();
            for cut in 0..frame.len() {
                assert!(
                    matches!(
                        decode_frame(&frame[..cut]),
                        Err(DecodeError::Truncated { .. })
                    ),
                    "{message:?} cut at {cut}"
                );
            }
        }
    }

    #[test]
    fn bytes_after_a_message_are_a_message_or_an_error() {
        let mut frame = Message::Awareness(&[0]).encode();
        frame.push(0);
        assert!(matches!(
            decode_frame(&frame),
            Err(DecodeError::Truncated { .. })
        ));
    }

    #[test]
    fn a_padded_type_is_the_same_type() {
        let padded = [0x80, 0x00, 0x82, 0x00, 1, 9];
        assert_eq!(
            decode_frame(&padded),
            Ok(vec![Message::Sync(SyncMessage::Update(&[9]))])
        );
    }

    #[test]
    fn an_unknown_type_takes_the_rest_of_its_frame() {
        let frame = [3, 102, 2, 5, 9, 0xff];
        assert_eq!(
            decode_frame(&frame),
            Ok(vec![Message::QueryAwareness, Message::Unknown(102)])
        );
    }

    #[test]
    fn what_is_appended_to_a_query_is_skipped() {
        let awareness = [1, 7, 1, 2, b'{', b'}'];
        let mut writer = Writer::new();
        writer.var_uint(QUERY_AWARENESS).var_bytes(&awareness);
        assert_eq!(
            decode_frame(&writer.into_bytes()),
            Ok(vec![Message::QueryAwareness])
        );
    }

    #[test]
    fn numbers_without_meaning_are_refused() {
        for (frame, what) in [(&[0, 3, 0][..], "sync message"), (&[2, 1], "auth message")] {
            assert!(
                matches!(decode_frame(frame), Err(DecodeError::Unknown { what: w, .. }) if w == what)
            );
        }
    }

    #[test]
    fn a_frame_of_tiny_messages_is_bounded() {
        let many = Message::Awareness(&[]).encode().repeat(MAX_MESSAGES);
        assert_eq!(decode_frame(&many).map(|all| all.len()), Ok(MAX_MESSAGES));
        let more = Message::Awareness(&[]).encode().repeat(MAX_MESSAGES + 1);
        assert_eq!(decode_frame(&more), Err(DecodeError::TooManyMessages));
    }
}
