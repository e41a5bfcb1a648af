//! What the store knows about a path, from its database and from the daemon alike. The fields of a path info that nobody has
//! to believe are read leniently.

use crate::nix::{ContentAddress, PathInfo, Signature, StoreDir, StorePath};

/// How many signatures of one path are kept. Real paths have one or two.
const SIGNATURES_MAX: usize = 64;

/// A path that is in the store, with what the store knows about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidPath {
    /// What goes into a narinfo.
    pub info: PathInfo,
    /// When it was registered, in seconds since 1970.
    pub registration_time: u64,
    /// Whether it was built here: nobody else has to vouch for it.
    pub ultimate: bool,
}

/// The deriver, given as a full path or base name; an odd one (such as `unknown-deriver`) is none.
pub(super) fn deriver(dir: &StoreDir, text: &str) -> Option<StorePath> {
    dir.parse(text).or_else(|_| text.parse()).ok()
}

/// The signatures; one that is malformed can never count and is left out.
pub(super) fn signatures<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<Signature> {
    texts.filter_map(|text| text.parse().ok()).take(SIGNATURES_MAX).collect()
}

/// The content address; one of a kind that we do not know is as good as none.
pub(super) fn content_address(text: &str) -> Option<ContentAddress> {
    text.parse().ok()
}
