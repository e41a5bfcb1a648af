//! What is said over HTTP: which requests there are, and the forms of their answers. No sockets, no time, no limits.

pub mod body;
pub mod range;
pub mod reply;
pub mod routes;

pub(crate) mod host;
