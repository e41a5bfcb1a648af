//! The cache protocol over HTTP: what the gateway (towards Nix) and the share (towards other machines) have in common,
//! and the two of them.
//!
//! A request goes [`server`] (connections, their limits and time) → [`protocol::routes`] (its path becomes a [`Route`]) → a
//! [`Handler`], which answers with a [`Body`] by the forms in [`reply`]. Everything that arrives here was sent by strangers.
//!
//! The files, each using only those before it:
//!
//! * `error`;
//! * [`protocol`], what is said: [`routes`], [`range`], [`body`](protocol::body), [`reply`], `host`;
//! * [`server`], to whom, how much and how long: [`limits`](server::limits), [`listener`](server::listener) (its types),
//!   `connection_limit`, `caught`, `deadline`, `watch`, `tracked`, `exchange`, `connection`, `serve`;
//! * [`drain`];
//! * [`gateway`]: `narinfo`, `nar`, `documents`, `status`, and before them all which route is whose;
//! * [`share`]: `throttle`, `upload_slots`, `upload`, `known`, `rules`, `core`, and then as in the gateway.
#![forbid(unsafe_code)]

pub mod drain;
pub mod gateway;
pub mod protocol;
pub mod server;
pub mod share;

mod error;

pub use drain::{Drain, Draining};
pub use error::HttpError;
pub use gateway::{Asked, Pages};
pub use protocol::body::Body;
pub use protocol::routes::{PagePart, Route};
pub use protocol::{range, reply, routes};
pub use server::limits::{Limits, WhenFull};
pub use server::{Caller, Handler, Listener, Request};
pub use share::{Explanation, Share, ShareCompression, ShareEvent, ShareHandler, ShareOptions};
