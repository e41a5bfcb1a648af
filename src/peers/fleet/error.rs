//! What can go wrong with a fleet.

use super::pairing::PairingError;
use super::revocations::REVOKED_MAX;
use super::roster::Refusal;
use super::signed::FleetId;
use crate::peers::error::PeersError;

/// Why something could not be done with the fleet.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FleetError {
    /// This machine cannot sign for the fleet.
    #[error("this machine does not have the fleet key: do it on the one where 'peernixctl fleet init' was run")]
    NoKey,
    /// It founded a fleet before, or belongs to one.
    #[error("this machine belongs to the fleet {0} already")]
    AlreadyIn(FleetId),
    /// The configuration names another.
    #[error("[fleet] public_key is {configured}, and that is another fleet than {found}")]
    OtherFleet {
        /// Of the configuration.
        configured: FleetId,
        /// Of what was to be done.
        found: FleetId,
    },
    /// What was given is not what it should be.
    #[error("{0}")]
    Argument(String),
    /// What was given is no membership of this machine that is good now.
    #[error("that is no membership for this machine: {0}")]
    Membership(Refusal),
    /// There are as many revocations as there can be.
    #[error("no more than {REVOKED_MAX} machines can be revoked: found a new fleet")]
    TooMany,
    /// The exchange that a code opens came to nothing.
    #[error(transparent)]
    Pairing(#[from] PairingError),
    /// No machine that was asked takes the code.
    #[error(
        "none of {asked} machine(s) that could be asked invites by this code; name the one that does: peernixctl fleet join CODE HOST:PORT"
    )]
    NobodyInvites {
        /// How many were asked.
        asked: usize,
    },
    /// The machine that was named does not take the code.
    #[error("the machine at {place} does not invite by this code, or not any more")]
    DoesNotInvite {
        /// Where it is.
        place: String,
    },
    /// The machine that invites cannot be reached, or ends the exchange.
    #[error("the machine at {place}: {why}")]
    Unreachable {
        /// Where it is.
        place: String,
        /// What went wrong.
        why: String,
    },
    /// A file, or the kernel.
    #[error(transparent)]
    Peers(#[from] PeersError),
}
