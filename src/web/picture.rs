//! A picture of the site: this machine in the middle, and around it those that it knows. The wider the line, the faster they are.

use super::overview::Overview;
use super::words;
use crate::control::Peer;
use maud::{Markup, html};
use std::f64::consts::TAU;

/// How many machines have a place; the others are counted.
const PLACES: usize = 14;
/// The picture's size, in its own units.
const WIDTH: f64 = 880.0;
const HEIGHT: f64 = 420.0;
/// How far the others are from the middle, at most.
const FAR: (f64, f64) = (360.0, 135.0);
/// The longest name that has room.
const NAME_MAX: usize = 16;

/// The picture.
pub(super) fn site(overview: &Overview) -> Markup {
    let shown = &overview.peers[..overview.peers.len().min(PLACES)];
    let hidden = overview.peers.len() - shown.len();
    let (middle_x, middle_y) = (WIDTH / 2.0, HEIGHT / 2.0);
    let label = format!("{} of {} online", overview.online(), words::count(overview.peers.len() as u64, "machine"));
    html! {
        svg.site viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(label) {
            @for (at, peer) in shown.iter().enumerate() {
                @let (x, y) = place(at, shown.len());
                line.(state(peer)) x1=(round(middle_x)) y1=(round(middle_y)) x2=(round(x)) y2=(round(y)) stroke-width=(width(peer)) {}
            }
            circle.here cx=(round(middle_x)) cy=(round(middle_y)) r="30" {}
            text.here x=(round(middle_x)) y=(round(middle_y + 48.0)) text-anchor="middle" { (short(&words::visible(&overview.status.host_name))) }
            @for (at, peer) in shown.iter().enumerate() {
                @let (x, y) = place(at, shown.len());
                g.(state(peer)) {
                    title { (words::name(peer)) ": " (words::visible(&peer.state)) }
                    circle cx=(round(x)) cy=(round(y)) r="14" {}
                    @let (name, rate) = labels(y);
                    text x=(round(x)) y=(round(name)) text-anchor="middle" { (short(&words::name(peer))) }
                    @if let Some(throughput) = peer.throughput.filter(|_| peer.is_online()) {
                        text.rate x=(round(x)) y=(round(rate)) text-anchor="middle" { (words::rate(throughput)) }
                    }
                }
            }
            @if hidden > 0 {
                text.rate x=(WIDTH - 8.0) y=(HEIGHT - 8.0) text-anchor="end" { "and " (words::count(hidden as u64, "other")) }
            }
        }
    }
}

/// Where the name and the speed of a machine at this height stand: on its side that is away from the middle.
fn labels(y: f64) -> (f64, f64) {
    if y < HEIGHT / 2.0 - 1.0 { (y - 36.0, y - 20.0) } else { (y + 30.0, y + 46.0) }
}

/// Where the machine with this number of so many is: on an ellipse, the first at the top.
fn place(at: usize, of: usize) -> (f64, f64) {
    // Some tens.
    #[allow(clippy::cast_precision_loss)]
    let turn = at as f64 / of as f64 * TAU - TAU / 4.0;
    (WIDTH / 2.0 + FAR.0 * turn.cos(), HEIGHT / 2.0 + FAR.1 * turn.sin())
}

/// In what class a machine is drawn.
fn state(peer: &Peer) -> &'static str {
    match peer.state.as_str() {
        "online" | "resting" => "online",
        "blocked" => "blocked",
        "suspect" => "suspect",
        _ => "offline",
    }
}

/// How wide its line is: from a kilobyte a second to ten gigabits.
fn width(peer: &Peer) -> f64 {
    // Only a picture.
    #[allow(clippy::cast_precision_loss)]
    let kilobytes = (peer.throughput.unwrap_or_default() as f64 / 1e3).max(1.0);
    round(1.0 + kilobytes.log10())
}

fn round(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

fn short(name: &str) -> String {
    if name.chars().count() <= NAME_MAX {
        return name.to_owned();
    }
    name.chars().take(NAME_MAX - 1).chain(['…']).collect()
}
