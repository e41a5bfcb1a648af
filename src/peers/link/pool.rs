//! The connections to one peer. Everything small goes over one that carries many requests at a time. Each NAR has one of its
//! own while it comes, a few of which are kept for the next.
//!
//! A peer that knows HTTP/1.1 only is asked everything as NARs are, and more connections are kept.

use super::connection::{Call, Connection, Life, Message};
use super::dial::Target;
use super::transport::{Pending, Transport};
use crate::peers::error::LinkError;
use crate::peers::identity::NodeId;
use crate::peers::trusted_keys::TrustedKeysHeaders;
use crate::resilience::{Ewma, Way};
use hyper::Response;
use hyper::body::Incoming;
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout};

/// The most connections to one peer with a request of their own at once. Nix fetches 25 paths at a time; the share allows 128
/// connections from one address.
pub(crate) const CONNECTIONS_MAX: usize = 64;
/// How many new connections may be closed under a request.
const CLOSED_MAX: u32 = 3;
/// The most small requests at once, on the connection for them. Nix looks up 25 paths at a time.
pub(super) const SMALL_MAX: usize = 64;
/// The most connections kept without use: as many as Nix has substitutions at a time. A share has 1,024 in all, and closes what is idle when
/// they do not suffice.
pub(super) const IDLE_MAX: usize = 16;
/// The same for peers without HTTP/2: as many as Nix looks up at a time, or each lookup would shake hands anew.
const IDLE_MAX_SINGLE: usize = 25;
/// How long a connection is kept without use: less than the 30 s after which the share closes it.
const IDLE_TIME: Duration = Duration::from_secs(20);
/// How long a kept connection may be silent before the same is asked on a fresh one, as it may be dead without anybody having said
/// so: so many times what the peer usually takes,
const PATIENCE: u32 = 8;
/// but no less than this (a lookup waits 300 ms for peers),
const PATIENCE_MIN: Duration = Duration::from_millis(150);
/// and no more, also where it is not known: a peer that is busy is not helped by more connections.
const PATIENCE_MAX: Duration = Duration::from_millis(1500);
/// How long a network is waited for when there is none: one address goes before the next one comes.
const BETWEEN_ADDRESSES: Duration = Duration::from_millis(500);
/// How long a request waits for its turn when too many are under way.
const SLOT_LIMIT: Duration = Duration::from_secs(1);
/// What the target of a NAR begins with: one that is there, one that is on its way, what one differs in from another; and what stands for one
/// where a line is measured.
const NARS: [&str; 4] = ["/nar/", PARTIAL, PATCH, MEASURE];
/// The request target of bytes that mean nothing, but for their number.
pub(crate) const MEASURE: &str = "/peernix/v1/measure/";
/// The request target of a NAR that is on its way, but for its hash.
pub(crate) const PARTIAL: &str = "/peernix/v1/partial/";
/// The request target of a patch, but for the name of the NAR.
pub(crate) const PATCH: &str = "/peernix/v1/patch/";

/// The connections to one peer.
pub(crate) struct Pool {
    id: NodeId,
    target: Target,
    /// Goes with every request.
    trusted_keys: Arc<TrustedKeysHeaders>,
    /// Held while a connection has a request of its own.
    slots: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Idle>>>,
    /// Held until a small request has the head of its answer.
    small: Semaphore,
    shared: Mutex<Option<Shared>>,
    /// Held while a connection to share is made: whoever wants one meanwhile waits for it, and shares its failure as well.
    dialling: tokio::sync::Mutex<Option<(Instant, LinkError)>>,
    /// Whether the peer turned out to know HTTP/1.1 only.
    is_old: AtomicBool,
    /// All that are open, whoever uses them.
    open: Mutex<Vec<Life>>,
    /// Changes with the network.
    moved: watch::Sender<()>,
    /// Seconds from a request to the head of its answer.
    latency: Mutex<Ewma>,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

/// The connection for everything small.
struct Shared {
    connection: Connection,
    /// When it was last used; `None` if somebody else watches it, who greets the peer on it and notices when it is dead.
    used: Option<Instant>,
}

/// The head of an answer, and how long it took.
type Answer = (Response<Incoming>, Duration);

impl Pool {
    pub(crate) fn new(id: NodeId, target: Target, trusted_keys: Arc<TrustedKeysHeaders>) -> Self {
        let (idle, shared, dialling, is_old, open, latency, moved) = Default::default();
        let (slots, small) = (Arc::new(Semaphore::new(CONNECTIONS_MAX)), Semaphore::new(SMALL_MAX));
        Self { id, target, trusted_keys, slots, idle, small, shared, dialling, is_old, open, moved, latency }
    }

    /// A small request: with others on one connection, if the peer has that.
    async fn together(&self, message: Message, addresses: &[SocketAddr]) -> Result<Answer, LinkError> {
        let turn = timeout(SLOT_LIMIT, self.small.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(LinkError::AllInUse(SMALL_MAX)) };
        let Some(mut shared) = self.shared() else { return self.together_anew(message, addresses).await };
        let old = shared.share();
        let again = message.clone();
        let anew = async {
            old.iter().for_each(|old| self.forget(old));
            self.together_anew(again, addresses).await
        };
        self.or_fresh(shared.request(message), anew).await.map(|(answer, _)| answer)
    }

    /// The same, without a connection to share as yet.
    async fn together_anew(&self, message: Message, addresses: &[SocketAddr]) -> Result<Answer, LinkError> {
        let mut closed = 0;
        loop {
            if self.is_old.load(Relaxed) {
                return self.alone(message, addresses).await;
            }
            let mut connection = self.meet(addresses).await?;
            match connection.request(message.clone()).await {
                // A share that makes room closes what is idle, and a connection is until its first request comes. Whatever is asked may be
                // asked twice.
                Err(LinkError::Http(_)) if closed < CLOSED_MAX => {
                    closed += 1;
                    self.forget(&connection);
                }
                answer => {
                    let answer = answer?;
                    if !connection.is_multiplexed() {
                        self.keep(connection, self.slots.clone().try_acquire_owned().ok());
                    }
                    return Ok(answer);
                }
            }
        }
    }

    /// The connection to share; the first who wants it makes it.
    async fn meet(&self, addresses: &[SocketAddr]) -> Result<Connection, LinkError> {
        let begun = Instant::now();
        let mut failed = self.dialling.lock().await;
        if let Some(shared) = self.shared() {
            return Ok(shared);
        }
        if let Some((_, error)) = failed.as_ref().filter(|(when, _)| *when >= begun) {
            return Err(error.again());
        }
        let dialled = self.dial_noting(addresses).await;
        *failed = dialled.as_ref().err().map(|error| (Instant::now(), error.again()));
        let connection = dialled?;
        if let Some(connection) = connection.share() {
            *self.shared.lock() = Some(Shared { connection, used: Some(Instant::now()) });
        }
        Ok(connection)
    }

    /// Makes a connection, and notes what the peer knows.
    async fn dial_noting(&self, addresses: &[SocketAddr]) -> Result<Connection, LinkError> {
        let connection = self.until_moved(|| self.target.dial(addresses)).await?;
        self.is_old.store(!connection.is_multiplexed(), Relaxed);
        self.note(&connection);
        Ok(connection)
    }

    /// What `dial` gives, which is begun anew whenever the network changes: what is on its way from an address that is gone never
    /// comes about. Where there is no way at all, a change is waited for.
    pub(super) async fn until_moved<T, F>(&self, dial: impl Fn() -> F) -> Result<T, LinkError>
    where
        F: Future<Output = Result<T, LinkError>>,
    {
        let mut moved = self.moved.subscribe();
        loop {
            let dialled = tokio::select! {
                dialled = dial() => dialled,
                Ok(()) = moved.changed() => continue,
            };
            let may_come = dialled.as_ref().is_err_and(LinkError::has_no_way)
                && matches!(timeout(BETWEEN_ADDRESSES, moved.changed()).await, Ok(Ok(())));
            if !may_come {
                return dialled;
            }
        }
    }

    /// Notes that a connection is open.
    fn note(&self, connection: &Connection) {
        let mut open = self.open.lock();
        if open.len() == open.capacity() {
            // Whenever it would have to grow, so that this costs next to nothing.
            open.retain(|life| !life.is_over());
        }
        open.push(connection.life().clone());
    }

    /// The shared connection, if there is one.
    fn shared(&self) -> Option<Connection> {
        self.purge();
        let mut shared = self.shared.lock();
        let shared = shared.as_mut()?;
        shared.used = shared.used.map(|_| Instant::now());
        shared.connection.share()
    }

    /// Shares a connection no longer: what is asked next makes a new one.
    fn forget(&self, connection: &Connection) {
        let mut shared = self.shared.lock();
        if shared.as_ref().is_some_and(|shared| shared.connection.is(connection)) {
            *shared = None;
        }
    }

    /// A request with a connection of its own: a kept one if there is one, else a new one.
    async fn alone(&self, message: Message, addresses: &[SocketAddr]) -> Result<Answer, LinkError> {
        let slot = timeout(SLOT_LIMIT, self.slots.clone().acquire_owned()).await;
        let Ok(Ok(slot)) = slot else { return Err(LinkError::AllInUse(CONNECTIONS_MAX)) };
        let (connection, answer) = match self.take() {
            Some(mut kept) => {
                let again = message.clone();
                let over_kept = async {
                    let answer = kept.request(message).await?;
                    Ok((kept, answer))
                };
                let ((connection, answer), was_silent) = self.or_fresh(over_kept, self.fresh(again, addresses)).await?;
                if was_silent {
                    // The others are as old.
                    self.idle.lock().clear();
                }
                (connection, answer)
            }
            None => self.fresh(message, addresses).await?,
        };
        self.keep(connection, Some(slot));
        Ok(answer)
    }

    /// What comes over a connection that was kept; or over a fresh one, begun when the kept one is silent for too long or ended. With
    /// it, whether the kept one was silent and the fresh one answered.
    async fn or_fresh<T>(
        &self,
        kept: impl Future<Output = Result<T, LinkError>>,
        fresh: impl Future<Output = Result<T, LinkError>>,
    ) -> Result<(T, bool), LinkError> {
        tokio::pin!(kept);
        match timeout(self.patience(), &mut kept).await {
            // The share closes what is idle, perhaps while the request was on its way. Whatever is asked may be asked twice.
            Ok(Err(LinkError::Http(_))) => fresh.await.map(|answer| (answer, false)),
            Ok(answer) => answer.map(|answer| (answer, false)),
            Err(_) => tokio::select! {
                Ok(answer) = &mut kept => Ok((answer, false)),
                answer = fresh => answer.map(|answer| (answer, true)),
            },
        }
    }

    /// How long a kept connection may be silent.
    fn patience(&self) -> Duration {
        let usual = self.latency.lock().get().map(Duration::from_secs_f64);
        usual.map_or(PATIENCE_MAX, |usual| (usual * PATIENCE).clamp(PATIENCE_MIN, PATIENCE_MAX))
    }

    /// How many connections are kept.
    #[cfg(test)]
    pub(super) fn idle_now(&self) -> usize {
        self.idle.lock().len()
    }

    async fn fresh(&self, message: Message, addresses: &[SocketAddr]) -> Result<(Connection, Answer), LinkError> {
        let mut connection = self.until_moved(|| self.target.dial_single(addresses)).await?;
        self.note(&connection);
        let answer = connection.request(message).await?;
        Ok((connection, answer))
    }

    /// The connection used last: the least likely to be closed.
    fn take(&self) -> Option<Connection> {
        self.purge();
        self.idle.lock().pop().map(|idle| idle.connection)
    }

    /// Keeps a connection for the next request, once its answer is read to its end; then `slot` is given back.
    fn keep(&self, mut connection: Connection, slot: Option<OwnedSemaphorePermit>) {
        let idle = self.idle.clone();
        let most = if self.is_old.load(Relaxed) { IDLE_MAX_SINGLE } else { IDLE_MAX };
        tokio::spawn(async move {
            // Ends when the body is read to its end, or dropped.
            if connection.is_reusable().await {
                let mut idle = idle.lock();
                if idle.len() < most {
                    idle.push(Idle { connection, since: Instant::now() });
                }
            }
            drop(slot);
        });
    }
}

impl Transport for Pool {
    /// Over a kept connection if there is one, else over a new one to the first of `addresses` that answers.
    fn request<'a>(&'a self, call: Call<'a>, addresses: &'a [SocketAddr]) -> Pending<'a, Answer> {
        Box::pin(async move {
            let mut message = call.to_message(self.id)?;
            self.trusted_keys.add_to(message.headers_mut());
            let answer = if NARS.iter().any(|nar| call.target().starts_with(nar)) {
                self.alone(message, addresses).await
            } else {
                self.together(message, addresses).await
            }?;
            // Of the connection that answered: what went before it, on one that was dead, says nothing of the peer.
            self.latency.lock().add(answer.1.as_secs_f64());
            Ok(answer)
        })
    }

    fn dial<'a>(&'a self, addresses: &'a [SocketAddr]) -> Pending<'a, Connection> {
        Box::pin(self.dial_noting(addresses))
    }

    fn adopt(&self, connection: &Connection) {
        if let Some(connection) = connection.share() {
            *self.shared.lock() = Some(Shared { connection, used: None });
        }
    }

    fn purge(&self) {
        self.idle.lock().retain(|idle| idle.since.elapsed() < IDLE_TIME && !idle.connection.is_closed());
        let is_over = |shared: &Shared| {
            shared.connection.is_closed() || shared.used.is_some_and(|used| used.elapsed() >= IDLE_TIME)
        };
        let mut shared = self.shared.lock();
        if shared.as_ref().is_some_and(is_over) {
            *shared = None;
        }
    }

    fn clear(&self) {
        self.idle.lock().clear();
        *self.shared.lock() = None;
    }

    fn network_changed(&self, woke: bool) {
        self.moved.send_replace(());
        self.open.lock().iter().filter(|life| life.way() == Way::Gone).for_each(Life::close);
        let may_live = |connection: &Connection| !woke && connection.life().way() == Way::Same;
        self.idle.lock().retain(|idle| may_live(&idle.connection));
        let mut shared = self.shared.lock();
        if shared.as_ref().is_some_and(|shared| !may_live(&shared.connection)) {
            *shared = None;
        }
    }
}
