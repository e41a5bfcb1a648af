//! Every method of the service's own interfaces, and what it translates to; the rights that it needs come with that.

use crate::control::Method;
use crate::control::Operation::*;

/// What the names of the interfaces begin with.
pub(super) const INTERFACES: &str = "org.peernix.Peernix1.";

/// The interface of the service as a whole.
pub(super) const MANAGER: &str = "org.peernix.Peernix1.Manager";

/// All of them.
pub const METHODS: &[Method] = &[
    Method::new("Manager", "GetStatus", &[Status]),
    Method::new("Manager", "Describe", &[]),
    Method::new("Manager", "GetStatistics", &[Statistics]),
    Method::new("Manager", "ListTransfers", &[Transfers]),
    Method::new("Manager", "GetHistory", &[History]),
    Method::new("Manager", "ResetStatistics", &[ResetStatistics]),
    Method::new("Manager", "Drain", &[Drain]),
    Method::new("Manager", "Undrain", &[Undrain]),
    Method::new("Manager", "SetOffline", &[SetOffline]),
    Method::new("Manager", "Reload", &[Reload]),
    Method::new("Manager", "SetLogLevel", &[SetLogLevel]),
    Method::new("Manager", "Subscribe", &[Events]),
    Method::new("Manager", "Unsubscribe", &[]),
    Method::new("Manager", "ListPeers", &[Peers]),
    Method::new("Manager", "GetPeer", &[Peer]),
    Method::new("Manager", "AddPeer", &[AddPeer]),
    Method::new("Manager", "ForgetPeer", &[ForgetPeer]),
    Method::new("Manager", "BlockPeer", &[BlockPeer]),
    Method::new("Manager", "UnblockPeer", &[UnblockPeer]),
    Method::new("Manager", "PingPeer", &[PingPeer]),
    Method::new("Manager", "MeasurePeer", &[MeasurePeer]),
    Method::new("Manager", "Refresh", &[RefreshPeers]),
    Method::new("Manager", "QueryPath", &[QueryPath]),
    Method::new("Manager", "Prefetch", &[Prefetch]),
    Method::new("Manager", "CollectGarbage", &[CollectGarbage]),
    Method::new("Manager", "Pin", &[Pin]),
    Method::new("Manager", "Unpin", &[Unpin]),
    Method::new("Manager", "ListPins", &[Pins]),
    Method::new("Manager", "ListJobs", &[Jobs]),
    Method::new("Manager", "GetJob", &[Job]),
    Method::new("Manager", "ListKeys", &[Keys]),
    Method::new("Manager", "RotateKey", &[RotateKey]),
    Method::new("Manager", "RevokeKey", &[RevokeKey]),
    Method::new("Manager", "ListTrusted", &[TrustedKeys]),
    Method::new("Manager", "Trust", &[Trust]),
    Method::new("Manager", "Distrust", &[Distrust]),
    Method::new("Manager", "GetFleet", &[Fleet]),
    Method::new("Manager", "InitFleet", &[InitFleet]),
    Method::new("Manager", "InviteMember", &[InviteMember]),
    Method::new("Manager", "JoinFleet", &[JoinFleet]),
    Method::new("Manager", "EnrollMember", &[EnrollMember]),
    Method::new("Manager", "RevokeMember", &[RevokeMember]),
    Method::new("Peer", "Ping", &[PingPeer]),
    Method::new("Peer", "Block", &[BlockPeer]),
    Method::new("Peer", "Unblock", &[UnblockPeer]),
    Method::new("Peer", "Forget", &[ForgetPeer]),
    Method::new("Key", "Revoke", &[RevokeKey]),
    Method::new("Job", "ListPaths", &[JobPaths]),
    Method::new("Job", "Cancel", &[CancelJob]),
];

/// The method that a call names; of its interface with the whole name.
pub(super) fn find(interface: &str, name: &str) -> Option<&'static Method> {
    let interface = interface.strip_prefix(INTERFACES)?;
    METHODS.iter().find(|method| method.interface == interface && method.name == name)
}
