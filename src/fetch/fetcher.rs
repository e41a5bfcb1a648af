//! The room's handle: what the gateway and the administrator ask of it.

use super::activity::{Activity, FetchEvent, LastTransfer, Running};
use super::blame::Blame;
use super::claims::handle::Claims;
use super::nar::Nar;
use super::patch::bases::Bases;
use super::pieces::tables::Tables;
use super::read_ahead::ReadAhead;
use super::resolve::batches::Exchange as _;
use super::resolve::cache::Answer;
use super::resolve::exchanges::NarInfos;
use super::resolve::resolution::Resolution;
use super::resolve::resolver::Resolver;
use super::resolve::responder::Network;
use super::resolve::source_report::SourceReport;
use super::resolve::surroundings::Surroundings;
use super::resolve::upstream_narinfos::UpstreamNarinfos;
use super::source::http_client::Proxies;
use super::source::peer::PeerSource;
use super::source::upstream_health::Nothing;
use super::source::upstream_options::UpstreamOptions;
use super::source::upstream_trouble::UpstreamTrouble;
use super::source::upstreams::Upstreams;
use super::source::{NarId, Remote as _, Source as _};
use super::traces;
use super::transfer::registry::Registry;
use super::transfer::shared::{MayShare, Place};
use super::transfer::spool::{SpoolOptions, Spools};
use crate::index::Index;
use crate::metrics::Metrics;
use crate::nix::trace::TraceId;
use crate::nix::{NarHash, StoreDir, StoreHash, TrustedKeys};
use crate::peers::{Peer, Peers, Predecessor};
use crate::resilience::{Rates, Versioned};
use crate::sites::{Part, Sites};
use crate::store::Store;
use bytes::{Bytes, BytesMut};
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::{Semaphore, broadcast};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

/// The largest log, listing or other small document fetched for Nix, in bytes.
const DOCUMENT_LIMIT: usize = 16 * 1024 * 1024;
/// How many documents are fetched at once.
const DOCUMENTS: usize = 4;
/// How many realisations and build traces are asked for at once; Nix asks for 25.
const TRACES: usize = 25;

/// What this room needs to know; the daemon takes it from the configuration.
pub struct Options {
    /// The keys whose signatures let a path in, which may change. Every lookup that begins after a change is judged by the new
    /// ones, and nothing found before is remembered: what only a key that is gone signed is refused at once, narinfo and NAR.
    /// Transfers that already have a reader end as they began; Nix itself judges what they bring.
    pub trusted_keys: Versioned<TrustedKeys>,
    /// The store directory that the paths belong to.
    pub store_dir: StoreDir,
    /// The binary caches on the Internet, in order of preference.
    pub upstreams: Vec<UpstreamOptions>,
    /// How long a lookup waits for peers. For an upstream that works it waits longer: a miss is remembered by Nix for an hour.
    pub budget: Duration,
    /// How many bytes a second may come, of all sources and of each.
    pub download: Rates,
    /// How much memory transfers may take together, in bytes; at least one whole NAR's worth is always granted.
    pub memory: u64,
    /// Whether the small NARs that Nix will ask for next are fetched before it does.
    pub read_ahead: bool,
    /// From how many peers one large NAR comes at once, at most; with less than two from one at a time.
    pub max_sources: usize,
    /// Where what takes long is kept while it comes.
    pub spools: SpoolOptions,
    /// Whether Nix sees no byte of a NAR before all of it is there and right: large ones are kept on the disk for that.
    pub verify_whole: bool,
    /// Machines with predecessors on the link, if they are asked as well.
    pub predecessors: Vec<Predecessor>,
    /// The store whose paths may serve as bases of patches; `None`: NARs come whole.
    pub bases: Option<Store>,
    /// What this machine does together with others; `None`: it downloads what it needs itself.
    pub site: Option<SiteOptions>,
}

/// What a machine does that agrees with others on who downloads what.
pub struct SiteOptions {
    /// Whether a path may be given to others.
    pub may_share: MayShare,
}

/// What other machines may ask of this one while it fetches. Cheap to clone.
#[derive(Clone)]
pub struct SiteDesk {
    /// The directory of some NARs.
    pub claims: Claims,
    /// NARs that are on their way.
    pub spools: Spools,
    /// Narinfos of upstreams.
    pub narinfos: UpstreamNarinfos,
}

/// The room's handle; cheap to clone.
#[derive(Clone)]
pub struct Fetcher(Arc<Inner>);

struct Inner {
    resolver: Arc<Resolver>,
    registry: Registry,
    read_ahead: ReadAhead,
    upstreams: Arc<Upstreams>,
    documents: Semaphore,
    traces: Semaphore,
    activity: Arc<Activity>,
    metrics: Arc<Metrics>,
    desk: Option<SiteDesk>,
    tables: Tables,
    verify_whole: bool,
    is_offline: AtomicBool,
}

impl Fetcher {
    /// Sets up the room. Nothing is sent before somebody asks.
    #[must_use]
    pub fn new(
        mut options: Options,
        (peers, index, sites): (Peers, Index, Option<Sites>),
        metrics: Arc<Metrics>,
        tasks: TaskTracker,
    ) -> Self {
        let upstreams = Arc::new(Upstreams::new(&options.upstreams, &metrics));
        let activity = Arc::new(Activity::new());
        let blame = Arc::new(Blame { metrics: Arc::clone(&metrics), activity: Arc::clone(&activity) });
        let (spools, whole) = (Spools::new(options.spools.clone()), options.verify_whole);
        let told = |claims| UpstreamNarinfos::new(Arc::clone(&upstreams), peers.clone(), claims, Arc::clone(&metrics));
        let (site, narinfos, desk): (Place, _, _) = match options.site.take() {
            None => (Place::alone(spools, whole), told(None), None),
            Some(SiteOptions { may_share }) => {
                let claims = Claims::new(peers.clone(), Arc::clone(&metrics));
                let narinfos = told(Some(claims.clone()));
                let site = Place { site: Arc::new(claims.clone()), spools: spools.clone(), may_share, whole };
                (site, narinfos.clone(), Some(SiteDesk { claims, spools, narinfos }))
            }
        };
        let predecessors = std::mem::take(&mut options.predecessors);
        let asked = (Arc::clone(&upstreams), narinfos);
        let surroundings = Surroundings::new((peers, index, sites), predecessors, asked, blame);
        Self::assemble((Arc::new(surroundings), site, desk), upstreams, options, (metrics, activity), tasks)
    }

    /// The same in surroundings of one's own.
    #[cfg(test)]
    pub(crate) fn with_network(
        network: Arc<dyn Network>,
        upstreams: Arc<Upstreams>,
        options: Options,
        metrics: Arc<Metrics>,
        tasks: TaskTracker,
    ) -> Self {
        let place = Place::alone(Spools::new(options.spools.clone()), options.verify_whole);
        let surroundings = (network, place, None);
        Self::assemble(surroundings, upstreams, options, (metrics, Arc::new(Activity::new())), tasks)
    }

    fn assemble(
        (network, site, desk): (Arc<dyn Network>, Place, Option<SiteDesk>),
        upstreams: Arc<Upstreams>,
        options: Options,
        (metrics, activity): (Arc<Metrics>, Arc<Activity>),
        tasks: TaskTracker,
    ) -> Self {
        let Options {
            trusted_keys,
            store_dir,
            budget,
            memory,
            max_sources,
            read_ahead: ahead,
            verify_whole,
            bases,
            download,
            ..
        } = options;
        let sources = (max_sources, Tables::default(), bases.map(Bases));
        let tables = sources.1.clone();
        let blame = Arc::new(Blame { metrics: Arc::clone(&metrics), activity: Arc::clone(&activity) });
        let notes = (Arc::clone(&metrics), Arc::clone(&blame));
        let resolver = Arc::new(Resolver::new(network, (trusted_keys, store_dir), budget, notes));
        let notes = (Arc::clone(&metrics), Arc::clone(&activity), blame);
        let registry = Registry::new(Arc::clone(&resolver), notes, site, sources, download, memory, tasks);
        let read_ahead = ReadAhead::new(registry.clone(), memory, Arc::clone(&metrics));
        read_ahead.turn(ahead);
        let (documents, traces) = (Semaphore::new(DOCUMENTS), Semaphore::new(TRACES));
        let inner = Inner {
            resolver,
            registry,
            read_ahead,
            upstreams,
            documents,
            traces,
            activity,
            metrics,
            desk,
            tables,
            verify_whole,
            is_offline: AtomicBool::new(false),
        };
        Self(Arc::new(inner))
    }

    /// Who has `hash`, as a verified path info; `None` if nobody is known to have it. Nix is promised it with this.
    pub async fn narinfo(&self, hash: StoreHash) -> Option<Arc<Resolution>> {
        if self.is_offline() {
            return None;
        }
        let begun = Instant::now();
        // An older one than that of the answer at most: then nothing is done ahead.
        let generation = self.0.resolver.generation();
        let answer = self.0.resolver.answer(hash).await;
        self.0.metrics.lookup_took.observe(begun.elapsed());
        match answer {
            Answer::Found(resolution) => {
                self.0.activity.promised(hash);
                self.0.read_ahead.promised(&resolution, generation);
                Some(resolution)
            }
            Answer::Absent | Answer::Unknown => None,
        }
    }

    /// The NAR `nar_hash` of the path `hash`; `None` if nobody has that.
    pub async fn open(&self, hash: StoreHash, nar_hash: NarHash) -> Option<Nar> {
        let Inner { resolver, registry, read_ahead, verify_whole, .. } = &*self.0;
        let generation = resolver.generation();
        let resolution = match registry.resolution(nar_hash, generation) {
            Some(under_way) => under_way,
            None if self.is_offline() => return None,
            None => resolver.find(hash, nar_hash).await?,
        };
        let (registry, read_ahead) = (registry.clone(), read_ahead.clone());
        let (resolver, whole) = (Arc::clone(resolver), *verify_whole);
        let metrics = Arc::clone(&self.0.metrics);
        Some(Nar { registry, read_ahead, resolver, resolution, generation, whole, metrics })
    }

    /// The realisation or build trace `id`, which caches have under `target`: what a trusted key signed of it, from whoever
    /// answers first.
    pub async fn trace(&self, target: &str, id: TraceId) -> Option<String> {
        if self.is_offline() {
            return None;
        }
        let _permit = self.0.traces.acquire().await.ok()?;
        let resolver = &self.0.resolver;
        traces::first(resolver.network.responders(), target, id, resolver.trusted(), resolver.budget()).await
    }

    /// A small document of the cache protocol (a log, a listing) from the upstreams, which alone may be asked for what no
    /// signature covers.
    pub async fn document(&self, path: &str) -> Option<Bytes> {
        if self.is_offline() {
            return None;
        }
        let _permit = self.0.documents.acquire().await.ok()?;
        for upstream in self.0.upstreams.now().iter().filter(|upstream| upstream.is_available()) {
            let begun = Instant::now();
            match upstream.document(path, DOCUMENT_LIMIT).await {
                Ok(Some(document)) => return Some(document),
                Ok(None) => {}
                Err(error) => {
                    upstream.came_to_nothing(Nothing::Failed, begun);
                    let level = upstream.complain(error.kind());
                    log::log!(level, upstream:% = upstream, reason:% = error; "an upstream could not be asked: {error}");
                }
            }
        }
        None
    }

    /// What happens from now on. A listener that falls far behind misses some and is told so; nobody waits for it.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<FetchEvent> {
        self.0.activity.subscribe()
    }

    /// The paths that are in transfer, or were promised to Nix or in transfer within the last ten minutes, in no particular
    /// order: a collection of garbage should leave them alone.
    #[must_use]
    pub fn in_use(&self) -> Vec<StoreHash> {
        self.0.activity.in_use()
    }

    /// The transfers under way, the oldest first, not more than `most`.
    #[must_use]
    pub fn transfers_now(&self, most: usize) -> Vec<Running> {
        self.0.activity.now(most)
    }

    /// The transfer of a path that is under way, if there is one.
    #[must_use]
    pub fn transfer_now(&self, hash: StoreHash) -> Option<Running> {
        self.0.activity.now_of(hash)
    }

    /// How the last transfer of a path went, if it is remembered.
    #[must_use]
    pub fn last_transfer(&self, hash: StoreHash) -> Option<LastTransfer> {
        self.0.activity.last(hash)
    }

    /// What is wrong with the upstreams, by their hosts: as far as lookups and downloads have shown it.
    #[must_use]
    pub fn upstream_troubles(&self) -> Vec<(String, UpstreamTrouble)> {
        self.0.upstreams.troubles()
    }

    /// Whether nobody is asked for anything, so that what is not on its way already is missed at once.
    #[must_use]
    pub fn is_offline(&self) -> bool {
        self.0.is_offline.load(Relaxed)
    }

    /// Asks nobody from now on, or asks again. True if it was not so already.
    #[must_use]
    pub fn set_offline(&self, offline: bool) -> bool {
        if let Some(desk) = &self.0.desk {
            desk.narinfos.turn(!offline);
        }
        self.0.is_offline.swap(offline, Relaxed) != offline
    }

    /// How many transfers are under way.
    #[must_use]
    pub fn transfers_running(&self) -> usize {
        self.0.registry.running()
    }

    /// Whether what is on its way here, or was a moment ago, is being sent to others.
    #[must_use]
    pub fn passes_on(&self) -> bool {
        self.0.registry.spools().sends() > 0
    }

    /// Who has a path, asking everybody as a lookup does; nothing is taken from memory or remembered.
    pub async fn sources(&self, hash: StoreHash) -> SourceReport {
        if self.is_offline() {
            return SourceReport::default();
        }
        self.0.resolver.report(hash).await
    }

    /// Forgets recent answers and what nobody asked for as yet, because memory is short; tells about how many bytes that frees.
    pub async fn forget_answers(&self) -> u64 {
        let answers = &self.0.resolver.answers;
        let size = answers.weight().await;
        answers.forget_all();
        answers.weight().await;
        size + self.0.read_ahead.clear()
    }

    /// Asks these upstreams from now on, in this order. What is known of those that stay is kept; transfers go on.
    pub fn set_upstreams(&self, upstreams: &[UpstreamOptions]) {
        if self.0.upstreams.set(upstreams, &self.0.metrics) {
            // What was found may be nowhere now, and what was nowhere may be found.
            self.0.resolver.answers.forget_all();
            // Nor does what lookups under way come to count for those that begin now.
            self.0.resolver.forget_misses();
        }
    }

    /// Lets a lookup wait so long for peers from now on.
    pub fn set_budget(&self, budget: Duration) {
        self.0.resolver.set_budget(budget);
    }

    /// The tables of the pieces of large NARs that came.
    #[must_use]
    pub fn tables(&self) -> Tables {
        self.0.tables.clone()
    }

    /// What other machines may ask of this one; `None`: nothing.
    #[must_use]
    pub fn site(&self) -> Option<SiteDesk> {
        self.0.desk.clone()
    }

    /// What a peer says of these paths, none of it verified: of those that it has.
    pub async fn narinfos_of(&self, peer: Arc<Peer>, hashes: &[StoreHash]) -> Vec<(StoreHash, Bytes)> {
        let source = PeerSource(peer);
        let mut texts = Vec::new();
        if NarInfos::takes_many(&source) {
            let said = NarInfos::about_many(&source, hashes).await.unwrap_or_default();
            texts.extend(said.into_iter().filter_map(|(hash, said)| Some((hash, said?.0))));
            return texts;
        }
        for hash in hashes {
            if let Ok(Some((text, _))) = NarInfos::about_one(&source, *hash).await {
                texts.push((*hash, text));
            }
        }
        texts
    }

    /// A part of a NAR that a peer has, for another site. Nothing of it is proved.
    pub async fn part_of(&self, peer: Arc<Peer>, part: &Part) -> Option<Bytes> {
        let Part { hash, nar_hash, size, bytes } = part.clone();
        let length = usize::try_from(bytes.end.saturating_sub(bytes.start)).ok()?;
        let source = PeerSource(peer);
        let mut flow = source.open_part(&NarId { hash, nar_hash, size }, bytes).await.ok()?;
        let mut all = BytesMut::with_capacity(length);
        while let Some(chunk) = poll_fn(|context| flow.poll_chunk(context)).await {
            all.extend_from_slice(&chunk.ok()?);
            if all.len() > length {
                return None;
            }
        }
        Some(all.freeze())
    }

    /// Keeps what is fetched as these options say, from now on.
    pub fn set_spools(&self, options: SpoolOptions) {
        self.0.registry.spools().set(options);
    }

    /// How much other machines should count on this one, of a hundred, from now on.
    pub fn set_weight(&self, weight: u8) {
        self.0.registry.spools().set_weight(weight);
    }

    /// Lets NARs come so fast from now on.
    pub fn set_download_limit(&self, rates: Rates) {
        self.0.registry.set_limit(rates);
    }

    /// Whether the small NARs that Nix will ask for next are fetched before it does, from now on.
    pub fn set_read_ahead(&self, on: bool) {
        self.0.read_ahead.turn(on);
    }

    /// Goes to upstreams by way of these proxies from now on; what is under way goes on as it is.
    pub fn set_proxies(&self, proxies: Proxies) {
        self.0.upstreams.set_proxies(proxies);
    }

    /// Forgets which upstreams failed, what nobody had, and the connections that may be dead: the network is another one now, or
    /// (with `woke`) the machine slept. Must be called within a tokio runtime.
    pub fn network_changed(&self, woke: bool) {
        self.0.upstreams.now().iter().for_each(|upstream| upstream.network_changed(woke));
        self.0.resolver.forget_misses();
    }
}
