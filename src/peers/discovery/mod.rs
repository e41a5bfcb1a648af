//! How machines find each other: announcements on the link, and addresses that the administrator wrote down.

pub(super) mod fixed;
pub(super) mod mdns;
mod on_link;

pub use fixed::FixedPeer;
pub use mdns::Mdns;

/// What is looked for, and where.
#[derive(Debug, Clone, Default)]
pub struct Discovery {
    /// Announce and browse by mDNS; `None` turns it off.
    pub mdns: Option<Mdns>,
    /// Peers that are dialled whatever is announced.
    pub fixed: Vec<FixedPeer>,
}
