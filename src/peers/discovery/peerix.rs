//! peerix, the predecessor: who has a path is asked by a broadcast on the link, and whoever has it answers with the port of its HTTP server.
//!
//! ```text
//! question  00  ID: 4 bytes  the hash part, 32 characters
//! answer    01  ID: 4 bytes  the port: 4 bytes  local/HASH.narinfo
//! ```
//!
//! Numbers are big-endian. Silence is a no. Nothing of it is signed or encrypted: what comes of it counts by the signatures of narinfos alone.

use super::link::{broadcasts, is_near, is_own};
use crate::nix::StoreHash;
use crate::resilience::TokenBucket;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// The port of peerix, both UDP and TCP.
pub const PORT: u16 = 12304;
/// How long an answer is waited for: what peerix waits itself.
const WAIT: Duration = Duration::from_millis(50);
/// How many questions of others are looked at in a second, all together.
const QUESTIONS_PER_SECOND: u32 = 500;
/// How many of ours may be open.
const OPEN_MAX: usize = 1024;
/// The longest datagram that is read, in bytes.
const DATAGRAM_MAX: usize = 512;

/// What machines with peerix say to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Datagram {
    /// Who has this path?
    Question {
        /// Copied into the answer.
        id: [u8; 4],
        /// Which path.
        hash: StoreHash,
    },
    /// Whoever sends this does.
    Answer {
        /// That of the question.
        id: [u8; 4],
        /// Where its HTTP server listens.
        port: u16,
        /// Which path.
        hash: StoreHash,
    },
}

impl Datagram {
    /// As bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Question { id, hash } => [&[0], &id[..], hash.to_string().as_bytes()].concat(),
            Self::Answer { id, port, hash } => {
                [&[1], &id[..], &u32::from(*port).to_be_bytes(), format!("local/{hash}.narinfo").as_bytes()].concat()
            }
        }
    }

    /// From bytes of anybody; `None`: nothing of this.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (id, rest) = rest.split_first_chunk::<4>()?;
        match kind {
            0 => Some(Self::Question { id: *id, hash: std::str::from_utf8(rest).ok()?.parse().ok()? }),
            1 => {
                let (port, url) = rest.split_first_chunk::<4>()?;
                let port = u16::try_from(u32::from_be_bytes(*port)).ok().filter(|port| *port != 0)?;
                let hash = std::str::from_utf8(url).ok()?.strip_prefix("local/")?.strip_suffix(".narinfo")?;
                Some(Self::Answer { id: *id, port, hash: hash.parse().ok()? })
            }
            _ => None,
        }
    }
}

/// Asks machines with peerix, and answers them. A cheap handle: clones are the same.
#[derive(Clone)]
pub struct Peerix(Arc<Inner>);

struct Inner {
    socket: UdpSocket,
    port: u16,
    /// Questions that were not answered yet.
    open: Mutex<HashMap<[u8; 4], Waiting>>,
    next: AtomicU32,
    questions: Mutex<TokenBucket>,
}

/// Whoever waits for an answer about a path.
type Waiting = (StoreHash, oneshot::Sender<SocketAddr>);

/// Whether a path is here and may be given to anyone.
pub type Has = Arc<dyn Fn(StoreHash) -> std::pin::Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

impl Peerix {
    /// Listens for questions at this socket. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        socket.set_broadcast(true)?;
        socket.set_nonblocking(true)?;
        let port = socket.local_addr()?.port();
        let (open, questions) = (Mutex::default(), Mutex::new(TokenBucket::new(QUESTIONS_PER_SECOND)));
        let socket = UdpSocket::from_std(socket)?;
        Ok(Self(Arc::new(Inner { socket, port, open, next: AtomicU32::new(0), questions })))
    }

    /// Reads what comes until `stop`, and answers questions for what `has` says is here.
    pub async fn run(self, has: Has, stop: CancellationToken) {
        let reading = async {
            let mut buffer = [0; DATAGRAM_MAX];
            loop {
                match self.0.socket.recv_from(&mut buffer).await {
                    Ok((length, from)) => self.heard(&buffer[..length], from, &has),
                    // Word of a datagram that nobody took, on some systems.
                    Err(error) => log::debug!(reason:% = error; "peerix: {error}"),
                }
            }
        };
        stop.run_until_cancelled(reading).await;
    }

    fn heard(&self, bytes: &[u8], from: SocketAddr, has: &Has) {
        match Datagram::parse(bytes) {
            Some(Datagram::Question { id, hash }) => {
                // What leaves the network is nobody's business there; our own questions come back.
                if !is_near(from.ip()) || !self.0.questions.lock().permits() || is_own(from.ip()) {
                    return;
                }
                let (peerix, has) = (self.clone(), Arc::clone(has));
                tokio::spawn(async move {
                    if has(hash).await {
                        let answer = Datagram::Answer { id, port: peerix.0.port, hash }.to_bytes();
                        // Whoever asked asks somebody else if this is lost.
                        let _ = peerix.0.socket.send_to(&answer, from).await;
                    }
                });
            }
            Some(Datagram::Answer { id, port, hash }) if is_near(from.ip()) => {
                let mut open = self.0.open.lock();
                if open.get(&id).is_some_and(|(asked, _)| *asked == hash)
                    && let Some((_, waiting)) = open.remove(&id)
                {
                    // At the address that it came from and no other.
                    let _ = waiting.send(SocketAddr::new(from.ip(), port));
                }
            }
            _ => {}
        }
    }

    /// Who on the link has a path, as whoever answers first says: where its HTTP server is.
    pub async fn ask(&self, hash: StoreHash) -> Option<SocketAddr> {
        let id = self.0.next.fetch_add(1, Relaxed).to_be_bytes();
        let (sender, receiver) = oneshot::channel();
        {
            let mut open = self.0.open.lock();
            if open.len() >= OPEN_MAX {
                return None;
            }
            open.insert(id, (hash, sender));
        }
        let question = Datagram::Question { id, hash }.to_bytes();
        for link in broadcasts() {
            // A link that is down has nobody on it.
            if let Err(error) = self.0.socket.send_to(&question, SocketAddrV4::new(link, PORT)).await {
                log::debug!(address:% = link, reason:% = error; "peerix: nothing can be sent to {link}: {error}");
            }
        }
        let answer = timeout(WAIT, receiver).await;
        self.0.open.lock().remove(&id);
        answer.ok()?.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    const HASH: &str = "7cs5xzrnw5p6mdmr7ym2qhg320xn66fi";

    /// Datagrams of a real one, with the number 7.
    #[test]
    fn what_peerix_writes_is_read_and_written_alike() {
        let (id, hash) = ([0, 0, 0, 7], HASH.parse().unwrap());
        for (datagram, bytes) in [
            (
                Datagram::Question { id, hash },
                "000000000737637335787a726e773570366d646d7237796d32716867333230786e36366669",
            ),
            (
                Datagram::Answer { id, port: PORT, hash },
                "0100000007000030106c6f63616c2f37637335787a726e773570366d646d7237796d32716867333230786e363666692e6e6172696e666f",
            ),
        ] {
            assert_eq!(HEXLOWER.encode(&datagram.to_bytes()), bytes);
            assert_eq!(Datagram::parse(&datagram.to_bytes()), Some(datagram));
        }
    }

    proptest! {
        #[test]
        fn nothing_of_a_stranger_panics(bytes: Vec<u8>) {
            if let Some(datagram) = Datagram::parse(&bytes) {
                prop_assert_eq!(datagram.to_bytes(), bytes);
            }
        }
    }
}
