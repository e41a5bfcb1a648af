//! Somebody who asks for a password where there is no desktop to do it: polkit's own agent for terminals, as systemd's
//! tools have it.

use std::io::IsTerminal as _;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};

/// The agent. Without an argument it is there for the process that started it.
const PROGRAM: &str = "pkttyagent";
/// How long it may take to tell polkit that it is there.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Starts the agent if a person is there who may need it; it ends when what is returned is dropped.
pub(super) async fn start() -> Option<Child> {
    // Root is never asked.
    let needed = !nix::unistd::Uid::effective().is_root();
    let person = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if needed && person { run(PROGRAM).await } else { None }
}

async fn run(program: &str) -> Option<Child> {
    let mut command = Command::new(program);
    // It closes stdout once polkit knows it. With `--fallback` an agent of a desktop goes first.
    command.args(["--notify-fd", "1", "--fallback"]).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn().ok()?;
    let mut stdout = child.stdout.take()?;
    let mut nothing = Vec::new();
    // Too late, or gone: polkit will say that nobody could be asked.
    let _ = tokio::time::timeout(TIMEOUT, stdout.read_to_end(&mut nothing)).await;
    Some(child)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[tokio::test]
    async fn it_is_waited_for_until_it_is_ready_and_no_longer() {
        let dir = tempfile::tempdir().unwrap();
        let agent = dir.path().join("agent");
        let words = dir.path().join("words");
        let text = format!("#!/bin/sh\necho \"$*\" >'{}'\nexec >&-\nexec sleep 60\n", words.display());
        std::fs::write(&agent, text).unwrap();
        std::fs::set_permissions(&agent, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut child = run(agent.to_str().unwrap()).await.unwrap();
        assert_eq!(std::fs::read_to_string(words).unwrap(), "--notify-fd 1 --fallback\n");
        assert!(child.try_wait().unwrap().is_none(), "it stays");
        assert!(run("/nonexistent/agent").await.is_none());
    }
}
