//! The service on D-Bus: `org.peernix.Peernix1`, and the client that reaches it there.
//!
//! Methods only translate to [`Control`](super::Control); polkit decides who may call those that change something. The bus is
//! a guest: the service runs without it, and when it goes away and comes back, so do the objects.
//!
//! A file uses those before it only. What both sides have: `paths`, `bus`, `dict`, `errors`, `methods`, `stream`. The service:
//! `options`, `polkit`, `access`, `model`, `object`, `peer`, `key`, `job`, `log_control`, `signals`, `objects`, `subscribers`, `manager`,
//! `serve`. The client: `owner`, `call`, `feed`, `client`.

mod access;
mod bus;
mod call;
mod client;
mod dict;
mod errors;
mod feed;
mod job;
mod key;
mod log_control;
mod manager;
mod methods;
mod model;
mod object;
mod objects;
mod options;
mod owner;
mod paths;
mod peer;
mod polkit;
mod serve;
mod signals;
mod stream;
mod subscribers;

pub use bus::{BUS_NAME, Bus};
pub use client::Client;
pub use methods::METHODS;
pub use owner::wait_for_service;
pub use serve::{Service, serve};
pub use subscribers::{SUBSCRIBERS_MAX, SUBSCRIBERS_PER_USER};
