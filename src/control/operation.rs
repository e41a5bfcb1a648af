//! What can be asked of the service and what somebody must be allowed for it: the one table that every front end goes by.

use super::action::Action;
use super::types::JobKind;

/// Declares the methods of [`Control`](super::Control), with the rights that each needs.
macro_rules! operations {
    ($($operation:ident = $name:literal: [$($action:ident),*];)*) => {
        /// A method of [`Control`](super::Control).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Operation {
            $(#[doc = concat!("`Control::", $name, "`")] $operation,)*
        }

        impl Operation {
            /// Every operation, in the order of the trait.
            pub const ALL: &[Self] = &[$(Self::$operation,)*];

            /// The name of the method.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$operation => $name,)* }
            }

            /// The right that it needs; none for what changes nothing, which everybody may. Of two it is one: see
            /// [`Self::beginning`].
            #[must_use]
            pub const fn actions(self) -> &'static [Action] {
                match self { $(Self::$operation => &[$(Action::$action),*],)* }
            }
        }
    };
}

operations! {
    Status = "status": [];
    Statistics = "statistics": [];
    Transfers = "transfers": [];
    History = "history": [];
    ResetStatistics = "reset_statistics": [ResetStatistics];
    Drain = "drain": [Drain];
    Undrain = "undrain": [Drain];
    SetOffline = "set_offline": [Drain];
    Reload = "reload": [Reload];
    LogLevel = "log_level": [];
    SetLogLevel = "set_log_level": [SetLogLevel];
    Events = "events": [];
    Peers = "peers": [];
    Peer = "peer": [];
    AddPeer = "add_peer": [ManagePeers];
    ForgetPeer = "forget_peer": [ManagePeers];
    BlockPeer = "block_peer": [ManagePeers];
    UnblockPeer = "unblock_peer": [ManagePeers];
    PingPeer = "ping_peer": [];
    MeasurePeer = "measure_peer": [Refresh];
    RefreshPeers = "refresh_peers": [Refresh];
    QueryPath = "query_path": [];
    Prefetch = "prefetch": [Prefetch];
    CollectGarbage = "collect_garbage": [CollectGarbage];
    Pin = "pin": [Pin];
    Unpin = "unpin": [Pin];
    Pins = "pins": [];
    Jobs = "jobs": [];
    Job = "job": [];
    JobPaths = "job_paths": [];
    WatchJob = "watch_job": [];
    CancelJob = "cancel_job": [CollectGarbage, Prefetch];
    Keys = "keys": [];
    RotateKey = "rotate_key": [ManageKeys];
    RevokeKey = "revoke_key": [ManageKeys];
    TrustedKeys = "trusted_keys": [];
    Trust = "trust": [ManageTrust];
    Distrust = "distrust": [ManageTrust];
    Fleet = "fleet": [];
    InitFleet = "init_fleet": [ManageFleet];
    InviteMember = "invite_member": [ManageFleet];
    JoinFleet = "join_fleet": [ManageFleet];
    EnrollMember = "enroll_member": [ManageFleet];
    RevokeMember = "revoke_member": [ManageFleet];
}

impl Operation {
    /// What begins a job of this kind. Whoever may begin it may end it, so that is also the right that ending it needs.
    #[must_use]
    pub const fn beginning(kind: JobKind) -> Self {
        match kind {
            JobKind::GarbageCollection => Self::CollectGarbage,
            JobKind::Prefetch => Self::Prefetch,
        }
    }
}

/// A method of one of the front ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method {
    /// Its interface; on D-Bus the last part of it.
    pub interface: &'static str,
    /// Its name.
    pub name: &'static str,
    /// What it translates to: one or the other; nothing if it belongs to its front end alone.
    pub operations: &'static [Operation],
}

impl Method {
    /// A row of the table of a front end.
    pub(super) const fn new(interface: &'static str, name: &'static str, operations: &'static [Operation]) -> Self {
        Self { interface, name, operations }
    }

    /// The rights that it needs, as its operations do.
    pub fn actions(&self) -> impl Iterator<Item = Action> {
        self.operations.iter().flat_map(|operation| operation.actions()).copied()
    }

    /// Whether it needs a right, which is: whether it does more than ask.
    #[must_use]
    pub fn changes(&self) -> bool {
        self.actions().next().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_of_the_trait_is_in_the_table() {
        let body = include_str!("api.rs").split_once("pub trait Control").unwrap().1;
        let methods = body.lines().filter_map(|line| line.trim().strip_prefix("async fn ")?.split('(').next());
        assert!(methods.eq(Operation::ALL.iter().map(|operation| operation.name())));
    }

    #[test]
    fn every_action_guards_something() {
        let guarded: Vec<Action> = Operation::ALL.iter().flat_map(|operation| operation.actions()).copied().collect();
        assert!(Action::ALL.iter().all(|action| guarded.contains(action)));
    }

    #[test]
    fn who_begins_a_job_may_end_it() {
        let begin: Vec<Action> =
            JobKind::ALL.iter().flat_map(|kind| Operation::beginning(*kind).actions()).copied().collect();
        assert_eq!(Operation::CancelJob.actions(), begin);
    }
}
