//! One connection to a peer: a request at a time, and word when it ends.

use crate::nix::StoreHash;
use crate::peers::error::LinkError;
use crate::peers::hello::{self, Hello};
use crate::peers::identity::NodeId;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, RANGE, USER_AGENT};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// How long the head of a response may take once the request is sent. Whoever waits for one hedges long before.
const RESPONSE_LIMIT: Duration = Duration::from_secs(10);
/// The longest request target sent, in bytes: what the share accepts.
const TARGET_MAX: usize = 2048;
/// The largest head of a response, in bytes.
const HEAD_MAX: usize = 16 * 1024;
/// The most header fields in it.
const HEADERS_MAX: usize = 64;
/// What we call ourselves.
const AGENT: &str = concat!("peernix/", env!("CARGO_PKG_VERSION"));

/// A connection whose two identities are proved.
pub(crate) struct Connection {
    id: NodeId,
    address: SocketAddr,
    sender: SendRequest<Empty<Bytes>>,
    ended: CancellationToken,
}

impl Connection {
    /// Takes over a stream after the TLS handshake.
    pub(super) async fn new<S>(stream: S, id: NodeId, address: SocketAddr) -> Result<Self, LinkError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = http1::Builder::new();
        builder.max_header_size(HEAD_MAX).max_headers(HEADERS_MAX);
        let (sender, driver) = builder.handshake(TokioIo::new(stream)).await?;
        let ended = CancellationToken::new();
        let guard = ended.clone().drop_guard();
        tokio::spawn(async move {
            // Why it ended is told to whoever waits for a response; an idle connection has no one to tell.
            let _ = driver.await;
            drop(guard);
        });
        Ok(Self { id, address, sender, ended })
    }

    /// Who is at the other end.
    pub(crate) const fn id(&self) -> NodeId {
        self.id
    }

    /// Where the other end is.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the connection has ended, whoever ended it.
    pub(crate) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Whether it has ended, as far as is known.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Waits until the response before is read to its end. False when the connection cannot be used again.
    pub(super) async fn is_reusable(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }

    /// Sends a request and waits for the head of its response; tells how long that took.
    pub(super) async fn request(
        &mut self,
        request: Request<Empty<Bytes>>,
    ) -> Result<(Response<Incoming>, Duration), LinkError> {
        let begun = Instant::now();
        let response = timeout(RESPONSE_LIMIT, self.sender.send_request(request)).await;
        let elapsed = |_| LinkError::Time { step: "the head of a response", limit: RESPONSE_LIMIT };
        Ok((response.map_err(elapsed)??, begun.elapsed()))
    }

    /// Greets the other side, all of it within `limit`; `share_port` is where we can be called back, if at all, and `damaged`
    /// are paths of which what it sent was damaged.
    pub(crate) async fn greet(
        &mut self,
        share_port: u16,
        damaged: &[StoreHash],
        limit: Duration,
    ) -> Result<(Hello, Duration), LinkError> {
        let mut request = request(self.id, hello::TARGET, None)?;
        if share_port != 0 {
            request.headers_mut().insert(hello::SHARE_PORT_HEADER, share_port.into());
        }
        if let Some(damaged) = hello::damaged_value(damaged) {
            request.headers_mut().insert(hello::DAMAGED_HEADER, damaged);
        }
        let exchange = async {
            let (response, latency) = self.request(request).await?;
            if response.status() != StatusCode::OK {
                return Err(LinkError::Hello("the status is not 200"));
            }
            let body = Limited::new(response.into_body(), hello::SIZE_MAX).collect().await;
            let body = body.map_err(|_| LinkError::Hello("cut off, or larger than 4096 bytes"))?.to_bytes();
            Ok((Hello::parse(&body)?, latency))
        };
        let elapsed = |_| LinkError::Time { step: "a greeting", limit };
        let (hello, latency) = timeout(limit, exchange).await.map_err(elapsed)??;
        if hello.id != self.id {
            return Err(LinkError::Hello("another id than TLS proved"));
        }
        Ok((hello, latency))
    }
}

/// A GET request to `id`. The host field is its id: the one name that a peer has.
pub(super) fn request(id: NodeId, target: &str, range_from: Option<u64>) -> Result<Request<Empty<Bytes>>, LinkError> {
    let malformed = || LinkError::Target(target.chars().take(100).flat_map(char::escape_default).collect());
    if !target.starts_with('/') || target.len() > TARGET_MAX {
        return Err(malformed());
    }
    let uri: Uri = target.parse().map_err(|_| malformed())?;
    let mut request = Request::get(uri).header(HOST, id.to_string()).header(USER_AGENT, AGENT);
    if let Some(first) = range_from {
        request = request.header(RANGE, format!("bytes={first}-"));
    }
    request.body(Empty::new()).map_err(|_| malformed())
}
