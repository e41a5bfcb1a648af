//! `peernixctl pin`, `unpin` and `pins`.

use super::values::span;
use crate::cli::error::{Doing as _, Done, VerbError};
use crate::cli::output::{Cell, Screen, Table, count, tame};
use crate::cli::store_path;
use crate::cli::store_path::base_name;
use crate::control::{Control, PinRequest};
use std::time::Duration;

/// The arguments of `pin`.
#[derive(Debug, clap::Args)]
pub(crate) struct Pin {
    /// A store path, its base name or its hash, or a link such as ./result
    #[arg(value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
    path: String,
    /// Why, for other administrators
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Until this date, such as 2026-12-24 or "2026-12-24 18:00"; else for ever
    #[arg(long, value_name = "DATE", conflicts_with = "span")]
    until: Option<String>,
    /// For so long, such as 2h or 30d
    #[arg(id = "span", long = "for", value_name = "TIME", value_parser = span)]
    span: Option<Duration>,
    /// On how many machines of the fleet it shall be, this one included; else as the configuration says
    #[arg(long, value_name = "NUMBER")]
    copies: Option<u32>,
}

/// The arguments of `unpin`.
#[derive(Debug, clap::Args)]
pub(crate) struct Unpin {
    /// A store path, its base name or its hash, or a link such as ./result
    #[arg(value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
    pin: String,
}

pub(super) async fn pin(args: Pin, control: &dyn Control, local: bool, screen: &Screen) -> Done<()> {
    let path = store_path::meant(&args.path, local)?;
    let date = |text: &String| {
        let wrong =
            || VerbError::Usage(format!("{}: not a date such as 2026-12-24 or \"2026-12-24 18:00\"", tame(text)));
        screen.clock.parse(text).ok_or_else(wrong)
    };
    let until_timestamp = match args.span {
        Some(span) => Some(screen.clock.after(span)),
        None => args.until.as_ref().map(date).transpose()?,
    };
    let request = PinRequest { path: path.clone(), reason: args.reason, until_timestamp, copies: args.copies };
    let new = control.pin(request).await.doing(format!("pin {path}"))?;
    screen.changed(new, &format!("Pinned {path}."), &format!("{path} is pinned like this already."))
}

pub(super) async fn unpin(args: &Unpin, control: &dyn Control, local: bool, screen: &Screen) -> Done<()> {
    let path = store_path::meant(&args.pin, local)?;
    let was = control.unpin(&path).await.doing(format!("unpin {path}"))?;
    screen.changed(was, &format!("Unpinned {path}."), &format!("{path} is not pinned."))
}

pub(super) async fn list(control: &dyn Control, screen: &Screen) -> Done<()> {
    let pins = control.pins().await.doing("list the pins")?;
    screen.page(&pins, || {
        if pins.is_empty() {
            return if screen.legend && !screen.quiet { "Nothing is pinned.\n".to_owned() } else { String::new() };
        }
        let mut table = Table::new(&["~PATH", "SINCE", "UNTIL", ">COPIES", "~REASON"]);
        for pin in &pins {
            table.row(vec![
                Cell::new(if screen.full { &pin.path } else { base_name(&pin.path) }),
                Cell::new(screen.clock.ago(pin.since_timestamp)),
                Cell::new(pin.until_timestamp.map_or_else(|| "unpinned".to_owned(), |until| screen.clock.ago(until))),
                Cell::known(pin.copies.map(|copies| copies.to_string())),
                Cell::known(Some(&pin.reason)),
            ]);
        }
        screen.table(&table, &format!("{} listed.", count(pins.len() as u64, "pin")))
    })
}
