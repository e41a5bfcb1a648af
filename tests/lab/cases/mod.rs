//! The cases: each file shows one promise of the acceptance list.

mod alone;
mod chaos;
mod compression;
mod copies;
mod discovery;
mod doctor;
mod exchange;
mod failover;
mod fleet;
mod forget;
mod gc;
mod gc_store;
mod gone;
mod index;
mod itself;
mod keys;
mod liars;
mod line;
mod load;
mod misses;
mod multicast;
mod narinfos;
mod patches;
mod peerix;
mod permissions;
mod pieces;
mod promises;
mod proxy;
mod restart;
mod roaming;
mod sites;
mod together;
mod uploads;
mod upstream;

use std::time::Duration;

use anyhow::Result;

use crate::ctx::Ctx;
use crate::needs::Need;

/// What a case does.
type Run = Box<dyn Fn(&Ctx) -> Result<()> + Send>;

/// How many cases may run beside one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Company {
    /// As many as there are hands for.
    Many,
    /// One: it measures times that a processor in use would spoil.
    One,
    /// None: it measures times that any load would spoil.
    None,
}

/// Something that has to be so, and how to find out.
pub(crate) struct Case {
    /// `group/name`.
    pub(crate) name: String,
    pub(crate) needs: Vec<Need>,
    /// How many others may run beside it.
    pub(crate) company: Company,
    /// Whether it takes long, and is therefore begun before the others: nobody should wait for it alone at the end.
    pub(crate) early: bool,
    /// Only under `--long`.
    pub(crate) long_only: bool,
    /// After this long it has failed.
    pub(crate) limit: Duration,
    pub(crate) run: Run,
}

impl Case {
    fn new(name: impl Into<String>, run: impl Fn(&Ctx) -> Result<()> + Send + 'static) -> Self {
        let limit = Duration::from_secs(120);
        let (name, company, run) = (name.into(), Company::Many, Box::new(run));
        Self { name, needs: vec![], company, early: false, long_only: false, limit, run }
    }

    fn needing(mut self, need: Need) -> Self {
        self.needs.push(need);
        self
    }

    fn alone(mut self) -> Self {
        self.company = Company::None;
        self
    }

    fn quiet(mut self) -> Self {
        self.company = Company::One;
        self
    }

    fn early(mut self) -> Self {
        self.early = true;
        self
    }

    fn limit(mut self, seconds: u64) -> Self {
        self.limit = Duration::from_secs(seconds);
        self
    }

    fn long_only(mut self) -> Self {
        self.long_only = true;
        self
    }
}

/// Every case, those first on which others would build.
pub(crate) fn all() -> Vec<Case> {
    let groups = [
        itself::cases(),
        exchange::cases(),
        failover::cases(),
        liars::cases(),
        gc::cases(),
        gc_store::cases(),
        keys::cases(),
        line::cases(),
        fleet::cases(),
        copies::cases(),
        upstream::cases(),
        promises::cases(),
        roaming::cases(),
        proxy::cases(),
        peerix::cases(),
        permissions::cases(),
        restart::cases(),
        gone::cases(),
        forget::cases(),
        discovery::cases(),
        doctor::cases(),
        multicast::cases(),
        misses::cases(),
        narinfos::cases(),
        index::cases(),
        sites::cases(),
        together::cases(),
        pieces::cases(),
        patches::cases(),
        compression::cases(),
        chaos::cases(),
        uploads::cases(),
        load::cases(),
        alone::cases(),
    ];
    groups.into_iter().flatten().collect()
}
