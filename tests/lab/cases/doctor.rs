//! What is wrong is named: a machine is broken in one way after the other, and `peernixctl doctor` and the status say which.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use peernix::control::{Control, Finding, ServiceState};
use peernix::nix::SecretKey;
use serde_json::Value;

use super::Case;
use crate::byte_server::{Reply, Servers};
use crate::control::Administrator;
use crate::ctx::Ctx;
use crate::host::{HERE, Host};
use crate::http::gateway_get;
use crate::internet::{Internet, flat_cache};
use crate::network::Network;
use crate::peer::{Peernixd, Settings};
use crate::store::Signed;
use crate::wait;

/// Until the service knows what is wrong: who is at a fixed address is looked for that long.
const NOTICED: Duration = Duration::from_secs(30);
/// A path that nobody has.
const NOWHERE: &str = "/zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz.narinfo";
const GATEWAY: &str = "http://127.0.0.1:7649";

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("doctor/healthy", healthy),
        Case::new("doctor/service", |ctx| all(ctx, SERVICE)).early(),
        Case::new("doctor/machine", |ctx| all(ctx, MACHINE)),
    ]
}

/// Where something is broken.
struct Place<'a> {
    ctx: &'a Ctx,
    network: &'a Network<'a>,
    host: Arc<Host>,
    /// A cache that is as it should be, and where nobody listens.
    good: String,
    dead: String,
    servers: &'a Servers,
}

impl Place<'_> {
    /// A cache on the Internet that answers everything alike.
    fn cache(&self, status: u16, date: Option<SystemTime>) -> Result<String> {
        let address = self.network.outside_address();
        let listener = self.network.outside.enter(|| TcpListener::bind((address, 0)).context("a cache"))?;
        let url = format!("http://{}", listener.local_addr()?);
        let date = date.map(httpdate::fmt_http_date);
        self.servers.plain(
            listener,
            Arc::new(move |_| {
                let reply = Reply::new(status, "StoreDir: /nix/store\n");
                date.iter().fold(reply, |reply, date| reply.header("Date", date))
            }),
        )?;
        Ok(url)
    }

    fn settings(&self) -> Settings {
        Settings::new(self.ctx).upstreams(&[&self.good])
    }
}

/// What breaks a machine before the service starts: with what settings it does.
type Break = fn(&Place<'_>) -> Result<Settings>;
/// What is done while it runs.
type Provoke = fn(&Place<'_>, &mut Peernixd<'_>) -> Result<()>;

/// One way in which a machine is broken.
struct Breakage {
    what: &'static str,
    finding: Finding,
    /// Whether the service itself can know.
    in_status: bool,
    breaks: Break,
    provoke: Provoke,
    mend: fn(&Place<'_>) -> Result<()>,
}

const fn breakage(what: &'static str, finding: Finding, breaks: Break) -> Breakage {
    Breakage { what, finding, in_status: true, breaks, provoke: |_, _| Ok(()), mend: |_| Ok(()) }
}

impl Breakage {
    const fn unknown_to_the_service(mut self) -> Self {
        self.in_status = false;
        self
    }

    const fn provoked(mut self, provoke: Provoke) -> Self {
        self.provoke = provoke;
        self
    }

    const fn mended(mut self, mend: fn(&Place<'_>) -> Result<()>) -> Self {
        self.mend = mend;
        self
    }
}

/// Lookups that an upstream is asked for, as often as it takes to give it up.
fn look_up(place: &Place<'_>) -> Result<()> {
    for number in 0..4 {
        let path = NOWHERE.replacen("zz", &format!("{number}z"), 1);
        gateway_get(place.ctx, &place.host, &path)?;
    }
    Ok(())
}

const SERVICE: &[Breakage] = &[
    breakage("nobody is where a peer should be", Finding::PeerNotReached, |place| {
        Ok(place.settings().fixed_peers(&["10.77.0.99:7650".to_owned()]))
    }),
    breakage("another program has port 5353", Finding::MulticastUnavailable, |place| {
        place.host.sh(
            "nohup python3 -c 'import socket, time\ns = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)\ns.bind((\"::\", 5353))\n\
             time.sleep(600)' >/dev/null 2>&1 & echo $! >/run/holder; sleep 0.5",
        )?;
        Ok(place.settings())
    })
    .mended(|place| place.host.sh("kill $(cat /run/holder)").map(drop)),
    breakage("the clock is a day off", Finding::ClockWrong, |place| {
        let yesterday = SystemTime::now() - Duration::from_secs(86_400);
        Ok(place.settings().upstreams(&[&place.cache(404, Some(yesterday))?]))
    })
    .provoked(|place, _| look_up(place)),
    breakage("an upstream is down", Finding::UpstreamUnreachable, |place| {
        Ok(place.settings().upstreams(&[&place.dead]))
    })
    .provoked(|place, _| look_up(place)),
    breakage("an upstream refuses the login", Finding::UpstreamLoginRefused, |place| {
        Ok(place.settings().upstreams(&[&place.cache(401, None)?]))
    })
    .provoked(|place, _| look_up(place)),
    breakage("the proxy is missing", Finding::ProxyUnreachable, |place| {
        Ok(place.settings().set("gateway.proxy", place.dead.clone()))
    })
    .provoked(|place, _| look_up(place)),
    breakage("the NATS server is down", Finding::SitesUnreachable, |place| {
        let server = place.dead.replacen("http", "nats", 1);
        Ok(place.settings().set("nats.servers", vec![server]).set("nats.site", "berlin"))
    }),
    breakage("the machine belongs to no fleet", Finding::FleetMissing, |place| {
        Ok(place.settings().set("share.profile", "fleet"))
    }),
    breakage("two keys have one name", Finding::NixConfDoubtful, |place| {
        let key = place.ctx.world.public_key();
        let other = SecretKey::from_seed(key.split(':').next().unwrap_or_default(), [9; 32])?.public();
        place.host.nix_conf(&[GATEWAY, &place.good], &format!("{key} {other}"))?;
        Ok(place.settings().without("trust"))
    }),
    breakage("nobody is trusted", Finding::TrustNone, |place| {
        place.host.nix_conf(&[GATEWAY, &place.good], "")?;
        Ok(place.settings().without("trust"))
    })
    .unknown_to_the_service(),
    breakage("a reload failed", Finding::ReloadFailed, |place| Ok(place.settings())).provoked(|place, on| {
        std::fs::write(place.host.dir.join("etc/peernix.toml"), "nonsense")?;
        let outcome = Administrator::of(on)?.does(Control::reload);
        ensure!(outcome.is_err(), "{outcome:?}");
        Ok(())
    }),
    breakage("the state directory is full", Finding::DiskFull, |place| {
        place.host.sh(&format!("mkdir -p {HERE}/state; mount -t tmpfs -o mode=700,size=16m tmpfs {HERE}/state"))?;
        Ok(place.settings())
    })
    .mended(|place| place.host.sh(&format!("umount {HERE}/state")).map(drop)),
];

const MACHINE: &[Breakage] = &[
    breakage("a firewall is closed", Finding::FirewallClosed, |place| {
        place.host.sh("nft 'add table inet broken; add chain inet broken input { type filter hook input priority 1; }; add rule inet broken input tcp dport 7650 drop'")?;
        Ok(place.settings())
    })
    .unknown_to_the_service()
    .mended(|place| place.host.sh("nft delete table inet broken").map(drop)),
    breakage("multicast DNS is filtered", Finding::FirewallClosed, |place| {
        place.host.sh("nft 'add table inet broken; add chain inet broken input { type filter hook input priority 1; }; add rule inet broken input udp dport 5353 drop'")?;
        Ok(place.settings())
    })
    .unknown_to_the_service()
    .mended(|place| place.host.sh("nft delete table inet broken").map(drop)),
    breakage("a substituter is dead", Finding::SubstituterDead, |place| {
        place.host.nix_conf(&[GATEWAY, &place.dead], &place.ctx.world.public_key())?;
        Ok(place.settings())
    })
    .unknown_to_the_service(),
    breakage("Nix does not ask", Finding::NixNotAsking, |place| {
        place.host.nix_conf(&[&place.good], &place.ctx.world.public_key())?;
        Ok(place.settings())
    })
    .unknown_to_the_service(),
    breakage("Nix remembers misses", Finding::NixRemembersMisses, |place| {
        place.host.sh(&format!("sed -i 's/negative-ttl = 0/negative-ttl = 3600/' {HERE}/etc/nix/nix.conf"))?;
        Ok(place.settings())
    })
    .unknown_to_the_service(),
    breakage("a key is open to others", Finding::KeyOpen, |place| Ok(place.settings()))
        .unknown_to_the_service()
        .provoked(|place, _| place.host.sh(&format!("chmod 644 {HERE}/state/node.key")).map(drop))
        .mended(|place| place.host.sh(&format!("chmod 600 {HERE}/state/node.key")).map(drop)),
    breakage("a key is somebody else's", Finding::FileForeign, |place| Ok(place.settings()))
        .unknown_to_the_service()
        .provoked(|place, _| place.host.sh(&format!("chown 4711 {HERE}/state/node.key")).map(drop))
        .mended(|place| place.host.sh(&format!("chown 0 {HERE}/state/node.key")).map(drop)),
    breakage("the configuration file is wrong", Finding::ConfigurationWrong, |place| Ok(place.settings()))
        .unknown_to_the_service()
        .provoked(|place, _| Ok(std::fs::write(place.host.dir.join("etc/peernix.toml"), "nonsense")?)),
    breakage("the network is gone", Finding::NetworkMissing, |place| {
        place.host.sh("ip link set eth0 down")?;
        Ok(place.settings())
    })
    .unknown_to_the_service()
    .mended(|place| place.host.sh("ip link set eth0 up").map(drop)),
    breakage("the service is gone", Finding::ServiceDown, |place| Ok(place.settings()))
        .unknown_to_the_service()
        .provoked(|_, on| on.kill9()),
    breakage("the gateway is gone, and Nix asks it", Finding::NixGatewayGone, |place| Ok(place.settings()))
        .unknown_to_the_service()
        .provoked(|_, on| on.kill9()),
    breakage("the store has no database", Finding::StoreUnreadable, |place| {
        place.host.sh("mv /nix/var/nix/db /nix/var/nix/away")?;
        Ok(place.settings())
    })
    .mended(|place| place.host.sh("rm -rf /nix/var/nix/db; mv /nix/var/nix/away /nix/var/nix/db").map(drop)),
];

/// What `peernixctl doctor` finds: how each check came out, its word and what it says.
fn doctor(host: &Host) -> Result<Vec<(String, String, String)>> {
    let mut command = host.command("/run/bin/peernixctl");
    command.args(["--transport", "varlink", "doctor", "--json=short"]);
    command.env("RUNTIME_DIRECTORY", format!("{HERE}/run")).env("STATE_DIRECTORY", format!("{HERE}/state"));
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let checks: Vec<Value> =
        serde_json::from_str(&text).with_context(|| format!("{text}{}", String::from_utf8_lossy(&output.stderr)))?;
    let word = |check: &Value, key: &str| check[key].as_str().unwrap_or_default().to_owned();
    Ok(checks.iter().map(|check| (word(check, "result"), word(check, "code"), word(check, "message"))).collect())
}

/// A host with a store, whose Nix asks the gateway and a good cache.
fn place<'a>(ctx: &'a Ctx, network: &'a Network<'a>, internet: &Internet, servers: &'a Servers) -> Result<Place<'a>> {
    let host = network.host("a")?;
    host.sh("nix-store --init")?;
    let dead = format!("http://{}:9", network.outside_address());
    let place = Place { ctx, network, host, good: internet.url.clone(), dead, servers };
    as_it_should_be(&place)?;
    Ok(place)
}

fn as_it_should_be(place: &Place<'_>) -> Result<()> {
    place.host.nix_conf(&[GATEWAY, &place.good], &place.ctx.world.public_key())
}

fn internet(ctx: &Ctx, network: &Network<'_>) -> Result<Internet> {
    let (maker, set) = (network.host("maker")?, ctx.world.many()?);
    let infos = &set.paths.iter().take(1).collect::<Vec<_>>()[..];
    set.install_some(&maker, infos, Signed::Yes)?;
    let paths: Vec<String> = infos.iter().map(|info| format!("/nix/store/{}", info.path)).collect();
    Internet::start(network, 8080, &flat_cache(&maker, "cache", "none", &paths)?)
}

fn healthy(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let (internet, servers) = (internet(ctx, &network)?, Servers::new()?);
    let place = place(ctx, &network, &internet, &servers)?;
    let other = network.host("b")?;
    other.sh("nix-store --init")?;
    let (on, on_other) =
        (Peernixd::start(ctx, &place.host, &place.settings())?, Peernixd::start(ctx, &other, &Settings::new(ctx))?);
    on.wait_online(1, Duration::from_secs(20))?;
    look_up(&place)?;
    let wrong: Vec<_> =
        doctor(&place.host)?.into_iter().filter(|(result, ..)| result != "ok" && result != "skip").collect();
    ctx.check("doctor finds nothing on a healthy machine", wrong.is_empty(), &format!("{wrong:?}"));
    let status = Administrator::of(&on)?.does(Control::status)?;
    ctx.check("its status is well", status.state == ServiceState::Running, &format!("{:?}", status.problems));
    on_other.stop()?;
    on.stop()
}

fn all(ctx: &Ctx, breakages: &[Breakage]) -> Result<()> {
    let network = ctx.network()?;
    let (internet, servers) = (internet(ctx, &network)?, Servers::new()?);
    let place = place(ctx, &network, &internet, &servers)?;
    for breakage in breakages {
        broken(&place, breakage).context(breakage.what)?;
    }
    Ok(())
}

fn broken(place: &Place<'_>, breakage: &Breakage) -> Result<()> {
    let Breakage { what, finding, in_status, breaks, provoke, mend } = breakage;
    let (ctx, word) = (place.ctx, finding.as_str());
    let settings = breaks(place)?;
    let mut on = Peernixd::start(ctx, &place.host, &settings)?;
    provoke(place, &mut on)?;
    let mut found = Vec::new();
    let named = wait::until_true(word, NOTICED, || {
        found = doctor(&place.host)?;
        Ok(found.iter().any(|(_, code, _)| code == word))
    });
    ctx.check(&format!("{what}: doctor says {word}"), named.is_ok(), &format!("{found:?}"));
    if *in_status {
        let status = Administrator::of(&on)?.does(Control::status)?;
        let says = status.problem_codes.iter().any(|code| code == word) && status.state != ServiceState::Running;
        ctx.check(&format!("{what}: the status does as well"), says, &format!("{:?}", status.problems));
    }
    if on.process.ended()?.is_none() {
        on.stop()?;
    }
    mend(place)?;
    as_it_should_be(place)
}
