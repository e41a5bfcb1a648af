//! Several machines of one administrator have what was built on one of them, or pinned there: copies, spread by free disk.
//!
//! The machine that wants copies of a path asks other members to hold it ([`message`]), as [`plan`] decides; who holds one fetches it by its own
//! Nix, which checks signatures as always, and pins it ([`keeper`]). A member that leaves is replaced after a while. What both sides agreed on is
//! kept over restarts ([`ledger`]).
#![forbid(unsafe_code)]

mod handle;
mod keeper;
mod ledger;
pub mod message;
pub mod plan;

pub use handle::{Copies, CopiesOf, CopiesOptions};
pub use keeper::IsAvailable;
