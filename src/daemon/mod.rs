//! The life of the service: configuration → prepare (bind, read keys, open the store, lock itself in) → run → drain.
#![forbid(unsafe_code)]

mod front;
mod handover;
mod journal;
mod listeners;
mod options;
mod prepare;
mod reload;
mod signals;

use crate::config::Config;
use crate::control::{self, Controller};
use crate::fetch::Fetcher;
use crate::http::gateway::Gateway;
use crate::http::{Draining, ShareHandler};
use crate::metrics::{HttpMetrics, Statistics};
use crate::peers::{self, Peers};
use crate::system::directories::Directories;
use crate::system::heartbeat::Heartbeats;
use crate::system::landlock;
use crate::system::limits;
use crate::system::message_ids as ids;
use crate::system::notify::Notifier;
use crate::system::pressure::Pressure;
use crate::system::sockets::{Addresses, Sockets, Wanted};
use anyhow::Context as _;
use listeners::Towards;
use options::DRAIN;
pub(crate) use options::node_key;
use prepare::Host;
use reload::Current;
use signals::{Signals, Told};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How often the status line is brought up to date.
const STATUS: Duration = Duration::from_secs(5);
/// How long Nix may wait at the start until the peers of the run before are back: they answer within milliseconds, or are away.
const SETTLING: Duration = Duration::from_millis(500);
/// How often peers and counters are left with the service manager.
const KEEP_WARM: Duration = Duration::from_secs(60);

/// Runs the service until it is told to stop. Blocks.
///
/// # Errors
/// What keeps it from starting: a socket, a directory, a key. What goes wrong later is logged and survived.
pub fn run(config: Config, file: Option<PathBuf>, directories: &Directories) -> anyhow::Result<()> {
    if let Err(error) = limits::raise_open_files() {
        log::warn!("the limit of open files stays as it is: {error}");
    }
    directories.create()?;
    // Before the first thread: taking sockets over from systemd changes the environment of the process's children.
    let mut sockets = Sockets::open(Wanted {
        gateway: &config.gateway.listen.0,
        share: &config.share.listen.0,
        plain: &config.share.plain_listen.0,
    })?;
    sockets.complete_control(&directories.runtime)?;
    let pressure = Pressure::from_environment();
    // After the sockets, and before the first thread: each thread takes its walls from the one that makes it.
    let sandbox = landlock::enter(&options::places(&config, file.as_deref(), directories));
    sandbox.log();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    let outcome = runtime.block_on(async {
        // First of all: whoever starts the service may stop it again at any moment.
        let signals = Signals::new().context("cannot handle signals")?;
        let stop = CancellationToken::new();
        let host = Host { directories, sockets, sandbox: sandbox.to_string(), pressure };
        let daemon = Daemon::prepare(config, file, host, &stop).await?;
        daemon.run(signals, stop).await;
        Ok(())
    });
    // A blocking thread may hang in a read of a dead network file system; it must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

/// The service, ready to run.
struct Daemon {
    current: Current,
    addresses: Addresses,
    runtime: PathBuf,
    notifier: Arc<Notifier>,
    heartbeats: Heartbeats,
    controller: Controller,
    asked_to_reload: mpsc::Receiver<oneshot::Sender<control::Reload>>,
    statistics: Arc<Statistics>,
    gateway: Arc<Gateway>,
    gateway_metrics: Arc<HttpMetrics>,
    share: Arc<Draining<ShareHandler>>,
    plain: Arc<Draining<ShareHandler>>,
    share_metrics: Arc<HttpMetrics>,
    acceptor: peers::link::Acceptor,
    sockets: Sockets,
    /// Transfers under way.
    transfers: TaskTracker,
}

impl Daemon {
    /// Serves until a signal says to stop, and then until everything under way is done or [`DRAIN`] is over.
    async fn run(mut self, mut signals: Signals, stop: CancellationToken) {
        let serving = TaskTracker::new();
        let gateway_limits = options::gateway_limits(&self.current.config);
        let share_limits = options::share_limits(&self.current.config);
        let sockets = std::mem::take(&mut self.sockets);
        let share = (&self.share, &self.share_metrics);
        listeners::serve(&serving, share, &share_limits, Towards::Peers(self.acceptor), sockets.share, &stop);
        let plain = (&self.plain, &self.share_metrics);
        listeners::serve(&serving, plain, &share_limits, Towards::Anyone, sockets.plain, &stop);

        let control_stop = CancellationToken::new();
        let front_ends = front::open(&self.controller, sockets.varlink, sockets.varlink_admin, &control_stop).await;
        tokio::spawn(journal::follow(self.controller.event_log().clone()));
        let probes =
            tokio::spawn(probe(self.heartbeats.clone(), self.current.fetcher.clone(), self.current.peers.clone()));
        let watchdog = self.heartbeats.feed(Arc::clone(&self.notifier));
        // Nix waits in the queue of the socket meanwhile: what nobody is known to have yet, it would not ask for again for an hour.
        self.current.peers.settled(SETTLING).await;
        let gateway = (&self.gateway, &self.gateway_metrics);
        listeners::serve(&serving, gateway, &gateway_limits, Towards::Nix, sockets.gateway, &stop);
        listeners::announce(&self.addresses);
        front_ends.own_name().await;
        self.current.state.working();
        log::info!(message_id = ids::STARTED; "peernixd {} serves", env!("CARGO_PKG_VERSION"));
        self.notifier.ready(&self.current.status_line(&self.addresses));

        let heartbeats = self.heartbeats.clone();
        let keeping =
            tokio::spawn(keep_warm(self.notifier.clone(), self.current.peers.clone(), self.statistics.clone()));
        let obey = obey(&mut self.current, &mut signals, self.asked_to_reload, &self.notifier, &self.addresses);
        heartbeats.during("main loop", obey).await;
        keeping.abort();

        let transfers = self.current.fetcher.transfers_running();
        self.current.state.stopping();
        self.controller.end_jobs();
        log::info!(message_id = ids::DRAINING, transfers; "stopping; {transfers} transfer(s) under way may end");
        self.notifier.stopping(&format!("Draining {transfers} transfer(s)"));
        handover::keep(&self.notifier, &self.current.peers, &self.statistics);
        stop.cancel();
        serving.close();
        self.transfers.close();
        // The others learn at once that nothing new can be had here, while what was begun goes on.
        self.current.peers.shutdown().await;
        let drained = async {
            serving.wait().await;
            self.transfers.wait().await;
        };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            log::warn!("gave up waiting for what was under way after {} s", DRAIN.as_secs());
        }
        // Last, so that an administrator can watch; jobs end with the Nix daemon's help within moments.
        self.controller.shutdown().await;
        control_stop.cancel();
        front_ends.closed().await;
        handover::keep(&self.notifier, &self.current.peers, &self.statistics);
        probes.abort();
        drop(watchdog);
        Addresses::remove(&self.runtime);
        log::info!(message_id = ids::STOPPED; "stopped");
    }
}

/// Obeys signals and orders until it is told to stop, and keeps the status line up to date.
async fn obey(
    current: &mut Current,
    signals: &mut Signals,
    mut asked_to_reload: mpsc::Receiver<oneshot::Sender<control::Reload>>,
    notifier: &Notifier,
    addresses: &Addresses,
) {
    let mut tick = tokio::time::interval(STATUS);
    loop {
        let asked = tokio::select! {
            told = signals.next() => match told {
                Told::Stop => return,
                Told::Reload => None,
            },
            Some(answer) = asked_to_reload.recv() => Some(answer),
            _ = tick.tick() => {
                notifier.status(&current.status_line(addresses));
                continue;
            }
        };
        notifier.reloading();
        current.state.reloading();
        let outcome = tokio::select! {
            outcome = current.reload() => outcome,
            // The configuration may lie where nobody answers; that must not keep the service from ending in good order.
            () = signals.stop() => return,
        };
        let status = match &outcome.error {
            Some(problem) => format!("Reload failed: {problem}"),
            None => current.status_line(addresses),
        };
        current.state.reloaded(outcome.clone(), Some(current.share_policy()));
        notifier.ready(&status);
        if let Some(answer) = asked {
            // Whoever asked may be gone.
            let _ = answer.send(outcome);
        }
    }
}

/// Leaves what a restart takes over with the manager now and then: the next end may not be in good order.
async fn keep_warm(notifier: Arc<Notifier>, peers: Peers, statistics: Arc<Statistics>) {
    let mut tick = tokio::time::interval(KEEP_WARM);
    loop {
        tick.tick().await;
        let (notifier, peers, statistics) = (notifier.clone(), peers.clone(), statistics.clone());
        let keep = move || handover::keep(&notifier, &peers, &statistics);
        // It fails only when the program is being stopped.
        let _ = tokio::task::spawn_blocking(keep).await;
    }
}

/// Asks the parts of the service for signs of life, for ever: what does not come back is blocked.
async fn probe(heartbeats: Heartbeats, fetcher: Fetcher, peers: Peers) {
    tokio::join!(
        heartbeats.probe("peers", async || drop(peers.snapshot())),
        heartbeats.probe("transfers", async || {
            let _ = fetcher.transfers_running();
        }),
        heartbeats.probe("workers", async || {
            // It fails only when the program is being stopped.
            let _ = tokio::task::spawn_blocking(|| ()).await;
        }),
    );
}
