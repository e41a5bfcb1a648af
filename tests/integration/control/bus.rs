//! A bus of our own: a real dbus-daemon with the rules of the system bus and our real policy file.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what was measured or skipped is to be seen")]

use parking_lot::Mutex;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use zbus::wire::OwnedVariant;

/// Somebody without any rights.
const NOBODY: &str = "65534";

/// The bus. It ends with this.
pub(super) struct PrivateBus {
    folder: tempfile::TempDir,
    daemon: Child,
}

impl PrivateBus {
    /// Starts a bus, or says loudly why not.
    pub(super) fn start() -> Option<Self> {
        if Command::new("dbus-daemon").arg("--version").output().is_err() {
            eprintln!("SKIPPED: there is no dbus-daemon; scripts/setup installs it");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        Command::new("chmod").arg("755").arg(folder.path()).status().unwrap();
        // What /usr/share/dbus-1/system.conf of dbus 1.14 allows and denies, then ours, then the one who stands in for polkit.
        let config = format!(
            r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Introspectable"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Properties"/>
  </policy>
  <include>{ours}/dbus/org.peernix.Peernix1.conf</include>
  <policy context="default">
    <allow own="org.freedesktop.PolicyKit1"/>
    <allow send_destination="org.freedesktop.PolicyKit1"/>
  </policy>
</busconfig>
"#,
            socket = folder.path().join("bus").display(),
            ours = env!("CARGO_MANIFEST_DIR"),
        );
        std::fs::write(folder.path().join("bus.conf"), config).unwrap();
        let daemon = Self::daemon(&folder);
        Some(Self { folder, daemon })
    }

    fn daemon(folder: &tempfile::TempDir) -> Child {
        let mut daemon = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", folder.path().join("bus.conf").display()))
            .args(["--nofork", "--nopidfile", "--print-address=1"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // It says its address once it listens.
        let mut line = String::new();
        BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("unix:"), "{line}");
        daemon
    }

    /// Ends the bus.
    pub(super) fn stop(&mut self) {
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
        let _ = std::fs::remove_file(self.socket());
    }

    /// Starts it again, at the same address.
    pub(super) fn start_again(&mut self) {
        self.daemon = Self::daemon(&self.folder);
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("bus")
    }

    pub(super) fn address(&self) -> String {
        format!("unix:path={}", self.socket().display())
    }

    /// A connection of our own.
    pub(super) async fn connect(&self) -> zbus::Connection {
        zbus::connection::Builder::address(self.address().as_str()).build().await.unwrap()
    }

    /// The memory of the daemon in KiB.
    pub(super) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.daemon.id())).unwrap();
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

impl Drop for PrivateBus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
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

/// Whether other users can be tried; says loudly if not.
pub(super) fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: only root can try what other users may do");
    }
    root
}

/// Waits until something is so; after ten seconds it will never be.
pub(super) async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let begin = Instant::now();
    while !is().await {
        assert!(begin.elapsed() < Duration::from_secs(10), "{what}: not within ten seconds");
        tokio::time::sleep(Duration::from_millis(20)).await;
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
