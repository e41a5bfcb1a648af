//! The rules of TLS between peers: version 1.3, raw public keys both ways, one protocol, no resumption.
//!
//! A connection that comes up has proved both identities; there are no certificates, no names and no dates.
//! [RFC 7250](https://www.rfc-editor.org/rfc/rfc7250) carries the keys, [RFC 8446](https://www.rfc-editor.org/rfc/rfc8446)
//! the rest.

use super::guard::{Guard, Visitor};
use crate::peers::error::{LinkError, PeersError};
use crate::peers::identity::NodeId;
use crate::peers::membership::Admission;
use crate::peers::node_key::NodeKey;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, CommonState, DigitallySignedStruct, DistinguishedName, Error,
    OtherError, PeerIncompatible, ServerConfig, SignatureScheme,
};
use std::io;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The protocol's name in ALPN; its number changes when old and new machines cannot understand each other. Requests go over
/// HTTP/1.1, one at a time.
pub const ALPN: &[u8] = b"peernix/1";
/// The same protocol over HTTP/2: many requests at a time, but only those whose answers are small.
pub const ALPN_MULTIPLEXED: &[u8] = b"peernix/1+h2";

/// How long a TLS handshake may take, on either side. On a LAN it takes milliseconds; the rest is for busy machines.
pub(super) const HANDSHAKE_LIMIT: Duration = Duration::from_secs(3);

/// What both sides agree on: ed25519 for identities, AES-128-GCM first because it is the fastest where AES is in
/// hardware, ChaCha20 for where it is not.
static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    let mut provider = ring::default_provider();
    provider.cipher_suites = vec![
        ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
        ring::cipher_suite::TLS13_AES_256_GCM_SHA384,
        ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    Arc::new(provider)
});

/// The only version. (TLS 1.2 is compiled in, for what the upstream client may meet.)
static VERSIONS: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// The TLS configuration of the share: it lets in whom `admission` admits.
fn server_config(key: &NodeKey, admission: Admission) -> Result<Arc<ServerConfig>, PeersError> {
    let mut config = ServerConfig::builder_with_provider(PROVIDER.clone())
        .with_protocol_versions(VERSIONS)?
        .with_client_cert_verifier(Arc::new(Verifier { expected: None, admission }))
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(certified(key)?)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A handshake costs a quarter of a millisecond; a resumed one would prove the identity at second hand.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// This machine's side of the connections that it makes.
pub(super) struct ClientIdentity {
    config: ClientConfig,
    pub(super) admission: Admission,
}

impl ClientIdentity {
    pub(super) fn new(key: &NodeKey, admission: Admission) -> Result<Self, PeersError> {
        let mut config = ClientConfig::builder_with_provider(PROVIDER.clone())
            .with_protocol_versions(VERSIONS)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier { expected: None, admission: admission.clone() }))
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(certified(key)?)));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        // Names mean nothing here, and one in clear would tell the network whom we look for.
        config.enable_sni = false;
        Ok(Self { config, admission })
    }

    /// The configuration for connections to `expected` and nobody else; without, to whoever answers and is admitted.
    /// `multiplexed`: over HTTP/2, if the other side has it.
    pub(super) fn towards(&self, expected: Option<NodeId>, multiplexed: bool) -> Arc<ClientConfig> {
        let mut config = self.config.clone();
        if multiplexed {
            config.alpn_protocols.insert(0, ALPN_MULTIPLEXED.to_vec());
        }
        let verifier = Verifier { expected, admission: self.admission.clone() };
        config.dangerous().set_certificate_verifier(Arc::new(verifier));
        Arc::new(config)
    }
}

fn certified(key: &NodeKey) -> Result<Arc<CertifiedKey>, PeersError> {
    let pkcs8 = key.to_pkcs8();
    let signer = ring::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(pkcs8.as_slice()))?;
    Ok(Arc::new(CertifiedKey::new(vec![CertificateDer::from(key.id().to_spki())], signer)))
}

/// Accepts TLS connections of peers, within [`HANDSHAKE_LIMIT`].
#[derive(Clone)]
pub struct Acceptor {
    tls: TlsAcceptor,
    /// Who knows which peers are blocked; without, none is.
    guard: Option<Arc<dyn Guard>>,
}

impl Acceptor {
    /// Lets in whom `admission` admits, for HTTP/1.1.
    ///
    /// # Errors
    /// The TLS library refuses the key, which would be a defect of ours.
    pub fn new(key: &NodeKey, admission: Admission) -> Result<Self, PeersError> {
        Ok(Self { tls: server_config(key, admission)?.into(), guard: None })
    }

    /// Agrees on HTTP/2 with those who offer it: see [`is_multiplexed`].
    #[must_use]
    pub fn multiplexed(self) -> Self {
        let mut config = Arc::clone(self.tls.config());
        // The first that the client offers as well is taken.
        Arc::make_mut(&mut config).alpn_protocols.insert(0, ALPN_MULTIPLEXED.to_vec());
        Self { tls: config.into(), ..self }
    }

    /// Refuses those who are blocked by `guard`, and has what others take counted there.
    #[must_use]
    pub fn guarded_by(self, guard: &(impl Guard + Clone + 'static)) -> Self {
        Self { guard: Some(Arc::new(guard.clone())), ..self }
    }

    /// The one who was accepted as `id`, for those who serve the connection; `None` if nobody guards it.
    #[must_use]
    pub fn visitor(&self, id: NodeId) -> Option<Visitor> {
        self.guard.clone().map(|guard| Visitor::new(id, guard))
    }

    /// Shakes hands and tells who is at the other end.
    ///
    /// # Errors
    /// Garbage, another protocol or version, a stranger where only listed nodes are admitted, one who is blocked, or a
    /// client that takes too long. The connection is closed then, with an alert where TLS has one.
    pub async fn accept<S>(&self, stream: S) -> Result<(TlsStream<S>, NodeId), LinkError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let handshake = tokio::time::timeout(HANDSHAKE_LIMIT, self.tls.accept(stream));
        let elapsed = |_| LinkError::Time { step: "TLS handshake of a client", limit: HANDSHAKE_LIMIT };
        let stream = handshake.await.map_err(elapsed)?.map_err(|error| refine(error, LinkError::Accept))?;
        let id = peer_id(stream.get_ref().1)?;
        // After the handshake, which is what proves who it is; dropping the stream closes it.
        if let Some(reason) = self.guard.as_ref().and_then(|guard| guard.block_reason(id)) {
            return Err(LinkError::Blocked(reason));
        }
        Ok((stream, id))
    }
}

/// Whether HTTP/2 was agreed on with a client that was accepted.
pub fn is_multiplexed<S>(stream: &TlsStream<S>) -> bool {
    speaks_http_2(stream.get_ref().1)
}

/// The same of either side.
pub(super) fn speaks_http_2(connection: &CommonState) -> bool {
    connection.alpn_protocol() == Some(ALPN_MULTIPLEXED)
}

/// Who is at the other end of a finished handshake, client or server.
///
/// # Errors
/// No key, or no agreement on the protocol: a connection made with another configuration than ours.
pub(super) fn peer_id(connection: &CommonState) -> Result<NodeId, LinkError> {
    // A client that offers no protocol at all gets through the handshake.
    if !matches!(connection.alpn_protocol(), Some(ALPN | ALPN_MULTIPLEXED)) {
        return Err(LinkError::Protocol);
    }
    let key = connection.peer_certificates().and_then(<[_]>::first).ok_or(LinkError::NoIdentity)?;
    NodeId::from_spki(key).map_err(|_| LinkError::NoIdentity)
}

/// What our own verifier or the choice of protocol refused, which the TLS library wraps; else `otherwise`.
pub(super) fn refine(error: io::Error, otherwise: impl FnOnce(io::Error) -> LinkError) -> LinkError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(CertificateError::Other(OtherError(inner)))) => {
            match inner.downcast_ref::<Refusal>() {
                Some(&Refusal::Identity { expected, found }) => LinkError::Identity { expected, found },
                Some(&Refusal::NotAdmitted(id)) => LinkError::NotAdmitted(id),
                None => otherwise(error),
            }
        }
        Some(Error::InvalidCertificate(CertificateError::BadEncoding)) => LinkError::NoIdentity,
        Some(Error::PeerIncompatible(PeerIncompatible::IncorrectCertificateTypeExtension)) => LinkError::NoIdentity,
        Some(Error::NoApplicationProtocol | Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => {
            LinkError::Protocol
        }
        _ => otherwise(error),
    }
}

/// Why the verifier refused a key.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("expected node {expected}, found {found}")]
    Identity { expected: NodeId, found: NodeId },
    #[error("node {0} is not admitted")]
    NotAdmitted(NodeId),
}

/// Judges the key of the other side; the proof that it has the secret half is the handshake's signature.
#[derive(Debug)]
struct Verifier {
    expected: Option<NodeId>,
    admission: Admission,
}

impl Verifier {
    fn judge(&self, spki: &CertificateDer<'_>, more: &[CertificateDer<'_>]) -> Result<(), Error> {
        let found = NodeId::from_spki(spki).ok().filter(|_| more.is_empty());
        let found = found.ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let refusal = match self.expected {
            Some(expected) if expected != found => Refusal::Identity { expected, found },
            _ if !self.admission.admits(found) => Refusal::NotAdmitted(found),
            _ => return Ok(()),
        };
        Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal)))))
    }

    fn verify(
        &self,
        message: &[u8],
        spki: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature_with_raw_key(
            message,
            &SubjectPublicKeyInfoDer::from(spki.as_ref()),
            signature,
            &self.algorithms(),
        )
    }

    fn algorithms(&self) -> WebPkiSupportedAlgorithms {
        PROVIDER.signature_verification_algorithms
    }
}

/// No version before 1.3 is configured, so its signatures never come up.
fn no_tls12() -> Result<HandshakeSignatureValid, Error> {
    Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOfferedOrEnabled))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge(end_entity, intermediates).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.judge(end_entity, intermediates).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
