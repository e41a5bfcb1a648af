//! What a room goes through, and what is measured meanwhile.

use super::*;

/// The phases: machines start, are idle, come and go, are all upgraded while a relay ends, and rest.
const START: Duration = Duration::from_secs(10 * 60);
const IDLE: Duration = Duration::from_secs(10 * 60);
const CHURN: Duration = Duration::from_secs(10 * 60);
const WAVE: Duration = Duration::from_secs(10 * 60);
const REST: Duration = Duration::from_secs(6 * 60);
/// How often a machine leaves and another one comes while they do, for each hundred machines.
const CHURN_EVERY: Duration = Duration::from_secs(30);

impl Room {
    /// What is measured of such a room; `seed` decides all that is at random.
    pub(in crate::simulation) fn run(shape: Shape, seed: u64) -> Figures {
        let mut room = Self::new(shape, seed);
        for machine in 0..shape.machines {
            let delay = room.random.time(Duration::from_secs(60));
            room.queue.after(delay, Event::Greets(machine));
        }
        room.passes(START);
        // What is downloaded at the start is not what machines say to each other when nothing happens.
        room.rates(START);
        room.passes(IDLE);
        (room.figures.leaf_idle, room.figures.relay_idle) = room.rates(IDLE);
        room.churn();
        room.passes(CHURN);
        room.rates(CHURN);
        room.wave();
        let ended = room.passes_until_a_relay_is_replaced();
        (room.figures.leaf_wave, room.figures.relay_wave) = room.rates(WAVE);
        room.figures.recovered_after = ended;
        room.passes(REST);
        room.finish()
    }

    fn churn(&mut self) {
        let (count, machines) = (self.shape.machines / 100 + 1, self.machines.len());
        let sampled = self.shape.sampled;
        let rounds = u32::try_from(CHURN.as_secs() / CHURN_EVERY.as_secs()).unwrap();
        for round in 0..rounds {
            for _ in 0..count {
                let machine = sampled + self.random.below(machines - sampled);
                let leaves = CHURN_EVERY * round + self.random.time(CHURN_EVERY);
                self.queue.after(leaves, Event::Leaves(machine));
                let away = Duration::from_secs(30) + self.random.time(Duration::from_secs(120));
                self.queue.after(leaves + away, Event::Comes(machine));
            }
            self.queue.after(CHURN_EVERY * round, Event::New);
        }
        for machine in 0..sampled {
            let delay = self.random.time(LOOKUP_EVERY);
            self.queue.after(delay, Event::LooksUp(machine));
        }
    }

    fn wave(&mut self) {
        for machine in 0..self.machines.len() {
            let delay = self.random.time(WAVE);
            self.queue.after(delay, Event::Upgrades(machine));
        }
    }

    /// The wave, in the middle of which a relay ends; tells how long it takes until those who turned to it know again what is.
    fn passes_until_a_relay_is_replaced(&mut self) -> Duration {
        self.passes(WAVE / 2);
        let gone = self.relays()[0];
        let turned: Vec<usize> = (0..self.shape.sampled).filter(|it| self.preferred(*it) == Some(gone)).collect();
        let begun = self.queue.now();
        self.leaves(gone);
        let mut took = Duration::ZERO;
        let step = Duration::from_millis(500);
        while self.queue.now() < begun + WAVE / 2 {
            self.passes(step);
            let knows = |it: &usize| self.says(*it, 1_000_000 * (*it as u64 % 4) + UPGRADE + 1) == Some(Says::Yes);
            if took.is_zero() && turned.iter().all(knows) {
                took = self.queue.now() - begun;
            }
        }
        took
    }

    /// The most bytes a second of one machine in the phase that ends: of those that do not relay, and of those that do.
    fn rates(&mut self, phase: Duration) -> (f64, f64) {
        let (mut leaf, mut relay) = (0.0_f64, 0.0_f64);
        for machine in &mut self.machines {
            let rate = std::mem::take(&mut machine.traffic) / phase.as_secs_f64();
            let most = if machine.relay.is_some() { &mut relay } else { &mut leaf };
            *most = most.max(rate);
        }
        (leaf, relay)
    }

    fn finish(mut self) -> Figures {
        let known = PEER * self.machines.len() as f64;
        let known_to_leaves = PEER * self.machines.len().min(KNOWN_MAX) as f64;
        let all: BTreeSet<u64> =
            self.machines.iter().filter(|it| it.is_there).flat_map(|it| it.has.iter().copied()).collect();
        for machine in &mut self.machines {
            if let Some(held) = &mut machine.relay {
                let union = held.union.log().len() as f64 * UNION_ENTRY;
                let memory = DAEMON + known + held.view.kept() as f64 * ENTRY + union;
                self.figures.relay_memory = self.figures.relay_memory.max(memory);
            }
        }
        // Relays keep one to each other; all others are closed after each greeting, answer and lookup.
        self.figures.lasting = self.relays().len() - 1;
        for machine in 0..self.shape.sampled {
            let view = self.machines[machine].view.as_ref().expect("it is looked at");
            self.figures.leaf_memory =
                self.figures.leaf_memory.max(DAEMON + known_to_leaves + view.kept() as f64 * ENTRY);
            let entries = view.sets().next().map_or(0, Set::len);
            self.figures.is_true &= entries == all.len() && view.sets().count() == 1;
            let knows =
                all.iter().step_by(all.len() / 1000 + 1).all(|path| self.says(machine, *path) == Some(Says::Yes));
            self.figures.is_true &= knows;
        }
        self.figures
    }
}
