//! `peernixctl gc`.

use super::jobs;
use super::values::{size, span};
use crate::cli::error::{Doing as _, Done};
use crate::cli::output::{Screen, count, progress, size as told};
use crate::control::{Control, GarbageOptions, microseconds};
use std::time::Duration;

/// The arguments of `gc`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only say what would go
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Stop after so much was freed, such as 10GiB
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_freed: Option<u64>,
    /// Only paths that came into the store longer ago than this, such as 30d
    #[arg(long, value_name = "TIME", value_parser = span)]
    older_than: Option<Duration>,
    /// Do not wait for the end
    #[arg(long)]
    no_block: bool,
}

pub(super) async fn run(args: &Args, control: &dyn Control, screen: &Screen) -> Done<()> {
    let options = GarbageOptions {
        dry_run: args.dry_run,
        max_freed: args.max_freed,
        older_than_usec: args.older_than.map(microseconds),
    };
    let job = control.collect_garbage(options).await.doing("collect garbage")?;
    if args.no_block {
        return jobs::begun(&job, screen);
    }
    let ended = progress::until_done(control, screen, job).await;
    jobs::ended(control, ended, screen, |job, paths, screen| {
        // What is gone is gone; what would go is to be read.
        let mut text = if job.dry_run { jobs::paths_table(paths, screen) } else { String::new() };
        let (number, bytes) = (count(job.paths, "path"), told(job.bytes));
        if !job.dry_run {
            text.push_str(&format!("Deleted {number}, freed {bytes}.\n"));
        } else if job.paths == 0 {
            text.push_str("Nothing would be deleted.\n");
        } else if screen.legend {
            text.push_str(&format!("{number}, {bytes} would be deleted. Nothing was.\n"));
        }
        text
    })
    .await
}
