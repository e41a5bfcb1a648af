//! Paths, pins, prefetching and garbage.

use super::request::{Dicts, Request};
use crate::control::dbus::dict::{Dict, to_dict, to_dicts};
use crate::control::dbus::errors::CallError;
use crate::control::dbus::options::{Options, text};
use crate::control::dbus::paths::job_path;
use crate::control::{ErrorKind, GarbageOptions, PinRequest};
use zbus::OwnedObjectPath;

/// The most paths in one call.
const PATHS_MAX: usize = crate::store::PREFETCH_MAX;

pub(super) async fn query(request: Request<'_>, path: &str) -> Result<Dict, CallError> {
    let call = request.enter().await?;
    Ok(to_dict(&call.control.query_path(text(path)?).await?)?)
}

pub(super) async fn prefetch(
    request: Request<'_>,
    paths: Vec<String>,
    options: Dict,
) -> Result<OwnedObjectPath, CallError> {
    Options::none(options)?;
    if paths.len() > PATHS_MAX {
        let message = format!("{} paths are too many for one call: {PATHS_MAX} are allowed", paths.len());
        return Err(CallError::new(ErrorKind::LimitExceeded, message));
    }
    for path in &paths {
        text(path)?;
    }
    let call = request.enter().await?;
    let job = call.control.prefetch(paths).await?;
    call.backend.objects.show(call.connection, &job).await;
    Ok(job_path(job.id))
}

pub(super) async fn collect_garbage(request: Request<'_>, options: Dict) -> Result<OwnedObjectPath, CallError> {
    let mut options = Options::new(options);
    let wanted = GarbageOptions {
        dry_run: options.flag("DryRun")?,
        max_freed: options.number("MaxFreed")?,
        older_than_usec: options.number("OlderThanUSec")?,
    };
    options.end()?;
    let call = request.enter().await?;
    let job = call.control.collect_garbage(wanted).await?;
    call.backend.objects.show(call.connection, &job).await;
    Ok(job_path(job.id))
}

pub(super) async fn pin(request: Request<'_>, path: &str, options: Dict) -> Result<bool, CallError> {
    let mut options = Options::new(options);
    let wanted = PinRequest {
        path: text(path)?.to_owned(),
        reason: options.word("Reason")?,
        until_timestamp: options.number("UntilTimestamp")?,
        copies: options.number("Copies")?.map(|copies| u32::try_from(copies).unwrap_or(u32::MAX)),
    };
    options.end()?;
    let call = request.enter().await?;
    Ok(call.control.pin(wanted).await?)
}

pub(super) async fn unpin(request: Request<'_>, path: &str, options: Dict) -> Result<bool, CallError> {
    let call = request.enter_without(options).await?;
    Ok(call.control.unpin(text(path)?).await?)
}

pub(super) async fn pins(request: Request<'_>) -> Result<Dicts, CallError> {
    let call = request.enter().await?;
    Ok(to_dicts(&call.control.pins().await?)?)
}
