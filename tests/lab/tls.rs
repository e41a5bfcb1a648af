//! TLS by the lab's own hand. As a peer's client: whoever has any ed25519 key is let in, and believes anything. As a cache on the
//! Internet: with a certificate that one host trusts.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use ed25519_dalek::SigningKey;
use peernix::peers::link::{ALPN, ALPN_MULTIPLEXED};
use rustls::client::AlwaysResolvesClientRawPublicKeys;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature_with_raw_key};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned};

use crate::process::output;

/// DER of a `SubjectPublicKeyInfo` and of a PKCS #8 key for ed25519 up to the 32 bytes of the key (RFC 8410).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const PKCS8: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// A TLS stream as a peer speaks it.
pub(crate) type Stream = StreamOwned<ClientConnection, TcpStream>;

/// What all connections of one node share.
#[derive(Clone)]
pub(crate) struct Node(Arc<ClientConfig>);

impl Node {
    /// A node with the key of this seed.
    pub(crate) fn new(seed: [u8; 32]) -> Result<Self> {
        let provider = Arc::new(ring::default_provider());
        let public = SigningKey::from_bytes(&seed).verifying_key().to_bytes();
        let key = [PKCS8.as_slice(), &seed].concat();
        let signer = ring::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(key))?;
        let certified = CertifiedKey::new(vec![CertificateDer::from([SPKI.as_slice(), &public].concat())], signer);
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(Arc::new(certified))));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.enable_sni = false;
        Ok(Self(Arc::new(config)))
    }

    /// For those who shake hands otherwise.
    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0)
    }

    /// The same node, which speaks HTTP/2.
    pub(crate) fn multiplexed(&self) -> Self {
        let mut config = ClientConfig::clone(&self.0);
        config.alpn_protocols = vec![ALPN_MULTIPLEXED.to_vec()];
        Self(Arc::new(config))
    }

    /// Shakes hands over a connection.
    pub(crate) fn connect(&self, stream: TcpStream) -> Result<Stream> {
        let name = ServerName::try_from("peer.invalid").context("a name")?;
        let connection = ClientConnection::new(Arc::clone(&self.0), name)?;
        let mut stream = StreamOwned::new(connection, stream);
        stream.flush().context("the handshake")?;
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).context("the handshake")?;
        }
        Ok(stream)
    }
}

/// GETs `target` over any stream that is kept alive, and gives the status and the body.
pub(crate) fn get(stream: &mut (impl Read + Write), target: &str) -> Result<(u16, Vec<u8>)> {
    ask(stream, "GET", target, b"")
}

/// The same for any method and body.
pub(crate) fn ask(stream: &mut (impl Read + Write), method: &str, target: &str, body: &[u8]) -> Result<(u16, Vec<u8>)> {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    write!(stream, "{method} {target} HTTP/1.1\r\nHost: lab\r\n{length}\r\n")?;
    stream.write_all(body)?;
    stream.flush()?;
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).context("no answer")?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let status = head.get(9..12).and_then(|code| code.parse().ok()).with_context(|| format!("no status: {head}"))?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")).unwrap_or("0").trim().parse()?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).context("a short body")?;
    Ok((status, body))
}

/// The first request on a connection that speaks HTTP/2, and its status; the body is read and dropped.
pub(crate) fn get_multiplexed(stream: &mut (impl Read + Write), target: &str) -> Result<u16> {
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| -> Result<Vec<u8>> {
        let length = u8::try_from(payload.len()).context("a long payload")?;
        Ok([&[0, 0, length, kind, flags, 0, 0, 0, stream][..], payload].concat())
    };
    let length = u8::try_from(target.len()).context("a long target")?;
    // GET, https, and two literal fields that nobody has to remember (RFC 7541).
    let head = [&[0x82, 0x87, 0x04, length][..], target.as_bytes(), &[0x01, 3], b"lab"].concat();
    let mut request = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    request.extend(frame(4, 0, 0, &[])?);
    request.extend(frame(1, 5, 1, &head)?);
    stream.write_all(&request)?;
    stream.flush()?;
    let mut status = None;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).context("no answer")?;
        let mut payload = vec![0; (usize::from(head[1]) << 8) | usize::from(head[2])];
        stream.read_exact(&mut payload).context("a short frame")?;
        match (head[3], payload.first()) {
            (1, Some(0x88)) => status = Some(200),
            (1, Some(0x8d)) => status = Some(404),
            (3 | 7, _) => anyhow::bail!("the request or the connection was ended"),
            _ => {}
        }
        // The end of our stream.
        if head[3] <= 1 && head[4] & 1 == 1 {
            return status.context("another status");
        }
    }
}

/// Makes the certificate of a server at `address`, `server.pem` in `dir` beside `server.key`, signed by an authority of its own, whose
/// certificate is `certificates.pem` there.
pub(crate) fn certificate(dir: &Path, address: &str) -> Result<()> {
    // openssl asks for a configuration even where it needs none.
    let script = format!(
        "key() {{ openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out $1.key; }}
         printf '[req]\ndistinguished_name=name\n[name]\n[ca]\nbasicConstraints=critical,CA:TRUE\n\
[leaf]\nbasicConstraints=critical,CA:FALSE\nsubjectAltName=IP:{address}\n' >openssl.cnf
         key authority
         openssl req -config openssl.cnf -x509 -new -key authority.key -subj '/CN=lab' -days 2 -extensions ca -out certificates.pem
         key server
         openssl req -config openssl.cnf -new -key server.key -subj '/CN={address}' -out server.csr
         openssl x509 -req -in server.csr -CA certificates.pem -CAkey authority.key -CAcreateserial -days 2 \
           -extfile openssl.cnf -extensions leaf -out server.pem"
    );
    output(Command::new("sh").args(["-ec", &script]).current_dir(dir)).context("making a certificate").map(drop)
}

/// A server at `address` with such a certificate.
pub(crate) fn server(dir: &Path, address: &str) -> Result<Arc<rustls::ServerConfig>> {
    certificate(dir, address)?;
    let certificate = CertificateDer::from_pem_file(dir.join("server.pem")).map_err(|error| anyhow!("{error}"))?;
    let key = PrivateKeyDer::from_pem_file(dir.join("server.key")).map_err(|error| anyhow!("{error}"))?;
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    Ok(Arc::new(config))
}

/// Believes every key, but not a wrong signature.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 only".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = SubjectPublicKeyInfoDer::from(key.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
