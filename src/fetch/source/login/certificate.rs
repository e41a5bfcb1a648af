//! A client certificate with its key, for upstreams that ask for one while a TLS connection comes about.

use super::error::LoginError;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::sync::Arc;

/// The most certificates of a chain.
const CHAIN_MAX: usize = 16;

/// Who a TLS server is shown that we are.
pub(crate) struct ClientIdentity {
    resolver: Arc<SingleCertAndKey>,
    /// Of the text that it was read from: tells whether another one is the same.
    digest: [u8; 32],
}

impl ClientIdentity {
    /// Reads a certificate, with those that it hangs on if they are there, and its key: PKCS #8, PKCS #1 or SEC 1.
    pub(super) fn new(pem: &[u8]) -> Result<Self, LoginError> {
        let malformed = |_| LoginError::Malformed("it is not PEM: a certificate and its key, one after the other");
        let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(malformed)?;
        if chain.is_empty() || chain.len() > CHAIN_MAX {
            return Err(LoginError::Malformed("it has no certificate in PEM, or very many"));
        }
        let key = PrivateKeyDer::from_pem_slice(pem)
            .map_err(|_| LoginError::Malformed("it has no private key in PEM beside the certificate"))?;
        let provider = rustls::crypto::ring::default_provider();
        let certified = CertifiedKey::from_der(chain, key, &provider)
            .map_err(|error| LoginError::Certificate(error.to_string()))?;
        Ok(Self { resolver: Arc::new(certified.into()), digest: Sha256::digest(pem).into() })
    }

    /// What rustls asks for it.
    pub(crate) fn resolver(&self) -> Arc<dyn ResolvesClientCert> {
        Arc::<SingleCertAndKey>::clone(&self.resolver)
    }
}

impl PartialEq for ClientIdentity {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for ClientIdentity {}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientIdentity")
    }
}
