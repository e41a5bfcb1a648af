use super::*;
use proptest::prelude::*;

const KEPT: u64 = 8 << 20;

fn nar(number: u8) -> NarHash {
    NarHash::new([number; 32])
}

fn path(number: u8) -> StorePath {
    StorePath::new(StoreHash::new([number; 20]), &format!("{}-1.0", char::from(b'a' + number % 26))).unwrap()
}

fn info(number: u8, size: u64, references: &[u8]) -> PathInfo {
    let references = references.iter().map(|number| path(*number)).collect();
    PathInfo { path: path(number), nar_hash: nar(number), nar_size: size, references, ..PathInfo::example() }
}

/// Paths with their sizes and references, of all of which Nix has the narinfo.
fn forecast(paths: &[(u8, u64, &[u8])], now: Instant) -> Forecast<u8> {
    let mut forecast = Forecast::new(KEPT);
    for (number, size, references) in paths {
        forecast.promised(&info(*number, *size, references), Some(*number), now);
    }
    forecast
}

/// All that may be fetched at once, and then comes.
fn fetch(forecast: &mut Forecast<u8>, now: Instant) -> Vec<u8> {
    let mut fetched = Vec::new();
    while let Some((nar, number)) = forecast.next(now) {
        assert!(forecast.came(nar));
        fetched.push(number);
    }
    fetched
}

#[test]
fn what_refers_to_nothing_comes_first_and_then_what_refers_to_that() {
    let now = Instant::now();
    // 9 is large and only fetched by Nix itself; still what refers to it comes after what it refers to.
    let mut forecast = forecast(
        &[(0, 10, &[1, 2]), (1, 10, &[9, 1]), (2, 10, &[3]), (9, SMALL + 1, &[4]), (4, 10, &[4]), (3, 10, &[77])],
        now,
    );
    forecast.promised(&info(5, 10, &[]), None, now);
    assert!(forecast.next(now).is_none(), "Nix may only want to know");
    assert!(!forecast.asked(nar(3), now), "it was not there");
    assert_eq!(fetch(&mut forecast, now), [2, 4, 1, 0], "5 is nowhere near");
    assert!(forecast.asked(nar(4), now) && forecast.asked(nar(0), now) && !forecast.asked(nar(9), now));
    forecast.promised(&info(6, 10, &[]), Some(6), now);
    assert_eq!(fetch(&mut forecast, now), [6]);
}

#[test]
fn few_come_at_once_and_what_nix_asked_for_meanwhile_is_not_kept() {
    let now = Instant::now();
    let paths: Vec<(u8, u64, &[u8])> = (0..20).map(|number| (number, 10, &[][..])).collect();
    let mut forecast = forecast(&paths, now);
    forecast.asked(nar(19), now);
    let coming: Vec<_> = std::iter::from_fn(|| forecast.next(now)).map(|(nar, _)| nar).collect();
    assert_eq!(coming.len(), STREAMS);
    assert!(forecast.asked(coming[0], now), "it is on its way");
    assert!(!forecast.is_ahead(coming[0]) && !forecast.came(coming[0]));
    assert!(forecast.came(coming[1]) && forecast.is_ahead(coming[1]));
    assert_eq!(forecast.dropped(coming[1], now), Some(10));
    assert_eq!(forecast.dropped(coming[0], now), None, "it was used");
}

#[test]
fn after_a_silence_nothing_is_known() {
    let begun = Instant::now();
    let mut forecast = forecast(&[(0, 10, &[]), (1, 10, &[])], begun);
    let later = begun + QUIET + Duration::from_millis(1);
    forecast.asked(nar(0), begun);
    assert!(forecast.next(later).is_none());
    forecast.promised(&info(2, 10, &[]), Some(2), later);
    assert!(forecast.next(later).is_none(), "no NAR was asked for as yet");
    forecast.asked(nar(9), later);
    assert_eq!(fetch(&mut forecast, later), [2]);
}

#[test]
fn a_hopeless_guess_ends_until_a_minute_is_over() {
    let begun = Instant::now();
    let size = SMALL;
    let paths: Vec<(u8, u64, &[u8])> = (0..200).map(|number| (number, size, &[][..])).collect();
    let mut forecast = forecast(&paths, begun);
    forecast.asked(nar(250), begun);
    let fetched = fetch(&mut forecast, begun);
    assert_eq!(fetched.len() as u64, FLOOR / size);
    for number in fetched {
        forecast.dropped(nar(number), begun);
    }
    let mut now = begun;
    for _ in 0..6 {
        now += QUIET;
        forecast.asked(nar(250), now);
        assert!(forecast.next(now).is_none());
    }
    now += Duration::from_secs(1);
    forecast.asked(nar(250), now);
    assert_eq!(fetch(&mut forecast, now).len() as u64, FLOOR / size);
}

#[derive(Debug, Clone)]
enum Step {
    Promise(u8, u64, Vec<u8>),
    Ask(u8),
    /// Nix asks for what was fetched first.
    AskFor,
    Fetch,
    Drop(u8),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let promise = || {
        (any::<u8>(), 1..=SMALL + 1, proptest::collection::vec(any::<u8>(), 0..4))
            .prop_map(|(number, size, references)| Step::Promise(number, size, references))
    };
    prop_oneof![
        promise(),
        promise(),
        any::<u8>().prop_map(Step::Ask),
        Just(Step::AskFor),
        Just(Step::Fetch),
        any::<u8>().prop_map(Step::Drop),
        (0..20_000u64).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn not_more_is_in_vain_than_half_of_what_is_used(steps in proptest::collection::vec(step(), 0..400)) {
        let mut now = Instant::now();
        let mut forecast = Forecast::new(KEPT);
        let mut ahead: Vec<(u8, u64)> = Vec::new();
        let mut past: Vec<(Instant, bool, u64)> = Vec::new();
        let mut sizes: HashMap<u8, u64> = HashMap::new();
        for step in steps {
            match step {
                Step::Promise(number, size, references) => {
                    let known = sizes.entry(number).or_insert(size);
                    forecast.promised(&info(number, *known, &references), Some(number), now);
                }
                Step::Ask(number) => {
                    let place = ahead.iter().position(|(other, _)| *other == number);
                    prop_assert_eq!(forecast.asked(nar(number), now), place.is_some());
                    past.extend(place.map(|place| (now, true, ahead.remove(place).1)));
                }
                Step::AskFor => if let Some((number, size)) = ahead.first().copied() {
                    ahead.remove(0);
                    prop_assert!(forecast.asked(nar(number), now));
                    past.push((now, true, size));
                },
                Step::Fetch => for number in fetch(&mut forecast, now) {
                    prop_assert!(ahead.iter().all(|(other, _)| *other != number), "twice");
                    prop_assert!(sizes[&number] <= SMALL);
                    ahead.push((number, sizes[&number]));
                    let sum = |used: bool| -> u64 {
                        let recent = past.iter().filter(|(when, of, _)| *of == used && now.duration_since(*when) <= MINUTE);
                        recent.map(|(_, _, size)| size).sum()
                    };
                    let kept: u64 = ahead.iter().map(|(_, size)| size).sum();
                    prop_assert!(kept <= KEPT && kept + sum(false) <= FLOOR.max(sum(true) / 2));
                },
                Step::Drop(at) => if !ahead.is_empty() {
                    let (number, size) = ahead.remove(usize::from(at) % ahead.len());
                    prop_assert_eq!(forecast.dropped(nar(number), now), Some(size));
                    past.push((now, false, size));
                },
                Step::Wait(ms) => now += Duration::from_millis(ms),
            }
        }
    }
}
