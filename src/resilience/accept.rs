//! Accepting connections, whatever happens: the one loop under every listener.

use super::backoff::{Backoff, Schedule};
use super::log_throttle::LogThrottle;
use nix::errno::Errno;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream, unix};
use tokio::sync::Notify;
use tokio::time::sleep;

/// How long accepting pauses when the system has no more file descriptors or memory; cut short by the end of any connection.
const PAUSES: Schedule =
    Schedule { first: Duration::from_millis(10), factor: 2, most: Duration::from_secs(1), spread: false };

/// Times in which nothing can be accepted.
static UNABLE: LogThrottle = LogThrottle::new();

/// What accepts connections.
pub trait Listener {
    /// A connection.
    type Stream;
    /// Who is at its other end.
    type Address;

    /// The next connection.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Self::Address)>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;
    type Address = SocketAddr;

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        Self::accept(self).await
    }
}

impl Listener for UnixListener {
    type Stream = UnixStream;
    type Address = unix::SocketAddr;

    async fn accept(&self) -> io::Result<(UnixStream, unix::SocketAddr)> {
        Self::accept(self).await
    }
}

/// Accepts one connection after the other.
#[derive(Debug)]
pub struct AcceptLoop<L> {
    listener: L,
    /// What is accepted, as it is called in the log.
    what: &'static str,
    backoff: Backoff,
}

impl<L: Listener> AcceptLoop<L> {
    /// Accepts from `listener`. `what` is what the log calls it: "no Varlink connection can be accepted…".
    #[must_use]
    pub const fn new(listener: L, what: &'static str) -> Self {
        Self { listener, what, backoff: Backoff::new(PAUSES) }
    }

    /// The next connection. Goes on after every error: at once if it was one connection's fault, else after a pause, which
    /// ends early when `relief` says that a connection ended and with it some memory and file descriptors came back.
    ///
    /// Cancel safe: a connection that was accepted is returned.
    pub async fn next(&mut self, relief: &Notify) -> (L::Stream, L::Address) {
        loop {
            match self.listener.accept().await {
                Ok(accepted) => {
                    self.backoff.reset();
                    return accepted;
                }
                Err(error) if is_one_connections_fault(&error) => {}
                Err(error) => {
                    log::log!(UNABLE.level(), reason:% = error; "no {} can be accepted at the moment", self.what);
                    let pause = self.backoff.next_pause();
                    tokio::select! {
                        () = relief.notified() => {}
                        () = sleep(pause) => {} // backoff
                    }
                }
            }
        }
    }
}

/// Whether the error says that the connection was gone before it was accepted, rather than that none can be. A network that
/// is down is one of these: it is reported for the connection that came over it.
///
/// Source: accept(2), "Error handling" and "Errors".
fn is_one_connections_fault(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(
            Errno::ECONNABORTED
                | Errno::EINTR
                | Errno::EPERM
                | Errno::EPROTO
                | Errno::ENETDOWN
                | Errno::ENOPROTOOPT
                | Errno::EHOSTDOWN
                | Errno::ENONET
                | Errno::EHOSTUNREACH
                | Errno::EOPNOTSUPP
                | Errno::ENETUNREACH
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use tokio::time::Instant;

    /// Fails as it is told, the last first, and then accepts.
    struct Scripted(Mutex<Vec<Errno>>);

    impl Listener for Scripted {
        type Stream = ();
        type Address = ();

        async fn accept(&self) -> io::Result<((), ())> {
            match self.0.lock().pop() {
                Some(errno) => Err(io::Error::from_raw_os_error(errno as i32)),
                None => Ok(((), ())),
            }
        }
    }

    /// How long it takes to the first connection.
    async fn waited(errors: &[Errno], relief: &Notify) -> Duration {
        let begun = Instant::now();
        AcceptLoop::new(Scripted(Mutex::new(errors.to_vec())), "test").next(relief).await;
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_lack_of_everything_makes_accepting_pause() {
        let relief = Notify::new();
        let faults = [Errno::ECONNABORTED, Errno::EPROTO, Errno::ENETDOWN, Errno::EPERM, Errno::EINTR];
        assert_eq!(waited(&faults, &relief).await, Duration::ZERO);
        for lack in [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM, Errno::EINVAL] {
            assert_eq!(waited(&[lack; 3], &relief).await, Duration::from_millis(10 + 20 + 40), "{lack}");
        }
        assert!(waited(&[Errno::EMFILE; 20], &relief).await > Duration::from_secs(10), "up to a second each");
        assert!(!is_one_connections_fault(&io::Error::other("anything")), "never a loop without a pause");
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_connection_ends_the_pause() {
        let relief = Notify::new();
        relief.notify_one();
        assert_eq!(waited(&[Errno::EMFILE], &relief).await, Duration::ZERO);
    }
}
