//! Realisations: which path a content-addressed derivation's output turned out to be, as a binary cache keeps it in JSON.
//!
//! There are two generations. Up to 2.34, Nix asks for `realisations/HASH!OUTPUT.doi`, where the hash is that of the
//! derivation's content: [`Realisation`]. From 2.35 on it asks for `build-trace-v2/NAME.drv/OUTPUT.doi`, where the
//! derivation has its name: [`BuildTrace`]. Both are signed, and only those who use `ca-derivations` have any.
//!
//! Source: what 2.8, 2.26 and 2.34 write, byte for byte; for the second generation the Nix manual,
//! [build trace entry](https://nix.dev/manual/nix/latest/protocols/json/build-trace-entry), which calls it unstable.

use super::hash::Hash;
use super::signature::SIGNATURES_MAX;
use super::store_path::is_name;
use super::{FormatError, Signature, StorePath, error::quote};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// The longest text accepted, in bytes. One dependency takes about 130.
pub const REALISATION_MAX: usize = 256 * 1024;

/// An output of a derivation, named by the hash of the derivation's content. Displayed as `sha256:BASE16!OUTPUT`, as it
/// stands in the database and in the URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrvOutput {
    hash: Hash,
    output: Box<str>,
}

impl DrvOutput {
    /// The hash of the derivation modulo the paths of its inputs.
    #[must_use]
    pub const fn hash(&self) -> &Hash {
        &self.hash
    }

    /// The name of the output, `out` most often.
    #[must_use]
    pub fn output(&self) -> &str {
        &self.output
    }
}

impl FromStr for DrvOutput {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        let parts = text.split_once('!').filter(|(_, output)| is_name(output));
        let (hash, output) = parts.ok_or_else(|| FormatError::DrvOutput(quote(text), "sha256:…!"))?;
        Ok(Self { hash: hash.parse()?, output: output.into() })
    }
}

impl fmt::Display for DrvOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}!{}", self.hash.algorithm().name(), self.hash.to_base16(), self.output)
    }
}

impl Ord for DrvOutput {
    /// As the texts compare: signatures depend on it.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let key = |id: &Self| (id.hash.algorithm().name(), id.hash.digest().to_vec());
        key(self).cmp(&key(other)).then_with(|| self.output.cmp(&other.output))
    }
}

impl PartialOrd for DrvOutput {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// A realisation of the first generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Realisation {
    /// Which output.
    pub id: DrvOutput,
    /// The path that it is.
    pub out_path: StorePath,
    /// Signatures, not verified.
    pub signatures: Vec<Signature>,
    /// The realisations that the build used; none since 2.34.
    pub dependent: BTreeMap<DrvOutput, StorePath>,
}

/// Its JSON; the order of the fields is that of their names, which the signature covers.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RealisationJson {
    #[serde(default)]
    dependent_realisations: BTreeMap<String, String>,
    id: String,
    out_path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signatures: Option<Vec<AnySignature>>,
}

impl Realisation {
    /// Reads the JSON; fields that it does not know are passed over, as Nix does.
    ///
    /// # Errors
    /// Malformed JSON or fields, or more than [`REALISATION_MAX`] bytes.
    pub fn parse(json: &str) -> Result<Self, FormatError> {
        let json: RealisationJson = from_json(json)?;
        let dependent = json.dependent_realisations.iter().map(|(id, path)| Ok((id.parse()?, path.parse()?)));
        let dependent: Result<_, FormatError> = dependent.collect();
        Ok(Self {
            id: json.id.parse().map_err(|error: FormatError| error.in_field("id"))?,
            out_path: json.out_path.parse().map_err(|error: FormatError| error.in_field("outPath"))?,
            signatures: read_signatures(json.signatures),
            dependent: dependent.map_err(|error| error.in_field("dependentRealisations"))?,
        })
    }

    /// Writes the JSON as Nix does.
    #[must_use]
    pub fn render(&self) -> String {
        to_json(&self.json(Some(self.signatures.iter().map(|it| AnySignature::Text(it.to_string())).collect())))
    }

    /// The text that is signed: the JSON without signatures.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        to_json(&self.json(None))
    }

    fn json(&self, signatures: Option<Vec<AnySignature>>) -> RealisationJson {
        let dependent = self.dependent.iter().map(|(id, path)| (id.to_string(), path.to_string()));
        RealisationJson {
            dependent_realisations: dependent.collect(),
            id: self.id.to_string(),
            out_path: self.out_path.to_string(),
            signatures,
        }
    }
}

/// An output of a derivation, named by the derivation's path. Displayed as `HASH-NAME.drv^OUTPUT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildTraceKey {
    drv_path: StorePath,
    output: Box<str>,
}

impl BuildTraceKey {
    /// Puts a key together.
    ///
    /// # Errors
    /// A name that no output has.
    pub fn new(drv_path: StorePath, output: &str) -> Result<Self, FormatError> {
        if !is_name(output) {
            return Err(FormatError::DrvOutput(quote(output), "HASH-NAME.drv^"));
        }
        Ok(Self { drv_path, output: output.into() })
    }

    /// The derivation.
    #[must_use]
    pub const fn drv_path(&self) -> &StorePath {
        &self.drv_path
    }

    /// The name of the output, `out` most often.
    #[must_use]
    pub fn output(&self) -> &str {
        &self.output
    }
}

impl fmt::Display for BuildTraceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}^{}", self.drv_path, self.output)
    }
}

/// A realisation of the second generation. Its key is in the URL and not in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildTrace {
    /// The path that the output is.
    pub out_path: StorePath,
    /// Signatures, not verified.
    pub signatures: Vec<Signature>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct BuildTraceJson {
    out_path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signatures: Option<Vec<AnySignature>>,
}

impl BuildTrace {
    /// Reads the JSON; fields that it does not know are passed over.
    ///
    /// # Errors
    /// Malformed JSON or fields, or more than [`REALISATION_MAX`] bytes.
    pub fn parse(json: &str) -> Result<Self, FormatError> {
        let json: BuildTraceJson = from_json(json)?;
        Ok(Self {
            out_path: json.out_path.parse().map_err(|error: FormatError| error.in_field("outPath"))?,
            signatures: read_signatures(json.signatures),
        })
    }

    /// Writes the JSON as Nix does.
    #[must_use]
    pub fn render(&self) -> String {
        let signatures = self.signatures.iter().map(|signature| AnySignature::Object {
            key_name: signature.key_name().to_owned(),
            sig: signature.encoded().to_owned(),
        });
        to_json(&BuildTraceJson { out_path: self.out_path.to_string(), signatures: Some(signatures.collect()) })
    }

    /// The text that is signed: JSON of `key` and path, without signatures.
    #[must_use]
    pub fn fingerprint(&self, key: &BuildTraceKey) -> String {
        #[derive(Serialize)]
        struct Signed {
            key: Key,
            value: BuildTraceJson,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Key {
            drv_path: String,
            output_name: String,
        }
        to_json(&Signed {
            key: Key { drv_path: key.drv_path.to_string(), output_name: key.output.to_string() },
            value: BuildTraceJson { out_path: self.out_path.to_string(), signatures: None },
        })
    }
}

/// A signature in JSON: the first generation has texts, the second objects, and Nix reads both in both.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum AnySignature {
    Text(String),
    #[serde(rename_all = "camelCase")]
    Object {
        key_name: String,
        sig: String,
    },
}

/// The signatures; those that cannot be read can never count and are left out.
fn read_signatures(signatures: Option<Vec<AnySignature>>) -> Vec<Signature> {
    let parse = |signature| match signature {
        AnySignature::Text(text) => text.parse().ok(),
        AnySignature::Object { key_name, sig } => format!("{key_name}:{sig}").parse().ok(),
    };
    signatures.unwrap_or_default().into_iter().filter_map(parse).take(SIGNATURES_MAX).collect()
}

fn from_json<T: serde::de::DeserializeOwned>(json: &str) -> Result<T, FormatError> {
    if json.len() > REALISATION_MAX {
        return Err(FormatError::TooLarge(REALISATION_MAX, "bytes"));
    }
    serde_json::from_str(json).map_err(|error| FormatError::json(&error))
}

fn to_json(value: &impl Serialize) -> String {
    // JSON is refused for keys that are no strings and by types that refuse it; there is neither here.
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nix::{PublicKey, StoreHash};
    use proptest::prelude::*;

    fn public() -> PublicKey {
        include_str!("../../tests/golden/keys/test-1.public").parse().unwrap()
    }

    /// By `nix build` and `nix copy` of each version: see tests/golden/realisation/make.sh.
    const GOLDEN: [&str; 7] = [
        include_str!("../../tests/golden/realisation/2.8.0-first.doi"),
        include_str!("../../tests/golden/realisation/2.8.0-first-dev.doi"),
        include_str!("../../tests/golden/realisation/2.8.0-second.doi"),
        include_str!("../../tests/golden/realisation/2.26.3-first.doi"),
        include_str!("../../tests/golden/realisation/2.26.3-first-dev.doi"),
        include_str!("../../tests/golden/realisation/2.26.3-second.doi"),
        include_str!("../../tests/golden/realisation/2.34.8-second.doi"),
    ];

    #[test]
    fn realisations_of_nix_survive_and_their_signatures_hold() {
        for json in GOLDEN {
            let realisation = Realisation::parse(json).unwrap();
            assert_eq!(realisation.render(), json);
            let [signature] = realisation.signatures.as_slice() else { panic!("one signature: {json}") };
            assert!(public().verify(&realisation.fingerprint(), signature), "{json}");

            let forged = Realisation { out_path: "7cs5xzrnw5p6mdmr7ym2qhg320xn66fi-x".parse().unwrap(), ..realisation };
            assert!(!public().verify(&forged.fingerprint(), &forged.signatures[0]), "{json}");
        }
        assert_eq!(Realisation::parse(GOLDEN[2]).unwrap().dependent.len(), 2);
    }

    const SIGNATURE: &str =
        concat!("a-1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "AAAAAAAA==");

    #[test]
    fn build_traces_have_the_form_of_the_manual() {
        let (name, sig) = SIGNATURE.split_once(':').unwrap();
        let path = "7cs5xzrnw5p6mdmr7ym2qhg320xn66fi-hello";
        let json = format!(r#"{{"outPath":"{path}","signatures":[{{"keyName":"{name}","sig":"{sig}"}}]}}"#);
        let trace = BuildTrace::parse(&json).unwrap();
        assert_eq!(trace.signatures, [SIGNATURE.parse().unwrap()]);
        assert_eq!(trace.render(), json);
        let texts = format!(r#"{{"signatures":["{SIGNATURE}"],"outPath":"{path}","x":0}}"#);
        assert_eq!(BuildTrace::parse(&texts).unwrap(), trace);
        let key = BuildTraceKey::new("0c0v3hcwdw9p9hm1kxnlc8wj8fqx2hjd-hello.drv".parse().unwrap(), "out").unwrap();
        assert_eq!(key.to_string(), "0c0v3hcwdw9p9hm1kxnlc8wj8fqx2hjd-hello.drv^out");
        assert_eq!(
            trace.fingerprint(&key),
            format!(
                r#"{{"key":{{"drvPath":"0c0v3hcwdw9p9hm1kxnlc8wj8fqx2hjd-hello.drv","outputName":"out"}},"value":{{"outPath":"{path}"}}}}"#
            )
        );
        assert!(BuildTraceKey::new(key.drv_path().clone(), "../x").is_err());
    }

    #[test]
    fn malformed_ones_are_refused() {
        let hash = "sha256:6eb2f63363f01ce7307616b0feb2eeb1bca759b72c7bae03ec625d32334a1d94";
        for id in ["", "!", "!out", "out", &format!("{hash}!"), &format!("{hash}!a/b"), &format!("{hash}!.."), hash] {
            assert!(id.parse::<DrvOutput>().is_err(), "{id}");
        }
        let good = GOLDEN[0];
        for bad in [
            "",
            "{}",
            "[]",
            &good.replace("sha256:", "sha257:"),
            &good.replace("outPath\":\"", "outPath\":\"../"),
            &good.replace("{}", r#"{"a!b":"c"}"#),
            &good.replace("{}", "[]"),
        ] {
            assert!(Realisation::parse(bad).is_err(), "{bad}");
        }
        let signed = |count| {
            let signatures = vec![format!("\"{SIGNATURE}\""); count].join(",");
            format!(r#"{{"outPath":"7cs5xzrnw5p6mdmr7ym2qhg320xn66fi-hello","signatures":[{signatures}]}}"#)
        };
        assert_eq!(BuildTrace::parse(&signed(SIGNATURES_MAX)).unwrap().signatures.len(), SIGNATURES_MAX);
        assert_eq!(BuildTrace::parse(&signed(SIGNATURES_MAX + 1)).unwrap().signatures.len(), SIGNATURES_MAX);
        let unreadable = good.replace("test-1:", "test-1");
        assert_eq!(Realisation::parse(&unreadable).unwrap().signatures, [], "it counts for nothing, and hides nothing");
        let long = " ".repeat(REALISATION_MAX + 1);
        let error = FormatError::TooLarge(REALISATION_MAX, "bytes");
        assert_eq!(Realisation::parse(&long), Err(error.clone()));
        assert_eq!(BuildTrace::parse(&long), Err(error));
    }

    proptest! {
        #[test]
        fn round_trip(
            ids in prop::collection::btree_map(any::<[u8; 32]>(), ("[a-z]{1,5}", any::<[u8; 20]>()), 1..5),
            algorithm in prop::sample::select(vec!["sha1", "sha256", "md5"]),
        ) {
            let dependent: BTreeMap<DrvOutput, StorePath> = ids
                .into_iter()
                .map(|(hash, (output, path))| {
                    let size = algorithm.parse::<crate::nix::hash::HashAlgorithm>().unwrap().size();
                    let id = format!("{algorithm}:{}!{output}", data_encoding::HEXLOWER.encode(&hash[..size]));
                    (id.parse().unwrap(), StorePath::new(StoreHash::new(path), &output).unwrap())
                })
                .collect();
            // In the order of the texts, or the signature would be over another one.
            prop_assert!(dependent.keys().map(ToString::to_string).is_sorted());
            let (id, out_path) = dependent.iter().next().map(|(id, path)| (id.clone(), path.clone())).unwrap();
            let realisation = Realisation { id, out_path, signatures: vec![SIGNATURE.parse().unwrap()], dependent };
            prop_assert_eq!(Realisation::parse(&realisation.render()).unwrap(), realisation);
        }
    }
}
