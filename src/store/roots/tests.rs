//! The keeper of temp roots with a daemon of our own, which notes what it is asked; the real one is in `store/tests`.

use super::*;
use crate::nix::StoreDir;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// What happened to the daemon, in order: connections by number.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Event {
    Came(usize),
    Root(usize, String),
    Left(usize),
}

#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<Event>>>, Arc<tokio::sync::Notify>);

impl Notes {
    fn add(&self, event: Event) {
        self.0.lock().push(event);
        self.1.notify_waiters();
    }

    fn all(&self) -> Vec<Event> {
        self.0.lock().clone()
    }

    async fn until(&self, wanted: impl Fn(&[Event]) -> bool) -> Vec<Event> {
        loop {
            let noted = self.1.notified();
            let all = self.all();
            if wanted(&all) {
                return all;
            }
            noted.await;
        }
    }
}

/// A daemon on a socket in a temporary directory, until dropped.
struct Played {
    directory: tempfile::TempDir,
    notes: Notes,
    serving: tokio::task::JoinSet<()>,
}

impl Played {
    fn start() -> Self {
        let mut played = Self {
            directory: tempfile::tempdir().unwrap(),
            notes: Notes::default(),
            serving: tokio::task::JoinSet::new(),
        };
        played.listen();
        played
    }

    fn listen(&mut self) {
        let listener = UnixListener::bind(self.directory.path().join("socket")).unwrap();
        let notes = self.notes.clone();
        self.serving.spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let number = notes.all().iter().filter(|event| matches!(event, Event::Came(_))).count();
                notes.add(Event::Came(number));
                connections.spawn(serve(stream, number, notes.clone()));
            }
        });
    }

    /// Hangs up on everybody.
    async fn stop(&mut self) {
        self.serving.shutdown().await;
        std::fs::remove_file(self.directory.path().join("socket")).unwrap();
    }

    fn roots(&self) -> Roots {
        self.roots_with(TIMES)
    }

    fn roots_with(&self, times: Times) -> Roots {
        let daemon = Daemon::new(self.directory.path().join("socket"), StoreDir::default());
        Roots::start_with(Arc::new(daemon), times)
    }
}

async fn serve(mut stream: UnixStream, number: usize, notes: Notes) {
    // Protocol 1.32: nothing but the end of the messages follows the greeting. Who only knocks is let go.
    let mut greeting = [0; 16];
    for replies in [&[0x6478_696f, 0x120][..], &[0x616c_7473]] {
        if stream.read_exact(&mut greeting).await.is_err() {
            return;
        }
        for reply in replies {
            stream.write_u64_le(*reply).await.unwrap();
        }
    }
    while let Ok(operation) = stream.read_u64_le().await {
        assert_eq!(operation, 11);
        let length = usize::try_from(stream.read_u64_le().await.unwrap()).unwrap();
        let mut text = vec![0; length.next_multiple_of(8)];
        stream.read_exact(&mut text).await.unwrap();
        notes.add(Event::Root(number, String::from_utf8(text[..length].to_vec()).unwrap()));
        stream.write_u64_le(0x616c_7473).await.unwrap();
        stream.write_u64_le(1).await.unwrap();
    }
    notes.add(Event::Left(number));
}

fn path(number: usize) -> StorePath {
    format!("7cs5xzrnw5p6mdmr7ym2qhg320xn66fi-{number}").parse().unwrap()
}

fn root(connection: usize, number: usize) -> Event {
    Event::Root(connection, StoreDir::default().join(&path(number)))
}

#[tokio::test]
async fn a_root_is_added_once_while_it_is_there() {
    let played = Played::start();
    let roots = played.roots();
    let first = roots.hold(&path(1)).await.unwrap();
    let second = roots.hold(&path(1)).await.unwrap();
    drop(first);
    let third = roots.hold(&path(1)).await.unwrap();
    drop((second, third));
    // Not needed by anybody at the moment, but still on the connection.
    let _fourth = roots.hold(&path(1)).await.unwrap();
    assert_eq!(played.notes.all(), [Event::Came(0), root(0, 1)]);
}

#[tokio::test]
async fn roots_do_not_pile_up() {
    let played = Played::start();
    let roots = played.roots();
    let _kept = [roots.hold(&path(0)).await.unwrap(), roots.hold(&path(1)).await.unwrap()];
    // Two connections full, and a third nearly so.
    for number in 2..3 * ROOTS_MAX - 10 {
        drop(roots.hold(&path(number)).await.unwrap());
    }
    let is_left = |all: &[Event]| all.contains(&Event::Left(1));
    let events = played.notes.until(is_left).await;
    let on = |connection: usize| {
        events.iter().filter(|event| matches!(event, Event::Root(on, _) if *on == connection)).count()
    };
    assert_eq!((on(0), on(1)), (ROOTS_MAX, ROOTS_MAX));
    assert!(on(2) < ROOTS_MAX && on(3) == 0);
    for connection in 1..3 {
        let at = |event: &Event| events.iter().position(|other| other == event).unwrap();
        let left = at(&Event::Left(connection - 1));
        for kept in 0..2 {
            assert!(at(&root(connection, kept)) < left, "what is needed moves before the old connection ends");
        }
    }
}

#[tokio::test]
async fn nobody_left_means_no_connection() {
    let played = Played::start();
    let roots = played.roots_with(Times { idle: Duration::from_millis(20), ..TIMES });
    let guard = roots.hold(&path(1)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(played.notes.all(), [Event::Came(0), root(0, 1)], "still needed");
    drop(guard);
    played.notes.until(|all| all.contains(&Event::Left(0))).await;
    let guard = roots.hold(&path(1)).await.unwrap();
    assert_eq!(played.notes.all()[3..], [Event::Came(1), root(1, 1)]);
    // The end of all takes the connection with it.
    drop((roots, guard));
    played.notes.until(|all| all.contains(&Event::Left(1))).await;
}

#[tokio::test]
async fn a_daemon_that_comes_back_gets_the_roots_again() {
    let mut played = Played::start();
    let roots = played.roots();
    let guards = [roots.hold(&path(1)).await.unwrap(), roots.hold(&path(2)).await.unwrap()];
    drop(roots.hold(&path(3)).await.unwrap());
    played.stop().await;
    let error = roots.hold(&path(4)).await.expect_err("there is no daemon");
    assert!(error.is_absent(), "{error:?}");
    played.listen();
    let events = played.notes.until(|all| all.contains(&root(1, 1)) && all.contains(&root(1, 2))).await;
    assert!(!events.contains(&root(1, 3)), "nobody needs that any more");
    drop(guards);
}

#[tokio::test]
async fn a_silent_daemon_costs_a_bounded_wait_and_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let daemon = Daemon::new(socket, StoreDir::default()).with_connect_timeout(Duration::from_millis(200));
    let times = Times { hold_timeout: Duration::from_millis(100), ..TIMES };
    let roots = Roots::start_with(Arc::new(daemon), times);
    let start = Instant::now();
    let error = roots.hold(&path(1)).await.unwrap_err();
    assert!(matches!(error, StoreError::RootNotInTime), "{error:?}");
    assert!(start.elapsed() >= times.hold_timeout && start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    // Once the daemon is known to be silent, the answer is there at once.
    let error = loop {
        match roots.hold(&path(2)).await.unwrap_err() {
            StoreError::RootNotInTime => assert!(start.elapsed() < Duration::from_secs(10)),
            other => break other,
        }
    };
    assert!(matches!(error.inner(), StoreError::DaemonSilent { .. }), "{error:?}");
    let start = Instant::now();
    for number in 3..100 {
        assert!(roots.hold(&path(number)).await.is_err());
    }
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    drop(listener);
}
