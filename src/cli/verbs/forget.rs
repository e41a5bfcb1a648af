//! `peernixctl forget`: has Nix forget what the gateway answered, so that it asks again.

use crate::cli::error::{Done, VerbError};
use crate::cli::nix_memory::{self, Closed};
use crate::cli::output::{Screen, complain, count};
use crate::cli::{exit, store_path};
use crate::nix::{StoreHash, StorePath};
use nix::unistd::User;
use serde::{Deserialize, Serialize};
use std::process::{Command, Stdio};

/// The arguments of `forget`.
#[derive(Debug, clap::Args)]
#[command(after_help = "A process of Nix that runs goes on with what it knows until it ends.")]
pub(crate) struct Args {
    /// Store paths, their base names or hashes
    #[arg(value_name = "PATH", required_unless_present = "all", value_hint = clap::ValueHint::AnyPath)]
    paths: Vec<String>,
    /// Everything that the gateway answered, its priority included (but not with Nix 2.8, which keeps that)
    #[arg(long, conflicts_with = "paths")]
    all: bool,
    /// Only what this user's own Nix remembers, and not the Nix daemon
    #[arg(long)]
    own: bool,
}

/// What was forgotten in one file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Forgotten {
    file: String,
    answers: usize,
}

pub(crate) fn run(args: &Args, screen: &Screen) -> Done<()> {
    let hashes = args.paths.iter().map(|path| hash(path)).collect::<Done<Vec<_>>>()?;
    let gateways = nix_memory::gateways();
    let (files, closed) = if args.own { nix_memory::own_files() } else { nix_memory::files() };
    let mut forgotten = Vec::new();
    let mut failed = Vec::new();
    for cache in files {
        let is_meant = |url: &str| gateways.iter().any(|gateway| nix_memory::is_gateway(url, gateway));
        match cache.forget(is_meant, (!args.all).then_some(&hashes)) {
            Ok(answers) => forgotten.push(Forgotten { file: cache.file().display().to_string(), answers }),
            Err(error) => failed.push(nix_memory::told(&error, cache.file())),
        }
    }
    if let Some(caller) = nix_memory::caller().filter(|_| !args.own) {
        match of_user(&caller, args) {
            Ok(of_caller) => forgotten.extend(of_caller),
            Err(reason) => failed.push(format!("the cache of {}: {reason}", caller.name)),
        }
    }
    screen.show(&forgotten, || render(&forgotten, screen))?;
    tell(&failed, &closed)
}

/// Says what could not be looked at, and fails if there is such.
fn tell(failed: &[String], closed: &[Closed]) -> Done<()> {
    for reason in failed {
        complain(&format!("Failed to have Nix forget: {reason}"));
    }
    for folder in closed {
        complain(&format!("Failed to look into {folder}"));
    }
    if closed.iter().any(Closed::is_denied) {
        complain("There the Nix daemon keeps what it was answered: run this as root (sudo), or with --own.");
        return Err(VerbError::Ended(exit::DENIED));
    }
    if failed.is_empty() && closed.is_empty() { Ok(()) } else { Err(VerbError::Ended(exit::FAILURE)) }
}

/// The hash of what somebody means.
fn hash(text: &str) -> Done<StoreHash> {
    if let Ok(hash) = text.parse() {
        return Ok(hash);
    }
    let path = store_path::meant(text, true)?;
    let parsed = store_path::base_name(&path).parse::<StorePath>();
    parsed.map(|path| path.hash()).map_err(|error| VerbError::Usage(format!("{text}: {error}")))
}

/// Does the same as another user: what root left in that folder, Nix could not write to any more.
fn of_user(user: &User, args: &Args) -> Result<Vec<Forgotten>, String> {
    use std::os::unix::process::CommandExt as _;
    let mut command = Command::new("/proc/self/exe");
    command.args(["forget", "--own", "--json=short"]).args(args.all.then_some("--all")).args(&args.paths);
    command.uid(user.uid.as_raw()).gid(user.gid.as_raw()).env("HOME", &user.dir).current_dir("/");
    for name in ["NIX_CACHE_HOME", "XDG_CACHE_HOME", "SUDO_UID"] {
        command.env_remove(name);
    }
    let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())
}

fn render(forgotten: &[Forgotten], screen: &Screen) -> String {
    if screen.quiet {
        return String::new();
    }
    let some = forgotten.iter().filter(|file| file.answers > 0);
    let text: String =
        some.map(|file| format!("Forgot {} in {}.\n", count(file.answers as u64, "answer"), file.file)).collect();
    if text.is_empty() { "Nix remembers no such answer.\n".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::JsonForm;
    use crate::cli::tests::kept;

    #[test]
    fn what_was_forgotten_is_told_by_file() {
        let (screen, _) = kept(JsonForm::Off);
        let of = |file: &str, answers| Forgotten { file: file.to_owned(), answers };
        assert_eq!(render(&[], &screen), "Nix remembers no such answer.\n");
        assert_eq!(render(&[of("/a", 0)], &screen), "Nix remembers no such answer.\n");
        assert_eq!(
            render(&[of("/a", 1), of("/b", 0), of("/c", 2)], &screen),
            "Forgot 1 answer in /a.\nForgot 2 answers in /c.\n"
        );
    }

    #[test]
    fn paths_are_named_in_every_form() {
        let text = "00000000000000000000000000000000";
        for form in [text.to_owned(), format!("{text}-hello"), format!("/nix/store/{text}-hello/bin/hello")] {
            assert_eq!(hash(&form).unwrap().to_string(), text, "{form}");
        }
        assert!(matches!(hash("hello"), Err(VerbError::Usage(_))));
    }

    #[test]
    fn what_is_closed_ends_with_the_code_for_that() {
        let closed = |kind: std::io::ErrorKind| Closed { folder: "/root/.cache/nix".into(), source: kind.into() };
        assert!(tell(&[], &[]).is_ok());
        let denied = tell(&[], &[closed(std::io::ErrorKind::PermissionDenied)]);
        assert!(matches!(denied, Err(VerbError::Ended(exit::DENIED))));
        assert!(matches!(tell(&["x".to_owned()], &[]), Err(VerbError::Ended(exit::FAILURE))));
    }
}
