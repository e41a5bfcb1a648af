//! Any sources in any order: what is always true.

use super::*;
use proptest::prelude::*;

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
        1 => Just(Script::Busy),
        8 => (prop_oneof![3 => Just(0), 1 => 1..3000_u64], acts)
            .prop_map(|(after, acts)| Script::Answer(Duration::from_millis(after), acts)),
    ]
}

fn arrival() -> impl Strategy<Value = Arrival> {
    prop_oneof![
        Just(Arrival::First),
        (0..20_000_u64).prop_map(|ms| Arrival::Late(Duration::from_millis(ms))),
        Just(Arrival::Searched),
        (0..6_000_u64).prop_map(|ms| Arrival::HeardLate(Duration::from_millis(ms))),
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
    if matches!(honest, Some(Arrival::First | Arrival::Searched | Arrival::HeardLate(_))) && (keeps_all || !lied) {
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
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

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
