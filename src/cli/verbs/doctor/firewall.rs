//! Whether a firewall of this machine keeps others from asking it, or from hearing and being heard by multicast DNS.
//!
//! A ruleset can say anything; what is found here is what is said plainly: a rule that drops or rejects one of the ports, or a chain for what
//! comes in that drops by default and of which no rule names the port.

use super::check::Check;
use crate::cli::systemd;
use crate::control::Finding;
use tokio::process::Command;

/// The port of multicast DNS.
const MDNS: u16 = 5353;

/// Looks at the rules of nftables. `share`: the port on which other machines are served; `mdns`: whether machines are found by multicast DNS.
pub(super) async fn look(share: Option<u16>, mdns: bool, checks: &mut Vec<Check>) {
    const CHECK: &str = "firewall";
    let Some(rules) = systemd::output(Command::new("nft").args(["--numeric", "list", "ruleset"])).await else {
        checks.push(Check::skip(CHECK, "the rules of nftables cannot be listed (root can, where nft is installed)"));
        return;
    };
    let ports = share.map(|port| ("tcp", port, "other machines cannot ask this one"));
    let ports = ports.into_iter().chain(mdns.then_some(("udp", MDNS, "machines are not found by multicast DNS")));
    let closed: Vec<_> = ports.filter(|(protocol, port, _)| closes(&rules, protocol, *port)).collect();
    if closed.is_empty() {
        checks.push(Check::ok(CHECK, "no rule of nftables is plainly in the way"));
    }
    for (protocol, port, consequence) in closed {
        checks.push(Check::warn(
            CHECK,
            Finding::FirewallClosed,
            format!("it lets nothing in to {protocol} port {port}: {consequence}"),
            format!(
                "`nft insert rule inet filter input {protocol} dport {port} accept`, or as this firewall is set up (NixOS: services.peernix.openFirewall = true)"
            ),
        ));
    }
}

/// Whether a ruleset, as `nft list ruleset` writes it, plainly keeps out what comes in to a port.
fn closes(rules: &str, protocol: &str, port: u16) -> bool {
    let (mut is_input, mut drops, mut accepts) = (false, false, false);
    let mut closed = false;
    let names = |line: &str| {
        let words = line.split([' ', ',', '{', '}']).filter(|word| !word.is_empty());
        let is_port = |word: &str| {
            let (first, last) = word.split_once('-').unwrap_or((word, word));
            matches!((first.parse(), last.parse()), (Ok(first), Ok(last)) if (first..=last).contains(&port))
        };
        line.contains(&format!("{protocol} dport")) && words.skip_while(|word| *word != "dport").any(is_port)
    };
    for line in rules.lines().map(str::trim) {
        if line.starts_with("chain ") {
            (is_input, drops, accepts) = (false, false, false);
        } else if line.contains("hook input") || line.contains("hook prerouting") {
            is_input = true;
            drops = line.contains("policy drop");
        } else if is_input && names(line) {
            // The first rule that says something of the port counts.
            let is_closed = line.contains("drop") || line.contains("reject");
            closed |= is_closed && !accepts;
            accepts |= line.contains("accept") || line.contains("jump") || line.contains("goto");
        } else if is_input && (line.starts_with("jump ") || line.starts_with("goto ") || line.starts_with("accept")) {
            // Whatever is said there, or to everybody.
            accepts = true;
        } else if line == "}" {
            closed |= is_input && drops && !accepts;
            is_input = false;
        }
    }
    closed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(policy: &str, rules: &str) -> String {
        format!(
            "table inet filter {{\n\tchain input {{\n\t\ttype filter hook input priority filter; policy {policy};\n\t\t{rules}\n\t}}\n}}\n"
        )
    }

    #[test]
    fn what_plainly_closes_a_port_is_found_and_nothing_else() {
        for (policy, rules, expected) in [
            ("accept", "", false),
            ("accept", "tcp dport 7650 drop", true),
            ("accept", "tcp dport 7650 counter packets 0 bytes 0 reject", true),
            ("accept", "udp dport 7650 drop", false),
            ("accept", "tcp dport { 22, 7000-8000 } drop", true),
            ("accept", "tcp dport 7651 drop", false),
            ("drop", "ct state established,related accept", true),
            ("drop", "tcp dport { 22, 7650 } accept", false),
            ("drop", "tcp dport 22 accept", true),
            ("drop", "jump nixos-fw", false),
            ("accept", "tcp dport 7650 accept\n\t\ttcp dport 7650 drop", false),
        ] {
            assert_eq!(closes(&chain(policy, rules), "tcp", 7650), expected, "{policy}: {rules}");
        }
        let forward = chain("drop", "").replace("hook input", "hook forward");
        assert!(!closes(&forward, "tcp", 7650) && !closes("", "tcp", 7650));
    }
}
