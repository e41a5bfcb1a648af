//! From a store hash to a verified path info and its sources.
//!
//! [`resolver`] asks; [`plan`] decides whom and when, [`race`] carries it out, [`retries`] says when an upstream is asked again,
//! [`verify`] says what of an answer counts, [`cache`] remembers, within an [`era`]. Those who are asked are each a [`responder`]; what is
//! asked of one peer at the same time goes together ([`batches`]), and one machine asks upstreams for all ([`upstream_narinfos`]).

pub(crate) mod batches;
pub(crate) mod cache;
pub(crate) mod era;
pub(crate) mod exchanges;
mod peer_responder;
pub(crate) mod plan;
mod predecessor_responder;
pub(crate) mod race;
pub(crate) mod relay_responder;
pub(crate) mod resolution;
pub(crate) mod resolver;
pub(crate) mod responder;
pub(crate) mod retries;
pub(crate) mod site_responder;
pub(crate) mod source_report;
pub(crate) mod surroundings;
pub(crate) mod upstream_narinfos;
mod upstream_responder;
pub(crate) mod verify;

#[cfg(test)]
pub(crate) mod scripted;
#[cfg(test)]
mod tests;
