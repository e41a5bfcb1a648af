//! What one machine tells another of its index: all of it, or what changed. `docs/wire-protocol.md` has the form.

use super::entry::{Entry, SALT, Salt};
use super::error::IndexError;
use super::set::{ENTRIES_MAX, decode, encode};
use crate::peers::IndexState;
use bytes::Bytes;

/// The longest update, in bytes: 8 MB. Two million entries take 7.
pub const UPDATE_MAX: usize = 8_000_000;

const SNAPSHOT: u8 = 1;
const CHANGES: u8 = 2;
/// Kind, epoch and sequence, in bytes.
const HEAD: usize = 1 + 8 + 8;

/// What is told of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// All of it.
    Snapshot {
        /// The state that it is in.
        state: IndexState,
        /// What its entries are made with.
        salt: Salt,
        /// Its entries, in order.
        entries: Vec<Entry>,
    },
    /// What changed since the state that was named.
    Changes {
        /// The state that it is in now, of the same epoch.
        state: IndexState,
        /// What was added, in order.
        added: Vec<Entry>,
        /// What is gone, in order; nothing that was added.
        removed: Vec<Entry>,
    },
}

impl Update {
    /// Whether it is all of it, and not what changed.
    #[must_use]
    pub const fn is_all(&self) -> bool {
        matches!(self, Self::Snapshot { .. })
    }

    /// How many entries are told as added, and as removed.
    #[must_use]
    pub const fn counts(&self) -> (u64, u64) {
        match self {
            Self::Snapshot { entries, .. } => (entries.len() as u64, 0),
            Self::Changes { added, removed, .. } => (added.len() as u64, removed.len() as u64),
        }
    }

    /// Whether there may be something that was not there before.
    #[must_use]
    pub const fn adds(&self) -> bool {
        match self {
            Self::Snapshot { entries: added, .. } | Self::Changes { added, .. } => !added.is_empty(),
        }
    }

    /// As bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        match self {
            Self::Snapshot { state, salt, entries } => snapshot(*state, *salt, entries),
            Self::Changes { state, added, removed } => {
                let mut bytes = head(CHANGES, *state);
                encode(added, &mut bytes);
                encode(removed, &mut bytes);
                bytes.into()
            }
        }
    }

    /// From bytes of a stranger.
    ///
    /// # Errors
    /// Anything but what [`Self::to_bytes`] gives for sets of at most [`ENTRIES_MAX`] entries.
    pub fn parse(bytes: &[u8]) -> Result<Self, IndexError> {
        if bytes.len() > UPDATE_MAX {
            return Err(IndexError::TooLong(UPDATE_MAX));
        }
        let (head, rest) = bytes.split_first_chunk::<HEAD>().ok_or(IndexError::Truncated)?;
        let [kind, a, b, c, d, e, f, g, h, seq @ ..] = *head;
        let state = IndexState { epoch: u64::from_be_bytes([a, b, c, d, e, f, g, h]), seq: u64::from_be_bytes(seq) };
        let (update, used) = match kind {
            SNAPSHOT => {
                let (salt, rest) = rest.split_first_chunk::<SALT>().ok_or(IndexError::Truncated)?;
                let (entries, used) = decode(rest, ENTRIES_MAX)?;
                (Self::Snapshot { state, salt: Salt::new(*salt), entries }, SALT + used)
            }
            CHANGES => {
                let (added, first) = decode(rest, ENTRIES_MAX)?;
                let (removed, second) = decode(&rest[first..], ENTRIES_MAX)?;
                (Self::Changes { state, added, removed }, first + second)
            }
            other => return Err(IndexError::Kind(other)),
        };
        if used == rest.len() { Ok(update) } else { Err(IndexError::Padding) }
    }
}

/// An [`Update::Snapshot`] as bytes, without a copy of its entries.
pub(super) fn snapshot(state: IndexState, salt: Salt, entries: &[Entry]) -> Bytes {
    let mut bytes = head(SNAPSHOT, state);
    bytes.extend(salt.as_bytes());
    encode(entries, &mut bytes);
    bytes.into()
}

fn head(kind: u8, state: IndexState) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(state.epoch.to_be_bytes());
    bytes.extend(state.seq.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        proptest::collection::btree_set(0..1u64 << 48, 0..50)
            .prop_map(|numbers| numbers.into_iter().filter_map(Entry::new).collect())
    }

    fn update() -> impl Strategy<Value = Update> {
        let state = || any::<(u64, u64)>().prop_map(|(epoch, seq)| IndexState { epoch, seq });
        prop_oneof![
            (state(), any::<[u8; SALT]>(), entries()).prop_map(|(state, salt, entries)| Update::Snapshot {
                state,
                salt: Salt::new(salt),
                entries
            }),
            (state(), entries(), entries()).prop_map(|(state, added, removed)| Update::Changes {
                state,
                added,
                removed
            }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(update in update(), extra in 0..40u8, cut in any::<prop::sample::Index>()) {
            let bytes = update.to_bytes();
            let other = [&bytes[..], &[extra]].concat();
            prop_assert_eq!(Update::parse(&other), Err(IndexError::Padding));
            prop_assert!(Update::parse(&bytes[..cut.index(bytes.len())]).is_err());
            prop_assert_eq!(Update::parse(&bytes), Ok(update));
        }

        #[test]
        fn nothing_of_a_stranger_panics(bytes: Vec<u8>) {
            let _ = Update::parse(&bytes);
        }
    }

    #[test]
    fn what_is_longer_than_it_may_be_is_not_read() {
        assert_eq!(Update::parse(&vec![1; UPDATE_MAX + 1]), Err(IndexError::TooLong(UPDATE_MAX)));
        assert_eq!(Update::parse(&[3; 100]), Err(IndexError::Kind(3)));
    }
}
