//! What is told to this room from outside.

use super::discovery::Discovery;
use super::fleet::Fleet;
use super::membership::Admission;
use crate::nix::TrustedKeys;
use crate::resilience::Versioned;
use std::path::PathBuf;
use tokio::sync::watch;

/// What `Peers::start` is told.
#[derive(Debug, Clone, Default)]
pub struct PeersOptions {
    /// This machine's name for people to read, usually its host name.
    pub name: String,
    /// The site that this machine is of (`[nats] site`); empty: of none.
    pub site: String,
    /// The port that the share listens on, 0 when nothing is shared.
    pub share_port: u16,
    /// Whether this machine relays where there are many, see [`super::relays`].
    pub relay: bool,
    /// Whether this machine agrees with others on who downloads what.
    pub claims: bool,
    /// Whether this machine gives NARs in pieces that are proved one by one.
    pub pieces: bool,
    /// Whether this machine holds copies for other members.
    pub copies: bool,
    /// Whether this machine sends what NARs differ in from others.
    pub patches: bool,
    /// Whether NARs are wanted compressed where the line is slow.
    pub compression: bool,
    /// Who may take part.
    pub admission: Admission,
    /// The fleet of this machine, whoever may take part; `None`: it belongs to none and cannot join one.
    pub fleet: Option<Fleet>,
    /// Where `peers.json` is kept; `None` remembers nothing.
    pub state_dir: Option<PathBuf>,
    /// How peers are found.
    pub discovery: Discovery,
    /// The keys whose signatures are accepted here, as they change; peers are told their names with each request, see
    /// [`super::trusted_keys`].
    pub trusted_keys: Versioned<TrustedKeys>,
    /// What `Peers::export` of the run before gave, if it was kept; better than what `peers.json` says.
    pub handover: Option<Vec<u8>>,
    /// Moves when the network changes (`system::network::watch`); `None` when nobody watches it.
    pub network: Option<watch::Receiver<u64>>,
    /// Changes when connections and failures of before count no more (`system::moves::watch`), and counts wake-ups.
    pub moves: Option<watch::Receiver<u64>>,
}
