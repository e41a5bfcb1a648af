//! `org.peernix.Peernix1.Key`: one signing key as an object.

use super::dict::{Dict, text};
use super::errors::CallError;
use super::model::{Properties, Shown, View};
use super::object::{Item, Object};
use super::options::{self, Options};
use super::paths::key_path;
use crate::control::Key;
use zbus::message::Header;
use zbus::{Connection, OwnedObjectPath, interface};

impl Shown for Key {
    fn shown(&self) -> Properties {
        vec![
            ("State", self.state.as_str().into()),
            ("ExpiresTimestamp", self.expires_timestamp.unwrap_or_default().into()),
        ]
    }
}

impl Item for Key {
    fn path(&self) -> OwnedObjectPath {
        key_path(&self.fingerprint)
    }

    fn find<'v>(&self, view: &'v View) -> Option<&'v Self> {
        view.keys.get(&self.fingerprint)
    }
}

/// A key that signs what is built here, or did. Never its secret half.
#[interface(name = "org.peernix.Peernix1.Key")]
impl Object<Key> {
    /// Never signs with it again.
    #[zbus(out_args("changed"))]
    async fn revoke(
        &self,
        reason: &str,
        options: Dict,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<bool, CallError> {
        Options::none(options)?;
        let _call = self.callers.enter(connection, &header).await?;
        Ok(self.model.control.revoke_key(&self.first.fingerprint, options::text(reason)?).await?)
    }

    /// What it is called in commands.
    #[zbus(property(emits_changed_signal = "const"))]
    fn fingerprint(&self) -> String {
        text(&self.first.fingerprint)
    }

    /// Its name in signatures.
    #[zbus(property(emits_changed_signal = "const"))]
    fn name(&self) -> String {
        text(&self.first.name)
    }

    /// Its public half, as trusted-public-keys of Nix has it.
    #[zbus(property(emits_changed_signal = "const"))]
    fn public_key(&self) -> String {
        text(&self.first.public_key)
    }

    /// ed25519.
    #[zbus(property(emits_changed_signal = "const"))]
    fn algorithm(&self) -> String {
        text(&self.first.algorithm)
    }

    /// When it was made, 0 if nobody knows.
    #[zbus(property(emits_changed_signal = "const"))]
    fn created_timestamp(&self) -> u64 {
        self.first.created_timestamp.unwrap_or_default()
    }

    /// Who looks after it: state (the service) or credential (whoever hands it over).
    #[zbus(property(emits_changed_signal = "const"))]
    fn managed(&self) -> String {
        self.first.managed.to_string()
    }

    /// What it does: active, grace, retired or revoked.
    #[zbus(property)]
    fn state(&self) -> String {
        self.now(|key| key.state.to_string())
    }

    /// When its grace ends, 0 if it has none.
    #[zbus(property)]
    fn expires_timestamp(&self) -> u64 {
        self.now(|key| key.expires_timestamp.unwrap_or_default())
    }
}
