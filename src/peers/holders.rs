//! Who has what, asked of a relay: `POST /peernix/v1/holders`, as it is written.
//!
//! The request is that of [`narinfo_batch`](super::narinfo_batch): hash parts, 20 bytes each. The answer has for each of them, in the order of
//! the request:
//!
//! ```text
//! 1 byte     how many machines follow, up to [`HOLDERS_MAX`]; for each of them
//! 32 bytes   its node id
//! 1 byte     how many addresses follow, up to [`ADDRESSES_MAX`]; for each of them
//! 18 bytes   the address, IPv4 mapped into IPv6, and the port, big-endian
//! ```

use super::identity::NodeId;
use super::narinfo_batch::BatchError;
use bytes::{Buf, Bytes};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The request target.
pub const TARGET: &str = "/peernix/v1/holders";
/// How many machines are named for one path. Who asks for it next is told others.
pub const HOLDERS_MAX: usize = 4;
/// How many addresses of each.
pub const ADDRESSES_MAX: usize = 2;
/// The longest answer, in bytes.
pub const ANSWER_MAX: usize = super::narinfo_batch::HASHES_MAX * (1 + HOLDERS_MAX * (32 + 1 + ADDRESSES_MAX * 18));

/// A machine that is said to have something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Who it is.
    pub id: NodeId,
    /// Where it may be reached.
    pub addresses: Vec<SocketAddr>,
}

impl Holder {
    /// Appends it as it is written. Addresses that are too many are left out.
    pub(crate) fn write(&self, body: &mut Vec<u8>) {
        let addresses = &self.addresses[..self.addresses.len().min(ADDRESSES_MAX)];
        body.extend_from_slice(self.id.as_bytes());
        body.push(count(addresses.len()));
        for address in addresses {
            let ip = match address.ip() {
                IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                IpAddr::V6(ip) => ip,
            };
            body.extend_from_slice(&ip.octets());
            body.extend_from_slice(&address.port().to_be_bytes());
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn read(body: &mut Bytes) -> Result<Self, BatchError> {
        let short = |_| BatchError::Short;
        let mut id = [0; 32];
        body.try_copy_to_slice(&mut id).map_err(short)?;
        let many = usize::from(body.try_get_u8().map_err(short)?);
        if many > ADDRESSES_MAX {
            return Err(BatchError::Long(many));
        }
        let mut addresses = Vec::with_capacity(many);
        for _ in 0..many {
            let mut ip = [0; 16];
            body.try_copy_to_slice(&mut ip).map_err(short)?;
            let port = body.try_get_u16().map_err(short)?;
            addresses.push(SocketAddr::new(Ipv6Addr::from(ip).to_canonical(), port));
        }
        let id = NodeId::from_bytes(id).map_err(|_| BatchError::Node)?;
        Ok(Self { id, addresses })
    }
}

/// The body of an answer: the holders of each path that was asked for. What is too much is left out.
#[must_use]
pub fn answer(holders: &[Vec<Holder>]) -> Bytes {
    let mut body = Vec::new();
    for holders in holders {
        let holders = &holders[..holders.len().min(HOLDERS_MAX)];
        body.push(count(holders.len()));
        holders.iter().for_each(|holder| holder.write(&mut body));
    }
    body.into()
}

/// Small: bounded by the constants above.
fn count(count: usize) -> u8 {
    u8::try_from(count).unwrap_or_default()
}

/// Reads the answer to a request for so many paths.
///
/// # Errors
/// It is none.
pub fn parse_answer(mut body: Bytes, paths: usize) -> Result<Vec<Vec<Holder>>, BatchError> {
    let short = |_| BatchError::Short;
    let mut all = Vec::new();
    for _ in 0..paths {
        let mut holders = Vec::new();
        let many = usize::from(body.try_get_u8().map_err(short)?);
        if many > HOLDERS_MAX {
            return Err(BatchError::Long(many));
        }
        for _ in 0..many {
            holders.push(Holder::read(&mut body)?);
        }
        all.push(holders);
    }
    if body.has_remaining() {
        return Err(BatchError::Count);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::SigningKey;
    use proptest::prelude::*;

    fn id(seed: u8) -> NodeId {
        NodeId::of(&SigningKey::from_bytes(&[seed; 32]).verifying_key())
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_nothing_else(
            paths in proptest::collection::vec(
                proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<SocketAddr>(), 0..3)), 0..5),
                1..8,
            ),
        ) {
            let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
            let holders: Vec<Vec<Holder>> = paths
                .into_iter()
                .map(|holders| {
                    let holder = |(seed, addresses): (u8, Vec<SocketAddr>)| Holder {
                        id: id(seed),
                        addresses: addresses.into_iter().map(plain).collect(),
                    };
                    holders.into_iter().map(holder).collect()
                })
                .collect();
            let body = answer(&holders);
            prop_assert!(body.len() <= ANSWER_MAX);
            prop_assert_eq!(parse_answer(body.clone(), holders.len()), Ok(holders.clone()));
            prop_assert!(parse_answer(body.clone(), holders.len() + 1).is_err());
            prop_assert!(parse_answer(body.slice(..body.len() - 1), holders.len()).is_err());
        }
    }

    #[test]
    fn more_than_may_be_named_is_refused() {
        assert_eq!(parse_answer(Bytes::from_static(&[5]), 1), Err(BatchError::Long(5)));
        let mut body = vec![1];
        body.extend(id(1).as_bytes());
        body.push(3);
        assert_eq!(parse_answer(body.into(), 1), Err(BatchError::Long(3)));
        assert_eq!(parse_answer(Bytes::from_static(&[0, 0]), 1), Err(BatchError::Count));
    }
}
