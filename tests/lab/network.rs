//! One network of hosts: a bridge in a namespace of its own, a cable to every host, and what can go wrong with cables.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};

use crate::ctx::Ctx;
use crate::host::Host;
use crate::process::sh;

/// The end of the address of the bridge itself, where "the Internet" lives.
const OUTSIDE: u8 = 254;

/// A network namespace by its name.
#[derive(Debug, Clone)]
pub(crate) struct NetNs(pub(crate) String);

impl NetNs {
    /// The file that stands for it.
    pub(crate) fn file(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.0)
    }

    /// Bytes that an interface in it has sent so far.
    pub(crate) fn sent(&self, interface: &str) -> Result<u64> {
        let table = self.enter(|| Ok(std::fs::read_to_string("/proc/thread-self/net/dev")?))?;
        // Columns: eight of what was received, then bytes sent.
        let sent = table
            .lines()
            .find_map(|line| line.trim().strip_prefix(&format!("{interface}:")))
            .and_then(|numbers| numbers.split_whitespace().nth(8))
            .with_context(|| format!("no {interface}"))?;
        Ok(sent.parse()?)
    }

    /// Runs `action` inside: sockets that it makes stay there for their whole life, whichever thread uses them later.
    pub(crate) fn enter<T: Send>(&self, action: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let file = std::fs::File::open(self.file()).with_context(|| format!("namespace {}", self.0))?;
                setns(file, CloneFlags::CLONE_NEWNET).with_context(|| format!("entering {}", self.0))?;
                action()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

/// What a new host's cable looks like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cable {
    /// Whether it gets an IPv4 address and a global IPv6 address; a link-local one it always has.
    pub(crate) addresses: bool,
    /// Whether its interface is up from the start.
    pub(crate) up: bool,
}

impl Default for Cable {
    fn default() -> Self {
        Self { addresses: true, up: true }
    }
}

/// A bridge and its hosts.
pub(crate) struct Network<'a> {
    ctx: &'a Ctx,
    /// Where the bridge is; also the place of servers "on the Internet".
    pub(crate) outside: NetNs,
    hosts: AtomicUsize,
}

impl<'a> Network<'a> {
    /// Makes an empty network.
    pub(crate) fn new(ctx: &'a Ctx) -> Result<Self> {
        let outside = NetNs(ctx.ns_name("net"));
        let ns = &outside.0;
        // Without snooping the bridge floods multicast, as the switches of a home do. Duplicate address detection would
        // keep link-local addresses unusable for a second or two of every test.
        sh(&format!(
            "ip netns add {ns}
             nsenter --net=/run/netns/{ns} sh -c 'echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad'
             ip -n {ns} link set lo up
             ip -n {ns} link add br0 type bridge mcast_snooping 0 forward_delay 0
             ip -n {ns} link set br0 up
             ip -n {ns} addr add 10.77.0.{OUTSIDE}/24 dev br0
             ip -n {ns} addr add fd77::{OUTSIDE}/64 dev br0 nodad"
        ))?;
        Ok(Self { ctx, outside, hosts: AtomicUsize::new(0) })
    }

    /// The IPv4 address at which hosts reach servers on the Internet.
    pub(crate) fn outside_address(&self) -> String {
        format!("10.77.0.{OUTSIDE}")
    }

    /// Limits what servers on the Internet can send to all hosts together, in megabits per second.
    pub(crate) fn slow_internet(&self, mbit: u32) -> Result<()> {
        // What goes from host to host is bridged, and does not come this way.
        shape(&self.outside.0, "br0", mbit)
    }

    /// Lifts that limit.
    pub(crate) fn fast_internet(&self) -> Result<()> {
        sh(&format!("tc -n {} qdisc del dev br0 root", self.outside.0)).map(drop)
    }

    /// Bytes that servers on the Internet have sent so far.
    pub(crate) fn internet_sent(&self) -> Result<u64> {
        self.outside.sent("br0")
    }

    /// Lets nothing through between these hosts and those, either way.
    pub(crate) fn part(&self, these: &[Arc<Host>], those: &[Arc<Host>]) -> Result<()> {
        let set = |hosts: &[Arc<Host>]| hosts.iter().map(|host| host.port.port.clone()).collect::<Vec<_>>().join(", ");
        let (net, these, those) = (&self.outside.0, set(these), set(those));
        sh(&format!(
            "nsenter --net=/run/netns/{net} nft -f - <<'END'
table bridge lab {{
  chain forward {{
    type filter hook forward priority 0;
    iifname {{ {these} }} oifname {{ {those} }} drop
    iifname {{ {those} }} oifname {{ {these} }} drop
  }}
}}
END"
        ))
        .map(drop)
    }

    /// Ends what [`Self::part`] began.
    pub(crate) fn join(&self) -> Result<()> {
        sh(&format!("nsenter --net=/run/netns/{} nft delete table bridge lab", self.outside.0)).map(drop)
    }

    /// Connects a new host.
    pub(crate) fn host(&self, name: &str) -> Result<Arc<Host>> {
        self.host_with(name, Cable::default())
    }

    /// Connects a new host by a special cable.
    pub(crate) fn host_with(&self, name: &str, cable: Cable) -> Result<Arc<Host>> {
        let index = self.hosts.fetch_add(1, Ordering::Relaxed) + 1;
        let ns = NetNs(self.ctx.ns_name(name));
        let (net, inside, port) = (&self.outside.0, &ns.0, format!("v{index}"));
        let up = if cable.up { "up" } else { "down" };
        let addresses = if cable.addresses {
            format!(
                "ip -n {inside} addr add 10.77.0.{index}/24 dev eth0
                 ip -n {inside} addr add fd77::{index}/64 dev eth0 nodad
                 ip -n {inside} route add default via 10.77.0.{OUTSIDE} dev eth0 2>/dev/null || true"
            )
        } else {
            String::new()
        };
        sh(&format!(
            "ip netns add {inside}
             nsenter --net=/run/netns/{inside} sh -c 'echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad'
             ip -n {inside} link set lo up
             ip -n {net} link add {port} type veth peer name eth0 netns {inside}
             ip -n {net} link set {port} master br0 up
             ip -n {inside} link set eth0 {up}
             {addresses}"
        ))?;
        Host::new(self.ctx, name, ns, Port { net: net.clone(), port }, index)
    }
}

impl Drop for Network<'_> {
    fn drop(&mut self) {
        // The namespaces end with the run at the latest; this only keeps their number small during it.
        let _ = sh(&format!("ip netns del {}", self.outside.0));
    }
}

/// Limits what leaves by an interface of this network, in megabits per second.
fn shape(net: &str, interface: &str, mbit: u32) -> Result<()> {
    // A hundredth of a second's worth: less, and the timer of the kernel is the limit.
    let burst = (mbit * 1_000_000 / 8 / 100).max(64 << 10);
    sh(&format!("tc -n {net} qdisc replace dev {interface} root tbf rate {mbit}mbit burst {burst} latency 50ms"))
        .map(drop)
}

/// The bridge's end of a host's cable.
#[derive(Debug)]
pub(crate) struct Port {
    net: String,
    port: String,
}

impl Port {
    /// Pulls the plug (or puts it back): both ends notice that the carrier is gone.
    pub(crate) fn plug(&self, plugged: bool) -> Result<()> {
        let state = if plugged { "up" } else { "down" };
        sh(&format!("ip -n {} link set {} {state}", self.net, self.port)).map(drop)
    }

    /// Limits what arrives at the host, in megabits per second.
    pub(crate) fn slow(&self, mbit: u32) -> Result<()> {
        shape(&self.net, &self.port, mbit)
    }

    /// Lets everything vanish on the way while the carrier stays, as a switch somewhere between does when it dies.
    pub(crate) fn cut(&self) -> Result<()> {
        sh(&format!("ip -n {} link set {} nomaster", self.net, self.port)).map(drop)
    }
}
