//! Listening: connections are accepted within limits, each gets its own task, and all of them end in order.

use super::connection::Connection;
use super::limits::Limits;
use super::sockets::Access;
use crate::control::Control;
use crate::resilience::accept::AcceptLoop;
use crate::resilience::{KeyedLimit, Permit};
use std::sync::Arc;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Serves `control` on a socket until `stop` is cancelled. With [`Access::Admin`] the socket itself has to keep others out.
pub async fn serve(control: Arc<dyn Control>, listener: UnixListener, access: Access, stop: CancellationToken) {
    Server::new(control, access, Limits::default()).serve(listener, stop).await;
}

/// What is served on a listener, and within which limits.
pub struct Server {
    control: Arc<dyn Control>,
    access: Access,
    limits: Limits,
    users: KeyedLimit<u32>,
}

impl Server {
    /// A server that does not listen yet.
    #[must_use]
    pub fn new(control: Arc<dyn Control>, access: Access, limits: Limits) -> Self {
        Self { control, access, limits, users: KeyedLimit::new(limits.per_user) }
    }

    /// Serves until `stop` is cancelled, and then until the calls under way are answered or [`Limits::drain`] is over.
    pub async fn serve(self, listener: UnixListener, stop: CancellationToken) {
        let mut accept = AcceptLoop::new(listener, "Varlink connection");
        let ended = Arc::new(Notify::new());
        let tasks = TaskTracker::new();
        while let Some((stream, _)) = stop.run_until_cancelled(accept.next(&ended)).await {
            let Some(place) = self.place(&stream, tasks.len()) else {
                // Dropping the stream closes it. Nothing is sent: an answer would cost more than the connection.
                log::debug!("Varlink connection refused: there are too many");
                continue;
            };
            let connection = Connection::new(Arc::clone(&self.control), self.access, self.limits);
            let (stop, ended) = (stop.clone(), Arc::clone(&ended));
            tasks.spawn(async move {
                connection.run(stream, &stop).await;
                drop(place);
                ended.notify_one();
            });
        }
        drop(accept);
        tasks.close();
        if timeout(self.limits.drain, tasks.wait()).await.is_err() {
            log::debug!(count = tasks.len(); "Varlink calls were cut off");
        }
    }

    /// A place for a connection, unless there are too many already: `taken`, or as many of its user.
    fn place(&self, stream: &UnixStream, taken: usize) -> Option<Permit<u32>> {
        let user = stream.peer_cred().ok()?.uid();
        if taken < self.limits.connections { self.users.try_take(user) } else { None }
    }
}
