//! [`Control`](super::Control) as the service itself does it: each question and each order goes to the room it concerns.
//!
//! A file uses those before it only: `state`, `controller`, the others, `follow`, `control`.

mod control;
mod controller;
mod describe;
mod fleet;
mod follow;
mod keys;
mod peers;
mod state;
mod statistics;
mod store;

pub use controller::{Controller, Parts};
pub use state::{Reloader, ServiceInfo, StateCell};
