//! `org.peernix.Peernix1.Manager`: the service as a whole, and what can be done with it.
//!
//! `interface` says what there is; what a method does is in the file that stands behind its name.

mod fleet;
mod interface;
mod jobs;
mod keys;
mod peers;
mod request;
mod service;
mod store;

pub(super) use interface::Manager;
pub(super) use request::Backend;
