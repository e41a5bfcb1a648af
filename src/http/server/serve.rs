//! Listening: connections are accepted within limits, each gets its own task, and all of them end in order.

use super::connection::Connection;
use super::limits::{Limits, PLACE_WAIT, WAITING_MAX, WhenFull};
use super::listener::{Handler, Listener};
use super::marks::Marks;
use super::places::{Place, Places, Scope, Waiting};
use super::request_rates::RequestRates;
use super::serving::Serving;
use crate::resilience::LogThrottle;
use crate::resilience::accept::AcceptLoop;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Times in which connections are refused.
static REFUSED: LogThrottle = LogThrottle::new();
/// Times in which they wait.
static WAITED: LogThrottle = LogThrottle::new();

impl<H: Handler> Listener<H> {
    /// Serves until `stop` is cancelled, and then until the requests that are being answered are, or
    /// [`super::limits::Limits::drain_timeout`] is over. Idle connections end at once.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        let mut accept = AcceptLoop::new(listener, "connection");
        let serving = Arc::new(Serving {
            turns: Semaphore::new(self.limits.connections.clamp(1, Semaphore::MAX_PERMITS)),
            tasks: TaskTracker::new(),
            places: Places::new(&self.limits),
            waiting_room: Arc::new(Semaphore::new(WAITING_MAX)),
            ended: Notify::new(),
            stop,
            requests: RequestRates::new(self.limits.requests_per_second),
            listener: self,
        });
        while let Some(accepted) = serving.stop.run_until_cancelled(serving.next(&mut accept)).await {
            serving.welcome(accepted);
        }
        drop(accept);
        serving.tasks.close();
        serving.tasks.wait().await;
    }
}

/// A connection, with its room in case that it has to wait, if that was taken before.
type Accepted = (TcpStream, SocketAddr, Option<OwnedSemaphorePermit>);

impl<H: Handler> Serving<H> {
    fn limits(&self) -> &Limits {
        &self.listener.limits
    }

    /// Takes the next connection.
    async fn next(&self, accept: &mut AcceptLoop<TcpListener>) -> Accepted {
        let all_alike = self.limits().per_address.is_none() && self.limits().when_full == WhenFull::Wait;
        // The room comes first, so that the kernel keeps whoever finds none. The semaphore is never closed.
        let room = if all_alike { Arc::clone(&self.waiting_room).acquire_owned().await.ok() } else { None };
        let (stream, address) = accept.next(&self.ended).await;
        (stream, address, room)
    }

    /// Gives it a place, lets it wait for one, or refuses it.
    fn welcome(self: &Arc<Self>, (stream, address, room): Accepted) {
        let metrics = &self.listener.metrics;
        metrics.connections.inc();
        // An IPv4 client of a dual-stack socket. Any other address stays whole: a link-local one without its zone
        // could not be called back.
        let address = match address.ip().to_canonical() {
            IpAddr::V4(ip) => SocketAddr::new(ip.into(), address.port()),
            IpAddr::V6(_) => address,
        };
        let marks = Marks::new();
        let (place, evicted) = self.places.take(address.ip(), &marks);
        metrics.made_room.add(evicted as u64);
        let full = match place {
            Ok(place) => return self.run(stream, address, marks, place),
            Err(full) => full,
        };
        let waiting = match self.limits().when_full {
            WhenFull::Close => None,
            WhenFull::Wait => {
                room.or_else(|| Arc::clone(&self.waiting_room).try_acquire_owned().ok()).and_then(|room| {
                    let waiting = self.places.wait(address.ip(), &marks)?;
                    Some((waiting, room))
                })
            }
        };
        let limit = self.describe(full);
        let Some((waiting, room)) = waiting else {
            // Dropping the stream closes it. Nothing is sent: an answer would cost more than the connection.
            metrics.refused.inc();
            return log::log!(REFUSED.level(), peer:% = address; "a connection is refused: {limit}, and none is idle");
        };
        metrics.waited.inc();
        log::log!(WAITED.level(), peer:% = address; "a connection has to wait: {limit}, and none is idle");
        let this = Arc::clone(self);
        self.tasks.spawn(async move {
            if let Some(place) = this.wait(waiting).await {
                drop(room);
                this.run(stream, address, marks, place);
            }
        });
    }

    /// Waits for a place, until the server stops.
    async fn wait(&self, mut waiting: Waiting) -> Option<Place> {
        self.stop.run_until_cancelled(timeout(PLACE_WAIT, waiting.place())).await?.ok()?
    }

    /// The task of a connection with a place.
    fn run(self: &Arc<Self>, stream: TcpStream, address: SocketAddr, marks: Arc<Marks>, place: Place) {
        let connection = Connection::new(Arc::clone(self), address, self.stop.child_token());
        let this = Arc::clone(self);
        self.tasks.spawn(async move {
            connection.run(stream, &marks, &place).await;
            drop(place);
            this.ended.notify_one();
        });
    }

    /// A limit, for the administrator.
    fn describe(&self, full: Scope) -> String {
        let Limits { connections, per_address, .. } = self.limits();
        match full {
            Scope::All => format!("all {connections} are open"),
            Scope::Network(_) => format!("half of all {connections} are of its IPv6 network"),
            Scope::Address(_) => format!("{} are of its address", per_address.unwrap_or_default()),
        }
    }
}
