//! What may be believed of a realisation or build trace that a cache sent: what a trusted key signed, as with paths.
//!
//! Source: Nix verifies them so from 2.36 on, and registered none without a trusted signature before. What is signed is in
//! [`super::realisation`].

use super::realisation::{BuildTrace, BuildTraceKey, DrvOutput, Realisation};
use super::{FormatError, TrustedKeys};

/// An output of a content-addressed derivation, by either of the names that caches have it under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TraceId {
    /// By the hash of the derivation's content: Nix up to 2.34.
    Realisation(DrvOutput),
    /// By the derivation's path: Nix from 2.35 on.
    BuildTrace(BuildTraceKey),
}

impl TraceId {
    /// Reads the JSON that a cache sent for this output, and writes what of it is proved: with the signatures by `keys` and no
    /// others. `None` if none of its signatures counts, or it is of another output.
    ///
    /// # Errors
    /// Not the JSON of one.
    pub fn believe(&self, json: &str, keys: &TrustedKeys) -> Result<Option<String>, FormatError> {
        match self {
            Self::Realisation(id) => {
                let mut it = Realisation::parse(json)?;
                it.signatures = keys.valid_of(&it.signatures, || it.fingerprint());
                Ok((it.id == *id && !it.signatures.is_empty()).then(|| it.render()))
            }
            Self::BuildTrace(key) => {
                let mut it = BuildTrace::parse(json)?;
                it.signatures = keys.valid_of(&it.signatures, || it.fingerprint(key));
                Ok((!it.signatures.is_empty()).then(|| it.render()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nix::SecretKey;

    fn trusted() -> TrustedKeys {
        [include_str!("../../tests/golden/keys/test-1.public").parse().unwrap()].into_iter().collect()
    }

    #[test]
    fn realisations_that_nix_signed_are_believed() {
        let stranger = SecretKey::from_seed("test-1", [9; 32]).unwrap();
        for json in [
            include_str!("../../tests/golden/realisation/2.8.0-second.doi"),
            include_str!("../../tests/golden/realisation/2.26.3-second.doi"),
            include_str!("../../tests/golden/realisation/2.34.8-second.doi"),
        ] {
            let parsed = Realisation::parse(json).unwrap();
            let id = TraceId::Realisation(parsed.id.clone());
            assert_eq!(id.believe(json, &trusted()), Ok(Some(json.to_owned())));
            assert_eq!(
                id.believe(json, &[stranger.public()].into_iter().collect()),
                Ok(None),
                "another key of the name"
            );
            let mut decorated = parsed.clone();
            decorated.signatures.insert(0, stranger.sign_text(&parsed.fingerprint()));
            assert_eq!(id.believe(&decorated.render(), &trusted()), Ok(Some(json.to_owned())));
            let unsigned = Realisation { signatures: vec![], ..parsed.clone() };
            assert_eq!(id.believe(&unsigned.render(), &trusted()), Ok(None));
            let out_path = "7cs5xzrnw5p6mdmr7ym2qhg320xn66fi-x".parse().unwrap();
            assert_eq!(
                id.believe(&Realisation { out_path, ..parsed.clone() }.render(), &trusted()),
                Ok(None),
                "forged"
            );
            let hash = parsed.id.to_string().replace("!out", "!dev");
            assert_eq!(
                TraceId::Realisation(hash.parse().unwrap()).believe(json, &trusted()),
                Ok(None),
                "of another output"
            );
            assert!(id.believe("{}", &trusted()).is_err());
        }
    }

    #[test]
    fn the_signature_of_a_build_trace_covers_its_key() {
        let secret = SecretKey::from_seed("a-1", [7; 32]).unwrap();
        let keys: TrustedKeys = [secret.public()].into_iter().collect();
        let key =
            |output| BuildTraceKey::new("0c0v3hcwdw9p9hm1kxnlc8wj8fqx2hjd-hello.drv".parse().unwrap(), output).unwrap();
        let mut trace =
            BuildTrace { out_path: "7cs5xzrnw5p6mdmr7ym2qhg320xn66fi-hello".parse().unwrap(), signatures: vec![] };
        trace.signatures = vec![secret.sign_text(&trace.fingerprint(&key("out")))];
        let json = trace.render();
        let believe = |output| TraceId::BuildTrace(key(output)).believe(&json, &keys);
        assert_eq!((believe("out"), believe("dev")), (Ok(Some(json.clone())), Ok(None)));
        trace.signatures.clear();
        assert_eq!(TraceId::BuildTrace(key("out")).believe(&trace.render(), &keys), Ok(None));
    }
}
