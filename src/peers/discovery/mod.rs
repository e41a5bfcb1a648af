//! How machines find each other: announcements on the link, and addresses that the administrator wrote down.
//!
//! Whoever looks for peers knows nothing of what becomes of them: each sends what it finds, as a `Sighting`, over one
//! channel.

pub(super) mod fixed;
mod fixed_peer;
pub mod go_peernix;
mod interfaces;
mod link;
pub(super) mod mdns;
pub mod peerix;
pub mod predecessor;
mod sighting;

pub use fixed_peer::FixedPeer;
pub use mdns::Mdns;
pub(super) use sighting::{Sighting, Surroundings};

/// What is looked for, and where.
#[derive(Debug, Clone, Default)]
pub struct Discovery {
    /// Announce and browse by mDNS; `None` turns it off.
    pub mdns: Option<Mdns>,
    /// Peers that are dialled whatever is announced.
    pub fixed: Vec<FixedPeer>,
}
