//! What is heard before it is read: most of what comes to port 5353 is not for us, and some of it is meant to keep us busy.
//!
//! Each sender has its own measure, so that one who floods takes nothing from the others.

use crate::resilience::TokenBucket;
use std::collections::HashMap;
use std::net::IpAddr;
use tokio::time::Instant;

/// The largest packet that is read, in bytes. Ours are below 1 KiB, and mDNS programs keep to what a link carries.
pub(super) const PACKET_MAX: usize = 1500;
/// The most questions and records in a packet that is read.
const RECORDS_MAX: u16 = 128;
/// The shortest record: a name of two bytes, kind, class, lifetime and length.
const RECORD_MIN: usize = 12;
/// The size of the head, in bytes.
const HEAD: usize = 12;
/// How many packets of one sender are read in a second. An honest one says a handful.
const PER_SENDER: u32 = 10;
/// How many packets are read in a second, of all senders together: reading one takes some ten microseconds.
const PER_SECOND: u32 = 500;
/// How many senders have a measure of their own; the others share one.
const SENDERS_MAX: usize = 1024;
/// What the others share, in packets a second.
const FOR_OTHERS: u32 = 50;

/// Lets in what may be worth reading.
pub(super) struct Gate {
    senders: HashMap<IpAddr, TokenBucket>,
    others: TokenBucket,
    all: TokenBucket,
    /// When senders that have been quiet were last let go.
    swept: Instant,
    /// How many packets were not read though they may have been for us, since that was last asked for.
    dropped: u64,
}

impl Gate {
    pub(super) fn new() -> Self {
        Self {
            senders: HashMap::new(),
            others: TokenBucket::new(FOR_OTHERS),
            all: TokenBucket::new(PER_SECOND),
            swept: Instant::now(),
            dropped: 0,
        }
    }

    /// Whether a packet is to be read.
    pub(super) fn admits(&mut self, sender: IpAddr, packet: &[u8]) -> bool {
        // Before its packets are looked at: a flood costs no more than this.
        if self.senders.get(&sender).is_some_and(TokenBucket::is_empty) {
            self.dropped += 1;
            return false;
        }
        if !may_be_ours(packet) {
            return false;
        }
        let admitted = self.measure(sender).permits() && self.all.permits();
        self.dropped += u64::from(!admitted);
        admitted
    }

    /// How many packets were not read since they were last taken.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// How many packets were not read since this was last asked.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    fn measure(&mut self, sender: IpAddr) -> &mut TokenBucket {
        let now = Instant::now();
        if self.senders.len() >= SENDERS_MAX && !self.senders.contains_key(&sender) {
            // Once a second: it looks at all of them.
            if now.duration_since(self.swept).as_secs() > 0 {
                self.swept = now;
                self.senders.retain(|_, bucket| !bucket.is_full());
            }
            if self.senders.len() >= SENDERS_MAX {
                return &mut self.others;
            }
        }
        self.senders.entry(sender).or_insert_with(|| TokenBucket::new(PER_SENDER))
    }
}

/// Whether a packet is a plain question or answer, says no more than it can hold, and has the name of our service in it, or asks
/// which types there are, or for a host that may be us.
fn may_be_ours(packet: &[u8]) -> bool {
    let Some((head, body)) = packet.split_at_checked(HEAD) else { return false };
    // The kind of operation, and errors: both must be none.
    if packet.len() > PACKET_MAX || head[2] & 0x78 != 0 || head[3] & 0x0f != 0 {
        return false;
    }
    let count = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let (questions, records) = (count(4), u32::from(count(6)) + u32::from(count(8)) + u32::from(count(10)));
    if u32::from(questions) + records > u32::from(RECORDS_MAX) || records as usize * RECORD_MIN > body.len() {
        return false;
    }
    let is_answer = head[2] & 0x80 != 0;
    mentions(body, b"\x08_peernix\x04_tcp")
        || (!is_answer && (mentions(body, b"\x09_services\x07_dns-sd") || mentions(body, b"\x34")))
}

/// Whether `name` is in `body`, in whatever case.
fn mentions(body: &[u8], name: &[u8]) -> bool {
    let mut rest = body;
    while let Some(at) = rest.iter().position(|byte| *byte == name[0]) {
        match rest.get(at..at + name.len()) {
            Some(found) if found.eq_ignore_ascii_case(name) => return true,
            Some(_) => rest = &rest[at + 1..],
            None => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn packet(flags: u8, counts: [u8; 4], body: &[u8]) -> Vec<u8> {
        let mut packet = vec![0, 0, flags, 0];
        counts.iter().for_each(|count| packet.extend([0, *count]));
        packet.extend_from_slice(body);
        packet
    }

    fn address(last: u32) -> IpAddr {
        IpAddr::V4((0x0a4d_0000 + last).into())
    }

    fn ours() -> Vec<u8> {
        packet(0x84, [0, 1, 0, 0], b"\x08_PeerNix\x04_TCP\x05local\0\0\x0c\0\x01\0\0\0\0\0\x02\xc0\x0c")
    }

    #[test]
    fn only_what_may_be_ours() {
        assert!(may_be_ours(&ours()));
        let printer = packet(0x84, [0, 1, 0, 0], b"\x04_ipp\x04_tcp\x05local\0\0\x0c\0\x01\0\0\0\0\0\x02\xc0\x0c");
        assert!(!may_be_ours(&printer));
        assert!(may_be_ours(&packet(0, [1, 0, 0, 0], b"\x09_services\x07_dns-sd\x04_udp\x05local\0\0\x0c\0\x01")));
        let mut too_many = ours();
        too_many[7] = 200;
        let mut more_than_it_holds = ours();
        more_than_it_holds[7] = 9;
        let mut another_operation = ours();
        another_operation[2] |= 0x28;
        let mut an_error = ours();
        an_error[3] = 3;
        let huge = [ours(), vec![0; PACKET_MAX]].concat();
        for bad in [too_many, more_than_it_holds, another_operation, an_error, huge, ours()[..11].to_vec(), Vec::new()]
        {
            assert!(!may_be_ours(&bad), "{bad:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_floods_takes_nothing_from_others() {
        let mut gate = Gate::new();
        let admitted = (0..5_000).filter(|_| gate.admits(address(1), &ours())).count();
        assert_eq!(admitted, PER_SENDER as usize);
        assert!(gate.admits(address(2), &ours()), "another sender");
        assert_eq!(gate.take_dropped(), 5_000 - u64::from(PER_SENDER));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(gate.admits(address(1), &ours()), "a second later");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_of_senders_is_bounded() {
        let mut gate = Gate::new();
        for second in 0..20 {
            tokio::time::advance(Duration::from_secs(1)).await;
            let admitted = (0..5_000).filter(|n| gate.admits(address(second * 5_000 + n), &ours())).count();
            assert!(admitted <= PER_SECOND as usize, "{admitted}");
            assert!(gate.senders.len() <= SENDERS_MAX);
        }
        // Once they are quiet, a newcomer has its own measure again.
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(gate.admits(address(999_999), &ours()));
        assert!(gate.senders.contains_key(&address(999_999)));
    }
}
