//! How a connection to an upstream comes about: straight, or by way of a proxy.

use super::link::{Links, Stream, Wire};
use super::proxy::{Manner, Proxies};
use super::resolver::{Family, Resolver};
use hyper::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use parking_lot::RwLock;
use rustls::ClientConfig;
use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tower_service::Service;

/// How long a TCP connection may take to come about.
const CONNECT: Duration = Duration::from_secs(3);
/// How long one family of addresses is tried alone: what
/// [RFC 8305](https://www.rfc-editor.org/rfc/rfc8305#section-5) recommends.
const HEAD_START: Duration = Duration::from_millis(250);
/// When the kernel begins to ask whether a silent connection is still there.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// How often it asks again.
const KEEPALIVE_AGAIN: Duration = Duration::from_secs(2);
/// After this long without an answer to what was sent, or asked, the connection is dead (`TCP_USER_TIMEOUT`).
const UNANSWERED: Duration = Duration::from_secs(10);

type BoxError = Box<dyn Error + Send + Sync>;

/// The proxies in force, which the administrator may change.
pub(super) type SharedProxies = Arc<RwLock<Arc<Proxies>>>;

/// Makes the connections of one client, up to where TLS with the upstream begins.
#[derive(Clone)]
pub(super) struct Connector {
    tcp: HttpConnector<Resolver>,
    /// For proxies that are spoken to over TLS; never with a certificate of ours.
    proxy_tls: Arc<ClientConfig>,
    /// Of when its pool was made: the login that requests carry is for these.
    proxies: Arc<Proxies>,
    links: Arc<Links>,
    family: Arc<Family>,
}

impl Connector {
    /// Goes straight; see [`Self::by_way_of`].
    pub(super) fn new(proxy_tls: Arc<ClientConfig>, links: Arc<Links>, family: Arc<Family>) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(Resolver::new(Arc::clone(&family)));
        tcp.set_connect_timeout(Some(CONNECT));
        tcp.set_happy_eyeballs_timeout(Some(HEAD_START));
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(KEEPALIVE));
        tcp.set_keepalive_interval(Some(KEEPALIVE_AGAIN));
        tcp.set_tcp_user_timeout(Some(UNANSWERED));
        tcp.enforce_http(false);
        Self { tcp, proxy_tls, proxies: Arc::default(), links, family }
    }

    /// The same by way of these proxies.
    pub(super) fn by_way_of(&self, proxies: Arc<Proxies>) -> Self {
        Self { proxies, ..self.clone() }
    }

    async fn connect(mut self, target: Uri) -> Result<Stream, BoxError> {
        let _coming = self.links.coming();
        let proxy = self.proxies.towards(&target);
        let (wire, proxied): (Wire, bool) = match proxy {
            None => (MaybeHttpsStream::Http(self.tcp.call(target).await?), false),
            Some(proxy) if proxy.manner == Manner::Socks => {
                let mut socks = SocksV5::new(proxy.uri.clone(), self.tcp);
                if let Some((user, password)) = proxy.login() {
                    socks = socks.with_auth(user.to_owned(), password.to_owned());
                }
                (MaybeHttpsStream::Http(socks.call(target).await?), false)
            }
            Some(proxy) => {
                let mut to_proxy = HttpsConnector::from((self.tcp, self.proxy_tls));
                if target.scheme_str() == Some("https") {
                    let mut tunnel = Tunnel::new(proxy.uri.clone(), to_proxy);
                    if let Some(authorization) = proxy.authorization() {
                        tunnel = tunnel.with_auth(authorization.clone());
                    }
                    (tunnel.call(target).await?, false)
                } else {
                    (to_proxy.call(proxy.uri).await?, true)
                }
            }
        };
        let stream = Stream::new(wire, proxied, &self.links)?;
        self.family.reached(stream.remote());
        Ok(stream)
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        Box::pin(self.clone().connect(target))
    }
}
