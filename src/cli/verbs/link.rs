//! `peernixctl link`: two machines on one cable, without a switch and without anybody who gives out addresses.

use super::bench;
use crate::cli::error::{Doing as _, Done, VerbError};
use crate::cli::output::{Screen, tame};
use crate::control::{Control, Peer, PeerFilter};
use nix::ifaddrs::getifaddrs;
use serde_json::json;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

/// Where the kernel tells of interfaces.
const INTERFACES: &str = "/sys/class/net";
/// The network of the two: its first two addresses are theirs.
const SUBNET: Ipv4Addr = Ipv4Addr::new(10, 255, 255, 0);

/// The arguments of `link`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Print the settings of NixOS for one end of the cable; nothing is changed
    Plan {
        /// Which end: one of the two is the server and has .1, the other one has .2
        #[arg(value_enum)]
        role: Role,
        /// The interface that the cable is in; left out: the only one with a cable and no address
        #[arg(long, value_name = "NAME")]
        interface: Option<String>,
    },
    /// Tell whether the cable does what it should: who is at its other end, how fast they answer, and how much comes through
    Test {
        /// The interface that the cable is in; left out: the one that has an address of the network of the two
        #[arg(long, value_name = "NAME")]
        interface: Option<String>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Role {
    /// Has 10.255.255.1
    Server,
    /// Has 10.255.255.2
    Client,
}

impl Args {
    /// Whether it asks the service anything.
    pub(crate) const fn needs_service(&self) -> bool {
        matches!(self.verb, Verb::Test { .. })
    }
}

/// Prints settings; needs no service.
pub(crate) fn plan(args: &Args, screen: &Screen) -> Done<()> {
    let Verb::Plan { role, interface } = &args.verb else { return Ok(()) };
    let interface = match interface {
        Some(interface) => interface.clone(),
        None => free_interface()?,
    };
    let role = if *role == Role::Server { "server" } else { "client" };
    screen.show(&json!({ "role": role, "interface": interface, "subnet": format!("{SUBNET}/24") }), || {
        module(role, &interface)
    })
}

fn module(role: &str, interface: &str) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "# One end of a cable between two machines; the other end is the {other}.\n\
         # It gives the interface its address, opens Peernix's ports on it alone, and tells Peernix where the other end is.\n\
         {{\n  services.peernix.enable = true;\n  services.peernix.directLink = {{\n    enable = true;\n    role = \"{role}\";\n    interface = \"{interface}\";\n  }};\n}}\n",
        other = if role == "server" { "client" } else { "server" },
    );
    text
}

/// The interface that a cable is in and that has no address of IPv4: the only one like that.
fn free_interface() -> Done<String> {
    let used: Vec<String> = addresses().into_iter().filter(|(_, ip)| ip.is_ipv4()).map(|(name, _)| name).collect();
    let mut free = wired(Path::new(INTERFACES)).into_iter().filter(|name| !used.contains(name));
    match (free.next(), free.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => {
            Err(VerbError::Usage("no interface has a cable and no address: name it with --interface".to_owned()))
        }
        (Some(one), Some(other)) => {
            Err(VerbError::Usage(format!("it may be {one}, {other} or another one: name it with --interface")))
        }
    }
}

/// The wired interfaces that something is at the other end of.
fn wired(interfaces: &Path) -> Vec<String> {
    let Ok(entries) = interfaces.read_dir() else { return Vec::new() };
    let has_cable = |name: &String| {
        let link = interfaces.join(name);
        let value = |file| std::fs::read_to_string(link.join(file)).unwrap_or_default();
        // Hardware, of Ethernet, with a carrier, and no radio.
        value("type").trim() == "1"
            && value("carrier").trim() == "1"
            && link.join("device").exists()
            && !link.join("wireless").exists()
            && !link.join("phy80211").exists()
    };
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).filter(has_cable).collect();
    names.sort_unstable();
    names
}

/// All addresses of this machine, with their interfaces.
fn addresses() -> Vec<(String, IpAddr)> {
    let all = getifaddrs().into_iter().flatten();
    let one = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        let v6 = address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip()));
        Some((interface.interface_name, v4.or(v6)?))
    };
    all.filter_map(one).collect()
}

/// Measures the cable.
pub(crate) async fn test(args: &Args, control: &dyn Control, screen: &Screen) -> Done<()> {
    let Verb::Test { interface } = &args.verb else { return Ok(()) };
    let own = addresses();
    let named =
        |name: &str| own.iter().filter(|(interface, _)| interface == name).map(|(_, ip)| *ip).collect::<Vec<_>>();
    let here: Vec<IpAddr> = match interface {
        Some(name) => named(name),
        None => own.iter().filter(|(_, ip)| is_of_the_two(ip)).map(|(_, ip)| *ip).collect(),
    };
    if here.is_empty() {
        return Err(VerbError::other(
            "find the cable",
            "no interface has an address of 10.255.255.0/24: `peernixctl link plan` prints the settings, or name the interface",
        ));
    }
    let peers = control.peers(PeerFilter::default()).await.doing("list the peers")?;
    let there = peers.iter().find(|peer| is_there(peer, &here)).ok_or_else(|| {
        VerbError::other("find the other end", "no peer has an address of the same network: does it run Peernix, and does its firewall let this machine in?")
    })?;
    screen.note(&format!("At the other end: {}.", tame(if there.name.is_empty() { &there.id } else { &there.name })));
    let measured = bench::net(std::slice::from_ref(&there.id), control, screen).await?;
    screen.show(&measured, || bench::shown(&measured, screen))?;
    if measured.iter().all(|one| one.ok) { Ok(()) } else { Err(VerbError::Ended(crate::cli::exit::FAILURE)) }
}

fn is_of_the_two(ip: &IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if ip.octets()[..3] == SUBNET.octets()[..3])
}

/// Whether a peer is at the other end of where these addresses are: in the same network of 256 addresses.
fn is_there(peer: &Peer, here: &[IpAddr]) -> bool {
    let there = peer.addresses.iter().filter_map(|address| address.parse::<SocketAddr>().ok());
    there.map(|there| there.ip()).any(|there| {
        here.iter().any(|here| match (here, there) {
            (IpAddr::V4(here), IpAddr::V4(there)) => here.octets()[..3] == there.octets()[..3] && *here != there,
            _ => false,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::stub::Stub;

    #[test]
    fn only_wires_with_a_carrier_count() {
        let dir = tempfile::tempdir().unwrap();
        let link = |name: &str, kind: &str, carrier: &str, also: &[&str]| {
            let link = dir.path().join(name);
            std::fs::create_dir(&link).unwrap();
            std::fs::write(link.join("type"), kind).unwrap();
            std::fs::write(link.join("carrier"), carrier).unwrap();
            also.iter().for_each(|file| std::fs::create_dir(link.join(file)).unwrap());
        };
        link("enp3s0", "1\n", "1\n", &["device"]);
        link("enp4s0", "1\n", "0\n", &["device"]);
        link("wlan0", "1\n", "1\n", &["device", "wireless"]);
        link("docker0", "1\n", "1\n", &[]);
        link("lo", "772\n", "1\n", &[]);
        assert_eq!(wired(dir.path()), ["enp3s0"]);
        assert!(wired(&dir.path().join("none")).is_empty());
    }

    #[test]
    fn the_other_end_is_in_the_same_network() {
        let peer =
            |address: &str| Peer { addresses: vec![address.to_owned()], ..Stub::default().peers.lock()[0].clone() };
        let here: Vec<IpAddr> = vec!["10.255.255.1".parse().unwrap(), "fe80::1".parse().unwrap()];
        assert!(is_of_the_two(&here[0]) && !is_of_the_two(&here[1]));
        assert!(is_there(&peer("10.255.255.2:7650"), &here));
        assert!(!is_there(&peer("10.255.255.1:7650"), &here), "that is this machine");
        assert!(!is_there(&peer("10.255.254.2:7650"), &here) && !is_there(&peer("tower:7650"), &here));
    }

    #[test]
    fn the_plan_names_both_ends() {
        let text = module("server", "enp3s0");
        assert!(text.contains("role = \"server\";") && text.contains("the other end is the client"), "{text}");
    }
}
