//! The tables: every interface with its description, every method, and the errors of each.

use crate::control::Operation::*;
use crate::control::varlink::protocol::{Call, STANDARD};
use crate::control::{ErrorKind, Method};

pub(crate) const MANAGER: &str = "org.peernix.Manager";
pub(crate) const PEERS: &str = "org.peernix.Peers";
pub(crate) const STORE: &str = "org.peernix.Store";
pub(crate) const KEYS: &str = "org.peernix.Keys";
pub(crate) const FLEET: &str = "org.peernix.Fleet";
pub(super) const SERVICE: &str = "io.systemd.service";
pub(crate) const METRICS: &str = "io.systemd.Metrics";

/// Every interface with the file that describes it.
pub const DESCRIPTIONS: &[(&str, &str)] = &[
    (METRICS, include_str!("../../../../varlink/io.systemd.Metrics.varlink")),
    (SERVICE, include_str!("../../../../varlink/io.systemd.service.varlink")),
    (FLEET, include_str!("../../../../varlink/org.peernix.Fleet.varlink")),
    (KEYS, include_str!("../../../../varlink/org.peernix.Keys.varlink")),
    (MANAGER, include_str!("../../../../varlink/org.peernix.Manager.varlink")),
    (PEERS, include_str!("../../../../varlink/org.peernix.Peers.varlink")),
    (STORE, include_str!("../../../../varlink/org.peernix.Store.varlink")),
    (STANDARD, include_str!("../../../../varlink/org.varlink.service.varlink")),
];

/// Every method.
pub const METHODS: &[Method] = &[
    Method::new(STANDARD, "GetInfo", &[]),
    Method::new(STANDARD, "GetInterfaceDescription", &[]),
    Method::new(METRICS, "List", &[Statistics]),
    Method::new(METRICS, "Describe", &[]),
    Method::new(SERVICE, "Ping", &[]),
    Method::new(SERVICE, "Reload", &[Reload]),
    Method::new(SERVICE, "SetLogLevel", &[SetLogLevel]),
    Method::new(SERVICE, "GetLogLevel", &[LogLevel]),
    Method::new(SERVICE, "GetEnvironment", &[]),
    Method::new(MANAGER, "Describe", &[Status]),
    Method::new(MANAGER, "DumpStatistics", &[Statistics]),
    Method::new(MANAGER, "ListTransfers", &[Transfers]),
    Method::new(MANAGER, "ListHistory", &[History]),
    Method::new(MANAGER, "ResetStatistics", &[ResetStatistics]),
    Method::new(MANAGER, "Drain", &[Drain]),
    Method::new(MANAGER, "Undrain", &[Undrain]),
    Method::new(MANAGER, "SetOffline", &[SetOffline]),
    Method::new(MANAGER, "Reload", &[Reload]),
    Method::new(MANAGER, "GetLogLevel", &[LogLevel]),
    Method::new(MANAGER, "SetLogLevel", &[SetLogLevel]),
    Method::new(MANAGER, "SubscribeEvents", &[Events]),
    // One, or all.
    Method::new(MANAGER, "ListJobs", &[Job, Jobs]),
    Method::new(MANAGER, "ListJobPaths", &[JobPaths]),
    Method::new(MANAGER, "WatchJob", &[WatchJob]),
    Method::new(MANAGER, "CancelJob", &[CancelJob]),
    // One, or all.
    Method::new(PEERS, "List", &[Peer, Peers]),
    Method::new(PEERS, "Add", &[AddPeer]),
    Method::new(PEERS, "Forget", &[ForgetPeer]),
    Method::new(PEERS, "Block", &[BlockPeer]),
    Method::new(PEERS, "Unblock", &[UnblockPeer]),
    Method::new(PEERS, "Ping", &[PingPeer]),
    Method::new(PEERS, "Measure", &[MeasurePeer]),
    Method::new(PEERS, "Refresh", &[RefreshPeers]),
    Method::new(STORE, "QueryPath", &[QueryPath]),
    Method::new(STORE, "Prefetch", &[Prefetch]),
    Method::new(STORE, "CollectGarbage", &[CollectGarbage]),
    Method::new(STORE, "Pin", &[Pin]),
    Method::new(STORE, "Unpin", &[Unpin]),
    Method::new(STORE, "ListPins", &[Pins]),
    Method::new(KEYS, "List", &[Keys]),
    Method::new(KEYS, "Rotate", &[RotateKey]),
    Method::new(KEYS, "Revoke", &[RevokeKey]),
    Method::new(KEYS, "ExportPublic", &[]),
    Method::new(KEYS, "ListTrusted", &[TrustedKeys]),
    Method::new(KEYS, "Trust", &[Trust]),
    Method::new(KEYS, "Distrust", &[Distrust]),
    Method::new(FLEET, "Show", &[Fleet]),
    Method::new(FLEET, "Init", &[InitFleet]),
    Method::new(FLEET, "Invite", &[InviteMember]),
    Method::new(FLEET, "Join", &[JoinFleet]),
    Method::new(FLEET, "Enroll", &[EnrollMember]),
    Method::new(FLEET, "Revoke", &[RevokeMember]),
];

/// The method that a call names.
pub(crate) fn find(call: &Call) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.interface == call.interface && method.name == call.method)
}

/// The interface whose errors an answer may have, and which those are. What the service comes up with beside them is told
/// as `Failed`.
pub(crate) fn errors(interface: &str) -> (&'static str, &'static [ErrorKind]) {
    use ErrorKind::{
        AmbiguousPeer, Busy, ConfigInvalid, Draining, Failed, InvalidPublicKey, InvalidStorePath, InvalidUri, KeyInUse,
        KeyManagedExternally, KeyNameTaken, LimitExceeded, NoFleetKey, NoSuchJob, NoSuchKey, NoSuchPath, NoSuchPeer,
        NoSuchPin, NotSupported, OtherFleet, PairingFailed, PeerUnreachable, PinLimit, StoreUnavailable,
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
        FLEET => (
            FLEET,
            &[
                NoSuchPeer,
                AmbiguousPeer,
                InvalidUri,
                PeerUnreachable,
                NoFleetKey,
                OtherFleet,
                PairingFailed,
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
