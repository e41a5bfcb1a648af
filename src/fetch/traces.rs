//! Realisations and build traces: which path an output of a content-addressed derivation turned out to be. They are signed,
//! so everybody may be asked, and the first answer that a trusted key has signed counts.

use super::resolve::responder::{Responder, Responders};
use crate::nix::TrustedKeys;
use crate::nix::realisation::REALISATION_MAX;
use crate::nix::trace::TraceId;
use crate::resilience::Version;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How many peers are asked.
const PEERS_MAX: usize = 16;

/// What the first says who has `id` under `target` with a signature by one of `keys`. Peers have `budget` for their answer.
pub(super) async fn first(
    responders: Responders,
    target: &str,
    id: TraceId,
    keys: Version<TrustedKeys>,
    budget: Duration,
) -> Option<String> {
    let peers = responders.peers.into_iter().take(PEERS_MAX).map(|peer| (peer, Some(budget)));
    let upstreams = responders.upstreams.into_iter().map(|upstream| (upstream, None));
    let wanted = Arc::new((target.to_owned(), id, keys));
    let mut asked = JoinSet::new();
    for (responder, limit) in peers.chain(upstreams) {
        let wanted = Arc::clone(&wanted);
        asked.spawn(async move { ask(&*responder, wanted, limit).await });
    }
    while let Some(answer) = asked.join_next().await {
        if let Ok(Some(trace)) = answer {
            return Some(trace);
        }
    }
    None
}

async fn ask(
    responder: &dyn Responder,
    wanted: Arc<(String, TraceId, Version<TrustedKeys>)>,
    limit: Option<Duration>,
) -> Option<String> {
    let question = responder.document(&wanted.0, REALISATION_MAX);
    let answer = match limit {
        Some(limit) => timeout(limit, question).await.ok()?,
        None => question.await,
    };
    let from = responder.remote().id();
    let document = match answer {
        Ok(document) => document?,
        Err(error) => {
            log::debug!(reason:% = error; "{from} could not be asked for {}", wanted.0);
            return None;
        }
    };
    // Verifies signatures: not for the reactor.
    let believe = move || {
        let (target, id, keys) = &*wanted;
        let believed = std::str::from_utf8(&document).ok().and_then(|json| id.believe(json, keys).ok().flatten());
        if believed.is_none() {
            // No lie: what is not signed by a key of ours may be by others.
            log::debug!("{from} has {target} without a signature that counts");
        }
        believed
    };
    tokio::task::spawn_blocking(believe).await.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::resolve::responder::Network;
    use crate::fetch::resolve::scripted::{Everybody, Says, Voice};
    use crate::nix::SecretKey;
    use crate::nix::realisation::{BuildTrace, BuildTraceKey};
    use crate::resilience::Versioned;
    use tokio::time::Instant;

    const BUDGET: Duration = Duration::from_millis(300);

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_seed("a-1", [seed; 32]).unwrap()
    }

    fn trace_key() -> BuildTraceKey {
        BuildTraceKey::new("0c0v3hcwdw9p9hm1kxnlc8wj8fqx2hjd-hello.drv".parse().unwrap(), "out").unwrap()
    }

    /// A build trace, signed by these.
    fn signed_by(keys: &[SecretKey]) -> String {
        let out_path = "7cs5xzrnw5p6mdmr7ym2qhg320xn66fi-hello".parse().unwrap();
        let mut trace = BuildTrace { out_path, signatures: vec![] };
        trace.signatures = keys.iter().map(|key| key.sign_text(&trace.fingerprint(&trace_key()))).collect();
        trace.render()
    }

    async fn ask(peers: &[Arc<Voice>], upstreams: &[Arc<Voice>]) -> Option<String> {
        let keys = Versioned::new([key(1).public()].into_iter().collect()).now();
        let responders = Everybody::new(peers, upstreams).responders();
        first(responders, "/build-trace-v2/x/out.doi", TraceId::BuildTrace(trace_key()), keys, BUDGET).await
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_that_is_signed_by_a_trusted_key_counts_whoever_has_it() {
        let peer = |number, after, text: &str| Voice::peer(number, Says::No, after).with_document(text);
        let upstream = |after, text: &str| Voice::upstream(9, Says::No, after).with_document(text);
        let (unsigned, theirs, ours) = (signed_by(&[]), signed_by(&[key(2)]), signed_by(&[key(1)]));
        let useless = [peer(1, 1, &unsigned), peer(2, 1, &theirs), peer(3, 1, "nonsense"), Voice::peer(4, Says::No, 1)];
        assert_eq!(ask(&useless, &[upstream(1, &unsigned)]).await, None);
        let both = signed_by(&[key(2), key(1)]);
        assert_eq!(
            ask(&[useless[0].clone(), peer(5, 9, &both)], &[]).await,
            Some(ours.clone()),
            "and nothing else of it"
        );
        assert_eq!(ask(&useless, &[upstream(500, &ours)]).await, Some(ours.clone()), "an upstream is waited for");
        let begun = Instant::now();
        assert_eq!(ask(&[peer(6, 5000, &ours)], &[]).await, None);
        assert_eq!(begun.elapsed(), BUDGET);
    }
}
