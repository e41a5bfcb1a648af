//! Signs of life: every part of the service gives them, and the manager's watchdog is fed only while all of them do.
//!
//! Source: [sd_watchdog_enabled(3)](https://www.freedesktop.org/software/systemd/man/sd_watchdog_enabled.html). A part gives a sign
//! when the reactor comes round to it ([`Heartbeats::during`]) or when it answers a question ([`Heartbeats::probe`]). A plain
//! thread looks on, so that a reactor that stands still is noticed as well, and said by name before the manager kills the process.
#![forbid(unsafe_code)]

use super::message_ids;
use super::notify::{self, Notifier};
use parking_lot::Mutex;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::time::MissedTickBehavior;

/// How often the thread looks, within the time that the manager allows. More often than the two times that systemd
/// recommends, so that one late sign of life costs nothing.
const LOOKS: u32 = 4;
/// How often a part gives a sign, between two looks.
const BEATS: u32 = 4;
/// Nothing gives signs more often than this, whatever the manager asks.
const BEAT_LEAST: Duration = Duration::from_millis(1);

/// The parts of the service that have to show signs of life. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Heartbeats {
    parts: Arc<Mutex<Vec<Arc<Part>>>>,
    /// The time that the manager allows; `None` if it does not ask, and then nothing here costs anything.
    limit: Option<Duration>,
}

#[derive(Debug)]
struct Part {
    name: &'static str,
    beats: AtomicU64,
    /// It ended by a panic: it stays listed, as a part that will never again show a sign of life.
    dead: AtomicBool,
}

impl Heartbeats {
    /// For the time that the manager allows between two signs of life, if it asks for them.
    #[must_use]
    pub fn from_environment() -> Self {
        Self::with_limit(notify::watchdog_limit())
    }

    fn with_limit(limit: Option<Duration>) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Adds a part that gives its signs itself, at least every [`Self::every`]. It is no longer listed once the handle is
    /// dropped, unless by a panic.
    #[must_use]
    pub fn add(&self, name: &'static str) -> Heartbeat {
        let part = Arc::new(Part { name, beats: AtomicU64::new(0), dead: AtomicBool::new(false) });
        self.lock().push(Arc::clone(&part));
        Heartbeat { part, parts: Arc::clone(&self.parts) }
    }

    /// How often a part must give a sign of life; `None`: never.
    #[must_use]
    pub fn every(&self) -> Option<Duration> {
        self.limit.map(|limit| (limit / (LOOKS * BEATS)).max(BEAT_LEAST))
    }

    /// Runs a part to its end. It lives as long as the reactor comes round to its task and gets out of it again: what blocks
    /// inside of it is noticed, what waits is not.
    pub async fn during<F: Future>(&self, name: &'static str, part: F) -> F::Output {
        let Some(every) = self.every() else { return part.await };
        let heartbeat = self.add(name);
        let mut part = pin!(part);
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // In this order: a part that always has something to do must not be taken for dead.
                biased;
                _ = ticks.tick() => heartbeat.beat(),
                output = &mut part => return output,
            }
        }
    }

    /// Asks a part a question for as long as the service runs. It lives as long as it answers: a lock that is never given
    /// back and a worker that hangs are noticed. Does not return; the caller spawns it and drops it when the service stops.
    pub async fn probe<Q, F>(&self, name: &'static str, question: Q)
    where
        Q: Fn() -> F,
        F: Future<Output = ()>,
    {
        let Some(every) = self.every() else { return std::future::pending().await };
        let heartbeat = self.add(name);
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            question().await;
            heartbeat.beat();
        }
    }

    /// Starts to feed the manager's watchdog, until the handle is dropped. `None` if the manager has none.
    ///
    /// Call it once the parts are there, just before the service is ready.
    #[must_use]
    pub fn feed(&self, notifier: Arc<Notifier>) -> Option<Watchdog> {
        let limit = self.limit?;
        let (stop, stopped) = mpsc::channel();
        let heartbeats = self.clone();
        let thread = std::thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
            let mut look = Look::new(limit);
            loop {
                look.once(&heartbeats, &notifier, Instant::now());
                match stopped.recv_timeout(limit / LOOKS) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        });
        match thread {
            Ok(thread) => Some(Watchdog { stop: Some(stop), thread: Some(thread) }),
            Err(error) => {
                log::error!("the watchdog cannot be fed, and systemd will end the service: no thread: {error}");
                None
            }
        }
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, Vec<Arc<Part>>> {
        self.parts.lock()
    }
}

/// The handle of a part that gives signs of life.
#[derive(Debug)]
pub struct Heartbeat {
    part: Arc<Part>,
    parts: Arc<Mutex<Vec<Arc<Part>>>>,
}

impl Heartbeat {
    /// A sign of life.
    pub fn beat(&self) {
        self.part.beats.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.part.dead.store(true, Ordering::Relaxed);
        } else {
            let mut parts = self.parts.lock();
            parts.retain(|part| !Arc::ptr_eq(part, &self.part));
        }
    }
}

/// The thread that feeds the watchdog; it ends with this handle.
#[derive(Debug)]
pub struct Watchdog {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It wakes at once, and what it does then takes at most as long as one message to the manager.
            let _ = thread.join();
        }
    }
}

/// What the thread remembers from look to look.
struct Look {
    limit: Duration,
    /// Since when the watchdog was not fed.
    since: Option<Instant>,
    /// The count of each part when the watchdog was last fed.
    last: Vec<(Arc<Part>, u64)>,
    /// That something is wrong has been said.
    said: bool,
}

impl Look {
    const fn new(limit: Duration) -> Self {
        Self { limit, since: None, last: Vec::new(), said: false }
    }

    fn once(&mut self, heartbeats: &Heartbeats, notifier: &Notifier, now: Instant) {
        let parts = heartbeats.lock().clone();
        let silent: Vec<&'static str> =
            parts.iter().filter(|part| self.is_silent(part)).map(|part| part.name).collect();
        if silent.is_empty() {
            notifier.alive();
            if self.said {
                log::warn!("all parts of the service show signs of life again");
            }
            self.said = false;
            self.since = Some(now);
            self.last = parts.into_iter().map(|part| (Arc::clone(&part), part.beats.load(Ordering::Relaxed))).collect();
        } else if !self.said && now.duration_since(*self.since.get_or_insert(now)) >= self.limit / 2 {
            self.said = true;
            let names = silent.join(", ");
            log::error!(
                message_id = message_ids::BLOCKED, parts = names.as_str();
                "no sign of life from {names} for {:.1} s: systemd is no longer told that all is well", (self.limit / 2).as_secs_f64()
            );
            notifier.force_status(&format!("Blocked: {names}"));
        }
    }

    /// Whether a part has not moved since the watchdog was last fed. One that is new has until the next look.
    fn is_silent(&self, part: &Arc<Part>) -> bool {
        let before = self.last.iter().find(|(known, _)| Arc::ptr_eq(known, part)).map(|(_, count)| *count);
        part.dead.load(Ordering::Relaxed) || before == Some(part.beats.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::super::notify::tests::{manager, received};
    use super::*;
    use std::os::unix::net::UnixDatagram;

    const LIMIT: Duration = Duration::from_millis(400);

    /// The next message, waited for.
    fn heard(socket: &UnixDatagram, within: Duration) -> Option<String> {
        socket.set_nonblocking(false).unwrap();
        socket.set_read_timeout(Some(within)).unwrap();
        received(socket)
    }

    #[test]
    fn one_silent_part_is_enough() {
        let (_dir, socket, notifier) = manager();
        let heartbeats = Heartbeats::with_limit(Some(LIMIT));
        let (store, peers) = (heartbeats.add("store"), heartbeats.add("peers"));
        let mut look = Look::new(LIMIT);
        let start = Instant::now();
        let mut at = |quarter: u32| {
            look.once(&heartbeats, &notifier, start + LIMIT / 4 * quarter);
            received(&socket)
        };
        assert_eq!(at(0).as_deref(), Some("WATCHDOG=1\n"), "all are new");
        store.beat();
        peers.beat();
        assert_eq!(at(1).as_deref(), Some("WATCHDOG=1\n"));
        store.beat();
        assert_eq!(at(2), None, "peers was silent");
        store.beat();
        assert_eq!(at(3).as_deref(), Some("STATUS=Blocked: peers\n"));
        store.beat();
        assert_eq!(at(4), None, "it is said once");
        peers.beat();
        assert_eq!(at(5).as_deref(), Some("WATCHDOG=1\n"), "it came back");
        drop(peers);
        store.beat();
        assert_eq!(at(6).as_deref(), Some("WATCHDOG=1\n"), "one that ended is not missed");
    }

    #[test]
    fn one_that_panicked_is_missed() {
        let (_dir, socket, notifier) = manager();
        let heartbeats = Heartbeats::with_limit(Some(LIMIT));
        let heartbeat = heartbeats.add("discovery");
        let panicked = std::thread::spawn(move || {
            let _heartbeat = heartbeat;
            std::panic::resume_unwind(Box::new("on purpose"));
        });
        assert!(panicked.join().is_err());
        let mut look = Look::new(LIMIT);
        look.once(&heartbeats, &notifier, Instant::now());
        look.once(&heartbeats, &notifier, Instant::now() + LIMIT);
        assert_eq!(received(&socket).as_deref(), Some("STATUS=Blocked: discovery\n"));
    }

    #[tokio::test]
    async fn a_part_runs_to_its_end_and_beats_meanwhile() {
        let heartbeats = Heartbeats::with_limit(Some(LIMIT));
        let (go, gone) = tokio::sync::oneshot::channel();
        let inner = heartbeats.clone();
        let part = tokio::spawn(async move { inner.during("accept", gone).await });
        let beats = |name| {
            let parts = heartbeats.lock();
            parts.iter().find(|part| part.name == name).map(|part| part.beats.load(Ordering::Relaxed))
        };
        tokio::time::timeout(Duration::from_secs(10), async {
            while beats("accept").unwrap_or_default() < 3 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        go.send(7).unwrap();
        assert_eq!(part.await.unwrap(), Ok(7));
        assert_eq!(beats("accept"), None);
        // Nobody asks: no timer, no part, the same result.
        assert_eq!(Heartbeats::default().during("accept", async { 3 }).await, 3);
    }

    #[test]
    fn a_blocked_reactor_starves_the_watchdog() {
        let (_dir, socket, notifier) = manager();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let heartbeats = Heartbeats::with_limit(Some(LIMIT));
        let (block, blocked) = mpsc::channel::<()>();
        let (asked, ask) = tokio::sync::oneshot::channel::<()>();
        let reactor = std::thread::spawn({
            let heartbeats = heartbeats.clone();
            move || {
                runtime.block_on(heartbeats.during("gateway", async move {
                    ask.await.unwrap();
                    // What must never happen: the task blocks its thread.
                    let _ = blocked.recv();
                }));
            }
        });
        while heartbeats.lock().is_empty() {
            std::thread::yield_now();
        }
        let watchdog = heartbeats.feed(Arc::new(notifier)).unwrap();
        for _ in 0..6 {
            assert_eq!(heard(&socket, LIMIT).as_deref(), Some("WATCHDOG=1\n"));
        }
        asked.send(()).unwrap();
        // A message or two may still come from the beats before the block.
        let mut message = heard(&socket, LIMIT * 4).unwrap();
        for _ in 0..2 {
            if message == "WATCHDOG=1\n" {
                message = heard(&socket, LIMIT * 4).unwrap();
            }
        }
        assert_eq!(message, "STATUS=Blocked: gateway\n");
        assert_eq!(heard(&socket, LIMIT * 2), None, "no food while it is blocked");
        drop(block);
        reactor.join().unwrap();
        // It has ended in good order, which is no reason to be killed.
        assert_eq!(heard(&socket, LIMIT).as_deref(), Some("WATCHDOG=1\n"));
        drop(watchdog);
    }

    #[tokio::test]
    async fn a_question_without_an_answer_is_silence() {
        let (_dir, socket, notifier) = manager();
        let heartbeats = Heartbeats::with_limit(Some(LIMIT));
        let hang = Arc::new(AtomicBool::new(false));
        let probe = tokio::spawn({
            let (heartbeats, hang) = (heartbeats.clone(), Arc::clone(&hang));
            async move {
                let question = || {
                    let hang = Arc::clone(&hang);
                    async move {
                        if hang.load(Ordering::Relaxed) {
                            std::future::pending::<()>().await;
                        }
                    }
                };
                heartbeats.probe("store", question).await;
            }
        });
        while heartbeats.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        let watchdog = heartbeats.feed(Arc::new(notifier)).unwrap();
        let (socket, messages) = tokio::task::spawn_blocking(move || {
            let first: Vec<_> = (0..4).map(|_| heard(&socket, LIMIT)).collect();
            hang.store(true, Ordering::Relaxed);
            let rest: Vec<_> = (0..3).map_while(|_| heard(&socket, LIMIT * 2)).collect();
            (socket, (first, rest))
        })
        .await
        .unwrap();
        assert!(messages.0.iter().all(|message| message.as_deref() == Some("WATCHDOG=1\n")), "{messages:?}");
        assert_eq!(messages.1.last().map(String::as_str), Some("STATUS=Blocked: store\n"), "{messages:?}");
        probe.abort();
        drop((watchdog, socket));
    }
}
