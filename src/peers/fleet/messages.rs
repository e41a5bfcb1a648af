//! What members tell each other of the fleet, and what the two sides of the exchange say that a code opens, as JSON.

use super::pairing::{Code, PairingError};
use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};

/// The body of `GET /peernix/v1/fleet`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Document {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) revocations: Option<String>,
    /// The asker's own, renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) membership: Option<String>,
}

/// The body of a request of the exchange.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PairingRequest {
    pub(super) number: String,
    /// In the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) message: Option<String>,
    /// In the second one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) proof: Option<String>,
    /// What the one who joins calls itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) name: String,
}

/// What is answered to a request of the exchange.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PairingReply {
    /// To the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) message: Option<String>,
    /// To the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) proof: Option<String>,
    /// To the second one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) membership: Option<String>,
    /// To the second one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) revocations: Option<String>,
}

/// The first request of the exchange.
pub(in crate::peers) fn first_request(code: &Code, message: &[u8]) -> Bytes {
    request(code, Some(message), None, "")
}

/// The second one, of a machine that is called `name`.
pub(in crate::peers) fn second_request(code: &Code, proof: &[u8], name: &str) -> Bytes {
    request(code, None, Some(proof), name)
}

fn request(code: &Code, message: Option<&[u8]>, proof: Option<&[u8]>, name: &str) -> Bytes {
    let [message, proof] = [message, proof].map(|bytes| bytes.map(|bytes| BASE64URL_NOPAD.encode(bytes)));
    let request = PairingRequest { number: code.number().to_owned(), message, proof, name: name.to_owned() };
    serde_json::to_vec(&request).unwrap_or_default().into()
}

impl PairingReply {
    /// The answer to the first request: the message, and the proof.
    pub(in crate::peers) fn first(body: &[u8]) -> Result<(Vec<u8>, Vec<u8>), PairingError> {
        let reply: Self = serde_json::from_slice(body).map_err(|_| PairingError::Malformed)?;
        let bytes = |text: Option<String>| {
            text.and_then(|text| BASE64URL_NOPAD.decode(text.as_bytes()).ok()).ok_or(PairingError::Malformed)
        };
        Ok((bytes(reply.message)?, bytes(reply.proof)?))
    }

    /// The answer to the second: the membership, and the list of revocations if there is one.
    pub(in crate::peers) fn second(body: &[u8]) -> Result<(String, Option<String>), PairingError> {
        let reply: Self = serde_json::from_slice(body).map_err(|_| PairingError::Malformed)?;
        Ok((reply.membership.ok_or(PairingError::Malformed)?, reply.revocations))
    }
}
