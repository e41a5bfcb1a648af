//! The desktop notifier: a program of each user that listens to the service and tells the user's desktop.
//!
//! A service of the system must not talk to the sessions of users; so it tells what happens on the system bus, and this
//! program, which runs with the rights of the user, carries it to the session bus. It listens to the owner of our bus name
//! alone. Without a notification server it stays silent.
#![forbid(unsafe_code)]

mod desktop;
mod merge;
mod notice;
mod peers;
mod settings;
mod violations;

use crate::control::dbus::{self, Bus, Client};
use crate::control::{Control as _, EventFilter, EventItem, EventKind, Events, Outcome};
use crate::system::journal;
use anyhow::Context as _;
use clap::Parser;
use desktop::Desktop;
use merge::Merger;
use settings::{Settings, SettingsError};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};
use tokio::signal::unix::{SignalKind, signal};

/// How long to wait when the service is there and does not let us listen, or when there is no system bus at all.
const RETRY: Duration = Duration::from_secs(10);
/// How far the clock of the wall may get ahead of the other one before that means that the machine slept.
const SLEPT: Duration = Duration::from_secs(30);

/// Exit code for settings that make no sense (`EX_CONFIG`): restarting will not help.
const CONFIG: u8 = 78;

/// Tells the desktop of peers that come and go, and of what needs somebody's attention.
#[derive(Debug, Parser)]
#[command(name = "peernix-notifier", version, after_long_help = settings::EXAMPLE)]
pub struct Args {
    /// Read these settings instead of ~/.config/peernix/notifier.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Say what is wrong with the settings, and end
    #[arg(long)]
    check_config: bool,
    /// Say more of what happens, to find out why nothing is shown
    #[arg(long, short)]
    verbose: bool,
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let args = Args::parse();
    journal::start(if args.verbose { log::LevelFilter::Debug } else { log::LevelFilter::Info });
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error:#}");
            if error.is::<SettingsError>() { CONFIG.into() } else { ExitCode::FAILURE }
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    let settings = Settings::load(args.config.as_deref())?;
    if args.check_config {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
            ended = listen(settings) => ended,
        }
    })
}

/// Listens until the session ends.
async fn listen(settings: Settings) -> anyhow::Result<()> {
    let session = zbus::Connection::session().await.context("there is no session bus to show notices on")?;
    let mut desktop = Desktop::new(&session).await.context("the session bus does not answer")?;
    let mut merger = Merger::new(settings, Instant::now());
    let mut seen_before = false;
    loop {
        let events = tokio::select! {
            events = subscribe() => events,
            () = desktop.watch() => break,
        };
        log::debug!("listening to peernixd");
        if seen_before {
            merger.quiet(Instant::now());
        }
        seen_before = true;
        if follow(events, &mut merger, &mut desktop).await.is_break() {
            break;
        }
        log::debug!("peernixd is gone");
    }
    log::debug!("the session has ended");
    Ok(())
}

/// Waits until the service can be listened to.
async fn subscribe() -> Events {
    loop {
        match try_subscribe().await {
            Ok(events) => return events,
            // Nothing to bother anyone with.
            Err(error) => log::debug!("peernixd cannot be listened to: {error}"),
        }
        // Nothing tells when a bus comes back, or a place among the listeners is free.
        tokio::time::sleep(RETRY).await;
    }
}

async fn try_subscribe() -> Outcome<Events> {
    dbus::wait_for_service(&Bus::System).await?;
    let client = Client::connect(Bus::System).await?;
    let kinds =
        vec![EventKind::PeerStateChanged, EventKind::TrustViolation, EventKind::KeyRotated, EventKind::ReloadFailed];
    client.events(EventFilter { kinds, after: None }).await
}

/// Carries events to the desktop until the service is gone (continue) or the session (break).
async fn follow(mut events: Events, merger: &mut Merger, desktop: &mut Desktop) -> ControlFlow<()> {
    let mut clocks = Clocks::look();
    loop {
        let due = merger.next_due();
        let event = tokio::select! {
            event = events.next() => match event {
                Some(Ok(EventItem::Event(event))) => Some(event),
                Some(Ok(EventItem::Ready { .. } | EventItem::Dropped { .. })) => None,
                Some(Err(_)) | None => return ControlFlow::Continue(()),
            },
            () = until(due) => None,
            () = desktop.watch() => return ControlFlow::Break(()),
        };
        let now = Instant::now();
        if clocks.slept() {
            merger.quiet(now);
        }
        for notice in [event.and_then(|event| merger.take(&event, now)), merger.due(now)].into_iter().flatten() {
            desktop.show(&notice).await;
        }
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

/// Two clocks, of which one stands still while the machine sleeps.
struct Clocks(SystemTime, Instant);

impl Clocks {
    fn look() -> Self {
        Self(SystemTime::now(), Instant::now())
    }

    /// Whether the machine slept since the last look.
    fn slept(&mut self) -> bool {
        let before = std::mem::replace(self, Self::look());
        let wall = self.0.duration_since(before.0).unwrap_or_default();
        wall > self.1.duration_since(before.1) + SLEPT
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_sleep_is_noticed_once() {
        let mut clocks = Clocks::look();
        assert!(!clocks.slept());
        clocks.0 -= SLEPT + Duration::from_secs(5);
        assert!(clocks.slept() && !clocks.slept());
    }
}
