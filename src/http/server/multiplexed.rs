//! HTTP/2, as peers speak it: many small requests on one connection, which may cost no more than one that carries them in turn.
//!
//! What comes is bounded by hyper's and h2's own counts, which are set here; what goes out are texts in memory, because streams
//! from the store are not sent over HTTP/2; and what is asked waits for one of as many turns as there may be connections, so
//! that many requests on each are no more work at a time than one on each.

use super::caught::caught;
use super::exchange;
use super::limits::{HEAD_MAX, STREAMS_MAX, WRITE_BUFFER};
use super::listener::{Caller, Handler};
use super::marks::Marks;
use super::serving::Serving;
use super::tracked::Tracked;
use crate::fetch::claims::message;
use crate::metrics::HttpMetrics;
use crate::peers::Visitor;
use crate::peers::narinfo_batch;
use hyper::Response;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How many bytes of a body a client may send: those of the longest request that has one. (Of the connection as a whole HTTP/2 allows no
/// less than [`CONNECTION_WINDOW`].)
const STREAM_WINDOW: usize = narinfo_batch::REQUEST_MAX;
const _: () = assert!(message::REQUEST_MAX <= STREAM_WINDOW, "whoever claims is heard to the end");
/// How many bytes of all bodies together.
const CONNECTION_WINDOW: u32 = 65_535;
/// How many requests may be given up before we have even seen them; with one more the connection ends.
const RESETS_MAX: usize = 64;
/// How many requests that break the rules we answer with a reset; with one more the connection ends.
const ERRORS_MAX: usize = 64;
/// How much each side remembers of headers to abbreviate the next ones, in bytes: what every connection has to allow us.
const HEADER_TABLE: u32 = 4096;

/// HTTP/2 within these limits; its requests run as tasks of `executor`.
pub(super) fn builder(executor: Requests) -> http2::Builder<Requests> {
    let mut builder = http2::Builder::new(executor);
    builder
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(ERRORS_MAX)
        // Lossless: 5 KiB.
        .initial_stream_window_size(u32::try_from(STREAM_WINDOW).unwrap_or(CONNECTION_WINDOW))
        .initial_connection_window_size(CONNECTION_WINDOW)
        .header_table_size(HEADER_TABLE)
        // Whose answers are kept has them from a store, not from a time; and it would be half of what a greeting costs.
        .auto_date_header(false)
        // Both lossless: 16 and 64 KiB.
        .max_header_list_size(u32::try_from(HEAD_MAX).unwrap_or(u32::MAX))
        .max_send_buf_size(WRITE_BUFFER);
    builder
}

/// Runs the requests of a connection: they end with it, as hyper tells them, and the server waits for them at its own end.
#[derive(Clone)]
pub(super) struct Requests {
    pub(super) tasks: TaskTracker,
    pub(super) peer: SocketAddr,
    pub(super) metrics: Arc<HttpMetrics>,
}

impl<F> Executor<F> for Requests
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, request: F) {
        let (peer, metrics) = (self.peer, Arc::clone(&self.metrics));
        let mut request = Box::pin(request);
        self.tasks.spawn(async move {
            if let Err(panic) = caught(request.as_mut()).await {
                panic.note(peer, &metrics);
            }
        });
    }
}

/// Answers a request in its turn.
pub(super) fn answer<H: Handler>(
    serving: &Arc<Serving<H>>,
    request: hyper::Request<Incoming>,
    from: (Caller, Option<Arc<Visitor>>),
    marks: &Arc<Marks>,
    stop: &CancellationToken,
) -> impl Future<Output = Result<Response<Tracked>, Infallible>> + Send + use<H> {
    let (serving, in_flight, stop) = (Arc::clone(serving), marks.answering(), stop.clone());
    async move {
        // The semaphore is never closed. In a box, because those who wait should be small.
        let _turn = serving.turns.acquire().await;
        Box::pin(exchange::answer(&serving, request, from, in_flight, &stop)).await
    }
}
