//! Figures of an earlier day, in a file of the user's.

use super::figures::Figure;
use crate::files;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// The largest file read, in bytes.
const FILE_MAX: u64 = 64 * 1024;
/// The version of what is written.
const VERSION: u32 = 1;

/// What was kept.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Baseline {
    version: u32,
    /// When, in microseconds since 1970.
    pub(super) timestamp: u64,
    /// Values by the codes of figures, in their units.
    values: BTreeMap<String, f64>,
}

impl Baseline {
    /// These figures, of now.
    pub(super) fn of(figures: &[Figure], timestamp: u64) -> Self {
        let values = figures.iter().filter_map(|figure| Some((figure.code.to_owned(), figure.value?)));
        Self { version: VERSION, timestamp, values: values.collect() }
    }

    pub(super) fn write(&self, file: &Path) -> io::Result<()> {
        if let Some(dir) = file.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            files::create_private_dir(dir)?;
        }
        files::replace_atomically(file, &serde_json::to_vec_pretty(self)?)
    }

    /// Reads what [`Self::write`] wrote.
    pub(super) fn read(file: &Path) -> io::Result<Self> {
        let text = files::read_text(file, FILE_MAX).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => io::Error::other("there is none: `peernixctl report save` makes it"),
            _ => error,
        })?;
        let too_large = || io::Error::other(format!("it is larger than {FILE_MAX} bytes"));
        let baseline: Self = serde_json::from_str(&text.ok_or_else(too_large)?)?;
        if baseline.version != VERSION {
            return Err(io::Error::other(format!("it has version {}, not {VERSION}", baseline.version)));
        }
        Ok(baseline)
    }

    /// Each figure with what it was.
    pub(super) fn beside<'a>(&self, figures: &'a [Figure]) -> Vec<(&'a Figure, Option<f64>)> {
        figures.iter().map(|figure| (figure, self.values.get(figure.code).copied())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::{Observed, all};
    use super::*;
    use crate::control::Control as _;
    use crate::control::stub::Stub;

    #[tokio::test]
    async fn what_is_kept_is_read_again() {
        let stub = Stub::default();
        let observed = Observed {
            days: stub.history().await.unwrap(),
            statistics: stub.statistics().await.unwrap(),
            optimised: None,
        };
        let figures = all(&observed, 30);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("new/baseline.json");
        assert!(Baseline::read(&file).is_err_and(|error| error.to_string().contains("report save")));
        let baseline = Baseline::of(&figures, 7);
        baseline.write(&file).unwrap();
        let read = Baseline::read(&file).unwrap();
        assert_eq!(read, baseline);
        assert!(read.beside(&figures).iter().all(|(figure, then)| figure.value == *then));
        std::fs::write(&file, r#"{"version":2,"timestamp":1,"values":{}}"#).unwrap();
        assert!(Baseline::read(&file).is_err_and(|error| error.to_string().contains("version 2")));
    }
}
