//! What comes of a large NAR is kept on the disk if it takes long, so that it need not come again after a restart. What comes fast costs the disk
//! nothing.

use super::rest::RESTS_MIN;
use super::spool::{Spools, Writer};
use crate::nix::PathInfo;
use bytes::Bytes;
use std::time::Duration;
use tokio::time::Instant;

/// How much is looked at before it is decided, in bytes.
const SAMPLE: u64 = 2 * 1024 * 1024;
/// What takes longer than this is kept.
const LONG: Duration = Duration::from_secs(5);

/// Whether what is missing of `size` bytes will take long, if `came` bytes took so long.
fn takes_long(came: u64, took: Duration, size: u64) -> bool {
    // Beyond 2^53 bytes a rounded number does as well.
    #[allow(clippy::cast_precision_loss)]
    let times = size.saturating_sub(came) as f64 / came.max(1) as f64;
    took.as_secs_f64() * times > LONG.as_secs_f64()
}

/// A transfer of which it is not decided yet.
pub(crate) struct Keeper {
    /// Since when it comes.
    begun: Option<Instant>,
    /// It is decided already.
    is_decided: bool,
    /// Whatever it costs.
    must: bool,
    chunks: Vec<Bytes>,
    came: u64,
}

/// What is to be done with what comes.
pub(crate) enum Decision {
    /// That is seen later.
    Later,
    /// It is kept.
    Kept(Writer),
    /// It is not.
    Not,
}

impl Keeper {
    /// Of a transfer of so many bytes from its first one on; `None` if it is not worth it. With `is_rest` it was worth it before; with `must` it
    /// is in any case.
    pub(crate) fn new(size: u64, is_rest: bool, must: bool) -> Option<Self> {
        let is_decided = is_rest || must;
        let keeper = Self { begun: None, is_decided, must, chunks: Vec::new(), came: 0 };
        (must || size >= RESTS_MIN).then_some(keeper)
    }

    /// It is asked for: from now on it is waited for.
    pub(crate) fn begins(&mut self) {
        self.begun.get_or_insert_with(Instant::now);
    }

    /// Takes in the next bytes.
    pub(crate) async fn take(&mut self, chunk: Bytes, info: &PathInfo, spools: &Spools) -> Decision {
        self.came += chunk.len() as u64;
        self.chunks.push(chunk);
        let begun = *self.begun.get_or_insert_with(Instant::now);
        if !self.is_decided {
            if self.came < SAMPLE {
                return Decision::Later;
            }
            if !takes_long(self.came, begun.elapsed(), info.nar_size) {
                return Decision::Not;
            }
        }
        let Some(mut writer) = spools.open_private(info, self.must) else { return Decision::Not };
        for chunk in std::mem::take(&mut self.chunks) {
            if !writer.push(chunk).await {
                return Decision::Not;
            }
        }
        Decision::Kept(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_long_is_told_by_how_it_begins() {
        let seconds = Duration::from_secs;
        assert!(takes_long(1 << 20, seconds(1), 16 << 20));
        assert!(!takes_long(4 << 20, seconds(1), 16 << 20));
        assert!(!takes_long(0, Duration::ZERO, u64::MAX) && !takes_long(10, seconds(100), 10));
    }

    #[test]
    fn what_is_small_is_not_kept() {
        assert!(Keeper::new(RESTS_MIN - 1, true, false).is_none() && Keeper::new(RESTS_MIN, false, false).is_some());
        assert!(Keeper::new(1, false, true).is_some());
    }
}
