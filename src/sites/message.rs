//! What sites tell each other: the keys of the buckets, and the payloads of messages.

use super::error::SiteError;
use super::name::SiteName;
use crate::nix::{NarHash, StoreHash};
use crate::peers::holders::{self, Holder};
use crate::peers::narinfo_batch::{self, Signed};
use crate::peers::{IndexState, NodeId};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::net::SocketAddr;
use std::ops::Range;

/// The bucket with what sites have.
pub(super) const INDEX: &str = "peernix_index";
/// The bucket with the leases.
pub(super) const LEASES: &str = "peernix_lease";
/// The bucket with the machines of sites, and where they are.
pub(super) const NODES: &str = "peernix_node";
/// The queue group of those who answer for a site.
pub(super) const QUEUE: &str = "gateway";
/// How many bytes of a snapshot go into one message.
pub(super) const PART_MAX: usize = 256 * 1024;
/// How many of those there may be: two million entries take 7 MB.
pub(super) const PARTS_MAX: usize = 32;
/// How many changes are kept.
pub(super) const CHANGES_KEPT: u64 = 64;
/// The longest answer, in bytes: NATS refuses what is longer than a megabyte.
pub(super) const ANSWER_MAX: usize = 512 * 1024;
/// How many addresses a machine tells.
pub(super) const ADDRESSES_MAX: usize = holders::ADDRESSES_MAX;
/// The longest description of a site or a machine, in bytes.
const TEXT_MAX: usize = 4096;
/// The random beginning of a request.
const NONCE: usize = 16;

/// Where a site is asked.
pub(super) fn subject(site: &SiteName) -> String {
    format!("peernix.v1.{site}.has")
}

/// Where a site is asked for parts of NARs that cannot be fetched from it directly.
pub(super) fn relay_subject(site: &SiteName) -> String {
    format!("peernix.v1.{site}.nar")
}

/// A part of a NAR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Of which path.
    pub hash: StoreHash,
    /// The SHA-256 of the NAR.
    pub nar_hash: NarHash,
    /// The length of the NAR, in bytes.
    pub size: u64,
    /// Which bytes of it: one at least, and [`Self::MAX`] at most.
    pub bytes: Range<u64>,
}

impl Part {
    /// The longest, in bytes.
    pub const MAX: u64 = 256 * 1024;
    /// How long a request for one is.
    const REQUEST: usize = NONCE + 20 + 32 + 8 + 8 + 4;

    /// How many bytes it has.
    pub(super) const fn length(&self) -> u64 {
        self.bytes.end.saturating_sub(self.bytes.start)
    }

    /// A request for it.
    pub(super) fn request(&self, nonce: [u8; NONCE]) -> Bytes {
        let mut payload = BytesMut::with_capacity(Self::REQUEST);
        payload.extend_from_slice(&nonce);
        payload.extend_from_slice(self.hash.as_bytes());
        payload.extend_from_slice(self.nar_hash.as_bytes());
        payload.put_u64(self.size);
        payload.put_u64(self.bytes.start);
        payload.put_u32(u32::try_from(self.length()).unwrap_or(u32::MAX));
        payload.freeze()
    }

    /// Reads a request.
    ///
    /// # Errors
    /// It is none, or asks for no part of a NAR.
    pub(super) fn parse_request(payload: &[u8]) -> Result<Self, SiteError> {
        let malformed = SiteError::Malformed("it asks for no part of a NAR");
        if payload.len() != Self::REQUEST {
            return Err(malformed);
        }
        let mut rest = &payload[NONCE..];
        let (mut hash, mut nar_hash) = ([0; 20], [0; 32]);
        rest.copy_to_slice(&mut hash);
        rest.copy_to_slice(&mut nar_hash);
        let (size, start, length) = (rest.get_u64(), rest.get_u64(), u64::from(rest.get_u32()));
        let end = start.checked_add(length).filter(|end| *end <= size && (1..=Self::MAX).contains(&length));
        let bytes = start..end.ok_or(malformed)?;
        Ok(Self { hash: StoreHash::new(hash), nar_hash: NarHash::new(nar_hash), size, bytes })
    }
}

/// Which half of the keys a snapshot is under: the one before stays whole while the next one is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Slot {
    #[default]
    A,
    B,
}

impl Slot {
    pub(super) const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    const fn letter(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }
}

/// What is under a key of [`INDEX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// How it is with the site: [`Meta`].
    Meta,
    /// A part of a snapshot.
    Part(Slot, usize),
    /// What changed, by its number modulo [`CHANGES_KEPT`].
    Change(u64),
}

impl Kind {
    /// The key for a site.
    pub(super) fn key(self, site: &SiteName) -> String {
        match self {
            Self::Meta => format!("{site}.meta"),
            Self::Part(slot, number) => format!("{site}.{}.{number}", slot.letter()),
            Self::Change(number) => format!("{site}.c.{number}"),
        }
    }

    /// What a key is, and of which site.
    pub(super) fn of(key: &str) -> Option<(SiteName, Self)> {
        let mut parts = key.split('.');
        let site = parts.next()?.parse().ok()?;
        let kind = match (parts.next()?, parts.next(), parts.next()) {
            ("meta", None, None) => Self::Meta,
            ("c", Some(number), None) => Self::Change(number.parse().ok().filter(|number| *number < CHANGES_KEPT)?),
            (slot, Some(number), None) => {
                let slot = [Slot::A, Slot::B].into_iter().find(|one| one.letter() == slot)?;
                Self::Part(slot, number.parse().ok().filter(|number| *number < PARTS_MAX)?)
            }
            _ => return None,
        };
        Some((site, kind))
    }
}

/// How it is with a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meta {
    /// What the machine that speaks for it is called.
    pub(super) name: String,
    /// The state of its index.
    pub(super) state: String,
    /// The state of the snapshot.
    pub(super) snapshot: String,
    /// Where the snapshot is,
    pub(super) slot: Slot,
    /// in how many parts,
    pub(super) parts: usize,
    /// and its SHA-256, in hexadecimal.
    pub(super) digest: String,
    /// How many machines it has.
    #[serde(default)]
    pub(super) machines: u64,
}

impl Meta {
    /// As a payload.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        // Texts and numbers: there is nothing that JSON could not hold.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// From a payload.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn parse(payload: &[u8]) -> Result<Self, SiteError> {
        let malformed = SiteError::Malformed("it does not tell of a site");
        if payload.len() > TEXT_MAX {
            return Err(malformed);
        }
        let meta: Self = serde_json::from_slice(payload).map_err(|_| malformed)?;
        let fits = meta.parts <= PARTS_MAX && meta.name.bytes().all(|byte| byte.is_ascii_graphic());
        if fits { Ok(meta) } else { Err(SiteError::Malformed("it does not tell of a site")) }
    }

    /// The state of its index, and that of the snapshot.
    ///
    /// # Errors
    /// One of them is none.
    pub(super) fn states(&self) -> Result<(IndexState, IndexState), SiteError> {
        let state = |text: &str| text.parse().map_err(|_| SiteError::Malformed("a state that is none"));
        Ok((state(&self.state)?, state(&self.snapshot)?))
    }
}

/// The SHA-256 of a snapshot, as [`Meta`] has it.
pub(super) fn digest(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(bytes))
}

/// A machine of a site, under its node id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Node {
    /// What it is called.
    pub(super) name: String,
    /// Where its share may be reached.
    pub(super) addresses: Vec<SocketAddr>,
}

impl Node {
    /// The key of a machine.
    pub(super) fn key(site: &SiteName, id: NodeId) -> String {
        format!("{site}.{id}")
    }

    /// As a payload.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// From a payload.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn parse(payload: &[u8]) -> Result<Self, SiteError> {
        let read = (payload.len() <= TEXT_MAX).then(|| serde_json::from_slice(payload).ok()).flatten();
        let mut node: Self = read.ok_or(SiteError::Malformed("it does not tell of a machine"))?;
        node.addresses.truncate(ADDRESSES_MAX);
        Ok(node)
    }
}

/// What a change is: of which state, and how the index of the site changed since then.
pub(super) fn change(since: IndexState, update: &[u8]) -> Vec<u8> {
    let mut payload = BytesMut::with_capacity(16 + update.len());
    payload.put_u64(since.epoch);
    payload.put_u64(since.seq);
    payload.put_slice(update);
    payload.into()
}

/// Reads a change.
///
/// # Errors
/// It is none.
pub(super) fn parse_change(mut payload: Bytes) -> Result<(IndexState, Bytes), SiteError> {
    let short = |_| SiteError::Malformed("it is too short");
    let (epoch, seq) = (payload.try_get_u64().map_err(short)?, payload.try_get_u64().map_err(short)?);
    Ok((IndexState { epoch, seq }, payload))
}

/// What a site is asked.
pub(super) fn request(nonce: [u8; NONCE], hashes: &[StoreHash]) -> Bytes {
    let mut payload = BytesMut::from(&nonce[..]);
    payload.extend_from_slice(&narinfo_batch::request(hashes.iter().copied()));
    payload.freeze()
}

/// Reads what a site is asked.
///
/// # Errors
/// It is no request.
pub(super) fn parse_request(payload: &[u8]) -> Result<Vec<StoreHash>, SiteError> {
    let (_, hashes) =
        payload.split_first_chunk::<NONCE>().ok_or(SiteError::Malformed("a request that is too short"))?;
    Ok(narinfo_batch::parse_request(hashes)?)
}

/// The place of the answer to a message: nobody can take an old answer for that to another one.
pub(super) fn reply_place(message: &[u8]) -> String {
    format!("answer/{}", digest(message))
}

/// What is said of one path at a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// Which path.
    pub hash: StoreHash,
    /// Its narinfo, as a machine there has it.
    pub narinfo: Signed,
    /// Which machines have it.
    pub holders: Vec<NodeId>,
}

/// What another site has of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its narinfo, as a machine there has it. Nothing of it is proved.
    pub narinfo: Signed,
    /// The machines that have it, and where they are.
    pub holders: Vec<Holder>,
}

/// An answer, while it is put together.
pub(super) struct Answer {
    narinfos: narinfo_batch::Answer,
    holders: Vec<Vec<Holder>>,
    most: usize,
}

impl Answer {
    /// An empty one that gets no longer than `most` bytes.
    pub(super) fn within(most: usize) -> Self {
        // What the holders of all paths may take is kept free.
        let narinfos = narinfo_batch::Answer::within(most.saturating_sub(4 + holders::ANSWER_MAX));
        Self { narinfos, holders: Vec::new(), most: narinfo_batch::HASHES_MAX }
    }

    /// Adds what is known of a path; `None`: nobody has it. False if there is no more room.
    pub(super) fn add(&mut self, hash: StoreHash, found: Option<&Found>) -> bool {
        let narinfo = found
            .map(|Found { narinfo, .. }| (narinfo.signed_by.as_ref().map_or(&[][..], |by| &by[..]), &narinfo.text[..]));
        if self.holders.len() == self.most || !self.narinfos.add(hash, narinfo) {
            return false;
        }
        self.holders.push(found.map(|found| found.holders.clone()).unwrap_or_default());
        true
    }

    /// As a payload.
    pub(super) fn into_bytes(self) -> Bytes {
        let narinfos = self.narinfos.into_bytes();
        let mut payload = BytesMut::with_capacity(4 + narinfos.len());
        payload.put_u32(u32::try_from(narinfos.len()).unwrap_or(u32::MAX));
        payload.extend_from_slice(&narinfos);
        payload.extend_from_slice(&holders::answer(&self.holders));
        payload.freeze()
    }
}

/// Reads an answer: of which paths it says what.
///
/// # Errors
/// It is none.
pub(super) fn parse_answer(mut payload: Bytes) -> Result<Vec<(StoreHash, Option<Found>)>, SiteError> {
    let short = SiteError::Malformed("an answer that is too short");
    let length = payload.try_get_u32().map_err(|_| short.clone())?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > payload.remaining() {
        return Err(short);
    }
    let records = narinfo_batch::parse_records(payload.split_to(length))?;
    let holders = holders::parse_answer(payload, records.len())?;
    let found = records.into_iter().zip(holders).map(|(record, holders)| {
        let found = record.narinfo.map(|narinfo| Found { narinfo, holders });
        (record.hash, found)
    });
    Ok(found.collect())
}

/// The paths that a narinfo refers to, but itself; up to `most`.
pub(super) fn references(hash: StoreHash, narinfo: &[u8], most: usize) -> Vec<StoreHash> {
    let line = narinfo.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"References: "));
    let names = line.unwrap_or_default().split(|byte| *byte == b' ').filter_map(|name| name.get(..32));
    let hashes = names.filter_map(|text| std::str::from_utf8(text).ok()?.parse().ok());
    hashes.filter(|reference| *reference != hash).take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::NodeKey;
    use proptest::prelude::*;

    fn site() -> SiteName {
        "berlin".parse().unwrap()
    }

    fn hash(number: u8) -> StoreHash {
        StoreHash::new([number; 20])
    }

    #[test]
    fn keys_say_what_is_under_them() {
        for kind in [Kind::Meta, Kind::Part(Slot::A, 0), Kind::Part(Slot::B, PARTS_MAX - 1), Kind::Change(63)] {
            assert_eq!(Kind::of(&kind.key(&site())), Some((site(), kind)));
        }
        for other in ["berlin", "berlin.meta.x", "berlin.c.64", "berlin.a.32", "berlin.d.1", ".meta", "b*.meta"] {
            assert_eq!(Kind::of(other), None, "{other}");
        }
        let node = Node { name: "tower".into(), addresses: vec!["192.0.2.7:7650".parse().unwrap(); 5] };
        assert_eq!(Node::parse(&node.to_bytes()).unwrap().addresses.len(), ADDRESSES_MAX);
        assert!(Node::parse(b"{}").is_err() && Node::parse(&[b' '; TEXT_MAX + 1]).is_err());
    }

    #[test]
    fn what_is_said_of_a_site_is_bounded() {
        let state = IndexState { epoch: 1, seq: 2 }.to_string();
        let meta = Meta {
            name: "tower".into(),
            state: state.clone(),
            snapshot: state,
            slot: Slot::B,
            parts: 3,
            digest: digest(b"x"),
            machines: 7,
        };
        let read = Meta::parse(&meta.to_bytes()).unwrap();
        assert_eq!((read.clone(), read.states().unwrap().0.seq), (meta.clone(), 2));
        assert!(Meta::parse(&Meta { parts: PARTS_MAX + 1, ..meta.clone() }.to_bytes()).is_err());
        assert!(Meta::parse(&Meta { name: "\u{1b}[2J".into(), ..meta.clone() }.to_bytes()).is_err());
        assert!(Meta { state: "no".into(), ..meta }.states().is_err());
    }

    #[test]
    fn references_are_read_from_the_text() {
        let own = "0mdqa9w1p6cmli6976v4wi0sw9r4p5pr";
        let other = "1mdqa9w1p6cmli6976v4wi0sw9r4p5pr";
        let text = format!("StorePath: /nix/store/{own}-a\nReferences: {own}-a {other}-b short\nSig: x\n");
        let found = references(own.parse().unwrap(), text.as_bytes(), 10);
        assert_eq!(found, [other.parse().unwrap()]);
        assert!(references(hash(1), text.as_bytes(), 1).len() == 1 && references(hash(1), b"x", 9).is_empty());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            paths in proptest::collection::vec(proptest::option::of((".{0,20}", ".{0,300}", 0..4u8)), 0..20),
        ) {
            let mut answer = Answer::within(ANSWER_MAX);
            let mut expected = Vec::new();
            for (number, path) in (0u8..).zip(paths) {
                let found = path.map(|(by, text, holders)| Found {
                    narinfo: Signed { signed_by: (!by.is_empty()).then(|| by.into()), text: text.into() },
                    holders: (1..=holders)
                        .map(|seed| Holder {
                            id: NodeKey::from_seed([seed; 32]).id(),
                            addresses: vec!["192.0.2.7:7650".parse().unwrap()],
                        })
                        .collect(),
                });
                prop_assert!(answer.add(hash(number), found.as_ref()));
                expected.push((hash(number), found));
            }
            let bytes = answer.into_bytes();
            prop_assert_eq!(parse_answer(bytes.clone()).unwrap(), expected);
            prop_assert!(parse_answer(bytes.slice(..bytes.len() - 1)).is_err());
        }

        #[test]
        fn nothing_of_a_stranger_panics(bytes: Vec<u8>) {
            let _ = parse_answer(bytes.clone().into());
            let _ = Part::parse_request(&bytes);
            let _ = (parse_request(&bytes), Meta::parse(&bytes), Node::parse(&bytes), parse_change(bytes.clone().into()));
        }
    }

    #[test]
    fn a_part_is_one_of_its_nar_and_bounded() {
        let part = |bytes| Part { hash: hash(1), nar_hash: NarHash::new([2; 32]), size: 2 * Part::MAX, bytes };
        for good in [0..1, 7..Part::MAX + 7, 2 * Part::MAX - 1..2 * Part::MAX] {
            let request = part(good.clone()).request([9; NONCE]);
            assert_eq!(Part::parse_request(&request), Ok(part(good)));
            assert!(Part::parse_request(&request[1..]).is_err());
        }
        for bad in [0..0, 0..Part::MAX + 1, 2 * Part::MAX..2 * Part::MAX + 1, u64::MAX - 1..u64::MAX] {
            assert!(Part::parse_request(&part(bad.clone()).request([9; NONCE])).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_answer_stays_below_what_nats_takes() {
        let mut answer = Answer::within(ANSWER_MAX);
        let holder =
            Holder { id: NodeKey::from_seed([1; 32]).id(), addresses: vec!["192.0.2.7:1".parse().unwrap(); 2] };
        let narinfo = Signed { signed_by: None, text: vec![b'x'; 8000].into() };
        let found = Found { narinfo, holders: vec![holder; 4] };
        let taken = (0..=255u8).take_while(|number| answer.add(hash(*number), Some(&found))).count();
        assert!((50..256).contains(&taken), "{taken}");
        assert!(answer.into_bytes().len() <= ANSWER_MAX);
        let request = request([7; NONCE], &[hash(1), hash(2)]);
        assert_eq!(parse_request(&request).unwrap(), [hash(1), hash(2)]);
        assert!(parse_request(&request[..NONCE]).is_err());
    }
}
