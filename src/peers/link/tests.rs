//! TLS and the connection pool over real sockets.

mod multiplexed;

use super::dial::Target;
use super::pool::CONNECTIONS_MAX;
use super::tls::HANDSHAKE_LIMIT;
use super::*;
use crate::peers::error::LinkError;
use crate::peers::identity::NodeId;
use crate::peers::membership::Admission;
use crate::peers::node_key::NodeKey;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

fn key(seed: u8) -> NodeKey {
    NodeKey::from_seed([seed; 32])
}

impl Pool {
    /// A GET.
    fn get<'a>(
        &'a self,
        target: &'a str,
        from: Option<u64>,
        addresses: &'a [SocketAddr],
    ) -> Pending<'a, (Response<Incoming>, Duration)> {
        self.request(Call::Get { target, from }, addresses)
    }
}

/// What a test server saw.
#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    /// Those of them that carry many requests at a time.
    multiplexed: AtomicUsize,
    clients: Mutex<Vec<Result<NodeId, LinkError>>>,
    ranges: Mutex<Vec<String>>,
}

/// A server that answers each path with as many bytes as its last part names. `/hang` never ends; a second request on one
/// connection for `/once` closes it without an answer, and one for `/mute` gets none. It knows HTTP/1.1 only, as machines did
/// before they knew HTTP/2.
async fn serve(key: &NodeKey, admission: Admission) -> (SocketAddr, Arc<Seen>, JoinSet<()>) {
    serve_with(Acceptor::new(key, admission).unwrap()).await
}

async fn serve_with(acceptor: Acceptor) -> (SocketAddr, Arc<Seen>, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Seen::default());
    let mut tasks = JoinSet::new();
    let kept = seen.clone();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, seen) = (acceptor.clone(), seen.clone());
            connections.spawn(async move {
                match acceptor.accept(stream).await {
                    Ok((stream, id)) => {
                        seen.clients.lock().push(Ok(id));
                        seen.connections.fetch_add(1, Ordering::Relaxed);
                        let requests = AtomicUsize::new(0);
                        if is_multiplexed(&stream) {
                            seen.multiplexed.fetch_add(1, Ordering::Relaxed);
                            let requests = Arc::new(requests);
                            let service = service_fn(move |request| {
                                let (seen, requests) = (seen.clone(), requests.clone());
                                async move { answer(&seen, &requests, request).await }
                            });
                            let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                            let _ = http.serve_connection(TokioIo::new(stream), service).await;
                            return;
                        }
                        let service = service_fn(|request| answer(&seen, &requests, request));
                        let http = hyper::server::conn::http1::Builder::new();
                        let _ = http.serve_connection(TokioIo::new(stream), service).await;
                    }
                    Err(error) => seen.clients.lock().push(Err(error)),
                }
            });
        }
    });
    (address, kept, tasks)
}

async fn answer(
    seen: &Seen,
    requests: &AtomicUsize,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let nth = requests.fetch_add(1, Ordering::Relaxed);
    if let Some(range) = request.headers().get("range") {
        seen.ranges.lock().push(range.to_str().unwrap().to_owned());
    }
    match request.uri().path() {
        "/hang" => std::future::pending().await,
        "/once" if nth > 0 => Err(std::io::Error::other("closed")),
        "/mute" if nth > 0 => std::future::pending().await,
        "/once" | "/mute" => Ok(Response::new(Full::default())),
        path => Ok(Response::new(Full::from(vec![7; path.rsplit('/').next().unwrap().parse().unwrap()]))),
    }
}

fn target(client: &NodeKey, admission: Admission, expected: Option<NodeId>) -> Target {
    Dialler::new(client, admission).unwrap().target(expected)
}

fn pool(server: &NodeKey) -> Pool {
    Pool::new(server.id(), target(&key(9), Admission::Open, Some(server.id())), Arc::default())
}

/// What the client learns from the first answer: a refusal of its key comes after its own half of the handshake.
async fn first_answer(target: &Target, address: SocketAddr) -> Result<NodeId, LinkError> {
    let mut connection = target.dial(&[address]).await?;
    let request = Call::Get { target: "/0", from: None }.to_message(connection.id())?;
    connection.request(request).await?;
    Ok(connection.id())
}

#[tokio::test]
async fn both_sides_learn_who_the_other_is() {
    let (server, client) = (key(1), key(2));
    let (address, seen, _tasks) = serve(&server, Admission::Open).await;
    for expected in [Some(server.id()), None] {
        let target = target(&client, Admission::Open, expected);
        assert_eq!(first_answer(&target, address).await.unwrap(), server.id());
    }
    let clients: Vec<NodeId> = seen.clients.lock().iter().map(|client| *client.as_ref().unwrap()).collect();
    assert_eq!(clients, [client.id(), client.id()]);
}

#[tokio::test]
async fn another_node_is_refused_before_anything_is_said() {
    let (server, wanted) = (key(1), key(3).id());
    let (address, seen, _tasks) = serve(&server, Admission::Open).await;
    let error = first_answer(&target(&key(2), Admission::Open, Some(wanted)), address).await.unwrap_err();
    let LinkError::Identity { expected, found } = error else { panic!("{error}") };
    assert_eq!((expected, found), (wanted, server.id()));
    assert_eq!(seen.connections.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn static_admission_works_in_both_directions() {
    let (server, member, stranger) = (key(1), key(2), key(3));
    let members = || Admission::Static([server.id(), member.id()].into());
    let (address, seen, _tasks) = serve(&server, members()).await;
    assert_eq!(first_answer(&target(&member, members(), None), address).await.unwrap(), server.id());
    let error = first_answer(&target(&stranger, Admission::Open, None), address).await.unwrap_err();
    assert!(error.doubts_peer(), "{error}");
    let refused = std::mem::take(&mut *seen.clients.lock()).pop().unwrap();
    assert!(matches!(refused, Err(LinkError::NotAdmitted(id)) if id == stranger.id()), "{refused:?}");

    let (elsewhere, _, _more) = serve(&stranger, Admission::Open).await;
    let error = first_answer(&target(&member, members(), None), elsewhere).await.unwrap_err();
    assert!(matches!(error, LinkError::NotAdmitted(id) if id == stranger.id()), "{error}");
}

/// A client that believes everything, to see what the server says to it.
#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

#[tokio::test]
async fn old_tls_and_clients_without_keys_are_refused() {
    let server = key(1);
    let (address, seen, _tasks) = serve(&server, Admission::Open).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Credulous))
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::IpAddress(address.ip().into());
        let outcome = async {
            let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
            stream.write_all(b"GET /0 HTTP/1.1\r\nhost: x\r\n\r\n").await?;
            stream.read_u8().await
        };
        assert!(outcome.await.is_err());
    }
    assert_eq!(seen.connections.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_client_without_our_protocol_is_refused() {
    let (server, client) = (key(1), key(2));
    let acceptor = Acceptor::new(&server, Admission::Open).unwrap();
    let identity = tls::ClientIdentity::new(&client, Admission::Open).unwrap();
    for alpn in [vec![], vec![b"http/1.1".to_vec()]] {
        let mut config = Arc::unwrap_or_clone(identity.towards(None, false));
        config.alpn_protocols = alpn;
        let (near, far) = tokio::io::duplex(64 * 1024);
        let name = ServerName::try_from("peer").unwrap();
        let (_, accepted) =
            tokio::join!(TlsConnector::from(Arc::new(config)).connect(name, near), acceptor.accept(far));
        let error = accepted.map(|(_, id)| id).unwrap_err();
        assert!(matches!(error, LinkError::Protocol), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn garbage_and_silence_end_soon() {
    let acceptor = Acceptor::new(&key(1), Admission::Open).unwrap();
    let (mut near, far) = tokio::io::duplex(64 * 1024);
    near.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let error = acceptor.accept(far).await.map(|(_, id)| id).unwrap_err();
    assert!(matches!(error, LinkError::Accept(_)), "{error}");

    // The header of a record that never comes, and nothing at all.
    for beginning in [&[22, 3, 1, 2, 0][..], &[]] {
        let (mut near, far) = tokio::io::duplex(64 * 1024);
        near.write_all(beginning).await.unwrap();
        let begun = Instant::now();
        let error = acceptor.accept(far).await.map(|(_, id)| id).unwrap_err();
        assert!(matches!(error, LinkError::Time { limit: HANDSHAKE_LIMIT, .. }), "{error}");
        assert!(begun.elapsed() < HANDSHAKE_LIMIT * 2);
    }
}

#[tokio::test]
async fn the_address_that_answers_wins() {
    let (server, other) = (key(1), key(2));
    let (address, ..) = serve_forever(&server).await;
    let (impostor, ..) = serve_forever(&other).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let target = target(&key(3), Admission::Open, Some(server.id()));
    let begun = Instant::now();
    let connection = target.dial(&[silent.local_addr().unwrap(), closed, impostor, address]).await.unwrap();
    assert_eq!((connection.id(), connection.address()), (server.id(), address));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let error = target.dial(&[closed]).await.map(|_| ()).unwrap_err();
    assert!(matches!(error, LinkError::Connect { address, .. } if address == closed), "{error}");
    assert!(matches!(target.dial(&[]).await.map(|_| ()), Err(LinkError::NoAddress)));
}

async fn serve_forever(key: &NodeKey) -> (SocketAddr, Arc<Seen>) {
    let (address, seen, mut tasks) = serve(key, Admission::Open).await;
    tasks.detach_all();
    (address, seen)
}

#[tokio::test]
async fn connections_are_used_again() {
    let server = key(1);
    let (address, seen) = serve_forever(&server).await;
    let pool = pool(&server);
    for size in [0_usize, 1, 300_000] {
        for _ in 0..5 {
            let (response, _) = pool.get(&format!("/{size}"), None, &[address]).await.unwrap();
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), size);
            // Until the task that waits for the end of the body has given the connection back.
            tokio::task::yield_now().await;
        }
    }
    assert!(seen.connections.load(Ordering::Relaxed) <= 3, "{:?}", seen.connections);
    pool.get("/0", Some(4096), &[address]).await.unwrap();
    assert_eq!(*seen.ranges.lock(), ["bytes=4096-"]);
}

#[tokio::test]
async fn a_kept_connection_that_is_dead_is_replaced() {
    let server = key(1);
    let (address, seen) = serve_forever(&server).await;
    let pool = pool(&server);
    for _ in 0..4 {
        pool.get("/once", None, &[address]).await.unwrap();
        // Given back, though it is dead: nothing has said so yet.
        while pool.idle_now() == 0 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(seen.connections.load(Ordering::Relaxed), 4);
}

/// As many connections as requests at once, each kept afterwards.
async fn keep(pool: &Pool, address: SocketAddr, count: usize) {
    let mut held = Vec::new();
    for _ in 0..count {
        // Large enough not to be read to its end yet, so that the next needs another connection.
        held.push(pool.get("/3000000", None, &[address]).await.unwrap().0);
    }
    for response in held {
        response.into_body().collect().await.unwrap();
    }
    // The tasks that wait for the ends of the bodies give the connections back.
    while pool.idle_now() < count {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn silence_on_kept_connections_costs_a_moment() {
    let server = key(1);
    let (address, seen) = serve_forever(&server).await;
    let pool = pool(&server);
    keep(&pool, address, 5).await;
    let begun = Instant::now();
    let (response, _) = pool.get("/mute", None, &[address]).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(seen.connections.load(Ordering::Relaxed), 6);
    assert!(pool.idle_now() <= 1, "the others were as old");
}

#[tokio::test]
async fn after_a_wake_up_nothing_is_used_that_was_kept() {
    let server = key(1);
    let (address, seen) = serve_forever(&server).await;
    let pool = pool(&server);
    keep(&pool, address, 2).await;
    pool.network_changed(false);
    assert_eq!(pool.idle_now(), 2, "from the same address to the same address");
    pool.network_changed(true);
    assert_eq!(pool.idle_now(), 0);
    pool.get("/0", None, &[address]).await.unwrap();
    assert_eq!(seen.connections.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn what_is_dialled_while_the_machine_moves_is_dialled_again() {
    let pool = pool(&key(1));
    let no_way = || LinkError::Connect {
        address: SocketAddr::from(([192, 0, 2, 1], 1)),
        source: std::io::ErrorKind::NetworkUnreachable.into(),
    };
    let dials = AtomicUsize::new(0);
    // From an address that is gone nothing comes; then there is none, and at last another.
    let dial = async || match dials.fetch_add(1, Ordering::Relaxed) {
        0 => std::future::pending().await,
        1 => Err(no_way()),
        _ => Ok(()),
    };
    let moves = async {
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            pool.network_changed(false);
        }
    };
    let (dialled, ()) = tokio::join!(pool.until_moved(dial), moves);
    assert!(dialled.is_ok() && dials.load(Ordering::Relaxed) == 3, "{dialled:?}");

    let begun = Instant::now();
    let error = pool.until_moved(async || Err::<(), _>(no_way())).await.unwrap_err();
    assert!(error.has_no_way() && begun.elapsed() < Duration::from_secs(1), "nobody waits for ever");
    let begun = Instant::now();
    pool.until_moved(async || Err::<(), _>(LinkError::NoAddress)).await.unwrap_err();
    assert_eq!(begun.elapsed(), Duration::ZERO, "that a peer is not there is no matter of the network");
}

#[tokio::test]
async fn a_body_that_is_dropped_costs_its_connection_only() {
    let server = key(1);
    let (address, _seen) = serve_forever(&server).await;
    let pool = pool(&server);
    for _ in 0..CONNECTIONS_MAX + 10 {
        let (mut response, _) = pool.get("/3000000", None, &[address]).await.unwrap();
        assert!(response.body_mut().frame().await.unwrap().unwrap().data_ref().is_some_and(|data| !data.is_empty()));
    }
    let (response, _) = pool.get("/10", None, &[address]).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), 10);
}

#[tokio::test]
async fn too_many_at_once_have_to_wait_but_not_for_ever() {
    let server = key(1);
    let (address, seen) = serve_forever(&server).await;
    let pool = Arc::new(pool(&server));
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        held.push(pool.get("/nar/3000000", None, &[address]).await.unwrap());
    }
    let error = pool.get("/nar/0", None, &[address]).await.map(|_| ()).unwrap_err();
    assert!(matches!(error, LinkError::AllInUse(CONNECTIONS_MAX)), "{error}");
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.get("/nar/0", None, &[address]).await.map(|_| ()) }
    });
    drop(held.pop());
    waiting.await.unwrap().unwrap();
    assert_eq!(seen.connections.load(Ordering::Relaxed), CONNECTIONS_MAX + 1);
}

#[tokio::test]
async fn what_is_no_request_target_is_refused() {
    let (address, seen) = serve_forever(&key(1)).await;
    let pool = pool(&key(1));
    for bad in ["", "x", "http://other/", "/a b", "/a\r\nx: y", &format!("/{}", "a".repeat(3000))] {
        let error = pool.get(bad, None, &[address]).await.map(|_| ()).unwrap_err();
        assert!(matches!(error, LinkError::Target(_)), "{bad}: {error}");
    }
    assert_eq!(seen.connections.load(Ordering::Relaxed), 0);
}
