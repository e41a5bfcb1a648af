//! Keys that sign, and keys that are trusted. A change of either is in force when it is answered.

use super::Controller;
use crate::control::types::{Key, KeyState, Managed, Rotation, TrustOrigin, TrustedKey};
use crate::control::{ControlError, ErrorKind, Event, EventKind, Outcome};
use crate::keys::{self, KeyView, KeysError, Origin, TrustedView};
use std::time::Duration;

/// Microseconds in a second.
const USEC: u64 = 1_000_000;

pub(super) fn list(controller: &Controller) -> Vec<Key> {
    controller.0.parts.keys.list().into_iter().map(key).collect()
}

pub(super) async fn rotate(controller: &Controller, grace: Option<Duration>) -> Outcome<Rotation> {
    let rotated = controller.0.parts.keys.rotate(grace).await?;
    let rotation = Rotation { old: rotated.old.map(key), new: key(rotated.new) };
    controller.tell(Event {
        name: Some(rotation.new.name.clone()),
        from: rotation.old.as_ref().map(|old| old.fingerprint.clone()),
        to: Some(rotation.new.fingerprint.clone()),
        ..Event::new(EventKind::KeyRotated)
    });
    Ok(rotation)
}

pub(super) async fn revoke(controller: &Controller, fingerprint: &str, reason: &str) -> Outcome<bool> {
    let Some(key) = controller.0.parts.keys.revoke(fingerprint, reason).await? else { return Ok(false) };
    let message = (!reason.is_empty()).then(|| reason.to_owned());
    let (name, from) = (Some(key.name), Some(key.fingerprint));
    controller.tell(Event { name, from, message, ..Event::new(EventKind::KeyRevoked) });
    Ok(true)
}

pub(super) fn trusted(controller: &Controller) -> Vec<TrustedKey> {
    controller.0.parts.trust.list().into_iter().map(trusted_key).collect()
}

pub(super) async fn trust(controller: &Controller, public_key: &str, comment: &str) -> Outcome<bool> {
    let changed = controller.0.parts.trust.add(public_key, comment, None).await?;
    tell_of_trust(controller, changed, public_key, "trusted");
    Ok(changed)
}

pub(super) async fn distrust(controller: &Controller, key: &str) -> Outcome<bool> {
    let changed = controller.0.parts.trust.remove(key).await?;
    tell_of_trust(controller, changed, key, "distrusted");
    Ok(changed)
}

fn tell_of_trust(controller: &Controller, changed: bool, key: &str, to: &str) {
    if changed {
        let name = key.split(':').next().unwrap_or(key).to_owned();
        controller.tell(Event { name: Some(name), to: Some(to.to_owned()), ..Event::new(EventKind::TrustChanged) });
    }
}

fn key(view: KeyView) -> Key {
    Key {
        fingerprint: view.fingerprint,
        name: view.name,
        public_key: view.public_key,
        algorithm: "ed25519".to_owned(),
        state: match view.state {
            keys::KeyState::Active => KeyState::Active,
            keys::KeyState::Grace => KeyState::Grace,
            keys::KeyState::Retired => KeyState::Retired,
            keys::KeyState::Revoked => KeyState::Revoked,
        },
        created_timestamp: (view.created != 0).then_some(view.created * USEC),
        expires_timestamp: view.expires.map(|seconds| seconds * USEC),
        managed: match view.managed {
            keys::Managed::State => Managed::State,
            keys::Managed::Credential => Managed::Credential,
        },
    }
}

fn trusted_key(view: TrustedView) -> TrustedKey {
    TrustedKey {
        name: view.name,
        public_key: view.public_key,
        origin: match view.origin {
            Origin::Configuration => TrustOrigin::Configuration,
            Origin::NixConf => TrustOrigin::Nix,
            Origin::Added => TrustOrigin::Added,
        },
        comment: view.comment,
        distrusted: view.distrusted,
        changed_timestamp: view.added.map(|seconds| seconds * USEC),
    }
}

impl From<KeysError> for ControlError {
    fn from(error: KeysError) -> Self {
        let kind = match &error {
            KeysError::NoSuchKey(_) | KeysError::NoSuchTrusted(_) => ErrorKind::NoSuchKey,
            KeysError::KeyInUse(_) => ErrorKind::KeyInUse,
            KeysError::ManagedExternally(_) => ErrorKind::KeyManagedExternally,
            KeysError::InvalidPublicKey(_) => ErrorKind::InvalidPublicKey,
            KeysError::NameTaken(_) => ErrorKind::KeyNameTaken,
            KeysError::Grace | KeysError::Comment | KeysError::Name(_) => ErrorKind::InvalidArgument,
            KeysError::TooMany { .. } => ErrorKind::LimitExceeded,
            _ => ErrorKind::Failed,
        };
        Self::new(kind, error)
    }
}
