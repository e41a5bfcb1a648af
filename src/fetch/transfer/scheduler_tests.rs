use super::*;
use crate::fetch::source::Tier;
use crate::peers::hello::WEIGHT_MAX;
use proptest::prelude::*;

const SIZE: u64 = 100;
const RIGHT: [u8; 32] = [1; 32];
const WRONG: [u8; 32] = [2; 32];
const STANDING: Standing =
    Standing { usable: true, tier: Tier::Online, latency: None, throughput: None, weight: WEIGHT_MAX };
const HONEST: Candidate = Candidate {
    begins_anywhere: true,
    suspicion: 0,
    broke_promise: false,
    is_far: false,
    is_partial: false,
    is_once: false,
};

fn scheduler(restartable: bool) -> Scheduler {
    Scheduler::new(NarHash::new(RIGHT), SIZE, restartable, false)
}

/// What is to be done after `event`, in words.
fn after(scheduler: &mut Scheduler, event: Event) -> Vec<String> {
    scheduler.handle(event, |_| STANDING);
    std::iter::from_fn(|| scheduler.next_action()).map(|action| words(&action)).collect()
}

fn words(action: &Action) -> String {
    match action {
        Action::Request { key, from } => format!("request {key} from {from}"),
        Action::Pause(pause) => format!("pause {pause:?}"),
        Action::Wait(pause) => format!("wait {pause:?}"),
        Action::Search => "search".to_owned(),
        Action::Claim => "claim".to_owned(),
        Action::Lost(key, how) => format!("lost {key}: {how:?}"),
        Action::StartOver { set_aside: true } => "set aside".to_owned(),
        Action::StartOver { set_aside: false } => "start over".to_owned(),
        Action::Verify => "verify".to_owned(),
        Action::Compare(parts) => {
            let parts: Vec<_> = parts.iter().map(|part| format!("{} {:?}", part.from, part.range)).collect();
            format!("compare {}", parts.join(", "))
        }
        Action::Blame(key, error) => format!("blame {key}: {error}"),
        Action::Suspect(keys) => format!("suspect {keys:?}"),
        Action::Finish(Ok(())) => "done".to_owned(),
        Action::Finish(Err(error)) => format!("failed: {error}"),
    }
}

fn broken() -> Event {
    Event::Failed(SourceError::Connection("broken".into()))
}

fn piece(hash: [u8; 32]) -> Event {
    Event::PieceDone(NarHash::new(hash))
}

#[test]
fn one_source_sends_all() {
    let mut scheduler = scheduler(true);
    assert_eq!(after(&mut scheduler, Event::Found(vec![HONEST])), ["request 0 from 0"]);
    assert!(after(&mut scheduler, Event::Received(60)).is_empty());
    assert_eq!(after(&mut scheduler, Event::Received(40)), ["verify"]);
    assert_eq!(after(&mut scheduler, piece(RIGHT)), ["done"]);
}

#[test]
fn who_failed_is_tried_again_after_everybody_was_asked_and_a_pause_that_grows() {
    let mut scheduler = scheduler(true);
    after(&mut scheduler, Event::Found(vec![HONEST]));
    assert_eq!(after(&mut scheduler, broken()), ["blame 0: broken", "search"]);
    assert!(after(&mut scheduler, Event::Tick).is_empty(), "everybody is asked");
    assert_eq!(after(&mut scheduler, Event::Searched), ["request 0 from 0"], "it has rested meanwhile");
    assert_eq!(after(&mut scheduler, broken()), ["blame 0: broken", "pause 400ms"]);
    assert_eq!(after(&mut scheduler, Event::Tick), ["request 0 from 0"]);
    assert_eq!(after(&mut scheduler, broken()), ["blame 0: broken"], "somebody may still say that it has it");
    assert_eq!(after(&mut scheduler, Event::HeardAll), ["failed: no source is left: nobody has it"]);
    assert_eq!(scheduler.last_failure(), Some(&(0, "broken".to_owned())));
}

#[test]
fn one_that_turns_up_ends_the_pause() {
    let mut scheduler = scheduler(true);
    after(&mut scheduler, Event::Found(vec![HONEST]));
    after(&mut scheduler, broken());
    assert_eq!(after(&mut scheduler, Event::Found(vec![HONEST])), ["request 1 from 0"], "while everybody is asked");
    after(&mut scheduler, Event::Searched);
    after(&mut scheduler, Event::Received(10));
    assert_eq!(after(&mut scheduler, broken()), ["blame 1: broken", "pause 100ms"]);
    assert_eq!(after(&mut scheduler, Event::Found(vec![HONEST])), ["request 2 from 10"]);
}

#[test]
fn a_stall_costs_two_chances_and_a_good_way_forgives() {
    let stalled = || Event::Failed(SourceError::Stalled(Duration::from_secs(5)));
    let mut one = scheduler(true);
    after(&mut one, Event::Found(vec![HONEST]));
    after(&mut one, stalled());
    after(&mut one, Event::HeardAll);
    after(&mut one, Event::Tick);
    assert!(after(&mut one, stalled()).last().unwrap().starts_with("failed"));
    let mut long = Scheduler::new(NarHash::new(RIGHT), 10 * GOOD_WAY, false, false);
    after(&mut long, Event::Found(vec![HONEST]));
    after(&mut long, stalled());
    after(&mut long, Event::Searched);
    for way in 1..9 {
        after(&mut long, Event::Tick);
        after(&mut long, Event::Received(GOOD_WAY));
        assert_eq!(after(&mut long, stalled()).last().unwrap(), "pause 400ms", "{way} MiB");
    }
}

#[test]
fn a_little_way_forgives_nothing_and_a_way_that_is_gone_again_nothing_either() {
    let mut scheduler = Scheduler::new(NarHash::new(RIGHT), 10 * GOOD_WAY, true, false);
    after(&mut scheduler, Event::Found(vec![HONEST]));
    for pause in ["search", "pause 400ms"] {
        after(&mut scheduler, Event::Received(GOOD_WAY - 1));
        assert_eq!(after(&mut scheduler, broken()).last().unwrap(), pause);
        after(&mut scheduler, Event::Searched);
        after(&mut scheduler, Event::Tick);
    }
    // Two that were mixed and wrong: each has to send all of it, and neither ever does.
    let mut scheduler = Scheduler::new(NarHash::new(RIGHT), 10 * GOOD_WAY, true, false);
    after(&mut scheduler, Event::Found(vec![HONEST, HONEST]));
    after(&mut scheduler, Event::Received(GOOD_WAY));
    after(&mut scheduler, broken());
    after(&mut scheduler, Event::Received(9 * GOOD_WAY));
    after(&mut scheduler, piece(WRONG));
    let mut actions = Vec::new();
    for _ in 0..20 {
        after(&mut scheduler, Event::Received(2 * GOOD_WAY));
        actions = after(&mut scheduler, broken());
        actions.extend(after(&mut scheduler, Event::HeardAll));
        if actions.iter().any(|action| action.starts_with("failed")) {
            break;
        }
        after(&mut scheduler, Event::Tick);
    }
    assert!(actions.iter().any(|action| action.starts_with("failed")), "it goes on for ever: {actions:?}");
}

#[test]
fn decoding_from_the_start_is_the_last_resort() {
    let compressed = Candidate { begins_anywhere: false, ..HONEST };
    let mut scheduler = scheduler(false);
    assert_eq!(after(&mut scheduler, Event::Found(vec![compressed, HONEST])), ["request 0 from 0"]);
    assert!(scheduler.has_other(|_| STANDING));
    after(&mut scheduler, Event::Received(10));
    assert_eq!(after(&mut scheduler, broken()), ["blame 0: broken", "request 1 from 10"]);
    assert!(!scheduler.has_other(|_| STANDING), "who failed, and would have to begin at the start");
}

#[test]
fn wrong_content_of_one_source_is_its_fault() {
    let mut scheduler = scheduler(true);
    after(&mut scheduler, Event::Found(vec![HONEST, HONEST]));
    after(&mut scheduler, Event::Received(SIZE));
    let actions = after(&mut scheduler, piece(WRONG));
    assert!(actions[0].starts_with("blame 0: sent a NAR with hash"), "{actions:?}");
    assert_eq!(actions[1..], ["start over", "request 1 from 0"]);
}

#[test]
fn wrong_content_of_several_is_nobodys_fault_until_the_right_content_shows() {
    let mut scheduler = scheduler(true);
    after(&mut scheduler, Event::Found(vec![HONEST, HONEST, HONEST]));
    after(&mut scheduler, Event::Received(30));
    after(&mut scheduler, broken());
    after(&mut scheduler, Event::Received(70));
    assert_eq!(after(&mut scheduler, piece(WRONG)), ["set aside", "request 1 from 0"]);
    // From now on nothing is mixed.
    after(&mut scheduler, Event::Received(50));
    let anew = ["blame 1: broken", "start over", "request 2 from 0"];
    assert_eq!(after(&mut scheduler, broken()), anew);
    after(&mut scheduler, Event::Received(SIZE));
    assert_eq!(after(&mut scheduler, piece(RIGHT)), ["compare 0 0..30, 1 30..100"]);
    let wrong = vec![Part { from: 1, range: 30..100 }];
    let blamed = "blame 1: sent wrong content in bytes 30 to 100 of a NAR";
    assert_eq!(after(&mut scheduler, Event::Compared(wrong)), [blamed, "done"]);
}

#[test]
fn what_was_read_is_not_begun_anew() {
    let mut scheduler = scheduler(false);
    after(&mut scheduler, Event::Found(vec![HONEST, HONEST]));
    after(&mut scheduler, Event::Received(30));
    after(&mut scheduler, broken());
    after(&mut scheduler, Event::Received(70));
    let actions = after(&mut scheduler, piece(WRONG));
    assert_eq!(actions[0], "suspect [0, 1]");
    assert!(actions[1].starts_with("failed: the content does not match its signature"), "{actions:?}");
}

#[test]
fn suspects_come_last_and_alone() {
    let suspect = Candidate { suspicion: 1, ..HONEST };
    let mut scheduler = scheduler(false);
    assert_eq!(after(&mut scheduler, Event::Found(vec![suspect, HONEST])), ["request 1 from 0"]);
    after(&mut scheduler, Event::Received(30));
    let gone = Event::Failed(SourceError::Status(404));
    let actions = after(&mut scheduler, gone);
    let refused = "failed: no source is left: its sources are not mixed after wrong content";
    assert_eq!(actions[1..], ["suspect [1]", refused]);
}

#[test]
fn who_broke_a_promise_is_asked_when_everybody_else_was() {
    let breaker = Candidate { broke_promise: true, ..HONEST };
    let mut scheduler = scheduler(true);
    assert_eq!(after(&mut scheduler, Event::Found(vec![breaker, HONEST])), ["request 1 from 0"]);
    assert_eq!(after(&mut scheduler, broken()), ["blame 1: broken", "search"]);
    assert_eq!(after(&mut scheduler, Event::Searched), ["request 0 from 0"]);
    let mut scheduler = self::scheduler(true);
    assert_eq!(after(&mut scheduler, Event::Found(vec![breaker])), ["search"], "it is not taken at its word");
    assert_eq!(after(&mut scheduler, Event::Searched), ["request 0 from 0"]);
    assert!(!scheduler.has_other(|_| STANDING));
}

#[test]
fn one_without_any_source_asks_everybody() {
    let mut scheduler = scheduler(true);
    assert_eq!(after(&mut scheduler, Event::Found(vec![])), ["search"]);
    assert!(after(&mut scheduler, Event::Searched).is_empty());
    assert_eq!(after(&mut scheduler, Event::Found(vec![HONEST])), ["request 0 from 0"], "a latecomer");
}

#[test]
fn who_is_busy_is_asked_again_in_turn_and_not_for_ever() {
    let mut scheduler = scheduler(true);
    after(&mut scheduler, Event::Found(vec![HONEST, HONEST]));
    assert_eq!(after(&mut scheduler, Event::Busy), ["request 1 from 0"]);
    assert_eq!(after(&mut scheduler, Event::Busy), ["search"], "nobody is blamed");
    assert_eq!(after(&mut scheduler, Event::Searched), ["wait 500ms"]);
    let (mut said, mut event) = (Vec::new(), Event::Tick);
    loop {
        let actions = after(&mut scheduler, event);
        said.extend(actions.clone());
        event = match actions.first().and_then(|action| action.split(' ').next()) {
            Some("request") => Event::Busy,
            Some("wait") => Event::Tick,
            _ => break,
        };
    }
    let round = |end: &str| ["request 0 from 0".to_owned(), "request 1 from 0".to_owned(), end.to_owned()];
    let waits = ["wait 1s", "wait 2s", "wait 4s", "wait 5s", "wait 5s", "wait 5s", "wait 5s"];
    let end = round("failed: no source is left: all who have it are busy");
    assert_eq!(said, [waits.map(round).concat(), end.to_vec()].concat());
}

#[test]
fn one_that_fails_now_and_then_is_tried_before_one_is_waited_for() {
    let mut scheduler = scheduler(true);
    after(&mut scheduler, Event::Found(vec![HONEST, HONEST]));
    after(&mut scheduler, Event::Busy);
    after(&mut scheduler, Event::Received(10));
    assert_eq!(after(&mut scheduler, broken()), ["blame 1: broken", "search"]);
    assert_eq!(after(&mut scheduler, Event::Searched), ["wait 500ms"], "who is first in rank");
    assert_eq!(after(&mut scheduler, Event::Tick), ["request 0 from 10"]);
    assert_eq!(after(&mut scheduler, Event::Busy), ["request 1 from 10"], "it has rested");
}

/// What happens next, as far as it can.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Receive(u64),
    Break,
    Stall,
    Violate,
    Busy,
    Find,
    End(bool),
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        6 => (1..=SIZE).prop_map(Fate::Receive),
        2 => Just(Fate::Break),
        1 => Just(Fate::Stall),
        1 => Just(Fate::Violate),
        2 => Just(Fate::Busy),
        1 => Just(Fate::Find),
        3 => any::<bool>().prop_map(Fate::End),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order: one request at a time, always from the byte that is missing; never more than one is
    /// blamed for one failure, and only the one that was asked; what was read is never begun anew; and it ends.
    #[test]
    fn any_order_of_events_ends(
        fates in prop::collection::vec(fate(), 0..60), restartable: bool, far in prop::collection::vec(any::<bool>(), 1..5),
        has_others: bool,
    ) {
        let mut scheduler = Scheduler::new(NarHash::new(RIGHT), SIZE, restartable, has_others);
        let count = far.len();
        // Who is far, and who fetches it itself.
        let mut kinds: Vec<(bool, bool)> = far.iter().map(|far| (*far, false)).collect();
        let (mut may_download, mut claiming, mut claims) = (!has_others, false, 0);
        let mut pending = VecDeque::new();
        let mut fates = fates.into_iter();
        let (mut asked, mut offset, mut verifying, mut aside) = (None, 0, false, false);
        let (mut searching, mut hearing, mut waits) = (false, false, 0);
        let mut event = Event::Found(far.iter().map(|far| Candidate { is_far: *far, ..HONEST }).collect());
        for step in 0.. {
            prop_assert!(step < 1000, "it goes on for ever");
            prop_assert!(kinds.len() >= count);
            let failed = matches!(event, Event::Failed(_) | Event::Busy).then_some(asked).flatten();
            let was_busy = matches!(event, Event::Busy);
            scheduler.handle(event, |_| STANDING);
            let (mut finished, mut comparing) = (false, None);
            while let Some(action) = scheduler.next_action() {
                prop_assert!(!finished, "nothing after the end: {action:?}");
                match action {
                    Action::Request { key, from } => {
                        prop_assert!(asked.is_none() || asked == failed, "one at a time");
                        prop_assert_eq!(from, offset);
                        let (is_far, is_partial) = kinds[key];
                        prop_assert!(!is_far || may_download || claims >= CLAIMS, "the others were not asked");
                        prop_assert!(!is_partial || has_others);
                        asked = Some(key);
                    }
                    Action::StartOver { set_aside } => {
                        prop_assert!(restartable, "readers have seen it");
                        (offset, aside) = (0, aside || set_aside);
                    }
                    Action::Verify => {
                        prop_assert_eq!(offset, SIZE);
                        (verifying, asked) = (true, None);
                    }
                    Action::Blame(key, SourceError::Violation(Violation::NarHash(_))) => prop_assert!(key < kinds.len()),
                    Action::Blame(key, _) => {
                        prop_assert!(!was_busy, "who is busy has not failed");
                        prop_assert_eq!(Some(key), failed);
                    }
                    Action::Compare(parts) => {
                        prop_assert!(aside, "there is something to compare with");
                        comparing = Some(parts);
                    }
                    Action::Search => (searching, hearing) = (true, true),
                    Action::Wait(_) => {
                        waits += 1;
                        prop_assert!(waits <= BUSY_WAITS, "no NAR of this length makes it forget that it waits");
                        prop_assert!(!searching, "everybody was asked before");
                    }
                    Action::Finish(_) => finished = true,
                    Action::Claim => {
                        prop_assert!(has_others && !claiming && asked.is_none_or(|asked| Some(asked) == failed));
                        (claiming, claims) = (true, claims + 1);
                        prop_assert!(claims <= CLAIMS, "no NAR of this length makes it forget that it asked");
                    }
                    Action::Lost(key, _) => {
                        prop_assert!(kinds[key].1);
                        may_download = false;
                    }
                    Action::Pause(_) | Action::Suspect(_) => {}
                }
            }
            if finished {
                return Ok(());
            }
            if failed.is_some() && asked == failed && scheduler.flight.is_none() {
                asked = None;
            }
            if let Some(next) = pending.pop_front() {
                event = next;
                continue;
            }
            event = match (comparing, verifying, asked, fates.next().unwrap_or(Fate::Break)) {
                (Some(_), ..) => Event::Compared(Vec::new()),
                (None, true, _, fate) => {
                    verifying = false;
                    let right = matches!(fate, Fate::End(true) | Fate::Receive(_));
                    piece(if right { RIGHT } else { WRONG })
                }
                (_, _, _, Fate::Find) if kinds.len() < 8 => {
                    kinds.push((false, false));
                    Event::Found(vec![HONEST])
                }
                (_, _, None, fate) if std::mem::take(&mut claiming) => match fate {
                    Fate::Receive(_) | Fate::Busy | Fate::Stall => {
                        let known = kinds.iter().position(|(_, is_partial)| *is_partial);
                        let key = known.filter(|_| matches!(fate, Fate::Busy)).unwrap_or(kinds.len());
                        if key < kinds.len() {
                            Event::Follow(key)
                        } else {
                            kinds.push((false, true));
                            pending.push_back(Event::Follow(key));
                            Event::Found(vec![Candidate { is_partial: true, ..HONEST }])
                        }
                    }
                    _ => {
                        may_download = true;
                        Event::MayDownload
                    }
                },
                (_, _, Some(_), Fate::Receive(bytes)) => {
                    let bytes = bytes.min(SIZE - offset);
                    offset += bytes;
                    Event::Received(bytes)
                }
                (_, _, Some(_), Fate::Stall) => Event::Failed(SourceError::Stalled(Duration::from_secs(1))),
                (_, _, Some(_), Fate::Busy) => Event::Busy,
                (_, _, Some(_), Fate::Violate) => Event::Failed(Violation::Range.into()),
                (_, _, Some(_), _) => broken(),
                (_, _, None, _) if std::mem::take(&mut searching) => Event::Searched,
                (_, _, None, Fate::End(_) | Fate::Break) if std::mem::take(&mut hearing) => Event::HeardAll,
                (_, _, None, _) => Event::Tick,
            };
        }
    }
}
