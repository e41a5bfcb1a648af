//! One NAR on its way from its sources to its readers.
//!
//! [`scheduler`] decides ([`events`] in, actions out), [`driver`] carries out: it opens sources ([`flight`]), puts the bytes together ([`assembly`]) for the readers
//! ([`fanout`]). [`registry`] knows which transfers are under way; [`memory`] is what they share.

pub(crate) mod assembly;
pub(crate) mod download_limit;
pub(crate) mod driver;
pub(crate) mod events;
pub(crate) mod fanout;
pub(crate) mod flight;
pub(crate) mod keeper;
pub(crate) mod memory;
pub(crate) mod min_rate;
pub(crate) mod ranking;
pub(crate) mod registry;
pub(crate) mod rest;
pub(crate) mod scheduler;
pub(crate) mod shared;
pub(crate) mod spool;
pub(crate) mod stall_timeout;
pub(crate) mod suspects;

#[cfg(test)]
mod tests;
