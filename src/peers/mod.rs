//! Who is out there: the other machines with Peernix, what is known about them, and connections to them.
//!
//! [`discovery`] hears of machines and says so; one task for each (`presence`) reaches it, proves who it is, watches it and
//! notes what it finds in its `record`; [`Peers::candidates`] tells whom to ask, best first, and [`Peer::get`] asks.
//!
//! The files, lowest first; each uses only those before it:
//!
//! | | |
//! |---|---|
//! | `identity`, `state`, `error`, `node_key`, `index_state` | who a machine is, where it stands, what can go wrong |
//! | `hello`, `fleet/`, `membership`, `trusted_keys`, `narinfo_batch`, `holders`, `relays` | what machines tell each other, and who may take part |
//! | `link/` | connections, both ways |
//! | `discovery/` | who looks for peers: each sends sightings over one channel |
//! | `record/` | what is known about one peer |
//! | `peer`, `table`, `greet` | one peer, all of them, and how one is greeted |
//! | `presence` | the task that monitors one peer |
//! | `decisions`, `options` | what the administrator decided, and what this room is told at the start |
//! | `shared` | what the tasks share; takes the sightings in |
//! | `arrange` | who knows whom, anew when somebody comes or goes |
//! | `twin` | another machine with our key |
//! | `persistence` | what is remembered over restarts |
//! | `handle`, `administration`, `join` | what the rooms above use |
#![forbid(unsafe_code)]

mod administration;
mod arrange;
pub mod compression;
mod decisions;
pub mod discovery;
mod error;
pub mod fleet;
mod greet;
mod handle;
pub mod hello;
pub mod holders;
pub mod identity;
mod index_state;
mod join;
pub mod link;
pub mod measure;
pub mod membership;
pub mod narinfo_batch;
mod node_key;
mod options;
mod peer;
mod persistence;
mod presence;
mod record;
pub mod relays;
mod shared;
mod state;
mod table;
pub mod trusted_keys;
mod twin;

#[cfg(test)]
mod tests;

pub use administration::{Added, PING_LIMIT, PREFIX_MIN, Unseen};
pub use discovery::go_peernix::{self, GoPeernix};
pub use discovery::peerix::{self, Peerix};
pub use discovery::predecessor::Predecessor;
pub use discovery::{Discovery, FixedPeer, Mdns};
pub use error::{LinkError, PeersError};
pub use handle::Peers;
pub use identity::NodeId;
pub use index_state::{BadState, IndexState};
pub use link::Visitor;
pub use measure::Measured;
pub use membership::{Admission, Audience};
pub use node_key::{KEY_FILE, NodeKey, OLD_KEY_FILE};
pub use options::PeersOptions;
pub use peer::{Failure, Peer, Sample};
pub use record::{BanStatus, Block, PeerStatus};
pub use relays::Layout;
pub use state::{PeerEvent, Provenance, State, Troubles};
