//! Whether files are open to those who should have them, and to nobody else: the secrets of the service and its sockets.

use super::check::Check;
use crate::cli::output::count;
use crate::cli::systemd::RUNTIME_DIRECTORY;
use crate::control::Finding;
use crate::system::control_sockets::{ADMIN_GROUP, Control};
use nix::unistd::{Gid, Group, User};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

/// The files in the state directory that hold secrets, and the directory whose files all do.
const SECRETS: [&str; 3] = ["node.key", "node.key.old", "signing.key"];
const SECRET_DIRECTORY: &str = "keys";
/// The permission bits that let others read or change a secret.
const OPEN: u32 = 0o077;
/// What brings the sockets of systemd back to what they should be.
const REMAKE_SOCKETS: &str = "`systemd-sysusers && systemd-tmpfiles --create`, then `systemctl stop peernix peernix-varlink.socket \
                              peernix-admin.socket && systemctl start peernix-varlink.socket peernix-admin.socket peernix`";

/// Whether secrets are the service's alone.
pub(super) fn secrets(state: &Path, checks: &mut Vec<Check>) {
    const CHECK: &str = "keys";
    let shown = state.display();
    match state.read_dir() {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            checks.push(Check::skip(CHECK, format!("{shown} is closed to this user, as it should be; root sees more")));
            return;
        }
        Err(error) => {
            checks.push(Check::skip(CHECK, format!("{shown}: {error}; peernixd makes it when it first starts")));
            return;
        }
        Ok(_) => {}
    }
    let below = state.join(SECRET_DIRECTORY).read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
    let secrets = SECRETS.iter().map(|name| state.join(name)).chain(below);
    let mut seen = 0;
    let mut is_wrong = false;
    let owner = std::fs::metadata(state).ok().map(|about| about.uid());
    for secret in secrets {
        let Ok(about) = std::fs::symlink_metadata(&secret) else { continue };
        seen += 1;
        if owner.is_some_and(|owner| owner != about.uid()) {
            is_wrong = true;
            let owner = owner.unwrap_or_default();
            let name = User::from_uid(owner.into()).ok().flatten().map_or_else(|| owner.to_string(), |user| user.name);
            let message =
                format!("{} belongs to the user id {}, and the service may not use it", secret.display(), about.uid());
            checks.push(Check::fail(
                CHECK,
                Finding::FileForeign,
                message,
                format!("`chown --recursive {name}: {shown}`, then start the service"),
            ));
        }
        if about.is_file() && about.permissions().mode() & OPEN != 0 {
            is_wrong = true;
            let secret = secret.display();
            let message = format!("{secret}: others may read it (mode {:o})", about.permissions().mode() & 0o7777);
            let remedy = format!("`chmod 600 {secret}`, and rotate the key if somebody may have read it");
            checks.push(Check::fail(CHECK, Finding::KeyOpen, message, remedy));
        }
    }
    if !is_wrong {
        checks.push(Check::ok(CHECK, format!("{} in {shown}, closed to others", count(seen, "secret"))));
    }
}

/// Whether the sockets are for those they are meant for. Where the runtime directory was missing when systemd made them, they
/// were given to the service's user with it, and members of the group are refused.
pub(super) fn sockets(checks: &mut Vec<Check>) {
    const CHECK: &str = "sockets";
    let admins = Group::from_name(ADMIN_GROUP).ok().flatten().map(|group| group.gid);
    let mut seen = 0;
    let mut wrong = false;
    for control in Control::ALL {
        let path = Path::new(RUNTIME_DIRECTORY).join(control.file());
        // Whether there are any is another check.
        let Ok(about) = std::fs::symlink_metadata(&path) else { continue };
        seen += 1;
        if let Some(problem) = problem(control, about.mode(), Gid::from_raw(about.gid()), admins) {
            wrong = true;
            checks.push(Check::fail(
                CHECK,
                Finding::SocketPermissions,
                format!("{}: {problem}", path.display()),
                REMAKE_SOCKETS,
            ));
        }
    }
    if seen > 0 && !wrong {
        checks.push(Check::ok(
            CHECK,
            format!("{} in {RUNTIME_DIRECTORY}, open to whom they are meant for", count(seen, "socket")),
        ));
    }
}

/// What is wrong with the mode and the group of a socket. Its owner is root or, where systemd did not make it, the service.
fn problem(control: Control, mode: u32, group: Gid, admins: Option<Gid>) -> Option<String> {
    let mode = mode & 0o777;
    match control {
        Control::Public if mode != 0o666 => Some(format!("its mode is {mode:o}, not 666")),
        Control::Public => None,
        Control::Admin if admins.is_none() => Some(format!("there is no group {ADMIN_GROUP}")),
        Control::Admin if admins != Some(group) => Some(format!("its group is {group}, not {ADMIN_GROUP}")),
        Control::Admin if mode != 0o660 => Some(format!("its mode is {mode:o}, not 660")),
        Control::Admin => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn open_secrets_are_found() {
        let state = tempfile::tempdir().unwrap();
        let check = || {
            let mut checks = Vec::new();
            secrets(state.path(), &mut checks);
            checks
        };
        let close = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        let (node, keys) = (state.path().join("node.key"), state.path().join("keys"));
        std::fs::write(&node, "x").unwrap();
        std::fs::create_dir(&keys).unwrap();
        std::fs::write(keys.join("a.secret"), "x").unwrap();
        close(&node, 0o600);
        close(&keys.join("a.secret"), 0o600);
        let checks = check();
        assert!(checks.len() == 1 && checks[0].result == Verdict::Ok, "{checks:?}");
        assert!(checks[0].message.starts_with("2 secrets"), "{checks:?}");
        close(&keys.join("a.secret"), 0o640);
        let checks = check();
        assert!(checks.len() == 1 && checks[0].result == Verdict::Fail, "{checks:?}");
        assert!(checks[0].message.contains("a.secret") && checks[0].message.contains("640"), "{checks:?}");
    }

    #[test]
    fn sockets_for_the_wrong_people_are_found() {
        let (admins, service) = (Gid::from_raw(900), Gid::from_raw(901));
        let of = |control, mode: u32, group| problem(control, 0o140_000 | mode, group, Some(admins));
        assert_eq!(of(Control::Public, 0o666, service), None);
        assert_eq!(of(Control::Admin, 0o660, admins), None);
        assert_eq!(of(Control::Public, 0o600, admins).unwrap(), "its mode is 600, not 666");
        assert_eq!(of(Control::Admin, 0o666, admins).unwrap(), "its mode is 666, not 660");
        assert_eq!(of(Control::Admin, 0o660, service).unwrap(), "its group is 901, not peernix-admin");
        assert!(problem(Control::Admin, 0o660, service, None).unwrap().starts_with("there is no group"));
    }
}
