//! What can be called, by interface: the table of methods, the check who may, and the way to the one who answers.

mod jobs;
mod keys;
mod manager;
mod peers;
mod service;
mod store;

use super::Access;
use super::protocol::{Call, Refusal, STANDARD};
use crate::control::action::{changes, reads};
use crate::control::{Action, Control, ErrorKind, Feed, Method, Outcome};
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;

const MANAGER: &str = "org.peernix.Manager";
const PEERS: &str = "org.peernix.Peers";
const STORE: &str = "org.peernix.Store";
const KEYS: &str = "org.peernix.Keys";
const SERVICE: &str = "io.systemd.service";

/// Every interface with the file that describes it.
pub const DESCRIPTIONS: &[(&str, &str)] = &[
    (SERVICE, include_str!("../../../../varlink/io.systemd.service.varlink")),
    (KEYS, include_str!("../../../../varlink/org.peernix.Keys.varlink")),
    (MANAGER, include_str!("../../../../varlink/org.peernix.Manager.varlink")),
    (PEERS, include_str!("../../../../varlink/org.peernix.Peers.varlink")),
    (STORE, include_str!("../../../../varlink/org.peernix.Store.varlink")),
    (STANDARD, include_str!("../../../../varlink/org.varlink.service.varlink")),
];

/// Every method. Some have two rows, because they are two methods of [`Control`] or may be done with either of two rights.
pub const METHODS: &[Method] = &[
    reads(STANDARD, "GetInfo", ""),
    reads(STANDARD, "GetInterfaceDescription", ""),
    reads(SERVICE, "Ping", ""),
    changes(SERVICE, "Reload", Action::Reload, "reload"),
    changes(SERVICE, "SetLogLevel", Action::SetLogLevel, "set_log_level"),
    reads(SERVICE, "GetEnvironment", ""),
    reads(MANAGER, "Describe", "status"),
    reads(MANAGER, "DumpStatistics", "statistics"),
    changes(MANAGER, "ResetStatistics", Action::ResetStatistics, "reset_statistics"),
    changes(MANAGER, "Drain", Action::Drain, "drain"),
    changes(MANAGER, "Undrain", Action::Drain, "undrain"),
    changes(MANAGER, "Reload", Action::Reload, "reload"),
    reads(MANAGER, "GetLogLevel", "log_level"),
    changes(MANAGER, "SetLogLevel", Action::SetLogLevel, "set_log_level"),
    reads(MANAGER, "SubscribeEvents", "events"),
    // One, or all.
    reads(MANAGER, "ListJobs", "job"),
    reads(MANAGER, "ListJobs", "jobs"),
    reads(MANAGER, "ListJobPaths", "job_paths"),
    reads(MANAGER, "WatchJob", "watch_job"),
    // Whoever may begin a job may end it.
    changes(MANAGER, "CancelJob", Action::CollectGarbage, "cancel_job"),
    changes(MANAGER, "CancelJob", Action::Prefetch, "cancel_job"),
    // One, or all.
    reads(PEERS, "List", "peer"),
    reads(PEERS, "List", "peers"),
    changes(PEERS, "Add", Action::ManagePeers, "add_peer"),
    changes(PEERS, "Forget", Action::ManagePeers, "forget_peer"),
    changes(PEERS, "Block", Action::ManagePeers, "block_peer"),
    changes(PEERS, "Unblock", Action::ManagePeers, "unblock_peer"),
    reads(PEERS, "Ping", "ping_peer"),
    changes(PEERS, "Refresh", Action::Refresh, "refresh_peers"),
    reads(STORE, "QueryPath", "query_path"),
    changes(STORE, "Prefetch", Action::Prefetch, "prefetch"),
    changes(STORE, "CollectGarbage", Action::CollectGarbage, "collect_garbage"),
    changes(STORE, "Pin", Action::Pin, "pin"),
    changes(STORE, "Unpin", Action::Pin, "unpin"),
    reads(STORE, "ListPins", "pins"),
    reads(KEYS, "List", "keys"),
    changes(KEYS, "Rotate", Action::ManageKeys, "rotate_key"),
    changes(KEYS, "Revoke", Action::ManageKeys, "revoke_key"),
    reads(KEYS, "ExportPublic", ""),
    reads(KEYS, "ListTrusted", "trusted_keys"),
    changes(KEYS, "Trust", Action::ManageTrust, "trust"),
    changes(KEYS, "Distrust", Action::ManageTrust, "distrust"),
];

/// The interface whose errors an answer may have, and which those are. What the service comes up with beside them is told
/// as `Failed`.
pub(super) fn errors(interface: &str) -> (&'static str, &'static [ErrorKind]) {
    use ErrorKind::{
        AmbiguousPeer, Busy, ConfigInvalid, Draining, Failed, InvalidPublicKey, InvalidStorePath, InvalidUri, KeyInUse,
        KeyManagedExternally, KeyNameTaken, LimitExceeded, NoSuchJob, NoSuchKey, NoSuchPath, NoSuchPeer, NoSuchPin,
        NotSupported, PeerUnreachable, PinLimit, StoreUnavailable,
    };
    match interface {
        PEERS => (
            PEERS,
            &[
                NoSuchPeer,
                AmbiguousPeer,
                InvalidUri,
                PeerUnreachable,
                Draining,
                Busy,
                LimitExceeded,
                NotSupported,
                Failed,
            ],
        ),
        STORE => (
            STORE,
            &[
                NoSuchPath,
                InvalidStorePath,
                NoSuchPin,
                PinLimit,
                StoreUnavailable,
                NoSuchJob,
                Draining,
                Busy,
                LimitExceeded,
                NotSupported,
                Failed,
            ],
        ),
        KEYS => (
            KEYS,
            &[
                NoSuchKey,
                InvalidPublicKey,
                KeyNameTaken,
                KeyInUse,
                KeyManagedExternally,
                Draining,
                Busy,
                LimitExceeded,
                NotSupported,
                Failed,
            ],
        ),
        // The interfaces of others cannot have errors of ours.
        _ => (MANAGER, &[ConfigInvalid, NoSuchJob, Draining, Busy, LimitExceeded, NotSupported, Failed]),
    }
}

/// What is answered.
pub(super) enum Answer {
    /// The parameters of one reply.
    One(Value),
    /// The parameters of each reply; not none.
    List(Box<dyn Iterator<Item = Value> + Send>),
    /// Replies as things happen.
    Feed(Box<dyn Feed<Part>>),
}

/// One reply of a [`Answer::Feed`].
pub(super) struct Part {
    pub(super) parameters: Value,
    pub(super) last: bool,
}

pub(super) type Answered = Result<Answer, Refusal>;

fn row(call: &Call) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.interface == call.interface && method.name == call.method)
}

/// Whether a call needs a right, which is: whether it does more than ask.
pub(super) fn changes_something(call: &Call) -> bool {
    row(call).is_some_and(|method| method.action.is_some())
}

/// Answers a call.
pub(super) async fn answer(call: &Call, control: &Arc<dyn Control>, access: Access) -> Answered {
    if call.upgrade {
        return Err(Refusal::Upgrade);
    }
    let Some(Method { interface, action, .. }) = row(call) else {
        let exists = DESCRIPTIONS.iter().any(|(name, _)| *name == call.interface);
        return Err(if exists { Refusal::MethodNotFound } else { Refusal::InterfaceNotFound(call.interface.clone()) });
    };
    if action.is_some() && access == Access::ReadOnly {
        return Err(Refusal::PermissionDenied);
    }
    if let Some(action) = action {
        // Who it is the kernel does not tell a service with users of its own (PrivateUsers=).
        log::info!(action = action.id(); "an administrator on the Varlink socket may {}", action.id());
    }
    match *interface {
        MANAGER => manager::answer(call, control).await,
        PEERS => peers::answer(call, control).await,
        STORE => store::answer(call, control).await,
        KEYS => keys::answer(call, control).await,
        _ => service::answer(call, control).await,
    }
}

/// A reply with one field.
fn one(name: &str, value: impl Serialize) -> Answered {
    Ok(Answer::One(field(name, value)))
}

/// A reply that says whether something changed.
fn changed(outcome: Result<bool, Refusal>) -> Answered {
    one("changed", outcome?)
}

/// A reply without fields.
fn done(outcome: Outcome<()>) -> Answered {
    Ok(Answer::One(outcome.map(|()| json!({}))?))
}

/// A reply for each item. When there is none, one that has no item in it.
fn list<T: Serialize + Send + 'static>(call: &Call, name: &'static str, items: Outcome<Vec<T>>) -> Answered {
    many(call)?;
    let items = items?;
    if items.is_empty() {
        return Ok(Answer::One(json!({})));
    }
    Ok(Answer::List(Box::new(items.into_iter().map(move |item| field(name, item)))))
}

/// Makes sure that the caller takes several answers.
fn many(call: &Call) -> Result<(), Refusal> {
    if call.more { Ok(()) } else { Err(Refusal::ExpectedMore) }
}

fn field(name: &str, value: impl Serialize) -> Value {
    let mut object = serde_json::Map::new();
    object.insert(name.to_owned(), json!(value));
    Value::Object(object)
}
