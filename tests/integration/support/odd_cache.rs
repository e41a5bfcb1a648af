//! A binary cache that answers byte by byte as a test says, right or wrong.

use super::internet::{Sample, compress};
use hyper::Uri;
use parking_lot::Mutex;
use peernix::nix::narinfo::NarInfo;
use peernix::nix::{Compression, StoreDir};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) path: String,
    /// The N of `Range: bytes=N-`.
    pub(crate) from: Option<usize>,
}

/// How an answer ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    /// The connection is closed.
    Close,
    /// Nothing more comes.
    Stall,
    /// The connection is reset.
    Reset,
}

/// An answer, head and all.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    after: Duration,
    bytes: Vec<u8>,
    end: End,
}

impl Reply {
    /// These bytes, and then this end.
    pub(crate) fn raw(bytes: impl Into<Vec<u8>>, end: End) -> Self {
        Self { after: Duration::ZERO, bytes: bytes.into(), end }
    }

    /// A status without a body; `headers` with their line ends.
    pub(crate) fn status(status: u16, headers: &str) -> Self {
        Self::raw(format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: 0\r\n{headers}\r\n"), End::Close)
    }

    /// The whole body with its length; `headers` with their line ends.
    pub(crate) fn ok(headers: &str, body: &[u8]) -> Self {
        Self::cut(headers, body, body.len(), End::Close)
    }

    /// What is left of `body` from byte `from` on, as the answer to a range.
    pub(crate) fn part(headers: &str, body: &[u8], from: usize) -> Self {
        let (length, last) = (body.len(), body.len() - 1);
        let head = format!(
            "HTTP/1.1 206 X\r\nConnection: close\r\nContent-Length: {}\r\nContent-Range: bytes {from}-{last}/{length}\r\n{headers}\r\n",
            length - from
        );
        Self::raw([head.as_bytes(), &body[from..]].concat(), End::Close)
    }

    /// So many bytes of a body whose whole length is told, and then this end.
    pub(crate) fn cut(headers: &str, body: &[u8], length: usize, end: End) -> Self {
        let head = format!("HTTP/1.1 200 X\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
        Self::raw([head.as_bytes(), &body[..length]].concat(), end)
    }

    /// The body in chunks.
    pub(crate) fn chunked(headers: &str, body: &[u8]) -> Self {
        let mut bytes = format!("HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n{headers}\r\n").into_bytes();
        for chunk in body.chunks(30_000) {
            bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        Self::raw(bytes, End::Close)
    }

    /// The body, ended by the end of the connection.
    pub(crate) fn until_close(headers: &str, body: &[u8]) -> Self {
        let head = format!("HTTP/1.1 200 X\r\nConnection: close\r\n{headers}\r\n");
        Self::raw([head.as_bytes(), body].concat(), End::Close)
    }

    /// The same, so long after it was asked for.
    pub(crate) fn after(self, after: Duration) -> Self {
        Self { after, ..self }
    }
}

/// A path as this cache has it.
#[derive(Clone)]
pub(crate) struct Entry {
    /// Its narinfo.
    pub(crate) narinfo: String,
    /// Where its file is, from the root.
    pub(crate) path: String,
    /// The file.
    pub(crate) file: Vec<u8>,
}

impl Entry {
    /// `sample`, compressed so.
    pub(crate) fn new(sample: &Sample, compression: &Compression) -> Self {
        Self::changed(sample, compression, |_| {})
    }

    /// The same, with the narinfo changed before it is written.
    pub(crate) fn changed(sample: &Sample, compression: &Compression, change: impl FnOnce(&mut NarInfo)) -> Self {
        let file = compress(compression, &sample.nar);
        let url = format!("nar/{}.nar.{compression}", sample.info.nar_hash.to_nix32());
        let path = format!("/{url}");
        let mut narinfo = NarInfo {
            info: sample.info.clone(),
            url,
            compression: compression.clone(),
            file_hash: None,
            file_size: Some(file.len() as u64),
            extra: vec![],
        };
        change(&mut narinfo);
        Self { narinfo: narinfo.render(&StoreDir::default()), path, file }
    }
}

/// The cache.
pub(crate) struct OddCache {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl OddCache {
    /// Answers every request as `reply` says.
    pub(crate) async fn start(reply: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let (reply, record) = (Arc::new(reply), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (reply, record) = (Arc::clone(&reply), Arc::clone(&record));
                tokio::spawn(async move { serve(stream, &*reply, &record).await });
            }
        });
        Self { address, asked }
    }

    /// One that has one path: its narinfo comes so late, its file as `reply` says.
    pub(crate) async fn with(
        entry: Entry,
        late: Duration,
        reply: impl Fn(&Asked, &[u8]) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::start(move |asked| match asked.path.as_str() {
            path if path.ends_with(".narinfo") && entry.narinfo.contains(&path[1..33]) => {
                Reply::ok("", entry.narinfo.as_bytes()).after(late)
            }
            path if path == entry.path => reply(asked, &entry.file),
            _ => Reply::status(404, "").after(late),
        })
        .await
    }

    pub(crate) fn url(&self) -> Uri {
        format!("http://{}", self.address).parse().unwrap()
    }

    /// What it was asked so far whose path contains `part`.
    pub(crate) fn asked(&self, part: &str) -> Vec<Asked> {
        self.asked.lock().iter().filter(|asked| asked.path.contains(part)).cloned().collect()
    }
}

/// One request a connection.
async fn serve(stream: TcpStream, reply: &(impl Fn(&Asked) -> Reply + Sync), record: &Mutex<Vec<Asked>>) {
    let mut stream = BufReader::new(stream);
    let (mut path, mut from) = (String::new(), None);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
            return;
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some(target) = line.strip_prefix("GET ") {
            path = target.split(' ').next().unwrap_or_default().to_owned();
        } else if let Some((name, value)) = line.split_once(": ")
            && name.eq_ignore_ascii_case("range")
        {
            from = value.strip_prefix("bytes=").and_then(|range| range.strip_suffix('-')?.parse().ok());
        }
    }
    let asked = Asked { path, from };
    let Reply { after, bytes, end } = reply(&asked);
    record.lock().push(asked);
    tokio::time::sleep(after).await; // pace
    let mut stream = stream.into_inner();
    if stream.write_all(&bytes).await.is_err() {
        return;
    }
    match end {
        End::Close => drop(stream.shutdown().await),
        End::Stall => std::future::pending().await,
        End::Reset => drop(socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))),
    }
}
