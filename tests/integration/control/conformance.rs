//! One suite over both front ends: whatever way an administrator comes, the same real service says and does the same.

mod fleet;
mod keys;
mod peers;
mod service;
mod store;
mod world;

use crate::support::{LIMIT, until};
use peernix::control::{
    Control, ControlError, ErrorKind, Event, EventFilter, EventItem, EventKind, Events, Job, JobState, Outcome,
    PeerFilter,
};
use std::future::Future;
use tokio::time::timeout;
use world::{Machine, World};

/// One pass over everything, by one of the ways in.
struct Round<'a> {
    control: &'a dyn Control,
    world: &'a World,
    /// What is in the names of things that are only of this pass.
    number: usize,
    /// What was refused, and how.
    refused: Vec<ControlError>,
}

impl Round<'_> {
    /// Takes a refusal of this kind; what it says has to be the same by every way in.
    #[track_caller]
    fn refuses<T: std::fmt::Debug>(&mut self, kind: ErrorKind, outcome: Outcome<T>) {
        let mut error = self.refuses_this(kind, outcome);
        // Varlink has a field for the name of the parameter, which its client says first.
        if let (ErrorKind::InvalidArgument, Some((name, rest))) = (kind, error.message.split_once(": "))
            && name.chars().all(char::is_alphanumeric)
        {
            error.message = rest.to_owned();
        }
        self.refused.push(error);
    }

    /// [`Self::refuses`] where the message names what is only of this pass.
    #[track_caller]
    fn refuses_this<T: std::fmt::Debug>(&self, kind: ErrorKind, outcome: Outcome<T>) -> ControlError {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(!error.message.is_empty(), "{kind:?} says nothing");
        error
    }

    /// Listens from now on.
    async fn listen(&self) -> Listener {
        Listener::open(self.control, EventFilter::default()).await
    }

    /// Waits for the end of a job; what was told last is what is remembered.
    async fn end_of(&self, job: &Job) -> Job {
        let mut progress = self.control.watch_job(job.id).await.unwrap();
        let mut last = None;
        while let Some(item) = within("progress", progress.next()).await {
            let item: Job = item.unwrap();
            assert!((0.0..=1.0).contains(&item.progress) && item.id == job.id && item.kind == job.kind);
            last = Some(item);
        }
        let last = last.expect("at least its end");
        assert_ne!(last.state, JobState::Running);
        assert!(last.end_timestamp.unwrap() >= last.start_timestamp);
        assert_eq!(self.control.job(job.id).await.unwrap(), last);
        last
    }
}

/// Hears what happens.
struct Listener {
    events: Events,
    /// The newest event when it began to listen.
    begin: u64,
}

impl Listener {
    async fn open(control: &dyn Control, filter: EventFilter) -> Self {
        let mut events = control.events(filter).await.unwrap();
        let first = within("the beginning of events", events.next()).await.unwrap().unwrap();
        let EventItem::Ready { cursor } = first else { panic!("{first:?} comes before ready") };
        Self { events, begin: cursor }
    }

    /// The next event of each kind about what was meant, in whatever order: rooms tell independently of each other.
    async fn hears_each<const N: usize>(&mut self, kinds: [EventKind; N], is: impl Fn(&Event) -> bool) -> [Event; N] {
        let mut heard = [const { None }; N];
        while heard.contains(&None) {
            let waiting = format!("{kinds:?} beside {heard:?}");
            let item = within(&waiting, self.events.next()).await.expect("events do not end").unwrap();
            let EventItem::Event(event) = item else { continue };
            let place = kinds.iter().position(|kind| *kind == event.kind).filter(|place| heard[*place].is_none());
            if let Some(place) = place.filter(|_| is(&event)) {
                heard[place] = Some(event);
            }
        }
        heard.map(Option::unwrap)
    }

    /// The next event of a kind that is as it should be.
    async fn hears(&mut self, kind: EventKind, is: impl Fn(&Event) -> bool) -> Event {
        let mut others = Vec::new();
        let found = timeout(LIMIT, async {
            loop {
                match self.events.next().await.expect("events do not end").unwrap() {
                    EventItem::Event(event) if event.kind == kind && is(&event) => return event,
                    other => others.push(other),
                }
            }
        });
        found.await.unwrap_or_else(|_| panic!("no such {kind} among {others:#?}"))
    }
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(LIMIT, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// Asks by both ways until they say the same: the world moves on between two questions.
async fn agree<T: PartialEq + std::fmt::Debug>(
    one: &dyn Control,
    two: &dyn Control,
    ask: impl AsyncFn(&dyn Control) -> T,
) {
    const TRIES: usize = 50;
    for _ in 0..TRIES {
        if ask(one).await == ask(two).await {
            return;
        }
    }
    assert_eq!(ask(one).await, ask(two).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ways_in_do_and_say_the_same() {
    let world = World::start().await;
    let mut transcripts = Vec::new();
    let ways = world.ways().await;
    for (number, (name, control)) in ways.iter().enumerate() {
        eprintln!("over {name}");
        let mut round = Round { control: &**control, world: &world, number, refused: Vec::new() };
        service::checks(&mut round).await;
        peers::checks(&mut round).await;
        store::checks(&mut round).await;
        keys::checks(&mut round).await;
        fleet::checks(&mut round).await;
        transcripts.push(round.refused);
    }
    let [(_, one), (_, two)] = &ways[..] else { return };
    assert_eq!(transcripts[0], transcripts[1], "what is refused, and how");
    let (one, two) = (&**one, &**two);
    agree(one, two, async |control| control.status().await).await;
    agree(one, two, async |control| control.statistics().await).await;
    agree(one, two, async |control| control.log_level().await).await;
    agree(one, two, async |control| control.peers(PeerFilter::default()).await).await;
    agree(one, two, async |control| control.pins().await).await;
    agree(one, two, async |control| control.transfers().await).await;
    agree(one, two, async |control| control.keys().await).await;
    agree(one, two, async |control| control.trusted_keys().await).await;
    agree(one, two, async |control| control.jobs().await).await;
    agree(one, two, async |control| control.fleet().await).await;
    let jobs = one.jobs().await.unwrap();
    assert!(!jobs.is_empty() && !one.keys().await.unwrap().is_empty());
    for job in jobs {
        agree(one, two, async |control| (control.job(job.id).await, control.job_paths(job.id, 0, 100).await)).await;
    }
    // All that happened since the beginning, told anew.
    let mut told = Vec::new();
    for control in [one, two] {
        let mut listener = Listener::open(control, EventFilter { kinds: Vec::new(), after: Some(0) }).await;
        let mut events = Vec::new();
        while events.last().is_none_or(|event: &Event| event.cursor < listener.begin) {
            match within("what happened before", listener.events.next()).await.unwrap().unwrap() {
                EventItem::Event(event) => events.push(event),
                other => panic!("{other:?}"),
            }
        }
        told.push(events);
    }
    let common = told[0].len().min(told[1].len());
    assert!(common > 20);
    assert_eq!(told[0][..common], told[1][..common]);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_a_credential_are_only_shown() {
    let folder = tempfile::tempdir().unwrap();
    let (_bus, address) = world::bus(folder.path());
    let machine = Machine::start("[keys]\nsigning = \"credential\"\n", "", Some(&address));
    let mut ways = vec![machine.varlink().await];
    if nix::unistd::geteuid().is_root() {
        let bus = peernix::control::dbus::Bus::Address(address);
        ways.push(std::sync::Arc::new(peernix::control::dbus::Client::connect(bus).await.unwrap()));
    }
    let mut said = Vec::new();
    for control in &ways {
        let keys = control.keys().await.unwrap();
        let [key] = &keys[..] else { panic!("{keys:?}") };
        assert_eq!((key.name.as_str(), key.managed.as_str(), key.state.as_str()), ("test-1", "credential", "active"));
        let rotated = control.rotate_key(None).await.unwrap_err();
        let revoked = control.revoke_key(&key.fingerprint, "").await.unwrap_err();
        for error in [&rotated, &revoked] {
            assert_eq!(error.kind, ErrorKind::KeyManagedExternally, "{error}");
        }
        assert_eq!(control.keys().await.unwrap(), keys);
        said.push((keys, rotated, revoked));
    }
    assert!(said.iter().all(|one| *one == said[0]));
    assert!(!machine.log().contains("KlZyzLB"), "the secret is nobody's business");
}
