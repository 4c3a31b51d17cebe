//! Rows of the soak: tests that do a hundredth of their work in `make test`, and all of it in `make soak`.
//!
//! What is random in a row comes from its seed, which every row prints. `USPARK_SEED` repeats one.

#![allow(
    clippy::print_stdout,
    reason = "a row's seed and figures are what it is run for"
)]

use std::{env, fmt::Display, time::Instant};

/// How much less is done in the short form.
const SHORT: usize = 100;

/// A row that is being run.
#[derive(Debug)]
pub struct Row {
    name: &'static str,
    full: bool,
    seed: u64,
    began: Instant,
    /// Where the row's random choices come from.
    pub random: fastrand::Rng,
}

impl Row {
    /// Begins a row, and prints its name and seed.
    #[track_caller]
    pub fn begin(name: &'static str) -> Self {
        let given = env::var("USPARK_SEED").ok();
        let seed = given.map_or_else(
            || fastrand::u64(..=u64::from(u32::MAX)),
            |seed| seed.parse().expect("USPARK_SEED is a number"),
        );
        println!("row {name}: seed {seed}");
        Self {
            name,
            full: env::var_os("USPARK_SOAK").is_some(),
            seed,
            began: Instant::now(),
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// Whether this is the long form.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// How many of `full` to do: all, or a hundredth but at least `least`.
    pub fn count(&self, full: usize, least: usize) -> usize {
        match self.full {
            true => full,
            false => (full / SHORT).max(least),
        }
    }

    /// Prints how far the row is.
    pub fn tell(&self, figures: impl Display) {
        let seconds = self.began.elapsed().as_secs_f64();
        println!("so far {}: {figures} ({seconds:.1} s)", self.name);
    }

    /// Ends a row that held, and prints its figures.
    pub fn held(self, figures: impl Display) {
        let form = if self.full { "full" } else { "short" };
        let seconds = self.began.elapsed().as_secs_f64();
        println!(
            "held {}: {figures} ({form} form, seed {}, {seconds:.1} s)",
            self.name, self.seed
        );
    }
}
