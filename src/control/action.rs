//! What polkit is asked about.

/// Declares the actions with what polkit and the documentation say of them.
macro_rules! actions {
    ($($action:ident: $id:literal, $description:literal, $message:literal;)*) => {
        /// A right that can be granted on its own.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Action {
            $(#[doc = $description] $action,)*
        }

        impl Action {
            /// Every action, in the order of the policy file.
            pub const ALL: &[Self] = &[$(Self::$action,)*];

            /// Its name for polkit.
            #[must_use]
            pub const fn id(self) -> &'static str {
                match self { $(Self::$action => concat!("org.peernix.Peernix1.", $id),)* }
            }

            /// What it allows.
            #[must_use]
            pub const fn description(self) -> &'static str {
                match self { $(Self::$action => $description,)* }
            }

            /// What somebody is told who has to authenticate for it.
            #[must_use]
            pub const fn message(self) -> &'static str {
                match self { $(Self::$action => $message,)* }
            }
        }
    };
}

actions! {
    ManagePeers: "manage-peers", "Add, forget, block and unblock peers", "Authentication is required to change which machines share store paths with this one.";
    ManageFleet: "manage-fleet", "Found and join a fleet, and change who belongs to it", "Authentication is required to change which fleet this machine belongs to, and who else does.";
    ManageTrust: "manage-trust", "Change which keys are trusted", "Authentication is required to change whose store paths may enter this machine.";
    ManageKeys: "manage-keys", "Rotate and revoke signing keys", "Authentication is required to change the keys that sign what is built on this machine.";
    CollectGarbage: "collect-garbage", "Delete unused store paths", "Authentication is required to delete store paths that nothing needs.";
    Pin: "pin", "Pin and unpin store paths", "Authentication is required to change which store paths are kept.";
    Prefetch: "prefetch", "Fetch store paths", "Authentication is required to fetch store paths into this machine's store.";
    Refresh: "refresh", "Look for peers", "Authentication is required to look for other machines.";
    Drain: "drain", "Stop and resume taking work", "Authentication is required to have Peernix take no new work.";
    Reload: "reload", "Reload the configuration", "Authentication is required to reload the configuration of Peernix.";
    ResetStatistics: "reset-statistics", "Reset the statistics", "Authentication is required to reset the statistics of Peernix.";
    SetLogLevel: "set-log-level", "Change what is logged", "Authentication is required to change what Peernix logs.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_has_its_own_name() {
        let mut ids: Vec<&str> = Action::ALL.iter().map(|action| action.id()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), Action::ALL.len());
        assert!(Action::ALL.iter().all(|action| action.message().ends_with('.')));
    }
}
