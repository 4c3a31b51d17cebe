//! Waiting for a condition, with a deadline, and playing somebody who takes time: the only places of the tests that
//! sleep.

use std::{
    fmt::Debug,
    thread,
    time::{Duration, Instant},
};

/// How long anything that should happen at once may take on a busy machine of two cores.
pub const SOON: Duration = Duration::from_secs(30);

/// How long to wait between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks until `condition` gives a value; panics with its last reason when that has not happened within `deadline`.
#[track_caller]
pub fn eventually<T>(deadline: Duration, mut condition: impl FnMut() -> anyhow::Result<T>) -> T {
    let start = Instant::now();
    loop {
        match condition() {
            Ok(value) => return value,
            Err(reason) if start.elapsed() > deadline => {
                panic!("not within {deadline:?}: {reason:#}")
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

/// Is an error that shows both when they differ.
pub fn same<A: PartialEq<B> + Debug, B: Debug>(found: A, expected: B) -> anyhow::Result<()> {
    anyhow::ensure!(found == expected, "found {found:?}, expected {expected:?}");
    Ok(())
}

/// Lets time pass: the pace of a person or a program that a test plays, or how long it takes something away. Never to wait
/// for something to happen.
pub fn pause(time: Duration) {
    thread::sleep(time);
}
