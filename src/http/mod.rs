//! The cache protocol over HTTP: what the gateway (towards Nix) and the share (towards other machines) have in common,
//! and the two of them.
//!
//! A request goes [`server`] (connections, their limits and time) → [`routes`] (its path becomes a [`Route`]) → a face,
//! which answers with a [`Body`] by the forms in [`reply`]. Everything that arrives here was sent by strangers.
#![forbid(unsafe_code)]

pub mod body;
pub mod drain;
pub mod gateway;
pub mod limits;
pub mod metrics;
pub mod range;
pub mod reply;
pub mod routes;
pub mod server;
pub mod share;
pub mod throttle;
pub mod turns;

mod connection;
mod error;
mod host;
mod seats;
mod seldom;
mod watch;

pub use body::Body;
pub use drain::{Drain, Draining};
pub use error::HttpError;
pub use limits::{Limits, WhenFull};
pub use metrics::HttpMetrics;
pub use routes::Route;
pub use server::{Caller, Face, Handler, Request};
pub use share::{Explanation, Share, ShareFace, ShareOptions};
