//! A machine with a desktop: a system bus with our policy, the session bus of a user, the service and the notifier.

use peernix::control::dbus::{Bus, Client};
use peernix::system::addresses::Addresses;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything here may take.
pub(super) const LIMIT: Duration = Duration::from_secs(20);
/// How often another program is looked at that cannot tell us.
const POLL: Duration = Duration::from_millis(20);

/// A configuration that meets nobody by itself and takes any port.
const LONELY: &str = "[gateway]\nlisten = \"127.0.0.1:0\"\nupstreams = []\n[share]\nlisten = \"127.0.0.1:0\"\n\
                      [discovery]\nmdns = false\n[store]\nroot = \"/nonexistent\"\n";

/// What a session bus allows.
const ANYTHING: &str = "<policy context=\"default\"><allow send_destination=\"*\" eavesdrop=\"true\"/>\
                        <allow eavesdrop=\"true\"/><allow own=\"*\"/></policy>";

/// A program in the background. It ends with this.
pub(super) struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts it with what it says in a file.
    pub(super) fn start(mut command: Command, log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        Self { child: command.spawn().unwrap(), log: log.to_owned() }
    }

    pub(super) fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it has said this so often.
    pub(super) async fn says(&self, what: &str, times: usize) {
        wait(&format!("'{what}' {times} times"), || self.log().matches(what).count() >= times, || self.log()).await;
    }

    /// Waits for its end.
    pub(super) async fn end(&mut self) -> ExitStatus {
        let log = self.log.clone();
        let ended = || self.child.try_wait().unwrap().is_some();
        wait("the end of a program", ended, || fs::read_to_string(log).unwrap_or_default()).await;
        self.child.wait().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for what another program does.
pub(super) async fn wait(what: &str, mut done: impl FnMut() -> bool, more: impl FnOnce() -> String) {
    let begun = Instant::now();
    while !done() {
        if begun.elapsed() > LIMIT {
            panic!("waited {LIMIT:?} in vain for {what}\n{}", more());
        }
        tokio::time::sleep(POLL).await; // poll
    }
}

/// The two buses, and a folder for everything. They end with this.
pub(super) struct Machine {
    folder: TempDir,
    _system: Program,
    session: Option<Program>,
}

impl Machine {
    /// Starts the buses, or says why not.
    pub(super) fn start() -> Option<Self> {
        if Command::new("dbus-daemon").arg("--version").output().is_err() {
            super::skipped("there is no dbus-daemon");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        // What the system.conf of dbus 1.14 allows and denies, then ours.
        let policy = format!(
            "<policy context=\"default\"><allow user=\"*\"/><deny own=\"*\"/><deny send_type=\"method_call\"/>\
             <allow send_type=\"signal\"/><allow send_requested_reply=\"true\" send_type=\"method_return\"/>\
             <allow send_requested_reply=\"true\" send_type=\"error\"/><allow receive_type=\"method_call\"/>\
             <allow receive_type=\"method_return\"/><allow receive_type=\"error\"/><allow receive_type=\"signal\"/>\
             <allow send_destination=\"org.freedesktop.DBus\" send_interface=\"org.freedesktop.DBus\"/></policy>\
             <include>{}/dbus/org.peernix.Peernix1.conf</include>",
            env!("CARGO_MANIFEST_DIR")
        );
        let system = bus(folder.path(), "system", "system", &policy);
        let session = Some(bus(folder.path(), "session", "session", ANYTHING));
        Some(Self { folder, _system: system, session })
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The address of the bus of this name.
    pub(super) fn address(&self, bus: &str) -> String {
        format!("unix:path={}", self.folder().join(bus).display())
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
        bus(self.folder(), "session", name, ANYTHING)
    }

    /// Ends the session.
    pub(super) fn log_out(&mut self) {
        self.session = None;
    }

    /// Starts the service of this machine and waits until it is ready.
    pub(super) fn service(&self) -> Service {
        let service = Service::spawn(self.folder(), "here", Some(&self.address("system")));
        service.wait_ready();
        service
    }

    /// The notifier, with these settings. Not yet started.
    pub(super) fn notifier(&self, settings: &str) -> Command {
        fs::create_dir_all(self.folder().join("config/peernix")).unwrap();
        fs::write(self.folder().join("config/peernix/notifier.toml"), settings).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_peernix-notifier"));
        command.arg("--verbose").env_clear().env("XDG_CONFIG_HOME", self.folder().join("config"));
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

/// Starts a bus; it listens when this returns.
fn bus(folder: &Path, kind: &str, name: &str, policy: &str) -> Program {
    let file = folder.join(format!("{name}.conf"));
    let socket = folder.join(name);
    let config = format!(
        "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\" \
         \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n<busconfig><type>{kind}</type>\
         <listen>unix:path={}</listen><auth>EXTERNAL</auth>{policy}</busconfig>",
        socket.display()
    );
    fs::write(&file, config).unwrap();
    let mut command = Command::new("dbus-daemon");
    command.arg(format!("--config-file={}", file.display())).args(["--nofork", "--nopidfile", "--print-address=1"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("unix:"), "{line}");
    Program { child, log: folder.join(format!("{name}.log")) }
}

/// A real `peernixd`. It ends with this.
pub(super) struct Service {
    home: PathBuf,
    ready: UnixDatagram,
    pub(super) program: Program,
}

impl Service {
    /// Starts it on a host of this name, with a folder of its own, and does not wait for it.
    pub(super) fn spawn(folder: &Path, name: &str, bus: Option<&str>) -> Self {
        let home = folder.join(format!("home-{}", name.escape_default().to_string().replace(['/', ' '], "_")));
        fs::create_dir_all(&home).unwrap();
        let _ = fs::remove_file(home.join("notify"));
        let ready = UnixDatagram::bind(home.join("notify")).unwrap();
        ready.set_read_timeout(Some(LIMIT)).unwrap();
        fs::write(home.join("config.toml"), LONELY).unwrap();
        // A name of its own, which others are told.
        let mut command = Command::new("unshare");
        command.args(["--uts", "sh", "-ec", "printf %s \"$0\" >/proc/sys/kernel/hostname; exec \"$@\"", name]);
        command.arg(env!("CARGO_BIN_EXE_peernixd")).arg("--config").arg(home.join("config.toml"));
        let no_bus = format!("unix:path={}/no-bus", home.display());
        command.env("HOME", &home).env("NOTIFY_SOCKET", home.join("notify"));
        command.env("DBUS_SYSTEM_BUS_ADDRESS", bus.unwrap_or(&no_bus)).env_remove("JOURNAL_STREAM");
        for (variable, name) in
            [("STATE_DIRECTORY", "state"), ("CACHE_DIRECTORY", "cache"), ("RUNTIME_DIRECTORY", "run")]
        {
            command.env(variable, home.join(name));
        }
        let program = Program::start(command, &home.join("log"));
        Self { home, ready, program }
    }

    /// Waits until it is ready.
    pub(super) fn wait_ready(&self) {
        let mut buffer = [0; 4096];
        loop {
            let length = match self.ready.recv(&mut buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => panic!("{error}: {}", self.program.log()),
            };
            if buffer[..length].windows(7).any(|part| part == b"READY=1") {
                return;
            }
        }
    }

    /// Where its share listens.
    pub(super) fn share(&self) -> String {
        Addresses::read(&self.home.join("run")).unwrap().share.unwrap().to_string()
    }

    /// Makes it fail to read its configuration again, with this word in what it says of that.
    pub(super) fn fail_to_reload(&self, word: &str) {
        fs::write(self.home.join("config.toml"), format!("{word} = true\n{LONELY}")).unwrap();
        self.program.signal(nix::sys::signal::Signal::SIGHUP);
    }
}
