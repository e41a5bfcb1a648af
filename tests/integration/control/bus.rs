//! A bus of our own: a real dbus-daemon with the rules of the system bus and our real policy file.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what was measured or skipped is to be seen")]

use crate::support::bus::{self, SYSTEM};
use crate::support::program::Program;
use parking_lot::Mutex;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use tokio::sync::Semaphore;
use zbus::wire::OwnedVariant;

/// Somebody without any rights.
const NOBODY: &str = "65534";

/// The one who stands in for polkit.
const POLKIT: &str = r#"<policy context="default">
    <allow own="org.freedesktop.PolicyKit1"/>
    <allow send_destination="org.freedesktop.PolicyKit1"/>
</policy>"#;

/// The bus. It ends with this.
pub(super) struct PrivateBus {
    folder: tempfile::TempDir,
    daemon: Program,
}

impl PrivateBus {
    /// Starts a bus, or says loudly why not.
    pub(super) fn start() -> Option<Self> {
        if !bus::is_there() {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let daemon = Self::daemon(folder.path());
        Some(Self { folder, daemon })
    }

    fn daemon(folder: &Path) -> Program {
        bus::start(folder, "system", "bus", &format!("{SYSTEM}{POLKIT}"))
    }

    /// Ends the bus.
    pub(super) fn stop(&mut self) {
        self.daemon.child.kill().unwrap();
        self.daemon.child.wait().unwrap();
        let _ = std::fs::remove_file(self.folder.path().join("bus"));
    }

    /// Starts it again, at the same address.
    pub(super) fn start_again(&mut self) {
        self.daemon = Self::daemon(self.folder.path());
    }

    pub(super) fn address(&self) -> String {
        bus::address(self.folder.path(), "bus")
    }

    /// A connection of our own.
    pub(super) async fn connect(&self) -> zbus::Connection {
        zbus::connection::Builder::address(self.address().as_str()).build().await.unwrap()
    }

    /// The memory of the daemon in KiB.
    pub(super) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.daemon.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// `busctl` as somebody without rights. Not yet started.
    pub(super) fn nobody(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "busctl"]);
        command.arg(format!("--address={}", self.address())).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// What `busctl` says to somebody without rights.
    pub(super) async fn ask(&self, arguments: &[&str]) -> Said {
        let output = tokio::process::Command::from(self.nobody(arguments)).output().await.unwrap();
        Said::from(output)
    }
}

/// What a program said.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) ok: bool,
    pub(super) err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { ok: output.status.success(), err: text(&output.stderr) }
    }
}

/// What the one who stands in for polkit answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Yes,
    No,
    Challenge,
    /// A human thinks about it.
    Never,
}

/// A question that it was asked: the kind and name of the subject, the action, and whether a human may be asked.
pub(super) type Question = (String, String, String, bool);

/// Stands in for polkit, for the real one wants logind and an agent; the booted machines have those.
#[derive(Clone)]
pub(super) struct Polkit {
    pub(super) answer: Arc<Mutex<Answer>>,
    pub(super) questions: Arc<Mutex<Vec<Question>>>,
    pub(super) taken_back: Arc<Mutex<Vec<String>>>,
    asked: Arc<Semaphore>,
}

type Details = std::collections::HashMap<String, OwnedVariant>;

#[zbus::interface(name = "org.freedesktop.PolicyKit1.Authority")]
impl Polkit {
    #[zbus(out_args("result"))]
    async fn check_authorization(
        &self,
        subject: (String, Details),
        action: String,
        _details: std::collections::HashMap<String, String>,
        flags: u32,
        _cancellation: String,
    ) -> ((bool, bool, std::collections::HashMap<String, String>),) {
        let name = subject.1.get("name").and_then(|name| String::try_from(name.clone()).ok()).unwrap_or_default();
        self.questions.lock().push((subject.0, name, action, flags & 1 == 1));
        self.asked.add_permits(1);
        let answer = *self.answer.lock();
        if answer == Answer::Never {
            std::future::pending::<()>().await;
        }
        ((answer == Answer::Yes, answer == Answer::Challenge, std::collections::HashMap::new()),)
    }

    fn cancel_check_authorization(&self, cancellation: String) {
        self.taken_back.lock().push(cancellation);
    }
}

impl Polkit {
    /// Puts it on a bus. It goes away with the connection.
    pub(super) async fn on(bus: &PrivateBus, answer: Answer) -> (Self, zbus::Connection) {
        let polkit = Self {
            answer: Arc::new(Mutex::new(answer)),
            questions: Arc::default(),
            taken_back: Arc::default(),
            asked: Arc::new(Semaphore::new(0)),
        };
        let connection = bus.connect().await;
        connection.object_server().at("/org/freedesktop/PolicyKit1/Authority", polkit.clone()).await.unwrap();
        connection.request_name("org.freedesktop.PolicyKit1").await.unwrap();
        (polkit, connection)
    }

    pub(super) fn set(&self, answer: Answer) {
        *self.answer.lock() = answer;
    }

    /// Waits for the next question.
    pub(super) async fn asked(&self) {
        self.asked.acquire().await.unwrap().forget();
    }

    pub(super) fn questions(&self) -> Vec<Question> {
        std::mem::take(&mut self.questions.lock())
    }
}
