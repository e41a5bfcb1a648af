//! Asks the directory of a NAR, and answers as one.

use super::directory::{Decision, Directory, RENEWAL, Renewal, Tally, Want};
use super::message::{self, Answer, CLAIMS_MAX, Claim};
use super::order::{self, order};
use super::site::{Granted, Site};
use super::tenure::Tenure;
use crate::fetch::error::SourceError;
use crate::fetch::source::partial::PartialSource;
use crate::fetch::source::peer::PeerSource;
use crate::fetch::source::upstream::collect;
use crate::metrics::Metrics;
use crate::nix::{NarHash, StoreHash};
use crate::peers::holders::Holder;
use crate::peers::narinfo_batch::BatchError;
use crate::peers::{Layout, NodeId, Peers};
use async_trait::async_trait;
use bytes::Bytes;
use hyper::StatusCode;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};

/// How long a download waits for a directory in all: after that it begins as if there was none.
const PATIENCE: Duration = Duration::from_millis(300);
/// How long the first directory has before the next one is asked.
const FIRST: Duration = Duration::from_millis(200);
/// How many directories are asked.
const DIRECTORIES: usize = 2;
/// How long a renewal may take.
const RENEWAL_LIMIT: Duration = Duration::from_secs(1);

/// The site, of the peers of this machine. A cheap handle: clones are the same.
#[derive(Clone)]
pub struct Claims(Arc<Inner>);

struct Inner {
    peers: Peers,
    layout: watch::Receiver<Arc<Layout>>,
    directory: Mutex<Directory>,
    /// What is told again and again.
    tenures: Mutex<Vec<Weak<Tenure>>>,
    metrics: Arc<Metrics>,
}

impl Claims {
    pub(crate) fn new(peers: Peers, metrics: Arc<Metrics>) -> Self {
        let (layout, directory) = (peers.layout(), Mutex::new(Directory::new(Instant::now())));
        Self(Arc::new(Inner { peers, layout, directory, tenures: Mutex::default(), metrics }))
    }

    /// The body of an answer to a request of `peer`.
    ///
    /// # Errors
    /// It is no request.
    pub fn answer(&self, peer: NodeId, body: Bytes) -> Result<Bytes, BatchError> {
        let now = Instant::now();
        let claims = message::parse_request(body)?;
        let mut directory = self.0.directory.lock();
        let mut answers = Vec::with_capacity(claims.len());
        for claim in claims {
            answers.push(match claim {
                Claim::Want(want) => match directory.want(peer, &want, now) {
                    Decision::Download => Answer::Download,
                    Decision::Follow(id) => Answer::Follow(self.holder(id)),
                    Decision::Alone => Answer::Alone,
                },
                Claim::Renewal(renewal) => {
                    directory.renew(peer, &renewal, now);
                    Answer::Noted
                }
            });
        }
        self.count(&mut directory);
        drop(directory);
        Ok(message::answer(&answers))
    }

    /// Counts what was downloaded of late.
    fn count(&self, directory: &mut Directory) {
        let Tally { downloaded, unique } = directory.tally();
        self.0.metrics.site_downloaded_bytes.add(downloaded);
        self.0.metrics.site_unique_bytes.add(unique);
    }

    /// Where a machine may be reached; those who ask know where we are.
    fn holder(&self, id: NodeId) -> Holder {
        let addresses = self.0.peers.get(id).map(|peer| peer.addresses()).unwrap_or_default();
        Holder { id, addresses }
    }

    /// Those who may be directories, this machine among them if it may.
    fn machines(&self) -> Vec<NodeId> {
        let (peers, us) = (&self.0.peers, self.0.peers.us());
        match &**self.0.layout.borrow() {
            Layout::Mesh => peers.claimants().into_iter().chain([us]).collect(),
            Layout::Relayed { relays, is_relay, .. } => {
                let others = peers.claimants();
                let may = |id: &NodeId| (*id == us && *is_relay) || others.contains(id);
                relays.iter().copied().filter(may).collect()
            }
        }
    }

    /// The machine that asks an upstream for a narinfo in the place of all, of those that `may`; `None` where there are no others.
    pub(crate) fn asks_for_narinfo(
        &self,
        upstream: &[u8; 20],
        hash: &StoreHash,
        may: impl Fn(&NodeId) -> bool,
    ) -> Option<NodeId> {
        let machines: Vec<NodeId> = self.machines().into_iter().filter(may).collect();
        let us = self.0.peers.us();
        if machines.iter().all(|id| *id == us) {
            return None;
        }
        order::asks(upstream, hash, machines.into_iter())
    }

    fn directories(&self, nar: &NarHash) -> impl Iterator<Item = NodeId> {
        order(nar, self.machines()).into_iter().take(DIRECTORIES)
    }

    async fn ask(&self, directory: NodeId, claims: &[Claim]) -> Result<Vec<Answer>, SourceError> {
        let gone = || SourceError::Unavailable("it is not there any more".to_owned());
        let peer = PeerSource(self.0.peers.get(directory).ok_or_else(gone)?);
        let response = peer.post(message::TARGET, message::request(claims)).await?;
        if response.status() != StatusCode::OK {
            return Err(SourceError::Status(response.status().as_u16()));
        }
        let body = collect(response.into_body(), message::ANSWER_MAX).await?;
        message::parse_answer(body, claims.len()).map_err(|error| SourceError::Unavailable(error.to_string()))
    }

    /// What one directory says.
    async fn ask_for(&self, directory: NodeId, want: &Want) -> Result<Granted, SourceError> {
        if directory == self.0.peers.us() {
            let decision = self.0.directory.lock().want(directory, want, Instant::now());
            return Ok(match decision {
                Decision::Download => Granted::Download,
                Decision::Follow(id) => self.follow(id, &[]),
                Decision::Alone => Granted::Alone,
            });
        }
        match self.ask(directory, &[Claim::Want(want.clone())]).await?.pop() {
            Some(Answer::Download) => Ok(Granted::Download),
            Some(Answer::Follow(holder)) => Ok(self.follow(holder.id, &holder.addresses)),
            Some(Answer::Alone) => Ok(Granted::Alone),
            Some(Answer::Noted) | None => Err(SourceError::Unavailable("no answer to what was asked".to_owned())),
        }
    }

    fn follow(&self, id: NodeId, addresses: &[std::net::SocketAddr]) -> Granted {
        match self.0.peers.named(id, addresses).filter(|peer| peer.id() != self.0.peers.us()) {
            Some(peer) => Granted::Follow(id, Arc::new(PartialSource::new(peer))),
            None => Granted::Alone,
        }
    }

    /// Tells directories of all that is under way, until nothing is.
    async fn beat(self) {
        let mut ticks = interval(RENEWAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            let tenures = {
                let mut tenures = self.0.tenures.lock();
                tenures.retain(|tenure| tenure.strong_count() > 0);
                if tenures.is_empty() {
                    return;
                }
                tenures.clone()
            };
            let machines = self.machines();
            let mut of_each: HashMap<NodeId, Vec<Weak<Tenure>>> = HashMap::new();
            for (nar, tenure) in tenures.into_iter().filter_map(|tenure| Some((tenure.upgrade()?.nar(), tenure))) {
                if let Some(directory) = order(&nar, machines.clone()).first() {
                    of_each.entry(*directory).or_default().push(tenure);
                }
            }
            // One that is silent keeps none of the others waiting.
            let mut telling = JoinSet::new();
            for (directory, tenures) in of_each {
                let claims = self.clone();
                telling.spawn(timeout(RENEWAL_LIMIT, async move { claims.tell_all(directory, &tenures).await }));
            }
            while telling.join_next().await.is_some() {}
        }
    }

    /// Tells a directory of these transfers, as they are when it is told.
    async fn tell_all(&self, directory: NodeId, tenures: &[Weak<Tenure>]) {
        for tenures in tenures.chunks(CLAIMS_MAX) {
            let now = tenures.iter().filter_map(Weak::upgrade).filter_map(|tenure| tenure.renewal());
            let renewals: Vec<Renewal> = now.collect();
            if !renewals.is_empty() && !self.tell(directory, renewals).await {
                return;
            }
        }
    }

    /// Tells a directory of transfers; false: it does not hear it.
    async fn tell(&self, directory: NodeId, renewals: Vec<Renewal>) -> bool {
        if directory == self.0.peers.us() {
            let mut ours = self.0.directory.lock();
            renewals.iter().for_each(|renewal| ours.renew(directory, renewal, Instant::now()));
            self.count(&mut ours);
            return true;
        }
        let claims: Vec<Claim> = renewals.into_iter().map(Claim::Renewal).collect();
        // Who does not hear it has the next one to hear, or is not there any more.
        self.ask(directory, &claims)
            .await
            .inspect_err(|error| {
                log::debug!(peer:% = directory, reason:% = error; "a directory was not told what is under way: {error}");
            })
            .is_ok()
    }
}

#[async_trait]
impl Site for Claims {
    fn has_others(&self) -> bool {
        let us = self.0.peers.us();
        self.machines().iter().any(|id| *id != us)
    }

    async fn want(&self, want: Want) -> Granted {
        let deadline = Instant::now() + PATIENCE;
        for (place, directory) in (0u32..).zip(self.directories(&want.nar)) {
            let until = if place == 0 { Instant::now() + FIRST } else { deadline };
            match timeout_at(until, self.ask_for(directory, &want)).await {
                Ok(Ok(granted)) => {
                    let counter = match granted {
                        Granted::Download if !want.lost.is_empty() => &self.0.metrics.claims_taken_over,
                        Granted::Download => &self.0.metrics.claims_granted,
                        Granted::Follow(..) => &self.0.metrics.claims_followed,
                        Granted::Alone => &self.0.metrics.claims_alone,
                    };
                    counter.add(1);
                    return granted;
                }
                Ok(Err(error)) => {
                    log::debug!(peer:% = directory, reason:% = error; "a directory could not be asked: {error}");
                }
                Err(_) => log::debug!(peer:% = directory; "a directory does not answer"),
            }
        }
        self.0.metrics.claims_alone.add(1);
        Granted::Alone
    }

    fn keep(&self, tenure: &Arc<Tenure>) {
        let mut tenures = self.0.tenures.lock();
        let this = Arc::downgrade(tenure);
        if tenures.iter().any(|known| known.ptr_eq(&this)) {
            return;
        }
        let is_first = tenures.is_empty();
        tenures.push(this);
        drop(tenures);
        if is_first {
            tokio::spawn(self.clone().beat());
        }
    }

    fn end(&self, last: Renewal) {
        for (place, directory) in self.directories(&last.nar).enumerate() {
            // The second may have been asked when the first was silent: it need not wait for news any more.
            let last = if place == 0 { last } else { Renewal { role: None, ..last } };
            let claims = self.clone();
            tokio::spawn(timeout(RENEWAL_LIMIT, async move { claims.tell(directory, vec![last]).await }));
        }
    }
}
