//! What this room is told.

use super::connection::Credential;
use super::message::{Answered, Part};
use super::name::SiteName;
use crate::nix::StoreHash;
use crate::peers::{NodeId, NodeKey};
use async_trait::async_trait;
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::Arc;

/// What [`super::Sites::start`] is told; the daemon takes it from the configuration.
pub struct SitesOptions {
    /// `[nats] servers`.
    pub servers: Vec<String>,
    /// `[nats] site`.
    pub site: SiteName,
    /// What the servers are shown.
    pub credential: Option<Credential>,
    /// `[nats] addresses`: where this machine's share can be reached from other sites; empty: at the addresses that it has.
    pub addresses: Vec<SocketAddr>,
    /// The port of this machine's share; `None`: it shares nothing, and does not speak for its site.
    pub share_port: Option<u16>,
    /// `[nats] relay`: the largest NAR that goes over NATS, in bytes; 0: none does.
    pub relay: u64,
    /// What this machine is called.
    pub name: String,
    /// Signs what this machine says.
    pub key: Arc<NodeKey>,
}

/// What the machines of this site have, for whoever answers others.
#[async_trait]
pub trait Desk: Send + Sync {
    /// Of these paths those that machines of this site have, this one among them.
    async fn about(&self, hashes: Vec<StoreHash>) -> Vec<Answered>;

    /// A part of a NAR that a machine of this site has and may give to other sites; `None`: none has.
    async fn part(&self, part: &Part) -> Option<Bytes>;

    /// Where a machine of this site can be reached, as far as this one knows.
    fn addresses(&self, id: NodeId) -> Vec<SocketAddr>;
}
