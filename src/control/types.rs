//! The plain types of [`Control`](super::Control): what is asked for, and what comes back.
//!
//! Their JSON form is what Varlink carries and what `peernixctl --json` prints: names in camelCase, times in microseconds
//! since 1970 (`…Timestamp`) or as durations in microseconds (`…USec`), sizes in bytes, words in lower case. What is not
//! known is left out.

mod events;
mod keys;
mod peers;
mod service;
mod store;

pub use events::{Event, EventFilter, EventItem, EventKind};
pub use keys::{Key, KeyState, Managed, Rotation, TrustOrigin, TrustedKey};
pub use peers::{Blocked, Peer, PeerFilter};
pub use service::{
    Face, Listen, LogLevel, Lookups, Reload, ServiceState, SourceBytes, Statistics, Status, TransferCounts,
};
pub use store::{
    GarbageOptions, Job, JobKind, JobPath, JobState, PathReport, PathSource, Pin, PinRequest, Sharing, SourceKind,
};

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Microseconds since 1970, as all times of the interfaces are.
#[must_use]
pub fn timestamp(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, microseconds)
}

/// A duration in microseconds; more than fits is the most.
#[must_use]
pub fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// An enum whose values are words in both interfaces.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[doc = $help:literal])* $value:ident = $word:literal,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[doc = $help])* #[serde(rename = $word)] $value,)*
        }

        impl $name {
            /// Every value.
            pub const ALL: &[Self] = &[$(Self::$value,)*];

            /// Its word.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$value => $word,)* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = super::super::ControlError;

            fn from_str(word: &str) -> Result<Self, Self::Err> {
                Self::ALL.iter().copied().find(|value| value.as_str() == word).ok_or_else(|| {
                    let words: Vec<&str> = Self::ALL.iter().map(|value| value.as_str()).collect();
                    super::super::ControlError::new(
                        super::super::ErrorKind::InvalidArgument,
                        format!("'{}' is none of {}", word.escape_default(), words.join(", ")),
                    )
                })
            }
        }
    };
}
pub(crate) use words;
