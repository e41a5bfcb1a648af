//! The sources of one transfer: in which order they are tried, how often, and when to look for more.

use super::error::SourceError;
use super::source::Offer;
use crate::peers::{NodeId, State};
use std::collections::HashMap;
use std::time::Duration;

/// How often one source may fail a transfer before it is out of it.
const CHANCES: u32 = 3;
/// How long before a source that has failed is tried again: this, four times this.
const PAUSE: Duration = Duration::from_millis(100);

/// The sources of one transfer.
pub(super) struct Candidates {
    all: Vec<Candidate>,

    last_error: String,
    /// Peers that had a part in wrong content of this NAR, and how often.
    suspects: HashMap<NodeId, u32>,
}

struct Candidate {
    offer: Offer,
    failures: u32,
}

/// A source to try now.
pub(super) struct Choice {
    pub(super) index: usize,
    pub(super) offer: Offer,
    /// To wait before it is tried.
    pub(super) pause: Duration,
    /// It has not failed this transfer yet.
    pub(super) is_fresh: bool,
}

impl Candidates {
    pub(super) fn new(offers: Vec<Offer>, suspects: HashMap<NodeId, u32>) -> Self {
        let last_error = "nobody has it".to_owned();
        let mut candidates = Self { all: Vec::new(), last_error, suspects };
        candidates.extend(offers);
        candidates
    }

    /// Adds sources that are not known yet: peers in front of upstreams by their order in [`Self::choose`].
    pub(super) fn extend(&mut self, offers: Vec<Offer>) {
        for offer in offers {
            if !self.all.iter().any(|candidate| candidate.offer.is_same_source(&offer)) {
                self.all.push(Candidate { offer, failures: 0 });
            }
        }
    }

    /// The best source to go on at `offset`: least failures, then peers by how fast they are, then upstreams.
    pub(super) fn choose(&self, offset: u64) -> Option<Choice> {
        let usable = |(_, candidate): &(usize, &Candidate)| candidate.failures < CHANCES && candidate.offer.is_usable();
        let rank = |(_, candidate): &(usize, &Candidate)| {
            let (class, latency) = match &candidate.offer {
                Offer::Peer(peer) if peer.state() == State::Online => (0, peer.latency()),
                Offer::Peer(peer) => (1, peer.latency()),
                Offer::Upstream { .. } => (2, None),
            };
            // Decoding a file from its start is the last resort: a source that failed once is tried again before.
            let detour = u32::from(offset > 0 && !candidate.offer.can_begin_anywhere());
            let suspicion = self.suspicion(&candidate.offer);
            (suspicion, candidate.failures + detour, class, latency.unwrap_or(Duration::MAX))
        };
        let (index, candidate) = self.all.iter().enumerate().filter(usable).min_by_key(rank)?;
        let pause = match candidate.failures {
            0 => Duration::ZERO,
            failures => PAUSE.saturating_mul(4u32.saturating_pow(failures - 1)),
        };
        let is_fresh = candidate.failures == 0;
        Some(Choice { index, offer: candidate.offer.clone(), pause, is_fresh })
    }

    /// Whether another source than `index` could go on at `offset` without a detour.
    pub(super) fn has_other(&self, index: usize, offset: u64) -> bool {
        let fit = |(other, candidate): (usize, &Candidate)| {
            other != index
                && candidate.failures == 0
                && candidate.offer.is_usable()
                && (offset == 0 || candidate.offer.can_begin_anywhere())
        };
        self.all.iter().enumerate().any(fit)
    }

    /// Notes that `index` failed. A lie is the end of its part; a stall costs two chances, because it costs time.
    pub(super) fn failed(&mut self, index: usize, error: &SourceError) {
        self.last_error = format!("{}: {error}", self.all[index].offer);
        self.all[index].failures += match error {
            SourceError::Lie(_) | SourceError::Status(_) | SourceError::Decode(_) => CHANCES,
            SourceError::Stalled(_) => 2,
            _ => 1,
        };
    }

    /// Notes that `index` has carried the transfer a good way: what it failed before is forgiven.
    pub(super) fn progressed(&mut self, index: usize) {
        self.all[index].failures = 0;
    }

    /// How often a peer has had a part in wrong content of this NAR of which nobody knows who sent it.
    pub(super) fn suspicion(&self, offer: &Offer) -> u32 {
        let Offer::Peer(peer) = offer else { return 0 };
        self.suspects.get(&peer.id()).copied().unwrap_or_default()
    }

    /// Notes that a source is to blame for wrong content.
    pub(super) fn banish(&mut self, offer: &Offer, error: &SourceError) {
        if let Some(index) = self.all.iter().position(|candidate| candidate.offer.is_same_source(offer)) {
            self.failed(index, error);
        }
    }

    /// What happened last.
    pub(super) fn last_error(&self) -> String {
        self.last_error.clone()
    }
}
