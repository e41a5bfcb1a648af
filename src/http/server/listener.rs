//! What listens, and what it is asked.

use super::limits::Limits;
use crate::http::protocol::body::Body;
use crate::http::protocol::routes::Route;
use crate::metrics::HttpMetrics;
use crate::peers::NodeId;
use crate::peers::link::Acceptor;
use bytes::Bytes;
use hyper::{HeaderMap, Response};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Its address; an IPv4 address is always written as one.
    pub address: SocketAddr,
    /// The node key that it proved to hold, on a TLS listener.
    pub node: Option<NodeId>,
}

/// A request that passed the checks which are the same everywhere.
#[derive(Debug)]
pub struct Request {
    /// What is asked for.
    pub route: Route,
    /// Whether it is a HEAD. The handler may answer as to a GET (the body is dropped and its length kept), but may also
    /// spare itself the work with [`Body::announced`].
    pub head: bool,
    /// The headers.
    pub headers: HeaderMap,
    /// What came with it: empty but for a POST.
    pub body: Bytes,
    /// Who asks.
    pub caller: Caller,
}

/// What answers requests.
pub trait Handler: Send + Sync + 'static {
    /// Answers `request`. When the client goes away the future is dropped. A panic is logged and answered with 404.
    fn answer(&self, request: Request) -> impl Future<Output = Response<Body>> + Send;
}

/// What answers on a socket, and within which limits.
pub struct Listener<H> {
    /// What answers.
    pub handler: Arc<H>,
    /// What it allows.
    pub limits: Limits,
    /// What it counts.
    pub metrics: Arc<HttpMetrics>,
    /// How connections are secured, if they are.
    pub tls: Option<Acceptor>,
    /// Whether a request has to name this machine itself as its `Host`: an address or `localhost`. Then no web page can
    /// reach a listener on loopback through a name of its own that it lets point here (DNS rebinding).
    pub local_only: bool,
}
