//! What the share knows of paths that it may share: their narinfo as text, ready to be sent.
//!
//! A narinfo is put together once. While it is fresh it costs a look into a table; after that the store is asked whether
//! the path is still the same, and only then what was put together is used again. That a path is *not* here is never
//! remembered: a new path is there at once.

use super::rules::Rules;
use super::{Found, Share};
use crate::http::metrics::count;
use crate::http::reply::{self, keep, media};
use crate::http::routes::NarName;
use crate::nix::{Compression, NarInfo, SecretKey, Signature, StoreDir, StoreHash};
use crate::peers::trusted_keys::{self, TRUSTED_KEYS_HEADER};
use crate::store::{Audience, Decision, StoreError, ValidPath};
use bytes::Bytes;
use hyper::HeaderMap;
use moka::sync::Cache;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::Instant;

/// For how long a path is taken to be what it was. A path that was collected in the meantime has a narinfo for as long,
/// and then a NAR that is not found: what every cache has to live with anyway.
const FRESH: Duration = Duration::from_secs(2);

/// How much text is kept, in bytes: about ten thousand paths.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;

/// What an entry weighs beside its text, in bytes: path, references and signatures once more, in parts.
const ENTRY_BYTES: usize = 512;

/// A path that may be shared.
#[derive(Debug)]
pub(super) struct KnownPath {
    pub(super) path: Arc<ValidPath>,
    /// Its NAR, as the narinfo names it.
    pub(super) nar: NarName,
    /// The strong entity tag of its NAR, in quotes.
    pub(super) etag: Box<str>,
    narinfo: Bytes,
    /// The names of the keys that signed it.
    signers: Box<[Box<str>]>,
    /// When the store last said so, in milliseconds since the start.
    checked: AtomicU64,
}

/// The paths that were asked for lately.
pub(super) struct KnownPaths {
    /// By the number of the rules as well.
    cache: Cache<(u64, StoreHash, Audience), Arc<KnownPath>>,
    start: Instant,
}

impl KnownPaths {
    pub(super) fn new() -> Self {
        let weight = |_: &(u64, StoreHash, Audience), known: &Arc<KnownPath>| {
            let references = known.path.info.references.len() * size_of::<crate::nix::StorePath>();
            u32::try_from(known.narinfo.len() * 2 + references + ENTRY_BYTES).unwrap_or(u32::MAX)
        };
        let cache = Cache::builder().max_capacity(CACHE_BYTES).weigher(weight).build();
        Self { cache, start: Instant::now() }
    }

    /// Gives the memory back: under other rules nothing of it is found.
    pub(super) fn forget(&self) {
        self.cache.invalidate_all();
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn is_fresh(&self, known: &KnownPath) -> bool {
        let age = self.now().saturating_sub(known.checked.load(Relaxed));
        u128::from(age) < FRESH.as_millis()
    }
}

impl Share {
    /// The path with this hash, if it is here and may be shared with `audience`.
    pub(super) async fn known(
        &self,
        hash: StoreHash,
        audience: Audience,
    ) -> Result<Option<Arc<KnownPath>>, StoreError> {
        let rules = self.rules.now();
        let key = (rules.number, hash, audience);
        let cached = self.known.cache.get(&key);
        if let Some(known) = &cached
            && self.known.is_fresh(known)
        {
            return Ok(cached);
        }
        let Some(path) = self.store.path_info(hash).await? else {
            self.known.cache.invalidate(&key);
            return Ok(None);
        };
        // On this thread, although it may verify a signature: it does so once for a path that carries one by a key that
        // counts. A detour for all would tell by its time which paths are here and not shared.
        if let Decision::Refuse(reason) = rules.policy.decide(&path, audience) {
            log::debug!(path:% = path.info.path, reason:% = reason; "not shared");
            count(&self.refusals);
            self.known.cache.invalidate(&key);
            return Ok(None);
        }
        if let Some(known) = cached.filter(|known| known.path == path) {
            known.checked.store(self.known.now(), Relaxed);
            return Ok(Some(known));
        }
        let known = Arc::new(self.get_to_know(path, &rules).await);
        self.known.cache.insert(key, Arc::clone(&known));
        Ok(Some(known))
    }

    async fn get_to_know(&self, path: Arc<ValidPath>, rules: &Rules) -> KnownPath {
        let dir = self.store.dir();
        let added = if path.ultimate { self.own_signatures(&path, rules).await } else { Vec::new() };
        let info = &path.info;
        let nar = NarName { hash: info.path.hash(), nar_hash: Some(info.nar_hash), compression: Compression::None };
        let etag = format!("\"{}\"", info.nar_hash.to_nix32()).into();
        let all = info.signatures.iter().chain(&added);
        let signers = all.map(|signature| signature.key_name().into()).collect();
        let narinfo = render(&path, &nar, added, dir).into();
        KnownPath { nar, etag, narinfo, signers, checked: AtomicU64::new(self.known.now()), path }
    }

    /// The signatures of our keys that a path built here does not have yet.
    async fn own_signatures(&self, path: &Arc<ValidPath>, rules: &Rules) -> Vec<Signature> {
        let has =
            |key: &Arc<SecretKey>| path.info.signatures.iter().any(|signature| signature.key_name() == key.name());
        if rules.keys.iter().all(has) {
            return Vec::new();
        }
        let (keys, path, dir) = (Arc::clone(&rules.keys), Arc::clone(path), self.store.dir().clone());
        let sign = move || {
            let has = |key: &&Arc<SecretKey>| path.info.signatures.iter().any(|signed| signed.key_name() == key.name());
            keys.iter().filter(|key| !has(key)).map(|key| key.sign(&path.info, &dir)).collect()
        };
        // It fails only when the program is being stopped.
        tokio::task::spawn_blocking(sign).await.unwrap_or_default()
    }

    /// `/HASH.narinfo`, for one who accepts signatures as these `headers` say.
    pub(super) async fn narinfo(&self, hash: StoreHash, audience: Audience, headers: &HeaderMap) -> Found {
        let Some(known) = self.known(hash, audience).await? else { return Ok(None) };
        // Without the header, which plain Nix does not send, everything is told.
        if headers.contains_key(TRUSTED_KEYS_HEADER)
            && !known.signers.iter().any(|name| trusted_keys::accepts(headers, name))
        {
            return Ok(None);
        }
        Ok(Some(reply::ok(media::NARINFO, keep::SHORT, known.narinfo.clone())))
    }
}

/// The text of a narinfo.
fn render(path: &ValidPath, nar: &NarName, added: Vec<Signature>, dir: &StoreDir) -> String {
    let mut info = path.info.clone();
    info.signatures.extend(added);
    // The file is the NAR, so its hash and size are the NAR's; Nix shows the size as what is to be downloaded.
    let (file_hash, file_size) = (Some(info.nar_hash.into()), Some(info.nar_size));
    let compression = Compression::None;
    NarInfo { info, url: nar.to_string(), compression, file_hash, file_size, extra: Vec::new() }.render(dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Route;
    use crate::nix::{PathInfo, TrustedKeys};

    fn path() -> ValidPath {
        ValidPath { info: PathInfo::example(), registration_time: 1, ultimate: true }
    }

    #[test]
    fn narinfos_say_what_is_true_of_an_uncompressed_nar() {
        let (path, dir) = (path(), StoreDir::default());
        let key = SecretKey::from_seed("own-1", [7; 32]).unwrap();
        let nar =
            NarName { hash: path.info.path.hash(), nar_hash: Some(path.info.nar_hash), compression: Compression::None };
        let text = render(&path, &nar, vec![key.sign(&path.info, &dir)], &dir);
        let read = NarInfo::parse(&text, &dir).unwrap();
        assert_eq!(read.compression, Compression::None);
        assert_eq!(read.file_size, Some(path.info.nar_size));
        assert_eq!(read.file_hash, Some(path.info.nar_hash.into()));
        assert_eq!(Route::parse(&format!("/{}", read.url)), Some(Route::Nar(nar)), "the URL is one of our routes");
        let trusted: TrustedKeys = [key.public()].into_iter().collect();
        assert_eq!(trusted.voucher(&read.info, &dir), Some(&key.public()));
    }
}
