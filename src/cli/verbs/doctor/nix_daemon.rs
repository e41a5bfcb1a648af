//! Whether the Nix daemon lets the service in: by the folder of its socket, and by its settings.

use super::check::Check;
use crate::config::NixConf;
use crate::control::Finding;
use nix::unistd::{Gid, Group, User, geteuid};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;

/// The user of the unit.
const SERVICE_USER: &str = "peernix";
/// What is looked at.
const CHECK: &str = "nix-daemon";
/// Where the socket is, with Nix as it is delivered.
const FOLDER: &str = "/nix/var/nix/daemon-socket";
/// The permission bits that let members of the group, and all others, into a folder.
const GROUP_ENTERS: u32 = 0o010;
const OTHERS_ENTER: u32 = 0o001;
/// What does not work without the daemon.
const LOST: &str = "no pins, no garbage collection, no prefetching, and what is being sent may be collected";

/// Whether it would answer the user of the service (`system`), or the one who asks.
pub(super) fn answers(system: bool, checks: &mut Vec<Check>) {
    let user = if system { User::from_name(SERVICE_USER) } else { User::from_uid(geteuid()) };
    let Some(user) = user.ok().flatten() else { return };
    if let Ok(folder) = std::fs::metadata(FOLDER)
        && let Some(group) = shut_out(&user, &folder)
    {
        let name = &user.name;
        checks.push(Check::fail(
            CHECK,
            Finding::NixDaemonClosed,
            format!("{FOLDER} is for members of the group {group}, and {name} is none: {LOST}"),
            format!("`usermod --append --groups {group} {name}`, then restart peernix.service"),
        ));
        return;
    }
    checks.push(match NixConf::read().shuts_out(&user.name) {
        None => Check::ok(CHECK, format!("it lets the user {} in", user.name)),
        Some(why) => Check::warn(
            CHECK,
            Finding::NixDaemonClosed,
            format!("{why}: {LOST}"),
            format!(
                "add `extra-allowed-users = {}` to nix.conf and restart nix-daemon (NixOS: services.peernix.enable does)",
                user.name
            ),
        ),
    });
}

/// The group whose members alone may enter a folder, if the user is none of them.
fn shut_out(user: &User, folder: &Metadata) -> Option<String> {
    let group = Gid::from_raw(folder.gid());
    let known = Group::from_gid(group).ok().flatten();
    let is_member = user.gid == group || known.as_ref().is_some_and(|known| known.mem.contains(&user.name));
    let enters = folder.mode() & if is_member { GROUP_ENTERS } else { OTHERS_ENTER } != 0;
    let is_owner = user.uid.is_root() || user.uid.as_raw() == folder.uid();
    (!enters && !is_owner).then(|| known.map_or_else(|| group.to_string(), |known| known.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn who_is_no_member_is_shut_out() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |mode| {
            std::fs::set_permissions(folder.path(), Permissions::from_mode(mode)).unwrap();
            std::fs::metadata(folder.path()).unwrap()
        };
        let user = |uid: u32, gid: u32| User {
            uid: uid.into(),
            gid: gid.into(),
            ..User::from_uid(0.into()).unwrap().unwrap()
        };
        let (own, group) = (geteuid().as_raw(), mode(0o750).gid());
        let name = Group::from_gid(group.into()).unwrap().map_or(group.to_string(), |group| group.name);
        let stranger = user(own + 54_321, group + 54_321);
        assert_eq!(shut_out(&User { name: "stranger".into(), ..stranger.clone() }, &mode(0o750)), Some(name));
        assert_eq!(shut_out(&User { name: "stranger".into(), ..stranger }, &mode(0o755)), None);
        assert_eq!(shut_out(&user(own + 54_321, group), &mode(0o750)), None, "by the primary group");
        assert_eq!(shut_out(&user(own, group + 54_321), &mode(0o700)), None, "the owner");
    }
}
