//! Whether the name of a path follows from its content address.
//!
//! Source: the Nix manual, [store path specification](https://nix.dev/manual/nix/stable/protocols/store-path).

use super::content_address::{ContentAddress, Method};
use super::hash::{Hash, HashAlgorithm};
use super::{NarHash, PathInfo, StoreDir, StoreHash};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

impl PathInfo {
    /// Whether the path's own name proves this NAR hash and these references, so that no signature is needed.
    ///
    /// True only where the content address *is* the NAR hash; see [`ContentAddress::proves`].
    #[must_use]
    pub fn proves_itself(&self, store_dir: &StoreDir) -> bool {
        self.ca.as_ref().is_some_and(|ca| ca.proves(self, store_dir))
    }
}

impl ContentAddress {
    /// Whether `info`, as a path of `store_dir`, follows from this address *and* its NAR hash is the address.
    ///
    /// Only `fixed:r:sha256:` without a reference to itself can say so before the content is seen: there the address is
    /// the NAR hash. For the other methods the NAR hash would have to be believed, so they need a signature here, as
    /// everything else does. (Nix itself checks those addresses once it has the content.)
    #[must_use]
    pub fn proves(&self, info: &PathInfo, store_dir: &StoreDir) -> bool {
        let Self::Known { method, hash } = self else { return false };
        let is_nar_hash = *method == Method::Recursive && NarHash::try_from(hash) == Ok(info.nar_hash);
        is_nar_hash && !info.references.contains(&info.path) && self.names(info, store_dir)
    }

    /// Whether the hash part of `info.path` is the one that this address, the references and the name give.
    ///
    /// Unlike [`Self::proves`] this says nothing about the NAR hash. Never true of a kind that is not known.
    #[must_use]
    pub fn names(&self, info: &PathInfo, store_dir: &StoreDir) -> bool {
        let Self::Known { method, hash } = self else { return false };
        let is_fixed_output = |method: &str| {
            info.references.is_empty() && fixed_output_hash(method, hash, info, store_dir) == info.path.hash()
        };
        let mut kind = match method {
            Method::Text => "text".to_owned(),
            Method::Recursive if hash.algorithm() == HashAlgorithm::Sha256 => "source".to_owned(),
            Method::Flat => return is_fixed_output(""),
            Method::Recursive => return is_fixed_output("r:"),
            Method::Git => return is_fixed_output("git:"),
        };
        for reference in info.references.iter().filter(|reference| **reference != info.path) {
            // Writing to a String cannot fail.
            let _ = write!(kind, ":{}", store_dir.join(reference));
        }
        if info.references.contains(&info.path) {
            kind.push_str(":self");
        }
        make_store_hash(&kind, hash, store_dir, info.path.name()) == info.path.hash()
    }
}

/// The hash part of a fixed output that is not the usual recursive SHA-256.
fn fixed_output_hash(method: &str, hash: &Hash, info: &PathInfo, store_dir: &StoreDir) -> StoreHash {
    let inner = format!("fixed:out:{method}{}:{}:", hash.algorithm().name(), hash.to_base16());
    let inner = Hash::from(NarHash::new(Sha256::digest(inner).into()));
    make_store_hash("output:out", &inner, store_dir, info.path.name())
}

/// The hash part of `kind:hash:store:name`: its SHA-256, folded to 20 bytes.
fn make_store_hash(kind: &str, hash: &Hash, store_dir: &StoreDir, name: &str) -> StoreHash {
    let text = format!("{kind}:{}:{}:{store_dir}:{name}", hash.algorithm().name(), hash.to_base16());
    let mut folded = [0u8; 20];
    for (index, byte) in Sha256::digest(text).into_iter().enumerate() {
        folded[index % 20] ^= byte;
    }
    StoreHash::new(folded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(path: &str, nar_hash: &str, ca: &str, references: &[&str]) -> PathInfo {
        PathInfo {
            path: path.parse().unwrap(),
            nar_hash: nar_hash.parse().unwrap(),
            ca: Some(ca.parse().unwrap()),
            references: references.iter().map(|path| path.parse().unwrap()).collect(),
            ..PathInfo::example()
        }
    }

    /// Each line: path, NAR hash, content address, references; from `nix path-info --json` after `nix store add-path`,
    /// `nix store add-file`, `nix-store --add-fixed sha1`, `builtins.toFile` with and without a reference.
    fn golden() -> Vec<PathInfo> {
        include_str!("../../tests/golden/content-addressed.txt")
            .lines()
            .map(|line| {
                let mut fields = line.split(' ');
                let mut next = || fields.next().unwrap();
                let (path, nar_hash, ca) = (next(), next(), next());
                info(path, nar_hash, ca, &fields.collect::<Vec<_>>())
            })
            .collect()
    }

    #[test]
    fn paths_that_nix_named_follow_from_their_address() {
        let dir = StoreDir::default();
        let golden = golden();
        assert_eq!(golden.len(), 6);
        for info in golden {
            let ca = info.ca.clone().unwrap();
            assert!(ca.names(&info, &dir), "{info:?}");
            let proves = ca.to_string().starts_with("fixed:r:sha256:");
            assert_eq!(info.proves_itself(&dir), proves, "{info:?}");
            let elsewhere = StoreDir::new("/gnu/store").unwrap();
            assert!(!ca.names(&info, &elsewhere), "{info:?}");
        }
    }

    #[test]
    fn nothing_forged_proves_itself() {
        let dir = StoreDir::default();
        let honest = golden().into_iter().find(|info| info.proves_itself(&dir)).unwrap();
        let other_hash = PathInfo::example().nar_hash;
        let forgeries = [
            PathInfo { nar_hash: other_hash, ..honest.clone() },
            PathInfo { ca: Some(format!("fixed:r:{other_hash}").parse().unwrap()), ..honest.clone() },
            PathInfo {
                nar_hash: other_hash,
                ca: Some(format!("fixed:r:{other_hash}").parse().unwrap()),
                ..honest.clone()
            },
            PathInfo { references: PathInfo::example().references, ..honest.clone() },
            PathInfo { references: vec![honest.path.clone()], ..honest.clone() },
            PathInfo { ca: None, ..honest },
        ];
        for forged in forgeries {
            assert!(!forged.proves_itself(&dir), "{forged:?}");
        }
    }
}
