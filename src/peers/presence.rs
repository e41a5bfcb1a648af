//! Monitoring one peer: reach it, watch its connection, notice when it is gone, try again with growing pauses.
//!
//! The connection that is watched carries a greeting every now and then and nothing else, so its end means that the
//! peer's program ended, and an overdue answer means that the peer is asleep, unplugged or stuck.

use super::error::LinkError;
use super::greet::FIRST_ANSWER_LIMIT;
use super::hello::Hello;
use super::link::{Connection, RETRY_PAUSES};
use super::peer::Peer;
use super::relays::{self, Layout};
use super::state::{Provenance, State};
use crate::resilience::{Backoff, Rounds};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::{Instant, sleep_until};

/// How often a peer that is online is greeted.
const GREETING_INTERVAL: Duration = Duration::from_secs(10);
/// With many peers the interval grows by this for each, so that greetings cost no more than a thousandth of a core.
const GREETING_SPACING: Duration = Duration::from_millis(250);
/// But not beyond this: shares close connections that are idle for 30 s.
const GREETING_INTERVAL_MOST: Duration = Duration::from_secs(20);
/// How often it is looked whether a peer that rests has been heard of.
const REST_INTERVAL: Duration = Duration::from_secs(10 * 60);
/// How long the answer on a connection that stands may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);
/// The least time between two looks at one peer, whoever asks for them.
const LOOK_GAP: Duration = Duration::from_millis(250);
/// A connection that ended before this age says that the peer is not well, even though it answered.
const SHORT_LIVED: Duration = Duration::from_secs(3);

/// How often in a row a peer may be too busy for a connection before it counts as away: about half a minute.
const BUSY_MAX: u32 = 5;

/// How many peers that were online before, or greeted us, are dialled at once.
const DIALS_KNOWN: usize = 32;
/// How many strangers are dialled at once: a flood of them must not keep us from those we know.
const DIALS_STRANGERS: usize = 16;
/// How many peers have a connection of their own that is watched; the others are greeted on a new one each time.
const WATCHED_MAX: usize = 256;

/// What the tasks that monitor peers may do at once, all together.
pub(super) struct Limits {
    dials_known: Semaphore,
    dials_strangers: Semaphore,
    watched: Semaphore,
    /// Who knows whom.
    layout: watch::Sender<Arc<Layout>>,
    /// When peers are greeted: all of them at the same moments, so that an idle machine wakes up once for all.
    rounds: Rounds,
}

impl Default for Limits {
    fn default() -> Self {
        let [dials_known, dials_strangers, watched] = [DIALS_KNOWN, DIALS_STRANGERS, WATCHED_MAX].map(Semaphore::new);
        let (layout, rounds) = (watch::Sender::default(), Rounds::new(GREETING_INTERVAL_MOST));
        Self { dials_known, dials_strangers, watched, layout, rounds }
    }
}

impl Limits {
    /// Who knows whom.
    pub(super) const fn layout(&self) -> &watch::Sender<Arc<Layout>> {
        &self.layout
    }

    fn is_leaf(&self) -> bool {
        self.layout.borrow().is_leaf()
    }
}

/// Monitors `peer`. True once it has not been heard of for so long that it may be
/// dropped, false when it was dropped meanwhile or everything stops.
pub(super) async fn monitor(peer: Arc<Peer>, limits: Arc<Limits>) -> bool {
    let gone = peer.gone.clone();
    let monitor = Monitor { peer, limits, backoff: Backoff::new(RETRY_PAUSES), short_lived: 0, busy: 0 };
    gone.run_until_cancelled(monitor.run()).await.is_some()
}

struct Monitor {
    peer: Arc<Peer>,
    limits: Arc<Limits>,
    backoff: Backoff,
    /// How many connections in a row ended soon.
    short_lived: u32,
    /// How often in a row it had no room for us.
    busy: u32,
}

impl Monitor {
    /// Ends when the peer may be dropped.
    async fn run(mut self) {
        loop {
            if let Some(until) = self.peer.blocked_until() {
                self.pause_until(until).await;
                continue;
            }
            if self.rests() {
                if !self.rest().await {
                    return;
                }
                continue;
            }
            let begun = Instant::now();
            // In a box of its own, which is gone while the peer is online or away: most of a task's memory is for this.
            match Box::pin(self.reach()).await {
                Ok((connection, hello, latency)) => {
                    self.busy = 0;
                    if self.short_lived == 0 {
                        self.backoff.reset();
                    }
                    self.peer.answered(hello, connection.address(), latency);
                    let reason = self.watch(connection).await;
                    if matches!(reason, LinkError::Refused(_) | LinkError::NoMember(_)) {
                        self.explain(&reason);
                    }
                    if self.rests() {
                        continue;
                    }
                    self.peer.doubted();
                    log::debug!(peer:% = self.peer.id(), reason:% = reason; "peer in doubt");
                    // That this machine moved says nothing of the peer.
                    let moved = self.peer.record().is_settling(Instant::now());
                    self.short_lived = if begun.elapsed() < SHORT_LIVED && !moved { self.short_lived + 1 } else { 0 };
                    // The first time it is dialled again at once; one that goes on like that has to wait.
                    if self.short_lived < 2 {
                        continue;
                    }
                }
                Err(LinkError::Busy(address)) if self.busy < BUSY_MAX => {
                    log::debug!(peer:% = self.peer.id(); "{address} is too busy for a connection");
                    self.busy += 1;
                    self.peer.busy();
                    let pause = self.backoff.next_pause();
                    self.pause_until(Instant::now() + pause).await;
                    sleep_until(begun + LOOK_GAP).await;
                    continue;
                }
                Err(error) if self.peer.record().is_settling(Instant::now()) => {
                    log::debug!(peer:% = self.peer.id(), reason:% = error; "peer not reached since this machine moved");
                    self.pause_until(begun + LOOK_GAP).await;
                    continue;
                }
                Err(error) => self.explain(&error),
            }
            self.peer.lost();
            if self.peer.record().is_stale() {
                return;
            }
            if self.peer.afresh.swap(false, Relaxed) {
                self.backoff.reset();
            }
            let pause = self.backoff.next_pause();
            self.pause_until(Instant::now() + pause).await;
            sleep_until(begun + LOOK_GAP).await;
        }
    }

    /// Whether the peer is left alone.
    fn rests(&self) -> bool {
        self.peer.is_far() || self.limits.layout.borrow().rests(self.peer.id())
    }

    /// Leaves the peer alone, but for a look where there is a reason, until others than before are left alone. False if it has not been
    /// heard of for so long that it may be dropped.
    async fn rest(&mut self) -> bool {
        let mut layout = self.limits.layout.subscribe();
        self.peer.rests();
        while self.rests() && self.peer.blocked_until().is_none() {
            let is_away = self.peer.state() == State::Offline;
            let looks = tokio::select! {
                changed = layout.changed() => {
                    if changed.is_err() {
                        return true;
                    }
                    false
                }
                // One that is away and heard of is perhaps back.
                () = self.peer.look.notified() => is_away || self.peer.wanted.load(Relaxed),
                () = sleep_until(self.limits.rounds.next(Instant::now(), REST_INTERVAL)) => false,
            };
            if self.peer.record().is_stale() {
                return false;
            }
            if !looks {
                continue;
            }
            self.peer.wanted.store(false, Relaxed);
            let begun = Instant::now();
            match Box::pin(self.reach()).await {
                Ok((connection, hello, latency)) => {
                    self.peer.answered_and_rests(hello, connection.address(), latency);
                }
                // Heard of again it is looked at again.
                Err(LinkError::Busy(_)) => {}
                Err(error) => {
                    self.explain(&error);
                    self.peer.lost();
                }
            }
            sleep_until(begun + relays::LOOK_GAP).await;
        }
        true
    }

    /// Waits until `until`, or until someone wants the peer looked at.
    async fn pause_until(&self, until: Instant) {
        tokio::select! {
            () = sleep_until(until) => {}
            () = self.peer.look.notified() => {}
        }
    }

    /// Connects and greets.
    async fn reach(&self) -> Result<(Connection, Hello, Duration), LinkError> {
        let known = {
            let record = self.peer.record();
            record.last_seen.is_some() || record.introduced
        };
        let dials = if known { &self.limits.dials_known } else { &self.limits.dials_strangers };
        // Closed never: the semaphore lives as long as the limits.
        let _permit = dials.acquire().await;
        let mut connection = self.peer.dial().await?;
        let (hello, latency) = self.peer.greet(&mut connection, FIRST_ANSWER_LIMIT).await?;
        Ok((connection, hello, latency))
    }

    /// Greets the peer now and then, until it is in doubt. Tells why it is.
    async fn watch(&self, connection: Connection) -> LinkError {
        let permit = self.limits.watched.try_acquire().ok().filter(|_| !self.limits.is_leaf());
        if permit.is_some() {
            self.peer.adopt(&connection);
        }
        let mut watched: Option<(Connection, SemaphorePermit<'_>)> = permit.map(|permit| (connection, permit));
        let mut layout = self.limits.layout.subscribe();
        loop {
            if self.rests() {
                return LinkError::Closed;
            }
            if self.limits.is_leaf() && watched.take().is_some() {
                // A relay has no room for a lasting connection to everybody.
                self.peer.close();
            }
            if !self.wait(watched.as_ref().map(|(connection, _)| connection), &mut layout).await || self.rests() {
                return LinkError::Closed;
            }
            if self.peer.blocked_until().is_some() {
                return LinkError::Closed;
            }
            let answer = match &mut watched {
                Some((connection, _)) => {
                    let address = connection.address();
                    let answer = Box::pin(self.peer.greet(connection, ANSWER_LIMIT)).await;
                    answer.map(|answer| (answer, address))
                }
                None => Box::pin(self.reach()).await.map(|(other, hello, latency)| ((hello, latency), other.address())),
            };
            match answer {
                Ok(((hello, latency), address)) => self.peer.answered(hello, address, latency),
                Err(error) => return error,
            }
        }
    }

    /// Waits until the peer should be greeted, or others know whom than before. False if its connection ended.
    async fn wait(&self, connection: Option<&Connection>, layout: &mut watch::Receiver<Arc<Layout>>) -> bool {
        let others = WATCHED_MAX - self.limits.watched.available_permits();
        // Lossless: at most WATCHED_MAX.
        #[allow(clippy::cast_possible_truncation)]
        let spaced = (GREETING_SPACING * others as u32).clamp(GREETING_INTERVAL, GREETING_INTERVAL_MOST);
        let (interval, gap) = match (self.limits.is_leaf(), self.peer.union()) {
            (true, Some(_)) => (relays::GREETING_INTERVAL, relays::LOOK_GAP),
            // It does not know yet that it relays.
            (true, None) => (GREETING_INTERVAL, relays::LOOK_GAP),
            (false, _) => (spaced, LOOK_GAP),
        };
        let begun = Instant::now();
        let ended = async {
            match connection {
                Some(connection) => connection.ended().await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(ended);
        let due = self.limits.rounds.next(begun, interval);
        loop {
            tokio::select! {
                () = &mut ended => return false,
                () = sleep_until(due) => return true,
                () = self.peer.look.notified() => {}
                // One that is to be left alone is, at once; one that is to relay has to say so.
                Ok(()) = layout.changed() => match (self.rests(), self.limits.is_leaf()) {
                    (true, _) => return true,
                    (false, true) if connection.is_some() || self.peer.union().is_none() => {}
                    _ => continue,
                }
            }
            sleep_until(begun + gap).await;
            return true;
        }
    }

    /// Says why the peer could not be reached, loudly where the administrator can do something about it.
    fn explain(&self, error: &LinkError) {
        let ours = self.peer.record().provenance == Provenance::Fixed;
        match error {
            LinkError::Refused(_) | LinkError::NoMember(_) => {
                let before = self.peer.record().trouble.replace(error.to_string());
                let level = if before == Some(error.to_string()) { log::Level::Debug } else { log::Level::Info };
                log::log!(level, peer:% = self.peer.id(), name:% = self.peer.name(), reason:% = error; "peer not let in: {error}");
            }
            LinkError::Identity { .. } | LinkError::NoIdentity | LinkError::Protocol if ours => {
                log::warn!(peer:% = self.peer.id(), reason:% = error; "a fixed peer is not who it should be");
            }
            _ => log::debug!(peer:% = self.peer.id(), reason:% = error; "peer not reached"),
        }
    }
}
