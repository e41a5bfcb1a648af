//! What a path costs that nobody has: Nix asks for thousands of them.

use std::time::Duration;

use anyhow::{Result, ensure};
use peernix::nix::{StoreHash, base32};
use sha2::{Digest, Sha256};

use super::Case;
use crate::ctx::Ctx;
use crate::host::Host;
use crate::http::{Client, percentile};
use crate::peer::{Peernixd, Settings};
use crate::store::Signed;

/// Peers that have other things.
const PEERS: usize = 10;

/// Misses measured, one after the other on one connection, and as Nix does it, on 25 connections.
const ONE_BY_ONE: usize = 1000;
const CONNECTIONS: usize = 25;
const PER_CONNECTION: usize = 60;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("misses/no-peer", |ctx| misses(ctx, 0, 2.0)).alone(),
        // Ten daemons and the client share two cores here; a LAN would add its round trip, and take nine daemons away.
        Case::new("misses/10-peers", |ctx| misses(ctx, PEERS, 50.0)).alone(),
    ]
}

/// The hash of a path that does not exist, another for every number.
fn nobodys(number: usize) -> StoreHash {
    let digest: [u8; 32] = Sha256::digest(format!("nobody has {number}")).into();
    let mut hash = [0; 20];
    hash.copy_from_slice(&digest[..20]);
    StoreHash::new(hash)
}

/// Times of misses on one connection.
fn series(ctx: &Ctx, host: &Host, numbers: std::ops::Range<usize>) -> Result<Vec<Duration>> {
    let mut client = Client::gateway(ctx, host)?;
    numbers
        .map(|number| {
            let (head, _) = client.get(&format!("/{}.narinfo", base32::encode(nobodys(number).as_bytes())))?;
            ensure!(head.status == 404, "a miss is {}", head.status);
            Ok(head.time)
        })
        .collect()
}

fn misses(ctx: &Ctx, count: usize, limit_ms: f64) -> Result<()> {
    let network = ctx.network()?;
    let b = network.host("b")?;
    let hosts = (0..count).map(|number| network.host(&format!("p{number}"))).collect::<Result<Vec<_>>>()?;
    let set = ctx.world.many()?;
    let mut peers = Vec::new();
    for (number, host) in hosts.iter().enumerate() {
        let some = set.closure_of(set.paths.iter().skip(number).take(5));
        set.install_some(host, &some, Signed::Yes)?;
        peers.push(Peernixd::start(ctx, host, &Settings::new(ctx).set("log.level", "info"))?);
    }
    let on_b = Peernixd::start(ctx, &b, &Settings::new(ctx).set("log.level", "info"))?;
    on_b.wait_online(count, Duration::from_secs(20))?;
    series(ctx, &b, 0..50)?;
    let mut times = series(ctx, &b, 50..50 + ONE_BY_ONE)?;
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    ctx.measure("one by one, p50", ms(percentile(&mut times, 0.5)), "ms", None);
    ctx.measure("one by one, p99", ms(percentile(&mut times, 0.99)), "ms", limit_ms);
    ctx.measure("one by one, slowest", ms(percentile(&mut times, 1.0)), "ms", 400.0);
    let mut times = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS)
            .map(|number| {
                let first = 10_000 + number * PER_CONNECTION;
                let b = &b;
                scope.spawn(move || series(ctx, b, first..first + PER_CONNECTION))
            })
            .collect();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))??);
        }
        anyhow::Ok(all)
    })?;
    ctx.measure("on 25 connections, p50", ms(percentile(&mut times, 0.5)), "ms", None);
    ctx.measure("on 25 connections, p99", ms(percentile(&mut times, 0.99)), "ms", 400.0);
    ctx.measure("on 25 connections, slowest", ms(percentile(&mut times, 1.0)), "ms", None);
    on_b.stop()?;
    for peer in peers {
        peer.stop()?;
    }
    Ok(())
}
