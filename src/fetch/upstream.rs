//! Binary caches on the Internet: from the configuration only, never from what a peer says.

use super::decode;
use super::error::SourceError;
use crate::metrics::{Counter, Metrics};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, HOST, LOCATION, RANGE, USER_AGENT};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
const PATIENCE: u32 = 3;
/// The first and the longest time for which it is left alone. Meanwhile misses are answered at once: a machine without
/// Internet must not wait for it on every path.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The HTTP client of all upstreams; cheap to clone.
pub(super) type HttpClient = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// Makes the client. Without CA certificates on the machine only plain HTTP works, which is said once.
pub(super) fn http_client() -> HttpClient {
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
pub(super) struct Upstream {
    /// Without a slash at its end.
    pub(super) base: Uri,
    client: HttpClient,
    /// Bytes of NARs that came from it, or from another on the same host.
    received: Arc<Counter>,
    rest: Mutex<Rest>,
}

/// Until when it is left alone.
#[derive(Default)]
struct Rest {
    /// In a row.
    failures: u32,
    /// How often it was left alone since it last answered.
    rests: u32,
    until: Option<Instant>,
}

impl Upstream {
    pub(super) fn new(base: Uri, client: HttpClient, metrics: &Metrics) -> Self {
        let received = metrics.upstream(&host(&base));
        Self { base, client, received, rest: Mutex::default() }
    }

    /// Its host, and its port if it names one: what people call it.
    pub(super) fn host(&self) -> String {
        host(&self.base)
    }

    /// Notes that so many bytes of a NAR came from it.
    pub(super) fn gave(&self, bytes: u64) {
        self.received.add(bytes);
    }

    /// How many bytes of NARs came from it so far.
    pub(super) fn given(&self) -> u64 {
        self.received.get()
    }

    /// Whether it is worth asking now.
    pub(super) fn is_available(&self) -> bool {
        self.rest().until.is_none_or(|until| until <= Instant::now())
    }

    fn rest(&self) -> parking_lot::MutexGuard<'_, Rest> {
        self.rest.lock()
    }

    /// Notes that it answered.
    fn answered(&self) {
        let mut rest = self.rest();
        if rest.rests > 0 {
            log::info!(upstream:% = self; "the upstream answers again");
        }
        *rest = Rest::default();
    }

    /// Notes that it could not be reached, or let a lookup's whole budget go by.
    pub(super) fn failed(&self) {
        let mut rest = self.rest();
        // Requests that were under way when it was left alone tell nothing new.
        if rest.until.is_some_and(|until| until > Instant::now()) {
            return;
        }
        rest.failures += 1;
        if rest.failures < PATIENCE {
            return;
        }
        let pause = BACK_OFF.0.saturating_mul(1 << rest.rests.min(16)).min(BACK_OFF.1);
        if rest.rests == 0 {
            log::warn!(upstream:% = self; "the upstream cannot be reached; going on without it");
        }
        rest.rests += 1;
        rest.until = Some(Instant::now() + pause);
    }

    /// Forgets failures: the network is another one now.
    pub(super) fn try_again(&self) {
        let mut rest = self.rest();
        (rest.failures, rest.until) = (0, None);
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
    pub(super) async fn get(&self, url: &str, from: u64) -> Result<Response<Incoming>, SourceError> {
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
            Err(_) => self.failed(),
        }
        result
    }

    /// A small document, whole; `None` if the upstream does not have it.
    ///
    /// # Errors
    /// As for [`Self::get`], or more than `limit` bytes.
    pub(super) async fn document(&self, url: &str, limit: usize) -> Result<Option<Bytes>, SourceError> {
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

/// Host and port of a URI, without the credentials that it may carry.
fn host(base: &Uri) -> String {
    let host = base.host().unwrap_or_default();
    base.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
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
pub(super) async fn collect(mut body: Incoming, limit: usize) -> Result<Bytes, SourceError> {
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

/// Where a redirection leads, if it may be followed: never from TLS to plain HTTP, and never to an address inside a
/// network from a name outside it.
fn redirection(from: &Uri, response: &Response<Incoming>) -> Result<Uri, SourceError> {
    let target = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let refused = || SourceError::Redirect(target.chars().take(200).collect());
    let uri: Uri = target.parse().map_err(|_| refused())?;
    let Some(host) = uri.host() else {
        // Relative to the host that sent it.
        let mut parts = from.clone().into_parts();
        parts.path_and_query = uri.into_parts().path_and_query;
        return Uri::from_parts(parts).map_err(|_| refused());
    };
    let downgrade = from.scheme_str() == Some("https") && uri.scheme_str() != Some("https");
    let inside = !is_public_host(host) && from.host() != Some(host);
    if downgrade || inside { Err(refused()) } else { Ok(uri) }
}

/// Whether a host may be one of the public Internet: a public address, or a name with a domain whose last part is not a
/// number (which resolvers take for an address in disguise). What the name resolves to is not looked at.
fn is_public_host(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = host.parse::<IpAddr>() {
        return is_public(address);
    }
    let numeric = |part: &str| part.starts_with(|c: char| c.is_ascii_digit());
    host.trim_end_matches('.')
        .rsplit_once('.')
        .is_some_and(|(_, last)| !last.is_empty() && !numeric(last) && last != "local")
}

/// Whether an address is one of the public Internet.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            // 0/8, carrier-grade NAT (100.64/10) and benchmarks (198.18/15) besides those that have names.
            let special = matches!(v4.octets(), [0, ..] | [100, 64..=127, ..] | [198, 18..=19, ..]);
            !(v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_broadcast() || special)
        }
        IpAddr::V6(v6) => {
            let mapped_public = v6.to_ipv4_mapped().is_none_or(|v4| is_public(v4.into()));
            !(v6.is_loopback() || v6.is_unspecified() || v6.is_unique_local() || v6.is_unicast_link_local())
                && mapped_public
        }
    }
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

    #[test]
    fn addresses_inside_networks_are_known() {
        for inside in
            ["127.0.0.1", "10.1.2.3", "192.168.1.1", "169.254.169.254", "::1", "fe80::1", "fd00::1", "::ffff:10.0.0.1"]
        {
            assert!(!is_public(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["1.1.1.1", "2a00::1"] {
            assert!(is_public(outside.parse().unwrap()), "{outside}");
        }
        for inside in
            ["localhost", "router.local", "router", "2130706433", "0x7f.1", "100.64.0.1", "127.1", "[::1]", ""]
        {
            assert!(!is_public_host(inside), "{inside}");
        }
        for outside in ["cache.example.org", "1.1.1.1", "1.example.org", "[2a00::1]"] {
            assert!(is_public_host(outside), "{outside}");
        }
    }

    #[tokio::test]
    async fn an_unreachable_upstream_is_left_alone_for_a_while() {
        // A port that was free a moment ago; nothing listens there.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let upstream = upstream(&format!("http://127.0.0.1:{port}"));
        assert!(upstream.is_available());
        for _ in 0..PATIENCE {
            assert!(upstream.is_available(), "a blip is forgiven");
            assert!(matches!(upstream.document("x", 10).await, Err(SourceError::Connection(_))));
        }
        assert!(!upstream.is_available());
        upstream.try_again();
        assert!(upstream.is_available());
    }
}
