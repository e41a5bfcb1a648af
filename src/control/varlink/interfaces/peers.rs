//! `org.peernix.Peers`: the other machines.

use super::answer::{Answered, changed, done, list, one};
use crate::control::varlink::protocol::{About as _, Call, Refusal};
use crate::control::{Control, PeerFilter, microseconds};
use std::sync::Arc;

pub(super) async fn answer(call: &Call, control: &Arc<dyn Control>) -> Answered {
    let id = |names| call.parameters(names)?.required::<String>("id");
    match call.method.as_str() {
        "List" => {
            let parameters = call.parameters(&["id", "state"])?;
            let filter = PeerFilter { id: parameters.optional("id")?, state: parameters.optional("state")? };
            match (&filter, call.more) {
                (PeerFilter { id: Some(id), state: None }, false) => one("peer", control.peer(id).await.about("id")?),
                (_, false) => Err(Refusal::ExpectedMore),
                (_, true) => {
                    let peers = control.peers(filter).await.about("state")?;
                    list(call, "peer", Ok(peers))
                }
            }
        }
        "Add" => {
            let uri: String = call.parameters(&["uri"])?.required("uri")?;
            changed(control.add_peer(&uri).await.about("uri"))
        }
        "Forget" => changed(control.forget_peer(&id(&["id"])?).await.about("id")),
        "Block" => {
            let reason: Option<String> = call.parameters(&["id", "reason"])?.optional("reason")?;
            let peer = id(&["id", "reason"])?;
            changed(control.block_peer(&peer, &reason.unwrap_or_default()).await.about("reason"))
        }
        "Unblock" => changed(control.unblock_peer(&id(&["id"])?).await.about("id")),
        "Ping" => one("rttUSec", microseconds(control.ping_peer(&id(&["id"])?).await.about("id")?)),
        "Measure" => one("measurement", control.measure_peer(&id(&["id"])?).await.about("id")?),
        "Refresh" => {
            call.parameters(&[])?;
            done(control.refresh_peers().await)
        }
        _ => Err(Refusal::MethodNotFound),
    }
}
