//! What of a narinfo may be believed: the signed fields, once a trusted signature over them is verified.

use crate::fetch::error::Violation;
use crate::nix::narinfo::NARINFO_MAX;
use crate::nix::{FormatError, NarInfo, StoreDir, StoreHash, TrustedKeys};
use crate::resilience::Version;

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
    /// Each is a [`Violation`] in a peer's mouth; an upstream may simply be signed by a key that is not trusted here.
    pub(crate) fn believe(&self, text: &[u8], asked: StoreHash, whose: Whose<'_>) -> Result<NarInfo, Violation> {
        let text = std::str::from_utf8(text).map_err(|_| FormatError::Line(1))?;
        let mut narinfo = NarInfo::parse(text, &self.store_dir)?;
        let info = &mut narinfo.info;
        if info.path.hash() != asked {
            return Err(Violation::OtherPath(info.path.to_string()));
        }
        let mut valid = self.keys.valid_signatures(info, &self.store_dir);
        if let Whose::Upstream(Some(only)) = whose {
            // Those of its own keys among them.
            info.signatures = valid;
            valid = only.valid_signatures(info, &self.store_dir);
        }
        if valid.is_empty() && !(matches!(whose, Whose::Upstream(_)) && info.proves_itself(&self.store_dir)) {
            let forged =
                info.signatures.iter().find(|signature| self.keys.names().any(|name| name == signature.key_name()));
            return Err(
                forged.map_or(Violation::Unsigned, |signature| Violation::Forged(signature.key_name().to_owned()))
            );
        }
        // Nix stores every signature that it is given: what nobody verified must not get there.
        info.signatures = valid;
        // Nobody signs these. A wrong deriver would mislead `nix log`; a content address counts if the path proves it.
        info.deriver = None;
        if info.ca.as_ref().is_some_and(|ca| !ca.names(info, &self.store_dir)) {
            info.ca = None;
        }
        narinfo.file_hash = None;
        narinfo.extra.clear();
        Ok(narinfo)
    }
}

/// Whose narinfo is read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Whose<'a> {
    /// Anybody's on the network.
    Peer,
    /// A binary cache of the configuration, and the keys by which it may vouch for paths: any, or these.
    Upstream(Option<&'a TrustedKeys>),
}

/// The most bytes of a narinfo that are read from a source.
pub(crate) const LIMIT: usize = NARINFO_MAX;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nix::{PathInfo, SecretKey};
    use crate::resilience::Versioned;

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

    fn believe(narinfo: &NarInfo) -> Result<NarInfo, Violation> {
        let asked = "nq36xx3v8axl5r2a5xhyi46707hdh7l9".parse().unwrap();
        trust().believe(narinfo.render(&StoreDir::default()).as_bytes(), asked, Whose::Peer)
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
        assert_eq!(trust().believe(forged.as_bytes(), asked, Whose::Upstream(None)).unwrap_err(), Violation::Unsigned);
        let from_peer = trust().believe(text.as_bytes(), asked, Whose::Peer);
        assert_eq!(from_peer.unwrap_err(), Violation::Unsigned, "the size is not proved");
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
        let asked = "nq36xx3v8axl5r2a5xhyi46707hdh7l9".parse().unwrap();
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
    fn lies_are_told_apart() {
        let honest = narinfo(Some(&key("a-1", 1)));
        assert_eq!(believe(&narinfo(None)), Err(Violation::Unsigned));
        assert_eq!(believe(&narinfo(Some(&key("b-1", 1)))), Err(Violation::Unsigned), "unknown key");
        assert_eq!(
            believe(&narinfo(Some(&key("a-1", 2)))),
            Err(Violation::Forged("a-1".into())),
            "same name, other key"
        );
        let mut forged = honest.clone();
        forged.info.references.clear();
        assert_eq!(believe(&forged), Err(Violation::Forged("a-1".into())), "forged references");
        let mut forged = honest.clone();
        forged.info.nar_size += 8;
        assert_eq!(believe(&forged), Err(Violation::Forged("a-1".into())), "forged size");
        let text = honest.render(&StoreDir::default());
        let other = trust().believe(text.as_bytes(), "d0jsh1qdnnsqj82rvhw5cncagyr8n4v9".parse().unwrap(), Whose::Peer);
        assert!(matches!(other, Err(Violation::OtherPath(_))));
        let asked = honest.info.path.hash();
        assert!(matches!(trust().believe(b"\xff\xfe", asked, Whose::Peer), Err(Violation::Narinfo(_))));
        assert!(
            matches!(
                trust().believe(&text.as_bytes()[..text.len() - 1], asked, Whose::Peer),
                Err(Violation::Narinfo(_))
            ),
            "cut"
        );
    }
}
