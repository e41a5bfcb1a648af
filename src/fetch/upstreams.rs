//! The upstreams that are asked, in the order of preference; a reload of the configuration may change them.

use super::upstream::{HttpClient, Upstream, http_client};
use crate::metrics::Metrics;
use hyper::Uri;
use parking_lot::RwLock;
use std::sync::Arc;

/// All upstreams, which the administrator may change.
pub(super) struct Upstreams {
    client: HttpClient,
    current: RwLock<Arc<[Arc<Upstream>]>>,
}

impl Upstreams {
    pub(super) fn new(bases: &[Uri], metrics: &Metrics) -> Self {
        let upstreams = Self { client: http_client(), current: RwLock::new(Arc::new([])) };
        upstreams.set(bases, metrics);
        upstreams
    }

    /// Those that are asked now, in the order of preference.
    pub(super) fn now(&self) -> Arc<[Arc<Upstream>]> {
        Arc::clone(&self.current.read())
    }

    /// Asks these from now on. False if they are the same.
    pub(super) fn set(&self, bases: &[Uri], metrics: &Metrics) -> bool {
        let mut current = self.current.write();
        if current.iter().map(|upstream| &upstream.base).eq(bases) {
            return false;
        }
        let known = |base: &Uri| current.iter().find(|upstream| upstream.base == *base).cloned();
        let new = |base: &Uri| Arc::new(Upstream::new(base.clone(), self.client.clone(), metrics));
        *current = bases.iter().map(|base| known(base).unwrap_or_else(|| new(base))).collect();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn another_list_keeps_what_is_known_of_those_that_stay() {
        let bases =
            ["http://one.example.org", "http://user:secret@two.example.org:81/x"].map(|base| base.parse().unwrap());
        let metrics = Metrics::default();
        let upstreams = Upstreams::new(&bases, &metrics);
        assert!(!upstreams.set(&bases, &metrics));
        let before = upstreams.now();
        assert_eq!((before[0].host(), before[1].host()), ("one.example.org".into(), "two.example.org:81".into()));
        before[1].gave(3);
        assert!(upstreams.set(&bases[1..], &metrics));
        assert!(Arc::ptr_eq(&upstreams.now()[0], &before[1]) && upstreams.now().len() == 1);
        assert_eq!(metrics.snapshot().get("fetched_upstream_bytes.two.example.org:81"), 3);
    }
}
