//! How much leaves this machine, and how much others should count on it: by the time of day, by what the connection costs, and by
//! what is left in the battery.

use super::yielding::{Second, Yielding};
use crate::config::{Config, OnMetered, TimeOfDay, UploadWindow};
use crate::control::StateCell;
use crate::fetch::Fetcher;
use crate::http::Share;
use crate::metrics::{HttpMetrics, Metrics};
use crate::peers::Peers;
use crate::resilience::Rates;
use crate::system::conditions::Conditions;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How much a machine counts as a source: on a wire, without one, and on its battery. One that pays by the byte counts for nothing.
const WIRED: u8 = 100;
const WIRELESS: u8 = 25;
const ON_BATTERY: u8 = 10;

/// How much more than the least must be in the battery until something leaves again, in percent.
const RECOVERED: u8 = 3;

/// How often it is looked what comes and what is sent, while something comes.
const SECOND: Duration = Duration::from_secs(1);
/// How often it is looked what time it is, where that matters.
const CLOCK: Duration = Duration::from_secs(20);

/// What the configuration says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UploadRules {
    rates: Rates,
    schedule: Vec<UploadWindow>,
    on_metered: OnMetered,
    battery_min: u8,
}

impl UploadRules {
    pub(super) fn of(config: &Config) -> Self {
        let share = &config.share;
        Self {
            rates: Rates { all: share.upload_limit, each: share.upload_limit_per_peer },
            schedule: share.upload_schedule.clone(),
            on_metered: share.on_metered,
            battery_min: share.battery_min,
        }
    }
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Uploads {
    rates: Rates,
    /// Why nothing leaves, if so.
    paused: Option<String>,
    /// That is because the battery is low.
    is_low: bool,
    weight: u8,
}

/// `was_low`: the battery was too low the last time.
fn judge(rules: &UploadRules, conditions: Conditions, now: TimeOfDay, was_low: bool) -> Uploads {
    let window = rules.schedule.iter().find(|window| window.has(now));
    let rates = Rates { all: window.map_or(rules.rates.all, |window| window.limit), ..rules.rates };
    let pauses_for_its_cost = conditions.metered && rules.on_metered == OnMetered::Pause;
    // One that hovers around the limit does not begin and end with every percent.
    let least = rules.battery_min.saturating_add(if was_low && rules.battery_min > 0 { RECOVERED } else { 0 });
    let paused = match conditions.battery.filter(|_| conditions.on_battery) {
        _ if pauses_for_its_cost => Some("the connection is metered".to_owned()),
        Some(left) if left < least => Some(format!("the battery is at {left} %")),
        _ => None,
    };
    let weight = match conditions {
        _ if paused.is_some() => 0,
        Conditions { on_battery: true, .. } => ON_BATTERY,
        Conditions { wireless: true, .. } => WIRELESS,
        _ => WIRED,
    };
    let is_low = paused.is_some() && !pauses_for_its_cost;
    Uploads { rates, paused, is_low, weight }
}

/// The rooms that go by it.
pub(super) struct Followers {
    pub(super) share: Arc<Share>,
    pub(super) peers: Peers,
    pub(super) fetcher: Fetcher,
    pub(super) state: StateCell,
    /// What came…
    pub(super) metrics: Arc<Metrics>,
    /// … and what was sent.
    pub(super) sent: Arc<HttpMetrics>,
}

/// Has the rooms go by `rules` and by `conditions`, as they change, until `stop`.
pub(super) async fn follow(
    followers: Followers,
    mut rules: watch::Receiver<UploadRules>,
    mut conditions: watch::Receiver<Conditions>,
    stop: CancellationToken,
) {
    let mut before = None;
    let mut fetches = followers.fetcher.subscribe();
    let (mut yielding, mut held_back) = (Yielding::new(), 0);
    let mut counted = followers.counted();
    let mut second = interval(SECOND);
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_counting = false;
    loop {
        let (now_rules, now) = (rules.borrow_and_update().clone(), *conditions.borrow_and_update());
        let was_low = before.as_ref().is_some_and(|before: &Uploads| before.is_low);
        let mut uploads = judge(&now_rules, now, TimeOfDay::now(), was_low);
        uploads.rates.all = less(uploads.rates.all, held_back);
        if before.as_ref() != Some(&uploads) {
            followers.put_in_force(&uploads, before.as_ref());
            before = Some(uploads);
        }
        let clock = async {
            match now_rules.schedule.is_empty() {
                true => std::future::pending().await,
                false => tokio::time::sleep(CLOCK).await, // poll
            }
        };
        let counts = followers.fetcher.transfers_running() > 0 || !yielding.is_free();
        if counts && !is_counting {
            counted = followers.counted();
            second.reset();
        }
        is_counting = counts;
        tokio::select! {
            _ = second.tick(), if counts => {
                let now = followers.counted();
                let fetches = followers.fetcher.transfers_running() > 0;
                let (came, sent) = (now.0.saturating_sub(counted.0), now.1.saturating_sub(counted.1));
                let passes_on = followers.fetcher.passes_on();
                held_back = yielding.next(Second { fetches, passes_on, came, sent });
                counted = now;
            }
            event = fetches.recv() => if matches!(event, Err(RecvError::Closed)) { return },
            changed = rules.changed() => if changed.is_err() { return },
            Ok(()) = conditions.changed() => {}
            () = clock => {}
            () = stop.cancelled() => return,
        }
    }
}

/// The smaller of two limits, of which 0 is none.
fn less(one: u64, other: u64) -> u64 {
    match (one, other) {
        (0, limit) | (limit, 0) => limit,
        (one, other) => one.min(other),
    }
}

impl Followers {
    /// How many bytes came and were sent so far.
    fn counted(&self) -> (u64, u64) {
        let came = self.metrics.fetched_peer_bytes.get() + self.metrics.fetched_upstream_bytes.get();
        (came, self.sent.bytes_sent.get())
    }

    fn put_in_force(&self, uploads: &Uploads, before: Option<&Uploads>) {
        let Uploads { rates, paused, weight, .. } = uploads;
        match (paused, before.and_then(|before| before.paused.as_ref())) {
            (Some(why), None) => log::info!(reason = why.as_str(); "nothing is sent to other machines: {why}"),
            (None, Some(_)) => log::info!("other machines are sent again what they ask for"),
            _ => {}
        }
        // First that it is no source: whoever reads from it is not to blame it.
        self.peers.tell_weight(*weight);
        self.share.set_uploads(*rates, paused.is_some());
        self.fetcher.set_weight(*weight);
        self.state.uploads_paused(paused.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> UploadRules {
        UploadRules::of(&Config::from_text(&format!("[share]\n{text}"), None).unwrap())
    }

    fn at(text: &str) -> TimeOfDay {
        text.parse().unwrap()
    }

    #[test]
    fn no_limit_is_more_than_any() {
        assert_eq!([less(0, 0), less(0, 5), less(5, 0), less(5, 3)], [0, 5, 5, 3]);
    }

    #[test]
    fn the_time_of_day_decides_how_much() {
        let rules = rules(
            "upload_limit = \"8MB\"\nupload_limit_per_peer = \"1MB\"\nupload_schedule = [\n\
             { from = \"08:00\", until = \"18:00\", limit = \"2MB\" }, { from = \"23:00\", until = \"06:30\", limit = 0 }]",
        );
        let all = |time| judge(&rules, Conditions::default(), at(time), false).rates.all;
        for (time, limit) in [
            ("07:59", 8_000_000),
            ("08:00", 2_000_000),
            ("17:59", 2_000_000),
            ("18:00", 8_000_000),
            ("23:00", 0),
            ("00:00", 0),
            ("06:29", 0),
            ("06:30", 8_000_000),
        ] {
            assert_eq!(all(time), limit, "{time}");
        }
        assert_eq!(judge(&rules, Conditions::default(), at("12:00"), false).rates.each, 1_000_000);
    }

    #[test]
    fn what_costs_stops_what_leaves() {
        let rules_of = |text| rules(text);
        let judged = |text, conditions| judge(&rules_of(text), conditions, at("12:00"), false);
        let metered = Conditions { metered: true, ..Conditions::default() };
        let paused = judged("", metered);
        assert_eq!((paused.paused.as_deref(), paused.weight), (Some("the connection is metered"), 0));
        let anyway = judged("on_metered = \"share\"", metered);
        assert_eq!((anyway.paused, anyway.weight), (None, WIRED));
        let battery = |left| Conditions { on_battery: true, battery: Some(left), ..Conditions::default() };
        assert_eq!(judged("", battery(80)).weight, ON_BATTERY);
        assert_eq!(judged("", battery(20)).paused, None);
        assert_eq!(judged("", battery(19)).paused.as_deref(), Some("the battery is at 19 %"));
        assert_eq!(judged("battery_min = 0", battery(1)).paused, None);
        // Once it was too low, a little more has to be in it; a pause for another reason is none of that.
        let was_low = judge(&rules_of(""), battery(22), at("12:00"), true);
        assert_eq!((was_low.is_low, judge(&rules_of(""), battery(23), at("12:00"), true).paused), (true, None));
        assert!(!judged("", metered).is_low);
        // One that is charged is not used.
        let charging = Conditions { battery: Some(1), ..Conditions::default() };
        assert_eq!((judged("", charging).paused, judged("", charging).weight), (None, WIRED));
        assert_eq!(judged("", Conditions { wireless: true, ..Conditions::default() }).weight, WIRELESS);
    }
}
