//! Making a connection: the addresses race, each a moment behind the one before.

use super::connection::{Connection, Life};
use super::heard::Heard;
use super::tls::{ClientIdentity, HANDSHAKE_LIMIT, peer_id, refine, speaks_http_2};
use crate::peers::error::{LinkError, PeersError};
use crate::peers::identity::NodeId;
use crate::peers::membership::Admission;
use crate::peers::node_key::NodeKey;
use crate::resilience::Schedule;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// How long a TCP connection may take: the kernel repeats one lost SYN after a second.
const CONNECT_LIMIT: Duration = Duration::from_millis(1500);
/// The most addresses of one peer, kept for it and tried for one connection.
pub(crate) const ADDRESSES_MAX: usize = 8;
/// The pauses before a peer is tried again.
pub(crate) const RETRY_PAUSES: Schedule =
    Schedule { first: Duration::from_secs(1), factor: 2, most: Duration::from_secs(300), spread: true };
/// The head start of each address before the next is tried too. [RFC 8305](https://www.rfc-editor.org/rfc/rfc8305) says
/// 250 ms for the Internet; a LAN answers in a few.
const HEAD_START: Duration = Duration::from_millis(100);
/// When the kernel begins to ask whether a silent peer is still there, how often, and how many answers may be missed. Where somebody
/// watches, greetings are more frequent than that, and it never does.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(30), Duration::from_secs(5), 3);

/// After this long without an answer to what was sent, or asked, a connection is dead (`TCP_USER_TIMEOUT`).
const UNANSWERED: Duration = Duration::from_secs(10);

/// Makes connections in this machine's name.
pub(crate) struct Dialler(ClientIdentity);

/// Whom a connection must reach. Costs a few allocations to make, so each peer keeps its own.
#[derive(Clone)]
pub(crate) struct Target {
    /// For HTTP/1.1.
    single: Arc<ClientConfig>,
    /// For HTTP/2, where the other side has it.
    multiplexed: Arc<ClientConfig>,
}

impl Dialler {
    pub(crate) fn new(key: &NodeKey, admission: Admission) -> Result<Self, PeersError> {
        ClientIdentity::new(key, admission).map(Self)
    }

    /// Whether connections to `id` are allowed.
    pub(crate) fn admits(&self, id: NodeId) -> bool {
        self.0.admission.admits(id)
    }

    /// This node, or (with `None`) whichever is admitted.
    pub(crate) fn target(&self, id: Option<NodeId>) -> Target {
        Target { single: self.0.towards(id, false), multiplexed: self.0.towards(id, true) }
    }
}

impl Target {
    /// Connects to the first of `addresses` (the best first) where the target answers, for many requests at a time if it has
    /// that.
    ///
    /// # Errors
    /// What kept the best address from answering; that one of them is busy is worth more.
    pub(crate) async fn dial(&self, addresses: &[SocketAddr]) -> Result<Connection, LinkError> {
        race(&self.multiplexed, addresses).await
    }

    /// The same, for one request at a time.
    pub(super) async fn dial_single(&self, addresses: &[SocketAddr]) -> Result<Connection, LinkError> {
        race(&self.single, addresses).await
    }
}

async fn race(config: &Arc<ClientConfig>, addresses: &[SocketAddr]) -> Result<Connection, LinkError> {
    let mut waiting = addresses.iter().copied().take(ADDRESSES_MAX);
    // Dropping the set aborts the losers.
    let mut racing = JoinSet::new();
    let mut failure = None;
    loop {
        if let Some(address) = waiting.next() {
            racing.spawn(connect(Arc::clone(config), address));
        } else if racing.is_empty() {
            return Err(failure.unwrap_or(LinkError::NoAddress));
        }
        let finished = match waiting.len() {
            0 => racing.join_next().await,
            _ => match timeout(HEAD_START, racing.join_next()).await {
                Ok(finished) => finished,
                Err(_) => continue,
            },
        };
        match finished {
            Some(Ok(Ok(connection))) => return Ok(connection),
            Some(Ok(Err(error @ LinkError::Busy(_)))) => failure = Some(error),
            Some(Ok(Err(error))) => failure = failure.or(Some(error)),
            Some(Err(_)) | None => {}
        }
    }
}

async fn connect(config: Arc<ClientConfig>, address: SocketAddr) -> Result<Connection, LinkError> {
    let unreachable = |source| LinkError::Connect { address, source };
    let stream = timeout(CONNECT_LIMIT, TcpStream::connect(address)).await;
    let stream = stream.map_err(|_| unreachable(io::ErrorKind::TimedOut.into()))?.map_err(unreachable)?;
    prepare(&stream).map_err(unreachable)?;
    let local = stream.local_addr().map_err(unreachable)?;
    // The name is not sent (there is no SNI) and not checked: keys are the names here.
    let name = ServerName::IpAddress(address.ip().into());
    let failed = |source| LinkError::Handshake { address, source };
    let handshake = TlsConnector::from(config).connect(name, Heard::new(stream)).into_fallible();
    let stream = timeout(HANDSHAKE_LIMIT, handshake).await.map_err(|_| failed(io::ErrorKind::TimedOut.into()))?;
    let stream = stream.map_err(|(error, stream)| match stream.is_turned_away(&error) {
        true => LinkError::Busy(address),
        false => refine(error, failed),
    })?;
    let id = peer_id(stream.get_ref().1)?;
    let multiplexed = speaks_http_2(stream.get_ref().1);
    Connection::new(stream, id, Life::new(local, address), multiplexed).await
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    let (time, interval, retries) = KEEPALIVE;
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(time).with_interval(interval).with_retries(retries);
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(UNANSWERED))?;
    socket.set_tcp_keepalive(&keepalive)
}
