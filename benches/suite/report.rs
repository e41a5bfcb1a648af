//! What came out: a table for people, `target/bench/report.json` for programs, and a picture.

use super::subjects::BASE;
use serde::Serialize;
use std::fmt::Write as _;
use std::path::Path;

/// A line of the report. For times and sizes less is better, for rates more; ratios are made so that more is better.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    suite: &'static str,
    case: String,
    subject: String,
    unit: &'static str,
    median: f64,
    min: f64,
    max: f64,
}

/// Everything that was measured.
#[derive(Debug, Default)]
pub(super) struct Report {
    rows: Vec<Row>,
}

/// What the case of the slowest answer of a hundred ends with.
pub(super) const P99: &str = "p99";
/// The unit of ratios.
const RATIO: &str = "x";
/// How wide the bar of a subject is that is as good as nginx, and the widest, in pixels.
const BAR: f64 = 100.0;
const BAR_MAX: f64 = 500.0;
/// How high a line of the picture is, and where bars begin, in pixels.
const LINE: usize = 18;
const LEFT: usize = 380;

impl Report {
    /// Adds what was measured of a subject, a value a round.
    pub(super) fn add(&mut self, case: &str, subject: &str, unit: &'static str, mut values: Vec<f64>) {
        values.sort_by(f64::total_cmp);
        let (Some(min), Some(max)) = (values.first(), values.last()) else { return };
        let (case, subject) = (case.to_owned(), subject.to_owned());
        let half = values.len() / 2;
        let median = if values.len() % 2 == 1 { values[half] } else { f64::midpoint(values[half - 1], values[half]) };
        let row = Row { suite: "suite", case, subject, unit, median, min: *min, max: *max };
        println!("{}", line(&row));
        self.rows.push(row);
    }

    /// Adds how a subject compares with nginx, round by round.
    pub(super) fn compare(&mut self, case: &str, subject: &str, values: &[f64], base: &[f64], more_is_better: bool) {
        let ratio = |(value, base): (&f64, &f64)| if more_is_better { value / base } else { base / value };
        let ratios: Vec<f64> = values.iter().zip(base).map(ratio).filter(|ratio| ratio.is_finite()).collect();
        self.add(case, &format!("{subject} / {BASE}"), RATIO, ratios);
    }

    /// The comparisons that fall below `floor`. The slowest answer of a hundred is not judged: on a machine that does other things as well it
    /// says more about those.
    pub(super) fn below(&self, floor: f64) -> Vec<String> {
        let ratios = self.rows.iter().filter(|row| row.unit == RATIO && !row.case.ends_with(P99));
        ratios.filter(|row| row.median < floor).map(line).collect()
    }

    /// Whether there is any comparison.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.iter().all(|row| row.unit != RATIO)
    }

    /// Writes `report.json` and `report.svg`; lines of other suites stay in it.
    pub(super) fn write(&self, dir: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(dir)?;
        let file = dir.join("report.json");
        let before = std::fs::read(&file).unwrap_or_default();
        let mut rows: Vec<serde_json::Value> = serde_json::from_slice(&before).unwrap_or_default();
        rows.retain(|row| row["suite"] != "suite");
        for row in &self.rows {
            rows.push(serde_json::to_value(row)?);
        }
        std::fs::write(&file, serde_json::to_vec_pretty(&rows)?)?;
        std::fs::write(dir.join("report.svg"), self.picture())?;
        Ok(())
    }

    /// The comparisons as bars: to the line is as good as nginx.
    fn picture(&self) -> String {
        let ratios: Vec<&Row> = self.rows.iter().filter(|row| row.unit == RATIO).collect();
        let (width, height) = (LEFT + 600, (ratios.len() + 2) * LINE);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" \
             font-size=\"12\"><title>Compared with {BASE}: longer is better</title>\n<rect width=\"100%\" height=\"100%\" \
             fill=\"#fff\"/>\n"
        );
        for (number, row) in ratios.iter().enumerate() {
            let (top, length) = ((number + 1) * LINE, (row.median * BAR).clamp(1.0, BAR_MAX));
            let colour = if row.median >= 1.0 { "#2e7d32" } else { "#b26a00" };
            let text = escape(&format!("{}, {}", row.case, row.subject));
            // Writing to a String cannot fail.
            let _ = writeln!(
                svg,
                "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{text}</text><rect x=\"{LEFT}\" y=\"{}\" width=\"{length:.0}\" \
                 height=\"{}\" fill=\"{colour}\"/><text x=\"{:.0}\" y=\"{}\">{:.2}</text>",
                LEFT - 8,
                top + 12,
                top + 2,
                LINE - 4,
                f64::from(u32::try_from(LEFT).unwrap_or_default()) + length + 6.0,
                top + 12,
                row.median,
            );
        }
        let line = f64::from(u32::try_from(LEFT).unwrap_or_default()) + BAR;
        let _ = writeln!(svg, "<line x1=\"{line}\" y1=\"0\" x2=\"{line}\" y2=\"{height}\" stroke=\"#777\"/></svg>");
        svg
    }
}

fn line(row: &Row) -> String {
    let Row { case, subject, unit, median, min, max, .. } = row;
    format!("{case:34} {subject:18} {median:>11.2} {unit:4} ({min:.2} to {max:.2})")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
