//! `peernixctl query` and `fetch`.

use super::jobs;
use crate::cli::error::{Doing as _, Done};
use crate::cli::output::{Cell, Paint, Screen, Table, count, facts, latency, progress, size, tame};
use crate::cli::store_path;
use crate::cli::store_path::base_name;
use crate::control::{Control, CopyHolder, PathReport, PathTransfer, Transfer};

/// The arguments of `query`.
#[derive(Debug, clap::Args)]
pub(crate) struct Query {
    /// A store path, its base name or its hash, or a link such as ./result
    #[arg(value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
    path: String,
}

/// The arguments of `fetch`.
#[derive(Debug, clap::Args)]
pub(crate) struct Fetch {
    /// Store paths or their base names
    #[arg(value_name = "PATH", required = true, value_hint = clap::ValueHint::AnyPath)]
    paths: Vec<String>,
    /// Do not wait for the end
    #[arg(long)]
    no_block: bool,
}

pub(super) async fn query(args: &Query, control: &dyn Control, local: bool, screen: &Screen) -> Done<()> {
    let path = store_path::meant(&args.path, local)?;
    let report = control.query_path(&path).await.doing(format!("query {path}"))?;
    screen.page(&report, || render(&report, screen))
}

/// As [`query`], with how the path came here, and what Nix `remembered` of it.
pub(super) async fn explain(
    path: &str,
    remembered: &[(bool, u64)],
    control: &dyn Control,
    local: bool,
    screen: &Screen,
) -> Done<()> {
    let path = store_path::meant(path, local)?;
    let report = control.query_path(&path).await.doing(format!("explain {path}"))?;
    screen.page(&report, || {
        let (head, sources) = parts(&report, screen);
        let mut lines = Vec::new();
        lines.extend(told(remembered, screen).map(|told| ("Nix remembers", told)));
        format!("{head}{}{sources}", facts(&lines))
    })
}

/// What Nix remembers, in words.
fn told(remembered: &[(bool, u64)], screen: &Screen) -> Option<String> {
    let (present, when) = remembered.iter().max_by_key(|(_, when)| *when)?;
    let ago = screen.clock.ago(when.saturating_mul(1_000_000));
    let others = remembered.len() - 1;
    let others = if others > 0 { format!(" (and {})", count(others as u64, "older answer")) } else { String::new() };
    Some(if *present {
        format!("the gateway had it {ago}{others}")
    } else {
        format!("nobody had it {ago}{others}; `peernixctl forget` has Nix ask again")
    })
}

/// How long the id of a machine is.
const NODE_ID_LEN: usize = 52;

/// Those who gave something, in words.
fn givers(from: &[String], screen: &Screen) -> String {
    let is_id = |name: &str| name.len() == NODE_ID_LEN && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let named = |name: &String| if is_id(name) { screen.short(name) } else { tame(name) };
    if from.is_empty() { "nobody".to_owned() } else { from.iter().map(named).collect::<Vec<_>>().join(", ") }
}

/// How a path is coming here.
fn comes(transfer: &Transfer, screen: &Screen) -> String {
    if transfer.waiting {
        return screen.style.paint(Paint::Warning, "waits: all who have it are busy");
    }
    let percent = u128::from(transfer.bytes) * 100 / u128::from(transfer.size.max(1));
    let (bytes, all, from) = (size(transfer.bytes), size(transfer.size), givers(&transfer.from, screen));
    format!(
        "{bytes} of {all} ({}%) from {from}, begun {}",
        percent.min(100),
        screen.clock.ago(transfer.start_timestamp)
    )
}

/// How a path came here.
fn came(transfer: &PathTransfer, screen: &Screen) -> String {
    let when = screen.clock.ago(transfer.timestamp);
    let seconds = transfer.duration_usec as f64 / 1e6;
    let rate = if seconds > 0.0 { transfer.bytes as f64 / seconds } else { 0.0 };
    // A rate for people.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let rate = size(rate as u64);
    match &transfer.error {
        None => format!("{when} from {}: {} at {rate}/s", givers(&transfer.from, screen), size(transfer.bytes)),
        Some(error) => screen.style.paint(Paint::Bad, &format!("{when} in vain: {}", tame(error))),
    }
}

pub(super) async fn fetch(args: &Fetch, control: &dyn Control, local: bool, screen: &Screen) -> Done<()> {
    let paths = args.paths.iter().map(|path| store_path::meant(path, local)).collect::<Done<Vec<_>>>()?;
    let job = control.prefetch(paths).await.doing("fetch paths")?;
    if args.no_block {
        return jobs::begun(&job, screen);
    }
    let ended = progress::until_done(control, screen, job).await;
    jobs::ended(control, ended, screen, |job, paths, screen| {
        let mut text = String::new();
        for path in paths.iter().filter(|path| path.result == "failed") {
            let reason = path.reason.as_deref().unwrap_or("no reason was given");
            text.push_str(&screen.style.paint(Paint::Bad, &format!("{}: {}", base_name(&path.path), tame(reason))));
            text.push('\n');
        }
        let fetched = paths.iter().filter(|path| path.result == "fetched").count() as u64;
        let present = paths.iter().filter(|path| path.result == "present").count() as u64;
        let had = if present > 0 { format!("; {} here already", count(present, "path")) } else { String::new() };
        text.push_str(&format!("Fetched {}, {}{had}.\n", count(fetched, "path"), size(job.bytes)));
        text
    })
    .await
}

/// On how many machines a path is, of those on which it should be, and on which.
fn copies(report: &PathReport, screen: &Screen) -> Option<String> {
    let wanted = report.copies?;
    let held = report.holders.iter().filter(|holder| holder.state == "held").count() + usize::from(report.valid);
    let told = |holder: &CopyHolder| {
        let name = holder.name.as_ref().map_or_else(|| screen.short(&holder.id), |name| tame(name));
        if holder.state == "held" { name } else { format!("{name} ({})", tame(&holder.state)) }
    };
    let names: Vec<String> = report.holders.iter().map(told).collect();
    let elsewhere = if names.is_empty() { "nowhere else".to_owned() } else { names.join(", ") };
    let text = format!("{held} of {wanted}: {}{elsewhere}", if report.valid { "here, " } else { "" });
    let paint = if u32::try_from(held).is_ok_and(|held| held >= wanted) { Paint::Good } else { Paint::Warning };
    Some(screen.style.paint(paint, &text))
}

fn render(report: &PathReport, screen: &Screen) -> String {
    let (head, sources) = parts(report, screen);
    format!("{head}{sources}")
}

/// That nobody has it, of so many.
fn nowhere(report: &PathReport) -> String {
    let asked = [(report.peers_asked, "peer"), (report.upstreams_asked, "upstream")];
    let asked = asked.into_iter().filter(|(number, _)| *number > 0);
    let asked: Vec<String> = asked.map(|(number, what)| count(u64::from(number), what)).collect();
    match &asked[..] {
        [] => "not here, and there is nobody to ask".to_owned(),
        asked => format!("not here, and none of {} has it", asked.join(" and ")),
    }
}

/// What is known of the path, and who has it.
fn parts(report: &PathReport, screen: &Screen) -> (String, String) {
    let style = screen.style;
    let (dot, paint, state) = match (report.valid, report.sources.is_empty()) {
        (true, _) => ("●", Paint::Good, "in the store of this machine".to_owned()),
        (false, false) => ("○", Paint::Warning, "not here, can be fetched".to_owned()),
        (false, true) => ("○", Paint::Bad, nowhere(report)),
    };
    let mut text = format!("{} {}\n", style.paint(paint, dot), tame(&report.path));
    let mut lines = vec![("State", style.paint(paint, &state))];
    let mut fact = |name: &'static str, value: Option<String>| lines.extend(value.map(|value| (name, value)));
    fact("NAR", report.nar_size.map(size));
    fact("Hash", report.nar_hash.as_deref().map(tame));
    fact(
        "Refers to",
        (report.valid || !report.references.is_empty()).then(|| count(report.references.len() as u64, "path")),
    );
    let signed = report.signed_by.iter().map(|name| tame(name)).collect::<Vec<_>>().join(", ");
    fact("Signed by", report.valid.then(|| if signed.is_empty() { "nobody".to_owned() } else { signed }));
    fact("Built here", report.valid.then(|| if report.built_here { "yes" } else { "no" }.to_owned()));
    fact("Pinned", report.valid.then(|| if report.pinned { "yes" } else { "no" }.to_owned()));
    fact("Being fetched", report.fetching.as_ref().map(|transfer| comes(transfer, screen)));
    fact("Last fetched", report.transfer.as_ref().map(|transfer| came(transfer, screen)));
    fact("Copies", copies(report, screen));
    if !report.held_for.is_empty() {
        let members = report.held_for.iter().map(|id| screen.short(id)).collect::<Vec<_>>().join(", ");
        fact("Held for", Some(members));
    }
    let sharing = report.sharing.iter().map(|sharing| {
        let to = if sharing.audience == "anyone" {
            "any peer".to_owned()
        } else {
            format!("{} peers", tame(&sharing.audience))
        };
        if sharing.served {
            style.paint(Paint::Good, &format!("served to {to}"))
        } else {
            let reason = sharing.reason.as_deref().map_or_else(String::new, |reason| format!(": {}", tame(reason)));
            format!("not served to {to}{reason}")
        }
    });
    fact("Sharing", Some(sharing.collect::<Vec<_>>().join("\n")).filter(|text| !text.is_empty()));
    text.push_str(&facts(&lines));
    let mut sources = String::new();
    if !report.sources.is_empty() {
        let mut table = Table::new(&["KIND", "~SOURCE", ">LATENCY", "COMPRESSION", ">FILE SIZE"]);
        for source in &report.sources {
            let name = source.name.as_ref().filter(|name| !name.is_empty());
            let who =
                name.map_or_else(|| source.source.clone(), |name| format!("{name} ({})", screen.short(&source.source)));
            table.row(vec![
                Cell::new(source.kind.as_str()),
                Cell::new(who),
                Cell::known(source.latency_usec.map(latency)),
                Cell::new(&source.compression),
                Cell::known(source.file_size.map(size)),
            ]);
        }
        sources.push('\n');
        sources.push_str(&screen.table(&table, &format!("{} listed.", count(report.sources.len() as u64, "source"))));
    }
    (text, sources)
}
