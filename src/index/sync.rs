//! Keeps the view in step with the peers: whoever tells that its index is in another state than the one that is known is asked for what
//! changed, over the connection that there is.

use super::error::IndexError;
use super::handle::Index;
use super::update::{UPDATE_MAX, Update};
use crate::peers::{IndexState, NodeId, Peer, State};
use crate::resilience::{Backoff, Schedule};
use http_body_util::{BodyExt, Limited};
use hyper::StatusCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, broadcast, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

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
        loop {
            let news = tokio::select! {
                news = told.recv() => news,
                () = stop.cancelled() => return,
            };
            match news {
                Ok(id) => self.heard(id, &pulls, &stop),
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    for peer in self.peers().snapshot() {
                        self.heard(peer.id, &pulls, &stop);
                    }
                }
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    /// A peer tells another state than before.
    fn heard(&self, id: NodeId, pulls: &Arc<Semaphore>, stop: &CancellationToken) {
        if self.wake(id) {
            return;
        }
        if self.peers().get(id).is_none_or(|peer| peer.index().is_none()) {
            return;
        }
        let Some(news) = self.begin_to_follow(id) else { return };
        let (index, pulls, stop) = (self.clone(), Arc::clone(pulls), stop.clone());
        tokio::spawn(async move {
            stop.run_until_cancelled(index.follow(id, news, &pulls)).await;
            index.follow_no_longer(id);
            // What was told between its last look and now.
            if !stop.is_cancelled() && index.peers().get(id).is_some_and(|peer| !is_away(&peer)) {
                index.heard(id, &pulls, &stop);
            }
        });
    }

    /// Follows one peer, until it tells no index any more or has been away for long.
    async fn follow(&self, id: NodeId, mut news: watch::Receiver<()>, pulls: &Semaphore) {
        let mut backoff = Backoff::new(PAUSES);
        let mut next = Instant::now();
        loop {
            news.mark_unchanged();
            // Each time anew: it may have been forgotten and found again.
            let Some(peer) = self.peers().get(id) else { return };
            let Some(told) = peer.index() else { return };
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
                Ok(_permit) => self.pull(&peer, known).await,
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
    async fn pull(&self, peer: &Arc<Peer>, known: Option<IndexState>) -> Result<(), IndexError> {
        let link = |error: &dyn std::fmt::Display| IndexError::Link(error.to_string());
        let target = target(known);
        let exchange = async {
            let response = peer.get(&target, None).await.map_err(|error| link(&error))?;
            if response.status() != StatusCode::OK {
                return Err(link(&format_args!("status {}", response.status().as_u16())));
            }
            let body = Limited::new(response.into_body(), UPDATE_MAX).collect().await;
            Ok(body.map_err(|error| link(&error))?.to_bytes())
        };
        let bytes =
            timeout(PULL_LIMIT, exchange).await.map_err(|_| link(&format_args!("not within {PULL_LIMIT:?}")))??;
        // Up to two million entries: not on the reactor.
        let (index, id) = (self.clone(), peer.id());
        let taken = tokio::task::spawn_blocking(move || {
            let update = Update::parse(&bytes);
            update.inspect_err(|_| index.forget(id)).and_then(|update| index.update(id, update))
        });
        taken.await.map_err(|error| link(&error))?
    }
}

/// Waits for news of a peer; false if it has been away for too long to remember what it had.
async fn hears_more(peer: &Peer, news: &mut watch::Receiver<()>) -> bool {
    timeout(REMEMBERED, news.changed()).await.is_ok() || !is_away(peer)
}

/// Where to ask for what changed since this state.
#[must_use]
pub fn target(known: Option<IndexState>) -> String {
    known.map_or_else(|| TARGET.to_owned(), |known| format!("{TARGET}?since={known}"))
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
        assert_eq!(target(None), TARGET);
        assert_eq!(target(Some(state(255, 7))), "/peernix/v1/index?since=00000000000000ff.7");
    }
}
