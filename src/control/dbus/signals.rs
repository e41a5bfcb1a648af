//! What is told to everybody on the bus: the events that are rare, each as a signal of its own.
//!
//! Any user may listen on the system bus, so there is nothing in them that is not for everybody.

use super::dict::text;
use super::methods::MANAGER;
use super::paths::{ROOT, job_path, key_path, none, peer_path};
use crate::control::{Event, EventKind};
use serde::Serialize;
use zbus::message::Message;
use zbus::{Connection, DynamicType};

/// Tells an event to everybody, if it is for everybody.
pub(super) async fn tell(connection: &Connection, event: &Event) {
    let told = async {
        match message(event)? {
            Some(message) => connection.send(&message).await,
            None => Ok(()),
        }
    };
    if let Err(error) = told.await {
        log::debug!("an event cannot be told on the bus: {error}");
    }
}

/// The signal of an event, as the interface of the manager describes it.
fn message(event: &Event) -> zbus::Result<Option<Message>> {
    let part = |part: &Option<String>| part.as_deref().map(text).unwrap_or_default();
    let (id, name, path) = (&part(&event.peer), &part(&event.name), &part(&event.path));
    let (from, to, message) = (&part(&event.from), &part(&event.to), &part(&event.message));
    let (number, bytes) = (event.id.unwrap_or_default(), event.bytes.unwrap_or_default());
    let peer = || if id.is_empty() { none() } else { peer_path(id) };
    let key = |key: &Option<String>| key.as_deref().map_or_else(none, key_path);
    let job = || event.id.map_or_else(none, job_path);
    let signal = match event.kind {
        EventKind::PeerAdded => signal("PeerAdded", &(id, peer())),
        EventKind::PeerRemoved => signal("PeerRemoved", &(id, peer(), message)),
        EventKind::PeerStateChanged => signal("PeerStateChanged", &(id, name, from, to)),
        EventKind::PeerBlocked => signal("PeerBlocked", &(id, name, message)),
        EventKind::PeerUnblocked => signal("PeerUnblocked", &(id, name)),
        EventKind::TrustViolation => signal("TrustViolation", &(id, name, path, message)),
        EventKind::PathDamaged => signal("PathDamaged", &(path,)),
        EventKind::KeyRotated => signal("KeyRotated", &(key(&event.from), key(&event.to))),
        EventKind::KeyRevoked => signal("KeyRevoked", &(name, message)),
        EventKind::TrustChanged => signal("TrustChanged", &(name,)),
        EventKind::FleetChanged => signal("FleetChanged", &(id, to)),
        EventKind::Reloaded => signal("Reloaded", &(true, "")),
        EventKind::ReloadFailed => signal("Reloaded", &(false, message)),
        EventKind::DrainChanged => signal("DrainChanged", &(event.to.as_deref() == Some("draining"),)),
        EventKind::GarbageCollected => signal("GarbageCollected", &(bytes, job())),
        EventKind::PinChanged => signal("PinChanged", &(path, to)),
        EventKind::StatisticsReset => signal("StatisticsReset", &()),
        EventKind::DiscoveryChanged => signal("DiscoveryChanged", &(event.to.as_deref() == Some("working"), message)),
        EventKind::IdentityChanged => signal("IdentityChanged", &(from, to)),
        EventKind::IdentityConflict => signal("IdentityConflict", &(event.to.as_deref() == Some("found"), message)),
        EventKind::JobStarted => signal("JobStarted", &(number, job(), message)),
        EventKind::JobFinished => signal("JobFinished", &(number, job(), to)),
        EventKind::TransferStarted
        | EventKind::TransferWaiting
        | EventKind::TransferClaimed
        | EventKind::TransferFinished
        | EventKind::IndexUpdated => return Ok(None),
    };
    signal.map(Some)
}

fn signal<B: Serialize + DynamicType>(name: &'static str, body: &B) -> zbus::Result<Message> {
    Message::signal(ROOT, MANAGER, name).build(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_as_the_interface_describes_them() {
        let description = include_str!("../../../dbus/org.peernix.Peernix1.Manager.xml");
        for kind in EventKind::ALL {
            let Some(message) = message(&Event::new(*kind)).unwrap() else {
                assert!(kind.is_frequent());
                continue;
            };
            let name = message.header().member().unwrap().to_string();
            let described = description.split_once(&format!("<signal name=\"{name}\"")).unwrap().1;
            // One without parts ends at once.
            let end = described.find("</signal>").filter(|_| !described.starts_with("/>")).unwrap_or_default();
            let types = described[..end].split("type=\"").skip(1).map(|part| part.split('"').next().unwrap());
            assert_eq!(message.header().signature().to_string_no_parens(), types.collect::<String>(), "{name}");
        }
    }
}
