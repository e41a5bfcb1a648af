//! Who may ask for how much and how long: listening, connections, their limits, their deadlines and their end.
//!
//! What a request means is the [`Handler`]'s business; what a request may be is decided here and is the same for every
//! listener: GET and HEAD only and no bodies, save where a [`Route`](super::Route) takes one, one `Host`, a path that is a [`Route`](super::Route).

pub mod limits;
pub mod listener;

mod caught;
mod connection;
mod deadline;
mod exchange;
mod marks;
mod multiplexed;
mod places;
mod request_rates;
mod serve;
mod serving;
mod tracked;
mod watch;

pub use listener::{Caller, Handler, Listener, Request};
