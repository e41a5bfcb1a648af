//! What can be called, by interface: the check who may, and the way to the one who answers.

mod answer;
mod fleet;
mod jobs;
mod keys;
mod manager;
mod methods;
mod metrics;
mod peers;
mod service;
mod store;

pub(super) use answer::{Answer, Part};
pub use methods::{DESCRIPTIONS, METHODS};
pub(super) use methods::{FLEET, KEYS, MANAGER, METRICS, PEERS, STORE, errors, find};

use super::protocol::{Call, Refusal};
use super::sockets::Access;
use crate::control::Control;
use answer::Answered;
use std::sync::Arc;

/// Answers a call.
pub(super) async fn answer(call: &Call, control: &Arc<dyn Control>, access: Access) -> Answered {
    if call.upgrade {
        return Err(Refusal::Upgrade);
    }
    let Some(method) = find(call) else {
        let exists = DESCRIPTIONS.iter().any(|(name, _)| *name == call.interface);
        return Err(if exists { Refusal::MethodNotFound } else { Refusal::InterfaceNotFound(call.interface.clone()) });
    };
    if method.changes() && access == Access::ReadOnly {
        return Err(Refusal::PermissionDenied);
    }
    if let Some(action) = method.actions().next() {
        // Who it is the kernel does not tell a service with users of its own (PrivateUsers=).
        log::info!(action = action.id(); "an administrator on the Varlink socket may {}", action.id());
    }
    match method.interface {
        MANAGER => manager::answer(call, control).await,
        PEERS => peers::answer(call, control).await,
        STORE => store::answer(call, control).await,
        KEYS => keys::answer(call, control).await,
        FLEET => fleet::answer(call, control).await,
        METRICS => metrics::answer(call, control).await,
        _ => service::answer(call, control).await,
    }
}
