//! Every method of the service's own interfaces, and what somebody must be allowed for it.
//!
//! The checks are made from this table, and so is the test that every method that changes something has its twin in Varlink.

use crate::control::action::{changes, reads};
use crate::control::{Action, JobKind, Method};

/// What the names of the interfaces begin with.
pub(super) const INTERFACES: &str = "org.peernix.Peernix1.";

/// All of them.
pub const METHODS: &[Method] = &[
    reads("Manager", "GetStatus", "status"),
    reads("Manager", "Describe", ""),
    reads("Manager", "GetStatistics", "statistics"),
    changes("Manager", "ResetStatistics", Action::ResetStatistics, "reset_statistics"),
    changes("Manager", "Drain", Action::Drain, "drain"),
    changes("Manager", "Undrain", Action::Drain, "undrain"),
    changes("Manager", "Reload", Action::Reload, "reload"),
    changes("Manager", "SetLogLevel", Action::SetLogLevel, "set_log_level"),
    reads("Manager", "Subscribe", "events"),
    reads("Manager", "Unsubscribe", ""),
    reads("Manager", "ListPeers", "peers"),
    reads("Manager", "GetPeer", "peer"),
    changes("Manager", "AddPeer", Action::ManagePeers, "add_peer"),
    changes("Manager", "ForgetPeer", Action::ManagePeers, "forget_peer"),
    changes("Manager", "BlockPeer", Action::ManagePeers, "block_peer"),
    changes("Manager", "UnblockPeer", Action::ManagePeers, "unblock_peer"),
    reads("Manager", "PingPeer", "ping_peer"),
    changes("Manager", "Refresh", Action::Refresh, "refresh_peers"),
    reads("Manager", "QueryPath", "query_path"),
    changes("Manager", "Prefetch", Action::Prefetch, "prefetch"),
    changes("Manager", "CollectGarbage", Action::CollectGarbage, "collect_garbage"),
    changes("Manager", "Pin", Action::Pin, "pin"),
    changes("Manager", "Unpin", Action::Pin, "unpin"),
    reads("Manager", "ListPins", "pins"),
    reads("Manager", "ListJobs", "jobs"),
    reads("Manager", "GetJob", "job"),
    reads("Manager", "ListKeys", "keys"),
    changes("Manager", "RotateKey", Action::ManageKeys, "rotate_key"),
    changes("Manager", "RevokeKey", Action::ManageKeys, "revoke_key"),
    reads("Manager", "ListTrusted", "trusted_keys"),
    changes("Manager", "Trust", Action::ManageTrust, "trust"),
    changes("Manager", "Distrust", Action::ManageTrust, "distrust"),
    reads("Peer", "Ping", "ping_peer"),
    changes("Peer", "Block", Action::ManagePeers, "block_peer"),
    changes("Peer", "Unblock", Action::ManagePeers, "unblock_peer"),
    changes("Peer", "Forget", Action::ManagePeers, "forget_peer"),
    changes("Key", "Revoke", Action::ManageKeys, "revoke_key"),
    reads("Job", "ListPaths", "job_paths"),
    // Whoever may begin a job may end it: see `job_action`.
    changes("Job", "Cancel", Action::CollectGarbage, "cancel_job"),
    changes("Job", "Cancel", Action::Prefetch, "cancel_job"),
];

/// What the caller of a method needs; a method that is not in the table counts as the most dangerous.
pub(super) fn action_of(interface: &str, name: &str) -> Option<Action> {
    let method = METHODS.iter().find(|method| method.interface == interface && method.name == name);
    method.map_or(Some(Action::ManageTrust), |method| method.action)
}

/// What somebody needs to end a job.
pub(super) const fn job_action(kind: JobKind) -> Action {
    match kind {
        JobKind::GarbageCollection => Action::CollectGarbage,
        JobKind::Prefetch => Action::Prefetch,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_guards_something() {
        for action in Action::ALL {
            assert!(METHODS.iter().any(|method| method.action == Some(*action)), "{action:?}");
        }
        for kind in JobKind::ALL {
            let cancel = |method: &&Method| method.name == "Cancel" && method.action == Some(job_action(*kind));
            assert!(METHODS.iter().any(|method| cancel(&method)), "{kind}");
        }
        assert_eq!(action_of("Manager", "NoSuchMethod"), Some(Action::ManageTrust));
        assert_eq!(action_of("Manager", "ListPeers"), None);
    }
}
