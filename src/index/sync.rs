//! Keeps the view in step with the peers: whoever tells that its index is in another state than the one that is known is asked for what
//! changed, over the connection that there is.

use super::error::IndexError;
use super::handle::Index;
use super::update::{UPDATE_MAX, Update};
use crate::peers::relays::{SILENT, UNION_GAP, UNION_GAP_EACH};
use crate::peers::{IndexState, NodeId, Peer, PeerEvent, State};
use crate::resilience::{Backoff, Schedule};
use http_body_util::{BodyExt, Limited};
use hyper::StatusCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, broadcast, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// Where a peer tells its index.
pub const TARGET: &str = "/peernix/v1/index";
/// How many peers are asked at once: each answer may be [`UPDATE_MAX`] long.
const PULLS: usize = 8;
/// One peer is asked no more often than this, however fast it changes.
const GAP: Duration = Duration::from_secs(1);
/// How long an answer may take.
const PULL_LIMIT: Duration = Duration::from_secs(20);
/// How long the pauses are after an answer that did not come,
const PAUSES: Schedule =
    Schedule { first: Duration::from_secs(1), factor: 2, most: Duration::from_secs(60), spread: true };
/// and after one that was no good.
const NO_GOOD: Duration = Duration::from_secs(10 * 60);
/// How long it is remembered what a peer has that is away.
const REMEMBERED: Duration = Duration::from_secs(10 * 60);

impl Index {
    /// Follows all peers until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let pulls = Arc::new(Semaphore::new(PULLS));
        let mut told = self.peers().indexes();
        let (mut layout, mut events) = (self.peers().layout(), self.peers().subscribe());
        let mut relaying: Option<AbortOnDropHandle<()>> = None;
        // Whoever greeted before this listened.
        self.heard_all(&pulls, &stop);
        loop {
            let news = tokio::select! {
                news = told.recv() => news,
                // Whom a relay knows may be gone, and back with the same index as before: it is followed while it is there.
                event = events.recv(), if relaying.is_some() => {
                    match event {
                        Ok(PeerEvent::Changed { id, .. }) => self.heard(id, &pulls, &stop),
                        Err(broadcast::error::RecvError::Lagged(_)) => self.heard_all(&pulls, &stop),
                        Ok(_) | Err(broadcast::error::RecvError::Closed) => {}
                    }
                    continue;
                }
                Ok(()) = layout.changed() => {
                    let relays = layout.borrow_and_update().is_relay() && self.offers();
                    if relays != relaying.is_some() {
                        let index = self.clone();
                        // All that is known may have to be put together.
                        let _ = tokio::task::spawn_blocking(move || index.set_relays(relays)).await;
                        events = events.resubscribe();
                        relaying = relays.then(|| AbortOnDropHandle::new(tokio::spawn(self.clone().tell_union())));
                    }
                    // Others are followed than before.
                    self.heard_all(&pulls, &stop);
                    continue;
                }
                () = stop.cancelled() => return,
            };
            match news {
                Ok(id) => self.heard(id, &pulls, &stop),
                Err(broadcast::error::RecvError::Lagged(_)) => self.heard_all(&pulls, &stop),
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    /// Any peer may tell another state than before.
    fn heard_all(&self, pulls: &Arc<Semaphore>, stop: &CancellationToken) {
        for peer in self.peers().snapshot() {
            self.heard(peer.id, pulls, stop);
        }
    }

    /// A peer tells another state than before.
    fn heard(&self, id: NodeId, pulls: &Arc<Semaphore>, stop: &CancellationToken) {
        if self.wake(id) {
            return;
        }
        if self.peers().get(id).is_none_or(|peer| self.wanted(&peer).is_none()) {
            return;
        }
        let Some(news) = self.begin_to_follow(id) else { return };
        let (index, pulls, stop) = (self.clone(), Arc::clone(pulls), stop.clone());
        tokio::spawn(async move {
            stop.run_until_cancelled(index.follow(id, news, &pulls)).await;
            index.follow_no_longer(id);
            // A relay that lost sight of a peer has to be told again what it may have known: its next greeting is news.
            if index.relays()
                && let Some(peer) = index.peers().get(id)
            {
                peer.forget_index();
            }
            // What was told between its last look and now.
            if !stop.is_cancelled() && index.peers().get(id).is_some_and(|peer| !is_away(&peer)) {
                index.heard(id, &pulls, &stop);
            }
        });
    }

    /// What of a peer is followed, and the state that it is in; `None`: nothing.
    fn wanted(&self, peer: &Peer) -> Option<(Whose, IndexState)> {
        // What another site has is told by that site.
        if peer.is_far() {
            return None;
        }
        let layout = self.peers().layout().borrow().clone();
        if layout.is_leaf() {
            let preferred = layout.preferred(self.peers().us());
            // Of the first of them that relays: what it says all have holds for all.
            let is_there =
                |id: &&NodeId| self.peers().get(**id).is_some_and(|peer| peer.union().is_some() && !is_away(&peer));
            let first = preferred.iter().find(is_there);
            return peer.union().filter(|_| first == Some(&peer.id())).map(|told| (Whose::Everybodys, told));
        }
        let is_silent = layout.is_relay() && peer.state() == State::Resting && peer.heard().elapsed() > SILENT;
        let is_gone = layout.is_relay() && is_away(peer);
        peer.index().filter(|_| !is_silent && !is_gone).map(|told| (Whose::ItsOwn, told))
    }

    /// Follows one peer, until it tells no index any more or has been away for long.
    async fn follow(&self, id: NodeId, mut news: watch::Receiver<()>, pulls: &Semaphore) {
        let mut backoff = Backoff::new(PAUSES);
        let mut next = Instant::now();
        loop {
            news.mark_unchanged();
            // Each time anew: it may have been forgotten and found again.
            let Some(peer) = self.peers().get(id) else { return };
            let Some((whose, told)) = self.wanted(&peer) else { return };
            let known = self.known(id);
            let ignored = self.ignored_until(id);
            if let Some(until) = ignored.filter(|until| *until > Instant::now()) {
                next = next.max(until);
            }
            if known.is_some_and(|known| !is_behind(known, told)) {
                if !hears_more(&peer, &mut news).await {
                    return;
                }
                continue;
            }
            sleep_until(next).await;
            let begun = Instant::now();
            let pulled = match pulls.acquire().await {
                Ok(_permit) => self.pull(&peer, whose, known).await,
                Err(_) => return,
            };
            match pulled {
                Ok(()) => {
                    backoff.reset();
                    next = begun + GAP;
                }
                Err(error) => {
                    let is_link = matches!(error, IndexError::Link(_));
                    let level = if is_link { log::Level::Debug } else { log::Level::Warn };
                    log::log!(level, peer:% = id, reason:% = error; "the index of a peer is not taken: {error}");
                    next = begun + if is_link { backoff.next_pause() } else { NO_GOOD };
                    // One that is away is asked again when it is back, or forgotten.
                    if is_away(&peer) && !hears_more(&peer, &mut news).await {
                        return;
                    }
                }
            }
        }
    }

    /// Asks a peer for what changed since the state that is known, and takes that in.
    async fn pull(&self, peer: &Arc<Peer>, whose: Whose, known: Option<IndexState>) -> Result<(), IndexError> {
        let link = |error: &dyn std::fmt::Display| IndexError::Link(error.to_string());
        let target = target(whose, known);
        let exchange = async {
            let response = peer.get(&target, None).await.map_err(|error| link(&error))?;
            if response.status() != StatusCode::OK {
                return Err(link(&format_args!("status {}", response.status().as_u16())));
            }
            let body = Limited::new(response.into_body(), UPDATE_MAX).collect().await;
            Ok(body.map_err(|error| link(&error))?.to_bytes())
        };
        let bytes = timeout(PULL_LIMIT, exchange).await;
        if peer.state() == State::Resting || whose == Whose::Everybodys {
            // Nobody keeps a connection to each of a thousand.
            peer.close();
        }
        let bytes = bytes.map_err(|_| link(&format_args!("not within {PULL_LIMIT:?}")))??;
        // Up to two million entries: not on the reactor.
        let (index, id) = (self.clone(), peer.id());
        let taken = tokio::task::spawn_blocking(move || {
            let update = Update::parse(&bytes);
            update.inspect_err(|_| index.forget(id)).and_then(|update| index.update(id, update, bytes.len()))
        });
        taken.await.map_err(|error| link(&error))?
    }
}

/// How often a relay looks who has not been heard of.
const UNION_LOOK: Duration = Duration::from_secs(60);

impl Index {
    /// Tells what all have, whenever that changes, as long as this machine relays.
    async fn tell_union(self) {
        loop {
            if timeout(UNION_LOOK, self.relay().news()).await.is_err() {
                self.wake_all();
            }
            let index = self.clone();
            // Millions of entries may have to be put in order.
            if tokio::task::spawn_blocking(move || index.cut_union()).await.is_err() {
                return;
            }
            let peers = u32::try_from(self.followed()).unwrap_or(u32::MAX);
            sleep(UNION_GAP + UNION_GAP_EACH * peers).await; // pace
        }
    }
}

/// Waits for news of a peer; false if it has been away for too long to remember what it had.
async fn hears_more(peer: &Peer, news: &mut watch::Receiver<()>) -> bool {
    timeout(REMEMBERED, news.changed()).await.is_ok() || !is_away(peer)
}

/// Whose index a machine is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// What it offers itself.
    ItsOwn,
    /// What all have whom it relays for.
    Everybodys,
}

/// Where to ask for what changed since this state.
#[must_use]
pub fn target(whose: Whose, known: Option<IndexState>) -> String {
    match (whose, known) {
        (Whose::ItsOwn, None) => TARGET.to_owned(),
        (Whose::ItsOwn, Some(known)) => format!("{TARGET}?since={known}"),
        (Whose::Everybodys, None) => format!("{TARGET}?of=union"),
        (Whose::Everybodys, Some(known)) => format!("{TARGET}?of=union&since={known}"),
    }
}

/// Whether somebody who knows the one state has something to ask when the other one is told.
const fn is_behind(known: IndexState, told: IndexState) -> bool {
    known.epoch != told.epoch || known.seq < told.seq
}

fn is_away(peer: &Peer) -> bool {
    matches!(peer.state(), State::Offline | State::Blocked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_already_is_not_asked_for() {
        let state = |epoch, seq| IndexState { epoch, seq };
        for (known, told, expected) in [
            (state(1, 5), state(1, 5), false),
            (state(1, 5), state(1, 6), true),
            (state(1, 5), state(2, 1), true),
            // A greeting that was under way when the answer came.
            (state(1, 5), state(1, 4), false),
        ] {
            assert_eq!(is_behind(known, told), expected, "{known} {told}");
        }
        assert_eq!(target(Whose::ItsOwn, None), TARGET);
        assert_eq!(target(Whose::ItsOwn, Some(state(255, 7))), "/peernix/v1/index?since=00000000000000ff.7");
    }
}
