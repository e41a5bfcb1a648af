//! `peernixctl stats`.

use crate::cli::error::{Doing as _, Done};
use crate::cli::output::{Cell, Paint, Screen, Table, count, facts, size};
use crate::control::{Control, Statistics};

/// The arguments of `stats`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Show what was counted (the default)
    Show,
    /// Begin to count anew; the counters of /metrics go on
    Reset,
}

impl Args {
    /// Whether this changes something, so that somebody may have to authenticate.
    pub(super) const fn changes(&self) -> bool {
        matches!(self.verb, Some(Verb::Reset))
    }
}

pub(super) async fn run(args: &Args, control: &dyn Control, screen: &Screen) -> Done<()> {
    if matches!(args.verb, Some(Verb::Reset)) {
        control.reset_statistics().await.doing("reset the statistics")?;
        return screen.changed(true, "Counts anew from now on.", "");
    }
    let statistics = control.statistics().await.doing("show the statistics")?;
    screen.page(&statistics, || render(&statistics, screen))
}

fn render(statistics: &Statistics, screen: &Screen) -> String {
    let Screen { style, clock, .. } = screen;
    let heading = |text: &str| format!("\n{}\n", style.paint(Paint::Strong, text));
    let since = statistics.since_timestamp;
    let mut text = format!("Counted since {} ({})\n", clock.date(since), clock.ago(since));
    let number = |value: u64| value.to_string();

    text.push_str(&heading("Bytes"));
    text.push_str(&facts(&[
        ("From peers", style.paint(Paint::Good, &size(statistics.bytes_from_peers))),
        ("Saved by compression", size(statistics.nar_bytes_from_peers.saturating_sub(statistics.bytes_from_peers))),
        ("From the Internet", size(statistics.bytes_from_upstreams)),
    ]));

    let lookups = &statistics.lookups;
    let rate = statistics.hit_rate.map_or_else(|| "-".to_owned(), |rate| format!("{:.1} %", rate * 100.0));
    text.push_str(&heading("Lookups"));
    text.push_str(&facts(&[
        ("A peer had it", number(lookups.peer)),
        ("An upstream had it", number(lookups.upstream)),
        ("Nobody had it", number(lookups.absent)),
        ("No answer in time", number(lookups.unknown)),
        ("Remembered", number(lookups.remembered)),
        ("Peers among all that had it", rate),
    ]));

    let transfers = &statistics.transfers;
    let bad = |value: u64| style.paint(if value > 0 { Paint::Bad } else { Paint::Faint }, &value.to_string());
    text.push_str(&heading("Transfers"));
    text.push_str(&facts(&[
        ("Begun", number(transfers.started)),
        ("Completed", number(transfers.completed)),
        ("Failed", bad(transfers.failed)),
        ("Joined", number(transfers.joined)),
        ("Went on elsewhere", number(transfers.failed_over)),
        ("Not what was signed", bad(statistics.verification_failures)),
        ("Peers banned", bad(statistics.peers_banned)),
    ]));

    let index = &statistics.index;
    text.push_str(&heading("Index"));
    text.push_str(&facts(&[
        ("Peers that tell theirs", number(index.peers)),
        ("Entries", number(index.entries)),
        ("Offered by this machine", number(index.offered)),
        ("Last told", index.updated_timestamp.map_or_else(|| "-".to_owned(), |last| clock.ago(last))),
        ("Updates", number(index.updates)),
        ("Requests saved", number(index.saved_requests)),
        ("Wrong claims", bad(index.wrong_claims)),
    ]));

    let claims = &statistics.claims;
    text.push_str(&heading("Downloads for all"));
    text.push_str(&facts(&[
        ("Downloaded here", number(claims.granted + claims.taken_over)),
        ("Taken over", number(claims.taken_over)),
        ("Streamed from others", number(claims.followed)),
        ("Without an answer", number(claims.alone)),
        ("Copies that machines download", copies(claims.site_downloaded_bytes, claims.site_unique_bytes)),
    ]));

    let pieces = &statistics.pieces;
    text.push_str(&heading("Pieces from several peers"));
    text.push_str(&facts(&[
        ("Right", number(pieces.right)),
        ("Sent twice", number(pieces.twice)),
        ("Wrong", bad(pieces.wrong)),
    ]));

    text.push_str(&heading("Faces"));
    let mut faces = Table::new(&["FACE", ">REQUESTS", ">SERVED", ">CONNECTIONS"]);
    for face in &statistics.faces {
        let cells = [face.name.clone(), number(face.requests), size(face.bytes_served), number(face.connections)];
        faces.row(cells.iter().map(Cell::new).collect());
    }
    text.push_str(&screen.table(&faces, ""));

    if !statistics.sources.is_empty() {
        text.push_str(&heading("Sources"));
        let mut sources = Table::new(&["KIND", "~SOURCE", ">BYTES"]);
        for source in &statistics.sources {
            let name = source.name.as_ref().filter(|name| !name.is_empty());
            let who =
                name.map_or_else(|| source.source.clone(), |name| format!("{name} ({})", screen.short(&source.source)));
            sources.row(vec![Cell::new(source.kind.as_str()), Cell::new(who), Cell::new(size(source.bytes))]);
        }
        let footer = format!("{} listed.", count(statistics.sources.len() as u64, "source"));
        text.push_str(&screen.table(&sources, &footer));
    }
    text
}

/// How often what was needed was downloaded, of what this machine knows; before the first nothing is known.
fn copies(downloaded: u64, unique: u64) -> String {
    if unique == 0 {
        return "-".to_owned();
    }
    // Far below where a float cannot tell numbers apart.
    #[allow(clippy::cast_precision_loss)]
    let copies = downloaded as f64 / unique as f64;
    format!("{copies:.2}")
}
