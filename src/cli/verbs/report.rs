//! `peernixctl report`: what the service is good for, against what it should be good for; and against an earlier day.

mod baseline;
mod figures;
mod optimised;

use crate::cli::error::{Doing as _, Done, VerbError};
use crate::cli::output::{Cell, Paint, Screen, Table, count};
use crate::control::Control;
use baseline::Baseline;
use figures::{Figure, Observed, Verdict};
use serde_json::json;
use std::path::PathBuf;

/// The arguments of `report`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    /// Over how many days
    #[arg(long, value_name = "COUNT", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=400))]
    days: u32,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Keep the figures as they are now, to compare with later
    Save {
        /// Where; left out in this user's state directory
        file: Option<PathBuf>,
    },
    /// Show the figures beside those that were kept
    Compare {
        /// Where they are
        file: Option<PathBuf>,
    },
}

pub(crate) async fn run(args: &Args, control: &dyn Control, local: bool, screen: &Screen) -> Done<()> {
    let observed = Observed {
        days: control.history().await.doing("read the history")?,
        statistics: control.statistics().await.doing("read the statistics")?,
        // Of another machine nobody here can look at the store.
        optimised: if local { tokio::task::spawn_blocking(optimised::saved).await.ok().flatten() } else { None },
    };
    let figures = figures::all(&observed, args.days);
    match &args.verb {
        None => screen.page(&json!({ "days": args.days, "figures": figures }), || table(&figures, screen)),
        Some(Verb::Save { file }) => {
            let file = place(file.as_ref())?;
            let now = Baseline::of(&figures, screen.clock.after(std::time::Duration::ZERO));
            now.write(&file).map_err(|error| VerbError::other(format!("write {}", file.display()), error))?;
            let text = || format!("Kept in {}.\n", file.display());
            screen.show(&json!({ "file": file, "figures": figures }), text)
        }
        Some(Verb::Compare { file }) => {
            let file = place(file.as_ref())?;
            let before =
                Baseline::read(&file).map_err(|error| VerbError::other(format!("read {}", file.display()), error))?;
            let compared = before.beside(&figures);
            screen.page(&json!({ "before": before.timestamp, "figures": compared }), || {
                let mut table = Table::new(&["~FIGURE", ">BEFORE", ">NOW", ">TARGET", ""]);
                for (figure, then) in &compared {
                    table.row(vec![
                        Cell::new(figure.what),
                        Cell::known(then.map(|value| figure.unit.written(value))),
                        Cell::known(figure.value.map(|value| figure.unit.written(value))),
                        Cell::known(figure.target()),
                        verdict(figure.verdict),
                    ]);
                }
                let since = format!(
                    "Before: {} ({}).",
                    screen.clock.date(before.timestamp),
                    screen.clock.ago(before.timestamp)
                );
                screen.table(&table, &since)
            })
        }
    }
}

fn table(figures: &[Figure], screen: &Screen) -> String {
    let mut table = Table::new(&["~FIGURE", ">NOW", ">TARGET", "", "-~REMARK"]);
    for figure in figures {
        table.row(vec![
            Cell::new(figure.what),
            Cell::known(figure.value.map(|value| figure.unit.written(value))),
            Cell::known(figure.target()),
            verdict(figure.verdict),
            Cell::new(figure.remark.as_deref().unwrap_or_default()).paint(Paint::Faint),
        ]);
    }
    let missed = figures.iter().filter(|figure| figure.verdict == Verdict::Missed).count() as u64;
    let footer = match missed {
        0 => "No target is missed.".to_owned(),
        _ => format!("{} missed.", count(missed, "target")),
    };
    screen.table(&table, &footer)
}

fn verdict(verdict: Verdict) -> Cell {
    match verdict {
        Verdict::Met => Cell::new("met").paint(Paint::Good),
        Verdict::Missed => Cell::new("missed").paint(Paint::Bad),
        Verdict::Unknown => Cell::new(""),
    }
}

/// Where figures are kept if nobody says.
fn place(given: Option<&PathBuf>) -> Done<PathBuf> {
    if let Some(given) = given {
        return Ok(given.clone());
    }
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = variable("XDG_STATE_HOME").or_else(|| Some(variable("HOME")?.join(".local/state")));
    let none = || VerbError::Usage("neither XDG_STATE_HOME nor HOME is set: name a file".to_owned());
    Ok(state.ok_or_else(none)?.join("peernix/baseline.json"))
}
