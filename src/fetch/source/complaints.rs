//! What was said of an upstream in the log: each kind of trouble once, so that an administrator sees it, and no path more often.

use crate::fetch::error::Kind;
use parking_lot::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// After how long the same trouble is worth another line.
const AGAIN: Duration = Duration::from_secs(3600);

/// What was complained of, and when. As many as there are kinds of trouble, and no more.
#[derive(Default)]
pub(crate) struct Complaints(Mutex<Vec<(Kind, Instant)>>);

impl Complaints {
    /// The level at which to log trouble of this kind now.
    pub(crate) fn level(&self, kind: Kind, now: Instant) -> log::Level {
        let mut said = self.0.lock();
        said.retain(|(_, at)| now.duration_since(*at) < AGAIN);
        if said.iter().any(|(known, _)| *known == kind) {
            return log::Level::Debug;
        }
        said.push((kind, now));
        log::Level::Info
    }

    /// It is all over: whatever comes next is new.
    pub(crate) fn forget(&self) {
        self.0.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use log::Level::{Debug, Info};

    #[test]
    fn each_kind_once_and_again_after_an_hour() {
        let (complaints, now) = (Complaints::default(), Instant::now());
        assert_eq!(complaints.level(Kind::Signature, now), Info);
        assert!((0..1000).all(|_| complaints.level(Kind::Signature, now) == Debug), "not for each path");
        assert_eq!(complaints.level(Kind::Status(500), now), Info, "another reason");
        assert_eq!((complaints.level(Kind::Status(502), now), complaints.level(Kind::Status(500), now)), (Info, Debug));
        assert_eq!(complaints.level(Kind::Signature, now + AGAIN), Info);
        complaints.forget();
        assert_eq!(complaints.level(Kind::Signature, now + AGAIN), Info);
    }
}
