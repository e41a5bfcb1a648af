//! An HTTP server that does exactly what it is told, byte by byte, right or wrong: what liars and failing caches are made of.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};

/// A request, as far as anybody here cares.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    /// The N of `Range: bytes=N-`.
    pub(crate) range_from: Option<u64>,
    /// The last byte of that range, if it has one.
    pub(crate) range_end: Option<u64>,
}

/// What to send back.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    /// 0 for none: the connection ends, in the way of `end`, without a head.
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
    /// What Content-Length says when that is not the length of `body`.
    pub(crate) claimed_length: Option<u64>,
    /// How the reader learns where the body ends.
    pub(crate) framing: Framing,
    /// Wait before the head.
    pub(crate) delay: Duration,
    /// Send so many bytes of the body, then wait so long, and so on.
    pub(crate) rate: Option<(usize, Duration)>,
    pub(crate) end: End,
}

/// How a body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// By Content-Length.
    Length,
    /// In chunks.
    Chunked,
    /// By the end of the connection.
    UntilClose,
}

/// What happens after the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The next request, please.
    KeepAlive,
    /// The connection closes.
    Close,
    /// The connection is reset.
    Reset,
    /// Nothing ever happens again.
    Stall,
}

impl Reply {
    /// An ordinary answer.
    pub(crate) fn new(status: u16, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            headers: vec![],
            body: body.into(),
            claimed_length: None,
            framing: Framing::Length,
            delay: Duration::ZERO,
            rate: None,
            end: End::KeepAlive,
        }
    }

    /// With one more header.
    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// `content` as a file is served: the whole, or from the offset that was asked for.
    pub(crate) fn file(request: &Request, content: &Bytes) -> Self {
        let size = content.len() as u64;
        match request.range_from {
            Some(from) if from < size => {
                let end = request.range_end.map_or(size, |last| last.saturating_add(1).min(size)).max(from + 1);
                let at = |byte| usize::try_from(byte).unwrap_or(usize::MAX);
                Self::new(206, content.slice(at(from)..at(end)))
                    .header("Content-Range", format!("bytes {from}-{}/{size}", end - 1))
                    .header("Accept-Ranges", "bytes")
            }
            Some(_) => Self::new(416, "").header("Content-Range", format!("bytes */{size}")),
            None => Self::new(200, content.clone()).header("Accept-Ranges", "bytes"),
        }
    }
}

/// Decides what is sent; shared by all connections.
pub(crate) type Respond = Arc<dyn Fn(&Request) -> Reply + Send + Sync>;

/// What was asked for, in order: `METHOD target` each.
#[derive(Clone, Default)]
pub(crate) struct Asked(Arc<Mutex<VecDeque<String>>>);

impl Asked {
    fn note(&self, request: &Request) {
        let mut list = self.0.lock();
        let range = request.range_from.map(|from| format!(" from {from}")).unwrap_or_default();
        list.push_back(format!("{} {}{range}", request.method, request.target));
    }

    /// How many requests contained this text.
    pub(crate) fn count(&self, text: &str) -> usize {
        self.0.lock().iter().filter(|line| line.contains(text)).count()
    }

    /// Everything so far.
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().iter().cloned().collect()
    }
}

/// The thread that all these servers live on. Dropping it ends them and their connections.
pub(crate) struct Servers {
    runtime: Option<tokio::runtime::Runtime>,
}

impl Servers {
    pub(crate) fn new() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Ok(Self { runtime: Some(runtime) })
    }

    /// Serves plain HTTP on a listener, wherever that was bound.
    pub(crate) fn plain(&self, listener: TcpListener, respond: Respond) -> Result<Asked> {
        let asked = Asked::default();
        let log = asked.clone();
        self.accept(listener, move |mut stream| {
            let (respond, log) = (Arc::clone(&respond), log.clone());
            async move {
                if serve(&mut stream, respond, log).await? == End::Reset {
                    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
                }
                Ok(())
            }
        })?;
        Ok(asked)
    }

    /// Serves HTTPS on a listener, as from a place so far away: see [`crate::distance`].
    pub(crate) fn distant(
        &self,
        listener: TcpListener,
        tls: Arc<rustls::ServerConfig>,
        round_trip: Duration,
        respond: Respond,
    ) -> Result<Asked> {
        let asked = Asked::default();
        let log = asked.clone();
        let acceptor = tokio_rustls::TlsAcceptor::from(tls);
        self.accept(listener, move |stream| {
            let (acceptor, respond, log) = (acceptor.clone(), Arc::clone(&respond), log.clone());
            async move {
                let stream = acceptor.accept(crate::distance::away(stream, round_trip)).await?;
                serve(stream, respond, log).await.map(drop)
            }
        })?;
        Ok(asked)
    }

    /// Runs `connection` for every connection to a listener.
    pub(crate) fn accept<F>(
        &self,
        listener: TcpListener,
        connection: impl Fn(tokio::net::TcpStream) -> F + Send + 'static,
    ) -> Result<()>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let runtime = self.runtime.as_ref().context("it runs until it is dropped")?;
        listener.set_nonblocking(true)?;
        let _inside = runtime.enter();
        let listener = tokio::net::TcpListener::from_std(listener)?;
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                // Clients that go away are part of the tests.
                tokio::spawn(connection(stream));
            }
        });
        Ok(())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Its sockets are closed when this returns.
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }
}

/// Answers the requests of one connection, one after the other, and says how it is to end.
pub(crate) async fn serve<S>(stream: S, respond: Respond, asked: Asked) -> Result<End>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mut stream = BufReader::new(stream);
    while let Some(request) = read_request(&mut stream).await? {
        asked.note(&request);
        let reply = respond(&request);
        match send(&mut stream, &request, &reply).await? {
            End::KeepAlive => {}
            End::Close => break,
            End::Reset => return Ok(End::Reset),
            End::Stall => std::future::pending::<()>().await,
        }
    }
    stream.shutdown().await?;
    Ok(End::Close)
}

async fn read_request<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> Result<Option<Request>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let method = words.next().context("no method")?.to_owned();
    let target = words.next().context("no target")?.to_owned();
    let (mut range_from, mut range_end) = (None, None);
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 || line.trim_end().is_empty() {
            return Ok(Some(Request { method, target, range_from, range_end }));
        }
        let lower = line.to_ascii_lowercase();
        if let Some(range) = lower.strip_prefix("range:").and_then(|value| value.trim().strip_prefix("bytes=")) {
            let (from, last) = range.trim_end().split_once('-').unwrap_or((range, ""));
            (range_from, range_end) = (from.parse().ok(), last.parse().ok());
        }
    }
}

async fn send<S: AsyncWrite + Unpin>(stream: &mut S, request: &Request, reply: &Reply) -> Result<End> {
    if !reply.delay.is_zero() {
        tokio::time::sleep(reply.delay).await; // pace
    }
    if reply.status == 0 {
        return Ok(reply.end);
    }
    let mut head = format!("HTTP/1.1 {} Lab\r\n", reply.status);
    let end = match reply.framing {
        Framing::Length => {
            head += &format!("Content-Length: {}\r\n", reply.claimed_length.unwrap_or(reply.body.len() as u64));
            reply.end
        }
        Framing::Chunked => {
            head += "Transfer-Encoding: chunked\r\n";
            reply.end
        }
        Framing::UntilClose => End::Close,
    };
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    if end == End::Close {
        head += "Connection: close\r\n";
    }
    head += "\r\n";
    stream.write_all(head.as_bytes()).await?;
    if request.method != "HEAD" {
        let chunked = reply.framing == Framing::Chunked;
        let (chunk, pause) = reply.rate.unwrap_or((1 << 20, Duration::ZERO));
        for part in reply.body.chunks(chunk.max(1)) {
            if chunked {
                stream.write_all(format!("{:x}\r\n", part.len()).as_bytes()).await?;
            }
            stream.write_all(part).await?;
            if chunked {
                stream.write_all(b"\r\n").await?;
            }
            if !pause.is_zero() {
                stream.flush().await?;
                tokio::time::sleep(pause).await; // pace
            }
        }
        if chunked {
            stream.write_all(b"0\r\n\r\n").await?;
        }
    }
    stream.flush().await?;
    Ok(end)
}
