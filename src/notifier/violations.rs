//! Machines that sent what was not what was signed: the one thing that must not be missed, and cannot be used to fill a screen.

use super::notice::{Notice, TEXT_MAX, Topic, Urgency, clean, list, name_of};
use crate::control::Event;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long there is between two notices, after which those of the meantime are told together.
pub(super) const EVERY: Duration = Duration::from_secs(10);
/// How long after a notice what it told is not told again.
const FORGET: Duration = Duration::from_secs(10 * 60);
/// How many machines are told apart.
const PEERS_MAX: usize = 4096;

/// Who sent what was not what was signed.
#[derive(Default)]
pub(super) struct Violations {
    /// By peer: its name, and how often.
    peers: BTreeMap<String, (String, u32)>,
    /// What the service said of the last one.
    message: String,
    /// When it was told last.
    told: Option<Instant>,
    /// Whether there is something that was not told.
    is_news: bool,
}

impl Violations {
    /// Takes one in.
    pub(super) fn add(&mut self, event: &Event, now: Instant) {
        // What was told long ago is not told again.
        if !self.is_news && self.told.is_some_and(|told| now.duration_since(told) >= FORGET) {
            self.peers.clear();
        }
        let peer = event.peer.clone().unwrap_or_default();
        if self.peers.len() < PEERS_MAX || self.peers.contains_key(&peer) {
            self.peers.entry(peer).or_insert_with(|| (name_of(event), 0)).1 += 1;
        }
        let message = event.message.as_deref().unwrap_or("it is not what was signed");
        self.message = clean(message, TEXT_MAX);
        self.is_news = true;
    }

    /// When [`Self::due`] may have something to show.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.told.filter(|_| self.is_news).map(|told| told + EVERY)
    }

    /// What is to be shown by now: the first at once, others in a row together.
    pub(super) fn due(&mut self, now: Instant) -> Option<Notice> {
        if !self.is_news || self.next_due().is_some_and(|due| due > now) {
            return None;
        }
        self.is_news = false;
        self.told = Some(now);
        let (summary, body) = match self.peers.values().collect::<Vec<_>>()[..] {
            [(name, 1)] => (format!("{name} sent a wrong store path"), self.message.clone()),
            [(name, count)] => {
                (format!("{name} sent {count} wrong store paths"), format!("The last: {}", self.message))
            }
            ref many => {
                let names: Vec<&str> = many.iter().map(|(name, _)| name.as_str()).collect();
                (format!("{} peers sent wrong store paths", many.len()), list(&names))
            }
        };
        Some(Notice {
            topic: Topic::Trust,
            summary,
            body,
            urgency: Urgency::Critical,
            category: "network.error",
            icon: "security-low",
        })
    }
}
