//! The paths that were asked for lately and may be shared: their narinfo as text, ready to be sent.
//!
//! A narinfo is put together once. While it is fresh it costs a look into a table; after that the store is asked whether
//! the path is still the same, and only then what was put together is used again. That a path is *not* here is never
//! remembered: a new path is there at once.

use crate::http::protocol::routes::NarName;
use crate::nix::{StoreHash, StorePath};
use crate::peers::trusted_keys::{Signer, Verdict, judge};
use crate::store::{Audience, ValidPath};
use bytes::Bytes;
use hyper::HeaderMap;
use hyper::header::HeaderValue;
use moka::sync::Cache;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::Instant;

/// For how long a path is taken to be what it was. A path that was collected in the meantime has a narinfo for as long,
/// and then a NAR that is not found: what every cache has to live with anyway.
const FRESH: Duration = Duration::from_secs(2);

/// How much text is kept, in bytes: about ten thousand paths.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;

/// What an entry weighs beside its text, in bytes: path, references and signatures once more, in parts.
const ENTRY_BYTES: usize = 512;

/// Whose path it is to know: the same path may be shared with one and not with another.
pub(super) type Key = (StoreHash, Audience);

/// A path that may be shared.
#[derive(Debug)]
pub(super) struct KnownPath {
    pub(super) path: Arc<ValidPath>,
    /// Its NAR, as the narinfo names it.
    pub(super) nar: NarName,
    /// The strong entity tag of its NAR, in quotes.
    pub(super) etag: Box<str>,
    pub(super) narinfo: Bytes,
    /// The same without what Peernix 0.1 before fingerprints cannot read, where there is any such thing.
    pub(super) old_narinfo: Option<Bytes>,
    /// The same for those to whom NARs are sent compressed, once somebody asked.
    pub(super) zstd_narinfo: OnceLock<Bytes>,
    /// Who signed it.
    pub(super) signers: Box<[Signer]>,
    /// When the store last said so, in milliseconds since the start; set by [`KnownPaths`].
    pub(super) checked: AtomicU64,
}

impl KnownPath {
    /// Its narinfo for one who accepts signatures as these `headers` say, and what goes with it of them; `None`: there is none that would
    /// count.
    pub(super) fn narinfo_for(&self, headers: &HeaderMap) -> Option<(Bytes, Option<HeaderValue>)> {
        Some(match judge(headers, &self.signers) {
            Verdict::Nothing => return None,
            Verdict::InOldWords => (self.old_narinfo.as_ref().unwrap_or(&self.narinfo).clone(), None),
            Verdict::All(signed_by) => (self.narinfo.clone(), signed_by),
        })
    }
}

/// The paths that were asked for lately, under the same rules.
pub(super) struct KnownPaths {
    cache: Cache<Key, Arc<KnownPath>>,
    start: Instant,
}

impl KnownPaths {
    pub(super) fn new() -> Self {
        let weight = |_: &Key, known: &Arc<KnownPath>| {
            let references = known.path.info.references.len() * size_of::<StorePath>();
            let old = known.old_narinfo.as_ref().map_or(0, Bytes::len);
            u32::try_from(known.narinfo.len() * 3 + old + references + ENTRY_BYTES).unwrap_or(u32::MAX)
        };
        let cache = Cache::builder().max_capacity(CACHE_BYTES).weigher(weight).build();
        Self { cache, start: Instant::now() }
    }

    /// A path, fresh or not.
    pub(super) fn get(&self, key: &Key) -> Option<Arc<KnownPath>> {
        self.cache.get(key)
    }

    /// It is there as ever, or it is new: fresh from now on.
    pub(super) fn confirm(&self, key: Key, known: Arc<KnownPath>) -> Arc<KnownPath> {
        known.checked.store(self.now(), Relaxed);
        self.cache.insert(key, Arc::clone(&known));
        known
    }

    /// It is not there any more, or not to be shared.
    pub(super) fn forget(&self, key: &Key) {
        self.cache.invalidate(key);
    }

    pub(super) fn is_fresh(&self, known: &KnownPath) -> bool {
        let age = self.now().saturating_sub(known.checked.load(Relaxed));
        u128::from(age) < FRESH.as_millis()
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
