//! The fleet of this machine.

use serde::{Deserialize, Serialize};

/// What is known of the fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FleetStatus {
    /// Who is let in: `open`, `static` or `fleet`.
    pub mode: String,
    /// The public half of the fleet key; left out where this machine belongs to no fleet.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub public_key: Option<String>,
    /// Whether this machine has the secret half, and so lets others in.
    pub has_key: bool,
    /// What this machine shows to others.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub membership: Option<Member>,
    /// Why that does not count; left out if it does.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub problem: Option<String>,
    /// The other members that this machine has met since it started.
    pub members: Vec<Member>,
    /// Who is a member no more.
    pub revoked: Vec<Revoked>,
}

/// A member of a fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// The id of the machine.
    pub id: String,
    /// What it is called.
    pub name: String,
    /// Where it is; empty where nobody said.
    pub site: String,
    /// What it may do for others beside sharing: `gateway`, `relay`, or words that allow nothing; empty: all of it.
    #[serde(default)]
    pub roles: Vec<String>,
    /// When its membership ends.
    pub expires_timestamp: u64,
}

/// Who is a member no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Revoked {
    /// The id of the machine.
    pub id: String,
    /// Since when.
    pub since_timestamp: u64,
}

/// A code that lets one machine in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Invitation {
    /// What to type in on the other machine.
    pub code: String,
    /// When it ends.
    pub expires_timestamp: u64,
}

/// A machine that is to be enrolled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Enrolment {
    /// Its id, as `peernixd --print-node-id` prints it.
    pub id: String,
    /// What to call it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// Where it is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub site: Option<String>,
    /// What it may do for others beside sharing, `gateway` and `relay`; empty: all of it.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub roles: Vec<String>,
    /// For how long; left out: a year.
    #[serde(rename = "validUSec", skip_serializing_if = "Option::is_none", default)]
    pub valid_usec: Option<u64>,
}
