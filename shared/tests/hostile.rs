//! Bytes from strangers: what the fuzz targets have found interesting, and mutations of what real clients send.

#![allow(clippy::disallowed_methods, reason = "the corpus is read from the disk")]

use std::fs;
use std::path::Path;
use std::thread;

use uspark_shared::codec::message::SyncMessage;
use uspark_shared::diff::diff;
use uspark_shared::replica::{ClientId, TextReplica};
use uspark_tests::Row;

mod checks;
mod frames;

use checks::Documents;
use frames::{Framing, Recorded, messages};

/// Frames after which a document is thrown away, so that it stays small.
const FRAMES_OF_A_DOCUMENT: usize = 200;

#[test]
fn the_corpus_of_the_fuzz_targets() {
    for (target, check) in [
        ("frame", checks::frame as fn(&[u8])),
        ("update", checks::update),
        ("session", checks::session),
    ] {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
        let files = fs::read_dir(&corpus).expect("the corpus is in the tree");
        let mut count = 0;
        for file in files {
            let path = file.expect("a file").path();
            let bytes = fs::read(&path).expect("a file of the corpus");
            let held = std::panic::catch_unwind(|| check(&bytes));
            assert!(held.is_ok(), "{}", path.display());
            count += 1;
        }
        assert!(count > 50, "{target} has {count} cases");
    }
}

/// What a thread has seen.
#[derive(Default)]
struct Seen {
    unreadable: usize,
    taken: usize,
    refused: usize,
    panics: usize,
}

#[test]
fn mutated_frames() {
    let mut row = Row::begin("mutated frames of real clients");
    let total = row.count(10_000_000, 100_000);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let began = std::time::Instant::now();
    let seen: Vec<Seen> = thread::scope(|scope| {
        let of_each = total.div_ceil(threads);
        let all: Vec<_> = (0..threads)
            .map(|_| {
                let random = row.random.fork();
                scope.spawn(move || receive_mutated(of_each, random))
            })
            .collect();
        let joined = all.into_iter().map(|thread| thread.join());
        joined.map(|seen| seen.expect("no check fails")).collect()
    });
    let sum = |of: fn(&Seen) -> usize| seen.iter().map(of).sum::<usize>();
    let (unreadable, taken) = (sum(|seen| seen.unreadable), sum(|seen| seen.taken));
    // Neither side of the test may quietly become empty.
    assert!(unreadable > total / 5 && taken > total / 20, "{unreadable} unreadable, {taken} taken");
    row.held(format_args!(
        "{total} frames, {:.0} a second; {unreadable} unreadable, {taken} updates taken, {} refused, {} panics caught",
        total as f64 / began.elapsed().as_secs_f64(),
        sum(|seen| seen.refused),
        sum(|seen| seen.panics),
    ));
}

/// Takes mutated frames as a server does, while somebody types into another document.
fn receive_mutated(frames: usize, mut random: fastrand::Rng) -> Seen {
    let recorded = Recorded::all();
    let (mut seen, mut documents) = (Seen::default(), Documents::new());
    let (typist, bystander) = (TextReplica::new(client(1)), TextReplica::new(client(2)));
    let mut typed = String::new();
    for number in 1..=frames {
        let framing = *random.choice(&[Framing::YWebsocket, Framing::Hocuspocus]).expect("two");
        let frame = recorded.mutated(framing, "p/doc", &mut random);
        checks::frame(&frame);
        match messages(framing, &frame) {
            None => seen.unreadable += 1,
            Some(messages) => {
                for message in messages {
                    match (documents.receive(message), message) {
                        (true, SyncMessage::Step1(_)) => {}
                        (true, _) => seen.taken += 1,
                        (false, _) => seen.refused += 1,
                    }
                }
            }
        }
        if number % FRAMES_OF_A_DOCUMENT == 0 || number == frames {
            documents.assert_sound();
            seen.panics += documents.panics;
            documents = Documents::new();
            let before = typed.clone();
            typed.push(char::from(random.u8(b'a'..=b'z')));
            let update = typist.edit(&diff(&before, &typed)).expect("a letter");
            assert!(bystander.apply(&update).expect("another document").changed);
        }
    }
    assert_eq!(bystander.text(), typed);
    seen
}

fn client(number: u8) -> ClientId {
    ClientId::from_random([number; 4])
}
