//! Keys as an administrator sees them.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Where one of our keys stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// It signs.
    Active,
    /// It was replaced and signs beside its successor for a while.
    Grace,
    /// It signs no more; what it signed is still ours.
    Retired,
    /// Nothing that it signed counts as ours.
    Revoked,
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Active => "active",
            Self::Grace => "grace",
            Self::Retired => "retired",
            Self::Revoked => "revoked",
        })
    }
}

/// Who replaces a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Managed {
    /// We do: it is in the state directory.
    State,
    /// The administrator: it is a credential of the service.
    Credential,
}

impl fmt::Display for Managed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::State => "state",
            Self::Credential => "credential",
        })
    }
}

/// One of our keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyView {
    /// See [`super::fingerprint()`].
    pub fingerprint: String,
    /// The name before the colon.
    pub name: String,
    /// The public half, as in `trusted-public-keys`.
    pub public_key: String,
    /// Where it stands.
    pub state: KeyState,
    /// When it was made, in seconds since 1970; 0 where nobody knows (a credential).
    pub created: u64,
    /// In grace: when that ends, in seconds since 1970.
    pub expires: Option<u64>,
    /// Who replaces it.
    pub managed: Managed,
    /// Of a revoked key: why, as the administrator put it.
    pub reason: Option<String>,
}

/// Where a trusted key comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// `[trust] public_keys`.
    Configuration,
    /// nix.conf, or what Nix has built in.
    NixConf,
    /// Added while the service ran.
    Added,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Configuration => "configuration",
            Self::NixConf => "nix-conf",
            Self::Added => "added",
        })
    }
}

/// One key of the trust list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrustedView {
    /// As in `trusted-public-keys`.
    pub public_key: String,
    /// See [`super::fingerprint()`].
    pub fingerprint: String,
    /// The name before the colon.
    pub name: String,
    /// Where it comes from.
    pub origin: Origin,
    /// What the one who added it wrote; empty if nothing.
    pub comment: String,
    /// The peer whose key it is, if that was said.
    pub peer: Option<String>,
    /// When it was added, in seconds since 1970.
    pub added: Option<u64>,
    /// Whether it stands in a file and was distrusted here, so that it does not count.
    pub distrusted: bool,
}
