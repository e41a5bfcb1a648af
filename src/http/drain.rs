//! Taking no new work: lookups are answered with "not found", so that whoever asks goes elsewhere, while NARs that were
//! promised before are served to their end.

use super::protocol::body::Body;
use super::protocol::reply;
use super::protocol::routes::Route;
use super::server::listener::{Handler, Request};
use hyper::Response;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Whether new work is taken; shared by all listeners and by whoever decides it.
#[derive(Debug, Default)]
pub struct Drain(AtomicBool);

impl Drain {
    /// Whether no new work is taken.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.load(Relaxed)
    }

    /// Takes no new work from now on, or takes it again. False if it was so already.
    pub fn set(&self, on: bool) -> bool {
        self.0.swap(on, Relaxed) != on
    }

    /// Whether a request would begin new work that is not taken now.
    #[must_use]
    pub fn refuses(&self, route: &Route) -> bool {
        matches!(route, Route::NarInfo(_) | Route::NarInfos) && self.is_on()
    }
}

/// A handler that refuses new work while its [`Drain`] is on.
pub struct Draining<H> {
    inner: Arc<H>,
    drain: Arc<Drain>,
}

impl<H> Draining<H> {
    /// What answers is `inner`, with `drain` before it.
    #[must_use]
    pub const fn new(inner: Arc<H>, drain: Arc<Drain>) -> Self {
        Self { inner, drain }
    }
}

impl<H: Handler> Handler for Draining<H> {
    async fn answer(&self, request: Request) -> Response<Body> {
        if self.drain.refuses(&request.route) {
            return reply::not_found();
        }
        self.inner.answer(request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::server::listener::Caller;
    use bytes::Bytes;
    use hyper::{HeaderMap, StatusCode};

    struct Everything;

    impl Handler for Everything {
        async fn answer(&self, _: Request) -> Response<Body> {
            reply::text("yes")
        }
    }

    #[tokio::test]
    async fn only_lookups_are_refused_and_only_while_it_is_on() {
        let drain = Arc::new(Drain::default());
        let face = Draining::new(Arc::new(Everything), Arc::clone(&drain));
        let status = async |path: &str| {
            let caller = Caller { address: "127.0.0.1:1".parse().unwrap(), node: None };
            let route = Route::parse(path).unwrap();
            face.answer(Request { route, head: false, headers: HeaderMap::new(), body: Bytes::new(), caller })
                .await
                .status()
        };
        let narinfo = "/0mdqa9w1p6cmli6976v4wi0sw9r4p5pr.narinfo";
        let nar = "/nar/0mdqa9w1p6cmli6976v4wi0sw9r4p5pr-0mdqa9w1p6cmli6976v4wi0sw9r4p5pr0mdqa9w1p6cmli6976v4.nar";
        assert_eq!(status(narinfo).await, StatusCode::OK);
        assert!(drain.set(true) && !drain.set(true));
        assert_eq!(status(narinfo).await, StatusCode::NOT_FOUND);
        let others = ["/nix-cache-info", "/health"].into_iter().chain(Route::parse(nar).map(|_| nar));
        for other in others {
            assert_eq!(status(other).await, StatusCode::OK, "{other}");
        }
        assert!(drain.set(false));
        assert_eq!(status(narinfo).await, StatusCode::OK);
    }
}
