//! `/HASH.narinfo`, and with it whether a path is here and may be shared at all.

use super::core::{Answer, Share};
use super::known::KnownPath;
use super::rules::Rules;
use crate::http::protocol::body::Body;
use crate::http::protocol::reply::{self, keep, media};
use crate::http::protocol::routes::NarName;
use crate::http::server::listener::Request;
use crate::keys::Signing;
use crate::nix::hash::HashAlgorithm;
use crate::nix::signature::SIGNATURES_MAX;
use crate::nix::{Compression, ContentAddress, NarHash, NarInfo, PathInfo, PublicKey, Signature, StoreDir, StoreHash};
use crate::peers::narinfo_batch;
use crate::peers::trusted_keys::{SIGNED_BY_HEADER, Signer};
use crate::store::{Audience, Decision, StoreError, ValidPath};
use bytes::Bytes;
use hyper::Response;
use hyper::header::{HeaderName, HeaderValue};
use std::ops::Range;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

impl Share {
    /// `/HASH.narinfo`, for one who accepts signatures as the headers of the `request` say.
    pub(super) async fn narinfo(self: &Arc<Self>, hash: StoreHash, audience: Audience, request: &Request) -> Answer {
        let Some(known) = self.known(hash, audience).await? else { return Ok(None) };
        if self.compression.plain && request.caller.node.is_none() {
            let text = known.zstd_narinfo.get_or_init(|| as_zstd(&known.narinfo)).clone();
            return Ok(Some(reply::ok(media::NARINFO, keep::SHORT, text)));
        }
        let said = known.narinfo_for(&request.headers);
        Ok(said.map(|(text, signed_by)| signed_by_whom(reply::ok(media::NARINFO, keep::SHORT, text), signed_by)))
    }

    /// `/local/HASH.narinfo`: the same with the URL that peerix can ask for.
    pub(super) async fn narinfo_for_peerix(self: &Arc<Self>, hash: StoreHash) -> Answer {
        let Some(known) = self.known(hash, Audience::Anyone).await? else { return Ok(None) };
        let url = NarName::for_peerix(&format!("{}/{}", self.store.dir(), known.path.info.path));
        Ok(Some(reply::ok(media::NARINFO, keep::SHORT, with_url(&known.narinfo, &url))))
    }

    /// `/HASH.narinfo` as the Peernix that is written in Go can go on from: its NARs are beside its narinfos.
    pub async fn narinfo_for_go(self: &Arc<Self>, hash: StoreHash) -> Option<Response<Body>> {
        let known = self.known(hash, Audience::Anyone).await.ok().flatten()?;
        let url = format!("{hash}-{}.nar", known.path.info.nar_hash.to_nix32());
        Some(reply::ok(media::NARINFO, keep::SHORT, with_url(&known.narinfo, &url)))
    }

    /// `/peernix/v1/narinfo`: the narinfos of all the paths that the request names, each as [`Self::narinfo`] gives it.
    pub(super) async fn narinfos(self: &Arc<Self>, audience: Audience, request: &Request) -> Answer {
        let Ok(hashes) = narinfo_batch::parse_request(&request.body) else { return Ok(Some(reply::bad_request())) };
        let mut answer = narinfo_batch::Answer::default();
        for hash in hashes {
            // Of what cannot be read at the moment nothing is said: it is asked for alone.
            let Ok(known) = self.known(hash, audience).await else { continue };
            let said = known.as_ref().and_then(|known| known.narinfo_for(&request.headers));
            let said = said
                .as_ref()
                .map(|(text, signed_by)| (signed_by.as_ref().map_or(&[][..], |value| value.as_bytes()), &text[..]));
            answer.add(hash, said);
        }
        Ok(Some(reply::ok(media::BYTES, keep::NEVER, answer.into_bytes())))
    }

    /// The narinfo of a path, if it is here and may be shared with `audience`; `None` also when that cannot be said at the moment.
    pub async fn narinfo_text(self: &Arc<Self>, hash: StoreHash, audience: Audience) -> Option<Bytes> {
        if self.is_paused() {
            return None;
        }
        self.known(hash, audience).await.ok().flatten().map(|known| known.narinfo.clone())
    }

    /// These bytes of the NAR of a path, if it is here and may be shared with `audience`: for parts that fit into memory.
    pub async fn nar_part(
        self: &Arc<Self>,
        hash: StoreHash,
        nar: NarHash,
        bytes: Range<u64>,
        audience: Audience,
    ) -> Option<Bytes> {
        if self.is_paused() {
            return None;
        }
        let known = self.known(hash, audience).await.ok().flatten()?;
        let PathInfo { nar_hash, nar_size, .. } = known.path.info;
        if nar_hash != nar || bytes.end > nar_size {
            return None;
        }
        self.store.read(&known.path, bytes).await.ok().map(Bytes::from)
    }

    /// The path with this hash, if it is here and may be shared with `audience`.
    pub(super) async fn known(
        self: &Arc<Self>,
        hash: StoreHash,
        audience: Audience,
    ) -> Result<Option<Arc<KnownPath>>, StoreError> {
        if self.checks.is_damaged(hash) {
            // Whoever asks for it has it looked at again, once an hour.
            self.suspect(hash, audience);
            return Ok(None);
        }
        let (rules, signing) = self.rules.with_keys();
        let key = (hash, audience);
        let cached = rules.known.get(&key);
        if let Some(known) = &cached
            && rules.known.is_fresh(known)
        {
            return Ok(cached);
        }
        if cached.is_none() && rules.offered.lacks(hash, audience) {
            return Ok(None);
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
            None => Arc::new(self.get_to_know(path, Arc::clone(&rules), signing).await?),
        };
        Ok(Some(rules.known.confirm(key, known)))
    }

    async fn get_to_know(
        &self,
        path: Arc<ValidPath>,
        rules: Arc<Rules>,
        signing: Arc<Signing>,
    ) -> Result<KnownPath, StoreError> {
        let dir = self.store.dir().clone();
        let get_to_know = move || {
            let own: Vec<_> = signing.missing(&path.info, &dir).filter(|_| path.ultimate).collect();
            let added: Vec<Signature> = own.iter().map(|key| key.sign(&path.info, &dir)).collect();
            let verified = rules.policy.signers(&path);
            let mut signers = signers(&verified, &path.info.signatures);
            signers.extend(own.iter().map(|key| Signer::verified(&key.public())));
            let signers = signers.into();
            let info = &path.info;
            let nar = NarName { hash: info.path.hash(), nar_hash: Some(info.nar_hash), compression: Compression::None };
            let etag = format!("\"{}\"", info.nar_hash.to_nix32()).into();
            let narinfo = render(info, &nar, &added, &dir);
            let old = render(&in_old_words(info), &nar, &added, &dir);
            let old_narinfo = (old != narinfo).then(|| old.into());
            let (narinfo, zstd_narinfo, checked) = (narinfo.into(), OnceLock::new(), AtomicU64::default());
            KnownPath { nar, etag, narinfo, old_narinfo, zstd_narinfo, signers, checked, path }
        };
        // It fails only when the program is being stopped.
        tokio::task::spawn_blocking(get_to_know).await.map_err(|_| StoreError::Closed)
    }
}

/// An answer that says by which keys it was signed, if that is to be said.
pub(super) fn signed_by_whom(mut answer: Response<Body>, signed_by: Option<HeaderValue>) -> Response<Body> {
    answer.headers_mut().extend(signed_by.map(|signed_by| (HeaderName::from_static(SIGNED_BY_HEADER), signed_by)));
    answer
}

/// Who made `signatures`, of which some were `verified`.
pub(super) fn signers(verified: &[(&PublicKey, &Signature)], signatures: &[Signature]) -> Vec<Signer> {
    let is_verified = |signature: &Signature| verified.iter().any(|(_, verified)| *verified == signature);
    // One that cannot be read is no reason to tell anybody anything: it cannot count with them either.
    let unknown = signatures.iter().filter(|signature| signature.is_readable() && !is_verified(signature));
    let unknown = unknown.map(|signature| Signer::claimed(signature.key_name()));
    verified.iter().map(|(key, _)| Signer::verified(key)).chain(unknown).collect()
}

/// The same narinfo of a NAR that is sent compressed with zstd: its size and hash as a file are not known before it is.
fn as_zstd(narinfo: &[u8]) -> Bytes {
    let mut text = Vec::with_capacity(narinfo.len());
    for line in narinfo.split_inclusive(|byte| *byte == b'\n') {
        match line {
            line if line.starts_with(b"FileHash: ") || line.starts_with(b"FileSize: ") => {}
            line if line.starts_with(b"Compression: ") => text.extend_from_slice(b"Compression: zstd\n"),
            line if line.starts_with(b"URL: ") => {
                text.extend_from_slice(line.trim_ascii_end());
                text.extend_from_slice(b".zst\n");
            }
            line => text.extend_from_slice(line),
        }
    }
    text.into()
}

/// The same narinfo with another URL.
fn with_url(narinfo: &[u8], url: &str) -> Bytes {
    let mut text = Vec::with_capacity(narinfo.len() + url.len());
    for line in narinfo.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b"URL: ") {
            text.extend_from_slice(format!("URL: {url}\n").as_bytes());
        } else {
            text.extend_from_slice(line);
        }
    }
    text.into()
}

/// What Peernix 0.1 before fingerprints can read of `info`; it bans for what it cannot.
fn in_old_words(info: &PathInfo) -> PathInfo {
    let is_old = |ca: &ContentAddress| match ca {
        ContentAddress::Known { hash, .. } => hash.algorithm() != HashAlgorithm::Blake3,
        ContentAddress::Unknown(_) => false,
    };
    PathInfo {
        signatures: info.signatures.iter().filter_map(Signature::canonical).collect(),
        ca: info.ca.clone().filter(is_old),
        ..info.clone()
    }
}

/// The text of a narinfo, with signatures that were `added`.
fn render(info: &PathInfo, nar: &NarName, added: &[Signature], dir: &StoreDir) -> String {
    let mut info = info.clone();
    info.signatures.truncate(SIGNATURES_MAX.saturating_sub(added.len()));
    info.signatures.extend_from_slice(added);
    // The file is the NAR, so its hash and size are the NAR's; Nix shows the size as what is to be downloaded.
    let (file_hash, file_size) = (Some(info.nar_hash.into()), Some(info.nar_size));
    let compression = Compression::None;
    NarInfo { info, url: nar.to_string(), compression, file_hash, file_size, extra: Vec::new() }.render(dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::protocol::routes::Route;
    use crate::nix::{SecretKey, TrustedKeys};

    fn nar(info: &PathInfo) -> NarName {
        NarName { hash: info.path.hash(), nar_hash: Some(info.nar_hash), compression: Compression::None }
    }

    #[test]
    fn narinfos_say_what_is_true_of_an_uncompressed_nar() {
        let (info, dir) = (PathInfo::example(), StoreDir::default());
        let key = SecretKey::from_seed("own-1", [7; 32]).unwrap();
        let text = render(&info, &nar(&info), &[key.sign(&info, &dir)], &dir);
        let read = NarInfo::parse(&text, &dir).unwrap();
        assert_eq!(read.compression, Compression::None);
        assert_eq!(read.file_size, Some(info.nar_size));
        assert_eq!(read.file_hash, Some(info.nar_hash.into()));
        assert_eq!(
            Route::parse(&format!("/{}", read.url)),
            Some(Route::Nar(nar(&info))),
            "the URL is one of our routes"
        );
        let trusted: TrustedKeys = [key.public()].into_iter().collect();
        assert_eq!(trusted.voucher(&read.info, &dir), Some(&key.public()));
    }

    #[test]
    fn the_narinfo_of_what_is_compressed_differs_in_what_says_so() {
        let (info, dir) = (PathInfo::example(), StoreDir::default());
        let text = as_zstd(render(&info, &nar(&info), &[], &dir).as_bytes());
        let read = NarInfo::parse(std::str::from_utf8(&text).unwrap(), &dir).unwrap();
        assert_eq!((read.compression, read.file_hash, read.file_size), (Compression::Zstd, None, None));
        assert_eq!(read.info, info);
        let route = Route::Nar(NarName { compression: Compression::Zstd, ..nar(&info) });
        assert_eq!(Route::parse(&format!("/{}", read.url)), Some(route));
    }

    #[test]
    fn what_is_not_known_goes_on_as_it_is_and_not_to_those_who_would_ban_for_it() {
        let dir = StoreDir::default();
        let key = SecretKey::from_seed("own-1", [7; 32]).unwrap();
        let blake3 = "fixed:r:blake3:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73";
        for ca in ["tree:sha256:00", blake3] {
            let mut info = PathInfo { ca: Some(ca.parse().unwrap()), ..PathInfo::example() };
            let good = key.sign(&info, &dir);
            let unpadded = good.to_string().trim_end_matches('=').to_owned();
            let ml_dsa = format!("pq-1:{}==", "A".repeat(6170));
            info.signatures = vec![ml_dsa.parse().unwrap(), unpadded.parse().unwrap()];
            let text = render(&info, &nar(&info), &[], &dir);
            for line in [format!("CA: {ca}"), format!("Sig: {ml_dsa}"), format!("Sig: {unpadded}")] {
                assert!(text.lines().any(|it| it == line), "{line}");
            }
            let old = PathInfo { ca: None, signatures: vec![good], ..info.clone() };
            assert_eq!(in_old_words(&info), old);
            assert_eq!(in_old_words(&old), old);
        }
        let mut many = PathInfo::example();
        many.signatures = vec![key.sign(&many, &dir); SIGNATURES_MAX];
        let added = SecretKey::from_seed("new-1", [8; 32]).unwrap().sign(&many, &dir);
        let read = NarInfo::parse(&render(&many, &nar(&many), std::slice::from_ref(&added), &dir), &dir).unwrap();
        assert_eq!(read.info.signatures.last(), Some(&added));
    }
}
