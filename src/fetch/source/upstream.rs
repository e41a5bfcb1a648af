//! Binary caches on the Internet: from the configuration only, never from what a peer says.

use super::complaints::Complaints;
use super::http_client::{ClientFactory, HEAD, HttpClient};
use super::login::Login;
use super::redirect::follow;
use super::upstream_health::{Health, News, Nothing, is_passing_status};
use super::upstream_options::UpstreamOptions;
use super::upstream_trouble::{Noted, UpstreamTrouble};
use super::{Remote, SourceId, decode, host};
use crate::fetch::error::{Kind, SourceError};
use crate::metrics::{Counter, Metrics};
use crate::nix::{StoreHash, TrustedKeys};
use crate::peers::{Failure, Sample};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, DATE, HOST, LOCATION, RANGE, RETRY_AFTER, USER_AGENT};
use hyper::{Request, Response, StatusCode, Uri};
use parking_lot::Mutex;
use std::fmt;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// How many redirections are followed.
const REDIRECTS: usize = 3;

/// One upstream.
pub(crate) struct Upstream {
    /// Where it is.
    pub(crate) base: Uri,
    pub(crate) options: UpstreamOptions,
    /// Its keys, as they are looked up.
    only: Option<TrustedKeys>,
    client: HttpClient,
    /// For where it redirects to, if its own client shows a certificate.
    elsewhere: Option<HttpClient>,
    complaints: Complaints,
    /// Bytes of NARs that came from it, or from another on the same host.
    received: Counter,
    health: Mutex<Health>,
    noted: Mutex<Noted>,
}

impl Upstream {
    pub(crate) fn new(options: UpstreamOptions, clients: &ClientFactory, metrics: &Metrics) -> Self {
        let (client, elsewhere) = match options.login.identity() {
            None => (clients.client(), None),
            Some(identity) => (clients.client_with_identity(identity), Some(clients.client())),
        };
        Self {
            base: options.url.clone(),
            only: options.public_keys.as_ref().map(|keys| keys.iter().cloned().collect()),
            received: metrics.upstream(&host(&options.url)),
            options,
            client,
            elsewhere,
            complaints: Complaints::default(),
            health: Mutex::new(Health::new()),
            noted: Mutex::default(),
        }
    }

    /// The keys by which it may vouch for paths, beside being trusted. `None`: any.
    pub(crate) const fn only(&self) -> Option<&TrustedKeys> {
        self.only.as_ref()
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
        self.health.lock().permits(Instant::now())
    }

    /// Whether its answer is worth waiting for.
    pub(crate) fn works(&self) -> bool {
        self.health.lock().works()
    }

    /// Whether it is worth asking again when it failed.
    pub(crate) fn is_worth_retries(&self) -> bool {
        self.health.lock().is_worth_retries()
    }

    /// Until when it wants to be left alone, as it said itself.
    pub(crate) fn busy_until(&self) -> Option<Instant> {
        self.health.lock().busy_until()
    }

    /// Notes that what `begun` then came to nothing, with all its attempts.
    pub(crate) fn came_to_nothing(&self, how: Nothing, begun: Instant) {
        if self.health.lock().came_to_nothing(how, begun, Instant::now()) == Some(News::Lost) {
            log::warn!(upstream:% = self; "the upstream cannot be reached; going on without it");
        }
    }

    /// Notes what an answer says of it, whatever was asked for.
    fn heard<B>(&self, response: &Response<B>) {
        let now = Instant::now();
        if is_passing_status(response.status().as_u16()) {
            self.health.lock().was_busy(retry_after(response), now);
        } else if self.health.lock().answered(now) == Some(News::Back) {
            self.complaints.forget();
            log::info!(upstream:% = self; "the upstream answers again");
        }
    }

    /// What is wrong with it, as far as is known; `by_proxy`: a proxy is asked in its place.
    pub(crate) fn troubles(&self, by_proxy: bool) -> Vec<UpstreamTrouble> {
        let works = self.works();
        self.noted.lock().troubles(works, by_proxy)
    }

    /// Notes what an answer, or that there was none, says for people. `is_own`: it comes from the upstream itself, and not from where it
    /// redirects to.
    fn note<B>(&self, answer: &Result<Response<B>, SourceError>, is_own: bool) {
        match answer {
            Ok(response) if is_own => {
                let date = response.headers().get(DATE).and_then(|date| date.to_str().ok());
                let has_login = self.options.login != Login::default();
                self.noted.lock().answered(response.status().as_u16(), date, has_login, SystemTime::now());
            }
            Ok(_) => {}
            Err(error) => self.noted.lock().failed(&error.to_string()),
        }
    }

    /// Forgets failures, and connections that may be dead: the network is another one now, or (with `woke`) the machine
    /// slept.
    pub(crate) fn network_changed(&self, woke: bool) {
        self.health.lock().try_again(Instant::now());
        self.clients().for_each(|client| client.network_changed(woke));
    }

    /// Makes new connections from now on: the way to it is another one.
    pub(crate) fn reconnect(&self) {
        self.clients().for_each(HttpClient::drop_idle);
    }

    fn clients(&self) -> impl Iterator<Item = &HttpClient> {
        std::iter::once(&self.client).chain(&self.elsewhere)
    }

    /// The address of a document of this cache. Nobody signs a narinfo's URL: where it is absolute, it may lead where a redirection of
    /// this upstream may lead.
    ///
    /// # Errors
    /// It leads elsewhere, or is no address.
    pub(crate) async fn address(&self, url: &str) -> Result<Uri, SourceError> {
        if url.contains("://") || url.starts_with('/') {
            return follow(&self.base, url.as_bytes()).await;
        }
        let refused = |_| SourceError::Redirect(url.chars().take(200).collect());
        format!("{}/{url}", self.to_string().trim_end_matches('/')).parse().map_err(refused)
    }

    /// Asks for `url`, from byte `from` on if that is not zero. The answer has status 200 or 206. That there is none counts against
    /// the upstream.
    ///
    /// # Errors
    /// No connection or no answer in time; any other status, redirections that are not followed.
    pub(crate) async fn get(&self, url: &str, from: u64) -> Result<Response<Incoming>, SourceError> {
        let begun = Instant::now();
        let result = self.attempt(url, from).await;
        if matches!(result, Err(SourceError::Connection(_) | SourceError::Stalled(_))) {
            self.came_to_nothing(Nothing::Failed, begun);
        }
        result
    }

    /// The same, for who says itself what all attempts came to.
    async fn attempt(&self, url: &str, from: u64) -> Result<Response<Incoming>, SourceError> {
        let mut uri = self.address(url).await?;
        for _ in 0..=REDIRECTS {
            let response = self.request(&uri, from).await?;
            let status = response.status();
            if status.is_redirection() {
                let Some(location) = response.headers().get(LOCATION) else {
                    return Err(SourceError::Status(status.as_u16()));
                };
                uri = follow(&uri, location.as_bytes()).await?;
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
        // Who we are is nobody's business but its own: not that of a place it redirects to, on another host or without TLS.
        let is_own = self.options.is_own(uri);
        if is_own && let Some(authorization) = self.options.login.authorization() {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Empty::new()).map_err(|error| SourceError::Connection(error.to_string()))?;
        let client = self.elsewhere.as_ref().filter(|_| !is_own).unwrap_or(&self.client);
        let result = client.request(request).await;
        self.note(&result, is_own);
        result.inspect(|response| self.heard(response))
    }

    /// A small document, whole; `None` if the upstream does not have it. What comes to nothing is for the caller to note.
    ///
    /// # Errors
    /// As for [`Self::get`], or more than `limit` bytes.
    pub(crate) async fn document(&self, url: &str, limit: usize) -> Result<Option<Bytes>, SourceError> {
        match self.attempt(url, 0).await {
            Ok(response) => {
                let layers = decode::encodings(response.headers())?;
                let body = collect(response.into_body(), limit).await?;
                decode::document(layers, body, limit).await.map(Some)
            }
            // As Nix reads them: 403 is how S3 says that there is no such object. To who has a login it may say that it is a wrong one.
            Err(SourceError::Status(403)) if self.options.login != Login::default() => {
                let level = self.complaints.level(Kind::Status(403), Instant::now());
                log::log!(level, upstream:% = self; "the upstream answers with status 403, perhaps as the login for it is wrong");
                Ok(None)
            }
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

    fn complain(&self, kind: Kind) -> log::Level {
        self.complaints.level(kind, Instant::now())
    }

    fn kept_us_waiting(&self, begun: Instant) {
        self.came_to_nothing(Nothing::Silent, begun);
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

/// How long the sender of this answer wants to be left alone, if it says so in seconds. A date is not read.
fn retry_after<B>(response: &Response<B>) -> Option<Duration> {
    response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::super::upstream_health::FAILURES_MAX;
    use super::*;

    fn upstream(base: &str) -> Upstream {
        Upstream::new(base.parse::<Uri>().unwrap().into(), &ClientFactory::new(), &Metrics::default())
    }

    #[tokio::test]
    async fn documents_are_sought_under_the_base_and_where_it_may_lead() {
        let address = async |base: &str, url: &str| upstream(base).address(url).await.ok().map(|uri| uri.to_string());
        let (plain, nested) = ("https://cache.example.org", "http://cache.example.org:8080/some/path/");
        for (base, url, expected) in [
            (plain, "nar/x.nar.xz", Some("https://cache.example.org/nar/x.nar.xz")),
            (nested, "nar/x?hash=y", Some("http://cache.example.org:8080/some/path/nar/x?hash=y")),
            (nested, "http://cache.example.org:8080/elsewhere", Some("http://cache.example.org:8080/elsewhere")),
            (nested, "/elsewhere", Some("http://cache.example.org:8080/elsewhere")),
            (nested, "https://other.example.org/x", Some("https://other.example.org/x")),
            (nested, "//other.example.org/x", Some("http://other.example.org/x")),
            (plain, "http://other.example.org/x", None),
            (nested, "http://169.254.169.254/latest", None),
            (nested, "http://127.0.0.1/x", None),
            (nested, "file:///etc/passwd", None),
            (nested, "a b", None),
        ] {
            assert_eq!(address(base, url).await.as_deref(), expected, "{url} at {base}");
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
            assert!(matches!(upstream.get("x", 0).await, Err(SourceError::Connection(_))));
        }
        assert!(!upstream.is_available());
        upstream.network_changed(false);
        assert!(upstream.is_available());
    }
}
