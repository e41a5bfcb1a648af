//! What the fleet key says of one machine.

use super::signed::{FleetId, FleetKey, NotSigned, Signed, open};
pub use crate::peers::hello::MEMBERSHIP_MAX;
use crate::peers::hello::{TEXT_MAX, disturbing};
use crate::peers::identity::NodeId;
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The most roles of a machine.
const ROLES_MAX: usize = 8;
/// What a machine may do for others beside sharing, as memberships say it. A word that is none of these allows nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Speak for its site.
    Gateway,
    /// Tell what all have, in a room of so many machines that few of them do.
    Relay,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Gateway, Self::Relay];

    /// As memberships say it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Relay => "relay",
        }
    }
}

/// How long a membership is good for, if nobody says otherwise…
pub(super) const VALID: Duration = Duration::from_secs(365 * 24 * 3600);
/// … and how long at most.
pub(super) const VALID_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How long before its end it is renewed, by the machine that has the fleet key.
pub(super) const RENEWED_BEFORE: Duration = Duration::from_secs(60 * 24 * 3600);

/// That a machine belongs to a fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Membership {
    /// The fleet.
    pub fleet: FleetId,
    /// The machine.
    pub node: NodeId,
    /// What people call it.
    pub name: String,
    /// Where it is, in the words of the administrator; empty if nobody said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub site: String,
    /// What it may do for others beside sharing ([`Role`]); empty: all of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// When it ends, in seconds since 1970.
    pub not_after: u64,
    /// That it is not to be renewed: somebody said for how long it is to be.
    #[serde(default, rename = "final", skip_serializing_if = "std::ops::Not::not")]
    pub is_final: bool,
}

impl Signed for Membership {
    const CONTEXT: &'static str = "peernix-membership-1";
    const TOKEN_MAX: usize = MEMBERSHIP_MAX;

    fn fleet(&self) -> FleetId {
        self.fleet
    }
}

impl Membership {
    /// Whether it is over.
    #[must_use]
    pub fn is_over(&self, now: SystemTime) -> bool {
        seconds(now) >= self.not_after
    }

    /// Whether it ends so soon that it should be renewed.
    pub(super) fn is_to_be_renewed(&self, now: SystemTime) -> bool {
        !self.is_final && seconds(now).saturating_add(RENEWED_BEFORE.as_secs()) >= self.not_after
    }

    /// Whether it may do that for others.
    #[must_use]
    pub fn may(&self, role: Role) -> bool {
        self.roles.is_empty() || self.roles.iter().any(|of| of == role.as_str())
    }

    /// Whether its texts can be shown to people and written into a header.
    fn is_sound(&self) -> bool {
        is_sound(&self.name) && is_sound(&self.site) && are_sound(&self.roles)
    }

    /// As it is shown to others.
    pub(super) fn to_token(&self, key: &FleetKey) -> String {
        key.sign(self)
    }

    /// What a text says.
    pub(super) fn open(token: &str, fleet: Option<FleetId>) -> Result<Self, NotSigned> {
        open::<Self>(token, fleet)
            .and_then(|shown| if shown.is_sound() { Ok(shown) } else { Err(NotSigned::Malformed) })
    }
}

/// Whether they are few and short, and disturb no terminal.
pub(super) fn are_sound(roles: &[String]) -> bool {
    roles.len() <= ROLES_MAX && roles.iter().all(|role| is_sound(role))
}

/// Whether a text is short, and disturbs no terminal.
pub(super) fn is_sound(text: &str) -> bool {
    text.len() <= TEXT_MAX && !text.chars().any(disturbing)
}

/// Seconds since 1970.
pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
