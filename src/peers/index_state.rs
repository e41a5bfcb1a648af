//! Which state a machine's index is in, as it tells its peers: so little that it goes with every greeting.

use std::fmt;
use std::str::FromStr;

/// The header of a greeting that tells the greeter's own.
pub(super) const HEADER: &str = "peernix-index";

/// A state of an index. Written `EPOCH.SEQUENCE`: sixteen lower-case hexadecimal digits, a dot, and a decimal number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IndexState {
    /// Which log it is: at random, another one at each start.
    pub epoch: u64,
    /// How many times the log has changed.
    pub seq: u64,
}

/// The text is no state of an index.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not sixteen hexadecimal digits, a dot, and a number")]
pub struct BadState;

impl FromStr for IndexState {
    type Err = BadState;

    fn from_str(text: &str) -> Result<Self, BadState> {
        let (epoch, seq) = text.split_once('.').ok_or(BadState)?;
        let is_epoch = epoch.len() == 16 && epoch.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let is_seq = !seq.is_empty() && seq.bytes().all(|byte| byte.is_ascii_digit());
        if !is_epoch || !is_seq {
            return Err(BadState);
        }
        let epoch = u64::from_str_radix(epoch, 16).map_err(|_| BadState)?;
        Ok(Self { epoch, seq: seq.parse().map_err(|_| BadState)? })
    }
}

impl fmt::Display for IndexState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}.{}", self.epoch, self.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(epoch: u64, seq: u64) {
            let state = IndexState { epoch, seq };
            prop_assert_eq!(state.to_string().parse(), Ok(state));
        }

        #[test]
        fn anything_else_is_refused(text in "[0-9a-f.+ ]{0,40}") {
            if let Ok(state) = text.parse::<IndexState>() {
                prop_assert_eq!(&state.to_string()[..17], &text[..17]);
            }
        }
    }
}
