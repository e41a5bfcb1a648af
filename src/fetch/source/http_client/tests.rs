//! Requests over connections that are dead, or that go by way of a proxy, over real sockets.

use super::*;
use crate::fetch::error::SourceError;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::{Request, Response};
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Longer than anything here may take.
const LIMIT: Duration = Duration::from_secs(20);

/// A server of one request after the other on each connection, and the heads of all requests.
struct Server {
    address: SocketAddr,
    /// Connections up to this one say nothing any more.
    dead: Arc<AtomicUsize>,
    accepted: Arc<AtomicUsize>,
    /// How many connections the other side has closed.
    closed: watch::Receiver<usize>,
    heads: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let [dead, accepted] = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
        let (closing, closed) = watch::channel(0);
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let mut tasks = JoinSet::new();
        let (silent, count, log) = (Arc::clone(&dead), Arc::clone(&accepted), Arc::clone(&heads));
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let number = count.fetch_add(1, SeqCst) + 1;
                let (silent, log, closing) = (Arc::clone(&silent), Arc::clone(&log), closing.clone());
                connections.spawn(async move {
                    serve(stream, number, &silent, &log).await;
                    closing.send_modify(|closed| *closed += 1);
                });
            }
        });
        Self { address, dead, accepted, closed, heads, _tasks: tasks }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn accepted(&self) -> usize {
        self.accepted.load(SeqCst)
    }

    /// From now on whatever was accepted before is silent.
    fn let_connections_die(&self) {
        self.dead.store(self.accepted(), SeqCst);
    }
}

/// Until the other side closes.
async fn serve(mut stream: TcpStream, number: usize, dead: &AtomicUsize, heads: &Mutex<Vec<String>>) {
    let mut first = true;
    while let Some(head) = read_head(&mut stream).await {
        let path = head.split_whitespace().nth(1).unwrap_or_default().to_owned();
        heads.lock().push(head);
        if number <= dead.load(SeqCst) && path != "/late" {
            continue;
        }
        let large;
        let answer: &[u8] = match path.as_str() {
            "/large" => {
                large = [b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n".as_slice(), &[b'.'; 1_000_000]].concat();
                &large
            }
            // Nothing more ever comes.
            "/cut" => b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this",
            "/once" if !first => return,
            "/late" if !first => {
                sleep(Duration::from_millis(1500)).await;
                b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate"
            }
            "/late" if number > 1 => continue,
            _ => b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        };
        first = false;
        if path == "/trickle" {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n").await;
            for _ in 0..20 {
                let _ = stream.write_all(b".").await;
                sleep(Duration::from_millis(100)).await;
            }
        } else if stream.write_all(answer).await.is_err() {
            return;
        }
    }
}

async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

fn client() -> HttpClient {
    ClientFactory::with_roots(rustls::RootCertStore::empty()).client()
}

async fn get(client: &HttpClient, url: &str) -> Result<Response<Incoming>, SourceError> {
    let authority = url.split('/').nth(2).unwrap_or_default();
    let request = Request::get(url).header("host", authority).body(Empty::new()).unwrap();
    timeout(LIMIT, client.request(request)).await.unwrap()
}

async fn text(answer: Result<Response<Incoming>, SourceError>) -> Bytes {
    timeout(LIMIT, answer.unwrap().into_body().collect()).await.unwrap().unwrap().to_bytes()
}

/// As many connections as requests at once, each kept afterwards.
async fn warm_up(client: &HttpClient, server: &Server, count: usize) {
    let before = server.accepted();
    let mut held = Vec::new();
    for _ in 0..count {
        // Too large to be read to its end yet, so that the next needs another connection.
        held.push(get(client, &server.url("/large")).await);
    }
    assert_eq!(server.accepted(), before + count);
    for answer in held {
        assert_eq!(text(answer).await.len(), 1_000_000);
    }
    // Nobody tells when the client has taken the last of them back.
    sleep(Duration::from_millis(50)).await;
}

#[tokio::test]
async fn a_kept_connection_is_used_again() {
    let (server, client) = (Server::start().await, client());
    warm_up(&client, &server, 1).await;
    assert_eq!(text(get(&client, &server.url("/x")).await).await, "ok");
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn silence_on_kept_connections_costs_a_moment() {
    let (server, client) = (Server::start().await, client());
    warm_up(&client, &server, 24).await;
    server.let_connections_die();
    let begun = Instant::now();
    let all = (0..24).map(|_| async { text(get(&client, &server.url("/x")).await).await });
    for answer in join_all(all).await {
        assert_eq!(answer, "ok");
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    // What was kept before is dropped, and what came now is kept.
    let before = server.accepted();
    assert_eq!(text(get(&client, &server.url("/x")).await).await, "ok");
    assert_eq!(server.accepted(), before);
    let mut closed = server.closed.clone();
    timeout(LIMIT, closed.wait_for(|closed| *closed >= 24)).await.unwrap().unwrap();
}

/// All at once, in the order of the list.
async fn join_all<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut all: Vec<_> = all.map(Box::pin).collect();
    let mut done: Vec<Option<F::Output>> = all.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, done) in all.iter_mut().zip(&mut done).filter(|(_, done)| done.is_none()) {
            if let std::task::Poll::Ready(output) = future.as_mut().poll(context) {
                *done = Some(output);
            }
        }
        if done.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[tokio::test]
async fn a_kept_connection_that_closes_instead_of_answering_is_no_failure() {
    let (server, client) = (Server::start().await, client());
    for _ in 0..5 {
        assert_eq!(text(get(&client, &server.url("/once")).await).await, "ok");
    }
    assert_eq!(server.accepted(), 5);
}

#[tokio::test]
async fn a_kept_connection_that_answers_late_is_heard() {
    let (server, client) = (Server::start().await, client());
    warm_up(&client, &server, 1).await;
    // The fresh one never answers.
    assert_eq!(text(get(&client, &server.url("/late")).await).await, "late");
    assert_eq!(server.accepted(), 2);
}

#[tokio::test]
async fn silence_on_a_fresh_connection_is_the_upstreams() {
    let (server, client) = (Server::start().await, client());
    server.dead.store(usize::MAX, SeqCst);
    assert!(matches!(get(&client, &server.url("/x")).await, Err(SourceError::Stalled(HEAD))));
    assert_eq!(server.accepted(), 1, "it is not asked again");
}

#[tokio::test]
async fn a_change_elsewhere_changes_nothing() {
    let (server, client) = (Server::start().await, client());
    warm_up(&client, &server, 1).await;
    client.network_changed(false);
    assert_eq!(text(get(&client, &server.url("/x")).await).await, "ok");
    assert_eq!(server.accepted(), 1, "from the same address to the same address");
}

#[tokio::test]
async fn after_a_wake_up_what_was_kept_is_dropped_and_what_runs_must_show_that_it_lives() {
    let (server, client) = (Server::start().await, client());
    let silent = get(&client, &server.url("/cut")).await.unwrap().into_body();
    let alive = get(&client, &server.url("/trickle")).await;
    assert_eq!(text(get(&client, &server.url("/x")).await).await, "ok");
    assert_eq!(server.accepted(), 3);
    client.network_changed(true);
    let mut closed = server.closed.clone();
    timeout(Duration::from_millis(500), closed.wait_for(|closed| *closed == 1)).await.unwrap().unwrap();
    let cut = timeout(Duration::from_secs(3), silent.collect()).await.expect("it is not waited for");
    assert!(cut.is_err());
    assert_eq!(text(alive).await.len(), 20);
}

#[tokio::test]
async fn the_first_request_after_a_wake_up_waits_for_nothing() {
    let (server, client) = (Server::start().await, client());
    let mut late = 0;
    for _ in 0..20 {
        warm_up(&client, &server, 10).await;
        server.let_connections_die();
        client.network_changed(true);
        let begun = Instant::now();
        assert_eq!(text(get(&client, &server.url("/x")).await).await, "ok");
        // Less than the patience with a connection that was kept; a machine that is busy itself may be late now and then.
        late += u32::from(begun.elapsed() >= Duration::from_millis(150));
        client.drop_idle();
    }
    assert!(late < 5, "{late} of 20");
}

#[tokio::test]
async fn a_request_that_waits_when_the_machine_wakes_up_is_sent_again_at_once() {
    let (server, client) = (Server::start().await, client());
    server.dead.store(1, SeqCst);
    let url = server.url("/x");
    let asked = get(&client, &url);
    let woken = async {
        while server.accepted() == 0 {
            sleep(Duration::from_millis(5)).await;
        }
        client.network_changed(true);
        Instant::now()
    };
    let (answer, woken) = tokio::join!(async { (text(asked.await).await, Instant::now()) }, woken);
    assert_eq!(answer.0, "ok");
    assert!(answer.1 - woken < Duration::from_millis(500));
}

/// A proxy that notes what it is asked, and connects every tunnel to `upstream`.
async fn proxy(upstream: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<Vec<u8>>>>, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::<Mutex<Vec<Vec<u8>>>>::default();
    let log = Arc::clone(&seen);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let log = Arc::clone(&log);
            connections.spawn(async move {
                let mut target = TcpStream::connect(upstream).await.unwrap();
                let mut first = [0];
                stream.peek(&mut first).await.unwrap();
                if first[0] == 5 {
                    socks(&mut stream, &log).await;
                } else {
                    let head = read_head(&mut stream).await.unwrap();
                    if head.starts_with("CONNECT ") {
                        stream.write_all(b"HTTP/1.1 200 fine\r\n\r\n").await.unwrap();
                        log.lock().push(head.into_bytes());
                        let mut sent = vec![0; 4096];
                        let count = stream.peek(&mut sent).await.unwrap();
                        log.lock().push(sent[..count].to_vec());
                    } else {
                        target.write_all(head.as_bytes()).await.unwrap();
                        log.lock().push(head.into_bytes());
                    }
                }
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut target).await;
            });
        }
    });
    (address, seen, tasks)
}

/// Accepts a login and a target; see [RFC 1928](https://www.rfc-editor.org/rfc/rfc1928) and 1929.
async fn socks(stream: &mut TcpStream, log: &Mutex<Vec<Vec<u8>>>) {
    let mut message = vec![0; 512];
    for reply in [&[5, 2][..], &[1, 0], &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]] {
        let count = stream.read(&mut message).await.unwrap();
        log.lock().push(message[..count].to_vec());
        stream.write_all(reply).await.unwrap();
    }
}

fn client_by(proxy: &str) -> HttpClient {
    let factory = ClientFactory::with_roots(rustls::RootCertStore::empty());
    let get = |name: &str| (name == "all_proxy").then(|| proxy.to_owned());
    factory.set_proxies(Proxies::new(None, get));
    factory.client()
}

#[tokio::test]
async fn a_plain_upstream_is_asked_of_the_proxy_by_its_whole_url() {
    let server = Server::start().await;
    let (address, seen, _tasks) = proxy(server.address).await;
    let client = client_by(&format!("http://user:secret@{address}"));
    assert_eq!(text(get(&client, "http://cache.example.org/x").await).await, "ok");
    let head = String::from_utf8(seen.lock()[0].clone()).unwrap();
    assert!(head.starts_with("GET http://cache.example.org/x HTTP/1.1\r\n"), "{head}");
    let login = format!("proxy-authorization: Basic {}\r\n", data_encoding::BASE64.encode(b"user:secret"));
    assert!(head.contains(&login), "{head}");
    // Loopback is nobody's business.
    assert_eq!(text(get(&client, &server.url("/direct")).await).await, "ok");
    assert!(server.heads.lock().last().unwrap().starts_with("GET /direct HTTP/1.1\r\n"));
    assert_eq!(seen.lock().len(), 1);
}

#[tokio::test]
async fn tls_goes_through_a_tunnel_and_takes_no_login_with_it() {
    let server = Server::start().await;
    let (address, seen, _tasks) = proxy(server.address).await;
    let client = client_by(&format!("http://user:secret@{address}"));
    // The server speaks no TLS; what is told to whom is all that matters.
    let _ = timeout(
        Duration::from_secs(1),
        client.request(Request::get("https://cache.example.org/x").body(Empty::new()).unwrap()),
    )
    .await;
    let seen = seen.lock().clone();
    let head = String::from_utf8(seen[0].clone()).unwrap().to_ascii_lowercase();
    assert!(head.starts_with("connect cache.example.org:443 http/1.1\r\n"), "{head}");
    assert!(head.contains("proxy-authorization: basic "), "{head}");
    assert_eq!(seen[1][..2], [0x16, 3], "a handshake of TLS");
}

#[tokio::test]
async fn socks_proxies_get_the_name_and_the_login() {
    let server = Server::start().await;
    let (address, seen, _tasks) = proxy(server.address).await;
    let client = client_by(&format!("socks5://user:secret@{address}"));
    assert_eq!(text(get(&client, "http://cache.example.org:81/x").await).await, "ok");
    let seen = seen.lock().clone();
    assert_eq!(seen[1], b"\x01\x04user\x06secret");
    assert_eq!(seen[2], b"\x05\x01\x00\x03\x11cache.example.org\x00\x51");
    let head = server.heads.lock()[0].clone();
    assert!(head.starts_with("GET /x HTTP/1.1\r\n") && !head.to_ascii_lowercase().contains("proxy"), "{head}");
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_and_its_login_is_not() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let client = client_by(&format!("http://user:secret@127.0.0.1:{port}"));
    let error = get(&client, "https://cache.example.org/x").await.unwrap_err().to_string();
    assert!(error.contains("refused") && !error.contains("secret"), "{error}");
}
