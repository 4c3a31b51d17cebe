//! What the scan refuses, each with the smallest update that has it. What it accepts is tested
//! against yjs and yrs in `tests/`.

use super::*;
use crate::codec::{MAX_INTEGER, Writer};

const CLIENT: u64 = 5;

/// An update with one listing of [`CLIENT`]: `count` blocks from `clock` on, whose bytes are
/// `blocks`, and no deletes.
fn update(clock: u64, count: u64, blocks: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.var_uint(1);
    listing(&mut writer, CLIENT, clock, count, blocks);
    writer.byte(0);
    writer.into_bytes()
}

fn listing(writer: &mut Writer, client: u64, clock: u64, count: u64, blocks: &[u8]) {
    writer.var_uint(count).var_uint(client).var_uint(clock);
    for byte in blocks {
        writer.byte(*byte);
    }
}

/// An update without blocks that deletes `ranges` of [`CLIENT`].
fn deleting(ranges: &[(u64, u64)]) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.var_uint(0).var_uint(1).var_uint(CLIENT);
    writer.var_uint(ranges.len() as u64);
    for (start, len) in ranges {
        writer.var_uint(*start).var_uint(*len);
    }
    writer.into_bytes()
}

fn id(clock: u32) -> Id {
    let client = CLIENT;
    Id { client, clock }
}

#[track_caller]
fn refused(update: &[u8]) -> ScanError {
    scan(update).expect_err("no update")
}

/// A text item in root `t` that holds `text`.
fn string(text: &str) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.byte(4).byte(1).var_string("t").var_string(text);
    writer.into_bytes()
}

#[test]
fn clocks_end_where_yrs_stops_counting() {
    let max = u64::from(MAX_CLOCK);
    let clock = ScanError::Clock { client: CLIENT };
    assert!(scan(&update(max - 2, 1, &string("é😀")[..])).is_err());
    assert!(scan(&update(max - 3, 1, &string("é😀"))).is_ok());
    assert_eq!(refused(&update(max, 1, &[0, 1])), clock);
    assert_eq!(refused(&update(max + 1, 1, &[0, 1])), clock);
    assert_eq!(refused(&update(1 << 32, 1, &[0, 1])), clock);
    assert!(scan(&deleting(&[(max - 1, 1)])).is_ok());
    assert_eq!(refused(&deleting(&[(max - 1, 2)])), clock);
    // Each block is in range, their sum is not.
    let gc_of_a_third = [0, 0xff, 0xff, 0xff, 0xff, 0x03];
    assert!(scan(&update(0, 2, &gc_of_a_third.repeat(2))).is_ok());
    assert_eq!(refused(&update(0, 3, &gc_of_a_third.repeat(3))), clock);
}

#[test]
fn a_client_id_has_53_bits() {
    let with_client = |client| {
        let mut writer = Writer::new();
        writer.var_uint(1);
        listing(&mut writer, client, 0, 1, &[0, 1]);
        writer.byte(0);
        writer.into_bytes()
    };
    assert!(scan(&with_client(MAX_INTEGER)).is_ok());
    let too_large = ScanError::Decode(DecodeError::IntegerTooLarge);
    assert_eq!(refused(&with_client(MAX_INTEGER + 1)), too_large);
}

#[test]
fn nothing_is_empty() {
    for block in [
        &[0, 0][..],
        &[10, 0],
        &string(""),
        &[8, 1, 1, b't', 0],
        &[1, 1, 1, b't', 0],
    ] {
        assert_eq!(
            refused(&update(3, 1, block)),
            ScanError::Empty(id(3)),
            "{block:?}"
        );
    }
    assert_eq!(refused(&deleting(&[(3, 0)])), ScanError::Empty(id(3)));
    let without_blocks = [1, 0, 5, 0, 1, 7, 1, 0, 1];
    assert_eq!(refused(&without_blocks), ScanError::NoBlocks(CLIENT));
}

#[test]
fn a_client_is_listed_once() {
    let mut writer = Writer::new();
    writer.var_uint(2);
    listing(&mut writer, CLIENT, 4, 1, &[0, 1]);
    listing(&mut writer, CLIENT, 0, 1, &[0, 1]);
    writer.byte(0);
    assert_eq!(
        refused(&writer.into_bytes()),
        ScanError::ClientTwice(CLIENT)
    );
    let deletes_twice = [0, 2, 5, 1, 0, 1, 5, 0];
    assert_eq!(refused(&deletes_twice), ScanError::ClientTwice(CLIENT));
    // Once in each list is the usual thing.
    let mut both = update(0, 1, &string("ab"));
    both.pop();
    both.extend([1, 5, 1, 0, 1]);
    assert!(scan(&both).is_ok());
}

#[test]
fn deleted_ranges_are_in_order_and_apart() {
    assert!(scan(&deleting(&[(0, 2), (2, 1), (9, 1)])).is_ok());
    for ranges in [[(4, 1), (0, 1)], [(0, 2), (1, 2)], [(1, 1), (1, 1)]] {
        let at = ScanError::DeletesOutOfOrder(id(ranges[1].0 as u32));
        assert_eq!(refused(&deleting(&ranges)), at);
    }
}

#[test]
fn no_block_refers_to_its_own_future() {
    // A string at 5:3 after, before and inside 5:3, and in a block that comes two later.
    let origin = |clock| update(3, 1, &[0x84, 5, clock, 1, b'x']);
    let right_origin = |clock| update(3, 1, &[0x44, 5, clock, 1, b'x']);
    let parent = |clock| update(3, 1, &[4, 0, 5, clock, 1, b'x']);
    for of in [&origin as &dyn Fn(u8) -> Vec<u8>, &right_origin, &parent] {
        assert!(scan(&of(2)).is_ok());
        for clock in [3, 5] {
            let reference = id(clock.into());
            let block = id(3);
            let expected = ScanError::OwnFuture { block, reference };
            assert_eq!(refused(&of(clock)), expected);
        }
    }
    // Of another client it may well be ahead.
    assert!(scan(&update(3, 1, &[0x84, 6, 9, 1, b'x'])).is_ok());
}

#[test]
fn bits_that_only_one_decoder_ignores_are_refused() {
    // Yjs takes 0x80 for GC and 0x8a for Skip, yrs takes 0x14 for a string.
    for block in [
        &[0x80, 5, 0, 1][..],
        &[0x8a, 5, 0, 1],
        &[0x14, 1, 1, b't', 1, b'x'],
    ] {
        assert!(matches!(
            refused(&update(3, 1, block)),
            ScanError::Decode(DecodeError::Unknown { .. })
        ));
    }
    // A parent that is neither 0 nor 1.
    let parent = refused(&update(3, 1, &[4, 2, 5, 0, 1, b'x']));
    assert!(matches!(
        parent,
        ScanError::Decode(DecodeError::Unknown { value: 2, .. })
    ));
}

#[test]
fn types_that_clients_throw_at_are_unsupported() {
    for number in [7, 9, 15, 0x82] {
        let nested = update(0, 1, &[7, 1, 1, b't', number, 0]);
        let expected = ScanError::Unsupported(Unsupported::TypeRef(number));
        assert_eq!(refused(&nested), expected);
    }
}

#[test]
fn embedded_json_is_what_both_sides_hold() {
    let embed = |json: &str| {
        let mut writer = Writer::new();
        writer.byte(5).byte(1).var_string("t").var_string(json);
        update(0, 1, &writer.into_bytes())
    };
    assert!(scan(&embed(r#"{"a":[1.5,"\ud83d\ude00"]}"#)).is_ok());
    for json in [r#""\ud83d""#, "10000000000000000000"] {
        assert_eq!(
            refused(&embed(json)),
            ScanError::Unsupported(Unsupported::Json)
        );
    }
    for json in ["", "{", "undefined"] {
        assert!(matches!(
            refused(&embed(json)),
            ScanError::Decode(DecodeError::Json(_))
        ));
    }
    let deep = "[".repeat(100_000);
    assert_eq!(
        refused(&embed(&deep)),
        ScanError::Decode(DecodeError::TooDeep)
    );
}

#[test]
fn a_subdocument_has_an_object_of_options() {
    let with_options = |tag| update(0, 1, &[9, 1, 1, b't', 1, b'g', tag, 0]);
    assert!(scan(&with_options(118)).is_ok());
    assert!(scan(&with_options(117)).is_err());
}

#[test]
fn counts_are_held_against_what_is_there() {
    let huge = [0xff, 0xff, 0xff, 0xff, 0x7f];
    let one_block = |block: &[u8]| update(0, 1, &[block, &huge].concat());
    let inputs = [
        huge.to_vec(),
        [&[1][..], &huge, &[5, 0, 0, 1, 0]].concat(),
        [&[0][..], &huge].concat(),
        [&[0, 1, 5][..], &huge].concat(),
        one_block(&[8, 1, 1, b't']),
        one_block(&[4, 1, 1, b't']),
        one_block(&[3, 1, 1, b't']),
    ];
    for input in inputs {
        let error = refused(&input);
        let truncated = matches!(error, ScanError::Decode(DecodeError::Truncated { .. }));
        assert!(truncated, "{input:02x?}: {error}");
    }
}

#[test]
fn an_update_ends_where_it_says() {
    let whole = update(0, 2, &[string("ab"), string("c")].concat());
    assert!(scan(&whole).is_ok());
    for cut in 0..whole.len() {
        assert!(scan(&whole[..cut]).is_err(), "cut at {cut}");
    }
    let longer = [&whole[..], &[0]].concat();
    let trailing = ScanError::Decode(DecodeError::TrailingBytes(1));
    assert_eq!(refused(&longer), trailing);
}

#[test]
fn skips_alone_add_nothing() {
    assert!(scan(&[0, 0]).unwrap().is_empty());
    assert!(scan(&update(0, 1, &[10, 4])).unwrap().is_empty());
    assert!(!scan(&update(0, 2, &[10, 4, 0, 1])).unwrap().is_empty());
    assert!(!scan(&deleting(&[(0, 1)])).unwrap().is_empty());
}
