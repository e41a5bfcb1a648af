//! Everything at once: six machines whose Nix takes and collects paths, while services are killed and stopped, lines are cut and slowed,
//! the network falls apart, a peer lies, two caches have no room, and the Internet has its days. Every realisation comes to its end, and
//! fails only where Nix would have failed without us: its own service was struck, its own line was, or the Internet was not well.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use parking_lot::Mutex;

use super::Case;
use crate::ctx::Ctx;
use crate::host::{HERE, Host};
use crate::internet::{Internet, Weather, flat_cache};
use crate::liar::{FakePeer, Fault, Goods, Manner};
use crate::network::Network;
use crate::peer::{Peernixd, Settings};
use crate::real_nix::{self, Generation, Retries};
use crate::store::Signed;
use crate::wait;
use crate::world::noise;

/// How many machines take part, beside the liar.
const HOSTS: usize = 6;
/// The first of them is never killed: what it has in the end is what it did not give back.
const SPARED: usize = 0;
/// Those whose cache has room for no large NAR.
const CRAMPED: [usize; 2] = [1, 2];
/// A run of Nix that takes longer hangs.
const NIX_LIMIT: Duration = Duration::from_secs(60);
/// How long whatever is done to them lasts.
const SHORTEST: u64 = 300;
const LONGEST: u64 = 3000;
/// What the spared one may have more than in the beginning, when all is calm again: connections are kept for a while.
const FILES_MORE: f64 = 64.0;
const MEMORY_MORE_MIB: f64 = 48.0;
/// In which time it gives back what only a busy time needs.
const GIVEN_BACK: Duration = Duration::from_secs(60);
/// What may lie in a cache in the end: what a transfer that broke off left for the next one.
const LEFT_MIB: f64 = 256.0;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("chaos/minute", |ctx| chaos(ctx, Duration::from_secs(60))).early().limit(240),
        Case::new("chaos/ten-minutes", |ctx| chaos(ctx, Duration::from_secs(600))).alone().limit(900).long_only(),
    ]
}

/// Chance that can be had again: the seed is among the figures, and `PEERNIX_LAB_SEED` sets it.
struct Dice(Vec<u8>, usize);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(noise(seed, 1 << 16), 0)
    }

    /// A number below `end`.
    fn below(&mut self, end: u64) -> u64 {
        let at = self.1 % (self.0.len() - 4);
        self.1 += 4;
        u64::from(u32::from_le_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])) % end
    }

    fn host(&mut self) -> usize {
        usize::try_from(self.below(HOSTS as u64)).unwrap_or_default()
    }

    fn while_it_lasts(&mut self) -> Duration {
        Duration::from_millis(SHORTEST + self.below(LONGEST - SHORTEST))
    }
}

/// What is wrong at the moment, or was: a count that is odd while something is.
#[derive(Default)]
struct Trouble(AtomicU64);

impl Trouble {
    fn turn(&self) {
        self.0.fetch_add(1, SeqCst);
    }

    fn now(&self) -> u64 {
        self.0.load(SeqCst)
    }

    /// Whether something was wrong at any time since the count was `then`.
    fn since(&self, then: u64) -> bool {
        then % 2 == 1 || self.now() != then
    }
}

/// What all of it shares.
struct Stage<'a> {
    ctx: &'a Ctx,
    hosts: &'a [Arc<Host>],
    settings: &'a Settings,
    services: Vec<Mutex<Option<Peernixd<'a>>>>,
    /// Of each machine alone: its service or its line is struck.
    own: Vec<Trouble>,
    internet: Internet,
    weather: Trouble,
    paths: Vec<String>,
    over: AtomicBool,
    counts: Mutex<BTreeMap<String, u64>>,
}

impl Stage<'_> {
    fn count(&self, what: &str) {
        *self.counts.lock().entry(what.to_owned()).or_default() += 1;
    }

    /// Takes and collects paths on one machine until the time is up.
    fn client(&self, number: usize, mut dice: Dice) -> Result<()> {
        let host = &self.hosts[number];
        let mut round = 0;
        while !self.over.load(SeqCst) {
            round += 1;
            let path = &self.paths[usize::try_from(dice.below(self.paths.len() as u64))?];
            let (own, weather) = (self.own[number].now(), self.weather.now());
            let label = format!("{}-{round}", host.name);
            let command = ["nix-store", "--realise", path];
            let run = real_nix::start(self.ctx, host, Generation::Machine, &label, &command, Retries::Allowed)?;
            let run = run.finish(NIX_LIMIT)?;
            if run.ok {
                self.count("realised");
                let _ = std::fs::remove_file(host.logs.join(format!("{label}.nix.log")));
            } else if self.own[number].since(own) {
                self.count("failed with its own service or line");
            } else if self.weather.since(weather) {
                self.count("failed with the Internet");
            } else {
                bail!("on {} Nix failed for no reason of its own: {path}\n{}", host.name, run.complaints());
            }
            if dice.below(4) == 0 {
                host.collect()?;
                self.count("collections");
            }
        }
        Ok(())
    }

    /// Does things to all of them until the time is up, one after another, and mends each.
    fn fate(&self, network: &Network<'_>, mut dice: Dice, until: Instant) -> Result<()> {
        while Instant::now() < until {
            let (victim, time) = (dice.host(), dice.while_it_lasts());
            let host = &self.hosts[victim];
            match dice.below(8) {
                0 | 1 if victim != SPARED => {
                    self.count("kills");
                    self.own[victim].turn();
                    let Some(mut service) = self.services[victim].lock().take() else { continue };
                    service.kill9()?;
                    service.judge_log()?;
                    drop(service);
                    wait::pass(time / 4);
                    *self.services[victim].lock() = Some(Peernixd::start(self.ctx, host, self.settings)?);
                    self.own[victim].turn();
                }
                0..=2 => {
                    self.count("stops");
                    self.own[victim].turn();
                    self.signal(victim, Signal::SIGSTOP)?;
                    wait::pass(time);
                    self.signal(victim, Signal::SIGCONT)?;
                    self.own[victim].turn();
                }
                3 => {
                    self.count("slow lines");
                    host.slow(5 + u32::try_from(dice.below(40))?)?;
                    wait::pass(time);
                    host.fast()?;
                }
                4 => {
                    self.count("partitions");
                    network.part(&self.hosts[..HOSTS / 2], &self.hosts[HOSTS / 2..])?;
                    wait::pass(time);
                    network.join()?;
                }
                5 => {
                    self.count("cables pulled");
                    self.own[victim].turn();
                    host.port.plug(false)?;
                    wait::pass(time);
                    host.port.plug(true)?;
                    wait::pass(time * 2);
                    self.own[victim].turn();
                }
                kind => {
                    self.count("weathers");
                    self.weather.turn();
                    let at = usize::try_from(dice.below(1 << 20))?;
                    self.internet.turn(match (kind, at % 3) {
                        (6, 0) => Weather::NarStallOnce(at),
                        (6, _) => Weather::NarCut(at),
                        (_, 0) => Weather::Status(503),
                        (_, 1) => Weather::NarStatus(404),
                        (_, _) => Weather::SlowNarinfo(Duration::from_millis(800)),
                    });
                    wait::pass(time);
                    self.internet.turn(Weather::Fine);
                    // What was ill is left alone for about as long as it was; Nix itself leaves it alone for a minute.
                    wait::pass(time * 2);
                    self.weather.turn();
                }
            }
            wait::pass(dice.while_it_lasts() / 3);
        }
        Ok(())
    }

    fn signal(&self, number: usize, signal: Signal) -> Result<()> {
        self.services[number].lock().as_ref().map_or(Ok(()), |service| service.process.signal(signal))
    }

    fn spared<T>(&self, ask: impl FnOnce(&Peernixd<'_>) -> Result<T>) -> Result<T> {
        ask(self.services[SPARED].lock().as_ref().context("the spared one is gone")?)
    }
}

fn chaos(ctx: &Ctx, time: Duration) -> Result<()> {
    let seed = std::env::var("PEERNIX_LAB_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    ctx.note("seed", seed, "");
    let network = ctx.network()?;
    let maker = network.host("maker")?;
    let set = ctx.world.closure()?;
    let mut infos: Vec<_> = set.paths.iter().filter(|info| info.path.name().starts_with("deb-")).take(30).collect();
    set.install_some(&maker, &set.closure_of(infos.iter().copied()), Signed::Yes)?;
    let pieces = ctx.world.pieces()?;
    let some: Vec<_> =
        ["piece-2m", "piece-8m", "piece-24m"].iter().map(|name| pieces.named(name)).collect::<Result<_>>()?;
    pieces.install_some(&maker, &some, Signed::Yes)?;
    infos.extend(some);
    let paths: Vec<String> = infos.iter().map(|info| format!("/nix/store/{}", info.path)).collect();
    let internet = Internet::start(&network, 8080, &flat_cache(&maker, "cache", "zstd", &paths)?)?;
    network.slow_internet(200)?;

    let liar = network.host("liar")?;
    let liar = FakePeer::start(&liar, 99, vec![Goods::of(pieces, "piece-8m")?], Manner::lying(Fault::FlippedBit))?;
    let hosts: Vec<_> = (0..HOSTS).map(|number| network.host(&format!("h{number}"))).collect::<Result<_>>()?;
    for number in CRAMPED {
        hosts[number].sh(&format!("mkdir -p {HERE}/cache && mount -t tmpfs -o size=3m tmpfs {HERE}/cache"))?;
    }
    let settings = Settings::new(ctx).upstreams(&[&internet.url]).set("discovery.peers", vec![liar.fixed.clone()]);
    let services = hosts.iter().map(|host| Ok(Mutex::new(Some(Peernixd::start(ctx, host, &settings)?))));
    let stage = Stage {
        ctx,
        hosts: &hosts,
        settings: &settings,
        services: services.collect::<Result<_>>()?,
        own: (0..HOSTS).map(|_| Trouble::default()).collect(),
        internet,
        weather: Trouble::default(),
        paths,
        over: AtomicBool::new(false),
        counts: Mutex::default(),
    };
    stage.spared(|on| on.wait_online(HOSTS - 1, Duration::from_secs(30)))?;
    // What is made once is made before it begins.
    real_nix::realise(ctx, &hosts[SPARED], Generation::Machine, "first", &stage.paths[0])?.must("the first path")?;
    let (files, memory) = stage.spared(|on| Ok((on.open_files()?, on.own_memory()?)))?;

    let until = Instant::now() + time;
    std::thread::scope(|scope| {
        let stage = &stage;
        let clients: Vec<_> = (0..HOSTS)
            .map(|number| scope.spawn(move || stage.client(number, Dice::new(seed * 100 + number as u64))))
            .collect();
        let fate = stage.fate(&network, Dice::new(seed), until);
        stage.over.store(true, SeqCst);
        for client in clients {
            client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        fate
    })?;
    for (what, count) in stage.counts.lock().iter() {
        ctx.note(what, *count, "");
    }
    ctx.check("the liar was asked", liar.asked.count("/nar/") > 0, "nobody asked it");
    calm(&stage)?;
    let (more_files, more_memory) = stage.spared(|on| {
        let back = wait::until("files to be closed", Duration::from_secs(40), || {
            let more = on.open_files()? as f64 - files as f64;
            Ok((more <= FILES_MORE).then_some(more))
        });
        let more = back.map_or_else(|_| on.open_files().map(|now| now as f64 - files as f64), |(more, _)| Ok(more))?;
        let more_memory = || Ok::<_, anyhow::Error>((on.own_memory()? as f64 - memory as f64) / f64::from(1 << 20));
        let back = wait::until("memory to be given back", GIVEN_BACK, || {
            let more = more_memory()?;
            Ok((more <= MEMORY_MORE_MIB).then_some(more))
        });
        Ok((more, back.map_or_else(|_| more_memory(), |(more, _)| Ok(more))?))
    })?;
    ctx.measure("files and sockets more than in the beginning", more_files, "", FILES_MORE);
    ctx.measure("memory more than in the beginning", more_memory, "MiB", MEMORY_MORE_MIB);
    let left = hosts[SPARED].sh(&format!("du -sm {HERE}/cache | cut -f1"))?;
    ctx.measure("what lies in its cache", left.trim().parse()?, "MiB", LEFT_MIB);
    for service in stage.services {
        service.into_inner().map_or(Ok(()), Peernixd::stop)?;
    }
    Ok(())
}

/// All is well again: everybody knows everybody, and has everything that it wants.
fn calm(stage: &Stage<'_>) -> Result<()> {
    for service in &stage.services {
        if let Some(on) = service.lock().as_ref() {
            on.wait_online(HOSTS - 1, Duration::from_secs(60))?;
        }
    }
    let command: Vec<&str> =
        ["nix-store", "--realise"].into_iter().chain(stage.paths.iter().map(String::as_str)).collect();
    for host in stage.hosts {
        let label = format!("{}-calm", host.name);
        real_nix::start(stage.ctx, host, Generation::Machine, &label, &command, Retries::None)?
            .finish(NIX_LIMIT)?
            .must("everything, when all is calm")?;
        real_nix::verify_store(host, Generation::Machine)?;
    }
    Ok(())
}
