//! What happens in the rooms, told to those who listen.

use super::Controller;
use crate::control::types::{Event, EventKind};
use crate::fetch::FetchEvent;
use crate::http::ShareEvent;
use crate::peers::{PeerEvent, State};
use tokio::sync::broadcast::{Receiver, error::RecvError};

/// Begins to follow the rooms, until the controller stops.
pub(super) fn start(controller: &Controller) {
    let parts = &controller.0.parts;
    spawn(controller, peers(controller.clone(), parts.peers.subscribe()));
    spawn(controller, fetches(controller.clone(), parts.fetcher.subscribe()));
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
