//! Those who asked for every event: each gets them alone, and no faster than it reads them.
//!
//! What somebody does not read, the bus keeps for them, and counts it as ours: enough of it, and the bus takes nothing more from this
//! service at all. So after some events a subscriber is pinged, and gets more once it has answered; until then the
//! events wait in the one list that all readers share, and what it missed there is counted and told.

use super::dict::to_dict;
use super::errors::{self, CallError};
use super::methods::MANAGER;
use super::paths::ROOT;
use super::stream::next;
use crate::control::{ErrorKind, EventItem, Events};
use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use zbus::Connection;
use zbus::fdo::DBusProxy;
use zbus::names::{BusName, OwnedUniqueName, UniqueName};
use zbus::object_server::SignalEmitter;

/// Subscribers at once.
pub const SUBSCRIBERS_MAX: usize = 64;
/// Subscribers of one user at once, so that nobody takes all places.
pub const SUBSCRIBERS_PER_USER: usize = 16;
/// Events that a subscriber is sent before it must show that it reads them. One is at most some kilobytes.
const UNREAD_MAX: u32 = 256;

/// What a program answers that has no objects.
const UNKNOWN: &[&str] = &[
    "org.freedesktop.DBus.Error.UnknownMethod",
    "org.freedesktop.DBus.Error.UnknownObject",
    "org.freedesktop.DBus.Error.UnknownInterface",
];

/// All subscribers. A cheap handle: clones are the same.
#[derive(Clone, Default)]
pub(super) struct Subscribers(Arc<Mutex<HashMap<OwnedUniqueName, Subscriber>>>);

struct Subscriber {
    user: u32,
    stop: CancellationToken,
}

impl Subscribers {
    /// Sends events to a connection from now on, instead of those that it was sent before.
    pub(super) async fn add(
        &self,
        connection: &Connection,
        name: &UniqueName<'_>,
        events: Events,
    ) -> Result<(), CallError> {
        let bus = DBusProxy::new(connection).await?;
        let user = async || {
            let user = bus.get_connection_unix_user(BusName::from(name.clone())).await;
            user.map_err(|error| CallError::new(ErrorKind::Failed, error))
        };
        let stop = self.enter(name, user().await?)?;
        let gone = bus.receive_name_owner_changed_with_args(&[(0, name.as_str()), (2, "")]).await;
        // From here on it is told; a connection that went away before has no user any more.
        let (Ok(mut gone), Ok(_)) = (gone, user().await) else {
            self.leave(name, &stop);
            return Err(CallError::new(ErrorKind::Failed, "the subscriber is gone"));
        };
        let (subscribers, connection) = (self.clone(), connection.clone());
        let name: OwnedUniqueName = name.to_owned().into();
        tokio::spawn(async move {
            tokio::select! {
                () = send(&connection, &name, events) => {}
                _ = next(&mut gone) => {}
                () = connection.closed() => {}
                () = stop.cancelled() => return,
            }
            subscribers.leave(&name, &stop);
        });
        Ok(())
    }

    /// Sends nothing more to a connection.
    pub(super) fn remove(&self, name: &UniqueName<'_>) {
        if let Some(subscriber) = self.lock().remove(name) {
            subscriber.stop.cancel();
        }
    }

    fn enter(&self, name: &UniqueName<'_>, user: u32) -> Result<CancellationToken, CallError> {
        let mut all = self.lock();
        let others = || all.iter().filter(|(other, _)| other.as_str() != name.as_str());
        if others().count() >= SUBSCRIBERS_MAX
            || others().filter(|(_, other)| other.user == user).count() >= SUBSCRIBERS_PER_USER
        {
            let message =
                format!("{SUBSCRIBERS_PER_USER} connections of a user may subscribe, and {SUBSCRIBERS_MAX} of all");
            return Err(CallError::new(ErrorKind::LimitExceeded, message));
        }
        let stop = CancellationToken::new();
        let subscriber = Subscriber { user, stop: stop.clone() };
        if let Some(before) = all.insert(name.to_owned().into(), subscriber) {
            before.stop.cancel();
        }
        Ok(stop)
    }

    /// Forgets one whose connection is gone, unless it subscribed anew meanwhile: that cancels.
    fn leave(&self, name: &UniqueName<'_>, stop: &CancellationToken) {
        let mut all = self.lock();
        if !stop.is_cancelled() {
            all.remove(name);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<OwnedUniqueName, Subscriber>> {
        self.0.lock()
    }
}

/// Sends events until there are no more, or the connection is gone.
async fn send(connection: &Connection, name: &OwnedUniqueName, mut events: Events) {
    let Ok(emitter) = SignalEmitter::new(connection, ROOT) else { return };
    let emitter = emitter.set_destination(BusName::from(name.clone().into_inner()));
    let mut unread = 0;
    while let Some(Ok(item)) = events.next().await {
        let sent = match item {
            EventItem::Ready { .. } => continue,
            EventItem::Dropped { count } => emitter.emit(MANAGER, "EventsDropped", &(count,)).await,
            EventItem::Event(event) => match to_dict(&event) {
                Ok(event) => emitter.emit(MANAGER, "Event", &(event,)).await,
                Err(error) => {
                    log::warn!("an event cannot be told on the bus: {error}");
                    continue;
                }
            },
        };
        if sent.is_err() {
            return;
        }
        unread += 1;
        if unread == UNREAD_MAX {
            if !reads(connection, name).await {
                return;
            }
            unread = 0;
        }
    }
}

/// Waits until a connection has read what it was sent. False if nothing more can be sent to it.
async fn reads(connection: &Connection, name: &OwnedUniqueName) -> bool {
    let peer = Some("org.freedesktop.DBus.Peer");
    match connection.call_method(Some(name), "/", peer, "Ping", &()).await {
        Ok(_) => true,
        // One that does not know the method has read the call all the same.
        Err(error) if errors::name_of(&error).is_some_and(|(name, _)| UNKNOWN.contains(&name.as_str())) => true,
        Err(error) => {
            if !errors::is_absent(&error) {
                log::warn!(sender:% = name; "a subscriber gets no more events, for it cannot be pinged: {error}");
            }
            false
        }
    }
}
