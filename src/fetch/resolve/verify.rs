//! What of a narinfo may be believed: the signed fields, once a trusted signature over them is verified.

use crate::fetch::error::{Kind, SourceError, Violation};
use crate::fetch::source::upstream::Upstream;
use crate::nix::narinfo::NARINFO_MAX;
use crate::nix::{FormatError, NarInfo, PathInfo, StoreDir, StoreHash, TrustedKeys};
use crate::peers::trusted_keys::SignedBy;
use crate::resilience::Version;
use bytes::Bytes;
use std::sync::Arc;
use thiserror::Error;

/// Whose word counts, and for which store. A lookup takes it once, before it sends its first question, and judges every answer
/// by that.
#[derive(Debug, Clone)]
pub(crate) struct Trust {
    /// The keys whose signatures let a path in.
    pub(crate) keys: Version<TrustedKeys>,
    /// The store directory that the paths belong to.
    pub(crate) store_dir: StoreDir,
}

impl Trust {
    /// Reads the narinfo that a source sent for `asked`, and leaves of it what is proved: path, hash, size, references, the
    /// signatures that prove them, and the content address where the path follows from it. URL and compression are left
    /// too, unproved: they only say where to look.
    ///
    /// A content address that proves the rest does not prove the size, and a wrong size would make Nix refuse the path for
    /// as long as it remembers it. So it counts instead of a signature only where the source is the administrator's choice.
    ///
    /// Verifies signatures (some 30 µs each): not for the reactor.
    ///
    /// # Errors
    /// A [`Refusal::Lie`] is one in a peer's mouth; an upstream may simply be signed by a key that is not trusted here.
    pub(crate) fn believe(&self, text: &[u8], asked: StoreHash, whose: Whose<'_>) -> Result<NarInfo, Refusal> {
        let text = std::str::from_utf8(text).map_err(|_| Violation::from(FormatError::Line(1)))?;
        let mut narinfo = NarInfo::parse(text, &self.store_dir).map_err(Violation::from)?;
        let info = &mut narinfo.info;
        if info.path.hash() != asked {
            return Err(Violation::OtherPath(info.path.to_string()).into());
        }
        let mut valid = self.keys.valid_signatures(info, &self.store_dir);
        let proves_itself = matches!(whose, Whose::Upstream(_)) && info.proves_itself(&self.store_dir);
        if let Whose::Upstream(Some(only)) = whose
            && let Some(name) = valid.first().map(|signature| signature.key_name().to_owned())
        {
            // Those of its own keys among them.
            info.signatures = valid;
            valid = only.valid_signatures(info, &self.store_dir);
            if valid.is_empty() && !proves_itself {
                return Err(Refusal::NotItsKey(name));
            }
        }
        if valid.is_empty() && !proves_itself {
            return Err(self.refusal(info, whose));
        }
        // Nix stores every signature that it is given, and ends its run for one of a trusted name and another length: what
        // nobody verified must not get there.
        info.signatures = valid;
        // Nobody signs these. A wrong deriver would mislead `nix log`, and Nix ends its run for a content address that is wrong
        // or of a kind that it does not know: one counts if the path proves it. The signature does without.
        info.deriver = None;
        if info.ca.as_ref().is_some_and(|ca| !ca.names(info, &self.store_dir)) {
            info.ca = None;
        }
        narinfo.file_hash = None;
        narinfo.extra.clear();
        Ok(narinfo)
    }
}

impl Trust {
    /// Why nothing vouches for `info`. A signature under a trusted name that does not verify may be by another key of that name,
    /// and then the answer is only of no use. Who says that it verified it by our key lies.
    fn refusal(&self, info: &PathInfo, whose: Whose<'_>) -> Refusal {
        if let Whose::Peer(signed_by) = whose
            && let Some(key) = self.keys.all().find(|key| signed_by.names(key))
        {
            return Violation::Forged(key.name().to_owned()).into();
        }
        let named = info.signatures.iter().find(|signature| self.keys.has(signature.key_name()));
        named.map_or(Violation::Unsigned.into(), |signature| Refusal::OtherKey(signature.key_name().to_owned()))
    }
}

/// Why a narinfo is not believed.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No honest peer sends it.
    #[error(transparent)]
    Lie(#[from] Violation),
    /// It is signed by another key of a name that is trusted: not for us.
    #[error("its signature is by another key called '{0}' than the one that we trust")]
    OtherKey(String),
    /// It is from an upstream that may not vouch by that key.
    #[error("its signature is by '{0}', which is not among the keys of this upstream")]
    NotItsKey(String),
}

impl Refusal {
    /// As what trouble with a source it is counted.
    pub(crate) const fn kind(&self) -> Kind {
        match self {
            Self::Lie(Violation::Unsigned | Violation::Forged(_)) | Self::OtherKey(_) | Self::NotItsKey(_) => {
                Kind::Signature
            }
            Self::Lie(_) => Kind::Malformed,
        }
    }
}

/// Whose narinfo is read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Whose<'a> {
    /// Anybody's on the network, who says that it was signed by these keys.
    Peer(&'a SignedBy),
    /// A binary cache of the configuration, and the keys by which it may vouch for paths: any, or these.
    Upstream(Option<&'a TrustedKeys>),
}

/// The most bytes of a narinfo that are read from a source.
pub(crate) const LIMIT: usize = NARINFO_MAX;

/// Who sent a narinfo.
pub(super) enum Asked {
    /// A peer, which says that it was signed by these keys.
    Peer(SignedBy),
    Upstream(Arc<Upstream>),
}

/// Verifies off the reactor.
pub(super) async fn believe(
    trust: &Arc<Trust>,
    text: Bytes,
    hash: StoreHash,
    asked: Asked,
) -> Result<Result<NarInfo, Refusal>, SourceError> {
    let trust = Arc::clone(trust);
    let believed = tokio::task::spawn_blocking(move || match &asked {
        Asked::Peer(signed_by) => trust.believe(&text, hash, Whose::Peer(signed_by)),
        Asked::Upstream(upstream) => trust.believe(&text, hash, Whose::Upstream(upstream.only())),
    });
    believed.await.map_err(|stopped| SourceError::Unavailable(stopped.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::fingerprint;
    use crate::nix::SecretKey;
    use crate::peers::trusted_keys::SIGNED_BY_HEADER;
    use crate::resilience::Versioned;
    use hyper::HeaderMap;

    fn key(name: &str, seed: u8) -> SecretKey {
        SecretKey::from_seed(name, [seed; 32]).unwrap()
    }

    fn trust() -> Trust {
        let keys: TrustedKeys = [key("a-1", 1).public()].into_iter().collect();
        Trust { keys: Versioned::new(keys).now(), store_dir: StoreDir::default() }
    }

    fn narinfo(signer: Option<&SecretKey>) -> NarInfo {
        let text = include_str!("../../../tests/golden/narinfo/xz.narinfo");
        let mut narinfo = NarInfo::parse(text, &StoreDir::default()).unwrap();
        narinfo.info.signatures = signer.map(|key| key.sign(&narinfo.info, &StoreDir::default())).into_iter().collect();
        narinfo
    }

    const ASKED: &str = "nq36xx3v8axl5r2a5xhyi46707hdh7l9";

    fn believe(narinfo: &NarInfo) -> Result<NarInfo, Refusal> {
        believe_text(&narinfo.render(&StoreDir::default()), &SignedBy::default())
    }

    fn believe_text(text: &str, signed_by: &SignedBy) -> Result<NarInfo, Refusal> {
        trust().believe(text.as_bytes(), ASKED.parse().unwrap(), Whose::Peer(signed_by))
    }

    /// What a peer says that has verified a signature by `key`.
    fn signed_by(key: &SecretKey) -> SignedBy {
        let value = format!("x-1:0123456789abcdef a-1:{}", fingerprint(&key.public()));
        SignedBy::of(&HeaderMap::from_iter([(SIGNED_BY_HEADER.parse().unwrap(), value.parse().unwrap())]))
    }

    #[test]
    fn signed_fields_stay_and_others_go() {
        let honest = narinfo(Some(&key("a-1", 1)));
        let mut decorated = honest.clone();
        decorated.extra.push(("X".into(), "y".into()));
        decorated.info.ca = Some(format!("fixed:r:{}", decorated.info.nar_hash).parse().unwrap());
        let believed = believe(&decorated).unwrap();
        assert!(honest.info.deriver.is_some(), "the golden file has one to lose");
        assert_eq!(believed.info, PathInfo { deriver: None, ..honest.info });
        assert_eq!((believed.file_hash, believed.extra), (None, vec![]));
    }

    #[test]
    fn content_addressed_paths_need_no_signature_from_upstream() {
        let text = include_str!("../../../tests/golden/narinfo/none-ca.narinfo");
        let asked = "d0jsh1qdnnsqj82rvhw5cncagyr8n4v9".parse().unwrap();
        let believed = trust().believe(text.as_bytes(), asked, Whose::Upstream(None)).unwrap();
        assert!(believed.info.ca.is_some(), "Nix needs it to accept the path");
        let forged = text.replace("NarHash: sha256:0dmb", "NarHash: sha256:0dmc");
        assert_eq!(
            trust().believe(forged.as_bytes(), asked, Whose::Upstream(None)).unwrap_err(),
            Violation::Unsigned.into()
        );
        let from_peer = trust().believe(text.as_bytes(), asked, Whose::Peer(&SignedBy::default()));
        assert_eq!(from_peer.unwrap_err(), Violation::Unsigned.into(), "the size is not proved");
    }

    #[test]
    fn only_signatures_that_verify_are_passed_on() {
        let mut decorated = narinfo(Some(&key("a-1", 1)));
        let honest = decorated.info.signatures.clone();
        let junk = [key("a-1", 2), key("unknown-1", 3)].map(|key| key.sign(&decorated.info, &StoreDir::default()));
        decorated.info.signatures.splice(0..0, junk);
        assert_eq!(believe(&decorated).unwrap().info.signatures, honest);
    }

    #[test]
    fn an_upstream_may_vouch_by_its_own_keys_alone() {
        let asked = ASKED.parse().unwrap();
        let keys: TrustedKeys = [key("a-1", 1).public(), key("b-1", 2).public()].into_iter().collect();
        let trust = Trust { keys: Versioned::new(keys).now(), ..trust() };
        let believe = |narinfo: &NarInfo, only: &TrustedKeys| {
            let text = narinfo.render(&StoreDir::default());
            trust.believe(text.as_bytes(), asked, Whose::Upstream(Some(only))).map(|narinfo| narinfo.info.signatures)
        };
        let of = |keys: &[SecretKey]| keys.iter().map(SecretKey::public).collect::<TrustedKeys>();
        let (a, b, c) = (key("a-1", 1), key("b-1", 2), key("c-1", 3));
        let mut both = narinfo(Some(&a));
        both.info.signatures.push(b.sign(&both.info, &StoreDir::default()));
        let by_b = both.info.signatures[1].clone();
        assert_eq!(
            believe(&both, &of(&[key("b-1", 2)])),
            Ok(vec![by_b]),
            "what another key says does not count from here"
        );
        assert!(believe(&narinfo(Some(&a)), &of(&[key("b-1", 2)])).is_err(), "trusted, but not here");
        assert!(believe(&narinfo(Some(&c)), &of(&[key("c-1", 3)])).is_err(), "its key, but not trusted");
        assert!(believe(&narinfo(Some(&a)), &of(&[a, c])).is_ok());
    }

    #[test]
    fn what_cannot_be_judged_decides_nothing() {
        let honest = narinfo(Some(&key("a-1", 1)));
        let expected = PathInfo { deriver: None, ..honest.info.clone() };
        let text = honest.render(&StoreDir::default());
        let unknown =
            format!("Sig: a-1:{}\nSig: pq-1:{}==\nCA: tree:x\nProvenance: {{}}\n", "A".repeat(96), "A".repeat(6170));
        for text in [format!("{text}{unknown}"), format!("{unknown}{text}")] {
            assert_eq!(believe_text(&text, &signed_by(&key("a-1", 1))).unwrap().info, expected);
            let from_upstream = trust().believe(text.as_bytes(), ASKED.parse().unwrap(), Whose::Upstream(None));
            assert_eq!(from_upstream.unwrap().info, expected);
        }
        // Of another algorithm, under a name that is trusted: not ours, and no lie.
        let other = narinfo(None).render(&StoreDir::default()) + &unknown;
        assert_eq!(believe_text(&other, &SignedBy::default()), Err(Refusal::OtherKey("a-1".into())));
    }

    #[test]
    fn another_key_of_a_trusted_name_is_no_lie() {
        let other = key("a-1", 2);
        let theirs = narinfo(Some(&other));
        let not_for_us = Err(Refusal::OtherKey("a-1".into()));
        assert_eq!(believe(&theirs), not_for_us);
        let text = theirs.render(&StoreDir::default());
        assert_eq!(believe_text(&text, &signed_by(&other)), not_for_us, "it says that it is theirs");
        let lie = Err(Violation::Forged("a-1".into()).into());
        assert_eq!(believe_text(&text, &signed_by(&key("a-1", 1))), lie, "it says that it is ours");
    }

    #[test]
    fn lies_are_told_apart() {
        let ours = key("a-1", 1);
        let honest = narinfo(Some(&ours));
        assert_eq!(believe(&narinfo(None)), Err(Violation::Unsigned.into()));
        assert_eq!(believe(&narinfo(Some(&key("b-1", 1)))), Err(Violation::Unsigned.into()), "unknown key");
        let forged = |forged: &NarInfo, what| {
            let text = forged.render(&StoreDir::default());
            let lie = Violation::Forged("a-1".into());
            assert_eq!(believe_text(&text, &signed_by(&ours)), Err(lie.into()), "forged {what}");
            assert!(believe(forged).is_err(), "forged {what}");
        };
        let mut changed = honest.clone();
        changed.info.references.clear();
        forged(&changed, "references");
        let mut changed = honest.clone();
        changed.info.nar_size += 8;
        forged(&changed, "size");
        let text = honest.render(&StoreDir::default());
        let signed_by = SignedBy::default();
        let by_peer = Whose::Peer(&signed_by);
        let other = trust().believe(text.as_bytes(), "d0jsh1qdnnsqj82rvhw5cncagyr8n4v9".parse().unwrap(), by_peer);
        assert!(matches!(other, Err(Refusal::Lie(Violation::OtherPath(_)))));
        let asked = honest.info.path.hash();
        for malformed in [&b"\xff\xfe"[..], &text.as_bytes()[..text.len() - 1]] {
            let refused = trust().believe(malformed, asked, by_peer);
            assert!(matches!(refused, Err(Refusal::Lie(Violation::Narinfo(_)))));
        }
    }
}
