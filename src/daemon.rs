//! The life of the service: configuration → prepare (bind, read keys, open the store) → run → drain.
#![forbid(unsafe_code)]

use crate::config::{Config, FleetMode, Policy};
use crate::fetch::{self, Fetcher, Trust};
use crate::http::gateway::Gateway;
use crate::http::server::Face;
use crate::http::share::{Share, ShareFace, ShareOptions};
use crate::http::{Handler, HttpMetrics, Limits};
use crate::metrics::Metrics;
use crate::nix::TrustedKeys;
use crate::peers::{self, Admission, Discovery, Mdns, NodeKey, Peers, PeersOptions};
use crate::store::{Access, PolicyOptions, SharePolicy, SharePolicyMode, Store, StoreOptions};
use crate::system::directories::Directories;
use crate::system::notify::Notifier;
use crate::system::sockets::{Addresses, Sockets, Wanted};
use crate::system::{journal, limits, network};
use anyhow::Context as _;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long transfers may go on once the service stops.
const DRAIN: Duration = Duration::from_secs(30);
/// How often the status line is brought up to date.
const STATUS: Duration = Duration::from_secs(5);

/// Runs the service until it is told to stop. Blocks.
///
/// # Errors
/// What keeps it from starting: a socket, a directory, the node key. What goes wrong later is logged and survived.
pub fn run(config: Config, file: Option<PathBuf>, directories: &Directories) -> anyhow::Result<()> {
    if let Err(error) = limits::raise_open_files() {
        log::warn!("the limit of open files stays as it is: {error}");
    }
    directories.create()?;
    // Before the first thread: taking sockets over from systemd changes the environment of the process's children.
    let sockets = Sockets::open(Wanted {
        gateway: &config.gateway.listen.0,
        share: &config.share.listen.0,
        plain: &config.share.plain_listen.0,
    })?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    let outcome = runtime.block_on(async {
        // First of all: whoever starts the service may stop it again at any moment.
        let signals = Signals::new().context("cannot handle signals")?;
        let stop = CancellationToken::new();
        let daemon = Daemon::prepare(config, file, directories, sockets, &stop).await?;
        daemon.run(signals, stop).await;
        Ok(())
    });
    // A blocking thread may hang in a read of a dead network file system; it must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

/// The service, ready to run.
struct Daemon {
    config: Config,
    /// The file named on the command line, for reloading.
    file: Option<PathBuf>,
    addresses: Addresses,
    notifier: Notifier,
    peers: Peers,
    gateway: Arc<Gateway>,
    gateway_metrics: Arc<HttpMetrics>,
    share: Arc<ShareFace>,
    plain: Arc<ShareFace>,
    share_metrics: Arc<HttpMetrics>,
    acceptor: peers::link::Acceptor,
    sockets: Sockets,
    /// Transfers under way.
    transfers: TaskTracker,
}

impl Daemon {
    async fn prepare(
        config: Config,
        file: Option<PathBuf>,
        directories: &Directories,
        sockets: Sockets,
        stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let notifier = Notifier::from_environment();
        let key = NodeKey::load_or_create(&directories.state)?;
        let addresses = sockets.addresses();
        addresses.write(&directories.runtime)?;

        let store = open_store(&config).await?;
        let trusted = config.trusted_keys();
        for notice in &trusted.notices {
            log::warn!("{notice}");
        }
        log::info!(keys = trusted.keys.len(), origin = trusted.origin.as_str(); "paths may enter that are signed by {} key(s) of {}", trusted.keys.len(), trusted.origin);
        let keys: TrustedKeys = trusted.keys.into_iter().collect();
        let trust = Trust { keys, store_dir: config.store.dir.clone() };

        let admission = admission(&config);
        let network = network::watch(stop.clone());
        let options = PeersOptions {
            name: host_name(),
            share_port: addresses.share.map_or(0, |address| address.port()),
            admission: admission.clone(),
            state_dir: Some(directories.state.clone()),
            discovery: discovery(&config),
            trusted_keys: trust.keys.names().map(str::to_owned).collect(),
            network: Some(network.clone()),
            warm: None,
        };
        let peers = Peers::start(options, &key, &CancellationToken::new()).await?;

        let metrics = Arc::new(Metrics::default());
        let transfers = TaskTracker::new();
        let options = fetch::Options {
            trust,
            upstreams: config.gateway.upstreams.iter().map(|upstream| upstream.uri().clone()).collect(),
            budget: Duration::from_millis(config.gateway.budget_ms),
            memory: config.limits.memory,
        };
        let fetcher = Fetcher::new(options, peers.clone(), Arc::clone(&metrics), transfers.clone());
        tokio::spawn(tell_of_network(network, fetcher.clone()));
        let (gateway_metrics, share_metrics) = (Arc::<HttpMetrics>::default(), Arc::<HttpMetrics>::default());
        let gateway = Gateway {
            fetcher,
            peers: peers.clone(),
            store_dir: config.store.dir.clone(),
            priority: config.gateway.priority,
            drain: Arc::default(),
            metrics,
            http_metrics: vec![("gateway", Arc::clone(&gateway_metrics)), ("share", Arc::clone(&share_metrics))],
        };
        let share = Share::new(ShareOptions {
            store,
            policy: Arc::new(share_policy(&config)?),
            signing_keys: Arc::default(),
            upload_limit: config.share.upload_limit,
            limits: share_limits(&config),
        });
        Ok(Self {
            addresses,
            notifier,
            gateway: Arc::new(gateway),
            gateway_metrics,
            share: Arc::new(share.towards_peers(peers.clone(), admission.clone())),
            plain: Arc::new(share.plain()),
            share_metrics,
            acceptor: peers::link::Acceptor::new(&key, admission)?.guarded_by(&peers),
            peers,
            sockets,
            transfers,
            config,
            file,
        })
    }

    /// Serves until a signal says to stop, and then until everything under way is done or [`DRAIN`] is over.
    async fn run(self, signals: Signals, stop: CancellationToken) {
        let faces = TaskTracker::new();
        let gateway_limits = gateway_limits(&self.config);
        let share_limits = share_limits(&self.config);
        let acceptor = self.acceptor;
        serve(&faces, &self.gateway, &gateway_limits, &self.gateway_metrics, Towards::Nix, self.sockets.gateway, &stop);
        serve(
            &faces,
            &self.share,
            &share_limits,
            &self.share_metrics,
            Towards::Peers(acceptor),
            self.sockets.share,
            &stop,
        );
        serve(&faces, &self.plain, &share_limits, &self.share_metrics, Towards::Anyone, self.sockets.plain, &stop);
        announce(&self.addresses);
        self.notifier.ready(&status(&self.addresses, &self.peers));

        let status = || status(&self.addresses, &self.peers);
        signals.until_stopped(&self.config, self.file.as_deref(), &self.notifier, status).await;

        let transfers = self.gateway.fetcher.transfers_running();
        log::info!(transfers; "stopping; {transfers} transfer(s) under way may end");
        self.notifier.stopping(&format!("Draining {transfers} transfer(s)"));
        stop.cancel();
        faces.close();
        self.transfers.close();
        // The others learn at once that nothing new can be had here, while what was begun goes on.
        self.peers.shutdown().await;
        let drained = async {
            faces.wait().await;
            self.transfers.wait().await;
        };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            log::warn!("gave up waiting for what was under way after {} s", DRAIN.as_secs());
        }
        log::info!("stopped");
    }
}

/// Who is on the other side of a face.
enum Towards {
    /// The Nix of this machine.
    Nix,
    /// Other machines with Peernix.
    Peers(peers::link::Acceptor),
    /// Any Nix client.
    Anyone,
}

/// Serves a face on each of its sockets.
fn serve<H: Handler>(
    tasks: &TaskTracker,
    handler: &Arc<H>,
    limits: &Limits,
    metrics: &Arc<HttpMetrics>,
    towards: Towards,
    listeners: Vec<TcpListener>,
    stop: &CancellationToken,
) {
    let (tls, local_only) = match towards {
        Towards::Nix => (None, true),
        Towards::Peers(acceptor) => (Some(acceptor), false),
        Towards::Anyone => (None, false),
    };
    let (handler, metrics) = (Arc::clone(handler), Arc::clone(metrics));
    let face = Arc::new(Face { handler, limits: limits.clone(), metrics, tls, local_only });
    for listener in listeners {
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => {
                tasks.spawn(Arc::clone(&face).serve(listener, stop.clone()));
            }
            Err(error) => log::error!("a socket cannot be served: {error}"),
        }
    }
}

/// The signals that the service obeys.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for SIGTERM or SIGINT. Meanwhile SIGHUP reloads, and the status line is kept up to date.
    async fn until_stopped(
        mut self,
        config: &Config,
        file: Option<&std::path::Path>,
        notifier: &Notifier,
        status: impl Fn() -> String,
    ) {
        let mut current = config.clone();
        let mut tick = tokio::time::interval(STATUS);
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => {
                    notifier.reloading();
                    let outcome = reload(&mut current, file);
                    notifier.ready(&outcome.map_or_else(|problem| format!("Reload failed: {problem}"), |()| status()));
                }
                _ = tick.tick() => notifier.status(&status()),
            }
        }
    }
}

/// Reads the configuration again. A bad one changes nothing.
fn reload(current: &mut Config, file: Option<&std::path::Path>) -> Result<(), String> {
    match Config::load(file) {
        Ok(new) => {
            journal::set_level(new.log.level);
            let rest = Config { log: current.log.clone(), origin: current.origin.clone(), ..new.clone() };
            if rest == *current {
                log::info!("configuration reloaded");
            } else {
                log::warn!("configuration reloaded; changes outside [log] take effect at the next start");
            }
            current.log = new.log;
            Ok(())
        }
        Err(problem) => {
            log::error!("the configuration was not reloaded and stays as it was: {problem}");
            Err(problem.to_string())
        }
    }
}

/// Has upstreams tried again whenever the network changes, for as long as it is watched.
async fn tell_of_network(mut network: tokio::sync::watch::Receiver<u64>, fetcher: Fetcher) {
    while network.changed().await.is_ok() {
        fetcher.network_changed();
    }
}

/// Opens the store and says how it is read, or what is missing.
async fn open_store(config: &Config) -> anyhow::Result<Store> {
    let options = StoreOptions {
        dir: config.store.dir.clone(),
        state_dir: config.store.state_dir.clone(),
        root: config.store.root.clone(),
        ..StoreOptions::default()
    }
    .with_environment(|name| std::env::var_os(name));
    let store = Store::open(options).await?;
    match store.check().await {
        Ok(Access::Database) => log::info!("the store is read from its database"),
        Ok(Access::Daemon) => {
            log::info!("the store is read through the Nix daemon: its database cannot be read by this user");
        }
        Err(error) => log::warn!("nothing of this machine's store can be shared for now: {error}"),
    }
    Ok(store)
}

fn share_policy(config: &Config) -> anyhow::Result<SharePolicy> {
    let options = PolicyOptions {
        mode: match config.share.policy {
            Policy::Off => SharePolicyMode::Off,
            Policy::Signed => SharePolicyMode::Signed,
            Policy::SignedAndOwn => SharePolicyMode::SignedAndOwn,
        },
        public_keys: config.share.public_keys.iter().cloned().collect(),
        own_keys: TrustedKeys::default(),
        deny: config.share.deny.clone(),
    };
    Ok(SharePolicy::new(options, config.store.dir.clone())?)
}

fn admission(config: &Config) -> Admission {
    match config.fleet.mode {
        FleetMode::Open => Admission::Open,
        FleetMode::Static => Admission::Static(config.fleet.nodes.iter().copied().collect()),
    }
}

fn discovery(config: &Config) -> Discovery {
    let interfaces = config.discovery.interfaces.clone();
    Discovery {
        mdns: config.discovery.mdns.then(|| Mdns { interfaces, site: String::new() }),
        fixed: config.discovery.peers.clone(),
    }
}

fn gateway_limits(config: &Config) -> Limits {
    Limits { header_timeout: config.limits.header_timeout, drain_timeout: DRAIN, ..Limits::gateway() }
}

fn share_limits(config: &Config) -> Limits {
    Limits {
        connections: config.share.max_connections,
        per_address: Some(config.limits.per_address),
        header_timeout: config.limits.header_timeout,
        idle_timeout: config.limits.idle_timeout,
        stall_timeout: config.limits.idle_timeout,
        drain_timeout: DRAIN,
        ..Limits::share()
    }
}

/// This machine's name for people to read.
fn host_name() -> String {
    nix::unistd::gethostname().map_or_else(|_| "unknown".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Says where the faces are, and the one line that Nix needs.
fn announce(addresses: &Addresses) {
    if let Some(share) = addresses.share {
        log::info!(address:% = share; "peers are served on {share}");
    }
    if let Some(plain) = addresses.plain {
        log::info!(address:% = plain; "any Nix is served on http://{plain}");
    }
    if let Some(gateway) = addresses.gateway {
        log::info!(address:% = gateway; "Nix is served on http://{gateway}; in nix.conf: extra-substituters = http://{gateway}");
    }
}

/// What `systemctl status` shows.
fn status(addresses: &Addresses, peers: &Peers) -> String {
    let snapshot = peers.snapshot();
    let online = snapshot.iter().filter(|peer| peer.state == peers::State::Online).count();
    let gateway = addresses.gateway.map_or_else(|| "no gateway".to_owned(), |gateway| format!("http://{gateway}"));
    format!("Serving Nix on {gateway} · {online}/{} peers online", snapshot.len())
}
