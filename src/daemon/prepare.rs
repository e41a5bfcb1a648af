//! From a configuration to a service that is ready to run: keys are read, the store is opened, the rooms are connected.

use super::predecessors;
use super::reload::{Current, policy_name};
use super::service::Daemon;
use super::sites::{self, SiteDesk};
use super::uploads::{self, Followers, UploadRules};
use super::{gauges, handover, history, options, quiet, upstreams};
use crate::config::{Compression, Config, FleetMode, Policy, TrustedBy, Verify};
use crate::control::{Controller, Event, EventKind, Listen, Parts, Reloader, ServiceInfo, StateCell};
use crate::copies::Copies;
use crate::fetch::{self, Fetcher};
use crate::http::gateway::Gateway;
use crate::http::share::{Share, ShareOptions};
use crate::http::{Drain, Draining, Route};
use crate::index::Index;
use crate::keys::{SigningKeys, TrustList};
use crate::metrics::{Exposition, HttpMetrics, Metrics, Statistics};
use crate::peers::fleet::Fleet;
use crate::peers::{self, Peers, PeersOptions};
use crate::resilience::Versioned;
use crate::sites::Sites;
use crate::store::{Access, Pins, Store};
use crate::system::directories::Directories;
use crate::system::heartbeat::Heartbeats;
use crate::system::message_ids as ids;
use crate::system::notify::Notifier;
use crate::system::pressure::Pressure;
use crate::system::sockets::{Addresses, Sockets};
use crate::system::{conditions, host_name, memory, moves, network, wake_up};
use crate::web::Page;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What was taken from the host before the first thread began.
pub(super) struct Host<'a> {
    pub(super) directories: &'a Directories,
    pub(super) sockets: Sockets,
    /// Those of predecessors, if their machines are asked and answered.
    pub(super) predecessors: Option<predecessors::Sockets>,
    /// How far the service has locked itself in.
    pub(super) sandbox: String,
    pub(super) pressure: Option<Pressure>,
    /// Whether this machine may relay.
    pub(super) relays: bool,
}

/// Puts the service together. Nothing is served yet.
pub(super) async fn prepare(config: Config, host: Host<'_>, stop: &CancellationToken) -> anyhow::Result<Daemon> {
    let Host { directories, mut sockets, predecessors, sandbox, pressure, relays } = host;
    let started = SystemTime::now();
    let notifier = Arc::new(Notifier::from_environment());
    notifier.status("Opening the store");
    let (peers_before, statistics_before) = handover::recall(std::mem::take(&mut sockets.kept), &notifier);
    let (key, replaced) = options::node_key(directories)?;
    let key = Arc::new(key);
    let addresses = sockets.addresses();
    addresses.write(&directories.runtime)?;

    let keys = SigningKeys::open(options::signing_keys(&config, directories)?).await?;
    if config.share.policy == Policy::SignedAndOwn && keys.ensure().await? {
        log::info!("a key was made that signs what is built here; `peernixctl keys export` shows its public half");
    }
    let (trust, trusted) = trust_list(&config, directories).await?;

    let store = open_store(&config).await?;
    let pins = Pins::open(store.clone(), &directories.state).await?;

    let fleet = Fleet::open(key.id(), options::fleet(&config, directories)?).await?;
    let admission = options::admission(&config, &fleet);
    let wake_ups = wake_up::watch(stop.clone());
    let network = network::watch(wake_ups.clone(), stop.clone());
    let moves = moves::watch(network.clone(), wake_ups, stop.clone());
    let offers = config.share.index && config.share.policy != Policy::Off && addresses.share.is_some();
    let peers_options = PeersOptions {
        name: host_name::of_kernel(),
        site: config.nats.site.as_ref().map(ToString::to_string).unwrap_or_default(),
        share_port: addresses.share.map_or(0, |address| address.port()),
        admission: admission.clone(),
        fleet: Some(fleet.clone()),
        state_dir: Some(directories.state.clone()),
        discovery: options::discovery(&config),
        trusted_keys: trust.trusted(),
        handover: peers_before,
        network: Some(network),
        moves: Some(moves.clone()),
        relay: relays && offers,
        claims: config.swarm.claims,
        pieces: config.swarm.pieces,
        patches: config.swarm.patches,
        copies: offers && config.replicate.max_size > 0 && config.fleet.mode != FleetMode::Open,
        compression: config.share.compression == Compression::Auto,
    };
    let peers = Peers::start(peers_options, &key, &CancellationToken::new()).await?;

    let metrics = Arc::new(Metrics::default());
    let patches = config.swarm.patches.then(|| Arc::clone(&metrics));
    let counted = Arc::clone(&metrics);
    let index = Index::new(peers.clone(), offers, Arc::clone(&metrics));
    tokio::spawn(index.clone().run(stop.clone()));
    let share_port = addresses.share.filter(|_| offers).map(|address| address.port());
    let sites = sites::options(&config, share_port, host_name::of_kernel(), &key)?.map(|options| {
        let rooms = (peers.clone(), index.clone());
        Sites::start(options, rooms, (admission.clone(), Some(fleet.clone())), Arc::clone(&metrics), stop.clone())
    });
    let transfers = TaskTracker::new();
    let wanted = config.clone();
    let upstreams = spawn_blocking(move || upstreams::read(&wanted)).await?;
    upstreams.tell(&trust);
    for left_out in &upstreams.left_out {
        log::error!(reason = left_out.as_str(); "{left_out}");
    }
    let policy = Versioned::new(options::share_policy(&config)?);
    let shared = policy.clone();
    let site = fetch::SiteOptions {
        // Whoever gives nothing to others gives none of this.
        may_share: Arc::new(move |info| offers && shared.now().may_pass_on(info)),
    };
    let predecessors = predecessors.map(predecessors::Sockets::start).unwrap_or_default();
    let fetch_options = fetch::Options {
        predecessors: predecessors.to_ask(),
        site: config.swarm.claims.then_some(site),
        max_sources: options::max_sources(&config),
        spools: options::spools(&config, &directories.cache),
        verify_whole: config.gateway.verify == Verify::Whole,
        bases: config.swarm.patches.then(|| store.clone()),
        trusted_keys: trust.trusted(),
        store_dir: config.store.dir.clone(),
        upstreams: upstreams.options,
        budget: Duration::from_millis(config.gateway.budget_ms),
        read_ahead: config.gateway.read_ahead,
        download: options::download(&config),
        memory: config.limits.memory,
    };
    let rooms = (peers.clone(), index.clone(), sites.clone());
    let fetcher = Fetcher::new(fetch_options, rooms, Arc::clone(&metrics), transfers.clone());
    fetcher.set_proxies(options::proxies(&config));
    tokio::spawn(tell_of_moves(moves, fetcher.clone()));
    let [gateway_metrics, share_metrics] =
        ["gateway", "share"].map(|face| Arc::new(HttpMetrics::new(face, &Route::NAMES)));
    let faces_told = [Arc::clone(&gateway_metrics), Arc::clone(&share_metrics)];
    store.measure(metrics.database_took.clone());
    let faces = vec![("gateway", Arc::clone(&gateway_metrics)), ("share", Arc::clone(&share_metrics))];
    let statistics = Arc::new(Statistics::new(Arc::clone(&metrics), faces.clone()));
    if let Some(exported) = statistics_before
        && let Err(error) = statistics.restore(&exported)
    {
        log::warn!("{error}; counting begins anew");
    }
    let history = history::Keeper::open(&directories.state, Arc::clone(&statistics), store.clone()).await;
    let copies = options::copies(&config, directories, (policy.clone(), fetcher.clone()));
    let copies = copies.map(|options| Copies::start(options, (store.clone(), pins.clone()), peers.clone(), stop));
    let drain = Arc::<Drain>::default();
    let share = Share::new(ShareOptions {
        store: store.clone(),
        policy: policy.clone(),
        signing: keys.versioned().clone(),
        upload_limit: config.share.upload_limit,
        compression: options::compression(&config),
        limits: options::share_limits(&config),
    });
    if let Some(sites) = &sites {
        sites.open(Arc::new(SiteDesk {
            share: Arc::clone(&share),
            audience: options::audience(&config),
            fetcher: fetcher.clone(),
            index: index.clone(),
            peers: peers.clone(),
        }));
    }
    let (upload_rules, rules) = watch::channel(UploadRules::of(&config));
    let state =
        StateCell::new(config.origin.as_ref().map(|file| file.display().to_string()), policy_name(config.share.policy));
    state.upstreams_left_out(upstreams.left_out);
    state.trust_unknown(trusted.unknown.clone());
    state.nix_conf_doubtful(trusted.notices.clone());
    let (reloader, asked_to_reload) = Reloader::new();
    let parts = Parts {
        info: ServiceInfo {
            node_id: key.id().to_string(),
            host_name: host_name::of_kernel(),
            started,
            listen: listen(&addresses),
            sandbox,
            directories: vec![directories.state.clone(), directories.cache.clone()],
        },
        state: state.clone(),
        peers: peers.clone(),
        index: index.clone(),
        sites,
        fetcher: fetcher.clone(),
        store: store.clone(),
        pins,
        copies: copies.clone(),
        share: Arc::clone(&share),
        keys: keys.clone(),
        trust: trust.clone(),
        statistics: Arc::clone(&statistics),
        history: Arc::clone(&history.history),
        faces,
        drain: Arc::clone(&drain),
        reloader,
    };
    let followers = Followers {
        share: Arc::clone(&share),
        peers: peers.clone(),
        fetcher: fetcher.clone(),
        state: state.clone(),
        metrics: counted,
        sent: Arc::clone(&share_metrics),
    };
    tokio::spawn(uploads::follow(followers, rules, conditions::watch(stop.clone()), stop.clone()));
    let (sent_to_nix, sent_to_peers) = (Arc::clone(&gateway_metrics), Arc::clone(&share_metrics));
    let moved = move || sent_to_nix.bytes_sent.get() + sent_to_peers.bytes_sent.get();
    tokio::spawn(quiet::follow(moved, stop.clone()));
    let controller = Controller::new(parts);
    let rooms = gauges::Rooms {
        fetcher: fetcher.clone(),
        peers: peers.clone(),
        index: index.clone(),
        share: Arc::clone(&share),
        drain: Arc::clone(&drain),
        history: Arc::clone(&history.history),
    };
    let gateway = Gateway {
        fetcher: fetcher.clone(),
        peers: peers.clone(),
        store_dir: config.store.dir.clone(),
        priority: config.gateway.priority,
        drain: Arc::clone(&drain),
        exposition: Arc::new(Exposition::new(&metrics, &faces_told, started)),
        gauges: Box::new(move || rooms.now()),
        pages: Arc::new(Page::new(Arc::new(controller.clone()), stop.clone())),
    };
    if let Some(before) = replaced {
        let (from, to) = (Some(before.to_string()), Some(key.id().to_string()));
        controller.event_log().tell(Event { from, to, ..Event::new(EventKind::IdentityChanged) });
    }
    if let Some(pressure) = pressure {
        tokio::spawn(drop_caches(pressure.watch(stop.clone()), store, fetcher.clone()));
    }
    tokio::spawn(Arc::clone(&share).offer(index.clone(), options::audience(&config), stop.clone()));
    let tables = config.swarm.pieces.then(|| fetcher.tables());
    let peers_share = Arc::new(
        share
            .towards_peers(peers.clone(), index, admission.clone())
            .with_site(fetcher.site())
            .with_pieces(tables)
            .with_patches(patches)
            .with_copies(copies.clone()),
    );
    let plain = Arc::new(Draining::new(Arc::new(share.plain()), Arc::clone(&drain)));
    let gateway = Arc::new(gateway);
    let predecessors = predecessors.answer(&gateway, (&share, &plain), stop);
    let acceptor = peers::link::Acceptor::new(&key, admission)?.multiplexed().guarded_by(&peers);
    let events = controller.event_log().clone();
    Ok(Daemon {
        current: Current {
            started: config.clone(),
            config,
            trusted,
            fetcher,
            cache: directories.cache.clone(),
            peers,
            policy,
            keys,
            trust,
            state,
            events,
            upload_rules,
        },
        addresses,
        runtime: directories.runtime.clone(),
        notifier,
        heartbeats: Heartbeats::from_environment(),
        controller,
        asked_to_reload,
        statistics,
        history,
        gateway,
        gateway_metrics,
        share: Arc::new(Draining::new(peers_share, Arc::clone(&drain))),
        plain,
        predecessors,
        share_metrics,
        acceptor,
        sockets,
        transfers,
    })
}

/// Reads the keys that are trusted: those of the configuration or of Nix, and what an administrator changed.
async fn trust_list(config: &Config, directories: &Directories) -> anyhow::Result<(TrustList, TrustedBy)> {
    let trusted = config.trusted_keys();
    for notice in &trusted.notices {
        log::warn!("{notice}");
    }
    if let Some(why) = &trusted.unknown {
        log::error!("{why}");
    }
    let list = TrustList::open(&directories.state, trusted.keys.clone(), options::origin(config)).await?;
    let count = list.trusted().now().names().count();
    log::info!(keys = count, origin = trusted.origin.as_str(); "paths may enter that are signed by one of {count} key(s), of {} and as added", trusted.origin);
    Ok((list, trusted))
}

/// Opens the store and says how it is read, or what is missing.
async fn open_store(config: &Config) -> anyhow::Result<Store> {
    let store = Store::open(options::store(config)).await?;
    match store.check().await {
        Ok(Access::Database) => log::info!("the store is read from its database"),
        Ok(Access::Daemon) => {
            log::info!("the store is read through the Nix daemon: its database cannot be read by this user");
        }
        Err(error) => {
            log::warn!(message_id = ids::STORE_UNREADABLE, reason:% = error; "nothing of this machine's store can be shared for now: {error}");
        }
    }
    Ok(store)
}

/// Has upstreams tried anew whenever the machine moves or wakes up, for as long as that is watched.
async fn tell_of_moves(mut moves: watch::Receiver<u64>, fetcher: Fetcher) {
    let mut slept = *moves.borrow();
    while moves.changed().await.is_ok() {
        let before = std::mem::replace(&mut slept, *moves.borrow_and_update());
        fetcher.network_changed(slept != before);
    }
}

/// Gives back what memory can be spared, whenever it is short.
async fn drop_caches(mut short: watch::Receiver<u64>, store: Store, fetcher: Fetcher) {
    while short.changed().await.is_ok() {
        let bytes = store.drop_caches().await + fetcher.forget_answers().await;
        // It fails only when the program is being stopped.
        let _ = spawn_blocking(memory::give_back).await;
        log::debug!(bytes; "memory is short: caches of about {bytes} bytes were dropped");
    }
}

fn listen(addresses: &Addresses) -> Listen {
    Listen {
        gateway: addresses.gateway.map(|address| format!("http://{address}")),
        share: addresses.share.map(|address| address.to_string()),
        plain: addresses.plain.map(|address| format!("http://{address}")),
    }
}
