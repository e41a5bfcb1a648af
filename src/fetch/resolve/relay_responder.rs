//! A relay that is asked for a path: it says who has it, and they are asked.

use super::batches::Batches;
use super::exchanges::{Holders, NarInfos};
use super::peer_responder::PeerResponder;
use super::resolution::Holder;
use super::responder::Responder;
use super::verify::Trust;
use crate::fetch::blame::{About, Blame};
use crate::fetch::error::SourceError;
use crate::fetch::source::Remote;
use crate::fetch::source::peer::PeerSource;
use crate::nix::StoreHash;
use crate::peers::Peers;
use async_trait::async_trait;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// How long one holder is waited for before the next one is asked as well.
pub(crate) const HEDGE: Duration = Duration::from_millis(80);

/// A relay, and how to ask those whom it names.
pub(crate) struct RelayResponder {
    pub(crate) relay: Arc<PeerSource>,
    pub(crate) peers: Peers,
    pub(crate) holders: Arc<Batches<Holders>>,
    pub(crate) narinfos: Arc<Batches<NarInfos>>,
    pub(crate) blame: Arc<Blame>,
}

impl RelayResponder {
    /// Those whom the relay names and who may be asked, the best first; `None`: it names nobody.
    async fn named(&self, hash: StoreHash) -> Result<Option<Vec<PeerResponder>>, SourceError> {
        let named = self.holders.ask(&self.relay, hash).await?;
        if named.is_empty() {
            return Ok(None);
        }
        let may_be_asked = |peer: &Arc<PeerSource>| peer.must_not_be_barred(hash).is_ok() && peer.may_be_asked();
        let mut sources: Vec<Arc<PeerSource>> = named
            .into_iter()
            .filter_map(|holder| self.peers.named(holder.id, &holder.addresses))
            .map(|peer| Arc::new(PeerSource(peer)))
            .filter(may_be_asked)
            .collect();
        // Those that are known by their answers first.
        sources.sort_by_key(|source| source.0.latency().unwrap_or(HEDGE));
        let asked = |source| PeerResponder { source, batches: Arc::clone(&self.narinfos) };
        Ok(Some(sources.into_iter().map(asked).collect()))
    }
}

#[async_trait]
impl Responder for RelayResponder {
    fn remote(&self) -> &dyn Remote {
        self.relay.as_ref()
    }

    fn works(&self) -> bool {
        self.relay.0.is_worth_waiting_for()
    }

    fn latency(&self) -> Option<Duration> {
        // Two ways: to the relay, and to one whom it names.
        self.relay.0.latency().map(|latency| 2 * latency)
    }

    async fn narinfo(&self, hash: StoreHash, trust: &Arc<Trust>) -> Result<Option<Holder>, SourceError> {
        if trust.keys.is_empty() {
            return Ok(None);
        }
        let (named, mut asked) = (self.named(hash).await?, JoinSet::new());
        // Whether somebody who was named says that it is not so: then the relay was wrong, or it named nobody.
        let mut is_wrong = named.is_none();
        for (place, holder) in (0u32..).zip(named.into_iter().flatten()) {
            let trust = Arc::clone(trust);
            asked.spawn(async move {
                sleep(HEDGE * place).await; // backoff
                let answer = holder.narinfo(hash, &trust).await;
                (holder, answer)
            });
        }
        while let Some(answered) = asked.join_next().await {
            // It fails only when the program is being stopped.
            let Ok((holder, answer)) = answered else { continue };
            match answer {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => is_wrong = true,
                // Theirs, and not the relay's.
                Err(error) => self.blame.blame(holder.remote(), About::Lookup(hash), &error),
            }
        }
        if is_wrong {
            return Ok(None);
        }
        Err(SourceError::Unavailable("none of those that the relay names could be asked".to_owned()))
    }

    async fn document(&self, target: &str, limit: usize) -> Result<Option<Bytes>, SourceError> {
        let relay = PeerResponder { source: Arc::clone(&self.relay), batches: Arc::clone(&self.narinfos) };
        relay.document(target, limit).await
    }
}
