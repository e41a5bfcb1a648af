//! A peer that lies, and is quicker than the honest one: nothing wrong enters B's store, B gets the path all the same, and the
//! liar is asked no more.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use super::Case;
use crate::byte_server::{Reply, Servers};
use crate::ctx::Ctx;
use crate::liar::{FakePeer, Fault, Goods, Manner};
use crate::peer::{Peernixd, Settings};
use crate::real_nix::{self, Generation, Retries};

/// How much later the honest peer answers, so that the liar is everybody's first choice.
const HESITATION: Duration = Duration::from_millis(80);

/// What a liar deserves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deserves {
    /// To be banned, with a reason in the log.
    Ban,
    /// Not to be asked for this path any more, with a reason in the log: a damaged file does the same.
    Bar,
    /// Not to be believed; a program that is broken or has another taste in signatures does the same.
    Disbelief,
}

pub(super) fn cases() -> Vec<Case> {
    use Deserves::{Ban, Bar, Disbelief};
    [
        ("flipped-bit", Fault::FlippedBit, Bar),
        ("flipped-bit-at-the-end", Fault::FlippedBitAtTheEnd, Bar),
        ("truncated", Fault::Truncated, Bar),
        ("longer", Fault::Longer, Bar),
        ("other-nar", Fault::OtherNar, Bar),
        ("other-narinfo", Fault::OtherNarinfo, Ban),
        ("unsigned", Fault::Unsigned, Ban),
        ("unknown-key", Fault::UnknownKey, Ban),
        ("other-key-of-the-name", Fault::OtherKey, Disbelief),
        ("forged-references", Fault::ForgedReferences, Ban),
        ("forged-hash", Fault::ForgedHash, Ban),
        ("forged-url", Fault::ForgedUrl, Disbelief),
        ("wrong-status", Fault::WrongStatus, Disbelief),
        ("redirect", Fault::Redirect, Disbelief),
        ("wrong-length", Fault::WrongLength, Disbelief),
        ("ignores-range", Fault::IgnoresRange, Disbelief),
        ("garbage", Fault::Garbage, Disbelief),
        ("encoding", Fault::Encoding, Disbelief),
    ]
    .map(|(name, fault, deserves)| Case::new(format!("liars/{name}"), move |ctx| liar(ctx, fault, deserves)))
    .into()
}

fn liar(ctx: &Ctx, fault: Fault, deserves: Deserves) -> Result<()> {
    one(ctx, fault, deserves, "small", ["piece-2m", "piece-2m-other"])?;
    one(ctx, fault, deserves, "large", ["piece-24m", "piece-24m-other"])
}

fn one(ctx: &Ctx, fault: Fault, deserves: Deserves, size: &str, names: [&str; 2]) -> Result<()> {
    let network = ctx.network()?;
    let [l, c, b] = ["l", "c", "b"].map(|name| network.host(&format!("{name}{size}")));
    let (l, c, b) = (l?, c?, b?);
    let set = ctx.world.pieces()?;
    let goods = names.into_iter().map(|name| Goods::of(set, name)).collect::<Result<Vec<_>>>()?;
    let path = goods[0].path();
    // Where forged addresses lead. Nobody may follow them.
    let servers = Servers::new()?;
    let elsewhere = network.outside.enter(|| TcpListener::bind("10.77.0.254:9999").context("elsewhere"))?;
    let elsewhere = servers.plain(elsewhere, Arc::new(|_| Reply::new(404, "")))?;

    let liar = FakePeer::start(&l, 1, goods.clone(), Manner::lying(fault))?;
    let honest = FakePeer::start(&c, 2, goods, Manner::hesitant(HESITATION))?;
    let settings = Settings::new(ctx).fixed_peers(&[liar.fixed.clone(), honest.fixed.clone()]);
    let on_b = Peernixd::start(ctx, &b, &settings)?;
    on_b.wait_online(2, Duration::from_secs(10))?;

    // A large NAR is under way to Nix before its end proves it wrong: Nix may try again there, and need a second request.
    let wrong_bytes = matches!(fault, Fault::FlippedBit | Fault::FlippedBitAtTheEnd | Fault::OtherNar);
    let retries = if size == "large" && wrong_bytes { Retries::Allowed } else { Retries::None };
    let args = ["nix-store", "--realise", path.as_str()];
    let realise = |label: &str| {
        real_nix::start(ctx, &b, Generation::Machine, &format!("{size}-{label}"), &args, retries)?
            .finish(Duration::from_secs(30))
    };
    let first = realise("first")?;
    real_nix::verify_store(&b, Generation::Machine)?;
    if retries == Retries::None {
        ctx.check(&format!("{size}: B gets it at once"), first.ok, &first.complaints());
    } else {
        ctx.note(&format!("{size}: B gets it at once"), if first.ok { "yes" } else { "no" }, "");
    }
    if !first.ok {
        let second = realise("second")?;
        ctx.check(&format!("{size}: B gets it at the next request"), second.ok, &second.complaints());
    }
    real_nix::verify_store(&b, Generation::Machine)?;
    ctx.check(&format!("{size}: the path is valid"), real_nix::is_valid(&b, &path)?, "it is not");
    ctx.check(
        &format!("{size}: the liar was asked"),
        liar.asked.count("narinfo") > 0,
        &format!("{:?}", liar.asked.all()),
    );
    ctx.check(&format!("{size}: nobody went elsewhere"), elsewhere.all().is_empty(), &format!("{:?}", elsewhere.all()));

    let id = liar.id.to_string();
    let status = on_b.peers()?.into_iter().find(|peer| peer["id"] == id.as_str()).unwrap_or_default();
    let banned = status["state"] == "blocked";
    let log = on_b.log();
    let says = |what: &str| log.lines().any(|line| line.contains(&id) && line.contains(what));
    match deserves {
        Deserves::Ban => {
            ctx.check(&format!("{size}: the liar is banned"), banned, &status.to_string());
            ctx.check(&format!("{size}: the log says why"), says("ban"), "no line with its id and a ban");
            ctx.note(&format!("{size}: reason"), status["ban"]["reason"].clone(), "");
        }
        Deserves::Bar => {
            ctx.check(&format!("{size}: it is not banned for one path"), !banned, &status.to_string());
            let why = says("is not asked of it any more");
            ctx.check(&format!("{size}: the log says why"), why, "no line with its id and what it sent");
        }
        Deserves::Disbelief if fault == Fault::OtherKey => {
            ctx.check(&format!("{size}: another key of the name bans nobody"), !banned, &status.to_string());
        }
        Deserves::Disbelief => ctx.note(&format!("{size}: banned"), if banned { "yes" } else { "no" }, ""),
    }
    let honest_state = on_b.state_of(&honest.id.to_string())?;
    ctx.check(
        &format!("{size}: the honest peer is not banned"),
        honest_state.as_deref() != Some("blocked"),
        &format!("{honest_state:?}"),
    );
    on_b.stop()
}
