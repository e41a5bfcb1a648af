//! What `make install` puts where, and whether systemd likes it: no complaint about any unit, and every sandbox tight.

#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What is always there, below the prefix but for `/etc`. Documents and what other parts add are not listed.
const FILES: [&str; 14] = [
    "bin/peernixctl",
    "bin/peernixd",
    "etc/xdg/autostart/peernix-notifier.desktop",
    "lib/systemd/catalog/peernix.catalog",
    "lib/systemd/system-preset/80-peernix.preset",
    "lib/systemd/system/peernix-admin.socket",
    "lib/systemd/system/peernix-gateway.socket",
    "lib/systemd/system/peernix-share.socket",
    "lib/systemd/system/peernix-varlink.socket",
    "lib/systemd/system/peernix.service",
    "lib/systemd/user/peernix-notifier.service",
    "lib/sysusers.d/peernix.conf",
    "lib/tmpfiles.d/peernix.conf",
    "share/applications/org.peernix.Notifier.desktop",
];

/// An installation in a folder of its own, which is also its prefix, so that the programs are where the units say.
struct Installed(tempfile::TempDir);

impl Installed {
    /// For this version of systemd; `None`: the one of this machine.
    fn new(systemd: Option<u32>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let programs = Path::new(env!("CARGO_BIN_EXE_peernixd")).parent().unwrap();
        let mut make = Command::new("make");
        make.current_dir(env!("CARGO_MANIFEST_DIR")).args(["--no-print-directory", "install-files", "DESTDIR="]);
        make.arg(format!("PREFIX={}", dir.path().display())).arg(format!("PROGRAMS={}", programs.display()));
        make.env("SYSCONFDIR", dir.path().join("etc")).env_remove("MAKEFLAGS").env_remove("MAKELEVEL");
        if let Some(version) = systemd {
            make.env("SYSTEMD_VERSION", version.to_string());
        }
        let output = make.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        // The unit of the notifier names a program that is not built in every state of the tree.
        let notifier = dir.path().join("bin/peernix-notifier");
        if !notifier.exists() {
            fs::write(&notifier, "#!/bin/sh\n").unwrap();
            fs::set_permissions(&notifier, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self(dir)
    }

    fn path(&self, below: &str) -> PathBuf {
        self.0.path().join(below)
    }

    fn text(&self, below: &str) -> String {
        fs::read_to_string(self.path(below)).unwrap()
    }

    fn files(&self) -> BTreeSet<String> {
        let (mut files, mut folders) = (BTreeSet::new(), vec![self.0.path().to_owned()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.insert(path.strip_prefix(self.0.path()).unwrap().display().to_string());
                }
            }
        }
        files
    }

    /// The units of a manager: `system` or `user`.
    fn units(&self, manager: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path("lib/systemd").join(manager)).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// Runs `systemd-analyze` for a manager; `None`, and said loudly, where there is none.
    fn analyze(&self, manager: &str, arguments: &[&str], units: &[PathBuf]) -> Option<Output> {
        let mut command = Command::new("systemd-analyze");
        command.arg(format!("--{manager}")).args(arguments).args(units).env("LC_ALL", "C");
        // Ours first, then those of the system, which they order themselves after.
        command.env("SYSTEMD_UNIT_PATH", format!("{}:", self.path("lib/systemd").join(manager).display()));
        // The user's manager wants one, and reads nothing there.
        command.env("XDG_RUNTIME_DIR", self.0.path());
        match command.output() {
            Ok(output) => Some(output),
            Err(error) => {
                eprintln!("SKIPPED: systemd-analyze: {error}");
                None
            }
        }
    }
}

/// The values of a key in a unit, in order.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

#[test]
fn an_administrator_with_a_strict_umask_makes_folders_that_others_can_enter() {
    let dir = tempfile::tempdir().unwrap();
    let programs = Path::new(env!("CARGO_BIN_EXE_peernixd")).parent().unwrap();
    let mut shell = Command::new("sh");
    shell
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["-c", "umask 077; exec scripts/install.sh \"$0\""])
        .arg(programs);
    shell.env("DESTDIR", dir.path()).env("PREFIX", "/usr").env_remove("SYSCONFDIR");
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut folders = vec![dir.path().join("usr"), dir.path().join("etc")];
    while let Some(folder) = folders.pop() {
        let mode = fs::metadata(&folder).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o755, "{}", folder.display());
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        folders.extend(entries.filter(|path| path.is_dir()));
    }
}

#[test]
fn every_file_is_where_a_distribution_expects_it() {
    let installed = Installed::new(None);
    let files = installed.files();
    for file in FILES {
        assert!(files.contains(file), "{file} is missing: {files:?}");
    }
    for file in &files {
        let program = file.starts_with("bin/");
        let mode = installed.path(file).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, if program { 0o755 } else { 0o644 }, "{file}");
        if !program && !file.starts_with("share/doc/") {
            assert!(!installed.text(file).contains("@BINDIR@"), "{file}");
        }
    }
    let service = installed.text("lib/systemd/system/peernix.service");
    assert_eq!(values(&service, "ExecStart"), [installed.path("bin/peernixd").display().to_string()]);
    let known = ["bin/", "etc/xdg/autostart/", "lib/", "share/"];
    assert!(files.iter().all(|file| known.iter().any(|place| file.starts_with(place))), "{files:?}");
    let copied = installed.path("share/doc/peernix/config.example.toml");
    assert_eq!(
        fs::read(copied).unwrap(),
        fs::read(format!("{}/docs/config.example.toml", env!("CARGO_MANIFEST_DIR"))).unwrap()
    );
}

#[test]
fn systemd_has_nothing_to_say_about_any_unit() {
    let installed = Installed::new(None);
    for manager in ["system", "user"] {
        let units = installed.units(manager);
        assert!(!units.is_empty());
        let Some(output) = installed.analyze(manager, &["verify", "--man=no"], &units) else { return };
        // A key that it does not know is a line on stderr, and exit code 0.
        assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    }
}

#[test]
fn every_sandbox_is_tight() {
    let installed = Installed::new(None);
    for manager in ["system", "user"] {
        for unit in installed.units(manager) {
            if unit.extension().is_some_and(|kind| kind != "service") {
                continue;
            }
            // 10 is 1.0: the highest of the marks that systemd calls OK with the right to talk to any network.
            let arguments = ["security", "--offline=yes", "--threshold=10", "--no-pager"];
            let Some(output) = installed.analyze(manager, &arguments, std::slice::from_ref(&unit)) else { return };
            let report = String::from_utf8_lossy(&output.stdout);
            assert!(report.contains("Overall exposure level"), "{output:?}");
            assert!(output.status.success(), "{}\n{report}", unit.display());
        }
    }
}

#[test]
fn what_a_systemd_does_not_know_is_left_out() {
    // Since when which of them is known, and in what file.
    let newer = [
        (254, "system/peernix.service", "FileDescriptorStorePreserve"),
        (254, "system/peernix.service", "ImportCredential"),
        (260, "system/peernix.service", "RefreshOnReload"),
        (262, "system/peernix-varlink.socket", "XAttrEntryPoint"),
        (262, "system/peernix-admin.socket", "XAttrListen"),
    ];
    for version in [252, 253, 254, 257, 259, 260, 261, 262, 300] {
        let installed = Installed::new(Some(version));
        let service = installed.text("lib/systemd/system/peernix.service");
        let loaded = values(&service, "LoadCredential");
        assert_eq!(loaded.is_empty(), version >= 254, "{loaded:?} for systemd {version}");
        for (since, unit, key) in newer {
            let has = !values(&installed.text(&format!("lib/systemd/{unit}")), key).is_empty();
            assert_eq!(has, version >= since, "{key} for systemd {version}");
        }
    }
}

#[test]
fn units_fit_their_systemd_and_each_other() {
    let (old, new) = (Installed::new(Some(252)), Installed::new(Some(257)));
    let unit = |installed: &Installed| installed.text("lib/systemd/system/peernix.service");
    let (old, service) = (unit(&old), unit(&new));
    for unit in [&old, &service] {
        assert_eq!(values(unit, "Type"), ["notify"]);
        assert!(values(unit, "ExecReload")[0].ends_with("/bin/peernixctl --transport varlink reload"));
    }
    assert_eq!(values(&service, "RestartPreventExitStatus"), ["77 78"]);
    assert_eq!(values(&service, "BusName"), ["org.peernix.Peernix1"]);
    assert_eq!(values(&service, "Alias"), ["dbus-org.peernix.Peernix1.service"]);
    let preset = new.text("lib/systemd/system-preset/80-peernix.preset");
    let sockets = [
        ("peernix-gateway", "gateway", "127.0.0.1:7649"),
        ("peernix-share", "share", "[::]:7650"),
        ("peernix-varlink", "varlink", "/run/peernix/org.peernix"),
        ("peernix-admin", "varlink-admin", "/run/peernix/org.peernix.admin"),
    ];
    for (name, descriptor, address) in sockets {
        let socket = new.text(&format!("lib/systemd/system/{name}.socket"));
        assert_eq!(values(&socket, "FileDescriptorName"), [descriptor]);
        assert_eq!(values(&socket, "ListenStream"), [address]);
        assert_eq!(values(&socket, "Service"), ["peernix.service"]);
        assert_eq!(values(&socket, "Backlog"), ["4096"]);
        for key in ["Wants", "After", "Also"] {
            assert!(values(&service, key).iter().any(|list| list.contains(&format!("{name}.socket"))), "{key} {name}");
        }
        assert!(preset.contains(&format!("disable {name}.socket\n")));
    }
    let admin = new.text("lib/systemd/system/peernix-admin.socket");
    assert_eq!((values(&admin, "SocketMode"), values(&admin, "SocketGroup")), (vec!["0660"], vec!["peernix-admin"]));
}

/// Whether a list of ranges in CIDR notation has an address in it.
fn allows(list: &[(u128, u32, bool)], address: &str) -> bool {
    let (bits, v6) = bits(address);
    list.iter().any(|(range, length, range_v6)| {
        let width = if v6 { 128 } else { 32 };
        v6 == *range_v6 && (*length == 0 || (bits ^ range) >> (width - length) == 0)
    })
}

fn bits(address: &str) -> (u128, bool) {
    match address.parse().unwrap() {
        std::net::IpAddr::V4(v4) => (v4.to_bits().into(), false),
        std::net::IpAddr::V6(v6) => (v6.to_bits(), true),
    }
}

#[test]
fn the_firewall_lets_in_what_is_needed() {
    let service = Installed::new(Some(257)).text("lib/systemd/system/peernix.service");
    assert_eq!(values(&service, "IPAddressDeny"), ["any"]);
    let ranges: Vec<(u128, u32, bool)> = values(&service, "IPAddressAllow")
        .iter()
        .flat_map(|list| list.split(' '))
        .map(|range| {
            let (address, length) = range.split_once('/').unwrap();
            let (bits, v6) = bits(address);
            (bits, length.parse().unwrap(), v6)
        })
        .collect();
    let needed = [
        "127.0.0.1",
        "127.0.0.53",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.255.254",
        "100.64.0.1",
        "100.100.100.100",
        "100.100.100.199",
        "100.100.100.201",
        "169.254.1.1",
        "169.254.168.255",
        "169.254.171.0",
        "169.254.255.254",
        "151.101.2.217",
        "1.1.1.1",
        "8.8.8.8",
        "223.255.255.255",
        "224.0.0.251",
        "::1",
        "2a04:4e42::729",
        "2001:db8::1",
        "fd00::1",
        "fd00:ec1:ffff::1",
        "fd00:ec3::1",
        "fdff:ffff::1",
        "fc00::1",
        "fe80::1",
        "ff02::fb",
        "64:ff9b::9765:2d9",
    ];
    let refused = [
        "0.0.0.0",
        "169.254.169.254",
        "169.254.170.2",
        "100.100.100.200",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "ff02::1",
        "ff05::2",
        "100::1",
    ];
    for address in needed {
        assert!(allows(&ranges, address), "{address}");
    }
    for address in refused {
        assert!(!allows(&ranges, address), "{address}");
    }
    // Nothing between the ranges is forgotten: of 256 networks of IPv4, each whole one is in or out as its first number says.
    for first in 0..=255_u8 {
        let address = format!("{first}.200.0.1");
        assert_eq!(allows(&ranges, &address), (1..=223).contains(&first), "{address}");
    }
}

#[test]
fn nothing_that_stops_the_service_stops_its_sockets() {
    // A gateway that Nix has seen and that is gone ends the runs of Nix: docs/operations.md.
    let installed = Installed::new(None);
    let service = installed.text("lib/systemd/system/peernix.service");
    for key in ["Conflicts", "PropagatesStopTo", "ConsistsOf", "BoundBy", "RequiredBy"] {
        assert_eq!(values(&service, key), Vec::<&str>::new(), "{key} of the service");
    }
    for socket in installed.units("system").iter().filter(|unit| unit.extension().is_some_and(|end| end == "socket")) {
        let text = fs::read_to_string(socket).unwrap();
        assert_eq!(values(&text, "Service"), ["peernix.service"], "{socket:?}");
        for key in ["PartOf", "BindsTo", "Requires", "Requisite", "StopPropagatedFrom", "StopWhenUnneeded", "Upholds"] {
            assert_eq!(values(&text, key), Vec::<&str>::new(), "{key} of {socket:?}");
        }
    }
}

/// `make uninstall` of an installation.
fn uninstall(installed: &Installed) -> Output {
    let mut make = Command::new("make");
    make.current_dir(env!("CARGO_MANIFEST_DIR")).args(["--no-print-directory", "uninstall", "DESTDIR="]);
    make.arg(format!("PREFIX={}", installed.0.path().display()));
    make.env("SYSCONFDIR", installed.path("etc")).env_remove("MAKEFLAGS").env_remove("MAKELEVEL").output().unwrap()
}

#[test]
fn uninstalling_waits_for_the_line_in_nix_conf() {
    let installed = Installed::new(None);
    let conf = installed.path("etc/nix/nix.conf");
    fs::create_dir_all(conf.parent().unwrap()).unwrap();
    let before = installed.files();
    for line in
        ["extra-substituters = http://127.0.0.1:7649", "substituters = https://a http://localhost:7649?priority=5"]
    {
        fs::write(&conf, format!("sandbox = true\n{line}\n")).unwrap();
        let refused = uninstall(&installed);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains("take http://127.0.0.1:7649 out of"), "{said}");
        fs::remove_file(&conf).unwrap();
        assert_eq!(installed.files(), before, "nothing is gone");
    }
    // What is commented out is out.
    fs::write(&conf, "# extra-substituters = http://127.0.0.1:7649\n").unwrap();
    let done = uninstall(&installed);
    assert!(done.status.success(), "{done:?}");
    let left: Vec<String> = installed.files().into_iter().filter(|file| file != "etc/nix/nix.conf").collect();
    assert_eq!(left, Vec::<String>::new());
}
