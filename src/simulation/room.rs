//! A room of many machines: they come, go, get new paths and look for some, and four of them relay.
//!
//! All machines hear of each other at once, as multicast DNS has it; everything else takes messages. Some are looked at closely, and hold all
//! that a machine holds; of the others only their own paths and what they have been told last is kept, so that ten thousand fit here.

mod phases;

use super::figures::Figures;
use super::network::{Queue, Random, latency};
use crate::fetch::{HEDGE, Plan, Rank};
use crate::index::{Bases, Entry, Log, Salt, Says, Set, Union, Update, View, told_together};
use crate::nix::StoreHash;
use crate::peers::holders::HOLDERS_MAX;
use crate::peers::relays::{GREETING_INTERVAL, KNOWN_MAX, LOOK_GAP, Member, SILENT, UNION_GAP, UNION_GAP_EACH};
use crate::peers::{IndexState, Layout, NodeId, NodeKey};
use bytes::Bytes;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;
use tokio::time::Instant;

/// What a greeting on a connection of its own costs each side, in bytes sent, handshake and end included: measured in the lab
/// (`index/relays`: 1,383 bytes of IP in 12 packets, and the heads of Ethernet).
const GREETING: f64 = 1_600.0;
/// What an answer costs beside itself, on a connection that is there.
const EXCHANGE: f64 = 600.0;
/// What a daemon has in memory that knows nobody, and what it takes for each machine that it has heard of: measured (docs/scale.md).
const DAEMON: f64 = 14.5 * 1024.0 * 1024.0;
const PEER: f64 = 22.0 * 1024.0;
/// The same for each entry: in a set, and in a union with its log.
const ENTRY: f64 = 6.0;
const UNION_ENTRY: f64 = 6.0 + 16.0;

/// How long a lookup waits for peers.
const BUDGET: Duration = Duration::from_millis(300);

/// How often a lookup is made at each machine that is looked at.
const LOOKUP_EVERY: Duration = Duration::from_secs(5);
/// How many paths an upgrade brings and takes.
const UPGRADE: u64 = 200;

/// How large a room is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) machines: usize,
    /// Paths of a machine that others of its kind have as well; there are four kinds.
    pub(super) paths: u64,
    /// Paths that it alone has.
    pub(super) own: u64,
    /// Machines that are looked at closely.
    pub(super) sampled: usize,
}

/// Something that happens.
enum Event {
    /// The machine greets its relays, and will do so again.
    Greets(usize),
    /// The machine tells its relays that it has other paths.
    Tells(usize),
    /// The relay hears that the machine has told this state.
    Heard {
        relay: usize,
        machine: usize,
        state: IndexState,
    },
    /// An answer has come to the relay.
    Took {
        relay: usize,
        machine: usize,
        answer: Bytes,
    },
    /// The relay puts together what all have.
    Cuts(usize),
    /// The machine hears of the state of what all have, or asks anew.
    Asks(usize),
    /// An answer has come to the machine, of which it is told this state.
    Learned {
        machine: usize,
        relay: usize,
        state: IndexState,
        answer: Option<Bytes>,
    },
    /// The relay has heard nothing of the machine for long, perhaps.
    Missed {
        relay: usize,
        machine: usize,
    },
    Leaves(usize),
    Comes(usize),
    Upgrades(usize),
    LooksUp(usize),
    /// Somebody gets a path that nobody had.
    New,
}

struct Machine {
    id: NodeId,
    is_there: bool,
    has: BTreeSet<u64>,
    log: Log,
    /// Bytes sent and received in this phase.
    traffic: f64,
    told_at: Duration,
    /// Of which relay's union it knows which state.
    knows: Option<(usize, IndexState)>,
    /// What it knows, if it is looked at.
    view: Option<View>,
    relay: Option<Relay>,
}

/// What a relay holds.
struct Relay {
    view: View,
    union: Union,
    followers: HashSet<usize>,
    heard: HashMap<usize, Duration>,
    will_cut: bool,
    cut_at: Duration,
}

/// The room.
pub(super) struct Room {
    shape: Shape,
    queue: Queue<Event>,
    random: Random,
    began: Instant,
    machines: Vec<Machine>,
    numbers: HashMap<NodeId, usize>,
    layout: Layout,
    entries: HashMap<u64, Entry>,
    /// Paths that were new, since when, and who of those that are looked at does not know of them yet.
    pending: Vec<(u64, Duration, HashSet<usize>)>,
    next_path: u64,
    figures: Figures,
}

/// The hash part of a path.
fn hash(path: u64) -> StoreHash {
    let mut hash = [0; 20];
    hash[..8].copy_from_slice(&path.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    StoreHash::new(hash)
}

impl Room {
    fn new(shape: Shape, seed: u64) -> Self {
        let figures = Figures {
            shape,
            leaf_idle: 0.0,
            leaf_wave: 0.0,
            leaf_memory: 0.0,
            relay_idle: 0.0,
            relay_wave: 0.0,
            relay_memory: 0.0,
            lasting: 0,
            known_after: Vec::new(),
            recovered_after: Duration::ZERO,
            misses: 0,
            misses_that_asked: 0,
            hits: 0,
            hits_found: 0,
            hit_times: Vec::new(),
            is_true: true,
        };
        let mut room = Self {
            shape,
            queue: Queue::new(),
            random: Random(seed),
            began: Instant::now(),
            machines: Vec::new(),
            numbers: HashMap::new(),
            layout: Layout::Mesh,
            entries: HashMap::new(),
            pending: Vec::new(),
            next_path: 1 << 40,
            figures,
        };
        for number in 0..shape.machines {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&(number as u64 + 1).to_le_bytes());
            let kind = (number % 4) as u64 * 1_000_000;
            let own = (number as u64 + 1) * 10_000_000;
            let has: BTreeSet<u64> = (kind..kind + shape.paths).chain(own..own + shape.own).collect();
            let machine = Machine {
                id: NodeKey::from_seed(key).id(),
                is_there: true,
                has,
                log: Log::new(number as u64 + 1, Salt::OPEN),
                traffic: 0.0,
                told_at: Duration::ZERO,
                knows: None,
                view: (number < shape.sampled).then(View::default),
                relay: None,
            };
            room.numbers.insert(machine.id, number);
            room.machines.push(machine);
            room.offer(number);
        }
        room.arrange();
        room
    }

    /// The machine's log says what it has.
    fn offer(&mut self, number: usize) {
        let machine = &mut self.machines[number];
        let entry = |path: &u64| *self.entries.entry(*path).or_insert_with(|| Salt::OPEN.entry(hash(*path).prefix()));
        let mut entries: Vec<Entry> = machine.has.iter().map(entry).collect();
        entries.sort_unstable();
        if let Some(held) = &mut machine.relay {
            held.union.replace(machine.log.entries().iter().copied(), entries.iter().copied());
        }
        machine.log.set(entries);
        self.will_cut(number);
    }

    /// Who relays, by the rule of each machine; those who are looked at do not relay, as laptops do not.
    fn arrange(&mut self) {
        let sampled = self.shape.sampled;
        let member = |(number, machine): (usize, &Machine)| Member {
            id: machine.id,
            is_proved: true,
            is_willing: Some(number >= sampled && number % 3 != 0),
        };
        let there: Vec<Member> = self.machines.iter().enumerate().filter(|(_, it)| it.is_there).map(member).collect();
        self.layout = Layout::of(&self.layout, there[0], there[1..].iter().copied());
        let Layout::Relayed { relays, .. } = &self.layout else { panic!("so few machines need no relays") };
        let relays: HashSet<usize> = relays.iter().map(|id| self.numbers[id]).collect();
        for number in 0..self.machines.len() {
            let relays_now = relays.contains(&number);
            if relays_now && self.machines[number].relay.is_none() {
                self.begin_to_relay(number);
            } else if !relays_now {
                self.machines[number].relay = None;
            }
        }
    }

    /// The machine greets everybody, who tell it what they have from then on.
    fn begin_to_relay(&mut self, relay: usize) {
        let epoch = self.random.next();
        let mut view = View::default();
        view.set_relays(true);
        let mut union = Union::new(Log::new(epoch, Salt::OPEN));
        union.replace(std::iter::empty(), self.machines[relay].log.entries().iter().copied());
        let (followers, heard) = Default::default();
        self.machines[relay].relay =
            Some(Relay { view, union, followers, heard, will_cut: false, cut_at: Duration::ZERO });
        for machine in 0..self.machines.len() {
            if machine != relay && self.machines[machine].is_there {
                self.costs(relay, machine, GREETING);
                self.is_heard(relay, machine);
            }
        }
    }

    /// The number of the relay that the machine turns to.
    fn preferred(&self, machine: usize) -> Option<usize> {
        let relays = self.layout.preferred(self.machines[machine].id);
        relays.first().map(|id| self.numbers[id])
    }

    /// Those that relay.
    fn relays(&self) -> Vec<usize> {
        let Layout::Relayed { relays, .. } = &self.layout else { return Vec::new() };
        relays.iter().map(|id| self.numbers[id]).collect()
    }

    /// Both sides send and receive so much.
    fn costs(&mut self, one: usize, other: usize, bytes: f64) {
        for machine in [one, other] {
            self.machines[machine].traffic += 2.0 * bytes;
        }
    }

    /// The machine's state is on its way to the relay.
    fn is_heard(&mut self, relay: usize, machine: usize) {
        let state = self.machines[machine].log.state();
        let delay = latency(&mut self.random);
        self.queue.after(delay, Event::Heard { relay, machine, state });
    }

    /// Lets time pass.
    fn passes(&mut self, time: Duration) {
        let end = self.queue.now() + time;
        while let Some(event) = self.queue.next(end) {
            self.happens(event);
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Greets(machine) => {
                if self.machines[machine].is_there {
                    self.greets(machine);
                    self.queue.after(GREETING_INTERVAL, Event::Greets(machine));
                }
            }
            Event::Tells(machine) => {
                if self.machines[machine].is_there {
                    self.tells(machine);
                }
            }
            Event::Heard { relay, machine, state } => self.heard(relay, machine, state),
            Event::Took { relay, machine, answer } => self.took(relay, machine, &answer),
            Event::Cuts(relay) => self.cuts(relay),
            Event::Asks(machine) => self.asks(machine),
            Event::Learned { machine, relay, state, answer } => self.learned(machine, relay, state, answer),
            Event::Missed { relay, machine } => self.missed(relay, machine),
            Event::Leaves(machine) => self.leaves(machine),
            Event::Comes(machine) => self.comes(machine),
            Event::Upgrades(machine) => self.upgrades(machine),
            Event::LooksUp(machine) => self.looks_up(machine),
            Event::New => self.gets_a_new_path(),
        }
    }

    fn greets(&mut self, machine: usize) {
        self.machines[machine].told_at = self.queue.now();
        for relay in self.relays().into_iter().filter(|relay| *relay != machine) {
            self.costs(machine, relay, GREETING);
            self.is_heard(relay, machine);
        }
        // The answers tell the state of what all have.
        let delay = latency(&mut self.random);
        self.queue.after(delay, Event::Asks(machine));
    }

    /// At once, but not too often.
    fn tells(&mut self, machine: usize) {
        let next = self.machines[machine].told_at + LOOK_GAP;
        match next.checked_sub(self.queue.now()) {
            Some(wait) if !wait.is_zero() && self.machines[machine].told_at > Duration::ZERO => {
                self.queue.after(wait, Event::Tells(machine));
            }
            _ => self.greets(machine),
        }
    }

    fn heard(&mut self, relay: usize, machine: usize, state: IndexState) {
        let now = self.queue.now();
        if !self.machines[relay].is_there || !self.machines[machine].is_there {
            return;
        }
        let id = self.machines[machine].id;
        let Some(held) = &mut self.machines[relay].relay else { return };
        held.heard.insert(machine, now);
        self.queue.after(SILENT, Event::Missed { relay, machine });
        let known = held.view.state(id);
        if known.is_some_and(|known| known.epoch == state.epoch && known.seq >= state.seq) {
            return;
        }
        let answer = self.machines[machine].log.answer(known);
        self.costs(machine, relay, (EXCHANGE + answer.len() as f64) / 2.0);
        let delay = latency(&mut self.random) + latency(&mut self.random);
        self.queue.after(delay, Event::Took { relay, machine, answer });
    }

    fn took(&mut self, relay: usize, machine: usize, answer: &Bytes) {
        let id = self.machines[machine].id;
        let began = self.began + self.queue.now();
        if !self.machines[machine].is_there {
            return;
        }
        let Some(held) = &mut self.machines[relay].relay else { return };
        let before = held.view.set(id);
        let update = Update::parse(answer).expect("it was written here");
        let all = update.is_all();
        // Another answer may have come meanwhile: what it is a change of is gone.
        let Ok(set) = Set::updated(before.as_deref(), update) else { return };
        let bases: Bases = held.view.bases();
        held.view.put(id, set.shrunk(&bases), all, began).expect("there is room for all");
        let after = held.view.set(id);
        held.union.replace(told_together(before.as_deref()), told_together(after.as_deref()));
        self.will_cut(relay);
    }

    fn will_cut(&mut self, relay: usize) {
        let gap = UNION_GAP + UNION_GAP_EACH * u32::try_from(self.machines.len()).unwrap();
        let now = self.queue.now();
        let Some(held) = &mut self.machines[relay].relay else { return };
        if held.union.is_stale() && !held.will_cut {
            held.will_cut = true;
            let wait = (held.cut_at + gap).saturating_sub(now);
            self.queue.after(wait, Event::Cuts(relay));
        }
    }

    fn cuts(&mut self, relay: usize) {
        let now = self.queue.now();
        let Some(held) = &mut self.machines[relay].relay else { return };
        (held.will_cut, held.cut_at) = (false, now);
        if !held.union.cut() {
            return;
        }
        let mut followers: Vec<usize> = held.followers.iter().copied().collect();
        followers.sort_unstable();
        for machine in followers {
            self.costs(relay, machine, GREETING);
            let delay = latency(&mut self.random);
            self.queue.after(delay, Event::Asks(machine));
        }
    }

    /// The machine has heard of a state of what all have, and asks for it if it is another than the one that it knows.
    fn asks(&mut self, machine: usize) {
        let asks = self.machines[machine].is_there && self.machines[machine].relay.is_none();
        let Some(relay) = self.preferred(machine).filter(|_| asks) else { return };
        let known = self.machines[machine].knows.filter(|(of, _)| *of == relay).map(|(_, state)| state);
        let Some(held) = &mut self.machines[relay].relay else { return };
        let state = held.union.log().state();
        if state.seq == 0 || known == Some(state) {
            return;
        }
        held.followers.insert(machine);
        let answer = held.union.log().answer(known);
        self.costs(machine, relay, (EXCHANGE + answer.len() as f64) / 2.0);
        let answer = self.machines[machine].view.is_some().then_some(answer);
        let delay = latency(&mut self.random) + latency(&mut self.random);
        self.queue.after(delay, Event::Learned { machine, relay, state, answer });
    }

    fn learned(&mut self, machine: usize, relay: usize, state: IndexState, answer: Option<Bytes>) {
        let (id, now) = (self.machines[relay].id, self.began + self.queue.now());
        let them = &mut self.machines[machine];
        if let (Some(view), Some(answer)) = (&mut them.view, answer) {
            let update = Update::parse(&answer).expect("it was written here");
            let all = update.is_all();
            let Ok(set) = Set::updated(view.set(id).as_deref(), update) else { return };
            view.put(id, set, all, now).expect("there is room for what all have");
        }
        if let Some((before, _)) = them.knows.filter(|(of, _)| *of != relay) {
            let before = self.machines[before].id;
            self.machines[machine].view.iter_mut().for_each(|view| view.forget(before));
        }
        self.machines[machine].knows = Some((relay, state));
        self.notes_new_paths(machine);
    }

    /// Which new paths does the machine know of?
    fn notes_new_paths(&mut self, machine: usize) {
        let now = self.queue.now();
        let mut pending = std::mem::take(&mut self.pending);
        for (path, since, waiting) in &mut pending {
            if waiting.contains(&machine) && self.says(machine, *path) == Some(Says::Yes) {
                waiting.remove(&machine);
                self.figures.known_after.push(now - *since);
            }
        }
        pending.retain(|(_, _, waiting)| !waiting.is_empty());
        self.pending = pending;
    }

    /// What a machine that is looked at is told of a path by the relay that it turns to; `None`: it knows nothing as yet.
    fn says(&self, machine: usize, path: u64) -> Option<Says> {
        let relay = self.preferred(machine)?;
        let view = self.machines[machine].view.as_ref()?;
        Some(view.ask(hash(path), &[self.machines[relay].id])[0]).filter(|says| *says != Says::Unknown)
    }

    fn missed(&mut self, relay: usize, machine: usize) {
        let now = self.queue.now();
        let Some(held) = &mut self.machines[relay].relay else { return };
        if held.heard.get(&machine).is_some_and(|heard| now >= *heard + SILENT) {
            self.forgets(relay, machine);
        }
    }

    fn forgets(&mut self, relay: usize, machine: usize) {
        let id = self.machines[machine].id;
        let Some(held) = &mut self.machines[relay].relay else { return };
        held.heard.remove(&machine);
        held.followers.remove(&machine);
        if let Some(set) = held.view.set(id) {
            held.union.replace(told_together(Some(&set)), std::iter::empty());
            held.view.forget(id);
        }
        self.will_cut(relay);
    }

    /// Of five that leave one says nothing.
    fn leaves(&mut self, machine: usize) {
        if !self.machines[machine].is_there {
            return;
        }
        let relayed = self.machines[machine].relay.is_some();
        self.machines[machine].is_there = false;
        self.machines[machine].relay = None;
        self.machines[machine].knows = None;
        if !self.random.percent(20) {
            for relay in self.relays() {
                self.forgets(relay, machine);
            }
        }
        if relayed {
            self.arrange();
            // All turn to others, within a moment.
            for machine in 0..self.machines.len() {
                let delay = Duration::from_secs(1) + self.random.time(Duration::from_secs(1));
                self.queue.after(delay, Event::Tells(machine));
            }
        }
    }

    fn comes(&mut self, machine: usize) {
        if self.machines[machine].is_there {
            return;
        }
        self.machines[machine].is_there = true;
        let relays_before = self.relays();
        self.arrange();
        if self.relays() != relays_before {
            for machine in 0..self.machines.len() {
                let delay = self.random.time(Duration::from_secs(1));
                self.queue.after(delay, Event::Tells(machine));
            }
        }
        self.queue.after(Duration::ZERO, Event::Greets(machine));
    }

    fn upgrades(&mut self, machine: usize) {
        let kind = (machine % 4) as u64 * 1_000_000;
        for path in kind..kind + UPGRADE {
            self.machines[machine].has.remove(&path);
            self.machines[machine].has.insert(path + 500_000);
        }
        self.offer(machine);
        self.queue.after(Duration::ZERO, Event::Tells(machine));
    }

    fn gets_a_new_path(&mut self) {
        let there = self.machines.iter().enumerate().skip(self.shape.sampled).filter(|(_, it)| it.is_there);
        let candidates: Vec<usize> = there.map(|(number, _)| number).collect();
        let machine = candidates[self.random.below(candidates.len())];
        self.next_path += 1;
        let path = self.next_path;
        self.machines[machine].has.insert(path);
        self.offer(machine);
        self.pending.push((path, self.queue.now(), (0..self.shape.sampled).collect()));
        self.queue.after(Duration::ZERO, Event::Tells(machine));
    }

    /// A lookup, as the plan has it: for a path that somebody has, or that nobody has.
    fn looks_up(&mut self, machine: usize) {
        self.queue.after(LOOKUP_EVERY, Event::LooksUp(machine));
        let Some(relay) = self.preferred(machine) else { return };
        if self.random.percent(50) {
            let path = (1 << 50) + self.random.next() % 1_000_000;
            let Some(says) = self.says(machine, path) else { return };
            self.figures.misses += 1;
            self.figures.misses_that_asked += usize::from(says != Says::No);
            return;
        }
        // Of one that was there for a while: what came this moment is measured elsewhere.
        let of = self.random.below(self.machines.len());
        let Some(path) = self.machines[of].has.iter().nth_back(self.random.below(5)).copied() else { return };
        if of == machine || !self.machines[of].is_there || self.pending.iter().any(|(new, ..)| *new == path) {
            return;
        }
        match self.says(machine, path) {
            Some(Says::Yes) => {}
            _ => return,
        }
        self.figures.hits += 1;
        let Some(held) = &self.machines[relay].relay else { return };
        let mut holders = held.view.holders(hash(path));
        if self.machines[relay].has.contains(&path) {
            holders.push(self.machines[relay].id);
        }
        holders.sort_unstable();
        holders.retain(|id| *id != self.machines[machine].id);
        let first = self.random.below(holders.len().max(1));
        holders.rotate_left(first);
        holders.truncate(HOLDERS_MAX);
        // There and back, to the relay and to the first holder that is there; those that are gone cost a moment each.
        let now = self.began;
        let mut plan = Plan::new(1, BUDGET, now).and_holders(1).and_no_others(Some(Duration::from_millis(2)));
        assert_eq!(plan.due(now), 0..1);
        let named = latency(&mut self.random) + latency(&mut self.random);
        let mut first = None;
        for (place, holder) in (0u32..).zip(holders) {
            let holder = &self.machines[self.numbers[&holder]];
            let answers = holder.is_there && holder.has.contains(&path);
            let time = named + HEDGE * place + latency(&mut self.random) + latency(&mut self.random);
            first = first.into_iter().chain(answers.then_some(time)).min();
        }
        let in_time = first.filter(|time| !plan.is_over(now + *time));
        plan.answered(Rank::Holder);
        if let Some(time) = in_time {
            self.figures.hits_found += 1;
            self.figures.hit_times.push(time);
        }
    }
}
