//! What the service waits for while it runs.

use std::fs;
use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGHUP among the signals of a process that are ignored, a bit for each.
const HANGUP_BIT: u64 = 1;

/// The signals that the service obeys.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// `None`: it is left alone.
    hangup: Option<Signal>,
    on_hangup: Told,
}

/// What a signal says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// SIGTERM, SIGINT; SIGHUP from a terminal that ends.
    Stop,
    /// SIGHUP.
    Reload,
}

impl Signals {
    /// From here on no signal ends the process by itself.
    pub(super) fn new() -> io::Result<Self> {
        let is_managed = std::env::var_os("NOTIFY_SOCKET").is_some();
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
        let on_hangup = on_hangup(is_managed, &read("/proc/self/status"), &read("/proc/self/stat"));
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: on_hangup.map(|_| signal(SignalKind::hangup())).transpose()?,
            on_hangup: on_hangup.unwrap_or(Told::Reload),
        })
    }

    /// Waits until the service is told to stop.
    pub(super) async fn stop(&mut self) {
        while self.next().await != Told::Stop {}
    }

    /// The next signal. May be dropped and called again without losing one.
    pub(super) async fn next(&mut self) -> Told {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop,
            _ = self.interrupt.recv() => Told::Stop,
            _ = hangup => self.on_hangup,
        }
    }
}

/// What SIGHUP says: to a service, to read its configuration again; to a program in a terminal, that this has ended; to one that was
/// started with `nohup`, nothing. `status` and `stat` are those of the process in /proc.
fn on_hangup(is_managed: bool, status: &str, stat: &str) -> Option<Told> {
    let ignored = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    // After the name of the program, which may hold anything: state, parent, group, session, terminal.
    let terminal = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(4)?.parse::<i64>().ok());
    match (is_managed, ignored.unwrap_or(0) & HANGUP_BIT != 0, terminal.unwrap_or(0)) {
        (true, ..) | (false, false, 0) => Some(Told::Reload),
        (false, true, _) => None,
        (false, false, _) => Some(Told::Stop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hangup_means_what_the_one_who_started_it_means() {
        let (nothing, hangup) = ("Name:\tpeernixd\nSigIgn:\t0000000000001000\n", "SigIgn:\t0000000000001001\n");
        let (alone, terminal) = ("1 (a b) c) S 1 1 1 0 -1 0", "1 (peernixd) S 1 1 1 34816 1 0");
        assert_eq!(on_hangup(true, nothing, terminal), Some(Told::Reload), "under a manager");
        assert_eq!(on_hangup(true, hangup, terminal), Some(Told::Reload), "whatever it ignored");
        assert_eq!(on_hangup(false, nothing, alone), Some(Told::Reload), "a daemon");
        assert_eq!(on_hangup(false, nothing, terminal), Some(Told::Stop), "in a terminal");
        assert_eq!(on_hangup(false, hangup, terminal), None, "nohup");
        assert_eq!(on_hangup(false, "", ""), Some(Told::Reload));
    }
}
