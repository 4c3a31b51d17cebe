//! Round trips and refusals; the provider's own bytes are tested in `tests/recorded.rs`.

use super::*;

const ADDRESS: Address<'_> = Address("p/doc\0s1");

fn shared<'a, A>() -> Vec<CollabMessage<'a, A>> {
    vec![
        CollabMessage::Sync(SyncMessage::Step1(&[0])),
        CollabMessage::Sync(SyncMessage::Update(&[0, 0])),
        CollabMessage::SyncReply(SyncMessage::Step2(&[0, 0])),
        CollabMessage::Awareness(&[0]),
        CollabMessage::Stateless("{}"),
        CollabMessage::BroadcastStateless("x"),
        CollabMessage::Close { reason: "bye" },
        CollabMessage::SyncStatus(true),
        CollabMessage::SyncStatus(false),
    ]
}

/// Round trip, and every cut: a frame without its end is never taken for a shorter one.
fn check<'a, A: AuthBody<'a> + PartialEq + std::fmt::Debug>(
    message: CollabMessage<'a, A>,
    whole_at: &[usize],
) {
    let frame: &[u8] = CollabFrame::new(ADDRESS, message).encode().leak();
    assert_eq!(
        CollabFrame::decode(frame),
        Ok(CollabFrame::new(ADDRESS, message))
    );
    for cut in 0..frame.len() {
        let cut_off = CollabFrame::<A>::decode(&frame[..cut]);
        assert_eq!(
            cut_off.is_ok(),
            whole_at.contains(&cut),
            "{message:?} cut at {cut}"
        );
    }
    let longer: &[u8] = [frame, &[0][..]].concat().leak();
    assert!(
        CollabFrame::<A>::decode(longer).is_err(),
        "{message:?} and a byte"
    );
}

#[test]
fn frames_survive_and_their_cuts_do_not() {
    // The address takes 9 bytes and the type one: a close may end there, a token's body is 4
    // bytes long (sub-type, length, "tk") without a version.
    for message in shared() {
        let close = matches!(message, CollabMessage::Close { .. });
        check::<ClientAuth<'_>>(message, if close { &[10] } else { &[] });
    }
    for message in shared() {
        let close = matches!(message, CollabMessage::Close { .. });
        check::<ServerAuth<'_>>(message, if close { &[10] } else { &[] });
    }
    let version = Some("4.8.0");
    check(
        CollabMessage::Auth(ClientAuth::Token {
            token: "tk",
            version,
        }),
        &[14],
    );
    for auth in [
        ServerAuth::TokenRequest,
        ServerAuth::PermissionDenied { reason: "no" },
        ServerAuth::Authenticated { read_only: true },
        ServerAuth::Authenticated { read_only: false },
    ] {
        check(CollabMessage::Auth(auth), &[]);
    }
    check::<ClientAuth<'_>>(CollabMessage::QueryAwareness, &[]);
}

#[test]
fn ping_and_pong_have_no_address() {
    assert_eq!(ClientFrame::decode(&[9]), Ok(CollabFrame::Ping));
    assert_eq!(ServerFrame::decode(&[10]), Ok(CollabFrame::Pong));
    assert_eq!(ServerFrame::Ping.encode(), [9]);
    assert_eq!(ClientFrame::Pong.encode(), [10]);
    assert!(ClientFrame::decode(&[]).is_err());
}

#[test]
fn the_directions_do_not_mix() {
    let granted = ServerFrame::new(
        ADDRESS,
        CollabMessage::Auth(ServerAuth::Authenticated { read_only: false }),
    )
    .encode();
    assert!(ClientFrame::decode(&granted).is_err());
    let token = ClientAuth::Token {
        token: "tk",
        version: None,
    };
    let token = ClientFrame::new(ADDRESS, CollabMessage::Auth(token)).encode();
    assert!(ServerFrame::decode(&token).is_err());
}

#[test]
fn an_unknown_scope_does_not_grant_writing() {
    let mut writer = Writer::new();
    writer
        .var_string("p")
        .var_uint(AUTH)
        .var_uint(AUTH_GRANTED)
        .var_string("read-write ");
    let frame = writer.into_bytes();
    assert_eq!(
        ServerFrame::decode(&frame),
        Ok(CollabFrame::new(
            Address("p"),
            CollabMessage::Auth(ServerAuth::Authenticated { read_only: true })
        ))
    );
}

#[test]
fn an_address_names_a_document_with_or_without_a_session() {
    for (address, name) in [
        ("p", "p"),
        ("p/d", "p/d"),
        ("p\0s", "p"),
        ("p/d\0s\0t", "p/d"),
    ] {
        let parsed = Address(address)
            .document_name()
            .map(|name| name.to_string());
        assert_eq!(parsed, Ok(name.to_owned()));
    }
    for bad in ["", "\0s", "../p", "p/d/e"] {
        assert!(Address(bad).document_name().is_err(), "{bad:?}");
    }
}

#[test]
fn a_token_is_not_printed() {
    let auth = ClientAuth::Token {
        token: "secret",
        version: None,
    };
    assert!(!format!("{auth:?}").contains("secret"));
}
