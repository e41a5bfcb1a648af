//! Where a verb's result goes: JSON or text, in colours or not, through a pager or not.

use super::{Clock, Style, Table, ascii, complain, pager};
use crate::cli::error::{Done, VerbError};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::json;
use std::io::{self, IsTerminal as _, Write};

/// How many characters of an id are shown.
const ID_SHOWN: usize = 12;

/// What is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JsonForm {
    /// Text.
    Off,
    /// JSON on one line.
    Short,
    /// Indented JSON.
    Pretty,
}

/// How results are shown.
pub(crate) struct Screen {
    /// JSON, or text.
    pub(crate) json: JsonForm,
    /// Whether tables have a header and a footer.
    pub(crate) legend: bool,
    /// Whether only results and errors are told.
    pub(crate) quiet: bool,
    /// Whether texts are cut to the width of the terminal.
    pub(crate) full: bool,
    /// Colours of stdout.
    pub(crate) style: Style,
    /// What time it is.
    pub(crate) clock: Clock,
    /// Whether stderr shows how jobs go on.
    pub(crate) progress: bool,
    /// Whether stdout is a terminal.
    terminal: bool,
    pager: bool,
    /// Whether the locale has ASCII only.
    pub(crate) ascii: bool,
    out: Mutex<Box<dyn Write + Send>>,
}

impl Screen {
    /// The streams of this process.
    pub(crate) fn of_process(json: JsonForm, pager: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        Self {
            json,
            legend: true,
            quiet: false,
            full: false,
            style: Style::of(terminal),
            clock: Clock::new(),
            progress: io::stderr().is_terminal() && json == JsonForm::Off,
            terminal,
            pager: pager && terminal,
            ascii: ascii::is_all_there_is(|name| std::env::var(name).ok()),
            out: Mutex::new(Box::new(io::stdout())),
        }
    }

    /// A screen that is kept instead of shown.
    #[cfg(test)]
    pub(crate) fn kept(json: JsonForm, clock: Clock, out: Box<dyn Write + Send>) -> Self {
        Self {
            json,
            legend: true,
            quiet: false,
            full: false,
            style: Style::default(),
            clock,
            progress: false,
            terminal: false,
            pager: false,
            ascii: false,
            out: Mutex::new(out),
        }
    }

    /// Whether JSON was asked for.
    pub(crate) const fn is_json(&self) -> bool {
        !matches!(self.json, JsonForm::Off)
    }

    /// Shows a result: as JSON, or as the text that is made then.
    pub(crate) fn show<T: Serialize + ?Sized>(&self, value: &T, text: impl FnOnce() -> String) -> Done<()> {
        if self.is_json() { self.write(&self.in_json(value, self.json)?) } else { self.write(&self.in_locale(text())) }
    }

    /// Tells whether something changed: what was so already is no error.
    pub(crate) fn changed(&self, changed: bool, done: &str, already: &str) -> Done<()> {
        let text = || if self.quiet { String::new() } else { format!("{}\n", if changed { done } else { already }) };
        self.show(&json!({ "changed": changed }), text)
    }

    /// The same as [`Self::show`] for what may be long.
    pub(crate) fn page<T: Serialize + ?Sized>(&self, value: &T, text: impl FnOnce() -> String) -> Done<()> {
        if self.is_json() || !self.pager {
            return self.show(value, text);
        }
        let text = self.in_locale(text());
        if fits(&text) {
            return self.write(&text);
        }
        if pager::show(&text).map_err(VerbError::Output)? { Ok(()) } else { self.write(&text) }
    }

    /// One item of many: JSON always on one line, so that programs read line by line.
    pub(crate) fn item<T: Serialize + ?Sized>(&self, value: &T, text: impl FnOnce() -> String) -> Done<()> {
        let text = if self.is_json() { self.in_json(value, JsonForm::Short)? } else { self.in_locale(text()) };
        self.write(&text)
    }

    /// A text for people, in characters that the locale has.
    fn in_locale(&self, text: String) -> String {
        if self.ascii { ascii::written(&text) } else { text }
    }

    fn in_json<T: Serialize + ?Sized>(&self, value: &T, form: JsonForm) -> Done<String> {
        let json =
            if form == JsonForm::Pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
        json.map(|text| text + "\n").map_err(|error| VerbError::Output(error.into()))
    }

    /// Writes to stdout. A reader that has had enough is told apart, so that who writes on and on ends.
    pub(crate) fn write(&self, text: &str) -> Done<()> {
        let mut out = self.out.lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(VerbError::Closed),
            Err(error) => Err(VerbError::Output(error)),
        }
    }

    /// The beginning of an id that tells things apart for people.
    pub(crate) fn short(&self, id: &str) -> String {
        if self.full { id.to_owned() } else { id.chars().take(ID_SHOWN).collect() }
    }

    /// Tells something beside the result, to people only.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet && !self.is_json() {
            complain(text);
        }
    }

    /// A table with its legend: header above, and below for people how many rows there are.
    pub(crate) fn table(&self, table: &Table, footer: &str) -> String {
        let width = if self.terminal && !self.full { width() } else { None };
        let mut text = table.render(self.style, width, self.legend);
        if self.legend && !footer.is_empty() {
            text.push_str(&format!("\n{footer}\n"));
        }
        text
    }
}

/// Whether a text needs no pages on this terminal.
fn fits(text: &str) -> bool {
    terminal_size::terminal_size()
        .is_some_and(|(_, terminal_size::Height(rows))| text.lines().count() < usize::from(rows))
}

/// The columns of the terminal, as `$COLUMNS` or the terminal itself has them.
fn width() -> Option<usize> {
    let told = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    told.or_else(|| terminal_size::terminal_size().map(|(width, _)| usize::from(width.0))).filter(|width| *width > 0)
}
