//! A message bus of our own: a real dbus-daemon.

use super::program::Program;
use super::skipped;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// Everybody may do everything: who may do what is tried elsewhere.
pub(crate) const ANYTHING: &str = r#"<policy context="default">
<allow user="*"/><allow own="*"/><allow send_destination="*" eavesdrop="true"/><allow receive_sender="*"/><allow eavesdrop="true"/>
</policy>"#;

/// What /usr/share/dbus-1/system.conf of dbus 1.14 allows and denies, then our real policy file.
pub(crate) const SYSTEM: &str = concat!(
    r#"<policy context="default">
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
<include>"#,
    env!("CARGO_MANIFEST_DIR"),
    "/dbus/org.peernix.Peernix1.conf</include>"
);

/// Whether there can be a bus; says loudly if not.
pub(crate) fn is_there() -> bool {
    let there = Command::new("dbus-daemon").arg("--version").output().is_ok();
    if !there {
        skipped("there is no dbus-daemon");
    }
    there
}

/// The address of the bus of this name.
pub(crate) fn address(folder: &Path, name: &str) -> String {
    format!("unix:path={}", folder.join(name).display())
}

/// Starts a bus of a kind (system or session); it listens when this returns, and its socket has its name.
pub(crate) fn start(folder: &Path, kind: &str, name: &str, policy: &str) -> Program {
    let file = folder.join(format!("{name}.conf"));
    let config = format!(
        r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>{kind}</type><listen>{}</listen><auth>EXTERNAL</auth>{policy}</busconfig>"#,
        address(folder, name)
    );
    fs::write(&file, config).unwrap();
    let mut command = Command::new("dbus-daemon");
    command.arg(format!("--config-file={}", file.display())).args(["--nofork", "--nopidfile", "--print-address=1"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    // It says its address once it listens.
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("unix:"), "{line}");
    Program::of(child)
}
