//! Whether what comes from a peer should be compressed: only where the line is the limit, which is measured.
//!
//! Whoever asks says that it takes NARs compressed, and how fast the line is, as far as it knows ([`COMPRESS_HEADER`]); whoever answers does what
//! it has time for, and says what it did ([`COMPRESSED_HEADER`]). Ranges count bytes of the NAR in any case.
//!
//! What is compressed says little of the line, as it may be the processor that is waited for. So one body is had as it is now and then.

use crate::resilience::Ewma;
use hyper::HeaderMap;
use std::time::Duration;
use tokio::time::Instant;

/// Of a request: NARs are taken compressed with zstd; the value is how many bytes a second the line carries, 0 if that is not known.
pub const COMPRESS_HEADER: &str = "peernix-compress";
/// Of an answer: how its body is compressed.
pub const COMPRESSED_HEADER: &str = "peernix-compressed";
/// The one way that there is.
pub const ZSTD: &str = "zstd";

/// From this rate on nothing is compressed, in bytes a second: 0.8 Gbit/s, which a processor hardly compresses faster.
const FAST: u64 = 100_000_000;
/// Below this rate a line is slow, in bytes a second: 200 Mbit/s.
const SLOW: u64 = 25_000_000;
/// What is smaller is not compressed, in bytes.
pub const SMALL: u64 = 4 * 1024;
/// The first bytes of a body say nothing of the line: they fit into buffers on the way, and after a silence some come at once.
pub const SKIPPED: u64 = 64 * 1024;
/// How many have to follow, in bytes.
const COUNTED_MIN: u64 = 32 * 1024;
/// The bodies by which a line is measured, in bytes: both, and some to spare …
const MEASURED_MIN: u64 = 128 * 1024;
/// … and of one from this size on a part is enough, …
const TRIED_FROM: u64 = 160 * 1024;
/// … so long …
const TRIED: u64 = MEASURED_MIN;
/// … or, from this size on, …
const LARGE: u64 = 4 * 1024 * 1024;
/// From this size on a share counts to how many it gives a NAR, and who asks twice for parts lets others in: what is not [`LARGE`] measures as a whole, …
const COUNTED: u64 = 256 * 1024;
/// … from this size on. What is between the two is worth more compressed.
const WHOLE: u64 = 1024 * 1024;
/// … so long: a fast line shows only by more bytes how fast it is.
const TRIED_OF_LARGE: u64 = 1024 * 1024;
/// How much has to come before a line counts as anything but very slow, in bytes: the first bytes after a silence may come at once on a slow one, and few
/// bytes take long on a fast one where the processors are busy.
const CONVINCES: u64 = 512 * 1024;
/// What is slower than this, in bytes a second, few bytes show as well.
const VERY_SLOW: f64 = 3e6;
/// How long a measure holds.
const HOLDS: Duration = Duration::from_secs(60);

/// By how many of its first bytes a body of `size` bytes measures the line.
#[must_use]
pub const fn tried(size: u64) -> u64 {
    match size {
        LARGE.. => TRIED_OF_LARGE,
        TRIED_FROM..WHOLE => TRIED,
        ..TRIED_FROM | WHOLE.. => size,
    }
}

/// How a body is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// As it is.
    Plain,
    /// As it is, to see how fast the line is, a part of it if it is long ([`tried`]): [`Line::measured`] or [`Line::not_measured`] has to follow.
    Measured,
    /// Compressed; the line carries so many bytes a second, 0 if that is not known.
    Compressed(u64),
}

/// What is known of the line to a peer.
#[derive(Debug, Default)]
pub struct Line {
    /// Bytes a second.
    rate: Ewma,
    measured: Option<Instant>,
    /// It is being measured.
    is_tried: bool,
    /// How much came without being enough to say how fast it is, in bytes, and the most of it, in bytes a second: whatever else is busy makes it less.
    seems: (u64, f64),
}

impl Line {
    /// How a NAR of `size` bytes is wanted.
    pub fn wish(&mut self, size: u64, now: Instant) -> Wish {
        self.wish_if(matches!(size, MEASURED_MIN..COUNTED | WHOLE..), size, now)
    }

    /// How `size` bytes of a NAR are wanted that comes in parts anyway.
    pub fn wish_of_part(&mut self, size: u64, now: Instant) -> Wish {
        self.wish_if(size >= MEASURED_MIN, size, now)
    }

    fn wish_if(&mut self, measures: bool, size: u64, now: Instant) -> Wish {
        let rate = self.rate();
        if size < SMALL || rate >= FAST {
            return Wish::Plain;
        }
        if !self.holds(now) && !self.is_tried && measures {
            self.is_tried = true;
            return Wish::Measured;
        }
        Wish::Compressed(rate)
    }

    /// Whether what was measured still counts.
    fn holds(&self, now: Instant) -> bool {
        self.measured.is_some_and(|measured| now - measured < HOLDS)
    }

    /// Whether it is known to be so slow that much work is worth every byte less.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        (1..SLOW).contains(&self.rate())
    }

    /// Bytes a second, 0 if that is not known.
    fn rate(&self) -> u64 {
        // A rate is not negative, and below what a u64 holds: see `measured`.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let rate = self.rate.get().unwrap_or_default() as u64;
        rate
    }

    /// A body came as it is; after the first bytes of it ([`SKIPPED`]) it was so many, with others that came meanwhile, in this time.
    pub fn measured(&mut self, bytes: u64, took: Duration, now: Instant) {
        self.is_tried = false;
        if bytes < COUNTED_MIN {
            return;
        }
        // One that came at once says "fast", and not "fast for long".
        #[allow(clippy::cast_precision_loss)]
        let rate = (bytes as f64 / took.as_secs_f64().max(1e-6)).min(2.0 * FAST as f64);
        let holds = self.holds(now);
        if holds && bytes < CONVINCES && self.rate() >= FAST {
            return;
        }
        if !holds {
            let (seen, most) = self.seems;
            self.seems = (seen + bytes, most.max(rate));
            if self.seems.0 < CONVINCES && rate >= VERY_SLOW {
                return;
            }
            // What was so a minute ago may be another network by now.
            self.rate = Ewma::default();
        }
        let (_, most) = std::mem::take(&mut self.seems);
        self.rate.add(if rate < VERY_SLOW { rate } else { rate.max(most) });
        self.measured = Some(now);
    }

    /// What should have been measured did not come to its end.
    pub fn not_measured(&mut self) {
        self.is_tried = false;
    }
}

/// How fast the line to whoever sent these headers is, in bytes a second, if it takes what is compressed; 0 if that is not known. What cannot
/// be read says nothing.
#[must_use]
pub fn wished(headers: &HeaderMap) -> Option<u64> {
    headers.get(COMPRESS_HEADER)?.to_str().ok()?.parse().ok()
}

/// Whether the body that goes with these headers is compressed; an error if that is so in a way that nobody asked for.
///
/// # Errors
/// What it says.
pub fn is_compressed(headers: &HeaderMap) -> Result<bool, String> {
    match headers.get(COMPRESSED_HEADER).map(|value| value.to_str()) {
        None => Ok(false),
        Some(Ok(ZSTD)) => Ok(true),
        Some(other) => Err(other.unwrap_or("what is no text").chars().take(100).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;
    /// By which a line is measured.
    const SOME: u64 = 200 * 1024;

    #[test]
    fn a_line_is_measured_by_one_body_at_a_time_and_the_others_are_compressed() {
        let (mut line, now) = (Line::default(), Instant::now());
        assert_eq!(line.wish(SMALL - 1, now), Wish::Plain);
        assert_eq!(line.wish(SMALL, now), Wish::Compressed(0), "it says nothing of the line");
        assert_eq!(line.wish(SOME, now), Wish::Measured);
        assert_eq!(line.wish(MIB, now), Wish::Compressed(0));
        assert!(!line.is_slow(), "that is not known");
        line.measured(MIB, Duration::from_secs(1), now);
        assert_eq!(line.wish(MIB, now), Wish::Compressed(MIB));
        assert!(line.is_slow());
        assert_eq!(line.wish(SOME, now + HOLDS), Wish::Measured, "it may be another one by now");
        line.not_measured();
        assert_eq!(line.wish(SOME, now + HOLDS), Wish::Measured);
        assert_eq!(line.wish(100 * MIB, now + HOLDS), Wish::Compressed(MIB), "it is being measured");
    }

    #[test]
    fn nothing_is_compressed_on_a_fast_line_until_it_is_a_slow_one() {
        let (mut line, now) = (Line::default(), Instant::now());
        line.measured(MIB, Duration::from_micros(1), now);
        assert_eq!(line.wish(MIB, now), Wish::Plain);
        assert!(!line.is_slow());
        let slow = (0..10).take_while(|_| {
            line.measured(MIB, Duration::from_secs(1), now);
            line.wish(MIB, now) == Wish::Plain
        });
        assert!(slow.count() < 5, "it is noticed soon");
        line.measured(100 * MIB, Duration::from_secs(1), now + HOLDS);
        assert_eq!(line.wish(MIB, now + HOLDS), Wish::Plain, "a minute later only the new measure counts");
        let mut line = Line::default();
        line.measured(MIB, Duration::from_secs(1), now);
        line.measured(COUNTED_MIN - 1, Duration::from_micros(1), now);
        assert!(matches!(line.wish(MIB, now), Wish::Compressed(_)), "what is short says nothing");
    }

    #[test]
    fn a_few_bytes_show_that_a_line_is_slow_and_not_that_it_is_fast() {
        let (mut line, now) = (Line::default(), Instant::now());
        for _ in 0..CONVINCES / COUNTED_MIN {
            assert_eq!(line.wish(SOME, now), Wish::Measured, "not yet");
            line.measured(COUNTED_MIN, Duration::from_micros(1), now);
        }
        assert_eq!(line.wish(MIB, now), Wish::Plain);
        let mut line = Line::default();
        line.measured(MEASURED_MIN, Duration::from_micros(1), now);
        line.measured(MEASURED_MIN, Duration::from_millis(125), now);
        assert_eq!(line.wish(MIB, now), Wish::Compressed(1024 * 1024));
    }

    #[test]
    fn few_bytes_that_take_long_where_processors_are_busy_make_no_fast_line_slow() {
        let (mut line, now) = (Line::default(), Instant::now());
        for took in [20, 5, 1, 20, 5, 20, 20, 20] {
            assert_eq!(line.wish(SOME, now), Wish::Measured, "not yet");
            line.measured(64 * 1024, Duration::from_millis(took), now);
        }
        assert_eq!(line.wish(MIB, now), Wish::Compressed(64 * 1024 * 1000), "as fast as it was at its best");
        let mut line = Line::default();
        line.measured(MIB, Duration::from_micros(1), now);
        for _ in 0..100 {
            line.measured(64 * 1024, Duration::from_millis(100), now);
        }
        assert_eq!(line.wish(MIB, now), Wish::Plain);
    }

    #[test]
    fn a_line_is_measured_by_as_little_as_says_something() {
        for size in [MEASURED_MIN - 1, COUNTED, WHOLE - 1] {
            assert_eq!(Line::default().wish(size, Instant::now()), Wish::Compressed(0), "{size}");
        }
        for size in [COUNTED, WHOLE - 1] {
            assert_eq!(Line::default().wish_of_part(size, Instant::now()), Wish::Measured, "{size}");
        }
        for size in [MEASURED_MIN, TRIED_FROM - 1, TRIED_FROM, COUNTED - 1, WHOLE, LARGE - 1, LARGE, 1000 * MIB] {
            assert_eq!(Line::default().wish(size, Instant::now()), Wish::Measured, "{size}");
            let tried = tried(size);
            assert!((MEASURED_MIN..=size).contains(&tried), "{tried} of {size}");
            assert_eq!(tried < size, matches!(size, TRIED_FROM..COUNTED | LARGE..), "{tried} of {size}");
        }
    }

    #[test]
    fn headers_are_read_or_say_nothing() {
        let of = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            headers
        };
        assert_eq!(wished(&of(COMPRESS_HEADER, "2500000")), Some(2_500_000));
        for value in ["", "-1", "fast", "1e6", "99999999999999999999999"] {
            assert_eq!(wished(&of(COMPRESS_HEADER, value)), None, "{value}");
        }
        assert_eq!(is_compressed(&HeaderMap::new()), Ok(false));
        assert_eq!(is_compressed(&of(COMPRESSED_HEADER, "zstd")), Ok(true));
        assert!(is_compressed(&of(COMPRESSED_HEADER, "rot13")).is_err());
    }
}
