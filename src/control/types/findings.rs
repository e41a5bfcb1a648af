//! What may be wrong, by the names that `peernixctl doctor`, `status` and docs/runbook.md have for it.

use super::words::words;

words! {
    /// Something that is wrong, or may be. Names stay what they are: scripts go by them.
    Finding {
        /// The service does not run, or does not answer.
        ServiceDown = "service-down",
        /// The service starts, stops or drains.
        ServiceBusy = "service-busy",
        /// The configuration file is wrong.
        ConfigurationWrong = "configuration-wrong",
        /// A reload failed: what was in force before still is.
        ReloadFailed = "reload-failed",
        /// Something of the configuration needs a restart.
        RestartNeeded = "restart-needed",
        /// Nothing of the store can be read.
        StoreUnreadable = "store-unreadable",
        /// The database is closed to the service, which asks the Nix daemon instead.
        DatabaseClosed = "database-closed",
        /// The Nix daemon does not let the service in.
        NixDaemonClosed = "nix-daemon-closed",
        /// Next to nothing is free on a disk.
        DiskFull = "disk-full",
        /// Next to no memory is free.
        MemoryShort = "memory-short",
        /// The service may open few files.
        FilesFew = "files-few",
        /// The clock is wrong.
        ClockWrong = "clock-wrong",
        /// A secret is open to others.
        KeyOpen = "key-open",
        /// A file of the service belongs to somebody else.
        FileForeign = "file-foreign",
        /// A control socket is open to the wrong people.
        SocketPermissions = "socket-permissions",
        /// The service is not on the system bus.
        BusMissing = "bus-missing",
        /// There is no Varlink socket.
        VarlinkMissing = "varlink-missing",
        /// A unit does not come up with the machine.
        UnitDisabled = "unit-disabled",
        /// A unit is not installed.
        UnitMissing = "unit-missing",
        /// Nix does not ask the gateway.
        NixNotAsking = "nix-not-asking",
        /// Nix asks a gateway that is not there.
        NixGatewayGone = "nix-gateway-gone",
        /// Nix does not fetch at all.
        NixFetchesNothing = "nix-fetches-nothing",
        /// Nix remembers for long that a path is nowhere.
        NixRemembersMisses = "nix-remembers-misses",
        /// A substituter of Nix does not answer, and each run waits for it.
        SubstituterDead = "substituter-dead",
        /// A substituter of Nix answers slowly.
        SubstituterSlow = "substituter-slow",
        /// The gateway is off.
        GatewayOff = "gateway-off",
        /// The gateway does not answer.
        GatewaySilent = "gateway-silent",
        /// The gateway answers slowly.
        GatewaySlow = "gateway-slow",
        /// No key is trusted, so that nothing can be fetched.
        TrustNone = "trust-none",
        /// Which keys Nix trusts cannot be found out.
        TrustUnknown = "trust-unknown",
        /// The service goes by other keys than its files name.
        TrustDiffers = "trust-differs",
        /// Something in nix.conf does not count as it is written.
        NixConfDoubtful = "nix-conf-doubtful",
        /// Multicast DNS cannot be used.
        MulticastUnavailable = "multicast-unavailable",
        /// A firewall of this machine drops what others ask, or say by multicast DNS.
        FirewallClosed = "firewall-closed",
        /// There is no network.
        NetworkMissing = "network-missing",
        /// Nobody has ever answered where a peer should be.
        PeerNotReached = "peer-not-reached",
        /// Another machine has the node key of this one.
        NodeKeyCopied = "node-key-copied",
        /// An upstream of the configuration is not asked at all.
        UpstreamLeftOut = "upstream-left-out",
        /// An upstream cannot be reached.
        UpstreamUnreachable = "upstream-unreachable",
        /// An upstream wants another login, or one at all.
        UpstreamLoginRefused = "upstream-login-refused",
        /// The proxy on the way to an upstream cannot be reached.
        ProxyUnreachable = "proxy-unreachable",
        /// Other sites cannot be reached over NATS.
        SitesUnreachable = "sites-unreachable",
        /// Only members of a fleet are let in, and this machine is of none.
        FleetMissing = "fleet-missing",
        /// The other members do not let this machine in.
        FleetRefused = "fleet-refused",
        /// The membership of this machine is about to end.
        FleetEnds = "fleet-ends",
    }
}
