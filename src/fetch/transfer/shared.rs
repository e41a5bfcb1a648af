//! What all transfers have in common: whom they tell, what they may take, and the place of this machine among the others.

use super::download_limit::DownloadLimit;
use super::memory::Memory;
use super::spool::Spools;
use super::suspects::Suspects;
use crate::fetch::activity::Activity;
use crate::fetch::blame::Blame;
use crate::fetch::claims::site::{Nobody, Site};
use crate::fetch::patch::bases::Bases;
use crate::fetch::pieces::tables::Tables;
use crate::fetch::promises::BrokenPromises;
use crate::metrics::Metrics;
use crate::nix::PathInfo;
use std::sync::Arc;

/// What all transfers share.
pub(crate) struct Shared {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) activity: Arc<Activity>,
    pub(crate) blame: Arc<Blame>,
    pub(crate) suspects: Suspects,
    pub(crate) promises: BrokenPromises,
    pub(crate) place: Place,
    pub(crate) pieces: Pieces,
    /// How fast NARs come.
    pub(crate) limit: DownloadLimit,
    /// Where NARs may come as what they differ in from what is here.
    pub(crate) bases: Option<Bases>,
}

/// How NARs come from several machines at once.
pub(crate) struct Pieces {
    /// From so many at most; with fewer than two from one at a time.
    pub(crate) most: usize,
    /// The tables of what came.
    pub(crate) tables: Tables,
    /// What all transfers may take together.
    pub(crate) memory: Memory,
}

/// Whether a path may be given to other machines.
pub type MayShare = Arc<dyn Fn(&PathInfo) -> bool + Send + Sync>;

/// The place of this machine among the others, which may want the same.
pub(crate) struct Place {
    /// The others.
    pub(crate) site: Arc<dyn Site>,
    /// What is kept for them.
    pub(crate) spools: Spools,
    /// Whether what comes of a path may be given to them.
    pub(crate) may_share: MayShare,
    /// Readers get nothing before all of it is there and right: what does not stay in memory is kept for them.
    pub(crate) whole: bool,
}

impl Place {
    /// There are no others.
    pub(crate) fn alone(spools: Spools, whole: bool) -> Self {
        Self { site: Arc::new(Nobody), spools, may_share: Arc::new(|_| false), whole }
    }
}
