//! Who has a path, for a person who wants to know: everybody is asked, and nothing is taken from memory.

use super::error::SourceError;
use super::ledger::SourceName;
use super::lookup::{Lookup, MOST, SMALL};
use super::source::{self, Offer};
use crate::nix::{Compression, NarHash, PathInfo, StoreHash, StorePath};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// Somebody who has a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceView {
    /// Who.
    pub source: SourceName,
    /// The peer's name for itself; empty for an upstream.
    pub name: String,
    /// How long the answer took.
    pub latency: Duration,
    /// The path.
    pub path: StorePath,
    /// How its NAR is offered.
    pub compression: Compression,
    /// The length of the file as offered, in bytes, if told.
    pub file_size: Option<u64>,
    /// The NAR: two sources may have different builds of one path.
    pub nar_hash: NarHash,
    /// Its length in bytes.
    pub nar_size: u64,
    /// The names of the trusted keys whose signatures it carries; none where the content address is proof enough.
    pub signed_by: Vec<String>,
}

/// What came of asking everybody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// Who has it, peers before upstreams, the fastest answer first.
    pub sources: Vec<SourceView>,
    /// Who does not have it, or nothing that is trusted here.
    pub absent: Vec<SourceName>,
    /// Who could not be asked, and why.
    pub failed: Vec<(SourceName, String)>,
    /// Who did not answer within the budget.
    pub silent: Vec<SourceName>,
}

type Reply = (Offer, Result<Option<(PathInfo, Offer)>, SourceError>, Duration);

impl Lookup {
    /// Asks everybody for `hash` within the budget: the peers that answer at all, and every upstream.
    pub(super) async fn survey(&self, hash: StoreHash) -> Survey {
        let begun = Instant::now();
        let trusted = self.trust.now();
        let mut survey = Survey::default();
        let mut asked: JoinSet<Reply> = JoinSet::new();
        let mut peers = self.peers.candidates();
        peers.truncate(MOST);
        for peer in peers {
            survey.silent.push(SourceName::Peer(peer.id()));
            let (trust, trusted) = (self.trust.clone(), trusted.clone());
            asked.spawn(async move {
                let reply = trust.ask_peer(&peer, hash, &trusted).await;
                let offer = Offer::Peer(peer);
                (offer.clone(), reply.map(|info| info.map(|info| (info, offer))), begun.elapsed())
            });
        }
        for upstream in self.upstreams.now().iter().cloned() {
            survey.silent.push(SourceName::Upstream(upstream.host()));
            let trust = Arc::clone(&trusted.trust);
            asked.spawn(async move {
                let reply = source::ask_upstream(&upstream, hash, &trust).await;
                let (url, compression, file_size) = (String::new(), Compression::None, None);
                (Offer::Upstream { upstream, url, compression, file_size }, reply, begun.elapsed())
            });
        }
        let deadline = begun + self.budget.get();
        while let Ok(Some(reply)) = timeout_at(deadline, asked.join_next()).await {
            let Ok((who, reply, latency)) = reply else { continue };
            let source = who.name();
            survey.silent.retain(|silent| *silent != source);
            if let (Some(peer), Ok(_)) = (who.peer(), &reply) {
                peer.succeeded(SMALL);
            }
            match reply {
                Ok(Some((info, offer))) => survey.sources.push(view(source, latency, info, &offer)),
                Ok(None) => survey.absent.push(source),
                Err(error) => {
                    if let Some(peer) = who.peer() {
                        self.blame(peer, hash, &error);
                    }
                    survey.failed.push((source, error.to_string()));
                }
            }
        }
        survey.sources.sort_by_key(|view| (matches!(view.source, SourceName::Upstream(_)), view.latency));
        survey
    }
}

fn view(source: SourceName, latency: Duration, info: PathInfo, offer: &Offer) -> SourceView {
    let (name, compression, file_size) = match offer {
        Offer::Peer(peer) => (peer.name(), Compression::None, Some(info.nar_size)),
        Offer::Upstream { compression, file_size, .. } => (String::new(), compression.clone(), *file_size),
    };
    // Of a narinfo that is believed only the signatures are left that verify.
    let signed_by = info.signatures.iter().map(|signature| signature.key_name().to_owned()).collect();
    let PathInfo { path, nar_hash, nar_size, .. } = info;
    SourceView { source, name, latency, path, compression, file_size, nar_hash, nar_size, signed_by }
}
