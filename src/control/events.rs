//! The events of late, kept for all readers together.
//!
//! Nothing is queued for a reader: each has a place in the one list and reads on from there. So a reader that stalls costs
//! nothing and harms nobody; what it missed when it comes back is counted and told.

use super::api::{Events, Feed};
use super::error::{ControlError, ErrorKind, Outcome};
use super::types::{Event, EventFilter, EventItem, EventKind, timestamp};
use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::watch;

/// How many events are kept.
pub const EVENTS_KEPT: usize = 4096;

/// The longest text of an event that is kept, in bytes: names and reasons may come from others.
const TEXT_MAX: usize = 1024;

/// The events of late. A cheap handle: clones are the same.
#[derive(Clone)]
pub struct EventLog(Arc<Inner>);

struct Inner {
    kept: Mutex<Kept>,
    /// The cursor of the newest event.
    newest: watch::Sender<u64>,
}

struct Kept {
    events: VecDeque<Arc<Event>>,
    /// The first cursor of this run.
    first: u64,
    next: u64,
}

impl Default for EventLog {
    fn default() -> Self {
        // Cursors begin with the time, so that those of an earlier run are older than all of this one.
        let first = timestamp(SystemTime::now()).max(1);
        let kept = Kept { events: VecDeque::new(), first, next: first };
        Self(Arc::new(Inner { kept: Mutex::new(kept), newest: watch::channel(first - 1).0 }))
    }
}

impl EventLog {
    /// Takes in an event and wakes its readers. Never waits for one.
    pub fn tell(&self, mut event: Event) {
        event.timestamp = timestamp(SystemTime::now());
        for text in [&mut event.name, &mut event.from, &mut event.to, &mut event.message, &mut event.path] {
            shorten(text);
        }
        let mut kept = self.kept();
        event.cursor = kept.next;
        kept.next += 1;
        if kept.events.len() == EVENTS_KEPT {
            kept.events.pop_front();
        }
        let cursor = event.cursor;
        kept.events.push_back(Arc::new(event));
        self.0.newest.send_replace(cursor);
    }

    /// The cursor of the newest event.
    #[must_use]
    pub fn newest(&self) -> u64 {
        *self.0.newest.borrow()
    }

    /// Moves with each event.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.newest.subscribe()
    }

    /// A reader of the events that match.
    #[must_use]
    pub fn subscribe(&self, filter: EventFilter) -> Events {
        Box::new(self.reader(filter))
    }

    fn reader(&self, mut filter: EventFilter) -> Reader {
        // Looked at within the lock of the list, so each once.
        filter.kinds = EventKind::ALL.iter().filter(|kind| filter.kinds.contains(kind)).copied().collect();
        let kept = self.kept();
        // In the lock, so that no event comes between.
        let newest = self.0.newest.subscribe();
        // What an earlier run told is not missed; what this one told and keeps no more is.
        let next = filter.after.map_or(kept.next, |after| after.saturating_add(1).clamp(kept.first, kept.next));
        Reader { log: self.clone(), filter, next, newest, ready: false }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock()
    }
}

fn shorten(text: &mut Option<String>) {
    if let Some(text) = text
        && text.len() > TEXT_MAX
    {
        let end = (0..=TEXT_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
}

/// A place in the list.
struct Reader {
    log: EventLog,
    filter: EventFilter,
    /// The cursor of the next event to look at.
    next: u64,
    newest: watch::Receiver<u64>,
    ready: bool,
}

impl Reader {
    /// What there is to tell at once.
    fn read(&mut self) -> Option<EventItem> {
        let kept = self.log.kept();
        let oldest = kept.events.front()?.cursor;
        if self.next < oldest {
            let count = oldest - self.next;
            self.next = oldest;
            return Some(EventItem::Dropped { count });
        }
        let from = usize::try_from(self.next - oldest).unwrap_or(usize::MAX);
        let matches = |event: &&Arc<Event>| self.filter.kinds.is_empty() || self.filter.kinds.contains(&event.kind);
        let found = kept.events.iter().skip(from).find(matches).cloned();
        self.next = found.as_ref().map_or(kept.next, |event| event.cursor + 1);
        found.map(|event| EventItem::Event(Event::clone(&event)))
    }
}

#[async_trait]
impl Feed<EventItem> for Reader {
    async fn next(&mut self) -> Option<Outcome<EventItem>> {
        if !self.ready {
            self.ready = true;
            return Some(Ok(EventItem::Ready { cursor: self.log.newest() }));
        }
        loop {
            self.newest.mark_unchanged();
            if let Some(item) = self.read() {
                return Some(Ok(item));
            }
            // The sender is in the log, which this reader holds.
            if let Err(error) = self.newest.changed().await {
                return Some(Err(ControlError::new(ErrorKind::Failed, error)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(id: u64) -> Event {
        Event { id: Some(id), ..Event::new(EventKind::TransferStarted) }
    }

    async fn next(events: &mut Events) -> EventItem {
        events.next().await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn events_arrive_in_order_after_ready() {
        let log = EventLog::default();
        log.tell(numbered(0));
        let mut events = log.subscribe(EventFilter::default());
        assert_eq!(next(&mut events).await, EventItem::Ready { cursor: log.newest() });
        let reading = tokio::spawn(async move { (next(&mut events).await, next(&mut events).await) });
        log.tell(numbered(1));
        log.tell(numbered(2));
        let (EventItem::Event(one), EventItem::Event(two)) = reading.await.unwrap() else { panic!() };
        assert_eq!((one.id, two.id), (Some(1), Some(2)));
        assert_eq!(two.cursor, one.cursor + 1);
    }

    #[tokio::test]
    async fn a_reader_goes_on_where_it_was() {
        let log = EventLog::default();
        (0..10).for_each(|id| log.tell(numbered(id)));
        let after = Some(log.newest() - 3);
        let mut events = log.subscribe(EventFilter { after, ..EventFilter::default() });
        let mut ids = Vec::new();
        next(&mut events).await;
        for _ in 0..3 {
            let EventItem::Event(event) = next(&mut events).await else { panic!() };
            ids.push(event.id.unwrap());
        }
        assert_eq!(ids, [7, 8, 9]);
        // A cursor of an earlier run: everything that is kept, and nothing is said to be lost.
        let mut events = log.subscribe(EventFilter { after: Some(1), ..EventFilter::default() });
        next(&mut events).await;
        assert!(matches!(next(&mut events).await, EventItem::Event(event) if event.id == Some(0)));
    }

    #[tokio::test]
    async fn a_million_events_cost_a_stalled_reader_what_it_missed_and_nobody_memory() {
        let log = EventLog::default();
        let mut stalled = log.subscribe(EventFilter::default());
        next(&mut stalled).await;
        for id in 0..1_000_000 {
            log.tell(numbered(id));
        }
        assert_eq!(log.kept().events.len(), EVENTS_KEPT);
        let missed = 1_000_000 - EVENTS_KEPT as u64;
        assert_eq!(next(&mut stalled).await, EventItem::Dropped { count: missed });
        let EventItem::Event(event) = next(&mut stalled).await else { panic!() };
        assert_eq!(event.id, Some(missed));
    }

    #[tokio::test]
    async fn only_the_kinds_that_were_asked_for() {
        let log = EventLog::default();
        let kinds = vec![EventKind::Reloaded];
        let mut events = log.subscribe(EventFilter { kinds, after: None });
        next(&mut events).await;
        log.tell(numbered(1));
        log.tell(Event { message: Some("ä".repeat(TEXT_MAX)), ..Event::new(EventKind::Reloaded) });
        let EventItem::Event(event) = next(&mut events).await else { panic!() };
        assert_eq!(event.kind, EventKind::Reloaded);
        assert!(event.message.unwrap().len() <= TEXT_MAX + 3);
    }
}
