//! From what happens to what is worth a person's attention.
//!
//! No clock and no bus in here: the time is told, and what comes out is notices. So every rule can be tested.

use super::notice::{NAME_MAX, Notice, TEXT_MAX, Topic, Urgency, clean};
use super::peers::Peers;
use super::settings::Settings;
use super::violations::Violations;
use crate::control::{Event, EventKind};
use std::time::Instant;

/// What is known and not told yet.
pub(super) struct Merger {
    settings: Settings,
    peers: Peers,
    violations: Violations,
}

impl Merger {
    /// Nothing is known yet, and for a while nothing about peers will be told: all of them come when the session begins.
    pub(super) fn new(settings: Settings, now: Instant) -> Self {
        Self { peers: Peers::new(&settings, now), settings, violations: Violations::default() }
    }

    /// The daemon started, or the machine woke up: the same as at the beginning.
    pub(super) fn quiet(&mut self, now: Instant) {
        self.peers.quiet(now);
    }

    /// Takes in an event; gives what is to be shown at once.
    pub(super) fn take(&mut self, event: &Event, now: Instant) -> Option<Notice> {
        match event.kind {
            EventKind::PeerStateChanged if self.settings.peers => {
                self.peers.add(event, now);
                None
            }
            EventKind::TrustViolation if self.settings.trust => {
                self.violations.add(event, now);
                // Told at once, unless another one was just told.
                self.violations.due(now)
            }
            EventKind::KeyRotated if self.settings.keys => Some(Notice {
                topic: Topic::Keys,
                summary: "Peernix signs with a new key".to_owned(),
                body: match &event.name {
                    Some(name) => format!("What is built here is now signed by {}.", clean(name, NAME_MAX)),
                    None => "What is built here is now signed by a new key.".to_owned(),
                },
                urgency: Urgency::Normal,
                category: "device",
                icon: "dialog-password",
            }),
            EventKind::ReloadFailed if self.settings.reload => Some(Notice {
                topic: Topic::Configuration,
                summary: "Peernix keeps its old configuration".to_owned(),
                body: format!(
                    "The new one is wrong: {}",
                    event
                        .message
                        .as_deref()
                        .map_or_else(|| "see the journal".to_owned(), |message| clean(message, TEXT_MAX))
                ),
                urgency: Urgency::Normal,
                category: "network.error",
                icon: "dialog-warning",
            }),
            _ => None,
        }
    }

    /// When [`Self::due`] may have something to show.
    pub(super) fn next_due(&self) -> Option<Instant> {
        [self.peers.next_due(), self.violations.next_due()].into_iter().flatten().min()
    }

    /// What is to be shown by now of what waited. There may be more: it is to be asked again at [`Self::next_due`].
    pub(super) fn due(&mut self, now: Instant) -> Option<Notice> {
        self.violations.due(now).or_else(|| self.peers.due(now))
    }
}

#[cfg(test)]
mod tests {
    use super::super::peers::{BURST_MAX, FLAP_WINDOW, TOKENS_MAX};
    use super::super::violations::EVERY;
    use super::*;
    use std::time::Duration;

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
            (Urgency::Critical, "<b>evil</b> sent a wrong store path")
        );
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

    #[test]
    fn violations_in_a_row_are_told_together() {
        let (mut merger, now) = merger();
        let violation = |peer: u32| Event {
            peer: Some(format!("id-{peer}")),
            name: Some(format!("name-{peer}")),
            message: Some("its NAR has another hash".into()),
            ..Event::new(EventKind::TrustViolation)
        };
        assert!(merger.take(&violation(0), now).is_some());
        assert_eq!((merger.take(&violation(0), now), merger.next_due()), (None, Some(now + EVERY)));
        let again = merger.due(now + EVERY).unwrap();
        assert_eq!(again.summary, "name-0 sent 2 wrong store paths");
        assert_eq!(again.body, "The last: its NAR has another hash");
        let told: Vec<_> = (0..1000).filter_map(|peer| merger.take(&violation(peer), now + EVERY)).collect();
        assert_eq!((told, merger.next_due()), (vec![], Some(now + EVERY * 2)));
        let all = merger.due(now + EVERY * 2).unwrap();
        assert_eq!((all.summary.as_str(), all.topic), ("1000 peers sent wrong store paths", Topic::Trust));
        assert_eq!(merger.next_due(), None);
        let later = merger.take(&violation(0), now + EVERY * 2 + FLAP_WINDOW).unwrap();
        assert_eq!(later.summary, "name-0 sent a wrong store path");
    }

    #[test]
    fn who_came_and_who_went_is_told_apart() {
        let (mut merger, now) = merger();
        merger.take(&change("a", "offline", "online"), now);
        merger.take(&change("b", "suspect", "offline"), now);
        merger.take(&change("c", "suspect", "offline"), now);
        let notice = merger.due(merger.next_due().unwrap()).unwrap();
        assert_eq!(notice.summary, "name-a is online, 2 peers offline");
        assert_eq!(notice.body, "Online: name-a\nOffline: name-b, name-c");
    }

    #[test]
    fn many_that_flap_are_one_notice() {
        let (mut merger, now) = merger();
        for peer in 0..100 {
            for number in 0..9 {
                let (from, to) = if number % 2 == 0 { ("offline", "online") } else { ("online", "offline") };
                assert_eq!(merger.take(&change(&peer.to_string(), from, to), now), None);
            }
        }
        let notice = merger.due(merger.next_due().unwrap()).unwrap();
        assert_eq!((notice.summary.as_str(), notice.topic), ("100 peers keep coming and going", Topic::Peers));
        assert_eq!(merger.next_due(), None);
    }
}
