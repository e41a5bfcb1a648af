//! What people see at the gateway: made by a room above this one, which knows the service as a whole.

use crate::http::protocol::body::Body;
use crate::http::protocol::routes::PagePart;
use async_trait::async_trait;
use hyper::Response;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked<'a> {
    /// The page, by a browser that reached us under this host.
    Page(&'a str),
    /// The same as text.
    Text(&'a str),
    /// A part of the page.
    Part(PagePart),
}

/// Who makes it.
#[async_trait]
pub trait Pages: Send + Sync {
    /// What is asked for.
    async fn answer(&self, asked: Asked<'_>) -> Response<Body>;
}
