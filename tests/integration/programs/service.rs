//! The service under a manager: sockets, messages, signals.

use crate::support::client::get;
use crate::support::program::started_by;
use crate::support::service::{LONELY, Service};
use nix::sys::signal::Signal;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::Command;

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
    assert!(std::net::TcpStream::connect(gateway).is_err());
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
