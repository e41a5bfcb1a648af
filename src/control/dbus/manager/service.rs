//! The service as a whole, and its events.

use super::request::{Dicts, Request};
use crate::control::dbus::dict::{Dict, to_dict, to_dicts};
use crate::control::dbus::errors::CallError;
use crate::control::dbus::options::Options;
use crate::control::{ErrorKind, EventFilter, EventItem, EventKind, LogLevel, PeerFilter};

pub(super) async fn status(request: Request<'_>) -> Result<Dict, CallError> {
    let call = request.enter().await?;
    Ok(to_dict(&call.control.status().await?)?)
}

pub(super) async fn describe(request: Request<'_>) -> Result<String, CallError> {
    let call = request.enter().await?;
    let control = &call.control;
    let all = serde_json::json!({
        "status": control.status().await?,
        "statistics": control.statistics().await?,
        "peers": control.peers(PeerFilter::default()).await?,
        "keys": control.keys().await?,
        "trustedKeys": control.trusted_keys().await?,
        "pins": control.pins().await?,
        "jobs": control.jobs().await?,
    });
    Ok(all.to_string())
}

pub(super) async fn statistics(request: Request<'_>) -> Result<Dict, CallError> {
    let call = request.enter().await?;
    Ok(to_dict(&call.control.statistics().await?)?)
}

pub(super) async fn transfers(request: Request<'_>) -> Result<Dicts, CallError> {
    let call = request.enter().await?;
    Ok(to_dicts(&call.control.transfers().await?)?)
}

pub(super) async fn history(request: Request<'_>) -> Result<Dicts, CallError> {
    let call = request.enter().await?;
    Ok(to_dicts(&call.control.history().await?)?)
}

pub(super) async fn reset_statistics(request: Request<'_>, options: Dict) -> Result<(), CallError> {
    let call = request.enter_without(options).await?;
    Ok(call.control.reset_statistics().await?)
}

pub(super) async fn drain(request: Request<'_>, options: Dict) -> Result<bool, CallError> {
    let mut options = Options::new(options);
    let limit = options.duration("LimitUSec")?;
    options.end()?;
    let call = request.enter().await?;
    Ok(call.control.drain(limit).await?)
}

pub(super) async fn undrain(request: Request<'_>, options: Dict) -> Result<bool, CallError> {
    let call = request.enter_without(options).await?;
    Ok(call.control.undrain().await?)
}

pub(super) async fn set_offline(request: Request<'_>, offline: bool, options: Dict) -> Result<bool, CallError> {
    let call = request.enter_without(options).await?;
    Ok(call.control.set_offline(offline).await?)
}

pub(super) async fn reload(request: Request<'_>, options: Dict) -> Result<Dict, CallError> {
    let call = request.enter_without(options).await?;
    let reload = call.control.reload().await;
    call.backend.model.hint.notify_one();
    Ok(to_dict(&reload?)?)
}

pub(super) async fn set_log_level(request: Request<'_>, level: &str, options: Dict) -> Result<(), CallError> {
    Options::none(options)?;
    let level: LogLevel = level.parse()?;
    let call = request.enter().await?;
    let set = call.control.set_log_level(level).await;
    call.backend.model.hint.notify_one();
    Ok(set?)
}

pub(super) async fn subscribe(request: Request<'_>, options: Dict) -> Result<u64, CallError> {
    let mut options = Options::new(options);
    let kinds = options.words("Kinds")?;
    let kinds = kinds.iter().map(|kind| kind.parse()).collect::<Result<Vec<EventKind>, _>>()?;
    let after = options.number("After")?;
    options.end()?;
    let call = request.enter().await?;
    let sender = call.header.sender().ok_or_else(|| CallError::new(ErrorKind::Failed, "nobody knows who calls"))?;
    let mut events = call.control.events(EventFilter { kinds, after }).await?;
    let Some(Ok(EventItem::Ready { cursor })) = events.next().await else {
        return Err(CallError::new(ErrorKind::Failed, "there are no events any more"));
    };
    call.backend.subscribers.add(call.connection, sender, events).await?;
    Ok(cursor)
}

pub(super) async fn unsubscribe(request: Request<'_>) -> Result<(), CallError> {
    let call = request.enter().await?;
    if let Some(sender) = call.header.sender() {
        call.backend.subscribers.remove(sender);
    }
    Ok(())
}
