//! The desktop notifier: a program of each user that listens to the service and tells the user's desktop.
//!
//! A service of the system must not talk to the sessions of users; so it tells what happens on the system bus, and this
//! program, which runs with the rights of the user, carries it to the session bus. It listens to the owner of our bus name
//! alone. Without a notification server it stays silent.
#![forbid(unsafe_code)]

mod desktop;
mod merge;
mod settings;

use crate::control::dbus::{Bus, Client};
use crate::control::{Control as _, EventFilter, EventItem, EventKind, Events};
use crate::system::journal;
use anyhow::Context as _;
use clap::Parser;
use desktop::Desktop;
use merge::Merger;
use settings::{Settings, SettingsError};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// How long to wait before the service is looked for again.
const RETRY: Duration = Duration::from_secs(5);
/// A wait that took this much longer than it should means that the machine slept.
const SLEPT: Duration = Duration::from_secs(30);
/// How often that is looked at.
const LOOK: Duration = Duration::from_secs(20);

/// Exit code for settings that make no sense (`EX_CONFIG`): restarting will not help.
const CONFIG: u8 = 78;

/// Tells the desktop of peers that come and go, and of what needs somebody's attention.
#[derive(Debug, Parser)]
#[command(name = "peernix-notifier", version)]
pub struct Args {
    /// Read these settings instead of ~/.config/peernix/notifier.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Say what is wrong with the settings, and end
    #[arg(long)]
    check_config: bool,
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let args = Args::parse();
    journal::start(log::LevelFilter::Info);
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
    let session = zbus::Connection::session().await.context("there is no session bus")?;
    let mut desktop = Desktop::new(&session).await?;
    let mut merger = Merger::new(settings, Instant::now());
    let mut seen_before = false;
    loop {
        match subscribe().await {
            Ok(events) => {
                log::debug!("listening to peernixd");
                if seen_before {
                    merger.quiet(Instant::now());
                }
                seen_before = true;
                follow(events, &mut merger, &mut desktop).await;
                log::debug!("peernixd is gone");
            }
            // It is not there yet, or not any more: nothing to bother anyone with.
            Err(error) => log::debug!("{error}"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn subscribe() -> Result<Events, crate::control::ControlError> {
    let client = Client::connect(Bus::System).await?;
    let kinds =
        vec![EventKind::PeerStateChanged, EventKind::TrustViolation, EventKind::KeyRotated, EventKind::ReloadFailed];
    client.events(EventFilter { kinds, after: None }).await
}

/// Carries events to the desktop until there are no more.
async fn follow(mut events: Events, merger: &mut Merger, desktop: &mut Desktop) {
    let mut clock = tokio::time::interval(LOOK);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The clock of tokio stands still while the machine sleeps; the clock of the wall does not.
    let mut last_look = std::time::SystemTime::now();
    loop {
        let due = merger.next_due().map_or_else(|| Instant::now() + LOOK, |due| due);
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(EventItem::Event(event))) => {
                    if let Some(notice) = merger.take(&event, Instant::now()) {
                        desktop.show(&notice).await;
                    }
                }
                Some(Ok(EventItem::Ready { .. } | EventItem::Dropped { .. })) => {}
                Some(Err(_)) | None => return,
            },
            () = tokio::time::sleep_until(due.into()) => {}
            _ = clock.tick() => {
                let slept = last_look.elapsed().is_ok_and(|elapsed| elapsed > LOOK + SLEPT);
                last_look = std::time::SystemTime::now();
                if slept {
                    merger.quiet(Instant::now());
                }
            }
        }
        if let Some(notice) = merger.due(Instant::now()) {
            desktop.show(&notice).await;
        }
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
}
