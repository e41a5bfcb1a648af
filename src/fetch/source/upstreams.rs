//! The upstreams that are asked, in the order of preference; a reload of the configuration may change them.

use super::host;
use super::http_client::{ClientFactory, Proxies};
use super::upstream::Upstream;
use super::upstream_options::UpstreamOptions;
use super::upstream_trouble::UpstreamTrouble;
use crate::metrics::Metrics;
use crate::resilience::Versioned;
use std::sync::Arc;

/// All upstreams, which the administrator may change.
pub(crate) struct Upstreams {
    clients: ClientFactory,
    current: Versioned<Vec<Arc<Upstream>>>,
}

impl Upstreams {
    pub(crate) fn new(wanted: &[UpstreamOptions], metrics: &Metrics) -> Self {
        let upstreams = Self { clients: ClientFactory::new(), current: Versioned::default() };
        upstreams.set(wanted, metrics);
        upstreams
    }

    /// Those that are asked now, in the order of preference.
    pub(crate) fn now(&self) -> Arc<Vec<Arc<Upstream>>> {
        self.current.now().value
    }

    /// What is wrong with them, by their hosts.
    pub(crate) fn troubles(&self) -> Vec<(String, UpstreamTrouble)> {
        let of = |upstream: &Arc<Upstream>| {
            let troubles = upstream.troubles(self.clients.goes_by_proxy(&upstream.base));
            troubles.into_iter().map(|trouble| (host(&upstream.base), trouble)).collect::<Vec<_>>()
        };
        self.now().iter().flat_map(of).collect()
    }

    /// Goes by way of these proxies from now on.
    pub(crate) fn set_proxies(&self, proxies: Proxies) {
        self.clients.set_proxies(proxies);
        self.now().iter().for_each(|upstream| upstream.reconnect());
    }

    /// Asks these from now on. False if they are the same.
    pub(crate) fn set(&self, wanted: &[UpstreamOptions], metrics: &Metrics) -> bool {
        let mut wanted: Vec<&UpstreamOptions> = wanted.iter().collect();
        // Stable: within a tier the order is the administrator's.
        wanted.sort_by_key(|options| options.tier);
        self.current.update(|current| {
            if current.iter().map(|upstream| &upstream.options).eq(wanted.iter().copied()) {
                return None;
            }
            let known =
                |options: &UpstreamOptions| current.iter().find(|upstream| upstream.options == *options).cloned();
            let new = |options: &UpstreamOptions| Arc::new(Upstream::new(options.clone(), &self.clients, metrics));
            Some(wanted.iter().map(|options| known(options).unwrap_or_else(|| new(options))).collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::source::Remote;
    use crate::fetch::source::login::Login;

    #[tokio::test]
    async fn another_list_keeps_what_is_known_of_those_that_stay() {
        let bases = ["http://one.example.org", "http://user:secret@two.example.org:81/x"]
            .map(|base| UpstreamOptions::from(base.parse::<hyper::Uri>().unwrap()));
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

    #[tokio::test]
    async fn lower_tiers_come_first_and_another_login_is_another_upstream() {
        let of = |host: &str, tier| {
            let url: hyper::Uri = format!("http://{host}.example.org").parse().unwrap();
            UpstreamOptions { tier, ..UpstreamOptions::from(url) }
        };
        let (metrics, list) = (Metrics::default(), [of("far", 2), of("one", 1), of("two", 1)]);
        let upstreams = Upstreams::new(&list, &metrics);
        let before = upstreams.now();
        let hosts: Vec<_> = before.iter().map(|upstream| upstream.base.host().unwrap()).collect();
        assert_eq!(hosts, ["one.example.org", "two.example.org", "far.example.org"]);
        assert!(!upstreams.set(&list, &metrics), "nothing changed");
        let mut with_login = list.clone();
        with_login[1].login = Login::bearer(b"token").unwrap();
        assert!(upstreams.set(&with_login, &metrics));
        let after = upstreams.now();
        assert!(!Arc::ptr_eq(&before[0], &after[0]) && Arc::ptr_eq(&before[1], &after[1]));
        assert!(!upstreams.set(&with_login.clone(), &metrics), "the same secret");
        with_login[1].login = Login::bearer(b"another").unwrap();
        assert!(upstreams.set(&with_login, &metrics), "the secret was replaced");
    }
}
