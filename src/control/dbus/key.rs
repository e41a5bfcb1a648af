//! `org.peernix.Peernix1.Key`: one signing key as an object.

use super::access::Callers;
use super::dict::{Dict, text};
use super::errors::Failure;
use super::model::Model;
use super::options::{self, Options};
use crate::control::Key;
use std::sync::Arc;
use zbus::message::Header;
use zbus::{Connection, interface};

/// One key.
pub(super) struct KeyObject {
    pub(super) model: Arc<Model>,
    pub(super) callers: Callers,
    /// As it was when the object was made.
    pub(super) first: Key,
}

impl KeyObject {
    fn now<T>(&self, look: impl FnOnce(&Key) -> T) -> T {
        look(self.model.view().keys.get(&self.first.fingerprint).unwrap_or(&self.first))
    }
}

/// A key that signs what is built here, or did. Never its secret half.
#[interface(name = "org.peernix.Peernix1.Key")]
impl KeyObject {
    /// Never signs with it again.
    #[zbus(out_args("changed"))]
    async fn revoke(
        &self,
        reason: &str,
        options: Dict,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<bool, Failure> {
        Options::none(options)?;
        let _call = self.callers.enter(connection, &header, "Key", "Revoke").await?;
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
