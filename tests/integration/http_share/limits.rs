//! Numbers and time: how many connections there may be, and how long each may take over what.

use crate::support::client::Client;
use crate::support::{Running, TestFace, allow_many_files, serve};
use peernix::http::Limits;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{interval, timeout};

const SHORT: Duration = Duration::from_millis(300);
/// What a busy machine may add to a time-out of ours.
const SLACK: Duration = Duration::from_secs(5);

fn short() -> Limits {
    Limits { header_timeout: SHORT, idle_timeout: SHORT * 2, stall_timeout: SHORT, ..Limits::share() }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_is_closed() {
    let server = serve(TestFace::simple(), short()).await;
    let start = Instant::now();
    Client::connect(server.address).await.closed().await;
    assert!((SHORT..SHORT + SLACK).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert_eq!(server.end().await.header_timeouts.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_trickles_is_closed() {
    let server = serve(TestFace::simple(), short()).await;
    let mut client = Client::connect(server.address).await;
    // The server counts from its answer on, which is seen here a moment later.
    let start = Instant::now();
    assert_eq!(client.get("/health").await.status, 200);
    let (mut read, mut write) = client.stream.into_split();
    // One byte every now and then: there is always progress, and never a head.
    let trickle = tokio::spawn(async move {
        let mut ticks = interval(SHORT / 10);
        while write.write_all(b"G").await.is_ok() {
            ticks.tick().await;
        }
    });
    let read = read.read(&mut [0]).await;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    let took = start.elapsed();
    trickle.await.unwrap();
    assert!((SHORT..SHORT + SLACK).contains(&took), "{took:?}");
    assert_eq!(server.end().await.header_timeouts.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_end_and_used_ones_do_not() {
    let server = serve(TestFace::simple(), short()).await;
    let mut client = Client::connect(server.address).await;
    let mut ticks = interval(SHORT);
    // Longer in all than any limit.
    for _ in 0..6 {
        ticks.tick().await;
        assert_eq!(client.get("/health").await.status, 200);
    }
    let start = Instant::now();
    client.closed().await;
    assert!((SHORT..SHORT * 2 + SLACK).contains(&start.elapsed()), "{:?}", start.elapsed());
    let metrics = server.end().await;
    assert_eq!((metrics.header_timeouts.get(), metrics.stalled.get()), (0, 0), "an ordinary end");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_may_take_its_time() {
    let (face, mut arrivals) = TestFace::new();
    let answer = std::sync::Arc::clone(&face.answer);
    let server = serve(face, short()).await;
    let mut client = Client::connect(server.address).await;
    client.send("GET /peers HTTP/1.1\r\nHost: a\r\n\r\n").await;
    arrivals.recv().await.unwrap();
    // Twice as long as every limit there is: were one in force, the connection would end before.
    assert!(timeout(SHORT * 4, client.answer(false)).await.is_err());
    answer.notify_one();
    assert_eq!(client.answer(false).await.unwrap().text(), "at last\n");
    server.end().await;
}

/// Sends a request for an endless body, into as small a window as there is.
async fn endless(server: &Running) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(server.address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stops_is_closed() {
    let server = serve(TestFace::simple(), short()).await;
    let start = Instant::now();
    let stream = endless(&server).await;
    // Only the server can end this: nothing is read, so that no end can be seen from here.
    while server.metrics.stalled.get() == 0 {
        assert!(start.elapsed() < SHORT + SLACK);
        tokio::task::yield_now().await;
    }
    assert!(start.elapsed() >= SHORT);
    drop(stream);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_crawls_is_closed() {
    let server = serve(TestFace::simple(), short()).await;
    let mut stream = endless(&server).await;
    let start = Instant::now();
    let mut ticks = interval(SHORT / 20);
    let mut piece = [0; 256];
    // Always some progress, 17 KB/s of it, where 64 KiB in 300 ms are asked for.
    while server.metrics.stalled.get() == 0 {
        ticks.tick().await;
        assert!(stream.read(&mut piece).await.is_ok_and(|read| read > 0) || server.metrics.stalled.get() > 0);
        assert!(start.elapsed() < SHORT * 30 + SLACK);
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_on_is_not_closed() {
    let server = serve(TestFace::simple(), short()).await;
    let mut stream = endless(&server).await;
    let mut ticks = interval(SHORT / 20);
    let mut piece = vec![0; 64 * 1024];
    let start = Instant::now();
    // A megabyte a second or so, for several times as long as the limit.
    while start.elapsed() < SHORT * 6 {
        ticks.tick().await;
        let mut read = 0;
        while read < piece.len() {
            read += stream.read(&mut piece[read..]).await.expect("still there");
        }
    }
    drop(stream);
    assert_eq!(server.end().await.stalled.get(), 0);
}

/// A client whose request is being answered, and stays so.
async fn busy(last: u8, server: &Running, arrivals: &mut UnboundedReceiver<()>) -> Client {
    let mut client = Client::connect_from(last, server.address).await;
    client.send("GET /peers HTTP/1.1\r\nHost: a\r\n\r\n").await;
    arrivals.recv().await.unwrap();
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_so_many_connections() {
    let (face, mut arrivals) = TestFace::new();
    let server = serve(face, Limits { per_address: Some(2), ..Limits::share() }).await;
    let first = busy(1, &server, &mut arrivals).await;
    let _second = busy(1, &server, &mut arrivals).await;
    Client::connect_from(1, server.address).await.closed().await;
    assert_eq!(Client::connect_from(2, server.address).await.get("/health").await.status, 200, "others may");
    drop(first);
    // Its place is free as soon as its task has ended, which is a moment after its socket has.
    let start = Instant::now();
    loop {
        let mut client = Client::connect_from(1, server.address).await;
        client.stream.write_all(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n").await.ok();
        if client.answer(false).await.is_some() {
            break;
        }
        assert!(start.elapsed() < SLACK);
    }
    server.stop.cancel();
    assert!(server.metrics.refused.get() >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_share_closes_its_oldest_idle_connection() {
    let server = serve(TestFace::simple(), Limits { connections: 2, ..Limits::share() }).await;
    let mut clients = [Client::connect(server.address).await, Client::connect(server.address).await];
    for at in [0, 1, 0] {
        assert_eq!(clients[at].get("/health").await.status, 200);
        tokio::time::sleep(Duration::from_millis(5)).await; // times are in milliseconds
    }
    let mut third = Client::connect(server.address).await;
    assert_eq!(third.get("/health").await.status, 200);
    let [mut used, mut oldest] = clients;
    oldest.closed().await;
    assert_eq!(used.get("/health").await.status, 200);
    let metrics = server.end().await;
    assert_eq!((metrics.refused.get(), metrics.made_room.get()), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_share_with_nobody_idle_closes() {
    let (face, mut arrivals) = TestFace::new();
    let answer = std::sync::Arc::clone(&face.answer);
    let server = serve(face, Limits { connections: 1, ..Limits::share() }).await;
    let mut first = busy(1, &server, &mut arrivals).await;
    Client::connect(server.address).await.closed().await;
    answer.notify_one();
    assert_eq!(first.answer(false).await.unwrap().status, 200);
    assert_eq!(server.end().await.refused.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_gateway_lets_wait() {
    let (face, mut arrivals) = TestFace::new();
    let answer = std::sync::Arc::clone(&face.answer);
    let limits = Limits { connections: 1, ..Limits::gateway() };
    let server = serve(face, limits).await;
    let mut first = busy(1, &server, &mut arrivals).await;
    let mut second = Client::connect(server.address).await;
    second.send("GET /health HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(timeout(SHORT, second.answer(false)).await.is_err(), "it waits");
    answer.notify_one();
    assert_eq!(first.answer(false).await.unwrap().status, 200);
    assert_eq!(second.answer(false).await.unwrap().status, 200, "and is served, as the first is idle");
    first.closed().await;
    let metrics = server.end().await;
    assert_eq!((metrics.refused.get(), metrics.waited.get()), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn ordinary_clients_of_the_share_wait() {
    const CLIENTS: usize = 600;
    allow_many_files();
    let (face, mut arrivals) = TestFace::new();
    let server = serve(face, Limits::plain_share()).await;
    // As Nix with `http-connections = 0` does: one connection for each path, all at once, from one address.
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        let address = server.address;
        asking.spawn(async move {
            let mut client = Client::connect_from(1, address).await;
            client.send("GET /health HTTP/1.1\r\nHost: a\r\n\r\n").await;
            (client.answer(false).await.map(|answer| answer.status), client)
        });
    }
    let mut clients = Vec::new();
    for (status, client) in asking.join_all().await {
        assert_eq!(status, Some(200));
        clients.push(client);
    }
    // While an address has all of its places in use, others are served at once, and its next one waits.
    drop(clients);
    let mut held = Vec::new();
    for _ in 0..128 {
        held.push(busy(2, &server, &mut arrivals).await);
    }
    let mut waiting = Client::connect_from(2, server.address).await;
    waiting.send("GET /health HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(timeout(SHORT, waiting.answer(false)).await.is_err());
    assert_eq!(Client::connect_from(3, server.address).await.get("/health").await.status, 200);
    drop(held.pop());
    assert_eq!(waiting.answer(false).await.unwrap().status, 200);
    drop(held);
    let metrics = server.end().await;
    assert_eq!(metrics.refused.get(), 0);
    assert!(metrics.waited.get() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_answers_end() {
    let (face, mut arrivals) = TestFace::new();
    let answer = std::sync::Arc::clone(&face.answer);
    let server = serve(face, Limits::share()).await;
    let mut idle = Client::connect(server.address).await;
    assert_eq!(idle.get("/health").await.status, 200);
    let mut silent = Client::connect(server.address).await;
    let mut late = Client::connect(server.address).await;
    late.send("GET /health HT").await;
    let mut busy = Client::connect(server.address).await;
    busy.send("GET /peers HTTP/1.1\r\nHost: a\r\n\r\n").await;
    arrivals.recv().await.unwrap();
    server.stop.cancel();
    idle.closed().await;
    // Whoever was let in is answered, if it asks soon.
    late.send("TP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(late.answer(false).await.unwrap().status, 200);
    late.closed().await;
    silent.closed().await;
    assert!(TcpStream::connect(server.address).await.is_err(), "nothing new");
    assert!(!server.served.is_finished());
    answer.notify_one();
    // Whether its head says that the connection ends depends on when the connection has heard of the stop; it ends anyway.
    assert_eq!(busy.answer(false).await.unwrap().text(), "at last\n");
    busy.closed().await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_ever() {
    let (face, mut arrivals) = TestFace::new();
    let server = serve(face, Limits { drain_timeout: SHORT, ..Limits::share() }).await;
    let mut busy = Client::connect(server.address).await;
    busy.send("GET /peers HTTP/1.1\r\nHost: a\r\n\r\n").await;
    arrivals.recv().await.unwrap();
    let start = Instant::now();
    server.end().await;
    assert!((SHORT..SHORT + SLACK).contains(&start.elapsed()), "{:?}", start.elapsed());
    busy.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_connections_at_once() {
    const CONNECTIONS: usize = 1000;
    allow_many_files();
    let (face, mut arrivals) = TestFace::new();
    let answer = std::sync::Arc::clone(&face.answer);
    let server = serve(face, Limits::share()).await;
    let mut clients = Vec::new();
    for number in 0..CONNECTIONS {
        // 100 from each of ten addresses.
        let mut client = Client::connect_from(u8::try_from(number % 10 + 1).unwrap(), server.address).await;
        client.send("GET /peers HTTP/1.1\r\nHost: a\r\n\r\n").await;
        clients.push(client);
    }
    for _ in 0..CONNECTIONS {
        arrivals.recv().await.unwrap();
    }
    assert_eq!(server.metrics.connections_now.get(), CONNECTIONS as u64);
    answer.notify_waiters();
    for client in &mut clients {
        assert_eq!(client.answer(false).await.unwrap().text(), "at last\n");
        assert_eq!(client.get("/health").await.status, 200);
    }
    assert_eq!(server.metrics.refused.get(), 0);
    server.end().await;
}
