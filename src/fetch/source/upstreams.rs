//! The upstreams that are asked, in the order of preference; a reload of the configuration may change them.

use super::http_client::{ClientFactory, Proxies};
use super::upstream::Upstream;
use crate::metrics::Metrics;
use crate::resilience::Versioned;
use hyper::Uri;
use std::sync::Arc;

/// All upstreams, which the administrator may change.
pub(crate) struct Upstreams {
    clients: ClientFactory,
    current: Versioned<Vec<Arc<Upstream>>>,
}

impl Upstreams {
    pub(crate) fn new(bases: &[Uri], metrics: &Metrics) -> Self {
        let upstreams = Self { clients: ClientFactory::new(), current: Versioned::default() };
        upstreams.set(bases, metrics);
        upstreams
    }

    /// Those that are asked now, in the order of preference.
    pub(crate) fn now(&self) -> Arc<Vec<Arc<Upstream>>> {
        self.current.now().value
    }

    /// Goes by way of these proxies from now on.
    pub(crate) fn set_proxies(&self, proxies: Proxies) {
        self.clients.set_proxies(proxies);
        self.now().iter().for_each(|upstream| upstream.reconnect());
    }

    /// Asks these from now on. False if they are the same.
    pub(crate) fn set(&self, bases: &[Uri], metrics: &Metrics) -> bool {
        self.current.update(|current| {
            if current.iter().map(|upstream| &upstream.base).eq(bases) {
                return None;
            }
            let known = |base: &Uri| current.iter().find(|upstream| upstream.base == *base).cloned();
            let new = |base: &Uri| Arc::new(Upstream::new(base.clone(), self.clients.client(), metrics));
            Some(bases.iter().map(|base| known(base).unwrap_or_else(|| new(base))).collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::source::Remote;

    #[tokio::test]
    async fn another_list_keeps_what_is_known_of_those_that_stay() {
        let bases =
            ["http://one.example.org", "http://user:secret@two.example.org:81/x"].map(|base| base.parse().unwrap());
        let metrics = Metrics::default();
        let upstreams = Upstreams::new(&bases, &metrics);
        assert!(!upstreams.set(&bases, &metrics));
        let before = upstreams.now();
        let names = before.iter().map(|upstream| upstream.id().name().to_string()).collect::<Vec<_>>();
        assert_eq!(names, ["one.example.org", "two.example.org:81"]);
        before[1].gave(3);
        assert!(upstreams.set(&bases[1..], &metrics));
        assert!(Arc::ptr_eq(&upstreams.now()[0], &before[1]) && upstreams.now().len() == 1);
        assert_eq!(metrics.snapshot().get("fetched_upstream_bytes.two.example.org:81"), 3);
    }
}
