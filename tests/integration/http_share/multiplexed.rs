//! HTTP/2 between peers: the same limits as over HTTP/1.1, whatever is asked and however little of it is read.

use crate::support::tls::connect;
use crate::support::{LIMIT, Running, TestFace, serve_with};
use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use hyper::{Method, Request};
use peernix::http::Limits;
use peernix::peers::link::Acceptor;
use peernix::peers::narinfo_batch;
use peernix::peers::{Admission, NodeKey};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{interval, timeout};

const SHORT: Duration = Duration::from_millis(300);
/// What a busy machine may add to a time-out of ours.
const SLACK: Duration = Duration::from_secs(5);
/// How many requests a connection may carry at once.
const STREAMS: usize = 32;

fn short() -> Limits {
    Limits { header_timeout: SHORT, idle_timeout: SHORT * 2, stall_timeout: SHORT, ..Limits::share() }
}

async fn server(face: TestFace, limits: Limits) -> Running {
    let acceptor = Acceptor::new(&NodeKey::from_seed([1; 32]), Admission::Open).unwrap().multiplexed();
    serve_with(face, limits, Some(acceptor), "127.0.0.1:0").await
}

/// A connection: what sends requests, and its end.
struct Client {
    send: SendRequest<Bytes>,
    ended: JoinHandle<Result<(), h2::Error>>,
}

impl Client {
    async fn new(server: &Running) -> Self {
        Self::with(server, &Builder::new()).await
    }

    async fn with(server: &Running, builder: &Builder) -> Self {
        let (send, connection) = builder.handshake(connect(server.address, 2, true).await).await.unwrap();
        Self { send, ended: tokio::spawn(connection) }
    }

    /// Sends a request without a body, and gives what becomes of it.
    async fn ask(&mut self, method: Method, path: &str) -> h2::client::ResponseFuture {
        self.send = self.send.clone().ready().await.unwrap();
        let request = Request::builder().method(method).uri(format!("https://peer{path}")).body(()).unwrap();
        self.send.send_request(request, true).unwrap().0
    }

    /// The status, the length that the head tells, and the body.
    async fn get(&mut self, method: Method, path: &str) -> (u16, Option<String>, Vec<u8>) {
        let (head, mut body) = self.ask(method, path).await.await.unwrap().into_parts();
        let mut bytes = Vec::new();
        while let Some(data) = body.data().await {
            let data = data.unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            bytes.extend_from_slice(&data);
        }
        let length = head.headers.get("content-length").map(|value| value.to_str().unwrap().to_owned());
        (head.status.as_u16(), length, bytes)
    }

    /// How long it takes until the server ends the connection.
    async fn ended(self, since: Instant) -> Duration {
        let _ = timeout(LIMIT, self.ended).await.expect("the server ends it").unwrap();
        since.elapsed()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_small_is_answered_as_over_http_1() {
    let server = server(TestFace::simple(), Limits::share()).await;
    let mut client = Client::new(&server).await;
    let five = Some("5".to_owned());
    assert_eq!(client.get(Method::GET, "/health").await, (200, five.clone(), b"fine\n".to_vec()));
    assert_eq!(client.get(Method::HEAD, "/health").await, (200, five, vec![]));
    assert_eq!(client.get(Method::GET, "/nothing").await.0, 404);
    assert_eq!(client.get(Method::GET, "/debuginfo/0123456789abcdef").await.0, 404, "a handler that panics");
    client.ended(Instant::now()).await;
    let metrics = server.end().await;
    assert_eq!((metrics.panics.get(), metrics.connections.get()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_from_the_store_have_connections_of_their_own() {
    let server = server(TestFace::simple(), Limits::share()).await;
    let mut client = Client::new(&server).await;
    let hash = "0".repeat(32);
    for path in [format!("/nar/{hash}.nar"), format!("/{hash}.ls"), format!("/log/{hash}-x.drv")] {
        assert_eq!(client.get(Method::GET, &path).await.0, 421, "{path}");
    }
    assert_eq!(client.get(Method::GET, "/health").await.0, 200, "on the same connection");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_a_body_is_the_last_one() {
    let server = server(TestFace::simple(), Limits::share()).await;
    let mut client = Client::new(&server).await;
    assert_eq!(client.get(Method::GET, "/health").await.0, 200, "the limits of the server are known");
    let request = Request::builder().method(Method::PUT).uri("https://peer/health").body(()).unwrap();
    let (response, mut body) = client.send.send_request(request, false).unwrap();
    body.reserve_capacity(1 << 20);
    assert_eq!(response.await.unwrap().status(), 405);
    // What a question between peers may have, before it is known that this is none.
    assert!(body.capacity() <= narinfo_batch::REQUEST_MAX, "no more of it is wanted: {}", body.capacity());
    drop(body);
    client.ended(Instant::now()).await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_too_large_is_refused() {
    let server = server(TestFace::simple(), Limits::share()).await;
    let mut client = Client::new(&server).await;
    let request = Request::get("https://peer/health").header("x-long", "x".repeat(20_000)).body(()).unwrap();
    let refused = match client.send.send_request(request, true).unwrap().0.await {
        Ok(response) => response.status() == 431,
        Err(_) => true,
    };
    assert!(refused);
    assert_eq!(Client::new(&server).await.get(Method::GET, "/health").await.0, 200);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_nothing_is_closed() {
    let server = server(TestFace::simple(), short()).await;
    let start = Instant::now();
    let took = Client::new(&server).await.ended(start).await;
    assert!((SHORT..SHORT + SLACK).contains(&took), "{took:?}");
    assert_eq!(server.end().await.header_timeouts.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_nothing_more_is_closed_whatever_else_it_sends() {
    let server = server(TestFace::simple(), short()).await;
    let stream = connect(server.address, 2, true).await;
    let (mut send, mut connection) = h2::client::handshake(stream).await.unwrap();
    let mut pings = connection.ping_pong().unwrap();
    let ended = tokio::spawn(connection);
    let response = send.send_request(Request::get("https://peer/health").body(()).unwrap(), true).unwrap().0;
    assert_eq!(response.await.unwrap().status(), 200);
    let start = Instant::now();
    let mut ticks = interval(SHORT / 5);
    while pings.ping(h2::Ping::opaque()).await.is_ok() {
        ticks.tick().await;
        assert!(start.elapsed() < LIMIT);
    }
    let took = start.elapsed();
    assert!((SHORT..SHORT * 2 + SLACK).contains(&took), "{took:?}");
    let _ = ended.await.unwrap();
    let metrics = server.end().await;
    assert_eq!((metrics.header_timeouts.get(), metrics.stalled.get()), (0, 0), "an ordinary end");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_answer_that_is_not_read_ends_the_connection() {
    let server = server(TestFace::simple(), Limits { idle_timeout: LIMIT, ..short() }).await;
    // Of each answer one byte may come; others are read meanwhile, as far as one byte goes.
    let mut client = Client::with(&server, Builder::new().initial_window_size(1)).await;
    let start = Instant::now();
    let unread = client.ask(Method::GET, "/health").await.await.unwrap();
    let mut ticks = interval(SHORT / 5);
    while !client.ended.is_finished() {
        ticks.tick().await;
        assert!(start.elapsed() < LIMIT);
        let Ok(mut send) = client.send.clone().ready().await else { break };
        let request = Request::head("https://peer/health").body(()).unwrap();
        if let Ok((response, _)) = send.send_request(request, true) {
            let _ = response.await;
        }
    }
    assert!((SHORT..SHORT + SLACK).contains(&start.elapsed()), "{:?}", start.elapsed());
    drop(unread);
    client.ended(start).await;
    assert_eq!(server.end().await.stalled.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_may_take_its_time() {
    let (face, mut arrivals) = TestFace::new();
    let answer = Arc::clone(&face.answer);
    let server = server(face, short()).await;
    let mut client = Client::new(&server).await;
    let mut response = client.ask(Method::GET, "/peers").await;
    arrivals.recv().await.unwrap();
    // Twice as long as every limit there is.
    assert!(timeout(SHORT * 4, &mut response).await.is_err());
    server.stop.cancel();
    answer.notify_one();
    assert_eq!(response.await.unwrap().status(), 200, "a stop lets answers end");
    client.ended(Instant::now()).await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_requests_at_once_and_no_more() {
    let (face, mut arrivals) = TestFace::new();
    let answer = Arc::clone(&face.answer);
    let server = server(face, Limits::share()).await;
    let mut client = Client::new(&server).await;
    assert_eq!(client.get(Method::GET, "/health").await.0, 200, "the limits of the server are known");
    let mut asked = JoinSet::new();
    for _ in 0..STREAMS {
        asked.spawn(client.ask(Method::GET, "/peers").await);
        arrivals.recv().await.unwrap();
    }
    let one_more = client.send.send_request(Request::get("https://peer/peers").body(()).unwrap(), true).unwrap().0;
    assert!(timeout(SHORT, arrivals.recv()).await.is_err(), "it waits at the client");
    answer.notify_one();
    arrivals.recv().await.unwrap();
    answer.notify_waiters();
    assert!(one_more.await.is_ok());
    assert!(asked.join_all().await.iter().all(Result::is_ok));
    server.end().await;
}

/// A frame of HTTP/2 (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The fields of a GET: https, and two literals that nobody has to remember (RFC 7541).
fn head(path: &str) -> Vec<u8> {
    let length = u8::try_from(path.len()).unwrap();
    [&[0x82, 0x87, 0x04, length][..], path.as_bytes(), &[0x01, 4], b"peer"].concat()
}

/// Requests for `/peers`, each given up in the same breath (HEADERS and RST_STREAM), until so many are sent or the server
/// has had enough. Tells how many were.
async fn give_up(server: &Running, most: u32) -> u32 {
    const BATCH: u32 = 100;
    let head = head("/peers");
    let (mut read, mut write) = tokio::io::split(connect(server.address, 2, true).await);
    let reading = tokio::spawn(async move { tokio::io::copy(&mut read, &mut tokio::io::sink()).await });
    let mut sent = 0;
    let mut bytes = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &[])].concat();
    while sent < most {
        for number in sent..sent + BATCH {
            bytes.extend(frame(1, 5, number * 2 + 1, &head));
            bytes.extend(frame(3, 0, number * 2 + 1, &8_u32.to_be_bytes()));
        }
        if write.write_all(&bytes).await.is_err() {
            break;
        }
        sent += BATCH;
        bytes.clear();
    }
    drop(write);
    reading.abort();
    sent.max(BATCH)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_who_says_nothing() {
    let server = server(TestFace::simple(), Limits { drain_timeout: LIMIT, ..Limits::share() }).await;
    let mut stream = connect(server.address, 2, true).await;
    let bytes = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &[]), frame(1, 5, 1, &head("/health"))];
    stream.write_all(&bytes.concat()).await.unwrap();
    while server.metrics.requests().count() == 0 {
        tokio::task::yield_now().await;
    }
    let begun = Instant::now();
    // It neither agrees to the end nor goes away.
    server.end().await;
    assert!(begun.elapsed() < SLACK, "{:?}", begun.elapsed());
    drop(stream);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_requests_that_are_given_up_cost_no_more_than_a_few() {
    const REQUESTS: u32 = 100_000;
    let (face, mut arrivals) = TestFace::new();
    let given_up = Arc::clone(&face.given_up);
    let server = Arc::new(server(face, Limits::share()).await);
    let flood = tokio::spawn({
        let server = Arc::clone(&server);
        async move {
            let (mut left, mut connections) = (REQUESTS, 0);
            while left > 0 {
                left = left.saturating_sub(give_up(&server, left).await);
                connections += 1;
            }
            connections
        }
    });
    // Whoever else asks is answered meanwhile, in time.
    let mut other = Client::new(&server).await;
    let (mut arrived, mut most, mut slowest) = (0_u64, 0, Duration::ZERO);
    while !flood.is_finished() {
        let begun = Instant::now();
        assert_eq!(other.get(Method::GET, "/health").await.0, 200);
        slowest = slowest.max(begun.elapsed());
        while arrivals.try_recv().is_ok() {
            arrived += 1;
        }
        most = most.max(arrived.saturating_sub(given_up.load(Relaxed)));
    }
    assert!(flood.await.unwrap() > 1, "such a connection is ended");
    assert!(most <= STREAMS as u64 * 2, "{most} at once; a connection that ends and the next may overlap");
    assert!(slowest < SLACK, "{slowest:?}");
    drop(other);
    let metrics = Arc::into_inner(server).unwrap().end().await;
    while arrivals.try_recv().is_ok() {
        arrived += 1;
    }
    assert_eq!(arrived, given_up.load(Relaxed), "nothing is left");
    assert_eq!(metrics.panics.get(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_up_while_it_is_answered_leaves_nothing() {
    const ROUNDS: u32 = 200;
    const EACH: u32 = 30;
    let (face, mut arrivals) = TestFace::new();
    let given_up = Arc::clone(&face.given_up);
    let server = server(face, short()).await;
    let (mut read, mut write) = tokio::io::split(connect(server.address, 2, true).await);
    let mut bytes = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &[])].concat();
    for round in 0..ROUNDS {
        let streams = (round * EACH..(round + 1) * EACH).map(|number| number * 2 + 1);
        bytes.extend(streams.clone().flat_map(|stream| frame(1, 5, stream, &head("/peers"))));
        write.write_all(&bytes).await.unwrap();
        for _ in 0..EACH {
            arrivals.recv().await.unwrap();
        }
        bytes = streams.flat_map(|stream| frame(3, 0, stream, &8_u32.to_be_bytes())).collect();
    }
    // One more is given up when every timer of the connection has gone off.
    let last = ROUNDS * EACH * 2 + 1;
    bytes.extend(frame(1, 5, last, &head("/peers")));
    write.write_all(&bytes).await.unwrap();
    arrivals.recv().await.unwrap();
    assert!(timeout(SHORT * 4, arrivals.recv()).await.is_err(), "nothing else was asked");
    write.write_all(&frame(3, 0, last, &8_u32.to_be_bytes())).await.unwrap();
    let start = Instant::now();
    // It is idle, although its own task had no part in the end of the last request.
    timeout(LIMIT, tokio::io::copy(&mut read, &mut tokio::io::sink())).await.expect("the server ends it").ok();
    assert!((SHORT..SHORT * 2 + SLACK).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert_eq!(given_up.load(Relaxed), u64::from(ROUNDS * EACH + 1));
    let metrics = server.end().await;
    assert_eq!((metrics.connections.get(), metrics.stalled.get()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_makes_room_and_a_busy_one_does_not() {
    let (face, mut arrivals) = TestFace::new();
    let answer = Arc::clone(&face.answer);
    let server = server(face, Limits { connections: 2, ..Limits::share() }).await;
    let mut busy = Client::new(&server).await;
    let asked = busy.ask(Method::GET, "/peers").await;
    arrivals.recv().await.unwrap();
    let mut idle = Client::new(&server).await;
    assert_eq!(idle.get(Method::GET, "/health").await.0, 200);
    let begun = Instant::now();
    assert_eq!(Client::new(&server).await.get(Method::GET, "/health").await.0, 200);
    assert!(idle.ended(begun).await < SLACK);
    answer.notify_one();
    assert_eq!(asked.await.unwrap().status(), 200);
    let metrics = server.end().await;
    assert_eq!((metrics.made_room.get(), metrics.refused.get()), (1, 0));
}
