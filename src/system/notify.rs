//! What the service tells its manager: readiness, status, reloading, stopping, and that it is alive.
//!
//! Source: [sd_notify(3)](https://www.freedesktop.org/software/systemd/man/sd_notify.html). Without a manager
//! (`$NOTIFY_SOCKET`) every message goes nowhere; none is ever fatal.
#![forbid(unsafe_code)]

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use parking_lot::Mutex;
use sd_notify::NotifyState;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

/// The least time between two status lines. They are for people, and the manager announces each to all of its listeners.
pub const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// How long a message may wait for a manager that is busy.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// The line to the manager.
#[derive(Debug, Default)]
pub struct Notifier {
    /// Connected to the manager; `None` without one.
    socket: Option<UnixDatagram>,
    /// The last status, and when it was sent.
    status: Mutex<Option<(Instant, String)>>,
}

impl Notifier {
    /// Connects to the manager that `$NOTIFY_SOCKET` names, if it names one.
    #[must_use]
    pub fn from_environment() -> Self {
        match std::env::var_os("NOTIFY_SOCKET") {
            Some(address) => Self::connect(&address).unwrap_or_else(|error| {
                log::warn!("$NOTIFY_SOCKET is set, but the service manager cannot be reached: {error}");
                Self::default()
            }),
            None => Self::default(),
        }
    }

    /// Connects to a socket: a path, or an abstract name behind `@`.
    fn connect(address: &OsStr) -> io::Result<Self> {
        let bytes = address.as_bytes();
        let address = match bytes.strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(OsStr::from_bytes(bytes))?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.set_write_timeout(Some(SEND_TIMEOUT))?;
        Ok(Self { socket: Some(socket), ..Self::default() })
    }

    /// The service does its work now; also ends a reload.
    pub fn ready(&self, status: &str) {
        self.remember(status);
        self.send(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
    }

    /// What the service is doing, in one line. Says nothing when it said the same before, or anything less than
    /// [`STATUS_INTERVAL`] ago: the caller's next round will do.
    pub fn status(&self, status: &str) {
        let mut last = self.status.lock();
        let hold = last.as_ref().is_some_and(|(at, text)| text == status || at.elapsed() < STATUS_INTERVAL);
        if !hold {
            *last = Some((Instant::now(), status.to_owned()));
            self.send(&[NotifyState::Status(&one_line(status))]);
        }
    }

    /// What the service is doing, at once: for what may be the last that the manager hears.
    pub fn force_status(&self, status: &str) {
        self.remember(status);
        self.send(&[NotifyState::Status(&one_line(status))]);
    }

    /// Gives the manager a file descriptor to keep under a name, for the next process of this service.
    ///
    /// # Errors
    /// What the kernel says; [`io::ErrorKind::NotConnected`] without a manager. Whether the manager keeps it is not known.
    pub fn store(&self, name: &str, fd: BorrowedFd<'_>) -> io::Result<()> {
        let socket = self.socket.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        // One datagram: descriptors of another are not matched with this name.
        let message = format!("{}\n{}\n", NotifyState::FdStore, NotifyState::FdName(name));
        let (text, fds) = ([IoSlice::new(message.as_bytes())], [fd.as_raw_fd()]);
        let control = [ControlMessage::ScmRights(&fds)];
        sendmsg::<()>(socket.as_raw_fd(), &text, &control, MsgFlags::MSG_NOSIGNAL, None)?;
        Ok(())
    }

    /// Has the manager close what it keeps under a name.
    pub fn unstore(&self, name: &str) {
        self.send(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]);
    }

    /// A new configuration is being read; [`Self::ready`] must follow, whatever came of it.
    pub fn reloading(&self) {
        // systemd matches the answer to its question by this timestamp, which must be in the same datagram.
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.send(&[NotifyState::Reloading, now]),
            Err(error) => log::warn!("systemd is not told of the reload: no monotonic clock: {error}"),
        }
    }

    /// No new work is taken.
    pub fn stopping(&self, status: &str) {
        self.remember(status);
        self.send(&[NotifyState::Stopping, NotifyState::Status(&one_line(status))]);
    }

    /// All parts of the service have shown signs of life since the last time.
    pub fn alive(&self) {
        self.send(&[NotifyState::Watchdog]);
    }

    fn send(&self, states: &[NotifyState<'_>]) {
        let Some(socket) = &self.socket else { return };
        let mut message = String::new();
        for state in states {
            // Writing to a String cannot fail.
            let _ = writeln!(message, "{state}");
        }
        if let Err(error) = socket.send(message.as_bytes()) {
            // Without this one the manager takes the start for a failure.
            let is_ready = states.iter().any(|state| matches!(state, NotifyState::Ready));
            let level = if is_ready { log::Level::Warn } else { log::Level::Debug };
            log::log!(level, "the service manager cannot be notified: {error}");
        }
    }

    fn remember(&self, status: &str) {
        *self.status.lock() = Some((Instant::now(), status.to_owned()));
    }
}

/// The longest time that the manager allows between two calls of [`Notifier::alive`]; `None` if it does not ask for them.
#[must_use]
pub fn watchdog_limit() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero())
}

/// A status without line breaks, which would end it and begin another message.
fn one_line(status: &str) -> String {
    status.replace(['\n', '\r'], " ")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A manager that listens without blocking, and the line to it.
    pub(crate) fn manager() -> (tempfile::TempDir, UnixDatagram, Notifier) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let notifier = Notifier::connect(path.as_os_str()).unwrap();
        (dir, socket, notifier)
    }

    /// The next message, if there is one.
    pub(crate) fn received(socket: &UnixDatagram) -> Option<String> {
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
    }

    #[test]
    fn the_words_of_the_protocol() {
        let (_dir, socket, notifier) = manager();
        notifier.ready("serving\non [::]:7650");
        assert_eq!(received(&socket).unwrap(), "READY=1\nSTATUS=serving on [::]:7650\n");
        notifier.reloading();
        let message = received(&socket).unwrap();
        let stamp = message.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().trim_end();
        assert!(stamp.parse::<u64>().unwrap() > 0, "{message}");
        notifier.alive();
        assert_eq!(received(&socket).unwrap(), "WATCHDOG=1\n");
        notifier.stopping("draining");
        assert_eq!(received(&socket).unwrap(), "STOPPING=1\nSTATUS=draining\n");
    }

    #[test]
    fn a_status_is_held_back_when_it_is_the_same_or_too_soon() {
        let (_dir, socket, notifier) = manager();
        notifier.status("one");
        assert_eq!(received(&socket).unwrap(), "STATUS=one\n");
        notifier.status("two");
        assert_eq!(received(&socket), None, "too soon");
        let long_ago = Instant::now().checked_sub(STATUS_INTERVAL).unwrap();
        *notifier.status.lock() = Some((long_ago, "one".into()));
        notifier.status("one");
        assert_eq!(received(&socket), None, "nothing new");
        notifier.status("two");
        assert_eq!(received(&socket).unwrap(), "STATUS=two\n");
    }

    #[test]
    fn abstract_names_and_no_manager() {
        let name = format!("peernix-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        Notifier::connect(OsStr::new(&format!("@{name}"))).unwrap().ready("");
        assert_eq!(received(&socket).unwrap(), "READY=1\nSTATUS=\n");
        Notifier::default().ready("nobody listens");
        assert!(Notifier::connect(OsStr::new("/nonexistent/socket")).is_err());
    }
}
