//! Who downloads for the site: a NAR that no machine has is fetched from the Internet by one of them, and all others stream it from there.
//!
//! [`directory`] decides, without any input or output, [`order`] says which machine is the directory of which NAR, [`message`] is what is said.
//! [`handle`] asks and answers; to a transfer it is its [`site`], [`lease`] its place among the others, and [`tenure`] what they are told of it while it runs.

pub(crate) mod directory;
pub(crate) mod handle;
pub(crate) mod lease;
pub mod message;
pub mod order;
pub(crate) mod site;
pub(crate) mod tenure;

#[cfg(test)]
pub(crate) mod scripted;

pub use directory::{CHILDREN_MAX, Loss, Renewal, Role, Want, given_at_once};
