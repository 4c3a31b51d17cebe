//! What is measured of a run: times, and what the kernel says of a process.

use std::fs;

use anyhow::Context as _;

/// Times in milliseconds.
#[derive(Debug, Clone, Default)]
pub struct Times(Vec<f64>);

impl Times {
    /// Takes one in.
    pub fn add(&mut self, ms: f64) {
        self.0.push(ms);
    }

    /// Takes those of another in.
    pub fn join(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The time that so large a part of all did not exceed; `part` is 0 to 1. Zero if there is none.
    pub fn at(&mut self, part: f64) -> f64 {
        self.0.sort_by(f64::total_cmp);
        let last = self.0.len().saturating_sub(1);
        let index = (part * last as f64).round() as usize;
        self.0.get(index).copied().unwrap_or_default()
    }
}

/// The middle one of several runs.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let count = values.len();
    match (count, count % 2) {
        (0, _) => 0.0,
        (_, 1) => values[count / 2],
        _ => (values[count / 2 - 1] + values[count / 2]) / 2.0,
    }
}

/// Seconds of CPU that a process has used, all of its threads.
pub fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(") ").context("a name in brackets")?.1;
    let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<f64>);
    let ticks: f64 = ticks.sum::<Result<_, _>>()?;
    // The kernel's unit for user space has been 1/100 s on every Linux of this century.
    Ok(ticks / 100.0)
}

/// Bytes of a process that are in memory.
pub fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line
        .context("VmRSS")?
        .trim()
        .trim_end_matches(" kB")
        .parse()?;
    Ok(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_the_ends() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        let mut times = Times::default();
        (0..101).rev().for_each(|ms| times.add(f64::from(ms)));
        assert_eq!(
            (times.at(0.0), times.at(0.5), times.at(1.0)),
            (0.0, 50.0, 100.0)
        );
        assert_eq!(Times::default().at(0.5), 0.0);
    }

    #[test]
    fn this_process_uses_something() {
        let pid = std::process::id();
        assert!(cpu_seconds(pid).unwrap() >= 0.0);
        assert!(resident_bytes(pid).unwrap() > 1 << 20);
    }
}
