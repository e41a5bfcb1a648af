//! The connections to one peer: used by one request at a time, kept for the next, bounded in number and age.

use super::connection::{Connection, Life, request};
use super::dial::Target;
use super::transport::{Pending, Transport};
use crate::peers::error::LinkError;
use crate::peers::identity::NodeId;
use crate::peers::trusted_keys::{TRUSTED_KEYS_HEADER, TrustedKeysHeader};
use crate::resilience::Way;
use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::{Request, Response};
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
/// How long a kept connection may be silent before the same is asked on a fresh one: it may be dead without anybody having
/// said so. Answers take milliseconds on a LAN.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long a request waits for a connection when all are in use.
const SLOT_LIMIT: Duration = Duration::from_secs(1);

/// The connections to one peer.
pub(crate) struct Pool {
    id: NodeId,
    target: Target,
    /// Goes with every request.
    trusted_keys: Arc<TrustedKeysHeader>,
    slots: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Idle>>>,
    /// All that are open, whoever uses them.
    open: Mutex<Vec<Life>>,
}

type Answer = (Response<Incoming>, Duration);

struct Idle {
    connection: Connection,
    since: Instant,
}

impl Pool {
    pub(crate) fn new(id: NodeId, target: Target, trusted_keys: Arc<TrustedKeysHeader>) -> Self {
        let (idle, open) = Default::default();
        Self { id, target, trusted_keys, slots: Arc::new(Semaphore::new(CONNECTIONS_MAX)), idle, open }
    }

    async fn connect(&self, addresses: &[SocketAddr]) -> Result<Connection, LinkError> {
        let connection = self.target.dial(addresses).await?;
        let mut open = self.open.lock();
        if open.len() == open.capacity() {
            // Whenever it would have to grow, so that this costs next to nothing.
            open.retain(|life| !life.is_over());
        }
        open.push(connection.life().clone());
        Ok(connection)
    }

    async fn fresh(
        &self,
        message: Request<Empty<Bytes>>,
        addresses: &[SocketAddr],
    ) -> Result<(Connection, Answer), LinkError> {
        let mut connection = self.connect(addresses).await?;
        let answer = connection.request(message).await?;
        Ok((connection, answer))
    }

    /// Over a connection that was kept; and over a fresh one when that is silent, or ended.
    async fn over_kept(
        &self,
        mut kept: Connection,
        message: Request<Empty<Bytes>>,
        addresses: &[SocketAddr],
    ) -> Result<(Connection, Answer), LinkError> {
        let answer = {
            let first = kept.request(message.clone());
            tokio::pin!(first);
            match timeout(PATIENCE, &mut first).await {
                Ok(answer) => answer,
                Err(_) => tokio::select! {
                    Ok(answer) = &mut first => Ok(answer),
                    fresh = self.fresh(message.clone(), addresses) => {
                        if fresh.is_ok() {
                            // The others are as old.
                            self.clear();
                        }
                        return fresh;
                    }
                },
            }
        };
        match answer {
            Ok(answer) => Ok((kept, answer)),
            // The share closes what is idle, perhaps while the request was on its way. A GET may be repeated.
            Err(LinkError::Http(_)) => self.fresh(message, addresses).await,
            Err(error) => Err(error),
        }
    }

    /// How many connections are kept.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.idle.lock().len()
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
            if let Some(names) = self.trusted_keys.value() {
                message.headers_mut().insert(TRUSTED_KEYS_HEADER, names);
            }
            let slot = timeout(SLOT_LIMIT, self.slots.clone().acquire_owned()).await;
            let Ok(Ok(slot)) = slot else { return Err(LinkError::Busy(CONNECTIONS_MAX)) };
            let (connection, answer) = match self.take() {
                Some(kept) => self.over_kept(kept, message, addresses).await?,
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
        Box::pin(self.connect(addresses))
    }

    fn purge(&self) {
        let mut idle = self.idle.lock();
        idle.retain(|idle| idle.since.elapsed() < IDLE_TIME && !idle.connection.is_closed());
    }

    fn clear(&self) {
        self.idle.lock().clear();
    }

    fn network_changed(&self, woke: bool) {
        self.open.lock().iter().filter(|life| life.way() == Way::Gone).for_each(Life::close);
        self.idle.lock().retain(|idle| !woke && idle.connection.life().way() == Way::Same);
    }
}
