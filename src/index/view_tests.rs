use super::*;
use crate::peers::NodeKey;
use std::collections::BTreeSet;

fn node(number: u8) -> NodeId {
    NodeKey::from_seed([number; 32]).id()
}

fn hash(number: u32) -> StoreHash {
    let mut hash = [0; 20];
    hash[..4].copy_from_slice(&number.to_le_bytes());
    StoreHash::new(hash)
}

fn sorted(salt: Salt, numbers: impl IntoIterator<Item = u32>) -> Vec<Entry> {
    numbers.into_iter().map(|number| salt.entry(hash(number).prefix())).collect::<BTreeSet<_>>().into_iter().collect()
}

fn state(seq: u64) -> IndexState {
    IndexState { epoch: 1, seq }
}

fn snapshot(salt: Salt, numbers: impl IntoIterator<Item = u32>) -> Update {
    Update::Snapshot { state: state(1), salt, entries: sorted(salt, numbers) }
}

fn update(view: &mut View, id: NodeId, update: Update, now: Instant) -> Result<(), IndexError> {
    let all = update.is_all();
    let set = Set::updated(view.set(id).as_deref(), update).inspect_err(|_| view.forget(id))?;
    let set = set.shrunk(&view.bases());
    view.put(id, set, all, now)
}

#[test]
fn it_says_who_has_what() {
    let (mut view, now) = (View::default(), Instant::now());
    let peers = [1, 2, 3].map(node);
    update(&mut view, peers[0], snapshot(Salt::OPEN, 0..5), now).unwrap();
    update(&mut view, peers[1], snapshot(Salt::new([7; 16]), 3..9), now).unwrap();
    let ask = |view: &View, number| view.ask(hash(number), &peers);
    assert_eq!(ask(&view, 1), [Says::Yes, Says::No, Says::Unknown]);
    assert_eq!(ask(&view, 4), [Says::Yes, Says::Yes, Says::Unknown]);
    assert_eq!(ask(&view, 100), [Says::No, Says::No, Says::Unknown]);
    let (added, removed) = (sorted(Salt::OPEN, [100]), sorted(Salt::OPEN, [1]));
    let change = Update::Changes { state: state(5), added, removed };
    assert!(change.adds());
    update(&mut view, peers[0], change, now).unwrap();
    assert_eq!((view.state(peers[0]), ask(&view, 1)[0], ask(&view, 100)[0]), (Some(state(5)), Says::No, Says::Yes));
    let nothing = Update::Changes { state: state(6), added: vec![], removed: sorted(Salt::OPEN, [2]) };
    assert!(!nothing.adds(), "less is no reason to ask again");
    update(&mut view, peers[0], nothing, now).unwrap();
    view.forget(peers[0]);
    assert_eq!((view.state(peers[0]), ask(&view, 100)[0]), (None, Says::Unknown));
}

#[test]
fn what_does_not_fit_is_not_taken_and_the_rest_forgotten() {
    let (mut view, now) = (View::default(), Instant::now());
    let changes = |epoch| Update::Changes { state: IndexState { epoch, seq: 2 }, added: vec![], removed: vec![] };
    assert_eq!(update(&mut view, node(1), changes(1), now), Err(IndexError::State), "of what?");
    update(&mut view, node(1), snapshot(Salt::OPEN, 0..5), now).unwrap();
    assert_eq!(update(&mut view, node(1), changes(2), now), Err(IndexError::State));
    assert_eq!(view.state(node(1)), None);
    for number in 0..4 {
        update(&mut view, node(number), snapshot(Salt::new([number; 16]), 0..5), now).unwrap();
    }
    assert!(matches!(
        update(&mut view, node(9), snapshot(Salt::OPEN, 0..5), now),
        Err(IndexError::TooMany(5, SALTS_MAX))
    ));
    assert_eq!(view.status().count(), 4);
}

#[test]
fn all_sets_together_have_a_limit() {
    let (mut view, now) = (View::default(), Instant::now());
    let entries: Vec<Entry> = (0..ENTRIES_MAX as u64).filter_map(Entry::new).collect();
    let all = || Update::Snapshot { state: state(1), salt: Salt::OPEN, entries: entries.clone() };
    // The same ones count once, so that it takes others.
    let others: Vec<Entry> = (0..ENTRIES_MAX as u64).map(|number| (1 << 46) + number).filter_map(Entry::new).collect();
    for number in 1..=3 {
        update(&mut view, node(number), all(), now).unwrap();
    }
    let apart = Update::Snapshot { state: state(1), salt: Salt::OPEN, entries: others };
    update(&mut view, node(2), apart, now).unwrap();
    assert!(matches!(update(&mut view, node(4), snapshot(Salt::OPEN, [1]), now), Err(IndexError::TooMany(..))));
    let more = Update::Changes { state: state(2), added: vec![Entry::new(1 << 47).unwrap()], removed: vec![] };
    assert!(matches!(update(&mut view, node(2), more, now), Err(IndexError::TooMany(..))));
    update(&mut view, node(4), snapshot(Salt::OPEN, [1]), now).expect("there is room again");
}

#[test]
fn what_turned_out_wrong_is_not_said_again_until_there_is_news() {
    let (mut view, now) = (View::default(), Instant::now());
    let peers = [node(1)];
    update(&mut view, peers[0], snapshot(Salt::OPEN, 0..100), now).unwrap();
    assert_eq!(view.tried(peers[0], hash(1), false, now), Verdict::Fine);
    assert_eq!((view.ask(hash(1), &peers), view.ask(hash(2), &peers)), (vec![Says::No], vec![Says::Yes]));
    update(&mut view, peers[0], snapshot(Salt::OPEN, 0..100), now).unwrap();
    assert_eq!(view.ask(hash(1), &peers), [Says::Yes]);
    view.tried(peers[0], hash(1), false, now);
    view.forgive();
    assert_eq!(view.ask(hash(1), &peers), [Says::Yes], "under other keys it may count");
    let verdicts: Vec<Verdict> = (0..40).map(|number| view.tried(peers[0], hash(number), false, now)).collect();
    assert!(verdicts.contains(&Verdict::PullAgain) && verdicts.contains(&Verdict::Ignore));
    assert_eq!(view.ask(hash(50), &peers), [Says::No], "of one that lies nothing is expected");
    let status: Vec<SetStatus> = view.status().collect();
    assert!(status[0].ignored && status[0].entries == 0 && status[0].wrong_claims > 10);
}
