//! Times for people: `3min ago`, and dates on the clock of this machine.

use rusqlite::Connection;
use std::time::{Duration, SystemTime};

/// The units of a span, in microseconds, as systemd writes them.
const UNITS: [(&str, u64); 6] = [
    ("y", 31_557_600_000_000),
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("min", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1000),
];
/// How many units of a span are shown.
const SHOWN: usize = 2;
/// A second in microseconds.
const SECOND: u64 = 1_000_000;

/// What time it is, and how it is written here.
pub(crate) struct Clock {
    now: u64,
    /// Knows the time zone. Asking libc for it directly takes unsafe code; SQLite, which is here for the store's database,
    /// does it soundly.
    local: Option<Connection>,
}

impl Clock {
    /// The clock of this machine.
    pub(crate) fn new() -> Self {
        Self { now: crate::control::timestamp(SystemTime::now()), local: Connection::open_in_memory().ok() }
    }

    /// A clock that stands still, in UTC.
    #[cfg(test)]
    pub(crate) const fn standing(now: u64) -> Self {
        Self { now, local: None }
    }

    /// `3min 12s ago`, or `in 2h` for what is to come.
    pub(crate) fn ago(&self, timestamp: u64) -> String {
        match self.now.checked_sub(timestamp) {
            Some(passed) if passed < SECOND => "just now".to_owned(),
            Some(passed) => format!("{} ago", span(passed - passed % SECOND)),
            None => {
                let left = timestamp - self.now;
                format!("in {}", span((left - left % SECOND).max(SECOND)))
            }
        }
    }

    /// Date and time.
    pub(crate) fn date(&self, timestamp: u64) -> String {
        self.written("%Y-%m-%d %H:%M:%S", timestamp)
            .unwrap_or_else(|| humantime::format_rfc3339_seconds(at(timestamp)).to_string())
    }

    /// The time of day, with milliseconds.
    pub(crate) fn time(&self, timestamp: u64) -> String {
        self.written("%H:%M:%S", timestamp).map_or_else(
            || humantime::format_rfc3339_millis(at(timestamp)).to_string().chars().skip(11).take(12).collect(),
            |time| format!("{time}.{:03}", timestamp % SECOND / 1000),
        )
    }

    fn written(&self, form: &str, timestamp: u64) -> Option<String> {
        let seconds = i64::try_from(timestamp / SECOND).ok()?;
        let ask = "SELECT strftime(?1, ?2, 'unixepoch', 'localtime')";
        self.local.as_ref()?.query_row(ask, (form, seconds), |row| row.get(0)).ok()
    }

    /// Reads a date such as `2026-12-24` or `2026-12-24 18:00`.
    pub(crate) fn parse(&self, text: &str) -> Option<u64> {
        // SQLite also takes numbers, as days of the Julian period.
        let dated = text.len() >= 10 && text.as_bytes()[4] == b'-' && text.as_bytes()[7] == b'-';
        let ask = "SELECT strftime('%s', ?1, 'utc')";
        let answer = self.local.as_ref()?.query_row(ask, [text], |row| row.get::<_, Option<String>>(0)).ok()??;
        answer.parse::<u64>().ok().filter(|_| dated)?.checked_mul(SECOND)
    }

    /// The time so much later than now.
    pub(crate) fn after(&self, span: Duration) -> u64 {
        self.now.saturating_add(crate::control::microseconds(span))
    }
}

fn at(timestamp: u64) -> SystemTime {
    // The year 9999, beyond which there is no way to write it.
    SystemTime::UNIX_EPOCH + Duration::from_micros(timestamp.min(253_402_300_799_000_000))
}

/// A span of microseconds in its two largest units: `3min 12s`.
pub(crate) fn span(microseconds: u64) -> String {
    let mut left = microseconds;
    let mut parts = Vec::new();
    for (unit, length) in UNITS {
        let number = left / length;
        left %= length;
        if number > 0 {
            parts.push(format!("{number}{unit}"));
        }
        // Nobody wants to know the milliseconds beside a minute.
        if parts.len() == SHOWN || (!parts.is_empty() && length == SECOND) {
            break;
        }
    }
    if parts.is_empty() { format!("{microseconds}us") } else { parts.join(" ") }
}

/// How long an answer takes, to three figures or so.
pub(crate) fn latency(microseconds: u64) -> String {
    let tenths = |value: u64, unit: u64| format!("{}.{}", value / unit, value % unit * 10 / unit);
    match microseconds {
        0..1000 => format!("{microseconds}us"),
        1000..100_000 => format!("{}ms", tenths(microseconds, 1000)),
        100_000..SECOND => format!("{}ms", microseconds / 1000),
        _ => format!("{}s", tenths(microseconds, SECOND)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_two_units() {
        let spans =
            [0, 420, 1500, SECOND, 61 * SECOND, 192 * SECOND + 5, 90_061 * SECOND, 40_000_000 * SECOND].map(span);
        assert_eq!(spans, ["0us", "420us", "1ms", "1s", "1min 1s", "3min 12s", "1d 1h", "1y 97d"]);
        let latencies = [7, 1234, 99_999, 512_000, 3_460_000].map(latency);
        assert_eq!(latencies, ["7us", "1.2ms", "99.9ms", "512ms", "3.4s"]);
    }

    #[test]
    fn times_are_told_from_now() {
        let clock = Clock::standing(1_795_183_402_000_000);
        assert_eq!(clock.ago(1_795_183_402_000_000 - 192 * SECOND - 7), "3min 12s ago");
        assert_eq!(clock.ago(1_795_183_402_000_000 - 7), "just now");
        assert_eq!(clock.ago(1_795_183_402_000_000 + 7200 * SECOND), "in 2h");
        assert_eq!(clock.date(1_795_183_402_000_000), "2026-11-20T14:03:22Z");
        assert_eq!(clock.time(1_795_183_402_123_456), "14:03:22.123");
    }

    #[test]
    fn dates_are_of_this_place_there_and_back() {
        let clock = Clock::new();
        let noon = clock.parse("2026-07-01 12:00").unwrap();
        assert_eq!(clock.date(noon), "2026-07-01 12:00:00");
        assert!(clock.parse("2026-12-24").is_some());
        for text in ["now", "2461000.5", "tomorrow", "2026-13-01", ""] {
            assert_eq!(clock.parse(text), None, "{text}");
        }
        assert!(clock.time(noon + 5000).ends_with(":00.005"));
    }
}
