//! The parts of the page that change.

use super::overview::Overview;
use super::{chart, picture, words};
use crate::control::{KeyState, Peer, ServiceState, Transfer, per_second};
use maud::{Markup, html};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// How many machines and transfers are listed.
const ROWS: usize = 40;

/// The parts by their ids, as HTML.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sections(pub(super) BTreeMap<&'static str, String>);

impl Sections {
    /// All of them.
    pub(super) fn of(overview: &Overview) -> Self {
        let parts: [(&str, Markup); 5] = [
            ("health", health(overview)),
            ("site", site(overview)),
            ("moving", moving(overview)),
            ("saved", saved(overview)),
            ("keys", keys(overview)),
        ];
        Self(parts.into_iter().map(|(id, markup)| (id, markup.into_string())).collect())
    }

    /// What is another one than `before`, as an object; `None` if nothing is.
    pub(super) fn since(&self, before: &Self) -> Option<Value> {
        let changed = self.0.iter().filter(|(id, html)| before.0.get(*id) != Some(html));
        let changed: Map<String, Value> =
            changed.map(|(id, html)| ((*id).to_owned(), Value::String(html.clone()))).collect();
        (!changed.is_empty()).then_some(Value::Object(changed))
    }
}

fn health(overview: &Overview) -> Markup {
    let status = &overview.status;
    let (class, text) = match status.state {
        ServiceState::Running => ("good", "All is well."),
        ServiceState::Starting => ("fair", "It is starting."),
        ServiceState::Degraded => ("bad", "Something is missing:"),
        ServiceState::Draining => ("fair", "It takes no new work (peernixctl undrain)."),
        ServiceState::Reloading => ("fair", "It reads its configuration."),
        ServiceState::Stopping => ("fair", "It is about to end."),
    };
    html! {
        p.state.(class) { (text) }
        @if status.offline { p.state.fair { "Offline: nobody is asked for anything (peernixctl offline off)." } }
        @if let Some(reason) = &status.uploads_paused {
            p.state.fair { "Nothing is sent to other machines at the moment: " (reason) }
        }
        @if !status.problems.is_empty() {
            ul.problems {
                @for (at, problem) in status.problems.iter().enumerate() {
                    li {
                        (problem)
                        @if let Some(code) = status.problem_codes.get(at) { " " code { "peernixctl explain " (code) } }
                    }
                }
            }
        }
    }
}

fn site(overview: &Overview) -> Markup {
    let hidden = overview.peers.len().saturating_sub(ROWS);
    html! {
        @if overview.peers.is_empty() {
            p { "No other machine has been found yet. Others need Peernix, the same network, and an open port 7650." }
        } @else {
            (picture::site(overview))
            div.wide tabindex="0" role="region" aria-label="List of machines" {
                table {
                    thead { tr { th scope="col" { "Machine" } th scope="col" { "State" } th.number scope="col" { "Answers in" } th.number scope="col" { "Speed" } th.number scope="col" { "Came from it" } th.number scope="col" { "Paths" } } }
                    tbody { @for peer in overview.peers.iter().take(ROWS) { (machine(peer)) } }
                }
            }
            @if hidden > 0 { p.more { "and " (words::count(hidden as u64, "other")) ": " code { "peernixctl peers" } } }
        }
        @if let Some(site) = &overview.status.site {
            p {
                "This is the site " strong { (words::visible(&site.name)) } "."
                @for other in &site.others {
                    " " strong { (words::visible(&other.name)) } ": " (words::visible(&other.state)) ", " (words::count(other.machines, "machine")) "."
                }
            }
        }
    }
}

fn machine(peer: &Peer) -> Markup {
    let mark = match (peer.is_online(), peer.state.as_str()) {
        (true, _) => "good",
        (_, "blocked" | "suspect") => "bad",
        _ => "fair",
    };
    html! {
        tr {
            th scope="row" { (words::name(peer)) }
            td { span.mark.(mark) { (words::visible(&peer.state)) } }
            td.number { @if let Some(latency) = peer.latency_usec { (words::time(latency)) } @else { "–" } }
            td.number { @if let Some(throughput) = peer.throughput { (words::rate(throughput)) } @else { "–" } }
            td.number { (words::size(peer.bytes_in)) }
            td.number { @if let Some(entries) = peer.index_entries { (entries) } @else { "–" } }
        }
    }
}

fn moving(overview: &Overview) -> Markup {
    let hidden = overview.transfers.len().saturating_sub(ROWS);
    html! {
        @if overview.transfers.is_empty() {
            p.more { "Nothing is being fetched." }
        } @else {
            div.wide tabindex="0" role="region" aria-label="List of transfers" {
                table {
                    thead { tr { th scope="col" { "Path" } th scope="col" { "Done" } th.number scope="col" { "Size" } th.number scope="col" { "Speed" } th scope="col" { "From" } } }
                    tbody { @for transfer in overview.transfers.iter().take(ROWS) { (one(transfer, overview.now)) } }
                }
            }
            @if hidden > 0 { p.more { "and " (words::count(hidden as u64, "other")) } }
        }
    }
}

fn one(transfer: &Transfer, now: u64) -> Markup {
    let name = words::package(&transfer.path);
    let rate = per_second(transfer.bytes, now.saturating_sub(transfer.start_timestamp));
    let from: Vec<String> = transfer.from.iter().map(|from| words::visible(from)).collect();
    html! {
        tr {
            th scope="row" title=(transfer.path) { (name) }
            td { progress max=(transfer.size.max(1)) value=(transfer.bytes.min(transfer.size)) aria-label=(format!("{name}, how much of it is here")) {} }
            td.number { (words::size(transfer.size)) }
            td.number { @if transfer.waiting { "waits" } @else { (words::rate(rate)) } }
            td { (from.join(", ")) }
        }
    }
}

fn saved(overview: &Overview) -> Markup {
    let sum = |value: fn(&crate::control::Day) -> u64| overview.days.iter().map(value).fold(0, u64::saturating_add);
    let (peers, upstreams) = (sum(|day| day.bytes_from_peers), sum(|day| day.bytes_from_upstreams));
    let (hits, far) = (sum(|day| day.lookups_peer), sum(|day| day.lookups_upstream));
    html! {
        dl.figures {
            div { dt { "came from peers" } dd { (words::size(peers)) } }
            div { dt { "from the Internet" } dd { (words::size(upstreams)) } }
            div { dt { "of what was found, peers had" } dd { (words::percent(hits, hits.saturating_add(far)).unwrap_or_else(|| "–".to_owned())) } }
            div { dt { "given to other machines" } dd { (words::size(sum(|day| day.bytes_shared))) } }
        }
        (chart::days(&overview.days, overview.now))
        p.legend { span.peers {} " from peers " span.upstreams {} " from the Internet" }
        @if let Some(first) = overview.days.first() { p.more { "Since " (words::day(first.day_timestamp)) "." } }
    }
}

fn keys(overview: &Overview) -> Markup {
    let active = overview.keys.iter().filter(|key| key.state == KeyState::Active);
    let trusted = overview.trusted.iter().filter(|key| !key.distrusted);
    html! {
        h3 { "What is built here is signed by" }
        ul.keys { @for key in active { li { code { (key.public_key) } } } }
        h3 { "What comes in was signed by one of" }
        ul.keys { @for key in trusted { li { code { (words::visible(&key.name)) } } } }
    }
}
