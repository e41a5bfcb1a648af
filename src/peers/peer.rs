//! One peer, as the rooms that use peers see it: ask it for something, and say how it went.

use super::compression::{Line, Wish};
use super::error::LinkError;
use super::hello::{self, Greeting, Hello};
use super::identity::NodeId;
use super::index_state::IndexState;
use super::link::{Call, Connection, Transport};
use super::membership::{Admission, Audience};
use super::narinfo_batch;
use super::record::{Ban, Block, PeerStatus, Record};
use super::state::{PeerEvent, Provenance, State};
use crate::nix::StoreHash;
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::{Response, StatusCode};
use parking_lot::{Mutex, MutexGuard, RwLock};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};
use tokio::sync::{Notify, broadcast};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The longest reason of a ban or block that is kept, in characters.
const REASON_MAX: usize = 200;
/// How often the task of a blocked peer looks whether that is still so, should nobody wake it.
const BLOCK_CHECK: Duration = Duration::from_secs(3600);

/// A transfer or an answer that went well.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    /// The bytes of body that came.
    pub bytes: u64,
    /// The time from the head of the response to the end of the body.
    pub elapsed: Duration,
}

/// How a request to a peer went wrong, as its user saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// [`Peer::get`] failed.
    Link,
    /// No answer, or no more bytes, within the user's own limits.
    Stalled,
    /// The connection broke within the body.
    Broken,
    /// A status that this request should not get, other than 404.
    Status(u16),
    /// An answer that makes no sense. (One that is a lie is worth a [`Peer::ban`].)
    Malformed,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link => f.write_str("no answer"),
            Self::Stalled => f.write_str("stalled"),
            Self::Broken => f.write_str("cut off"),
            Self::Status(status) => write!(f, "status {status}"),
            Self::Malformed => f.write_str("malformed answer"),
        }
    }
}

/// What all peers share: who hears of changes.
pub(super) struct Notices {
    /// For whoever subscribed.
    pub(super) events: broadcast::Sender<PeerEvent>,
    /// For whoever writes the peers down: something worth remembering changed.
    pub(super) worth_saving: Notify,
    /// Peers whose index is in another state than before.
    pub(super) indexes: broadcast::Sender<NodeId>,
    /// For whoever decides who relays: a peer says for the first time, or anew, whether it does.
    pub(super) willing: Notify,
    /// Whether what comes over slow lines is wanted compressed.
    pub(super) compression: bool,
    /// Who is let in.
    pub(super) admission: Admission,
    /// What every greeting of ours says.
    pub(super) greeting: Arc<RwLock<Greeting>>,
}

/// A handle to one peer.
pub struct Peer {
    id: NodeId,
    record: Mutex<Record>,
    transport: Box<dyn Transport>,
    pub(super) notices: Arc<Notices>,
    line: Mutex<Line>,
    /// What the line brought of NARs, as it came.
    carried: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    /// Wakes the task that monitors the peer: have a look at it now.
    pub(super) look: Notify,
    /// Tells that task to look also while the peer rests.
    pub(super) wanted: AtomicBool,
    /// Tells that task that whatever it knows of failures is of another network.
    pub(super) afresh: AtomicBool,
    /// It has asked for our index: it wants to know of changes.
    pub(super) follows_us: AtomicBool,
    /// It has asked what all have whom we relay for: it wants to know of changes.
    pub(super) follows_union: AtomicBool,
    /// Ends that task.
    pub(super) gone: CancellationToken,
}

impl Peer {
    pub(super) fn new(
        id: NodeId,
        provenance: Provenance,
        transport: Box<dyn Transport>,
        notices: Arc<Notices>,
        gone: CancellationToken,
        block: Option<Block>,
    ) -> Self {
        let mut record = Record::new(provenance);
        if block.is_some() {
            record.state = State::Blocked;
            record.block = block;
        }
        let record = Mutex::new(record);
        let (carried, bytes_in, bytes_out) = Default::default();
        let (wanted, afresh, follows_us, follows_union) = Default::default();
        Self {
            id,
            record,
            transport,
            notices,
            line: Mutex::default(),
            carried,
            bytes_in,
            bytes_out,
            look: Notify::new(),
            wanted,
            afresh,
            follows_us,
            follows_union,
            gone,
        }
    }

    /// Its identity, which TLS proves on every connection.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.id
    }

    /// Its own name for itself, for people to read; empty before it first answered. Names prove nothing.
    #[must_use]
    pub fn name(&self) -> String {
        self.record().name.clone()
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> State {
        self.record().state
    }

    /// The state of its index, as it told last; `None` if it tells none.
    #[must_use]
    pub fn index(&self) -> Option<IndexState> {
        self.record().index
    }

    /// The state of what all have whom it relays for, as it told last; `None` if it does not relay.
    #[must_use]
    pub fn union(&self) -> Option<IndexState> {
        self.record().union
    }

    /// Where it may be reached, the best first.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.record().addresses.list()
    }

    /// When anyone last said that it is there.
    #[must_use]
    pub fn heard(&self) -> Instant {
        self.record().heard
    }

    /// Whether it agrees with others on who downloads what.
    #[must_use]
    pub fn claims(&self) -> bool {
        self.record().claims
    }

    /// Whether it gives NARs in pieces that are proved one by one.
    #[must_use]
    pub fn gives_pieces(&self) -> bool {
        self.record().pieces
    }

    /// Whether it holds copies for other members.
    #[must_use]
    pub fn holds_copies(&self) -> bool {
        self.record().copies
    }

    /// Whether it sends what NARs differ in from others, and the line to it is slow enough to make that worth the work.
    #[must_use]
    pub fn gives_patches(&self) -> bool {
        let (knows, is_far) = {
            let record = self.record();
            (record.patches, record.is_far())
        };
        knows && (is_far || self.line.lock().is_slow())
    }

    /// Whether it answers for several paths at once, see [`narinfo_batch`].
    #[must_use]
    pub fn takes_batches(&self) -> bool {
        self.record().takes_batches
    }

    /// All that can be told about it.
    #[must_use]
    pub fn status(&self) -> PeerStatus {
        PeerStatus {
            bytes_in: self.given(),
            bytes_out: self.bytes_out.load(Relaxed),
            admission: match self.notices.admission.audience(self.id) {
                Audience::Enrolled => "enrolled",
                Audience::Anyone => "open",
            },
            ..self.record().status(self.id)
        }
    }

    /// Notes that so many bytes of NARs came from it.
    pub fn gave(&self, bytes: u64) {
        self.bytes_in.fetch_add(bytes, Relaxed);
    }

    /// Notes that the line brought so many bytes of NARs, as they are or compressed.
    pub fn line_carried(&self, bytes: u64) {
        self.carried.fetch_add(bytes, Relaxed);
    }

    /// How many that were so far.
    #[must_use]
    pub fn carried(&self) -> u64 {
        self.carried.load(Relaxed)
    }

    /// Counts bytes anew.
    pub(super) fn reset_bytes(&self) {
        self.bytes_in.store(0, Relaxed);
        self.bytes_out.store(0, Relaxed);
    }

    /// How many bytes of NARs came from it so far.
    #[must_use]
    pub fn given(&self) -> u64 {
        self.bytes_in.load(Relaxed)
    }

    /// Notes that our share gave it so many bytes.
    pub(super) fn took(&self, bytes: u64) {
        self.bytes_out.fetch_add(bytes, Relaxed);
    }

    /// Sends a GET for `path_and_query`, from byte `range_from` on if given, and waits for the head of the response.
    /// The connection is used again once the body is read to its end; a body dropped before closes it.
    ///
    /// What goes wrong here is not counted: say it by [`Peer::failed`]. The time to the first byte is.
    ///
    /// # Errors
    /// Anything that kept an answer from coming; a status is an answer.
    pub async fn get(&self, path_and_query: &str, range_from: Option<u64>) -> Result<Response<Incoming>, LinkError> {
        self.request(Call::Get { target: path_and_query, from: range_from }).await
    }

    /// The same for a NAR from byte `from` on, up to `end` if given; with `line` compressed, if it likes to.
    ///
    /// # Errors
    /// As [`Peer::get`].
    pub async fn get_nar(
        &self,
        path: &str,
        (from, end): (u64, Option<u64>),
        line: Option<u64>,
    ) -> Result<Response<Incoming>, LinkError> {
        self.request(Call::Nar { target: path, from, end, line }).await
    }

    /// How `size` bytes of a NAR are wanted from it; `is_whole`: that is all of it.
    #[must_use]
    pub fn wish(&self, size: u64, is_whole: bool) -> Wish {
        let (mut line, now) = (self.line.lock(), Instant::now());
        match (self.notices.compression, is_whole) {
            (false, _) => Wish::Plain,
            (true, true) => line.wish(size, now),
            (true, false) => line.wish_of_part(size, now),
        }
    }

    /// Notes that a body came as it is, with others `bytes` in all, in so long.
    pub fn measured(&self, bytes: u64, took: Duration) {
        log::debug!(peer:% = self.id; "{bytes} bytes came over the line in {took:.1?}");
        self.line.lock().measured(bytes, took, Instant::now());
    }

    /// Notes that what should have been measured did not come to its end.
    pub fn not_measured(&self) {
        self.line.lock().not_measured();
    }

    /// Sends a POST of `body` to `path`, perhaps twice, and waits for the head of the response; as [`Peer::get`].
    ///
    /// # Errors
    /// As [`Peer::get`].
    pub async fn post(&self, path: &str, body: Bytes) -> Result<Response<Incoming>, LinkError> {
        self.request(Call::Post { target: path, body }).await
    }

    async fn request(&self, call: Call<'_>) -> Result<Response<Incoming>, LinkError> {
        let addresses = {
            let record = self.record();
            if let Some(reason) = record.refusal() {
                return Err(LinkError::Blocked(reason.to_owned()));
            }
            record.addresses.list()
        };
        self.must_be_member().await?;
        let mut answer = self.transport.request(call.clone(), &addresses).await;
        let is_forbidden = |answer: &Result<(Response<Incoming>, Duration), LinkError>| {
            answer.as_ref().is_ok_and(|(response, _)| response.status() == StatusCode::FORBIDDEN)
        };
        if is_forbidden(&answer) && self.notices.admission.fleet().is_some() {
            // It began anew since, and knows nobody: whoever is a member shows it.
            self.introduce().await?;
            answer = self.transport.request(call, &addresses).await;
        }
        match answer {
            Ok((response, latency)) => {
                self.record().health.answered(latency);
                Ok(response)
            }
            Err(error) => {
                if error.doubts_peer() {
                    self.look_at();
                }
                Err(error)
            }
        }
    }

    /// How much it counts as a source, of [`hello::WEIGHT_MAX`]; 0: it sends nothing at the moment.
    #[must_use]
    pub fn weight(&self) -> u8 {
        self.record().weight
    }

    /// The time from a request to the first byte of its response, smoothed; `None` before the first.
    #[must_use]
    pub fn latency(&self) -> Option<Duration> {
        self.record().health.latency()
    }

    /// Says that an answer was waited for in vain.
    pub fn kept_waiting(&self) {
        self.record().health.kept_waiting();
    }

    /// Whether its answer is worth more than the shortest wait.
    #[must_use]
    pub fn is_worth_waiting_for(&self) -> bool {
        self.record().health.is_worth_waiting_for()
    }

    /// Bytes per second of large bodies, smoothed; `None` before the first.
    #[must_use]
    pub fn throughput(&self) -> Option<f64> {
        self.record().health.throughput()
    }

    /// Says that a request went well, to its last byte.
    pub fn succeeded(&self, sample: Sample) {
        let mut record = self.record();
        record.health.succeeded(sample.bytes, sample.elapsed);
        record.breaker.succeeded();
    }

    /// Says that a request went wrong. After a few in a row the peer gets no requests for a while.
    pub fn failed(&self, failure: Failure) {
        let mut record = self.record();
        record.health.failed();
        let pause = record.breaker.failed(Instant::now());
        drop(record);
        if let Some(pause) = pause {
            log::info!(peer:% = self.id, reason:% = failure; "peer keeps failing: no requests for {pause:.1?}");
        }
        if matches!(failure, Failure::Link | Failure::Stalled | Failure::Broken) {
            self.look_at();
        }
    }

    /// Has it looked at now, also if it is left alone otherwise.
    pub fn look_at(&self) {
        self.wanted.store(true, Relaxed);
        self.look.notify_one();
    }

    /// Has nothing to do with this peer any more for as long as `duration`, and logs why.
    pub fn ban(&self, reason: &str, duration: Duration) {
        let reason = shortened(reason);
        let name = self.name();
        log::warn!(peer:% = self.id, name:% = name, reason:% = reason; "peer banned for {duration:?}");
        self.set_ban(Ban::new(duration, reason.clone()));
        let _ = self.notices.events.send(PeerEvent::Banned { id: self.id, name, reason });
    }

    /// Asks this path of it no more for a day, because what it sent of it was damaged, and tells it so with a greeting.
    /// How many such paths there are now; `None` if it was barred already.
    pub fn bar(&self, hash: StoreHash) -> Option<usize> {
        let count = self.record().barred.bar(hash, Instant::now())?;
        self.look.notify_one();
        Some(count)
    }

    /// Whether this path is not asked of it.
    #[must_use]
    pub fn is_barred(&self, hash: StoreHash) -> bool {
        self.record().barred.contains(hash, Instant::now())
    }

    /// The administrator blocks the peer.
    pub(super) fn block(&self, block: Block) {
        self.change(State::Blocked, |record| record.block = Some(block));
        self.transport.clear();
        self.look.notify_one();
    }

    /// The administrator lifts the block or the ban, whichever there is. False if there is none.
    pub(super) fn unblock(&self) -> bool {
        let mut lifted = false;
        self.change_blocked(|record| {
            record.barred.clear();
            let (ban, block) = (record.ban.take(), record.block.take());
            lifted = block.is_some() || ban.is_some_and(|ban| ban.until > Instant::now());
        });
        self.look.notify_one();
        self.notices.worth_saving.notify_one();
        lifted
    }

    pub(super) fn set_ban(&self, ban: Ban) {
        self.change(State::Blocked, |record| record.ban = Some(ban));
        self.transport.clear();
        self.look.notify_one();
        self.notices.worth_saving.notify_one();
    }

    /// Until when there is nothing to do with the peer, if so; a ban that is over is lifted.
    pub(super) fn blocked_until(&self) -> Option<Instant> {
        if self.record().block.is_some() {
            return Some(Instant::now() + BLOCK_CHECK);
        }
        let until = self.record().ban.as_ref().map(|ban| ban.until)?;
        if until > Instant::now() {
            return Some(until);
        }
        log::info!(peer:% = self.id; "the ban of the peer is over");
        self.change(State::Offline, |record| record.ban = None);
        None
    }

    /// Whether it is of another site: far away, and asked for NARs alone.
    #[must_use]
    pub fn is_far(&self) -> bool {
        self.record().is_far()
    }

    /// The record, for a moment.
    pub(super) fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock()
    }

    /// Takes in that someone says the peer is at `addresses`. True if an address is news.
    pub(super) fn claimed(&self, addresses: &[SocketAddr], provenance: Provenance) -> bool {
        let mut record = self.record();
        record.provenance = record.provenance.max(provenance);
        record.introduced |= provenance == Provenance::Introduced;
        record.heard = Instant::now();
        record.addresses.claimed(addresses, provenance)
    }

    /// Lets small requests go over the connection that is watched, too.
    pub(super) fn adopt(&self, connection: &Connection) {
        self.transport.adopt(connection);
    }

    /// Makes a connection for the task that monitors the peer.
    pub(super) async fn dial(&self) -> Result<Connection, LinkError> {
        let addresses = self.record().addresses.list();
        self.transport.dial(&addresses).await
    }

    /// The peer answered a greeting.
    pub(super) fn answered(&self, hello: Hello, address: SocketAddr, latency: Duration) {
        self.answered_and_is(State::Online, hello, address, latency);
    }

    /// The peer answered a greeting, and is left alone again.
    pub(super) fn answered_and_rests(&self, hello: Hello, address: SocketAddr, latency: Duration) {
        self.answered_and_is(State::Resting, hello, address, latency);
    }

    fn answered_and_is(&self, state: State, hello: Hello, address: SocketAddr, latency: Duration) {
        let mut moved = false;
        let (index, union) = (hello.index_state(), hello.union_state());
        let (takes_batches, claims) = (hello.has(narinfo_batch::FEATURE), hello.has(hello::CLAIM));
        let (pieces, patches, copies) = (hello.has(hello::PIECES), hello.has(hello::PATCH), hello.has(hello::COPIES));
        let is_willing = Some(hello.has(hello::RELAY));
        let mut is_news = false;
        let came = self.change(state, |record| {
            record.health.answered(latency);
            moved = record.addresses.list().first() != Some(&address);
            record.addresses.worked(address);
            let now = SystemTime::now();
            record.trouble = None;
            record.last_seen = Some(now);
            record.first_seen.get_or_insert(now);
            record.name = hello.name;
            record.version = hello.version;
            (record.takes_batches, record.claims) = (takes_batches, claims);
            (record.pieces, record.patches, record.copies) = (pieces, patches, copies);
            record.weight = hello.weight.min(hello::WEIGHT_MAX);
            is_news = std::mem::replace(&mut record.is_willing, is_willing) != is_willing;
            if record.state != State::Online {
                record.breaker.test_now(Instant::now());
            }
        });
        if came || moved {
            self.notices.worth_saving.notify_one();
        }
        if is_news {
            self.notices.willing.notify_one();
        }
        self.transport.purge();
        self.told_index(index);
        self.told_union(union);
    }

    /// Whatever state of its index it tells next is news.
    pub fn forget_index(&self) {
        self.record().index = None;
    }

    /// It is left alone from now on; one that is away is so still.
    pub(super) fn rests(&self) {
        let is_there = |record: &Record| matches!(record.state, State::Discovered | State::Online | State::Suspect);
        self.change_if(is_there, State::Resting, |_| ());
        self.transport.clear();
    }

    /// What all have whom it relays for is in this state.
    pub(super) fn told_union(&self, union: Option<IndexState>) {
        let (before, is_news) = {
            let mut record = self.record();
            // Who relays is willing to, whatever it said before.
            let is_willing = if union.is_some() { Some(true) } else { record.is_willing };
            let is_news = std::mem::replace(&mut record.is_willing, is_willing) != is_willing;
            (std::mem::replace(&mut record.union, union), is_news)
        };
        if is_news {
            self.notices.willing.notify_one();
        }
        if before != union {
            let _ = self.notices.indexes.send(self.id);
        }
    }

    /// It tells that its index is in this state.
    pub(super) fn told_index(&self, index: Option<IndexState>) {
        let before = std::mem::replace(&mut self.record().index, index);
        if before != index {
            let _ = self.notices.indexes.send(self.id);
        }
    }

    /// Its connection ended, or an answer is overdue. What is kept may be as dead.
    pub(super) fn doubted(&self) {
        self.change(State::Suspect, |_| ());
        self.transport.clear();
    }

    /// It is there, and has no room for us at the moment: that is no reason to doubt it.
    pub(super) fn busy(&self) {
        self.change_if(|record| record.state == State::Suspect, State::Online, |_| ());
    }

    /// Closes the connections that nobody uses.
    pub fn close(&self) {
        self.transport.clear();
    }

    /// The network is another one now, or (with `woke`) the machine slept: failures before that say nothing, and connections
    /// may be dead.
    pub(super) fn network_changed(&self, woke: bool) {
        {
            let mut record = self.record();
            record.breaker.succeeded();
            record.moved = Some(Instant::now());
        }
        self.transport.network_changed(woke);
        self.afresh.store(true, Relaxed);
        self.look.notify_one();
    }

    /// It could not be reached.
    pub(super) fn lost(&self) {
        // It asks again when it is back.
        self.follows_union.store(false, Relaxed);
        self.change(State::Offline, |_| ());
        self.transport.clear();
    }

    /// Changes the record and then the state; tells whoever listens. A banned peer stays blocked until the ban is gone.
    /// True if the state is another now.
    fn change(&self, to: State, also: impl FnOnce(&mut Record)) -> bool {
        self.change_if(|_| true, to, also)
    }

    /// Changes the record; if the peer was blocked and is not any more, it is offline until it answers.
    fn change_blocked(&self, also: impl FnOnce(&mut Record)) {
        let unblocked = |record: &Record| record.state == State::Blocked && record.refusal().is_none();
        self.change_if(unblocked, State::Offline, also);
    }

    /// Changes the record, and then the state if `condition` holds.
    fn change_if(&self, condition: impl FnOnce(&Record) -> bool, to: State, also: impl FnOnce(&mut Record)) -> bool {
        let mut record = self.record();
        also(&mut record);
        if !condition(&record) {
            return false;
        }
        let to = if record.refusal().is_some() { State::Blocked } else { to };
        let from = std::mem::replace(&mut record.state, to);
        if from == to {
            return false;
        }
        // Within the lock, so that listeners hear of changes in their order. Nobody may listen; that is no error.
        let name = record.name.clone();
        let _ = self.notices.events.send(PeerEvent::Changed { id: self.id, name: name.clone(), from: Some(from), to });
        drop(record);
        match (from, to) {
            (State::Suspect, State::Online)
            | (State::Resting, State::Online)
            | (_, State::Suspect | State::Discovered | State::Resting | State::Blocked) => {
                log::debug!(peer:% = self.id, name:% = name; "peer {from} → {to}");
            }
            (State::Discovered, State::Offline) => {
                log::debug!(peer:% = self.id; "peer announced but not reached");
            }
            _ => log::info!(peer:% = self.id, name:% = name; "peer {to}"),
        }
        true
    }
}

/// A reason as it is kept and shown: one line of a bounded length.
pub(super) fn shortened(reason: &str) -> String {
    reason.chars().filter(|c| !c.is_control()).take(REASON_MAX).collect()
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("id", &self.id).field("state", &self.state()).finish_non_exhaustive()
    }
}
