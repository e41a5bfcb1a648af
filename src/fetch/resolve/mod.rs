//! From a store hash to a verified path info and its sources.
//!
//! [`resolver`] asks; [`plan`] decides whom and when, [`race`] carries it out, [`verify`] says what of an answer counts, [`cache`]
//! remembers.

pub(crate) mod cache;
pub(crate) mod plan;
pub(crate) mod race;
pub(crate) mod resolution;
pub(crate) mod resolver;
pub(crate) mod responder;
pub(crate) mod source_report;
pub(crate) mod verify;

#[cfg(test)]
pub(crate) mod scripted;
#[cfg(test)]
mod tests;
