//! A small HTTP/1.1 client that costs little beside what it measures: it reads heads, counts bodies, and keeps its connections.

use anyhow::{Context as _, bail, ensure};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// The largest head of an answer, in bytes.
const HEAD_MAX: usize = 64 * 1024;
/// How much of a body is read at once, in bytes.
const BUFFER: usize = 256 * 1024;
/// How long one request may take.
const LIMIT: Duration = Duration::from_secs(120);

/// A connection that is kept.
pub(super) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that were received and not used.
    filled: usize,
}

/// What came back.
pub(super) struct Answer {
    pub(super) status: u16,
    /// The length of the body in bytes.
    pub(super) bytes: u64,
    /// The body, if it was wanted.
    pub(super) body: Vec<u8>,
}

impl Connection {
    pub(super) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("{address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; BUFFER], filled: 0 })
    }

    /// Asks for `path`, with further header lines in `more`; keeps the body if `wanted`.
    pub(super) async fn get(&mut self, path: &str, more: &str, wanted: bool) -> anyhow::Result<Answer> {
        let answer = tokio::time::timeout(LIMIT, self.exchange(path, more, wanted)).await;
        answer.unwrap_or_else(|_| bail!("no answer in time")).with_context(|| path.to_owned())
    }

    async fn exchange(&mut self, path: &str, more: &str, wanted: bool) -> anyhow::Result<Answer> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n");
        self.stream.write_all(request.as_bytes()).await?;
        let end = loop {
            let received = &self.buffer[..self.filled];
            if let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            ensure!(self.filled < HEAD_MAX, "the head of the answer is too long");
            let read = self.stream.read(&mut self.buffer[self.filled..]).await?;
            ensure!(read > 0, "the connection was closed");
            self.filled += read;
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status")?;
        let length = head.lines().filter_map(|line| line.split_once(':'));
        let length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let mut lengths = length.map(|(_, value)| value.trim().parse::<u64>());
        let bytes = lengths.next().context("the answer has no length")??;
        let mut body = Vec::new();
        let mut left = bytes;
        let mut have = self.filled - end;
        self.buffer.copy_within(end..self.filled, 0);
        loop {
            let used = usize::try_from(left).unwrap_or(usize::MAX).min(have);
            if wanted {
                body.extend_from_slice(&self.buffer[..used]);
            }
            left -= used as u64;
            if left == 0 {
                self.buffer.copy_within(used..have, 0);
                self.filled = have - used;
                return Ok(Answer { status, bytes, body });
            }
            have = self.stream.read(&mut self.buffer).await?;
            ensure!(have > 0, "the body ended {left} bytes early");
        }
    }
}

/// What a load came to.
pub(super) struct Outcome {
    /// Answers a second.
    pub(super) rate: f64,
    /// 99 of 100 answers came within this.
    pub(super) p99: Duration,
}

/// Lets so many connections work beside each other: what each came to, and how long all took.
async fn beside<T, F>(
    address: SocketAddr,
    connections: usize,
    work: impl Fn(Connection) -> F,
) -> anyhow::Result<(Vec<T>, Duration)>
where
    T: Send + 'static,
    F: Future<Output = anyhow::Result<T>> + Send + 'static,
{
    let mut open = Vec::new();
    for _ in 0..connections {
        open.push(Connection::open(address).await?);
    }
    let begun = Instant::now();
    let mut tasks: JoinSet<_> = open.into_iter().map(work).collect();
    let mut results = Vec::new();
    while let Some(task) = tasks.join_next().await {
        results.push(task??);
    }
    Ok((results, begun.elapsed()))
}

/// Asks for `paths` in turn on `connections` connections for `time`; each answer must have this status.
pub(super) async fn requests(
    address: SocketAddr,
    paths: &Arc<Vec<String>>,
    connections: usize,
    time: Duration,
    status: u16,
) -> anyhow::Result<Outcome> {
    let next = Arc::new(AtomicUsize::new(0));
    let work = |mut connection: Connection| {
        let (paths, next, begun) = (Arc::clone(paths), Arc::clone(&next), Instant::now());
        async move {
            let mut times = Vec::new();
            while begun.elapsed() < time {
                let path = &paths[next.fetch_add(1, Relaxed) % paths.len()];
                let asked = Instant::now();
                let answer = connection.get(path, "", false).await?;
                ensure!(answer.status == status, "{path}: {} instead of {status}", answer.status);
                times.push(asked.elapsed());
            }
            anyhow::Ok(times)
        }
    };
    let (times, took) = beside(address, connections, work).await?;
    let mut times = times.concat();
    times.sort_unstable();
    let p99 = times.get(times.len() * 99 / 100).copied().context("nothing was answered")?;
    #[allow(clippy::cast_precision_loss)] // a rate
    Ok(Outcome { rate: times.len() as f64 / took.as_secs_f64(), p99 })
}

/// Downloads all `paths` once on `streams` connections, each with further header lines in `more`: how long that took, and how many
/// bytes came.
pub(super) async fn downloads(
    address: SocketAddr,
    paths: &Arc<Vec<String>>,
    streams: usize,
    more: &'static str,
) -> anyhow::Result<(Duration, u64)> {
    let next = Arc::new(AtomicUsize::new(0));
    let work = |mut connection: Connection| {
        let (paths, next) = (Arc::clone(paths), Arc::clone(&next));
        async move {
            let mut bytes = 0;
            while let Some(path) = paths.get(next.fetch_add(1, Relaxed)) {
                let answer = connection.get(path, more, false).await?;
                ensure!(matches!(answer.status, 200 | 206), "{path}: {}", answer.status);
                bytes += answer.bytes;
            }
            anyhow::Ok(bytes)
        }
    };
    let (bytes, took) = beside(address, streams, work).await?;
    Ok((took, bytes.iter().sum()))
}
