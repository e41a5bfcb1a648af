//! What Nix knows about a valid path, apart from its content.

use super::{ContentAddress, NarHash, Signature, StoreDir, StorePath};

/// The metadata of a store path. A signature covers path, hash, size and references, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathInfo {
    /// The path itself.
    pub path: StorePath,
    /// The SHA-256 of its NAR.
    pub nar_hash: NarHash,
    /// The length of its NAR in bytes, never zero.
    pub nar_size: u64,
    /// The paths it refers to, itself included if so; sorted, without repetition.
    pub references: Vec<StorePath>,
    /// The derivation that built it. Nobody signs this.
    pub deriver: Option<StorePath>,
    /// Signatures, not verified.
    pub signatures: Vec<Signature>,
    /// How its name follows from its content, if it does. Nobody signs this either, but it can prove itself.
    pub ca: Option<ContentAddress>,
}

impl PathInfo {
    /// The text that is signed: `1;path;sha256:hash;size;references`, all paths in full.
    ///
    /// Source: `ValidPathInfo::fingerprint` as documented in the Nix manual.
    #[must_use]
    pub fn fingerprint(&self, store_dir: &StoreDir) -> String {
        let references: Vec<String> = self.references.iter().map(|path| store_dir.join(path)).collect();
        format!("1;{};{};{};{}", store_dir.join(&self.path), self.nar_hash, self.nar_size, references.join(","))
    }

    /// A path info for tests, the same as in `tests/golden`.
    #[cfg(test)]
    pub(crate) fn example() -> Self {
        Self {
            path: "7cs5xzrnw5p6mdmr7ym2qhg320xn66fi-hello-2.12.1".parse().expect("a path"),
            nar_hash: "sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73".parse().expect("a hash"),
            nar_size: 112,
            references: vec!["0c0v3hcwdw9p9hm1kxnlc8wj8fqx2hjd-glibc-2.40".parse().expect("a path")],
            deriver: None,
            signatures: vec![],
            ca: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_those_of_nix() {
        let dir = StoreDir::default();
        let info = PathInfo::example();
        assert_eq!(
            info.fingerprint(&dir),
            "1;/nix/store/7cs5xzrnw5p6mdmr7ym2qhg320xn66fi-hello-2.12.1;\
             sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73;112;\
             /nix/store/0c0v3hcwdw9p9hm1kxnlc8wj8fqx2hjd-glibc-2.40"
        );
        let lonely = PathInfo { references: vec![], ..info };
        assert!(lonely.fingerprint(&dir).ends_with(";112;"));
    }
}
