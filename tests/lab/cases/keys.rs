//! A signs what it built with its own keys: B's real Nix takes it before, during and after a rotation, and B's gateway
//! refuses what only a key signed that B does not trust any more.

use std::time::Duration;

use anyhow::{Context, Result};
use peernix::control::{Control, KeyState};
use peernix::nix::PathInfo;

use super::Case;
use crate::control::Administrator;
use crate::ctx::Ctx;
use crate::host::Host;
use crate::http::gateway_get;
use crate::needs::Need;
use crate::peer::{Peernixd, Settings};
use crate::real_nix::{self, Generation};
use crate::store::Signed;
use crate::wait;

/// How long a machine may take to learn what another one changed.
const SPREAD: Duration = Duration::from_secs(10);

/// The grace of the rotation: longer than the case.
const GRACE: Duration = Duration::from_secs(3600);

pub(super) fn cases() -> Vec<Case> {
    Generation::ALL
        .map(|generation| {
            let name = format!("keys/rotation/nix-{}", generation.version());
            Case::new(name, move |ctx| rotation(ctx, generation)).needing(Need::Nix(generation))
        })
        .into()
}

/// Builds something on a host: its Nix notes that this happened there, and nobody signs it.
pub(super) fn build(host: &Host, name: &str) -> Result<String> {
    let text = format!(
        "derivation {{ name = \"{name}\"; system = builtins.currentSystem; builder = \"/bin/sh\"; args = [ \"-c\" \"echo {name} > $out\" ]; }}"
    );
    std::fs::write(host.dir.join("tmp").join(format!("{name}.nix")), text)?;
    // The machine's own Nix builds for all: what is tried here is the one that fetches.
    let drv = host.sh(&format!("nix-store --realise $(nix-instantiate /run/host/tmp/{name}.nix)"))?;
    Ok(drv.trim().to_owned())
}

/// Builds something on A, and waits until B has heard that A offers another path.
fn build_and_tell(a: &Host, on_b: &Peernixd<'_>, name: &str) -> Result<String> {
    let offered = || -> Result<u64> {
        let metrics = on_b.metrics()?;
        let entries = metrics.lines().find_map(|line| line.strip_prefix("peernix_index_entries "));
        Ok(entries.context("no index")?.parse()?)
    };
    let before = offered()?;
    let path = build(a, name)?;
    wait::until_true("B to hear of the new path", SPREAD, || Ok(offered()? > before))?;
    Ok(path)
}

/// The names of the keys that signed a path, as B's gateway tells its Nix.
fn signers(ctx: &Ctx, host: &Host, path: &str) -> Result<Option<Vec<String>>> {
    let hash = path.trim_start_matches("/nix/store/").get(..32).context("a store path")?;
    let (head, body) = gateway_get(ctx, host, &format!("/{hash}.narinfo"))?;
    if head.status != 200 {
        return Ok(None);
    }
    let text = String::from_utf8(body)?;
    let signatures = text.lines().filter_map(|line| line.strip_prefix("Sig: ")?.split_once(':'));
    Ok(Some(signatures.map(|(name, _)| name.to_owned()).collect()))
}

fn rotation(ctx: &Ctx, generation: Generation) -> Result<()> {
    let network = ctx.network()?;
    let (a, b) = (network.host("a")?, network.host("b")?);
    // Who may be served has to be known before it is; the keys of the nodes are made by a first start.
    let mut ids = Vec::new();
    for host in [&a, &b] {
        // The service locks itself in: of the store it sees what is there when it starts.
        host.sh("nix-store --init")?;
        let once = Peernixd::start(ctx, host, &Settings::new(ctx).set("discovery.mdns", false))?;
        ids.push(once.node_id()?);
        once.stop()?;
    }
    let settings = Settings::new(ctx).set("fleet.mode", "static").set("fleet.nodes", ids);
    let on_a = Peernixd::start(ctx, &a, &settings.clone().set("share.policy", "signed+own").set("keys.name", "a-1"))?;
    let on_b = Peernixd::start(ctx, &b, &settings)?;
    on_b.wait_online(1, SPREAD)?;
    let (there, here) = (Administrator::of(&on_a)?, Administrator::of(&on_b)?);
    let takes = |label: &str, path: &str| -> Result<()> {
        let run = real_nix::realise(ctx, &b, generation, label, path)?;
        ctx.check(&format!("B takes what was built {label}"), run.ok, &run.complaints());
        ctx.check(&format!("no retry {label}"), run.retries == 0, &run.retries.to_string());
        Ok(())
    };

    // Before: B enrols A's key, for its gateway and for its Nix.
    let before = build_and_tell(&a, &on_b, "before")?;
    ctx.check("a key that is not trusted lets nothing in", signers(ctx, &b, &before)?.is_none(), "it is offered");
    let keys = there.does(Control::keys)?;
    let old = keys.iter().find(|key| key.state == KeyState::Active).context("A has an active key")?.clone();
    ctx.check("B trusts the key of A", here.does(|client| client.trust(&old.public_key, "A"))?, "it did already");
    let trusted = format!("{} {}", ctx.world.public_key(), old.public_key);
    b.nix_conf(&["http://127.0.0.1:7649"], &trusted)?;
    takes("before", &before)?;

    // During: both keys sign, so that who has learnt of one only takes it as well.
    let kept = build_and_tell(&a, &on_b, "kept")?;
    let rotation = there.does(|client| client.rotate_key(Some(GRACE)))?;
    let during = build_and_tell(&a, &on_b, "during")?;
    takes("during", &during)?;
    ctx.check("what is older is signed by the old key too", signers(ctx, &b, &kept)?.is_some(), "it is not offered");
    here.does(|client| client.trust(&rotation.new.public_key, "A, the next one"))?;
    b.nix_conf(&["http://127.0.0.1:7649"], &format!("{trusted} {}", rotation.new.public_key))?;
    let both = build_and_tell(&a, &on_b, "both")?;
    let signed_by = signers(ctx, &b, &both)?.unwrap_or_default();
    let both_sign = [&old.name, &rotation.new.name].iter().all(|name| signed_by.contains(*name));
    ctx.check("both keys sign during the grace", both_sign, &format!("{signed_by:?}"));
    takes("with both", &both)?;

    distrust(ctx, &a, (&b, &here), &old.public_key, &both)?;

    // After: the old key is revoked at A, and the new one alone signs.
    there.does(|client| client.revoke_key(&old.fingerprint, "replaced"))?;
    // Others are offered no more at the same time: to count does not tell when it is known.
    let after = build(&a, "after")?;
    let _ = wait::until_true("B to hear of it", SPREAD, || Ok(signers(ctx, &b, &after)?.is_some()));
    let signed_by = signers(ctx, &b, &after)?.unwrap_or_default();
    ctx.check("the new key alone signs", signed_by == [rotation.new.name.clone()], &format!("{signed_by:?}"));
    takes("after", &after)?;
    ctx.check("what is older is signed by the new key", signers(ctx, &b, &kept)?.is_some(), "it is not offered");
    takes("before and fetched after", &kept)?;
    on_b.stop()?;
    on_a.stop()?;
    real_nix::verify_store(&b, generation)
}

/// Once B distrusts the old key, its gateway refuses what only that key signed, although B's nix.conf still names it.
fn distrust(ctx: &Ctx, a: &Host, (b, here): (&Host, &Administrator), old: &str, both: &str) -> Result<()> {
    let file = a.dir.join("state/keys/keys.json");
    ctx.check("the keys are A's alone", is_private(&file)?, "others may read them");
    // A path that came to A from elsewhere, with a signature of A's old key: A signs nothing anew that was not built there.
    let keys: serde_json::Value = serde_json::from_slice(&std::fs::read(&file)?)?;
    let keys = keys["keys"].as_array().context("the keys of A")?;
    let secret = keys.iter().find(|key| key["public"] == old).and_then(|key| key["secret"].as_str());
    std::fs::write(a.dir.join("tmp/old"), secret.context("the old key is in grace, so its secret is there")?)?;
    let pieces = ctx.world.pieces()?;
    let infos: [&PathInfo; 2] = [pieces.named("piece-2m")?, pieces.named("piece-2m-other")?];
    pieces.install_some(a, &infos, Signed::No)?;
    let [taken, refused] = infos.map(|info| format!("/nix/store/{}", info.path));
    a.sh(&format!("nix store sign -k /run/host/tmp/old {taken} {refused}"))?;
    std::fs::remove_file(a.dir.join("tmp/old"))?;

    let name = old.split(':').next().unwrap_or_default();
    let offered = wait::until_true("B to hear of it", SPREAD, || Ok(signers(ctx, b, &taken)?.is_some()));
    let by_old = signers(ctx, b, &taken)? == Some(vec![name.to_owned()]);
    ctx.check("what the old key signed is offered", offered.is_ok() && by_old, "it is not");
    real_nix::realise(ctx, b, Generation::Machine, "trusted", &taken)?.must("what the old key signed")?;
    ctx.check("B distrusts the old key", here.does(|client| client.distrust(name))?, "it was not trusted");
    for path in [&taken, &refused] {
        ctx.check("once it is distrusted no more", signers(ctx, b, path)?.is_none(), "it is offered still");
    }
    let run = real_nix::realise(ctx, b, Generation::Machine, "distrusted", &refused)?;
    ctx.check("B's Nix does not get it", !run.ok && !real_nix::is_valid(b, &refused)?, "it got it");
    ctx.check("what both signed is offered still", signers(ctx, b, both)?.is_some(), "it is not");
    Ok(())
}

fn is_private(file: &std::path::Path) -> Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    Ok(file.metadata()?.permissions().mode() & 0o077 == 0)
}
