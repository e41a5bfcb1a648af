//! An HTTP server with a face for tests.

use bytes::Bytes;
use hyper::Response;
use hyper::body::{Body as HttpBody, Frame};
use peernix::http::{Body, Handler, Limits, Listener, Request, Route, reply};
use peernix::metrics::HttpMetrics;
use peernix::peers::link::Acceptor;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Lets this program have as many files open as the system allows: both ends of every connection are here.
pub(crate) fn allow_many_files() {
    use ::nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
}

/// A server that is running.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) metrics: Arc<HttpMetrics>,
    pub(crate) stop: CancellationToken,
    pub(crate) served: JoinHandle<()>,
}

impl Running {
    /// Stops it and waits until all connections have ended.
    pub(crate) async fn end(self) -> Arc<HttpMetrics> {
        self.stop.cancel();
        self.served.await.expect("the server does not panic");
        assert_eq!(self.metrics.connections_now.get(), 0, "every connection has ended");
        self.metrics
    }
}

pub(crate) async fn serve(handler: impl Handler, limits: Limits) -> Running {
    serve_with(handler, limits, None, "127.0.0.1:0").await
}

pub(crate) async fn serve_with(handler: impl Handler, limits: Limits, tls: Option<Acceptor>, listen: &str) -> Running {
    let listener = TcpListener::bind(listen).await.expect("a port of the loopback interface");
    let address = listener.local_addr().expect("a bound address");
    let (metrics, stop) = (Arc::new(HttpMetrics::new("share", &Route::NAMES)), CancellationToken::new());
    let serving =
        Listener { handler: Arc::new(handler), limits, metrics: Arc::clone(&metrics), tls, local_only: false };
    let served = tokio::spawn(Arc::new(serving).serve(listener, stop.clone()));
    Running { address, metrics, stop, served }
}

/// A face for tests: its routes do what their names have nothing to do with.
pub(crate) struct TestFace {
    /// `/peers`: told when a request has come, answered when `answer` says so.
    pub(crate) arrived: mpsc::UnboundedSender<()>,
    pub(crate) answer: Arc<Notify>,
    /// How many requests for `/peers` were given up.
    pub(crate) given_up: Arc<AtomicU64>,
}

impl TestFace {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<()>) {
        let (arrived, arrivals) = mpsc::unbounded_channel();
        (Self { arrived, answer: Arc::default(), given_up: Arc::default() }, arrivals)
    }

    pub(crate) fn simple() -> Self {
        Self::new().0
    }
}

/// Counts unless it is told not to.
struct GivenUp(Arc<AtomicU64>, bool);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.fetch_add(u64::from(self.1), Relaxed);
    }
}

impl Handler for TestFace {
    async fn answer(&self, request: Request) -> Response<Body> {
        match request.route {
            Route::Health => reply::text("fine\n"),
            Route::DebugInfo(_) => panic!("a handler that panics"),
            Route::Metrics => reply::text(Body::stream(Some(1 << 40), Endless)),
            Route::CacheInfo => reply::text(Body::stream(Some(100), Breaking(2))),
            Route::Listing(_) => reply::text(Body::stream(Some(100), Panicking)),
            Route::NarInfos => reply::text(request.body.len().to_string()),
            Route::Hello => reply::text(request.caller.node.map_or_else(String::new, |node| node.to_string())),
            Route::Peers => {
                let mut given_up = GivenUp(Arc::clone(&self.given_up), true);
                let mut answer = pin!(self.answer.notified());
                // In line before anybody can know that it has come.
                answer.as_mut().enable();
                let _ = self.arrived.send(());
                answer.await;
                given_up.1 = false;
                reply::text("at last\n")
            }
            _ => reply::not_found(),
        }
    }
}

/// Never ends.
pub(crate) struct Endless;

impl HttpBody for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        static BYTES: [u8; 256 * 1024] = [b'x'; 256 * 1024];
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&BYTES)))))
    }
}

/// Breaks after so many bytes.
struct Breaking(u8);

impl HttpBody for Breaking {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        if self.0 == 0 {
            return Poll::Ready(Some(Err(std::io::Error::other("the source broke"))));
        }
        self.0 -= 1;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
    }
}

struct Panicking;

impl HttpBody for Panicking {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        panic!("a body that panics")
    }
}
