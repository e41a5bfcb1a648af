//! A cable that can be watched: passes bytes to a machine and back, counts them, tells when enough have passed, and how
//! long somebody had to wait.

use parking_lot::Mutex;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How many bytes are passed on at once. Small enough to notice the moment, large enough not to be what is measured.
const CHUNK: usize = 128 * 1024;

/// Which cable it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// Between peers; the number of the machine that has the paths.
    Source(usize),
    /// Between Nix and its gateway.
    Nix,
}

/// What passes through all relays of the demonstration.
pub(super) struct Meter {
    /// Bytes from each machine that has the paths.
    passed: Vec<AtomicU64>,
    /// When that many have passed in all, the number of the machine that sent the last of them goes through here.
    alarm: Mutex<Option<(u64, oneshot::Sender<usize>)>>,
    /// When a machine was killed.
    killed: OnceLock<Instant>,
    /// The longest time since then that Nix waited for a byte.
    longest_wait: Mutex<Option<Duration>>,
}

impl Meter {
    pub(super) fn new(machines: usize) -> Arc<Self> {
        Arc::new(Self {
            passed: std::iter::repeat_with(AtomicU64::default).take(machines).collect(),
            alarm: Mutex::default(),
            killed: OnceLock::new(),
            longest_wait: Mutex::default(),
        })
    }

    /// Bytes that a machine has sent.
    pub(super) fn from(&self, machine: usize) -> u64 {
        self.passed[machine].load(Ordering::Relaxed)
    }

    fn total(&self) -> u64 {
        self.passed.iter().map(|bytes| bytes.load(Ordering::Relaxed)).sum()
    }

    /// Becomes ready once `bytes` more have passed, with the number of the machine that sent the last ones.
    pub(super) fn after(&self, bytes: u64) -> oneshot::Receiver<usize> {
        let (sender, receiver) = oneshot::channel();
        *self.alarm.lock() = Some((self.total() + bytes, sender));
        receiver
    }

    /// Notes that a machine is killed just now.
    pub(super) fn killed(&self) {
        let _ = self.killed.set(Instant::now());
    }

    /// The longest time since the kill that Nix waited for a byte; `None` if it got none.
    pub(super) fn longest_wait(&self) -> Option<Duration> {
        *self.longest_wait.lock()
    }

    /// `bytes` came, after a wait since `since`.
    fn count(&self, line: Line, bytes: usize, since: Instant) {
        match line {
            Line::Source(machine) => {
                self.passed[machine].fetch_add(bytes as u64, Ordering::Relaxed);
                let mut alarm = self.alarm.lock();
                if alarm.as_ref().is_some_and(|(limit, _)| self.total() >= *limit)
                    && let Some((_, sender)) = alarm.take()
                {
                    let _ = sender.send(machine);
                }
            }
            Line::Nix if self.killed.get().is_some() => {
                let mut longest = self.longest_wait.lock();
                *longest = (*longest).max(Some(since.elapsed()));
            }
            Line::Nix => {}
        }
    }
}

/// A relay in front of one machine.
pub(super) struct Relay {
    /// Where it is reached.
    pub(super) address: SocketAddr,
    target: Arc<OnceLock<SocketAddr>>,
    task: JoinHandle<()>,
}

impl Relay {
    /// Opens it. Connections that come before [`Self::lead_to`] are closed.
    pub(super) async fn open(line: Line, meter: Arc<Meter>) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let target = Arc::new(OnceLock::new());
        let task = tokio::spawn(accept(listener, Arc::clone(&target), line, meter));
        Ok(Self { address, target, task })
    }

    /// Says where the machine listens.
    pub(super) fn lead_to(&self, address: SocketAddr) {
        let _ = self.target.set(address);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, target: Arc<OnceLock<SocketAddr>>, line: Line, meter: Arc<Meter>) {
    while let Ok((client, _)) = listener.accept().await {
        let Some(target) = target.get().copied() else { continue };
        let meter = Arc::clone(&meter);
        tokio::spawn(async move {
            // A machine that is dead refuses; the client then sees its connection closed, as it should.
            if let Ok(server) = TcpStream::connect(target).await {
                let _ = pass(client, server, line, &meter).await;
            }
        });
    }
}

/// Passes bytes both ways until both ends are done.
async fn pass(mut client: TcpStream, mut server: TcpStream, line: Line, meter: &Meter) -> io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    // The last time that something was asked: nobody waits on a connection on which nothing was.
    let asked = Mutex::new(Instant::now());
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let last = || asked.lock();
    let up = carry(from_client, to_server, |_, _| *last() = Instant::now());
    let down = carry(from_server, to_client, |bytes, since| meter.count(line, bytes, since.max(*last())));
    tokio::try_join!(up, down).map(drop)
}

/// Passes bytes one way; tells `arrived` how many came and since when they were waited for.
async fn carry(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, arrived: impl Fn(usize, Instant)) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let since = Instant::now();
        let length = from.read(&mut chunk).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        arrived(length, since);
        to.write_all(&chunk[..length]).await?;
    }
}
