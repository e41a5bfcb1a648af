//! Keys that sign, and keys that are trusted.

use super::request::{Dicts, Listed, Request};
use crate::control::dbus::dict::{Dict, to_dict, to_dicts};
use crate::control::dbus::errors::CallError;
use crate::control::dbus::options::{Options, text};
use crate::control::dbus::paths::key_path;
use zbus::OwnedObjectPath;

pub(super) async fn list(request: Request<'_>) -> Result<Listed, CallError> {
    let call = request.enter().await?;
    let keys = call.control.keys().await?;
    keys.iter().map(|key| Ok((key_path(&key.fingerprint), to_dict(key)?))).collect()
}

pub(super) async fn rotate(request: Request<'_>, options: Dict) -> Result<(OwnedObjectPath, Dict), CallError> {
    let mut options = Options::new(options);
    let grace = options.duration("GraceUSec")?;
    options.end()?;
    let call = request.enter().await?;
    let rotation = call.control.rotate_key(grace).await?;
    call.backend.objects.show(call.connection, &rotation.new).await;
    Ok((key_path(&rotation.new.fingerprint), to_dict(&rotation)?))
}

pub(super) async fn revoke(
    request: Request<'_>,
    fingerprint: &str,
    reason: &str,
    options: Dict,
) -> Result<bool, CallError> {
    let call = request.enter_without(options).await?;
    Ok(call.control.revoke_key(text(fingerprint)?, text(reason)?).await?)
}

pub(super) async fn trusted(request: Request<'_>) -> Result<Dicts, CallError> {
    let call = request.enter().await?;
    Ok(to_dicts(&call.control.trusted_keys().await?)?)
}

pub(super) async fn trust(request: Request<'_>, public_key: &str, options: Dict) -> Result<bool, CallError> {
    let mut options = Options::new(options);
    let comment = options.word("Comment")?.unwrap_or_default();
    options.end()?;
    let call = request.enter().await?;
    Ok(call.control.trust(text(public_key)?, &comment).await?)
}

pub(super) async fn distrust(request: Request<'_>, key: &str, options: Dict) -> Result<bool, CallError> {
    let call = request.enter_without(options).await?;
    Ok(call.control.distrust(text(key)?).await?)
}
