//! Keys that sign, and keys that are trusted.

use super::words::words;
use serde::{Deserialize, Serialize};

words! {
    /// What a signing key does.
    KeyState {
        /// It signs.
        Active = "active",
        /// A newer one signs, and it still does too.
        Grace = "grace",
        /// It signs no more; what it signed counts.
        Retired = "retired",
        /// It signs no more, and what it signed does not count.
        Revoked = "revoked",
    }
}

words! {
    /// Who looks after a signing key.
    Managed {
        /// The service, in its state directory.
        State = "state",
        /// Whoever hands the service its credentials.
        Credential = "credential",
    }
}

words! {
    /// Why a key is trusted.
    TrustOrigin {
        /// `[trust] public_keys` of the configuration.
        Configuration = "configuration",
        /// nix.conf, or Nix's own default.
        Nix = "nix",
        /// An administrator added it while the service ran.
        Added = "added",
    }
}

/// A key that signs, or did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Key {
    /// What it is called in commands.
    pub fingerprint: String,
    /// Its name in signatures.
    pub name: String,
    /// Its public half, as Nix's `trusted-public-keys` has it.
    pub public_key: String,
    /// `ed25519`.
    pub algorithm: String,
    /// What it does.
    pub state: KeyState,
    /// When it was made; left out when nobody knows.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub created_timestamp: Option<u64>,
    /// When its grace ends.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_timestamp: Option<u64>,
    /// Who looks after it.
    pub managed: Managed,
}

/// What came of a rotation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rotation {
    /// The key that signed before, if there was one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub old: Option<Key>,
    /// The key that signs now.
    pub new: Key,
}

/// A key whose signatures let a path in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrustedKey {
    /// Its name in signatures.
    pub name: String,
    /// As Nix's `trusted-public-keys` has it.
    pub public_key: String,
    /// Why it is trusted.
    pub origin: TrustOrigin,
    /// What the administrator noted.
    pub comment: String,
    /// Whether an administrator took the trust away.
    pub distrusted: bool,
    /// When it was added or distrusted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub changed_timestamp: Option<u64>,
}
