//! One connection to an upstream, or to the proxy before it, while it lives.
//!
//! The kernel lets a connection live whose address went, and a receiver waits for ever. So each is on a list, and can be
//! closed from outside.

use hyper::Request;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::MaybeHttpsStream;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpInfo};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// What a connection begins with: TCP, or TLS to a proxy that wants it.
pub(super) type Wire = MaybeHttpsStream<TokioIo<TcpStream>>;

/// What is known of a connection.
pub(super) struct Link {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) since: Instant,
    /// How often something was heard from the other side.
    heard: AtomicU64,
    /// Whether somebody waits to hear more; not, while what came before is not taken.
    awaited: AtomicBool,
    close: CancellationToken,
}

impl Link {
    /// Closes it: whoever reads from it gets an error.
    pub(super) fn close(&self) {
        self.close.cancel();
    }

    /// How often something came from the other side so far.
    pub(super) fn heard(&self) -> u64 {
        self.heard.load(Relaxed)
    }

    /// Whether somebody waits to hear more.
    pub(super) fn is_awaited(&self) -> bool {
        self.awaited.load(Relaxed)
    }
}

/// The connections that are open, and how many are on the way to that.
#[derive(Default)]
pub(super) struct Links {
    open: Mutex<Vec<Weak<Link>>>,
    coming: AtomicUsize,
}

impl Links {
    /// Those that are open now.
    pub(super) fn now(&self) -> Vec<Arc<Link>> {
        self.open.lock().iter().filter_map(Weak::upgrade).collect()
    }

    /// Whether some are not open yet.
    pub(super) fn are_coming(&self) -> bool {
        self.coming.load(Relaxed) > 0
    }

    /// Notes one that is not open yet, until what this gives is dropped.
    pub(super) fn coming(self: &Arc<Self>) -> Coming {
        self.coming.fetch_add(1, Relaxed);
        Coming(Arc::clone(self))
    }

    fn add(&self, link: &Arc<Link>) {
        let mut links = self.open.lock();
        if links.len() == links.capacity() {
            // Whenever it would have to grow, so that this costs next to nothing.
            links.retain(|link| link.strong_count() > 0);
        }
        links.push(Arc::downgrade(link));
    }
}

/// A connection that is not open yet.
pub(super) struct Coming(Arc<Links>);

impl Drop for Coming {
    fn drop(&mut self) {
        self.0.coming.fetch_sub(1, Relaxed);
    }
}

/// What hyper finds in the extensions of a connection.
#[derive(Clone)]
pub(super) struct OnLink(pub(super) Arc<Link>);

/// The bytes of a connection.
pub(super) struct Stream {
    wire: Wire,
    /// Whether requests name their whole URL, because a proxy reads them.
    proxied: bool,
    link: Arc<Link>,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Stream {
    /// A connection that has just come about, which is put on the list.
    pub(super) fn new(wire: Wire, proxied: bool, links: &Links) -> io::Result<Self> {
        // The only way to what a connector says of a connection.
        let mut noted = Request::new(());
        wire.connected().get_extras(noted.extensions_mut());
        let info = noted.extensions().get::<HttpInfo>().ok_or(io::ErrorKind::NotConnected)?;
        let close = CancellationToken::new();
        let closed = Box::pin(close.clone().cancelled_owned());
        let (local, remote) = (info.local_addr(), info.remote_addr());
        let (heard, awaited) = Default::default();
        let link = Arc::new(Link { local, remote, since: Instant::now(), heard, awaited, close });
        links.add(&link);
        Ok(Self { wire, proxied, link, closed })
    }

    /// Where the other end is.
    pub(super) fn remote(&self) -> SocketAddr {
        self.link.remote
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.proxied).extra(OnLink(Arc::clone(&self.link)))
    }
}

impl Read for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.wire).poll_read(cx, buffer);
        self.link.awaited.store(read.is_pending(), Relaxed);
        match read {
            Poll::Ready(_) => {
                self.link.heard.fetch_add(1, Relaxed);
                read
            }
            Poll::Pending => {
                let gone = || Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the network changed"));
                self.closed.as_mut().poll(cx).map(|()| gone())
            }
        }
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write_vectored(cx, bytes)
    }
}
