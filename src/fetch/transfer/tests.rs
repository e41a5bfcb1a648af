//! Whole transfers with scripted sources, in virtual time.

use super::assembly::{Assembly, WITHHELD};
use super::driver::{Search, Shared, Transfer};
use super::fanout::Fanout;
use super::suspects::Suspects;
use crate::fetch::activity::Activity;
use crate::fetch::blame::Blame;
use crate::fetch::error::TransferError;
use crate::fetch::resolve::resolution::{Holder, Resolution};
use crate::fetch::source::Source;
use crate::fetch::source::scripted::{Act, Script, Scripted, content};
use crate::metrics::Metrics;
use crate::nix::{Compression, NarHash, PathInfo};
use bytes::Bytes;
use http_body_util::BodyExt;
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// When a source becomes known.
#[derive(Debug, Clone, Copy)]
enum Arrival {
    /// With the resolution.
    First,
    /// So long after the begin of the transfer.
    Late(Duration),
    /// Only by asking everybody again.
    Searched,
}

/// A NAR of so many bytes, of which so many are kept for readers at once.
struct World {
    content: Bytes,
    window: u64,
    shared: Arc<Shared>,
}

/// How a transfer ended.
struct Outcome {
    /// What a reader got.
    read: Vec<u8>,
    result: Result<(), TransferError>,
    elapsed: Duration,
}

impl World {
    fn new(size: usize, window: u64) -> Self {
        let (metrics, activity) = (Arc::<Metrics>::default(), Arc::new(Activity::new()));
        let blame = Arc::new(Blame { metrics: Arc::clone(&metrics), activity: Arc::clone(&activity) });
        let shared = Arc::new(Shared { metrics, activity, blame, suspects: Suspects::new() });
        Self { content: content(size), window, shared }
    }

    /// A NAR that is kept whole until it is verified.
    fn whole(size: usize) -> Self {
        Self::new(size, size as u64)
    }

    /// A NAR that is read while it comes.
    fn streamed(size: usize) -> Self {
        Self::new(size, 96 * 1024)
    }

    fn info(&self) -> PathInfo {
        let nar_hash = NarHash::new(Sha256::digest(&self.content).into());
        PathInfo { nar_hash, nar_size: self.content.len() as u64, ..PathInfo::example() }
    }

    /// Runs a transfer to its end, with a reader from the first byte on.
    async fn transfer(&self, sources: &[(Arc<Scripted>, Arrival)]) -> Outcome {
        let holder = |source: &Arc<Scripted>| Holder {
            info: self.info(),
            source: Arc::clone(source) as Arc<dyn Source>,
            compression: Compression::None,
            file_size: None,
        };
        let first = sources.iter().find(|(_, arrival)| matches!(arrival, Arrival::First)).expect("one is known");
        let resolution = Resolution::new(holder(&first.0));
        let mut searched: Vec<Arc<dyn Source>> = Vec::new();
        for (source, arrival) in sources {
            match *arrival {
                Arrival::First => resolution.add(holder(source)),
                Arrival::Searched => searched.push(Arc::clone(source) as _),
                Arrival::Late(after) => {
                    let (resolution, holder) = (Arc::clone(&resolution), holder(source));
                    tokio::spawn(async move {
                        sleep(after).await; // pace
                        resolution.add(holder);
                    });
                }
            }
        }
        let find = move |_: &PathInfo| -> Search {
            let searched = searched.clone();
            Box::pin(async move {
                sleep(Duration::from_millis(20)).await; // pace
                searched
            })
        };
        let fanout = Fanout::new(self.content.len() as u64, self.window, None);
        let mut reader = fanout.reader(0).unwrap();
        let trace = self.shared.activity.begin(&self.info().path, self.content.len() as u64);
        let transfer = Transfer::new(Arc::clone(&self.shared), resolution, find, Assembly::new(fanout), trace);
        let begun = Instant::now();
        let read = async {
            let mut read = Vec::new();
            while let Some(Ok(frame)) = reader.frame().await {
                read.extend_from_slice(&frame.into_data().unwrap());
            }
            read
        };
        let ended = timeout(Duration::from_secs(3600), async { tokio::join!(transfer.run(), read) }).await;
        let (result, read) = ended.expect("every transfer ends");
        Outcome { read, result, elapsed: begun.elapsed() }
    }

    /// The same with sources that are all known from the begin.
    async fn from(&self, sources: Vec<Scripted>) -> (Outcome, Vec<Arc<Scripted>>) {
        let sources: Vec<Arc<Scripted>> = sources.into_iter().map(Arc::new).collect();
        let known: Vec<_> = sources.iter().map(|source| (Arc::clone(source), Arrival::First)).collect();
        (self.transfer(&known).await, sources)
    }
}

const KIB: usize = 1024;

fn near(number: u8, world: &World, acts: &[Act]) -> Scripted {
    Scripted::peer(number, &world.content, [Script::at_once(acts)]).measured(Duration::from_micros(number.into()), 1e9)
}

#[tokio::test(start_paused = true)]
async fn whoever_takes_over_goes_on_at_the_byte() {
    let world = World::streamed(300 * KIB);
    let first = near(1, &world, &[Act::Send(100 * KIB), Act::Die]);
    let (outcome, sources) = world.from(vec![first, near(2, &world, &[])]).await;
    assert_eq!(outcome.result, Ok(()));
    assert!(outcome.read == world.content);
    assert_eq!(sources[1].record().opened, [100 * KIB as u64]);
    assert_eq!(sources[1].record().successes, [200 * KIB as u64]);
    assert_eq!(world.shared.metrics.transfers_failed_over.get(), 1);
    assert_eq!(outcome.elapsed, Duration::ZERO, "nobody waits for anything");
}

#[tokio::test(start_paused = true)]
async fn a_silent_source_is_left_after_a_second_if_another_can_go_on_and_after_five_if_not() {
    let world = World::streamed(300 * KIB);
    let stalls = || near(1, &world, &[Act::Send(KIB), Act::Stall]);
    let (outcome, _) = world.from(vec![stalls(), near(2, &world, &[])]).await;
    assert_eq!((outcome.result, outcome.elapsed), (Ok(()), Duration::from_secs(1)));
    // Alone it is tried once more, after everybody was asked again and a pause.
    let (outcome, sources) = world.from(vec![stalls()]).await;
    assert_eq!(outcome.result, Ok(()));
    assert!((5..6).contains(&outcome.elapsed.as_secs()), "{:?}", outcome.elapsed);
    assert_eq!(sources[0].record().opened, [0, KIB as u64]);
}

#[tokio::test(start_paused = true)]
async fn one_that_turns_up_while_another_stalls_takes_over_at_once() {
    let world = World::streamed(300 * KIB);
    let stalls = (Arc::new(near(1, &world, &[Act::Send(KIB), Act::Stall])), Arrival::First);
    let late = (Arc::new(near(2, &world, &[])), Arrival::Late(Duration::from_secs(3)));
    let outcome = world.transfer(&[stalls, late]).await;
    assert_eq!((outcome.result, outcome.elapsed), (Ok(()), Duration::from_secs(3)));
}

#[tokio::test(start_paused = true)]
async fn everybody_is_asked_again_before_a_transfer_is_given_up() {
    let world = World::whole(300 * KIB);
    let gone = Arc::new(Scripted::peer(1, &world.content, [Script::Refuse(404)]).for_ever());
    let other = Arc::new(near(2, &world, &[]));
    let outcome = world.transfer(&[(Arc::clone(&gone), Arrival::First), (other, Arrival::Searched)]).await;
    assert_eq!(outcome.result, Ok(()));
    assert_eq!(gone.record().failures, [], "that a path is gone is nobody's fault");
    let (outcome, sources) =
        world.from(vec![Scripted::peer(1, &world.content, [Script::Refuse(500)]).for_ever()]).await;
    let Err(TransferError::NoSource(reason)) = outcome.result else { panic!("{:?}", outcome.result) };
    assert!(reason.starts_with("peer ") && reason.ends_with("status 500"), "{reason}");
    assert_eq!(sources[0].record().opened.len(), 1, "a status is final");
}

#[tokio::test(start_paused = true)]
async fn the_faster_one_sends() {
    let world = World::streamed(300 * KIB);
    let measured = |number, latency_ms, throughput| {
        Scripted::peer(number, &world.content, []).measured(Duration::from_millis(latency_ms), throughput)
    };
    let (_, sources) = world.from(vec![measured(1, 1, 1e5), measured(2, 20, 1e8)]).await;
    assert_eq!((sources[0].record().opened.len(), sources[1].record().opened.len()), (0, 1));
    let (_, sources) = world.from(vec![Scripted::upstream(1, &world.content, []), measured(2, 50, 1e5)]).await;
    assert_eq!((sources[0].record().opened.len(), sources[1].record().opened.len()), (0, 1), "near before far");
}

#[tokio::test(start_paused = true)]
async fn who_drips_is_given_up() {
    let world = World::streamed(300 * KIB);
    let drips: Vec<Act> = (0..400).flat_map(|_| [Act::Send(1), Act::Wait(Duration::from_millis(900))]).collect();
    let (outcome, sources) = world.from(vec![near(1, &world, &drips), near(2, &world, &[])]).await;
    assert_eq!(outcome.result, Ok(()));
    assert!(outcome.elapsed < Duration::from_secs(6), "{:?}", outcome.elapsed);
    assert_eq!(sources[0].record().failures, [crate::peers::Failure::Stalled]);
}

#[tokio::test(start_paused = true)]
async fn a_far_source_may_be_slow_if_there_is_no_other() {
    let world = World::whole(300);
    let drips: Vec<Act> = (0..300).flat_map(|_| [Act::Send(1), Act::Wait(Duration::from_secs(2))]).collect();
    let far = || Scripted::upstream(1, &world.content, [Script::at_once(&drips)]).for_ever();
    let (outcome, _) = world.from(vec![far()]).await;
    assert_eq!((outcome.result, outcome.elapsed), (Ok(()), Duration::from_secs(598)));
    let late = (Arc::new(near(2, &world, &[])), Arrival::Late(Duration::from_secs(9)));
    let outcome = world.transfer(&[(Arc::new(far()), Arrival::First), late]).await;
    assert!(outcome.elapsed < Duration::from_secs(15), "{:?}", outcome.elapsed);
}

#[tokio::test(start_paused = true)]
async fn the_right_content_shows_who_sent_what_was_wrong() {
    let world = World::whole(300 * KIB);
    let honest = |number| near(number, &world, &[Act::Send(100 * KIB), Act::Die]);
    let liar = near(2, &world, &[Act::Corrupt(100 * KIB), Act::Die]);
    let (outcome, sources) = world.from(vec![honest(1), liar, near(3, &world, &[])]).await;
    assert_eq!(outcome.result, Ok(()));
    assert!(outcome.read == world.content);
    let barred: Vec<usize> = sources.iter().map(|source| source.record().barred.len()).collect();
    assert_eq!(barred, [0, 1, 0]);
    assert!(sources.iter().all(|source| source.record().banned.is_empty()), "its file may be damaged");
}

#[tokio::test(start_paused = true)]
async fn suspects_are_asked_last_and_never_mixed() {
    let world = World::streamed(300 * KIB);
    let sources = || {
        let first = near(1, &world, &[Act::Send(100 * KIB), Act::Die]);
        vec![first, near(2, &world, &[Act::Corrupt(KIB)])]
    };
    let (outcome, told) = world.from(sources()).await;
    assert!(matches!(outcome.result, Err(TransferError::Corrupt(_))), "{:?}", outcome.result);
    assert_eq!(outcome.read.len(), 300 * KIB - usize::try_from(WITHHELD).unwrap(), "the tail is withheld");
    assert!(told.iter().all(|source| source.record().is_blameless()), "nobody is blamed on suspicion");
    // Again: the one that is not a suspect comes first; and a suspect does not go on where another stopped.
    let scripts = [Script::at_once(&[Act::Send(100 * KIB), Act::Die]), Script::Refuse(404)];
    let third = Scripted::peer(9, &world.content, scripts).for_ever();
    let mut again = sources();
    again.push(third);
    let (outcome, told) = world.from(again).await;
    assert!(matches!(outcome.result, Err(TransferError::NoSource(_))), "{:?}", outcome.result);
    let opened: Vec<usize> = told.iter().map(|source| source.record().opened.len()).collect();
    assert_eq!(opened, [0, 0, 2]);
    // The next time it is alone, and the wrong content is its own.
    let (outcome, told) = world.from(vec![near(2, &world, &[Act::Corrupt(KIB)])]).await;
    assert!(matches!(outcome.result, Err(TransferError::Corrupt(_))));
    assert_eq!(told[0].record().barred.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn small_nars_are_verified_before_the_first_byte() {
    let world = World::whole(300 * KIB);
    let (outcome, sources) = world.from(vec![near(1, &world, &[Act::Send(KIB), Act::Corrupt(KIB)])]).await;
    assert!(matches!(outcome.result, Err(TransferError::NoSource(_))), "{:?}", outcome.result);
    assert_eq!((outcome.read.len(), sources[0].record().barred.len()), (0, 1));
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (1..60 * KIB).prop_map(Act::Send),
        2 => (1..30 * KIB).prop_map(Act::Corrupt),
        2 => (1..4000_u64).prop_map(|ms| Act::Wait(Duration::from_millis(ms))),
        1 => Just(Act::Stall),
        3 => Just(Act::Die),
        1 => Just(Act::End),
        1 => Just(Act::Overrun),
    ]
}

fn script() -> impl Strategy<Value = Script> {
    let acts = prop::collection::vec(act(), 0..5);
    prop_oneof![
        1 => prop_oneof![Just(404), Just(500)].prop_map(Script::Refuse),
        8 => (prop_oneof![3 => Just(0), 1 => 1..3000_u64], acts)
            .prop_map(|(after, acts)| Script::Answer(Duration::from_millis(after), acts)),
    ]
}

fn arrival() -> impl Strategy<Value = Arrival> {
    prop_oneof![
        Just(Arrival::First),
        (0..20_000_u64).prop_map(|ms| Arrival::Late(Duration::from_millis(ms))),
        Just(Arrival::Searched),
    ]
}

/// A source by its scripts, whether it goes on with the last of them for ever, whether it is far, and when it is known.
type Plan = (Vec<Script>, bool, bool, Arrival);

fn plan() -> impl Strategy<Value = Plan> {
    (prop::collection::vec(script(), 1..4), any::<bool>(), prop::bool::weighted(0.25), arrival())
}

/// Runs the plans in a world, and holds what is always true against what came of it.
fn check(world: &World, plans: &[Plan], honest: Option<Arrival>) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let mut sources: Vec<(Arc<Scripted>, Arrival)> = Vec::new();
    for ((scripts, for_ever, far, arrival), number) in plans.iter().zip(1..) {
        let make = if *far { Scripted::upstream } else { Scripted::peer };
        let source = make(number, &world.content, scripts.clone());
        sources.push((Arc::new(if *for_ever { source.for_ever() } else { source }), *arrival));
    }
    let good = Arc::new(Scripted::peer(99, &world.content, []));
    sources.extend(honest.map(|arrival| (Arc::clone(&good), arrival)));
    if let Some(first) = sources.first_mut() {
        first.1 = Arrival::First;
    }
    let outcome = runtime.block_on(world.transfer(&sources));
    let keeps_all = world.window >= world.content.len() as u64;
    match &outcome.result {
        Ok(()) => prop_assert!(outcome.read == world.content, "the whole, and right"),
        Err(_) if keeps_all => prop_assert!(outcome.read.is_empty(), "nothing before all is verified"),
        Err(_) => prop_assert!(outcome.read.len() as u64 <= world.content.len() as u64 - WITHHELD, "no tail"),
    }
    let records: Vec<_> = sources.iter().map(|(source, _)| source.record()).collect();
    for record in &records {
        prop_assert!(record.is_blameless() || record.lied, "blamed for another's bytes: {record:?}");
        prop_assert!(record.failures.is_empty() || record.faulty, "blamed for nothing: {record:?}");
        prop_assert!(
            outcome.result.is_ok() || record.successes.is_empty(),
            "praised for what was not right: {record:?}"
        );
    }
    let lied = records.iter().any(|record| record.lied);
    // One that is late may be too late.
    if matches!(honest, Some(Arrival::First | Arrival::Searched)) && (keeps_all || !lied) {
        prop_assert!(outcome.result.is_ok(), "an honest source was there: {:?}", outcome.result);
    }
    let wrong = world.shared.metrics.verification_failures.get() > 0;
    let all_near = plans.iter().all(|(_, _, far, _)| !far);
    if wrong && keeps_all && outcome.result.is_ok() && all_near {
        // An upstream is the administrator's choice, and is not blamed.
        prop_assert!(records.iter().any(|record| !record.is_blameless()), "who sent wrong content is found out");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_sources_do_a_small_nar_is_right_or_not_there(
        plans in prop::collection::vec(plan(), 1..5), honest in prop::option::of(arrival()),
    ) {
        check(&World::whole(60 * KIB), &plans, honest)?;
    }

    #[test]
    fn whatever_sources_do_a_large_nar_ends_right_or_without_its_end(
        plans in prop::collection::vec(plan(), 1..5), honest in prop::option::of(arrival()),
    ) {
        check(&World::streamed(160 * KIB), &plans, honest)?;
    }
}
