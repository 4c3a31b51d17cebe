//! Bytes from strangers: what the fuzz targets have found interesting, and mutations of what real clients send.

use std::panic::{catch_unwind, set_hook, take_hook};
use std::sync::Once;
use std::thread;
use std::time::Instant;

use uspark_shared::codec::message::SyncMessage;
use uspark_shared::diff::diff;
use uspark_shared::replica::{ClientId, TextReplica};
use uspark_tests::Row;

mod checks;
mod frames;

use checks::Documents;
use frames::bytes::from_hex;
use frames::{Framing, Recorded, messages};

/// Frames after which a document is thrown away, so that it stays small.
const FRAMES_OF_A_DOCUMENT: usize = 200;

/// A fuzz target: its name, its check and its corpus.
type Target = (&'static str, fn(&[u8]), &'static str);

#[test]
fn the_corpus_of_the_fuzz_targets() {
    quiet_about_yrs();
    let targets: [Target; 3] = [
        (
            "frame",
            checks::frame,
            include_str!("../../fuzz/corpus/frame.txt"),
        ),
        (
            "update",
            checks::update,
            include_str!("../../fuzz/corpus/update.txt"),
        ),
        (
            "session",
            checks::session,
            include_str!("../../fuzz/corpus/session.txt"),
        ),
    ];
    for (target, check, corpus) in targets {
        let cases: Vec<_> = corpus
            .lines()
            .filter(|line| !line.starts_with('#'))
            .collect();
        assert!(cases.len() > 200, "{target} has {} cases", cases.len());
        for case in cases {
            let held = catch_unwind(|| check(&from_hex(case)));
            assert!(held.is_ok(), "{target}: {case}");
        }
    }
}

/// Panics inside yrs are caught, and need no word.
fn quiet_about_yrs() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = take_hook();
        set_hook(Box::new(move |panic| {
            if !panic
                .location()
                .is_some_and(|at| at.file().contains("/yrs-"))
            {
                others(panic);
            }
        }));
    });
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
    quiet_about_yrs();
    let total = row.count(10_000_000, 100_000);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let began = Instant::now();
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
    assert!(
        unreadable > total / 5 && taken > total / 20,
        "{unreadable} unreadable, {taken} taken"
    );
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
        let framing = *random
            .choice(&[Framing::YWebsocket, Framing::Hocuspocus])
            .expect("two");
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
