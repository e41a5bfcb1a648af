//! One connection: handshake, HTTP, its deadlines, and its end.

use super::host::Host;
use super::limits::{HEAD_MAX, WRITE_BUFFER};
use super::metrics::count;
use super::seldom::Seldom;
use super::server::{Caller, Face, Handler, Request};
use super::watch::{Overdue, Progress, Watched, earlier};
use super::{Body, HttpError, HttpMetrics, Route, reply};
use crate::peers::{NodeId, Visitor};
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Response};
use hyper_util::rt::TokioIo;
use std::any::Any;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// When the timer of a connection goes off that has no deadline; it is set anew as soon as there is one.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a request that is on its way, or the first one of a connection, may take to arrive once the server stops. Its
/// client was not refused, and would take a hang-up for a failure.
const HEAD_GRACE: Duration = Duration::from_secs(1);

/// Answers that break off in their middle.
static BROKEN: Seldom = Seldom::new();

/// A connection that was accepted.
pub(super) struct Connection<H> {
    face: Arc<Face<H>>,
    address: SocketAddr,
    stop: CancellationToken,
}

impl<H: Handler> Connection<H> {
    pub(super) const fn new(face: Arc<Face<H>>, address: SocketAddr, stop: CancellationToken) -> Self {
        Self { face, address, stop }
    }

    /// Lives until either side ends it, or a deadline does.
    pub(super) async fn run(self, stream: TcpStream) {
        // An answer is written as a whole; waiting for more of it would only delay it.
        if let Err(error) = stream.set_nodelay(true) {
            log::debug!(peer:% = self.address, reason:% = error; "connection without TCP_NODELAY");
        }
        let Some(tls) = &self.face.tls else { return self.speak(stream, None, None).await };
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
                count(&self.face.metrics.handshakes_failed);
                log::debug!(peer:% = self.address, reason:% = error; "connection refused by TLS");
            }
        }
    }

    async fn speak<S>(&self, stream: S, node: Option<NodeId>, visitor: Option<Arc<Visitor>>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let metrics = &self.face.metrics;
        let progress = Progress::new();
        let stream = Watched::new(stream, Arc::clone(&progress), Arc::clone(metrics));
        let caller = Caller { address: self.address, node };
        let service = service_fn(|request| {
            progress.answering();
            self.answer(request, caller, visitor.clone(), Arc::clone(&progress))
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
        let mut timer = pin!(sleep_until(Instant::now() + NEVER));
        // Until when this may still go on, once the server stops.
        let mut last: Option<Instant> = None;
        let mut waits_for_head = false;
        loop {
            let due = || earlier(progress.deadline(&self.face.limits), last.map(|last| (last, Overdue::Drain)));
            let driven = poll_fn(|cx| {
                let driven = caught(|| connection.as_mut().poll(cx));
                // Deadlines move with nearly everything that happens, and nearly always away from us: then the timer
                // stays as it is, and finds out when it goes off.
                if let Some((due, _)) = due().filter(|(due, _)| *due < timer.deadline()) {
                    timer.as_mut().reset(due);
                }
                match driven {
                    Ok(Poll::Ready(result)) => Poll::Ready(Event::Ended(result)),
                    Ok(Poll::Pending) if timer.as_mut().poll(cx).is_ready() => Poll::Ready(Event::Timer),
                    Ok(Poll::Pending) => Poll::Pending,
                    Err(panic) => Poll::Ready(Event::Panicked(panic)),
                }
            });
            let event = tokio::select! {
                biased;
                event = driven => event,
                () = self.stop.cancelled(), if last.is_none() => Event::Stop,
            };
            match event {
                Event::Ended(Ok(())) => return,
                Event::Ended(Err(error)) => return self.note_end(&error),
                Event::Panicked(panic) => return self.note_panic(&*panic),
                Event::Stop if progress.is_asking() => {
                    last = Some(Instant::now() + HEAD_GRACE);
                    waits_for_head = true;
                }
                Event::Timer if waits_for_head && !progress.is_asking() => {
                    // It came in time, and its answer says that it is the last.
                    waits_for_head = false;
                    last = Some(Instant::now() + self.face.limits.drain_timeout);
                }
                Event::Stop => {
                    last = Some(Instant::now() + self.face.limits.drain_timeout);
                    connection.as_mut().graceful_shutdown();
                }
                Event::Timer => match due() {
                    Some((due, why)) if due <= Instant::now() => return self.note_overdue(why),
                    Some((due, _)) => timer.as_mut().reset(due),
                    None => timer.as_mut().reset(Instant::now() + NEVER),
                },
            }
        }
    }

    /// From what hyper read to an answer.
    async fn answer(
        &self,
        request: hyper::Request<Incoming>,
        caller: Caller,
        visitor: Option<Arc<Visitor>>,
        progress: Arc<Progress>,
    ) -> Result<Response<Tracked>, Infallible> {
        let (head, body) = request.into_parts();
        let is_head = head.method == Method::HEAD;
        let target = head.uri.path_and_query().map_or("", |target| target.as_str());
        let route = Route::parse(target);
        let index = route.as_ref().map(Route::index);
        let host = Host::of(head.version, &head.headers);
        let blocked = visitor.as_ref().is_some_and(|visitor| visitor.is_blocked());
        // What the blocked one is told is told to its end; only what was begun before is cut off.
        let visitor = visitor.filter(|_| !blocked);
        let mut response = if blocked {
            reply::closing(reply::not_found())
        } else if host == Host::Doubtful {
            reply::bad_request()
        } else if !is_head && head.method != Method::GET {
            reply::method_not_allowed()
        } else if host == Host::Elsewhere && self.face.local_only {
            log::debug!(peer:% = caller.address; "a request meant for another host, perhaps made by a web page");
            reply::not_found()
        } else if let Some(route) = route {
            let request = Request { route, head: is_head, headers: head.headers, caller };
            let mut answer = pin!(self.face.handler.answer(request));
            match poll_fn(|cx| transposed(caught(|| answer.as_mut().poll(cx)))).await {
                Ok(response) => response,
                Err(panic) => {
                    self.note_panic(&*panic);
                    reply::closing(reply::not_found())
                }
            }
        } else {
            reply::not_found()
        };
        // A body is read by nobody, so that what comes next on this connection would not be a request.
        if !body.is_end_stream() || self.stop.is_cancelled() {
            response = reply::closing(response);
        }
        drop(body);
        self.face.metrics.answered(index, response.status());
        log::debug!(peer:% = caller.address, status = response.status().as_u16(), path = target; "answered");
        Ok(response.map(|body| Tracked {
            body: if is_head { body.into_announced() } else { body },
            failed: None,
            visitor,
            progress,
            metrics: Arc::clone(&self.face.metrics),
        }))
    }

    /// An end that HTTP did not foresee. Clients go away all the time; only what we broke is worth a line.
    fn note_end(&self, error: &hyper::Error) {
        log::debug!(peer:% = self.address, reason:% = error; "connection ended");
    }

    fn note_panic(&self, panic: &(dyn Any + Send)) {
        count(&self.face.metrics.panics);
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
        log::error!(peer:% = self.address, reason = text; "defect: a request made the program panic; please report it");
    }

    fn note_overdue(&self, why: Overdue) {
        let metrics = &self.face.metrics;
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
    Ended(hyper::Result<()>),
    Panicked(Box<dyn Any + Send>),
    Stop,
    Timer,
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
        self.0.connections_now.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
    }
}

/// Runs `work` and turns its panic into a value. What a panic may leave half done is dropped by the caller.
fn caught<T>(work: impl FnOnce() -> T) -> Result<T, Box<dyn Any + Send>> {
    catch_unwind(AssertUnwindSafe(work))
}

fn transposed<T, E>(result: Result<Poll<T>, E>) -> Poll<Result<T, E>> {
    match result {
        Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(error) => Poll::Ready(Err(error)),
    }
}

/// A body whose end is noticed, good or bad.
struct Tracked {
    body: Body,
    /// What ended it before its time, until what came before has been sent.
    failed: Option<HttpError>,
    /// Whom it goes to, on a face that knows.
    visitor: Option<Arc<Visitor>>,
    progress: Arc<Progress>,
    metrics: Arc<HttpMetrics>,
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.progress.answered();
    }
}

impl HttpBody for Tracked {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        if let Some(error) = self.failed.take() {
            if self.progress.is_blocked() {
                // Polled again when the reader took something.
                self.failed = Some(error);
                return Poll::Pending;
            }
            return Poll::Ready(Some(Err(error)));
        }
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let (Some(visitor), Poll::Ready(Some(Ok(frame)))) = (&self.visitor, &frame) {
            if visitor.is_blocked() {
                return Poll::Ready(Some(Err(HttpError::Blocked)));
            }
            visitor.took(frame.data_ref().map_or(0, |data| data.len() as u64));
        }
        match frame {
            Poll::Ready(Some(Err(error))) => {
                count(&self.metrics.broken);
                log::log!(BROKEN.level(), reason:% = error; "an answer broke off");
                // hyper throws away what it holds when a body fails, head included. With a pause it sends that first,
                // and the reader can go on elsewhere with all that there was.
                self.failed = Some(error);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            frame => frame,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.failed.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
