//! Promises that were broken: somebody said that it has a path, and then did not give its NAR.
//!
//! Whoever says that the file is not there, or sends one that cannot be it, is not taken at its word for a while: what it alone has is not
//! promised to Nix. Whoever merely failed may be better in a moment: it is asked after all others. When a NAR is wanted after all, both are
//! asked, because then there is nothing to lose.

use super::error::SourceError;
use super::source::SourceId;
use crate::nix::StoreHash;
use moka::sync::Cache;
use std::time::Duration;

/// For how long a broken promise is remembered: as long as a path that was found, so that a whole run of Nix pays for it once.
const LASTS: Duration = Duration::from_secs(60);
/// How many of them are remembered.
const MAX: u64 = 16 * 1024;

/// How a promise was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    /// It will be so again.
    ForGood,
    /// It may be otherwise in a moment.
    ForNow,
}

/// The broken promises of late. A cheap handle: clones are the same.
#[derive(Clone)]
pub(crate) struct BrokenPromises(Cache<(StoreHash, SourceId), Broken>);

impl BrokenPromises {
    pub(crate) fn new() -> Self {
        Self(Cache::builder().max_capacity(MAX).time_to_live(LASTS).build())
    }

    /// `source` promised the NAR of `hash`, and then there was this error instead.
    pub(crate) fn note(&self, hash: StoreHash, source: &SourceId, error: &SourceError) {
        // That it could not be asked, or not now, is not its fault.
        if !matches!(error, SourceError::Unavailable(_) | SourceError::Busy) {
            let broken = if error.is_final() { Broken::ForGood } else { Broken::ForNow };
            self.0.insert((hash, source.clone()), broken);
        }
    }

    /// Whether `source` broke its promise of `hash`, in whatever way.
    pub(crate) fn is_broken(&self, hash: StoreHash, source: &SourceId) -> bool {
        self.0.contains_key(&(hash, source.clone()))
    }

    /// Whether it did so in a way that it would do again.
    pub(crate) fn is_broken_for_good(&self, hash: StoreHash, source: &SourceId) -> bool {
        self.0.get(&(hash, source.clone())) == Some(Broken::ForGood)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::error::Violation;

    #[test]
    fn only_what_will_be_so_again_is_held_against_a_narinfo() {
        let (promises, hash) = (BrokenPromises::new(), StoreHash::new([1; 20]));
        let source = |number: usize| SourceId::Upstream(format!("http://{number}.example.org").parse().unwrap());
        let stalled = SourceError::Stalled(Duration::from_secs(1));
        for (number, (error, broken, for_good)) in [
            (SourceError::Status(403), true, true),
            (SourceError::Status(404), true, true),
            (SourceError::Status(410), true, true),
            (SourceError::Status(429), true, false),
            (SourceError::Status(500), true, false),
            (SourceError::Status(503), true, false),
            (SourceError::Decode(std::io::Error::other("x")), true, true),
            (SourceError::Redirect("x".into()), true, true),
            (SourceError::Encoding("x".into()), true, true),
            (Violation::Size(1, 2).into(), true, true),
            (SourceError::Connection("reset".into()), true, false),
            (SourceError::Truncated(1, 2), true, false),
            (SourceError::Changed, true, false),
            (stalled, true, false),
            (SourceError::Busy, false, false),
            (SourceError::Unavailable("no address".into()), false, false),
        ]
        .into_iter()
        .enumerate()
        {
            let source = source(number);
            promises.note(hash, &source, &error);
            let noted = (promises.is_broken(hash, &source), promises.is_broken_for_good(hash, &source));
            assert_eq!(noted, (broken, for_good), "{error}");
            assert!(!promises.is_broken(StoreHash::new([2; 20]), &source), "of another path");
        }
    }
}
