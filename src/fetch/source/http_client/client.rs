//! The requests to one upstream, and what becomes of them when the connection that they went out on turns out to be dead.
//!
//! A connection that was kept may be dead without anybody having said so: its address went, a router between forgot it, the
//! machine slept. So silence on one that is older than the request is no word about the upstream. The same is asked once
//! more on a fresh connection, beside the first, and only what becomes of that counts.

use super::connector::{Connector, SharedProxies};
use super::link::{Link, Links, OnLink};
use super::proxy::Proxies;
use super::resolver::Family;
use crate::fetch::error::SourceError;
use crate::resilience::{Ewma, Way};
use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::header::PROXY_AUTHORIZATION;
use hyper::{Request, Response};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use rustls::ClientConfig;
use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// How long an upstream may take to its answer's head, on a fresh connection.
pub(crate) const HEAD: Duration = Duration::from_secs(5);
/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(60);
/// How long a kept connection may be silent before the same is asked on a fresh one: so many times what the upstream usually
/// takes,
const PATIENCE: u32 = 4;
/// but no less than this,
const PATIENCE_MIN: Duration = Duration::from_millis(200);
/// and no more, unless the upstream usually takes half of that or longer: then it is twice as long.
const PATIENCE_MAX: Duration = Duration::from_millis(600);
/// How often a request goes out anew because the network changed again meanwhile.
const CHANGES_MAX: u32 = 3;
/// A connection whose way changed is closed if nothing comes over it for this long.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);
/// How often that is looked at: what nobody reads need not show that it lives until somebody does.
const SIGNS_MAX: u32 = 30;

type Answer = Result<Response<Incoming>, SourceError>;

/// The HTTP client of one upstream, and of whatever that redirects to.
pub(crate) struct HttpClient {
    connector: Connector,
    tls: Arc<ClientConfig>,
    links: Arc<Links>,
    family: Arc<Family>,
    proxies: SharedProxies,
    pools: Mutex<Pools>,
    /// Seconds from a request to the head of its answer.
    latency: Mutex<Ewma>,
}

/// The connections that are kept. Replacing a pool drops those without use and lets the others bring what they are at.
struct Pools {
    current: Arc<Pool>,
    /// Takes the place of the current one once it is seen that a fresh connection answers where a kept one does not.
    next: Option<Arc<Pool>>,
}

struct Pool {
    client: Client<HttpsConnector<Connector>, Empty<Bytes>>,
    /// Those that its connections go through.
    proxies: Arc<Proxies>,
    /// Another pool took its place.
    replaced: CancellationToken,
}

impl HttpClient {
    /// `tls` is for upstreams, `proxy_tls` for proxies that want it.
    pub(super) fn new(tls: Arc<ClientConfig>, proxy_tls: Arc<ClientConfig>, proxies: SharedProxies) -> Self {
        let (links, family) = (Arc::<Links>::default(), Arc::<Family>::default());
        let connector = Connector::new(proxy_tls, Arc::clone(&links), Arc::clone(&family));
        let current = Pool::new(&connector, &tls, Arc::clone(&proxies.read()));
        let pools = Mutex::new(Pools { current, next: None });
        Self { connector, tls, links, family, proxies, pools, latency: Mutex::default() }
    }

    /// A pool without connections, by way of the proxies in force.
    fn pool(&self) -> Arc<Pool> {
        Pool::new(&self.connector, &self.tls, Arc::clone(&self.proxies.read()))
    }

    /// Sends a GET and waits for the head of its answer, whatever its status.
    ///
    /// # Errors
    /// No connection, or no answer in time; never because of a connection that was dead before.
    pub(crate) async fn request(&self, request: Request<Empty<Bytes>>) -> Answer {
        let current = Arc::clone(&self.pools.lock().current);
        let mut first = Attempt::begin(current, &request);
        let mut first_ended = false;
        match first.answer_unless_doubtful(self.patience()).await {
            Some(Err(_)) if first.is_on_kept() || first.pool.is_replaced() => first_ended = true,
            Some(answer) => return self.measured(&first, answer),
            None => {}
        }
        // Once more on a fresh connection; the first may yet answer.
        let mut second = Attempt::begin(self.next(&first.pool), &request);
        let mut changes = 0;
        loop {
            tokio::select! {
                biased;
                answer = &mut second.answer => {
                    if answer.is_err() && second.pool.is_replaced() && changes < CHANGES_MAX {
                        changes += 1;
                        second = Attempt::begin(Arc::clone(&self.pools.lock().current), &request);
                        continue;
                    }
                    if answer.is_ok() {
                        self.replace(&first.pool, &second.pool);
                    }
                    return self.measured(&second, answer);
                }
                answer = &mut first.answer, if !first_ended => {
                    if answer.is_ok() {
                        self.pools.lock().next = None;
                        return self.measured(&first, answer);
                    }
                    first_ended = true;
                }
                () = second.pool.replaced.cancelled(), if changes < CHANGES_MAX => {
                    changes += 1;
                    second = Attempt::begin(Arc::clone(&self.pools.lock().current), &request);
                }
            }
        }
    }

    fn measured(&self, attempt: &Attempt, answer: Answer) -> Answer {
        if answer.is_ok() {
            self.latency.lock().add(attempt.begun.elapsed().as_secs_f64());
        }
        answer
    }

    /// How long a kept connection may be silent.
    fn patience(&self) -> Duration {
        let Some(usual) = self.latency.lock().get().map(Duration::from_secs_f64) else { return PATIENCE_MAX };
        (usual * PATIENCE).clamp(PATIENCE_MIN, PATIENCE_MAX).max(usual * 2)
    }

    /// The pool after `doubtful`.
    fn next(&self, doubtful: &Arc<Pool>) -> Arc<Pool> {
        let mut pools = self.pools.lock();
        if Arc::ptr_eq(&pools.current, doubtful) {
            Arc::clone(pools.next.get_or_insert_with(|| self.pool()))
        } else {
            Arc::clone(&pools.current)
        }
    }

    /// Has `better` take the place of `doubtful`, unless that is gone by now.
    fn replace(&self, doubtful: &Arc<Pool>, better: &Arc<Pool>) {
        let mut pools = self.pools.lock();
        if Arc::ptr_eq(&pools.current, doubtful) {
            pools.take_over(Arc::clone(better));
        }
    }

    /// Closes the connections that nobody uses. Requests that wait for an answer are sent once more on fresh ones.
    pub(crate) fn drop_idle(&self) {
        let fresh = self.pool();
        self.pools.lock().take_over(fresh);
    }

    /// The network changed, or (with `woke`) the machine slept, and whatever stood may be dead.
    ///
    /// Connections without use, and those that are just coming about, are dropped, unless all would take the same way again. Of those in use, the ones whose address
    /// is gone are closed at once, so that whoever reads goes on over another; others whose way changed must show that they
    /// live.
    pub(crate) fn network_changed(&self, woke: bool) {
        self.family.forget();
        let mut doubtful = Vec::new();
        let mut gone = false;
        for link in self.links.now() {
            match Way::of(link.local, link.remote) {
                Way::Gone => {
                    link.close();
                    gone = true;
                }
                Way::Same if !woke => {}
                Way::Same | Way::Moved => doubtful.push(link),
            }
        }
        if woke || gone || !doubtful.is_empty() || self.links.are_coming() {
            self.drop_idle();
        }
        if !doubtful.is_empty() {
            tokio::spawn(close_silent(doubtful));
        }
    }
}

/// Closes those of which nothing is heard for a moment while somebody waits for it.
async fn close_silent(links: Vec<Arc<Link>>) {
    let mut doubtful: Vec<_> = links.into_iter().map(|link| (link.heard(), link.is_awaited(), link)).collect();
    for _ in 0..SIGNS_MAX {
        sleep(SIGN_OF_LIFE).await;
        doubtful.retain_mut(|(before, was_awaited, link)| {
            let is_silent = link.heard() == *before;
            if is_silent && *was_awaited && link.is_awaited() {
                link.close();
                return false;
            }
            *was_awaited = link.is_awaited();
            is_silent
        });
        if doubtful.is_empty() {
            return;
        }
    }
}

impl Pools {
    fn take_over(&mut self, pool: Arc<Pool>) {
        std::mem::replace(&mut self.current, pool).replaced.cancel();
        self.next = None;
    }
}

impl Pool {
    fn new(connector: &Connector, tls: &Arc<ClientConfig>, proxies: Arc<Proxies>) -> Arc<Self> {
        let connector = HttpsConnector::from((connector.by_way_of(Arc::clone(&proxies)), Arc::clone(tls)));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector);
        Arc::new(Self { client, proxies, replaced: CancellationToken::new() })
    }

    fn is_replaced(&self) -> bool {
        self.replaced.is_cancelled()
    }
}

/// A request on its way.
struct Attempt {
    pool: Arc<Pool>,
    begun: Instant,
    answer: Pin<Box<dyn Future<Output = Answer> + Send>>,
    connection: CaptureConnection,
}

impl Attempt {
    fn begin(pool: Arc<Pool>, request: &Request<Empty<Bytes>>) -> Self {
        let mut request = request.clone();
        // Each time anew: the login of a proxy is for that one's eyes, and this pool may go by way of another.
        if let Some(authorization) = pool.proxies.authorization(request.uri()) {
            request.headers_mut().insert(PROXY_AUTHORIZATION, authorization);
        }
        let connection = capture_connection(&mut request);
        let answer = timeout(HEAD, pool.client.request(request));
        let answer = Box::pin(async move {
            match answer.await {
                Ok(Ok(response)) => Ok(response),
                Ok(Err(error)) => Err(SourceError::Connection(chain(&error))),
                Err(_) => Err(SourceError::Stalled(HEAD)),
            }
        });
        Self { pool, begun: Instant::now(), answer, connection }
    }

    /// Whether the request went out on a connection that is older than itself.
    fn is_on_kept(&self) -> bool {
        let mut noted = Request::new(());
        if let Some(connected) = self.connection.connection_metadata().as_ref() {
            connected.get_extras(noted.extensions_mut());
        }
        noted.extensions().get::<OnLink>().is_some_and(|OnLink(link)| link.since < self.begun)
    }

    /// The answer, or `None` when it is time to ask on a fresh connection as well: this one is a kept one that is silent for
    /// longer than `patience`, or the network changed.
    async fn answer_unless_doubtful(&mut self, patience: Duration) -> Option<Answer> {
        let pool = Arc::clone(&self.pool);
        tokio::select! {
            biased;
            answer = &mut self.answer => return Some(answer),
            () = pool.replaced.cancelled() => return None,
            () = sleep(patience) => {}
        }
        if self.is_on_kept() {
            return None;
        }
        tokio::select! {
            biased;
            answer = &mut self.answer => Some(answer),
            () = pool.replaced.cancelled() => None,
        }
    }
}

/// An error and its causes in one line.
fn chain(error: &dyn Error) -> String {
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
