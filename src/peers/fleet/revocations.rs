//! Who is no member any more, whatever its membership says: one list, of which members pass on the newest.

use super::signed::{FleetId, NotSigned, Signed, open};
use crate::peers::identity::NodeId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The most machines on the list.
pub(super) const REVOKED_MAX: usize = 1000;
/// The longest text of it, in bytes: some 70 of JSON for each, in base64.
pub(super) const TOKEN_MAX: usize = 128 * 1024;

/// The list. Of two the one with the higher number counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Revocations {
    pub(super) fleet: FleetId,
    /// Grows with each change: the microseconds since 1970, or one more than before. So a machine that lost the list has the last word with
    /// its next one.
    pub(super) serial: u64,
    /// Who, and since when, in seconds since 1970.
    pub(super) nodes: BTreeMap<NodeId, u64>,
}

impl Revocations {
    /// Nobody was revoked yet.
    pub(super) const fn none(fleet: FleetId) -> Self {
        Self { fleet, serial: 0, nodes: BTreeMap::new() }
    }

    /// What a text of this fleet says.
    pub(super) fn open(token: &str, fleet: FleetId) -> Result<Self, NotSigned> {
        open::<Self>(token, Some(fleet))
            .and_then(|told| if told.nodes.len() > REVOKED_MAX { Err(NotSigned::Malformed) } else { Ok(told) })
    }
}

impl Signed for Revocations {
    const CONTEXT: &'static str = "peernix-revocations-1";
    const TOKEN_MAX: usize = TOKEN_MAX;

    fn fleet(&self) -> FleetId {
        self.fleet
    }
}
