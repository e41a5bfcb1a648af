//! `peernixctl monitor`: what happens as it happens, a line each.

use super::values::word;
use crate::cli::error::{Doing as _, Done, VerbError};
use crate::cli::output::{Paint, Screen, size, tame};
use crate::cli::store_path::base_name;
use crate::control::{Control, ErrorKind, Event, EventFilter, EventItem, EventKind};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

/// The arguments of `monitor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only events of this kind; may be given several times
    #[arg(long = "kind", value_name = "KIND", value_delimiter = ',', value_parser = word(EventKind::ALL, EventKind::as_str))]
    kinds: Vec<EventKind>,
    /// Also events after this cursor that are still kept, to go on where another monitor ended; 0 for all
    #[arg(long, value_name = "CURSOR")]
    after: Option<u64>,
}

pub(super) async fn run(args: &Args, control: &dyn Control, screen: &Screen) -> Done<()> {
    let doing = "follow the events";
    // From here on a signal ends it between two lines.
    let signals = |error| VerbError::other(doing, error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(signals)?;
    let filter = EventFilter { kinds: args.kinds.clone(), after: args.after };
    let mut events = control.events(filter).await.doing(doing)?;
    loop {
        let item = tokio::select! {
            item = events.next() => item,
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
        };
        match item {
            Some(Ok(item)) => show(&item, screen)?,
            // However it ends, there is nothing more to follow.
            Some(Err(error)) if error.kind != ErrorKind::NotRunning => return Err(error).doing(doing),
            Some(Err(_)) | None => {
                screen.note("The service has ended.");
                return Ok(());
            }
        }
    }
}

fn show(item: &EventItem, screen: &Screen) -> Done<()> {
    match item {
        EventItem::Ready { cursor } => {
            screen.note("Waiting for events; Ctrl-C ends it.");
            screen.item(&json!({ "ready": true, "cursor": cursor }), String::new)
        }
        EventItem::Event(event) => screen.item(event, || line(event, screen)),
        EventItem::Dropped { count } => screen.item(&json!({ "dropped": count }), || {
            let text = format!("--- {count} events were lost here: they came faster than they were read ---");
            format!("{}\n", screen.style.paint(Paint::Warning, &text))
        }),
    }
}

const fn paint(kind: EventKind) -> Option<Paint> {
    match kind {
        EventKind::TrustViolation | EventKind::PathDamaged | EventKind::ReloadFailed | EventKind::IdentityConflict => {
            Some(Paint::Bad)
        }
        EventKind::PeerBlocked
        | EventKind::KeyRevoked
        | EventKind::TrustChanged
        | EventKind::FleetChanged
        | EventKind::DrainChanged
        | EventKind::DiscoveryChanged
        | EventKind::IdentityChanged => Some(Paint::Warning),
        EventKind::TransferStarted
        | EventKind::TransferWaiting
        | EventKind::TransferClaimed
        | EventKind::TransferFinished
        | EventKind::IndexUpdated
        | EventKind::StatisticsReset => Some(Paint::Faint),
        EventKind::PeerAdded
        | EventKind::PeerRemoved
        | EventKind::PeerStateChanged
        | EventKind::PeerUnblocked
        | EventKind::KeyRotated
        | EventKind::Reloaded
        | EventKind::GarbageCollected
        | EventKind::PinChanged
        | EventKind::JobStarted
        | EventKind::JobFinished => Some(Paint::Strong),
    }
}

/// How wide the kinds are.
const KIND_WIDTH: usize = 18;

fn line(event: &Event, screen: &Screen) -> String {
    let kind = format!("{:KIND_WIDTH$}", event.kind.as_str());
    let kind = paint(event.kind).map_or_else(|| kind.clone(), |paint| screen.style.paint(paint, &kind));
    let mut parts = Vec::new();
    let id = event.peer.as_deref().map(|id| tame(&screen.short(id)));
    match (event.name.as_deref().filter(|name| !name.is_empty()), id) {
        (Some(name), Some(id)) => parts.push(format!("{} ({id})", tame(name))),
        (Some(one), None) => parts.push(tame(one)),
        (None, Some(one)) => parts.push(one),
        (None, None) => {}
    }
    if let Some(path) = &event.path {
        parts.push(tame(if screen.full { path } else { base_name(path) }));
    }
    match (&event.from, &event.to) {
        (Some(from), Some(to)) => parts.push(format!("{} → {}", tame(from), tame(to))),
        (None, Some(to)) => parts.push(tame(to)),
        (Some(from), None) => parts.push(format!("was {}", tame(from))),
        (None, None) => {}
    }
    if let Some(id) = event.id {
        let what = if event.kind.is_frequent() { "transfer" } else { "job" };
        parts.push(format!("{what} {id}"));
    }
    parts.extend(event.bytes.filter(|bytes| *bytes > 0).map(size));
    parts.extend(event.message.as_deref().map(tame));
    let line = format!("{} {kind} {}", screen.clock.time(event.timestamp), parts.join(", "));
    format!("{}\n", line.trim_end())
}
