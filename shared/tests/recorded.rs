//! Bytes recorded from other people's clients, read by our codec and scan.
//!
//! `recorded/bytes.txt` is what `recorded/record.mjs` printed under yjs 13.6.33, lib0 0.2.120,
//! y-protocols and @hocuspocus/provider 4.8.0; never our own encoder's.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::fmt::Write as _;

use uspark_shared::codec::awareness::{AwarenessEntry, decode_awareness, encode_awareness};
use uspark_shared::codec::collab::{
    AuthBody, ClientAuth, ClientFrame, CollabFrame, CollabMessage, ServerAuth, ServerFrame,
};
use uspark_shared::codec::message::{Message, SyncMessage, decode_frame};
use uspark_shared::update::{
    AnyValues, Block, BlockKind, Content, Parent, ScanError, TypeKind, Unsupported, scan,
    scan_state_vector,
};
use yrs::Update;
use yrs::updates::decoder::Decode as _;

mod bytes;

/// The recording `name`.
#[track_caller]
fn recorded(name: &str) -> Vec<u8> {
    let (_, bytes) = bytes::all().find(|(found, _)| *found == name).expect(name);
    bytes
}

/// Writes the structure of an update down, one block or deleted range to a line.
fn describe(update: &[u8]) -> String {
    let scan = scan(update).expect("a recorded update");
    let mut lines = String::new();
    for block in scan.blocks() {
        writeln!(
            lines,
            "{}+{} {}",
            block.id,
            block.len,
            describe_block(&block)
        )
        .unwrap();
    }
    for range in scan.deletes() {
        writeln!(
            lines,
            "{}:{}+{} deleted",
            range.client, range.start, range.len
        )
        .unwrap();
    }
    lines
}

fn describe_block(block: &Block<'_>) -> String {
    let item = match block.kind {
        BlockKind::Gc => return "gc".into(),
        BlockKind::Skip => return "skip".into(),
        BlockKind::Item(item) => item,
    };
    let mut line = String::new();
    let references = [("after", item.origin), ("before", item.right_origin)];
    for (word, id) in references {
        if let Some(id) = id {
            write!(line, "{word} {id} ").unwrap();
        }
    }
    match item.parent {
        Some(Parent::Root(name)) => write!(line, "in {name} ").unwrap(),
        Some(Parent::Item(id)) => write!(line, "in {id} ").unwrap(),
        None => {}
    }
    if let Some(key) = item.key {
        write!(line, "at {key} ").unwrap();
    }
    line + &describe_content(item.content)
}

fn describe_content(content: Content<'_>) -> String {
    let json = |values: AnyValues<'_>| serde_json::Value::Array(values.iter().collect());
    match content {
        Content::Deleted => "deleted".into(),
        Content::String(text) => format!("{text:?}"),
        Content::Any(values) => json(values).to_string(),
        Content::Binary(bytes) => format!("{bytes:?}"),
        Content::Embed(value) => format!("embed {value}"),
        Content::Format { key, value } => format!("{key}={value}"),
        Content::Type(TypeKind::XmlElement(name)) => format!("<{name}>"),
        Content::Type(kind) => format!("{kind:?}"),
        Content::Doc { guid, options } => format!("doc {guid} {}", json(options)),
    }
}

#[track_caller]
fn check(name: &str, expected: &[&str]) {
    let lines = describe(&recorded(name));
    assert_eq!(lines.lines().collect::<Vec<_>>(), expected, "{name}");
}

#[test]
fn text_of_yjs_is_read_to_the_unit() {
    check("text_insert", &[r#"11:0+9 in content "héllo 😀\n""#]);
    check("text_split_pair", &[r#"11:9+1 after 11:6 before 11:7 "x""#]);
    check("text_delete", &["11:0+2 deleted"]);
    check(
        "text_embed",
        &[
            "11:14+1 after 11:2 before 11:3 bold=null",
            "11:15+1 after 11:14 before 11:3 href=null",
            r#"11:16+1 after 11:15 before 11:3 embed {"image":"i.png"}"#,
            "11:17+1 after 11:16 before 11:3 bold=true",
            r#"11:18+1 after 11:17 before 11:3 href={"u":["a"]}"#,
        ],
    );
    // What was typed into a surrogate pair left a replacement character of one unit on each side.
    let state = describe(&recorded("text_state"));
    assert!(state.contains("11:4+3 after 11:3 \"o \u{fffd}\"\n11:7+2 after 11:6 \"\u{fffd}\\n\""));
}

#[test]
fn a_project_document_of_yjs_is_read() {
    let entry =
        |mode, mtime| format!(r#"[{{"doc":"d1","mode":{mode},"mtime":{mtime},"seed":"aa"}}]"#);
    let set = format!(
        "4294967295:0+1 in files at a.txt {}",
        entry(420, 1_732_166_400_123_u64)
    );
    check("map_set", &[&set]);
    // The second value of a key names neither the map nor the key: its origin does.
    let value = entry(493, 1_732_166_400_124_u64);
    let replace = format!("4294967295:1+1 after 4294967295:0 {value}");
    check("map_replace", &[&replace, "4294967295:0+1 deleted"]);
    check("map_delete", &["4294967295:1+1 deleted"]);
    check(
        "map_any",
        &[
            "4294967295:2+1 in files at x \
             [[1,-1,1.5,1099511627776,\"é\",true,null,null,123,null,{\"n\":{}}]]",
            "4294967295:3+1 in files at bin [9]",
        ],
    );
}

#[test]
fn every_kind_of_block_of_yjs_is_read() {
    check(
        "nested",
        &[
            "300:0+1 in m at arr Array",
            "300:1+1 in m at map Map",
            "300:2+1 in m at text Text",
            "300:3+1 in 300:2 \"t\"",
            "300:4+1 in m at el <p>",
            "300:5+1 in m at frag XmlFragment",
            "300:6+1 in m at xt XmlText",
            "300:7+1 in 300:6 \"z\"",
            "300:8+1 in m at sub doc sub-1 [{\"autoLoad\":true}]",
            "300:9+2 in 300:0 [1,\"two\"]",
            "300:11+1 before 300:9 Map",
            "300:12+1 in 300:1 at k [\"v\"]",
        ],
    );
    let collected = describe(&recorded("gc"));
    assert!(collected.contains("300:0+1 in m at arr deleted\n"));
    assert!(collected.contains("300:9+3 gc\n"));
    check(
        "merged_with_hole",
        &[
            "77:0+1 in content \"a\"",
            "77:1+1 skip",
            "77:2+1 before 77:1 \"c\"",
        ],
    );
    check(
        "diff",
        &[
            "12:0+1 after 11:13 before 11:4 \"B\"",
            "11:0+3 deleted",
            "11:10+2 deleted",
            "11:14+2 deleted",
        ],
    );
}

#[test]
fn only_the_empty_update_is_empty() {
    for (name, bytes) in bytes::all().filter(|(name, _)| is_update(name)) {
        assert_eq!(
            scan(&bytes).unwrap().is_empty(),
            name == "empty_update",
            "{name}"
        );
    }
    assert_eq!(
        scan_state_vector(&recorded("state_vector")),
        Ok(vec![(12, 1), (11, 19)])
    );
}

/// The refusals stand as long as yrs misreads these two; when this fails it has learned to.
#[test]
fn what_yrs_misreads_is_refused() {
    for (name, what) in [
        ("legacy_json", Unsupported::LegacyJson),
        ("xml_hook", Unsupported::XmlHook),
    ] {
        let update = recorded(name);
        assert_eq!(scan(&update).unwrap_err(), ScanError::Unsupported(what));
        assert!(Update::decode_v1(&update).is_err(), "yrs reads {name} now");
    }
}

fn is_update(name: &str) -> bool {
    let other = [
        "ws_",
        "client_",
        "server_",
        "awareness",
        "state_vector",
        "xml_hook",
        "legacy_",
    ];
    !other.iter().any(|prefix| name.starts_with(prefix))
}

#[test]
fn frames_of_y_websocket_are_read_and_written() {
    let (vector, update) = (recorded("state_vector"), recorded("text_delete"));
    let awareness = recorded("awareness");
    for (name, message) in [
        ("ws_step1", Message::Sync(SyncMessage::Step1(&vector))),
        ("ws_step2", Message::Sync(SyncMessage::Step2(&[0, 0]))),
        ("ws_update", Message::Sync(SyncMessage::Update(&update))),
        ("ws_awareness", Message::Awareness(&awareness)),
        ("ws_denied", Message::AuthDenied("read only")),
        ("ws_query", Message::QueryAwareness),
    ] {
        let frame = recorded(name);
        assert_eq!(decode_frame(&frame), Ok(vec![message]), "{name}");
        assert_eq!(message.encode(), frame, "{name}");
    }
}

#[test]
fn awareness_of_y_protocols_is_read_and_written() {
    // Half of a surrogate pair is valid JSON, and no Unicode text: it is passed on as it came.
    let state = r#"{"user":{"name":"Ä😀","half":"\ud83d"},"cursor":null}"#.to_owned();
    for (name, clock, state) in [("awareness", 1, Some(state)), ("awareness_gone", 2, None)] {
        let entries = vec![AwarenessEntry {
            client: 12,
            clock,
            state,
        }];
        let body = recorded(name);
        assert_eq!(decode_awareness(&body), Ok(entries.clone()), "{name}");
        assert_eq!(encode_awareness(&entries), body, "{name}");
    }
}

/// Checks a frame both ways, and that its address names the document.
#[track_caller]
fn check_collab<'a, A: AuthBody<'a> + PartialEq + std::fmt::Debug>(
    name: &str,
    expected: CollabMessage<'a, A>,
) {
    let bytes: &[u8] = recorded(name).leak();
    let frame = CollabFrame::<A>::decode(bytes).unwrap();
    let CollabFrame::Document { address, message } = frame else {
        panic!("{name} is {frame:?}");
    };
    assert_eq!(message, expected, "{name}");
    assert_eq!(
        address.document_name().unwrap().to_string(),
        "p/doc",
        "{name}"
    );
    assert_eq!(frame.encode(), bytes, "{name}");
}

#[test]
fn frames_of_the_hocuspocus_provider_are_read_and_written() {
    let update = [1, 1, 21, 2, 132, 21, 1, 1, 33, 0];
    let state = b"\x01\x01\x15\x00\x04\x01\x07content\x03hi!\x00";
    let token = ClientAuth::Token {
        token: "uspk_x",
        version: Some("4.8.0"),
    };
    let client: [(&str, CollabMessage<'_, ClientAuth<'_>>); 8] = [
        ("client_token", CollabMessage::Auth(token)),
        (
            "client_step1",
            CollabMessage::Sync(SyncMessage::Step1(&[1, 21, 2])),
        ),
        (
            "client_step2",
            CollabMessage::Sync(SyncMessage::Step2(state)),
        ),
        (
            "client_update",
            CollabMessage::Sync(SyncMessage::Update(&update)),
        ),
        (
            "client_awareness",
            CollabMessage::Awareness(b"\x01\x15\x00\x02{}"),
        ),
        (
            "client_query_answer",
            CollabMessage::Awareness(b"\x01\x15\x00\x02{}"),
        ),
        (
            "client_stateless",
            CollabMessage::Stateless(r#"{"follow":"texts"}"#),
        ),
        ("client_session", CollabMessage::Stateless("s")),
    ];
    for (name, message) in client {
        check_collab(name, message);
    }
    // The provider closes without a reason; the reason that we write may be empty.
    let close = recorded("client_close");
    let frame = ClientFrame::decode(&close).unwrap();
    assert_eq!(frame.encode(), [&close[..], &[0]].concat());
    assert_eq!(
        ClientFrame::decode(&recorded("client_pong")),
        Ok(CollabFrame::Pong)
    );

    let session = recorded("client_session");
    let Ok(CollabFrame::Document { address, .. }) = ClientFrame::decode(&session) else {
        panic!("a session has an address");
    };
    assert_eq!(address.as_str(), "p/doc\0sess1");
}

#[test]
fn frames_of_a_hocuspocus_server_are_read_and_written() {
    for (name, auth) in [
        ("server_token_request", ServerAuth::TokenRequest),
        (
            "server_denied",
            ServerAuth::PermissionDenied { reason: "no" },
        ),
        (
            "server_granted",
            ServerAuth::Authenticated { read_only: false },
        ),
        (
            "server_readonly",
            ServerAuth::Authenticated { read_only: true },
        ),
    ] {
        check_collab(name, CollabMessage::Auth(auth));
    }
    check_collab::<ServerAuth<'_>>(
        "server_step1",
        CollabMessage::Sync(SyncMessage::Step1(&[0])),
    );
}

/// Fed to the real provider, these gave `unsyncedChanges`, `stateless`, `close` with the reason,
/// and `synced`.
#[test]
fn what_only_our_server_sends_has_the_bytes_that_the_provider_understood() {
    let address = uspark_shared::codec::collab::Address::new("p/doc");
    for (message, hex) in [
        (CollabMessage::SyncStatus(true), "05702f646f630801"),
        (CollabMessage::Stateless("{}"), "05702f646f6305027b7d"),
        (
            CollabMessage::Close { reason: "bye" },
            "05702f646f630703627965",
        ),
        (
            CollabMessage::Sync(SyncMessage::Step2(&[0, 0])),
            "05702f646f630001020000",
        ),
    ] {
        let frame = ServerFrame::new(address, message).encode();
        assert_eq!(frame, bytes::from_hex(hex));
    }
}
