//! What was built on a member of a fleet is on as many members as it should be, whoever collects garbage or leaves.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use peernix::control::{Control, Enrolment, GarbageOptions, PathReport, PinRequest};

use super::Case;
use super::keys::build;
use crate::control::Administrator;
use crate::ctx::Ctx;
use crate::host::Host;
use crate::peer::{Peernixd, Settings};
use crate::real_nix::{self, Generation};
use crate::{process::Process, wait};

/// How long it may take until what was built is on two machines.
const COPIED_LIMIT: f64 = 10.0;
/// After how long a member that is gone is replaced; an hour as delivered.
const REPLACE_AFTER: &str = "6s";
const ACQUAINTED: Duration = Duration::from_secs(30);
/// How long anything else may take here.
const SOON: Duration = Duration::from_secs(40);
/// How many members there are.
const MEMBERS: usize = 5;

pub(super) fn cases() -> Vec<Case> {
    vec![Case::new("copies/five-members", five_members).limit(240)]
}

/// A member: its host, its service, whoever administers it, and its Nix daemon.
struct Machine<'a> {
    host: &'a Host,
    on: Peernixd<'a>,
    at: Administrator,
    _daemon: Process,
}

impl Machine<'_> {
    fn has(&self, path: &str) -> Result<bool> {
        real_nix::is_valid(self.host, path)
    }

    fn report(&self, path: &str) -> Result<PathReport> {
        self.at.does(|control| control.query_path(path))
    }
}

/// Starts the service of a member as `settings` say.
fn start<'a>(ctx: &'a Ctx, host: &'a Host, settings: &Settings, daemon: Process) -> Result<Machine<'a>> {
    let on = Peernixd::start(ctx, host, settings)?;
    let at = Administrator::of(&on)?;
    Ok(Machine { host, on, at, _daemon: daemon })
}

/// A fleet of machines that trust each other's keys.
fn fleet<'a>(ctx: &'a Ctx, hosts: &'a [std::sync::Arc<Host>]) -> Result<(Vec<Machine<'a>>, Settings)> {
    let (first, others) = hosts.split_first().context("hosts")?;
    let nix = |host: &Host| real_nix::daemon(host, Generation::Machine);
    let daemon = nix(first)?;
    let founder = start(ctx, first, &Settings::new(ctx), daemon)?;
    let key = founder.at.does(|control| control.init_fleet("home"))?.public_key.context("a fleet has a key")?;
    let Machine { on, at, _daemon: daemon, .. } = founder;
    drop(at);
    on.stop()?;
    let settings = Settings::new(ctx)
        .set("share.profile", "fleet")
        .set("fleet.public_key", key)
        .set("replicate.copies", 2)
        .set("replicate.replace_after", REPLACE_AFTER);
    let founder = start(ctx, first, &settings, daemon)?;
    let own = founder.at.does(Control::keys)?.first().context("a key")?.public_key.clone();
    let mut machines = vec![founder];
    for host in others {
        // What Nix itself lets in, and the service.
        host.nix_conf(&["http://127.0.0.1:7649"], &format!("{} {own}", ctx.world.public_key()))?;
        let daemon = nix(host)?;
        let machine = start(ctx, host, &settings, daemon)?;
        let enrolment = Enrolment { id: machine.on.node_id()?, name: Some(host.name.clone()), ..Enrolment::default() };
        let membership = machines[0].at.does(|control| control.enroll_member(enrolment))?;
        machine.at.does(|control| control.join_fleet(&membership, None))?;
        machine.at.does(|control| control.trust(&own, "of the first"))?;
        machines.push(machine);
    }
    for machine in &machines {
        machine.on.wait_online(MEMBERS - 1, ACQUAINTED)?;
    }
    Ok((machines, settings))
}

/// Those of the machines that have a path, but for the first.
fn others_with(machines: &[Machine<'_>], path: &str) -> Result<Vec<usize>> {
    let mut with = Vec::new();
    for (number, machine) in machines.iter().enumerate().skip(1) {
        if machine.has(path)? && machine.report(path)?.pinned {
            with.push(number);
        }
    }
    Ok(with)
}

fn five_members(ctx: &Ctx) -> Result<()> {
    let network = ctx.network()?;
    let hosts = (0..MEMBERS).map(|number| network.host(&format!("m{number}"))).collect::<Result<Vec<_>>>()?;
    for host in &hosts {
        host.sh("nix-store --init")?;
    }
    let (mut machines, settings) = fleet(ctx, &hosts)?;

    let built = build(machines[0].host, "precious")?;
    let begun = Instant::now();
    wait::until_true("a copy of what was built", SOON, || Ok(!others_with(&machines, &built)?.is_empty()))?;
    ctx.measure("from the build to two machines that have it", begun.elapsed().as_secs_f64(), "s", COPIED_LIMIT);
    let holder = others_with(&machines, &built)?[0];
    wait::until_true("the first to know of it", SOON, || {
        let report = machines[0].report(&built)?;
        let held = report.holders.iter().filter(|holder| holder.state == "held").count();
        Ok(report.copies == Some(2) && held == 1)
    })?;
    ctx.check("and no more than wanted", others_with(&machines, &built)?.len() == 1, "there are more");

    // The second one collects garbage: it says that it keeps it, and does.
    let second = &machines[holder];
    let job = second.at.does(|control| control.collect_garbage(GarbageOptions::default()))?;
    let (job, _) = second.at.finish(&job)?;
    let says = job.message.contains("kept 1 path(s) for other machines");
    ctx.check("a collection says what it keeps", says, &job.message);
    ctx.check("the second holder keeps it", second.has(&built)?, "it is gone");
    let held_for = second.report(&built)?.held_for;
    ctx.check("and knows for whom", held_for == [machines[0].on.node_id()?], &format!("{held_for:?}"));

    // It leaves: a third one has it.
    let gone = machines.remove(holder);
    let begun = Instant::now();
    let Machine { host, on, at, _daemon: daemon } = gone;
    drop(at);
    on.stop()?;
    wait::until_true("a third machine to have it", SOON, || Ok(!others_with(&machines, &built)?.is_empty()))?;
    ctx.measure("from its end to another one that has it", begun.elapsed().as_secs_f64(), "s", None);

    // It is back, and need not hold it any more.
    let back = start(ctx, host, &settings, daemon)?;
    wait::until_true("who came back to let go of it", SOON, || Ok(!back.report(&built)?.pinned))?;

    // What is pinned in three copies is on three.
    let request = PinRequest { path: built.clone(), reason: None, until_timestamp: None, copies: Some(3) };
    machines[0].at.does(|control| control.pin(request))?;
    machines.push(back);
    wait::until_true("three machines to have what is pinned in three copies", SOON, || {
        Ok(others_with(&machines, &built)?.len() == 2)
    })?;
    machines.into_iter().try_for_each(|machine| machine.on.stop())
}
