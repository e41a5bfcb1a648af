//! Who has a place: how many connections there are in all, from each address and from each IPv6 network; who of them makes
//! room for another; and who waits.
//!
//! Nothing here waits or ends a connection. A connection that has to make room finds that in its [`Marks`]; one that waits
//! is sent its [`Place`] when somebody leaves.

use super::limits::{Limits, WAITING_PER_ADDRESS};
use super::marks::Marks;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed, Ordering::SeqCst, fence};
use tokio::sync::oneshot;

/// A limit that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// On the connections of one address.
    Address(IpAddr),
    /// On those of one IPv6 network, by the first half of its addresses: one machine owns the other half.
    Network(u64),
    /// On all of them.
    All,
}

/// The places of a listener.
#[derive(Debug)]
pub(super) struct Places {
    table: Mutex<Table>,
    /// How many wait: a connection looks here whenever it becomes idle.
    waiting: AtomicUsize,
}

/// The place of one connection, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
}

/// One who waits for a place, until it is dropped.
#[derive(Debug)]
pub(super) struct Waiting {
    places: Arc<Places>,
    number: u64,
    place: oneshot::Receiver<Place>,
}

#[derive(Debug)]
struct Table {
    all: usize,
    per_network: usize,
    per_address: usize,
    /// Those who have a place, by number.
    taken: HashMap<u64, Taken>,
    addresses: HashMap<IpAddr, usize>,
    networks: HashMap<u64, usize>,
    /// The first comes first.
    queue: VecDeque<Queued>,
    next: u64,
}

#[derive(Debug)]
struct Taken {
    address: IpAddr,
    marks: Arc<Marks>,
}

#[derive(Debug)]
struct Queued {
    number: u64,
    address: IpAddr,
    marks: Arc<Marks>,
    send: oneshot::Sender<Place>,
}

impl Places {
    pub(super) fn new(limits: &Limits) -> Arc<Self> {
        let bounded = limits.per_address.is_some();
        let table = Table {
            all: limits.connections.max(1),
            per_network: if bounded { (limits.connections / 2).max(1) } else { usize::MAX },
            per_address: limits.per_address.unwrap_or(usize::MAX).max(1),
            taken: HashMap::new(),
            addresses: HashMap::new(),
            networks: HashMap::new(),
            queue: VecDeque::new(),
            next: 0,
        };
        Arc::new(Self { table: Mutex::new(table), waiting: AtomicUsize::new(0) })
    }

    /// A place for a connection from `address` that does what `marks` say. If there is none, whoever has been idle for the
    /// longest makes room: of those of the address or network that has too many, or of all. Tells how many did.
    ///
    /// # Errors
    /// Nobody is idle: which limit that is.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr, marks: &Arc<Marks>) -> (Result<Place, Scope>, usize) {
        let mut table = self.table.lock();
        let mut evicted = 0;
        while let Some(scope) = table.full(address) {
            if !table.evict(scope) {
                return (Err(scope), evicted);
            }
            evicted += 1;
        }
        let number = table.enter(address, Arc::clone(marks));
        drop(table);
        (Ok(Place { places: Arc::clone(self), number }), evicted)
    }

    /// Waits in line, unless too many from this address do.
    pub(super) fn wait(self: &Arc<Self>, address: IpAddr, marks: &Arc<Marks>) -> Option<Waiting> {
        let mut table = self.table.lock();
        let waiting = table.queue.iter().filter(|queued| queued.address == address).count();
        if table.per_address != usize::MAX && waiting >= WAITING_PER_ADDRESS {
            return None;
        }
        let (send, place) = oneshot::channel();
        let number = table.number();
        table.queue.push_back(Queued { number, address, marks: Arc::clone(marks), send });
        self.waiting.store(table.queue.len(), Relaxed);
        // Whoever became idle before it could see that somebody waits is seen from here.
        fence(SeqCst);
        let made_room = table.full(address).is_none_or(|scope| table.evict(scope));
        drop(table);
        if made_room {
            self.serve();
        }
        Some(Waiting { places: Arc::clone(self), number, place })
    }

    /// Gives the places that are free to those who wait for them.
    fn serve(self: &Arc<Self>) {
        let mut served = Vec::new();
        let mut table = self.table.lock();
        while let Some(at) = table.queue.iter().position(|queued| table.full(queued.address).is_none()) {
            let Some(queued) = table.queue.remove(at) else { break };
            table.enter_as(queued.number, queued.address, queued.marks);
            served.push((queued.send, Place { places: Arc::clone(self), number: queued.number }));
        }
        self.waiting.store(table.queue.len(), Relaxed);
        drop(table);
        // Who is gone by now gives the place back, for which the table must be free.
        for (send, place) in served {
            let _ = send.send(place);
        }
    }
}

impl Place {
    /// Whether somebody waits who could have this place.
    pub(super) fn is_wanted(&self) -> bool {
        // After what made the connection idle: see `Places::wait`.
        fence(SeqCst);
        if self.places.waiting.load(Relaxed) == 0 {
            return false;
        }
        let table = self.places.table.lock();
        let Some(address) = table.taken.get(&self.number).map(|taken| taken.address) else { return true };
        table.queue.iter().any(|queued| table.full(queued.address).is_none_or(|scope| scope.has(address)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let waiting = {
            let mut table = self.places.table.lock();
            table.leave(self.number);
            !table.queue.is_empty()
        };
        if waiting {
            self.places.serve();
        }
    }
}

impl Waiting {
    /// The place, when it is there.
    pub(super) async fn place(&mut self) -> Option<Place> {
        (&mut self.place).await.ok()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut table = self.places.table.lock();
        table.queue.retain(|queued| queued.number != self.number);
        self.places.waiting.store(table.queue.len(), Relaxed);
    }
}

impl Scope {
    /// Whether a connection from `address` is one of these.
    fn has(self, address: IpAddr) -> bool {
        match self {
            Self::Address(this) => this == address,
            Self::Network(this) => network(address) == Some(this),
            Self::All => true,
        }
    }
}

impl Table {
    /// The first limit that keeps `address` from another place.
    fn full(&self, address: IpAddr) -> Option<Scope> {
        let held = |count: Option<&usize>| count.copied().unwrap_or_default();
        if held(self.addresses.get(&address)) >= self.per_address {
            return Some(Scope::Address(address));
        }
        let full = |network: &u64| held(self.networks.get(network)) >= self.per_network;
        let of_network = network(address).filter(full).map(Scope::Network);
        of_network.or((self.taken.len() >= self.all).then_some(Scope::All))
    }

    /// Takes its place from who has been idle for the longest. A look at each, at most once for a connection that comes,
    /// and only while there are too many: to keep them in order would cost something with every request.
    fn evict(&mut self, scope: Scope) -> bool {
        let idle = self.taken.iter().filter(|(_, taken)| scope.has(taken.address));
        let idle = idle.filter_map(|(number, taken)| Some((taken.marks.idle_since()?, *number)));
        let Some((_, number)) = idle.min() else { return false };
        if let Some(taken) = self.leave(number) {
            taken.marks.evict();
        }
        true
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn enter(&mut self, address: IpAddr, marks: Arc<Marks>) -> u64 {
        let number = self.number();
        self.enter_as(number, address, marks);
        number
    }

    fn enter_as(&mut self, number: u64, address: IpAddr, marks: Arc<Marks>) {
        self.taken.insert(number, Taken { address, marks });
        *self.addresses.entry(address).or_default() += 1;
        if let Some(network) = network(address) {
            *self.networks.entry(network).or_default() += 1;
        }
    }

    fn leave(&mut self, number: u64) -> Option<Taken> {
        let taken = self.taken.remove(&number)?;
        give_back(&mut self.addresses, &taken.address);
        if let Some(network) = network(taken.address) {
            give_back(&mut self.networks, &network);
        }
        Some(taken)
    }
}

fn give_back<K: Eq + std::hash::Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// The upper half of the 128 bits of an IPv6 address.
fn network(address: IpAddr) -> Option<u64> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some((address.to_bits() >> 64) as u64),
    }
}

#[cfg(test)]
#[path = "places_tests.rs"]
mod tests;
