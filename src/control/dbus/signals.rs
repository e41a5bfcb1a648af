//! What is told to everybody on the bus: the events that are rare, each as a signal of its own.
//!
//! Any user may listen on the system bus, so there is nothing in them that is not for everybody.

use super::dict::text;
use super::manager::{Manager, key_or_none};
use super::model::{ROOT, job_path, none, peer_path};
use crate::control::{Event, EventKind};
use zbus::object_server::SignalEmitter;
use zbus::{Connection, OwnedObjectPath};

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
    let number = event.id.unwrap_or_default();
    let peer = || if id.is_empty() { none() } else { peer_path(id) };
    let job = || event.id.map_or_else(none, job_path);
    match event.kind {
        EventKind::PeerAdded => Manager::peer_added(emitter, id, inner(peer())).await,
        EventKind::PeerRemoved => Manager::peer_removed(emitter, id, inner(peer()), message).await,
        EventKind::PeerStateChanged => Manager::peer_state_changed(emitter, id, name, from, to).await,
        EventKind::PeerBlocked => Manager::peer_blocked(emitter, id, name, message).await,
        EventKind::PeerUnblocked => Manager::peer_unblocked(emitter, id, name).await,
        EventKind::TrustViolation => Manager::trust_violation(emitter, id, name, path, message).await,
        EventKind::KeyRotated => {
            let (old, new) = (key_or_none(event.from.as_deref()), key_or_none(event.to.as_deref()));
            Manager::key_rotated(emitter, inner(old), inner(new)).await
        }
        EventKind::KeyRevoked => Manager::key_revoked(emitter, name, message).await,
        EventKind::TrustChanged => Manager::trust_changed(emitter, name).await,
        EventKind::Reloaded => Manager::reloaded(emitter, true, "").await,
        EventKind::ReloadFailed => Manager::reloaded(emitter, false, message).await,
        EventKind::DrainChanged => Manager::drain_changed(emitter, event.to.as_deref() == Some("draining")).await,
        EventKind::GarbageCollected => {
            Manager::garbage_collected(emitter, event.bytes.unwrap_or_default(), inner(job())).await
        }
        EventKind::PinChanged => Manager::pin_changed(emitter, path, to).await,
        EventKind::StatisticsReset => Manager::statistics_reset(emitter).await,
        EventKind::JobStarted => Manager::job_started(emitter, number, inner(job()), message).await,
        EventKind::JobFinished => Manager::job_finished(emitter, number, inner(job()), to).await,
        EventKind::TransferStarted | EventKind::TransferFinished => Ok(()),
    }
}

fn inner(path: OwnedObjectPath) -> zbus::ObjectPath<'static> {
    path.into_inner()
}
