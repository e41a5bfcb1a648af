//! `peernixctl drain`, `undrain`, `offline`, `reload` and `log-level`.

use super::values::{level as level_parser, span};
use crate::cli::error::{Doing as _, Done, VerbError};
use crate::cli::exit;
use crate::cli::output::{Screen, complain, tame, tame_lines};
use crate::control::{Control, LogLevel};
use serde_json::json;
use std::time::Duration;

/// The arguments of `drain`.
#[derive(Debug, clap::Args)]
pub(crate) struct Drain {
    /// Take work again by itself after this time, such as 10min
    #[arg(long = "for", value_name = "TIME", value_parser = span)]
    limit: Option<Duration>,
}

/// The arguments of `log-level`.
#[derive(Debug, clap::Args)]
pub(crate) struct Level {
    /// Log this from now on, until the service ends or reads its configuration again
    #[arg(value_name = "LEVEL", value_parser = level_parser())]
    level: Option<LogLevel>,
}

/// The arguments of `offline`.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Offline {
    /// Whether nobody is to be asked, until the service ends
    #[arg(value_name = "on|off", value_enum, hide_possible_values = true)]
    switch: Switch,
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Switch {
    On,
    Off,
}

impl Level {
    /// Whether this changes something, so that somebody may have to authenticate.
    pub(super) const fn changes(&self) -> bool {
        self.level.is_some()
    }
}

pub(super) async fn drain(args: &Drain, control: &dyn Control, screen: &Screen) -> Done<()> {
    let new = control.drain(args.limit).await.doing("drain the service")?;
    screen.changed(new, "Takes no new work; what is under way goes on.", "Took no new work already.")
}

pub(super) async fn undrain(control: &dyn Control, screen: &Screen) -> Done<()> {
    let new = control.undrain().await.doing("undrain the service")?;
    screen.changed(new, "Takes new work again.", "Took new work already.")
}

pub(super) async fn offline(args: Offline, control: &dyn Control, screen: &Screen) -> Done<()> {
    if args.switch == Switch::On {
        let new = control.set_offline(true).await.doing("ask nobody any more")?;
        screen.changed(
            new,
            "Asks nobody from now on, until `peernixctl offline off` or a restart.",
            "Asked nobody already.",
        )
    } else {
        let new = control.set_offline(false).await.doing("ask others again")?;
        screen.changed(new, "Asks peers and upstreams again.", "Asked peers and upstreams already.")
    }
}

pub(super) async fn reload(control: &dyn Control, screen: &Screen) -> Done<()> {
    let reload = control.reload().await.doing("reload the configuration")?;
    screen.show(&reload, || {
        if screen.quiet || !reload.success { String::new() } else { "Read the configuration again.\n".to_owned() }
    })?;
    if !reload.success {
        let reason = reload.error.as_deref().unwrap_or("no reason was given");
        complain(&format!("Failed to reload the configuration: {}", tame_lines(reason)));
        complain("The configuration before stays in force.");
        return Err(VerbError::Ended(exit::FAILURE));
    }
    if !reload.restart_needed.is_empty() {
        let sections: Vec<String> =
            reload.restart_needed.iter().map(|section| format!("[{}]", tame(section))).collect();
        screen.note(&format!("Changes in {} need `systemctl restart peernix`.", sections.join(", ")));
    }
    Ok(())
}

pub(super) async fn level(args: &Level, control: &dyn Control, screen: &Screen) -> Done<()> {
    let level = match args.level {
        Some(level) => {
            control.set_log_level(level).await.doing("change what is logged")?;
            level
        }
        None => control.log_level().await.doing("show what is logged")?,
    };
    let text = || if args.level.is_some() { String::new() } else { format!("{level}\n") };
    screen.show(&json!({ "logLevel": level }), text)
}
