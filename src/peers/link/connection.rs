//! One connection to a peer: requests, one at a time or many, and word when it ends.

use crate::peers::compression::COMPRESS_HEADER;
use crate::peers::error::LinkError;
use crate::peers::hello::{self, Greeting, Hello};
use crate::peers::identity::NodeId;
use crate::resilience::Way;
use bytes::Bytes;
use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::header::{ETAG, HOST, HeaderValue, IF_NONE_MATCH, RANGE, USER_AGENT};
use hyper::http::uri::{Authority, Scheme};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
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
/// How many requests an HTTP/2 connection carries before the other side has said how many it allows: what the share does allow.
const STREAMS_FIRST: usize = 32;
/// How many bytes of one answer may come over HTTP/2 before we have read them. Answers there are small.
const STREAM_WINDOW: u32 = 64 * 1024;
/// How many bytes of all answers together.
const CONNECTION_WINDOW: u32 = 256 * 1024;
/// How much is remembered of headers to abbreviate the next ones, in bytes.
const HEADER_TABLE: u32 = 4096;
/// The longest reason of a refusal that is read, in bytes.
const REASON_MAX: usize = 512;
/// What we call ourselves.
const AGENT: &str = concat!("peernix/", env!("CARGO_PKG_VERSION"));

/// A request as it is sent.
pub(super) type Message = Request<Full<Bytes>>;

/// What is asked of a peer. Whatever it is may be asked twice.
#[derive(Debug, Clone)]
pub(crate) enum Call<'a> {
    /// A GET for this path and query, from byte `from` on if given.
    Get { target: &'a str, from: Option<u64> },
    /// A GET for a NAR from byte `from` on, up to `end` if given; compressed, if the line is told with it ([`crate::peers::compression`]).
    Nar { target: &'a str, from: u64, end: Option<u64>, line: Option<u64> },
    /// A POST to this path.
    Post { target: &'a str, body: Bytes },
}

impl Call<'_> {
    /// The path, and the query if there is one.
    pub(crate) const fn target(&self) -> &str {
        match self {
            Self::Get { target, .. } | Self::Nar { target, .. } | Self::Post { target, .. } => target,
        }
    }

    /// The request to `id`. The host field is its id: the one name that a peer has.
    pub(super) fn to_message(&self, id: NodeId) -> Result<Message, LinkError> {
        let target = self.target();
        let malformed = || LinkError::Target(target.chars().take(100).flat_map(char::escape_default).collect());
        if !target.starts_with('/') || target.len() > TARGET_MAX {
            return Err(malformed());
        }
        let uri: Uri = target.parse().map_err(|_| malformed())?;
        let request = Request::builder().uri(uri).header(HOST, id.to_string()).header(USER_AGENT, AGENT);
        let request = match self {
            Self::Get { from: None, .. } => request.body(Full::default()),
            Self::Get { from: Some(from), .. } => request.header(RANGE, format!("bytes={from}-")).body(Full::default()),
            Self::Nar { from, end, line, .. } => {
                let request = match (*from, *end) {
                    (0, None) => request,
                    (from, None) => request.header(RANGE, format!("bytes={from}-")),
                    (from, Some(end)) => request.header(RANGE, format!("bytes={from}-{}", end.saturating_sub(1))),
                };
                match line {
                    Some(rate) => request.header(COMPRESS_HEADER, rate.to_string()),
                    None => request,
                }
                .body(Full::default())
            }
            Self::Post { body, .. } => request.method(Method::POST).body(Full::new(body.clone())),
        };
        request.map_err(|_| malformed())
    }
}

/// A connection whose two identities are proved.
pub(crate) struct Connection {
    id: NodeId,
    /// Another one for each connection of this program.
    number: u64,
    life: Life,
    sender: Sender,
    /// What it said last when it was greeted, with its entity tag.
    said: Option<Box<(HeaderValue, Hello)>>,
    /// The membership that it was shown.
    shown: Option<Arc<str>>,
}

/// The life of a connection, seen from outside.
#[derive(Clone)]
pub(crate) struct Life {
    /// Our end.
    local: SocketAddr,
    /// The other end.
    remote: SocketAddr,
    ended: CancellationToken,
    /// Ends it.
    close: CancellationToken,
}

impl Life {
    /// Of a connection between these two ends.
    pub(super) fn new(local: SocketAddr, remote: SocketAddr) -> Self {
        Self { local, remote, ended: CancellationToken::new(), close: CancellationToken::new() }
    }

    /// Whether a connection made now would take the same way; see [`Way`].
    pub(super) fn way(&self) -> Way {
        Way::of(self.local, self.remote)
    }

    /// Closes the connection, whatever it is at.
    pub(super) fn close(&self) {
        self.close.cancel();
    }

    /// Whether it is over.
    pub(super) fn is_over(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// Runs what moves the bytes of the connection, until that ends or [`Self::close`].
    fn drive<E>(&self, driver: impl Future<Output = Result<(), E>> + Send + 'static) {
        let (guard, close) = (self.ended.clone().drop_guard(), self.close.clone());
        tokio::spawn(async move {
            // Why it ended is told to whoever waits for a response; an idle connection has no one to tell.
            let _ = close.run_until_cancelled(driver).await;
            drop(guard);
        });
    }
}

/// The number of the next connection.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// What takes requests.
enum Sender {
    /// HTTP/1.1.
    Single(http1::SendRequest<Full<Bytes>>),
    /// HTTP/2. Clones send over the same connection, which ends when the last of them is gone and nothing is under way.
    Multiplexed(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    /// Takes over a stream after the TLS handshake, with a life that begins.
    pub(super) async fn new<S>(stream: S, id: NodeId, life: Life, multiplexed: bool) -> Result<Self, LinkError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let sender = if multiplexed {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder
                .initial_max_send_streams(STREAMS_FIRST)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .header_table_size(HEADER_TABLE)
                // Lossless: 16 KiB.
                .max_header_list_size(u32::try_from(HEAD_MAX).unwrap_or(u32::MAX));
            let (sender, driver) = builder.handshake(TokioIo::new(stream)).await?;
            life.drive(driver);
            Sender::Multiplexed(sender)
        } else {
            let mut builder = http1::Builder::new();
            builder.max_header_size(HEAD_MAX).max_headers(HEADERS_MAX);
            let (sender, driver) = builder.handshake(TokioIo::new(stream)).await?;
            life.drive(driver);
            Sender::Single(sender)
        };
        Ok(Self { id, number: NEXT.fetch_add(1, Relaxed), life, sender, said: None, shown: None })
    }

    /// The same connection for somebody else, if it carries many requests at a time.
    pub(super) fn share(&self) -> Option<Self> {
        let Sender::Multiplexed(sender) = &self.sender else { return None };
        let sender = Sender::Multiplexed(sender.clone());
        Some(Self { id: self.id, number: self.number, life: self.life.clone(), sender, said: None, shown: None })
    }

    /// Whether both are the same connection.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.number == other.number
    }

    /// Whether it carries many requests at a time.
    pub(super) const fn is_multiplexed(&self) -> bool {
        matches!(self.sender, Sender::Multiplexed(_))
    }

    /// Who is at the other end.
    pub(crate) const fn id(&self) -> NodeId {
        self.id
    }

    /// Where the other end is.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.life.remote
    }

    /// To watch it from outside.
    pub(super) const fn life(&self) -> &Life {
        &self.life
    }

    /// Waits until the connection has ended, whoever ended it.
    pub(crate) async fn ended(&self) {
        self.life.ended.cancelled().await;
    }

    /// Whether it has ended, as far as is known.
    pub(super) fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Single(sender) => sender.is_closed(),
            Sender::Multiplexed(sender) => sender.is_closed(),
        }
    }

    /// Waits until the response before is read to its end. False when the connection cannot be used again.
    pub(super) async fn is_reusable(&mut self) -> bool {
        match &mut self.sender {
            Sender::Single(sender) => sender.ready().await.is_ok(),
            Sender::Multiplexed(sender) => sender.ready().await.is_ok(),
        }
    }

    /// Sends a request and waits for the head of its response; tells how long that took.
    pub(super) async fn request(&mut self, request: Message) -> Result<(Response<Incoming>, Duration), LinkError> {
        let begun = Instant::now();
        let response = match &mut self.sender {
            Sender::Single(sender) => timeout(RESPONSE_LIMIT, sender.send_request(request)).await,
            Sender::Multiplexed(sender) => timeout(RESPONSE_LIMIT, sender.send_request(for_http_2(request))).await,
        };
        let elapsed = |_| LinkError::Time { step: "the head of a response", limit: RESPONSE_LIMIT };
        Ok((response.map_err(elapsed)??, begun.elapsed()))
    }

    /// Asks, and takes the answer as a whole, up to `most` bytes; `None` if the status is not 200.
    pub(crate) async fn ask(&mut self, call: Call<'_>, most: usize) -> Result<Option<Bytes>, LinkError> {
        let (response, _) = self.request(call.to_message(self.id)?).await?;
        if response.status() != StatusCode::OK {
            return Ok(None);
        }
        let body = Limited::new(response.into_body(), most).collect().await;
        Ok(Some(body.map_err(|_| LinkError::Hello("an answer is cut off, or too long"))?.to_bytes()))
    }

    /// Greets the other side with what `greeting` says, all of it within `limit`.
    pub(crate) async fn greet(&mut self, greeting: &Greeting, limit: Duration) -> Result<(Hello, Duration), LinkError> {
        let mut request = Call::Get { target: hello::TARGET, from: None }.to_message(self.id)?;
        let shows_membership = self.shown != greeting.membership;
        greeting.add_to(request.headers_mut(), shows_membership);
        if let Some(said) = &self.said {
            request.headers_mut().insert(IF_NONE_MATCH, said.0.clone());
        }
        let exchange = async {
            let (response, latency) = self.request(request).await?;
            match (response.status(), &self.said) {
                (StatusCode::OK, _) => {}
                (StatusCode::NOT_MODIFIED, Some(said)) => return Ok((said.1.clone(), latency)),
                (StatusCode::FORBIDDEN, _) => return Err(LinkError::Refused(reason(response.into_body()).await)),
                _ => return Err(LinkError::Hello("the status is not 200")),
            }
            let etag = response.headers().get(ETAG).filter(|etag| etag.len() <= hello::TEXT_MAX).cloned();
            let body = Limited::new(response.into_body(), hello::SIZE_MAX).collect().await;
            let body = body.map_err(|_| LinkError::Hello("cut off, or larger than 4096 bytes"))?.to_bytes();
            let hello = Hello::parse(&body)?;
            self.said = etag.map(|etag| Box::new((etag, hello.clone())));
            Ok((hello, latency))
        };
        let elapsed = |_| LinkError::Time { step: "a greeting", limit };
        let (hello, latency) = timeout(limit, exchange).await.map_err(elapsed)??;
        if hello.id != self.id {
            return Err(LinkError::Hello("another id than TLS proved"));
        }
        self.shown.clone_from(&greeting.membership);
        Ok((hello, latency))
    }
}

/// What a share says to one that it does not let in: a line of text.
async fn reason(body: Incoming) -> String {
    let text = Limited::new(body, REASON_MAX).collect().await.map(Collected::to_bytes).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.trim().chars().filter(|c| !hello::disturbing(*c)).collect()
}

/// The same request where the host is no header but a part of the target.
fn for_http_2(mut request: Message) -> Message {
    let host = request.headers_mut().remove(HOST);
    let authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let mut parts = request.uri().clone().into_parts();
    (parts.scheme, parts.authority) = (Some(Scheme::HTTPS), authority);
    // A node id is an authority, so that there is nothing to fail.
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    request
}
