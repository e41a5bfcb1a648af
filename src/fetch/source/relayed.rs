//! Another site none of whose machines can be reached: the NAR comes over NATS, in parts, where both sides allow that.

use super::unblamed::Unblamed;
use super::{Abilities, ByteFlow, NarId, Remote, Source, SourceId, Standing, Tier};
use crate::fetch::error::SourceError;
use crate::peers::hello::WEIGHT_MAX;
use crate::sites::{Part, SiteError, SiteName, Sites};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// How many parts are asked for at a time.
const AHEAD: usize = 2;
/// How long the site may be silent when there is no other source: longer than one part may take.
const SILENCE: Duration = Duration::from_secs(5);

/// A site that is said to have the NAR.
pub(crate) struct Relayed {
    sites: Sites,
    site: SiteName,
    remote: Unblamed,
    given: AtomicU64,
}

impl Relayed {
    pub(crate) fn new(sites: Sites, site: SiteName) -> Self {
        let remote = Unblamed(SourceId::Site(site.clone()));
        Self { sites, site, remote, given: AtomicU64::new(0) }
    }

    /// Whether it sends the NAR: its first byte is asked for.
    ///
    /// # Errors
    /// Why it does not.
    pub(crate) async fn sends(&self, nar: &NarId) -> Result<(), SiteError> {
        self.sites.part(&self.site, &part(nar, 0..1)).await.map(drop)
    }
}

fn part(nar: &NarId, bytes: Range<u64>) -> Part {
    Part { hash: nar.hash, nar_hash: nar.nar_hash, size: nar.size, bytes }
}

#[async_trait]
impl Source for Relayed {
    fn remote(&self) -> &dyn Remote {
        &self.remote
    }

    fn abilities(&self) -> Abilities {
        Abilities { begins_anywhere: true, silence: SILENCE, is_far: true, is_partial: false, is_once: false }
    }

    fn standing(&self) -> Standing {
        let latency = self.sites.latency(&self.site);
        Standing { usable: true, tier: Tier::Upstream, latency, throughput: None, weight: WEIGHT_MAX }
    }

    fn given(&self) -> u64 {
        self.given.load(Relaxed)
    }

    fn gave(&self, bytes: u64) {
        self.given.fetch_add(bytes, Relaxed);
    }

    async fn open(&self, nar: &NarId, from: u64) -> Result<Box<dyn ByteFlow>, SourceError> {
        let (sites, site, nar) = (self.sites.clone(), self.site.clone(), *nar);
        let next = move |start: &u64| start.checked_add(Part::MAX).filter(|next| *next < nar.size);
        let starts = std::iter::successors((from < nar.size).then_some(from), next);
        let parts = stream::iter(starts).map(move |start| {
            let (sites, site) = (sites.clone(), site.clone());
            let part = part(&nar, start..start.saturating_add(Part::MAX).min(nar.size));
            async move { sites.part(&site, &part).await }
        });
        Ok(Box::new(Parts { parts: parts.buffered(AHEAD).boxed(), received: 0 }))
    }
}

/// Parts as they come, in their order.
struct Parts {
    parts: BoxStream<'static, Result<Bytes, SiteError>>,
    received: u64,
}

impl ByteFlow for Parts {
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, SourceError>>> {
        let part = ready!(self.parts.poll_next_unpin(context));
        self.received += part.iter().flatten().map(|bytes| bytes.len() as u64).sum::<u64>();
        Poll::Ready(part.map(|part| part.map_err(|error| SourceError::Unavailable(error.to_string()))))
    }

    fn received(&self) -> u64 {
        self.received
    }
}
