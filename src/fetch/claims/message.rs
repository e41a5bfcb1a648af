//! What a directory is asked and told: `POST /peernix/v1/claim`, as it is written.
//!
//! The request is one to [`CLAIMS_MAX`] records:
//!
//! ```text
//! 32 bytes   the NAR, by its SHA-256
//! 1 byte     1: it is wanted; of those that are on their way 2: it is downloaded, 3: it is streamed from a machine,
//!            4: all of it is here, 5: it was given up
//! 1 byte     1: what comes can be streamed from the sender of this; 0: it cannot
//! 8 bytes    how many bytes of it are there
//! 2 bytes    how many streams the sender of this sends at the moment
//! after 1:   1 byte, how many sources failed, up to [`LOST_MAX`]; for each of them 32 bytes, its node id, and
//!            1 byte, 1: it broke, 2: it stalled
//! after 3:   32 bytes, the node id of that machine
//! ```
//!
//! The answer has for each record, in their order:
//!
//! ```text
//! 1 byte     0: noted; to what is wanted also 1: download it, 2: stream it from a machine, 3: do as if nobody was asked
//! after 2:   32 bytes, its node id; 1 byte, how many addresses follow, up to [`ADDRESSES_MAX`];
//!            18 bytes each: the address, IPv4 mapped into IPv6, and the port, big-endian
//! ```
//!
//! Other numbers are little-endian.

use super::directory::LOST_MAX;
use super::{Loss, Renewal, Role, Want};
use crate::nix::NarHash;
use crate::peers::NodeId;
use crate::peers::holders::{ADDRESSES_MAX, Holder};
use crate::peers::narinfo_batch::BatchError;
use bytes::{Buf, Bytes};

/// The request target.
pub const TARGET: &str = "/peernix/v1/claim";
/// The most records in one request.
pub const CLAIMS_MAX: usize = 28;
/// The longest request, in bytes.
pub const REQUEST_MAX: usize = CLAIMS_MAX * (HEAD + 1 + LOST_MAX * 33);
/// The longest answer, in bytes.
pub const ANSWER_MAX: usize = CLAIMS_MAX * (1 + 32 + 1 + ADDRESSES_MAX * 18);

/// The part that all records have.
const HEAD: usize = 32 + 1 + 1 + 8 + 2;

/// One record of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// A NAR is wanted.
    Want(Want),
    /// One is on its way.
    Renewal(Renewal),
}

/// One record of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is noted.
    Noted,
    /// The NAR is to be downloaded, for all.
    Download,
    /// It is to be streamed from there.
    Follow(Holder),
    /// Whoever wants it is to do as if nobody was asked.
    Alone,
}

/// The body of a request.
#[must_use]
pub fn request(claims: &[Claim]) -> Bytes {
    let mut body = Vec::with_capacity(claims.len() * (HEAD + 34));
    for claim in claims {
        let (nar, kind, serves, came, sends) = match claim {
            Claim::Want(Want { nar, came, serves, sends, .. }) => (nar, 1, serves, came, sends),
            Claim::Renewal(Renewal { nar, role, came, serves, sends }) => (nar, kind(*role), serves, came, sends),
        };
        body.extend_from_slice(nar.as_bytes());
        body.extend_from_slice(&[kind, u8::from(*serves)]);
        body.extend_from_slice(&came.to_le_bytes());
        body.extend_from_slice(&sends.to_le_bytes());
        match claim {
            Claim::Want(Want { lost, .. }) => {
                let lost = &lost[..lost.len().min(LOST_MAX)];
                body.push(u8::try_from(lost.len()).unwrap_or_default());
                for (who, how) in lost {
                    body.extend_from_slice(who.as_bytes());
                    body.push(if *how == Loss::Broke { 1 } else { 2 });
                }
            }
            Claim::Renewal(Renewal { role: Some(Role::Follows(source)), .. }) => {
                body.extend_from_slice(source.as_bytes());
            }
            Claim::Renewal(_) => {}
        }
    }
    body.into()
}

const fn kind(role: Option<Role>) -> u8 {
    match role {
        Some(Role::Downloads) => 2,
        Some(Role::Follows(_)) => 3,
        Some(Role::Complete) => 4,
        None => 5,
    }
}

/// Reads a request.
///
/// # Errors
/// It is none.
pub fn parse_request(mut body: Bytes) -> Result<Vec<Claim>, BatchError> {
    let short = |_| BatchError::Short;
    let mut claims = Vec::new();
    while body.has_remaining() {
        if claims.len() == CLAIMS_MAX {
            return Err(BatchError::Count);
        }
        let mut nar = [0; 32];
        body.try_copy_to_slice(&mut nar).map_err(short)?;
        let nar = NarHash::new(nar);
        let kind = body.try_get_u8().map_err(short)?;
        let serves = flag(body.try_get_u8().map_err(short)?)?;
        let came = body.try_get_u64_le().map_err(short)?;
        let sends = body.try_get_u16_le().map_err(short)?;
        let role = match kind {
            1 => {
                let count = usize::from(body.try_get_u8().map_err(short)?);
                if count > LOST_MAX {
                    return Err(BatchError::Long(count));
                }
                let mut lost = Vec::with_capacity(count);
                for _ in 0..count {
                    let who = node(&mut body)?;
                    lost.push((
                        who,
                        match body.try_get_u8().map_err(short)? {
                            1 => Loss::Broke,
                            2 => Loss::Stalled,
                            other => return Err(BatchError::Kind(other)),
                        },
                    ));
                }
                claims.push(Claim::Want(Want { nar, came, serves, sends, lost }));
                continue;
            }
            2 => Some(Role::Downloads),
            3 => Some(Role::Follows(node(&mut body)?)),
            4 => Some(Role::Complete),
            5 => None,
            other => return Err(BatchError::Kind(other)),
        };
        claims.push(Claim::Renewal(Renewal { nar, role, came, serves, sends }));
    }
    if claims.is_empty() { Err(BatchError::Count) } else { Ok(claims) }
}

fn flag(byte: u8) -> Result<bool, BatchError> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(BatchError::Kind(other)),
    }
}

fn node(body: &mut Bytes) -> Result<NodeId, BatchError> {
    let mut id = [0; 32];
    body.try_copy_to_slice(&mut id).map_err(|_| BatchError::Short)?;
    NodeId::from_bytes(id).map_err(|_| BatchError::Node)
}

/// The body of an answer.
#[must_use]
pub fn answer(answers: &[Answer]) -> Bytes {
    let mut body = Vec::with_capacity(answers.len() * 64);
    for answer in answers {
        match answer {
            Answer::Noted => body.push(0),
            Answer::Download => body.push(1),
            Answer::Follow(source) => {
                body.push(2);
                source.write(&mut body);
            }
            Answer::Alone => body.push(3),
        }
    }
    body.into()
}

/// Reads the answer to a request of so many records.
///
/// # Errors
/// It is none.
pub fn parse_answer(mut body: Bytes, records: usize) -> Result<Vec<Answer>, BatchError> {
    let mut answers = Vec::with_capacity(records.min(CLAIMS_MAX));
    for _ in 0..records {
        answers.push(match body.try_get_u8().map_err(|_| BatchError::Short)? {
            0 => Answer::Noted,
            1 => Answer::Download,
            2 => Answer::Follow(Holder::read(&mut body)?),
            3 => Answer::Alone,
            other => return Err(BatchError::Kind(other)),
        });
    }
    if body.has_remaining() { Err(BatchError::Count) } else { Ok(answers) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::SigningKey;
    use proptest::prelude::*;
    use std::net::SocketAddr;

    fn id(seed: u8) -> NodeId {
        NodeId::of(&SigningKey::from_bytes(&[seed; 32]).verifying_key())
    }

    fn claim() -> impl Strategy<Value = Claim> {
        let loss = prop_oneof![Just(Loss::Broke), Just(Loss::Stalled)];
        let lost = proptest::collection::vec((any::<u8>().prop_map(id), loss), 0..=LOST_MAX);
        let role = prop_oneof![
            Just(None),
            Just(Some(Role::Downloads)),
            Just(Some(Role::Complete)),
            any::<u8>().prop_map(|seed| Some(Role::Follows(id(seed)))),
        ];
        let head = (any::<[u8; 32]>().prop_map(NarHash::new), any::<u64>(), any::<bool>(), any::<u16>());
        (head, any::<bool>(), lost, role).prop_map(|((nar, came, serves, sends), is_want, lost, role)| {
            if is_want {
                Claim::Want(Want { nar, came, serves, sends, lost })
            } else {
                Claim::Renewal(Renewal { nar, role, came, serves, sends })
            }
        })
    }

    fn said() -> impl Strategy<Value = Answer> {
        let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let addresses = proptest::collection::vec(any::<SocketAddr>().prop_map(plain), 0..=ADDRESSES_MAX);
        let follow = (any::<u8>(), addresses).prop_map(|(seed, addresses)| Holder { id: id(seed), addresses });
        prop_oneof![Just(Answer::Noted), Just(Answer::Download), Just(Answer::Alone), follow.prop_map(Answer::Follow)]
    }

    proptest! {
        #[test]
        fn a_request_is_read_as_it_was_written(claims in proptest::collection::vec(claim(), 1..=CLAIMS_MAX)) {
            let body = request(&claims);
            prop_assert!(body.len() <= REQUEST_MAX);
            prop_assert_eq!(parse_request(body.clone()), Ok(claims));
            prop_assert!(parse_request(body.slice(..body.len() - 1)).is_err());
        }

        #[test]
        fn an_answer_is_read_as_it_was_written(answers in proptest::collection::vec(said(), 1..=CLAIMS_MAX)) {
            let body = answer(&answers);
            prop_assert!(body.len() <= ANSWER_MAX);
            prop_assert_eq!(parse_answer(body.clone(), answers.len()), Ok(answers.clone()));
            prop_assert!(parse_answer(body.clone(), answers.len() + 1).is_err());
            prop_assert!(parse_answer(body, answers.len() - 1).is_err());
        }
    }

    #[test]
    fn what_means_nothing_is_refused() {
        let one = Claim::Renewal(Renewal { nar: NarHash::new([1; 32]), role: None, came: 0, serves: true, sends: 0 });
        let good = request(std::slice::from_ref(&one)).to_vec();
        for (place, byte, error) in [(32, 6, BatchError::Kind(6)), (33, 2, BatchError::Kind(2))] {
            let mut bad = good.clone();
            bad[place] = byte;
            assert_eq!(parse_request(bad.into()), Err(error));
        }
        assert_eq!(parse_request(Bytes::new()), Err(BatchError::Count));
        assert_eq!(parse_request(request(&vec![one; CLAIMS_MAX + 1])), Err(BatchError::Count));
        let mut lost = good.clone();
        lost[32] = 1;
        lost.push(5);
        assert_eq!(parse_request(lost.into()), Err(BatchError::Long(5)));
        assert_eq!(parse_answer(Bytes::from_static(&[4]), 1), Err(BatchError::Kind(4)));
    }
}
