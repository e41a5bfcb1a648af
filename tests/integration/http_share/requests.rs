//! What is the same for every face: methods, bodies, hosts, connections kept and closed, handlers that fail.

use crate::support::client::Client;
use crate::support::{TestFace, serve};
use peernix::http::Limits;
use peernix::peers::narinfo_batch;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_serves_many_requests() {
    let server = serve(TestFace::simple(), Limits::share()).await;
    let mut client = Client::connect(server.address).await;
    for _ in 0..3 {
        let head = client.request("HEAD", "/health", "").await;
        assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some("5"), 0));
        let answer = client.get("/health").await;
        assert_eq!((answer.status, answer.text(), answer.closes()), (200, "fine\n", false));
        assert_eq!(client.get("/nothing").await.status, 404);
    }
    // Two at once, and one in the old form.
    client.send("GET /health HTTP/1.1\r\nHost: a\r\n\r\nGET /health HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.answer(false).await.unwrap().text(), "fine\n");
    assert_eq!(client.answer(false).await.unwrap().text(), "fine\n");
    client.send("GET http://elsewhere/health HTTP/1.1\r\nHost: elsewhere\r\n\r\n").await;
    assert_eq!(client.answer(false).await.unwrap().text(), "fine\n", "the absolute form");
    client.send("GET /health HTTP/1.0\r\n\r\n").await;
    assert_eq!(client.answer(false).await.unwrap().text(), "fine\n");
    client.closed().await;
    let metrics = server.end().await;
    assert!(
        metrics.requests().any(|counted| counted == ("health", "2xx", 10)),
        "{:?}",
        metrics.requests().collect::<Vec<_>>()
    );
    assert!(metrics.requests().any(|counted| counted == ("other", "4xx", 3)));
    assert_eq!(metrics.connections.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_get_and_head() {
    let server = serve(TestFace::simple(), Limits::share()).await;
    let mut client = Client::connect(server.address).await;
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "PROPFIND", "get"] {
        let answer = client.request(method, "/health", "").await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{method}");
    }
    let mut client = Client::connect(server.address).await;
    client.send("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n").await;
    assert_eq!(client.answer(false).await.unwrap().status, 405);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_requests_are_not_read() {
    let server = serve(TestFace::simple(), Limits::share()).await;
    for (method, headers, status) in [
        ("GET", "Content-Length: 10\r\n", 200),
        ("GET", "Transfer-Encoding: chunked\r\n", 200),
        ("PUT", "Content-Length: 1000000000000\r\n", 405),
        ("PUT", "Content-Length: 10\r\nExpect: 100-continue\r\n", 405),
    ] {
        let mut client = Client::connect(server.address).await;
        let answer = client.request(method, "/health", headers).await;
        assert_eq!((answer.status, answer.closes()), (status, true), "{method} {headers}");
        client.closed().await;
    }
    let mut client = Client::connect(server.address).await;
    assert!(!client.request("GET", "/health", "Content-Length: 0\r\n").await.closes(), "no body is no body");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_taken_where_one_is_due_and_no_longer_one() {
    let limits = Limits { header_timeout: Duration::from_millis(300), ..Limits::share() };
    let server = serve(TestFace::simple(), limits).await;
    let post =
        |length: &str, body: &str| format!("POST /peernix/v1/narinfo HTTP/1.1\r\nHost: a\r\n{length}\r\n\r\n{body}");
    let most = "x".repeat(narinfo_batch::REQUEST_MAX);
    let mut client = Client::connect(server.address).await;
    for (length, body) in [("Content-Length: 3", "abc"), ("Content-Length: 5120", &most), ("Content-Length: 0", "")] {
        client.send(&post(length, body)).await;
        let answer = client.answer(false).await.unwrap();
        assert_eq!((answer.status, String::from_utf8(answer.body).unwrap()), (200, body.len().to_string()), "{length}");
    }
    for (length, body) in [
        ("Content-Length: 5121", format!("{most}x")),
        ("Content-Length: 1000000000000", "abc".to_owned()),
        ("Transfer-Encoding: chunked", format!("1401\r\n{most}x\r\n0\r\n\r\n")),
        // The rest does not come.
        ("Content-Length: 20", "abc".to_owned()),
    ] {
        let mut client = Client::connect(server.address).await;
        client.send(&post(length, &body)).await;
        let answer = client.answer(true).await.unwrap();
        assert_eq!((answer.status, answer.closes()), (400, true), "{length}");
    }
    let mut client = Client::connect(server.address).await;
    let answer = client.request("GET", narinfo_batch::TARGET, "").await;
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_host() {
    let server = serve(TestFace::simple(), Limits::share()).await;
    for head in ["GET /health HTTP/1.1\r\n\r\n", "GET /health HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"] {
        let mut client = Client::connect(server.address).await;
        client.send(head).await;
        let answer = client.answer(false).await.unwrap();
        assert_eq!((answer.status, answer.closes()), (400, true), "{head}");
        client.closed().await;
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_panics_is_not_found() {
    let server = serve(TestFace::simple(), Limits::share()).await;
    let mut client = Client::connect(server.address).await;
    let answer = client.get("/debuginfo/0123456789abcdef").await;
    assert_eq!((answer.status, answer.closes()), (404, true));
    client.closed().await;
    let mut client = Client::connect(server.address).await;
    assert_eq!(client.get("/health").await.status, 200, "life goes on");
    assert_eq!(server.end().await.panics.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_is_never_taken_for_whole() {
    let server = serve(TestFace::simple(), Limits::share()).await;
    let mut client = Client::connect(server.address).await;
    let answer = client.get("/nix-cache-info").await;
    assert_eq!((answer.status, answer.whole, answer.text()), (200, false, "xx"));
    let mut client = Client::connect(server.address).await;
    // The panic may come before the head is on its way, but no whole answer can.
    client.send("GET /7cs5xzrnw5p6mdmr7ym2qhg320xn66fi.ls HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(client.answer(false).await.is_none_or(|answer| !answer.whole));
    let metrics = server.end().await;
    assert_eq!((metrics.broken.get(), metrics.panics.get()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_away_is_not_worked_for() {
    let (face, mut arrivals) = TestFace::new();
    let given_up = Arc::clone(&face.given_up);
    let server = serve(face, Limits::share()).await;
    let mut client = Client::connect(server.address).await;
    client.send("GET /peers HTTP/1.1\r\nHost: a\r\n\r\n").await;
    arrivals.recv().await.unwrap();
    drop(client);
    // Nobody ever says that it may answer: only giving up ends it.
    server.end().await;
    assert_eq!(given_up.load(Relaxed), 1);
}
