//! Lookups with scripted responders, in virtual time.

use super::cache::Answer;
use super::resolver::Resolver;
use super::scripted::{Everybody, Says, Voice};
use crate::fetch::activity::Activity;
use crate::fetch::blame::Blame;
use crate::fetch::source::Remote;
use crate::metrics::Metrics;
use crate::nix::{NarHash, PathInfo, SecretKey, StoreDir, TrustedKeys};
use crate::resilience::Versioned;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const BUDGET: Duration = Duration::from_millis(300);

fn info() -> PathInfo {
    PathInfo::example()
}

struct World {
    resolver: Arc<Resolver>,
    network: Arc<Everybody>,
    metrics: Arc<Metrics>,
    trusted: Versioned<TrustedKeys>,
}

impl World {
    fn new(peers: &[Arc<Voice>], upstreams: &[Arc<Voice>]) -> Self {
        Self::of(Everybody::new(peers, upstreams))
    }

    fn of(network: Arc<Everybody>) -> Self {
        let metrics = Arc::<Metrics>::default();
        let blame = Arc::new(Blame { metrics: Arc::clone(&metrics), activity: Arc::new(Activity::new()) });
        let trusted = Versioned::<TrustedKeys>::default();
        let trust = (trusted.clone(), StoreDir::default());
        let resolver = Arc::new(Resolver::new(Arc::clone(&network) as _, trust, BUDGET, (Arc::clone(&metrics), blame)));
        Self { resolver, network, metrics, trusted }
    }

    /// The answer, and how long it took.
    async fn ask(&self) -> (Answer, Duration) {
        let begun = Instant::now();
        (self.resolver.answer(info().path.hash()).await, begun.elapsed())
    }
}

/// Whether somebody has it, or it is known that nobody does.
fn verdict(answer: &Answer) -> &'static str {
    match answer {
        Answer::Found(resolution) if resolution.is_from_peer() => "peer",
        Answer::Found(_) => "upstream",
        Answer::Absent => "absent",
        Answer::Unknown => "unknown",
    }
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[tokio::test(start_paused = true)]
async fn the_first_peer_wins_and_an_upstream_waits_a_moment_for_a_peer() {
    for (peers, upstreams, expected, time) in [
        (vec![(Says::No, 1), (Says::Yes, 5)], vec![(Says::Yes, 50)], "peer", 5),
        (vec![(Says::Yes, 20)], vec![(Says::Yes, 1)], "peer", 20),
        (vec![(Says::Yes, 100)], vec![(Says::Yes, 1)], "upstream", 31),
        (vec![(Says::No, 10)], vec![(Says::Yes, 1)], "upstream", 10),
        (vec![], vec![(Says::Yes, 40)], "upstream", 40),
        (vec![(Says::No, 3)], vec![(Says::No, 7)], "absent", 7),
        (vec![], vec![], "absent", 0),
        (vec![(Says::Breaks, 3)], vec![], "unknown", 3),
        (vec![(Says::Nothing, 0)], vec![(Says::No, 1)], "unknown", 300),
        (vec![(Says::No, 1)], vec![(Says::Nothing, 0)], "unknown", 8000),
        (vec![(Says::No, 1)], vec![(Says::Yes, 350)], "upstream", 350),
        (vec![(Says::Nothing, 0)], vec![(Says::Yes, 7000)], "upstream", 7000),
        (vec![(Says::Yes, 2000)], vec![(Says::Nothing, 0)], "peer", 2000),
        (vec![(Says::No, 1)], vec![(Says::No, 5), (Says::Yes, 350)], "upstream", 350),
        (vec![(Says::No, 1)], vec![(Says::Breaks, 5), (Says::No, 350)], "unknown", 350),
        (vec![(Says::No, 1)], vec![(Says::No, 5), (Says::No, 350)], "absent", 350),
        (vec![(Says::Lies, 1), (Says::Yes, 2)], vec![], "peer", 2),
    ] {
        let peers: Vec<_> = (1..).zip(&peers).map(|(n, (says, after))| Voice::peer(n, *says, *after)).collect();
        let upstreams: Vec<_> =
            (1..).zip(&upstreams).map(|(n, (says, after))| Voice::upstream(n, *says, *after)).collect();
        let (answer, elapsed) = World::new(&peers, &upstreams).ask().await;
        assert_eq!((verdict(&answer), elapsed), (expected, ms(time)));
    }
}

#[tokio::test(start_paused = true)]
async fn the_budget_may_change() {
    let world = World::new(&[Voice::peer(1, Says::Nothing, 0)], &[]);
    world.resolver.set_budget(ms(50));
    let (answer, elapsed) = world.ask().await;
    assert_eq!((verdict(&answer), elapsed), ("unknown", ms(50)));
}

#[tokio::test(start_paused = true)]
async fn a_lower_tier_is_asked_when_the_one_before_does_not_have_it() {
    for (first, second, expected, time, asked) in [
        ((Says::Yes, 350), (Says::Yes, 1), "upstream", 350, 0),
        ((Says::No, 350), (Says::Yes, 5), "upstream", 355, 1),
        ((Says::Breaks, 10), (Says::Yes, 5), "upstream", 15, 1),
        ((Says::Nothing, 0), (Says::Yes, 5), "upstream", 1005, 1),
        ((Says::No, 10), (Says::No, 5), "absent", 15, 1),
        // Nobody has said no for the one that is silent.
        ((Says::Nothing, 0), (Says::No, 5), "unknown", 8000, 1),
        ((Says::No, 10), (Says::Breaks, 5), "unknown", 15, 1),
    ] {
        let (first, second) = (Voice::of_tier(1, 1, first.0, first.1), Voice::of_tier(2, 2, second.0, second.1));
        let world = World::new(&[], &[Arc::clone(&second), first]);
        let (answer, elapsed) = world.ask().await;
        assert_eq!((verdict(&answer), elapsed, second.asked()), (expected, ms(time), asked));
        assert!(expected != "upstream" || world.metrics.upstream_answer_took.count() > 0);
    }
    // Whoever wants to know who has it hears all.
    let report = World::new(&[], &[Voice::of_tier(1, 1, Says::Yes, 1), Voice::of_tier(2, 2, Says::Yes, 1)]);
    assert_eq!(report.resolver.report(info().path.hash()).await.sources.len(), 2);
    let all = World::new(&[], &[Voice::of_tier(1, 1, Says::Yes, 1), Voice::of_tier(2, 2, Says::Yes, 1)]);
    let (Answer::Found(found), _) = all.ask().await else { panic!("the first has it") };
    assert_eq!(found.sources().len(), 1);
    let late = Arc::clone(&all.resolver).search(Arc::clone(&found)).await;
    late.await;
    assert_eq!(found.sources().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_is_slow_of_those_that_have_it_is_not_waited_for_alone() {
    let ask = async |first: (Says, u64)| {
        let (first, second) = (Voice::peer(1, first.0, first.1), Voice::peer(2, Says::Yes, 5));
        let world = World::of(Everybody::holding(&[first, second]));
        let (answer, elapsed) = world.ask().await;
        (verdict(&answer), elapsed < BUDGET, world.metrics.lookups_hedged.get())
    };
    assert_eq!(ask((Says::Yes, 5)).await, ("peer", true, 0));
    assert_eq!(ask((Says::Yes, 5000)).await, ("peer", true, 1));
    assert_eq!(ask((Says::No, 5)).await, ("peer", true, 0), "it has answered");
}

#[tokio::test(start_paused = true)]
async fn many_who_ask_at_once_are_one_lookup() {
    let peer = Voice::peer(1, Says::Yes, 20);
    let world = World::new(&[Arc::clone(&peer)], &[]);
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let resolver = Arc::clone(&world.resolver);
        asked.spawn(async move { verdict(&resolver.answer(info().path.hash()).await) });
    }
    assert!(asked.join_all().await.iter().all(|verdict| *verdict == "peer"));
    assert_eq!((peer.asked(), world.metrics.lookups_peer.get(), world.metrics.lookups_remembered.get()), (1, 1, 49));
    assert_eq!((world.metrics.peer_answer_took.count(), world.metrics.upstream_answer_took.count()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn who_answers_late_is_a_source_all_the_same() {
    let (fast, slow) = (Voice::peer(1, Says::Yes, 1), Voice::peer(2, Says::Yes, 2000));
    let upstream = Voice::upstream(1, Says::Yes, 3000);
    let world = World::new(&[fast, slow], &[upstream]);
    let (Answer::Found(resolution), _) = world.ask().await else { panic!() };
    let mut known = resolution.subscribe();
    let begun = Instant::now();
    known.wait_for(|count| *count == 3).await.unwrap();
    assert_eq!(begun.elapsed(), ms(2999));
}

#[tokio::test(start_paused = true)]
async fn what_comes_too_late_is_remembered_for_the_next_who_asks() {
    let late = Voice::doubtful(1, Says::Yes, 400);
    let world = World::new(&[], &[Arc::clone(&late)]);
    let (answer, elapsed) = world.ask().await;
    assert_eq!((verdict(&answer), elapsed), ("unknown", BUDGET), "nobody waits for an upstream in doubt");
    sleep(ms(150)).await; // pace
    assert_eq!((verdict(&world.ask().await.0), late.asked()), ("upstream", 1));
}

#[tokio::test(start_paused = true)]
async fn a_path_of_one_among_a_hundred_is_found() {
    for holder in [0, 15, 16, 63, 64, 99] {
        // As slow as they may be with so many, and a third does not answer at all.
        let peers: Vec<_> = (0..100u8)
            .map(|number| match number {
                number if number == holder => Voice::peer(number, Says::Yes, 150),
                number if number % 3 == 0 => Voice::peer(number, Says::Nothing, 0),
                number => Voice::peer(number, Says::No, 5 + u64::from(number)),
            })
            .collect();
        let (answer, elapsed) = World::new(&peers, &[]).ask().await;
        assert_eq!(verdict(&answer), "peer", "number {holder}");
        assert!(elapsed <= BUDGET, "{elapsed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_absent_who_was_not_asked() {
    let peers: Vec<_> = (0..250u8).map(|number| Voice::peer(number, Says::No, 1)).collect();
    let world = World::new(&peers, &[]);
    assert_eq!(verdict(&world.ask().await.0), "absent");
    assert!(peers.iter().all(|peer| peer.asked() == 1), "everybody was asked");
    let world = World::of(Everybody::with_others(&peers[..3], &[], true));
    assert_eq!(verdict(&world.ask().await.0), "unknown", "one that is suspect may have it");
}

#[tokio::test(start_paused = true)]
async fn what_nobody_had_is_looked_for_again_when_a_peer_comes() {
    for upstreams in [vec![], vec![Voice::upstream(1, Says::Breaks, 1)]] {
        let world = World::new(&[Voice::peer(1, Says::No, 1)], &upstreams);
        let miss = verdict(&world.ask().await.0);
        assert_eq!(miss, if upstreams.is_empty() { "absent" } else { "unknown" });
        assert_eq!((verdict(&world.ask().await.0), world.metrics.lookups_remembered.get()), (miss, 1));
        world.network.comes(&Voice::peer(2, Says::Yes, 1));
        assert_eq!(verdict(&world.ask().await.0), "peer");
    }
    let world = World::new(&[Voice::peer(1, Says::No, 50)], &[]);
    let come = async {
        sleep(ms(10)).await; // pace
        world.network.comes(&Voice::peer(2, Says::Yes, 1));
        world.ask().await.0
    };
    let ((before, _), after) = tokio::join!(world.ask(), come);
    assert_eq!((verdict(&before), verdict(&after)), ("absent", "peer"), "the lookup under way did not ask it");
}

#[tokio::test(start_paused = true)]
async fn only_the_liar_is_banned() {
    let voices = [Voice::peer(1, Says::Lies, 1), Voice::peer(2, Says::Breaks, 1), Voice::peer(3, Says::No, 1)];
    let world = World::new(&voices, &[]);
    assert_eq!(verdict(&world.ask().await.0), "unknown");
    let banned: Vec<_> = voices.iter().map(|voice| voice.source.record().banned.len()).collect();
    let failures: Vec<_> = voices.iter().map(|voice| voice.source.record().failures.len()).collect();
    assert_eq!((banned, failures), (vec![1, 0, 0], vec![0, 1, 0]));
    assert_eq!(world.metrics.peers_banned.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_a_liar_who_was_asked_before_the_keys_changed() {
    let peer = Voice::peer(1, Says::Lies, 50);
    let world = World::new(&[Arc::clone(&peer)], &[]);
    let change = async {
        sleep(ms(10)).await; // pace
        world.trusted.set([SecretKey::from_seed("b-1", [7; 32]).unwrap().public()].into_iter().collect());
    };
    let ((answer, _), ()) = tokio::join!(world.ask(), change);
    assert_eq!((verdict(&answer), peer.source.record().banned.len()), ("unknown", 0));
}

#[tokio::test(start_paused = true)]
async fn what_was_promised_is_looked_for_at_upstreams_in_doubt_as_well() {
    let slow = Voice::doubtful(1, Says::Yes, 2000);
    let world = World::new(&[], &[slow]);
    let begun = Instant::now();
    let resolution = world.resolver.find(info().path.hash(), info().nar_hash).await;
    assert!(resolution.is_some() && begun.elapsed() < ms(3000), "{:?}", begun.elapsed());
    let other = NarHash::new([9; 32]);
    assert!(world.resolver.find(info().path.hash(), other).await.is_none(), "another build is not it");
}

#[tokio::test(start_paused = true)]
async fn the_report_names_everybody() {
    let peers = [Voice::peer(1, Says::Yes, 9), Voice::peer(2, Says::No, 1), Voice::peer(3, Says::Breaks, 1)];
    let upstreams = [Voice::upstream(1, Says::Yes, 1), Voice::upstream(2, Says::Nothing, 0)];
    let report = World::new(&peers, &upstreams).resolver.report(info().path.hash()).await;
    let name = |voice: &Arc<Voice>| voice.source.id().name();
    let having: Vec<_> = report.sources.iter().map(|view| view.source.clone()).collect();
    assert_eq!(having, [name(&peers[0]), name(&upstreams[0])], "peers before upstreams");
    assert_eq!((report.absent, report.silent), (vec![name(&peers[1])], vec![name(&upstreams[1])]));
    assert_eq!(report.failed, [(name(&peers[2]), "broken".to_owned())]);
}
