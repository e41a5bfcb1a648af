//! How many connections each address has.

use super::Limits;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Whose connections are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Group {
    /// One address.
    Address(IpAddr),
    /// The first half of an IPv6 address: one machine owns the other half.
    Network(u64),
}

/// The counts, and how far they may go.
#[derive(Debug)]
pub(super) struct Seats {
    taken: Mutex<HashMap<Group, usize>>,
    per_address: usize,
    per_network: usize,
}

/// The place of one connection, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    address: IpAddr,
}

/// The groups of an address, with the limit of each.
fn groups(seats: &Seats, address: IpAddr) -> impl Iterator<Item = (Group, usize)> {
    let network = match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments().map(u64::from);
            Some((Group::Network(a << 48 | b << 32 | c << 16 | d), seats.per_network))
        }
    };
    [Some((Group::Address(address), seats.per_address)), network].into_iter().flatten()
}

impl Seats {
    pub(super) fn new(limits: &Limits) -> Arc<Self> {
        let per_address = limits.per_address.unwrap_or(usize::MAX);
        let per_network = if limits.per_address.is_some() { (limits.connections / 2).max(1) } else { usize::MAX };
        Arc::new(Self { taken: Mutex::default(), per_address, per_network })
    }

    /// A place for a connection from `address`, unless there are too many already.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr) -> Option<Seat> {
        let mut taken = self.taken.lock();
        let full = |(group, most)| taken.get(&group).is_some_and(|taken| *taken >= most);
        if groups(self, address).any(full) {
            return None;
        }
        for (group, _) in groups(self, address) {
            *taken.entry(group).or_default() += 1;
        }
        Some(Seat { seats: Arc::clone(self), address })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken.lock();
        for (group, _) in groups(&self.seats, self.address) {
            if let Some(count) = taken.get_mut(&group) {
                *count -= 1;
                if *count == 0 {
                    taken.remove(&group);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seats(connections: usize, per_address: Option<usize>) -> Arc<Seats> {
        Seats::new(&Limits { connections, per_address, ..Limits::share() })
    }

    #[test]
    fn an_address_has_its_limit() {
        let seats = seats(100, Some(2));
        let address = "192.0.2.1".parse().unwrap();
        let first = seats.take(address).unwrap();
        let _second = seats.take(address).unwrap();
        assert!(seats.take(address).is_none());
        assert!(seats.take("192.0.2.2".parse().unwrap()).is_some(), "others have their own");
        drop(first);
        assert!(seats.take(address).is_some(), "a place given back is free");
    }

    #[test]
    fn a_network_has_half() {
        let seats = seats(4, Some(1));
        let taken: Vec<_> =
            ["2001:db8::1", "2001:db8::2"].map(|text| seats.take(text.parse().unwrap()).unwrap()).into();
        assert!(seats.take("2001:db8::3".parse().unwrap()).is_none());
        assert!(seats.take("2001:db8:0:1::3".parse().unwrap()).is_some(), "the next network");
        drop(taken);
        assert!(seats.take("2001:db8::3".parse().unwrap()).is_some());
    }

    #[test]
    fn nothing_is_kept_of_who_left() {
        let seats = seats(4, Some(1));
        drop(seats.take("2001:db8::1".parse().unwrap()));
        drop(seats.take("192.0.2.1".parse().unwrap()));
        assert!(seats.taken.lock().is_empty());
    }

    #[test]
    fn no_limit_is_none() {
        let seats = seats(1, None);
        let taken: Vec<_> = (0..100).map(|_| seats.take("::1".parse().unwrap())).collect();
        assert!(taken.iter().all(Option::is_some));
    }
}
