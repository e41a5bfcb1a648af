//! Both sides of copies: asks other members to hold what is wanted on several machines, and answers what they ask.

use super::keeper::{IsAvailable, Keeper};
use super::ledger::Ledger;
use super::message::{Answer, MESSAGE_MAX, MessageError, Named, PATHS_MAX, Request, TARGET, Wanted};
use super::plan::{Ask, Holder, Member, Plan, Said, Want};
use crate::nix::StorePath;
use crate::peers::{Audience, LinkError, NodeId, Peer, Peers, State};
use crate::store::{Pins, Store, ValidPath};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::StatusCode;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use thiserror::Error;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// How long it is waited after something changed, so that what changes together is seen together.
const TOGETHER: Duration = Duration::from_millis(300);
/// How often those are asked who have not said yet that they hold something…
const SOON: Duration = Duration::from_secs(1);
/// … and how often it is looked at all, at least; more often where members are replaced sooner.
const LATER: Duration = Duration::from_secs(20);
/// How long a member may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// What this room is told.
pub struct CopiesOptions {
    /// On how many machines what was built here or pinned shall be, this one included.
    pub copies: u32,
    /// For how long what was built here, from then on.
    pub keep: Duration,
    /// How much is held here for others, in bytes; 0: nothing.
    pub max_size: u64,
    /// After how long a member that is gone is replaced.
    pub replace_after: Duration,
    /// Where it is kept what was agreed on.
    pub state_dir: PathBuf,
    /// Whether members may have a path of this store.
    pub may_offer: Arc<dyn Fn(&ValidPath) -> bool + Send + Sync>,
    /// Whether somebody in reach has a path.
    pub is_available: IsAvailable,
}

/// What is known of the copies of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopiesOf {
    /// On how many machines it is wanted; 0: this machine does not want it elsewhere.
    pub wanted: u32,
    /// Who else holds it, or was asked to.
    pub holders: Vec<(NodeId, Holder)>,
    /// For whom it is held here.
    pub held_for: Vec<NodeId>,
}

/// The room's handle. Cheap to clone.
#[derive(Clone)]
pub struct Copies(Arc<Inner>);

struct Inner {
    options: CopiesOptions,
    store: Store,
    pins: Pins,
    peers: Peers,
    wants: Mutex<Vec<Want>>,
    plan: Mutex<Plan>,
    keeper: Keeper,
}

impl Copies {
    /// Begins, until `stop`.
    #[must_use]
    pub fn start(options: CopiesOptions, (store, pins): (Store, Pins), peers: Peers, stop: &CancellationToken) -> Self {
        let Ledger { plan, held } = Ledger::read(&options.state_dir);
        let is_available = Arc::clone(&options.is_available);
        let (keeper, queue) = Keeper::new((store.clone(), pins.clone()), is_available, options.max_size, held);
        let (wants, plan) = (Mutex::default(), Mutex::new(plan));
        let this = Self(Arc::new(Inner { options, store, pins, peers, wants, plan, keeper }));
        let (asking, keeping) = (this.clone(), this.clone());
        let (stop, keepers) = (stop.clone(), stop.clone());
        tokio::spawn(async move { keeping.0.keeper.run(queue, keepers).await });
        tokio::spawn(async move { stop.run_until_cancelled(asking.run()).await });
        this
    }

    /// The answer to what the member `who` asks.
    ///
    /// # Errors
    /// It asks nothing that makes sense.
    pub async fn answer(&self, who: NodeId, body: &[u8]) -> Result<Bytes, MessageError> {
        let request = Request::parse(body)?;
        let name = self.0.peers.get(who).map(|peer| peer.name()).filter(|name| !name.is_empty());
        let name = name.unwrap_or_else(|| who.to_string());
        Ok(self.0.keeper.answer(who, &name, request).await.to_body())
    }

    /// What is known of the copies of `path`; `None` if there is nothing to know.
    #[must_use]
    pub fn of(&self, path: &StorePath) -> Option<CopiesOf> {
        let wanted = self.0.wants.lock().iter().find(|want| want.path == *path).map_or(0, |want| want.copies);
        let holders: Vec<(NodeId, Holder)> = self.0.plan.lock().of(path).collect();
        let held_for = self.0.keeper.owners(path);
        let is_known = wanted > 1 || !holders.is_empty() || !held_for.is_empty();
        is_known.then_some(CopiesOf { wanted, holders, held_for })
    }

    /// What a collection of garbage must leave here: no other machine holds it, and several should.
    #[must_use]
    pub fn last_ones(&self) -> Vec<StorePath> {
        let plan = self.0.plan.lock();
        self.0.wants.lock().iter().filter(|want| !plan.is_elsewhere(&want.path)).map(|want| want.path.clone()).collect()
    }

    /// How many paths are held here for others.
    #[must_use]
    pub fn held_for_others(&self) -> usize {
        self.0.keeper.held().len()
    }

    async fn run(self) {
        let Inner { options, store, peers, keeper, pins, .. } = &*self.0;
        let (mut changes, mut events) = (store.changes(), peers.subscribe());
        let mut written = Ledger { plan: self.0.plan.lock().clone(), held: keeper.held() };
        loop {
            self.look().await;
            let is_settled = self.round().await;
            written = self.write(written).await;
            let later = LATER.min(options.replace_after / 2).max(SOON);
            let pause = if is_settled { later } else { SOON };
            tokio::select! {
                _ = changes.changed() => sleep(TOGETHER).await, // pace
                () = pins.changed() => {}
                () = keeper.changed.notified() => {}
                event = events.recv() => match event {
                    Ok(_) | Err(RecvError::Lagged(_)) => sleep(TOGETHER).await, // pace
                    Err(RecvError::Closed) => return,
                },
                () = sleep(pause) => {} // poll
            }
        }
    }

    /// Sees what is wanted on several machines.
    async fn look(&self) {
        let Inner { options, store, pins, .. } = &*self.0;
        let mut wants: BTreeMap<StorePath, Want> = BTreeMap::new();
        if options.copies > 1 {
            let since = SystemTime::now().checked_sub(options.keep).unwrap_or(UNIX_EPOCH);
            match store.built(since).await {
                Ok(built) => {
                    for path in built.into_iter().filter(|path| (options.may_offer)(path)) {
                        let (path, size) = (path.info.path.clone(), path.info.nar_size);
                        wants.insert(path.clone(), Want { path, size, copies: options.copies });
                    }
                }
                Err(error) => {
                    log::debug!(reason:% = error; "what was built here cannot be seen");
                    return;
                }
            }
        }
        for pin in pins.list() {
            // What is held for others is theirs to spread.
            let is_for_others = !self.0.keeper.owners(&pin.path).is_empty();
            let copies = pin.copies.unwrap_or(if is_for_others { 1 } else { options.copies });
            if copies > 1
                && let Ok(Some(path)) = store.path_info(pin.path.hash()).await
                && (options.may_offer)(&path)
            {
                let want = Want { path: pin.path.clone(), size: path.info.nar_size, copies };
                wants.insert(pin.path, want);
            }
        }
        *self.0.wants.lock() = wants.into_values().collect();
    }

    /// Asks whoever is to be asked. True if nothing more is to be expected soon.
    async fn round(&self) -> bool {
        let wants = self.0.wants.lock().clone();
        let members = self.members();
        let replace_after = self.0.options.replace_after.as_secs();
        let asks = self.0.plan.lock().ask(&wants, &members, replace_after, now());
        let mut asking = JoinSet::new();
        for (id, ask) in asks {
            let Some(peer) = self.0.peers.get(id) else { continue };
            let this = self.clone();
            asking.spawn(async move {
                for part in parts(&ask) {
                    if !this.ask(&peer, part).await {
                        return;
                    }
                }
            });
        }
        asking.join_all().await;
        let plan = self.0.plan.lock();
        let is_coming = |want: &Want| plan.lacks(want) && plan.of(&want.path).next().is_some();
        !wants.iter().any(is_coming)
    }

    /// Those who hold copies for members, of whom this machine is one.
    fn members(&self) -> Vec<Member> {
        let peers = &self.0.peers;
        let all = peers.snapshot().into_iter().filter_map(|status| peers.get(status.id));
        all.filter(|peer| peer.holds_copies() && peers.admission().audience(peer.id()) == Audience::Enrolled)
            .map(|peer| Member { id: peer.id(), is_online: matches!(peer.state(), State::Online | State::Resting) })
            .collect()
    }

    /// Asks one of them; false if it did not answer.
    async fn ask(&self, peer: &Arc<Peer>, ask: Ask) -> bool {
        let request = Request {
            hold: ask.hold.iter().map(|want| Wanted { path: Named(want.path.clone()), size: want.size }).collect(),
            release: ask.release.iter().cloned().map(Named).collect(),
        };
        let answer = match timeout(ANSWER, said(peer, request.to_body())).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                log::debug!(peer:% = peer.id(), reason:% = error; "a member does not say whether it holds copies: {error}");
                return false;
            }
            Err(_) => return false,
        };
        for refused in &answer.refused {
            log::info!(path:% = refused.path.0, peer:% = peer.id(), reason = refused.reason.as_str();
                "{} does not hold {}: {}", peer.name(), refused.path.0, refused.reason);
        }
        let plain = |paths: Vec<Named>| paths.into_iter().map(|path| path.0).collect();
        let said = Said { free: answer.free, held: plain(answer.held), coming: plain(answer.coming) };
        self.0.plan.lock().answered(peer.id(), &ask, &said, now());
        true
    }

    /// Writes down what was agreed on, if that is not what was written.
    async fn write(&self, written: Ledger) -> Ledger {
        let ledger = Ledger { plan: self.0.plan.lock().clone(), held: self.0.keeper.held() };
        if ledger == written {
            return written;
        }
        let state_dir = self.0.options.state_dir.clone();
        let done = tokio::task::spawn_blocking(move || ledger.write(&state_dir).map(|()| ledger)).await;
        match done {
            Ok(Ok(ledger)) => ledger,
            Ok(Err(error)) => {
                log::warn!(reason:% = error; "what was agreed on about copies cannot be written down: {error}");
                written
            }
            Err(_) => written,
        }
    }
}

/// What a member says to a request.
async fn said(peer: &Arc<Peer>, body: Bytes) -> Result<Answer, NoAnswer> {
    let response = peer.post(TARGET, body).await?;
    if response.status() != StatusCode::OK {
        return Err(NoAnswer::Status(response.status()));
    }
    let body = Limited::new(response.into_body(), MESSAGE_MAX).collect().await;
    let body = body.map_err(|error| NoAnswer::Body(error.to_string()))?;
    Ok(Answer::parse(&body.to_bytes())?)
}

/// Why a member says nothing.
#[derive(Debug, Error)]
enum NoAnswer {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("the answer has the status {0}")]
    Status(StatusCode),
    #[error("the answer breaks off: {0}")]
    Body(String),
    #[error(transparent)]
    Message(#[from] MessageError),
}

/// In parts that fit into a message each.
fn parts(ask: &Ask) -> Vec<Ask> {
    let (hold, release): (Vec<_>, Vec<_>) =
        (ask.hold.chunks(PATHS_MAX).collect(), ask.release.chunks(PATHS_MAX).collect());
    let part = |at: usize| Ask {
        hold: hold.get(at).map(|paths| paths.to_vec()).unwrap_or_default(),
        release: release.get(at).map(|paths| paths.to_vec()).unwrap_or_default(),
    };
    (0..hold.len().max(release.len())).map(part).collect()
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nix::StoreHash;

    #[test]
    fn what_is_too_much_for_one_message_goes_in_several() {
        let path = |number: usize| {
            let mut hash = [0; 20];
            hash[..8].copy_from_slice(&number.to_le_bytes());
            StorePath::new(StoreHash::new(hash), "x").unwrap()
        };
        let hold = (0..70).map(|number| Want { path: path(number), size: 1, copies: 2 }).collect();
        let ask = Ask { hold, release: (100..110).map(path).collect() };
        let parts = parts(&ask);
        assert_eq!(parts.iter().map(|part| part.hold.len()).collect::<Vec<_>>(), [32, 32, 6]);
        assert_eq!(parts.iter().map(|part| part.release.len()).sum::<usize>(), 10);
        assert_eq!(parts.into_iter().flat_map(|part| part.hold).collect::<Vec<_>>(), ask.hold);
    }
}
