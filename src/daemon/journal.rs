//! What an administrator must not miss, from the events of the service into the journal: with the ids under which the
//! journal's catalog explains it.

use crate::control::{Event, EventFilter, EventItem, EventKind, EventLog};
use crate::system::message_ids as ids;

/// The events that are worth a line.
const KINDS: [EventKind; 11] = [
    EventKind::TrustViolation,
    EventKind::PathDamaged,
    EventKind::KeyRotated,
    EventKind::KeyRevoked,
    EventKind::TrustChanged,
    EventKind::FleetChanged,
    EventKind::GarbageCollected,
    EventKind::DrainChanged,
    EventKind::DiscoveryChanged,
    EventKind::IdentityChanged,
    EventKind::IdentityConflict,
];

/// Writes down what happens, until it is dropped.
pub(super) async fn follow(events: EventLog) {
    // From the first on: some of it happens before anybody can listen.
    let mut events = events.subscribe(EventFilter { kinds: KINDS.to_vec(), after: Some(0) });
    while let Some(Ok(item)) = events.next().await {
        if let EventItem::Event(event) = item {
            write(&event);
        }
    }
}

fn write(event: &Event) {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (name, message) = (text(&event.name), text(&event.message));
    match event.kind {
        EventKind::TrustViolation => {
            let (peer, path) = (text(&event.peer), text(&event.path));
            log::error!(message_id = ids::TRUST_VIOLATION, peer = peer.as_str(), name = name.as_str(), path = path.as_str(), reason = message.as_str(); "a peer sent what was not what was signed: {message}");
        }
        EventKind::PathDamaged => {
            let path = text(&event.path);
            log::error!(message_id = ids::PATH_DAMAGED, path = path.as_str(); "{path} is damaged and is not shared any more: `nix-store --repair-path {path}`");
        }
        EventKind::KeyRotated => {
            log::info!(message_id = ids::KEY_ROTATED, key = name.as_str(); "{name} signs from now on what is built here");
        }
        EventKind::KeyRevoked => {
            let key = text(&event.from);
            log::warn!(message_id = ids::KEY_REVOKED, key = key.as_str(), reason = message.as_str(); "the signing key {key} was revoked");
        }
        EventKind::TrustChanged => {
            let to = text(&event.to);
            log::warn!(message_id = ids::TRUST_CHANGED, key = name.as_str(); "the key {name} is {to} from now on");
        }
        EventKind::FleetChanged => {
            let (peer, to) = (text(&event.peer), text(&event.to));
            match to.as_str() {
                "revoked" => log::warn!(peer = peer.as_str(); "the machine {peer} is a member of the fleet no more"),
                "enrolled" => {
                    log::info!(peer = peer.as_str(); "the machine {peer} was enrolled as a member of the fleet");
                }
                _ => log::info!(fleet = message.as_str(); "this machine {to} the fleet {message}"),
            }
        }
        EventKind::GarbageCollected => {
            let bytes = event.bytes.unwrap_or(0);
            log::info!(message_id = ids::GARBAGE_COLLECTED, bytes; "garbage collected: {message}");
        }
        EventKind::DrainChanged => {
            let draining = event.to.as_deref() == Some("draining");
            if draining {
                log::warn!(message_id = ids::DRAINING; "no new work is taken");
            } else {
                log::info!("new work is taken again");
            }
        }
        EventKind::DiscoveryChanged if event.to.as_deref() == Some("blocked") => {
            log::error!(message_id = ids::DISCOVERY_BLOCKED, reason = message.as_str(); "other machines cannot be found by themselves: {message}; it is tried again");
        }
        EventKind::DiscoveryChanged => log::info!("other machines are found again by themselves"),
        EventKind::IdentityChanged => {
            let (from, to) = (text(&event.from), text(&event.to));
            log::warn!(message_id = ids::IDENTITY_CHANGED, from = from.as_str(), to = to.as_str(); "the node key was another machine's (another /etc/machine-id), so this machine has a new one: it was {from} and is now {to}; the old key is kept in node.key.old");
        }
        EventKind::IdentityConflict if event.to.as_deref() == Some("found") => {
            log::error!(message_id = ids::IDENTITY_CONFLICT, address = message.as_str(); "another machine, at {message}, has this machine's node key: one of them was copied from the other");
        }
        EventKind::IdentityConflict => {
            log::info!(address = message.as_str(); "no other machine has this machine's node key any more");
        }
        _ => {}
    }
}
