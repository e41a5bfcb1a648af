//! What a simulation measured, what it has to be, and `docs/scale.md`.

use super::room::Shape;
use super::together;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is measured of one room. Rates are bytes a second, sent and received together; memory is in bytes.
pub(super) struct Figures {
    pub(super) shape: Shape,
    /// Of the machines that do not relay, the one with most.
    pub(super) leaf_idle: f64,
    pub(super) leaf_wave: f64,
    pub(super) leaf_memory: f64,
    /// The same of relays.
    pub(super) relay_idle: f64,
    pub(super) relay_wave: f64,
    pub(super) relay_memory: f64,
    /// The most connections that one machine kept for more than a minute.
    pub(super) lasting: usize,
    /// From a new path until a machine knew of it, while machines come and go.
    pub(super) known_after: Vec<Duration>,
    /// From the end of a relay until every machine knew again what all have.
    pub(super) recovered_after: Duration,
    /// Lookups of what nobody had, and how many of them asked anybody.
    pub(super) misses: usize,
    pub(super) misses_that_asked: usize,
    /// Lookups of what somebody had, and how many of them found it.
    pub(super) hits: usize,
    pub(super) hits_found: usize,
    pub(super) hit_times: Vec<Duration>,
    /// Whether every machine that is looked at knows exactly what all have in the end.
    pub(super) is_true: bool,
}

const MIB: f64 = 1024.0 * 1024.0;

/// The time below which so many of a hundred are.
fn percentile(times: &[Duration], percent: usize) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get((times.len() * percent / 100).min(times.len().saturating_sub(1))).copied().unwrap_or_default()
}

impl Figures {
    /// What has to hold at any size.
    pub(super) fn judge(&self) {
        let who = self.shape.machines;
        assert!(self.is_true, "{who}: somebody knows something else than what is");
        assert!(self.leaf_idle <= 2_000.0, "{who}: {} B/s when idle", self.leaf_idle);
        assert!(self.leaf_memory <= 40.0 * MIB, "{who}: {} MiB", self.leaf_memory / MIB);
        assert!(self.lasting <= 64, "{who}: {} lasting connections", self.lasting);
        assert!(self.misses > 0 && self.misses_that_asked == 0, "{who}: a miss asked somebody");
        assert!(
            self.hits > 0 && self.hits_found * 100 >= self.hits * 99,
            "{who}: {} of {}",
            self.hits_found,
            self.hits
        );
    }

    pub(super) fn row(&self) -> String {
        let seconds = |percent| percentile(&self.known_after, percent).as_secs_f64();
        format!(
            "| {} | {:.2} | {:.2} | {:.1} | {:.1} | {:.1} | {:.1} | {} | {:.1} / {:.1} | {:.0} | {} of {} | {:.1} / {:.0} |",
            self.shape.machines,
            self.leaf_idle / 1000.0,
            self.leaf_wave / 1000.0,
            self.leaf_memory / MIB,
            self.relay_idle / 1000.0,
            self.relay_wave / 1000.0,
            self.relay_memory / MIB,
            self.lasting,
            seconds(50),
            seconds(99),
            self.recovered_after.as_secs_f64(),
            self.hits_found,
            self.hits,
            percentile(&self.hit_times, 50).as_secs_f64() * 1e3,
            percentile(&self.hit_times, 99).as_secs_f64() * 1e3,
        )
    }
}

/// What stands before and after the table in `docs/scale.md`.
const MARKS: [&str; 2] = ["<!-- figures: written by `make scale` -->\n", "<!-- end of figures -->\n"];
const HEAD: &str = "| machines | leaf, idle, kB/s | leaf, wave, kB/s | leaf, MiB | relay, idle, kB/s | relay, wave, kB/s | relay, MiB | lasting connections, most | new path known after, median / 99 %, s | a relay's end made good after, s | found of what somebody had | a hit, median / 99 %, ms |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n";

const UPGRADE_MARKS: [&str; 2] = ["<!-- upgrades: written by `make scale` -->\n", "<!-- end of upgrades -->\n"];
const UPGRADE_HEAD: &str = "| machines | NARs each | begin within, s | die meanwhile | downloads, in copies | streams of one NAR from one machine that fetches it, most | streams from one machine, most | time, median / last, as a multiple of one alone |\n|---|---|---|---|---|---|---|---|\n";

/// Writes the figures into `docs/scale.md`, and the picture beside it.
pub(super) fn write(figures: &[Figures]) -> std::io::Result<()> {
    let rows: String = figures.iter().map(|figures| figures.row() + "\n").collect();
    put(MARKS, &[HEAD, &rows].concat())?;
    std::fs::write(docs().join("scale.svg"), picture(figures))
}

/// Writes the figures of upgrades into `docs/scale.md`.
pub(super) fn write_upgrades(upgrades: &[together::Figures]) -> std::io::Result<()> {
    let rows: String = upgrades.iter().map(|figures| figures.row() + "\n").collect();
    put(UPGRADE_MARKS, &[UPGRADE_HEAD, &rows].concat())
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")
}

/// Puts a table between its marks.
fn put(marks: [&str; 2], table: &str) -> std::io::Result<()> {
    let path = docs().join("scale.md");
    let text = std::fs::read_to_string(&path)?;
    let (before, rest) = text.split_once(marks[0]).expect("docs/scale.md has the mark before the figures");
    let (_, after) = rest.split_once(marks[1]).expect("docs/scale.md has the mark after the figures");
    std::fs::write(&path, [before, marks[0], table, marks[1], after].concat())
}

/// A curve: its name, its colour, and what it shows.
type Curve = (&'static str, &'static str, fn(&Figures) -> f64);

const CURVES: [Curve; 4] = [
    ("memory of a relay, MiB", "#b3261e", |figures| figures.relay_memory / MIB),
    ("memory of any other machine, MiB", "#e0867f", |figures| figures.leaf_memory / MIB),
    ("traffic of a relay when idle, kB/s", "#1f5fa8", |figures| figures.relay_idle / 1000.0),
    ("traffic of any other machine when idle, kB/s", "#8ab4e0", |figures| figures.leaf_idle / 1000.0),
];

/// Both axes are logarithmic: machines from 100 to 10,000, and from 0.01 to 1,000 of whatever a curve shows.
fn picture(figures: &[Figures]) -> String {
    let x = |machines: f64| 60.0 + (machines.log10() - 2.0) / 2.0 * 500.0;
    let y = |value: f64| 320.0 - (value.max(0.01).log10() + 2.0) / 5.0 * 300.0;
    let mut svg = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 620 450\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"620\" height=\"450\" fill=\"white\"/>\n",
    );
    for machines in [100.0, 1_000.0, 10_000.0] {
        let x = x(machines);
        let _ = writeln!(
            svg,
            "<path d=\"M{x:.0} 20V320\" stroke=\"#ddd\"/><text x=\"{x:.0}\" y=\"336\" text-anchor=\"middle\">{machines}</text>"
        );
    }
    for value in [0.01, 0.1, 1.0, 10.0, 100.0, 1_000.0] {
        let y = y(value);
        let _ = writeln!(
            svg,
            "<path d=\"M60 {y:.0}H560\" stroke=\"#ddd\"/><text x=\"54\" y=\"{:.0}\" text-anchor=\"end\">{value}</text>",
            y + 4.0
        );
    }
    let _ = writeln!(svg, "<text x=\"310\" y=\"354\" text-anchor=\"middle\">machines</text>");
    for (number, (name, colour, of)) in (0u32..).zip(CURVES) {
        let points: Vec<String> = figures
            .iter()
            .map(|figures| format!("{:.1},{:.1}", x(figures.shape.machines as f64), y(of(figures))))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            points.join(" ")
        );
        let line = 376 + 18 * number;
        let _ = writeln!(
            svg,
            "<path d=\"M60 {}h24\" stroke=\"{colour}\" stroke-width=\"2\"/><text x=\"92\" y=\"{line}\">{name}</text>",
            line - 4
        );
    }
    svg.push_str("</svg>\n");
    svg
}
