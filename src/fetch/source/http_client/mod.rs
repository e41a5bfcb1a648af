//! The HTTP client of the upstreams: one for each, so that what is known of one's connections can be forgotten alone.
//!
//! * `client`: requests, and what becomes of them when their connection turns out to be dead. * `factory`: makes clients.
//! * `connector`: how a connection comes about, straight or by way of a proxy (`proxy`), over IPv6 or IPv4 (`resolver`).
//! * `link`: one connection, watched while it lives.

mod client;
mod connector;
mod factory;
mod link;
mod proxy;
mod resolver;

#[cfg(test)]
mod tests;

pub(crate) use client::{HEAD, HttpClient};
pub(crate) use factory::ClientFactory;
pub use proxy::{Proxies, is_proxy};
