//! One request and its answer: what holds for every listener is checked here, before its handler is asked.

use super::caught::caught;
use super::listener::{Caller, Handler, Request};
use super::marks::{InFlight, Marks};
use super::serving::Serving;
use super::tracked::Tracked;
use crate::http::protocol::body::Body;
use crate::http::protocol::host::Host;
use crate::http::protocol::reply;
use crate::http::protocol::routes::Route;
use crate::peers::Visitor;
use crate::resilience::LogThrottle;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, CONTENT_LENGTH};
use hyper::{Method, Response, StatusCode, Version};
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Times in which an address asks too much.
static TOO_MANY: LogThrottle = LogThrottle::new();

/// From what hyper read to an answer; the last one of its connection if the server stops.
pub(super) async fn answer<H: Handler>(
    serving: &Serving<H>,
    request: hyper::Request<Incoming>,
    (caller, visitor): (Caller, Option<Arc<Visitor>>),
    in_flight: InFlight,
    stop: &CancellationToken,
) -> Result<Response<Tracked>, Infallible> {
    let listener = &*serving.listener;
    let (head, mut body) = request.into_parts();
    let is_head = head.method == Method::HEAD;
    let target = head.uri.path_and_query().map_or("", |target| target.as_str());
    let route = Route::parse(target);
    let index = route.as_ref().map(Route::index);
    let host = Host::of(head.version, &head.uri, &head.headers);
    let blocked = visitor.as_ref().is_some_and(|visitor| visitor.is_blocked());
    // What the blocked one is told is told to its end; only what was begun before is cut off.
    let visitor = visitor.filter(|visitor| !visitor.is_cut_off());
    let mut response = if blocked {
        reply::closing(reply::not_found())
    } else if route.as_ref().is_none_or(Route::is_counted)
        && !serving.requests.permits_soon(caller.address.ip(), caller.node.is_none()).await
    {
        log::log!(TOO_MANY.level(), peer:% = caller.address; "requests are turned away: more of this address than [limits] requests_per_second");
        reply::busy()
    } else if host == Host::Doubtful {
        reply::bad_request()
    } else if let Some(allowed) = allowed_instead(&head.method, route.as_ref()) {
        reply::method_not_allowed(allowed)
    } else if host == Host::Elsewhere && listener.local_only {
        log::debug!(peer:% = caller.address; "a request meant for another host, perhaps made by a web page");
        reply::not_found()
    } else if head.version == Version::HTTP_2 && route.as_ref().is_some_and(Route::is_stream) {
        // A thousand of these on one connection would be a thousand buffers; over HTTP/1.1 they are as many connections.
        reply::misdirected()
    } else if let Some(route) = route {
        let text = match route.body_max() {
            Some(most) => whole(&mut body, most, listener.limits.header_timeout).await,
            None => Some(Bytes::new()),
        };
        match text {
            Some(text) => {
                let request = Request { route, head: is_head, headers: head.headers, body: text, caller };
                caught(pin!(listener.handler.answer(request))).await.unwrap_or_else(|panic| {
                    panic.note(caller.address, &listener.metrics);
                    reply::closing(reply::not_found())
                })
            }
            None => reply::bad_request(),
        }
    } else {
        reply::not_found()
    };
    // What of a body is left is read by nobody, so that what comes next on this connection would not be a request.
    if !body.is_end_stream() || stop.is_cancelled() {
        response = reply::closing(response);
    }
    drop(body);
    if head.version == Version::HTTP_2 {
        response = for_http_2(response, is_head, in_flight.marks());
    }
    listener.metrics.answered(index, response.status());
    log::debug!(peer:% = caller.address, status = response.status().as_u16(), path = target; "answered");
    Ok(response.map(|body| {
        let body = if is_head { body.into_announced() } else { body };
        Tracked::new(body, visitor, Arc::new(in_flight), Arc::clone(&listener.metrics))
    }))
}

/// Which methods may be used for this route, if this one may not.
fn allowed_instead(method: &Method, route: Option<&Route>) -> Option<&'static str> {
    match route.and_then(Route::body_max) {
        Some(_) => (method != Method::POST).then_some("POST"),
        None => (method != Method::GET && method != Method::HEAD).then_some("GET, HEAD"),
    }
}

/// All of a body, if it is no longer than `most` bytes and there within `limit`.
async fn whole(body: &mut Incoming, most: usize, limit: Duration) -> Option<Bytes> {
    let all = timeout(limit, Limited::new(body, most).collect()).await;
    Some(all.ok()?.ok()?.to_bytes())
}

/// The same answer where connections are not ended by a header, and hyper does not know that a HEAD has no body.
fn for_http_2(mut response: Response<Body>, is_head: bool, marks: &Marks) -> Response<Body> {
    if response.headers_mut().remove(CONNECTION).is_some() {
        marks.end_after_answer();
    }
    if !is_head {
        return response;
    }
    if let Some(length) = response.body().length().filter(|_| response.status() != StatusCode::NOT_MODIFIED) {
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    response.map(|_| Body::empty())
}
