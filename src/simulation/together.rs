//! Machines of one room that upgrade at about the same time: who downloads what, and who streams from whom, by the real directories.
//!
//! Bytes flow in steps of a quarter of a second: the line to the Internet is shared by all who download, what a machine sends by all who stream
//! from it. Where there are as many machines as here, the directories are the relays.

use super::network::Random;
use crate::fetch::claims::directory::{CHILDREN_MAX, Decision, Directory, RENEWAL, given_at_once};
use crate::fetch::claims::order::order;
use crate::fetch::claims::{Loss, Renewal, Role, Want};
use crate::nix::NarHash;
use crate::peers::{NodeId, NodeKey};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// A step.
const STEP: Duration = Duration::from_millis(250);
/// The line to the Internet, and that of each machine, in bytes a second: 100 Mbit/s and 1 Gbit/s.
const INTERNET: f64 = 12.5e6;
const CABLE: f64 = 118e6;
/// How many NARs Nix fetches at a time (`http-connections`).
const AT_ONCE: usize = 16;
/// How many relays there are, which are the directories.
const RELAYS: usize = 4;
/// How long until all know by the index that somebody has a path.
const INDEXED: Duration = Duration::from_secs(3);
/// How long a source may bring nothing.
const STALL: Duration = Duration::from_secs(3);
/// What is kept back of what is not proved, in bytes.
const WITHHELD: f64 = 65_536.0;
/// When the simulation has failed.
const END: Duration = Duration::from_secs(3600);

/// What is simulated.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) machines: usize,
    /// How many NARs each of them wants.
    pub(super) nars: usize,
    /// Within which time they begin.
    pub(super) within: Duration,
    /// How many of a hundred die while they are at it.
    pub(super) die: usize,
}

/// What was measured.
#[derive(Debug)]
pub(super) struct Figures {
    pub(super) shape: Shape,
    /// What was downloaded from the Internet, as a multiple of one copy.
    pub(super) copies: f64,
    /// The most machines that streamed one NAR, while it came, from one machine.
    pub(super) children: usize,
    /// The most streams that one machine sent at a time.
    pub(super) streams: usize,
    /// How long a machine took: the median, and the longest, in multiples of one that is alone.
    pub(super) times: (f64, f64),
    /// How many of those that live have everything.
    pub(super) done: usize,
    pub(super) alive: usize,
}

/// Where the bytes of a NAR come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    /// Somebody has to be asked.
    Nowhere,
    Internet,
    /// A machine that fetches it itself.
    Partial(usize),
    /// One that has it in its store.
    Store(usize),
}

struct Transfer {
    nar: usize,
    came: f64,
    from: From,
    waited: Duration,
    lost: Vec<(NodeId, Loss)>,
    renewed: Instant,
}

struct Machine {
    id: NodeId,
    begins: Instant,
    dies: Option<Instant>,
    is_alive: bool,
    next: usize,
    running: Vec<Transfer>,
    has: Vec<bool>,
    ended: Option<Instant>,
}

struct Nar {
    hash: NarHash,
    size: f64,
    /// Who has it in its store, and since when all know.
    holders: Vec<(usize, Instant)>,
}

struct Site {
    shape: Shape,
    now: Instant,
    random: Random,
    machines: Vec<Machine>,
    numbers: HashMap<NodeId, usize>,
    nars: Vec<Nar>,
    directories: Vec<Directory>,
    /// How many streams each machine sends, in all and of each NAR.
    sends: Vec<usize>,
    given: HashMap<(usize, usize), usize>,
    downloaded: f64,
    children: usize,
    streams: usize,
}

/// What is measured of such a site; `seed` decides all that is at random.
pub(super) fn run(shape: Shape, seed: u64) -> Figures {
    let mut site = Site::new(shape, seed);
    let start = site.now;
    while site.now < start + END && site.machines.iter().any(|machine| machine.is_alive && machine.ended.is_none()) {
        site.step();
    }
    let unique: f64 = site.nars.iter().map(|nar| nar.size).sum();
    let alone = unique / INTERNET;
    let mut times: Vec<f64> = site
        .machines
        .iter()
        .filter_map(|machine| Some((machine.ended? - machine.begins).as_secs_f64() / alone))
        .collect();
    times.sort_by(f64::total_cmp);
    let alive = site.machines.iter().filter(|machine| machine.is_alive);
    Figures {
        shape,
        copies: site.downloaded / unique,
        children: site.children,
        streams: site.streams,
        times: (times[times.len() / 2], times[times.len() - 1]),
        done: alive.clone().filter(|machine| machine.has.iter().all(|has| *has)).count(),
        alive: alive.count(),
    }
}

impl Site {
    fn new(shape: Shape, seed: u64) -> Self {
        let (now, mut random) = (Instant::now(), Random(seed));
        let nars: Vec<Nar> = (0..shape.nars)
            .map(|number| {
                let mut hash = [0; 32];
                hash[..8].copy_from_slice(&(number as u64).to_le_bytes());
                // From 20 kB to 40 MB, most of them small: the logarithm is the mean of three dice.
                let dice: f64 = (0..3).map(|_| random.below(1000) as f64 / 3000.0).sum();
                Nar { hash: NarHash::new(hash), size: 20e3 * 2000_f64.powf(dice), holders: Vec::new() }
            })
            .collect();
        let machines: Vec<Machine> = (0..shape.machines)
            .map(|number| {
                let mut key = [0; 32];
                key[..8].copy_from_slice(&(number as u64 + 1).to_le_bytes());
                let begins = now + random.time(shape.within);
                let dies = (number >= RELAYS || number == 0).then_some(()).filter(|()| random.percent(shape.die));
                Machine {
                    id: NodeKey::from_seed(key).id(),
                    begins,
                    dies: dies.map(|()| begins + random.time(Duration::from_secs(20))),
                    is_alive: true,
                    next: 0,
                    running: Vec::new(),
                    has: vec![false; shape.nars],
                    ended: None,
                }
            })
            .collect();
        let numbers = machines.iter().enumerate().map(|(number, machine)| (machine.id, number)).collect();
        let directories = (0..RELAYS).map(|_| Directory::new(now)).collect();
        let (downloaded, children, streams) = (0.0, 0, 0);
        let (sends, given) = (vec![0; shape.machines], HashMap::new());
        Self { shape, now, random, machines, numbers, nars, directories, sends, given, downloaded, children, streams }
    }

    fn step(&mut self) {
        self.now += STEP;
        for machine in &mut self.machines {
            if machine.dies.is_some_and(|dies| self.now >= dies) && machine.ended.is_none() {
                machine.is_alive = false;
                machine.running.clear();
            }
        }
        for number in 0..self.machines.len() {
            if self.machines[number].is_alive && self.now >= self.machines[number].begins {
                self.begin(number);
                self.find(number);
            }
        }
        self.flow();
        for number in 0..self.machines.len() {
            self.end(number);
        }
    }

    /// Nix asks for what it has no connection to spare for yet.
    fn begin(&mut self, number: usize) {
        let machine = &mut self.machines[number];
        while machine.running.len() < AT_ONCE && machine.next < self.shape.nars {
            let (nar, from) = (machine.next, From::Nowhere);
            machine.running.push(Transfer {
                nar,
                came: 0.0,
                from,
                waited: Duration::ZERO,
                lost: Vec::new(),
                renewed: self.now,
            });
            machine.next += 1;
        }
    }

    /// Finds a source for what has none.
    fn find(&mut self, number: usize) {
        for at in 0..self.machines[number].running.len() {
            let Transfer { nar, came, from, waited, ref lost, .. } = self.machines[number].running[at];
            let (mut lost, is_new) = (lost.clone(), from == From::Nowhere);
            match from {
                From::Partial(source) if !self.machines[source].is_alive => {
                    lost.push((self.machines[source].id, Loss::Broke));
                }
                From::Partial(source) if waited >= STALL => lost.push((self.machines[source].id, Loss::Stalled)),
                From::Store(source) if !self.machines[source].is_alive => {}
                _ if is_new => {}
                _ => continue,
            }
            let from = match self.holder(nar, false) {
                Some(holder) => From::Store(holder),
                // Whoever was sent away once is let in, if nobody is to be followed.
                None => match (self.claim(number, nar, came, &lost), self.holder(nar, true)) {
                    (From::Internet, Some(holder)) => From::Store(holder),
                    (from, _) => from,
                },
            };
            if let From::Partial(source) | From::Store(source) = from {
                self.sends[source] += 1;
                *self.given.entry((source, nar)).or_default() += 1;
            }
            let transfer = &mut self.machines[number].running[at];
            (transfer.from, transfer.waited, transfer.lost) = (from, Duration::ZERO, lost);
        }
    }

    /// One who has it in its store, as far as is known, and does not send it to too many already: of two at random the one that sends less.
    fn holder(&mut self, nar: usize, however_many: bool) -> Option<usize> {
        let (now, machines) = (self.now, &self.machines);
        let most = given_at_once(whole(self.nars[nar].size));
        let is_free = |who: usize| however_many || self.given.get(&(who, nar)).is_none_or(|given| *given < most);
        let may = |(who, since): &&(usize, Instant)| *since <= now && machines[*who].is_alive && is_free(*who);
        let known = self.nars[nar].holders.iter().filter(may);
        let known: Vec<usize> = known.map(|(who, _)| *who).collect();
        let pick = |random: &mut Random| known.get(random.below(known.len().max(1))).copied();
        let two = [pick(&mut self.random), pick(&mut self.random)];
        two.into_iter().flatten().min_by_key(|who| self.sends[*who])
    }

    /// From which machine it comes; from none, whichever.
    fn source(&self, transfer: &Transfer) -> NodeId {
        match transfer.from {
            From::Partial(source) | From::Store(source) => self.machines[source].id,
            From::Nowhere | From::Internet => self.machines[0].id,
        }
    }

    /// The directories of a NAR that are there, by their numbers.
    fn directories(&self, nar: usize) -> Vec<usize> {
        let relays = self.machines[..RELAYS].iter().filter(|relay| relay.is_alive).map(|relay| relay.id).collect();
        order(&self.nars[nar].hash, relays).into_iter().map(|id| self.numbers[&id]).collect()
    }

    fn claim(&mut self, number: usize, nar: usize, came: f64, lost: &[(NodeId, Loss)]) -> From {
        let Some(directory) = self.directories(nar).first().copied() else { return From::Internet };
        let sends = u16::try_from(self.sends[number]).unwrap();
        let lost = lost.iter().rev().take(4).copied().collect();
        let want = Want { nar: self.nars[nar].hash, came: whole(came), serves: true, sends, lost };
        match self.directories[directory].want(self.machines[number].id, &want, self.now) {
            Decision::Download | Decision::Alone => From::Internet,
            Decision::Follow(id) => From::Partial(self.numbers[&id]),
        }
    }

    fn tell(&mut self, number: usize, nar: usize, role: Option<Role>, came: f64) {
        let Some(directory) = self.directories(nar).first().copied() else { return };
        let sends = u16::try_from(self.sends[number]).unwrap();
        let renewal = Renewal { nar: self.nars[nar].hash, role, came: whole(came), serves: true, sends };
        self.directories[directory].renew(self.machines[number].id, &renewal, self.now);
    }

    /// Bytes come.
    fn flow(&mut self) {
        let all = || self.machines.iter().flat_map(|machine| &machine.running);
        let downloads = all().filter(|transfer| transfer.from == From::Internet).count();
        let mut sends = vec![0_usize; self.machines.len()];
        let mut children: HashMap<(usize, usize), usize> = HashMap::new();
        let mut given: HashMap<(usize, usize), usize> = HashMap::new();
        for transfer in all() {
            match transfer.from {
                From::Partial(source) => {
                    sends[source] += 1;
                    *children.entry((source, transfer.nar)).or_default() += 1;
                }
                From::Store(source) => {
                    sends[source] += 1;
                    *given.entry((source, transfer.nar)).or_default() += 1;
                }
                From::Nowhere | From::Internet => {}
            }
        }
        self.children = self.children.max(children.values().copied().max().unwrap_or_default());
        self.streams = self.streams.max(sends.iter().copied().max().unwrap_or_default());
        // How far each was before this step: nobody passes on what is not there.
        self.sends.clone_from(&sends);
        for (what, count) in children {
            *given.entry(what).or_default() += count;
        }
        self.given = given;
        let mut there: HashMap<(usize, usize), f64> = HashMap::new();
        for (number, machine) in self.machines.iter().enumerate() {
            there.extend(machine.running.iter().map(|transfer| ((number, transfer.nar), transfer.came)));
        }
        let seconds = STEP.as_secs_f64();
        for machine in &mut self.machines {
            for transfer in &mut machine.running {
                let size = self.nars[transfer.nar].size;
                let before = transfer.came;
                match transfer.from {
                    From::Internet => {
                        let rate = INTERNET / downloads as f64;
                        transfer.came = (transfer.came + rate * seconds).min(size);
                        self.downloaded += transfer.came - before;
                    }
                    From::Partial(source) => {
                        let has_all = !there.contains_key(&(source, transfer.nar));
                        let open = there.get(&(source, transfer.nar)).map_or(size, |came| came - WITHHELD);
                        let rate = CABLE / sends[source] as f64;
                        let open = if has_all { size } else { open };
                        transfer.came = (transfer.came + rate * seconds).min(open.max(transfer.came));
                    }
                    From::Store(source) => {
                        transfer.came = (transfer.came + CABLE / sends[source] as f64 * seconds).min(size);
                    }
                    From::Nowhere => {}
                }
                transfer.waited = if transfer.came > before { Duration::ZERO } else { transfer.waited + STEP };
            }
        }
    }

    /// What is all there is told and kept, and what runs is told of.
    fn end(&mut self, number: usize) {
        let (mut told, now) = (Vec::new(), self.now);
        let ids: Vec<NodeId> = self.machines[number].running.iter().map(|transfer| self.source(transfer)).collect();
        let machine = &mut self.machines[number];
        for (transfer, source) in machine.running.iter_mut().zip(ids) {
            let nar = transfer.nar;
            let role = match transfer.from {
                From::Internet => Some(Role::Downloads),
                From::Partial(_) => Some(Role::Follows(source)),
                From::Nowhere | From::Store(_) => None,
            };
            if transfer.came >= self.nars[nar].size {
                machine.has[nar] = true;
                self.nars[nar].holders.push((number, now + INDEXED));
                told.extend(role.map(|_| (nar, Role::Complete, transfer.came)));
            } else if now >= transfer.renewed + RENEWAL {
                transfer.renewed = now;
                told.extend(role.map(|role| (nar, role, transfer.came)));
            }
        }
        machine.running.retain(|transfer| transfer.came < self.nars[transfer.nar].size);
        if machine.is_alive && machine.ended.is_none() && machine.has.iter().all(|has| *has) {
            machine.ended = Some(now);
        }
        for (nar, role, came) in told {
            self.tell(number, nar, Some(role), came);
        }
    }
}

/// In whole bytes.
fn whole(bytes: f64) -> u64 {
    // Positive, and far below 2^53.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let whole = bytes as u64;
    whole
}

impl Figures {
    /// What has to hold.
    pub(super) fn judge(&self) {
        let limit = if self.shape.die == 0 { 1.1 } else { 1.15 };
        assert!(self.copies <= limit, "{self:?}");
        assert!(self.children <= CHILDREN_MAX, "{self:?}");
        assert_eq!(self.done, self.alive, "{self:?}");
        assert!(self.times.1 <= 4.0, "{self:?}");
    }

    pub(super) fn row(&self) -> String {
        let Shape { machines, nars, within, die } = self.shape;
        format!(
            "| {machines} | {nars} | {} | {die} % | {:.3} | {} | {} | {:.2} / {:.2} |",
            within.as_secs(),
            self.copies,
            self.children,
            self.streams,
            self.times.0,
            self.times.1
        )
    }
}
