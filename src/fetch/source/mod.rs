//! Where a NAR can come from: one kind of source a file, behind one trait.
//!
//! A new kind implements [`Source`] here and is found by a [`Responder`](super::resolve::responder::Responder); what transfers do with
//! it is the same.

mod blocks;
pub(crate) mod complaints;
pub(crate) mod decode;
pub(crate) mod decoded;
pub(crate) mod direct;
pub(crate) mod download;
pub(crate) mod http_client;
mod location;
pub(crate) mod login;
pub(crate) mod partial;
pub(crate) mod patched;
pub(crate) mod peer;
pub(crate) mod predecessor;
pub(crate) mod redirect;
pub(crate) mod relayed;
pub(crate) mod rest;
mod timed;
pub(crate) mod unblamed;
pub(crate) mod upstream;
pub(crate) mod upstream_health;
pub(crate) mod upstream_nar;
pub(crate) mod upstream_options;
pub(crate) mod upstream_trouble;
pub(crate) mod upstreams;

#[cfg(test)]
pub(crate) mod scripted;

use super::error::{Kind, SourceError};
use super::patch::message::BaseName;
use super::pieces::table::PieceTable;
use crate::nix::{NarHash, PathInfo, StoreHash};
use crate::peers::{Failure, NodeId, Sample};
use crate::sites::SiteName;
use async_trait::async_trait;
use bytes::Bytes;
use hyper::Uri;
use std::fmt;
use std::ops::Range;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// Which source it is. The same for all NARs that it has.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum SourceId {
    /// A peer that has the path.
    Peer(NodeId),
    /// A peer that is fetching it.
    Partial(NodeId),
    /// A peer that has the path, and sends what it differs in from another version.
    Patch(NodeId),
    /// Several peers that have the path, by the first of them.
    Several(NodeId),
    /// Another site, whose machines have the path.
    Site(SiteName),
    /// An upstream, by its base.
    Upstream(Uri),
    /// This machine, which has the beginning from before.
    Rest,
}

impl SourceId {
    /// The same, as shown to people.
    pub(crate) fn name(&self) -> SourceName {
        match self {
            Self::Peer(id) | Self::Partial(id) | Self::Patch(id) | Self::Several(id) => SourceName::Peer(*id),
            Self::Site(site) => SourceName::Site(site.clone()),
            Self::Upstream(base) => SourceName::Upstream(host(base)),
            Self::Rest => SourceName::Here,
        }
    }

    /// Whether it is a peer.
    pub(crate) const fn is_peer(&self) -> bool {
        !matches!(self, Self::Upstream(_) | Self::Rest)
    }
}

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(id) | Self::Partial(id) => write!(f, "peer {id}"),
            Self::Patch(id) => write!(f, "peer {id}, as a patch"),
            Self::Several(id) => write!(f, "peer {id} and others"),
            Self::Site(site) => write!(f, "site {site}"),
            Self::Rest => f.write_str(HERE),
            Self::Upstream(base) => write!(f, "upstream {}", base.to_string().trim_end_matches('/')),
        }
    }
}

/// Where bytes come from, as shown to people.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SourceName {
    /// A peer.
    Peer(NodeId),
    /// Another site.
    Site(SiteName),
    /// An upstream, by its host and (where that is not the usual one) its port.
    Upstream(String),
    /// What this machine had of it from before.
    Here,
}

/// What this machine is called where others have names.
const HERE: &str = "this machine";

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(id) => id.fmt(f),
            Self::Site(site) => write!(f, "site {site}"),
            Self::Upstream(host) => f.write_str(host),
            Self::Here => f.write_str(HERE),
        }
    }
}

/// Host and port of a URI, without the credentials that it may carry.
pub(crate) fn host(base: &Uri) -> String {
    let host = base.host().unwrap_or_default();
    base.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Somebody who is asked for something, and of whom it is noted how that went.
pub(crate) trait Remote: Send + Sync {
    /// Who it is.
    fn id(&self) -> SourceId;

    /// It did what was asked.
    fn succeeded(&self, sample: Sample);

    /// It failed, by no lie.
    fn failed(&self, failure: Failure);

    /// It lied: nothing more is asked of it for so long. False if that is so already, or cannot be (an upstream is the
    /// administrator's choice).
    fn ban(&self, reason: &str, duration: Duration) -> bool;

    /// What it sent of this path was damaged: the path is not asked of it any more. How many such paths there are now;
    /// `None` if it is so already.
    fn bar(&self, hash: StoreHash) -> Option<usize>;

    /// It let the whole time of a lookup go by that `begun` then. May be said twice of one lookup.
    fn kept_us_waiting(&self, _begun: Instant) {}

    /// The level at which trouble of this kind with it is logged: another than debug where nobody else would tell of it.
    fn complain(&self, _kind: Kind) -> log::Level {
        log::Level::Debug
    }

    /// What it calls itself; empty for nothing.
    fn own_name(&self) -> String {
        String::new()
    }
}

/// The NAR that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NarId {
    /// The path that it is of.
    pub(crate) hash: StoreHash,
    /// Its SHA-256.
    pub(crate) nar_hash: NarHash,
    /// Its length in bytes, as it was signed.
    pub(crate) size: u64,
}

impl From<&PathInfo> for NarId {
    fn from(info: &PathInfo) -> Self {
        Self { hash: info.path.hash(), nar_hash: info.nar_hash, size: info.nar_size }
    }
}

/// What a source can do with the NAR that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Abilities {
    /// It can begin in the middle of the NAR without sending what is before.
    pub(crate) begins_anywhere: bool,
    /// How long it may be silent when nobody else could go on; it may need some of that to help itself.
    pub(crate) silence: Duration,
    /// It may begin in its own time, and be as slow as it is while nobody else could go on: it is far away.
    pub(crate) is_far: bool,
    /// It is fetching the NAR itself: it is as fast as what it waits for, and vouches for nothing before its end.
    pub(crate) is_partial: bool,
    /// It is asked once, and not blamed: where it fails, others go on.
    pub(crate) is_once: bool,
}

/// What is known of a source at the moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Standing {
    /// How much it wants to be counted on, of [`crate::peers::hello::WEIGHT_MAX`].
    pub(crate) weight: u8,
    /// Whether it is worth trying.
    pub(crate) usable: bool,
    /// How near it is, the nearest first.
    pub(crate) tier: Tier,
    /// The time to the first byte of an answer, smoothed.
    pub(crate) latency: Option<Duration>,
    /// Bytes per second of large bodies, smoothed.
    pub(crate) throughput: Option<f64>,
}

/// How near a source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tier {
    /// A peer whose connection stands.
    Online,
    /// A peer that was there a moment ago.
    Doubtful,
    /// A cache on the Internet.
    Upstream,
}

/// A source of one NAR.
#[async_trait]
pub(crate) trait Source: Send + Sync {
    /// Who it is.
    fn remote(&self) -> &dyn Remote;

    /// What it can do with this NAR.
    fn abilities(&self) -> Abilities;

    /// What is known of it now.
    fn standing(&self) -> Standing;

    /// How many bytes it gave so far, to all transfers together.
    fn given(&self) -> u64;

    /// Notes that it gave so many bytes.
    fn gave(&self, bytes: u64);

    /// Opens the NAR, uncompressed, from byte `from` on.
    ///
    /// # Errors
    /// It cannot be reached, does not have the NAR any more, or offers another length.
    async fn open(&self, nar: &NarId, from: u64) -> Result<Box<dyn ByteFlow>, SourceError>;

    /// Whether it gives the NAR in pieces, and the table that proves them: see [`super::pieces`].
    fn has_pieces(&self) -> bool {
        false
    }

    /// What it says is the table of the NAR.
    ///
    /// # Errors
    /// It has none, or is busy making it.
    async fn table(&self, _nar: &NarId) -> Result<PieceTable, SourceError> {
        Err(SourceError::Status(404))
    }

    /// Whether it may send what the NAR differs in from another one, and that would be worth it.
    fn gives_patches(&self) -> bool {
        false
    }

    /// What the NAR differs in from one of these `bases`, from byte `from` on.
    ///
    /// # Errors
    /// It has none of them, or does not do that.
    async fn patch(&self, _nar: &NarId, _from: u64, _bases: &[BaseName]) -> Result<PatchBody, SourceError> {
        Err(SourceError::Status(404))
    }

    /// Opens these bytes of the NAR, at least one; nothing comes after them.
    ///
    /// # Errors
    /// As [`Self::open`].
    async fn open_part(&self, _nar: &NarId, _bytes: Range<u64>) -> Result<Box<dyn ByteFlow>, SourceError> {
        Err(SourceError::Status(404))
    }
}

/// A patch on its way.
pub(crate) struct PatchBody {
    /// On which of the bases that were named.
    pub(crate) base: BaseName,
    /// The frames, as they come.
    pub(crate) wire: Box<dyn ByteFlow>,
}

/// The bytes of a NAR, uncompressed, on their way from one source.
pub(crate) trait ByteFlow: Send {
    /// The next bytes, never none; `None` at the end of what the source sends. May be polled again later, or not at all.
    ///
    /// # Errors
    /// The source broke, or what it sends does not decode. Nothing comes after that.
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, SourceError>>>;

    /// How many bytes came from the network so far; tells work from silence when nothing comes out.
    fn received(&self) -> u64;
}
