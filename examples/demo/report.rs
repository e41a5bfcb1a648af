//! What the demonstration tells at its end.

use super::bytes;
use serde::Serialize;
use std::fmt::Write as _;

/// The report. As JSON it has these fields; times are in milliseconds, sizes in bytes.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Whether everything went as it should.
    pub(super) ok: bool,
    /// What fetched.
    pub(super) client: String,
    /// How many paths the closure has.
    pub(super) paths: usize,
    /// The sum of their NAR sizes.
    pub(super) nar_bytes: u64,
    /// The NAR size of the largest.
    pub(super) largest_bytes: u64,
    /// From the last machine's start to its knowing the others.
    pub(super) met_ms: u128,
    /// From the first request to the last byte.
    pub(super) fetch_ms: u128,
    /// NAR bytes by time, in bytes a second.
    pub(super) bytes_per_second: u64,
    /// Which machine was killed.
    pub(super) killed: String,
    /// How much had come from the others when that happened.
    pub(super) killed_after_bytes: u64,
    /// The longest time after the kill that Nix waited for a byte.
    pub(super) pause_ms: Option<u128>,
    /// Bytes on the wire from each machine.
    pub(super) sources: Vec<Source>,
    /// How many paths were read again and found right; `None` if the client keeps none.
    pub(super) verified: Option<usize>,
}

/// What came from one machine.
#[derive(Debug, Serialize)]
pub(super) struct Source {
    /// Its name.
    pub(super) name: String,
    /// How much.
    pub(super) bytes: u64,
}

impl Report {
    /// For people.
    pub(super) fn render(&self) -> String {
        let mut text = String::new();
        let mut line = |what: &str, value: String| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  {what:<24} {value}");
        };
        line("fetched by", self.client.clone());
        line(
            "closure",
            format!("{} paths, {}, the largest {}", self.paths, bytes(self.nar_bytes), bytes(self.largest_bytes)),
        );
        line("machines met after", format!("{} ms", self.met_ms));
        line("fetched in", format!("{:.2} s, {}/s", seconds(self.fetch_ms), bytes(self.bytes_per_second)));
        line("killed (SIGKILL)", format!("{}, after {}", self.killed, bytes(self.killed_after_bytes)));
        let pause = |pause| format!("{pause} ms, the longest wait for a byte after that");
        line("pause", self.pause_ms.map_or_else(|| "nothing came after that".to_owned(), pause));
        for source in &self.sources {
            line(&format!("from {}", source.name), bytes(source.bytes));
        }
        let verified = match self.verified {
            Some(paths) => format!("{paths} of {} paths read again, every byte is right", self.paths),
            None => format!("{} of {} paths: signature, size and hash are right", self.paths, self.paths),
        };
        line("verified", verified);
        let verdict = if self.ok { "Nothing was lost." } else { "This is not as it should be." };
        text + "\n" + verdict + "\n"
    }
}

/// Milliseconds as seconds. Exact far beyond any time that is measured here.
#[allow(clippy::cast_precision_loss)]
fn seconds(milliseconds: u128) -> f64 {
    milliseconds as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readable_and_complete() {
        let report = Report {
            ok: true,
            client: "nix-store (Nix) 2.34.8".into(),
            paths: 23,
            nar_bytes: 200 << 20,
            largest_bytes: 192 << 20,
            met_ms: 12,
            fetch_ms: 1500,
            bytes_per_second: 100 << 20,
            killed: "alder".into(),
            killed_after_bytes: 100 << 20,
            pause_ms: Some(7),
            sources: vec![Source { name: "alder".into(), bytes: 1 }],
            verified: Some(23),
        };
        let text = report.render();
        assert!(text.contains("fetched in               1.50 s, 100.0 MiB/s\n"), "{text}");
        assert!(text.ends_with("\n\nNothing was lost.\n"), "{text}");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((json["pause_ms"].as_u64(), json["sources"][0]["name"].as_str()), (Some(7), Some("alder")));
    }
}
