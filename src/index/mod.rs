//! Who has what: each machine tells its peers which paths it offers, and how that changes, so that a question for a path that nobody has
//! costs no packet, and one that somebody has goes to that one.
//!
//! * [`entry`]: what stands for a path; [`set`]: many of them as bytes; [`update`]: what one machine tells another;
//!   [`entries`]: sets that have much in common, in little memory.
//! * [`log`]: what this machine offers, and what changed. * [`view`]: what the others offer; [`claims`]: whether they have it.
//!   [`union`]: what several have between them.
//! * [`handle`]: what the rooms above ask and tell; [`relay`]: the union, where this machine relays;
//!   [`sync`]: keeps the view in step with the peers, and tells the union.
//!
//! All but the last two lines decide without any input or output.
#![forbid(unsafe_code)]

mod claims;
mod entries;
mod entry;
mod error;
mod handle;
mod log;
mod relay;
mod set;
mod sync;
mod union;
mod update;
mod view;

pub(crate) use claims::Claims;
pub use claims::Verdict;
pub use entries::Bases;
pub use entry::{Entry, Salt};
pub use error::IndexError;
pub use handle::{Index, Told};
pub use log::Log;
pub use set::ENTRIES_MAX;
pub use sync::{TARGET, Whose, target};
pub use union::Union;
pub use update::{UPDATE_MAX, Update};
#[cfg(test)]
pub(crate) use view::told_together;
pub use view::{Says, Set, SetStatus, View};
