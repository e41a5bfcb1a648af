//! A machine with a predecessor as a source: an HTTP server that nobody vouches for. It leads nowhere else, and what comes is verified as ever.

use super::direct::Direct;
use super::http_client::HttpClient;
use super::unblamed::Unblamed;
use super::upstream::collect;
use super::{Abilities, ByteFlow, NarId, Remote, Source, SourceId, Standing, Tier, decode};
use crate::fetch::error::SourceError;
use crate::peers::hello::WEIGHT_MAX;
use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::header::{HOST, USER_AGENT};
use hyper::{Request, Response, StatusCode, Uri};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How long it may be silent when there is no other source.
const SILENCE: Duration = Duration::from_secs(5);

/// One machine.
pub(crate) struct PredecessorNode {
    address: SocketAddr,
    client: Arc<HttpClient>,
    remote: Unblamed,
    given: AtomicU64,
}

impl PredecessorNode {
    /// The machine whose server is at `address`.
    pub(crate) fn new(address: SocketAddr, client: Arc<HttpClient>) -> Self {
        let base = Uri::builder().scheme("http").authority(address.to_string()).path_and_query("/").build();
        Self {
            address,
            client,
            remote: Unblamed(SourceId::Upstream(base.unwrap_or_default())),
            given: AtomicU64::new(0),
        }
    }

    pub(crate) fn remote(&self) -> &dyn Remote {
        &self.remote
    }

    async fn get(&self, url: &str) -> Result<Response<Incoming>, SourceError> {
        let connection = |error: &dyn std::fmt::Display| SourceError::Connection(error.to_string());
        let request = Request::get(format!("http://{}/{url}", self.address))
            .header(HOST, self.address.to_string())
            .header(USER_AGENT, concat!("peernix/", env!("CARGO_PKG_VERSION")))
            .body(Empty::<Bytes>::new())
            .map_err(|error| connection(&error))?;
        self.client.request(request).await
    }

    /// A small document; `None`: it has none.
    ///
    /// # Errors
    /// No answer, another status, more than `limit` bytes.
    pub(crate) async fn document(&self, url: &str, limit: usize) -> Result<Option<Bytes>, SourceError> {
        let response = self.get(url).await?;
        match response.status() {
            StatusCode::OK => collect(response.into_body(), limit).await.map(Some),
            StatusCode::NOT_FOUND => Ok(None),
            other => Err(SourceError::Status(other.as_u16())),
        }
    }
}

/// A NAR of it.
pub(crate) struct PredecessorNar {
    pub(crate) node: Arc<PredecessorNode>,
    /// As in its narinfo.
    pub(crate) url: String,
}

#[async_trait]
impl Source for PredecessorNar {
    fn remote(&self) -> &dyn Remote {
        self.node.remote()
    }

    fn abilities(&self) -> Abilities {
        // It knows no ranges: what was there before is sent again, and skipped.
        Abilities { begins_anywhere: false, silence: SILENCE, is_far: false, is_partial: false, is_once: false }
    }

    fn standing(&self) -> Standing {
        Standing { usable: true, tier: Tier::Doubtful, latency: None, throughput: None, weight: WEIGHT_MAX }
    }

    fn given(&self) -> u64 {
        self.node.given.load(Relaxed)
    }

    fn gave(&self, bytes: u64) {
        self.node.given.fetch_add(bytes, Relaxed);
    }

    async fn open(&self, nar: &NarId, from: u64) -> Result<Box<dyn ByteFlow>, SourceError> {
        let response = self.node.get(&self.url).await?;
        if let Some(layer) = decode::encodings(response.headers())?.first() {
            return Err(SourceError::Encoding(layer.name().to_owned()));
        }
        Ok(Box::new(Direct::new(response, from, nar.size)?))
    }
}
