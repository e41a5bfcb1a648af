//! Listening: connections are accepted within limits, each gets its own task, and all of them end in order.

use super::connection::Connection;
use super::connection_limit::ConnectionLimit;
use super::limits::WhenFull;
use super::listener::{Handler, Listener};
use crate::metrics::count;
use crate::resilience::accept::AcceptLoop;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

impl<H: Handler> Listener<H> {
    /// Serves until `stop` is cancelled, and then until the requests that are being answered are, or
    /// [`super::limits::Limits::drain_timeout`] is over. Idle connections end at once.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        let mut accept = AcceptLoop::new(listener, "connection");
        let places = Arc::new(Semaphore::new(self.limits.connections));
        let limit = ConnectionLimit::new(&self.limits);
        let ended = Arc::new(Notify::new());
        let tasks = TaskTracker::new();
        while let Some((stream, address, place)) =
            stop.run_until_cancelled(next(&mut accept, &places, self.limits.when_full, &ended)).await
        {
            count(&self.metrics.connections);
            // An IPv4 client of a dual-stack socket. Any other address stays whole: a link-local one without its zone
            // could not be called back.
            let address = match address.ip().to_canonical() {
                IpAddr::V4(ip) => SocketAddr::new(ip.into(), address.port()),
                IpAddr::V6(_) => address,
            };
            let (Some(place), Some(place_of_address)) = (place, limit.take(address.ip())) else {
                // Dropping the stream closes it. Nothing is sent: an answer would cost more than the connection.
                count(&self.metrics.refused);
                log::debug!(peer:% = address; "connection refused: there are too many");
                continue;
            };
            let connection = Connection::new(Arc::clone(&self), address, stop.child_token());
            let ended = Arc::clone(&ended);
            tasks.spawn(async move {
                connection.run(stream).await;
                drop((place_of_address, place));
                ended.notify_one();
            });
        }
        drop(accept);
        tasks.close();
        tasks.wait().await;
    }
}

/// Takes the next connection, with its place among all of them if there was one.
async fn next(
    accept: &mut AcceptLoop<TcpListener>,
    places: &Arc<Semaphore>,
    when_full: WhenFull,
    ended: &Notify,
) -> (TcpStream, SocketAddr, Option<OwnedSemaphorePermit>) {
    let place = match when_full {
        // The place comes first, so that the kernel keeps whoever has to wait. The semaphore is never closed.
        WhenFull::Wait => Arc::clone(places).acquire_owned().await.ok(),
        WhenFull::Close => None,
    };
    let (stream, address) = accept.next(ended).await;
    let place = place.or_else(|| Arc::clone(places).try_acquire_owned().ok());
    (stream, address, place)
}
