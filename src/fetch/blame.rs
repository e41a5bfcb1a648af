//! What a failure means for the one who failed: a violation of the protocol bans a peer, anything else counts against it.
//!
//! Damaged content is no lie yet: disks and memory go bad on honest machines. It bars the path, and bans a peer only when it
//! is of several paths.

use super::activity::{Activity, FetchEvent};
use super::error::{DAMAGED_PATHS_MAX, SourceError, Violation, ViolationKind};
use super::source::{Remote, SourceId};
use crate::metrics::{Counter, Metrics};
use crate::nix::{StoreHash, StorePath};
use std::sync::Arc;

/// What was asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum About<'a> {
    /// Whether somebody has a path.
    Lookup(StoreHash),
    /// The NAR of a path.
    Nar(&'a StorePath),
}

impl About<'_> {
    const fn hash(&self) -> StoreHash {
        match self {
            Self::Lookup(hash) => *hash,
            Self::Nar(path) => path.hash(),
        }
    }
}

/// Blames, and tells who listens.
pub(crate) struct Blame {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) activity: Arc<Activity>,
}

impl Blame {
    /// Holds a failure against the one who is responsible for it.
    pub(crate) fn blame(&self, remote: &dyn Remote, about: About<'_>, error: &SourceError) {
        let hash = about.hash();
        let path = if let About::Nar(path) = about { Some(path) } else { None };
        match (remote.id(), error, path) {
            (
                SourceId::Peer(peer) | SourceId::Partial(peer) | SourceId::Patch(peer),
                SourceError::Violation(violation),
                _,
            ) => {
                let Some(reason) = self.punish(remote, hash, violation) else { return };
                let path = path.cloned();
                self.activity.tell(|| FetchEvent::Violation { peer, hash, path, reason });
            }
            (SourceId::Peer(peer) | SourceId::Partial(peer), error, _) => {
                if let Some(failure) = error.as_failure() {
                    log::debug!(peer:% = peer, path:% = hash, reason:% = error; "a peer failed: {error}");
                    remote.failed(failure);
                }
            }
            // It may have none of the bases, and one that does not fit may be damaged here.
            (SourceId::Patch(peer), error, _) => {
                log::debug!(peer:% = peer, path:% = hash, reason:% = error; "no patch: {error}");
            }
            // Each of them is blamed by itself.
            (SourceId::Several(_) | SourceId::Rest, ..) => {}
            (SourceId::Site(site), error, _) => {
                log::debug!(site:% = site, path:% = hash, reason:% = error; "a site could not be asked: {error}");
            }
            (SourceId::Upstream(upstream), error, None) => {
                let level = remote.complain(error.kind());
                log::log!(level, upstream:% = upstream, path:% = hash, reason:% = error; "an upstream could not be asked: {error}");
            }
            (SourceId::Upstream(upstream), error, Some(path)) => {
                let level = remote.complain(error.kind());
                log::log!(level, upstream:% = upstream, path:% = path, reason:% = error; "an upstream failed: {error}");
            }
        }
    }

    fn counter(&self, kind: ViolationKind) -> &Counter {
        match kind {
            ViolationKind::Malformed => &self.metrics.violations_malformed,
            ViolationKind::Signature => &self.metrics.violations_signature,
            ViolationKind::Protocol => &self.metrics.violations_protocol,
            ViolationKind::Content => &self.metrics.violations_content,
        }
    }

    /// Bars the path or bans the peer, and tells why; `None` if that was done already.
    fn punish(&self, remote: &dyn Remote, hash: StoreHash, violation: &Violation) -> Option<String> {
        let mut reason = violation.to_string();
        self.counter(violation.kind()).inc();
        if violation.is_damage() {
            let damaged_paths = remote.bar(hash)?;
            if damaged_paths <= DAMAGED_PATHS_MAX {
                reason += "; the path is not asked of it any more";
                return Some(reason);
            }
            reason += ", as of other paths before";
        }
        remote.ban(&format!("it {reason}, for {hash}"), violation.ban()).then(|| {
            self.metrics.peers_banned.add(1);
            reason
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::source::scripted::{Scripted, content};
    use std::time::Duration;

    fn path(number: u8) -> StorePath {
        StorePath::new(StoreHash::new([number; 20]), "x").unwrap()
    }

    #[test]
    fn damage_bars_the_path_and_bans_when_it_is_of_several() {
        let blame = Blame { metrics: Arc::default(), activity: Arc::new(Activity::new()) };
        let mut events = blame.activity.subscribe();
        let peer = Scripted::peer(1, &content(1), []);
        let damage = |number| blame.blame(&peer, About::Nar(&path(number)), &Violation::NarHash("x".into()).into());
        for number in [1, 1, 2, 1, 2] {
            damage(number);
        }
        assert_eq!((peer.record().barred.len(), peer.record().banned.len()), (2, 0), "one file is damaged often");
        for number in [1, 2] {
            let Ok(FetchEvent::Violation { path: Some(named), reason, .. }) = events.try_recv() else { panic!() };
            assert!(named == path(number) && reason.contains("is not asked of it any more"), "{reason}");
        }
        assert!(events.try_recv().is_err(), "each is told once");
        damage(3);
        assert_eq!((peer.record().banned.len(), blame.metrics.peers_banned.get()), (1, 1));
        assert!(matches!(events.try_recv(), Ok(FetchEvent::Violation { .. })));
    }

    #[test]
    fn what_no_damage_explains_bans_at_once() {
        let blame = Blame { metrics: Arc::default(), activity: Arc::new(Activity::new()) };
        for lie in [Violation::Range, Violation::Url("x".into()), Violation::Forged("a-1".into()), Violation::Unsigned]
        {
            assert!(lie.ban() > Duration::ZERO);
            let peer = Scripted::peer(1, &content(1), []);
            blame.blame(&peer, About::Nar(&path(1)), &lie.into());
            assert_eq!((peer.record().barred.len(), peer.record().banned.len()), (0, 1));
        }
        let counted = [&blame.metrics.violations_signature, &blame.metrics.violations_protocol];
        assert_eq!(counted.map(Counter::get), [2, 2]);
    }
}
