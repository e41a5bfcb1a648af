//! Long texts go through a pager, when a person is there to turn the pages.

use std::io::{self, Write as _};
use std::process::{Command, Stdio};

/// The pagers to try when nobody names one.
const USUAL: [&str; 2] = ["less", "more"];
/// How `less` behaves, as under systemd's tools: ends at once what fits the screen, keeps colours, cuts long lines.
const LESS: &str = "FRSXMK";

/// Shows a text in the pager that the environment names, else a usual one. False if there is none to be had.
pub(super) fn show(text: &str) -> io::Result<bool> {
    let named = ["SYSTEMD_PAGER", "PAGER"].into_iter().find_map(|name| std::env::var(name).ok());
    let candidates: Vec<String> = match named.as_deref().map(str::trim) {
        Some("" | "cat") => return Ok(false),
        Some(named) => vec![named.to_owned()],
        None => USUAL.map(str::to_owned).to_vec(),
    };
    for candidate in candidates {
        // Split at blanks, as systemd does; no shell has a say in it.
        let mut words = candidate.split_whitespace();
        let Some(program) = words.next() else { continue };
        let less = std::env::var("SYSTEMD_LESS").unwrap_or_else(|_| LESS.to_owned());
        let mut command = Command::new(program);
        // Secure: whoever may look at the peers as root may not open files or a shell from there.
        command.args(words).env("LESS", less).env("LESSSECURE", "1").stdin(Stdio::piped());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if let Some(mut stdin) = child.stdin.take() {
            // A person who has seen enough closes it.
            match stdin.write_all(text.as_bytes()) {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
                _ => {}
            }
        }
        child.wait()?;
        return Ok(true);
    }
    Ok(false)
}
