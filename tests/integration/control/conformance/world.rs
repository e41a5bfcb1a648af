//! A machine with everything: a real `peernixd` on a bus of its own, with a store and its Nix daemon, and two peers.

use crate::support::LIMIT;
use crate::support::bus::{ANYTHING, address, start};
use crate::support::program::Program;
use crate::support::service::Service;
use peernix::control::{Control, dbus, varlink};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;
use tempfile::TempDir;

/// The key that signs what the peer offers.
pub(super) const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/keys/test-1.secret");

/// The machine, its peers and its bus.
pub(super) struct World {
    pub(super) here: Machine,
    pub(super) there: Machine,
    pub(super) other: Machine,
    bus: String,
    _nix_daemon: Program,
    _bus: Program,
    _folder: TempDir,
}

impl World {
    /// Everything runs and is ready; nobody knows anybody.
    pub(super) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (running, bus) = bus(folder.path());
        let key: peernix::nix::SecretKey = fs::read_to_string(KEY).unwrap().parse().unwrap();
        let key = key.public();
        let shared = format!("share.public_keys = [\"{key}\"]\n");
        let there = Machine::start("", &format!("{shared}share.upload_limit = 2000000\n"), None);
        let other = Machine::start("", "", None);
        let (one, two) = (there.id().await, other.id().await);
        let config = format!(
            "{shared}share.policy = \"signed+own\"\ntrust.public_keys = [\"{key}\"]\nkeys.name = \"conform-1\"\n\
             fleet = {{ mode = \"static\", nodes = [\"{one}\", \"{two}\"] }}\n"
        );
        let here = Machine::start("", &config, Some(&bus));
        here.configure_nix(&format!(
            "substituters = http://{}\ntrusted-public-keys = {key}\nnarinfo-cache-negative-ttl = 0\n",
            here.address("gateway")
        ));
        let nix_daemon = here.nix_daemon();
        Self { here, there, other, bus, _nix_daemon: nix_daemon, _bus: running, _folder: folder }
    }

    /// The ways in, by their names.
    pub(super) async fn ways(&self) -> Vec<(&'static str, Arc<dyn Control>)> {
        let mut ways: Vec<(&'static str, Arc<dyn Control>)> = vec![("Varlink", self.here.varlink().await)];
        if nix::unistd::geteuid().is_root() {
            let client = dbus::Client::connect(dbus::Bus::Address(self.bus.clone())).await.unwrap();
            ways.push(("D-Bus", Arc::new(client)));
        } else {
            eprintln!("SKIPPED over D-Bus: without polkit only root may change something there");
        }
        ways
    }
}

/// A bus on which everybody may do everything, and its address.
pub(super) fn bus(folder: &Path) -> (Program, String) {
    (start(folder, "system", "bus", ANYTHING), address(folder, "bus"))
}

/// A `peernixd` with a store of its own.
pub(super) struct Machine {
    service: Service,
    home: Home,
    config: String,
}

/// Where it lives, with its store.
pub(super) struct Home(TempDir);

impl std::ops::Deref for Machine {
    type Target = Home;

    fn deref(&self) -> &Home {
        &self.home
    }
}

impl Machine {
    /// Starts it, with `bus` or without any, and waits until it is ready.
    pub(super) fn start(sections: &str, dotted: &str, bus: Option<&str>) -> Self {
        let home = tempfile::Builder::new().prefix("peernix-").tempdir().unwrap();
        let directory = home.path();
        for sub in ["nix", "root", "credentials"] {
            fs::create_dir(directory.join(sub)).unwrap();
        }
        let config = format!(
            "gateway.listen = \"127.0.0.1:0\"\ngateway.upstreams = []\nshare.listen = \"127.0.0.1:0\"\nstore.root = \"{}\"\ndiscovery.mdns = false\n{dotted}{sections}",
            directory.join("root").display()
        );
        fs::copy(KEY, directory.join("credentials/signing-key")).unwrap();
        fs::set_permissions(directory.join("credentials/signing-key"), fs::Permissions::from_mode(0o600)).unwrap();
        let home = Home(home);
        home.configure_nix("substituters =\n");
        // Before the service locks itself in: what is not there then stays out of its reach.
        home.nix("nix-store", &["--init"]);
        let service = Service::spawn(home.0.path(), &config, |command| {
            command.env("CREDENTIALS_DIRECTORY", home.0.path().join("credentials"));
            if let Some(bus) = bus {
                command.env("DBUS_SYSTEM_BUS_ADDRESS", bus);
            }
        });
        service.wait_ready();
        Self { service, home, config }
    }

    /// Writes its configuration anew, with something before.
    pub(super) fn configure(&self, before: &str) {
        fs::write(self.service.config(), format!("{before}{}", self.config)).unwrap();
    }

    pub(super) fn config_file(&self) -> PathBuf {
        self.service.config()
    }

    pub(super) async fn varlink(&self) -> Arc<dyn Control> {
        Arc::new(varlink::Client::connect(&self.service.runtime()).await.unwrap())
    }

    /// Its identity.
    pub(super) async fn id(&self) -> String {
        self.varlink().await.status().await.unwrap().node_id
    }

    /// Where one of its faces listens.
    pub(super) fn address(&self, face: &str) -> String {
        self.service.address(face).unwrap().to_string()
    }

    pub(super) fn log(&self) -> String {
        self.service.log()
    }
}

impl Home {
    fn configure_nix(&self, more: &str) {
        let conf = format!("experimental-features = nix-command\nsandbox = false\nbuild-users-group =\n{more}");
        fs::write(self.0.path().join("nix/nix.conf"), conf).unwrap();
    }

    fn command(&self, program: &str) -> Command {
        let (home, root) = (self.0.path(), self.0.path().join("root"));
        let mut command = Command::new(program);
        command.env("NIX_CONF_DIR", home.join("nix")).env("HOME", home).env_remove("NIX_PATH");
        command.env("NIX_REMOTE", format!("local?root={}", root.display()));
        command.env("NIX_DAEMON_SOCKET_PATH", root.join("nix/var/nix/daemon-socket/socket"));
        command
    }

    /// Runs one of Nix's programs on its store.
    pub(super) fn nix(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.command(program).args(arguments).output();
        let output = output.expect("the real Nix (Debian: apt-get install nix-bin)");
        assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    fn nix_daemon(&self) -> Program {
        let socket = self.0.path().join("root/nix/var/nix/daemon-socket/socket");
        fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let daemon = Program::start(self.command("nix-daemon"), &self.0.path().join("nix-daemon.log"));
        let begun = Instant::now();
        while UnixStream::connect(&socket).is_err() {
            assert!(begun.elapsed() < LIMIT, "nix-daemon does not listen");
            std::thread::yield_now();
        }
        daemon
    }

    /// Adds a file with this name and size to its store; gives the full path.
    pub(super) fn add(&self, name: &str, size: usize) -> String {
        let file = self.0.path().join(name);
        // Its own name makes it another content than that of any other.
        let content: Vec<u8> = name.bytes().cycle().take(size).collect();
        fs::write(&file, content).unwrap();
        self.nix("nix-store", &["--add", file.to_str().unwrap()])
    }

    /// Signs a path of its store with [`KEY`].
    pub(super) fn sign(&self, path: &str) {
        self.nix("nix", &["store", "sign", "-k", KEY, path]);
    }

    /// Makes a path of its store a root.
    pub(super) fn root(&self, path: &str) {
        let link = self.0.path().join("root/nix/var/nix/gcroots").join(path.rsplit('/').next().unwrap());
        std::os::unix::fs::symlink(path, link).unwrap();
    }

    /// Whether a path is in its store.
    pub(super) fn has(&self, path: &str) -> bool {
        self.0.path().join("root").join(path.trim_start_matches('/')).exists()
    }
}
