//! Thousands of machines, simulated: the state machines are the real ones (who relays, logs, updates as bytes, unions, views, plans of lookups),
//! and so are all decisions; time, the network and the machines around them are made up. `make scale` runs it and writes `docs/scale.md`.
//!
//! Everything at random comes from one seed, so that the figures are the same at each run.

mod figures;
mod network;
mod room;

use figures::Figures;
use room::{Room, Shape};

/// A room that is small enough for every run of the tests.
#[test]
fn in_a_room_with_relays_everybody_knows_what_all_have() {
    let shape = Shape { machines: 160, paths: 210, own: 5, sampled: 8 };
    let figures = Room::run(shape, 7);
    figures.judge();
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
