//! All that is known about one peer; whoever changes it holds its lock for a moment and never across an await.

mod addresses;
mod ban;
mod barred;
mod score;
mod status;

pub(super) use addresses::canonical;
pub(super) use ban::{Ban, RememberedBan};
pub(super) use score::Health;
pub use status::{BanStatus, Block, PeerStatus};

use super::hello::WEIGHT_MAX;
use super::identity::NodeId;
use super::index_state::IndexState;
use super::link::RETRY_PAUSES;
use super::relays::Member;
use super::state::{Provenance, State};
use crate::resilience::Breaker;
use addresses::Addresses;
use barred::Barred;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// How many requests in a row must fail before requests are kept away.
const FAILURES_MAX: u32 = 3;
/// How long after a move of this machine a peer that was there counts as there although it cannot be reached: between two addresses
/// nobody can be, and a lease or a VPN takes a moment.
const SETTLING: Duration = Duration::from_secs(3);
/// How long a peer that was never reached is kept after it was last heard of.
const STRANGER_KEPT: Duration = Duration::from_secs(10 * 60);
/// How long a peer is kept after it was last online.
pub(super) const REMEMBERED: Duration = Duration::from_secs(30 * 24 * 3600);

/// What is known about one peer.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) state: State,
    pub(super) provenance: Provenance,
    pub(super) name: String,
    pub(super) version: String,
    pub(super) addresses: Addresses,
    pub(super) health: Health,
    pub(super) breaker: Breaker,
    /// The state of its index, as it told last; `None` if it tells none.
    pub(super) index: Option<IndexState>,
    /// The state of what all have whom it relays for, as it told last.
    pub(super) union: Option<IndexState>,
    /// Whether it relays, as it said last; `None`: it has said nothing yet.
    pub(super) is_willing: Option<bool>,
    /// Whether it answers for several paths at once, as it said last.
    pub(super) takes_batches: bool,
    /// Whether it agrees with others on who downloads what.
    pub(super) claims: bool,
    /// Whether it gives NARs in pieces.
    pub(super) pieces: bool,
    /// Whether it sends what NARs differ in from others.
    pub(super) patches: bool,
    /// Whether it holds copies for other members.
    pub(super) copies: bool,
    /// How much it wants to be counted on as a source, of [`WEIGHT_MAX`].
    pub(super) weight: u8,
    /// The paths of which it sent damaged content.
    pub(super) barred: Barred,
    pub(super) ban: Option<Ban>,
    /// By the administrator.
    pub(super) block: Option<Block>,
    /// Why it does not let us in, or is not let in, the last time it was tried.
    pub(super) trouble: Option<String>,
    /// When it last had nothing to tell of the fleet although it said that it had.
    pub(super) told_nothing: Option<Instant>,
    /// Whether the administrator added it at run time.
    pub(super) added: bool,
    /// Whether it greeted us, and so proved who it is: it is dialled before those that were only heard of.
    pub(super) introduced: bool,
    /// When it was first online.
    pub(super) first_seen: Option<SystemTime>,
    /// When it was last online.
    pub(super) last_seen: Option<SystemTime>,
    /// When anyone last claimed anything about it.
    pub(super) heard: Instant,
    /// When this machine last had other addresses than before, or woke up.
    pub(super) moved: Option<Instant>,
}

impl Record {
    pub(super) fn new(provenance: Provenance) -> Self {
        Self {
            state: State::Discovered,
            provenance,
            name: String::new(),
            version: String::new(),
            addresses: Addresses::default(),
            health: Health::default(),
            breaker: Breaker::new(FAILURES_MAX, RETRY_PAUSES),
            index: None,
            union: None,
            is_willing: None,
            takes_batches: false,
            claims: false,
            pieces: false,
            patches: false,
            copies: false,
            weight: WEIGHT_MAX,
            barred: Barred::default(),
            ban: None,
            block: None,
            trouble: None,
            told_nothing: None,
            added: false,
            introduced: false,
            first_seen: None,
            last_seen: None,
            heard: Instant::now(),
            moved: None,
        }
    }

    /// Why there is nothing to do with the peer, if so.
    pub(super) fn refusal(&self) -> Option<&str> {
        let block = self.block.as_ref().map(|block| block.reason.as_str());
        block.or(self.ban.as_ref().map(|ban| ban.reason.as_str()))
    }

    /// The rank among candidates, the larger the better; `None` if it cannot be asked now.
    pub(super) fn rank(&self, now: Instant) -> Option<f64> {
        let there = self.state == State::Online || self.is_settling(now);
        let usable = there && self.breaker.permits(now) && self.weight > 0;
        // One that is being tested, or dialled anew, comes after all others: scores are between 0 and 1.
        let doubt = f64::from(u8::from(self.breaker.is_doubtful() || self.state != State::Online));
        let weight = f64::from(self.weight) / f64::from(WEIGHT_MAX);
        usable.then(|| self.health.score() * weight - doubt)
    }

    /// As one of those who may relay; `None`: it is not there, as far as is known.
    pub(super) fn member(&self, id: NodeId) -> Option<Member> {
        let (is_there, is_away) = match self.state {
            State::Online | State::Suspect => (true, false),
            State::Resting => (self.last_seen.is_some(), false),
            State::Discovered => (false, false),
            State::Offline | State::Blocked => (false, true),
        };
        // Who is of another site is none of this room's.
        (!is_away && !self.is_far()).then_some(Member { id, is_proved: is_there, is_willing: self.is_willing })
    }

    /// Whether it is there, as far as is known, and gets no requests all the same: it is being dialled anew, or kept failing.
    pub(super) fn is_left_alone(&self, now: Instant) -> bool {
        match self.state {
            State::Online => !self.breaker.permits(now),
            State::Suspect => !self.is_settling(now) || !self.breaker.permits(now),
            State::Discovered | State::Resting | State::Offline | State::Blocked => false,
        }
    }

    /// Whether it is in doubt only because this machine has just moved.
    pub(super) fn is_settling(&self, now: Instant) -> bool {
        self.state == State::Suspect && self.moved.is_some_and(|moved| now < moved + SETTLING)
    }

    /// Whether it is of another site, as far as is known: nothing is to be had from it but NARs.
    pub(super) fn is_far(&self) -> bool {
        self.provenance == Provenance::Site
    }

    /// Whether it has not been heard of for so long that it may be dropped.
    pub(super) fn is_stale(&self) -> bool {
        match (self.state, self.provenance, self.last_seen) {
            (State::Online | State::Suspect | State::Blocked, ..) | (_, Provenance::Fixed, _) => false,
            (_, Provenance::Site, _) | (_, _, None) => self.heard.elapsed() > STRANGER_KEPT,
            // A clock that went back makes it younger, never stale.
            (_, _, Some(seen)) => seen.elapsed().is_ok_and(|age| age > REMEMBERED),
        }
    }

    /// How dispensable it is when the table is full, the smallest first; `None` if it is not.
    pub(super) fn eviction_order(&self) -> Option<(u8, Instant)> {
        let class = match (self.state, self.provenance) {
            (State::Online | State::Suspect, _) | (_, Provenance::Fixed) => return None,
            // What the administrator decided must stay visible.
            _ if self.block.is_some() => return None,
            (State::Blocked, _) => 2,
            _ if self.last_seen.is_some() => 1,
            _ => 0,
        };
        Some((class, self.heard))
    }

    /// What is shown to people and programs; what is kept outside the record is for the caller to fill in.
    pub(super) fn status(&self, id: NodeId) -> PeerStatus {
        let now = Instant::now();
        let ban = self.ban.as_ref().filter(|ban| ban.until > now);
        // Rates and delays are far below the limits of their integers, and saturate.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let throughput = self.health.throughput().map(|rate| rate as u64);
        PeerStatus {
            id,
            name: self.name.clone(),
            version: self.version.clone(),
            addresses: self.addresses.list(),
            state: self.state,
            source: self.provenance,
            latency_us: self.health.latency().map(|latency| saturate(latency.as_micros())),
            throughput,
            failures: self.breaker.failures(),
            breaker_ms: self.breaker.remaining(now).map(|rest| saturate(rest.as_millis())),
            ban: ban.map(|ban| BanStatus { reason: ban.reason.clone(), seconds: (ban.until - now).as_secs() }),
            last_seen: self.last_seen.and_then(unix),
            first_seen: self.first_seen.and_then(unix),
            bytes_in: 0,
            bytes_out: 0,
            score: self.health.score(),
            admission: "open",
            added: self.added,
            block: self.block.clone(),
            trouble: self.trouble.clone(),
        }
    }
}

fn saturate(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// Seconds since 1970; `None` before that.
pub(super) fn unix(time: SystemTime) -> Option<u64> {
    time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}
