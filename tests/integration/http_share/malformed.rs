//! 100,000 requests that are not what HTTP or the cache protocol allow, each from its own generator and seed.
//!
//! None may make anything panic, none may get an answer of 5xx or a body it should not have, and afterwards the server is
//! as good as new.

use crate::support::client::Client;
use crate::support::{TestFace, serve};
use peernix::http::Limits;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

const REQUESTS: u64 = 100_000;
const WORKERS: u64 = 8;
/// How long any answer may take, on a busy machine.
const LIMIT: Duration = Duration::from_secs(4);

/// A small generator of pseudo-random numbers (splitmix64): the same requests in every run.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..=self.below(most)).map(|_| u8::try_from(self.below(256)).unwrap()).collect()
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// Characters that a request target may have.
    fn target(&mut self, most: usize) -> String {
        const CHARACTERS: &[u8] = b"abcdfgnarxz0123456789/.%-_~!$&'()*+,;=:@?";
        (0..=self.below(most)).map(|_| char::from(self.one_of(CHARACTERS))).collect()
    }
}

/// What the answer may be. "Closed" is an end without an answer.
struct Allowed {
    statuses: &'static [u16],
    closed: bool,
}

const fn only(statuses: &'static [u16]) -> Allowed {
    Allowed { statuses, closed: false }
}

const fn or_closed(statuses: &'static [u16]) -> Allowed {
    Allowed { statuses, closed: true }
}

const REST: &str = " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const HASH: &str = "7cs5xzrnw5p6mdmr7ym2qhg320xn66fi";
const KINDS: u64 = 20;

/// A request of the kind, and what may come back.
fn request(kind: u64, dice: &mut Dice) -> (Vec<u8>, Allowed) {
    let with = |start: &str, rest: &str| format!("{start}{rest}").into_bytes();
    match kind {
        0 => {
            let method = dice.one_of(&["get", "POST", "FOO", "G-E_T", "HEAD2", "*", "!", "DELETE", "SUBSCRIBE"]);
            (with(method, &format!(" /health{REST}")), only(&[405]))
        }
        1 => {
            let method = dice.one_of(&["G\0T", "G(T", "G,T", "\u{1}", "GÉT", "\"GET\"", "{", "G\u{7f}"]);
            (with(method, &format!(" /health{REST}")), only(&[400]))
        }
        2 => (with(&format!("GET /{}", dice.target(300)), REST), only(&[200, 404, 400])),
        3 => {
            let inner = dice.one_of(&["\0", "\u{1}", "\t", " ", "\r", "\u{7f}", "\u{1b}[2J", " x y"]);
            (with(&format!("GET /{HASH}{inner}.narinfo"), REST), or_closed(&[400, 404]))
        }
        4 => {
            let dots = dice.one_of(&["..", "%2e%2e", "..%2f", "....", "%252e", "..;", "%c0%ae", "\\..\\", "%00", "%"]);
            let place =
                dice.one_of(&["", "nar/", "log/", "nix-cache/", "realisations/", "build-trace-v2/", "debuginfo/"]);
            (with(&format!("GET /{place}{dots}/{dots}/etc/passwd"), REST), only(&[404, 400]))
        }
        5 => {
            let path = "x".repeat(17 * 1024 + dice.below(80 * 1024));
            (with(&format!("GET /{path}"), REST), only(&[431, 414]))
        }
        6 => {
            let value = "v".repeat(17 * 1024 + dice.below(64 * 1024));
            (with("GET /health HTTP/1.1\r\nHost: a\r\nX: ", &format!("{value}\r\n\r\n")), only(&[431]))
        }
        7 => {
            let headers = "A: b\r\n".repeat(100 + dice.below(1000));
            (with("GET /health HTTP/1.1\r\nHost: a\r\n", &format!("{headers}\r\n")), only(&[431]))
        }
        8 => {
            let line =
                dice.one_of(&["nocolon", ": v", "a b: c", "a\0: b", "a: b\0c", " folded", "a: \u{1}", "é: x", "a : b"]);
            (with("GET /health HTTP/1.1\r\nHost: a\r\n", &format!("{line}\r\n\r\n")), only(&[400]))
        }
        9 => {
            let version =
                dice.one_of(&["HTTP/0.9", "HTTP/2.0", "HTTP/1.2", "HTTP/1", "HTP/1.1", "http/1.1", "HTTP/1.1x", ""]);
            (with("GET /health ", &format!("{version}\r\nHost: a\r\n\r\n")), or_closed(&[400]))
        }
        10 => {
            let hosts = dice.one_of(&["", "Host: a\r\nHost: a\r\n", "Host: a\r\nhost: b\r\n", "Host: \u{80}\r\n"]);
            (with("GET /health HTTP/1.1\r\n", &format!("{hosts}\r\n")), only(&[400]))
        }
        11 => {
            let chunk = dice.one_of(&[
                "zz\r\n",
                "-1\r\n",
                "fffffffffffffffff\r\n",
                "5\r\nab",
                "\r\n\r\n",
                "1;\0\r\nx\r\n",
                "1\nx\n",
            ]);
            let method = dice.one_of(&["GET", "HEAD", "POST"]);
            let head = format!("{method} /health HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
            (with(&head, chunk), only(&[200, 405]))
        }
        12 => {
            let length = dice.one_of(&["-1", "x", "", "1e3", "99999999999999999999999", "1, 2", "+5", "0x10"]);
            (with("GET /health HTTP/1.1\r\nHost: a\r\nContent-Length: ", &format!("{length}\r\n\r\n")), only(&[400]))
        }
        13 => {
            let both = dice.one_of(&[
                "Content-Length: 3\r\nContent-Length: 4\r\n",
                "Transfer-Encoding: gzip\r\n",
                "Transfer-Encoding: chunked, identity\r\n",
                "Transfer-Encoding: xchunked\r\n",
            ]);
            (with("GET /health HTTP/1.1\r\nHost: a\r\n", &format!("{both}\r\n")), only(&[400]))
        }
        14 => {
            // A request hidden in the body of another one.
            let hidden = format!("GET /peers{REST}");
            let head = format!(
                "POST /health HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
                hidden.len()
            );
            (with(&head, &format!("0\r\n\r\n{hidden}")), only(&[405]))
        }
        15 => {
            let target = dice.one_of(&[
                "*",
                "a:1",
                "http://",
                "http:///health",
                "//health",
                "ftp://a/health",
                "/#x",
                "?x",
                "\\health",
            ]);
            let method = dice.one_of(&["GET", "HEAD"]);
            (with(&format!("{method} {target}"), REST), or_closed(&[200, 404, 400]))
        }
        16 => {
            let mut bytes = dice.bytes(400);
            // Without an end of head the server would rightly wait for one.
            bytes.extend_from_slice(b"\r\n\r\n\r\n\r\n");
            (bytes, or_closed(&[400, 405, 404]))
        }
        17 => {
            // A client of TLS, and one of HTTP/2.
            let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &dice.bytes(500)].concat();
            let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
            (if dice.below(2) == 0 { hello } else { preface }, or_closed(&[400]))
        }
        18 => {
            let range = dice.one_of(&["bytes=", "bytes=a-b", "bytes=9-1", "bytes=-", "bytes=0-0,", "=", "\u{80}"]);
            let head =
                format!("GET /{HASH}.narinfo HTTP/1.1\r\nHost: a\r\nRange: {range}\r\nConnection: close\r\n\r\n");
            (head.into_bytes(), only(&[404]))
        }
        _ => {
            // Several good ones, then garbage.
            let good = "GET /health HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1 + dice.below(20));
            (with(&good, "\0\0\r\n\r\n"), only(&[200]))
        }
    }
}

async fn send(address: SocketAddr, number: u64) {
    let kind = number % KINDS;
    let (bytes, allowed) = request(kind, &mut Dice(number));
    // Connections that the server ends leave their port occupied for a minute; ten addresses have ten times as many.
    let mut client = Client::connect_from(u8::try_from(number / KINDS % 10 + 1).unwrap(), address).await;
    // The server may have answered and closed before it has seen all.
    let _ = client.stream.write_all(&bytes).await;
    if matches!(kind, 9 | 16 | 17) {
        // Nothing in these says that they are complete.
        let _ = client.stream.shutdown().await;
    }
    let shown =
        || format!("number {number}, kind {kind}: {:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(300)]));
    // Every one of these is complete: the answer must not wait for a time-out.
    let answer = timeout(LIMIT, client.answer(bytes.starts_with(b"HEAD "))).await;
    let answer = answer.unwrap_or_else(|_| panic!("neither an answer nor an end for {}", shown()));
    match &answer {
        Some(answer) => assert!(allowed.statuses.contains(&answer.status), "{} for {}", answer.status, shown()),
        None => assert!(allowed.closed || bytes.len() > 8192, "no answer to {}", shown()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_malformed_requests() {
    let server = serve(TestFace::simple(), Limits::share()).await;
    let address = server.address;
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            tokio::spawn(async move {
                for number in (worker..REQUESTS).step_by(usize::try_from(WORKERS).unwrap()) {
                    send(address, number).await;
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    assert_eq!(Client::connect(address).await.get("/health").await.status, 200, "as good as new");
    let metrics = server.end().await;
    assert_eq!(metrics.panics.get(), 0);
    assert_eq!(metrics.connections.get(), REQUESTS + 1);
    assert_eq!(metrics.refused.get(), 0);
    assert!(metrics.requests().all(|(_, class, _)| class != "5xx"));
}
