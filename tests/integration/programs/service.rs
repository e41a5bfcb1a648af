//! The service under a manager: sockets, messages, signals.

use crate::support::LIMIT;
use crate::support::client::get;
use crate::support::program::{Program, program, started_by, with_environment_of};
use crate::support::service::{LONELY, Service};
use nix::sys::signal::Signal;
use nix::unistd::{Uid, chown, geteuid};
use peernix::system::addresses::Addresses;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn ready_means_answering_and_stopping_is_orderly() {
    let mut service = Service::start(LONELY, |_| {});
    let gateway = service.address("gateway").unwrap();
    let (status, info) = get(gateway, "/nix-cache-info");
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(info.contains("Priority: 10\n"), "{info}");
    assert_eq!(get(gateway, "/00000000000000000000000000000000.narinfo").0, "HTTP/1.1 404 Not Found");
    assert!(service.address("share").is_some() && service.address("plain").is_none());
    assert!(service.stop().success(), "{}", service.log());
    assert!(TcpStream::connect(gateway).is_err());
}

#[test]
fn sockets_come_from_the_manager_by_name() {
    let (gateway, plain) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let (gateway_address, plain_address) = (gateway.local_addr().unwrap(), plain.local_addr().unwrap());
    // What the configuration says of these faces does not count then; this address would fail.
    let config = LONELY.replacen("127.0.0.1:0", "127.0.0.1:1", 1);
    let mut service = Service::start(&config, |command| {
        // A shell opens no descriptors of its own and keeps its process id: 0 becomes 3, 1 becomes 4.
        let mut shell = Command::new("sh");
        shell.arg("-c").arg("export LISTEN_PID=$$; exec \"$0\" \"$@\" 3<&0 4<&1 </dev/null >/dev/null");
        shell = started_by(shell, command);
        shell.env("LISTEN_FDS", "2").env("LISTEN_FDNAMES", "gateway:plain");
        shell.stdin(OwnedFd::from(gateway)).stdout(OwnedFd::from(plain));
        *command = shell;
    });
    assert_eq!(service.address("gateway"), Some(gateway_address));
    assert_eq!(service.address("plain"), Some(plain_address));
    assert!(get(gateway_address, "/nix-cache-info").1.contains("StoreDir: /nix/store\n"));
    assert!(get(plain_address, "/nix-cache-info").1.contains("StoreDir: /nix/store\n"));
    assert!(service.stop().success());
}

#[test]
fn a_bad_configuration_does_not_survive_a_reload_but_the_service_does() {
    let mut service = Service::start(LONELY, |_| {});
    std::fs::write(service.config(), "[gateway]\nlisten = \"nowhere\"\n").unwrap();
    service.signal(Signal::SIGHUP);
    let message = service.heard("RELOADING=1");
    assert!(message.contains("\nMONOTONIC_USEC="), "in one datagram, or systemd waits for ever: {message}");
    let message = service.heard("READY=1");
    assert!(message.contains("STATUS=Reload failed") && message.contains("config.toml:2"), "{message}");
    assert_eq!(get(service.address("gateway").unwrap(), "/health").0, "HTTP/1.1 200 OK");
    std::fs::write(service.config(), LONELY).unwrap();
    service.signal(Signal::SIGHUP);
    service.heard("RELOADING=1");
    assert!(!service.heard("READY=1").contains("failed"));
    assert!(service.stop().success());
}

#[test]
fn a_configuration_that_is_gone_changes_nothing_and_neither_does_a_nix_conf() {
    let mut service = Service::start(LONELY, |command| {
        let home = std::path::PathBuf::from(command.get_envs().find(|(name, _)| *name == "HOME").unwrap().1.unwrap());
        std::fs::write(home.join("nix.conf"), "trusted-public-keys =\n").unwrap();
        command.env("NIX_CONF_DIR", &home);
    });
    let reload = |service: &Service| {
        service.signal(Signal::SIGHUP);
        service.heard("RELOADING=1");
        service.heard("READY=1")
    };
    let nix_conf = service.home().join("nix.conf");
    std::fs::rename(&nix_conf, service.home().join("elsewhere")).unwrap();
    let message = reload(&service);
    assert!(message.contains("STATUS=Reload failed") && message.contains("nix.conf: is gone"), "{message}");
    std::fs::create_dir(&nix_conf).unwrap();
    let message = reload(&service);
    assert!(message.contains("STATUS=Reload failed") && message.contains("nix.conf cannot be read"), "{message}");
    std::fs::remove_dir(&nix_conf).unwrap();
    std::fs::rename(service.home().join("elsewhere"), &nix_conf).unwrap();
    assert!(!reload(&service).contains("failed"));

    std::fs::remove_file(service.config()).unwrap();
    let message = reload(&service);
    assert!(message.contains("STATUS=Reload failed") && message.contains("config.toml: is gone"), "{message}");
    assert!(service.stop().success());
}

#[test]
fn a_terminal_that_ends_takes_the_service_with_it() {
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("config.toml");
    std::fs::write(&config, LONELY).unwrap();
    let daemon = program("peernixd", home.path());
    // Also where the tests were started with `nohup`, which the service would obey.
    let text = format!(
        "exec env --default-signal=HUP {} --config {}",
        daemon.get_program().to_str().unwrap(),
        config.display()
    );
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &text, "/dev/null"]);
    let runtime = home.path().join("run");
    // It gives what it starts a terminal, which ends with it.
    let mut terminal = Program::start(with_environment_of(script, &daemon), &home.path().join("log"));
    let begun = Instant::now();
    let gateway = loop {
        match Addresses::read(&runtime).and_then(|addresses| addresses.gateway) {
            Some(gateway) if TcpStream::connect(gateway).is_ok() => break gateway,
            _ => assert!(begun.elapsed() < LIMIT, "{}", terminal.log()),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    terminal.child.kill().unwrap();
    terminal.child.wait().unwrap();
    let begun = Instant::now();
    while TcpStream::connect(gateway).is_ok() {
        assert!(begun.elapsed() < LIMIT, "it is still there: {}", terminal.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
#[allow(clippy::print_stderr, reason = "a test that is skipped says so")]
fn what_belongs_to_somebody_else_is_said_once() {
    if !geteuid().is_root() {
        eprintln!("SKIPPED: only root can give files away");
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let (uid, gid) = (Uid::from_raw(65534), nix::unistd::Gid::from_raw(65534));
    let own = |path: &std::path::Path| chown(path, Some(uid), Some(gid)).unwrap();
    own(home.path());
    let mut service = Service::spawn(home.path(), LONELY, |command| {
        *command = started_by(unprivileged(), command);
    });
    service.wait_ready();
    service.stop();
    let key = home.path().join("state/node.key");
    chown(&key, Some(Uid::from_raw(0)), None).unwrap();
    let mut service = Service::spawn(home.path(), LONELY, |command| {
        *command = started_by(unprivileged(), command);
    });
    let message = service.heard("STATUS=peernixd cannot start");
    assert!(message.contains("node.key: belongs to the user id 0"), "{message}");
    assert!(message.contains("chown --recursive"), "{message}");
    assert_eq!(service.program.child.wait().unwrap().code(), Some(77), "{}", service.log());
}

/// Runs a program as somebody who may nothing.
fn unprivileged() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    command
}
