//! The verbs of `peernixctl`: one file a group, each with its arguments, what it asks, and how the answer looks.

pub(super) mod backup;
mod bench;
pub(super) mod completion;
pub(super) mod doctor;
pub(super) mod explain;
mod fleet;
pub(super) mod forget;
mod garbage;
mod jobs;
mod keys;
pub(super) mod link;
mod monitor;
mod paths;
mod peers;
mod pins;
mod report;
mod service;
mod statistics;
pub(super) mod status;
mod top;
mod trust;
pub(super) mod tune;
mod values;

use super::error::Done;
use super::output::Screen;
use crate::control::Control;
use completion::{Candidates, Shell};

/// What can be done.
#[derive(Debug, Default, clap::Subcommand)]
pub(super) enum Verb {
    /// Show how the service is (the default); never starts it
    #[default]
    Status,
    /// The other machines: list, show, add, forget, block, unblock, ping, refresh
    Peers(peers::Args),
    /// Tell whether a peer can be asked: exit code 0 if so, 3 if not, 4 if nobody knows it
    IsOnline(peers::One),
    /// Tell who has a path, and whether this machine would serve it, to whom, or why not
    Query(paths::Query),
    /// Get paths with all that they refer to into this machine's store
    Fetch(paths::Fetch),
    /// Have Nix forget what the gateway answered, so that it asks again
    Forget(forget::Args),
    /// Keep a path from being collected
    Pin(pins::Pin),
    /// Let a pinned path be collected again
    Unpin(pins::Unpin),
    /// List what is pinned
    Pins,
    /// Delete what nothing needs from the store
    Gc(garbage::Args),
    /// Work that takes its time: list, show, cancel
    Jobs(jobs::Args),
    /// The keys that sign what is built here: list, rotate, revoke, export
    Keys(keys::Args),
    /// The keys whose signatures let a path in: list, add, remove
    Trust(trust::Args),
    /// The machines of one administrator: show, init, invite, join, enroll, revoke
    Fleet(fleet::Args),
    /// Show what the service did, or begin to count anew
    Stats(statistics::Args),
    /// Show what moves, as it moves
    Top(top::Args),
    /// Show what it is good for, day by day, against what it should be: report, save, compare
    Report(report::Args),
    /// Measure the lines to peers, the gateway, or Nix: net, cache, build
    Bench(bench::Args),
    /// Two machines on one cable: plan, test
    Link(link::Args),
    /// Show what happens as it happens
    Monitor(monitor::Args),
    /// Take no new work, so that Nix and peers turn to others
    Drain(service::Drain),
    /// Take new work again
    Undrain,
    /// Ask nobody for anything, so that what is not here is missed at once; or ask again
    Offline(service::Offline),
    /// Read the configuration again; a wrong one changes nothing
    Reload,
    /// Show what is logged, or log more or less until the service ends
    LogLevel(service::Level),
    /// Look whether all is set up as it should be, and say what to do
    #[command(alias = "verify")]
    Doctor,
    /// Say what a finding of doctor means; or of a path, who has it, whether it would be shared, how it came, and what Nix remembers
    Explain(explain::Args),
    /// Print settings of Nix and NixOS that suit this machine's hardware, or another's
    Tune(tune::Args),
    /// Keep identity, keys and decisions of this machine in an encrypted file
    Backup(backup::Backup),
    /// Put such a file in the place of what this machine has; the service must not run
    Restore(backup::Restore),
    /// Print the completions for a shell
    #[command(alias = "completions")]
    Completion {
        /// Which shell
        shell: Shell,
    },
    /// Print the versions of this program and of the service
    Version,
    /// Join stdin and stdout with the socket of the service, for `--host`
    #[command(name = super::connect::BRIDGE, hide = true)]
    Bridge {
        /// Only if the service runs
        #[arg(long)]
        never_start: bool,
    },
    /// Print what can be completed with
    #[command(name = "__complete", hide = true)]
    Complete {
        /// Names of what
        what: Candidates,
    },
}

impl Verb {
    /// Whether it changes something, so that somebody may have to authenticate.
    pub(super) const fn changes(&self) -> bool {
        match self {
            Self::Peers(args) => args.changes(),
            Self::Jobs(args) => args.changes(),
            Self::Keys(args) => args.changes(),
            Self::Trust(args) => args.changes(),
            Self::Fleet(args) => args.changes(),
            Self::Stats(args) => args.changes(),
            Self::LogLevel(args) => args.changes(),
            Self::Link(args) => args.needs_service(),
            Self::Fetch(_)
            | Self::Pin(_)
            | Self::Unpin(_)
            | Self::Gc(_)
            | Self::Drain(_)
            | Self::Undrain
            | Self::Offline(_)
            | Self::Reload
            | Self::Bench(_) => true,
            Self::Status
            | Self::IsOnline(_)
            | Self::Query(_)
            | Self::Forget(_)
            | Self::Pins
            | Self::Monitor(_)
            | Self::Doctor
            | Self::Explain(_)
            | Self::Tune(_)
            | Self::Top(_)
            | Self::Report(_)
            | Self::Backup(_)
            | Self::Restore(_)
            | Self::Completion { .. }
            | Self::Version
            | Self::Bridge { .. }
            | Self::Complete { .. } => false,
        }
    }

    /// Whether it may start a service that does not run. What asks about the service's own state must not.
    pub(super) const fn may_start(&self) -> bool {
        !matches!(
            self,
            Self::IsOnline(_) | Self::Undrain | Self::LogLevel(_) | Self::Monitor(_) | Self::Jobs(_) | Self::Top(_)
        )
    }
}

/// Does what needs the service. `local`: it is that of this machine.
pub(super) async fn run(verb: Verb, control: &dyn Control, local: bool, screen: &Screen) -> Done<()> {
    match verb {
        Verb::Peers(args) => peers::run(args, control, screen).await,
        Verb::IsOnline(args) => peers::is_online(&args, control, screen).await,
        Verb::Query(args) => paths::query(&args, control, local, screen).await,
        Verb::Explain(args) => explain::path(&args, control, local, screen).await,
        Verb::Fetch(args) => paths::fetch(&args, control, local, screen).await,
        Verb::Pin(args) => pins::pin(args, control, local, screen).await,
        Verb::Unpin(args) => pins::unpin(&args, control, local, screen).await,
        Verb::Pins => pins::list(control, screen).await,
        Verb::Gc(args) => garbage::run(&args, control, screen).await,
        Verb::Jobs(args) => jobs::run(args, control, screen).await,
        Verb::Keys(args) => keys::run(args, control, screen).await,
        Verb::Trust(args) => trust::run(args, control, screen).await,
        Verb::Fleet(args) => fleet::run(args, control, screen).await,
        Verb::Stats(args) => statistics::run(&args, control, screen).await,
        Verb::Top(args) => top::run(&args, control, screen).await,
        Verb::Report(args) => report::run(&args, control, local, screen).await,
        Verb::Bench(args) => bench::run(&args, control, local, screen).await,
        Verb::Link(args) => link::test(&args, control, screen).await,
        Verb::Monitor(args) => monitor::run(&args, control, screen).await,
        Verb::Drain(args) => service::drain(&args, control, screen).await,
        Verb::Undrain => service::undrain(control, screen).await,
        Verb::Offline(args) => service::offline(args, control, screen).await,
        Verb::Reload => service::reload(control, screen).await,
        Verb::LogLevel(args) => service::level(&args, control, screen).await,
        // These are done without the service, before this is asked.
        Verb::Status
        | Verb::Doctor
        | Verb::Tune(_)
        | Verb::Backup(_)
        | Verb::Restore(_)
        | Verb::Forget(_)
        | Verb::Version
        | Verb::Completion { .. }
        | Verb::Bridge { .. }
        | Verb::Complete { .. } => Ok(()),
    }
}
