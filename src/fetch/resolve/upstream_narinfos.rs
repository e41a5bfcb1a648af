//! Narinfos of upstreams: of all machines that know each other one asks for each of them, and tells the others who want it.
//!
//! Which one that is they agree on without a word ([`Claims::asks_for_narinfo`]). What it tells is believed as far as a trusted key signed it. Where the
//! NAR is nobody signs, so that whoever downloads it looks into the upstream's own narinfo meanwhile ([`UpstreamNar`]). That there is none
//! is believed of the upstream alone: else one machine could keep a path from all others.
//!
//! [`UpstreamNar`]: crate::fetch::source::upstream_nar::UpstreamNar

use super::retries::Retries;
use super::verify::LIMIT;
use crate::fetch::claims::handle::Claims;
use crate::fetch::error::SourceError;
use crate::fetch::source::login::Login;
use crate::fetch::source::peer::PeerSource;
use crate::fetch::source::upstream::{Upstream, collect};
use crate::fetch::source::upstream_health::{Nothing, is_passing};
use crate::fetch::source::upstreams::Upstreams;
use crate::metrics::Metrics;
use crate::nix::StoreHash;
use crate::peers::{NodeId, Peers};
use bytes::Bytes;
use hyper::{StatusCode, Uri};
use moka::future::Cache;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

/// How long the machine that asks for others is waited for; then the upstream is asked.
const PATIENCE: Duration = Duration::from_millis(300);
/// For how long one that did not answer is not asked, and of how many that is remembered.
const SILENT: Duration = Duration::from_secs(10);
const SILENT_MAX: u64 = 1024;
/// How long a narinfo is remembered for the others, and how many bytes of them.
const REMEMBERED: Duration = Duration::from_secs(60);
const REMEMBERED_BYTES: u64 = 4 * 1024 * 1024;
/// How many are asked for at once because others want them.
const FOR_OTHERS: usize = 64;

/// An upstream, named so that its name in a URL is short: by 20 bytes of the SHA-256 of its URL, written like the hash part of a store path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UpstreamId(StoreHash);

impl UpstreamId {
    fn of(url: &Uri) -> Self {
        let digest = Sha256::digest(url.to_string().trim_end_matches('/'));
        let mut bytes = [0; 20];
        bytes.copy_from_slice(&digest[..20]);
        Self(StoreHash::new(bytes))
    }
}

impl FromStr for UpstreamId {
    type Err = <StoreHash as FromStr>::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl fmt::Display for UpstreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where peers tell narinfos of upstreams.
pub(crate) const TARGET: &str = "/peernix/v1/upstream/";

/// Where a peer tells what an upstream says of a path.
pub(crate) fn target(upstream: UpstreamId, hash: StoreHash) -> String {
    format!("{TARGET}{upstream}/{hash}.narinfo")
}

/// What an upstream says of a path.
pub(super) struct Said {
    /// The text of its narinfo.
    pub(super) text: Bytes,
    /// Another machine told it.
    pub(super) is_told: bool,
}

/// Asks upstreams for narinfos, and other machines in their place. A cheap handle: clones are the same.
#[derive(Clone)]
pub struct UpstreamNarinfos(Arc<Inner>);

struct Inner {
    upstreams: Arc<Upstreams>,
    peers: Peers,
    /// `None`: this machine asks for itself.
    claims: Option<Claims>,
    /// What upstreams said of late, by this machine's own asking.
    known: Cache<(UpstreamId, StoreHash), Bytes>,
    silent: moka::sync::Cache<NodeId, ()>,
    for_others: Arc<Semaphore>,
    is_on: AtomicBool,
    metrics: Arc<Metrics>,
}

impl UpstreamNarinfos {
    pub(crate) fn new(upstreams: Arc<Upstreams>, peers: Peers, claims: Option<Claims>, metrics: Arc<Metrics>) -> Self {
        let size = |_: &_, text: &Bytes| u32::try_from(text.len()).unwrap_or(u32::MAX);
        let known = Cache::builder().weigher(size).max_capacity(REMEMBERED_BYTES).time_to_live(REMEMBERED).build();
        let silent = moka::sync::Cache::builder().max_capacity(SILENT_MAX).time_to_live(SILENT).build();
        let (for_others, is_on) = (Arc::new(Semaphore::new(FOR_OTHERS)), AtomicBool::new(true));
        Self(Arc::new(Inner { upstreams, peers, claims, known, silent, for_others, is_on, metrics }))
    }

    /// Asks nobody for others from now on, or does so again.
    pub(crate) fn turn(&self, on: bool) {
        self.0.is_on.store(on, Relaxed);
    }

    /// What another machine wants to know: the narinfo that an upstream has. `None`: there is none, it is not known in time, or not told.
    pub async fn answer(&self, id: UpstreamId, hash: StoreHash) -> Option<Bytes> {
        if !self.0.is_on.load(Relaxed) {
            return None;
        }
        // One that has failed of late is for each to try.
        let is_meant = |upstream: &&Arc<Upstream>| {
            is_shared(upstream) == Some(id) && upstream.is_available() && upstream.is_worth_retries()
        };
        let upstream = self.0.upstreams.now().iter().find(is_meant).cloned()?;
        if let Some(text) = self.0.known.get(&(id, hash)).await {
            return Some(text);
        }
        let turn = Arc::clone(&self.0.for_others).try_acquire_owned().ok()?;
        let this = self.clone();
        // It is remembered even if whoever wants it does not wait so long.
        let asking = tokio::spawn(async move {
            let _turn = turn;
            // Once, and counted against nobody: how it does is seen by this machine's own lookups.
            this.asked_here(id, hash, this.once(&upstream, hash)).await
        });
        timeout(PATIENCE, asking).await.ok()?.ok()?.ok()?
    }

    /// What `upstream` says of a path, told by another machine if that asks for all.
    ///
    /// # Errors
    /// It could not be asked.
    pub(super) async fn text(&self, upstream: &Arc<Upstream>, hash: StoreHash) -> Result<Option<Said>, SourceError> {
        let ours = |text: Option<Bytes>| text.map(|text| Said { text, is_told: false });
        let Some((id, who)) = is_shared(upstream).and_then(|id| Some((id, self.who_asks(id, hash)?))) else {
            return self.own(upstream, hash).await.map(ours);
        };
        if who == self.0.peers.us() {
            let is_ours = AtomicBool::new(false);
            let ask = async {
                is_ours.store(true, Relaxed);
                self.own(upstream, hash).await
            };
            return match self.asked_here(id, hash, ask).await {
                // It was asked for others, once.
                Err(_) if !is_ours.load(Relaxed) => self.own(upstream, hash).await.map(ours),
                answer => answer.map(ours),
            };
        }
        if let Some(text) = self.told(who, id, hash).await {
            self.0.metrics.upstream_narinfos_told.add(1);
            return Ok(Some(Said { text, is_told: true }));
        }
        self.own(upstream, hash).await.map(ours)
    }

    /// The same, asked of the upstream itself; asked again while the trouble looks as if it passed.
    ///
    /// # Errors
    /// It could not be asked.
    pub(super) async fn own(&self, upstream: &Arc<Upstream>, hash: StoreHash) -> Result<Option<Bytes>, SourceError> {
        self.0.metrics.upstream_narinfos_asked.add(1);
        let (begun, url) = (Instant::now(), format!("{hash}.narinfo"));
        let mut retries = Retries::new(begun);
        loop {
            let error = match upstream.document(&url, LIMIT).await {
                Err(error) if is_passing(&error) => error,
                answer => return answer,
            };
            let again =
                if upstream.is_worth_retries() { retries.next(upstream.busy_until(), Instant::now()) } else { None };
            let Some(pause) = again else {
                upstream.came_to_nothing(Nothing::Failed, begun);
                return Err(error);
            };
            log::debug!(upstream:% = upstream, path:% = hash, reason:% = error; "asking again in {pause:.1?}");
            sleep(pause).await; // backoff
        }
    }

    /// The same, once.
    ///
    /// # Errors
    /// It could not be asked.
    async fn once(&self, upstream: &Arc<Upstream>, hash: StoreHash) -> Result<Option<Bytes>, SourceError> {
        self.0.metrics.upstream_narinfos_asked.add(1);
        upstream.document(&format!("{hash}.narinfo"), LIMIT).await
    }

    /// Who asks for all; `None` where there are no others.
    fn who_asks(&self, id: UpstreamId, hash: StoreHash) -> Option<NodeId> {
        let answers = |machine: &NodeId| !self.0.silent.contains_key(machine);
        self.0.claims.as_ref()?.asks_for_narinfo(id.0.as_bytes(), &hash, answers)
    }

    /// What comes of `ask`, one for all who want to know at the same time; what an upstream says is remembered.
    async fn asked_here(
        &self,
        id: UpstreamId,
        hash: StoreHash,
        ask: impl Future<Output = Result<Option<Bytes>, SourceError>>,
    ) -> Result<Option<Bytes>, SourceError> {
        let ask = async {
            match ask.await {
                Ok(Some(text)) => Ok(text),
                Ok(None) => Err(None),
                Err(error) => Err(Some(error)),
            }
        };
        match self.0.known.try_get_with((id, hash), ask).await {
            Ok(text) => Ok(Some(text)),
            Err(nothing) => nothing.as_ref().as_ref().map_or(Ok(None), |error| Err(error.again())),
        }
    }

    /// What a machine tells.
    async fn told(&self, who: NodeId, id: UpstreamId, hash: StoreHash) -> Option<Bytes> {
        let peer = PeerSource(self.0.peers.get(who)?);
        let ask = async {
            let response = peer.get(&target(id, hash), None).await?;
            match response.status() {
                StatusCode::OK => collect(response.into_body(), LIMIT).await.map(Some),
                _ => Ok(None),
            }
        };
        let reason = match timeout(PATIENCE, ask).await {
            Ok(Ok(text)) => return text,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        self.0.silent.insert(who, ());
        log::debug!(peer:% = who, path:% = hash, reason; "a machine does not tell what an upstream says: {reason}");
        None
    }
}

/// The name of an upstream by which others ask for what it says; `None`: they are not told, as not everybody may ask it.
fn is_shared(upstream: &Upstream) -> Option<UpstreamId> {
    let options = &upstream.options;
    let has_login = options.url.authority().is_some_and(|authority| authority.as_str().contains('@'));
    (options.login == Login::default() && !has_login).then(|| UpstreamId::of(&options.url))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::source::http_client::ClientFactory;
    use crate::fetch::source::upstream_options::UpstreamOptions;

    fn id(url: &str, login: Login) -> Option<UpstreamId> {
        let options = UpstreamOptions { login, ..url.parse::<Uri>().unwrap().into() };
        is_shared(&Upstream::new(options, &ClientFactory::new(), &Metrics::default()))
    }

    #[tokio::test]
    async fn upstreams_are_told_apart_and_what_not_everybody_may_ask_is_told_to_nobody() {
        let open = |url| id(url, Login::default());
        let of = open("https://cache.example.org").unwrap();
        assert_eq!(open("https://cache.example.org/"), Some(of));
        assert_eq!(of.to_string().parse(), Ok(of));
        for other in ["http://cache.example.org", "https://cache.example.org/a", "https://cache.example.org:8443"] {
            assert_ne!(open(other), Some(of), "{other}");
        }
        assert_eq!(open("https://user:secret@cache.example.org"), None);
        assert_eq!(id("https://cache.example.org", Login::bearer(b"token").unwrap()), None);
    }
}
