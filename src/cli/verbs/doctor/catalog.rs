//! What each finding means, how one gets there, and what to do: what `peernixctl explain` prints and docs/runbook.md is made of.

use crate::control::Finding;

/// What is known of a finding.
pub(crate) struct Entry {
    /// In one sentence.
    pub(crate) meaning: &'static str,
    /// What it comes from, most often.
    pub(crate) cause: &'static str,
    /// What to do.
    pub(crate) remedy: &'static str,
}

const fn entry(meaning: &'static str, cause: &'static str, remedy: &'static str) -> Entry {
    Entry { meaning, cause, remedy }
}

/// What is known of it.
#[allow(clippy::too_many_lines)] // One table.
pub(crate) const fn about(finding: Finding) -> Entry {
    match finding {
        Finding::ServiceDown => entry(
            "peernixd does not run, or does not answer.",
            "It was stopped, or could not start: a wrong configuration, a port that is taken, a file that is not the service's.",
            "`systemctl status peernix` and `journalctl -u peernix -e` tell why; then `systemctl start peernix`. Where it is to stay off, take the gateway out of nix.conf first.",
        ),
        Finding::ServiceBusy => entry(
            "The service starts, stops, reads its configuration or takes no new work.",
            "`peernixctl drain`, a restart, or a start that waits for the network.",
            "Wait a moment; `peernixctl undrain` ends a drain.",
        ),
        Finding::ConfigurationWrong => entry(
            "The configuration file cannot be used.",
            "A key that does not exist, or a value that makes no sense.",
            "`peernixd --check-config` names the line and what belongs there.",
        ),
        Finding::ReloadFailed => entry(
            "The configuration was read again and is wrong: what was in force before still is.",
            "As configuration-wrong; or the file is gone, cannot be read, or belongs to somebody else.",
            "Put the file right, then `peernixctl reload`.",
        ),
        Finding::RestartNeeded => entry(
            "Something that was changed is not in force yet.",
            "Sockets, directories and the like are taken up at the start only.",
            "`systemctl restart peernix`: no connection is refused meanwhile.",
        ),
        Finding::StoreUnreadable => entry(
            "Nothing of this machine's store can be read, so that nothing of it is shared.",
            "There is no Nix here, its database is damaged or closed to the service, and the Nix daemon does not answer either.",
            "`nix-store --verify` looks at the database; start nix-daemon; let the service read /nix/var/nix/db.",
        ),
        Finding::DatabaseClosed => entry(
            "The service asks the Nix daemon for what it would read from the database, which is slower.",
            "The folder of the database is closed to the user `peernix`.",
            "Let it read /nix/var/nix/db, as it is where Nix is installed as it comes.",
        ),
        Finding::NixDaemonClosed => entry(
            "The Nix daemon does not let the service in: no pins, no garbage collection, no prefetching, and what is being sent may be collected.",
            "Debian and Ubuntu let in members of the group nix-users only; or `allowed-users` of nix.conf leaves the service out.",
            "`usermod --append --groups nix-users peernix` and a restart of the service; or `extra-allowed-users = peernix` in nix.conf.",
        ),
        Finding::DiskFull => entry(
            "Next to nothing is free on a disk that the service writes to, or on that of the store.",
            "The store grows until somebody collects garbage.",
            "`nix-collect-garbage --delete-older-than 30d`, or `peernixctl gc`; `min-free` and `max-free` in nix.conf have Nix do it by itself; `[cache] max_size` bounds what the service keeps for others.",
        ),
        Finding::MemoryShort => entry(
            "Next to no memory is free on this machine.",
            "Builds that run at once, most often.",
            "Fewer `max-jobs` and `cores` in nix.conf, zram or swap; `[limits] memory` bounds what transfers of the service take.",
        ),
        Finding::FilesFew => entry(
            "The service may open few files at a time, so that it turns connections away early.",
            "A drop-in of the unit, or a container, lowers LimitNOFILE.",
            "Take that out, or write LimitNOFILE=65536.",
        ),
        Finding::ClockWrong => entry(
            "The clock of this machine is wrong by minutes at least.",
            "No time service, or a battery on the board that is empty.",
            "`timedatectl set-ntp true`. Certificates of upstreams, memberships of a fleet and what Nix remembers go by the clock.",
        ),
        Finding::KeyOpen => entry(
            "A secret of the service can be read by others.",
            "A copy or a restore that did not keep its mode.",
            "`chmod 600` the file; rotate the key (`peernixctl keys rotate`) if somebody may have read it.",
        ),
        Finding::FileForeign => entry(
            "A file in the state directory is not the service's own, so that it does not start.",
            "It was restored, or made by a run as root.",
            "`chown --recursive peernix: /var/lib/peernix`, then start the service.",
        ),
        Finding::SocketPermissions => entry(
            "A control socket is closed to those it is meant for, or open to others.",
            "The runtime directory or the group peernix-admin was missing when systemd made the sockets.",
            "`systemd-sysusers && systemd-tmpfiles --create`, then stop and start the two Varlink sockets and the service.",
        ),
        Finding::BusMissing => entry(
            "The service is not on the system bus: desktops and D-Bus programs do not find it.",
            "Its policy is not installed where the bus reads it, or the bus did not read it again.",
            "`make install` puts org.peernix.Peernix1.conf into share/dbus-1/system.d; then `systemctl reload dbus`.",
        ),
        Finding::VarlinkMissing => entry(
            "There is no Varlink socket of the service.",
            "Its socket units are not enabled.",
            "`systemctl enable --now peernix-varlink.socket peernix-admin.socket`.",
        ),
        Finding::UnitDisabled => entry(
            "A unit does not come up when the machine starts.",
            "It was never enabled.",
            "`systemctl enable --now` it.",
        ),
        Finding::UnitMissing => entry(
            "A unit of the service is not installed.",
            "A part of the installation is missing.",
            "`make install` puts every unit in its place.",
        ),
        Finding::NixNotAsking => entry(
            "Nix does not ask the gateway: nothing comes from peers.",
            "The line in nix.conf is missing, or in a file that this Nix does not read.",
            "`extra-substituters = http://127.0.0.1:7649` in /etc/nix/nix.conf (nix.custom.conf with Determinate Nix), then restart nix-daemon. NixOS: services.peernix.configureNix = true.",
        ),
        Finding::NixGatewayGone => entry(
            "Nix asks a gateway where nobody listens, and does not simply go on without it.",
            "The service or its socket was stopped while nix.conf still names it.",
            "`systemctl start peernix-gateway.socket peernix.service`; or take the line out of nix.conf and restart nix-daemon.",
        ),
        Finding::NixFetchesNothing => {
            entry("Nix builds everything itself.", "`substitute = false` in nix.conf.", "Take that out.")
        }
        Finding::NixRemembersMisses => entry(
            "Nix remembers for long that a path was nowhere: what appears on a peer meanwhile is not seen.",
            "`narinfo-cache-negative-ttl` is an hour unless nix.conf says otherwise.",
            "`narinfo-cache-negative-ttl = 60` in nix.conf; `peernixctl forget PATH` for one path at once.",
        ),
        Finding::SubstituterDead => entry(
            "A substituter in nix.conf does not answer: each run of Nix waits for it, with some versions for minutes.",
            "A cache that was given up, a name that is mistyped, a network that is down.",
            "Take it out of `substituters` as long as it is gone. Named in [gateway] upstreams instead it costs one lookup.",
        ),
        Finding::SubstituterSlow => entry(
            "A substituter in nix.conf takes more than a second to answer a small question.",
            "It is far away, or busy.",
            "Name it in [gateway] upstreams, with a higher tier, instead of in `substituters`.",
        ),
        Finding::GatewayOff => entry(
            "The gateway is off: this machine gives to others and takes nothing from them.",
            "`[gateway] listen` is empty.",
            "Set it, or leave it out for 127.0.0.1:7649.",
        ),
        Finding::GatewaySilent => entry(
            "The gateway does not answer.",
            "The service hangs or is being started; systemd holds the socket meanwhile.",
            "`journalctl -u peernix -e`; the watchdog restarts a service that hangs within a minute.",
        ),
        Finding::GatewaySlow => entry(
            "The gateway takes more than a tenth of a second to answer a question about itself.",
            "The machine is busy or swaps, or the service waits for its database.",
            "`systemctl status peernix` shows its memory and processor; database-closed and memory-short are common reasons.",
        ),
        Finding::TrustNone => entry(
            "No key is trusted, so that nothing can be fetched.",
            "`trusted-public-keys` in nix.conf is empty, or [trust] public_keys is, or all keys were distrusted.",
            "Name the keys of the caches that you use; cache.nixos.org's is built into Nix and comes back when the empty line goes.",
        ),
        Finding::TrustUnknown => entry(
            "It cannot be found out which keys Nix trusts, so that none is.",
            "nix.conf, or a file that it includes, cannot be read by the service.",
            "Let the service read it, or name the keys in [trust] public_keys; then `peernixctl reload`.",
        ),
        Finding::TrustDiffers => entry(
            "The service goes by other keys than its files name by now.",
            "nix.conf or the configuration was changed since the service read it.",
            "`peernixctl reload`.",
        ),
        Finding::NixConfDoubtful => entry(
            "Something in nix.conf does not count as it is written.",
            "Two keys of one name, of which Nix takes the first; a key that is none; a file that is included and missing.",
            "Put nix.conf right, then `peernixctl reload`.",
        ),
        Finding::MulticastUnavailable => entry(
            "Machines of this network cannot be found by multicast DNS.",
            "Another program has UDP port 5353 for itself, or there is no interface for it.",
            "`ss -ulpn sport = :5353` names that program; avahi and systemd-resolved share the port. Or name peers in [discovery] peers.",
        ),
        Finding::FirewallClosed => entry(
            "A firewall of this machine keeps others from asking it, or multicast DNS from working.",
            "TCP port 7650 (the share) or UDP port 5353 (multicast DNS) is not let in.",
            "Open both, towards the local network. NixOS: services.peernix.openFirewall = true.",
        ),
        Finding::NetworkMissing => entry(
            "No link of this machine is up.",
            "A cable that is out, Wi-Fi that is off.",
            "`networkctl`, `nmcli` or `ip link` show what there is.",
        ),
        Finding::PeerNotReached => entry(
            "Nobody has ever answered where a peer should be.",
            "A machine that is off, an address or a port that is mistyped, a firewall on the way.",
            "`peernixctl peers ping` once it is known; `peernixctl peers forget HOST:PORT` for what was added; else put [discovery] peers right.",
        ),
        Finding::NodeKeyCopied => entry(
            "Another machine has the node key of this one: others take the two for one.",
            "One was made from an image or a backup of the other.",
            "On one of them: stop the service, delete node.key and node.machine from its state directory, start it.",
        ),
        Finding::UpstreamLeftOut => entry(
            "An upstream of the configuration is not asked at all.",
            "Its login is a credential that the service was not given, or makes no sense.",
            "LoadCredential= in the unit (NixOS: services.peernix.credentials), then restart the service.",
        ),
        Finding::UpstreamUnreachable => entry(
            "An upstream cannot be reached or does not answer: it is left alone for a while, and misses are answered at once.",
            "No way to the Internet, a name that is not found, a cache that is down.",
            "`curl -I URL/nix-cache-info` from this machine; nothing has to be done when it comes back.",
        ),
        Finding::UpstreamLoginRefused => entry(
            "An upstream, or the proxy on the way to it, refuses this machine's login, or wants one.",
            "A token that has ended, a wrong password, or no login at all.",
            "Renew the credential that the upstream names, or the line in `netrc-file`; then restart the service.",
        ),
        Finding::ProxyUnreachable => entry(
            "The proxy on the way to an upstream cannot be reached.",
            "`[gateway] proxy`, or a variable such as https_proxy of the unit, names a proxy that is not there.",
            "Put it right, or set proxy = \"\" for none; then `peernixctl reload`.",
        ),
        Finding::SitesUnreachable => entry(
            "Other sites cannot be reached: this site works on alone.",
            "The NATS server is down, refuses the credential, or lacks JetStream or a permission.",
            "The message says which; docs/sites.md has the permissions that a user of the server needs.",
        ),
        Finding::FleetMissing => entry(
            "Only members of a fleet are let in, and this machine belongs to none.",
            "`[share] profile = \"fleet\"` before the machine joined.",
            "`peernixctl fleet invite` on the machine that has the fleet key, then `peernixctl fleet join CODE` here.",
        ),
        Finding::FleetRefused => entry(
            "The other members of the fleet do not let this machine in.",
            "Its membership ended, was revoked, or is another machine's.",
            "`peernixctl fleet invite` on the machine that has the fleet key, then `peernixctl fleet join CODE` here.",
        ),
        Finding::FleetEnds => entry(
            "The membership of this machine ends within two weeks.",
            "It was for a given time; or this machine has not met the one that has the fleet key for long.",
            "Let the two meet, or carry a new one over: `peernixctl fleet enroll NODEID` there, `peernixctl fleet join` here.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runbook_has_every_finding_in_these_words() {
        let mut text = String::from(
            "# What is wrong, and what to do\n\n\
             `peernixctl doctor` looks at the machine, `peernixctl status` at the service alone; both name what they find by the words below, and\n\
             `peernixctl explain WORD` prints the same. The words stay what they are, for scripts (`peernixctl doctor --json`).\n",
        );
        for finding in Finding::ALL {
            let Entry { meaning, cause, remedy } = about(*finding);
            for sentence in [meaning, cause, remedy] {
                assert!(sentence.ends_with('.'), "{finding}: {sentence}");
            }
            text.push_str(&format!("\n## {finding}\n\n{meaning}\n\n*Why:* {cause}\n\n*What to do:* {remedy}\n"));
        }
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/runbook.md");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(file, &text).unwrap();
        }
        assert_eq!(std::fs::read_to_string(file).unwrap(), text, "UPDATE_GOLDEN=1 writes it");
    }
}
