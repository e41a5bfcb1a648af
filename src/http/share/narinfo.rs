//! `/HASH.narinfo`, and with it whether a path is here and may be shared at all.

use super::core::{Answer, Share};
use super::known::KnownPath;
use crate::http::protocol::reply::{self, keep, media};
use crate::http::protocol::routes::NarName;
use crate::keys::Signing;
use crate::nix::{Compression, NarInfo, Signature, StoreDir, StoreHash};
use crate::peers::trusted_keys::{self, TRUSTED_KEYS_HEADER};
use crate::store::{Audience, Decision, StoreError, ValidPath};
use hyper::HeaderMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

impl Share {
    /// `/HASH.narinfo`, for one who accepts signatures as these `headers` say.
    pub(super) async fn narinfo(&self, hash: StoreHash, audience: Audience, headers: &HeaderMap) -> Answer {
        let Some(known) = self.known(hash, audience).await? else { return Ok(None) };
        // Without the header, which plain Nix does not send, everything is told.
        if headers.contains_key(TRUSTED_KEYS_HEADER)
            && !known.signers.iter().any(|name| trusted_keys::accepts(headers, name))
        {
            return Ok(None);
        }
        Ok(Some(reply::ok(media::NARINFO, keep::SHORT, known.narinfo.clone())))
    }

    /// The path with this hash, if it is here and may be shared with `audience`.
    pub(super) async fn known(
        &self,
        hash: StoreHash,
        audience: Audience,
    ) -> Result<Option<Arc<KnownPath>>, StoreError> {
        let (rules, signing) = self.rules.with_keys();
        let key = (hash, audience);
        let cached = rules.known.get(&key);
        if let Some(known) = &cached
            && rules.known.is_fresh(known)
        {
            return Ok(cached);
        }
        let Some(path) = self.store.path_info(hash).await? else {
            rules.known.forget(&key);
            return Ok(None);
        };
        // On this thread, although it may verify a signature: it does so once for a path that carries one by a key that
        // counts. A detour for all would tell by its time which paths are here and not shared.
        if let Decision::Refuse(reason) = rules.policy.decide(&path, audience) {
            log::debug!(path:% = path.info.path, reason:% = reason; "not shared");
            rules.known.forget(&key);
            return Ok(None);
        }
        let known = match cached.filter(|known| known.path == path) {
            Some(known) => known,
            None => Arc::new(self.get_to_know(path, signing).await),
        };
        Ok(Some(rules.known.confirm(key, known)))
    }

    async fn get_to_know(&self, path: Arc<ValidPath>, signing: Arc<Signing>) -> KnownPath {
        let dir = self.store.dir();
        let added = if path.ultimate { self.own_signatures(&path, signing).await } else { Vec::new() };
        let info = &path.info;
        let nar = NarName { hash: info.path.hash(), nar_hash: Some(info.nar_hash), compression: Compression::None };
        let etag = format!("\"{}\"", info.nar_hash.to_nix32()).into();
        let all = info.signatures.iter().chain(&added);
        let signers = all.map(|signature| signature.key_name().into()).collect();
        let narinfo = render(&path, &nar, added, dir).into();
        KnownPath { nar, etag, narinfo, signers, checked: AtomicU64::default(), path }
    }

    /// The signatures of our keys that a path built here does not have yet.
    async fn own_signatures(&self, path: &Arc<ValidPath>, signing: Arc<Signing>) -> Vec<Signature> {
        if signing.missing(&path.info).next().is_none() {
            return Vec::new();
        }
        let (path, dir) = (Arc::clone(path), self.store.dir().clone());
        let sign = move || signing.missing(&path.info).map(|key| key.sign(&path.info, &dir)).collect();
        // It fails only when the program is being stopped.
        tokio::task::spawn_blocking(sign).await.unwrap_or_default()
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
    use crate::http::protocol::routes::Route;
    use crate::nix::{PathInfo, SecretKey, TrustedKeys};

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
