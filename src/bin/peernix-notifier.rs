//! The desktop notifier. See `peernix::notifier`.

use std::process::ExitCode;

fn main() -> ExitCode {
    peernix::notifier::main()
}
