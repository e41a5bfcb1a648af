//! The face towards peers: who is let in, and that everything else ends in time.

use crate::support::client::Client;
use crate::support::{TestFace, serve_with};
use peernix::http::Limits;
use peernix::peers::link::Acceptor;
use peernix::peers::{Admission, NodeKey};
use std::time::{Duration, Instant};

fn acceptor() -> Acceptor {
    Acceptor::new(&NodeKey::from_seed([1; 32]), Admission::Open).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_is_refused() {
    let server = serve_with(TestFace::simple(), Limits::share(), Some(acceptor()), "127.0.0.1:0").await;
    let mut client = Client::connect(server.address).await;
    client.send("GET /health HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.answer(false).await, None, "at most an alert of TLS");
    assert_eq!(server.end().await.handshakes_failed.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_does_not_come_is_closed() {
    let server = serve_with(TestFace::simple(), Limits::share(), Some(acceptor()), "[::1]:0").await;
    let start = Instant::now();
    Client::connect(server.address).await.closed().await;
    let took = start.elapsed();
    assert!((Duration::from_secs(3)..Duration::from_secs(8)).contains(&took), "{took:?}");
    assert_eq!(server.end().await.handshakes_failed.get(), 1);
}
