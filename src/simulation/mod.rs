//! Thousands of machines, simulated: the state machines are the real ones (who relays, logs, updates as bytes, unions, views, plans of lookups),
//! and so are all decisions; time, the network and the machines around them are made up. `make scale` runs it and writes `docs/scale.md`.
//!
//! Everything at random comes from one seed, so that the figures are the same at each run.

mod figures;
mod network;
mod room;
mod together;

use figures::Figures;
use room::{Room, Shape};
use std::time::Duration;

/// A room that is small enough for every run of the tests.
#[test]
fn in_a_room_with_relays_everybody_knows_what_all_have() {
    let shape = Shape { machines: 160, paths: 210, own: 5, sampled: 8 };
    let figures = Room::run(shape, 7);
    figures.judge();
}

/// Machines that upgrade together, a tenth of which die meanwhile.
#[test]
fn in_a_room_that_upgrades_the_internet_is_asked_once() {
    for die in [0, 10] {
        together::run(together::Shape { machines: 60, nars: 30, within: Duration::from_secs(10), die }, 7).judge();
    }
}

/// The figures of `docs/scale.md`.
#[test]
#[ignore = "takes minutes; `make scale` runs it"]
fn scale() {
    let sizes = [150, 300, 1_000, 3_000, 10_000];
    let shape = |machines| Shape { machines, paths: 5_000, own: 50, sampled: 40 };
    let mut figures: Vec<Figures> = Vec::new();
    for machines in sizes {
        figures.push(Room::run(shape(machines), 1));
        figures::write(&figures).expect("docs/scale.md and docs/scale.svg can be written");
    }
    figures.iter().for_each(Figures::judge);
}

/// Those of its upgrades.
#[test]
#[ignore = "takes minutes; `make scale` runs it"]
fn scale_of_upgrades() {
    let upgrade = |machines, within, die| {
        together::run(together::Shape { machines, nars: 200, within: Duration::from_secs(within), die }, 1)
    };
    let upgrades = [(100, 10, 0), (1_000, 600, 0), (1_000, 600, 10), (1_000, 10, 0), (1_000, 10, 10)];
    let upgrades = upgrades.map(|(machines, within, die)| upgrade(machines, within, die));
    figures::write_upgrades(&upgrades).expect("docs/scale.md can be written");
    upgrades.iter().for_each(together::Figures::judge);
}
