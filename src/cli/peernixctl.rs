//! The command line of `peernixctl`.

use super::client::{self, ClientError};
use super::{demo, exit, output, peers, status};
use clap::{Parser, Subcommand};
use std::net::SocketAddr;
use std::process::ExitCode;

/// Looks at the peernixd of this machine.
#[derive(Debug, Parser)]
#[command(name = "peernixctl", version, after_help = AFTER_HELP)]
struct Args {
    /// Print JSON: the stable interface; the text is for people and may change
    #[arg(short = 'j', long, global = true)]
    json: bool,
    /// Ask the gateway at this address instead of looking for it
    #[arg(long, global = true, value_name = "ADDRESS:PORT")]
    gateway: Option<SocketAddr>,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show whether peernixd runs and how it does (the default)
    Status,
    /// List the other machines that it knows
    Peers,
    /// Let three throwaway machines on loopback exchange store paths, kill one half-way, and report
    Demo(demo::Args),
}

const AFTER_HELP: &str = "Exit codes: 0 done, 1 it did not work, 2 usage, 3 peernixd does not run, 130 interrupted.";

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version come this way too, on stdout.
            let _ = error.print();
            return if error.use_stderr() { exit::CTL_USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    match run(args) {
        Ok(code) => code.into(),
        Err(error) => {
            output::complain(&format!("peernixctl: {error:#}"));
            match error.downcast_ref::<ClientError>() {
                Some(ClientError::NotRunning(_)) => {
                    output::complain("Start it with `peernixd`, or name its address with --gateway.");
                    exit::NOT_RUNNING.into()
                }
                _ => exit::FAILURE.into(),
            }
        }
    }
}

fn run(args: Args) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let gateways = || client::gateways(args.gateway);
    runtime.block_on(async {
        match args.verb.unwrap_or(Verb::Status) {
            Verb::Status => status::run(&gateways(), args.json).await,
            Verb::Peers => peers::run(&gateways(), args.json).await,
            Verb::Demo(demo) => demo::run(demo, args.json).await,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
        assert!(Args::try_parse_from(["peernixctl", "peers", "--json"]).unwrap().json);
        assert!(Args::try_parse_from(["peernixctl", "--gateway", "localhost"]).is_err());
    }
}
