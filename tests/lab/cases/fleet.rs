//! Machines of one administrator: a code lets one in, strangers stay outside, and who was revoked or whose membership ended is out, with
//! a reason on both sides.

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use peernix::control::{Control, Enrolment, FleetStatus, Peer};
use peernix::peers::link::Acceptor;
use peernix::peers::{Admission, NodeId, NodeKey};
use tokio::io::copy_bidirectional;
use tokio_rustls::TlsConnector;

use super::Case;
use super::keys::build;
use crate::byte_server::Servers;
use crate::control::Administrator;
use crate::ctx::Ctx;
use crate::host::Host;
use crate::http::gateway_get;
use crate::liar::SHARE_PORT;
use crate::peer::{Peernixd, Settings};
use crate::{tls, wait};

/// How long two machines may take to be a fleet, from the invitation on.
const PAIRING_LIMIT: f64 = 60.0;
/// How long a revocation may take to be known to all who are online.
const REVOKED_LIMIT: f64 = 10.0;
/// Until machines that start know each other.
const ACQUAINTED: Duration = Duration::from_secs(30);

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("fleet/pair-and-revoke", pair_and_revoke),
        Case::new("fleet/wrong-codes", wrong_codes),
        Case::new("fleet/expiry", expiry),
    ]
}

/// A host with an empty store, on which the service runs.
fn machine<'a>(ctx: &'a Ctx, host: &'a Host, settings: &Settings) -> Result<(Peernixd<'a>, Administrator)> {
    host.sh("nix-store --init")?;
    let on = Peernixd::start(ctx, host, settings)?;
    let administrator = Administrator::of(&on)?;
    Ok((on, administrator))
}

/// Founds a fleet on a machine, which lets in its members only from then on.
fn found<'a>(ctx: &'a Ctx, host: &'a Host) -> Result<(Peernixd<'a>, Administrator, Settings)> {
    let (before, there) = machine(ctx, host, &Settings::new(ctx))?;
    let founded = there.does(|control| control.init_fleet("home"))?;
    ensure!(founded.has_key && founded.membership.is_some(), "{founded:?}");
    let key = founded.public_key.context("a fleet has a key")?;
    drop(there);
    before.stop()?;
    let settings = Settings::new(ctx).set("share.profile", "fleet").set("fleet.public_key", key);
    let (on, there) = machine(ctx, host, &settings)?;
    Ok((on, there, settings))
}

/// The peer `id` as a machine shows it.
fn seen(by: &Administrator, id: &str) -> Result<Peer> {
    by.does(|control| control.peer(id))
}

fn reason_of(by: &Administrator, id: &str) -> Result<String> {
    Ok(seen(by, id)?.refused.unwrap_or_default())
}

/// Waits until a machine says why another one is not let in, or does not let it in.
fn wait_reason(by: &Administrator, id: &str, what: &str) -> Result<()> {
    wait::until_true(&format!("the reason '{what}'"), ACQUAINTED, || Ok(reason_of(by, id)?.contains(what)))
        .with_context(|| format!("{:?}", seen(by, id)))
        .map(drop)
}

fn pair_and_revoke(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let hosts = [network.host("a")?, network.host("b")?, network.host("c")?, network.host("s")?];
    let [a, b, c, s] = &hosts;
    let (on_a, at_a, settings) = found(ctx, a)?;
    let (on_b, at_b) = machine(ctx, b, &settings)?;
    let status = at_b.does(Control::status)?;
    let says = status.problems.iter().any(|problem| problem.contains("do not let this machine in"));
    ctx.check("a machine that is no member yet says so", says, &format!("{:?}", status.problems));
    let (id_a, id_b) = (on_a.node_id()?, on_b.node_id()?);
    wait_reason(&at_b, &id_a, "it does not let this machine in: no membership of the fleet was shown")?;

    // Two machines that have seen each other, and a code.
    let begun = Instant::now();
    let invitation = at_a.does(Control::invite_member)?;
    let joined: FleetStatus = at_b.does(|control| control.join_fleet(&invitation.code, None))?;
    ensure!(joined.problem.is_none(), "{joined:?}");
    on_b.wait_state(&id_a, "online", ACQUAINTED)?;
    on_a.wait_state(&id_b, "online", ACQUAINTED)?;
    ctx.measure("from the invitation to two machines that share", begun.elapsed().as_secs_f64(), "s", PAIRING_LIMIT);
    let again = at_b.does(|control| control.join_fleet(&invitation.code, None));
    ctx.check("a code is good for one machine", again.is_err(), &format!("{again:?}"));

    // A third one is enrolled by what an administrator carries over; a stranger is not.
    let (on_c, at_c) = machine(ctx, c, &settings)?;
    let id_c = on_c.node_id()?;
    let enrolment = Enrolment { id: id_c.clone(), name: Some("third".into()), ..Enrolment::default() };
    let membership = at_a.does(|control| control.enroll_member(enrolment))?;
    at_c.does(|control| control.join_fleet(&membership, None))?;
    let (on_s, at_s) = machine(ctx, s, &Settings::new(ctx))?;
    on_c.wait_online(2, ACQUAINTED)?;
    on_b.wait_online(2, ACQUAINTED)?;
    wait_reason(&at_s, &id_a, "it does not let this machine in")?;
    wait_reason(&at_a, &on_s.node_id()?, "it is not let in: no membership of the fleet was shown")?;

    // What was built on a member the others get, and strangers do not.
    let own = at_a.does(Control::keys)?.first().context("a key")?.public_key.clone();
    for at in [&at_b, &at_c, &at_s] {
        at.does(|control| control.trust(&own, "of a"))?;
    }
    let built = build(a, "built-here")?;
    let hash = built.trim_start_matches("/nix/store/").get(..32).context("a store path")?.to_owned();
    let target = format!("/{hash}.narinfo");
    wait::until_true("a member to be told of what was built", Duration::from_secs(15), || {
        Ok(gateway_get(ctx, b, &target)?.0.status == 200)
    })?;
    let stranger = gateway_get(ctx, s, &target)?.0.status;
    ctx.check("a stranger is not told of it", stranger == 404, &stranger.to_string());
    let path = Built::of(a, &built)?;
    // Not even if it asks without a greeting, over and over on one connection.
    let mut raw = tls::Node::new([78; 32])?.connect(dial(s, a)?)?;
    path.is_forbidden(ctx, "a stranger", &mut raw)?;
    // With the key of a member it is another matter; that connection is there before the member is put out.
    let seed = std::fs::read(b.dir.join("state/node.key"))?.try_into().map_err(|_| anyhow!("a key has 32 bytes"))?;
    let mut member = tls::Node::new(seed)?.connect(dial(b, a)?)?;
    let (status, _) = tls::get(&mut member, &target)?;
    ctx.check("a member is answered on any connection", status == 200, &status.to_string());

    // Revoked on one machine, out on all.
    let begun = Instant::now();
    ctx.check("it was a member", at_a.does(|control| control.revoke_member(&id_b))?, "it was revoked already");
    on_a.wait_gone(&id_b, ACQUAINTED)?;
    on_c.wait_gone(&id_b, ACQUAINTED)?;
    ctx.measure("from the revocation until all have it out", begun.elapsed().as_secs_f64(), "s", REVOKED_LIMIT);
    wait_reason(&at_c, &id_b, "it is not let in: the membership was revoked on 20")?;
    wait_reason(&at_b, &id_c, "it does not let this machine in: the membership was revoked on 20")?;
    let later = build(a, "built-later")?;
    let later = format!("/{}.narinfo", later.trim_start_matches("/nix/store/").get(..32).context("a store path")?);
    wait::until_true("a member to be told of what was built later", Duration::from_secs(15), || {
        Ok(gateway_get(ctx, c, &later)?.0.status == 200)
    })?;
    let status = gateway_get(ctx, b, &later)?.0.status;
    ctx.check("it is told of nothing more", status == 404, &status.to_string());
    path.is_forbidden(ctx, "a revoked machine, on the connection that it has", &mut member)?;
    path.is_forbidden(ctx, "a revoked machine, on a new one", &mut tls::Node::new(seed)?.connect(dial(b, a)?)?)?;
    on_c.wait_state(&id_a, "online", ACQUAINTED)?;
    // A list survives: also whoever starts anew keeps it out.
    drop(at_c);
    on_c.stop()?;
    let (on_c, at_c) = machine(ctx, c, &settings)?;
    on_c.wait_state(&id_a, "online", ACQUAINTED)?;
    wait_reason(&at_c, &id_b, "revoked")?;
    let fleet = at_c.does(Control::fleet)?;
    ctx.check("it is on the list", fleet.revoked.iter().any(|revoked| revoked.id == id_b), &format!("{fleet:?}"));
    [on_a, on_b, on_c, on_s].into_iter().try_for_each(Peernixd::stop)
}

/// A path, and all that a share says of it and of itself.
struct Built {
    hash: String,
    nar: String,
}

impl Built {
    fn of(on: &Host, path: &str) -> Result<Self> {
        let hash = path.trim_start_matches("/nix/store/").get(..32).context("a store path")?.to_owned();
        let nar_hash = on.sh(&format!("nix-store --query --hash {path}"))?;
        Ok(Self { nar: format!("{hash}-{}", nar_hash.trim().trim_start_matches("sha256:")), hash })
    }

    /// Asks for all of it, without a greeting.
    fn is_forbidden(&self, ctx: &Ctx, who: &str, stream: &mut tls::Stream) -> Result<()> {
        let Self { hash, nar } = self;
        let texts = [format!("/{hash}.narinfo"), format!("/nar/{nar}.nar"), format!("/{hash}.ls")];
        let ours = ["pieces/", "partial/"].map(|what| format!("/peernix/v1/{what}{nar}"));
        let others = ["/nix-cache-info", "/", "/peernix/v1/index", "/peernix/v1/fleet", "/peernix/v1/hello"];
        let gets = texts.into_iter().chain(ours).chain(others.map(str::to_owned)).map(|target| ("GET", target, ""));
        let posts = ["narinfo", "holders", "claim"].map(|what| ("POST", format!("/peernix/v1/{what}"), hash.as_str()));
        for (method, target, body) in gets.chain(posts) {
            let (status, text) = tls::ask(stream, method, &target, body.as_bytes())?;
            // What is no route at all is told to nobody either.
            let fits = status == 403 || (status == 404 && target.contains("/partial/"));
            ctx.check(
                &format!("{who}: {method} {target}"),
                fits,
                &format!("{status} {}", String::from_utf8_lossy(&text)),
            );
        }
        Ok(())
    }
}

/// A connection to the share of a machine.
fn dial(from: &Host, to: &Host) -> Result<TcpStream> {
    let address = to.address();
    from.enter(|| Ok(TcpStream::connect((address.as_str(), SHARE_PORT))?))
}

fn wrong_codes(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let hosts = [network.host("a")?, network.host("b")?, network.host("m")?];
    let [a, b, m] = &hosts;
    let (on_a, at_a, settings) = found(ctx, a)?;
    let (on_b, at_b) = machine(ctx, b, &settings)?;
    let place = format!("{}:{SHARE_PORT}", a.address());
    let join = |code: &str, at: &str| at_b.does(|control| control.join_fleet(code, Some(at)));
    let nobody = join("10-0000-0000", &place);
    ctx.check("nobody invites before there is a code", nobody.is_err(), &format!("{nobody:?}"));

    // Somebody in between, with a key of its own towards each side.
    let code = at_a.does(Control::invite_member)?.code;
    let between = Between::start(m, place.clone())?;
    let failed = join(&code, &format!("{}:{SHARE_PORT}", m.address())).err().map(|error| format!("{error:#}"));
    let says = failed.as_deref().is_some_and(|error| error.contains("somebody is between the two machines"));
    ctx.check("somebody in between is noticed", says, &format!("{failed:?}"));
    drop(between);

    // Three wrong ones, then the right one is too late.
    let code = at_a.does(Control::invite_member)?.code;
    let (number, last) = code.split_at(code.len() - 1);
    let wrong = format!("{number}{}", if last == "0" { "1" } else { "0" });
    for _ in 0..3 {
        let failed = join(&wrong, &place).err().map(|error| format!("{error:#}"));
        ctx.check(
            "a wrong code is refused",
            failed.is_some_and(|error| error.contains("the code is wrong")),
            "it is not",
        );
    }
    let late = join(&code, &place).err().map(|error| format!("{error:#}")).unwrap_or_default();
    ctx.check("after three tries the right one is, too", late.contains("does not invite by this code"), &late);
    let status = at_b.does(Control::fleet)?;
    ctx.check("nobody came in", status.membership.is_none(), &format!("{status:?}"));
    on_b.stop()?;
    on_a.stop()
}

fn expiry(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let (a, b) = (network.host("a")?, network.host("b")?);
    let (on_a, at_a, settings) = found(ctx, &a)?;
    let (on_b, at_b) = machine(ctx, &b, &settings)?;
    let (id_a, id_b) = (on_a.node_id()?, on_b.node_id()?);
    // It ends while the machine that has the key is away.
    let enrolment = Enrolment { id: id_b.clone(), valid_usec: Some(4_000_000), ..Enrolment::default() };
    let membership = at_a.does(|control| control.enroll_member(enrolment))?;
    a.port.plug(false)?;
    at_b.does(|control| control.join_fleet(&membership, None))?;
    wait::until_true("the membership to end", ACQUAINTED, || Ok(at_b.does(Control::fleet)?.problem.is_some()))?;
    a.port.plug(true)?;
    wait_reason(&at_b, &id_a, "it does not let this machine in: the membership ended on 20")?;
    wait_reason(&at_a, &id_b, "it is not let in: the membership ended on 20")?;
    let problems = at_b.does(Control::status)?.problems;
    let says = problems.iter().any(|problem| problem.contains("the membership ended on"));
    ctx.check("its status says so", says, &format!("{problems:?}"));

    // A new one lets it in again at once, and nobody makes it longer than it was meant to be.
    let enrolment = Enrolment { id: id_b.clone(), valid_usec: Some(600_000_000), ..Enrolment::default() };
    let membership = at_a.does(|control| control.enroll_member(enrolment))?;
    let soon = at_b.does(|control| control.join_fleet(&membership, None))?.membership.context("a membership")?;
    on_b.wait_state(&id_a, "online", ACQUAINTED)?;
    on_a.wait_state(&id_b, "online", ACQUAINTED)?;
    let now = at_b.does(Control::fleet)?.membership.context("a membership")?;
    ctx.check("it ends when it was meant to", now.expires_timestamp == soon.expires_timestamp, &format!("{now:?}"));
    on_b.stop()?;
    on_a.stop()
}

/// A machine between two others: it has a key of its own, and passes on what each of them says.
struct Between {
    _servers: Servers,
}

impl Between {
    fn start(host: &Arc<Host>, towards: String) -> Result<Self> {
        let key = NodeKey::from_seed([77; 32]);
        let _: NodeId = key.id();
        let acceptor = Acceptor::new(&key, Admission::Open)?;
        let client = tls::Node::new([77; 32])?.config();
        let listener = host.enter(|| TcpListener::bind(("::", SHARE_PORT)).context("binding"))?;
        let servers = Servers::new()?;
        let host = Arc::clone(host);
        servers.accept(listener, move |stream| {
            let (acceptor, client, host, towards) =
                (acceptor.clone(), Arc::clone(&client), Arc::clone(&host), towards.clone());
            async move {
                let (mut theirs, _) = acceptor.accept(stream).await?;
                let connect = move || host.enter(|| Ok(TcpStream::connect(&towards)?));
                let ours = tokio::task::spawn_blocking(connect).await??;
                ours.set_nonblocking(true)?;
                let name = rustls::pki_types::ServerName::try_from("peer.invalid")?;
                let ours = tokio::net::TcpStream::from_std(ours)?;
                let mut ours = TlsConnector::from(client).connect(name, ours).await?;
                let _ = copy_bidirectional(&mut theirs, &mut ours).await;
                Ok(())
            }
        })?;
        Ok(Self { _servers: servers })
    }
}
