//! The fleet key, and what it signs: JSON and its signature, each in base64url, with a dot between them.
//!
//! What is signed begins with words that say what it is, so that no text of one kind can be shown as one of the other.

use crate::nix::FormatError;
use crate::peers::identity::NodeId;
use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use zeroize::{Zeroize as _, Zeroizing};

/// The size of a secret key in bytes: the seed of [RFC 8032](https://www.rfc-editor.org/rfc/rfc8032) and nothing else.
pub(super) const SEED_LEN: usize = 32;
/// The largest text that is read although the fleet key did not sign it, to tell whose it is.
const READ_UNSIGNED_MAX: usize = 1024;
/// The size of a signature in base64url.
const SIGNATURE_DIGITS: usize = 86;

/// The public half of a fleet key, which names the fleet. Written like the id of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FleetId(NodeId);

impl fmt::Display for FleetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for FleetId {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        text.parse().map(Self)
    }
}

/// The secret half. Its bytes are wiped when it is dropped and never printed.
pub struct FleetKey {
    key: SigningKey,
    id: FleetId,
}

impl fmt::Debug for FleetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FleetKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl FleetKey {
    /// The key of a seed.
    #[must_use]
    pub fn from_seed(mut seed: [u8; SEED_LEN]) -> Self {
        let key = SigningKey::from_bytes(&seed);
        seed.zeroize();
        let id = FleetId(NodeId::of(&key.verifying_key()));
        Self { key, id }
    }

    /// The key that 32 bytes are, of a file or of a credential; `None` if there are more or less of them.
    #[must_use]
    pub fn from_secret(secret: &[u8]) -> Option<Self> {
        let seed: Zeroizing<[u8; SEED_LEN]> = Zeroizing::new(secret.try_into().ok()?);
        Some(Self::from_seed(*seed))
    }

    /// The public half.
    #[must_use]
    pub const fn id(&self) -> FleetId {
        self.id
    }

    /// What is written of it, signed.
    pub(super) fn sign<T: Signed>(&self, value: &T) -> String {
        // Texts, numbers and lists of them: there is nothing that JSON could not hold.
        let payload = serde_json::to_vec(value).unwrap_or_default();
        let signature = self.key.sign(&message::<T>(&payload));
        format!("{}.{}", BASE64URL_NOPAD.encode(&payload), BASE64URL_NOPAD.encode(&signature.to_bytes()))
    }
}

/// Something that a fleet key signs.
pub(super) trait Signed: Serialize + DeserializeOwned {
    /// What is signed begins with this.
    const CONTEXT: &'static str;
    /// The longest text of it, in bytes.
    const TOKEN_MAX: usize;

    /// Whose it is, in its own words.
    fn fleet(&self) -> FleetId;
}

/// Why a text is none that a fleet key signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotSigned {
    #[error("it is not as the fleet key writes it")]
    Malformed,
    #[error("it is of the fleet {0}")]
    OtherFleet(FleetId),
    #[error("the fleet key did not sign it")]
    Forged,
}

fn message<T: Signed>(payload: &[u8]) -> Vec<u8> {
    [T::CONTEXT.as_bytes(), b"\n", payload].concat()
}

/// What a text says that `fleet` signed; `None`: whichever fleet it names itself.
pub(super) fn open<T: Signed>(token: &str, fleet: Option<FleetId>) -> Result<T, NotSigned> {
    if token.len() > T::TOKEN_MAX {
        return Err(NotSigned::Malformed);
    }
    let (payload, signature) = token.split_once('.').ok_or(NotSigned::Malformed)?;
    if signature.len() != SIGNATURE_DIGITS {
        return Err(NotSigned::Malformed);
    }
    let decode = |text: &str| BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| NotSigned::Malformed);
    let (payload, signature) = (decode(payload)?, decode(signature)?);
    let signature = Signature::from_slice(&signature).map_err(|_| NotSigned::Malformed)?;
    let signed_by = |fleet: FleetId| {
        let key = VerifyingKey::from_bytes(fleet.0.as_bytes()).map_err(|_| NotSigned::Malformed)?;
        // Strict: one text has one signature.
        key.verify_strict(&message::<T>(&payload), &signature).map_err(|_| NotSigned::Forged)
    };
    // What is read of a text that is not signed is little, and only for the sake of a reason.
    let known = fleet.map(signed_by);
    if known == Some(Err(NotSigned::Forged)) && payload.len() > READ_UNSIGNED_MAX {
        return Err(NotSigned::Forged);
    }
    let value: T = serde_json::from_slice(&payload).map_err(|_| NotSigned::Malformed)?;
    if fleet.is_some_and(|fleet| fleet != value.fleet()) {
        return Err(NotSigned::OtherFleet(value.fleet()));
    }
    known.unwrap_or_else(|| signed_by(value.fleet())).map(|()| value)
}
