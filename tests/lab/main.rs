//! The lab: several hosts on one machine, each with its own network, store and real Nix, on which `peernixd` has to prove
//! what it promises.
//!
//! `cargo test --test lab -- [FILTER…] [--list] [--long] [--jobs N]`. Every case starts from nothing; what it needs and the
//! machine lacks makes it SKIPPED, or a failure under `PEERNIX_LAB_REQUIRE=all`. Figures go to `target/lab/report.json`,
//! logs to `target/lab/logs/CASE/`. `scripts/setup` installs what is needed.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a test runner talks to its terminal")]

mod byte_server;
mod cases;
mod control;
mod ctx;
mod distance;
mod host;
mod http;
mod internet;
mod liar;
mod nar;
mod nats;
mod needs;
mod network;
mod peer;
mod process;
mod real_nix;
mod report;
mod runner;
mod store;
mod swarm;
mod tls;
mod wait;
mod world;

use std::process::ExitCode;

fn main() -> ExitCode {
    match runner::main() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}
