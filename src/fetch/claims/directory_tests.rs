use super::*;
use ed25519_dalek::SigningKey;
use proptest::prelude::*;
use std::collections::HashSet;
use std::sync::LazyLock;

const NAR: NarHash = NarHash::new([7; 32]);
const SECOND: Duration = Duration::from_secs(1);

fn id(number: usize) -> NodeId {
    static IDS: LazyLock<Vec<NodeId>> = LazyLock::new(|| {
        let seed = |number: u64| std::array::from_fn(|place| number.to_le_bytes()[place % 8]);
        (0..200).map(|number| NodeId::of(&SigningKey::from_bytes(&seed(number)).verifying_key())).collect()
    });
    IDS[number]
}

fn want(came: u64, lost: &[(usize, Loss)]) -> Want {
    let lost = lost.iter().map(|(number, loss)| (id(*number), *loss)).collect();
    Want { nar: NAR, came, serves: true, sends: 0, lost }
}

fn renewal(role: Role, came: u64) -> Renewal {
    Renewal { nar: NAR, role: Some(role), came, serves: true, sends: 0 }
}

fn directory() -> (Directory, Instant) {
    let now = Instant::now();
    (Directory::new(now), now)
}

#[test]
fn one_downloads_and_the_others_follow_four_of_each() {
    let (mut directory, now) = directory();
    assert_eq!(directory.want(id(0), &want(0, &[]), now), Decision::Download);
    let mut children: HashMap<NodeId, usize> = HashMap::new();
    for asker in 1..100 {
        let Decision::Follow(source) = directory.want(id(asker), &want(0, &[]), now) else { panic!("{asker}") };
        *children.entry(source).or_default() += 1;
    }
    assert!(children.values().all(|count| *count <= CHILDREN_MAX), "{children:?}");
    assert_eq!(children[&id(0)], CHILDREN_MAX);
    let depth = |of: usize| standing(&directory.trees[&NAR], id(of), id(150)).unwrap().depth;
    assert!((0..100).all(|of| depth(of) <= 5), "the tree is wide, and not a chain");
}

#[test]
fn who_sends_much_elsewhere_is_spared() {
    let (mut directory, now) = directory();
    directory.want(id(0), &Want { sends: 9, ..want(0, &[]) }, now);
    assert_eq!(directory.want(id(1), &want(0, &[]), now), Decision::Follow(id(0)), "there is nobody else");
    assert_eq!(directory.want(id(2), &want(0, &[]), now), Decision::Follow(id(1)));
}

#[test]
fn who_cannot_serve_is_not_followed() {
    let (mut directory, now) = directory();
    let mute = |came| Want { serves: false, ..want(came, &[]) };
    assert_eq!(directory.want(id(0), &mute(0), now), Decision::Download);
    assert_eq!(directory.want(id(1), &want(0, &[]), now), Decision::Download, "two may");
    assert_eq!(directory.want(id(2), &mute(0), now), Decision::Follow(id(1)));
    assert_eq!(directory.want(id(3), &want(0, &[]), now), Decision::Follow(id(1)));
}

#[test]
fn the_one_that_came_furthest_goes_on_when_the_first_is_gone() {
    let (mut directory, now) = directory();
    directory.want(id(0), &want(0, &[]), now);
    for asker in [1, 2, 3] {
        assert_eq!(directory.want(id(asker), &want(0, &[]), now), Decision::Follow(id(0)));
        directory.renew(id(asker), &renewal(Role::Follows(id(0)), 10 * asker as u64), now);
    }
    let broke = [(0, Loss::Broke)];
    assert_eq!(directory.want(id(1), &want(10, &broke), now), Decision::Follow(id(3)), "it has more");
    assert_eq!(directory.want(id(3), &want(30, &broke), now), Decision::Download);
    assert_eq!(directory.want(id(2), &want(20, &broke), now), Decision::Follow(id(3)));
    // It was not gone after all: with its next bytes it is there again.
    directory.renew(id(0), &renewal(Role::Downloads, 40), now + RENEWAL);
    let Decision::Follow(_) = directory.want(id(4), &want(0, &[]), now + RENEWAL) else { panic!() };
    let both = [(0, Loss::Stalled), (3, Loss::Stalled), (1, Loss::Stalled), (2, Loss::Stalled)];
    assert_eq!(directory.want(id(5), &want(0, &both), now + RENEWAL), Decision::Follow(id(4)), "none stands still");
}

#[test]
fn who_complains_of_what_is_not_so_is_not_believed_for_long() {
    let (mut directory, now) = directory();
    assert_eq!(directory.want(id(0), &want(0, &[]), now), Decision::Download);
    let broke = [(0, Loss::Broke)];
    for round in 1..=3 {
        let at = now + RENEWAL * round;
        assert_eq!(directory.want(id(9), &want(0, &broke), at), Decision::Download, "it is believed");
        directory.renew(id(9), &Renewal { role: None, ..renewal(Role::Complete, 0) }, at);
        directory.renew(id(0), &renewal(Role::Downloads, u64::from(round)), at + SECOND);
    }
    let at = now + RENEWAL * 4;
    assert_eq!(directory.want(id(9), &want(0, &broke), at), Decision::Download, "for itself it may");
    assert_eq!(directory.want(id(1), &want(0, &[]), at), Decision::Follow(id(0)), "but nobody else is told so");
}

#[test]
fn who_is_slow_is_not_gone_and_who_stands_still_is() {
    let (mut directory, now) = directory();
    directory.want(id(0), &want(0, &[]), now);
    directory.want(id(1), &want(0, &[]), now);
    let stalled = [(0, Loss::Stalled)];
    directory.renew(id(0), &renewal(Role::Downloads, 5), now + 2 * SECOND);
    let soon = now + 4 * SECOND;
    directory.renew(id(1), &renewal(Role::Follows(id(0)), 5), soon);
    assert_eq!(directory.want(id(2), &want(0, &stalled), soon), Decision::Follow(id(1)), "it came further just now");
    let later = now + 2 * SECOND + STALL;
    directory.renew(id(0), &renewal(Role::Downloads, 5), later);
    assert_eq!(directory.want(id(1), &want(5, &stalled), later), Decision::Download);
    assert_eq!(directory.want(id(3), &want(0, &[]), later), Decision::Follow(id(1)), "a renewal alone moves nothing");
    assert_eq!(directory.machines[&id(0)].broken.count(later), 1);
}

#[test]
fn who_lets_downloads_lie_is_granted_none_for_a_while() {
    let (mut directory, now) = directory();
    let nar = |number: u8| NarHash::new([number; 32]);
    let ask =
        |directory: &mut Directory, number, at| directory.want(id(0), &Want { nar: nar(number), ..want(0, &[]) }, at);
    for number in 0..3 {
        assert_eq!(ask(&mut directory, number, now), Decision::Download);
    }
    let late = now + LEASE;
    for number in 0..3 {
        // Who complained of it is granted it instead, and has it.
        let complaint = Want { nar: nar(number), ..want(0, &[(0, Loss::Broke)]) };
        assert_eq!(directory.want(id(2), &complaint, now), Decision::Download);
        directory.renew(id(2), &Renewal { nar: nar(number), role: None, ..renewal(Role::Complete, 0) }, now);
    }
    assert_eq!(ask(&mut directory, 3, late), Decision::Alone, "three leases ran out");
    let other = Want { nar: nar(3), ..want(0, &[]) };
    assert_eq!(directory.want(id(1), &other, late), Decision::Download);
    assert_eq!(ask(&mut directory, 3, late), Decision::Follow(id(1)), "it may follow");
    assert_eq!(ask(&mut directory, 4, late + BARRED), Decision::Download);
}

#[test]
fn who_tells_another_directory_is_not_held_to_have_let_it_lie() {
    let (mut directory, now) = directory();
    for number in 0..5 {
        directory.want(id(0), &Want { nar: NarHash::new([number; 32]), ..want(0, &[]) }, now);
    }
    assert_eq!(directory.want(id(0), &want(0, &[]), now + LEASE), Decision::Download);
}

#[test]
fn what_is_over_is_forgotten() {
    let (mut directory, now) = directory();
    directory.want(id(0), &want(0, &[]), now);
    directory.want(id(1), &want(0, &[]), now);
    directory.renew(id(0), &renewal(Role::Complete, 9), now + SECOND);
    directory.renew(id(1), &Renewal { role: None, ..renewal(Role::Complete, 9) }, now + SECOND);
    assert_eq!(directory.size(), (1, 1));
    assert_eq!(directory.want(id(2), &want(0, &[]), now + 60 * SECOND), Decision::Follow(id(0)), "it still has it");
    directory.renew(id(2), &Renewal { role: None, ..renewal(Role::Complete, 9) }, now + 61 * SECOND);
    directory.sweep(now + SECOND + COMPLETE);
    assert_eq!(directory.size(), (0, 0));
    directory.sweep(now + SECOND + COMPLETE + BARRED);
    assert!(directory.machines.is_empty());
}

#[test]
fn what_is_downloaded_is_counted_and_what_is_needed_once() {
    let (mut directory, now) = directory();
    directory.want(id(0), &want(0, &[]), now);
    directory.want(id(1), &want(0, &[]), now);
    directory.renew(id(0), &renewal(Role::Downloads, 30), now);
    directory.renew(id(1), &renewal(Role::Follows(id(0)), 20), now);
    assert_eq!(directory.want(id(1), &want(25, &[(0, Loss::Broke)]), now), Decision::Download);
    directory.renew(id(0), &renewal(Role::Complete, 100), now);
    directory.renew(id(1), &renewal(Role::Complete, 100), now);
    assert_eq!(directory.tally(), Tally { downloaded: 100 + 75, unique: 100 });
    assert_eq!(directory.tally(), Tally::default());
}

#[test]
fn one_machine_does_not_fill_it() {
    let (mut directory, now) = directory();
    let mut decisions = HashSet::new();
    for number in 0..PLACES_EACH_MAX + 2 {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&(number as u64).to_le_bytes());
        let decision = directory.want(id(0), &Want { nar: NarHash::new(hash), ..want(0, &[]) }, now);
        decisions.insert(decision == Decision::Download);
        if number >= PLACES_EACH_MAX {
            assert_eq!(decision, Decision::Alone);
        }
    }
    assert_eq!((decisions.len(), directory.size().1), (2, PLACES_EACH_MAX));
    assert_eq!(directory.want(id(1), &want(0, &[]), now), Decision::Download);
}

/// A machine of a site in which all want one NAR.
#[derive(Clone)]
struct Machine {
    is_alive: bool,
    came: u64,
    does: Option<Role>,
    alone: bool,
    waited: u32,
    next_renewal: Instant,
}

const SIZE: u64 = 60;

proptest! {
    /// Whoever dies, whenever: all who are left have the NAR at last, nobody serves more than it should, and what is downloaded again is what
    /// nobody had who was left.
    #[test]
    fn all_who_live_get_it(
        starts in proptest::collection::vec(0..20u64, 2..40),
        deaths in proptest::collection::vec((any::<prop::sample::Index>(), 0..80u64), 0..12),
    ) {
        let (mut directory, start) = directory();
        let new = Machine { is_alive: true, came: 0, does: None, alone: false, waited: 0, next_renewal: start };
        let mut machines = vec![new; starts.len()];
        let mut downloaded = 0;
        for tick in 0..400u64 {
            let now = start + SECOND / 4 * u32::try_from(tick).unwrap();
            for (who, at) in &deaths {
                if *at == tick {
                    machines[who.index(starts.len())].is_alive = false;
                }
            }
            for who in 0..machines.len() {
                let before = machines.clone();
                let machine = &mut machines[who];
                if !machine.is_alive || tick < starts[who] || machine.came == SIZE {
                    if machine.is_alive && machine.came == SIZE && machine.does != Some(Role::Complete) {
                        machine.does = Some(Role::Complete);
                        directory.renew(id(who), &renewal(Role::Complete, SIZE), now);
                    }
                    continue;
                }
                // What its source gave it since.
                let lost = match machine.does {
                    Some(Role::Downloads) => {
                        machine.came += 1;
                        downloaded += 1;
                        None
                    }
                    Some(Role::Follows(source)) => {
                        let source = (0..before.len()).find(|number| id(*number) == source).unwrap();
                        let there = &before[source];
                        if there.is_alive && there.came > machine.came {
                            machine.came = (machine.came + 5).min(there.came);
                            machine.waited = 0;
                        }
                        machine.waited += 1;
                        let stalled = (machine.waited > 13).then_some(Loss::Stalled);
                        if there.is_alive { stalled } else { Some(Loss::Broke) }.map(|loss| (source, loss))
                    }
                    Some(Role::Complete) => None,
                    None => {
                        if machine.alone {
                            machine.came += 1;
                            downloaded += 1;
                            continue;
                        }
                        None
                    }
                };
                if machine.does.is_none() || lost.is_some() {
                    machine.waited = 0;
                    let lost: Vec<(usize, Loss)> = lost.into_iter().collect();
                    match directory.want(id(who), &want(machine.came, &lost), now) {
                        Decision::Download => machine.does = Some(Role::Downloads),
                        Decision::Follow(source) => machine.does = Some(Role::Follows(source)),
                        Decision::Alone => (machine.does, machine.alone) = (None, true),
                    }
                    machine.next_renewal = now + RENEWAL;
                } else if now >= machine.next_renewal && let Some(role) = machine.does {
                    machine.next_renewal = now + RENEWAL;
                    directory.renew(id(who), &renewal(role, machine.came), now);
                }
            }
            let mut children: HashMap<NodeId, usize> = HashMap::new();
            for machine in machines.iter().filter(|machine| machine.is_alive && machine.came < SIZE) {
                if let Some(Role::Follows(source)) = machine.does {
                    *children.entry(source).or_default() += 1;
                }
            }
            prop_assert!(children.values().all(|count| *count <= CHILDREN_MAX), "{:?}", children);
            let downloads = |machine: &&Machine| machine.is_alive && machine.does == Some(Role::Downloads) && machine.came < SIZE;
            prop_assert!(machines.iter().filter(downloads).count() <= DOWNLOADS_MAX);
            prop_assert!(machines.iter().all(|machine| !machine.alone), "nobody has to be left alone");
        }
        prop_assert!(machines.iter().all(|machine| !machine.is_alive || machine.came == SIZE), "somebody never got it");
        let died = deaths.len() as u64;
        prop_assert!(downloaded <= SIZE * (1 + died), "{} for {} with {} deaths", downloaded, SIZE, died);
    }
}
