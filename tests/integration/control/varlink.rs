//! The real service over its real sockets, as Varlink's own tools and other users meet it.

use crate::support::service::{LONELY, Service};
use crate::support::{LIMIT, is_root};
use peernix::control::varlink::{ADMIN_SOCKET, Client, DESCRIPTIONS, READ_ONLY_SOCKET};
use peernix::control::{Control, ErrorKind, EventFilter, EventItem, EventKind, PeerFilter};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use tokio::time::timeout;

/// Somebody without any rights.
const NOBODY: u32 = 65534;

/// Says a call as any program could, and reads the first answer.
fn ask(socket: &Path, call: &Value) -> Value {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(format!("{call}\0").as_bytes()).unwrap();
    let mut answer = Vec::new();
    let mut byte = [0];
    while stream.read_exact(&mut byte).is_ok() && byte != [0] {
        answer.extend(byte);
    }
    serde_json::from_slice(&answer).unwrap()
}

#[test]
fn it_says_who_it_is_and_what_it_can_be_asked() {
    let daemon = Service::start(LONELY, |_| {});
    let socket = daemon.runtime().join(READ_ONLY_SOCKET);
    let info = ask(&socket, &json!({ "method": "org.varlink.service.GetInfo" }));
    let names: Vec<&str> = DESCRIPTIONS.iter().map(|(name, _)| *name).collect();
    assert_eq!(info["parameters"]["interfaces"], json!(names));
    assert_eq!(info["parameters"]["version"], env!("CARGO_PKG_VERSION"));
    for name in names {
        let call =
            json!({ "method": "org.varlink.service.GetInterfaceDescription", "parameters": { "interface": name } });
        let golden = std::fs::read_to_string(format!("{}/varlink/{name}.varlink", env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert_eq!(ask(&socket, &call)["parameters"]["description"], golden);
    }
    let status = ask(&socket, &json!({ "method": "org.peernix.Manager.Describe" }));
    assert_eq!(status["parameters"]["context"]["storeDir"], "/nix/store");
    assert_eq!(status["parameters"]["runtime"]["nodeId"].as_str().unwrap().len(), 52);
}

#[tokio::test]
async fn our_client_asks_changes_and_hears_of_it() {
    let daemon = Service::start(LONELY, |_| {});
    let client = Client::connect(&daemon.runtime()).await.unwrap();
    let mut events = client.events(EventFilter { kinds: vec![EventKind::DrainChanged], after: None }).await.unwrap();
    assert!(matches!(events.next().await, Some(Ok(EventItem::Ready { .. }))));
    assert!(client.drain(None).await.unwrap() && !client.drain(None).await.unwrap());
    let event = timeout(LIMIT, events.next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(event, EventItem::Event(event) if event.kind == EventKind::DrainChanged));
    assert_eq!(client.status().await.unwrap().state.as_str(), "draining");
    assert!(client.undrain().await.unwrap());
    assert!(client.set_offline(true).await.unwrap() && client.status().await.unwrap().offline);
    assert!(!client.set_offline(true).await.unwrap() && client.set_offline(false).await.unwrap());
    assert_eq!(client.peers(PeerFilter::default()).await.unwrap(), []);
    assert_eq!(client.peer("nobody").await.unwrap_err().kind, ErrorKind::NoSuchPeer);
    assert_eq!(client.job(7).await.unwrap_err().kind, ErrorKind::NoSuchJob);
    assert_eq!(client.query_path("nonsense").await.unwrap_err().kind, ErrorKind::InvalidStorePath);

    daemon.configure("nonsense = true\n");
    let error = client.reload().await.unwrap_err();
    assert!(error.kind == ErrorKind::ConfigInvalid && error.message.contains("nonsense"), "{error}");
    daemon.configure("");
    assert!(client.reload().await.unwrap().success);
}

#[tokio::test]
async fn who_listens_hears_the_end() {
    let mut daemon = Service::start(LONELY, |_| {});
    let client = Client::connect(&daemon.runtime()).await.unwrap();
    let mut events = client.events(EventFilter::default()).await.unwrap();
    events.next().await.unwrap().unwrap();
    assert!(daemon.stop().success(), "{}", daemon.log());
    let last = async { while let Some(Ok(_)) = events.next().await {} };
    timeout(LIMIT, last).await.expect("the subscription ends with the service");
    assert_eq!(Client::connect(&daemon.runtime()).await.map(drop).unwrap_err().kind, ErrorKind::NotRunning);
}

#[tokio::test]
async fn another_user_may_ask_and_change_nothing() {
    // The kernel looks at the user of a process: this test is a process for itself.
    if let Some(runtime) = std::env::var_os("PEERNIX_TEST_RUNTIME") {
        let runtime = Path::new(&runtime);
        let client = Client::connect(runtime).await.unwrap();
        client.status().await.unwrap();
        assert_eq!(client.drain(None).await.unwrap_err().kind, ErrorKind::AccessDenied);
        let error = Client::connect(&runtime.join(ADMIN_SOCKET)).await.map(drop).unwrap_err();
        assert!(error.kind == ErrorKind::AccessDenied && error.message.contains("peernix-admin"), "{error}");
        return;
    }
    if !is_root() {
        return;
    }
    let daemon = Service::start(LONELY, |_| {});
    // The other user may not look into the build directory.
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("program");
    // By another process: a program that this one has open for writing cannot be started while a child of another test,
    // between its fork and its exec, holds it as well.
    let copied = Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&program).status();
    assert!(copied.unwrap().success());
    let status = Command::new(program)
        .args(["--exact", "control::varlink::another_user_may_ask_and_change_nothing"])
        .env("PEERNIX_TEST_RUNTIME", daemon.runtime())
        .current_dir("/")
        .uid(NOBODY)
        .gid(NOBODY)
        .stdout(Stdio::null())
        .status();
    assert!(status.unwrap().success());
    let status = Client::connect(&daemon.runtime()).await.unwrap().status().await.unwrap();
    assert_ne!(status.state.as_str(), "draining");
}

#[test]
fn varlinkctl_understands_it() {
    let varlinkctl = |arguments: &[&str]| Command::new("varlinkctl").args(arguments).stdin(Stdio::null()).output();
    if varlinkctl(&["--version"]).is_err() {
        eprintln!("SKIPPED: there is no varlinkctl; it comes with systemd 255");
        return;
    }
    let daemon = Service::start(LONELY, |_| {});
    let socket = daemon.runtime().join(READ_ONLY_SOCKET);
    let socket = socket.to_str().unwrap();
    let said = |arguments: &[&str]| {
        let output = varlinkctl(arguments).unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(said(&["info", socket]).contains("peernixd"));
    for (name, _) in DESCRIPTIONS {
        assert!(said(&["introspect", socket, name]).contains(&format!("interface {name}")));
        said(&["validate-idl", &format!("{}/varlink/{name}.varlink", env!("CARGO_MANIFEST_DIR"))]);
    }
    let status: Value =
        serde_json::from_str(&said(&["call", "-j", socket, "org.peernix.Manager.Describe", "{}"])).unwrap();
    assert_eq!(status["context"]["storeDir"], "/nix/store");
    said(&["call", "--more", "-j", socket, "org.peernix.Peers.List", "{}"]);
    let refused = varlinkctl(&["call", socket, "org.peernix.Manager.Drain", "{}"]).unwrap();
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("org.varlink.service.PermissionDenied"));
}
