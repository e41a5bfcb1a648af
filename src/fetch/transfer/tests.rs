//! Whole transfers with scripted sources, in virtual time.

mod claims;
mod pieces;
mod properties;
mod rest;

use super::assembly::{Assembly, WITHHELD};
use super::download_limit::DownloadLimit;
use super::driver::{Search, Transfer};
use super::fanout::Fanout;
use super::memory::Memory;
use super::shared::{Pieces, Place, Shared};
use super::spool::{SpoolOptions, Spools};
use super::suspects::Suspects;
use crate::fetch::activity::{Activity, FetchEvent};
use crate::fetch::blame::Blame;
use crate::fetch::claims::site::Site;
use crate::fetch::error::TransferError;
use crate::fetch::pieces::tables::Tables;
use crate::fetch::promises::BrokenPromises;
use crate::fetch::resolve::resolution::{Holder, Resolution};
use crate::fetch::resolve::resolver::Late;
use crate::fetch::source::Source;
use crate::fetch::source::scripted::{Act, Script, Scripted, content};
use crate::metrics::Metrics;
use crate::nix::{Compression, NarHash, PathInfo};
use crate::resilience::Rates;
use bytes::Bytes;
use http_body_util::BodyExt;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// When a source becomes known.
#[derive(Debug, Clone, Copy)]
enum Arrival {
    /// It was known and broke its promise.
    Gone,
    /// With the resolution.
    First,
    /// So long after the begin of the transfer.
    Late(Duration),
    /// Only by asking everybody again.
    Searched,
    /// The same, and so long after the others.
    HeardLate(Duration),
}

/// A NAR of so many bytes, of which so many are kept for readers at once.
struct World {
    content: Bytes,
    window: u64,
    shared: Arc<Shared>,
}

/// How a transfer ended.
#[derive(Debug)]
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
        let (suspects, promises) = (Suspects::new(), BrokenPromises::new());
        let place = Place::alone(Spools::new(SpoolOptions::default()), false);
        let pieces = Pieces { most: 4, tables: Tables::default(), memory: Memory::new(64 << 20) };
        let shared = Arc::new(Shared {
            metrics,
            activity,
            blame,
            suspects,
            promises,
            place,
            pieces,
            limit: DownloadLimit::new(Rates::default()),
            bases: None,
        });
        Self { content: content(size), window, shared }
    }

    /// The same among others, who want the same.
    fn among(mut self, site: &Arc<claims::Others>) -> Self {
        let options =
            SpoolOptions { dir: Some(std::env::temp_dir()), max_size: 1 << 30, keep: Duration::from_secs(60) };
        let site = Arc::clone(site) as Arc<dyn Site>;
        let place = Place { site, spools: Spools::new(options), may_share: Arc::new(|_| true), whole: false };
        // Nobody else has it yet.
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.place = place;
        }
        self
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
        let is_known = |arrival: &Arrival| matches!(arrival, Arrival::First | Arrival::Gone);
        let first = sources.iter().find(|(_, arrival)| is_known(arrival)).expect("one is known");
        let resolution = Resolution::new(holder(&first.0));
        let (mut searched, mut heard_late) = (Vec::new(), Vec::new());
        for (source, arrival) in sources {
            match *arrival {
                Arrival::First => {
                    resolution.add(holder(source));
                }
                Arrival::Gone => resolution.remove(&source.remote().id()),
                Arrival::Searched => searched.push(holder(source)),
                Arrival::HeardLate(after) => heard_late.push((after, holder(source))),
                Arrival::Late(after) => {
                    let (resolution, holder) = (Arc::clone(&resolution), holder(source));
                    tokio::spawn(async move {
                        sleep(after).await; // pace
                        resolution.add(holder);
                    });
                }
            }
        }
        // What a search gives is awaited later: that is what it is for.
        #[allow(clippy::async_yields_async)]
        let find = move |resolution: &Arc<Resolution>| -> Search {
            let (resolution, searched, heard_late) = (Arc::clone(resolution), searched.clone(), heard_late.clone());
            Box::pin(async move {
                sleep(Duration::from_millis(20)).await; // pace
                for holder in searched {
                    resolution.add(holder);
                }
                let late = async move {
                    for (after, holder) in heard_late {
                        sleep(after).await; // pace
                        resolution.add(holder);
                    }
                };
                Box::pin(late) as Late
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
        world.from(vec![Scripted::peer(1, &world.content, [Script::Refuse(410)]).for_ever()]).await;
    let Err(TransferError::NoSource(reason)) = outcome.result else { panic!("{:?}", outcome.result) };
    assert!(reason.starts_with("peer ") && reason.ends_with("status 410"), "{reason}");
    assert_eq!(sources[0].record().opened.len(), 1, "that it is gone is final");
    let (_, sources) = world.from(vec![Scripted::peer(1, &world.content, [Script::Refuse(500)]).for_ever()]).await;
    assert_eq!(sources[0].record().opened.len(), 3, "a failure of the server is not");
}

#[tokio::test(start_paused = true)]
async fn nobody_who_may_still_have_it_is_left_out() {
    let world = World::whole(300 * KIB);
    for (number, fault) in (1..).zip([
        Script::Refuse(403),
        Script::Refuse(404),
        Script::Refuse(500),
        Script::at_once(&[Act::Die]),
        Script::at_once(&[Act::Corrupt(KIB)]),
        Script::at_once(&[Act::Stall]),
        Script::at_once(&[Act::Overrun]),
        Script::at_once(&[Act::Send(KIB), Act::End]),
    ]) {
        let first = Arc::new(Scripted::upstream(number, &world.content, [fault.clone()]).for_ever());
        let late = Arc::new(Scripted::upstream(100, &world.content, []));
        let late = (late, Arrival::HeardLate(Duration::from_secs(5)));
        let outcome = world.transfer(&[(Arc::clone(&first), Arrival::First), late.clone()]).await;
        assert_eq!(outcome.result, Ok(()), "{fault:?}");
        // The next time the one that failed is asked last.
        let outcome = world.transfer(&[(Arc::clone(&first), Arrival::First), (late.0, Arrival::First)]).await;
        assert_eq!((outcome.result, outcome.elapsed), (Ok(()), Duration::ZERO), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_busy_is_passed_over_and_waited_for_only_if_there_is_nobody_else() {
    let world = World::whole(300 * KIB);
    let busy = |number, times| {
        let scripts = std::iter::repeat_n(Script::Busy, times);
        Scripted::peer(number, &world.content, scripts).measured(Duration::from_micros(number.into()), 1e9)
    };
    let (outcome, sources) = world.from(vec![busy(1, 99), near(2, &world, &[])]).await;
    assert_eq!((outcome.result, outcome.elapsed), (Ok(()), Duration::ZERO));
    assert_eq!((sources[0].record().opened.len(), sources[0].record().failures.len()), (1, 0), "it has not failed");
    let mut events = world.shared.activity.subscribe();
    let (outcome, _) = world.from(vec![busy(1, 4)]).await;
    assert_eq!(outcome.result, Ok(()));
    assert!((7..9).contains(&outcome.elapsed.as_secs()), "{:?}", outcome.elapsed);
    let waited = std::iter::from_fn(|| events.try_recv().ok())
        .filter(|event| matches!(event, FetchEvent::TransferWaiting { bytes: 0, .. }));
    assert_eq!(waited.count(), 1, "it is told, once");
    let (outcome, sources) = world.from(vec![busy(1, 99), busy(2, 99)]).await;
    let Err(TransferError::NoSource(reason)) = outcome.result else { panic!("{:?}", outcome.result) };
    assert!(reason.ends_with("is busy"), "{reason}");
    assert!((20..30).contains(&outcome.elapsed.as_secs()), "{:?}", outcome.elapsed);
    let asked: Vec<_> = sources.iter().map(|source| source.record().opened.len()).collect();
    assert_eq!(asked, [9, 9], "all of them after each pause");
    // One that turns up ends the wait.
    let late = (Arc::new(near(3, &world, &[])), Arrival::Late(Duration::from_secs(6)));
    let outcome = world.transfer(&[(Arc::new(busy(1, 99)), Arrival::First), late]).await;
    assert_eq!((outcome.result, outcome.elapsed), (Ok(()), Duration::from_secs(6)));
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
