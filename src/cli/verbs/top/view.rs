//! How that looks on a terminal.

use super::model::{Model, Rates};
use super::seen::Seen;
use crate::cli::output::{Paint, Screen, count, latency, package, rate, size, tame};
use crate::control::{ServiceState, Transfer};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Row, Sparkline, Table};

/// How wide the bar of a transfer is.
const BAR: usize = 16;
/// From how many columns on there is room for what is not needed.
const WIDE: u16 = 110;
/// From how full on a disk is worth a look, and to be put right, in hundredths.
const DISK: (u64, u64) = (70, 85);
/// From how much memory of the service on that is so, in bytes.
const MEMORY: (u64, u64) = (96 << 20, 256 << 20);

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, screen: &Screen) {
    let Some(seen) = &model.last else { return };
    let view = View { screen, model, seen };
    let problems = u16::try_from(seen.status.problems.len().min(3)).unwrap_or_default();
    let transfers = u16::try_from(seen.transfers.len().clamp(1, 12)).unwrap_or(12) + 2;
    let areas = Layout::vertical([
        Constraint::Length(2 + problems),
        Constraint::Length(5),
        Constraint::Length(transfers.min(frame.area().height / 3 + 2)),
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .split(frame.area());
    frame.render_widget(view.head(), areas[0]);
    view.sparks(frame, areas[1]);
    view.transfers(frame, areas[2]);
    view.peers(frame, areas[3]);
    let keys = Span::styled("q quit   arrows scroll the peers", view.paint(Paint::Faint));
    frame.render_widget(Paragraph::new(Line::from(keys)), areas[4]);
}

struct View<'a> {
    screen: &'a Screen,
    model: &'a Model,
    seen: &'a Seen,
}

impl View<'_> {
    fn paint(&self, paint: Paint) -> Style {
        let style = Style::default();
        if !self.screen.style.colours {
            return if matches!(paint, Paint::Strong | Paint::Header) {
                style.add_modifier(Modifier::BOLD)
            } else {
                style
            };
        }
        match paint {
            Paint::Good => style.fg(Color::Green),
            Paint::Warning => style.fg(Color::Yellow),
            Paint::Bad => style.fg(Color::Red).add_modifier(Modifier::BOLD),
            Paint::Faint => style.fg(Color::DarkGray),
            Paint::Strong => style.add_modifier(Modifier::BOLD),
            Paint::Header => style.add_modifier(Modifier::UNDERLINED),
        }
    }

    /// Good below the first of the two, bad from the second on.
    fn level(&self, value: u64, (worth_a_look, bad): (u64, u64)) -> Style {
        match value {
            _ if value >= bad => self.paint(Paint::Bad),
            _ if value >= worth_a_look => self.paint(Paint::Warning),
            _ => Style::default(),
        }
    }

    fn head(&self) -> Paragraph<'static> {
        let status = &self.seen.status;
        let state = match status.state {
            ServiceState::Running => Paint::Good,
            ServiceState::Degraded => Paint::Bad,
            _ => Paint::Warning,
        };
        let mut first = vec![
            Span::styled(format!("Peernix on {}", tame(&status.host_name)), self.paint(Paint::Strong)),
            Span::raw("  "),
            Span::styled(status.state.to_string(), self.paint(state)),
        ];
        if status.offline {
            first.push(Span::styled(", offline", self.paint(Paint::Warning)));
        }
        let all = count(self.seen.peers.len() as u64, "peer");
        first.push(Span::raw(format!("   {} of {all} online", self.seen.online())));
        let statistics = &self.seen.statistics;
        if let Some(rate) = statistics.hit_rate {
            first.push(Span::raw(format!("   {:.0} % from peers", rate * 100.0)));
        }
        let resources = &statistics.resources;
        let mut second = Vec::new();
        if let Some(memory) = resources.memory_bytes {
            second.push(Span::raw("memory "));
            second.push(Span::styled(size(memory), self.level(memory, MEMORY)));
        }
        if let Some((free, disk)) = resources.disk_free_bytes.zip(resources.disk_bytes).filter(|(_, disk)| *disk > 0) {
            let full = u64::try_from(u128::from(disk.saturating_sub(free)) * 100 / u128::from(disk)).unwrap_or(100);
            second.push(Span::raw("   disk "));
            second.push(Span::styled(format!("{full} % full"), self.level(full, DISK)));
            second.push(Span::raw(format!(", {} free", size(free))));
        }
        // What a narrow terminal cuts.
        let claims = &statistics.claims;
        second.push(Span::raw(format!(
            "   fetched for all {}, from others {}, failed {}",
            claims.granted + claims.taken_over,
            claims.followed,
            statistics.transfers.failed
        )));
        let mut lines = vec![Line::from(first), Line::from(second)];
        let problem = |problem: &String| Line::from(Span::styled(tame(problem), self.paint(Paint::Bad)));
        lines.extend(status.problems.iter().take(3).map(problem));
        Paragraph::new(lines)
    }

    /// Three rates, with what they were.
    fn sparks(&self, frame: &mut Frame<'_>, area: Rect) {
        type Of = fn(&Rates) -> u64;
        let of: [(&str, Of, Color); 3] = [
            ("from peers", |rates| rates.from_peers, Color::Cyan),
            ("from the Internet", |rates| rates.from_upstreams, Color::Yellow),
            ("to other machines", |rates| rates.shared, Color::Green),
        ];
        let thirds = Layout::horizontal([Constraint::Ratio(1, 3); 3]).spacing(2).split(area);
        for ((name, value, colour), third) in of.into_iter().zip(thirds.iter()) {
            let [title, graph] = Layout::vertical([Constraint::Length(1), Constraint::Min(1)]).areas(*third);
            let now = self.model.rates.back().map(value).unwrap_or_default();
            let text = vec![
                Span::styled(name, self.paint(Paint::Faint)),
                Span::raw(" "),
                Span::styled(rate(now), self.paint(Paint::Strong)),
            ];
            frame.render_widget(Paragraph::new(Line::from(text)), title);
            // The newest is at the right, whatever the width.
            let width = usize::from(graph.width);
            let known = self.model.rates.iter().map(value).skip(self.model.rates.len().saturating_sub(width));
            let missing = std::iter::repeat_n(0, width.saturating_sub(self.model.rates.len()));
            let style = if self.screen.style.colours { Style::default().fg(colour) } else { Style::default() };
            if !self.screen.ascii {
                frame.render_widget(
                    Sparkline::default().data(missing.chain(known).collect::<Vec<_>>()).style(style),
                    graph,
                );
            }
        }
    }

    fn transfers(&self, frame: &mut Frame<'_>, area: Rect) {
        let all = &self.seen.transfers;
        let head = format!("TRANSFERS {}", all.len());
        if all.is_empty() {
            let lines = vec![
                Line::from(Span::styled(head, self.paint(Paint::Header))),
                Line::from(Span::styled("nothing is being fetched", self.paint(Paint::Faint))),
            ];
            frame.render_widget(Paragraph::new(lines), area);
            return;
        }
        let rows = all.iter().map(|transfer| {
            let speed = match self.model.rate_of(transfer) {
                _ if transfer.waiting => "waits".to_owned(),
                Some(speed) => rate(speed),
                None => "-".to_owned(),
            };
            let from: Vec<String> = transfer.from.iter().map(|from| tame(from)).collect();
            Row::new(vec![
                tame(package(&transfer.path)),
                self.bar(transfer),
                right(size(transfer.size), 9),
                right(speed, 12),
                from.join(", "),
            ])
        });
        let widths = [
            Constraint::Fill(3),
            Constraint::Length(u16::try_from(BAR).unwrap_or(16) + 5),
            Constraint::Length(9),
            Constraint::Length(12),
            Constraint::Fill(2),
        ];
        let titles = [head, "DONE".to_owned(), right("SIZE", 9), right("SPEED", 12), "FROM".to_owned()];
        let table =
            Table::new(rows, widths).header(Row::new(titles).style(self.paint(Paint::Header))).column_spacing(1);
        frame.render_widget(table, area);
    }

    /// How much of it is there: a bar and a number.
    fn bar(&self, transfer: &Transfer) -> String {
        let of = |whole: u64| u128::from(transfer.bytes) * u128::from(whole) / u128::from(transfer.size.max(1));
        let done = usize::try_from(of(BAR as u64)).unwrap_or(BAR).min(BAR);
        let [full, empty] = if self.screen.ascii { ["#", "."] } else { ["█", "░"] };
        format!("{}{} {:>3}%", full.repeat(done), empty.repeat(BAR - done), of(100).min(100))
    }

    fn peers(&self, frame: &mut Frame<'_>, area: Rect) {
        let wide = area.width >= WIDE;
        let rows = self.model.peers().iter().map(|peer| {
            let state = match peer.state.as_str() {
                "online" | "resting" => Paint::Good,
                "blocked" | "suspect" => Paint::Bad,
                _ => Paint::Faint,
            };
            let known = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
            let name = if peer.name.is_empty() { self.screen.short(&peer.id) } else { tame(&peer.name) };
            let mut cells = vec![
                Span::raw(name),
                Span::styled(tame(&peer.state), self.paint(state)),
                Span::raw(right(known(peer.latency_usec.map(latency)), 9)),
                Span::raw(right(known(peer.throughput.map(rate)), 12)),
                Span::raw(right(size(peer.bytes_in), 10)),
                Span::raw(right(size(peer.bytes_out), 10)),
            ];
            if wide {
                cells.push(Span::raw(right(known(peer.index_entries.map(|entries| entries.to_string())), 9)));
                cells.push(Span::raw(known(peer.addresses.first().map(|address| tame(address)))));
            }
            Row::new(cells)
        });
        let mut titles = vec![
            format!("PEERS {}", self.seen.peers.len()),
            "STATE".to_owned(),
            right("ANSWER", 9),
            right("SPEED", 12),
            right("RECEIVED", 10),
            right("SENT", 10),
        ];
        let mut widths = vec![
            Constraint::Fill(1),
            Constraint::Length(10),
            Constraint::Length(9),
            Constraint::Length(12),
            Constraint::Length(10),
            Constraint::Length(10),
        ];
        if wide {
            titles.extend([right("PATHS", 9), "ADDRESS".to_owned()]);
            widths.extend([Constraint::Length(9), Constraint::Fill(1)]);
        }
        let table =
            Table::new(rows, widths).header(Row::new(titles).style(self.paint(Paint::Header))).column_spacing(1);
        frame.render_widget(table, area);
    }
}

fn right(text: impl AsRef<str>, width: usize) -> String {
    format!("{:>width$}", text.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::JsonForm;
    use crate::cli::tests::{golden, kept};
    use crate::control::stub::Stub;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    async fn drawn(width: u16, height: u16) -> String {
        let mut model = Model::default();
        for look in 0..40 {
            let mut next = Seen { at: look * 1_000_000, ..Seen::look(&Stub::default()).await.unwrap() };
            next.statistics.bytes_from_peers += look * look * 100_000;
            next.transfers[0].bytes += look * 1000;
            model.take(next);
        }
        let (screen, _) = kept(JsonForm::Off);
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, &model, &screen)).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned() + "\n";
        (0..height).map(line).collect()
    }

    #[tokio::test]
    async fn it_fits_the_terminal() {
        for (width, height) in [(80, 24), (200, 40)] {
            let text = drawn(width, height).await;
            assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text}");
            golden(&format!("ctl/top-{width}.txt"), &text);
        }
        // However small, it does not fall over.
        for (width, height) in [(1, 1), (20, 5), (300, 3)] {
            drawn(width, height).await;
        }
    }
}
