//! The service.

use std::process::ExitCode;

fn main() -> ExitCode {
    peernix::cli::peernixd::main()
}
