//! One connection: handshake, HTTP, its deadlines, and its end.

use super::caught::{self, Panic};
use super::deadline::Deadline;
use super::exchange;
use super::limits::{HEAD_MAX, WRITE_BUFFER};
use super::listener::{Caller, Handler, Listener};
use super::watch::{Marks, Overdue, Watched, earlier};
use crate::metrics::{HttpMetrics, count};
use crate::peers::{NodeId, Visitor};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a request that is on its way, or the first one of a connection, may take to arrive once the server stops. Its
/// client was not refused, and would take a hang-up for a failure.
const HEAD_GRACE: Duration = Duration::from_secs(1);

/// A connection that was accepted.
pub(super) struct Connection<H> {
    listener: Arc<Listener<H>>,
    address: SocketAddr,
    stop: CancellationToken,
}

impl<H: Handler> Connection<H> {
    pub(super) const fn new(listener: Arc<Listener<H>>, address: SocketAddr, stop: CancellationToken) -> Self {
        Self { listener, address, stop }
    }

    /// Lives until either side ends it, or a deadline does.
    pub(super) async fn run(self, stream: TcpStream) {
        // An answer is written as a whole; waiting for more of it would only delay it.
        if let Err(error) = stream.set_nodelay(true) {
            log::debug!(peer:% = self.address, reason:% = error; "connection without TCP_NODELAY");
        }
        let Some(tls) = &self.listener.tls else { return self.speak(stream, None, None).await };
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
                let visitor = tls.visitor(node).map(Arc::new);
                self.speak(stream, Some(node), visitor).await;
            }
            Err(error) => {
                count(&self.listener.metrics.handshakes_failed);
                log::debug!(peer:% = self.address, reason:% = error; "connection refused by TLS");
            }
        }
    }

    async fn speak<S>(&self, stream: S, node: Option<NodeId>, visitor: Option<Arc<Visitor>>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let Listener { limits, metrics, .. } = &*self.listener;
        let marks = Marks::new();
        let stream = Watched::new(stream, Arc::clone(&marks), Arc::clone(metrics));
        let caller = Caller { address: self.address, node };
        let service = service_fn(|request| {
            marks.answering();
            exchange::answer(&self.listener, request, (caller, visitor.clone()), Arc::clone(&marks), &self.stop)
        });
        let mut connection = pin!(
            http1::Builder::new()
                // Ours are in `watch`; hyper's would run while nothing is asked.
                .header_read_timeout(None)
                .max_header_size(HEAD_MAX)
                .max_buf_size(WRITE_BUFFER)
                .serve_connection(TokioIo::new(stream), service)
        );
        let _open = Open::new(metrics);
        let mut deadline = Deadline::new();
        let mut ending = Ending::No;
        loop {
            let driven = poll_fn(|cx| {
                if let Poll::Ready(ended) = caught::poll(connection.as_mut(), cx) {
                    return Poll::Ready(Event::Ended(ended));
                }
                // Now, because whatever the connection just did may have moved it.
                let due = earlier(marks.deadline(limits), ending.deadline().map(|last| (last, Overdue::Drain)));
                deadline.poll(due, cx).map(Event::Due)
            });
            let event = tokio::select! {
                biased;
                event = driven => event,
                () = self.stop.cancelled(), if ending == Ending::No => Event::Stop,
            };
            match event {
                Event::Ended(Ok(Ok(()))) => return,
                // Clients go away all the time; only what we broke is worth more than this.
                Event::Ended(Ok(Err(error))) => {
                    return log::debug!(peer:% = self.address, reason:% = error; "connection ended");
                }
                Event::Ended(Err(panic)) => return panic.note(self.address, metrics),
                Event::Stop if marks.is_asking() => ending = Ending::AfterHead(Instant::now() + HEAD_GRACE),
                Event::Stop => {
                    ending = Ending::AfterAnswer(Instant::now() + limits.drain_timeout);
                    connection.as_mut().graceful_shutdown();
                }
                // The head came in time, and its answer says that it is the last.
                Event::Due(_) if matches!(ending, Ending::AfterHead(_)) && !marks.is_asking() => {
                    ending = Ending::AfterAnswer(Instant::now() + limits.drain_timeout);
                }
                Event::Due(why) => return self.note_overdue(why),
            }
        }
    }

    fn note_overdue(&self, why: Overdue) {
        let metrics = &self.listener.metrics;
        match why {
            Overdue::Head => count(&metrics.header_timeouts),
            Overdue::Stalled => count(&metrics.stalled),
            Overdue::Idle => return,
            Overdue::Drain => {}
        }
        log::debug!(peer:% = self.address, reason:? = why; "connection closed: it took too long");
    }
}

/// What can happen to a connection.
enum Event {
    Ended(Result<hyper::Result<()>, Panic>),
    Stop,
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
    const fn deadline(self) -> Option<Instant> {
        match self {
            Self::No => None,
            Self::AfterHead(deadline) | Self::AfterAnswer(deadline) => Some(deadline),
        }
    }
}

/// Counts a connection while it is open.
struct Open<'a>(&'a HttpMetrics);

impl<'a> Open<'a> {
    fn new(metrics: &'a HttpMetrics) -> Self {
        count(&metrics.connections_now);
        Self(metrics)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.connections_now.fetch_sub(1, Relaxed);
    }
}
