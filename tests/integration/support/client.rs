//! A client that sends what it is told, byte by byte if need be, and reads answers strictly.

use super::LIMIT;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// An answer as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether the body came to its end.
    pub(crate) whole: bool,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    pub(crate) fn closes(&self) -> bool {
        self.header("connection") == Some("close")
    }
}

/// A connection.
pub(crate) struct Client<S = TcpStream> {
    pub(crate) stream: S,
    unread: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).await.expect("the server listens"))
    }

    /// From another address of the loopback network.
    pub(crate) async fn connect_from(last: u8, address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, last], 0))).unwrap();
        Self::new(socket.connect(address).await.expect("the server listens"))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) const fn new(stream: S) -> Self {
        Self { stream, unread: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.expect("the server takes requests");
    }

    /// Sends a GET and reads its answer.
    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.request("GET", path, "").await
    }

    /// Sends a request with further header lines (each with its CRLF) and reads its answer.
    pub(crate) async fn request(&mut self, method: &str, path: &str, headers: &str) -> Answer {
        self.send(format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{headers}\r\n")).await;
        self.answer(method == "HEAD").await.expect("an answer")
    }

    async fn more(&mut self) -> bool {
        self.unread.reserve(64 * 1024);
        // A reset is an end as well.
        self.stream.read_buf(&mut self.unread).await.unwrap_or(0) > 0
    }

    /// Reads one answer; `None` when the connection ends before its head does.
    pub(crate) async fn answer(&mut self, to_head: bool) -> Option<Answer> {
        let end = loop {
            if let Some(end) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            if !self.more().await {
                return None;
            }
        };
        let rest = self.unread.split_off(end + 4);
        let head = String::from_utf8(std::mem::replace(&mut self.unread, rest)).expect("a head in ASCII");
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap();
        assert!(status.starts_with("HTTP/1.1 ") || status.starts_with("HTTP/1.0 "), "{status}");
        let status = status[9..12].parse().unwrap();
        let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
        let headers = lines.take_while(|line| !line.is_empty()).map(|line| header(line).expect("a header")).collect();
        let mut answer = Answer { status, headers, body: Vec::new(), whole: true };
        if to_head || status == 304 {
            return Some(answer);
        }
        if answer.header("transfer-encoding") == Some("chunked") {
            answer.whole = self.chunks(&mut answer.body).await;
            return Some(answer);
        }
        let length: Option<usize> = answer.header("content-length").map(|text| text.parse().unwrap());
        while length.is_none_or(|length| self.unread.len() < length) && self.more().await {}
        let whole = length.unwrap_or(self.unread.len()).min(self.unread.len());
        answer.whole = length.is_none_or(|length| length == whole);
        let rest = self.unread.split_off(whole);
        answer.body = std::mem::replace(&mut self.unread, rest);
        Some(answer)
    }

    async fn line(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|two| two == b"\r\n") {
                let rest = self.unread.split_off(end + 2);
                return Some(std::mem::replace(&mut self.unread, rest)[..end].to_vec());
            }
            if !self.more().await {
                return None;
            }
        }
    }

    async fn chunks(&mut self, body: &mut Vec<u8>) -> bool {
        loop {
            let Some(line) = self.line().await else { return false };
            let size = usize::from_str_radix(std::str::from_utf8(&line).unwrap(), 16).unwrap();
            while self.unread.len() < size + 2 {
                if !self.more().await {
                    return false;
                }
            }
            let rest = self.unread.split_off(size + 2);
            let chunk = std::mem::replace(&mut self.unread, rest);
            assert!(chunk.ends_with(b"\r\n"));
            body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                return true;
            }
        }
    }

    /// Waits until the server ends the connection, which must come without another byte.
    pub(crate) async fn closed(&mut self) {
        assert!(self.unread.is_empty(), "nothing is unread: {:?}", String::from_utf8_lossy(&self.unread));
        let more = self.more().await;
        assert!(!more, "nothing more comes: {:?}", String::from_utf8_lossy(&self.unread));
    }
}

/// Status line and body of a GET.
pub(crate) fn get(address: SocketAddr, path: &str) -> (String, String) {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}
