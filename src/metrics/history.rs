//! What was counted day by day, for those who want to know what it comes to: a list with a bound, which whoever keeps it fills now and
//! then and writes down.
//!
//! Days are those of UTC: the service knows no other, and a chart needs none. How long the machine ran is told by a clock that begins
//! with it; two runs of a machine are told apart by when that was.

use super::Snapshot;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use thiserror::Error;

/// How many days are kept: a year, and the month before it to compare with.
const DAYS_MAX: usize = 400;
/// The largest history read, in bytes: every day at its longest.
pub const HISTORY_MAX: u64 = 512 * 1024;
/// The version of what [`History::export`] gives.
const VERSION: u32 = 1;
/// In seconds.
const DAY: u64 = 24 * 60 * 60;
/// How far the time at which a machine began may wander within one run, in seconds: clocks are set right by that much.
const SAME_START: u64 = 120;

/// Why a history was not taken over.
#[derive(Debug, Error)]
pub enum HistoryError {
    /// Not what [`History::export`] gives.
    #[error("the history cannot be read: {0}")]
    Format(#[from] serde_json::Error),
    /// Of another program.
    #[error("the history has version {0}, not {VERSION}")]
    Version(u32),
}

/// What happened on one day, as far as the service ran.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Day {
    /// When it began.
    pub day_timestamp: u64,
    /// How long the service ran.
    #[serde(rename = "upUSec")]
    pub up_usec: u64,
    /// How long the machine ran, as far as the service knows.
    #[serde(rename = "onUSec")]
    pub on_usec: u64,
    /// Bytes that came from peers.
    pub bytes_from_peers: u64,
    /// Bytes of NARs that those were, which are more where they came compressed.
    pub nar_bytes_from_peers: u64,
    /// Bytes that came from the Internet.
    pub bytes_from_upstreams: u64,
    /// Bytes given to other machines.
    pub bytes_shared: u64,
    /// Lookups that a peer could answer.
    pub lookups_peer: u64,
    /// Lookups that only an upstream could answer.
    pub lookups_upstream: u64,
    /// Lookups that nobody could answer.
    pub lookups_absent: u64,
    /// Lookups to which somebody did not answer in time.
    pub lookups_unknown: u64,
    /// Transfers that ended with the whole NAR.
    pub transfers_completed: u64,
    /// Transfers that ended without.
    pub transfers_failed: u64,
    /// NARs whose content was not what was signed.
    pub verification_failures: u64,
    /// The size of all paths in the store, when it was last looked at; left out before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store_bytes: Option<u64>,
    /// What was free on its disk then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_free_bytes: Option<u64>,
}

/// How much there is of what does not grow by being counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Levels {
    /// The size of all paths in the store.
    pub store_bytes: Option<u64>,
    /// What is free on its disk.
    pub disk_free_bytes: Option<u64>,
    /// How large that disk is.
    pub disk_bytes: Option<u64>,
}

/// When something is noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The time of day.
    pub wall: SystemTime,
    /// How long the machine has been running.
    pub machine: Duration,
}

/// The days, and what was counted when the last one was noted.
#[derive(Debug, Default)]
pub struct History(Mutex<Notes>);

#[derive(Debug, Default)]
struct Notes {
    days: Vec<Day>,
    /// When the last run of the machine that is known of began, in seconds since 1970, and how long it had been running.
    machine: Option<Machine>,
    /// How much there was of the rest, when it was last looked at.
    levels: Levels,
    /// What was counted by then, and how long the machine had been running; `None` before this run first noted anything.
    last: Option<(Snapshot, Duration)>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Machine {
    /// Seconds since 1970.
    began: u64,
    /// Seconds.
    ran: u64,
}

#[derive(Serialize, Deserialize)]
struct Exported {
    version: u32,
    machine: Option<Machine>,
    days: Vec<Day>,
}

impl History {
    /// Notes what was counted until now: [`Statistics::totals`](super::Statistics::totals). The first time in a run only where it begins.
    pub fn note(&self, counted: Snapshot, levels: Levels, now: Moment) {
        self.0.lock().note(counted, levels, now);
    }

    /// The days, the oldest first. Days without the service are missing.
    #[must_use]
    pub fn days(&self) -> Vec<Day> {
        self.0.lock().days.clone()
    }

    /// How much there is of what does not grow by being counted, as it was last noted in this run.
    #[must_use]
    pub fn levels(&self) -> Levels {
        self.0.lock().levels
    }

    /// Everything, to be kept: JSON with a version.
    #[must_use]
    pub fn export(&self) -> Vec<u8> {
        let notes = self.0.lock();
        let exported = Exported { version: VERSION, machine: notes.machine, days: notes.days.clone() };
        // Numbers by name: there is nothing that JSON could not hold.
        serde_json::to_vec(&exported).unwrap_or_default()
    }

    /// Goes on from what [`Self::export`] gave, in the order of days, without those that are yet to come.
    ///
    /// # Errors
    /// No such JSON, or of another version. Then nothing is changed.
    pub fn restore(&self, exported: &[u8], now: SystemTime) -> Result<(), HistoryError> {
        let Exported { version, machine, mut days } = serde_json::from_slice(exported)?;
        if version != VERSION {
            return Err(HistoryError::Version(version));
        }
        let today = beginning(now);
        days.retain(|day| day.day_timestamp <= today);
        days.sort_by_key(|day| day.day_timestamp);
        days.dedup_by_key(|day| day.day_timestamp);
        let mut notes = self.0.lock();
        notes.days = days;
        notes.machine = machine;
        notes.bound();
        Ok(())
    }
}

impl Notes {
    fn note(&mut self, counted: Snapshot, levels: Levels, now: Moment) {
        let on = self.machine_ran(now);
        let known = self.levels;
        self.levels = Levels {
            store_bytes: levels.store_bytes.or(known.store_bytes),
            disk_free_bytes: levels.disk_free_bytes.or(known.disk_free_bytes),
            disk_bytes: levels.disk_bytes.or(known.disk_bytes),
        };
        let (grown, up) = match &self.last {
            Some((before, then)) => (counted.since(before), now.machine.saturating_sub(*then)),
            None => (Snapshot::default(), Duration::ZERO),
        };
        self.last = Some((counted, now.machine));
        let day = self.day(beginning(now.wall));
        let count = |name: &str| grown.get(name);
        let grow = [
            (&mut day.up_usec, micros(up)),
            (&mut day.on_usec, micros(on)),
            (&mut day.bytes_from_peers, count("fetched_peer_bytes")),
            (&mut day.nar_bytes_from_peers, count("fetched_peer_nar_bytes")),
            (&mut day.bytes_from_upstreams, count("fetched_upstream_bytes")),
            (&mut day.bytes_shared, count("share.bytes_sent")),
            (&mut day.lookups_peer, count("lookups_peer")),
            (&mut day.lookups_upstream, count("lookups_upstream")),
            (&mut day.lookups_absent, count("lookups_absent")),
            (&mut day.lookups_unknown, count("lookups_unknown")),
            (&mut day.transfers_completed, count("transfers_completed")),
            (&mut day.transfers_failed, count("transfers_failed")),
            (&mut day.verification_failures, count("verification_failures")),
        ];
        for (sum, more) in grow {
            *sum = sum.saturating_add(more);
        }
        day.store_bytes = levels.store_bytes.or(day.store_bytes);
        day.disk_free_bytes = levels.disk_free_bytes.or(day.disk_free_bytes);
    }

    /// For how long the machine has run since this was last asked: within one run of it, or from its begin on.
    fn machine_ran(&mut self, now: Moment) -> Duration {
        let ran = now.machine.as_secs();
        let began = since_1970(now.wall).saturating_sub(ran);
        let before = self.machine.replace(Machine { began, ran });
        match before {
            Some(before) if before.began.abs_diff(began) <= SAME_START => {
                Duration::from_secs(ran.saturating_sub(before.ran))
            }
            // Of the run before nobody knows how it ended, and of the first nobody asked before.
            Some(_) => now.machine,
            None => Duration::ZERO,
        }
    }

    /// The day that began then. A clock that goes back changes the last day there is, and no earlier one.
    fn day(&mut self, begins: u64) -> &mut Day {
        if self.days.last().is_none_or(|last| last.day_timestamp < begins) {
            self.days.push(Day { day_timestamp: begins, ..Day::default() });
            self.bound();
        }
        let last = self.days.len() - 1;
        &mut self.days[last]
    }

    fn bound(&mut self) {
        let surplus = self.days.len().saturating_sub(DAYS_MAX);
        self.days.drain(..surplus);
    }
}

/// When the day of this time began, in microseconds since 1970.
fn beginning(time: SystemTime) -> u64 {
    (since_1970(time) / DAY * DAY).saturating_mul(1_000_000)
}

fn since_1970(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: u64 = 20_000 * DAY;
    const HOUR: u64 = 3600;

    fn at(seconds: u64, machine: u64) -> Moment {
        let wall = UNIX_EPOCH + Duration::from_secs(START + seconds);
        Moment { wall, machine: Duration::from_secs(machine) }
    }

    fn counted(bytes: u64) -> Snapshot {
        Snapshot([("fetched_peer_bytes".to_owned(), bytes)].into())
    }

    #[test]
    fn each_day_has_what_was_counted_in_it() {
        let history = History::default();
        let full = Levels { store_bytes: Some(7), disk_free_bytes: Some(9), disk_bytes: Some(20) };
        history.note(counted(100), full, at(20 * HOUR, 50));
        history.note(counted(130), Levels::default(), at(21 * HOUR, 50 + HOUR));
        history.note(counted(200), Levels::default(), at(25 * HOUR, 50 + 5 * HOUR));
        let days = history.days();
        let bytes: Vec<_> = days.iter().map(|day| (day.bytes_from_peers, day.up_usec / 1_000_000 / HOUR)).collect();
        assert_eq!(bytes, [(30, 1), (70, 4)], "what was there at the start was counted by the run before");
        assert_eq!(history.levels(), full);
        assert_eq!((days[0].store_bytes, days[0].disk_free_bytes, days[1].store_bytes), (Some(7), Some(9), None));
        assert_eq!(days[1].day_timestamp, (START + DAY) * 1_000_000);
    }

    #[test]
    fn the_machine_runs_also_while_the_service_does_not() {
        let first = History::default();
        first.note(counted(0), Levels::default(), at(0, 1000));
        first.note(counted(0), Levels::default(), at(HOUR, 1000 + HOUR));
        // The service ends, and begins two hours later; then the machine is started anew.
        let second = History::default();
        second.restore(&first.export(), at(3 * HOUR, 0).wall).unwrap();
        second.note(counted(0), Levels::default(), at(3 * HOUR, 1000 + 3 * HOUR));
        let third = History::default();
        third.restore(&second.export(), at(5 * HOUR, 0).wall).unwrap();
        third.note(counted(0), Levels::default(), at(5 * HOUR, 60));
        third.note(counted(0), Levels::default(), at(6 * HOUR, 60 + HOUR));
        let day = &third.days()[0];
        assert_eq!((day.up_usec / 1_000_000, day.on_usec / 1_000_000), (2 * HOUR, 3 * HOUR + 60 + HOUR));
    }

    #[test]
    fn what_is_no_history_changes_nothing() {
        let history = History::default();
        history.note(counted(0), Levels::default(), at(0, 0));
        let (before, now) = (history.days(), at(0, 0).wall);
        for bad in [&b""[..], b"[]", br#"{"version":2,"days":[]}"#, br#"{"version":1,"days":[{"upUSec":-1}]}"#] {
            assert!(history.restore(bad, now).is_err());
        }
        assert_eq!(history.days(), before);
        // Days to come, and the same one twice.
        let odd = format!(
            r#"{{"version":1,"days":[{{"dayTimestamp":{}}},{{"dayTimestamp":5}},{{"dayTimestamp":5,"new":1}}]}}"#,
            u64::MAX
        );
        history.restore(odd.as_bytes(), now).unwrap();
        assert_eq!(history.days().len(), 1);
    }

    proptest! {
        #[test]
        fn it_is_bounded_in_order_and_loses_nothing(
            steps in prop::collection::vec((0_u64..3 * DAY, 0_u64..1000, any::<bool>()), 1..600),
        ) {
            let history = History::default();
            let (mut wall, mut bytes) = (DAY * 3, 0);
            history.note(counted(0), Levels::default(), at(wall, 0));
            for (step, grown, back) in steps {
                wall = if back { wall.saturating_sub(step) } else { wall + step };
                bytes += grown;
                history.note(counted(bytes), Levels::default(), at(wall, 0));
            }
            let days = history.days();
            prop_assert!(days.len() <= DAYS_MAX && days.is_sorted_by(|one, next| one.day_timestamp < next.day_timestamp));
            if days.len() < DAYS_MAX {
                prop_assert_eq!(days.iter().map(|day| day.bytes_from_peers).sum::<u64>(), bytes);
            }
            prop_assert!(history.export().len() as u64 <= HISTORY_MAX);
        }
    }
}
