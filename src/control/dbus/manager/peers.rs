//! The other machines.

use super::request::{Listed, Request};
use crate::control::dbus::dict::{Dict, to_dict};
use crate::control::dbus::errors::CallError;
use crate::control::dbus::options::{Options, text};
use crate::control::dbus::paths::peer_path;
use crate::control::{PeerFilter, microseconds};
use zbus::OwnedObjectPath;

pub(super) async fn list(request: Request<'_>, filter: Dict) -> Result<Listed, CallError> {
    let mut filter = Options::new(filter);
    let wanted = PeerFilter { id: filter.word("Id")?, state: filter.word("State")? };
    filter.end()?;
    let call = request.enter().await?;
    let peers = call.control.peers(wanted).await?;
    peers.iter().map(|peer| Ok((peer_path(&peer.id), to_dict(peer)?))).collect()
}

pub(super) async fn get(request: Request<'_>, peer: &str) -> Result<(OwnedObjectPath, Dict), CallError> {
    let call = request.enter().await?;
    let peer = call.control.peer(text(peer)?).await?;
    call.backend.objects.show(call.connection, &peer).await;
    Ok((peer_path(&peer.id), to_dict(&peer)?))
}

pub(super) async fn add(request: Request<'_>, uri: &str, options: Dict) -> Result<bool, CallError> {
    let call = request.enter_without(options).await?;
    Ok(call.control.add_peer(text(uri)?).await?)
}

pub(super) async fn forget(request: Request<'_>, peer: &str, options: Dict) -> Result<bool, CallError> {
    let call = request.enter_without(options).await?;
    Ok(call.control.forget_peer(text(peer)?).await?)
}

pub(super) async fn block(request: Request<'_>, peer: &str, reason: &str, options: Dict) -> Result<bool, CallError> {
    let call = request.enter_without(options).await?;
    Ok(call.control.block_peer(text(peer)?, text(reason)?).await?)
}

pub(super) async fn unblock(request: Request<'_>, peer: &str, options: Dict) -> Result<bool, CallError> {
    let call = request.enter_without(options).await?;
    Ok(call.control.unblock_peer(text(peer)?).await?)
}

pub(super) async fn ping(request: Request<'_>, peer: &str) -> Result<u64, CallError> {
    let call = request.enter().await?;
    Ok(microseconds(call.control.ping_peer(text(peer)?).await?))
}

pub(super) async fn measure(request: Request<'_>, peer: &str) -> Result<Dict, CallError> {
    let call = request.enter().await?;
    Ok(to_dict(&call.control.measure_peer(text(peer)?).await?)?)
}

pub(super) async fn refresh(request: Request<'_>, options: Dict) -> Result<(), CallError> {
    let call = request.enter_without(options).await?;
    Ok(call.control.refresh_peers().await?)
}
