//! Who has a path, for a person who wants to know: everybody is asked, and nothing is taken from memory.

use super::race::{Patience, Race, Reply};
use super::resolution::Holder;
use super::resolver::{Resolver, SMALL};
use super::responder::Responders;
use crate::fetch::blame::About;
use crate::fetch::source::{SourceId, SourceName};
use crate::nix::{Compression, NarHash, PathInfo, StoreHash, StorePath};
use std::time::Duration;

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
    /// How its NAR is sent from there.
    pub compression: Compression,
    /// The length of what is sent in bytes, if told.
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
pub struct SourceReport {
    /// Who has it, peers before upstreams, the fastest answer first.
    pub sources: Vec<SourceView>,
    /// Who does not have it, or nothing that is trusted here.
    pub absent: Vec<SourceName>,
    /// Who could not be asked, and why.
    pub failed: Vec<(SourceName, String)>,
    /// Who did not answer in time.
    pub silent: Vec<SourceName>,
}

impl Resolver {
    /// Asks everybody for `hash`, as long as a lookup takes: the peers that answer at all, and every upstream.
    pub(crate) async fn report(&self, hash: StoreHash) -> SourceReport {
        let mut report = SourceReport::default();
        let everybody = self.network.responders();
        let responders = Responders { upstreams: self.network.upstreams(), ..self.network.responders_for(hash) };
        // The others need not be asked: their index says that they do not have it.
        let asked: Vec<SourceId> = responders.peers.iter().map(|peer| peer.remote().id()).collect();
        let others = everybody.peers.iter().map(|peer| peer.remote().id()).filter(|id| !asked.contains(id));
        report.absent.extend(others.map(|id| id.name()));
        let mut race = Race::start(self.question(hash), responders, Patience::Working, self.budget());
        race.ask_all_tiers();
        while let Some(Reply { from, answer, elapsed, .. }) = race.next().await {
            let remote = from.remote();
            let source = remote.id().name();
            match answer {
                Ok(answer) => {
                    remote.succeeded(SMALL);
                    match answer {
                        Some(holder) => report.sources.push(view(source, remote.own_name(), elapsed, holder)),
                        None => report.absent.push(source),
                    }
                }
                Err(error) => {
                    self.blame.blame(remote, About::Lookup(hash), &error);
                    report.failed.push((source, error.to_string()));
                }
            }
        }
        report.silent = race.silent().iter().map(|silent| silent.remote().id().name()).collect();
        report.sources.sort_by_key(|view| (matches!(view.source, SourceName::Upstream(_)), view.latency));
        report
    }
}

fn view(source: SourceName, name: String, latency: Duration, holder: Holder) -> SourceView {
    let Holder { info, compression, file_size, .. } = holder;
    // Of a narinfo that is believed only the signatures are left that verify.
    let signed_by = info.signatures.iter().map(|signature| signature.key_name().to_owned()).collect();
    let PathInfo { path, nar_hash, nar_size, .. } = info;
    SourceView { source, name, latency, path, compression, file_size, nar_hash, nar_size, signed_by }
}
