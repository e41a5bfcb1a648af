//! A path that somebody has, with all who are known to have it.

use super::source::Offer;
use super::upstream::Upstream;
use crate::nix::{Compression, PathInfo};
use parking_lot::Mutex;
use std::sync::Arc;

/// A path that somebody has.
pub struct Found {
    /// What is proved of it.
    pub info: PathInfo,
    /// Who has it: never empty, best first as far as known when they answered.
    offers: Mutex<Vec<Offer>>,
}

impl Found {
    pub(super) fn new(info: PathInfo, offer: Offer) -> Arc<Self> {
        Arc::new(Self { info, offers: Mutex::new(vec![offer]) })
    }

    /// Who has it, as far as known by now.
    pub(super) fn offers(&self) -> Vec<Offer> {
        self.offers.lock().clone()
    }

    /// The compression in which the NAR is given to Nix: as it is if a peer has it, else as the best upstream has it, with
    /// the length of that file in bytes, which nobody signs.
    #[must_use]
    pub fn representation(&self) -> (Compression, Option<u64>) {
        let as_it_is = (Compression::None, Some(self.info.nar_size));
        match self.offers().first() {
            Some(Offer::Upstream { compression, file_size, .. }) => (compression.clone(), *file_size),
            Some(Offer::Peer(_)) | None => as_it_is,
        }
    }

    /// What it takes of the memory of answers, in bytes.
    pub(super) fn weight(&self) -> u32 {
        let urls: usize = self
            .offers()
            .iter()
            .map(|offer| match offer {
                Offer::Upstream { url, .. } => url.len(),
                Offer::Peer(_) => 0,
            })
            .sum();
        let info = 96 * self.info.references.len() + 160 * self.info.signatures.len();
        u32::try_from(512 + urls + info).unwrap_or(u32::MAX)
    }

    /// Whether the first to answer was a peer.
    pub(super) fn is_from_peer(&self) -> bool {
        matches!(self.offers().first(), Some(Offer::Peer(_)))
    }

    /// Whether somebody can give the NAR in this compression. Uncompressed everybody can, by decoding if need be.
    pub(super) fn is_offered_in(&self, wanted: &Compression) -> bool {
        *wanted == Compression::None || !self.files_in(wanted).is_empty()
    }

    /// The files of upstreams that have the NAR in this compression.
    pub(super) fn files_in(&self, wanted: &Compression) -> Vec<(Arc<Upstream>, String)> {
        let file = |offer| match offer {
            Offer::Upstream { upstream, url, compression, .. } if compression == *wanted => Some((upstream, url)),
            _ => None,
        };
        self.offers().into_iter().filter_map(file).collect()
    }

    /// How long the NAR is in this compression, in bytes: signed if it is not compressed, else as an upstream says.
    pub(super) fn size_in(&self, wanted: &Compression) -> Option<u64> {
        if *wanted == Compression::None {
            return Some(self.info.nar_size);
        }
        self.offers().into_iter().find_map(|offer| match offer {
            Offer::Upstream { compression, file_size, .. } if compression == *wanted => file_size,
            _ => None,
        })
    }

    /// Adds all the sources of another lookup of the same path.
    pub(super) fn add_all(&self, other: &Self) {
        for offer in other.offers() {
            self.add(&other.info, offer);
        }
    }

    /// How many sources are known by now.
    pub(super) fn count(&self) -> usize {
        self.offers.lock().len()
    }

    pub(super) fn add(&self, info: &PathInfo, offer: Offer) {
        // Two caches may have signed different builds of one path; their NARs cannot be mixed.
        if (info.nar_hash, info.nar_size) == (self.info.nar_hash, self.info.nar_size) {
            let mut offers = self.offers.lock();
            if !offers.iter().any(|known| known.is_same_source(&offer)) {
                offers.push(offer);
            }
        }
    }
}
