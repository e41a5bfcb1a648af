//! The life of the service: configuration → prepare (bind, read keys, open the store, lock itself in) → run → drain.
#![forbid(unsafe_code)]

mod front;
mod gauges;
mod handover;
mod history;
mod journal;
mod listeners;
mod options;
mod predecessors;
mod prepare;
mod quiet;
mod reload;
mod service;
mod signals;
mod sites;
mod uploads;
mod upstreams;
mod yielding;

use crate::config::{Config, Profile};
use crate::system::directories::Directories;
use crate::system::landlock;
use crate::system::limits;
use crate::system::pressure::Pressure;
use crate::system::privileges::{self, Dropped};
use crate::system::sockets::{Sockets, Wanted};
use crate::system::stationary::is_stationary;
use anyhow::Context as _;
pub(crate) use options::node_key;
use prepare::{Host, prepare};
use signals::Signals;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Runs the service until it is told to stop. Blocks.
///
/// # Errors
/// What keeps it from starting: a socket, a directory, a key. What goes wrong later is logged and survived.
pub fn run(config: Config, directories: &Directories) -> anyhow::Result<()> {
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
    if config.share.profile == Some(Profile::ReceiveOnly) && sockets.close_shares() > 0 {
        log::info!("closed the sockets of the share that systemd handed over: [share] profile is \"receive-only\"");
    }
    sockets.complete_control(&directories.runtime)?;
    // Nothing that follows needs what only root may do.
    match privileges::drop(&[&directories.state, &directories.cache, &directories.runtime])? {
        Dropped::Nothing => {}
        Dropped::User => {
            log::info!("started by root: goes on as the user {}, without any capability", privileges::USER);
        }
        Dropped::Capabilities => log::warn!(
            "started by root: goes on as root without any capability, as there is no user {}",
            privileges::USER
        ),
    }
    let predecessors = config.discovery.peerix.then(predecessors::Sockets::open);
    let pressure = Pressure::from_environment();
    // Before the walls, behind which it cannot be seen.
    let relays = config.share.relay && is_stationary();
    // After the sockets, and before the first thread: each thread takes its walls from the one that makes it.
    let sandbox = landlock::enter(&options::places(&config, directories));
    sandbox.log();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    let outcome = runtime.block_on(async {
        // First of all: whoever starts the service may stop it again at any moment.
        let signals = Signals::new().context("cannot handle signals")?;
        let stop = CancellationToken::new();
        let host = Host { directories, sockets, predecessors, sandbox: sandbox.to_string(), pressure, relays };
        let daemon = prepare(config, host, &stop).await?;
        daemon.run(signals, stop).await;
        Ok(())
    });
    // A blocking thread may hang in a read of a dead network file system; it must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}
