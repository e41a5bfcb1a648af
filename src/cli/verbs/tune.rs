//! `peernixctl tune`: from this machine's hardware to settings of Nix and NixOS.

mod plan;

use crate::cli::error::{Done, VerbError};
use crate::cli::output::{Screen, size};
use plan::{Hardware, Profile};
use serde_json::json;
use std::path::Path;

/// Where the store is.
const STORE: &str = "/nix/store";

/// The arguments of `tune`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Print a module of NixOS for this machine, or for one with other hardware; nothing is changed
    Plan {
        /// Its memory, such as 4GiB
        #[arg(long, value_name = "SIZE", value_parser = super::values::size)]
        ram: Option<u64>,
        /// Its processors
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
        cores: Option<u64>,
        /// The disk of its store, such as 250GB
        #[arg(long, value_name = "SIZE", value_parser = super::values::size)]
        disk: Option<u64>,
        /// What kind of machine it is
        #[arg(long, value_enum, default_value = "auto")]
        profile: Profile,
    },
}

/// Needs no service.
pub(crate) fn run(args: &Args, screen: &Screen) -> Done<()> {
    let Verb::Plan { ram, cores, disk, profile } = &args.verb;
    let known = |given: &Option<u64>, found: fn() -> Option<u64>, option: &str| {
        given.or_else(found).ok_or_else(|| VerbError::Usage(format!("this system does not say: give --{option}")))
    };
    let hardware = Hardware {
        ram: known(ram, memory, "ram")?,
        cores: known(cores, processors, "cores")?,
        disk: known(disk, disk_of_store, "disk")?,
    };
    let settings = plan::plan(hardware, *profile);
    screen.page(&json!({ "hardware": hardware, "profile": profile, "settings": settings }), || {
        let head = format!(
            "For {} of memory, {} processors and a disk of {}: `peernixctl tune plan` makes it anew.",
            size(hardware.ram),
            hardware.cores,
            size(hardware.disk)
        );
        plan::module(&head, &settings)
    })
}

/// Memory, in bytes.
fn memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"))?;
    Some(line.trim().parse::<u64>().ok()? * 1024)
}

fn processors() -> Option<u64> {
    std::thread::available_parallelism().ok().map(|count| count.get() as u64)
}

/// The disk of the store, or of the machine if there is none yet, in bytes.
fn disk_of_store() -> Option<u64> {
    let place = if Path::new(STORE).exists() { STORE } else { "/" };
    let disk = nix::sys::statvfs::statvfs(place).ok()?;
    Some(disk.blocks().saturating_mul(disk.fragment_size()))
}
