//! The way to one peer, whatever is under it.

use super::connection::{Call, Connection};
use crate::peers::error::LinkError;
use hyper::Response;
use hyper::body::Incoming;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

/// An answer that will come, or an error.
pub(crate) type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, LinkError>> + Send + 'a>>;

/// Carries requests to one peer, at any of its addresses (the best first), and keeps connections for the next ones.
pub(crate) trait Transport: Send + Sync {
    /// Asks. Gives the head of the response, and how long it took once the request was sent.
    fn request<'a>(
        &'a self,
        call: Call<'a>,
        addresses: &'a [SocketAddr],
    ) -> Pending<'a, (Response<Incoming>, Duration)>;

    /// Makes a connection that carries no other requests, unless it is adopted.
    fn dial<'a>(&'a self, addresses: &'a [SocketAddr]) -> Pending<'a, Connection>;

    /// Lets small requests go over a connection that was dialled, which is watched by whoever dialled it. One that carries one
    /// request at a time stays theirs.
    fn adopt(&self, connection: &Connection);

    /// Closes what was kept too long, and forgets what the other side closed.
    fn purge(&self);

    /// Closes every connection without use.
    fn clear(&self);

    /// The network changed, or (with `woke`) the machine slept: closes connections whose address is gone, and those without use
    /// that may be dead.
    fn network_changed(&self, woke: bool);
}
