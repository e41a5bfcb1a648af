//! Ten peers, real notification servers, and a picture of what a person sees.
#![allow(clippy::print_stdout, reason = "what was measured is to be seen")]

use super::machine::{Machine, fail_to_reload, spawn};
use super::{machine, online};
use crate::support::program::Program;
use crate::support::service::Service;
use crate::support::{LIMIT, skipped, until, until_or};
use futures_core::Stream as _;
use peernix::control::Control as _;
use std::collections::HashMap;
use std::fs;
use std::future::poll_fn;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Command, Stdio};
use zbus::MessageStream;
use zbus::fdo::{DBusProxy, MonitoringProxy};
use zbus::wire::OwnedVariant;

/// Where Debian has it.
const NOTIFICATION_DAEMON: &str = "/usr/lib/notification-daemon/notification-daemon";
/// The peers. A name is what another machine says it is.
const NAMES: [&str; 10] =
    ["attic", "cellar", "den", "garage", "hall", "kitchen", "library", "<b>loud</b>&co", "study", "tower"];

/// A screen that nobody looks at, and its session.
struct Screen {
    display: String,
    _server: Program,
}

impl Screen {
    fn start() -> Self {
        let mut command = Command::new("Xvfb");
        command.args(["-displayfd", "1", "-screen", "0", "600x260x24", "-nolisten", "tcp"]);
        let mut server = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        // It says the number of its display once it listens.
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { display: format!(":{}", line.trim()), _server: Program::of(server) }
    }

    fn command(&self, program: &str, session: &str) -> Command {
        let mut command = Command::new(program);
        command.env("DISPLAY", &self.display).env("DBUS_SESSION_BUS_ADDRESS", session).env_remove("WAYLAND_DISPLAY");
        command
    }

    /// What is on it.
    fn picture(&self, file: &Path) -> Vec<u8> {
        let status = self.command("scrot", "").arg("--overwrite").arg(file).stdin(Stdio::null()).status().unwrap();
        assert!(status.success());
        fs::read(file).unwrap()
    }
}

/// A user who looks at a screen of their own.
struct User {
    screen: Screen,
    session: String,
    /// Hears all that is said to the notification server.
    monitor: MessageStream,
    name: &'static str,
    pictures: PathBuf,
    empty: Vec<u8>,
    _programs: Vec<Program>,
}

impl User {
    async fn log_in(machine: &Machine, name: &'static str, mut programs: Vec<Program>, server: &[&str]) -> Self {
        let screen = Screen::start();
        let session = machine.address(name);
        let mut command = screen.command(server[0], &session);
        command.args(&server[1..]).env("HOME", machine.folder());
        programs.push(Program::start(command, &machine.folder().join(format!("{name}-server.log"))));
        let connection = machine.connect(name).await;
        let bus = DBusProxy::new(&connection).await.unwrap();
        let there = async || bus.name_has_owner("org.freedesktop.Notifications".try_into().unwrap()).await.unwrap();
        until("a notification server", there).await;
        let monitor = machine.connect(name).await;
        let rule = "type='method_call',interface='org.freedesktop.Notifications',member='Notify'".try_into().unwrap();
        MonitoringProxy::new(&monitor).await.unwrap().become_monitor(&[rule], 0).await.unwrap();
        let pictures = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("lab");
        fs::create_dir_all(&pictures).unwrap();
        let empty = screen.picture(&pictures.join(format!("desktop-{name}-empty.png")));
        let monitor = MessageStream::from(monitor);
        Self { screen, session, monitor, name, pictures, empty, _programs: programs }
    }

    /// The next notice that was to be shown: number to replace, summary and body.
    async fn notice(&mut self) -> (u32, String, String) {
        loop {
            let next = poll_fn(|context| Pin::new(&mut self.monitor).poll_next(context));
            let message = tokio::time::timeout(LIMIT, next).await.expect("a notice").unwrap().unwrap();
            if message.header().member().map(zbus::names::MemberName::as_str) == Some("Notify") {
                type Notify = (String, u32, String, String, String, Vec<String>, HashMap<String, OwnedVariant>, i32);
                let (_, replaces, _, summary, body, ..): Notify = message.body().deserialize().unwrap();
                return (replaces, summary, body);
            }
        }
    }

    /// Waits until there is something on the screen other than before that does not change any more, and keeps a picture.
    async fn look(&self, before: &[u8], name: &str) -> Vec<u8> {
        let begun = std::time::Instant::now();
        let file = self.pictures.join(format!("desktop-{}-{name}.png", self.name));
        let mut last = Vec::new();
        let still = async || {
            let now = self.screen.picture(&file);
            std::mem::replace(&mut last, now) == last && last != self.empty && last != before
        };
        until_or("a notice on the screen", still, || file.display().to_string()).await;
        println!("{} after {:?}", file.display(), begun.elapsed());
        last
    }
}

#[tokio::test]
async fn ten_peers_are_one_notice_on_real_screens() {
    for program in ["Xvfb", "dunst", "scrot"] {
        if Command::new(program).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            return skipped(&format!("there is no {program}"));
        }
    }
    if !Path::new(NOTIFICATION_DAEMON).exists() {
        return skipped("there is no notification-daemon");
    }
    let Some(machine) = machine() else { return };
    let peers: Vec<Service> = NAMES.iter().map(|name| spawn(machine.folder(), name, None)).collect();
    let service = machine.service();
    let dunstrc = machine.folder().join("dunstrc");
    fs::write(&dunstrc, "[global]\nmarkup = full\nformat = \"<b>%s</b>\\n%b\"\nwidth = 400\nicon_position = off\n")
        .unwrap();
    let dunst = ["dunst", "-conf", dunstrc.to_str().unwrap()];
    let mut dunst = User::log_in(&machine, "session", vec![], &dunst).await;
    let other = machine.another_session("gnome");
    let mut gnome = User::log_in(&machine, "gnome", vec![other], &[NOTIFICATION_DAEMON]).await;
    let _first = machine.listening_in("session", "quiet_start = \"0s\"").await;
    let _second = machine.listening_in("gnome", "quiet_start = \"0s\"").await;

    peers.iter().for_each(Service::wait_ready);
    let client = machine.client().await;
    let begun = std::time::Instant::now();
    for peer in &peers {
        client.add_peer(&peer.address("share").unwrap().to_string()).await.unwrap();
    }
    online(&machine, NAMES.len()).await;
    println!("ten peers are online after {:?}", begun.elapsed());
    let mut pictures = Vec::new();
    for user in [&mut dunst, &mut gnome] {
        let (replaces, summary, body) = user.notice().await;
        assert_eq!((replaces, summary.as_str()), (0, "10 peers online"), "{body}");
        assert!(body.starts_with("&lt;b&gt;loud&lt;/b&gt;&amp;co, attic, ") && body.ends_with(" and 2 more"), "{body}");
        pictures.push(user.look(&[], "peers").await);
    }

    // What dunst itself says that it showed, as `dunstctl history` does.
    let connection = zbus::connection::Builder::address(dunst.session.as_str()).build().await.unwrap();
    let call = async |member: &'static str| {
        let (server, interface) = (Some("org.freedesktop.Notifications"), Some("org.dunstproject.cmd0"));
        connection.call_method(server, "/org/freedesktop/Notifications", interface, member, &()).await.unwrap()
    };
    call("NotificationCloseAll").await;
    let history: Vec<HashMap<String, OwnedVariant>> =
        call("NotificationListHistory").await.body().deserialize().unwrap();
    let summaries: Vec<_> = history.iter().map(|notice| &notice["summary"]).collect();
    assert_eq!(summaries, [&OwnedVariant::try_from(zbus::wire::Variant::from("10 peers online")).unwrap()]);

    // Another matter is another notice. The other server shows one after the other, seconds later.
    fail_to_reload(&service, "nonsense");
    for user in [&mut dunst, &mut gnome] {
        let notice = user.notice().await;
        assert_eq!((notice.0, notice.1.as_str()), (0, "Peernix keeps its old configuration"));
    }
    dunst.look(&pictures[0], "reload").await;
}
