//! What the made-up service says to the command line.

use crate::control::stub::{BASH, DAY, HELLO, NOW, StillJobs, Stub, no};
use crate::control::{ErrorKind, Event, EventItem, EventKind, Job, JobKind, JobPath, JobState};

pub(super) fn job(kind: JobKind, state: JobState, dry_run: bool) -> Job {
    Job {
        id: 7,
        kind,
        state,
        dry_run,
        progress: if state == JobState::Running { 0.25 } else { 1.0 },
        message: if state == JobState::Failed { "2 of 3 paths".to_owned() } else { String::new() },
        paths: 2,
        bytes: 30 << 20,
        start_timestamp: NOW - 5_000_000,
        end_timestamp: (state != JobState::Running).then_some(NOW - 1_000_000),
    }
}

fn told() -> Vec<EventItem> {
    let some = |text: &str| Some(text.to_owned());
    let event = |after, event| EventItem::Event(Event { timestamp: NOW + after, ..event });
    let changed = Event {
        peer: Some("a".repeat(52)),
        name: some("to\u{7}wer"),
        from: some("online"),
        to: some("offline"),
        ..Event::new(EventKind::PeerStateChanged)
    };
    let transfer =
        Event { path: some(HELLO), bytes: Some(1 << 20), id: Some(3), ..Event::new(EventKind::TransferFinished) };
    let failed = Event { message: some("config.toml:2: no\nsuch key"), ..Event::new(EventKind::ReloadFailed) };
    vec![
        EventItem::Ready { cursor: 41 },
        event(5000, changed),
        EventItem::Dropped { count: 3 },
        event(7000, transfer),
        event(9000, failed),
    ]
}

fn still() -> StillJobs {
    let path = |path: &str, size, result: &str, reason: Option<&str>| JobPath {
        path: path.to_owned(),
        size,
        result: result.to_owned(),
        reason: reason.map(str::to_owned),
    };
    let prefetch = |state| job(JobKind::Prefetch, state, false);
    StillJobs {
        listed: vec![job(JobKind::GarbageCollection, JobState::Done, true), prefetch(JobState::Running)],
        watched: vec![prefetch(JobState::Running), prefetch(JobState::Failed)],
        paths: vec![
            path(BASH, 226_552, "fetched", None),
            path(HELLO, 30 << 20, "failed", Some("nobody has it")),
            path("/nix/store/22222222222222222222222222222222-glibc-2.40", 20 << 20, "present", None),
        ],
    }
}

/// The service.
pub(super) fn sample() -> Stub {
    Stub {
        told: told(),
        still: Some(still()),
        says: |_, what| match what.split_once(' ').unwrap_or((what, "")) {
            ("reset", _) => no(ErrorKind::AccessDenied),
            ("drain", "None") | ("unblock" | "cancel", _) => Ok(false),
            ("pin", words) => Ok(words.ends_with("None") || words.ends_with(&format!("Some({})", NOW + 2 * DAY))),
            ("unpin", _) => no(ErrorKind::NoSuchPin),
            ("ping", peer) if peer != "tower" => no(ErrorKind::PeerUnreachable),
            ("expel", "nobody") => no(ErrorKind::NoFleetKey),
            ("rotate", "None") => no(ErrorKind::KeyManagedExternally),
            _ => Ok(true),
        },
        ..Stub::default()
    }
}
