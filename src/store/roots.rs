//! Temp roots: what is being served is not collected as garbage meanwhile.
//!
//! The Nix daemon keeps a temp root as long as the connection lives that asked for it, and a connection can only add. So
//! one task owns one connection, counts who needs which path, moves those still needed to a new connection when too many
//! have piled up on the old one, restores them when the daemon was restarted, and hangs up when nobody needs any.

use super::StoreError;
use super::daemon::{Daemon, RootKeeper};
use crate::nix::StorePath;
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// How many roots a connection may have before those not needed any more are dropped with it.
const ROOTS_MAX: usize = 1024;

/// How long things may take.
#[derive(Debug, Clone, Copy)]
struct Times {
    /// How long a connection is kept after the last root on it was needed.
    idle: Duration,
    /// How long the daemon is left alone after it could not be reached; it may be being restarted.
    retry: Duration,
    /// How long it is left alone after it did not answer, because every attempt makes readers wait.
    retry_silent: Duration,
    /// How long anyone waits for a root. The daemon answers in under 1 ms; only a garbage collection that is deleting the
    /// very path, or a sick daemon, takes longer.
    hold_timeout: Duration,
}

const TIMES: Times = Times {
    idle: Duration::from_secs(30),
    retry: Duration::from_secs(1),
    retry_silent: Duration::from_secs(60),
    hold_timeout: Duration::from_secs(3),
};

/// Where temp roots are asked for. Its task ends when this and all guards are gone.
#[derive(Debug)]
pub(super) struct Roots {
    commands: mpsc::UnboundedSender<Command>,
    hold_timeout: Duration,
}

/// As long as it lives, its path is a temp root.
#[derive(Debug)]
pub(super) struct RootGuard {
    path: StorePath,
    commands: mpsc::UnboundedSender<Command>,
}

impl Drop for RootGuard {
    fn drop(&mut self) {
        // The task may be gone already: then so is the root.
        let _ = self.commands.send(Command::Release(self.path.clone()));
    }
}

#[derive(Debug)]
enum Command {
    Hold(StorePath, oneshot::Sender<Result<(), Arc<StoreError>>>),
    Release(StorePath),
}

impl Roots {
    /// Starts the task. It connects when the first root is asked for.
    pub(super) fn start(daemon: Arc<Daemon>) -> Self {
        Self::start_with(daemon, TIMES)
    }

    fn start_with(daemon: Arc<Daemon>, times: Times) -> Self {
        // Not bounded, because a guard cannot wait when it is dropped; there are never more commands than guards.
        let (commands, receiver) = mpsc::unbounded_channel();
        let keeper = Keeper {
            daemon,
            times,
            commands: receiver,
            connection: None,
            needed: HashMap::new(),
            present: HashSet::new(),
            idle_since: Instant::now(),
            failed: None,
        };
        tokio::spawn(keeper.run());
        Self { commands, hold_timeout: times.hold_timeout }
    }

    /// Makes `path` a temp root. When this returns `Ok`, a path that is still valid stays valid.
    pub(super) async fn hold(&self, path: &StorePath) -> Result<RootGuard, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Hold(path.clone(), reply)).map_err(|_| StoreError::Closed)?;
        let answer = tokio::time::timeout(self.hold_timeout, answer).await.map_err(|_| StoreError::RootNotInTime)?;
        answer.map_err(|_| StoreError::Closed)??;
        Ok(RootGuard { path: path.clone(), commands: self.commands.clone() })
    }
}

/// The task's own.
struct Keeper {
    daemon: Arc<Daemon>,
    times: Times,
    commands: mpsc::UnboundedReceiver<Command>,
    connection: Option<RootKeeper>,
    /// How many guards each path has.
    needed: HashMap<StorePath, usize>,
    /// What has been added on this connection.
    present: HashSet<StorePath>,
    /// Since when nothing is needed; of meaning only then.
    idle_since: Instant,
    /// Until when the daemon is left alone, and why.
    failed: Option<(Instant, Arc<StoreError>)>,
}

/// What a waiting keeper wakes up for.
enum Event {
    Command(Option<Command>),
    Ended(io::Error),
    Idle,
    Retry,
}

impl Keeper {
    async fn run(mut self) {
        loop {
            match self.next().await {
                Event::Command(None) => return,
                Event::Command(Some(Command::Hold(path, reply))) => {
                    let answer = self.hold(&path).await;
                    if answer.is_ok() {
                        *self.needed.entry(path.clone()).or_default() += 1;
                    }
                    // Who asked may have given up: then there is no guard that would release it.
                    if matches!(reply.send(answer), Err(Ok(()))) {
                        self.release(&path);
                    }
                }
                Event::Command(Some(Command::Release(path))) => self.release(&path),
                Event::Ended(error) => {
                    log::debug!(reason:% = error; "the Nix daemon hung up; temp roots are restored");
                    self.hang_up();
                    self.restore().await;
                }
                Event::Idle => self.hang_up(),
                Event::Retry => self.restore().await,
            }
        }
    }

    async fn next(&mut self) -> Event {
        let ended = async {
            match &self.connection {
                Some(connection) => connection.ended().await,
                None => std::future::pending().await,
            }
        };
        let is_needed = !self.needed.is_empty();
        let is_connected = self.connection.is_some();
        let idle_until = self.idle_since + self.times.idle;
        let retry_at = self.failed.as_ref().map_or_else(Instant::now, |(until, _)| *until);
        tokio::select! {
            command = self.commands.recv() => Event::Command(command),
            error = ended => Event::Ended(error),
            () = tokio::time::sleep_until(idle_until), if is_connected && !is_needed => Event::Idle,
            () = tokio::time::sleep_until(retry_at), if !is_connected && is_needed => Event::Retry,
        }
    }

    fn hang_up(&mut self) {
        self.connection = None;
        self.present.clear();
    }

    fn release(&mut self, path: &StorePath) {
        if let Some(count) = self.needed.get_mut(path) {
            *count -= 1;
            if *count == 0 {
                self.needed.remove(path);
            }
        }
        if self.needed.is_empty() {
            self.idle_since = Instant::now();
        }
    }

    async fn hold(&mut self, path: &StorePath) -> Result<(), Arc<StoreError>> {
        if self.present.contains(path) {
            return Ok(());
        }
        if let Some((until, error)) = &self.failed
            && Instant::now() < *until
        {
            return Err(Arc::clone(error));
        }
        if self.present.len() >= ROOTS_MAX.max(2 * self.needed.len()) {
            self.hang_up_later().await?;
        }
        match self.add(path).await {
            // The daemon may have been restarted since the last time: once more on a new connection.
            Err(StoreError::DaemonIo { .. }) => {
                self.hang_up();
                self.restore().await;
                self.add(path).await
            }
            other => other,
        }
        .map_err(|error| self.note_failure(error))
    }

    /// Moves what is needed to a new connection, and only then gives up the old one with all that has piled up on it.
    async fn hang_up_later(&mut self) -> Result<(), Arc<StoreError>> {
        let old = self.connection.take();
        self.present.clear();
        self.restore().await;
        drop(old);
        self.failed.as_ref().map_or(Ok(()), |(_, error)| Err(Arc::clone(error)))
    }

    /// Adds again all that is needed, on a new connection. What was collected meanwhile is lost: its reader will notice.
    async fn restore(&mut self) {
        let needed: Vec<StorePath> = self.needed.keys().cloned().collect();
        for path in &needed {
            match self.add(path).await {
                Ok(()) | Err(StoreError::Refused(_)) => {}
                Err(error) => {
                    self.note_failure(error);
                    return;
                }
            }
        }
    }

    async fn add(&mut self, path: &StorePath) -> Result<(), StoreError> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => {
                let connection = self.daemon.root_keeper().await?;
                self.failed = None;
                self.connection.insert(connection)
            }
        };
        self.daemon.add_temp_root(connection, path).await?;
        self.present.insert(path.clone());
        Ok(())
    }

    fn note_failure(&mut self, error: StoreError) -> Arc<StoreError> {
        let is_silent = matches!(error, StoreError::DaemonSilent { .. });
        let pause = if is_silent { self.times.retry_silent } else { self.times.retry };
        let error = Arc::new(error);
        // A refusal leaves the connection as it was; after anything else it cannot be used any more.
        if !matches!(*error, StoreError::Refused(_)) {
            self.hang_up();
            self.failed = Some((Instant::now() + pause, Arc::clone(&error)));
        }
        error
    }
}

#[cfg(test)]
mod tests;
