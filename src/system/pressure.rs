//! Memory pressure: the kernel tells that programs wait for memory, and the service gives back what it can get again.
//!
//! Source: [Memory Pressure Handling](https://systemd.io/MEMORY_PRESSURE/): `$MEMORY_PRESSURE_WATCH` names a file to watch,
//! `$MEMORY_PRESSURE_WRITE` holds, in base64, what to write into it first.
#![forbid(unsafe_code)]

use super::message_ids;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The most that is written, in bytes; a trigger is a line of some 20.
const TRIGGER_MAX: usize = 4096;
/// How often pressure is acted upon at most, in milliseconds. What was dropped has to come back before it can be dropped again.
const PAUSE: u16 = 1000;
/// How often it is logged at most.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// Where pressure is heard of.
#[derive(Debug)]
pub struct Pressure {
    source: File,
    /// A file of the kernel reports by an exceptional condition, everything else by something to read.
    condition: PollFlags,
}

impl Pressure {
    /// Opens what the manager says is to be watched; `None` if it says nothing, or says not to watch.
    ///
    /// To be called before the sandbox: the file is outside of what the service may open later.
    #[must_use]
    pub fn from_environment() -> Option<Self> {
        let path = PathBuf::from(std::env::var_os("MEMORY_PRESSURE_WATCH")?);
        let opened = Self::open(&path, std::env::var_os("MEMORY_PRESSURE_WRITE"));
        opened.unwrap_or_else(|error| {
            log::warn!("memory pressure is not noticed: {}: {error}", path.display());
            None
        })
    }

    fn open(path: &std::path::Path, trigger: Option<OsString>) -> io::Result<Option<Self>> {
        if path.as_os_str() == "/dev/null" {
            return Ok(None);
        }
        let kind = std::fs::metadata(path)?.file_type();
        let trigger = match trigger {
            Some(text) => {
                let decoded = data_encoding::BASE64.decode(text.as_encoded_bytes()).ok();
                let wrong = || io::Error::new(io::ErrorKind::InvalidData, "$MEMORY_PRESSURE_WRITE makes no sense");
                decoded.filter(|bytes| bytes.len() <= TRIGGER_MAX).ok_or_else(wrong)?
            }
            None => Vec::new(),
        };
        let (mut source, condition) = if kind.is_socket() {
            let stream = UnixStream::connect(path)?;
            stream.set_nonblocking(true)?;
            (File::from(std::os::fd::OwnedFd::from(stream)), PollFlags::POLLIN)
        } else {
            // A pipe is opened for writing as well, so that it has no end while nobody writes.
            let source = OpenOptions::new().read(true).write(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
            (source, if kind.is_fifo() { PollFlags::POLLIN } else { PollFlags::POLLPRI })
        };
        source.write_all(&trigger)?;
        Ok(Some(Self { source, condition }))
    }

    /// Counts events, until `stop`, at most one every [`PAUSE`]. The number means nothing; that it moved does. Must be called
    /// within a tokio runtime.
    ///
    /// A thread of its own waits, as the reactor has no safe way to wait for a condition of a file that is not a socket.
    #[must_use]
    pub fn watch(self, stop: CancellationToken) -> watch::Receiver<u64> {
        let (count, events) = watch::channel(0_u64);
        let started = UnixStream::pair().and_then(|(woken, wake)| {
            let count = count.clone();
            let wait = move || {
                if let Err(error) = self.wait(&woken, &count) {
                    log::warn!("memory pressure is no longer noticed: {error}");
                }
            };
            std::thread::Builder::new().name("pressure".to_owned()).spawn(wait)?;
            Ok(wake)
        });
        match started {
            Ok(wake) => drop(tokio::spawn(async move {
                stop.cancelled().await;
                // Its other end wakes the thread, which ends. The sender was kept so that waiting for an event waits until now,
                // also when the thread had to give up.
                drop((wake, count));
            })),
            Err(error) => log::warn!("memory pressure is not noticed: {error}"),
        }
        events
    }

    /// Waits for one event after the other, until the other end of `woken` is closed.
    fn wait(mut self, woken: &UnixStream, count: &watch::Sender<u64>) -> io::Result<()> {
        let mut logged: Option<Instant> = None;
        loop {
            let mut both =
                [PollFd::new(self.source.as_fd(), self.condition), PollFd::new(woken.as_fd(), PollFlags::POLLIN)];
            patient_poll(&mut both, PollTimeout::NONE)?;
            let [source, end] = both.map(|fd| fd.revents().unwrap_or(PollFlags::POLLERR));
            if !end.is_empty() {
                return Ok(());
            }
            if self.condition == PollFlags::POLLIN {
                self.discard()?;
            } else if source.contains(PollFlags::POLLERR) {
                return Err(io::Error::other("the control group is gone"));
            }
            count.send_modify(|count| *count = count.wrapping_add(1));
            if logged.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
                logged = Some(Instant::now());
                log::info!(message_id = message_ids::MEMORY_SHORT; "memory is short: what can be had again is dropped");
            }
            let mut end = [PollFd::new(woken.as_fd(), PollFlags::POLLIN)];
            if patient_poll(&mut end, PAUSE)? > 0 {
                return Ok(());
            }
        }
    }

    /// Takes in what is there: it means nothing, but must not be there the next time.
    fn discard(&mut self) -> io::Result<()> {
        let mut rest = [0; 4096];
        loop {
            match self.source.read(&mut rest) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Polls on, whatever signals come.
fn patient_poll(fds: &mut [PollFd<'_>], timeout: impl Into<PollTimeout> + Copy) -> io::Result<i32> {
    loop {
        match poll(fds, timeout) {
            Err(Errno::EINTR) => {}
            other => return Ok(other?),
        }
    }
}

#[cfg(test)]
#[allow(clippy::print_stderr, reason = "a test that is skipped says so")]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use tokio::time::timeout;

    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_pipe_and_a_socket_report() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let socket = directory.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();

        let stop = CancellationToken::new();
        let mut of_pipe = Pressure::open(&pipe, None).unwrap().unwrap().watch(stop.clone());
        let mut of_socket = Pressure::open(&socket, Some("aGVsbG8=".into())).unwrap().unwrap().watch(stop.clone());
        let (mut sender, _) = listener.accept().unwrap();
        let mut trigger = [0; 5];
        sender.read_exact(&mut trigger).unwrap();
        assert_eq!(&trigger, b"hello");

        assert!(!of_pipe.has_changed().unwrap() && !of_socket.has_changed().unwrap());
        std::fs::write(&pipe, "x").unwrap();
        timeout(SOON, of_pipe.changed()).await.unwrap().unwrap();
        std::fs::write(&pipe, "again").unwrap();
        timeout(SOON, of_pipe.changed()).await.unwrap().unwrap();
        sender.write_all(b"y").unwrap();
        timeout(SOON, of_socket.changed()).await.unwrap().unwrap();
        // The other side goes away: no event, no error, no busy loop.
        drop(sender);
        assert!(timeout(Duration::from_secs(2), of_socket.changed()).await.is_err());
        stop.cancel();
        timeout(SOON, async { while of_pipe.changed().await.is_ok() {} }).await.unwrap();
    }

    #[tokio::test]
    async fn a_file_of_the_kernel_reports_pressure_only() {
        let path = std::path::Path::new("/proc/pressure/memory");
        // At least 1.9 s of 2 s without memory: the kernel knows the trigger, and this machine is not so badly off.
        let trigger = data_encoding::BASE64.encode(b"full 1900000 2000000\0");
        let pressure = match Pressure::open(path, Some(trigger.into())) {
            Ok(pressure) => pressure.unwrap(),
            Err(error) => {
                eprintln!("SKIPPED: {}: {error}", path.display());
                return;
            }
        };
        assert_eq!(pressure.condition, PollFlags::POLLPRI);
        let before = stalled(path);
        let mut events = pressure.watch(CancellationToken::new());
        let reported = timeout(Duration::from_millis(300), events.changed()).await.is_ok();
        // A machine that was stopped and went on may have been as badly off as that after all: then the kernel says so itself.
        assert!(!reported || stalled(path) > before, "an event without pressure");
    }

    /// How long everything on this machine has waited for memory in all, in microseconds.
    fn stalled(path: &std::path::Path) -> u64 {
        let text = std::fs::read_to_string(path).unwrap();
        let full = text.lines().find(|line| line.starts_with("full ")).unwrap();
        full.rsplit_once("total=").unwrap().1.trim().parse().unwrap()
    }

    #[test]
    fn not_to_be_watched() {
        assert!(Pressure::open("/dev/null".as_ref(), None).unwrap().is_none());
        assert!(Pressure::open("/nonexistent".as_ref(), None).is_err());
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(Pressure::open(file.path(), Some("no base64".into())).is_err());
    }
}
