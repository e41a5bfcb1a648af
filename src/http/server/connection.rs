//! One connection: handshake, HTTP, its deadlines, and its end.

use super::caught::{self, Panic};
use super::deadline::Deadline;
use super::exchange;
use super::limits::{HEAD_MAX, WRITE_BUFFER};
use super::listener::{Caller, Handler, Listener};
use super::marks::{Marks, Overdue, earlier};
use super::multiplexed::{self, Requests};
use super::places::Place;
use super::serving::Serving;
use super::watch::Watched;
use crate::metrics::HttpMetrics;
use crate::peers::link::is_multiplexed;
use crate::peers::{LinkError, NodeId, Visitor};
use crate::resilience::LogThrottle;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Times in which handshakes take too long.
static NO_HANDSHAKE: LogThrottle = LogThrottle::new();
/// Times in which requests do not come, or not whole.
static NO_HEAD: LogThrottle = LogThrottle::new();
/// Times in which answers are not read.
static STALLED: LogThrottle = LogThrottle::new();

/// Who is at the other end, if it proved that.
type Who = (Option<NodeId>, Option<Arc<Visitor>>);

/// How long a request that is on its way, or the first one of a connection, may take to arrive once the server stops. Its
/// client was not refused, and would take a hang-up for a failure.
const HEAD_GRACE: Duration = Duration::from_secs(1);

/// How long an answer may take that came into being while its connection was chosen to make room for another.
const ROOM_GRACE: Duration = Duration::from_secs(1);

/// A connection that was accepted.
pub(super) struct Connection<H> {
    serving: Arc<Serving<H>>,
    address: SocketAddr,
    stop: CancellationToken,
}

impl<H: Handler> Connection<H> {
    pub(super) const fn new(serving: Arc<Serving<H>>, address: SocketAddr, stop: CancellationToken) -> Self {
        Self { serving, address, stop }
    }

    /// Lives until either side ends it, a deadline does, or another needs its place.
    pub(super) async fn run(self, stream: TcpStream, marks: &Arc<Marks>, place: &Place) {
        // An answer is written as a whole; waiting for more of it would only delay it.
        if let Err(error) = stream.set_nodelay(true) {
            log::debug!(peer:% = self.address, reason:% = error; "connection without TCP_NODELAY");
        }
        marks.begin(false);
        let Some(tls) = &self.serving.listener.tls else { return self.speak(stream, (None, None), marks, place).await };
        let stopped = async {
            self.stop.cancelled().await;
            tokio::time::sleep(HEAD_GRACE).await;
        };
        let accepted = tokio::select! {
            accepted = tls.accept(stream) => accepted,
            () = stopped => return,
        };
        match accepted {
            Ok((stream, node)) => {
                let from = (Some(node), tls.visitor(node).map(Arc::new));
                marks.begin(is_multiplexed(&stream));
                if marks.is_multiplexed() {
                    // In a box of its own: the others should not be as large.
                    Box::pin(self.speak_many(stream, from, marks, place)).await;
                } else {
                    self.speak(stream, from, marks, place).await;
                }
            }
            Err(error) => {
                self.serving.listener.metrics.handshakes_failed.inc();
                let in_time = !matches!(error, LinkError::Time { .. });
                let level = if in_time { log::Level::Debug } else { NO_HANDSHAKE.level() };
                log::log!(level, peer:% = self.address, reason:% = error; "connection refused by TLS");
            }
        }
    }

    /// HTTP/1.1.
    async fn speak<S>(&self, stream: S, (node, visitor): Who, marks: &Arc<Marks>, place: &Place)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let Listener { metrics, .. } = &*self.serving.listener;
        let stream = Watched::new(stream, Arc::clone(marks), Arc::clone(metrics));
        let caller = Caller { address: self.address, node };
        let service = service_fn(|request| {
            let from = (caller, visitor.clone());
            exchange::answer(&self.serving, request, from, marks.answering(), &self.stop)
        });
        let connection = pin!(
            http1::Builder::new()
                // Ours are in `marks`; hyper's would run while nothing is asked.
                .header_read_timeout(None)
                .max_header_size(HEAD_MAX)
                .max_buf_size(WRITE_BUFFER)
                .serve_connection(TokioIo::new(stream), service)
        );
        self.drive(connection, http1::Connection::graceful_shutdown, marks, place).await;
    }

    /// HTTP/2.
    async fn speak_many<S>(&self, stream: S, (node, visitor): Who, marks: &Arc<Marks>, place: &Place)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (metrics, peer) = (Arc::clone(&self.serving.listener.metrics), self.address);
        let stream = Watched::new(stream, Arc::clone(marks), Arc::clone(&metrics));
        let caller = Caller { address: peer, node };
        let service = service_fn(|request| {
            multiplexed::answer(&self.serving, request, (caller, visitor.clone()), marks, &self.stop)
        });
        let executor = Requests { tasks: self.serving.tasks.clone(), peer, metrics };
        let connection = pin!(multiplexed::builder(executor).serve_connection(TokioIo::new(stream), service));
        self.drive(connection, http2::Connection::graceful_shutdown, marks, place).await;
    }

    /// Drives a connection to its end; `finish` lets it come after the answers that are under way.
    async fn drive<C>(&self, mut connection: Pin<&mut C>, finish: fn(Pin<&mut C>), marks: &Marks, place: &Place)
    where
        C: Future<Output = hyper::Result<()>>,
    {
        let Listener { limits, metrics, .. } = &*self.serving.listener;
        let _open = Open::new(metrics);
        let mut deadline = Deadline::new();
        let mut ending = Ending::No;
        loop {
            let driven = poll_fn(|cx| {
                if let Poll::Ready(ended) = caught::poll(connection.as_mut(), cx) {
                    return Poll::Ready(Event::Ended(ended));
                }
                if marks.idle_since().is_some() && (marks.is_evicted() || place.is_wanted()) {
                    return Poll::Ready(Event::Yield);
                }
                // Now, because whatever the connection just did may have moved it.
                let due = earlier(marks.deadline(limits), ending.deadline(marks).map(|last| (last, Overdue::Drain)));
                deadline.poll(due, cx).map(Event::Due)
            });
            let event = tokio::select! {
                biased;
                event = driven => event,
                () = self.stop.cancelled(), if ending == Ending::No => Event::Stop,
                () = marks.changed.notified() => Event::Changed,
            };
            match event {
                Event::Ended(Ok(Ok(()))) => return,
                // Clients go away all the time; only what we broke is worth more than this.
                Event::Ended(Ok(Err(error))) => {
                    return log::debug!(peer:% = self.address, reason:% = error; "connection ended");
                }
                Event::Ended(Err(panic)) => return panic.note(self.address, metrics),
                Event::Yield => return log::debug!(peer:% = self.address; "idle connection closed to make room"),
                Event::Stop if marks.is_asking() => ending = Ending::AfterHead(Instant::now() + HEAD_GRACE),
                Event::Stop => {
                    ending = Ending::AfterAnswer(Instant::now() + limits.drain_timeout);
                    finish(connection.as_mut());
                }
                Event::Changed
                    if !matches!(ending, Ending::AfterAnswer(_))
                        && (marks.is_evicted() || marks.ends_after_answer()) =>
                {
                    let grace = if marks.is_evicted() { ROOM_GRACE } else { limits.drain_timeout };
                    ending = Ending::AfterAnswer(Instant::now() + grace);
                    finish(connection.as_mut());
                }
                Event::Changed => {}
                // The head came in time, and its answer says that it is the last.
                Event::Due(_) if matches!(ending, Ending::AfterHead(_)) && !marks.is_asking() => {
                    ending = Ending::AfterAnswer(Instant::now() + limits.drain_timeout);
                    finish(connection.as_mut());
                }
                Event::Due(why) => return self.note_overdue(why),
            }
        }
    }

    fn note_overdue(&self, why: Overdue) {
        let metrics = &self.serving.listener.metrics;
        match why {
            Overdue::Head => {
                metrics.header_timeouts.inc();
                log::log!(NO_HEAD.level(), peer:% = self.address; "a connection is closed: no whole request came in time");
            }
            Overdue::Stalled => {
                metrics.stalled.inc();
                log::log!(STALLED.level(), peer:% = self.address; "a connection is closed: its reader takes next to nothing");
            }
            Overdue::Idle => {}
            Overdue::Drain => log::debug!(peer:% = self.address; "connection closed: it took too long"),
        }
    }
}

/// What can happen to a connection.
enum Event {
    Ended(Result<hyper::Result<()>, Panic>),
    /// It is idle, and another can have its place.
    Yield,
    Stop,
    /// Its marks say something new.
    Changed,
    Due(Overdue),
}

/// What a connection waits for before it ends because the server stops, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// The server goes on.
    No,
    /// A request that is on its way.
    AfterHead(Instant),
    /// The end of the answer under way, if there is one.
    AfterAnswer(Instant),
}

impl Ending {
    fn deadline(self, marks: &Marks) -> Option<Instant> {
        match self {
            Self::No => None,
            Self::AfterHead(deadline) => Some(deadline),
            // In HTTP/2 the client has a word in the end of a connection. With nothing left to answer it is not waited for.
            Self::AfterAnswer(deadline) if marks.is_multiplexed() => {
                Some(marks.idle_since().map_or(deadline, |idle| deadline.min(idle + HEAD_GRACE)))
            }
            Self::AfterAnswer(deadline) => Some(deadline),
        }
    }
}

/// Counts a connection while it is open.
struct Open<'a>(&'a HttpMetrics);

impl<'a> Open<'a> {
    fn new(metrics: &'a HttpMetrics) -> Self {
        metrics.connections_now.inc();
        Self(metrics)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.connections_now.dec();
    }
}
