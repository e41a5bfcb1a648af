//! What of the store may be offered, in memory, so that a request for anything else costs no question.
//!
//! A substituter is asked for ten times as many paths as it has. Whether the store's database is still what was read of it shows in
//! marks that cost a few system calls; as soon as something was committed the database is asked again, by everybody, until it has been
//! read anew beside them. So a path that is new, or newly signed, is there at once.
//!
//! What is here and may not be shared is not in it. Who asks for such a path waits as long as for one that is nowhere, and cannot tell
//! the two apart by the time.

use super::Store;
use super::database::{Database, Glance, Mark};
use super::policy::{Audience, SharePolicy};
use crate::nix::StoreHash;
use parking_lot::RwLock;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// How long the database is left alone after it was read, at least, and how many times as long as that took: it costs a few percent of a
/// core while somebody writes all the time. A store of 100,000 paths takes some 100 ms.
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_FACTOR: u32 = 30;

/// The paths of a store that may be offered under one policy; perhaps some that may not after all, for their signatures are not verified
/// here, but none is missing.
#[derive(Debug)]
pub struct Offered {
    database: Arc<Database>,
    policy: Arc<SharePolicy>,
    known: RwLock<Known>,
    /// One reads it at a time.
    reading: Arc<Semaphore>,
}

/// What was read of the database.
#[derive(Debug, Default)]
struct Known {
    /// The state that it was in; `None` if that cannot be told from others, and before it was read.
    mark: Option<Mark>,
    /// What anyone may have.
    anyone: Hashes,
    /// What only an enrolled machine may have.
    enrolled: Hashes,
    /// When it may be read again.
    next: Option<Instant>,
}

/// The first eight bytes of hash parts: enough to say what is not there.
type Hashes = HashSet<u64>;

impl Offered {
    /// The paths of `store` under `policy`. Reads nothing yet.
    #[must_use]
    pub fn new(store: &Store, policy: Arc<SharePolicy>) -> Arc<Self> {
        let (database, reading) = (Arc::clone(&store.0.database), Arc::new(Semaphore::new(1)));
        Arc::new(Self { database, policy, known: RwLock::default(), reading })
    }

    /// Whether a path with this hash part is certainly not offered to `audience`, at this moment. Asks nobody; where it is not certain,
    /// it will be soon.
    #[must_use]
    pub fn lacks(self: &Arc<Self>, hash: StoreHash, audience: Audience) -> bool {
        let (hash, now) = (short(hash), self.database.mark());
        let next = {
            let known = self.known.read();
            let is_offered =
                known.anyone.contains(&hash) || audience == Audience::Enrolled && known.enrolled.contains(&hash);
            if known.mark.is_some() && known.mark == now {
                return !is_offered;
            }
            known.next
        };
        if next.is_none_or(|next| Instant::now() >= next) {
            self.read();
        }
        false
    }

    /// All paths that may be offered to `audience` at this moment, by the first eight bytes of their hash parts, in no order; `None` if
    /// the database cannot be read.
    pub async fn current(&self, audience: Audience) -> Option<Vec<[u8; 8]>> {
        let _permit = self.reading.acquire().await.ok()?;
        let is_current = {
            let known = self.known.read();
            known.mark.is_some() && known.mark == self.database.mark()
        };
        if !is_current && !self.read_now().await {
            return None;
        }
        let known = self.known.read();
        let enrolled = known.enrolled.iter().filter(|_| audience == Audience::Enrolled);
        Some(known.anyone.iter().chain(enrolled).map(|prefix| prefix.to_ne_bytes()).collect())
    }

    /// Has the database read, beside whoever asks.
    fn read(self: &Arc<Self>) {
        let Ok(permit) = Arc::clone(&self.reading).try_acquire_owned() else { return };
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let _permit = permit;
            this.read_now().await;
        });
    }

    /// Reads the database; false if it cannot be read.
    async fn read_now(&self) -> bool {
        let (begun, policy) = (Instant::now(), Arc::clone(&self.policy));
        let read = self.database.all(move |glances| Known::of(glances, &policy)).await;
        let is_read = read.is_ok();
        // One that cannot be read says so to those who ask it.
        let (mark, known) = read.unwrap_or_default();
        let next = Instant::now() + PAUSE.max(begun.elapsed() * PAUSE_FACTOR);
        *self.known.write() = Known { mark, next: Some(next), ..known };
        is_read
    }
}

impl Known {
    fn of(glances: &mut dyn Iterator<Item = Glance>, policy: &SharePolicy) -> Self {
        let mut known = Self::default();
        for Glance { hash, name, signatures, ultimate } in glances {
            let keys =
                || signatures.split_ascii_whitespace().filter_map(|text| text.split_once(':')).map(|(key, _)| key);
            if policy.might_serve(&name, keys(), ultimate, Audience::Anyone) {
                known.anyone.insert(short(hash));
            } else if policy.might_serve(&name, keys(), ultimate, Audience::Enrolled) {
                known.enrolled.insert(short(hash));
            }
        }
        known.anyone.shrink_to_fit();
        known.enrolled.shrink_to_fit();
        known
    }
}

fn short(hash: StoreHash) -> u64 {
    u64::from_ne_bytes(hash.prefix())
}
