//! The administrator's tool.

use std::process::ExitCode;

fn main() -> ExitCode {
    peernix::cli::peernixctl::main()
}
