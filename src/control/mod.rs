//! What an administrator can do with the running service: one trait with plain types, and two thin front ends over it.
//!
//! [`Control`] is implemented three times: by the service itself, and by the clients that reach it over
//! D-Bus and over Varlink. So `peernixctl` does not know which bus it speaks on, and one suite of tests runs over both.
//! Who may do what is decided in front of the trait, by one table of [`Operation`]s: polkit is asked on D-Bus, and on Varlink
//! the socket that a client came to has answered.
//!
//! A file uses those before it only: `error`, `types`, `api`, `action`, `operation`, `events`, `jobs`, `service`, `dbus`, `varlink`.
#![forbid(unsafe_code)]

mod action;
mod api;
pub mod dbus;
mod error;
mod events;
mod jobs;
mod operation;
mod service;
#[cfg(test)]
#[path = "../../tests/support/stub_control.rs"]
pub(crate) mod stub;
mod types;
pub mod varlink;

pub use action::Action;
pub use api::{Control, Events, Feed, JobUpdates};
pub use error::{ControlError, ErrorKind, Outcome};
pub use events::{EVENTS_KEPT, EventLog};
pub use jobs::{JobHandle, JobOutcome, Jobs};
pub use operation::{Method, Operation};
pub use service::{Controller, Parts, Reloader, ServiceInfo, StateCell};
pub use types::*;
