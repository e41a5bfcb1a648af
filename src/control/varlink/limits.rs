//! What one listener allows.

use std::time::Duration;

/// What one listener allows.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at the same time.
    pub connections: usize,
    /// Connections of one user at the same time. In a user namespace (`PrivateUsers=yes`) all users but root and the
    /// service's own look like one, so this is half of all: a place is left for root whatever others do.
    pub per_user: usize,
    /// How long a connection may be open without a call.
    pub idle: Duration,
    /// How long a client may leave an answer lying before it is taken for dead. A monitor whose reader was stopped for
    /// less than this goes on, and is told how much it missed.
    pub write: Duration,
    /// How long calls under way may take to their end when the service stops.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 128,
            per_user: 64,
            idle: Duration::from_secs(600),
            write: Duration::from_secs(60),
            drain: Duration::from_secs(5),
        }
    }
}
