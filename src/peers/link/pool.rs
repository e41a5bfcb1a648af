//! The connections to one peer: used by one request at a time, kept for the next, bounded in number and age.

use super::connection::{Connection, request};
use super::dial::Target;
use super::transport::{Pending, Transport};
use crate::peers::error::LinkError;
use crate::peers::identity::NodeId;
use crate::peers::trusted_keys::TrustedKeysHeaders;
use hyper::Response;
use hyper::body::Incoming;
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

/// The most connections to one peer in use at once. Nix fetches 25 paths at a time, and looks up more meanwhile; the
/// share allows 128 connections from one address.
pub(crate) const CONNECTIONS_MAX: usize = 64;
/// The most connections kept without use: as many as Nix looks up at a time, or each lookup would shake hands anew.
const IDLE_MAX: usize = 25;
/// How long a connection is kept without use: less than the 30 s after which the share closes it.
const IDLE_TIME: Duration = Duration::from_secs(20);
/// How long a request waits for a connection when all are in use.
const SLOT_LIMIT: Duration = Duration::from_secs(1);

/// The connections to one peer.
pub(crate) struct Pool {
    id: NodeId,
    target: Target,
    /// Goes with every request.
    trusted_keys: Arc<TrustedKeysHeaders>,
    slots: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Idle>>>,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

impl Pool {
    pub(crate) fn new(id: NodeId, target: Target, trusted_keys: Arc<TrustedKeysHeaders>) -> Self {
        Self { id, target, trusted_keys, slots: Arc::new(Semaphore::new(CONNECTIONS_MAX)), idle: Arc::default() }
    }

    async fn fresh(
        &self,
        message: hyper::Request<http_body_util::Empty<bytes::Bytes>>,
        addresses: &[SocketAddr],
    ) -> Result<(Connection, (Response<Incoming>, Duration)), LinkError> {
        let mut connection = self.target.dial(addresses).await?;
        let answer = connection.request(message).await?;
        Ok((connection, answer))
    }

    /// The connection used last: the least likely to be closed.
    fn take(&self) -> Option<Connection> {
        self.purge();
        self.idle.lock().pop().map(|idle| idle.connection)
    }
}

impl Transport for Pool {
    /// Over a kept connection if there is one, else over a new one to the first of `addresses` that answers.
    fn get<'a>(
        &'a self,
        path_and_query: &'a str,
        range_from: Option<u64>,
        addresses: &'a [SocketAddr],
    ) -> Pending<'a, (Response<Incoming>, Duration)> {
        Box::pin(async move {
            let mut message = request(self.id, path_and_query, range_from)?;
            self.trusted_keys.add_to(message.headers_mut());
            let slot = timeout(SLOT_LIMIT, self.slots.clone().acquire_owned()).await;
            let Ok(Ok(slot)) = slot else { return Err(LinkError::Busy(CONNECTIONS_MAX)) };
            let (connection, answer) = match self.take() {
                Some(mut kept) => match kept.request(message.clone()).await {
                    Ok(answer) => (kept, answer),
                    // The share closes what is idle, perhaps while the request was on its way. A GET may be repeated.
                    Err(LinkError::Http(_)) => self.fresh(message, addresses).await?,
                    Err(error) => return Err(error),
                },
                None => self.fresh(message, addresses).await?,
            };
            let idle = self.idle.clone();
            tokio::spawn(async move {
                let mut connection = connection;
                // Ends when the body is read to its end, or dropped.
                if connection.is_reusable().await {
                    let mut idle = idle.lock();
                    if idle.len() < IDLE_MAX {
                        idle.push(Idle { connection, since: Instant::now() });
                    }
                }
                drop(slot);
            });
            Ok(answer)
        })
    }

    fn dial<'a>(&'a self, addresses: &'a [SocketAddr]) -> Pending<'a, Connection> {
        Box::pin(self.target.dial(addresses))
    }

    fn purge(&self) {
        let mut idle = self.idle.lock();
        idle.retain(|idle| idle.since.elapsed() < IDLE_TIME && !idle.connection.is_closed());
    }

    fn clear(&self) {
        self.idle.lock().clear();
    }
}
