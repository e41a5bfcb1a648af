//! Machines that send one NAR together, and what is known of it.

use super::table::PieceTable;
use crate::fetch::activity::Trace;
use crate::fetch::blame::Blame;
use crate::fetch::source::{NarId, Source};
use crate::metrics::Metrics;
use crate::nix::StorePath;
use std::sync::Arc;

/// Machines that tell the same table of a NAR.
pub(crate) struct Group {
    pub(crate) nar: NarId,
    pub(crate) path: StorePath,
    /// How many pieces it has.
    pub(crate) count: u32,
    /// What the members say is its table.
    pub(crate) table: PieceTable,
    pub(crate) members: Vec<Arc<dyn Source>>,
    /// Who told another table: they are wrong if the members are right.
    pub(crate) liars: Vec<Arc<dyn Source>>,
    pub(crate) blame: Arc<Blame>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) trace: Arc<Trace>,
}
