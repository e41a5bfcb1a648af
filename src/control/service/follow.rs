//! What happens in the rooms, told to those who listen.

use super::Controller;
use crate::control::types::{Event, EventKind};
use crate::fetch::FetchEvent;
use crate::http::ShareEvent;
use crate::index::Told;
use crate::peers::{PeerEvent, State, Troubles};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::sync::watch;

/// Begins to follow the rooms, until the controller stops.
pub(super) fn start(controller: &Controller) {
    let parts = &controller.0.parts;
    spawn(controller, peers(controller.clone(), parts.peers.subscribe()));
    spawn(controller, troubles(controller.clone(), parts.peers.troubles()));
    spawn(controller, fetches(controller.clone(), parts.fetcher.subscribe()));
    spawn(controller, indexes(controller.clone(), parts.index.updates()));
    spawn(controller, shares(controller.clone(), parts.share.subscribe()));
    spawn(controller, parts.keys.clone().tend());
    spawn(controller, super::store::expire_pins(controller.clone()));
}

fn spawn(controller: &Controller, work: impl Future<Output = ()> + Send + 'static) {
    let stop = controller.0.stop.clone();
    controller.0.tasks.spawn(async move {
        stop.run_until_cancelled(work).await;
    });
}

async fn peers(controller: Controller, mut events: Receiver<PeerEvent>) {
    loop {
        match events.recv().await {
            Ok(event) => controller.tell(peer_event(event)),
            Err(RecvError::Lagged(missed)) => log::debug!("{missed} changes of peers came too fast to be told"),
            Err(RecvError::Closed) => return,
        }
    }
}

/// Tells what peers tell of what they have.
async fn indexes(controller: Controller, mut updates: Receiver<Told>) {
    loop {
        match updates.recv().await {
            Ok(told) => {
                let peer = controller.0.parts.peers.get(told.id).map(|peer| peer.name());
                controller.tell(Event {
                    peer: Some(told.id.to_string()),
                    name: peer.filter(|name| !name.is_empty()),
                    bytes: Some(told.bytes),
                    message: Some(format!("{} paths, {} more and {} less", told.entries, told.added, told.removed)),
                    ..Event::new(EventKind::IndexUpdated)
                });
            }
            Err(RecvError::Lagged(missed)) => log::debug!("{missed} updates of indexes came too fast to be told"),
            Err(RecvError::Closed) => return,
        }
    }
}

fn peer_event(event: PeerEvent) -> Event {
    let about = |kind, id: crate::peers::NodeId, name: String| Event {
        peer: Some(id.to_string()),
        name: (!name.is_empty()).then_some(name),
        ..Event::new(kind)
    };
    match event {
        PeerEvent::Changed { id, name, from: None, to } => {
            Event { to: Some(to.to_string()), ..about(EventKind::PeerAdded, id, name) }
        }
        PeerEvent::Changed { id, name, from: Some(from), to } => Event {
            from: Some(from.to_string()),
            to: Some(to.to_string()),
            ..about(EventKind::PeerStateChanged, id, name)
        },
        PeerEvent::Forgotten { id, name } => about(EventKind::PeerRemoved, id, name),
        PeerEvent::Banned { id, name, reason } | PeerEvent::Blocked { id, name, reason } => {
            Event { message: Some(reason), ..about(EventKind::PeerBlocked, id, name) }
        }
        PeerEvent::Unblocked { id, name } => {
            Event { to: Some(State::Offline.to_string()), ..about(EventKind::PeerUnblocked, id, name) }
        }
        PeerEvent::Added { address } => Event { message: Some(address), ..Event::new(EventKind::PeerAdded) },
    }
}

/// Tells what is wrong with how machines find each other, also what was so before anybody listened.
async fn troubles(controller: Controller, mut troubles: watch::Receiver<Troubles>) {
    let mut before = Troubles::default();
    loop {
        let now = troubles.borrow_and_update().clone();
        changes(&before, &now).into_iter().for_each(|event| controller.tell(event));
        before = now;
        if troubles.changed().await.is_err() {
            return;
        }
    }
}

fn changes(before: &Troubles, now: &Troubles) -> Vec<Event> {
    let event = |kind, to: &str, message| Event { to: Some(to.to_owned()), message, ..Event::new(kind) };
    let mut events = Vec::new();
    if before.discovery != now.discovery {
        let to = if now.discovery.is_some() { "blocked" } else { "working" };
        events.push(event(EventKind::DiscoveryChanged, to, now.discovery.clone()));
    }
    if before.twin != now.twin {
        let to = if now.twin.is_some() { "found" } else { "gone" };
        let address = now.twin.or(before.twin).map(|address| address.to_string());
        events.push(event(EventKind::IdentityConflict, to, address));
    }
    events
}

async fn fetches(controller: Controller, mut events: Receiver<FetchEvent>) {
    loop {
        match events.recv().await {
            Ok(event) => controller.tell(fetch_event(&controller, event)),
            Err(RecvError::Lagged(missed)) => log::debug!("{missed} transfers came too fast to be told"),
            Err(RecvError::Closed) => return,
        }
    }
}

async fn shares(controller: Controller, mut events: Receiver<ShareEvent>) {
    loop {
        match events.recv().await {
            Ok(ShareEvent::Damaged(path)) => {
                let path = controller.0.parts.store.dir().join(&path);
                controller.tell(Event { path: Some(path), ..Event::new(EventKind::PathDamaged) });
            }
            Err(RecvError::Lagged(missed)) => log::debug!("{missed} damaged paths came too fast to be told"),
            Err(RecvError::Closed) => return,
        }
    }
}

fn fetch_event(controller: &Controller, event: FetchEvent) -> Event {
    let parts = &controller.0.parts;
    let full = |path: &crate::nix::StorePath| Some(parts.store.dir().join(path));
    match event {
        FetchEvent::TransferStarted { id, path, bytes } => {
            Event { id: Some(id), path: full(&path), bytes: Some(bytes), ..Event::new(EventKind::TransferStarted) }
        }
        FetchEvent::TransferWaiting { id, path, bytes } => {
            Event { id: Some(id), path: full(&path), bytes: Some(bytes), ..Event::new(EventKind::TransferWaiting) }
        }
        FetchEvent::TransferClaimed { id, path, follows } => Event {
            id: Some(id),
            path: full(&path),
            to: Some(if follows.is_some() { "follows" } else { "downloads" }.to_owned()),
            message: follows.map(|source| source.to_string()),
            ..Event::new(EventKind::TransferClaimed)
        },
        FetchEvent::TransferFinished { id, path, bytes, sources, result } => Event {
            id: Some(id),
            path: full(&path),
            bytes: Some(bytes),
            from: (!sources.is_empty()).then(|| sources.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
            to: Some(if result.is_ok() { "done" } else { "failed" }.to_owned()),
            message: result.err().map(|error| error.to_string()),
            ..Event::new(EventKind::TransferFinished)
        },
        FetchEvent::Violation { peer, hash, path, reason } => Event {
            peer: Some(peer.to_string()),
            name: parts.peers.get(peer).map(|peer| peer.name()).filter(|name| !name.is_empty()),
            path: path.as_ref().and_then(full).or_else(|| Some(hash.to_string())),
            message: Some(reason),
            ..Event::new(EventKind::TrustViolation)
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_trouble_is_told_when_it_comes_and_when_it_goes() {
        let none = Troubles::default();
        let blocked = Troubles { discovery: Some("the port is taken".into()), twin: None };
        let both = Troubles { twin: Some("192.0.2.1:7650".parse().unwrap()), ..blocked.clone() };
        let told = |before: &Troubles, now: &Troubles| {
            let tell = |event: Event| (event.kind, event.to.unwrap_or_default(), event.message.unwrap_or_default());
            changes(before, now).into_iter().map(tell).collect::<Vec<_>>()
        };
        let (discovery, twin) = (EventKind::DiscoveryChanged, EventKind::IdentityConflict);
        assert_eq!(told(&none, &none), []);
        assert_eq!(told(&none, &blocked), [(discovery, "blocked".to_owned(), "the port is taken".to_owned())]);
        assert_eq!(told(&blocked, &both), [(twin, "found".to_owned(), "192.0.2.1:7650".to_owned())]);
        let gone =
            [(discovery, "working".to_owned(), String::new()), (twin, "gone".to_owned(), "192.0.2.1:7650".to_owned())];
        assert_eq!(told(&both, &none), gone);
    }
}
