//! Paths of the store: who has them, what is kept, what is fetched, what goes.

use super::controller::Controller;
use super::statistics::under_way;
use crate::control::types::{
    CopyHolder, GarbageOptions, Job, JobKind, JobPath, JobState, PathReport, PathSource, PathTransfer, Pin, PinRequest,
    Sharing, SourceKind, microseconds, timestamp,
};
use crate::control::{ControlError, ErrorKind, Event, EventKind, JobHandle, JobOutcome, Outcome};
use crate::copies::Copies;
use crate::copies::plan::{Holder, Holding};
use crate::fetch::{LastTransfer, SourceName, SourceReport, SourceView};
use crate::nix::{StoreHash, StorePath};
use crate::peers::NodeId;
use crate::store::{
    self, Decision, GarbagePath, GarbageProgress, Prefetch, PrefetchProgress, PrefetchResult, StoreError,
};
use std::time::{Duration, UNIX_EPOCH};

/// The path that somebody named, in full or by its base name.
fn parse(controller: &Controller, text: &str) -> Outcome<StorePath> {
    let dir = controller.0.parts.store.dir();
    let parsed = if text.starts_with('/') { dir.parse(text) } else { text.parse() };
    parsed.map_err(|error| {
        let shown: String = text.chars().take(256).flat_map(char::escape_default).collect();
        ControlError::new(ErrorKind::InvalidStorePath, format!("'{shown}' is not a store path: {error}"))
    })
}

pub(super) async fn query(controller: &Controller, text: &str) -> Outcome<PathReport> {
    let parts = &controller.0.parts;
    let dir = parts.store.dir();
    // Half a name is enough here: a hash says it all.
    let (hash, asked) = match text.parse::<StoreHash>() {
        Ok(hash) => (hash, None),
        Err(_) => {
            let path = parse(controller, text)?;
            (path.hash(), Some(path))
        }
    };
    let busy = |_| ControlError::new(ErrorKind::Busy, "enough paths are being looked for at the moment");
    let _turn = controller.0.surveys.try_acquire().map_err(busy)?;
    let (here, found) = tokio::join!(parts.share.explain(hash), parts.fetcher.sources(hash));
    let here = here?;
    let sources: Vec<PathSource> = found.sources.iter().map(source).collect();
    let (peers_asked, upstreams_asked) = how_many_were_asked(&found);
    let elsewhere = found.sources.into_iter().next();
    let none = || ControlError::new(ErrorKind::NoSuchPath, format!("nobody in reach has a path with the hash {hash}"));
    let named = here.as_ref().map(|here| here.path.info.path.clone());
    let path = named.or_else(|| elsewhere.as_ref().map(|view| view.path.clone())).or(asked).ok_or_else(none)?;
    let copies = parts.copies.as_ref().and_then(|copies| copies.of(&path));
    let report = PathReport {
        path: dir.join(&path),
        valid: here.is_some(),
        nar_hash: elsewhere.as_ref().map(|view| view.nar_hash.to_string()),
        nar_size: elsewhere.as_ref().map(|view| view.nar_size),
        references: Vec::new(),
        signed_by: elsewhere.map(|view| view.signed_by).unwrap_or_default(),
        built_here: false,
        pinned: parts.pins.is_pinned(&path),
        sharing: Vec::new(),
        sources,
        peers_asked,
        upstreams_asked,
        copies: copies.as_ref().map(|of| of.wanted).filter(|wanted| *wanted > 1),
        holders: copies.iter().flat_map(|of| &of.holders).map(|holder| copy_holder(controller, holder)).collect(),
        held_for: copies.iter().flat_map(|of| &of.held_for).map(ToString::to_string).collect(),
        fetching: parts.fetcher.transfer_now(hash).map(|running| under_way(controller, &running)),
        transfer: parts.fetcher.last_transfer(hash).map(transfer),
    };
    let Some(here) = here else { return Ok(report) };
    let info = &here.path.info;
    let signatures = info.signatures.iter().map(|signature| signature.key_name().to_owned());
    Ok(PathReport {
        nar_hash: Some(info.nar_hash.to_string()),
        nar_size: Some(info.nar_size),
        references: info.references.iter().map(|path| dir.join(path)).collect(),
        signed_by: signatures.chain(here.signed_here_by).collect(),
        built_here: here.path.ultimate,
        sharing: vec![sharing("anyone", &here.anyone), sharing("enrolled", &here.enrolled)],
        ..report
    })
}

/// How many peers were asked, and how many upstreams and sites.
fn how_many_were_asked(found: &SourceReport) -> (u32, u32) {
    let names = found.sources.iter().map(|view| &view.source).chain(&found.absent).chain(&found.silent);
    let names = names.chain(found.failed.iter().map(|(name, _)| name));
    let (peers, others): (Vec<_>, Vec<_>) = names.partition(|name| matches!(name, SourceName::Peer(_)));
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    (number(peers.len()), number(others.len()))
}

fn transfer(last: LastTransfer) -> PathTransfer {
    PathTransfer {
        timestamp: timestamp(last.ended),
        duration_usec: microseconds(last.took),
        bytes: last.bytes,
        from: last.sources.iter().map(ToString::to_string).collect(),
        error: last.error,
    }
}

fn copy_holder(controller: &Controller, (id, holder): &(NodeId, Holder)) -> CopyHolder {
    let name = controller.0.parts.peers.get(*id).map(|peer| peer.name()).filter(|name| !name.is_empty());
    let state = match holder.holding {
        Holding::Asked => "asked",
        Holding::Coming => "coming",
        Holding::Held(_) => "held",
    };
    let seen = UNIX_EPOCH.checked_add(Duration::from_secs(holder.seen)).unwrap_or(UNIX_EPOCH);
    CopyHolder { id: id.to_string(), name, state: state.to_owned(), seen_timestamp: timestamp(seen) }
}

fn sharing(audience: &str, decision: &Decision) -> Sharing {
    let reason = match decision {
        Decision::Serve => None,
        Decision::Refuse(reason) => Some(reason.to_string()),
    };
    Sharing { audience: audience.to_owned(), served: reason.is_none(), reason }
}

fn source(view: &SourceView) -> PathSource {
    PathSource {
        kind: match view.source {
            // The second is not among those who are asked.
            SourceName::Peer(_) | SourceName::Site(_) | SourceName::Here => SourceKind::Peer,
            SourceName::Upstream(_) => SourceKind::Upstream,
        },
        source: view.source.to_string(),
        name: (!view.name.is_empty()).then(|| view.name.clone()),
        latency_usec: Some(microseconds(view.latency)),
        compression: view.compression.to_string(),
        file_size: view.file_size,
    }
}

pub(super) fn prefetch(controller: &Controller, paths: &[String]) -> Outcome<Job> {
    if paths.is_empty() || paths.len() > store::PREFETCH_MAX {
        let what = format!("name between one and {} paths, not {}", store::PREFETCH_MAX, paths.len());
        return Err(ControlError::new(ErrorKind::InvalidArgument, what));
    }
    if controller.0.parts.drain.is_on() {
        return Err(ControlError::new(ErrorKind::Draining, "the service takes no new work: undrain it first"));
    }
    let paths: Vec<StorePath> = paths.iter().map(|path| parse(controller, path)).collect::<Outcome<_>>()?;
    let job = controller.0.jobs.begin(JobKind::Prefetch, false)?;
    let view = job.view();
    let controller = controller.clone();
    controller.0.tasks.clone().spawn(async move { fetch_all(&controller, &paths, job).await });
    Ok(view)
}

async fn fetch_all(controller: &Controller, paths: &[StorePath], job: JobHandle) {
    let store = &controller.0.parts.store;
    let shown = |done: &Prefetch| {
        let (result, reason) = match &done.result {
            PrefetchResult::Present => ("present", None),
            PrefetchResult::Fetched => ("fetched", None),
            PrefetchResult::Unavailable(reason) => ("failed", Some(reason.clone())),
        };
        JobPath { path: store.dir().join(&done.path), size: done.size.unwrap_or(0), result: result.to_owned(), reason }
    };
    let (mut total, mut counted) = (0, 0);
    let progress = |news: PrefetchProgress| match news {
        PrefetchProgress::Planned { paths, nar_size, .. } => {
            total = nar_size;
            job.progress(0.0, format!("{paths} path(s) to fetch"));
        }
        PrefetchProgress::Bytes(bytes) => {
            job.add(Vec::new(), bytes.saturating_sub(counted));
            counted = bytes;
            job.progress(part(bytes, total), "fetching");
        }
        PrefetchProgress::Done(done) => job.add(vec![shown(&done)], 0),
    };
    let outcome = match store.prefetch(paths, progress, &job.cancelled()).await {
        Ok(done) if done.cancelled => JobOutcome::Cancelled,
        Ok(done) => {
            job.add(Vec::new(), done.bytes.saturating_sub(job.view().bytes));
            let failed = done.paths.iter().filter(|path| matches!(path.result, PrefetchResult::Unavailable(_))).count();
            match failed {
                0 => JobOutcome::Done(format!("{} path(s) are here", done.paths.len())),
                failed => JobOutcome::Failed(format!("{failed} of {} path(s) cannot be had", done.paths.len())),
            }
        }
        Err(error) => JobOutcome::Failed(error.to_string()),
    };
    job.end(outcome);
}

pub(super) fn collect(controller: &Controller, options: &GarbageOptions) -> Outcome<Job> {
    let job = controller.0.jobs.begin(JobKind::GarbageCollection, options.dry_run)?;
    let view = job.view();
    let (controller, options) = (controller.clone(), options.clone());
    controller.0.tasks.clone().spawn(async move { collect_garbage(&controller, &options, job).await });
    Ok(view)
}

async fn collect_garbage(controller: &Controller, options: &GarbageOptions, job: JobHandle) {
    let parts = &controller.0.parts;
    if !options.dry_run {
        // Ours first: it costs nobody anything.
        let freed = parts.store.drop_caches().await + parts.fetcher.forget_answers().await;
        log::debug!(bytes = freed; "caches dropped");
    }
    let last_ones = parts.copies.as_ref().map(Copies::last_ones).unwrap_or_default();
    let options = store::GarbageOptions {
        dry_run: options.dry_run,
        max_freed: options.max_freed,
        older_than: options.older_than_usec.map(Duration::from_micros),
        protected: match job.cancelled().run_until_cancelled(in_use(controller)).await {
            Some(Ok(mut paths)) => {
                paths.extend(last_ones.iter().cloned());
                paths.truncate(store::PROTECTED_MAX);
                paths
            }
            Some(Err(error)) => return drop(job.end(JobOutcome::Failed(error.to_string()))),
            None => return drop(job.end(JobOutcome::Cancelled)),
        },
    };
    let last_ones = last_ones.len();
    let result = if options.dry_run { "dead" } else { "deleted" };
    let shown = |gone: &GarbagePath| JobPath {
        path: parts.store.dir().join(&gone.path),
        size: gone.size.unwrap_or(0),
        result: result.to_owned(),
        reason: None,
    };
    let (mut total, mut done) = (0, 0);
    let progress = |news: GarbageProgress| match news {
        GarbageProgress::Planned { paths, bytes } => {
            total = paths;
            job.progress(0.0, format!("{paths} path(s) of {bytes} bytes are garbage"));
        }
        GarbageProgress::Deleted(gone) => {
            done += 1;
            job.add(vec![shown(&gone)], gone.size.unwrap_or(0));
            job.progress(part(done, total), "deleting");
        }
    };
    let outcome = match parts.store.garbage(&options, progress, &job.cancelled()).await {
        Ok(garbage) => {
            let paths = garbage.paths.len();
            if options.dry_run {
                job.add(garbage.paths.iter().map(shown).collect(), garbage.bytes);
            } else {
                job.set_bytes(garbage.bytes);
            }
            let kept = kept_for_copies(controller, last_ones);
            match (garbage.cancelled, options.dry_run) {
                (true, _) => JobOutcome::Cancelled,
                (_, true) => {
                    JobOutcome::Done(format!("{paths} path(s) of {} bytes would be deleted{kept}", garbage.bytes))
                }
                _ => JobOutcome::Done(format!("{paths} path(s) deleted, {} bytes freed{kept}", garbage.bytes)),
            }
        }
        Err(error) => JobOutcome::Failed(error.to_string()),
    };
    let end = job.end(outcome);
    // Also after a bad end: what is gone is gone.
    if !end.dry_run && (end.paths > 0 || end.state == JobState::Done) {
        controller.tell(Event {
            bytes: Some(end.bytes),
            id: Some(end.id),
            to: Some(end.state.to_string()),
            message: Some(end.message),
            ..Event::new(EventKind::GarbageCollected)
        });
    }
}

/// What a collection left alone for the sake of copies, in words.
fn kept_for_copies(controller: &Controller, last_ones: usize) -> String {
    let held = controller.0.parts.copies.as_ref().map_or(0, Copies::held_for_others);
    let mut words = String::new();
    if last_ones > 0 {
        words += &format!("; kept {last_ones} path(s) of which no other machine holds a copy yet");
    }
    if held > 0 {
        words += &format!("; kept {held} path(s) for other machines");
    }
    words
}

/// The paths of this store that Nix was promised or that were fetched lately: nothing may refer to them yet.
async fn in_use(controller: &Controller) -> Result<Vec<StorePath>, StoreError> {
    let parts = &controller.0.parts;
    let mut paths = Vec::new();
    for hash in parts.fetcher.in_use() {
        if let Some(path) = parts.store.path_info(hash).await? {
            paths.push(path.info.path.clone());
        }
    }
    Ok(paths)
}

/// How much of `total` is done, 0 to 1.
fn part(done: u64, total: u64) -> f64 {
    // A progress bar needs no more precision than a float has.
    #[allow(clippy::cast_precision_loss)]
    if total == 0 { 0.0 } else { done as f64 / total as f64 }
}

pub(super) async fn pin(controller: &Controller, request: PinRequest) -> Outcome<bool> {
    let path = parse(controller, &request.path)?;
    let until = request.until_timestamp.map(|until| UNIX_EPOCH.checked_add(Duration::from_micros(until)));
    let until = match until {
        Some(None) => return Err(ControlError::new(ErrorKind::InvalidArgument, "the end of the pin is out of range")),
        Some(until) => until,
        None => None,
    };
    let reason = request.reason.as_deref().unwrap_or_default();
    let changed = controller.0.parts.pins.pin_in_copies(&path, reason, until, request.copies).await?;
    if changed {
        tell_of_pin(controller, &path, "pinned");
    }
    Ok(changed)
}

pub(super) async fn unpin(controller: &Controller, path: &str) -> Outcome<bool> {
    let path = parse(controller, path)?;
    let changed = controller.0.parts.pins.unpin(&path).await?;
    if changed {
        tell_of_pin(controller, &path, "unpinned");
    }
    Ok(changed)
}

fn tell_of_pin(controller: &Controller, path: &StorePath, to: &str) {
    let path = Some(controller.0.parts.store.dir().join(path));
    controller.tell(Event { path, to: Some(to.to_owned()), ..Event::new(EventKind::PinChanged) });
}

pub(super) fn pins(controller: &Controller) -> Vec<Pin> {
    let dir = controller.0.parts.store.dir();
    let shown = |pin: store::Pin| Pin {
        path: dir.join(&pin.path),
        reason: pin.reason,
        since_timestamp: timestamp(pin.since),
        until_timestamp: pin.until.map(timestamp),
        copies: pin.copies,
    };
    controller.0.parts.pins.list().into_iter().map(shown).collect()
}

/// Lets go of pins whose time is over, for ever.
pub(super) async fn expire_pins(controller: Controller) {
    let pins = &controller.0.parts.pins;
    if let Err(error) = pins.restore().await {
        log::warn!(reason:% = error; "the Nix daemon could not be told of the pins");
    }
    loop {
        for path in pins.expired().await {
            tell_of_pin(&controller, &path, "unpinned");
        }
    }
}

impl From<StoreError> for ControlError {
    fn from(error: StoreError) -> Self {
        let kind = match &error {
            StoreError::NotValid(_) | StoreError::Gone(_) => ErrorKind::NoSuchPath,
            StoreError::TooManyPins { .. } => ErrorKind::PinLimit,
            StoreError::Argument(_) => ErrorKind::InvalidArgument,
            StoreError::Limit { .. } => ErrorKind::LimitExceeded,
            _ => ErrorKind::StoreUnavailable,
        };
        Self::new(kind, error)
    }
}
