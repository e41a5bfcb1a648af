//! What came from where, day by day, as bars.

use super::words;
use crate::control::Day;
use maud::{Markup, html};

/// How many days are shown.
const DAYS: usize = 30;
/// In microseconds.
const DAY: u64 = 24 * 60 * 60 * 1_000_000;
/// The chart's size, in its own units.
const WIDTH: u64 = 880;
const HEIGHT: u64 = 200;
/// Where the bars stand, and how high they are at most.
const GROUND: u64 = 168;
const HIGH: u64 = 140;

/// One day of those that are shown, also of those on which nothing ran.
struct Bar {
    day: u64,
    peers: u64,
    upstreams: u64,
}

/// The last days up to today.
pub(super) fn days(days: &[Day], now: u64) -> Markup {
    let bars = bars(days, now);
    let most = bars.iter().map(|bar| bar.peers + bar.upstreams).max().unwrap_or_default().max(1);
    let (peers, upstreams) = bars.iter().fold((0, 0), |sums, bar| (sums.0 + bar.peers, sums.1 + bar.upstreams));
    let label = format!(
        "The last {DAYS} days: {} came from peers, {} from the Internet, on the busiest day {}",
        words::size(peers),
        words::size(upstreams),
        words::size(most),
    );
    let step = WIDTH / DAYS as u64;
    let high = |bytes: u64| u64::try_from(u128::from(bytes) * u128::from(HIGH) / u128::from(most)).unwrap_or(HIGH);
    html! {
        svg.days viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(label) {
            text x="0" y="14" { (words::size(most)) }
            line.ground x1="0" y1=(GROUND) x2=(WIDTH) y2=(GROUND) {}
            @for (at, bar) in bars.iter().enumerate() {
                @let (peers, upstreams) = (high(bar.peers), high(bar.upstreams));
                @let x = at as u64 * step + 2;
                g {
                    title { (words::day(bar.day)) ": " (words::size(bar.peers)) " from peers, " (words::size(bar.upstreams)) " from the Internet" }
                    rect.room x=(x) y=(GROUND - HIGH) width=(step - 4) height=(HIGH) {}
                    rect.peers x=(x) y=(GROUND - peers) width=(step - 4) height=(peers) {}
                    rect.upstreams x=(x) y=(GROUND - peers - upstreams) width=(step - 4) height=(upstreams) {}
                }
            }
            @if let (Some(first), Some(last)) = (bars.first(), bars.last()) {
                text x="0" y=(HEIGHT - 8) { (words::day(first.day)) }
                text x=(WIDTH) y=(HEIGHT - 8) text-anchor="end" { (words::day(last.day)) }
            }
        }
    }
}

fn bars(days: &[Day], now: u64) -> Vec<Bar> {
    let today = now / DAY * DAY;
    let bar = |back: u64| {
        let day = today.saturating_sub(back * DAY);
        let known = days.iter().find(|known| known.day_timestamp == day);
        let of = |value: fn(&Day) -> u64| known.map(value).unwrap_or_default();
        Bar { day, peers: of(|day| day.bytes_from_peers), upstreams: of(|day| day.bytes_from_upstreams) }
    };
    (0..DAYS as u64).rev().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_without_the_service_have_no_bar_and_their_place() {
        let now = 20_000 * DAY + 5;
        let known = [(29, 7), (0, 5), (31, 9)].map(|(back, bytes)| Day {
            day_timestamp: (20_000 - back) * DAY,
            bytes_from_peers: bytes,
            ..Day::default()
        });
        let bars = bars(&known, now);
        assert_eq!((bars.len(), bars[0].peers, bars[1].peers, bars[DAYS - 1].peers), (DAYS, 7, 0, 5));
        let svg = days(&[], now).into_string();
        assert!(svg.contains("0 B came from peers"), "{svg}");
    }
}
