//! The `MESSAGE_ID` of every message that an administrator must not miss: `log::error!(message_id = RELOAD_FAILED; "…")`.
//!
//! Each has an entry in `systemd/peernix.catalog`, which `journalctl -x` shows beside the message. An id, once given, keeps its
//! meaning for ever: people and programs search for it. New ones come from `systemd-id128 new`. Source:
//! [the journal message catalog](https://systemd.io/CATALOG/).
#![forbid(unsafe_code)]

/// The service is ready and serves.
pub const STARTED: &str = "3e0e049c5f2a41528a99133903cb9adc";
/// The service has ended in good order.
pub const STOPPED: &str = "e417614502bd491b9b2bb8efd448db83";
/// A new configuration is in force.
pub const RELOADED: &str = "0cb7c41d06a347d9b2f808426aca9c65";
/// A new configuration was wrong, and the old one stays. Field `PEERNIX_REASON`.
pub const RELOAD_FAILED: &str = "875e219870214e6e9df64d9209255de3";
/// A path of this machine's own store is damaged, and is not shared any more. Field `PEERNIX_PATH`.
pub const PATH_DAMAGED: &str = "0e7168059cc04342bd78ec070e5d789e";
/// A peer sent content that is not what was signed, and is shut out. Fields `PEERNIX_PEER`, `PEERNIX_PATH`.
pub const TRUST_VIOLATION: &str = "da195a70a06f4fa3a0f9125a3c230334";
/// A new signing key took over from the last. Field `PEERNIX_KEY`.
pub const KEY_ROTATED: &str = "ea41629505e440d39b6eb3e1209e1c2f";
/// A signing key is no longer used and was destroyed. Field `PEERNIX_KEY`.
pub const KEY_REVOKED: &str = "e5c2cb9c73aa476093998e85b37a91be";
/// The keys whose signatures let paths enter have changed. Field `PEERNIX_KEY`.
pub const TRUST_CHANGED: &str = "2df69c1578bd4e0c923a95da24240d78";
/// A garbage collection has ended. Field `PEERNIX_BYTES`, what it freed.
pub const GARBAGE_COLLECTED: &str = "d10127e398414189b432c59b76c28aa8";
/// Nothing of this machine's store can be shared. Field `PEERNIX_REASON`.
pub const STORE_UNREADABLE: &str = "e627baaec5654e96bd22b9b7a4964030";
/// Other machines cannot be found by themselves. Field `PEERNIX_REASON`.
pub const DISCOVERY_BLOCKED: &str = "352211d5bf404beab92a789b49a277b3";
/// How far the service has shut itself in. Field `PEERNIX_LEVEL`.
pub const SANDBOX: &str = "2cd33b663dfc4aef851d4608614fb798";
/// No new work is taken, and what is under way may end.
pub const DRAINING: &str = "ec0e124b62f947c3aec416605138ba69";
/// A part of the service shows no sign of life; systemd will start it again. Field `PEERNIX_PARTS`.
pub const BLOCKED: &str = "65e59499eaf94c3fac382e34d7b71ba7";
/// Memory is short, and caches were dropped.
pub const MEMORY_SHORT: &str = "b2f83609ab9441ac82a69648fd18f109";

/// This machine has a new identity on the network, as its node key was another machine's. Fields `PEERNIX_FROM`, `PEERNIX_TO`.
pub const IDENTITY_CHANGED: &str = "b1da77cd694a4752850b94a237bdc5e5";
/// Another machine has this machine's node key. Field `PEERNIX_ADDRESS`.
pub const IDENTITY_CONFLICT: &str = "6f5ce3c858bb4737a168df051607aa7a";

/// All of them with the names of their constants, for those who show or check them.
pub const ALL: [(&str, &str); 18] = [
    ("STARTED", STARTED),
    ("STOPPED", STOPPED),
    ("RELOADED", RELOADED),
    ("RELOAD_FAILED", RELOAD_FAILED),
    ("PATH_DAMAGED", PATH_DAMAGED),
    ("TRUST_VIOLATION", TRUST_VIOLATION),
    ("KEY_ROTATED", KEY_ROTATED),
    ("KEY_REVOKED", KEY_REVOKED),
    ("TRUST_CHANGED", TRUST_CHANGED),
    ("GARBAGE_COLLECTED", GARBAGE_COLLECTED),
    ("STORE_UNREADABLE", STORE_UNREADABLE),
    ("DISCOVERY_BLOCKED", DISCOVERY_BLOCKED),
    ("SANDBOX", SANDBOX),
    ("DRAINING", DRAINING),
    ("BLOCKED", BLOCKED),
    ("MEMORY_SHORT", MEMORY_SHORT),
    ("IDENTITY_CHANGED", IDENTITY_CHANGED),
    ("IDENTITY_CONFLICT", IDENTITY_CONFLICT),
];

#[cfg(test)]
#[allow(clippy::print_stderr, reason = "a test that is skipped says so")]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::Path;
    use std::process::Command;

    const CATALOG: &str = include_str!("../../systemd/peernix.catalog");

    /// The entries of the catalog: the id, and the lines until the next.
    fn entries() -> BTreeMap<&'static str, &'static str> {
        CATALOG.split("\n-- ").skip(1).map(|entry| entry.split_once('\n').unwrap()).collect()
    }

    #[test]
    fn all_constants_are_listed_and_differ() {
        let own = include_str!("message_ids.rs");
        let constants = own.lines().filter(|line| line.starts_with("pub const ") && line.contains(": &str")).count();
        assert_eq!(constants, ALL.len());
        let ids: BTreeSet<&str> = ALL.iter().map(|(_, id)| *id).collect();
        assert_eq!(ids.len(), ALL.len());
        assert!(ids.iter().all(|id| id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))));
    }

    #[test]
    fn the_catalog_has_an_entry_for_each() {
        let entries = entries();
        let listed: BTreeSet<&str> = entries.keys().copied().collect();
        assert_eq!(listed, ALL.iter().map(|(_, id)| *id).collect());
        for (id, entry) in entries {
            let (head, text) = entry.split_once("\n\n").unwrap_or_else(|| panic!("{id} has no text"));
            let headers: Vec<&str> =
                head.lines().filter_map(|line| line.split_once(": ")).map(|(key, _)| key).collect();
            assert_eq!(headers, ["Subject", "Defined-By", "Documentation"], "{id}");
            assert!(text.trim().len() > 60, "{id} should say what happened and what to do");
            for field in text.split('@').skip(1).step_by(2) {
                assert!(field.starts_with("PEERNIX_"), "{id}: @{field}@ is no field of ours");
            }
        }
    }

    #[test]
    fn the_operations_manual_lists_them() {
        let manual = include_str!("../../docs/operations.md");
        for (name, id) in ALL {
            assert!(manual.contains(&format!("\n| `{id}` | ")), "{name} is not in docs/operations.md");
        }
    }

    #[test]
    fn journalctl_accepts_the_catalog() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("usr/lib/systemd/catalog");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::create_dir_all(root.path().join("var/lib/systemd/catalog")).unwrap();
        std::fs::write(folder.join("peernix.catalog"), CATALOG).unwrap();
        let journalctl = |action: &str, root: &Path| {
            Command::new("journalctl").arg(action).arg(format!("--root={}", root.display())).output()
        };
        let Ok(updated) = journalctl("--update-catalog", root.path()) else {
            eprintln!("SKIPPED: there is no journalctl here");
            return;
        };
        // A malformed catalog does not make it fail; it only says so.
        assert!(updated.status.success() && updated.stderr.is_empty(), "{updated:?}");
        let listed = journalctl("--list-catalog", root.path()).unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        let ids: BTreeSet<&str> = listed.lines().filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(ids, ALL.iter().map(|(_, id)| *id).collect(), "{listed}");
    }
}
