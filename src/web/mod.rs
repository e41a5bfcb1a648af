//! The page at the gateway's `/`, for the people of this machine: who is here, what is moving, what was saved, and what is wrong. It needs
//! no script to be read; with one it keeps itself up to date.
//!
//! From the bottom: `overview` is what it tells; `picture` and `chart` draw; `sections` are its parts, each made anew when something
//! changed; `page` puts them together; `text` is the same for a terminal; `live` goes on telling.
#![forbid(unsafe_code)]

mod chart;
mod live;
mod overview;
mod page;
mod picture;
mod sections;
mod text;
mod words;

#[cfg(test)]
mod tests;

use crate::control::{Control, Outcome};
use crate::http::{Asked, Body, PagePart, Pages, reply};
use async_trait::async_trait;
use hyper::header::{CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use hyper::{Response, StatusCode};
use overview::Overview;
use sections::Sections;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How many browsers are told what changes; further ones have the page as it was when it was opened.
const READERS_MAX: usize = 16;
/// For how long what was found out is good for all of them.
const FRESH: Duration = Duration::from_millis(900);

/// Nothing from anywhere else, and nothing that stands in the page itself is run.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const CSS: HeaderValue = HeaderValue::from_static("text/css; charset=utf-8");
const JAVASCRIPT: HeaderValue = HeaderValue::from_static("text/javascript; charset=utf-8");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");

/// The page. A cheap handle.
#[derive(Clone)]
pub struct Page(Arc<Inner>);

struct Inner {
    control: Arc<dyn Control>,
    stop: CancellationToken,
    readers: Arc<Semaphore>,
    last: Mutex<Option<(Instant, Arc<Sections>)>>,
}

impl Page {
    /// A page about the service that is asked here, until it stops.
    #[must_use]
    pub fn new(control: Arc<dyn Control>, stop: CancellationToken) -> Self {
        let readers = Arc::new(Semaphore::new(READERS_MAX));
        Self(Arc::new(Inner { control, stop, readers, last: Mutex::default() }))
    }

    /// Its parts as they are now, or were a moment ago.
    async fn sections(&self) -> Outcome<Arc<Sections>> {
        // Whoever comes meanwhile waits, and has the same.
        let mut last = self.0.last.lock().await;
        if let Some((_, sections)) = last.as_ref().filter(|(made, _)| made.elapsed() < FRESH) {
            return Ok(Arc::clone(sections));
        }
        let sections = Arc::new(Sections::of(&Overview::of(&*self.0.control).await?));
        *last = Some((Instant::now(), Arc::clone(&sections)));
        Ok(sections)
    }
}

#[async_trait]
impl Pages for Page {
    async fn answer(&self, asked: Asked<'_>) -> Response<Body> {
        let answer = match asked {
            Asked::Page(host) => match self.sections().await {
                Ok(sections) => reply::ok(reply::media::HTML, reply::keep::NEVER, page::whole(&sections, host)),
                Err(error) => reply::text(format!("The service does not answer: {}\n", error.message)),
            },
            Asked::Text(host) => match Overview::of(&*self.0.control).await {
                Ok(overview) => reply::text(text::whole(&overview, host)),
                Err(error) => reply::text(format!("The service does not answer: {}\n", error.message)),
            },
            Asked::Part(PagePart::Style) => reply::ok(CSS, reply::keep::NEVER, include_str!("page.css")),
            Asked::Part(PagePart::Script) => reply::ok(JAVASCRIPT, reply::keep::NEVER, include_str!("page.js")),
            Asked::Part(PagePart::Events) => match Arc::clone(&self.0.readers).try_acquire_owned() {
                Ok(place) => reply::ok(EVENTS, reply::keep::NEVER, live::body(self.clone(), place)),
                // A browser that hears this does not ask again.
                Err(_) => {
                    let mut response = Response::new(Body::empty());
                    *response.status_mut() = StatusCode::NO_CONTENT;
                    response
                }
            },
        };
        guarded(answer)
    }
}

/// What holds for all that a browser gets.
fn guarded(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(OPENER_POLICY, HeaderValue::from_static("same-origin"));
    response
}
