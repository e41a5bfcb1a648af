//! Binary caches on the Internet: from the configuration only, never from what a peer says.

use super::redirect::redirection;
use super::{Remote, SourceId, decode, host};
use crate::fetch::error::SourceError;
use crate::metrics::{Counter, Metrics};
use crate::nix::StoreHash;
use crate::peers::{Failure, Sample};
use crate::resilience::{Breaker, Schedule};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, HOST, RANGE, USER_AGENT};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(3);
/// How long an upstream may take to its answer's head.
const HEAD: Duration = Duration::from_secs(5);
/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(60);
/// How many redirections are followed.
const REDIRECTS: usize = 3;
/// How often in a row an upstream fails or does not answer a lookup in time before it is left alone. One failure is a blip,
/// and a lookup that is not answered may be one that Nix remembers as a miss for an hour.
const FAILURES_MAX: u32 = 3;
/// For how long it is left alone. Meanwhile misses are answered at once: a machine without Internet must not wait for it on
/// every path.
const PAUSES: Schedule =
    Schedule { first: Duration::from_secs(1), factor: 2, most: Duration::from_secs(60), spread: false };

/// The HTTP client of all upstreams; cheap to clone.
pub(crate) type HttpClient = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// Makes the client. Without CA certificates on the machine only plain HTTP works, which is said once.
pub(crate) fn http_client() -> HttpClient {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        log::warn!(
            "no CA certificates found on this machine: upstreams with https:// cannot be reached (install ca-certificates)"
        );
    }
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_root_certificates(roots).with_no_client_auth());
    let mut tcp = HttpConnector::new();
    tcp.set_connect_timeout(Some(CONNECT));
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(IDLE));
    tcp.enforce_http(false);
    #[allow(clippy::expect_used)] // ring supports the default protocol versions, which is all that could fail.
    let https = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(tls.expect("ring supports TLS 1.2 and 1.3"))
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).build(https)
}

/// One upstream.
pub(crate) struct Upstream {
    /// Without a slash at its end.
    pub(crate) base: Uri,
    client: HttpClient,
    /// Bytes of NARs that came from it, or from another on the same host.
    received: Arc<Counter>,
    breaker: Mutex<Breaker>,
}

impl Upstream {
    pub(crate) fn new(base: Uri, client: HttpClient, metrics: &Metrics) -> Self {
        let received = metrics.upstream(&host(&base));
        Self { base, client, received, breaker: Mutex::new(Breaker::new(FAILURES_MAX, PAUSES)) }
    }

    /// Notes that so many bytes of a NAR came from it.
    pub(crate) fn gave(&self, bytes: u64) {
        self.received.add(bytes);
    }

    /// How many bytes of NARs came from it so far.
    pub(crate) fn given(&self) -> u64 {
        self.received.get()
    }

    /// Whether it is worth asking now.
    pub(crate) fn is_available(&self) -> bool {
        self.breaker.lock().permits(Instant::now())
    }

    /// Notes that it answered.
    fn answered(&self) {
        if self.breaker.lock().succeeded() {
            log::info!(upstream:% = self; "the upstream answers again");
        }
    }

    /// Notes that it could not be reached, or kept us waiting.
    fn unreachable(&self) {
        let mut breaker = self.breaker.lock();
        let was_doubtful = breaker.is_doubtful();
        if breaker.failed(Instant::now()).is_some() && !was_doubtful {
            log::warn!(upstream:% = self; "the upstream cannot be reached; going on without it");
        }
    }

    /// Forgets failures: the network is another one now.
    pub(crate) fn try_again(&self) {
        self.breaker.lock().succeeded();
    }

    /// The address of a document of this cache; `url` is relative, or absolute with this upstream's own origin.
    ///
    /// Nobody signs a narinfo's URL: an absolute one to another host is not followed.
    fn resolve(&self, url: &str) -> Result<Uri, SourceError> {
        let refused = || SourceError::Redirect(url.chars().take(200).collect());
        if url.contains("://") {
            let uri: Uri = url.parse().map_err(|_| refused())?;
            return if (uri.scheme(), uri.authority()) == (self.base.scheme(), self.base.authority()) {
                Ok(uri)
            } else {
                Err(refused())
            };
        }
        format!("{}/{url}", self.to_string().trim_end_matches('/')).parse().map_err(|_| refused())
    }

    /// Asks for `url`, from byte `from` on if that is not zero. The answer has status 200 or 206.
    ///
    /// # Errors
    /// No connection or no answer in time; any other status, redirections that are not followed.
    pub(crate) async fn get(&self, url: &str, from: u64) -> Result<Response<Incoming>, SourceError> {
        let mut uri = self.resolve(url)?;
        for _ in 0..=REDIRECTS {
            let response = self.request(&uri, from).await?;
            let status = response.status();
            if status.is_redirection() {
                uri = redirection(&uri, &response)?;
                continue;
            }
            return match status {
                StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(response),
                other => Err(SourceError::Status(other.as_u16())),
            };
        }
        Err(SourceError::Redirect("yet another place".to_owned()))
    }

    async fn request(&self, uri: &Uri, from: u64) -> Result<Response<Incoming>, SourceError> {
        let mut request = Request::get(uri.clone()).header(USER_AGENT, concat!("peernix/", env!("CARGO_PKG_VERSION")));
        if let Some(host) = uri.authority() {
            request = request.header(HOST, host.as_str());
        }
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        let request = request.body(Empty::new()).map_err(|error| SourceError::Connection(error.to_string()))?;
        let result = match tokio::time::timeout(HEAD, self.client.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(SourceError::Connection(chain(&error))),
            Err(_) => Err(SourceError::Stalled(HEAD)),
        };
        match &result {
            Ok(_) => self.answered(),
            Err(_) => self.unreachable(),
        }
        result
    }

    /// A small document, whole; `None` if the upstream does not have it.
    ///
    /// # Errors
    /// As for [`Self::get`], or more than `limit` bytes.
    pub(crate) async fn document(&self, url: &str, limit: usize) -> Result<Option<Bytes>, SourceError> {
        match self.get(url, 0).await {
            Ok(response) => {
                let encoding = response.headers().get(CONTENT_ENCODING).cloned();
                let body = collect(response.into_body(), limit).await?;
                match encoding {
                    None => Ok(Some(body)),
                    Some(encoding) => decode::document(encoding.as_bytes(), body, limit).await.map(Some),
                }
            }
            // As Nix reads them: 403 is how S3 says that there is no such object.
            Err(SourceError::Status(403 | 404 | 410)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Remote for Upstream {
    fn id(&self) -> SourceId {
        SourceId::Upstream(self.base.clone())
    }

    fn succeeded(&self, _: Sample) {}

    fn failed(&self, _: Failure) {}

    fn bar(&self, _: StoreHash) -> Option<usize> {
        // The administrator's choice.
        None
    }

    fn ban(&self, _: &str, _: Duration) -> bool {
        false
    }

    fn kept_us_waiting(&self) {
        self.unreachable();
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.base.to_string().trim_end_matches('/'))
    }
}

/// A body of at most `limit` bytes, within [`HEAD`].
///
/// Copied into one piece as it comes: its frames keep alive the buffers they were received in, so that a body sent byte by
/// byte would take thousands of times its size.
pub(crate) async fn collect(mut body: Incoming, limit: usize) -> Result<Bytes, SourceError> {
    let whole = async {
        let mut all = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| SourceError::Connection(error.to_string()))?;
            if let Some(chunk) = frame.data_ref() {
                if chunk.len() > limit - all.len() {
                    return Err(SourceError::TooLarge(limit));
                }
                all.extend_from_slice(chunk);
            }
        }
        Ok(all.into())
    };
    tokio::time::timeout(HEAD, whole).await.unwrap_or(Err(SourceError::Stalled(HEAD)))
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(base: &str) -> Upstream {
        Upstream::new(base.parse().unwrap(), http_client(), &Metrics::default())
    }

    #[tokio::test]
    async fn documents_are_sought_under_the_base_only() {
        let plain = upstream("https://cache.example.org");
        assert_eq!(plain.resolve("nar/x.nar.xz").unwrap(), "https://cache.example.org/nar/x.nar.xz");
        let nested = upstream("http://cache.example.org:8080/some/path/");
        assert_eq!(nested.resolve("nar/x?hash=y").unwrap(), "http://cache.example.org:8080/some/path/nar/x?hash=y");
        assert!(nested.resolve("http://cache.example.org:8080/elsewhere").is_ok());
        for url in ["http://169.254.169.254/latest", "https://cache.example.org:8080/x", "file:///etc/passwd", "a b"] {
            assert!(nested.resolve(url).is_err(), "{url}");
        }
    }

    #[tokio::test]
    async fn an_unreachable_upstream_is_left_alone_for_a_while() {
        // A port that was free a moment ago; nothing listens there.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let upstream = upstream(&format!("http://127.0.0.1:{port}"));
        assert!(upstream.is_available());
        for _ in 0..FAILURES_MAX {
            assert!(upstream.is_available(), "a blip is forgiven");
            assert!(matches!(upstream.document("x", 10).await, Err(SourceError::Connection(_))));
        }
        assert!(!upstream.is_available());
        upstream.try_again();
        assert!(upstream.is_available());
    }
}
