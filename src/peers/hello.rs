//! The greeting of the peer protocol: `GET /peernix/v1/hello`, answered with a small JSON object.
//!
//! ```text
//! GET /peernix/v1/hello HTTP/1.1
//! Peernix-Share-Port: 7650
//!
//! {"id":"<52 characters>","name":"tower","version":"0.1.0","share_port":7650,"features":[],"instance":"<16 digits>"}
//! ```
//!
//! The header is how the one who greets says where it can be called back: on the port it names, at the address that
//! the connection came from and no other. Without the header (or with 0) it shares nothing. After one greeting both
//! sides know each other. `Peernix-Damaged` names paths of which the one who is greeted sent content that is not what was
//! signed, so that it can look after its own copies. `Peernix-Index` tells the state of the greeter's index, `index` in the answer that of the
//! other one: whoever knows an older state asks for what changed. Receivers ignore fields that they do not know; the version of the protocol is in the path.

use super::error::LinkError;
use super::identity::NodeId;
use super::index_state::{self, IndexState};
use crate::nix::StoreHash;
use bytes::Bytes;
use hyper::HeaderMap;
use hyper::header::HeaderValue;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The request target.
pub const TARGET: &str = "/peernix/v1/hello";
/// The header of the request that names the port of the greeter's own share.
pub const SHARE_PORT_HEADER: &str = "peernix-share-port";
/// The header of the request that names paths of which damaged content came: their hash parts, with a blank between them.
pub const DAMAGED_HEADER: &str = "peernix-damaged";
/// How many of them are read; the sender bars no more before it bans.
pub const DAMAGED_MAX: usize = 4;
/// The largest body read, in bytes.
pub const SIZE_MAX: usize = 4096;
/// The longest name, version or feature, in bytes.
pub const TEXT_MAX: usize = 64;
/// The most features read.
pub const FEATURES_MAX: usize = 32;

/// Who a machine is, in its own words; only `id` is checked against what TLS proved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The node's identity.
    pub id: NodeId,
    /// Its host name, for people to read.
    pub name: String,
    /// The version of its Peernix.
    pub version: String,
    /// The port of its share; 0 when it shares nothing. What was dialled counts, this is for people to read.
    pub share_port: u16,
    /// What it can do beyond the first version of the protocol.
    #[serde(default)]
    pub features: Vec<String>,
    /// Which run of its program it is: random, so that a machine can tell itself from another one with its key. Empty in older
    /// versions.
    #[serde(default)]
    pub instance: String,
    /// The state of its index, as text; empty where it tells none. See [`IndexState`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub index: String,
    /// The state of what all have whom it relays for, as text; empty where it does not relay.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub union: String,
    /// How much others should count on it as a source, of [`WEIGHT_MAX`]; 0: not at all.
    #[serde(default = "full", skip_serializing_if = "is_full")]
    pub weight: u8,
    /// That it is a member of a fleet, as the fleet key wrote it; empty where it is of none. See [`super::fleet`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub membership: String,
    /// The number of the newest list of revocations that it knows of its fleet.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub revocations: u64,
    /// The site that it is of; empty where it is of none. See [`crate::sites`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub site: String,
}

/// The weight of a machine that is on a wire and on mains.
pub const WEIGHT_MAX: u8 = 100;

const fn full() -> u8 {
    WEIGHT_MAX
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks like this")]
const fn is_full(weight: &u8) -> bool {
    *weight >= WEIGHT_MAX
}

/// Whether there is nothing to tell.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks like this")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The feature of those who relay where there are many machines, see [`super::relays`].
pub const RELAY: &str = "relay";
/// The header of a greeting that tells the state of what a relay knows that all have.
const UNION_HEADER: &str = "peernix-union";

/// The header of a greeting that shows the greeter's membership of a fleet.
const MEMBERSHIP_HEADER: &str = "peernix-membership";
/// The header of a greeting that tells the number of the newest list of revocations that the greeter knows.
const REVOCATIONS_HEADER: &str = "peernix-revocations";
/// The header of a greeting that tells how much the greeter counts as a source, if that is not [`WEIGHT_MAX`].
const WEIGHT_HEADER: &str = "peernix-weight";
/// The header of a greeting that tells the site that the greeter is of, if it is of one.
const SITE_HEADER: &str = "peernix-site";
/// The longest text of a membership, in bytes.
pub const MEMBERSHIP_MAX: usize = 1024;

/// The feature of those who give NARs in pieces that are proved one by one, see `fetch::pieces`.
pub const PIECES: &str = "pieces";
/// The feature of a machine that lets others measure the line to it.
pub const MEASURE: &str = "measure";
/// The feature of those who send what a NAR differs in from another one, see `fetch::patch`.
pub const PATCH: &str = "patch";
/// The feature of those who hold copies for other members, see `copies`.
pub const COPIES: &str = "copies";
/// The feature of those who agree with others on who downloads what, see `fetch::claims`.
pub const CLAIM: &str = "claim";

/// The feature of those who tell what they offer, at `/peernix/v1/index`.
pub const INDEX: &str = "index";

impl Hello {
    /// The body of a response, `application/json`.
    #[must_use]
    pub fn to_body(&self) -> Bytes {
        // Strings, a number and a list of strings: there is nothing that JSON could not hold.
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// Whether it can do this.
    #[must_use]
    pub fn has(&self, feature: &str) -> bool {
        self.features.iter().any(|has| has == feature)
    }

    /// The state of its index; `None` if it tells none.
    #[must_use]
    pub fn index_state(&self) -> Option<IndexState> {
        self.index.parse().ok().filter(|_| self.has(INDEX))
    }

    /// The state of what all have whom it relays for; `None` if it does not relay.
    #[must_use]
    pub fn union_state(&self) -> Option<IndexState> {
        self.union.parse().ok()
    }

    /// Reads the body of a response from a stranger.
    ///
    /// # Errors
    /// Too large, no JSON, missing fields, or texts that are too long or could disturb a terminal or a log.
    pub fn parse(body: &[u8]) -> Result<Self, LinkError> {
        if body.len() > SIZE_MAX {
            return Err(LinkError::Hello("larger than 4096 bytes"));
        }
        let hello: Self = serde_json::from_slice(body).map_err(|_| LinkError::Hello("not the JSON of a greeting"))?;
        if hello.features.len() > FEATURES_MAX {
            return Err(LinkError::Hello("more than 32 features"));
        }
        let bad = |text: &String| text.len() > TEXT_MAX || text.chars().any(disturbing);
        if bad(&hello.name)
            || bad(&hello.version)
            || bad(&hello.instance)
            || bad(&hello.index)
            || bad(&hello.union)
            || bad(&hello.site)
            || hello.features.iter().any(bad)
            || hello.membership.len() > MEMBERSHIP_MAX
        {
            return Err(LinkError::Hello("a text of more than 64 bytes or with control characters"));
        }
        Ok(hello)
    }
}

/// The answer of this machine to greetings, as it is sent.
pub(super) struct OurHello {
    hello: Hello,
    body: Bytes,
    etag: HeaderValue,
    changes: u64,
}

impl OurHello {
    pub(super) fn new(hello: Hello) -> Self {
        let mut ours = Self { hello, body: Bytes::new(), etag: HeaderValue::from_static("\"\""), changes: 0 };
        ours.change(|_| ());
        ours
    }

    /// It is another one from now on.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut Hello)) {
        change(&mut self.hello);
        self.changes += 1;
        self.body = self.hello.to_body();
        // Digits and a dash: a header may have them.
        if let Ok(etag) = HeaderValue::from_str(&format!("\"{}-{}\"", self.hello.instance, self.changes)) {
            self.etag = etag;
        }
    }

    /// How much others should count on this machine.
    pub(super) const fn weight(&self) -> u8 {
        self.hello.weight
    }

    /// Its body, and what it can be told by from all that were before.
    pub(super) fn response(&self) -> (Bytes, HeaderValue) {
        (self.body.clone(), self.etag.clone())
    }
}

/// What a greeter tells of itself, beside who it is.
#[derive(Debug, Clone)]
pub(crate) struct Greeting {
    /// The port of its share, where it can be called back; 0 if there is none.
    pub(crate) share_port: u16,
    /// The state of its index, if it tells one.
    pub(crate) index: Option<IndexState>,
    /// The state of what all have, if it relays.
    pub(crate) union: Option<IndexState>,
    /// Paths of which what it got was damaged.
    pub(crate) damaged: Vec<StoreHash>,
    /// How much it counts as a source, of [`WEIGHT_MAX`].
    pub(crate) weight: u8,
    /// That it is a member of a fleet; shown once on each connection.
    pub(crate) membership: Option<Arc<str>>,
    /// The number of the newest list of revocations that it knows.
    pub(crate) revocations: u64,
    /// The site that it is of, if it is of one.
    pub(crate) site: Option<HeaderValue>,
}

impl Default for Greeting {
    fn default() -> Self {
        Self {
            share_port: 0,
            index: None,
            union: None,
            damaged: Vec::new(),
            weight: WEIGHT_MAX,
            membership: None,
            revocations: 0,
            site: None,
        }
    }
}

impl Greeting {
    /// Adds the headers that say so.
    pub(super) fn add_to(&self, headers: &mut HeaderMap, shows_membership: bool) {
        if let Some(membership) = self.membership.as_deref().filter(|_| shows_membership)
            && let Ok(value) = HeaderValue::from_str(membership)
        {
            headers.insert(MEMBERSHIP_HEADER, value);
        }
        if let Some(site) = &self.site {
            headers.insert(SITE_HEADER, site.clone());
        }
        if self.revocations != 0 {
            headers.insert(REVOCATIONS_HEADER, self.revocations.into());
        }
        if self.weight < WEIGHT_MAX {
            headers.insert(WEIGHT_HEADER, u16::from(self.weight).into());
        }
        if self.share_port != 0 {
            headers.insert(SHARE_PORT_HEADER, self.share_port.into());
        }
        if let Some(damaged) = damaged_value(&self.damaged) {
            headers.insert(DAMAGED_HEADER, damaged);
        }
        for (name, state) in [(index_state::HEADER, self.index), (UNION_HEADER, self.union)] {
            // Digits and a dot: nothing that no header may have.
            if let Some(state) = state.and_then(|state| HeaderValue::from_str(&state.to_string()).ok()) {
                headers.insert(name, state);
            }
        }
    }
}

/// The value of [`DAMAGED_HEADER`]; `None` if there is nothing to tell.
fn damaged_value(hashes: &[StoreHash]) -> Option<HeaderValue> {
    let words: Vec<String> = hashes.iter().take(DAMAGED_MAX).map(ToString::to_string).collect();
    (!words.is_empty()).then(|| HeaderValue::from_str(&words.join(" ")).ok()).flatten()
}

/// The paths of which the greeter says that what we sent was damaged.
#[must_use]
pub fn damaged(headers: &HeaderMap) -> Vec<StoreHash> {
    let text = headers.get(DAMAGED_HEADER).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(' ').take(DAMAGED_MAX).filter_map(|word| word.parse().ok()).collect()
}

/// Characters that change how the rest of a line is shown, besides the control characters proper.
pub(super) fn disturbing(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The state of the greeter's index, if it tells one.
#[must_use]
pub fn index_state(headers: &HeaderMap) -> Option<IndexState> {
    headers.get(index_state::HEADER)?.to_str().ok()?.parse().ok()
}

/// The state of what all have whom the greeter relays for, if it does.
#[must_use]
pub fn union_state(headers: &HeaderMap) -> Option<IndexState> {
    headers.get(UNION_HEADER)?.to_str().ok()?.parse().ok()
}

/// That the greeter is a member of a fleet, in the words of its fleet key.
#[must_use]
pub fn membership(headers: &HeaderMap) -> Option<&str> {
    headers.get(MEMBERSHIP_HEADER)?.to_str().ok()
}

/// The number of the newest list of revocations that the greeter knows; 0 if none.
#[must_use]
pub fn revocations(headers: &HeaderMap) -> u64 {
    let told = headers.get(REVOCATIONS_HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
    told.unwrap_or_default()
}

/// The site that the greeter is of, if it is of one.
#[must_use]
pub fn site(headers: &HeaderMap) -> Option<&str> {
    headers.get(SITE_HEADER)?.to_str().ok().filter(|site| site.len() <= TEXT_MAX)
}

/// How much the greeter counts as a source.
#[must_use]
pub fn weight(headers: &HeaderMap) -> u8 {
    let told = headers.get(WEIGHT_HEADER).and_then(|value| value.to_str().ok()?.parse::<u8>().ok());
    told.unwrap_or(WEIGHT_MAX).min(WEIGHT_MAX)
}

/// The port that the header of a greeting names: where the greeter wants to be called back, if it does.
#[must_use]
pub fn share_port(headers: &HeaderMap) -> Option<u16> {
    headers.get(SHARE_PORT_HEADER)?.to_str().ok()?.parse().ok().filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::NodeKey;
    use proptest::prelude::*;

    fn hello() -> Hello {
        let id = NodeKey::from_seed([1; 32]).id();
        let features = vec!["index".to_owned()];
        Hello {
            id,
            name: "tower-é".into(),
            version: "0.1.0".into(),
            share_port: 7650,
            features,
            instance: "00ff".into(),
            index: "00000000000000ff.17".into(),
            union: "00000000000000fe.3".into(),
            weight: 25,
            membership: "a.b".into(),
            revocations: 3,
            site: "berlin".into(),
        }
    }

    #[test]
    fn round_trip_and_unknown_fields() {
        let body = hello().to_body();
        assert_eq!(Hello::parse(&body).unwrap(), hello());
        let newer = [&body[..body.len() - 1], br#","place":{"x":[1]}}"#].concat();
        assert_eq!(Hello::parse(&newer).unwrap(), hello());
    }

    #[test]
    fn who_has_an_index_says_so_twice() {
        assert_eq!(hello().index_state(), Some(IndexState { epoch: 255, seq: 17 }));
        assert_eq!(Hello { features: vec![], ..hello() }.index_state(), None);
        assert_eq!(Hello { index: "17".into(), ..hello() }.index_state(), None);
    }

    #[test]
    fn hostile_greetings_are_refused() {
        let long = Hello { name: "x".repeat(TEXT_MAX + 1), ..hello() };
        let control = Hello { name: "a\u{1b}[2J".into(), ..hello() };
        let reversed = Hello { version: "\u{202e}0.1".into(), ..hello() };
        let instance = Hello { instance: "x".repeat(TEXT_MAX + 1), ..hello() };
        let index = Hello { index: "x".repeat(TEXT_MAX + 1), ..hello() };
        let many = Hello { features: vec![String::new(); FEATURES_MAX + 1], ..hello() };
        for bad in [long, control, reversed, instance, index, many] {
            assert!(Hello::parse(&bad.to_body()).is_err(), "{bad:?}");
        }
        let padded = [hello().to_body().to_vec(), vec![b' '; SIZE_MAX]].concat();
        for bad in [&b""[..], b"{}", b"[", b"null", padded.as_slice(), "[".repeat(4000).as_bytes()] {
            assert!(Hello::parse(bad).is_err());
        }
    }

    #[test]
    fn port_header() {
        let port = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(SHARE_PORT_HEADER, value.parse().unwrap());
            share_port(&headers)
        };
        assert_eq!((port("7650"), port("65535"), share_port(&HeaderMap::new())), (Some(7650), Some(65535), None));
        for bad in ["0", "65536", "-1", "", "7650, 1", "é"] {
            assert_eq!(port(bad), None, "{bad}");
        }
    }

    #[test]
    fn weight_header() {
        let told = |said: u8| {
            let mut headers = HeaderMap::new();
            Greeting { weight: said, ..Greeting::default() }.add_to(&mut headers, false);
            weight(&headers)
        };
        assert_eq!([0, 10, 25, 100].map(told), [0, 10, 25, 100]);
        let junk = HeaderMap::from_iter([(WEIGHT_HEADER.parse().unwrap(), HeaderValue::from_static("300"))]);
        assert_eq!(weight(&junk), WEIGHT_MAX);
    }

    #[test]
    fn damaged_header() {
        let hashes: Vec<StoreHash> = (0..9).map(|number| StoreHash::new([number; 20])).collect();
        let headers = |value: HeaderValue| HeaderMap::from_iter([(DAMAGED_HEADER.parse().unwrap(), value)]);
        let told = damaged(&headers(damaged_value(&hashes).unwrap()));
        assert_eq!((told, damaged_value(&[])), (hashes[..DAMAGED_MAX].to_vec(), None));
        let vector = "0mdqa9w1p6cmli6976v4wi0sw9r4p5pr";
        assert_eq!(damaged_value(&[vector.parse().unwrap()]).unwrap(), vector);
        let junk = headers(HeaderValue::from_static("x  ../y 0mdqa9w1p6cmli6976v4wi0sw9r4p5pr"));
        assert_eq!(damaged(&junk), [vector.parse().unwrap()]);
        assert_eq!(damaged(&HeaderMap::new()), []);
        assert_eq!(damaged(&headers(HeaderValue::from_bytes(b"\xff").unwrap())), []);
    }

    proptest! {
        #[test]
        fn never_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Hello::parse(&body);
        }
    }
}
