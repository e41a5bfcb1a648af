//! The figures, and what each should be. Nothing is asked for here.

use super::optimised::Optimised;
use crate::cli::output::size;
use crate::control::{Day, Statistics};
use serde::Serialize;

/// In microseconds.
const DAY: u64 = 24 * 60 * 60 * 1_000_000;
/// From so many days on it is said how the store grows.
const GROWTH_DAYS: u64 = 2;

/// What the figures are made of.
pub(super) struct Observed {
    pub(super) days: Vec<Day>,
    pub(super) statistics: Statistics,
    pub(super) optimised: Option<Optimised>,
}

/// In what a figure is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Unit {
    /// Hundredths.
    Percent,
    /// Bytes.
    Bytes,
    /// Bytes a week.
    BytesAWeek,
    /// A number.
    Count,
}

impl Unit {
    /// A value as people read it.
    pub(super) fn written(self, value: f64) -> String {
        // Only for people.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let bytes = |value: f64| if value < 0.0 { format!("-{}", size(-value as u64)) } else { size(value as u64) };
        match self {
            Self::Percent => format!("{value:.1} %"),
            Self::Bytes => bytes(value),
            Self::BytesAWeek => format!("{}/week", bytes(value)),
            Self::Count => format!("{value:.0}"),
        }
    }
}

/// What a value should be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Target {
    /// Above this.
    Above(f64),
    /// Below this.
    Below(f64),
    /// No more than this.
    AtMost(f64),
}

/// Whether it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Verdict {
    /// It is.
    Met,
    /// It is not.
    Missed,
    /// There is nothing to say it of, or no target.
    Unknown,
}

/// One figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Figure {
    /// A word that stays.
    pub(super) code: &'static str,
    /// What it is, for people.
    pub(super) what: &'static str,
    /// In [`Self::unit`]; left out where nobody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) value: Option<f64>,
    pub(super) unit: Unit,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Target>,
    pub(super) verdict: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remark: Option<String>,
}

impl Figure {
    fn new(code: &'static str, what: &'static str, unit: Unit, value: Option<f64>) -> Self {
        Self { code, what, value, unit, target: None, verdict: Verdict::Unknown, remark: None }
    }

    fn should_be(mut self, target: Target) -> Self {
        let is_met = |value: f64| match target {
            Target::Above(least) => value > least,
            Target::Below(most) => value < most,
            Target::AtMost(most) => value <= most,
        };
        self.verdict = match self.value.map(is_met) {
            Some(true) => Verdict::Met,
            Some(false) => Verdict::Missed,
            None => Verdict::Unknown,
        };
        self.target = Some(target);
        self
    }

    fn remark(mut self, remark: impl Into<Option<String>>) -> Self {
        self.remark = remark.into();
        self
    }

    /// What it should be, for people.
    pub(super) fn target(&self) -> Option<String> {
        self.target.map(|target| match target {
            Target::Above(least) => format!("> {}", self.unit.written(least)),
            Target::Below(most) => format!("< {}", self.unit.written(most)),
            Target::AtMost(most) => format!("<= {}", self.unit.written(most)),
        })
    }
}

/// All of them, over so many days up to the last one that is known.
pub(super) fn all(observed: &Observed, days: u32) -> Vec<Figure> {
    let last = observed.days.last().map_or(0, |day| day.day_timestamp);
    let first = last.saturating_sub(u64::from(days - 1) * DAY);
    let days: Vec<&Day> = observed.days.iter().filter(|day| day.day_timestamp >= first).collect();
    let sum = |value: fn(&Day) -> u64| days.iter().map(|day| value(day)).fold(0, u64::saturating_add);
    let (hits, far) = (sum(|day| day.lookups_peer), sum(|day| day.lookups_upstream));
    let (done, failed) = (sum(|day| day.transfers_completed), sum(|day| day.transfers_failed));
    let (near, became) = (sum(|day| day.bytes_from_peers), sum(|day| day.nar_bytes_from_peers));
    let growth = growth(&days);
    let resources = &observed.statistics.resources;
    let full = resources.disk_bytes.zip(resources.disk_free_bytes).map(|(all, free)| (all.saturating_sub(free), all));
    let left = growth.filter(|growth| *growth > 0.0).zip(resources.disk_free_bytes);
    let optimised = observed.optimised.as_ref();
    vec![
        Figure::new("hit-rate", "Of what was found, peers had", Unit::Percent, percent(hits, hits + far))
            .should_be(Target::Above(80.0)),
        Figure::new("saved", "Came from peers", Unit::Bytes, Some(float(near))),
        Figure::new(
            "downloaded",
            "Came from the Internet",
            Unit::Bytes,
            Some(float(sum(|day| day.bytes_from_upstreams))),
        ),
        Figure::new("shared", "Given to other machines", Unit::Bytes, Some(float(sum(|day| day.bytes_shared)))),
        Figure::new(
            "compressed",
            "Saved on the wire by compression",
            Unit::Percent,
            percent(became.saturating_sub(near), became),
        ),
        Figure::new("failed", "Transfers that failed", Unit::Percent, percent(failed, done + failed))
            .should_be(Target::Below(5.0)),
        Figure::new(
            "violations",
            "NARs that were not what was signed",
            Unit::Count,
            Some(float(sum(|day| day.verification_failures))),
        )
        .should_be(Target::AtMost(0.0)),
        Figure::new(
            "uptime",
            "Uptime, while the machine was on",
            Unit::Percent,
            percent(sum(|day| day.up_usec), sum(|day| day.on_usec).max(sum(|day| day.up_usec))),
        )
        .should_be(Target::Above(99.0)),
        Figure::new("growth", "Growth of the store", Unit::BytesAWeek, growth).should_be(Target::Below(5e9)).remark(
            left.map(|(growth, free)| format!("the disk is full in {:.0} days like this", float(free) / growth * 7.0)),
        ),
        Figure::new(
            "disk",
            "The disk of the store is full to",
            Unit::Percent,
            full.and_then(|(used, all)| percent(used, all)),
        )
        .should_be(Target::Below(85.0))
        .remark(full.map(|(used, all)| format!("{} are left", size(all - used)))),
        Figure::new(
            "optimised",
            "Saved in the store by keeping files once",
            Unit::Percent,
            optimised.and_then(|seen| percent(seen.saved, seen.saved + seen.kept)),
        )
        .should_be(Target::Above(20.0))
        .remark(
            optimised
                .map(|seen| format!("{}{}", size(seen.saved), if seen.is_part { ", of a part of it" } else { "" })),
        ),
        Figure::new("memory", "Memory of the service", Unit::Bytes, resources.memory_bytes.map(float))
            .should_be(Target::AtMost(64.0 * 1024.0 * 1024.0)),
    ]
}

/// Bytes a week, from the first to the last day on which the store was measured.
fn growth(days: &[&Day]) -> Option<f64> {
    let mut measured = days.iter().filter_map(|day| Some((day.day_timestamp, day.store_bytes?)));
    let first = measured.next()?;
    let last = measured.next_back()?;
    let span = (last.0.saturating_sub(first.0)) / DAY;
    (span >= GROWTH_DAYS).then(|| (float(last.1) - float(first.1)) / float(span) * 7.0)
}

fn percent(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| float(part) / float(whole) * 100.0)
}

/// Far below where a float cannot tell numbers apart, as far as people care.
#[allow(clippy::cast_precision_loss)]
const fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Control as _;
    use crate::control::stub::Stub;

    async fn observed(days: Vec<Day>) -> Observed {
        let mut statistics = Stub::default().statistics().await.unwrap();
        statistics.resources.disk_free_bytes = Some(70_000_000_000);
        Observed { days, statistics, optimised: Some(Optimised { kept: 3, saved: 1, is_part: true }) }
    }

    fn day(number: u64, store: Option<u64>) -> Day {
        let (lookups_peer, lookups_upstream, up_usec, on_usec) = (9, 1, 98, 100);
        Day {
            day_timestamp: number * DAY,
            store_bytes: store,
            lookups_peer,
            lookups_upstream,
            up_usec,
            on_usec,
            ..Day::default()
        }
    }

    fn find<'a>(figures: &'a [Figure], code: &str) -> &'a Figure {
        figures.iter().find(|figure| figure.code == code).unwrap()
    }

    #[tokio::test]
    async fn figures_are_held_against_their_targets() {
        let figures = all(&observed(vec![day(1, Some(1)), day(100, None), day(101, None)]).await, 30);
        let of = |code| (find(&figures, code).value, find(&figures, code).verdict);
        assert_eq!(of("hit-rate"), (Some(90.0), Verdict::Met));
        assert_eq!(of("uptime"), (Some(98.0), Verdict::Missed));
        assert_eq!(of("growth"), (None, Verdict::Unknown), "the first day is too long ago");
        assert_eq!(of("optimised"), (Some(25.0), Verdict::Met));
        assert_eq!(of("failed"), (None, Verdict::Unknown), "of nothing nothing is said");
        assert_eq!(find(&figures, "hit-rate").target().unwrap(), "> 80.0 %");
    }

    #[tokio::test]
    async fn growth_says_when_the_disk_is_full() {
        let figures =
            all(&observed(vec![day(100, Some(50)), day(101, None), day(114, Some(20_000_000_050))]).await, 30);
        let growth = find(&figures, "growth");
        assert_eq!((growth.value, growth.verdict), (Some(1e10), Verdict::Missed));
        assert_eq!(growth.remark.as_deref(), Some("the disk is full in 49 days like this"));
        let shrinks = all(&observed(vec![day(1, Some(100)), day(8, Some(50))]).await, 30);
        let growth = find(&shrinks, "growth");
        assert_eq!((growth.value, growth.remark.as_deref()), (Some(-50.0), None));
        assert_eq!(growth.unit.written(-50.0), "-50 B/week");
    }

    #[tokio::test]
    async fn codes_are_words_of_their_own() {
        let figures = all(&observed(Vec::new()).await, 1);
        let codes: std::collections::BTreeSet<_> = figures.iter().map(|figure| figure.code).collect();
        assert_eq!(codes.len(), figures.len());
    }
}
