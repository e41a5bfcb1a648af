//! The Internet is behind a proxy: a real one, and the real Nix.

use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result};

use super::Case;
use crate::ctx::Ctx;
use crate::internet::{Internet, flat_cache};
use crate::needs::Need;
use crate::peer::{Peernixd, Settings, Start};
use crate::process::{Process, sh};
use crate::real_nix::{self, Generation};
use crate::store::Signed;
use crate::wait;

/// Where the proxy listens.
const PORT: u16 = 3128;
/// What it wants to hear.
const LOGIN: (&str, &str) = ("lab", "a-password-that-nobody-may-see");

pub(super) fn cases() -> Vec<Case> {
    vec![Case::new("proxy/the-only-way-out", the_only_way_out).needing(Need::Tinyproxy).needing(Need::Nft)]
}

/// No packet of the machine reaches the upstream. Nix gets its path all the same, once by the environment and once by the
/// configuration, and the password is nowhere.
fn the_only_way_out(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let b = network.host("b")?;
    let maker = network.host("maker")?;
    let info = ctx.world.pieces()?.named("text-24m")?;
    ctx.world.pieces()?.install_some(&maker, &[info], Signed::Yes)?;
    let path = format!("/nix/store/{}", info.path);
    let internet = Internet::start(&network, 8080, &flat_cache(&maker, "cache", "xz", std::slice::from_ref(&path))?)?;
    let outside = &network.outside;
    sh(&format!(
        "nsenter --net=/run/netns/{net} nft add table inet walled
         nsenter --net=/run/netns/{net} nft 'add chain inet walled in {{ type filter hook input priority 0; }}'
         nsenter --net=/run/netns/{net} nft 'add rule inet walled in iifname br0 tcp dport != {PORT} drop'",
        net = outside.0
    ))?;
    let (user, password) = LOGIN;
    let proxy = network.outside_address();
    let start_proxy = |login: bool| {
        let file = ctx.tmp.join("tinyproxy.conf");
        let auth = if login { format!("BasicAuth {user} {password}\n") } else { String::new() };
        std::fs::write(
            &file,
            format!("Port {PORT}\nListen {proxy}\nTimeout 60\nMaxClients 50\nLogLevel Info\n{auth}"),
        )?;
        let mut command = std::process::Command::new("nsenter");
        command.arg(format!("--net={}", outside.file().display())).args(["tinyproxy", "-d", "-c"]).arg(&file);
        let process = Process::start(command, &ctx.logs.join("tinyproxy.log"))?;
        wait::until_true("the proxy to listen", Duration::from_secs(5), || {
            b.enter(|| Ok(TcpStream::connect((proxy.as_str(), PORT)).is_ok()))
        })?;
        Ok::<_, anyhow::Error>(process)
    };
    let settings =
        Settings::new(ctx).set("gateway.budget_ms", 3000).set("discovery.mdns", false).upstreams(&[&internet.url]);
    let variable = format!("http://{user}:{password}@{proxy}:{PORT}");
    for (what, settings, start) in [
        ("environment", settings.clone(), Start { http_proxy: Some(variable), ..Start::default() }),
        ("configuration", settings.set("gateway.proxy", format!("http://{proxy}:{PORT}")), Start::default()),
    ] {
        let _proxy = start_proxy(start.http_proxy.is_some()).context("tinyproxy")?;
        let on_b = Peernixd::start_as(ctx, &b, &settings, start)?;
        let run = real_nix::realise(ctx, &b, Generation::Machine, what, &path)?.must("by way of the proxy")?;
        ctx.check(&format!("{what}: Nix sees no retry"), run.retries == 0, &run.retries.to_string());
        let shown = on_b.log() + &on_b.metrics()?;
        ctx.check(&format!("{what}: the password is not shown"), !shown.contains(password), "it is in the log");
        on_b.stop()?;
        b.delete(&path)?;
        std::fs::remove_dir_all(b.dir.join("state"))?;
    }
    Ok(())
}
