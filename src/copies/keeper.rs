//! What is held here for other members: fetched by this machine's Nix, pinned, and let go of when nobody wants it any more.

use super::ledger::Held;
use super::message::{Answer, Named, REASON_MAX, Refused, Request, Wanted};
use crate::nix::{StoreHash, StorePath};
use crate::peers::NodeId;
use crate::store::{Pins, PrefetchResult, Store, StoreError};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// How many paths are held for others at most; each is a pin.
const HELD_MAX: usize = 2048;
/// How much of the disk stays free, in bytes.
const FREE_MIN: u64 = 2 * 1024 * 1024 * 1024;
/// How many times the size of a NAR has to be free beside that: it refers to others, which come with it.
const ROOM: u64 = 2;
/// How long a path is waited for that nobody is known to have: word of it is on its way. Asked before, Nix would not ask again for an hour.
const AVAILABLE: Duration = Duration::from_secs(20);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(250);
/// How long one that could not be had is not tried again…
const FAILED: Duration = Duration::from_secs(600);
/// … and one that an administrator let go of here.
const UNPINNED: Duration = Duration::from_secs(24 * 60 * 60);
/// What the reasons of our pins begin with, before the name of the machine that asked.
const REASON: &str = "a copy for ";

/// Tells whether somebody in reach has a path.
pub type IsAvailable = Arc<dyn Fn(StoreHash) -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

/// What is held here for others.
pub(super) struct Keeper {
    store: Store,
    pins: Pins,
    is_available: IsAvailable,
    /// How much, in bytes.
    max_size: u64,
    state: Mutex<State>,
    work: mpsc::Sender<(StorePath, String)>,
    /// What is held is not what it was.
    pub(super) changed: Notify,
}

#[derive(Default)]
struct State {
    held: BTreeMap<StorePath, Held>,
    coming: BTreeMap<StorePath, Held>,
    /// Until when what is not tried, and why.
    refused: BTreeMap<StorePath, (Instant, String)>,
}

/// What comes of a path that should be held.
#[derive(Debug, PartialEq, Eq)]
enum Taken {
    Held,
    Coming { is_new: bool },
    Refused(String),
}

impl State {
    fn size(&self) -> u64 {
        self.held.values().chain(self.coming.values()).map(|held| held.size).fold(0, u64::saturating_add)
    }

    /// Takes in that `who` wants a path held, of which `is_pinned` is known, where so much is free.
    fn take(&mut self, who: NodeId, wanted: &Wanted, is_pinned: bool, (max_size, free): (u64, u64)) -> Taken {
        let (path, size) = (&wanted.path.0, wanted.size);
        let now = Instant::now();
        self.refused.retain(|_, (until, _)| *until > now);
        if let Some(held) = self.held.get_mut(path) {
            if is_pinned {
                held.owners.insert(who);
                return Taken::Held;
            }
            self.held.remove(path);
            self.refused.insert(path.clone(), (now + UNPINNED, "it was unpinned there".to_owned()));
        }
        if let Some(coming) = self.coming.get_mut(path) {
            coming.owners.insert(who);
            return Taken::Coming { is_new: false };
        }
        if let Some((_, reason)) = self.refused.get(path) {
            return Taken::Refused(reason.clone());
        }
        if self.held.len() + self.coming.len() >= HELD_MAX || self.size().saturating_add(size) > max_size {
            return Taken::Refused("it holds as much for others as it may ([replicate] max_size)".to_owned());
        }
        if free < size.saturating_mul(ROOM).saturating_add(FREE_MIN) {
            return Taken::Refused("its disk is too full".to_owned());
        }
        self.coming.insert(path.clone(), Held { owners: [who].into(), size });
        Taken::Coming { is_new: true }
    }

    /// Takes in that `who` wants a path no more; true if nobody does.
    fn release(&mut self, who: NodeId, path: &StorePath) -> bool {
        let Some(held) = self.held.get_mut(path) else {
            if let Some(coming) = self.coming.get_mut(path) {
                coming.owners.remove(&who);
            }
            return false;
        };
        held.owners.remove(&who);
        let is_over = held.owners.is_empty();
        if is_over {
            self.held.remove(path);
        }
        is_over
    }
}

impl Keeper {
    /// Holds what is `held` already. The other half is what [`Self::run`] works through.
    pub(super) fn new(
        (store, pins): (Store, Pins),
        is_available: IsAvailable,
        max_size: u64,
        held: BTreeMap<StorePath, Held>,
    ) -> (Self, mpsc::Receiver<(StorePath, String)>) {
        let (work, queue) = mpsc::channel(HELD_MAX);
        let state = Mutex::new(State { held, ..State::default() });
        (Self { store, pins, is_available, max_size, state, work, changed: Notify::new() }, queue)
    }

    /// What is held, by path.
    pub(super) fn held(&self) -> BTreeMap<StorePath, Held> {
        self.state.lock().held.clone()
    }

    /// For whom a path is held.
    pub(super) fn owners(&self, path: &StorePath) -> Vec<NodeId> {
        self.state.lock().held.get(path).map(|held| held.owners.iter().copied().collect()).unwrap_or_default()
    }

    /// The answer to what `who`, which calls itself `name`, asks.
    pub(super) async fn answer(&self, who: NodeId, name: &str, request: Request) -> Answer {
        let store = self.store.clone();
        // A disk that says nothing has no room.
        let free =
            tokio::task::spawn_blocking(move || store.free()).await.ok().and_then(Result::ok).unwrap_or_default();
        let mut answer = Answer { free, ..Answer::default() };
        for wanted in request.hold {
            let is_pinned = self.pins.is_pinned(&wanted.path.0);
            let taken = self.state.lock().take(who, &wanted, is_pinned, (self.max_size, free));
            match taken {
                Taken::Held => answer.held.push(wanted.path),
                Taken::Coming { is_new } => {
                    if is_new && self.work.try_send((wanted.path.0.clone(), name.to_owned())).is_err() {
                        self.state.lock().coming.remove(&wanted.path.0);
                    }
                    answer.coming.push(wanted.path);
                }
                Taken::Refused(reason) => answer.refused.push(Refused { path: wanted.path, reason }),
            }
        }
        for Named(path) in request.release {
            let is_over = self.state.lock().release(who, &path);
            if is_over {
                self.let_go(&path).await;
            }
        }
        answer
    }

    /// Fetches and pins what is to be held, one after the other, until `stop`.
    pub(super) async fn run(&self, mut queue: mpsc::Receiver<(StorePath, String)>, stop: CancellationToken) {
        while let Some(Some((path, name))) = stop.run_until_cancelled(queue.recv()).await {
            let result = self.obtain(&path, &name, &stop).await;
            if self.came(&path, &name, result) {
                self.changed.notify_waiters();
            } else {
                self.let_go(&path).await;
            }
        }
    }

    /// Takes in what came of a path that was to be held; false if nobody wants it held any more.
    fn came(&self, path: &StorePath, name: &str, result: Result<(), String>) -> bool {
        let mut state = self.state.lock();
        let held = state.coming.remove(path).unwrap_or_default();
        match result {
            Ok(()) if held.owners.is_empty() => return false,
            Ok(()) => {
                log::info!(path:% = path, peer = name; "holding {path}, a copy for {name}");
                state.held.insert(path.clone(), held);
            }
            Err(reason) => {
                log::info!(path:% = path, peer = name, reason = reason.as_str(); "not holding {path} for {name}: {reason}");
                let reason = reason.chars().take(REASON_MAX).collect();
                state.refused.insert(path.clone(), (Instant::now() + FAILED, reason));
            }
        }
        true
    }

    /// Has a path in the store, and pinned.
    async fn obtain(&self, path: &StorePath, name: &str, stop: &CancellationToken) -> Result<(), String> {
        if !self.is_here(path).await? {
            self.wait_available(path).await?;
            let fetched = self.store.prefetch(std::slice::from_ref(path), |_| (), stop).await;
            let fetched = fetched.map_err(|error| error.to_string())?;
            match fetched.paths.first().map(|fetched| &fetched.result) {
                Some(PrefetchResult::Present | PrefetchResult::Fetched) => {}
                Some(PrefetchResult::Unavailable(reason)) => return Err(reason.clone()),
                None => return Err("the service stops".to_owned()),
            }
        }
        // What an administrator pinned stays pinned as it is.
        if self.pins.is_pinned(path) {
            return Ok(());
        }
        let name: String = name.chars().filter(|c| !c.is_control()).collect();
        self.pins.pin(path, &format!("{REASON}{name}"), None).await.map(drop).map_err(|error| error.to_string())
    }

    async fn is_here(&self, path: &StorePath) -> Result<bool, String> {
        let found = self.store.path_info(path.hash()).await.map_err(|error: StoreError| error.to_string())?;
        Ok(found.is_some_and(|found| found.info.path == *path))
    }

    async fn wait_available(&self, path: &StorePath) -> Result<(), String> {
        let begun = Instant::now();
        while !(self.is_available)(path.hash()).await {
            if begun.elapsed() >= AVAILABLE {
                return Err("nobody in its reach has it, signed by a key that it trusts".to_owned());
            }
            sleep(LOOK).await; // poll
        }
        Ok(())
    }

    /// Pins a path no more, if it was pinned for this.
    async fn let_go(&self, path: &StorePath) {
        let is_ours = |pin: &crate::store::Pin| pin.path == *path && pin.reason.starts_with(REASON);
        if self.pins.list().iter().any(is_ours) {
            match self.pins.unpin(path).await {
                Ok(_) => log::info!(path:% = path; "{path} is not wanted here any more"),
                Err(error) => {
                    log::warn!(path:% = path, reason:% = error; "a copy that nobody wants stays pinned: {error}");
                }
            }
        }
        self.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::NodeKey;

    const MIB: u64 = 1024 * 1024;
    const LIMITS: (u64, u64) = (10 * MIB, 100 * FREE_MIN);

    fn wanted(number: u8, size: u64) -> Wanted {
        Wanted { path: Named(StorePath::new(StoreHash::new([number; 20]), "x").unwrap()), size }
    }

    fn node(number: u8) -> NodeId {
        NodeKey::from_seed([number; 32]).id()
    }

    /// Takes a path, and has it come.
    fn hold(state: &mut State, who: NodeId, wanted: &Wanted) {
        assert_eq!(state.take(who, wanted, false, LIMITS), Taken::Coming { is_new: true });
        let held = state.coming.remove(&wanted.path.0).unwrap();
        state.held.insert(wanted.path.0.clone(), held);
    }

    #[test]
    fn what_is_held_for_several_goes_with_the_last_of_them() {
        let (mut state, path) = (State::default(), wanted(1, MIB));
        hold(&mut state, node(1), &path);
        assert_eq!(state.take(node(2), &path, true, LIMITS), Taken::Held);
        assert!(!state.release(node(1), &path.path.0));
        assert!(!state.release(node(3), &path.path.0), "it never wanted it");
        assert!(state.release(node(2), &path.path.0));
        assert!(state.held.is_empty());
    }

    #[test]
    fn there_is_a_limit_and_a_disk() {
        let mut state = State::default();
        hold(&mut state, node(1), &wanted(1, 9 * MIB));
        assert!(
            matches!(state.take(node(1), &wanted(2, 2 * MIB), false, LIMITS), Taken::Refused(why) if why.contains("max_size"))
        );
        assert_eq!(state.take(node(1), &wanted(3, MIB), false, LIMITS), Taken::Coming { is_new: true });
        assert_eq!(state.take(node(2), &wanted(3, MIB), false, LIMITS), Taken::Coming { is_new: false });
        let mut state = State::default();
        let full = (10 * MIB, FREE_MIN + MIB);
        assert!(
            matches!(state.take(node(1), &wanted(1, MIB), false, full), Taken::Refused(why) if why.contains("full"))
        );
        assert!(matches!(state.take(node(1), &wanted(1, u64::MAX), false, LIMITS), Taken::Refused(_)));
    }

    #[test]
    fn what_was_unpinned_here_is_not_taken_again() {
        let (mut state, path) = (State::default(), wanted(1, MIB));
        hold(&mut state, node(1), &path);
        for _ in 0..2 {
            assert!(
                matches!(state.take(node(1), &path, false, LIMITS), Taken::Refused(why) if why.contains("unpinned"))
            );
        }
    }
}
