//! What is told to everybody on the bus: the events that are rare, each as a signal of its own.
//!
//! Any user may listen on the system bus, so there is nothing in them that is not for everybody.

use super::dict::text;
use super::methods::MANAGER;
use super::paths::{ROOT, job_path, key_path, none, peer_path};
use crate::control::{Event, EventKind};
use serde::Serialize;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, DynamicType};

/// Tells an event to everybody.
pub(super) async fn tell(connection: &Connection, event: &Event) {
    if let Err(error) = emit(connection, event).await {
        log::debug!("an event cannot be told on the bus: {error}");
    }
}

async fn emit(connection: &Connection, event: &Event) -> zbus::Result<()> {
    let emitter = &SignalEmitter::new(connection, ROOT)?;
    let part = |part: &Option<String>| part.as_deref().map(text).unwrap_or_default();
    let (id, name, path) = (&part(&event.peer), &part(&event.name), &part(&event.path));
    let (from, to, message) = (&part(&event.from), &part(&event.to), &part(&event.message));
    let (number, bytes) = (event.id.unwrap_or_default(), event.bytes.unwrap_or_default());
    let peer = || if id.is_empty() { none() } else { peer_path(id) };
    let key = |key: &Option<String>| key.as_deref().map_or_else(none, key_path);
    let job = || event.id.map_or_else(none, job_path);
    match event.kind {
        EventKind::PeerAdded => signal(emitter, "PeerAdded", &(id, peer())).await,
        EventKind::PeerRemoved => signal(emitter, "PeerRemoved", &(id, peer(), message)).await,
        EventKind::PeerStateChanged => signal(emitter, "PeerStateChanged", &(id, name, from, to)).await,
        EventKind::PeerBlocked => signal(emitter, "PeerBlocked", &(id, name, message)).await,
        EventKind::PeerUnblocked => signal(emitter, "PeerUnblocked", &(id, name)).await,
        EventKind::TrustViolation => signal(emitter, "TrustViolation", &(id, name, path, message)).await,
        EventKind::KeyRotated => signal(emitter, "KeyRotated", &(key(&event.from), key(&event.to))).await,
        EventKind::KeyRevoked => signal(emitter, "KeyRevoked", &(name, message)).await,
        EventKind::TrustChanged => signal(emitter, "TrustChanged", &(name,)).await,
        EventKind::Reloaded => signal(emitter, "Reloaded", &(true, "")).await,
        EventKind::ReloadFailed => signal(emitter, "Reloaded", &(false, message)).await,
        EventKind::DrainChanged => signal(emitter, "DrainChanged", &(event.to.as_deref() == Some("draining"),)).await,
        EventKind::GarbageCollected => signal(emitter, "GarbageCollected", &(bytes, job())).await,
        EventKind::PinChanged => signal(emitter, "PinChanged", &(path, to)).await,
        EventKind::StatisticsReset => signal(emitter, "StatisticsReset", &()).await,
        EventKind::JobStarted => signal(emitter, "JobStarted", &(number, job(), message)).await,
        EventKind::JobFinished => signal(emitter, "JobFinished", &(number, job(), to)).await,
        EventKind::TransferStarted | EventKind::TransferFinished => Ok(()),
    }
}

/// Sends a signal of the service, as the manager describes it.
pub(super) async fn signal<B: Serialize + DynamicType>(
    emitter: &SignalEmitter<'_>,
    name: &'static str,
    body: &B,
) -> zbus::Result<()> {
    emitter.emit(MANAGER, name, body).await
}
