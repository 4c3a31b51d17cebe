//! From frames of Hocuspocus to what a client says.

use bytes::Bytes;
use serde::Deserialize;
use uspark_shared::codec::collab::{ClientAuth, ClientFrame, CollabFrame, CollabMessage};
use uspark_shared::codec::message::SyncMessage;

use crate::project::{By, SeatMessage};
use crate::refusal::Refusal;

/// Longest address, in bytes: two ids and a session's.
const MAX_ADDRESS: usize = 256;
/// Longest stateless message that is looked at, in bytes: ours are a few hundred.
const MAX_STATELESS: usize = 4096;
/// Longest name of a run, a call or a tool, in bytes: it is stored with updates.
const MAX_CLAIM: usize = 256;

/// What a client says; the texts are an address and a token.
#[derive(Debug)]
pub enum Said<'a> {
    /// "Are you there?"
    Ping,
    /// Its token for a document.
    Token(&'a str, &'a str),
    /// Something for the seat at a document.
    Message(&'a str, SeatMessage),
    /// That it leaves a document.
    Close(&'a str),
    /// Nothing that concerns us.
    Nothing,
}

/// Reads one frame.
pub fn decode(frame: &Bytes) -> Result<Said<'_>, Refusal> {
    let (address, message) = match ClientFrame::decode(frame)? {
        CollabFrame::Ping => return Ok(Said::Ping),
        CollabFrame::Pong => return Ok(Said::Nothing),
        CollabFrame::Document { address, message } => (address.as_str(), message),
    };
    if address.len() > MAX_ADDRESS {
        let reason = format!("an address has at most {MAX_ADDRESS} bytes");
        return Err(Refusal::Malformed(reason));
    }
    let message = match message {
        CollabMessage::Auth(ClientAuth::Token { token, .. }) => {
            return Ok(Said::Token(address, token));
        }
        CollabMessage::Close { .. } => return Ok(Said::Close(address)),
        CollabMessage::Sync(sync) | CollabMessage::SyncReply(sync) => match sync {
            SyncMessage::Step1(body) => SeatMessage::Step1(frame.slice_ref(body)),
            SyncMessage::Step2(body) | SyncMessage::Update(body) => {
                SeatMessage::Update(frame.slice_ref(body))
            }
        },
        CollabMessage::Awareness(body) => SeatMessage::Awareness(frame.slice_ref(body)),
        CollabMessage::QueryAwareness => SeatMessage::QueryAwareness,
        CollabMessage::Stateless(text) => match stateless(text) {
            Some(message) => message,
            None => {
                let bytes = text.len();
                tracing::debug!(address, bytes, "a stateless message that is not ours");
                return Ok(Said::Nothing);
            }
        },
        // What only servers say, and what nobody knows.
        CollabMessage::BroadcastStateless(_)
        | CollabMessage::SyncStatus(_)
        | CollabMessage::Unknown(_) => return Ok(Said::Nothing),
    };
    Ok(Said::Message(address, message))
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Stateless {
    Follow(Follow),
    By(Option<By>),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Follow {
    Texts,
}

/// What a stateless message asks for, if it is one of ours.
fn stateless(text: &str) -> Option<SeatMessage> {
    if text.len() > MAX_STATELESS {
        return None;
    }
    match serde_json::from_str(text).ok()? {
        Stateless::Follow(Follow::Texts) => Some(SeatMessage::Follow),
        Stateless::By(Some(by)) if !is_short(&by) => None,
        Stateless::By(by) => Some(SeatMessage::By(by)),
    }
}

fn is_short(by: &By) -> bool {
    let claims = [&by.run, &by.tool_use_id, &by.tool];
    claims
        .into_iter()
        .flatten()
        .all(|claim| claim.len() <= MAX_CLAIM)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(text: &str) -> Option<Option<By>> {
        match stateless(text) {
            Some(SeatMessage::By(by)) => Some(by),
            _ => None,
        }
    }

    #[test]
    fn two_messages_are_ours() {
        assert!(matches!(
            stateless(r#"{"follow":"texts"}"#),
            Some(SeatMessage::Follow)
        ));
        assert_eq!(by(r#"{"by":null}"#), Some(None));
        let call = by(r#"{"by": {"run": "r", "toolUseId": "t", "tool": "Edit"}}"#);
        let expected = By {
            run: Some("r".into()),
            tool_use_id: Some("t".into()),
            tool: Some("Edit".into()),
        };
        assert_eq!(call, Some(Some(expected)));
        assert!(by(r#"{"by":{"run":"r"}}"#).is_some());
    }

    #[test]
    fn nothing_else_is() {
        let long = format!(r#"{{"by":{{"run":"{}"}}}}"#, "r".repeat(MAX_CLAIM + 1));
        let longer = format!(r#"{{"by":null}}{}"#, " ".repeat(MAX_STATELESS));
        for other in [
            "",
            "hello",
            "{}",
            "null",
            r#"{"follow":"files"}"#,
            r#"{"follow":"texts","by":null}"#,
            r#"{"by":"me"}"#,
            r#"{"by":{"who":"me"}}"#,
            r#"{"cursor":1}"#,
            &long,
            &longer,
        ] {
            assert!(stateless(other).is_none(), "{other}");
        }
    }
}
