//! Listening: connections are accepted within limits, each gets its own task, and all of them end in order.

use super::connection::Connection;
use super::limits::Limits;
use super::sockets::Access;
use crate::control::Control;
use nix::errno::Errno;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long accepting pauses when the system has no more file descriptors or memory; doubled up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// The time between two lines in the log about that, in seconds.
const COMPLAINT_INTERVAL: u64 = 60;

/// Serves `control` on a socket until `stop` is cancelled. With [`Access::Admin`] the socket itself has to keep others out.
pub async fn serve(control: Arc<dyn Control>, listener: UnixListener, access: Access, stop: CancellationToken) {
    Server::new(control, access, Limits::default()).serve(listener, stop).await;
}

/// What is served on a listener, and within which limits.
#[derive(Clone)]
pub struct Server {
    control: Arc<dyn Control>,
    access: Access,
    limits: Limits,
    /// How many connections each user has. Entries go when they are none.
    users: Arc<Mutex<HashMap<u32, usize>>>,
}

impl Server {
    /// A server that does not listen yet.
    #[must_use]
    pub fn new(control: Arc<dyn Control>, access: Access, limits: Limits) -> Self {
        Self { control, access, limits, users: Arc::default() }
    }

    /// Serves until `stop` is cancelled, and then until the calls under way are answered or [`Limits::drain`] is over.
    pub async fn serve(self, listener: UnixListener, stop: CancellationToken) {
        let tasks = TaskTracker::new();
        let complained = AtomicU64::new(0);
        let mut pause = PAUSE;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => break,
            };
            match accepted {
                Ok((stream, _)) => {
                    pause = PAUSE;
                    self.welcome(stream, &tasks, &stop);
                }
                Err(error) if is_one_connections_fault(&error) => {}
                Err(error) => {
                    log::log!(complaint(&complained), reason:% = error; "no Varlink connection can be accepted at the moment");
                    tokio::select! {
                        () = sleep(pause) => {}
                        () = stop.cancelled() => break,
                    }
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
        drop(listener);
        tasks.close();
        if timeout(self.limits.drain, tasks.wait()).await.is_err() {
            log::debug!(count = tasks.len(); "Varlink calls were cut off");
        }
    }

    /// Gives a connection its task, if there is a place for it.
    fn welcome(&self, stream: UnixStream, tasks: &TaskTracker, stop: &CancellationToken) {
        let Some(seat) = self.seat(&stream, tasks.len()) else {
            // Dropping the stream closes it. Nothing is sent: an answer would cost more than the connection.
            log::debug!("Varlink connection refused: there are too many");
            return;
        };
        let connection = Connection::new(Arc::clone(&self.control), self.access, self.limits);
        let stop = stop.clone();
        tasks.spawn(async move {
            connection.run(stream, &stop).await;
            drop(seat);
        });
    }

    fn seat(&self, stream: &UnixStream, taken: usize) -> Option<Seat> {
        let user = stream.peer_cred().ok()?.uid();
        let mut users = self.users.lock();
        let count = users.get(&user).copied().unwrap_or_default();
        if taken >= self.limits.connections || count >= self.limits.per_user {
            return None;
        }
        users.insert(user, count + 1);
        Some(Seat { users: Arc::clone(&self.users), user })
    }
}

/// The place of one connection, given back when it is dropped.
struct Seat {
    users: Arc<Mutex<HashMap<u32, usize>>>,
    user: u32,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut users = self.users.lock();
        let left = users.get(&self.user).map_or(0, |count| count - 1);
        if left == 0 {
            users.remove(&self.user);
        } else {
            users.insert(self.user, left);
        }
    }
}

/// The level of a line that strangers can provoke: one warning a minute is enough to know.
fn complaint(last: &AtomicU64) -> log::Level {
    let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
    if now.abs_diff(last.load(Relaxed)) < COMPLAINT_INTERVAL {
        return log::Level::Debug;
    }
    last.store(now, Relaxed);
    log::Level::Warn
}

/// Whether the error says that the connection was gone before it was accepted, rather than that none can be.
///
/// Source: accept(2), "Errors".
fn is_one_connections_fault(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::ECONNABORTED | Errno::EINTR | Errno::EPROTO | Errno::EPERM))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_complaint_a_minute() {
        let last = AtomicU64::new(0);
        assert_eq!(complaint(&last), log::Level::Warn);
        assert_eq!(complaint(&last), log::Level::Debug);
        last.fetch_sub(COMPLAINT_INTERVAL, Relaxed);
        assert_eq!(complaint(&last), log::Level::Warn);
    }

    #[test]
    fn a_lack_of_everything_makes_accepting_pause() {
        let fault = |errno: Errno| is_one_connections_fault(&io::Error::from_raw_os_error(errno as i32));
        assert!(fault(Errno::ECONNABORTED) && fault(Errno::EINTR));
        assert!(![Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM, Errno::EINVAL].into_iter().any(fault));
        assert!(!is_one_connections_fault(&io::Error::other("anything")), "never a loop without a pause");
    }
}
