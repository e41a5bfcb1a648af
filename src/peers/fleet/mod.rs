//! The machines of one administrator: a fleet key says of each that it is a member, for how long, and who is none any more.
//!
//! The fleet key signs two kinds of text and nothing else: a [`Membership`] for each machine, which it shows with its greetings, and a
//! list of revocations, which members pass on to each other. Its secret half is on one machine, or in a credential of its service. That
//! machine lets others in: by a short code that is good for one of them, for a minute and for three tries ([`pairing`]), or by a
//! membership that an administrator carries over.
//!
//! The files, lowest first; each uses only those before it:
//!
//! | | |
//! |---|---|
//! | `signed` | the fleet key, and what it signs as it is written |
//! | `membership`, `revocations` | the two texts |
//! | `roster` | who is a member now and who is not, and why: without any input or output |
//! | `pairing` | the code, and both sides of the exchange that it opens |
//! | `messages` | what is told and asked, as JSON |
//! | `stored` | the files in the state directory |
//! | `error` | what can go wrong |
//! | `handle` | all of it, for the rooms |

mod error;
mod handle;
pub(super) mod membership;
pub(super) mod messages;
pub mod pairing;
pub(super) mod revocations;
pub(super) mod roster;
pub(super) mod signed;
mod stored;

pub use error::FleetError;
pub use handle::{Enrolment, Fleet, FleetOptions, FleetView, Invited};
pub use membership::{MEMBERSHIP_MAX, Membership, Role};
pub use messages::PairingReply;
pub use roster::Refusal;
pub use signed::{FleetId, FleetKey};

/// The request target of what a member tells others of its fleet.
pub const TARGET: &str = "/peernix/v1/fleet";
/// The request target of the exchange that a code opens.
pub const PAIR_TARGET: &str = "/peernix/v1/pair";
/// The largest document at [`TARGET`], in bytes.
pub const DOCUMENT_MAX: usize = revocations::TOKEN_MAX + MEMBERSHIP_MAX + 256;
/// The largest request and answer of [`PAIR_TARGET`], in bytes. The last answer has all that a new member has to know.
pub const PAIR_REQUEST_MAX: usize = 1024;
/// See [`PAIR_REQUEST_MAX`].
pub const PAIR_ANSWER_MAX: usize = DOCUMENT_MAX;
/// The feature of those who have the fleet key, and so renew memberships.
pub const ENROLS: &str = "fleet-key";
