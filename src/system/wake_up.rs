//! Wake-ups: the machine was suspended, and every connection may have died meanwhile.
//!
//! The kernel tells whoever waits on a timer of the wall clock that the clock was set, which it does at each wake-up too
//! (`TFD_TIMER_CANCEL_ON_SET`, [timerfd_create(2)](https://man7.org/linux/man-pages/man2/timerfd_create.2.html)). Which of the two it
//! was is seen by comparing two clocks, one of which goes on during the sleep. So an idle machine is never woken for this.
#![forbid(unsafe_code)]

use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId as TimerClock, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::{ClockId, clock_gettime};
use std::io;
use std::time::Duration;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The shortest sleep that counts. Two clocks cannot be read at the very same time.
const SLEEP_MIN: Duration = Duration::from_millis(500);
/// When the timer would go off, in seconds since 1970: never.
const NEVER: i64 = i32::MAX as i64;

/// Starts to count wake-ups, until `stop`.
///
/// Where the kernel or a sandbox refuses the timer, that is logged once and the number never moves. Must be called within a
/// tokio runtime.
#[must_use]
pub fn watch(stop: CancellationToken) -> watch::Receiver<u64> {
    watch_clocks(stop, ClockWasSet::new(), Clocks::now)
}

/// The same by other clocks.
fn watch_clocks(
    stop: CancellationToken,
    signal: io::Result<ClockWasSet>,
    mut clocks: impl FnMut() -> io::Result<Clocks> + Send + 'static,
) -> watch::Receiver<u64> {
    let (count, wake_ups) = watch::channel(0_u64);
    tokio::spawn(async move {
        let watching = async {
            let signal = signal?;
            let mut sleep = Sleep::new(clocks()?);
            loop {
                signal.next().await?;
                if let Some(slept) = sleep.ended(clocks()?) {
                    log::info!(seconds = slept.as_secs(); "the machine slept for {} s", slept.as_secs());
                    count.send_modify(|count| *count = count.wrapping_add(1));
                }
            }
        };
        let ended: Option<io::Result<()>> = stop.run_until_cancelled(watching).await;
        if let Some(Err(error)) = ended {
            log::warn!(
                "cannot notice when the machine wakes up ({error}): connections that died in its sleep are noticed one by one"
            );
            // The sender stays, so that waiting for a wake-up waits instead of failing.
            stop.cancelled().await;
        }
    });
    wake_ups
}

/// Two clocks since the start of the machine, of which only one goes on while it sleeps.
#[derive(Debug, Clone, Copy)]
struct Clocks {
    /// `CLOCK_BOOTTIME`.
    boot: Duration,
    /// `CLOCK_MONOTONIC`.
    awake: Duration,
}

impl Clocks {
    fn now() -> io::Result<Self> {
        let read = |clock| Ok::<_, io::Error>(Duration::from(clock_gettime(clock)?));
        let awake = read(ClockId::CLOCK_MONOTONIC)?;
        Ok(Self { boot: read(ClockId::CLOCK_BOOTTIME)?, awake })
    }

    fn asleep(self) -> Duration {
        self.boot.saturating_sub(self.awake)
    }
}

/// How long the machine has slept so far, as far as is known.
#[derive(Debug)]
struct Sleep(Duration);

impl Sleep {
    fn new(clocks: Clocks) -> Self {
        Self(clocks.asleep())
    }

    /// How long it slept since this was asked last, if it did.
    fn ended(&mut self, clocks: Clocks) -> Option<Duration> {
        let slept = clocks.asleep().checked_sub(self.0).filter(|slept| *slept >= SLEEP_MIN)?;
        self.0 = clocks.asleep();
        Some(slept)
    }
}

/// The kernel's word that the wall clock jumped: a timer, as the runtime's type for the reading end of a pipe. It only ever
/// reads from it, which is the same for both.
struct ClockWasSet(Receiver);

impl ClockWasSet {
    fn new() -> io::Result<Self> {
        let timer = TimerFd::new(TimerClock::CLOCK_REALTIME, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?;
        let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
        timer.set(Expiration::OneShot(TimeSpec::new(NEVER, 0)), flags)?;
        Ok(Self(Receiver::from_owned_fd_unchecked(timer.into())?))
    }

    /// Waits for it.
    async fn next(&self) -> io::Result<()> {
        loop {
            self.0.readable().await?;
            match self.0.try_read(&mut [0; 8]) {
                // Nothing yet, after all.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.raw_os_error() != Some(Errno::ECANCELED as i32) => return Err(error),
                _ => return Ok(()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clocks(boot: u64, awake: u64) -> Clocks {
        Clocks { boot: Duration::from_millis(boot), awake: Duration::from_millis(awake) }
    }

    #[test]
    fn sleep_is_what_one_clock_runs_ahead_of_the_other() {
        // It slept before we began.
        let mut sleep = Sleep::new(clocks(5000, 1000));
        assert_eq!(sleep.ended(clocks(60_000, 56_000)), None, "the wall clock was set");
        assert_eq!(sleep.ended(clocks(60_100, 56_090)), None, "the clocks were not read at the very same time");
        assert_eq!(sleep.ended(clocks(70_100, 56_100)), Some(Duration::from_secs(10)));
        assert_eq!(sleep.ended(clocks(70_200, 56_200)), None, "once");
        assert_eq!(sleep.ended(clocks(70_000, 56_200)), None);
        // Short naps add up.
        assert_eq!(sleep.ended(clocks(70_600, 56_300)), None);
        assert_eq!(sleep.ended(clocks(71_000, 56_400)), Some(Duration::from_millis(600)));
    }

    #[test]
    fn the_clocks_of_this_machine_can_be_read() {
        let now = Clocks::now().unwrap();
        assert!(now.boot >= now.awake && !now.awake.is_zero(), "{now:?}");
    }

    #[tokio::test]
    async fn the_timer_is_silent_while_no_clock_is_set() {
        let signal = ClockWasSet::new().unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(50), signal.next()).await.is_err());
    }

    /// What the kernel does at a wake-up cannot be brought about here; a timer that is read in the same way stands for it.
    #[tokio::test]
    async fn a_wake_up_is_counted_and_a_clock_that_was_set_is_not() {
        let timer =
            TimerFd::new(TimerClock::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK).unwrap();
        let every = Expiration::Interval(TimeSpec::from_duration(Duration::from_millis(5)));
        timer.set(every, TimerSetTimeFlags::empty()).unwrap();
        let signal = ClockWasSet(Receiver::from_owned_fd_unchecked(timer.into()).unwrap());
        // Asleep in all: 0 at the start, 0 at two signals, and 9 s from then on.
        let (asked, mut answers) = watch::channel(0);
        let read = move || {
            asked.send_modify(|times| *times += 1);
            Ok(if *asked.borrow() <= 3 { clocks(1000, 1000) } else { clocks(10_000, 1000) })
        };
        let stop = CancellationToken::new();
        let mut wake_ups = watch_clocks(stop.clone(), Ok(signal), read);
        wake_ups.changed().await.unwrap();
        assert!(*answers.borrow_and_update() >= 4, "the first signals were no wake-ups");
        answers.wait_for(|times| *times > 8).await.unwrap();
        assert_eq!(*wake_ups.borrow(), 1, "the signals after it were no further ones");
        stop.cancel();
    }
}
