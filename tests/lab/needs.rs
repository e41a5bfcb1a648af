//! What the machine has to offer for the lab, found out by trying.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::real_nix::Generation;

/// The variable that names the program of another cache, to be measured beside ours. It gets one argument, the address and port where it has
/// to listen, and serves `/nix/store`.
pub(crate) const OTHER_CACHE: &str = "PEERNIX_LAB_BESIDE";

/// Something a case cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// `nft`, for loss.
    Nft,
    /// `avahi-daemon`, `avahi-browse` and a bus for them.
    Avahi,
    /// `tinyproxy`.
    Tinyproxy,
    /// `/etc/machine-id`, to put another one over it.
    MachineId,
    /// `nats-server`, of Debian 13.
    Nats,
    /// The Nix of one suite.
    Nix(Generation),
    /// What [`OTHER_CACHE`] names.
    OtherCache,
}

impl Need {
    /// Why it is not there, if it is not.
    pub(crate) fn lacking(self) -> Option<String> {
        match self {
            Self::Nft => lacking_program("nft"),
            Self::Avahi => ["avahi-daemon", "avahi-browse", "dbus-daemon"].into_iter().find_map(lacking_program),
            Self::Tinyproxy => lacking_program("tinyproxy"),
            Self::MachineId => {
                let there = std::path::Path::new("/etc/machine-id").is_file();
                (!there).then(|| "there is no /etc/machine-id: run systemd-machine-id-setup".to_owned())
            }
            Self::Nats => crate::nats::Nats::lacking(),
            Self::Nix(generation) => generation.lacking(),
            Self::OtherCache => std::env::var_os(OTHER_CACHE)
                .is_none()
                .then(|| format!("{OTHER_CACHE} names no program of another cache")),
        }
    }
}

/// Why no case at all can run here, if so. Run outside of the run's namespaces.
pub(crate) fn lacking_basics() -> Option<String> {
    if !::nix::unistd::geteuid().is_root() {
        return Some("not root: hosts are network and mount namespaces".into());
    }
    ["unshare", "nsenter", "ip", "tc", "bridge", "mount", "cp", "sqlite3"]
        .into_iter()
        .find_map(lacking_program)
        .or_else(|| Generation::Machine.lacking())
        .or_else(|| {
            (!std::path::Path::new("/nix").is_dir())
                .then(|| "there is no /nix to mount a host's store on: run scripts/setup".to_owned())
        })
        .or_else(|| {
            let mut trial = Command::new("unshare");
            trial.args(["--pid", "--fork", "--mount", "--net", "--mount-proc", "true"]);
            let done = trial.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
            (!done.is_ok_and(|status| status.success()))
                .then(|| "no network, mount and PID namespaces here (unshare failed)".to_owned())
        })
}

/// Says so when `name` is not in PATH.
pub(crate) fn lacking_program(name: &str) -> Option<String> {
    find_program(name).is_none().then(|| format!("{name} is not installed: run scripts/setup"))
}

fn find_program(name: &str) -> Option<PathBuf> {
    // sbin is not in everybody's PATH, and half of what we need lives there.
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    path.split(':').map(|dir| PathBuf::from(dir).join(name)).find(|file| file.is_file())
}
