//! The notifier between a real service on a real bus and the desktop of a user.

mod machine;
mod screen;
mod server;

use crate::support::program::Program;
use crate::support::{LIMIT, skipped};
use machine::{Machine, fail_to_reload, spawn};
use nix::sys::signal::Signal;
use peernix::control::Control as _;
use server::Server;
use std::collections::HashMap;
use std::fs;
use zbus::wire::Variant;

/// What most servers can do.
const CAPABILITIES: &[&str] = &["body", "body-markup"];

/// A machine of root's: hosts have names of their own.
fn machine() -> Option<Machine> {
    if !nix::unistd::geteuid().is_root() {
        skipped("not root, so that no host can have a name of its own");
        return None;
    }
    Machine::start()
}

#[tokio::test]
async fn only_the_service_is_believed() {
    let Some(machine) = machine() else { return };
    let mut server = Server::start(&machine.address("session"), CAPABILITIES, 0).await;
    let service = machine.service();
    let _notifier = machine.listening("").await;

    // Anybody may send anybody a signal on the system bus, with any path and interface.
    let liar = machine.connect("system").await;
    let text = |text: &'static str| Variant::from(text);
    let number = || Variant::from(1_u64);
    let lie = HashMap::from([
        ("Kind", text("trust-violation")),
        ("Name", text("liar")),
        ("Cursor", number()),
        ("Timestamp", number()),
    ]);
    let driver = Some("org.freedesktop.DBus");
    let names = liar.call_method(driver, "/org/freedesktop/DBus", driver, "ListNames", &()).await.unwrap();
    let names: Vec<String> = names.body().deserialize().unwrap();
    assert!(names.len() > 3, "{names:?}");
    for name in names.iter().filter(|name| name.starts_with(':')).map(|name| Some(name.as_str())).chain([None]) {
        let (path, interface) = ("/org/peernix/Peernix1", "org.peernix.Peernix1.Manager");
        liar.emit_signal(name, path, interface, "Event", &(&lie,)).await.unwrap();
        let gone = ("org.peernix.Peernix1", ":1.0", "");
        let (path, interface) = ("/org/freedesktop/DBus", "org.freedesktop.DBus");
        liar.emit_signal(name, path, interface, "NameOwnerChanged", &gone).await.unwrap();
    }
    // The bus has handed all of that over before it answers.
    liar.call_method(driver, "/org/freedesktop/DBus", driver, "GetId", &()).await.unwrap();

    fail_to_reload(&service, "nonsense");
    let notice = server.next().await;
    assert_eq!(notice.summary, "Peernix keeps its old configuration");
    assert!(notice.body.contains("nonsense"), "{}", notice.body);
    assert_eq!((notice.replaces, notice.timeout, server.is_silent()), (0, -1, true));
    assert_eq!(notice.hints["urgency"], Variant::from(1_u8).try_into().unwrap());
    assert_eq!(notice.hints["desktop-entry"], text("org.peernix.Notifier").try_into().unwrap());
}

#[tokio::test]
async fn after_a_restart_of_the_service_it_is_quiet_and_listens() {
    let Some(machine) = machine() else { return };
    let mut server = Server::start(&machine.address("session"), CAPABILITIES, 0).await;
    // Nobody is there at first.
    let notifier = Program::start(machine.notifier("quiet_start = \"1h\""), &machine.folder().join("notifier.log"));
    let mut service = machine.service();
    notifier.says("listening to peernixd", 1).await;
    service.program.signal(Signal::SIGTERM);
    assert!(service.program.end().await.success());
    notifier.says("peernixd is gone", 1).await;
    let service = machine.service();
    notifier.says("listening to peernixd", 2).await;

    let peer = spawn(machine.folder(), "tower", None);
    peer.wait_ready();
    let client = machine.client().await;
    client.add_peer(&peer.address("share").unwrap().to_string()).await.unwrap();
    online(&machine, 1).await;
    fail_to_reload(&service, "nonsense");
    assert_eq!(server.next().await.summary, "Peernix keeps its old configuration");
    client.rotate_key(None).await.unwrap();
    let notice = server.next().await;
    assert_eq!(notice.summary, "Peernix signs with a new key");
    assert!(notice.body.contains("here-"), "{}", notice.body);
    assert!(server.is_silent());
}

/// Waits until so many peers are online.
async fn online(machine: &Machine, count: usize) {
    let client = machine.client().await;
    let all = async {
        loop {
            let peers = client.peers(peernix::control::PeerFilter::default()).await.unwrap();
            if peers.iter().filter(|peer| peer.state == "online").count() >= count {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await; // poll
        }
    };
    tokio::time::timeout(LIMIT, all).await.expect("peers that come online");
}

#[tokio::test]
async fn servers_come_and_go_and_differ() {
    let Some(machine) = machine() else { return };
    let service = machine.service();
    let notifier = machine.listening("").await;
    fail_to_reload(&service, "unseen");
    notifier.says("a notice cannot be shown", 1).await;

    let session = machine.address("session");
    let mut server = Server::start(&session, CAPABILITIES, 6).await;
    fail_to_reload(&service, "first");
    assert_eq!(server.next().await.replaces, 0);
    fail_to_reload(&service, "second");
    assert_eq!(server.next().await.replaces, 7, "its own notice makes room");
    // Another program cannot say that it was closed.
    let other = machine.connect("session").await;
    let nobody = None::<zbus::names::BusName<'_>>;
    let path = "/org/freedesktop/Notifications";
    let interface = "org.freedesktop.Notifications";
    other.emit_signal(nobody, path, interface, "NotificationClosed", &(7_u32, 2_u32)).await.unwrap();
    server.close(5).await;
    fail_to_reload(&service, "third");
    assert_eq!(server.next().await.replaces, 7);
    server.close(7).await;
    fail_to_reload(&service, "fourth");
    assert_eq!(server.next().await.replaces, 0, "what the user closed stays closed");
    server.stop().await;

    // The numbers of one server mean something else to the next, and this one has no bodies.
    let mut server = Server::start(&session, &[], 7).await;
    fail_to_reload(&service, "fifth");
    let notice = server.next().await;
    assert_eq!((notice.replaces, notice.body.as_str()), (0, ""));
    assert!(notice.summary.starts_with("Peernix keeps its old configuration: "), "{}", notice.summary);
    assert!(notice.summary.contains("fifth"), "{}", notice.summary);
}

#[tokio::test]
async fn it_ends_as_it_should() {
    let Some(mut machine) = machine() else { return };
    let log = machine.folder().join("other.log");
    let mut wrong = Program::start(machine.notifier("peer = false"), &log);
    assert_eq!(wrong.end().await.code(), Some(78));
    assert!(wrong.log().contains("notifier.toml") && wrong.log().contains("unknown field `peer`"), "{}", wrong.log());

    let _service = machine.service();
    let mut stopped = machine.listening("").await;
    stopped.signal(Signal::SIGTERM);
    assert!(stopped.end().await.success());

    fs::remove_file(machine.folder().join("notifier-session.log")).unwrap();
    let mut listening = machine.listening("").await;
    machine.log_out();
    assert!(listening.end().await.success(), "{}", listening.log());

    let mut without = Program::start(machine.notifier(""), &log);
    assert_eq!(without.end().await.code(), Some(1));
    assert!(without.log().contains("no session bus"), "{}", without.log());
}
