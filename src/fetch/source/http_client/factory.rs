//! Makes the clients of upstreams. Reading the certificates of the system takes milliseconds, so it is done once.

use super::client::HttpClient;
use super::connector::SharedProxies;
use super::proxy::Proxies;
use crate::fetch::source::login::ClientIdentity;
use hyper::Uri;
use parking_lot::RwLock;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};
use std::sync::Arc;

/// What all clients have in common.
pub(crate) struct ClientFactory {
    roots: Arc<RootCertStore>,
    /// TLS without a certificate of ours.
    anonymous: Arc<ClientConfig>,
    proxies: SharedProxies,
}

impl ClientFactory {
    /// Without CA certificates on the machine only plain HTTP works, which is said once.
    pub(crate) fn new() -> Self {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        let (usable, _) = roots.add_parsable_certificates(found.certs);
        if usable == 0 {
            log::warn!(
                "no CA certificates found on this machine: upstreams with https:// cannot be reached (install ca-certificates)"
            );
        }
        Self::with_roots(roots)
    }

    /// With these certificates instead of the system's.
    pub(crate) fn with_roots(roots: RootCertStore) -> Self {
        let roots = Arc::new(roots);
        let anonymous = Arc::new(versions().with_root_certificates(Arc::clone(&roots)).with_no_client_auth());
        Self { roots, anonymous, proxies: Arc::new(RwLock::default()) }
    }

    /// A client that shows upstreams no certificate.
    pub(crate) fn client(&self) -> HttpClient {
        self.client_with(Arc::clone(&self.anonymous))
    }

    /// A client that shows upstreams this certificate, if they ask for one.
    pub(crate) fn client_with_identity(&self, identity: &ClientIdentity) -> HttpClient {
        let builder = versions().with_root_certificates(Arc::clone(&self.roots));
        self.client_with(Arc::new(builder.with_client_cert_resolver(identity.resolver())))
    }

    fn client_with(&self, tls: Arc<ClientConfig>) -> HttpClient {
        HttpClient::new(tls, Arc::clone(&self.anonymous), Arc::clone(&self.proxies))
    }

    /// Whether a proxy is asked for what is there.
    pub(crate) fn goes_by_proxy(&self, target: &Uri) -> bool {
        self.proxies.read().towards(target).is_some()
    }

    /// Has all clients use these proxies from now on. Connections that stand are not theirs to change: see
    /// [`HttpClient::drop_idle`].
    pub(crate) fn set_proxies(&self, proxies: Proxies) {
        *self.proxies.write() = Arc::new(proxies);
    }
}

/// TLS 1.2 and 1.3.
fn versions() -> ConfigBuilder<ClientConfig, WantsVerifier> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    #[allow(clippy::expect_used)] // ring supports the default protocol versions, which is all that could fail.
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports TLS 1.2 and 1.3")
}
