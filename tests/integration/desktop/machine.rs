//! A machine with a desktop: a system bus with our policy, the session bus of a user, the service and the notifier.

use crate::support::bus::{self, ANYTHING, SYSTEM};
use crate::support::program::{Program, program, started_by};
use crate::support::service::{LONELY, Service};
use nix::sys::signal::Signal;
use peernix::control::dbus::{Bus, Client};
use std::fs;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// The two buses, and a folder for everything. They end with this.
pub(super) struct Machine {
    folder: TempDir,
    _system: Program,
    session: Option<Program>,
}

impl Machine {
    /// Starts the buses, or says why not.
    pub(super) fn start() -> Option<Self> {
        if !bus::is_there() {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let system = bus::start(folder.path(), "system", "system", SYSTEM);
        let session = Some(bus::start(folder.path(), "session", "session", ANYTHING));
        Some(Self { folder, _system: system, session })
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The address of the bus of this name.
    pub(super) fn address(&self, bus: &str) -> String {
        bus::address(self.folder(), bus)
    }

    /// A connection of our own.
    pub(super) async fn connect(&self, bus: &str) -> zbus::Connection {
        zbus::connection::Builder::address(self.address(bus).as_str()).build().await.unwrap()
    }

    /// The service, reached over its bus.
    pub(super) async fn client(&self) -> Client {
        Client::connect(Bus::Address(self.address("system"))).await.unwrap()
    }

    /// The session of another user.
    pub(super) fn another_session(&self, name: &str) -> Program {
        bus::start(self.folder(), "session", name, ANYTHING)
    }

    /// Ends the session.
    pub(super) fn log_out(&mut self) {
        self.session = None;
    }

    /// Starts the service of this machine and waits until it is ready.
    pub(super) fn service(&self) -> Service {
        let service = spawn(self.folder(), "here", Some(&self.address("system")));
        service.wait_ready();
        service
    }

    /// The notifier, with these settings. Not yet started.
    pub(super) fn notifier(&self, settings: &str) -> Command {
        fs::create_dir_all(self.folder().join("config/peernix")).unwrap();
        fs::write(self.folder().join("config/peernix/notifier.toml"), settings).unwrap();
        let mut command = program("peernix-notifier", self.folder());
        command.arg("--verbose").env("XDG_CONFIG_HOME", self.folder().join("config"));
        command.env("DBUS_SYSTEM_BUS_ADDRESS", self.address("system"));
        command.env("DBUS_SESSION_BUS_ADDRESS", self.address("session"));
        command
    }

    /// Starts it, and waits until it listens to the service.
    pub(super) async fn listening(&self, settings: &str) -> Program {
        self.listening_in("session", settings).await
    }

    /// Starts it in the session of this name, and waits until it listens to the service.
    pub(super) async fn listening_in(&self, session: &str, settings: &str) -> Program {
        let mut command = self.notifier(settings);
        command.env("DBUS_SESSION_BUS_ADDRESS", self.address(session));
        let notifier = Program::start(command, &self.folder().join(format!("notifier-{session}.log")));
        notifier.says("listening to peernixd", 1).await;
        notifier
    }
}

/// Starts a service on a host of this name, with a home of its own in `folder`, and does not wait for it.
pub(super) fn spawn(folder: &Path, name: &str, bus: Option<&str>) -> Service {
    let home = folder.join(format!("home-{}", name.escape_default().to_string().replace(['/', ' '], "_")));
    Service::spawn(&home, LONELY, |command| {
        if let Some(bus) = bus {
            command.env("DBUS_SYSTEM_BUS_ADDRESS", bus);
        }
        // A name of its own, which others are told.
        let mut unshare = Command::new("unshare");
        unshare.args(["--uts", "sh", "-ec", "printf %s \"$0\" >/proc/sys/kernel/hostname; exec \"$@\"", name]);
        *command = started_by(unshare, command);
    })
}

/// Makes a service fail to read its configuration again, with this word in what it says of that.
pub(super) fn fail_to_reload(service: &Service, word: &str) {
    service.configure(&format!("{word} = true\n"));
    service.signal(Signal::SIGHUP);
}
