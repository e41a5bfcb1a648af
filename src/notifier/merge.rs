//! From what happens to what is worth a person's attention: bursts become one notice, flapping peers fall silent.
//!
//! No clock and no bus in here: the time is told, and what comes out is a list of notices. So every rule can be tested.

use super::settings::Settings;
use crate::control::{Event, EventKind};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

/// How long after its first event a burst is told at the latest.
const BURST_MAX: Duration = Duration::from_secs(5);
/// How many notices about peers may follow each other at once.
const TOKENS_MAX: u32 = 3;
/// How long until there may be another one.
const TOKEN_EVERY: Duration = Duration::from_secs(30);
/// A peer that came or went so often within [`FLAP_WINDOW`] is told of once more, and then not until it is calm.
const FLAPS_MAX: usize = 3;
/// The window of that.
const FLAP_WINDOW: Duration = Duration::from_secs(10 * 60);
/// How many peers are kept track of; what more there is comes and goes unnoticed.
const PEERS_MAX: usize = 4096;
/// How many names a notice lists.
const NAMES_MAX: usize = 8;
/// The longest name shown, in characters.
const NAME_MAX: usize = 40;

/// How urgent a notice is, as the Desktop Notifications Specification numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    Low = 0,
    Normal = 1,
    Critical = 2,
}

/// A place on the screen: a new notice of the same topic takes the place of the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Topic {
    Peers,
    Keys,
    Configuration,
    Trust,
}

/// Something to show. The texts are plain: whoever shows them escapes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) topic: Topic,
    pub(super) summary: String,
    pub(super) body: String,
    pub(super) urgency: Urgency,
    /// The category of the specification.
    pub(super) category: &'static str,
    /// The icon of the icon naming specification.
    pub(super) icon: &'static str,
}

/// What is known and not told yet.
pub(super) struct Merger {
    settings: Settings,
    /// Nothing about peers is told before.
    quiet_until: Instant,
    /// Peers that came (true) or went since the burst began, by id.
    burst: BTreeMap<String, (String, bool)>,
    /// When the burst began, and when something last came to it.
    burst_times: Option<(Instant, Instant)>,
    tokens: u32,
    tokens_since: Instant,
    /// When each peer came or went lately, and whether that was told to be too often.
    changes: HashMap<String, Changes>,
    /// Trust violations by peer, while they are told: how often.
    violations: HashMap<String, u32>,
}

#[derive(Default)]
struct Changes {
    times: VecDeque<Instant>,
    is_muted: bool,
}

impl Merger {
    /// Nothing is known yet, and for a while nothing about peers will be told: all of them come when the session begins.
    pub(super) fn new(settings: Settings, now: Instant) -> Self {
        Self {
            quiet_until: now + settings.quiet_start,
            settings,
            burst: BTreeMap::new(),
            burst_times: None,
            tokens: TOKENS_MAX,
            tokens_since: now,
            changes: HashMap::new(),
            violations: HashMap::new(),
        }
    }

    /// The daemon started, or the machine woke up: the same as at the beginning.
    pub(super) fn quiet(&mut self, now: Instant) {
        self.quiet_until = now + self.settings.quiet_start;
        self.burst.clear();
        self.burst_times = None;
    }

    /// Takes in an event; gives what is to be shown at once.
    pub(super) fn take(&mut self, event: &Event, now: Instant) -> Option<Notice> {
        match event.kind {
            EventKind::PeerStateChanged => self.peer(event, now),
            EventKind::TrustViolation if self.settings.trust => Some(self.violation(event)),
            EventKind::KeyRotated if self.settings.keys => Some(Notice {
                topic: Topic::Keys,
                summary: "Peernix signs with a new key".to_owned(),
                body: match &event.name {
                    Some(name) => format!("What is built here is now signed by {}.", shown(name)),
                    None => "What is built here is now signed by a new key.".to_owned(),
                },
                urgency: Urgency::Normal,
                category: "device",
                icon: "dialog-password",
            }),
            EventKind::ReloadFailed if self.settings.reload => Some(Notice {
                topic: Topic::Configuration,
                summary: "Peernix keeps its old configuration".to_owned(),
                body: format!("The new one is wrong: {}", event.message.as_deref().unwrap_or("see the journal")),
                urgency: Urgency::Normal,
                category: "network.error",
                icon: "dialog-warning",
            }),
            _ => None,
        }
    }

    /// When [`Self::due`] may have something to show.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let (first, last) = self.burst_times?;
        let calm = (last + self.settings.merge).min(first + BURST_MAX).max(self.quiet_until);
        let token = if self.tokens > 0 { calm } else { self.tokens_since + TOKEN_EVERY };
        Some(calm.max(token))
    }

    /// What is to be shown by now about peers that came and went.
    pub(super) fn due(&mut self, now: Instant) -> Option<Notice> {
        self.refill(now);
        if self.next_due()? > now {
            return None;
        }
        self.burst_times = None;
        let burst = std::mem::take(&mut self.burst);
        let (online, offline): (Vec<_>, Vec<_>) = burst.into_values().partition(|(_, online)| *online);
        let notice = peers_notice(&names(online), &names(offline))?;
        self.tokens -= 1;
        Some(notice)
    }

    fn refill(&mut self, now: Instant) {
        while self.tokens < TOKENS_MAX && now.duration_since(self.tokens_since) >= TOKEN_EVERY {
            self.tokens += 1;
            self.tokens_since += TOKEN_EVERY;
        }
        if self.tokens == TOKENS_MAX {
            self.tokens_since = now;
        }
    }

    fn peer(&mut self, event: &Event, now: Instant) -> Option<Notice> {
        let online = match (event.from.as_deref(), event.to.as_deref()) {
            // In doubt and back again is nothing to a person.
            (Some("suspect"), Some("online")) | (_, Some("suspect")) => return None,
            (_, Some("online")) => true,
            (Some("online" | "suspect"), Some("offline")) => false,
            _ => return None,
        };
        let id = event.peer.clone()?;
        let name = event.name.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| id.chars().take(12).collect());
        if !self.settings.peers || now < self.quiet_until {
            return None;
        }
        if self.changes.len() >= PEERS_MAX && !self.changes.contains_key(&id) {
            self.changes.retain(|_, changes| changes.times.back().is_some_and(|last| now - *last < FLAP_WINDOW));
            if self.changes.len() >= PEERS_MAX {
                return None;
            }
        }
        let changes = self.changes.entry(id.clone()).or_default();
        changes.times.retain(|time| now.duration_since(*time) < FLAP_WINDOW);
        if changes.times.is_empty() {
            changes.is_muted = false;
        }
        changes.times.push_back(now);
        changes.times.truncate(FLAPS_MAX + 1);
        if changes.is_muted {
            // The window begins anew with every change: it has to be calm for as long.
            if let Some(last) = changes.times.back_mut() {
                *last = now;
            }
            return None;
        }
        if changes.times.len() > FLAPS_MAX {
            changes.is_muted = true;
            self.burst.remove(&id);
            return Some(Notice {
                topic: Topic::Peers,
                summary: format!("{} keeps coming and going", shown(&name)),
                body: "You will not be told of it again until it is calm.".to_owned(),
                urgency: Urgency::Low,
                category: "network",
                icon: "network-error",
            });
        }
        // A peer that came and went within one burst was not there.
        match self.burst.get(&id) {
            Some((_, before)) if *before != online => {
                self.burst.remove(&id);
            }
            _ => {
                self.burst.insert(id, (name, online));
            }
        }
        let first = self.burst_times.map_or(now, |(first, _)| first);
        self.burst_times = Some((first, now));
        None
    }

    fn violation(&mut self, event: &Event) -> Notice {
        let peer = event.peer.clone().unwrap_or_default();
        if self.violations.len() >= PEERS_MAX {
            self.violations.clear();
        }
        let count = self.violations.entry(peer.clone()).or_default();
        *count += 1;
        let name = event.name.as_deref().filter(|name| !name.is_empty()).unwrap_or(&peer);
        let mut body = event.message.clone().unwrap_or_else(|| "It sent what was not what was signed.".to_owned());
        if *count > 1 {
            body.push_str(&format!(" ({count} times)"));
        }
        Notice {
            topic: Topic::Trust,
            summary: format!("{} sent wrong store paths", shown(name)),
            body,
            urgency: Urgency::Critical,
            category: "network.error",
            icon: "security-low",
        }
    }
}

fn names(peers: Vec<(String, bool)>) -> Vec<String> {
    let mut names: Vec<String> = peers.into_iter().map(|(name, _)| shown(&name)).collect();
    names.sort();
    names
}

/// A name from another machine: without anything that is not a character, and not too long.
fn shown(name: &str) -> String {
    let mut shown: String = name.chars().filter(|c| !c.is_control()).take(NAME_MAX).collect();
    if name.chars().count() > NAME_MAX {
        shown.push('…');
    }
    shown
}

fn peers_notice(online: &[String], offline: &[String]) -> Option<Notice> {
    let came = match online {
        [] => None,
        [one] => Some(format!("{one} is online")),
        many => Some(format!("{} peers online", many.len())),
    };
    let went = match offline {
        [] => None,
        [one] => Some(format!("{one} is offline")),
        many => Some(format!("{} peers offline", many.len())),
    };
    let (summary, category, icon) = match (came, went) {
        (None, None) => return None,
        (Some(came), None) => (came, "network.connected", "network-transmit-receive"),
        (None, Some(went)) => (went, "network.disconnected", "network-offline"),
        (Some(came), Some(went)) => (format!("{came}, {went}"), "network", "network-transmit-receive"),
    };
    let mut lines = Vec::new();
    if online.len() > 1 {
        lines.push(list(online));
    }
    if offline.len() > 1 {
        lines.push(list(offline));
    }
    if lines.is_empty() {
        let text = if offline.is_empty() { "It shares its Nix store." } else { "Its Nix store is out of reach." };
        lines.push(text.to_owned());
    }
    Some(Notice { topic: Topic::Peers, summary, body: lines.join("\n"), urgency: Urgency::Low, category, icon })
}

fn list(names: &[String]) -> String {
    let shown = names.iter().take(NAMES_MAX).cloned().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(NAMES_MAX) {
        Some(more) if more > 0 => format!("{shown} and {more} more"),
        _ => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(id: &str, from: &str, to: &str) -> Event {
        Event {
            peer: Some(id.to_owned()),
            name: Some(format!("name-{id}")),
            from: Some(from.to_owned()),
            to: Some(to.to_owned()),
            ..Event::new(EventKind::PeerStateChanged)
        }
    }

    /// A merger past its quiet start.
    fn merger() -> (Merger, Instant) {
        let start = Instant::now();
        let settings = Settings::default();
        let now = start + settings.quiet_start;
        (Merger::new(settings, start), now)
    }

    const fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn ten_peers_within_a_second_are_one_notice() {
        let (mut merger, now) = merger();
        for number in 0..10 {
            let at = now + Duration::from_millis(100 * number);
            assert_eq!(merger.take(&change(&format!("{number}"), "discovered", "online"), at), None);
            assert_eq!(merger.due(at), None);
        }
        let due = merger.next_due().unwrap();
        let notice = merger.due(due).unwrap();
        assert_eq!(notice.summary, "10 peers online");
        assert_eq!(notice.body, "name-0, name-1, name-2, name-3, name-4, name-5, name-6, name-7 and 2 more");
        assert_eq!((merger.next_due(), merger.due(due + seconds(60))), (None, None));
    }

    #[test]
    fn a_burst_without_end_is_told_after_a_while() {
        let (mut merger, now) = merger();
        for number in 0..20 {
            merger.take(&change(&format!("{number}"), "offline", "online"), now + Duration::from_millis(300 * number));
        }
        assert_eq!(merger.next_due(), Some(now + BURST_MAX));
    }

    #[test]
    fn the_start_is_quiet_and_what_comes_then_is_not_told_later() {
        let start = Instant::now();
        let mut merger = Merger::new(Settings::default(), start);
        merger.take(&change("a", "discovered", "online"), start + seconds(1));
        assert_eq!(merger.next_due(), None);
        merger.quiet(start + seconds(100));
        merger.take(&change("a", "discovered", "online"), start + seconds(101));
        assert_eq!(merger.next_due(), None);
    }

    #[test]
    fn who_came_and_went_at_once_was_not_there() {
        let (mut merger, now) = merger();
        merger.take(&change("a", "discovered", "online"), now);
        merger.take(&change("a", "online", "offline"), now);
        assert_eq!(merger.due(merger.next_due().unwrap()), None);
        merger.take(&change("b", "online", "suspect"), now);
        merger.take(&change("b", "suspect", "online"), now);
        assert_eq!(merger.next_due(), None, "a doubt is nothing to a person");
        merger.take(&change("b", "suspect", "offline"), now);
        assert_eq!(merger.due(merger.next_due().unwrap()).unwrap().summary, "name-b is offline");
    }

    #[test]
    fn flapping_is_told_once_and_then_muted_until_calm() {
        let (mut merger, now) = merger();
        let mut told = Vec::new();
        for number in 0..20 {
            let at = now + seconds(20 * number);
            let event =
                if number % 2 == 0 { change("a", "offline", "online") } else { change("a", "online", "offline") };
            told.extend(merger.take(&event, at));
            told.extend(merger.due(at + seconds(10)));
        }
        let summaries: Vec<&str> = told.iter().map(|notice| notice.summary.as_str()).collect();
        assert_eq!(
            summaries,
            ["name-a is online", "name-a is offline", "name-a is online", "name-a keeps coming and going"]
        );
        let later = now + seconds(20 * 20) + FLAP_WINDOW;
        merger.take(&change("a", "offline", "online"), later);
        assert!(merger.due(merger.next_due().unwrap()).is_some());
    }

    #[test]
    fn too_many_notices_wait_and_merge() {
        let (mut merger, now) = merger();
        let mut shown = 0;
        for number in 0..10 {
            let at = now + seconds(3 * number);
            merger.take(&change(&format!("{number}"), "offline", "online"), at);
            shown += u32::from(merger.due(at + seconds(2)).is_some());
        }
        assert_eq!(shown, TOKENS_MAX);
        let due = merger.next_due().unwrap();
        assert_eq!(merger.due(due).unwrap().summary, "7 peers online");
    }

    #[test]
    fn what_needs_somebody_is_told_at_once() {
        let (mut merger, now) = merger();
        let violation = Event {
            peer: Some("x".into()),
            name: Some("<b>evil</b>\u{7}".into()),
            message: Some("its NAR has another hash".into()),
            ..Event::new(EventKind::TrustViolation)
        };
        let notice = merger.take(&violation, now).unwrap();
        assert_eq!(
            (notice.urgency, notice.summary.as_str()),
            (Urgency::Critical, "<b>evil</b> sent wrong store paths")
        );
        assert!(merger.take(&violation, now).unwrap().body.ends_with("(2 times)"));
        let failed = Event { message: Some("line 3".into()), ..Event::new(EventKind::ReloadFailed) };
        assert!(merger.take(&failed, now).unwrap().body.contains("line 3"));
        assert!(merger.take(&Event::new(EventKind::KeyRotated), now).is_some());
        assert!(merger.take(&Event::new(EventKind::TransferStarted), now).is_none());
        let off = Settings { trust: false, peers: false, ..Settings::default() };
        let mut merger = Merger::new(off, now - seconds(100));
        assert!(merger.take(&violation, now).is_none());
        merger.take(&change("a", "offline", "online"), now);
        assert_eq!(merger.next_due(), None);
    }
}
