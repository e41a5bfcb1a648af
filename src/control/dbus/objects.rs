//! The objects on the bus: they come and go with what they stand for, and tell what changed.
//!
//! What happens is gathered for a moment and told at once: however much happens, it is a few messages a second.

use super::access::Callers;
use super::methods::MANAGER;
use super::model::{Model, Properties, Shown, View};
use super::object::{Item, Object};
use super::paths::ROOT;
use super::signals;
use crate::control::{Event, EventFilter, EventItem, EventKind, Job, JobState};
use parking_lot::Mutex;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use zbus::object_server::{Interface, SignalEmitter};
use zbus::{Connection, OwnedObjectPath, Variant};

/// The time between two looks at the service.
const PASS_EVERY: Duration = Duration::from_millis(250);
/// The events that are told to everybody between two looks; more are only told to those who subscribed.
const TOLD_MAX: usize = 256;

/// The objects. A cheap handle: clones are the same.
#[derive(Clone)]
pub(super) struct Objects {
    model: Arc<Model>,
    callers: Callers,
    /// Shown before the next look, and with what: it takes those away that are gone by then, and tells what has changed since.
    early: Arc<Mutex<HashMap<OwnedObjectPath, Properties>>>,
}

/// What was told of each object.
#[derive(Default)]
struct Told {
    root: Properties,
    peers: HashMap<OwnedObjectPath, Properties>,
    keys: HashMap<OwnedObjectPath, Properties>,
    jobs: HashMap<OwnedObjectPath, Properties>,
    /// Running jobs that somebody looks at.
    watched: HashSet<u64>,
}

impl Objects {
    pub(super) fn new(model: Arc<Model>, callers: Callers) -> Self {
        Self { model, callers, early: Arc::default() }
    }

    /// Shows something now: its object is about to be named in an answer.
    pub(super) async fn show<T: Item>(&self, connection: &Connection, item: &T)
    where
        Object<T>: Interface,
    {
        show(connection, &item.path(), self.object(item)).await;
        // After that, so that the next look finds the object if it has to take it away.
        self.early.lock().insert(item.path(), item.shown());
        self.model.hint.notify_one();
    }

    fn object<T: Item>(&self, item: &T) -> Object<T> {
        Object { model: Arc::clone(&self.model), callers: self.callers.clone(), first: item.clone() }
    }

    /// Keeps the objects of a connection as the service is, for as long as this is polled. Sends `ready` once they are all there.
    pub(super) async fn keep(&self, connection: &Connection, ready: tokio::sync::oneshot::Sender<()>) {
        let kinds = EventKind::ALL.iter().copied().filter(|kind| !kind.is_frequent()).collect();
        let mut events = match self.model.control.events(EventFilter { kinds, after: None }).await {
            Ok(events) => events,
            Err(error) => {
                log::warn!("the objects on the bus do not follow the service: {error}");
                return;
            }
        };
        let mut told = Told { root: self.model.view().shown(), ..Told::default() };
        self.look(connection, &mut told).await;
        let _ = ready.send(());
        let mut news: Vec<Event> = Vec::new();
        let mut looked = Instant::now();
        let mut due = false;
        loop {
            tokio::select! {
                item = events.next() => match item {
                    Some(Ok(EventItem::Event(event))) => {
                        due = true;
                        if news.len() < TOLD_MAX {
                            news.push(event);
                        }
                    }
                    Some(Ok(EventItem::Dropped { .. })) => due = true,
                    Some(Ok(EventItem::Ready { .. })) => {}
                    Some(Err(_)) | None => return,
                },
                () = self.model.hint.notified() => due = true,
                () = tokio::time::sleep_until(looked + PASS_EVERY), if due => {
                    self.look(connection, &mut told).await;
                    for event in news.drain(..) {
                        signals::tell(connection, &event).await;
                    }
                    due = false;
                    looked = Instant::now();
                }
            }
        }
    }

    /// Makes the objects what the service is now, and tells the differences.
    async fn look(&self, connection: &Connection, told: &mut Told) {
        let mut early = std::mem::take(&mut *self.early.lock());
        let view = self.model.renew().await;
        let root = view.shown();
        tell_changes(connection, ROOT, MANAGER, &told.root, &root).await;
        told.root = root;
        self.follow(connection, view.peers.values(), &mut early, &mut told.peers).await;
        self.follow(connection, view.keys.values(), &mut early, &mut told.keys).await;
        self.follow(connection, view.jobs.values(), &mut early, &mut told.jobs).await;
        self.watch_jobs(&view, told);
    }

    /// The progress of a job is no event: somebody looks at each while it runs.
    fn watch_jobs(&self, view: &View, told: &mut Told) {
        let running = |job: &&Job| job.state == JobState::Running;
        told.watched.retain(|id| view.jobs.get(id).is_some_and(|job| running(&job)));
        for job in view.jobs.values().filter(running) {
            if told.watched.insert(job.id) {
                let (model, id) = (Arc::clone(&self.model), job.id);
                tokio::spawn(async move {
                    let Ok(mut progress) = model.control.watch_job(id).await else { return };
                    while let Some(Ok(_)) = progress.next().await {
                        model.hint.notify_one();
                    }
                    model.hint.notify_one();
                });
            }
        }
    }

    /// Shows what is new, takes away what is gone, and tells what changed of the rest.
    async fn follow<'a, T: Item>(
        &self,
        connection: &Connection,
        now: impl Iterator<Item = &'a T>,
        early: &mut HashMap<OwnedObjectPath, Properties>,
        told: &mut HashMap<OwnedObjectPath, Properties>,
    ) where
        Object<T>: Interface,
    {
        let interface = Object::<T>::name();
        let mut gone = std::mem::take(told);
        for item in now {
            let (path, shown) = (item.path(), item.shown());
            // What was shown early may have changed since: a job that is over by now is waited for.
            let first = early.remove(&path);
            let before = gone.remove(&path).or(first);
            if before.is_none() {
                show(connection, &path, self.object(item)).await;
            }
            // Whoever asked about it before it was shown waits to hear how it goes on: it may have ended by now.
            tell_changes(connection, path.as_str(), &interface, &before.unwrap_or_default(), &shown).await;
            told.insert(path, shown);
        }
        // An object of another kind that was shown early is not found, and that is right.
        for path in gone.keys().chain(early.keys()) {
            if let Err(error) = connection.object_server().remove::<Object<T>, _>(&**path).await
                && !matches!(error, zbus::Error::InterfaceNotFound)
            {
                log::debug!("{path} cannot be taken off the bus: {error}");
            }
        }
    }
}

async fn show<I: Interface>(connection: &Connection, path: &OwnedObjectPath, object: I) {
    // What is there already stays as it is.
    if let Err(error) = connection.object_server().at(&**path, object).await {
        log::debug!("{path} cannot be shown on the bus: {error}");
    }
}

async fn tell_changes(
    connection: &Connection,
    path: &str,
    interface: &str,
    before: &[(&'static str, Variant<'static>)],
    now: &[(&'static str, Variant<'static>)],
) {
    let changed: HashMap<&str, Variant<'_>> = now
        .iter()
        .enumerate()
        .filter(|(place, now)| before.get(*place).is_none_or(|before| now.1 != before.1))
        .filter_map(|(_, now)| Some((now.0, now.1.try_clone().ok()?)))
        .collect();
    if changed.is_empty() {
        return;
    }
    let Ok(emitter) = SignalEmitter::new(connection, path) else { return };
    let Ok(interface) = zbus::names::InterfaceName::try_from(interface) else { return };
    let told = zbus::fdo::Properties::properties_changed(&emitter, interface, changed, Cow::Borrowed(&[])).await;
    if let Err(error) = told {
        log::debug!("changes of {path} cannot be told on the bus: {error}");
    }
}
