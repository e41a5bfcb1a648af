//! What the programs print: data on stdout, everything else on stderr, and nothing that a stranger could hide in a name.

mod ascii;
mod pager;
pub(super) mod progress;
mod screen;
mod style;
mod table;
mod time;

pub(super) use screen::{JsonForm, Screen};
pub(super) use style::{Paint, Style};
pub(super) use table::{Cell, Table, facts};
pub(super) use time::{Clock, latency};

pub(super) use crate::texts::{count, package, rate, size};

use crate::texts::harmless;
use std::io::{self, Write};

/// The longest text from elsewhere that is shown in one piece, in characters; longer ones are cut.
const TEXT_MAX: usize = 400;

/// Writes a text to stdout. A reader that has had enough (`| head`) is not an error.
pub(super) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Writes a line to stderr. Nobody can be told if that fails.
pub(super) fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// A text that may come from another machine on one line, without anything that steers a terminal, and not too long.
pub(super) fn tame(text: &str) -> String {
    let mut tame: String = text.chars().take(TEXT_MAX).map(harmless).collect();
    if text.chars().nth(TEXT_MAX).is_some() {
        tame.push('…');
    }
    tame
}

/// The same for a text of several lines, such as all that is wrong with a configuration.
pub(super) fn tame_lines(text: &str) -> String {
    text.lines().map(|line| line.chars().map(harmless).collect::<String>()).collect::<Vec<_>>().join("\n")
}

/// An error with its causes, but those that its message tells already.
pub(super) fn chain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_tamed() {
        assert_eq!(tame("a\u{1b}[2Jb\nc\u{202e}d\u{200b}e"), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}d\u{fffd}e");
        assert_eq!(tame("Küche 箱"), "Küche 箱");
        assert_eq!(tame(&"x".repeat(1000)).chars().count(), TEXT_MAX + 1);
        assert_eq!(tame_lines("a\u{7}\nb\r\n"), "a\u{fffd}\nb");
    }
}
