//! Peers that come and go: bursts become one notice, and those that flap fall silent.

use super::notice::{Notice, Topic, Urgency, list, name_of};
use super::settings::Settings;
use crate::control::Event;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

/// How long after its first event a burst is told at the latest.
pub(super) const BURST_MAX: Duration = Duration::from_secs(5);
/// How many notices may follow each other at once.
pub(super) const TOKENS_MAX: u32 = 3;
/// How long until there may be another one.
const TOKEN_EVERY: Duration = Duration::from_secs(30);
/// A peer that came or went more often within [`FLAP_WINDOW`] is told of once more, and then not until it is calm.
const FLAPS_MAX: usize = 3;
/// The window of that.
pub(super) const FLAP_WINDOW: Duration = Duration::from_secs(10 * 60);
/// How many peers are kept track of; what more there is comes and goes unnoticed.
const PEERS_MAX: usize = 4096;

/// What is known of peers and not told yet.
pub(super) struct Peers {
    /// Peers that come or go within so long of each other are told of together.
    merge: Duration,
    quiet_start: Duration,
    /// Nothing is told of what happens before.
    quiet_until: Instant,
    /// What peers did since the burst began, by id; with their names.
    burst: BTreeMap<String, (String, Change)>,
    /// When the burst began, and when something last came to it.
    burst_times: Option<(Instant, Instant)>,
    tokens: u32,
    tokens_since: Instant,
    /// When each peer came or went lately, by id.
    changes: HashMap<String, Changes>,
}

impl Peers {
    pub(super) fn new(settings: &Settings, now: Instant) -> Self {
        Self {
            merge: settings.merge,
            quiet_start: settings.quiet_start,
            quiet_until: now + settings.quiet_start,
            burst: BTreeMap::new(),
            burst_times: None,
            tokens: TOKENS_MAX,
            tokens_since: now,
            changes: HashMap::new(),
        }
    }

    /// Tells nothing for a while, and nothing of what happened by now.
    pub(super) fn quiet(&mut self, now: Instant) {
        self.quiet_until = now + self.quiet_start;
        self.burst.clear();
        self.burst_times = None;
    }

    /// When [`Self::due`] may have something to show.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let (first, last) = self.burst_times?;
        let calm = (last + self.merge).min(first + BURST_MAX);
        let token = if self.tokens > 0 { calm } else { self.tokens_since + TOKEN_EVERY };
        Some(calm.max(token))
    }

    /// What is to be shown by now.
    pub(super) fn due(&mut self, now: Instant) -> Option<Notice> {
        self.refill(now);
        if self.next_due()? > now {
            return None;
        }
        self.burst_times = None;
        let notice = burst_notice(&std::mem::take(&mut self.burst))?;
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

    /// Takes in a change of state.
    pub(super) fn add(&mut self, event: &Event, now: Instant) {
        let change = match (event.from.as_deref(), event.to.as_deref()) {
            // In doubt and back again is nothing to a person.
            (Some("suspect" | "resting"), Some("online")) => return,
            (_, Some("online")) => Change::Came,
            (Some("online" | "suspect"), Some("offline")) => Change::Went,
            _ => return,
        };
        let Some(id) = event.peer.clone() else { return };
        if now < self.quiet_until {
            return;
        }
        if self.changes.len() >= PEERS_MAX && !self.changes.contains_key(&id) {
            self.changes.retain(|_, changes| changes.last.is_some_and(|last| now.duration_since(last) < FLAP_WINDOW));
            if self.changes.len() >= PEERS_MAX {
                return;
            }
        }
        let Some(change) = self.changes.entry(id.clone()).or_default().note(change, now) else { return };
        let name = name_of(event);
        match self.burst.get(&id) {
            // A peer that came and went within one burst was not there.
            Some((_, before)) if *before != change && change != Change::Flaps => {
                self.burst.remove(&id);
            }
            _ => {
                self.burst.insert(id, (name, change));
            }
        }
        let first = self.burst_times.map_or(now, |(first, _)| first);
        self.burst_times = Some((first, now));
    }
}

/// What a peer did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Came,
    Went,
    /// Both, again and again.
    Flaps,
}

/// When a peer came or went lately.
#[derive(Default)]
struct Changes {
    /// Within the window, at most as many as it takes to be muted.
    times: VecDeque<Instant>,
    last: Option<Instant>,
    is_muted: bool,
}

impl Changes {
    /// Takes in a change; gives what is to be told of it.
    fn note(&mut self, change: Change, now: Instant) -> Option<Change> {
        let within = |time: Instant| now.duration_since(time) < FLAP_WINDOW;
        // It has to be calm for the whole window to be heard again.
        self.is_muted &= self.last.is_some_and(within);
        self.last = Some(now);
        if self.is_muted {
            return None;
        }
        self.times.retain(|time| within(*time));
        self.times.push_back(now);
        if self.times.len() <= FLAPS_MAX {
            return Some(change);
        }
        self.times.clear();
        self.is_muted = true;
        Some(Change::Flaps)
    }
}

fn burst_notice(burst: &BTreeMap<String, (String, Change)>) -> Option<Notice> {
    let names = |which: Change| {
        let mut names: Vec<&str> =
            burst.values().filter(|(_, change)| *change == which).map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names
    };
    // Of each: the peers, what is said of one, of many, in the list, and more about a single one.
    let kinds = [
        (names(Change::Came), "is online", "peers online", "Online", "It shares its Nix store."),
        (names(Change::Went), "is offline", "peers offline", "Offline", "Its Nix store is out of reach."),
        (
            names(Change::Flaps),
            "keeps coming and going",
            "peers keep coming and going",
            "Coming and going",
            "You will not be told of it again until it is calm.",
        ),
    ];
    let (category, icon) = match &kinds {
        [(came, ..), (went, ..), (flaps, ..)] => match (came.is_empty(), went.is_empty(), flaps.is_empty()) {
            (false, true, true) => ("network.connected", "network-transmit-receive"),
            (true, false, true) => ("network.disconnected", "network-offline"),
            (true, true, false) => ("network", "network-error"),
            _ => ("network", "network-transmit-receive"),
        },
    };
    let mut kinds = kinds.into_iter().filter(|(peers, ..)| !peers.is_empty()).peekable();
    let (first, one, many, heading, more) = kinds.next()?;
    let told = |peers: &[&str], one: &str, many: &str| match peers {
        [peer] => format!("{peer} {one}"),
        peers => format!("{} {many}", peers.len()),
    };
    let mut summary = told(&first, one, many);
    let body = match (kinds.peek(), &first[..]) {
        (None, [_]) => more.to_owned(),
        (None, several) => list(several),
        (Some(_), _) => {
            let mut lines = vec![format!("{heading}: {}", list(&first))];
            for (peers, one, many, heading, _) in kinds {
                summary = format!("{summary}, {}", told(&peers, one, many));
                lines.push(format!("{heading}: {}", list(&peers)));
            }
            lines.join("\n")
        }
    };
    Some(Notice { topic: Topic::Peers, summary, body, urgency: Urgency::Low, category, icon })
}
