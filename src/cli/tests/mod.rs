//! Tests of the command line: help and results as they were looked at and found good, in `tests/golden/`.
//! `UPDATE_GOLDEN=1` writes them anew; look at the difference before it is committed.

mod help;
mod man;
mod sample;
mod verbs;

use super::output::{Clock, JsonForm, Screen};
use crate::control::stub::NOW;
use parking_lot::Mutex;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

/// What was written to a screen.
#[derive(Clone, Default)]
pub(super) struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A screen that keeps what is shown, and where it keeps it.
pub(super) fn kept(json: JsonForm) -> (Screen, Kept) {
    let kept = Kept::default();
    (Screen::kept(json, Clock::standing(NOW), Box::new(kept.clone())), kept)
}

/// What was shown.
pub(super) fn unkept(kept: &Kept) -> String {
    String::from_utf8(kept.0.lock().clone()).unwrap()
}

/// Compares with `tests/golden/NAME`.
pub(super) fn golden(name: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(text, expected, "tests/golden/{name} differs; UPDATE_GOLDEN=1 writes it anew");
}
