//! How much of us strangers may use.
//!
//! No limit is on the time or length of a transfer as a whole: a NAR may take as long as its reader needs, as long as it
//! goes on.

use std::time::Duration;

/// The largest head of a request, in bytes. Nix sends about 200.
pub const HEAD_MAX: usize = 16 * 1024;

/// How many headers a request may have. Nix sends four. (hyper's own number; asking for another one costs an
/// allocation a request.)
pub const HEADERS_MAX: usize = 100;

/// How many bytes of an answer a connection holds while they wait for their reader. Chunks of a NAR are larger than
/// this, so that one chunk waits and no more.
pub const WRITE_BUFFER: usize = 64 * 1024;

/// How many bytes a reader must take within [`Limits::stall_timeout`], if it takes less than all. With the default
/// time-out that is 2 KiB/s: slower than any network that Nix can be used on.
pub const STALL_BYTES: u64 = 64 * 1024;

/// How many requests an HTTP/2 connection may carry at once. Nix asks for 25 paths at a time; whoever has more to ask waits for
/// its own answers.
pub const STREAMS_MAX: u32 = 32;

/// How many connections of one address may wait for a place where they wait: Nix with `http-connections = 0` opens one for
/// each path that it looks up, of which 600 were seen.
pub const WAITING_PER_ADDRESS: usize = 1024;

/// How many connections may wait for a place in all. One that waits costs a socket and little else.
pub const WAITING_MAX: usize = 2 * WAITING_PER_ADDRESS;

/// How long a connection waits for a place at most: as long as Nix waits for a byte (`stalled-download-timeout`).
pub const PLACE_WAIT: Duration = Duration::from_secs(300);

/// What a listener allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// How many connections there are at once.
    pub connections: usize,
    /// How many of them come from one address. All addresses of one IPv6 network (/64) together may have half of
    /// [`Self::connections`]: one machine can take as many of them as it likes, but a LAN is usually one such network.
    pub per_address: Option<usize>,
    /// What happens to a connection too many if no other is idle; the one that has been idle for the longest makes room.
    pub when_full: WhenFull,
    /// From the first byte of a request to the end of its head, and from the start of a connection to its first byte.
    pub header_timeout: Duration,
    /// Between two requests on one connection.
    pub idle_timeout: Duration,
    /// For how long a reader may take next to nothing ([`STALL_BYTES`]) of an answer that is ready for it.
    pub stall_timeout: Duration,
    /// How long requests that are being answered may go on once the server stops.
    pub drain_timeout: Duration,
    /// How many bodies from the store are sent at once; each holds file descriptors, buffers and a root against garbage
    /// collection. Others wait for their slot, peers for a second.
    pub transfers: usize,
    /// How many of them go to one address. Nix opens 25 connections.
    pub transfers_per_address: usize,
    /// How many requests of one address are answered in a second, 0 for any number.
    pub requests_per_second: u32,
}

/// What happens to a connection too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// It is closed at once, without an answer: a peer takes that for "busy" and has other sources.
    Close,
    /// It waits until there is room: Nix must never see an error. Beyond [`WAITING_MAX`] those of a listener without a limit
    /// for an address wait in the kernel, and others are closed, as one address could keep all others out there.
    Wait,
}

impl Limits {
    /// For the share. 1,024 connections, 128 of them from one address; 5 s for a head; 30 s idle or stalled.
    #[must_use]
    pub const fn share() -> Self {
        Self {
            connections: 1024,
            per_address: Some(128),
            when_full: WhenFull::Close,
            header_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(30),
            transfers: 128,
            transfers_per_address: 32,
            requests_per_second: 0,
        }
    }

    /// For the share's plain port: as for the share, but nobody is turned away before a great many wait.
    #[must_use]
    pub const fn plain_share() -> Self {
        Self { when_full: WhenFull::Wait, ..Self::share() }
    }

    /// For the gateway: all come from the same address, nobody is turned away, and Nix may stop reading for as long as it
    /// would itself wait for us (`stalled-download-timeout`, 300 s), say while it collects garbage.
    #[must_use]
    pub const fn gateway() -> Self {
        Self {
            per_address: None,
            when_full: WhenFull::Wait,
            idle_timeout: Duration::from_secs(120),
            stall_timeout: Duration::from_secs(300),
            ..Self::share()
        }
    }
}
