//! The few messages of multicast DNS that we send and understand: those about `_peernix._tcp`.
//!
//! The codec is a crate's; what reaches it was looked at before (`gate`). All that is said of one machine is under names that are
//! made of its node id, so that records which belong together are found without following them from one to the next.

use crate::peers::discovery::interfaces::Interface;
use crate::peers::identity::NodeId;
use simple_dns::rdata::{A, AAAA, NSEC, NsecTypeBitMap, PTR, RData, SRV, TXT};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, ResourceRecord, TYPE};
use std::net::IpAddr;

/// The type of the service.
const SERVICE: [&str; 3] = ["_peernix", "_tcp", "local"];
/// What a browser of all types of services asks for ([RFC 6763](https://www.rfc-editor.org/rfc/rfc6763) section 9).
const TYPES: [&str; 4] = ["_services", "_dns-sd", "_udp", "local"];
/// The version of the announcement, in its `v`.
const VERSION: &[u8] = b"1";
/// How long records without an address are good, in seconds, as RFC 6762 section 10 recommends.
const TTL: u32 = 4500;
/// How long records with a host's name or address are good.
const TTL_HOST: u32 = 120;
/// How long an answer to one who is no mDNS program is good (RFC 6762 section 6.7).
const TTL_LEGACY: u32 = 10;
/// The most machines of which one message may speak.
const CLAIMS_MAX: usize = 8;
/// The most addresses that are taken from one message for one machine.
const CLAIMED_ADDRESSES_MAX: usize = 32;
/// The most known answers in a question: they fit into a packet of any link.
pub(super) const KNOWN_MAX: usize = 16;

/// What we say about ourselves.
#[derive(Debug, Clone)]
pub(super) struct Me {
    id: NodeId,
    port: u16,
}

/// Something heard.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    Question(Asked),
    Answer(Vec<Claim>),
}

/// A question that is ours to answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// The number of the question, which only those who are no mDNS programs look at.
    pub(super) number: u16,
    /// Who is there, or more about this machine.
    pub(super) us: bool,
    /// Which types of services there are.
    pub(super) types: bool,
    /// The asker knows us well enough.
    pub(super) known: bool,
    /// The answer may go to the asker alone.
    pub(super) unicast: bool,
    /// More of what the asker knows is to come.
    pub(super) truncated: bool,
    /// The questions, to be repeated to one who is no mDNS program.
    pub(super) questions: Vec<(Vec<u8>, u16)>,
}

/// What someone says about a machine. Nothing of it is proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) id: NodeId,
    /// It is about to go.
    pub(super) goodbye: bool,
    /// The port of its share.
    pub(super) port: Option<u16>,
    /// Whether its description is there, of our version, and its own.
    pub(super) described: bool,
    pub(super) addresses: Vec<IpAddr>,
}

/// To whom an answer goes.
#[derive(Debug, Clone, Copy)]
pub(super) enum To<'a> {
    Everybody,
    /// One mDNS program.
    Asker,
    /// One who is no mDNS program and gets its question back.
    Stranger(&'a Asked),
}

impl Me {
    pub(super) fn new(id: NodeId, port: u16) -> Self {
        Self { id, port }
    }

    /// All about us, as of one interface.
    pub(super) fn answer(&self, interface: &Interface, types: bool, to: To<'_>) -> Vec<u8> {
        let (number, most) = match to {
            To::Everybody | To::Asker => (0, TTL),
            To::Stranger(asked) => (asked.number, TTL_LEGACY),
        };
        self.write(interface, number, types, most, to)
    }

    /// That we are about to go.
    pub(super) fn goodbye(&self, interface: &Interface) -> Vec<u8> {
        self.write(interface, 0, false, 0, To::Everybody)
    }

    fn write(&self, interface: &Interface, number: u16, types: bool, most: u32, to: To<'_>) -> Vec<u8> {
        let id = self.id.to_string();
        let (service, instance, host) =
            (name(&SERVICE), name(&[&[id.as_str()], &SERVICE[..]].concat()), name(&[&id, "local"]));
        let mut packet = Packet::new_reply(number);
        packet.set_flags(PacketFlag::AUTHORITATIVE_ANSWER);
        let stranger = matches!(to, To::Stranger(_));
        if let To::Stranger(asked) = to {
            packet.questions = asked.repeated();
        }
        let record =
            |of: &Name<'static>, ttl: u32, data| ResourceRecord::new(of.clone(), CLASS::IN, ttl.min(most), data);
        // That nobody else has records of this name. Those who are no mDNS programs do not know the bit.
        let alone = |record: ResourceRecord<'static>| record.with_cache_flush(!stranger);
        if types {
            packet.answers.push(record(&name(&TYPES), TTL, RData::PTR(PTR(service.clone()))));
        }
        packet.answers.push(record(&service, TTL, RData::PTR(PTR(instance.clone()))));
        let location = SRV { priority: 0, weight: 0, port: self.port, target: host.clone() };
        packet.answers.push(alone(record(&instance, TTL_HOST, RData::SRV(location))));
        packet.answers.push(alone(record(&instance, TTL, RData::TXT(description(&id)))));
        for address in interface.announced() {
            let data = match address {
                IpAddr::V4(v4) => RData::A(A { address: v4.into() }),
                IpAddr::V6(v6) => RData::AAAA(AAAA { address: v6.into() }),
            };
            packet.answers.push(alone(record(&host, TTL_HOST, data)));
        }
        // What there is of this name: nobody has to wait for an address of the other family.
        let kinds = interface.announced().map(|address| if address.is_ipv4() { 1 } else { 28 });
        packet.additional_records.push(alone(record(&host, TTL_HOST, RData::NSEC(there_are(&host, kinds)))));
        packet.build_bytes_vec_compressed().unwrap_or_default()
    }

    /// The question who is there. We are among those that are known, so that we do not answer ourselves.
    pub(super) fn question(&self, known: &[NodeId]) -> Vec<u8> {
        let service = name(&SERVICE);
        let mut packet = Packet::new_query(0);
        let kind = QTYPE::TYPE(TYPE::PTR);
        packet.questions.push(Question::new(service.clone(), kind, QCLASS::CLASS(CLASS::IN), false));
        for id in std::iter::once(&self.id).chain(known).take(KNOWN_MAX) {
            let instance = name(&[&[id.to_string().as_str()], &SERVICE[..]].concat());
            packet.answers.push(ResourceRecord::new(service.clone(), CLASS::IN, TTL, RData::PTR(PTR(instance))));
        }
        packet.build_bytes_vec_compressed().unwrap_or_default()
    }

    /// The question for all about one machine of which too little was heard.
    pub(super) fn question_about(id: NodeId) -> Vec<u8> {
        let id = id.to_string();
        let mut packet = Packet::new_query(0);
        for name in [name(&[&[id.as_str()], &SERVICE[..]].concat()), name(&[&id, "local"])] {
            packet.questions.push(Question::new(name, QTYPE::ANY, QCLASS::CLASS(CLASS::IN), false));
        }
        packet.build_bytes_vec_compressed().unwrap_or_default()
    }

    /// What a packet says, as far as it is about `_peernix._tcp`; `None` when it is not, or is malformed.
    pub(super) fn read(&self, packet: &[u8]) -> Option<Message> {
        let packet = Packet::parse(packet).ok()?;
        if packet.has_flags(PacketFlag::RESPONSE) {
            let claims = claims(&packet);
            return (!claims.is_empty()).then_some(Message::Answer(claims));
        }
        let asked = self.asked(&packet);
        (asked.us || asked.types).then_some(Message::Question(asked))
    }

    fn asked(&self, packet: &Packet<'_>) -> Asked {
        let mut asked =
            Asked { number: packet.id(), truncated: packet.has_flags(PacketFlag::TRUNCATION), ..Asked::default() };
        let mut alone = true;
        for question in &packet.questions {
            let (of, kind) = (&question.qname, question.qtype);
            let is = |kinds: &[TYPE]| kind == QTYPE::ANY || kinds.iter().any(|one| kind == QTYPE::TYPE(*one));
            let about_us = subject(of) == Some(self.id);
            let us = (named(of, &SERVICE) && is(&[TYPE::PTR]))
                || (about_us && is(&[TYPE::SRV, TYPE::TXT, TYPE::A, TYPE::AAAA]));
            let types = named(of, &TYPES) && is(&[TYPE::PTR]);
            if us || types {
                asked.us |= us;
                asked.types |= types;
                alone &= question.unicast_response;
                asked.questions.push((flat(of), kind.into()));
            }
        }
        asked.unicast = alone && !asked.questions.is_empty();
        // Worth half its time or more (RFC 6762 section 7.1), and there is no question but who is there.
        let only_service = packet.questions.iter().all(|question| named(&question.qname, &SERVICE));
        asked.known = only_service
            && packet.answers.iter().any(|record| pointed_at(record) == Some(self.id) && record.ttl >= TTL / 2);
        asked
    }
}

impl Asked {
    fn repeated(&self) -> Vec<Question<'static>> {
        let question = |(of, kind): &(Vec<u8>, u16)| {
            let labels: Vec<&str> = std::str::from_utf8(of).ok()?.split('.').collect();
            Some(Question::new(name(&labels), QTYPE::try_from(*kind).ok()?, QCLASS::CLASS(CLASS::IN), false))
        };
        self.questions.iter().filter_map(question).collect()
    }
}

/// All that is said about machines, in whatever part of the packet.
fn claims(packet: &Packet<'_>) -> Vec<Claim> {
    let mut claims: Vec<Claim> = Vec::new();
    for record in packet.answers.iter().chain(&packet.additional_records).filter(|record| record.class == CLASS::IN) {
        let pointed = pointed_at(record);
        let Some(id) = pointed.or_else(|| subject(&record.name)) else { continue };
        let claim = match claims.iter().position(|claim| claim.id == id) {
            Some(index) => &mut claims[index],
            None if claims.len() >= CLAIMS_MAX => continue,
            None => {
                claims.push(Claim { id, goodbye: false, port: None, described: false, addresses: Vec::new() });
                let last = claims.len() - 1;
                &mut claims[last]
            }
        };
        match &record.rdata {
            RData::PTR(_) if pointed.is_some() => claim.goodbye |= record.ttl == 0,
            _ if record.ttl == 0 => {}
            RData::SRV(location) if subject(&location.target) == Some(id) => claim.port = Some(location.port),
            RData::TXT(text) => claim.described = describes(text, id),
            RData::A(a) => note(&mut claim.addresses, IpAddr::from(a.address.to_be_bytes())),
            RData::AAAA(aaaa) => note(&mut claim.addresses, IpAddr::from(aaaa.address.to_be_bytes())),
            _ => {}
        }
    }
    claims
}

fn note(addresses: &mut Vec<IpAddr>, address: IpAddr) {
    if addresses.len() < CLAIMED_ADDRESSES_MAX && !addresses.contains(&address) {
        addresses.push(address);
    }
}

fn description(id: &str) -> TXT<'static> {
    let mut text = TXT::new();
    for (key, value) in [("id", id.as_bytes()), ("v", VERSION)] {
        // Short and printable; it cannot fail.
        let _ = text.add_attribute(key, Some(value));
    }
    text
}

/// Whether a description is of our version and of this machine.
fn describes(text: &TXT<'_>, id: NodeId) -> bool {
    let value = |wanted: &[u8]| {
        let found = text.iter_raw().find(|(key, _)| key.eq_ignore_ascii_case(wanted));
        found.and_then(|(_, value)| value)
    };
    let named = value(b"id").and_then(|text| std::str::from_utf8(text).ok()?.parse::<NodeId>().ok());
    value(b"v") == Some(VERSION) && named == Some(id)
}

/// That there are records of these kinds and no others.
fn there_are(host: &Name<'static>, kinds: impl Iterator<Item = u8>) -> NSEC<'static> {
    let mut bits = [0_u8; 4];
    for kind in kinds {
        bits[usize::from(kind / 8)] |= 0x80 >> (kind % 8);
    }
    let length = bits.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
    let bitmap = NsecTypeBitMap { window_block: 0, bitmap: bits[..length].to_vec().into() };
    NSEC { next_name: host.clone(), type_bit_maps: vec![bitmap] }
}

/// The machine whose instance a record of the service names.
fn pointed_at(record: &ResourceRecord<'_>) -> Option<NodeId> {
    match &record.rdata {
        RData::PTR(PTR(target)) if named(&record.name, &SERVICE) => subject(target),
        _ => None,
    }
}

/// The machine that a name is made of: `ID._peernix._tcp.local` or `ID.local`.
fn subject(of: &Name<'_>) -> Option<NodeId> {
    let labels: Vec<&[u8]> = of.as_bytes().collect();
    let (first, rest) = labels.split_first()?;
    let is = |names: &[&str]| {
        rest.len() == names.len()
            && rest.iter().zip(names).all(|(label, name)| label.eq_ignore_ascii_case(name.as_bytes()))
    };
    if first.len() != NodeId::TEXT_LEN || !(is(&SERVICE) || is(&SERVICE[2..])) {
        return None;
    }
    // DNS compares names without regard to case, so caches may have changed it.
    std::str::from_utf8(first).ok()?.to_ascii_lowercase().parse().ok()
}

fn named(of: &Name<'_>, labels: &[&str]) -> bool {
    of.get_labels().len() == labels.len()
        && of.as_bytes().zip(labels).all(|(one, other)| one.eq_ignore_ascii_case(other.as_bytes()))
}

fn flat(of: &Name<'_>) -> Vec<u8> {
    of.as_bytes().collect::<Vec<_>>().join(&b'.')
}

/// A name of labels without dots, none longer than 63 bytes.
fn name(labels: &[&str]) -> Name<'static> {
    Name::new_unchecked(&labels.join(".")).into_owned()
}

#[cfg(test)]
mod tests;
