//! How long things are kept that nothing needs any more.

use std::time::Duration;

/// The longest that can be said: longer than anybody keeps a disk.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
/// The shortest: a client that uploads bytes must get to say what they are for.
const SHORTEST: Duration = Duration::from_secs(1);

/// How long things are kept that nothing needs any more, and how often they are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
pub struct Retention {
    /// How long uploaded bytes wait for an entry that names them
    #[arg(
        long,
        env = "USPARK_BLOB_GRACE",
        value_name = "TIME",
        default_value = "1d"
    )]
    #[arg(value_parser = time)]
    pub blob_grace: Duration,
    /// How long every version of a text is kept; later the last one of each day
    #[arg(
        long,
        env = "USPARK_KEEP_VERSIONS",
        value_name = "TIME",
        default_value = "30d"
    )]
    #[arg(value_parser = time)]
    pub keep_versions: Duration,
    /// How long the contents of a deleted file are kept
    #[arg(
        long,
        env = "USPARK_KEEP_DELETED",
        value_name = "TIME",
        default_value = "30d"
    )]
    #[arg(value_parser = time)]
    pub keep_deleted: Duration,
    /// How long a line of the audit log is kept
    #[arg(
        long,
        env = "USPARK_KEEP_AUDIT",
        value_name = "TIME",
        default_value = "90d"
    )]
    #[arg(value_parser = time)]
    pub keep_audit: Duration,
    /// How often the server looks for what is to go
    #[arg(
        long,
        env = "USPARK_COLLECT_EVERY",
        value_name = "TIME",
        default_value = "1h"
    )]
    #[arg(value_parser = time)]
    pub collect_every: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        let days = |days: u64| Duration::from_secs(days * 24 * 60 * 60);
        Self {
            // A client that was cut off in an upload comes back within a day, or uploads it again.
            blob_grace: days(1),
            keep_versions: days(30),
            keep_deleted: days(30),
            keep_audit: days(90),
            collect_every: Duration::from_secs(60 * 60),
        }
    }
}

/// Milliseconds, as dates have them.
pub fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Reads a whole number with its unit: `30d`, `12h`, `5m`, `10s`.
fn time(text: &str) -> Result<Duration, String> {
    let wrong = || "a time is a number with a unit, such as 30d, 12h, 5m or 10s".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return Err(wrong()),
    };
    let number = text.strip_suffix(unit).unwrap_or_default();
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let time = Duration::from_secs(number.saturating_mul(seconds));
    match (SHORTEST..=LONGEST).contains(&time) {
        true => Ok(time),
        false => Err("a time is at least 1s and at most 36500d".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::config::Config;

    #[test]
    fn a_time_has_a_unit_and_bounds() {
        let seconds = |text| time(text).map(|time| time.as_secs());
        assert_eq!(seconds("10s"), Ok(10));
        assert_eq!(seconds("5m"), Ok(300));
        assert_eq!(seconds("12h"), Ok(43_200));
        assert_eq!(seconds("36500d"), Ok(3_153_600_000));
        for bad in [
            "",
            "d",
            "30",
            "1.5d",
            "-1d",
            "0s",
            "36501d",
            "1w",
            "30 d",
            "99999999999999999999d",
            "1é",
        ] {
            assert!(time(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_the_help_says_is_the_default() {
        let parsed = Config::parse_from(["sync-server"]);
        assert_eq!(parsed.retention, Retention::default());
        let parsed = Config::parse_from(["sync-server", "--keep-versions", "7d"]);
        assert_eq!(millis(parsed.retention.keep_versions), 604_800_000);
    }
}
