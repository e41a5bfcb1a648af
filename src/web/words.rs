//! Numbers and times as people read them.

use crate::control::Peer;
use crate::texts::{self, harmless};
pub(super) use crate::texts::{count, rate, size};
use std::time::Duration;

/// The longest name that is shown, in characters.
const NAME_MAX: usize = 40;

/// A time, to three digits or so.
pub(super) fn time(microseconds: u64) -> String {
    match microseconds {
        0..1_000 => format!("{microseconds} µs"),
        1_000..1_000_000 => format!("{}.{} ms", microseconds / 1_000, microseconds / 100 % 10),
        _ => span(microseconds),
    }
}

/// How long something lasts, in its two largest units.
pub(super) fn span(microseconds: u64) -> String {
    let text = humantime::format_duration(Duration::from_secs(microseconds / 1_000_000)).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// A day, as `2026-11-30`.
pub(super) fn day(microseconds: u64) -> String {
    let seconds = i64::try_from(microseconds / 1_000_000).unwrap_or_default();
    jiff::Timestamp::from_second(seconds).map(|time| time.strftime("%Y-%m-%d").to_string()).unwrap_or_default()
}

/// A part of a whole in hundredths, as far as there is a whole.
pub(super) fn percent(part: u64, whole: u64) -> Option<String> {
    (whole > 0).then(|| format!("{} %", u128::from(part) * 100 / u128::from(whole)))
}

/// What a peer is called: its name for itself, or the beginning of its id.
pub(super) fn name(peer: &Peer) -> String {
    let name = visible(&peer.name);
    if name.trim().is_empty() { peer.id.chars().take(12).collect() } else { name }
}

/// A text that may come from another machine, without what turns or hides text, and not too long. What HTML means by it is maud's to undo.
pub(super) fn visible(text: &str) -> String {
    let mut short: String = text.chars().take(NAME_MAX).map(harmless).collect();
    if text.chars().nth(NAME_MAX).is_some() {
        short.push('…');
    }
    short
}

/// The name of a store path, without the directory and the hash.
pub(super) fn package(path: &str) -> String {
    visible(texts::package(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_can_read_it() {
        assert_eq!([time(7), time(1_250), time(61_000_000)], ["7 µs", "1.2 ms", "1m 1s"]);
        assert_eq!(span(90_061_000_000), "1day 1h");
        assert_eq!(day(1_764_460_800_000_000), "2025-11-30");
        assert_eq!((percent(1, 3), percent(0, 0)), (Some("33 %".to_owned()), None));
        assert_eq!(package("/nix/store/0mdqa9w1p6cmli6976v4wi0sw9r4p5pr-hello-2.12.1"), "hello-2.12.1");
        assert_eq!(visible("a\u{202e}b\n"), "a\u{fffd}b\u{fffd}");
        assert_eq!(visible(&"x".repeat(100)).chars().count(), NAME_MAX + 1);
    }
}
