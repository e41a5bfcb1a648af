//! Listening: connections are accepted within limits, each gets its own task, and all of them end in order.
//!
//! What a request means is the [`Handler`]'s business; what a request may be is decided here and is the same for every
//! face: GET and HEAD only, no bodies, one `Host`, a path that is a [`Route`].

use super::connection::Connection;
use super::metrics::count;
use super::seats::Seats;
use super::seldom::Seldom;
use super::{Body, HttpMetrics, Limits, Route, WhenFull};
use crate::peers::NodeId;
use crate::peers::link::Acceptor;
use hyper::{HeaderMap, Response};
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Its address; an IPv4 address is always written as one.
    pub address: SocketAddr,
    /// The node key that it proved to hold, on a TLS face.
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
    /// Who asks.
    pub caller: Caller,
}

/// A face: what answers requests.
pub trait Handler: Send + Sync + 'static {
    /// Answers `request`. When the client goes away the future is dropped. A panic is logged and answered with 404.
    fn answer(&self, request: Request) -> impl Future<Output = Response<Body>> + Send;
}

/// A face with what it needs to listen.
pub struct Face<H> {
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

/// Times in which nothing can be accepted.
static UNABLE: Seldom = Seldom::new();

/// How long accepting pauses when the system has no more file descriptors or memory; doubled up to [`PAUSE_MAX`], and
/// cut short by the end of any connection.
const PAUSE: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

impl<H: Handler> Face<H> {
    /// Serves until `stop` is cancelled, and then until the requests that are being answered are, or
    /// [`Limits::drain_timeout`] is over. Idle connections end at once.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(self.limits.connections));
        let seats = Seats::new(&self.limits);
        let tasks = TaskTracker::new();
        let ended = Arc::new(Notify::new());
        let mut pause = PAUSE;
        loop {
            let accepted = tokio::select! {
                accepted = accept(&listener, &places, self.limits.when_full) => accepted,
                () = stop.cancelled() => break,
            };
            let (stream, address, place) = match accepted {
                Ok(accepted) => accepted,
                Err(error) if is_one_connections_fault(&error) => continue,
                Err(error) => {
                    log::log!(UNABLE.level(), reason:% = error; "no connection can be accepted at the moment");
                    tokio::select! {
                        () = ended.notified() => {}
                        () = sleep(pause) => {}
                        () = stop.cancelled() => break,
                    }
                    pause = (pause * 2).min(PAUSE_MAX);
                    continue;
                }
            };
            pause = PAUSE;
            count(&self.metrics.connections);
            // An IPv4 client of a dual-stack socket. Any other address stays whole: a link-local one without its zone
            // could not be called back.
            let address = match address.ip().to_canonical() {
                IpAddr::V4(ip) => SocketAddr::new(ip.into(), address.port()),
                IpAddr::V6(_) => address,
            };
            let (Some(place), Some(seat)) = (place, seats.take(address.ip())) else {
                // Dropping the stream closes it. Nothing is sent: an answer would cost more than the connection.
                count(&self.metrics.refused);
                log::debug!(peer:% = address; "connection refused: there are too many");
                continue;
            };
            let connection = Connection::new(Arc::clone(&self), address, stop.child_token());
            let ended = Arc::clone(&ended);
            tasks.spawn(async move {
                connection.run(stream).await;
                drop((seat, place));
                ended.notify_one();
            });
        }
        drop(listener);
        tasks.close();
        tasks.wait().await;
    }
}

/// Takes the next connection, with its place among all of them if there was one.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    when_full: WhenFull,
) -> io::Result<(TcpStream, SocketAddr, Option<OwnedSemaphorePermit>)> {
    let place = match when_full {
        // The place comes first, so that the kernel keeps whoever has to wait. The semaphore is never closed.
        WhenFull::Wait => Arc::clone(places).acquire_owned().await.ok(),
        WhenFull::Close => None,
    };
    let (stream, address) = listener.accept().await?;
    let place = place.or_else(|| Arc::clone(places).try_acquire_owned().ok());
    Ok((stream, address, place))
}

/// Whether the error says that the connection was gone before it was accepted, rather than that none can be.
///
/// Source: accept(2), "Error handling".
fn is_one_connections_fault(error: &io::Error) -> bool {
    !matches!(
        error.raw_os_error().map(nix::errno::Errno::from_raw),
        None | Some(
            nix::errno::Errno::EMFILE
                | nix::errno::Errno::ENFILE
                | nix::errno::Errno::ENOBUFS
                | nix::errno::Errno::ENOMEM
                | nix::errno::Errno::EINVAL
                | nix::errno::Errno::EBADF
                | nix::errno::Errno::ENOTSOCK
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;

    #[test]
    fn only_a_lack_of_everything_makes_accepting_pause() {
        let fault = |errno: Errno| is_one_connections_fault(&io::Error::from_raw_os_error(errno as i32));
        assert!(
            [Errno::ECONNABORTED, Errno::EPROTO, Errno::ENETDOWN, Errno::EPERM, Errno::EINTR].into_iter().all(fault)
        );
        assert!(![Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM, Errno::EINVAL].into_iter().any(fault));
        assert!(!is_one_connections_fault(&io::Error::other("anything")), "never a loop without a pause");
    }
}
