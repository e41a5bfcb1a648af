//! The service as it runs: serves, obeys signals, keeps what a restart takes over, and drains.

use super::history::Keeper;
use super::listeners::{self, Towards};
use super::options::{self, DRAIN};
use super::predecessors::Face;
use super::reload::Current;
use super::signals::{Signals, Told};
use super::{front, handover, journal};
use crate::control::{self, Controller};
use crate::fetch::Fetcher;
use crate::http::gateway::Gateway;
use crate::http::{Draining, ShareHandler};
use crate::metrics::{HttpMetrics, Statistics};
use crate::peers::{self, Peers};
use crate::system::heartbeat::Heartbeats;
use crate::system::host_name::HostName;
use crate::system::message_ids as ids;
use crate::system::notify::Notifier;
use crate::system::sockets::{Addresses, Sockets};
use std::net::TcpListener;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How soon after something happened the status line is brought up to date, …
const STATUS: Duration = Duration::from_secs(1);
/// … how often while something is fetched, of which not all is told, …
const STATUS_MOVING: Duration = Duration::from_secs(5);
/// … and how often otherwise, when it is looked as well what this machine is called. An idle machine should be let sleep.
const STATUS_IDLE: Duration = Duration::from_secs(30);
/// How long Nix may wait at the start until the peers of the run before are back: they answer within milliseconds, or are away.
const STARTUP_GRACE: Duration = Duration::from_millis(500);
/// How often peers and counters are left with the service manager.
const HANDOVER: Duration = Duration::from_secs(60);

/// The service, ready to run.
pub(super) struct Daemon {
    pub(super) current: Current,
    pub(super) addresses: Addresses,
    pub(super) runtime: PathBuf,
    pub(super) notifier: Arc<Notifier>,
    pub(super) heartbeats: Heartbeats,
    pub(super) controller: Controller,
    pub(super) asked_to_reload: mpsc::Receiver<oneshot::Sender<control::Reload>>,
    pub(super) statistics: Arc<Statistics>,
    pub(super) history: Keeper,
    pub(super) gateway: Arc<Gateway>,
    pub(super) gateway_metrics: Arc<HttpMetrics>,
    pub(super) share: Arc<Draining<ShareHandler>>,
    pub(super) plain: Arc<Draining<ShareHandler>>,
    /// Towards machines with predecessors.
    pub(super) predecessors: Vec<(Arc<Face>, TcpListener)>,
    pub(super) share_metrics: Arc<HttpMetrics>,
    pub(super) acceptor: peers::link::Acceptor,
    pub(super) sockets: Sockets,
    /// Transfers under way.
    pub(super) transfers: TaskTracker,
}

impl Daemon {
    /// Serves until a signal says to stop, and then until everything under way is done or [`DRAIN`] is over.
    pub(super) async fn run(mut self, mut signals: Signals, stop: CancellationToken) {
        let serving = TaskTracker::new();
        let gateway_limits = options::gateway_limits(&self.current.config);
        let share_limits = options::share_limits(&self.current.config);
        let plain_limits = options::plain_limits(&self.current.config);
        let sockets = std::mem::take(&mut self.sockets);
        let share = (&self.share, &self.share_metrics);
        listeners::serve(&serving, share, &share_limits, Towards::Peers(self.acceptor), sockets.share, &stop);
        let plain = (&self.plain, &self.share_metrics);
        listeners::serve(&serving, plain, &plain_limits, Towards::Anyone, sockets.plain, &stop);
        for (face, listener) in self.predecessors {
            listeners::serve(
                &serving,
                (&face, &self.share_metrics),
                &plain_limits,
                Towards::Anyone,
                vec![listener],
                &stop,
            );
        }

        let control_stop = CancellationToken::new();
        let front_ends = front::open(&self.controller, sockets.varlink, sockets.varlink_admin, &control_stop).await;
        tokio::spawn(journal::follow(self.controller.event_log().clone()));
        let probes =
            tokio::spawn(probe(self.heartbeats.clone(), self.current.fetcher.clone(), self.current.peers.clone()));
        let watchdog = self.heartbeats.feed(Arc::clone(&self.notifier));
        // Nix waits in the queue of the socket meanwhile: what nobody is known to have yet, it would not ask for again for an hour.
        self.current.peers.settled(STARTUP_GRACE).await;
        let gateway = (&self.gateway, &self.gateway_metrics);
        listeners::serve(&serving, gateway, &gateway_limits, Towards::Nix, sockets.gateway, &stop);
        listeners::announce(&self.addresses);
        front_ends.own_name().await;
        self.current.state.working();
        log::info!(message_id = ids::STARTED; "peernixd {} serves", env!("CARGO_PKG_VERSION"));
        self.notifier.ready(&self.current.status_line(&self.addresses));

        let history_stop = CancellationToken::new();
        let noting = tokio::spawn(self.history.clone().run(history_stop.clone()));
        let heartbeats = self.heartbeats.clone();
        let keeping =
            tokio::spawn(keep_handover(self.notifier.clone(), self.current.peers.clone(), self.statistics.clone()));
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
        // With what ended meanwhile.
        history_stop.cancel();
        let _ = noting.await;
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
    let mut happened = current.events.changes();
    let (mut look, mut is_soon) = (pin!(sleep(Duration::ZERO)), true); // pace
    let mut host_name = HostName::now();
    loop {
        let asked = tokio::select! {
            told = signals.next() => match told {
                Told::Stop => return,
                Told::Reload => None,
            },
            Some(answer) = asked_to_reload.recv() => Some(answer),
            Ok(()) = happened.changed(), if !is_soon => {
                is_soon = true;
                look.as_mut().reset(Instant::now() + STATUS);
                continue;
            }
            () = &mut look => {
                host_name = current.renamed(host_name).await;
                notifier.status(&current.status_line(addresses));
                is_soon = false;
                let pause = if current.fetcher.transfers_running() > 0 { STATUS_MOVING } else { STATUS_IDLE };
                look.as_mut().reset(Instant::now() + pause);
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
async fn keep_handover(notifier: Arc<Notifier>, peers: Peers, statistics: Arc<Statistics>) {
    let mut tick = tokio::time::interval(HANDOVER);
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
