//! The scan against yrs.

use std::collections::BTreeMap;

use uspark_shared::update::{BlockKind, Content, Scan, scan_state_vector};
use yrs::block::{ClientID, ID};
use yrs::updates::decoder::Decode as _;
use yrs::updates::encoder::Encode as _;
use yrs::{IdSet, Update};

/// Asserts that `scan` holds what yrs reads in the same bytes.
pub fn assert_agrees(update: &[u8], scan: &Scan<'_>) {
    let theirs = Update::decode_v1(update).expect("what scans decodes");

    let mut inserted = IdSet::new();
    let mut clocks: BTreeMap<u64, u32> = BTreeMap::new();
    let mut stopped: Vec<u64> = Vec::new();
    let mut items = IdSet::new();
    let mut count = 0;
    for block in scan.blocks() {
        count += 1;
        let client = block.id.client;
        let id = ID::new(ClientID::new(client), block.id.clock);
        let known = clocks.get(&client).copied().unwrap_or(0);
        match block.kind {
            BlockKind::Skip => stopped.push(client),
            _ => inserted.insert(id, block.len),
        }
        if let BlockKind::Item(_) = block.kind {
            items.insert(id, block.len);
        }
        if block.id.clock == known && !stopped.contains(&client) {
            clocks.insert(client, block.end().clock);
        }
        touch(&block.kind);
    }
    assert_eq!(inserted, theirs.insertions(true));
    assert_eq!(items, theirs.insertions(false));
    assert_eq!(count, scan.block_count());
    // yrs prints each block with its length, or as a range: the only view of its single blocks.
    let printed = format!("{theirs:?}");
    let blocks: usize = [", len: ", "gc(", "skip("]
        .iter()
        .map(|m| printed.matches(m).count())
        .sum();
    assert_eq!(count, blocks, "{printed}");

    let vector: BTreeMap<u64, u32> = theirs
        .state_vector()
        .iter()
        .map(|(client, clock)| (client.get(), *clock))
        .collect();
    assert_eq!(clocks, vector);
    let encoded = theirs.state_vector().encode_v1();
    let scanned = scan_state_vector(&encoded).expect("a state vector of yrs");
    assert_eq!(scanned.into_iter().collect::<BTreeMap<_, _>>(), vector);

    let mut deleted = IdSet::new();
    for range in scan.deletes() {
        deleted.insert(ID::new(ClientID::new(range.client), range.start), range.len);
    }
    let mut expected = IdSet::new();
    expected.merge_with(theirs.delete_set().clone());
    assert_eq!(deleted.encode_v1(), normal(&expected));
    assert_eq!(scan.is_empty(), inserted.is_empty() && deleted.is_empty());
}

/// Encodes a set of yrs without clients that have no range and with adjacent ranges joined.
fn normal(set: &IdSet) -> Vec<u8> {
    let mut joined = IdSet::new();
    for (client, ranges) in set.iter() {
        for range in ranges.iter() {
            joined.insert(ID::new(*client, range.start), range.end - range.start);
        }
    }
    joined.encode_v1()
}

/// Builds everything that a block holds back until it is asked for.
fn touch(kind: &BlockKind<'_>) {
    if let BlockKind::Item(item) = kind {
        match item.content {
            Content::Any(values) => assert_eq!(values.iter().count(), values.len()),
            Content::Doc { options, .. } => assert_eq!(options.iter().count(), 1),
            _ => {}
        }
    }
}
