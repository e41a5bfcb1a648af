//! From a store hash to a verified path info and its sources.
//!
//! All good peers and all upstreams are asked at once; the first verified answer of a peer wins, an upstream's waits a
//! moment for a peer's. Whoever answers later is added to the sources behind the scenes.

use super::error::SourceError;
use super::found::Found;
use super::ledger::{FetchEvent, Ledger};
use super::source::{self, Offer};
use super::suspects::Suspects;
use super::trusted::{CurrentTrust, Trusted};
use super::upstream::Upstream;
use super::upstreams::Upstreams;
use crate::metrics::Metrics;
use crate::nix::{Compression, NarHash, PathInfo, StoreHash, StorePath};
use crate::peers::{Peer, Peers, Sample, State};
use moka::future::Cache;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// What an answer to a lookup counts for: nothing worth measuring.
pub(super) const SMALL: Sample = Sample { bytes: 0, elapsed: Duration::ZERO };
/// How many peers are asked at once; the rest follow in waves if nobody has answered.
const WAVE: usize = 16;
/// How many peers are asked for one path at most: a network of thousands must not make each miss thousands of questions.
pub(super) const MOST: usize = 4 * WAVE;
/// How long those who were asked may go on answering when the budget is over: what they say is remembered, and that they
/// said nothing is held against them.
const LATE: Duration = Duration::from_secs(6);
/// How many lookups may have such latecomers.
pub(super) const LATE_LOOKUPS: usize = 64;
/// How long a wave has before the next one starts beside it.
const HEDGE: Duration = Duration::from_millis(25);
/// How long an upstream's answer waits for a peer's: a LAN round trip with some slack.
const GRACE: Duration = Duration::from_millis(30);

/// What a lookup came to.
#[derive(Clone)]
pub(super) enum Answer {
    /// Somebody has it.
    Found(Arc<Found>),
    /// Everybody was asked, and nobody has it.
    Absent,
    /// Nobody said yes, and somebody said nothing: not the same as absent, and not to be remembered as such.
    Unknown,
}

/// Who is asked, and whose word counts.
pub(super) struct Lookup {
    pub(super) peers: Peers,
    pub(super) upstreams: Upstreams,
    pub(super) trust: CurrentTrust,
    /// How long a lookup may take in all.
    pub(super) budget: Budget,
    pub(super) metrics: Arc<Metrics>,
    pub(super) ledger: Ledger,
    pub(super) suspects: Suspects,
    pub(super) late: Arc<Semaphore>,
}

/// A duration that may be changed, in microseconds.
pub(super) struct Budget(AtomicU64);

impl Budget {
    pub(super) fn new(budget: Duration) -> Self {
        let new = Self(AtomicU64::new(0));
        new.set(budget);
        new
    }

    pub(super) fn get(&self) -> Duration {
        Duration::from_micros(self.0.load(Relaxed))
    }

    pub(super) fn set(&self, budget: Duration) {
        self.0.store(u64::try_from(budget.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }
}

/// What is remembered: a hash, in the light of the trust with this number.
pub(super) type Asked = (u64, StoreHash);

/// Where lookups are remembered.
pub(super) type Answers = Cache<Asked, Answer>;

/// Who was asked, and what became of it.
enum Reply {
    Peer(Arc<Peer>, Result<Option<PathInfo>, SourceError>),
    Upstream(Arc<Upstream>, Result<Option<(PathInfo, Offer)>, SourceError>),
}

impl Lookup {
    /// Asks everybody for `hash` and judges by `trusted`; with `wanted` only answers for that very NAR count. What is found
    /// after the budget is over goes into `remember`.
    pub(super) async fn ask(
        self: &Arc<Self>,
        hash: StoreHash,
        wanted: Option<NarHash>,
        trusted: &Trusted,
        remember: Option<&Answers>,
    ) -> Answer {
        let mut waiting = self.peers.candidates();
        waiting.truncate(MOST);
        let mut waiting = waiting.into_iter();
        let mut asked = JoinSet::new();
        let silent = self.ask_available_upstreams(&mut asked, hash, trusted);
        let mut peers_asked = self.wave(&mut asked, &mut waiting, hash, trusted);
        let mut heard = Heard { complete: silent.len() == self.upstreams.now().len(), from_upstream: None, silent };
        let start = Instant::now();
        let (mut deadline, mut next_wave) = (start + self.budget.get(), start + HEDGE);
        while !asked.is_empty() {
            tokio::select! {
                reply = asked.join_next() => {
                    let Some(Ok(reply)) = reply else { continue };
                    peers_asked -= usize::from(matches!(reply, Reply::Peer(..)));
                    if let Some(found) = self.take(reply, hash, wanted, &mut heard) {
                        self.collect_late(Some(&found), asked, hash, None);
                        return Answer::Found(found);
                    }
                    if heard.from_upstream.is_some() {
                        if peers_asked == 0 && waiting.len() == 0 {
                            break;
                        }
                        deadline = deadline.min(Instant::now() + GRACE);
                    }
                    if peers_asked == 0 {
                        peers_asked = self.wave(&mut asked, &mut waiting, hash, trusted);
                    }
                }
                () = sleep_until(next_wave), if waiting.len() > 0 => {
                    peers_asked += self.wave(&mut asked, &mut waiting, hash, trusted);
                    next_wave = Instant::now() + HEDGE;
                }
                () = sleep_until(deadline) => {
                    if heard.from_upstream.is_none() {
                        // Those that were asked and let the whole budget go by.
                        heard.silent.iter().for_each(|upstream| upstream.failed());
                    }
                    heard.complete = false;
                    break;
                }
            }
        }
        match heard.from_upstream {
            Some(found) => {
                self.collect_late(Some(&found), asked, hash, None);
                Answer::Found(found)
            }
            None if heard.complete => Answer::Absent,
            None => {
                self.collect_late(None, asked, hash, remember.map(|answers| (answers.clone(), trusted.number)));
                Answer::Unknown
            }
        }
    }

    /// Asks everybody within the budget who has this very NAR, and gives all who do: for a transfer whose sources failed.
    pub(super) async fn ask_all(self: &Arc<Self>, info: &PathInfo) -> Vec<Offer> {
        let hash = info.path.hash();
        let trusted = &self.trust.now();
        let mut waiting = self.peers.candidates();
        waiting.truncate(MOST);
        let mut waiting = waiting.into_iter();
        let mut asked = JoinSet::new();
        let silent = self.ask_available_upstreams(&mut asked, hash, trusted);
        while waiting.len() > 0 {
            self.wave(&mut asked, &mut waiting, hash, trusted);
        }
        let mut heard = Heard { complete: true, silent, from_upstream: None };
        let mut offers = Vec::new();
        let deadline = Instant::now() + self.budget.get();
        while let Ok(Some(reply)) = tokio::time::timeout_at(deadline, asked.join_next()).await {
            let Ok(reply) = reply else { continue };
            let from_peer = self.take(reply, hash, Some(info.nar_hash), &mut heard);
            if let Some(found) = from_peer.or_else(|| heard.from_upstream.take())
                && found.info.nar_size == info.nar_size
            {
                offers.extend(found.offers());
            }
        }
        self.collect_late(None, asked, hash, None);
        offers
    }

    /// Starts asking the upstreams that are not left alone; gives those.
    fn ask_available_upstreams(
        &self,
        asked: &mut JoinSet<Reply>,
        hash: StoreHash,
        trusted: &Trusted,
    ) -> Vec<Arc<Upstream>> {
        let available: Vec<_> =
            self.upstreams.now().iter().filter(|upstream| upstream.is_available()).cloned().collect();
        for upstream in &available {
            let (upstream, trust) = (Arc::clone(upstream), Arc::clone(&trusted.trust));
            asked.spawn(async move {
                let reply = source::ask_upstream(&upstream, hash, &trust).await;
                Reply::Upstream(upstream, reply)
            });
        }
        available
    }

    /// Asks the upstreams alone, for a file in `compression`; without the budget, because Nix has been promised the file.
    pub(super) async fn ask_upstreams(
        &self,
        hash: StoreHash,
        wanted: NarHash,
        compression: &Compression,
    ) -> Option<Arc<Found>> {
        let trusted = self.trust.now();
        for upstream in self.upstreams.now().iter().filter(|upstream| upstream.is_available()) {
            match source::ask_upstream(upstream, hash, &trusted.trust).await {
                Ok(Some((info, offer))) if info.nar_hash == wanted => {
                    let found = Found::new(info, offer);
                    if found.is_offered_in(compression) {
                        return Some(found);
                    }
                }
                Ok(_) => {}
                Err(error) => log::debug!(upstream:% = upstream, path:% = hash; "an upstream failed: {error}"),
            }
        }
        None
    }

    /// Starts asking the next [`WAVE`] of peers; says how many.
    fn wave(
        &self,
        asked: &mut JoinSet<Reply>,
        waiting: &mut std::vec::IntoIter<Arc<Peer>>,
        hash: StoreHash,
        trusted: &Trusted,
    ) -> usize {
        let wave = waiting.by_ref().take(WAVE);
        wave.map(|peer| {
            let (trust, trusted) = (self.trust.clone(), trusted.clone());
            asked.spawn(async move {
                let reply = trust.ask_peer(&peer, hash, &trusted).await;
                Reply::Peer(peer, reply)
            });
        })
        .count()
    }

    /// Judges a reply. Gives a peer's path at once and notes an upstream's.
    fn take(&self, reply: Reply, hash: StoreHash, wanted: Option<NarHash>, heard: &mut Heard) -> Option<Arc<Found>> {
        if let Reply::Upstream(upstream, _) = &reply {
            heard.silent.retain(|silent| !Arc::ptr_eq(silent, upstream));
        }
        let is_wanted = |info: &PathInfo| wanted.is_none_or(|wanted| wanted == info.nar_hash);
        match reply {
            Reply::Peer(peer, Ok(Some(info))) if is_wanted(&info) => {
                peer.succeeded(SMALL);
                let found = Found::new(info, Offer::Peer(peer));
                if let Some(upstream) = heard.from_upstream.take() {
                    found.add_all(&upstream);
                }
                return Some(found);
            }
            Reply::Peer(peer, Err(error)) => {
                heard.complete = false;
                self.blame(&peer, hash, &error);
            }
            Reply::Upstream(_, Ok(Some((info, offer)))) if is_wanted(&info) => match &heard.from_upstream {
                Some(found) => found.add(&info, offer),
                None => heard.from_upstream = Some(Found::new(info, offer)),
            },
            Reply::Upstream(_, Err(error)) => {
                heard.complete = false;
                log::debug!(path:% = hash; "an upstream could not be asked: {error}");
            }
            // An honest answer, whatever it was.
            Reply::Peer(peer, Ok(_)) => peer.succeeded(SMALL),
            Reply::Upstream(_, Ok(_)) => {}
        }
        None
    }

    /// Lets those who were asked and have not answered yet add themselves to the sources, or be remembered as the first.
    fn collect_late(
        self: &Arc<Self>,
        found: Option<&Arc<Found>>,
        mut asked: JoinSet<Reply>,
        hash: StoreHash,
        remember: Option<(Answers, u64)>,
    ) {
        if asked.is_empty() {
            return;
        }
        let Ok(place) = Arc::clone(&self.late).try_acquire_owned() else { return };
        let (lookup, mut found) = (Arc::clone(self), found.cloned());
        tokio::spawn(async move {
            let late = async {
                while let Some(reply) = asked.join_next().await {
                    let (info, offer) = match reply {
                        Ok(Reply::Peer(peer, Ok(Some(info)))) => (info, Offer::Peer(peer)),
                        Ok(Reply::Upstream(_, Ok(Some((info, offer))))) => (info, offer),
                        Ok(Reply::Peer(peer, Err(error))) => {
                            lookup.blame(&peer, hash, &error);
                            continue;
                        }
                        _ => continue,
                    };
                    match &found {
                        Some(found) => found.add(&info, offer),
                        None => {
                            let first = Found::new(info, offer);
                            if let Some((remember, number)) = &remember {
                                remember.insert((*number, hash), Answer::Found(Arc::clone(&first))).await;
                            }
                            found = Some(first);
                        }
                    }
                }
            };
            let _ = tokio::time::timeout(LATE, late).await;
            drop(place);
        });
    }

    /// Acts on a peer's failure: a lie bans it, anything else counts against it.
    pub(super) fn blame(&self, peer: &Peer, hash: StoreHash, error: &SourceError) {
        self.blame_for(peer, hash, None, error);
    }

    /// The same, where the name of the path is known.
    pub(super) fn blame_for(&self, peer: &Peer, hash: StoreHash, path: Option<&StorePath>, error: &SourceError) {
        if let SourceError::Lie(lie) = error {
            // Several requests may find the same peer out at once.
            if peer.state() != State::Blocked {
                self.metrics.peers_banned.add(1);
                peer.ban(&format!("it {lie}, for {hash}"), lie.ban());
                let (peer, path, reason) = (peer.id(), path.cloned(), lie.to_string());
                self.ledger.tell(|| FetchEvent::Violation { peer, hash, path, reason });
            }
        } else if let Some(failure) = error.as_failure() {
            log::debug!(peer:% = peer.id(), path:% = hash, reason:% = error; "a peer failed: {error}");
            peer.failed(failure);
        }
    }
}

/// What is known while a lookup runs.
struct Heard {
    /// Everybody was asked and has answered so far.
    complete: bool,
    /// The upstreams that have not answered.
    silent: Vec<Arc<Upstream>>,
    /// The best that upstreams gave.
    from_upstream: Option<Arc<Found>>,
}
