//! What the programs print: data on stdout, everything else on stderr, and nothing that a stranger could hide in a name.

use serde_json::Value;
use std::io::{self, IsTerminal as _, Write};

/// The widest column, in characters; longer texts are cut.
const COLUMN_MAX: usize = 64;

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

/// JSON for stdout: indented for people, on one line for programs.
pub(super) fn json(value: &Value) -> String {
    let mut text = if io::stdout().is_terminal() { format!("{value:#}") } else { value.to_string() };
    text.push('\n');
    text
}

/// Whether stdout may have colours.
pub(super) fn coloured() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A text that may come from another machine, without anything that steers a terminal, and cut to a column.
pub(super) fn tame(text: &str) -> String {
    let mut tame: String = text.chars().take(COLUMN_MAX).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(COLUMN_MAX).is_some() {
        tame.push('…');
    }
    tame
}

/// Columns that line up, two blanks between them, no blanks at the ends of lines.
pub(super) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| tame(cell)).collect()).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([header[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut text = String::new();
    let header: Vec<String> = header.iter().map(|name| (*name).to_owned()).collect();
    for row in std::iter::once(&header).chain(&rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A number of bytes for people.
pub(super) fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_line_up_and_names_are_tamed() {
        let rows = [vec!["a\u{1b}[2J".into(), "1".into()], vec!["longer name".into(), String::new()]];
        assert_eq!(table(&["NAME", "N"], &rows), "NAME         N\na\u{fffd}[2J        1\nlonger name\n");
        assert_eq!(tame(&"x".repeat(100)).chars().count(), COLUMN_MAX + 1);
    }
}
