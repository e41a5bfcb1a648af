//! Columns that line up, whatever the names in them are made of.

use super::{Paint, Style, tame};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// How narrow a column may be made to fit a terminal, in columns of it.
const NARROWEST: usize = 8;
/// The blanks between two columns.
const GAP: usize = 2;

/// What stands in one place of a table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    text: String,
    paint: Option<Paint>,
}

impl Cell {
    /// A text, made harmless.
    pub(crate) fn new(text: impl AsRef<str>) -> Self {
        Self { text: tame(text.as_ref()), paint: None }
    }

    /// A text, or a dash for what nobody knows.
    pub(crate) fn known(text: Option<impl AsRef<str>>) -> Self {
        match text {
            Some(text) if !text.as_ref().is_empty() => Self::new(text),
            _ => Self::new("-").paint(Paint::Faint),
        }
    }

    /// The same in a colour.
    pub(crate) fn paint(mut self, paint: Paint) -> Self {
        self.paint = Some(paint);
        self
    }
}

/// A table.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

#[derive(Debug)]
struct Column {
    title: &'static str,
    /// Numbers end at the same place, texts begin there.
    right: bool,
    /// May be cut to fit a terminal.
    yields: bool,
    /// May be left out to fit a terminal.
    expendable: bool,
}

impl Table {
    /// A table with these columns: `>` before a title puts it at the right. Where a terminal is too narrow, columns with `-`
    /// are left out, the last first, and then those with `~` are cut.
    pub(crate) fn new(titles: &[&'static str]) -> Self {
        let column = |title: &&'static str| Column {
            title: title.trim_start_matches(['>', '~', '-']),
            right: title.contains('>'),
            yields: title.contains('~'),
            expendable: title.contains('-'),
        };
        Self { columns: titles.iter().map(column).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// The table as text, at most so wide if that can be done; with its header or without.
    pub(crate) fn render(&self, style: Style, width: Option<usize>, header: bool) -> String {
        let (shown, widths) = self.widths(width, header);
        let mut text = String::new();
        if header {
            let titles = self.columns.iter().map(|column| Cell::new(column.title));
            // Drawn as one line, as systemd's tools do: blanks between underlined titles are not underlined.
            text.push_str(&self.line(&titles.collect::<Vec<_>>(), &shown, &widths, Style::default()));
            text = style.paint(Paint::Header, text.trim_end_matches('\n'));
            text.push('\n');
        }
        for row in &self.rows {
            text.push_str(&self.line(row, &shown, &widths, style));
        }
        text
    }

    /// Which columns are shown, and how wide each of all is.
    fn widths(&self, width: Option<usize>, header: bool) -> (Vec<usize>, Vec<usize>) {
        let natural = |(index, column): (usize, &Column)| {
            let cells = self.rows.iter().filter_map(|row| row.get(index)).map(|cell| cell.text.width());
            cells.chain([if header { column.title.width() } else { 0 }]).max().unwrap_or(0)
        };
        let mut widths: Vec<usize> = self.columns.iter().enumerate().map(natural).collect();
        let mut shown: Vec<usize> = (0..widths.len()).collect();
        let Some(available) = width else { return (shown, widths) };
        let total = |shown: &[usize], widths: &[usize]| {
            shown.iter().map(|index| widths[*index]).sum::<usize>() + GAP * shown.len().saturating_sub(1)
        };
        while total(&shown, &widths) > available {
            let Some(last) = shown.iter().rposition(|index| self.columns[*index].expendable) else { break };
            shown.remove(last);
        }
        // The widest that may be cut gives a column of the terminal, again and again.
        while total(&shown, &widths) > available {
            let yielding = shown.iter().filter(|index| self.columns[**index].yields && widths[**index] > NARROWEST);
            let Some(widest) = yielding.max_by_key(|index| widths[**index]) else { break };
            widths[*widest] -= 1;
        }
        (shown, widths)
    }

    fn line(&self, row: &[Cell], shown: &[usize], widths: &[usize], style: Style) -> String {
        let mut line = String::new();
        for index in shown {
            let (Some(cell), column, width) = (row.get(*index), &self.columns[*index], widths[*index]) else {
                continue;
            };
            let text = cut(&cell.text, width);
            let blanks = " ".repeat(width.saturating_sub(text.width()));
            let painted = cell.paint.map_or_else(|| text.clone(), |paint| style.paint(paint, &text));
            if column.right {
                line.push_str(&blanks);
            }
            line.push_str(&painted);
            if Some(index) != shown.last() {
                if !column.right {
                    line.push_str(&blanks);
                }
                line.push_str(&" ".repeat(GAP));
            }
        }
        let mut line = line.trim_end().to_owned();
        line.push('\n');
        line
    }
}

/// A text of at most so many columns of a terminal; where something is missing stands `…`.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut cut = String::new();
    let mut left = width.saturating_sub(1);
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if wide > left {
            break;
        }
        left -= wide;
        cut.push(c);
    }
    cut.push('…');
    cut
}

/// `name: value` with the colons below each other; further lines of a value stand below its first. The caller makes them
/// harmless.
pub(crate) fn facts(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.width()).max().unwrap_or(0) + 2;
    let mut text = String::new();
    for (name, value) in facts {
        text.push_str(&" ".repeat(width - name.width()));
        text.push_str(name);
        text.push(':');
        for (index, line) in value.lines().enumerate() {
            text.push_str(&if index == 0 { " ".to_owned() } else { format!("\n{}", " ".repeat(width + 2)) });
            text.push_str(line);
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new(&["~NAME", ">N", "~ADDRESS"]);
        table.row(vec![Cell::new("a\u{1b}[2J"), Cell::new("1"), Cell::new("192.0.2.1:7650")]);
        table.row(vec![Cell::new("箱箱"), Cell::new("22"), Cell::known(None::<&str>).paint(Paint::Good)]);
        table
    }

    #[test]
    fn columns_line_up_by_what_the_terminal_shows() {
        let text = sample().render(Style::default(), None, true);
        assert_eq!(text, "NAME    N  ADDRESS\na\u{fffd}[2J   1  192.0.2.1:7650\n箱箱   22  -\n");
        let text = sample().render(Style { colours: true }, None, false);
        assert!(text.ends_with("\u{1b}[1;32m-\u{1b}[0m\n"), "{text}");
    }

    #[test]
    fn a_narrow_terminal_cuts_what_may_be_cut() {
        let text = sample().render(Style::default(), Some(20), true);
        assert!(text.lines().all(|line| line.width() <= 20) && text.contains("192.0.2.…"), "{text}");
        let text = sample().render(Style::default(), Some(3), true);
        assert!(text.contains("192.0.2…"), "never narrower than can be read: {text}");
        assert_eq!(cut("箱箱箱", 4), "箱…");
        let mut table = Table::new(&["A", "-B", "-C", "~D"]);
        table.row(["1111", "2222", "3333", "444444444444"].map(Cell::new).into());
        let at = |width| table.render(Style::default(), Some(width), false);
        assert_eq!(at(30), "1111  2222  3333  444444444444\n");
        assert_eq!(at(29), "1111  2222  444444444444\n");
        assert_eq!(at(15), "1111  44444444…\n");
    }

    #[test]
    fn facts_line_up() {
        let text = facts(&[("Peers", "2".to_owned()), ("Problems", "one\ntwo".to_owned())]);
        assert_eq!(text, "     Peers: 2\n  Problems: one\n            two\n");
    }
}
