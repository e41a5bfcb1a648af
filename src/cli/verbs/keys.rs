//! `peernixctl keys`: the keys that sign what is built here.

use super::values::span;
use crate::cli::error::{Doing as _, Done};
use crate::cli::output::{Cell, Paint, Screen, Table, count, tame};
use crate::control::{Control, ControlError, ErrorKind, Key, KeyState};
use std::time::Duration;

/// The arguments of `keys`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List the keys (the default)
    List,
    /// Sign with a new key from now on; the one before goes on beside it for a while
    Rotate {
        /// For how long the key before goes on, such as 30d; 0s ends it at once
        #[arg(long, value_name = "TIME", value_parser = span)]
        grace: Option<Duration>,
    },
    /// Never sign with a key again
    Revoke {
        /// Its fingerprint, as `keys list` shows it
        #[arg(value_name = "KEY")]
        key: String,
        /// Why, for other administrators
        #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
        reason: String,
    },
    /// Print public keys, as trusted-public-keys of other machines takes them
    Export {
        /// This key, by its fingerprint or its name; else all that sign
        #[arg(value_name = "KEY")]
        key: Option<String>,
    },
}

impl Args {
    /// Whether this changes something, so that somebody may have to authenticate.
    pub(super) const fn changes(&self) -> bool {
        matches!(self.verb, Some(Verb::Rotate { .. } | Verb::Revoke { .. }))
    }
}

pub(super) async fn run(args: Args, control: &dyn Control, screen: &Screen) -> Done<()> {
    match args.verb.unwrap_or(Verb::List) {
        Verb::List => {
            let keys = control.keys().await.doing("list the keys")?;
            screen.page(&keys, || table(&keys, screen))
        }
        Verb::Rotate { grace } => {
            let rotation = control.rotate_key(grace).await.doing("rotate the key")?;
            screen.show(&rotation, || {
                let new = &rotation.new;
                let mut text = format!("{} signs from now on. Its public half, for other machines:\n", tame(&new.name));
                text.push_str(&format!("{}\n", tame(&new.public_key)));
                if let Some(old) = &rotation.old {
                    let name = tame(&old.name);
                    text.push_str(&match old.expires_timestamp {
                        Some(end) => format!("{name} signs beside it until {}.\n", screen.clock.date(end)),
                        None => format!("{name} signs no more.\n"),
                    });
                }
                text
            })
        }
        Verb::Revoke { key, reason } => {
            let done = control.revoke_key(&key, &reason).await.doing(format!("revoke key '{}'", tame(&key)))?;
            let key = tame(&key);
            screen.changed(done, &format!("Revoked {key}."), &format!("{key} is revoked already."))?;
            if done {
                screen.note("Other machines trust it until `peernixctl trust remove` is said there.");
            }
            Ok(())
        }
        Verb::Export { key } => export(key.as_deref(), control, screen).await,
    }
}

async fn export(wanted: Option<&str>, control: &dyn Control, screen: &Screen) -> Done<()> {
    let doing = "export the keys";
    let keys = control.keys().await.doing(doing)?;
    let matches = |key: &&Key| match wanted {
        Some(wanted) => key.fingerprint == wanted || key.name == wanted,
        None => matches!(key.state, KeyState::Active | KeyState::Grace),
    };
    let found: Vec<&Key> = keys.iter().filter(matches).collect();
    if let (Some(wanted), true) = (wanted, found.is_empty()) {
        let message = format!("no key has the fingerprint or name '{}'", tame(wanted));
        return Err(ControlError::new(ErrorKind::NoSuchKey, message)).doing(doing);
    }
    let public: Vec<&str> = found.iter().map(|key| key.public_key.as_str()).collect();
    if public.is_empty() {
        screen.note("Nothing is signed here: there is no key.");
    }
    screen.show(&public, || public.iter().map(|key| format!("{}\n", tame(key))).collect())
}

fn table(keys: &[Key], screen: &Screen) -> String {
    if keys.is_empty() {
        return if screen.legend && !screen.quiet {
            "No keys: what is built here is not signed. `peernixctl keys rotate` makes one.\n".to_owned()
        } else {
            String::new()
        };
    }
    let mut table = Table::new(&["", "~NAME", "FINGERPRINT", "STATE", "-MANAGED", "-CREATED", "EXPIRES"]);
    for key in keys {
        let (dot, paint) = match key.state {
            KeyState::Active => ("●", Paint::Good),
            KeyState::Grace => ("●", Paint::Warning),
            KeyState::Retired => ("○", Paint::Faint),
            KeyState::Revoked => ("×", Paint::Bad),
        };
        table.row(vec![
            Cell::new(dot).paint(paint),
            Cell::new(&key.name),
            Cell::new(&key.fingerprint),
            Cell::new(key.state.as_str()).paint(paint),
            Cell::new(key.managed.as_str()),
            Cell::known(key.created_timestamp.map(|time| screen.clock.ago(time))),
            Cell::known(key.expires_timestamp.map(|time| screen.clock.ago(time))),
        ]);
    }
    screen.table(&table, &format!("{} listed.", count(keys.len() as u64, "key")))
}
