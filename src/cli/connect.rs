//! How `peernixctl` reaches the service: over D-Bus, over Varlink, or over ssh on another machine.

use super::systemd;
use crate::control::{Control, ControlError, ErrorKind, Outcome, dbus, varlink};
use crate::system::directories::Directories;
use nix::unistd::{AccessFlags, access};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::process::Command;

/// The name of the service on the system bus.
const BUS_NAME: &str = dbus::BUS_NAME;
/// The Varlink sockets in the runtime directory, the one that may do everything first.
const SOCKETS: [&str; 2] = [varlink::ADMIN_SOCKET, varlink::READ_ONLY_SOCKET];
/// The hidden verb that joins its stdin and stdout with the socket of the service.
pub(super) const BRIDGE: &str = "__bridge";
/// How long a message bus may take to say who is there, or to start the service.
const BUS_TIMEOUT: Duration = Duration::from_secs(30);
/// How often it is looked whether systemd started the service in vain.
const UNIT_LOOK: Duration = Duration::from_millis(500);
/// How much the bridge passes on at once, in bytes.
const BRIDGE_BUFFER: usize = 64 * 1024;

/// On which way to speak with the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(super) enum Transport {
    /// D-Bus, or Varlink when the service is not on the bus
    #[default]
    Auto,
    /// The system bus
    Dbus,
    /// The socket in the runtime directory
    Varlink,
}

/// Whether asking may start the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// As the bus and systemd are set up for it.
    Allowed,
    /// It is only asked if it runs.
    Never,
}

/// Where the service is.
#[derive(Debug, Clone)]
pub(super) struct Route {
    /// On which way.
    pub(super) transport: Transport,
    /// On which machine, as ssh names it.
    pub(super) host: Option<String>,
    /// Whether ssh may ask for a password or whether it is the right machine.
    pub(super) may_ask: bool,
}

impl Route {
    /// Reaches the service.
    ///
    /// # Errors
    /// [`ErrorKind::NotRunning`] if it is nowhere.
    pub(super) async fn connect(&self, start: Start) -> Outcome<Arc<dyn Control>> {
        if let Some(host) = &self.host {
            return over_ssh(host, start, self.may_ask).await;
        }
        match self.transport {
            Transport::Dbus => {
                let bus = Bus::look().await?;
                if !bus.running && bus.activatable && start == Start::Allowed {
                    Bus::start().await?;
                }
                over_dbus().await
            }
            Transport::Varlink => over_varlink(start).await,
            Transport::Auto => match Bus::look().await {
                Ok(bus) if bus.running => over_dbus().await,
                Ok(bus) => match over_varlink(start).await {
                    // Nobody listens; the bus may know how to start it.
                    Err(error) if error.kind == ErrorKind::NotRunning && bus.activatable && start == Start::Allowed => {
                        Bus::start().await?;
                        over_dbus().await
                    }
                    Err(error) if error.kind == ErrorKind::NotRunning => {
                        Err(ControlError::new(error.kind, format!("{error}; nobody owns {BUS_NAME} on the system bus")))
                    }
                    other => other,
                },
                Err(_) => over_varlink(start).await,
            },
        }
    }
}

fn not_running(what: &str) -> ControlError {
    ControlError::new(ErrorKind::NotRunning, format!("peernixd does not run: {what}"))
}

fn bus_error(error: &dyn std::fmt::Display) -> ControlError {
    ControlError::new(ErrorKind::NotRunning, format!("the system bus cannot be asked: {error}"))
}

/// What the system bus knows of the service.
struct Bus {
    running: bool,
    activatable: bool,
}

impl Bus {
    async fn look() -> Outcome<Self> {
        Self::ask(async |bus| {
            let name = zbus::names::BusName::try_from(BUS_NAME)?;
            let running = bus.name_has_owner(name).await?;
            let activatable = bus.list_activatable_names().await?.iter().any(|name| name.as_str() == BUS_NAME);
            Ok(Self { running, activatable })
        })
        .await
    }

    /// Has the bus start the service, as it would for any call. The bus waits 25 s for a service that cannot start; systemd knows
    /// at once that it cannot.
    async fn start() -> Outcome<()> {
        let start = Self::ask(async |bus| {
            let name = zbus::names::WellKnownName::try_from(BUS_NAME)?;
            bus.start_service_by_name(name, 0).await?;
            Ok(())
        });
        let unit = tokio::select! {
            started = start => match started {
                Ok(()) => return Ok(()),
                // dbus-broker knows at once as well, but not why.
                Err(error) => systemd::unit().await.filter(systemd::Unit::cannot_start).ok_or(error)?,
            },
            unit = failed_start() => unit,
        };
        let words = if unit.status_text.is_empty() { String::new() } else { format!(": {}", unit.status_text) };
        Err(not_running(&format!("systemd cannot start it: {}{words}", unit.told())))
    }

    async fn ask<T>(question: impl AsyncFnOnce(zbus::fdo::DBusProxy<'_>) -> zbus::Result<T>) -> Outcome<T> {
        let ask = async {
            let connection = zbus::Connection::system().await?;
            question(zbus::fdo::DBusProxy::new(&connection).await?).await
        };
        match tokio::time::timeout(BUS_TIMEOUT, ask).await {
            // As in a user namespace, where the number that this user gives is not the one that the bus sees.
            Ok(Err(error @ zbus::Error::Handshake(_))) => Err(ControlError::new(
                ErrorKind::AccessDenied,
                format!("the system bus does not let this user in: {error}"),
            )),
            Ok(answer) => answer.map_err(|error| bus_error(&error)),
            Err(_) => Err(bus_error(&"no answer in time")),
        }
    }
}

/// The unit, once systemd has tried to start it in vain; for ever where it has not.
async fn failed_start() -> systemd::Unit {
    loop {
        tokio::time::sleep(UNIT_LOOK).await; // poll
        if let Some(unit) = systemd::unit().await.filter(systemd::Unit::cannot_start) {
            return unit;
        }
    }
}

async fn over_dbus() -> Outcome<Arc<dyn Control>> {
    Ok(Arc::new(dbus::Client::connect(dbus::Bus::System).await?))
}

async fn over_varlink(start: Start) -> Outcome<Arc<dyn Control>> {
    Ok(Arc::new(varlink::Client::connect(&socket(start).await?).await?))
}

/// The socket of a service that runs, or that systemd starts when somebody comes.
async fn socket(start: Start) -> Outcome<PathBuf> {
    let found = sockets();
    let Some(path) = found.iter().find(|path| access(*path, AccessFlags::W_OK).is_ok()) else {
        return Err(match found.first() {
            Some(path) => {
                ControlError::new(ErrorKind::AccessDenied, format!("{}: this user may not connect", path.display()))
            }
            None => {
                let directories: Vec<String> =
                    Directories::runtime_candidates().iter().map(|path| path.display().to_string()).collect();
                not_running(&format!("there is no socket {} in {}", SOCKETS[1], directories.join(" or ")))
            }
        });
    };
    // Behind a socket of systemd's nobody may be, and coming to it would start somebody.
    if start == Start::Never && path.starts_with(systemd::RUNTIME_DIRECTORY) && systemd::is_stopped().await {
        return Err(not_running("systemd has not started it"));
    }
    Ok(path.clone())
}

/// The service of another machine: its `peernixctl` joins ssh with the socket there.
async fn over_ssh(host: &str, start: Start, may_ask: bool) -> Outcome<Arc<dyn Control>> {
    let mut command = Command::new("ssh");
    if !may_ask {
        command.args(["-o", "BatchMode=yes"]);
    }
    command.args(["-xT", "--", host, "peernixctl", BRIDGE]);
    if start == Start::Never {
        command.arg("--never-start");
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let failed = |reason: &dyn std::fmt::Display| ControlError::new(ErrorKind::Failed, format!("ssh {host}: {reason}"));
    // The child ends when its stdin does; tokio takes care of what is left of it.
    let mut child = command.spawn().map_err(|error| failed(&error))?;
    let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(failed(&"no pipes"));
    };
    Ok(Arc::new(varlink::Client::over(tokio::io::join(stdout, stdin))))
}

/// Whether the service has its name on the system bus.
pub(super) async fn on_the_bus() -> Outcome<bool> {
    Ok(Bus::look().await?.running)
}

/// The sockets of the service that there are.
pub(super) fn sockets() -> Vec<PathBuf> {
    let runtime = Directories::runtime_candidates();
    runtime.iter().flat_map(|directory| SOCKETS.map(|name| directory.join(name))).filter(|path| path.exists()).collect()
}

/// Joins stdin and stdout with the socket of the service, until the service or who reads ends it.
pub(super) async fn bridge(start: Start) -> Outcome<()> {
    let path = socket(start).await?;
    let failed = |error: io::Error| bridge_error(&path, &error);
    // Blocking, on threads of their own: stdin may be anything, and nothing else is done here.
    let service = UnixStream::connect(&path).map_err(failed)?;
    let towards = service.try_clone().map_err(failed)?;
    std::thread::spawn(move || {
        // A failure and an end are the same to the service: nothing more comes.
        let _ = pump(io::stdin(), &towards);
        let _ = towards.shutdown(Shutdown::Write);
    });
    match pump(&service, io::stdout()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(failed(error)),
        _ => Ok(()),
    }
}

/// Passes on what there is at once: nothing that was said waits for more.
fn pump(mut from: impl Read, mut to: impl Write) -> io::Result<()> {
    let mut buffer = vec![0; BRIDGE_BUFFER];
    loop {
        let length = from.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..length])?;
        to.flush()?;
    }
}

fn bridge_error(path: &Path, error: &io::Error) -> ControlError {
    let kind = match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => ErrorKind::NotRunning,
        io::ErrorKind::PermissionDenied => ErrorKind::AccessDenied,
        _ => ErrorKind::Failed,
    };
    ControlError::new(kind, format!("{}: {error}", path.display()))
}
