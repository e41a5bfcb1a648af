//! A binary cache that looks at who asks: over TLS or not, by a header or by a certificate.

use super::test_file;
use crate::support::internet::Sample;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use peernix::nix::{Compression, NarInfo, SecretKey, StoreDir};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What was asked of a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) path: String,
    pub(super) authorization: Option<String>,
    /// Whether a certificate was shown that the CA of the tests issued.
    pub(super) certificate: bool,
}

/// A running cache.
pub(super) struct Cache {
    pub(super) address: SocketAddr,
    scheme: &'static str,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    files: Mutex<HashMap<String, Bytes>>,
    /// The header that it demands.
    demands: Mutex<Option<String>>,
    /// Where it sends those who ask for a NAR.
    sends_to: Mutex<Option<String>>,
    asked: Mutex<Vec<Asked>>,
}

/// Whether a cache with TLS asks for a certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Certificate {
    /// It does, and answers nobody without.
    Demanded,
    /// It does, and answers everybody.
    Asked,
}

impl Cache {
    /// One without TLS.
    pub(super) async fn plain() -> Self {
        Self::start("http", None).await
    }

    /// One with TLS.
    pub(super) async fn tls(certificate: Certificate) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(test_file("ca.pem")).unwrap()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let verifier = match certificate {
            Certificate::Demanded => verifier.build(),
            Certificate::Asked => verifier.allow_unauthenticated().build(),
        };
        let chain = vec![CertificateDer::from_pem_file(test_file("server.pem")).unwrap()];
        let key = PrivateKeyDer::from_pem_file(test_file("server.pem")).unwrap();
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.unwrap())
            .with_single_cert(chain, key)
            .unwrap();
        Self::start("https", Some(TlsAcceptor::from(Arc::new(tls)))).await
    }

    async fn start(scheme: &'static str, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, state) = (listener.local_addr().unwrap(), Arc::<State>::default());
        let server = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (state, tls) = (Arc::clone(&server), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, false, state).await,
                        Some(tls) => {
                            let Ok(stream) = tls.accept(stream).await else { return };
                            let certificate = stream.get_ref().1.peer_certificates().is_some();
                            serve(stream, certificate, state).await;
                        }
                    }
                });
            }
        });
        Self { address, scheme, state }
    }

    pub(super) fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Has a path, signed by these keys.
    pub(super) fn publish(&self, sample: &Sample, keys: &[&SecretKey]) {
        let mut info = sample.info.clone();
        info.signatures = keys.iter().map(|key| key.sign(&info, &StoreDir::default())).collect();
        let url = format!("nar/{}.nar", info.nar_hash.to_nix32());
        let (hash, file) = (sample.hash(), format!("/{url}"));
        let file_size = Some(info.nar_size);
        let narinfo = NarInfo { info, url, compression: Compression::None, file_hash: None, file_size, extra: vec![] };
        let mut files = self.state.files.lock();
        files.insert(format!("/{hash}.narinfo"), narinfo.render(&StoreDir::default()).into());
        files.insert(file, sample.nar.clone());
    }

    /// Answers 401 to whoever does not send this `Authorization` from now on.
    pub(super) fn demand(&self, authorization: &str) {
        *self.state.demands.lock() = Some(authorization.to_owned());
    }

    /// Redirects those who ask for a NAR to the same path there.
    pub(super) fn send_to(&self, base: &str) {
        *self.state.sends_to.lock() = Some(base.to_owned());
    }

    /// What was asked so far.
    pub(super) fn asked(&self) -> Vec<Asked> {
        self.state.asked.lock().clone()
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, certificate: bool, state: Arc<State>) {
    let service = service_fn(|request: Request<Incoming>| {
        let answer = answer(&request, certificate, &state);
        async move { Ok::<_, Infallible>(answer) }
    });
    // Whoever asks may hang up.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

fn answer(request: &Request<Incoming>, certificate: bool, state: &State) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    let authorization = request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
    state.asked.lock().push(Asked { path: path.clone(), authorization: authorization.clone(), certificate });
    let status = |status: u16| Response::builder().status(status);
    let demanded = state.demands.lock().clone();
    if demanded.is_some() && demanded != authorization {
        return status(401).header("www-authenticate", "Basic realm=\"cache\"").body(Full::default()).unwrap();
    }
    if let Some(base) = state.sends_to.lock().as_ref().filter(|_| path.starts_with("/nar/")) {
        return status(302).header("location", format!("{base}{path}")).body(Full::default()).unwrap();
    }
    match state.files.lock().get(&path) {
        Some(file) => Response::new(Full::new(file.clone())),
        None => status(404).body(Full::default()).unwrap(),
    }
}
