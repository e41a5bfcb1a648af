//! In which order dead paths go, and which of them when not all of them shall.

use super::types::{GarbageOptions, GarbagePath};
use crate::nix::StorePath;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::{SystemTime, UNIX_EPOCH};

/// A dead path with what the store knows about it.
#[derive(Debug, Clone)]
pub(super) struct Dead {
    pub(super) path: StorePath,
    /// Nothing for what lies in the store without being valid: the remains of something interrupted.
    pub(super) record: Option<Record>,
}

/// What matters of a valid path.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) nar_size: u64,
    /// In seconds since 1970.
    pub(super) registration_time: u64,
    pub(super) references: Vec<StorePath>,
    /// What it was built by. Nix keeps that for as long as what was built (`keep-derivations`, its default).
    pub(super) deriver: Option<StorePath>,
}

/// What is to go.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// All that may go, those that refer to others before them, and otherwise the oldest first.
    pub(super) paths: Vec<GarbagePath>,
    /// How many of them, from the first, it takes.
    pub(super) needed: usize,
}

impl Plan {
    /// Those that it takes.
    pub(super) fn needed(&self) -> &[GarbagePath] {
        self.paths.get(..self.needed).unwrap_or(&self.paths)
    }
}

/// Makes the plan for `dead`, which is all that is dead: whatever refers to a dead path is dead too.
pub(super) fn plan(dead: &[Dead], options: &GarbageOptions, now: SystemTime) -> Plan {
    let latest = options.older_than.map_or(u64::MAX, |age| {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        now.checked_sub(age).map_or(0, |latest| latest.as_secs())
    });
    let numbers: HashMap<&StorePath, usize> =
        dead.iter().enumerate().map(|(number, dead)| (&dead.path, number)).collect();
    let references = |number: usize| {
        let record = dead.get(number).and_then(|dead| dead.record.as_ref());
        let references = record.map(|record| record.references.as_slice()).unwrap_or_default();
        let deriver = record.and_then(|record| record.deriver.as_ref());
        let needs = references.iter().chain(deriver);
        needs.filter_map(|path| numbers.get(path).copied()).filter(move |other| *other != number)
    };
    let mut referrers = vec![0_usize; dead.len()];
    for number in 0..dead.len() {
        references(number).for_each(|other| referrers[other] += 1);
    }
    // The time first, then the path, so that two runs name the same ones.
    let candidate = |number: usize| {
        let dead = dead.get(number)?;
        let time = dead.record.as_ref().map(|record| record.registration_time)?;
        // What is too young stays, and so does all that it refers to, because that never becomes a candidate.
        (time <= latest).then_some(Reverse((time, &dead.path, number)))
    };
    let mut candidates: BinaryHeap<_> =
        (0..dead.len()).filter(|number| referrers[*number] == 0).filter_map(candidate).collect();
    let mut paths = Vec::new();
    while let Some(Reverse((_, path, number))) = candidates.pop() {
        let size = dead[number].record.as_ref().map(|record| record.nar_size);
        paths.push(GarbagePath { path: path.clone(), size });
        for other in references(number) {
            referrers[other] -= 1;
            if referrers[other] == 0 {
                candidates.extend(candidate(other));
            }
        }
    }
    if options.older_than.is_none() {
        // Nobody knows how old remains are.
        let mut remains: Vec<_> = dead.iter().filter(|dead| dead.record.is_none()).map(|dead| &dead.path).collect();
        remains.sort_unstable();
        paths.extend(remains.into_iter().map(|path| GarbagePath { path: path.clone(), size: None }));
    }
    let needed = match options.max_freed {
        None => paths.len(),
        Some(enough) => {
            let mut freed = 0_u64;
            let needed = paths.iter().take_while(|path| {
                let goes = freed < enough;
                freed = freed.saturating_add(path.size.unwrap_or_default());
                goes
            });
            needed.count()
        }
    };
    Plan { paths, needed }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NOW: u64 = 1_000_000;

    fn path(name: &str) -> StorePath {
        format!("7cs5xzrnw5p6mdmr7ym2qhg320xn66fi-{name}").parse().unwrap()
    }

    fn dead(name: &str, age: u64, references: &[&str]) -> Dead {
        let references = references.iter().map(|name| path(name)).collect();
        let record = Record { nar_size: 100, registration_time: NOW - age, references, deriver: None };
        Dead { path: path(name), record: Some(record) }
    }

    /// As [`dead`], built by something.
    fn built(name: &str, age: u64, deriver: &str) -> Dead {
        let mut dead = dead(name, age, &[]);
        dead.record.as_mut().unwrap().deriver = Some(path(deriver));
        dead
    }

    fn named(dead: &[Dead], options: &GarbageOptions) -> Vec<String> {
        let plan = plan(dead, options, UNIX_EPOCH + Duration::from_secs(NOW));
        plan.needed().iter().map(|dead| dead.path.name().to_owned()).collect()
    }

    /// An application of two libraries, one of which refers to itself; something else; and remains.
    fn some() -> Vec<Dead> {
        vec![
            dead("base", 90, &["base", "elsewhere"]),
            dead("library", 80, &["base"]),
            dead("application", 10, &["library", "base"]),
            dead("other", 50, &[]),
            Dead { path: path("remains"), record: None },
        ]
    }

    #[test]
    fn those_that_refer_go_before_those_they_refer_to() {
        let all = named(&some(), &GarbageOptions::default());
        assert_eq!(all, ["other", "application", "library", "base", "remains"]);
    }

    #[test]
    fn what_was_built_goes_before_what_it_was_built_by() {
        let both = [dead("built.drv", 90, &[]), built("built", 10, "built.drv")];
        assert_eq!(named(&both, &GarbageOptions::default()), ["built", "built.drv"]);
    }

    #[test]
    fn the_young_stay_and_what_they_need() {
        let older = |secs| GarbageOptions { older_than: Some(Duration::from_secs(secs)), ..GarbageOptions::default() };
        assert_eq!(named(&some(), &older(20)), ["other"], "the application is young, and needs both libraries");
        assert_eq!(named(&some(), &older(10)), ["other", "application", "library", "base"]);
        assert_eq!(named(&some(), &older(2 * NOW)), [""; 0], "older than time itself");
    }

    #[test]
    fn it_is_enough_when_it_is_enough() {
        let most = |bytes| GarbageOptions { max_freed: Some(bytes), ..GarbageOptions::default() };
        assert_eq!(named(&some(), &most(0)), [""; 0]);
        assert_eq!(named(&some(), &most(1)), ["other"]);
        assert_eq!(named(&some(), &most(200)), ["other", "application"]);
        assert_eq!(named(&some(), &most(201)), ["other", "application", "library"]);
        assert_eq!(named(&some(), &most(u64::MAX)).len(), 5);
    }

    #[test]
    fn a_ring_stays() {
        // Nix refuses to make one; a database can still hold one.
        let ring = [dead("a", 1, &["b"]), dead("b", 1, &["a"]), dead("c", 1, &["a"])];
        assert_eq!(named(&ring, &GarbageOptions::default()), ["c"]);
    }
}
