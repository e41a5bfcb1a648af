//! One large NAR that several machines have: it comes from all of them at once, whoever of them dies, stalls or has it damaged.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use peernix::nix::{NarHash, PathInfo};
use sha2::{Digest, Sha256};

use super::Case;
use super::failover::nar_target;
use crate::ctx::Ctx;
use crate::host::Host;
use crate::http::{Body, Client};
use crate::network::Network;
use crate::peer::{Peernixd, Settings};
use crate::store::{Signed, StoreSet};
use crate::wait;

/// What each source can send, in megabits per second.
const RATE: u32 = 100;
/// The longest pause that a reader may see.
const PAUSE_LIMIT: f64 = 2.0;
/// A piece.
const MIB: f64 = 1024.0 * 1024.0;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("pieces/four-sources", |ctx| four(ctx, "piece-64m", 3.0)).alone(),
        Case::new("pieces/four-sources-of-500-mib", |ctx| four(ctx, "piece-500m", 3.5)).alone().limit(400).long_only(),
        Case::new("pieces/one-dies-one-stalls", dies_and_stalls),
        Case::new("pieces/one-is-damaged", damaged),
        Case::new("pieces/goes-on-after-a-restart", restart),
    ]
}

fn set_of<'a>(ctx: &'a Ctx, name: &str) -> Result<&'a StoreSet> {
    if name == "piece-500m" { ctx.world.large() } else { ctx.world.pieces() }
}

/// Machines that have it, and one that wants it.
struct Room<'a> {
    sources: Vec<Peernixd<'a>>,
    reader: Peernixd<'a>,
    target: String,
    info: &'a PathInfo,
}

fn hosts(network: &Network<'_>, sources: usize) -> Result<Vec<Arc<Host>>> {
    (0..=sources).map(|number| network.host(&format!("h{number}"))).collect()
}

/// Gives the path to all of them but the last, who have slow lines.
fn install(ctx: &Ctx, hosts: &[Arc<Host>], name: &str) -> Result<()> {
    let set = set_of(ctx, name)?;
    for host in hosts.split_last().context("no host")?.1 {
        set.install_some(host, &[set.named(name)?], Signed::Yes)?;
        host.slow(RATE)?;
    }
    Ok(())
}

/// The last of `hosts` wants the path, all others have it.
fn room<'a>(ctx: &'a Ctx, hosts: &'a [Arc<Host>], name: &str, settings: &Settings) -> Result<Room<'a>> {
    let info = set_of(ctx, name)?.named(name)?;
    let (reader_host, sources) = hosts.split_last().context("no host")?;
    let sources = sources.iter().map(|host| Peernixd::start(ctx, host, &Settings::new(ctx)));
    let sources = sources.collect::<Result<Vec<_>>>()?;
    let reader = Peernixd::start(ctx, reader_host, settings)?;
    let mut room = Room { sources, reader, target: String::new(), info };
    room.know_each_other()?;
    room.target = nar_target(ctx, reader_host, &info.path.hash().to_string())?;
    Ok(room)
}

impl Room<'_> {
    /// Waits until the reader knows what all others have.
    fn know_each_other(&self) -> Result<()> {
        let Self { sources, reader, .. } = self;
        reader.wait_online(sources.len(), Duration::from_secs(20))?;
        let all = |count: f64| count >= sources.len() as f64;
        wait::until_true("the indexes of all", Duration::from_secs(20), || {
            let metrics = reader.metrics()?;
            let entries = metrics.lines().find_map(|line| line.strip_prefix("peernix_index_entries "));
            Ok(entries.is_some_and(|entries| entries.trim().parse().is_ok_and(all)))
        })
        .map(drop)
    }

    /// Reads the NAR through the gateway; `meanwhile` is done once a third of it is there.
    fn read(&mut self, ctx: &Ctx, meanwhile: impl FnOnce(&mut [Peernixd<'_>]) -> Result<()>) -> Result<Body> {
        let mut client = Client::gateway(ctx, self.reader.host)?;
        let head = client.request("GET", &self.target, &[])?;
        ensure!(head.status == 200, "the NAR: {}", head.status);
        let (third, mut meanwhile) = (self.info.nar_size / 3, Some(meanwhile));
        let sources = &mut self.sources;
        let body = client.body(&head, |offset, _| match meanwhile.take_if(|_| offset > third) {
            Some(meanwhile) => meanwhile(sources),
            None => Ok(()),
        })?;
        ctx.check("the body is complete", body.complete, &format!("{} of {}", body.bytes, self.info.nar_size));
        ctx.check("and right", body.hash == self.info.nar_hash, &body.hash.to_nix32());
        Ok(body)
    }

    fn pieces(&self, result: &str) -> Result<f64> {
        let metrics = self.reader.metrics()?;
        let name = format!("peernix_pieces_total{{result=\"{result}\"}} ");
        let value = metrics.lines().find_map(|line| line.strip_prefix(&name)).context("no such metric")?;
        Ok(value.trim().parse()?)
    }

    fn stop(self) -> Result<()> {
        self.sources.into_iter().chain([self.reader]).try_for_each(Peernixd::stop)
    }
}

fn sent(sources: &[Peernixd<'_>]) -> Result<Vec<u64>> {
    sources.iter().map(|source| source.host.sent()).collect()
}

/// Each of four can send 100 Mbit/s. From one at a time, and from all at once.
fn four(ctx: &Ctx, name: &str, times: f64) -> Result<()> {
    let network = ctx.network()?;
    let hosts = hosts(&network, 4)?;
    install(ctx, &hosts, name)?;
    let mut room = room(ctx, &hosts, name, &Settings::new(ctx).set("swarm.pieces", false))?;
    let size = room.info.nar_size as f64;
    let alone = room.read(ctx, |_| Ok(()))?.time.as_secs_f64();
    ensure!(room.pieces("right")? == 0.0, "pieces, though they are off");
    room.reader.stop()?;
    room.reader = Peernixd::start(ctx, &hosts[4], &Settings::new(ctx))?;
    room.know_each_other()?;
    // All of them read the NAR before they can say what proves its pieces; here on the same processors.
    let first = room.read(ctx, |_| Ok(()))?.time.as_secs_f64();
    let before = sent(&room.sources)?;
    let together = room.read(ctx, |_| Ok(()))?.time.as_secs_f64();
    let after = sent(&room.sources)?;
    ctx.measure("from one", size / alone / 1e6, "MB/s", None);
    ctx.measure("from four, the first time", size / first / 1e6, "MB/s", None);
    ctx.measure("from four", size / together / 1e6, "MB/s", None);
    ctx.measure("as a multiple of one, the first time", alone / first, "", None);
    let rate = alone / together;
    ctx.measure("as a multiple of one", rate, "", None);
    ctx.check("it is high enough", rate >= times, &format!("{rate:.2} of {times}"));
    let shares: Vec<f64> = before.iter().zip(&after).map(|(before, after)| (after - before) as f64 / size).collect();
    ctx.note("what each sent, of the NAR", format!("{shares:.2?}"), "");
    ctx.measure("what all sent, as a multiple of the NAR", shares.iter().sum(), "", 1.15);
    let right = room.pieces("right")?;
    ctx.check("each piece was counted", right == 2.0 * (size / MIB).ceil(), &right.to_string());
    room.stop()
}

/// Of three, one is killed and another one stopped when a third is there.
fn dies_and_stalls(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let hosts = hosts(&network, 3)?;
    install(ctx, &hosts, "piece-64m")?;
    let mut room = room(ctx, &hosts, "piece-64m", &Settings::new(ctx))?;
    let struck = Cell::new(None);
    let body = room.read(ctx, |sources| {
        sources[0].kill9()?;
        sources[1].process.signal(Signal::SIGSTOP)?;
        struck.set(Some(Instant::now()));
        Ok(())
    })?;
    ensure!(struck.get().is_some(), "nobody was struck");
    ctx.measure("the longest pause", body.longest_pause.as_secs_f64(), "s", PAUSE_LIMIT);
    ctx.check("it came in pieces", room.pieces("right")? > 0.0, &room.pieces("right")?.to_string());
    ctx.measure("wrong pieces", room.pieces("wrong")?, "", 0.0);
    room.sources[1].process.signal(Signal::SIGCONT)?;
    room.sources.remove(0);
    room.stop()
}

/// One of three has a damaged disk, since it told what proves the pieces: it sends one wrong piece, is named, and nothing wrong enters.
fn damaged(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let hosts = hosts(&network, 3)?;
    install(ctx, &hosts, "piece-24m")?;
    let mut room = room(ctx, &hosts, "piece-24m", &Settings::new(ctx))?;
    // So that all have their tables.
    room.read(ctx, |_| Ok(()))?;
    let right = room.pieces("right")?;
    ensure!(right >= 24.0, "it came in {right} pieces");
    let id = room.sources[1].node_id()?;
    damage(room.sources[1].host, &format!("nix/store/{}", room.info.path))?;
    let before = room.sources.iter().map(|source| source.host.sent()).sum::<Result<u64>>()?;
    room.read(ctx, |_| Ok(()))?;
    let sent = room.sources.iter().map(|source| source.host.sent()).sum::<Result<u64>>()? - before;
    ctx.measure("wrong pieces", room.pieces("wrong")?, "", 1.0);
    ctx.check("there was one", room.pieces("wrong")? == 1.0, "");
    let more = sent as f64 - room.info.nar_size as f64;
    // What it had sent of others when it was found out, what is sent beside, and what was asked of two.
    ctx.measure("what was sent beyond the NAR", more / MIB, "MiB", 6.0);
    let log = room.reader.log();
    ctx.check("it is named", log.contains(&id) && log.contains("wrong content in bytes"), "");
    room.stop()
}

/// The one that reads it is killed when a third is there. What it had it has after its start.
fn restart(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let hosts = hosts(&network, 2)?;
    install(ctx, &hosts, "piece-64m")?;
    for host in &hosts[..2] {
        // What takes some seconds only is not kept.
        host.slow(30)?;
    }
    let settings = Settings::new(ctx);
    let Room { sources, mut reader, target, info, .. } = room(ctx, &hosts, "piece-64m", &settings)?;
    let before = sent(&sources)?;
    let mut client = Client::gateway(ctx, reader.host)?;
    let head = client.request("GET", &target, &[])?;
    let mut first = Vec::new();
    client.body(&head, |_, bytes| {
        first.extend_from_slice(bytes);
        if first.len() as u64 > info.nar_size / 3 {
            reader.kill9()?;
        }
        Ok(())
    })?;
    ensure!((first.len() as u64) < info.nar_size, "it was there before the service was killed");
    drop(reader);
    let reader = Peernixd::start(ctx, &hosts[2], &settings)?;
    reader.wait_online(2, Duration::from_secs(20))?;
    let mut client = Client::gateway(ctx, reader.host)?;
    let range = format!("bytes={}-", first.len());
    let head = client.request("GET", &target, &[("Range", &range)])?;
    ensure!(head.status == 206, "the rest: {}", head.status);
    let body = client.body(&head, |_, bytes| {
        first.extend_from_slice(bytes);
        Ok(())
    })?;
    ctx.check("the body is complete", body.complete, &format!("{} bytes", body.bytes));
    let hash = NarHash::new(Sha256::digest(&first).into());
    ctx.check("and right", hash == info.nar_hash, &hash.to_nix32());
    let after = sent(&sources)?;
    let all: u64 = after.iter().zip(&before).map(|(after, before)| after - before).sum();
    ctx.measure("what was sent, as a multiple of the NAR", all as f64 / info.nar_size as f64, "", 1.15);
    sources.into_iter().chain([reader]).try_for_each(Peernixd::stop)
}

/// Changes a byte in every mebibyte of a file. Others have the same file by other names: theirs stays.
pub(super) fn damage(host: &Host, path: &str) -> Result<()> {
    let path = host.outside(path);
    let mut content = std::fs::read(&path)?;
    content.iter_mut().step_by(1 << 20).for_each(|byte| *byte ^= 1);
    let damaged = path.with_extension("damaged");
    std::fs::write(&damaged, content)?;
    Ok(std::fs::rename(damaged, path)?)
}
