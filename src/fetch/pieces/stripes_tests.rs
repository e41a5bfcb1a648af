//! Members that are fast, slow, silent, dead or lie, in virtual time.

use super::*;
use proptest::prelude::*;

/// After how long a silent member counts as failed.
const SILENCE: f64 = 1.0;

/// What a member does.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    /// Sends every piece as it is.
    Honest,
    /// Fails at the piece with this number of those that it sends, and from then on.
    Dies(u32),
    /// Says nothing from there on.
    Stalls(u32),
    /// Sends a wrong one.
    Lies(u32),
}

#[derive(Debug, Clone, Copy)]
struct Actor {
    /// Seconds a piece.
    pace: f64,
    way: Way,
}

/// A member as it is at work.
#[derive(Debug, Default, Clone)]
struct Work {
    pieces: Option<Range<u32>>,
    /// When its next piece is there, or it has failed.
    due: f64,
    sent: u32,
    fails: bool,
}

/// What came of it.
#[derive(Debug, Default)]
struct Outcome {
    handed_on: Vec<u32>,
    blamed: Vec<Key>,
    requests: u32,
    asked: u32,
    /// How many pieces each member sent.
    sent: Vec<u32>,
    took: f64,
    /// The longest time without anything that could be handed on, after the first.
    pause: f64,
    is_lost: bool,
}

fn begin(work: &mut Work, actor: Actor, now: f64) {
    let (fails, after) = match actor.way {
        Way::Dies(at) if work.sent >= at => (true, 0.01),
        Way::Stalls(at) if work.sent >= at => (true, SILENCE),
        _ => (false, actor.pace),
    };
    (work.fails, work.due) = (fails, now + after);
}

fn run(count: u32, actors: &[Actor]) -> Outcome {
    let mut stripes = Stripes::new(0, count, actors.len());
    let mut works = vec![Work::default(); actors.len()];
    let mut outcome = Outcome { sent: vec![0; actors.len()], ..Outcome::default() };
    let (mut now, mut last) = (0.0_f64, 0.0);
    let at = Duration::from_secs_f64;
    stripes.handle(Event::Tick, at(now));
    for _ in 0..200_000 {
        while let Some(action) = stripes.next_action() {
            match action {
                Action::Request(key, pieces) => {
                    assert!(works[key].pieces.is_none(), "{key} is at work");
                    assert!(!pieces.is_empty() && pieces.end <= count);
                    assert!(pieces.end <= stripes.next + WINDOW || pieces.start == count - 1, "beyond the window");
                    outcome.requests += 1;
                    outcome.asked += pieces.end - pieces.start;
                    works[key].pieces = Some(pieces);
                    begin(&mut works[key], actors[key], now);
                }
                Action::Shorten(key, end) => {
                    let pieces = works[key].pieces.as_mut().expect("it is at work");
                    assert!(pieces.start < end && end < pieces.end, "only what is not on its way");
                    outcome.asked -= pieces.end - end;
                    pieces.end = end;
                }
                Action::Cancel(key) => works[key].pieces = None,
                Action::Blame(key, _) => outcome.blamed.push(key),
            }
        }
        while let Some(piece) = stripes.take_next(at(now)) {
            if !outcome.handed_on.is_empty() {
                outcome.pause = outcome.pause.max(now - last);
            }
            outcome.handed_on.push(piece);
            last = now;
        }
        if stripes.is_done() || stripes.is_lost() {
            (outcome.took, outcome.is_lost) = (now, stripes.is_lost());
            return outcome;
        }
        if stripes.actions.is_empty() {
            let next = (0..works.len()).filter(|key| works[*key].pieces.is_some());
            let next = next.min_by(|one, other| works[*one].due.total_cmp(&works[*other].due));
            let look = stripes.next_look(at(now)).map_or(f64::MAX, |look| look.as_secs_f64() + 1e-9);
            let Some(key) = next.filter(|key| works[*key].due <= look) else {
                assert!(look < f64::MAX, "nothing is waited for");
                now = look;
                stripes.handle(Event::Tick, at(now));
                continue;
            };
            let work = &mut works[key];
            now = work.due;
            if work.fails {
                work.pieces = None;
                stripes.handle(Event::Failed(key), at(now));
                continue;
            }
            let pieces = work.pieces.clone().expect("it is at work");
            let is_wrong = matches!(actors[key].way, Way::Lies(at) if work.sent == at);
            work.sent += 1;
            outcome.sent[key] += 1;
            let rest = pieces.start + 1..pieces.end;
            work.pieces = (!rest.is_empty()).then_some(rest);
            begin(work, actors[key], now);
            stripes.handle(Event::Arrived(key), at(now));
            let event = if is_wrong { Event::Wrong(key, pieces.start) } else { Event::Right(key, pieces.start) };
            stripes.handle(event, at(now));
        }
    }
    panic!("it does not end: {stripes:?}");
}

const fn honest(pace: f64) -> Actor {
    Actor { pace, way: Way::Honest }
}

#[test]
fn four_alike_are_four_times_as_fast_as_one_and_send_as_much_each() {
    let outcome = run(500, &[honest(0.084); 4]);
    assert!(outcome.took < 500.0 * 0.084 / 3.8, "{outcome:?}");
    assert!(outcome.sent.iter().all(|sent| (110..140).contains(sent)), "{:?}", outcome.sent);
    assert!(outcome.asked <= 500 + 5, "{}", outcome.asked);
}

#[test]
fn the_fast_send_more_and_the_slow_hold_nobody_up() {
    let outcome = run(500, &[honest(0.01), honest(0.01), honest(0.02), honest(1.0)]);
    // Together they send 251 pieces a second.
    assert!(outcome.took < 500.0 / 251.0 * 1.35, "{}", outcome.took);
    assert!(outcome.pause < 0.8, "{}", outcome.pause);
    assert!(outcome.asked <= 500 + 25 + 2, "{}", outcome.asked);
}

#[test]
fn one_that_dies_and_one_that_stalls_cost_less_than_two_seconds() {
    let (dies, stalls) = (Way::Dies(40), Way::Stalls(60));
    let actors = [honest(0.084), Actor { pace: 0.084, way: dies }, honest(0.084), Actor { pace: 0.084, way: stalls }];
    let outcome = run(500, &actors);
    assert!(outcome.pause < 1.2 && !outcome.is_lost && outcome.blamed.is_empty(), "{outcome:?}");
}

#[test]
fn a_liar_costs_one_piece_and_is_named() {
    let outcome = run(100, &[honest(0.1), Actor { pace: 0.1, way: Way::Lies(3) }, honest(0.1)]);
    assert_eq!((outcome.blamed.as_slice(), outcome.sent[1]), (&[1][..], 4));
    assert!(outcome.asked <= 100 + STRIPE_MAX + 5, "{}", outcome.asked);
}

#[test]
fn the_last_piece_is_asked_for_first_and_what_is_handed_on_already_never() {
    let mut stripes = Stripes::new(90, 100, 2);
    stripes.handle(Event::Tick, Duration::ZERO);
    assert_eq!(stripes.next_action(), Some(Action::Request(0, 99..100)));
    assert_eq!(stripes.next_action(), Some(Action::Request(1, 90..91)));
    assert_eq!(stripes.next_action(), None);
    assert!(Stripes::new(100, 100, 2).is_done());
}

fn actor() -> impl Strategy<Value = Actor> {
    let way = prop_oneof![
        3 => Just(Way::Honest),
        1 => (0..30_u32).prop_map(Way::Dies),
        1 => (0..30_u32).prop_map(Way::Stalls),
        1 => (0..30_u32).prop_map(Way::Lies),
    ];
    (0.001..2.0, way).prop_map(|(pace, way)| Actor { pace, way })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever members do: every piece is handed on once and in order as long as one of them can send it, only liars are blamed, each once, and
    /// what is asked for twice is bounded.
    #[test]
    fn everything_comes_once_and_in_order(count in 1..120_u32, actors in proptest::collection::vec(actor(), 1..5)) {
        let outcome = run(count, &actors);
        let has_honest = actors.iter().any(|actor| actor.way == Way::Honest);
        prop_assert!(!(outcome.is_lost && has_honest));
        let expected: Vec<u32> = (0..u32::try_from(outcome.handed_on.len()).unwrap()).collect();
        prop_assert_eq!(&outcome.handed_on, &expected);
        prop_assert_eq!(outcome.is_lost, outcome.handed_on.len() < count as usize);
        let mut blamed = outcome.blamed.clone();
        blamed.sort_unstable();
        blamed.dedup();
        prop_assert_eq!(blamed.len(), outcome.blamed.len());
        prop_assert!(blamed.iter().all(|key| matches!(actors[*key].way, Way::Lies(_))));
        // The slowest may block once in every so many pieces of the window.
        let blocks = 2 + count / 4;
        let failures = u32::try_from(actors.len()).unwrap() * (CHANCES + 1) * STRIPE_MAX;
        prop_assert!(outcome.asked <= count + DOUBLED_MIN.max(count / DOUBLED) + blocks + failures, "{}", outcome.asked);
    }
}
