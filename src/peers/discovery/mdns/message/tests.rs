//! What one machine says another understands, and nothing that anybody says does harm.

use super::*;
use crate::peers::NodeKey;
use proptest::prelude::*;

fn me(seed: u8) -> Me {
    Me::new(NodeKey::from_seed([seed; 32]).id(), 7650)
}

fn interface() -> Interface {
    Interface::of(&[("192.168.7.9", 24), ("fe80::1", 64), ("2001:db8::5", 64)])
}

fn claims_in(message: Option<Message>) -> Vec<Claim> {
    match message {
        Some(Message::Answer(claims)) => claims,
        other => panic!("{other:?}"),
    }
}

fn asked_in(message: Option<Message>) -> Asked {
    match message {
        Some(Message::Question(asked)) => asked,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_one_says_another_understands() {
    let (one, other) = (me(1), me(2));
    let packet = one.answer(&interface(), false, To::Everybody);
    assert!(packet.len() < 600, "{}", packet.len());
    let addresses = ["192.168.7.9", "fe80::1", "2001:db8::5"].map(|address| address.parse().unwrap()).to_vec();
    let claim = Claim { id: one.id, goodbye: false, port: Some(7650), described: true, addresses };
    assert_eq!(claims_in(other.read(&packet)), std::slice::from_ref(&claim));
    // Whatever became of the case on the way.
    let id = one.id.to_string();
    let shouted: Vec<u8> = {
        let mut packet = packet;
        for at in 0..packet.len() {
            if packet[at..].starts_with(&id.as_bytes()[..8]) || packet[at..].starts_with(b"_peernix") {
                packet[at..at + 8].make_ascii_uppercase();
            }
        }
        packet
    };
    let heard = claims_in(other.read(&shouted));
    assert_eq!((heard[0].id, heard[0].port, &heard[0].addresses), (claim.id, claim.port, &claim.addresses));
    let goodbye = claims_in(other.read(&one.goodbye(&interface())));
    assert!(goodbye[0].goodbye && goodbye[0].port.is_none() && goodbye[0].addresses.is_empty());
}

#[test]
fn questions_and_what_is_known() {
    let (one, other) = (me(1), me(2));
    let asked = asked_in(other.read(&one.question(&[])));
    assert!(asked.us && !asked.known && !asked.unicast && !asked.types);
    assert!(asked_in(one.read(&one.question(&[]))).known, "our own question is none for us");
    assert!(asked_in(other.read(&one.question(&[other.id]))).known);
    let many: Vec<NodeId> = (1..100).map(|seed| me(seed).id).collect();
    assert!(one.question(&many).len() < 1400);
    // About one machine, and only about that.
    let about = Me::question_about(one.id);
    assert!(asked_in(one.read(&about)).us);
    assert_eq!(other.read(&about), None);
}

#[test]
fn who_is_no_mdns_program_gets_what_it_understands() {
    let one = me(1);
    let mut packet = Packet::new_query(4711);
    packet.questions.push(Question::new(name(&SERVICE), QTYPE::TYPE(TYPE::PTR), QCLASS::CLASS(CLASS::IN), false));
    let asked = asked_in(one.read(&packet.build_bytes_vec().unwrap()));
    let answer = one.answer(&interface(), false, To::Stranger(&asked));
    let answer = Packet::parse(&answer).unwrap();
    assert_eq!((answer.id(), answer.questions.len()), (4711, 1));
    assert!(answer.answers.iter().all(|record| record.ttl <= TTL_LEGACY && !record.cache_flush));
}

#[test]
fn the_types_of_services_are_told() {
    let one = me(1);
    let mut packet = Packet::new_query(0);
    packet.questions.push(Question::new(name(&TYPES), QTYPE::TYPE(TYPE::PTR), QCLASS::CLASS(CLASS::IN), true));
    let asked = asked_in(one.read(&packet.build_bytes_vec().unwrap()));
    assert!(asked.types && !asked.us && asked.unicast);
    let answer = one.answer(&interface(), true, To::Everybody);
    let answer = Packet::parse(&answer).unwrap();
    assert!(named(&answer.answers[0].name, &TYPES));
}

#[test]
fn what_does_not_fit_together_is_not_described() {
    let (one, other) = (me(1), me(2));
    let id = one.id.to_string();
    let instance = name(&[&[id.as_str()], &SERVICE[..]].concat());
    for (key, version) in [(other.id.to_string(), "1"), (id.clone(), "2"), (id.clone(), "")] {
        let mut packet = Packet::new_reply(0);
        let mut text = TXT::new();
        text.add_attribute("id", Some(key.as_bytes())).unwrap();
        text.add_attribute("v", Some(version.as_bytes())).unwrap();
        packet.answers.push(ResourceRecord::new(instance.clone(), CLASS::IN, TTL, RData::TXT(text)));
        let location = SRV { priority: 0, weight: 0, port: 1, target: name(&[&other.id.to_string(), "local"]) };
        packet.answers.push(ResourceRecord::new(instance.clone(), CLASS::IN, TTL, RData::SRV(location)));
        let claims = claims_in(other.read(&packet.build_bytes_vec().unwrap()));
        assert!(!claims[0].described && claims[0].port.is_none(), "{claims:?}");
    }
}

#[test]
fn one_packet_speaks_of_so_many_and_no_more() {
    let mut packet = Packet::new_reply(0);
    for seed in 1..50 {
        let instance = name(&[&[me(seed).id.to_string().as_str()], &SERVICE[..]].concat());
        packet.answers.push(ResourceRecord::new(name(&SERVICE), CLASS::IN, TTL, RData::PTR(PTR(instance))));
    }
    assert_eq!(claims_in(me(99).read(&packet.build_bytes_vec_compressed().unwrap())).len(), CLAIMS_MAX);
}

proptest! {
    #[test]
    fn never_panics(packet in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = me(1).read(&packet);
    }

    /// Real messages with a few bytes changed get further than noise.
    #[test]
    fn never_panics_on_what_was_changed(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let one = me(1);
        for mut packet in [one.answer(&interface(), true, To::Everybody), one.question(&[me(2).id])] {
            for (at, to) in &changes {
                let at = at.index(packet.len());
                packet[at] = *to;
            }
            let _ = one.read(&packet);
        }
    }
}
